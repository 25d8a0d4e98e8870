//! What waits of a batch is held, moved, released and cancelled on its page; on a desk and on a phone.

use std::collections::BTreeMap;

use sluicegate::core::Outcome;

use super::Desk;
use super::now::ROWS;
use crate::support::browser::{DESK, PHONE};
use crate::support::rig::{body, outcomes, publish};

const PAGE: &str = "/batches/one?batch=weekend";

impl Desk {
    /// Opens the batch's page, fills the form of orders and sends it.
    async fn order(&self, what: &str, fields: &[(&str, &str)]) {
        self.open(PAGE).await;
        self.browser
            .value(&format!("document.querySelector('#order select').value = '{what}'"))
            .await;
        for (name, text) in fields {
            let field = format!("#order input[name={name}]");
            if *name == "sure" {
                self.browser.click(&field).await;
            } else {
                self.browser.type_in(&field, text).await;
            }
        }
        self.browser.follow("#order button").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_of_a_batch_is_held_moved_released_and_cancelled_on_its_page() {
    let desk = Desk::new("20/s", DESK).await;
    let (browser, lane) = (&desk.browser, &desk.rig.lane);
    desk.log_in().await;
    desk.open("/").await;
    desk.pause("the network first").await;
    desk.enqueue_plan("weekend", 8).await;
    desk.open(PAGE).await;
    browser.until_text("0 of 8").await;
    // Whoever only reads is told what it takes, and has no form.
    let read = reqwest::get(format!("{}{PAGE}", desk.base)).await.unwrap().text().await.unwrap();
    assert!(read.contains("token to cancel, hold or move it") && !read.contains("id=\"order\""));
    browser.picture("batch-order", 1200).await;
    for looks in [DESK, PHONE] {
        desk.is_readable(looks).await;
    }
    browser.look(DESK).await;

    // What says nothing, or cannot be taken back, is told and changes nothing.
    desk.order("move", &[]).await;
    browser.until_text("Nothing to move: give a time, a deadline or a priority").await;
    desk.order("move", &[("not_before", "tomorrow")]).await;
    browser.until_text("is not a time such as").await;
    desk.order("cancel", &[]).await;
    browser.until_text("tick the box that says so").await;
    // A browser's log has what was answered by 400.
    let complaints = browser.complaints().await;
    assert!(
        complaints.len() == 3 && complaints.iter().all(|one| one.contains("400")),
        "{complaints:?}"
    );

    // Moved: the last row is the first of the window; the second one is taken back.
    desk.order("move", &[("row", "8"), ("priority", "60000")]).await;
    desk.order("cancel", &[("row", "2"), ("sure", ""), ("why", "is switched off")]).await;
    browser.until_text("1 of 8").await;
    desk.open("/").await;
    browser.until(&format!("{ROWS}[0]?.startsWith('60000 migrate-web-07')")).await;
    browser.until("document.querySelectorAll('#window tbody tr').length == 7").await;

    // Held: others go, it does not.
    desk.order("hold", &[("why", "the storage is full")]).await;
    desk.open("/").await;
    desk.resume().await;
    let client = lane.client().await;
    publish(&client, &lane.queues.requests(), [body("other", 1)]).await;
    let results = desk.rig.results(2).await;
    let wanted = BTreeMap::from([(Outcome::Created, 1), (Outcome::Cancelled, 1)]);
    assert_eq!(outcomes(&results), wanted);

    desk.order("release", &[]).await;
    desk.open(PAGE).await;
    browser.until_text("8 of 8 have ended").await;
    let text = browser.text("main").await;
    assert!(text.contains("cancelled\n1"), "{text}");
    let results = desk.rig.results(9).await;
    let wanted = BTreeMap::from([(Outcome::Created, 8), (Outcome::Cancelled, 1)]);
    assert_eq!(outcomes(&results), wanted);

    desk.open("/audit").await;
    for told in ["the storage is full", "is switched off", "ada"] {
        browser.until_text(told).await;
    }
    desk.rig.nothing_left_and_nothing_twice().await;
    desk.no_complaints().await;
}

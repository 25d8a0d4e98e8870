//! A running plan, live; a priority raised and honoured; pause and resume; batches; on a desk and on a phone.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use sluicegate::core::Outcome;

use super::Desk;
use crate::support::browser::{DESK, Looks, PHONE};
use crate::support::rig::{body, outcomes, publish};

impl Desk {
    /// Enqueues a plan of so many rows as a planner does, from the command line.
    pub(super) async fn enqueue_plan(&self, batch: &str, rows: u16) {
        let mut plan = String::new();
        for n in 0..rows {
            let mut row: serde_json::Value =
                serde_json::from_slice(&body(&format!("s{n}"), 1 + n % 40)).unwrap();
            row["name"] = format!("migrate-web-{n:02}").into();
            row["target_server"]["vm_id"] = format!("vm-{n}").into();
            plan += &row.to_string();
            plan.push('\n');
        }
        let file = self.dir.path().join("weekend.jsonl");
        std::fs::write(&file, plan).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().env("USER", "bert").env("SLUICE_BROKER__URL", &self.spec.urls[0]);
        command.env("SLUICE_QUEUES__PREFIX", &self.rig.lane.queues.prefix);
        command.arg("enqueue").arg(&file).args(["--batch", batch]);
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    pub(super) async fn pause(&self, why: &str) {
        self.browser.click("#steer summary").await;
        self.browser.type_in("#steer form[action='/gate/pause'] input[name=why]", why).await;
        self.browser.follow("#steer form[action='/gate/pause'] button").await;
        self.browser.until_text("Paused by ada").await;
    }

    /// By the button that stands beside who paused.
    pub(super) async fn resume(&self) {
        self.browser.follow("#resume button").await;
    }
}

/// The first cells of the window's rows: priority and name.
pub(super) const ROWS: &str = "[...document.querySelectorAll('#window tbody tr')].map(row => \
                    row.cells[1].innerText + ' ' + row.cells[2].innerText)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_plan_is_seen_live_and_its_batch_to_its_end() {
    let desk = Desk::new("4/s", DESK).await;
    let browser = &desk.browser;
    desk.open("/").await;
    browser.until_text("Nothing waits").await;
    // One of the plan's source servers has a task of another name already: that row has to fail.
    let other = [body("s5", 1)];
    publish(&desk.rig.lane.client().await, &desk.rig.lane.queues.requests(), other).await;
    desk.rig.results(1).await;
    desk.enqueue_plan("weekend", 80).await;
    // All of this without loading the page again.
    browser.until("document.querySelectorAll('#window tbody tr').length == 20 && document.querySelector('#next')").await;
    browser.until("document.querySelector('svg .made')?.points.length >= 3").await;
    browser.until("document.querySelectorAll('svg rect.well').length >= 1").await;
    browser.until_text("weekend").await;
    let text = browser.text("main").await;
    for told in ["The gate is open", "4.00 allowed", "in flight", "Next in the window"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    browser.picture("now", 1700).await;
    browser.look(Looks { dark: true, ..DESK }).await;
    browser.picture("now-dark", 1700).await;
    desk.is_readable(PHONE).await;
    browser.picture("now-phone", 1900).await;
    desk.is_readable(DESK).await;

    browser.follow("header a[href^='/batches']").await;
    browser.until_text("of 80").await;
    browser.until("[...document.querySelectorAll('#batches td')].some(td => td.innerText.startsWith('about '))").await;
    browser.picture("batches", 900).await;
    browser.follow("#batches tbody a").await;
    browser.until_text("weekend.jsonl").await;
    browser.until("document.querySelector('#failures')").await;
    browser.picture("batch", 1200).await;
    desk.is_readable(DESK).await;
    // It goes on by itself to the end.
    browser.until_text("80 of 80 have ended").await;
    // The list of its servers, too, without loading the page again.
    browser.until("document.querySelectorAll('#ended tbody tr').length == 80").await;
    assert!(browser.text("#lists h3").await.contains("Not ended: 0"));
    // The cause of a result is the cause of its dead letter.
    browser.follow("#failures a.cause").await;
    browser.until_text("1 dead letter by these conditions").await;
    browser.until_text("conflict").await;
    assert!(browser.value("location.search").await.as_str().unwrap().contains("batch=weekend"));
    desk.no_complaints().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_priority_is_raised_on_the_page_and_honoured_and_a_pause_holds_meanwhile() {
    let desk = Desk::new("20/s", DESK).await;
    let browser = &desk.browser;
    desk.log_in().await;
    desk.open("/").await;
    desk.pause("the storage is being moved").await;
    let bodies = (0..6).map(|n| body(&format!("s{n}"), 10 + n));
    publish(&desk.rig.lane.client().await, &desk.rig.lane.queues.requests(), bodies).await;
    browser.until("document.querySelectorAll('#window tbody tr').length == 6").await;
    browser.picture("paused", 1500).await;
    browser.until(&format!("{ROWS}[5].startsWith('10 migrate-s0')")).await;
    browser.follow("#window tbody tr:last-child a").await;
    browser.type_in("input[name=priority]", "60000").await;
    browser.type_in("main input[name=why]", "the board waits for it").await;
    browser.picture("priority", 1200).await;
    browser.follow("main form button").await;
    browser.until_text("Done: it has its new priority").await;
    assert_eq!(browser.text("#priority").await, "60000");
    desk.open("/").await;
    browser.until(&format!("{ROWS}[0]?.startsWith('60000 migrate-s0')")).await;
    browser.picture("raised", 1500).await;
    desk.resume().await;
    browser.until_text("The gate is open").await;
    browser.picture("resumed", 700).await;
    let mut results = desk.rig.results(6).await;
    assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, 6)]));
    results.sort_by_key(|result| result.data.first_attempt_at);
    assert_eq!(results[0].data.source_server_id, "s0", "the raised one went first");
    desk.open("/audit").await;
    for told in
        ["pause", "the storage is being moved", "priority", "the board waits for it", "resume"]
    {
        browser.until_text(told).await;
    }
    desk.rig.nothing_left_and_nothing_twice().await;
    desk.no_complaints().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_enough_and_a_worker_that_is_gone_is_told() {
    let mut desk = Desk::new("20/s", PHONE).await;
    desk.log_in().await;
    desk.open("/").await;
    let browser = &desk.browser;
    desk.is_readable(PHONE).await;
    // From the reason, Tab leads to the button, and the live parts do not take the focus away.
    browser.click("#steer summary").await;
    browser.click("#steer form[action='/gate/pause'] input[name=why]").await;
    browser.press("lunch").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    browser.press("\u{e007}").await;
    browser.until_text("Paused by ada: lunch").await;
    assert_eq!(browser.value("document.querySelector('#away').hidden").await, true);
    browser.picture("paused-phone", 1600).await;
    desk.no_complaints().await;
    desk.worker.kill();
    desk.browser.until_text("The worker does not answer").await;
}

//! Two people review at once, and somebody at a terminal: whoever waits is told for whom.

use lapin::BasicProperties;
use serde_json::json;
use sluicegate::broker::dead_letters::{MoveProgress, Review, ReviewAction};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::contract::Rules;
use sluicegate::message::audit::By;
use sluicegate::message::parcel::Parcel;
use sluicegate::review::Filter;
use sluicegate::sandbox::Options as SandboxOptions;
use sluicegate::web::{console, http};

use super::{Desk, review};
use crate::support::browser::{Browser, DESK};
use crate::support::rabbit::{Lane, Node, request_body};
use crate::support::rig::body;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reviewer_waits_and_is_told_for_whom() {
    let refuse = json!({"call": "create", "times": 20, "do": {"answer": {"status": 400, "code": "SMS.0406", "message": "no image found"}}});
    let options = SandboxOptions::default().patched(&json!({ "faults": [refuse] })).unwrap();
    let mut desk = Desk::with("1000/s", options, DESK).await;
    let requests = (0..20).map(|n| (format!("r{n}"), body(&format!("s{n}"), 1)));
    desk.enqueue("wave-9", requests).await;
    desk.dead(20).await;
    desk.log_in().await;
    desk.open("/dead-letters").await;
    desk.browser.until_text("20 dead letters of 1 cause").await;
    found_downloaded_and_noted(&desk).await;
    desk.open("/dead-letters").await;
    desk.browser.click("#letters tr:first-child input[type=checkbox]").await;
    desk.browser.follow("button[value=discard]").await;
    let ada = std::mem::replace(&mut desk.browser, Browser::open(DESK).await);
    // Somebody at a terminal discards the oldest, and takes long over it.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let elsewhere = review(&desk);
    let elsewhere = tokio::spawn(async move {
        let by = By { who: "cy".into(), why: None };
        let attend = move |_: MoveProgress| {
            let _ = begun.take().map(|begun| begun.send(()));
            let _ = tokio::task::block_in_place(|| wait.recv());
            true
        };
        elsewhere.act(&Filter::ids(["r0"]), &ReviewAction::Discard, &by, attend).await
    });
    has_begun.await.unwrap();
    ada.follow("#go").await;
    ada.until_text("While somebody else reviews").await;
    // The second one of this console is told who is before him.
    desk.log_in_as("bo").await;
    desk.open("/dead-letters?name=migrate-s7").await;
    desk.browser.until_text("1 dead letter by these conditions").await;
    desk.browser.click("input[value=all]").await;
    desk.browser.follow("button[value=replay]").await;
    desk.browser.follow("#go").await;
    desk.browser.until_text("Waiting for its turn").await;
    desk.browser.until_text("ada: discard").await;
    // At once: the page asks for itself again twice a second.
    let stop = "document.querySelector(\"form[action='/jobs/stop'] button\").click()";
    ada.value(&format!("(window.left = 1, {stop})")).await;
    ada.until("!window.left && document.readyState === 'complete'").await;
    drop(go_on);
    assert_eq!(elsewhere.await.unwrap().unwrap().moved, 1);
    ada.until_text("Stopped: 0 of 1 moved, the others are still there").await;
    desk.browser.until_text("Done: 1 dead letter moved").await;
    desk.dead(18).await;
}

/// By the form of conditions; as a file; with a note.
async fn found_downloaded_and_noted(desk: &Desk) {
    let browser = &desk.browser;
    browser.click("details:has(form[role=search]) > summary").await;
    browser.type_in("form[role=search] input[name=name]", "migrate-s7").await;
    browser.follow("main form[role=search] button").await;
    browser.until_text("1 dead letter by these conditions").await;
    let fetched = |format: &str| {
        format!(
            "fetch(document.querySelector('a[href*=\"format={format}\"]').href).then(r => r.text())"
        )
    };
    let file = browser.value(&fetched("jsonl")).await;
    let lines: Vec<Parcel> = serde_json::Deserializer::from_str(file.as_str().unwrap())
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lines.iter().map(|parcel| &parcel.body).collect::<Vec<_>>(), [&body("s7", 1)]);
    let sheet = browser.value(&fetched("csv")).await;
    assert!(sheet.as_str().unwrap().lines().nth(1).unwrap().contains("migrate-s7"), "{sheet}");
    browser.follow("#letters a").await;
    browser.click("details:has(form[action='/dead-letters/note']) > summary").await;
    browser.type_in("form[action='/dead-letters/note'] input[name=why]", "the image is lost").await;
    browser.follow("form[action='/dead-letters/note'] button").await;
    browser.until_text("The note stands in the audit").await;
    // It is seen where the dead letter is seen, and in the list.
    assert!(browser.text("#notes").await.contains("the image is lost"));
    desk.open("/dead-letters").await;
    browser.until_text("Note of ada: the image is lost").await;
    desk.open("/audit").await;
    browser.until_text("the image is lost").await;
}

/// The console as it is with a smaller most: 30,001 dead letters would take long to make.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_one_pass_can_hold_is_said_and_comes_to_light_in_parts() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let names = Lane::new(&Node::shared(), QueueType::Quorum);
    topology::apply(&names.settings, &names.queues).await.unwrap();
    let client = names.client().await;
    for number in 0..12 {
        let letter = BasicProperties::default().with_message_id(number.to_string().into());
        client.publish(&names.queues.dead_letters(), &request_body(number), letter).await;
    }
    let review = Review::new(&names.settings, &names.queues, Rules::default());
    let lane = console::Lane { review: Review { most: 10, ..review }, ..crate::console::lane() };
    let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = console::router(vec![lane], &crate::console::doors(address));
    tokio::spawn(http::serve(listener, router, 64, std::future::pending()));
    let browser = Browser::open(DESK).await;
    browser.go(&format!("http://{address}/dead-letters")).await;
    browser
        .until_text("More than one pass can hold: 2 further dead letters were not looked at")
        .await;
    assert_eq!(browser.count("#letters tbody tr").await, 10);
    client.wait_for_depth(&names.queues.dead_letters(), 12).await;
}

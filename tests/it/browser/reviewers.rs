//! Two people review at once, and somebody at a terminal: whoever waits is told for whom.

use serde_json::json;
use sluicegate::broker::dead_letters::{Order, Progress};
use sluicegate::review::Filter;
use sluicegate::review::audit::By;
use sluicegate::sandbox::Options as SandboxOptions;

use super::{Desk, review};
use crate::support::browser::{Browser, DESK};
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
    desk.browser.click("#letters tr:first-child input[type=checkbox]").await;
    desk.browser.click("input[value=ticked]").await;
    desk.browser.follow("button[value=discard]").await;
    let ada = std::mem::replace(&mut desk.browser, Browser::open(DESK).await);
    // Somebody at a terminal discards the oldest, and takes long over it.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let elsewhere = review(&desk);
    let elsewhere = tokio::spawn(async move {
        let by = By { who: "cy".into(), why: None };
        let attend = move |_: Progress| {
            let _ = begun.take().map(|begun| begun.send(()));
            let _ = tokio::task::block_in_place(|| wait.recv());
            true
        };
        elsewhere.act(&Filter::ids(["r0"]), &Order::Discard, &by, attend).await
    });
    has_begun.await.unwrap();
    ada.follow("#go").await;
    ada.until_text("While somebody else reviews").await;
    // The second one of this console is told who is before him.
    desk.log_in_as("bo").await;
    desk.open("/dead-letters?name=migrate-s7").await;
    desk.browser.until_text("1 letter by these conditions").await;
    desk.browser.follow("button[value=replay]").await;
    desk.browser.follow("#go").await;
    desk.browser.until_text("Waiting for its turn").await;
    desk.browser.until_text("ada: discard").await;
    drop(go_on);
    assert_eq!(elsewhere.await.unwrap().unwrap().moved, 1);
    ada.until_text("Done: 1 letter moved").await;
    desk.browser.until_text("Done: 1 letter moved").await;
    desk.dead(17).await;
}

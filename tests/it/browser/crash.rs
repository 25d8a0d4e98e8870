//! The worker that serves the console is killed in the middle of a replay of a thousand letters.

use std::collections::BTreeSet;

use serde_json::json;
use sluicegate::message::audit::Action;
use sluicegate::sandbox::Options as SandboxOptions;

use super::Desk;
use crate::support::browser::DESK;
use crate::support::form::number;
use crate::support::rig::body;

const COUNT: usize = 1000;

/// How often it is killed; more with `SLUICE_KILLS`.
fn kills() -> usize {
    number("SLUICE_KILLS", 2, 6)
}

/// Replays all that is there, up to the page of its progress.
async fn begin(desk: &Desk) {
    desk.log_in().await;
    desk.open("/dead-letters?look=1").await;
    desk.browser.until("document.querySelector('button[value=replay]')").await;
    desk.browser.click("input[value=all]").await;
    desk.browser.follow("button[value=replay]").await;
    desk.browser.follow("#go").await;
}

/// Waits until more dead letters have moved than that, or all; how many. The browser would tell only twice a second.
async fn moved(desk: &Desk, wanted: u64) -> u64 {
    let id = desk.browser.value("new URLSearchParams(location.search).get('id')").await;
    let path = format!("/jobs?part=1&id={}", id.as_str().unwrap());
    loop {
        let (_, part) = desk.worker.get(&path).await.expect("an answer");
        let value = part.split("value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let value = value.and_then(|value| value.parse().ok()).unwrap_or(0);
        if value > wanted || part.contains("Done: ") {
            return value;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_is_killed_loses_nothing_and_creates_nothing_twice() {
    let refuse = json!({"call": "create", "times": COUNT, "do": {"answer": {"status": 400, "code": "SMS.0406", "message": "no image found"}}});
    let options = SandboxOptions::default().patched(&json!({ "faults": [refuse] })).unwrap();
    let mut desk = Desk::with("2000/s", options, DESK).await;
    let requests = (0..COUNT).map(|n| (format!("r{n}"), body(&format!("s{n}"), 1)));
    desk.enqueue("wave-8", requests).await;
    desk.dead(u32::try_from(COUNT).unwrap()).await;
    let mut rest = COUNT as u64;
    for round in 0..kills() {
        // Few dead letters are all on their way at once.
        if rest < 200 {
            break;
        }
        begin(&desk).await;
        let moved = moved(&desk, fastrand::u64(0..rest / 4)).await;
        desk.kill_the_worker(&format!("worker-{round}")).await;
        let snapshot = super::review(&desk).list().await.unwrap();
        println!("killed when {moved} of {rest} had moved; {} are left", snapshot.letters.len());
        rest = snapshot.letters.len() as u64;
        assert!(rest > 0, "it was not killed in the middle");
    }
    begin(&desk).await;
    desk.browser.until_text("Done: ").await;
    desk.dead(0).await;
    desk.rig.created(COUNT as u64).await;
    assert_eq!(desk.rig.sandbox.stats(&[]).tasks.created, COUNT as u64);
    desk.rig.nothing_left_and_nothing_twice().await;
    let acts = super::review(&desk).acts(|act| act.action == Action::Replay).await.unwrap();
    let letters: BTreeSet<_> = acts.iter().map(|act| act.letter).collect();
    assert_eq!(letters.len(), COUNT, "each replay stands in the audit");
    assert!(acts.iter().all(|act| act.who == "ada" && act.before.is_some()));
}

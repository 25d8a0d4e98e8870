//! Which batches `sluice watch` follows: generations of an id that was used again, and several batches together.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use sluicegate::sandbox::Options;

use super::planner::{Desk, lines, text};
use crate::support::rabbit::{arrived, opened};
use crate::support::wait::until_so;

/// The two cases of a batch id that is used again: counts of both together, and a watch that ends before anything went.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_batch_id_that_is_used_again_is_another_generation_everywhere() {
    let desk = Desk::new().await;
    let (first, second) = (desk.plan_of("first", 0..3), desk.plan_of("second", 3..5));
    let enqueue = |plan: &Path, more: &[&str]| {
        let args = ["enqueue", plan.to_str().unwrap(), "--batch", "nightly", "--again"];
        desk.command(&[&args[..], more].concat())
    };
    let worker = desk.worker(refusing("source-4")).await;
    assert!(enqueue(&first, &["--watch"]).output().unwrap().status.success());
    drop(worker);
    assert!(enqueue(&second, &[]).output().unwrap().status.success());
    let watched = desk.sluice(&["watch", "nightly"]);
    let said = text(&watched.stdout);
    assert!(said.contains("0 of 2 have ended") && said.contains("enqueued 2 times"), "{said}");
    let listed = lines(&desk.sluice(&["watch", "--json"]));
    let told: Vec<_> =
        listed.iter().map(|one| (one["total"].clone(), one["settled"].clone())).collect();
    assert_eq!(told, [(json!(2), json!(0)), (json!(3), json!(3))], "the latest first");
    let old = listed[1]["batch_run"].as_str().unwrap();
    let earlier = desk.sluice(&["watch", "nightly", "--run", &old[..8]]);
    assert!(text(&earlier.stdout).contains("3 of 3 have ended: created 3"), "{earlier:?}");
    let unknown = desk.sluice(&["watch", "nightly", "--run", "-"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains(old), "it names those there are: {unknown:?}");

    // What waits for its end waits for its own requests: they go only when there is a worker.
    let third = desk.plan_of("third", 5..7);
    let waiting = enqueue(&third, &["--watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let is_in =
        || lines(&desk.sluice(&["watch", "nightly", "--json"])).last().unwrap()["total"] == 2;
    until_so("enqueued", is_in).await;
    let worker = desk.worker(refusing("source-4")).await;
    let ended = tokio::task::spawn_blocking(|| waiting.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(lines(&ended).last().unwrap()["outcomes"], json!({ "created": 2 }));

    // The dead letter is of the second one, and its replay too.
    let second = lines(&desk.sluice(&["watch", "--json"]))[1].clone();
    let run = second["batch_run"].as_str().unwrap();
    assert_eq!((&second["settled"], &second["failed"]), (&json!(2), &json!(1)));
    let found = |run: &str| {
        let args = ["dead-letters", "list", "--letters", "--json", "--batch-run", run];
        lines(&desk.sluice(&args))
    };
    assert_eq!((found(run).len(), found(old).len()), (1, 0));
    assert_eq!(found(run)[0]["batch_run"], json!(run));
    drop(worker);
    let replay = ["dead-letters", "replay", "--batch-run", run, "--yes"];
    assert!(desk.sluice(&replay).status.success());
    let mut broker = desk.lane.start("reader");
    opened(&mut broker).await;
    let job = arrived(&mut broker).await;
    let replayed = &job.request;
    assert_eq!(replayed.batch(), Some("nightly"));
    assert_eq!(replayed.batch_run().map(|run| run.to_string()).as_deref(), Some(run));
}

/// An API that refuses this server.
fn refusing(source: &str) -> Options {
    let fault = json!({ "source": source, "call": "create",
        "do": { "answer": { "status": 400, "code": "SMS.0202", "message": "no" } } });
    Options::default().patched(&json!({ "faults": [fault] })).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn batches_that_begin_alike_are_watched_together_to_the_last_of_them() {
    let desk = Desk::new().await;
    let worker = desk.worker(refusing("source-4")).await;
    for (wave, rows) in [("weekend-1", 0..3), ("weekend-2", 3..5), ("other", 5..6)] {
        let plan = desk.plan_of(wave, rows);
        let done = desk.sluice(&["enqueue", plan.to_str().unwrap(), "--batch", wave]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    }
    let watched = desk.sluice(&["watch", "weekend-*", "--until-done"]);
    assert_eq!(watched.status.code(), Some(1), "{}", text(&watched.stderr));
    let said = text(&watched.stdout);
    for told in [
        "batch weekend-1: 3 of 3 have ended: created 3",
        "batch weekend-2: 2 of 2 have ended: created 1, rejected 1",
        "weekend-*: 2 batches: 5 of 5 have ended: created 4, rejected 1",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(!said.contains("other"), "{said}");
    let told = lines(&desk.sluice(&["watch", "weekend-*", "--json"]));
    assert_eq!(told.len(), 5 + 2 + 1);
    let total = told.last().unwrap();
    assert_eq!((&total["type"], &total["batches"]), (&json!("total"), &json!(2)));
    assert_eq!((&total["total"], &total["done"]), (&json!(5), &json!(true)));
    let report = desk.path("weekend.csv");
    let done = desk.sluice(&["watch", "weekend-*", "--export", report.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    let report = std::fs::read_to_string(report).unwrap();
    assert_eq!(report.lines().count(), 6);
    assert!(
        report.starts_with("\u{feff}batch,row,") && report.contains("\r\nweekend-2,2,"),
        "{report}"
    );
    let none = desk.sluice(&["watch", "holiday-*"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).contains("knows no batch holiday-*"), "{none:?}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_batch_is_held_moved_and_cancelled_by_its_name_and_its_rows() {
    let desk = Desk::new().await;
    let plan = desk.plan_of("waits", 0..6);
    let enqueue = ["enqueue", plan.to_str().unwrap(), "--batch", "wave-2"];
    assert!(desk.sluice(&enqueue).status.success());
    // No worker is there yet: the orders are kept.
    for args in [
        &["batch", "hold", "wave-2", "--reason", "the storage is late"][..],
        &["batch", "cancel", "wave-2", "--row", "2", "--row", "3"],
        &["batch", "move", "wave-2", "--priority", "700"],
    ] {
        let ordered = desk.sluice(args);
        assert_eq!(ordered.status.code(), Some(0), "{ordered:?}");
        let (said, told) = (text(&ordered.stdout), text(&ordered.stderr));
        assert!(said.contains("batch wave-2") && said.contains("generation"), "{said}");
        assert!(told.contains("no worker is active") && told.contains("kept"), "{told}");
    }
    let worker = desk.worker(Options::default()).await;
    let cancelled = || {
        let seen = lines(&desk.sluice(&["watch", "wave-2", "--json"]));
        seen.last().is_some_and(|one| one["outcomes"] == json!({ "cancelled": 2 }))
    };
    until_so("cancelled", cancelled).await;
    assert_eq!(worker.sandbox.stats(&[]).tasks.created, 0, "the others are held");
    let released = desk.sluice(&["batch", "release", "wave-2", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&released.stdout).unwrap();
    assert_eq!(told[0]["obeyed"]["here"], json!(4), "{told}");
    let ended = || {
        let seen = lines(&desk.sluice(&["watch", "wave-2", "--json"]));
        let outcomes = json!({ "cancelled": 2, "created": 4 });
        seen.last().is_some_and(|one| one["outcomes"] == outcomes)
    };
    until_so("ended", ended).await;
    assert_eq!(worker.sandbox.stats(&[]).tasks.created, 4);
    for (args, why) in [
        (&["batch", "move", "wave-2"][..], "nothing to move"),
        (&["batch", "cancel", "wave-9", "--row", "1"], "no batch \"wave-9\" was announced"),
        (&["batch", "cancel", "a", "b", "--row", "1"], "a row of one batch"),
        (&["batch", "cancel", "ü", "--unannounced"], "no batch id"),
    ] {
        let refused = desk.sluice(args);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains(why), "{refused:?}");
    }
}

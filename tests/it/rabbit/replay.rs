//! `sluice run --record` on a real RabbitMQ: what is in the file, and that a replay of it decides the same.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::Options as SandboxOptions;

use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::{Rig, body, publish};

/// Stands in each body, and must not stand in a recording.
const PRIVATE: &str = "only-in-the-body";

fn bodies(count: u16) -> impl Iterator<Item = Bytes> {
    let whole = (0..count).map(|number| {
        let bytes = body(&format!("s{number}"), number);
        let mut body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        body["a_field_of_tomorrow"] = PRIVATE.into();
        Bytes::from(serde_json::to_vec(&body).unwrap())
    });
    // What is wrong with a body is told by quoting it.
    let wrong = format!(r#"{{"name":"{PRIVATE}","type":"{PRIVATE}"}}"#);
    whole.chain([Bytes::from(wrong)])
}

fn replay(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice")).env_clear().arg("replay").arg(file).output().unwrap()
}

/// A worker that records works on so many requests and one that is wrong, and stops.
async fn work(rig: &Rig, spec: &Spec, dir: &Path, count: u16) -> String {
    let process = Process::start(spec, dir, "worker");
    process.active().await;
    let client = rig.lane.client().await;
    publish(&client, &rig.lane.queues.requests(), bodies(count)).await;
    rig.results(usize::from(count) + 1).await;
    let log = process.log.clone();
    assert_eq!(process.stop().await, Some(0));
    rig.nothing_left_and_nothing_twice().await;
    fs::read_to_string(log).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_has_recorded_is_replayed_to_the_last_step() {
    let node = Node::shared();
    // Answers that do not come, with a task and without.
    let lost = |nth: u64, applied: bool| json!({ "call": "create", "nth": [nth], "do": { "reset": { "applied": applied } } });
    let faults = json!({ "faults": [lost(3, true), lost(7, false)] });
    let options = SandboxOptions::default().patched(&faults).unwrap();
    let rig = Rig::with(Lane::new(&node, QueueType::Quorum), options).await;
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "100/s");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("day.jsonl");
    spec.arguments = vec!["--record".into(), file.display().to_string()];
    work(&rig, &spec, dir.path(), 40).await;

    let output = replay(&file);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("this version decides the same; the recording ends"), "{told}");
    for wanted in ["> post ", "> settle ", "< ", "invalid: ", "> look-up "] {
        assert!(told.contains(wanted), "no {wanted:?} in\n{told}");
    }
    let recorded = fs::read_to_string(&file).unwrap();
    for secret in [PRIVATE, sluicegate::sandbox::TOKEN, "an operator of the browser", "amqp://"] {
        assert!(!recorded.contains(secret), "{secret:?} is in the recording");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_cannot_be_written_or_is_full_stops_no_worker() {
    let node = Node::shared();
    let dir = tempfile::tempdir().unwrap();
    let bounded = dir.path().join("day.jsonl").display().to_string();
    let nowhere = dir.path().join("none/day.jsonl").display().to_string();
    for (arguments, says) in [
        (vec!["--record", "/dev/full"], "the recording ends: the file cannot be written"),
        (vec!["--record", &nowhere], "nothing is recorded: the file cannot be opened"),
        (vec!["--record", &bounded, "--record-size", "10KiB"], "has reached its bound"),
    ] {
        let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
        let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "200/s");
        spec.arguments = arguments.into_iter().map(str::to_owned).collect();
        let logs = tempfile::tempdir().unwrap();
        let log = work(&rig, &spec, logs.path(), 30).await;
        assert!(log.contains(says), "no {says:?} in {log}");
    }
    let output = replay(Path::new(&bounded));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(fs::metadata(&bounded).unwrap().len() < 11 * 1024);
}

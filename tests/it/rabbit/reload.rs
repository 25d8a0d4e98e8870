//! SIGHUP to the real binary: what changes, what does not, and what a mistake in the file does.

use std::path::Path;

use serde_json::Value;
use sluicegate::broker::settings::QueueType;
use sluicegate::core::gate::Reason;
use sluicegate::message::status::Status;

use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, body, publish};
use crate::support::wait;

/// A worker and its file.
struct Worker<'a> {
    process: &'a Process,
    file: &'a Path,
}

impl Worker<'_> {
    /// Writes the file anew and waits for the line that the log then has about it.
    async fn hears(&self, text: &str, message: &str) -> Value {
        let lines = || -> Vec<Value> {
            let log = self.process.logged();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.filter(|line| line["message"] == message).collect()
        };
        let before = lines().len();
        std::fs::write(self.file, text).unwrap();
        self.process.signal("HUP");
        wait::until(SOON, async || {
            let line = lines().into_iter().nth(before);
            line.ok_or_else(|| format!("no {message:?} in {}", self.process.logged()))
        })
        .await
    }
}

fn is_scheduled(status: &Status) -> bool {
    status.gate.reason == Some(Reason::Schedule)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_changes_rates_caps_schedule_and_level_and_a_mistake_changes_nothing() {
    const READ: &str = "SIGHUP: the configuration was read again";
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "5/s");
    spec.level = "info".to_owned();
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    let file = dir.path().join("worker.toml");
    let worker = Worker { process: &process, file: &file };
    let original = std::fs::read_to_string(&file).unwrap();

    // Nothing is submitted on a day that is not today.
    let days = jiff::Timestamp::now().as_second() / 86_400; // since a Thursday
    let day = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][usize::try_from(days % 7).unwrap()];
    let limits = "rates = [\"50/s\"]\nmax_in_flight = 3\nmax_running = 7";
    let changed = original
        .replace("rates = [\"5/s\"]", limits)
        .replace("[http]", &format!("[schedule]\nwindows = [\"{day} 00:00-24:00 UTC\"]\n[http]"))
        .replace("level = \"info\"", "level = \"debug\"");
    let heard = worker.hears(&changed, READ).await;
    assert_eq!(
        heard["changed"],
        "limits.max_in_flight, limits.max_running, limits.rates, log.level, schedule.windows"
    );
    process
        .until("changed", SOON, |status| {
            status.limits.rates == ["50/s"]
                && status.limits.max_in_flight == 3
                && status.running.as_ref().is_some_and(|running| running.most == 7)
        })
        .await;
    let client = rig.lane.client().await;
    publish(&client, &rig.lane.queues.requests(), [body("s1", 1)]).await;
    process.until("held by the schedule", SOON, is_scheduled).await;

    let mistaken = changed.replace("\"50/s\"", "\"fast\"").replace("\"debug\"", "\"error\"");
    let heard = worker.hears(&mistaken, "SIGHUP: nothing is changed").await;
    let why = heard["why"].as_str().unwrap();
    assert!(why.contains("worker.toml") && why.contains("limits.rates"), "{why}");
    let status = process.status().await.unwrap();
    assert!(is_scheduled(&status) && status.limits.rates == ["50/s"], "{status:?}");

    // The schedule is lifted; a key that a running worker cannot change is named.
    let lifted = changed.replace(&format!("\"{day} 00:00-24:00 UTC\""), "");
    let lifted = lifted.replace("max_running = 7", "max_running = 0");
    let lifted = lifted.replace("timeout = \"1s\"", "timeout = \"2s\"");
    let heard =
        worker.hears(&lifted, "SIGHUP: these have changed too, and hold after a restart").await;
    assert_eq!(heard["keys"], "api.timeout");
    rig.results(1).await;
    assert!(
        process.logged().lines().any(|line| line.contains("\"attempted\"")),
        "a line of the level debug, still"
    );
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_renewed_in_its_directory_opens_a_halted_gate_without_a_restart_or_a_signal()
 {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "50/s");
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("sms-token");
    std::fs::write(&token, "an old one").unwrap();
    spec.auth = format!("kind = \"token_file\"\ntoken_file = {token:?}");
    // No probe of its own would come while this test runs.
    spec.arguments = ["-o", "halt.probe=30m"].map(str::to_owned).to_vec();
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    let client = rig.lane.client().await;
    publish(&client, &rig.lane.queues.requests(), (0..5).map(|n| body(&format!("s{n}"), 1))).await;
    process.until("halted", SOON, |status| status.gate.reason == Some(Reason::Halted)).await;
    // As the unit's comment says: written beside it, and renamed over it.
    let beside = dir.path().join("sms-token.new");
    std::fs::write(&beside, sluicegate::sandbox::TOKEN).unwrap();
    std::fs::rename(beside, &token).unwrap();
    rig.created(5).await;
    let log = process.logged();
    assert!(log.contains("the gate is shut") && log.contains("the gate is open again"), "{log}");
}

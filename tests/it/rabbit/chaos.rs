//! Short campaigns; `scripts/campaign` runs the long ones.

use std::time::{Duration, Instant};

use sluicegate::broker::settings::QueueType;
use sluicegate::core::Outcome;
use sluicegate::sandbox::Options as SandboxOptions;
use tempfile::TempDir;

use crate::chaos::soak::soak;
use crate::chaos::{Campaign, report};
use crate::support::form::short_or_full;
use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::{Rig, body, outcomes, publish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_campaign_of_kills_and_broken_networks_loses_nothing_and_doubles_nothing() {
    let campaign = Campaign { seed: 7, rounds: 1, worker_kills: 8, broker_kills: 2, requests: 40 };
    let (text, kept) = report(&campaign.run().await);
    println!("{text}");
    assert!(kept, "a promise was broken; {campaign:?}");
}

/// `scripts/soak` runs it for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_flow_with_faults_leaves_memory_files_and_series_as_they_were() {
    soak(7, 12, Duration::from_secs(short_or_full(45, 180))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_with_lost_answers_outlive_a_worker_that_is_killed_every_few_seconds() {
    let faults = serde_json::json!({ "tasks": { "allow_doubles": true, "running": "1h" }, "faults": [
        { "call": "create", "probability": 0.1, "do": { "close": { "applied": true } } },
        { "call": "create", "probability": 0.1, "do": { "answer": { "status": 503 } } },
        { "call": "create", "probability": 0.05, "do": { "reset": {} } },
    ]});
    let options = SandboxOptions::default().patched(&faults).unwrap();
    let rig = Rig::with(Lane::new(&Node::shared(), QueueType::Quorum), options).await;
    let dir = TempDir::new().unwrap();
    let spec = Spec::new(&Node::shared().url, &rig.lane.queues, &rig.sandbox.base_url, "60/s");
    let mut worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    let count = short_or_full(250, 1000);
    let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    let (mut kills, start) = (0, Instant::now());
    while rig.sandbox.stats(&[]).tasks.created < count as u64 {
        assert!(start.elapsed() < Duration::from_secs(300), "{:?}", rig.sandbox.stats(&[]).tasks);
        // Every few seconds, at another moment of its work each time; what is in doubt is looked at for two.
        tokio::time::sleep(Duration::from_millis(3000 + kills * 370 % 2000)).await;
        worker.kill();
        kills += 1;
        worker = Process::start(&spec, dir.path(), "worker");
        worker.active().await;
    }
    let results = rig.all_results(count).await;
    assert_eq!(worker.stop().await, Some(0));
    assert!(outcomes(&results).keys().all(|outcome| *outcome == Outcome::Created));
    let stats = rig.sandbox.stats(&[]);
    assert_eq!(stats.tasks.created, count as u64);
    rig.nothing_left_and_nothing_twice().await;
    rig.lane.client().await.wait_for_depth(&rig.lane.queues.dead_letters(), 0).await;
    println!(
        "{count} requests, {kills} kills in {:.0?}: {} created, {} twice, {} results ({} repeats), {:?}",
        start.elapsed(),
        stats.tasks.created,
        stats.created_twice.sources,
        results.len(),
        results.len() - count,
        stats.answers,
    );
}

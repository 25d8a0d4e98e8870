//! What does a failover cost? The active worker is killed under a steady flow, and a standby takes over: how long nothing
//! is submitted, and whether anything is created twice.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use sluicegate::broker::settings::QueueType;

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met, quantile};
use crate::rig::{self, Lane, Node};

const RATE: usize = 50;

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let mut table = Table::new(
        &[
            "kills",
            "waiting",
            "rate",
            "`api.look_again`",
            "no POST for, median",
            "longest",
            "created twice",
            "looks a kill",
        ],
        "`kill -9` of the active worker with a standby attached, on a quorum queue, all that waits in its window; from the kill to the \
         standby's first POST. All that the killed worker held comes back as redelivered: it is in doubt until two lists of all tasks, \
         `api.look_again` apart, have not shown it. The standby asks for the lock every second and waits until all \
         that waits is there, and 200 ms more.",
    );
    // The second one is the default.
    for (kills, waiting, look_again, wait) in
        [(6, 6_000, "6s", 12), (2, 6_000, "45s", 60), (2, 60_000, "6s", 30)]
    {
        let kills = if extent.quick { 1 } else { kills };
        let row = row(node, kills, waiting, look_again, Duration::from_secs(wait)).await;
        table.row(row);
    }
    table
}

/// So many kills, each with so much time until the next.
async fn row(
    node: &Node,
    kills: usize,
    waiting: usize,
    look_again: &'static str,
    wait: Duration,
) -> [String; 8] {
    let lane = Lane::new(node, QueueType::Quorum).await;
    let sandbox = rig::sandbox(json!({ "tasks": { "allow_doubles": true } })).await;
    lane.fill(waiting, 1_000, |_| 1).await;
    let setup = Setup { rates: vec![format!("{RATE}/s")], look_again, ..Setup::default() };
    let worker = || Process::worker(&lane, &sandbox.base_url, &setup);
    let mut active = worker();
    rig::created(&sandbox, RATE).await;
    let mut deaths = Vec::new();
    for _ in 0..kills {
        let standby = worker();
        tokio::time::sleep(Duration::from_secs(3)).await;
        deaths.push(Timestamp::now());
        active.kill();
        active = standby;
        // Until it submits again, and a while.
        tokio::time::sleep(wait).await;
    }
    drop(active);
    let creates = rig::creates(&sandbox);
    let gap = |at: &Timestamp| {
        // What had left the killed worker may still arrive for a moment.
        let after = *at + Duration::from_millis(50);
        let next = creates.iter().find(|call| call.started > after);
        next.map_or(f64::INFINITY, |call| call.started.duration_since(*at).as_secs_f64())
    };
    let mut gaps: Vec<f64> = deaths.iter().map(gap).collect();
    let stats = sandbox.stats(&[]);
    let looks = stats.calls(sluicegate::sandbox::Kind::List);
    let twice = stats.created_twice.sources;
    lane.drop().await;
    [
        kills.to_string(),
        waiting.to_string(),
        format!("{RATE}/s"),
        look_again.to_owned(),
        format!("{:.2} s", quantile(&mut gaps, 0.5)),
        format!("{:.2} s", quantile(&mut gaps, 1.0)),
        format!("{twice}: {}", met(twice == 0)),
        (looks / kills as u64).to_string(),
    ]
}

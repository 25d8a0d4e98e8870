//! How soon after its start does the worker submit, with a backlog waiting? It first takes in all that it can hold, so
//! that the most urgent goes first.

use jiff::Timestamp;
use serde_json::json;
use sluicegate::broker::settings::QueueType;

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met, quantile};
use crate::rig::{self, Lane, Node};

const ROUNDS: usize = 3;

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let mut table = Table::new(
        &["waiting", "queue", "process start to first POST", "goal"],
        format!("Bodies of 1 KB, a window of 65,535, the median of {ROUNDS} starts."),
    );
    let all = extent.of(100_000);
    for (waiting, kind) in [
        (0, QueueType::Quorum),
        (1_000, QueueType::Quorum),
        (all, QueueType::Quorum),
        (all, QueueType::Classic),
    ] {
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(start(node, kind, waiting).await);
        }
        let median = quantile(&mut times, 0.5);
        table.row([
            waiting.to_string(),
            kind.as_str().into(),
            format!("{median:.2} s"),
            if waiting < all { String::new() } else { format!("under 2 s: {}", met(median < 2.0)) },
        ]);
    }
    table
}

async fn start(node: &Node, kind: QueueType, waiting: usize) -> f64 {
    let lane = Lane::new(node, kind).await;
    let sandbox = rig::sandbox(json!({})).await;
    lane.fill(waiting.max(1), 1_000, |number| u16::try_from(number % 60_000).unwrap()).await;
    let began = Timestamp::now();
    let setup = Setup { rates: vec!["50/s".into()], ..Setup::default() };
    let process = Process::worker(&lane, &sandbox.base_url, &setup);
    rig::created(&sandbox, 1).await;
    drop(process);
    let first = rig::creates(&sandbox)[0].started;
    lane.drop().await;
    first.duration_since(began).as_secs_f64()
}

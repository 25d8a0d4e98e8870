//! How long from enqueueing to the POST's arrival? At an idle gate, against the limit; and of the most urgent request
//! behind thousands of others under a rate limit.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use sluicegate::broker::Planner;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::Sandbox;

use crate::Extent;
use crate::process::{Process, Setup, THREADS};
use crate::report::{Table, met, quantile};
use crate::rig::{self, Lane, Node};

const ROUNDS: usize = 4;
/// Calls a second, while urgent ones come.
const RATE: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Limit,
    /// With `window.linger` so.
    Worker(&'static str),
}

pub(crate) async fn idle(node: &Node, extent: Extent) -> Table {
    let each = extent.of(200);
    let mut table = Table::new(
        &["who", "p50", "p90", "p99", "p50 to the limit's (goal 1.2)"],
        format!(
            "A request at a time, each {ROUNDS} × {each} in turns, with 10 to 30 ms of idleness before each; a quorum queue. \
             From just before the publish to the arrival of the POST's head at the sandbox, both read in one process."
        ),
    );
    let who = [Who::Limit, Who::Worker("0ms"), Who::Worker("5ms")];
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); who.len()];
    for round in 0..ROUNDS {
        for (index, who) in who.into_iter().enumerate() {
            all[index].extend(one_by_one(node, who, each, round as u64).await);
        }
    }
    let base = quantile(&mut all[0], 0.5);
    for (who, mut values) in who.into_iter().zip(all) {
        let p50 = quantile(&mut values, 0.5);
        table.row([
            match who {
                Who::Limit => "limit".into(),
                Who::Worker(linger) => format!("worker, `window.linger` {linger}"),
            },
            millis(p50),
            millis(quantile(&mut values, 0.9)),
            millis(quantile(&mut values, 0.99)),
            match who {
                Who::Limit => "1".into(),
                Who::Worker("0ms") => format!("{:.2}: {}", p50 / base, met(p50 / base <= 1.2)),
                Who::Worker(_) => format!("{:.2}, the linger of 5 ms included", p50 / base),
            },
        ]);
    }
    table
}

async fn one_by_one(node: &Node, who: Who, count: usize, seed: u64) -> Vec<f64> {
    let lane = Lane::new(node, QueueType::Quorum).await;
    let sandbox = rig::sandbox(json!({})).await;
    let process = match who {
        Who::Limit => Process::limit(&lane, &sandbox.base_url, 16, 2_000, "arrival", THREADS),
        Who::Worker(linger) => {
            let setup = Setup { linger, ..Setup::default() };
            Process::worker(&lane, &sandbox.base_url, &setup)
        }
    };
    let planner = lane.planner().await;
    // The first one opens connections, and a worker waits for company after its start.
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sent = HashMap::new();
    for number in 0..=count {
        sent.insert(rig::source(number), publish(&planner, number, 1).await);
        rig_wait(&sandbox, number + 1).await;
        tokio::time::sleep(Duration::from_millis(random.u64(10..30))).await;
    }
    drop(process);
    let latencies = latencies(&sandbox, &sent);
    lane.drop().await;
    latencies
        .into_iter()
        .filter(|(source, _)| *source != rig::source(0))
        .map(|(_, ms)| ms)
        .collect()
}

/// As [`rig::created`], but at once.
async fn rig_wait(sandbox: &Sandbox, count: usize) {
    while sandbox.made() < count as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Publishes a request; when that began.
async fn publish(planner: &Planner, number: usize, priority: u16) -> Timestamp {
    let request = rig::request(number, priority, 0);
    let began = Timestamp::now();
    planner.enqueue(vec![request]).await.unwrap();
    began
}

/// Milliseconds from enqueueing to arrival, of those that are in `sent`.
fn latencies(sandbox: &Sandbox, sent: &HashMap<String, Timestamp>) -> Vec<(String, f64)> {
    let creates = rig::creates(sandbox).into_iter().filter_map(|call| {
        let source = call.source_server_id?;
        let began = sent.get(&source)?;
        Some((source, call.started.duration_since(*began).as_secs_f64() * 1e3))
    });
    creates.collect()
}

pub(crate) async fn urgent(node: &Node, extent: Extent) -> Table {
    let urgent = extent.of(200);
    let mut table = Table::new(
        &["rate", "behind", "p50", "p90", "p99", "worst", "p99 in periods of the rate"],
        format!(
            "{urgent} urgent requests (priority 60,000 and above), one every 150 to 350 ms, while others of priority 1 wait \
             in the window; a quorum queue. From just before the publish to the arrival of the POST's head. A call may go \
             every {} ms, so half of that is what waiting for one's turn costs in the mean.",
            1000 / RATE
        ),
    );
    for waiting in [1_000, 10_000, 50_000] {
        table.row(behind(node, extent.of(waiting), urgent).await);
    }
    table
}

/// So many urgent requests, while so many others wait.
async fn behind(node: &Node, waiting: usize, urgent: usize) -> [String; 7] {
    let lane = Lane::new(node, QueueType::Quorum).await;
    let sandbox = rig::sandbox(json!({})).await;
    lane.fill(waiting, 0, |_| 1).await;
    let setup = Setup { rates: vec![format!("{RATE}/s")], ..Setup::default() };
    let process = Process::worker(&lane, &sandbox.base_url, &setup);
    rig::created(&sandbox, 5).await;
    let planner = lane.planner().await;
    let mut random = fastrand::Rng::with_seed(1);
    let mut sent = HashMap::new();
    for number in waiting..waiting + urgent {
        let began = publish(&planner, number, random.u16(60_000..)).await;
        sent.insert(rig::source(number), began);
        tokio::time::sleep(Duration::from_millis(random.u64(150..350))).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(process);
    let mut values: Vec<f64> = latencies(&sandbox, &sent).into_iter().map(|(_, ms)| ms).collect();
    assert_eq!(values.len(), urgent, "an urgent request did not go");
    lane.drop().await;
    let p99 = quantile(&mut values, 0.99);
    #[allow(clippy::cast_precision_loss)]
    let period = 1e3 / RATE as f64;
    [
        format!("{RATE}/s"),
        waiting.to_string(),
        millis(quantile(&mut values, 0.5)),
        millis(quantile(&mut values, 0.9)),
        millis(p99),
        millis(quantile(&mut values, 1.0)),
        format!("{:.2}", p99 / period),
    ]
}

fn millis(value: f64) -> String {
    format!("{value:.2} ms")
}

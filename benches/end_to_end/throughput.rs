//! How many requests a second without a rate limit, and how much processor time does each take? The worker against the
//! limit, in turns, with the same concurrency and prefetch.

use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::{CallRecord, Sandbox};

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met, quantile};
use crate::rig::{self, Lane, Node};

/// Deliveries held at once by either: small against the backlog, so that both consume for as long as they submit.
const PREFETCH: u16 = 2_000;
const BYTES: usize = 1_000;
const ROUNDS: usize = 4;

/// One run of one of the two.
#[derive(Clone, Copy, Debug)]
struct Run {
    per_second: f64,
    /// Microseconds of processor time a request.
    processor: f64,
}

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let count = extent.of(20_000);
    let mut table = Table::new(
        &[
            "in flight",
            "queue",
            "worker",
            "limit",
            "ratio (goal 0.95)",
            "processor time, worker",
            "limit",
            "ratio (goal 1.15)",
        ],
        format!(
            "{count} bodies of {BYTES} bytes a run, prefetch {PREFETCH}, no rate limit, {ROUNDS} runs of each in turns; the \
             median of the runs. Rates between the first and the last tenth of the creates as the sandbox saw them; user \
             and system time of the process, its start included, by the requests of the run."
        ),
    );
    for (in_flight, kind) in
        [(16, QueueType::Quorum), (64, QueueType::Quorum), (16, QueueType::Classic)]
    {
        let (mut workers, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            limits.push(run(node, kind, count, in_flight, false).await);
            workers.push(run(node, kind, count, in_flight, true).await);
        }
        let (worker, limit) = (median(&workers), median(&limits));
        let (speed, cost) =
            (worker.per_second / limit.per_second, worker.processor / limit.processor);
        table.row([
            in_flight.to_string(),
            kind.as_str().into(),
            format!("{:.0}/s", worker.per_second),
            format!("{:.0}/s", limit.per_second),
            format!("{speed:.3}: {}", met(speed >= 0.95)),
            format!("{:.0} µs", worker.processor),
            format!("{:.0} µs", limit.processor),
            format!("{cost:.3}: {}", met(cost <= 1.15)),
        ]);
    }
    table
}

async fn run(node: &Node, kind: QueueType, count: usize, in_flight: u16, worker: bool) -> Run {
    let lane = Lane::new(node, kind).await;
    let sandbox = rig::sandbox(json!({})).await;
    #[allow(clippy::cast_possible_truncation)] // wraps on purpose: all priorities occur
    lane.fill(count, BYTES, |number| (number * 7919) as u16).await;
    let mut process = if worker {
        let setup = Setup { max_in_flight: in_flight, window: PREFETCH, ..Setup::default() };
        Process::worker(&lane, &sandbox.base_url, &setup)
    } else {
        Process::limit(&lane, &sandbox.base_url, in_flight, PREFETCH)
    };
    rig::created(&sandbox, count).await;
    // The last results and acknowledgements.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let used = process.processor_time();
    process.kill();
    #[allow(clippy::cast_precision_loss)]
    let processor = used.as_secs_f64() * 1e6 / count as f64;
    let run = Run { per_second: rate(&sandbox), processor };
    lane.drop().await;
    run
}

/// Creates a second without the first and the last tenth.
fn rate(sandbox: &Sandbox) -> f64 {
    let creates = rig::creates(sandbox);
    let tenth = creates.len() / 10;
    let steady: &[CallRecord] = &creates[tenth..creates.len() - tenth];
    let (Some(first), Some(last)) = (steady.first(), steady.last()) else { return f64::NAN };
    #[allow(clippy::cast_precision_loss)]
    let count = (steady.len() - 1) as f64;
    count / last.started.duration_since(first.started).as_secs_f64()
}

fn median(runs: &[Run]) -> Run {
    let of = |value: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        quantile(&mut values, 0.5)
    };
    Run { per_second: of(|run| run.per_second), processor: of(|run| run.processor) }
}

//! How many requests a second without a rate limit, and how much processor time does each take, of the worker and of the
//! broker? The worker against the limit, in turns, with the same concurrency, prefetch and order.

use std::time::Duration;

use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::{CallRecord, Sandbox};

use crate::Extent;
use crate::process::{Process, Setup, THREADS, processor_time};
use crate::report::{Table, met, quantile};
use crate::rig::{self, Lane, Node};

/// Deliveries held at once by either: small against the backlog, so that both consume for as long as they submit; and the
/// default, which holds all of it.
const PREFETCH: u16 = 2_000;
const WHOLE: u16 = 65_535;
const BYTES: usize = 1_000;
const ROUNDS: usize = 6;

/// What is measured of both.
#[derive(Clone, Copy)]
struct Case {
    in_flight: u16,
    kind: QueueType,
    order: Order,
    prefetch: u16,
    /// The limit's.
    threads: u8,
}

/// In which order the requests are enqueued, and started.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// All equally urgent: what was enqueued first goes first, and is acknowledged first.
    Arrival,
    /// Of all priorities, shuffled: what goes first can stand anywhere among what is held.
    Priority,
}

const CASES: [Case; 9] = [
    Case::new(16, QueueType::Quorum, Order::Arrival, PREFETCH),
    Case::new(16, QueueType::Classic, Order::Arrival, PREFETCH),
    Case::new(16, QueueType::Quorum, Order::Arrival, WHOLE),
    Case::new(64, QueueType::Quorum, Order::Arrival, PREFETCH),
    Case { threads: 1, ..Case::new(16, QueueType::Quorum, Order::Arrival, PREFETCH) },
    Case { threads: 1, ..Case::new(64, QueueType::Quorum, Order::Arrival, PREFETCH) },
    Case::new(16, QueueType::Quorum, Order::Priority, PREFETCH),
    Case::new(16, QueueType::Classic, Order::Priority, PREFETCH),
    Case::new(16, QueueType::Quorum, Order::Priority, WHOLE),
];

impl Case {
    const fn new(in_flight: u16, kind: QueueType, order: Order, prefetch: u16) -> Self {
        Self { in_flight, kind, order, prefetch, threads: THREADS }
    }
}

/// One run of one of the two.
#[derive(Clone, Copy, Debug)]
struct Run {
    per_second: f64,
    /// Microseconds of processor time a request, and the broker's.
    processor: f64,
    broker: f64,
}

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let count = extent.of(20_000);
    let mut table = Table::new(
        &[
            "in flight",
            "queue",
            "order of",
            "prefetch",
            "threads of the limit",
            "worker",
            "limit",
            "ratio (goal 0.95)",
            "processor time, worker",
            "limit",
            "ratio (goal 1.15)",
            "broker's, under the worker",
            "under the limit",
        ],
        format!(
            "{count} bodies of {BYTES} bytes a run, no rate limit, {ROUNDS} runs of each in turns; the \
             median of the runs, and in parentheses the lowest and the highest ratio of a pair. Rates between the first and the last tenth of the creates as the sandbox saw them; user \
             and system time of the process, its start included, by the requests of the run. Order of arrival: all \
             requests have one priority. Order of priority: all priorities, shuffled; the limit then starts what has the \
             highest of the broker's eleven levels, the worker what has the highest priority."
        ),
    );
    for case in CASES {
        let (mut workers, mut limits) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Who begins changes: what the first of a pair leaves behind is not always the same one's.
            for is_worker in [round % 2 == 1, round % 2 == 0] {
                let runs = if is_worker { &mut workers } else { &mut limits };
                runs.push(run(node, case, count, is_worker).await);
            }
        }
        let (worker, limit) = (median(&workers), median(&limits));
        let speed = worker.per_second / limit.per_second;
        let cost = worker.processor / limit.processor;
        let speeds = spread(&workers, &limits, |run| run.per_second);
        let costs = spread(&workers, &limits, |run| run.processor);
        table.row([
            case.in_flight.to_string(),
            case.kind.as_str().into(),
            case.order.word().into(),
            case.prefetch.to_string(),
            case.threads.to_string(),
            format!("{:.0}/s", worker.per_second),
            format!("{:.0}/s", limit.per_second),
            format!("{speed:.3} ({speeds}): {}", met(speed >= 0.95)),
            format!("{:.0} µs", worker.processor),
            format!("{:.0} µs", limit.processor),
            format!("{cost:.3} ({costs}): {}", met(cost <= 1.15)),
            format!("{:.0} µs", worker.broker),
            format!("{:.0} µs", limit.broker),
        ]);
    }
    table
}

impl Order {
    /// As the limit is told.
    fn word(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Priority => "priority",
        }
    }

    fn priority(self, number: usize) -> u16 {
        match self {
            Self::Arrival => 1,
            #[allow(clippy::cast_possible_truncation)] // wraps on purpose: all priorities occur
            Self::Priority => (number * 7919) as u16,
        }
    }
}

async fn run(node: &Node, case: Case, count: usize, worker: bool) -> Run {
    let Case { in_flight, kind, order, prefetch, threads } = case;
    let lane = Lane::new(node, kind).await;
    let sandbox = rig::sandbox(json!({})).await;
    lane.fill(count, BYTES, |number| order.priority(number)).await;
    let broker = processor_time(node.process);
    let mut process = if worker {
        let setup = Setup { max_in_flight: in_flight, window: prefetch, ..Setup::default() };
        Process::worker(&lane, &sandbox.base_url, &setup)
    } else {
        Process::limit(&lane, &sandbox.base_url, in_flight, prefetch, order.word(), threads)
    };
    rig::created(&sandbox, count).await;
    // The last results and acknowledgements.
    tokio::time::sleep(Duration::from_millis(300)).await;
    #[allow(clippy::cast_precision_loss)]
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let run = Run {
        per_second: rate(&sandbox),
        processor: each(processor_time(process.id())),
        broker: each(processor_time(node.process).saturating_sub(broker)),
    };
    process.kill();
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

/// The lowest and the highest ratio of two runs that were made one after the other.
fn spread(workers: &[Run], limits: &[Run], value: fn(&Run) -> f64) -> String {
    let ratios = workers.iter().zip(limits).map(|(worker, limit)| value(worker) / value(limit));
    let (low, high) = ratios
        .fold((f64::INFINITY, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    format!("{low:.2} to {high:.2}")
}

fn median(runs: &[Run]) -> Run {
    let of = |value: fn(&Run) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        quantile(&mut values, 0.5)
    };
    Run {
        per_second: of(|run| run.per_second),
        processor: of(|run| run.processor),
        broker: of(|run| run.broker),
    }
}

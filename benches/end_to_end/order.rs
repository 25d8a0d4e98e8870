//! Does the most urgent go first, whatever the backlog? Random priorities over all 65,536, one request in flight, and the
//! sandbox counts the pairs that went in the wrong order.

use std::time::Instant;

use serde_json::json;
use sluicegate::broker::settings::QueueType;

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met};
use crate::rig::{self, Lane, Node};

/// What waits where, and how it is worked off.
#[derive(Clone, Copy)]
struct Backlog {
    waiting: usize,
    kind: QueueType,
    /// The highest of the broker's levels.
    levels: u8,
    window: u16,
    rate: Option<&'static str>,
}

/// By default of a queue and a window as large as can be.
const LARGE: Backlog =
    Backlog { waiting: 65_535, kind: QueueType::Classic, levels: 10, window: u16::MAX, rate: None };

/// A backlog that fits the window, and larger ones with the levels that a queue has by default.
pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let rows = [
        Backlog { waiting: 10_000, kind: QueueType::Quorum, ..LARGE },
        Backlog { kind: QueueType::Quorum, ..LARGE },
        LARGE,
        Backlog { waiting: 100_000, window: 10_000, ..LARGE },
        Backlog { waiting: 300_000, ..LARGE },
        Backlog { waiting: 300_000, rate: Some("400/s"), ..LARGE },
    ];
    table(node, extent, &rows).await
}

/// More of the broker's levels, so that a small window holds several of them whole.
pub(crate) async fn levels(node: &Node, extent: Extent) -> Table {
    let fine =
        Backlog { waiting: 300_000, levels: 64, window: 15_000, rate: Some("400/s"), ..LARGE };
    table(node, extent, &[fine]).await
}

async fn table(node: &Node, extent: Extent, rows: &[Backlog]) -> Table {
    let mut table = Table::new(
        &[
            "waiting",
            "queue",
            "levels",
            "window",
            "rate",
            "inversions",
            "of pairs",
            "share",
            "took",
            "none expected",
        ],
        "All enqueued before the worker starts, priorities uniform over 0 to 65,535, the broker's level as `sluice enqueue` sets it \
         (`queues.max_priority` is the highest), one in flight. An inversion is a pair of creates of which the later has the higher \
         priority. None is expected where the window holds all, or each of the broker's levels whole and the broker has the time to \
         refill it.",
    );
    for row in rows {
        let row = Backlog { waiting: extent.of(row.waiting), ..*row };
        table.row(row.measure(node).await);
    }
    table
}

impl Backlog {
    async fn measure(self, node: &Node) -> [String; 10] {
        let Self { waiting, kind, levels, window, rate } = self;
        let lane = Lane::with_levels(node, kind, levels).await;
        let sandbox = rig::sandbox(json!({ "log_capacity": 1_000 })).await;
        let mut random = fastrand::Rng::with_seed(7);
        let priorities: Vec<u16> = (0..waiting).map(|_| random.u16(..)).collect();
        lane.fill(waiting, 0, |number| priorities[number]).await;
        let began = Instant::now();
        let rates = rate.map(str::to_owned).into_iter().collect();
        let setup = Setup { rates, max_in_flight: 1, window, level: "warn", ..Setup::default() };
        let process = Process::worker(&lane, &sandbox.base_url, &setup);
        rig::created(&sandbox, waiting).await;
        let took = began.elapsed();
        drop(process);
        let order = sandbox.stats(&[]).order;
        let pairs = order.creates * order.creates.saturating_sub(1) / 2;
        #[allow(clippy::cast_precision_loss)]
        let share = order.inversions as f64 / pairs.max(1) as f64;
        let expected = self.is_whole().then(|| met(order.inversions == 0));
        lane.drop().await;
        [
            waiting.to_string(),
            kind.as_str().into(),
            levels.to_string(),
            window.to_string(),
            rate.unwrap_or("none").to_owned(),
            order.inversions.to_string(),
            pairs.to_string(),
            format!("{:.5} %", share * 100.0),
            format!("{:.0} s", took.as_secs_f64()),
            expected.unwrap_or_else(|| "not expected".into()),
        ]
    }

    /// Without a rate the worker submits faster than a classic queue refills its window.
    fn is_whole(self) -> bool {
        // Four levels are those of single priorities; the others share the rest.
        let level = self.waiting / usize::from(self.levels - 3);
        let window = usize::from(self.window);
        self.waiting <= window || (self.rate.is_some() && level < window)
    }
}

//! Does the most urgent go first, whatever the backlog? Random priorities over all 65,536, one request in flight, and the
//! sandbox counts the pairs that went in the wrong order.

use std::time::Instant;

use serde_json::json;
use sluicegate::broker::settings::QueueType;

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met};
use crate::rig::{self, Lane, Node};

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let mut table = Table::new(
        &[
            "waiting",
            "queue",
            "window",
            "rate",
            "inversions",
            "of pairs",
            "share",
            "took",
            "none expected",
        ],
        "All enqueued before the worker starts, priorities uniform over 0 to 65,535, the broker's level as `sluice enqueue` sets it \
         (`queues.max_priority` 10), one in flight. An inversion is a pair of creates of which the later has the higher priority. \
         None is expected where the window holds all, or each of the broker's levels whole and the broker has the time to refill it.",
    );
    let window = u16::MAX;
    for (count, kind, window, rate) in [
        (10_000, QueueType::Quorum, window, None),
        (65_535, QueueType::Quorum, window, None),
        (65_535, QueueType::Classic, window, None),
        (100_000, QueueType::Classic, 10_000, None),
        (300_000, QueueType::Classic, window, None),
        (300_000, QueueType::Classic, window, Some("400/s")),
    ] {
        let count = extent.of(count);
        let lane = Lane::new(node, kind).await;
        let sandbox = rig::sandbox(json!({ "log_capacity": 1_000 })).await;
        let mut random = fastrand::Rng::with_seed(7);
        let priorities: Vec<u16> = (0..count).map(|_| random.u16(..)).collect();
        lane.fill(count, 0, |number| priorities[number]).await;
        let began = Instant::now();
        let rates = rate.map(str::to_owned).into_iter().collect();
        let setup = Setup { rates, max_in_flight: 1, window, level: "warn", ..Setup::default() };
        let process = Process::worker(&lane, &sandbox.base_url, &setup);
        rig::created(&sandbox, count).await;
        let took = began.elapsed();
        drop(process);
        let order = sandbox.stats(&[]).order;
        let pairs = order.creates * order.creates.saturating_sub(1) / 2;
        // Four levels are those of single priorities; each of the others has a seventh of all. Without a rate the worker
        // submits faster than a classic queue refills its window.
        let fits =
            count <= usize::from(window) || (rate.is_some() && count / 7 < usize::from(window));
        #[allow(clippy::cast_precision_loss)]
        let share = order.inversions as f64 / pairs.max(1) as f64;
        table.row([
            count.to_string(),
            kind.as_str().into(),
            window.to_string(),
            rate.unwrap_or("none").to_owned(),
            order.inversions.to_string(),
            pairs.to_string(),
            format!("{:.5} %", share * 100.0),
            format!("{:.0} s", took.as_secs_f64()),
            if fits { met(order.inversions == 0) } else { "not expected".into() },
        ]);
        lane.drop().await;
    }
    table
}

//! How much memory? Idle, with a full window behind a shut gate, and what one held request takes beside its body.

use std::time::Duration;

use serde_json::json;
use sluicegate::broker::settings::QueueType;

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met};
use crate::rig::{self, Lane, Node};

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let mut table = Table::new(
        &["held", "bodies of", "resident", "most", "a request beside its body", "goal"],
        "Resident memory of the worker in MB (VmRSS, VmHWM) on a quorum queue. Held behind a shut gate: the account is frozen, so the \
         worker has halted. A request: what is resident beyond the idle worker, by the requests, less the body. \
         `window.max_bytes` is its default, 256 MiB.",
    );
    let all = usize::from(u16::MAX);
    let mut idle = 0.0;
    for (held, bytes) in
        [(0, 0), (extent.of(all), 900), (extent.of(all), 4_000), (extent.of(all), 20_000)]
    {
        let lane = Lane::new(node, QueueType::Quorum).await;
        let sandbox = rig::sandbox(json!({ "account": "frozen" })).await;
        lane.fill(held, bytes, |number| u16::try_from(number % 60_000).unwrap()).await;
        let body = rig::request(1, 1, bytes).body.len();
        let process = Process::worker(&lane, &sandbox.base_url, &Setup::default());
        rig::until("all are delivered", async || lane.ready().await == 0).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (resident, most) = process.memory();
        let (beside, goal) = if held == 0 {
            idle = resident;
            (String::new(), format!("under 40: {}", met(resident < 40.0)))
        } else {
            #[allow(clippy::cast_precision_loss)]
            let each = (resident - idle) * 1024.0 * 1024.0 / held as f64;
            #[allow(clippy::cast_precision_loss)]
            let beside = each - body as f64;
            let in_memory = held * body < 256 << 20;
            if in_memory {
                (
                    format!("{beside:.0} bytes"),
                    format!("at most 400 bytes: {}", met(beside <= 400.0)),
                )
            } else {
                (
                    "part of it is spilled".into(),
                    format!("most under 256 + 60: {}", met(most < 268.4 + 60.0)),
                )
            }
        };
        table.row([
            held.to_string(),
            format!("{body} bytes"),
            format!("{resident:.1} MB"),
            format!("{most:.1} MB"),
            beside,
            goal,
        ]);
        drop(process);
        lane.drop().await;
    }
    table
}

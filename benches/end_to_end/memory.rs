//! How much memory? Idle, with a full window behind a shut gate, and what one held request takes beside its body.

use std::time::Duration;

use serde_json::json;
use sluicegate::broker::settings::QueueType;

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met};
use crate::rig::{self, Lane, Node};

/// What [`Process::memory`] counts in.
const MB: f64 = 1e6;
/// `window.max_bytes` by default, in these.
const MAX_BYTES: f64 = (256 << 20) as f64 / MB;
/// So many are held to see what the first ones take: one-time growth (buffers, code that is read in) is theirs.
const FEW: usize = 8_192;

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let mut table = Table::new(
        &["held", "bodies of", "resident", "most", "a request beside its body", "goal"],
        format!(
            "Resident memory of the worker in MB (VmRSS, VmHWM) on a quorum queue. Held behind a shut gate: the account is \
             frozen, so the worker has halted. A request: what is resident beyond the worker that holds {FEW} of them, by \
             the further requests, less the body. `window.max_bytes` is its default, {MAX_BYTES:.1} MB; a MB is a million bytes."
        ),
    );
    let (few, all) = (extent.of(FEW), extent.of(usize::from(u16::MAX)));
    let mut first = 0.0;
    for (held, bytes) in [(0, 0), (few, 900), (all, 900), (all, 4_000), (all, 20_000)] {
        let body = rig::request(1, 1, bytes).body.len();
        let (resident, most) = held_behind_a_gate(node, held, bytes).await;
        #[allow(clippy::cast_precision_loss)]
        let beside = (resident - first) * MB / (held.max(few + 1) - few) as f64 - body as f64;
        let (beside, goal) = if held == 0 {
            (String::new(), format!("under 40: {}", met(resident < 40.0)))
        } else if held == few {
            first = resident;
            (String::new(), String::new())
        } else if held * body < 256 << 20 {
            let goal = format!("at most 400 bytes: {}", met(beside <= 400.0));
            (format!("{beside:.0} bytes"), goal)
        } else {
            let bound = MAX_BYTES + 60.0;
            let goal = format!("most under {bound:.1}: {}", met(most < bound));
            ("part of it is spilled".into(), goal)
        };
        table.row([
            held.to_string(),
            format!("{body} bytes"),
            format!("{resident:.1} MB"),
            format!("{most:.1} MB"),
            beside,
            goal,
        ]);
    }
    table
}

/// Memory of a worker that holds so many requests: resident, and the most so far.
async fn held_behind_a_gate(node: &Node, held: usize, bytes: usize) -> (f64, f64) {
    let lane = Lane::new(node, QueueType::Quorum).await;
    let sandbox = rig::sandbox(json!({ "account": "frozen" })).await;
    lane.fill(held, bytes, |number| u16::try_from(number % 60_000).unwrap()).await;
    let process = Process::worker(&lane, &sandbox.base_url, &Setup::default());
    rig::until("all are delivered", async || lane.is_delivered().await).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let memory = process.memory();
    drop(process);
    lane.drop().await;
    memory
}

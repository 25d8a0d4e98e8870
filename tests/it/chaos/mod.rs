//! Does "never lost, never twice" hold while everything breaks at once? A campaign against real workers, a real
//! RabbitMQ and the sandbox: in each round several lanes have their workers killed, their networks broken and their
//! API's answers lost, while the broker is killed under all of them. Then all is calm, and an auditor looks from
//! outside. The same seed breaks the same things in the same order.
//!
//! `scripts/chaos` runs [`the_campaign`]; a short one is part of `scripts/test`. `scripts/chaos --partition` runs [`partition`], `scripts/soak` runs [`soak`].

mod auditor;
mod breaker;
mod flat;
mod lane;
mod partition;
mod poison;
pub(crate) mod soak;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use tempfile::TempDir;
use tokio::sync::RwLock;

use crate::support::rabbit::{Lane, OwnNode};
use auditor::Found;
use lane::{Kind, Round, Shaken};

/// How much is broken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Campaign {
    pub(crate) seed: u64,
    pub(crate) rounds: u32,
    /// In each round, of all lanes together.
    pub(crate) worker_kills: u32,
    /// In each round.
    pub(crate) broker_kills: u32,
    /// In each round and lane.
    pub(crate) requests: u32,
}

/// Whether the broker may be killed: whoever publishes as a planner does holds it for reading, since what was not
/// confirmed may be published twice, and that is another test.
pub(crate) type Steady = Arc<RwLock<()>>;

const LANES: [Kind; 4] = [
    Kind { queue: QueueType::Quorum, workers: 1, silent: false },
    Kind { queue: QueueType::Classic, workers: 1, silent: false },
    Kind { queue: QueueType::Quorum, workers: 2, silent: true },
    Kind { queue: QueueType::Classic, workers: 2, silent: false },
];

impl Campaign {
    /// Runs all rounds; what was found in each lane of each round. Logs stay behind where a promise was broken.
    pub(crate) async fn run(self) -> Vec<Found> {
        let own = OwnNode::start();
        let dir = TempDir::new().unwrap();
        let lanes = self.lanes(&own).await;
        let steady = Steady::default();
        let mut all = Vec::new();
        for (number, lanes) in lanes.into_iter().enumerate() {
            let start = Instant::now();
            let round_seed = self.seed.wrapping_mul(1000).wrapping_add(number as u64);
            let lanes = lanes.into_iter().enumerate().map(|(index, (kind, lane))| {
                let name = format!("round-{number}-lane-{index}");
                let dir = dir.path().join(&name);
                std::fs::create_dir(&dir).unwrap();
                Round {
                    name,
                    kind,
                    lane,
                    dir,
                    seed: round_seed.wrapping_mul(10).wrapping_add(index as u64),
                    kills: self.worker_kills / u32::try_from(LANES.len()).unwrap(),
                    requests: self.requests,
                    steady: Arc::clone(&steady),
                }
                .shake()
            });
            let broker =
                breaker::kill(own.node.clone(), Arc::clone(&steady), self.broker_kills, round_seed);
            let (shaken, broker) = tokio::join!(join_all(lanes), broker);
            let found = join_all(shaken.into_iter().map(Shaken::audited)).await;
            for mut found in found {
                found.broker = broker;
                println!("{}", found.row());
                all.push(found);
            }
            println!("round {number} took {:.0?}", start.elapsed());
        }
        if all.iter().any(|found| !found.broken.is_empty()) {
            println!(
                "seed {}; logs of the workers are kept in {}",
                self.seed,
                dir.keep().display()
            );
        }
        all
    }

    /// All lanes are declared ahead, on a node that keeps them when it is killed.
    async fn lanes(&self, own: &OwnNode) -> Vec<Vec<(Kind, Lane)>> {
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let lanes: Vec<_> =
                LANES.iter().map(|kind| (*kind, Lane::new(&own.node, kind.queue))).collect();
            for (_, lane) in &lanes {
                topology::apply(&lane.settings, &lane.queues).await.unwrap();
            }
            rounds.push(lanes);
        }
        own.node.keeps_its_queues().await;
        rounds
    }
}

/// A table for people, and whether every promise was kept.
pub(crate) fn report(found: &[Found]) -> (String, bool) {
    let mut text = String::from(Found::HEAD);
    for row in found {
        let _ = writeln!(text, "{}", row.row());
    }
    let sum = |count: fn(&Found) -> usize| found.iter().map(count).sum::<usize>();
    let broker: u32 = found.chunks(LANES.len()).map(|round| round[0].broker).sum();
    let _ = writeln!(
        text,
        "sum: {} requests, {} poison messages, {} answered the same every time, {} worker kills, {broker} broker kills, {} created, {} twice, {} lost, {} results repeated, {} broken promises",
        sum(|found| found.requests),
        sum(|found| found.poison),
        sum(|found| found.answered),
        sum(|found| found.kills),
        sum(|found| found.created),
        sum(|found| found.twice),
        sum(|found| found.lost),
        sum(|found| found.repeats),
        sum(|found| found.broken.len()),
    );
    for row in found.iter().filter(|row| !row.broken.is_empty()) {
        let _ = writeln!(text, "{}: {}", row.name, row.broken.join("; "));
    }
    let kept = found.iter().all(|found| found.broken.is_empty());
    (text, kept)
}

/// A number from the environment of `scripts/chaos`.
fn given(name: &str, default: u32) -> u32 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_campaign() {
    let rounds = given("SLUICE_CHAOS_ROUNDS", 5);
    let campaign = Campaign {
        seed: given("SLUICE_CHAOS_SEED", 1).into(),
        rounds,
        worker_kills: given("SLUICE_CHAOS_WORKER_KILLS", 200).div_ceil(rounds),
        broker_kills: given("SLUICE_CHAOS_BROKER_KILLS", 50).div_ceil(rounds),
        requests: given("SLUICE_CHAOS_REQUESTS", 300),
    };
    println!("{campaign:?}");
    let found = campaign.run().await;
    let (text, kept) = report(&found);
    println!("{text}");
    if let Ok(path) = std::env::var("SLUICE_CHAOS_REPORT") {
        std::fs::write(path, &text).unwrap();
    }
    assert!(kept, "a promise was broken; {campaign:?}");
}

//! How much memory does a full window take? The real program behind a slow gate, with bodies from half a kilobyte to a
//! megabyte.
//!
//! `SLUICE_WINDOW=65535` is the whole window (1.7 GB of bodies); `SLUICE_CHAOS_BINARY` names another program to measure,
//! such as a release.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use tempfile::TempDir;

use crate::support::form::short_or_full;
use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::{Rig, body, publish};

const MIB: u64 = 1 << 20;

/// What a process may take beyond the bodies that it is allowed to hold.
const AROUND: u64 = 100 * 1_000_000;

/// The conditions of one run.
struct Load {
    requests: u16,
    /// Sizes are spread evenly on a logarithmic scale, raised to this power: the higher, the fewer are large.
    skew: f64,
    max_bytes: u64,
    max_hold: Duration,
    /// How long the gate is watched while it lets one call a second through.
    watched: Duration,
}

impl Load {
    fn from_env() -> Self {
        match std::env::var("SLUICE_WINDOW").ok().and_then(|n| n.parse().ok()) {
            Some(requests) => Self {
                requests,
                skew: 6.0,
                max_bytes: 256 * MIB,
                max_hold: Duration::from_secs(60),
                watched: Duration::from_secs(180),
            },
            None => Self {
                requests: short_or_full(2_000, 5_000),
                // In both there is more than the bound and what is around it.
                skew: short_or_full(1.5, 2.5),
                max_bytes: 32 * MIB,
                max_hold: Duration::from_secs(1_200),
                watched: Duration::from_secs(short_or_full(5, 10)),
            },
        }
    }

    /// The priority of each request, in the order in which they are enqueued: shuffled, and no two the same.
    fn priority(&self, n: u16) -> u16 {
        let shuffled = u64::from(n) * 48_271 % u64::from(self.requests);
        u16::try_from(shuffled).unwrap()
    }

    /// A body between 500 bytes and 1 MiB.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within a megabyte"
    )]
    fn body(&self, n: u16) -> Bytes {
        const LEAST: f64 = 500.0;
        let most = f64::from(1 << 20);
        let place = f64::from(n.wrapping_mul(40_503)) / f64::from(u16::MAX);
        let size = LEAST * (most / LEAST).powf(place.powf(self.skew));
        let mut body: serde_json::Value =
            serde_json::from_slice(&body(&format!("s{n}"), self.priority(n))).unwrap();
        // The smallest that is valid; a field that the API does not know makes it longer.
        body["target_server"]["disks"] = serde_json::json!([]);
        body["note"] = "".into();
        let room = (size as usize).saturating_sub(body.to_string().len());
        body["note"] = "x".repeat(room).into();
        body.to_string().into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_window_behind_a_slow_gate_stays_within_its_memory_and_in_order() {
    let load = Load::from_env();
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let sizes: Vec<usize> = (0..load.requests).map(|n| load.body(n).len()).collect();
    let total: usize = sizes.iter().sum();
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let bodies = (0..load.requests).map(|n| load.body(n));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;

    let dir = TempDir::new().unwrap();
    // On a busy machine a heartbeat may be late, and there is to be one session; that is other tests' business.
    let url = format!("{}?heartbeat=60", node.url);
    let mut spec = Spec::new(&url, &rig.lane.queues, &rig.sandbox.base_url, "1/s");
    spec.level = "info".to_owned();
    spec.more = format!(
        "[window]\nsize = {}\nmax_bytes = \"{}\"\nmax_hold = \"{}s\"\n",
        load.requests,
        load.max_bytes,
        load.max_hold.as_secs()
    );
    let worker = Process::start(&spec, dir.path(), "worker");
    let began = Instant::now();
    let all = usize::from(load.requests);
    let full = |status: &sluicegate::message::status::Status| {
        let window = &status.window;
        let held = window.ready + window.waiting + window.in_flight + window.settling;
        held + usize::try_from(status.settled).unwrap() >= all
    };
    worker.until("full", Duration::from_secs(500), full).await;
    let filled = began.elapsed();
    let at_full = worker.memory("VmHWM");

    // Whatever goes from now on is the most urgent of all.
    let priorities =
        || -> Vec<u16> { rig.sandbox.calls().iter().filter_map(|call| call.priority).collect() };
    let calls_before = priorities().len();
    let mut oldest: f64 = 0.0;
    let mut settled_down = 0;
    let end = Instant::now() + load.watched;
    while Instant::now() < end || priorities().len() < calls_before + 8 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Some(status) = worker.status().await else { continue };
        oldest = oldest.max(status.oldest_held_seconds.unwrap_or(0.0));
        settled_down = worker.memory("VmRSS");
    }
    let peak = worker.memory("VmHWM");
    let calls = priorities();
    let early: HashSet<u16> = calls[..=calls_before].iter().copied().collect();
    let late = &calls[calls_before + 1..];
    println!(
        "RabbitMQ {}, {all} requests of {} to {} bytes, {} MB in all; max_bytes {} MB, max_hold {:?}: full after \
         {filled:.1?} with {} MB at most; within {:?} behind 1/s at most {} MB, {} MB at the end; oldest held {oldest:.1} s; \
         {} calls in order",
        node.version,
        sizes.iter().min().unwrap(),
        sizes.iter().max().unwrap(),
        total / 1_000_000,
        load.max_bytes / 1_000_000,
        load.max_hold,
        at_full / 1_000_000,
        load.watched,
        peak / 1_000_000,
        settled_down / 1_000_000,
        late.len()
    );
    let ideal = (0..load.requests).rev().filter(|priority| !early.contains(priority));
    assert!(late.len() > 5, "{late:?}");
    assert!(late.iter().copied().eq(ideal.take(late.len())), "{late:?}");
    assert!(peak < load.max_bytes + AROUND, "{peak} bytes");
    let hold = load.max_hold.as_secs_f64();
    assert!(oldest < hold * 1.5, "held for {oldest} s");
    if load.watched > load.max_hold {
        assert!(oldest > hold * 0.8, "nothing was held long enough to be requeued: {oldest} s");
    }
    let log = worker.logged();
    assert!(!log.contains("no session"), "one session: {log}");
    assert_eq!(worker.stop().await, Some(0));
    assert_eq!(rig.sandbox.stats(&[]).created_twice.sources, 0);
    // One more may have gone since the calls were looked at.
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, rig.sandbox.calls().len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_no_bodies_makes_the_window_smaller_and_loses_nothing() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let dir = TempDir::new().unwrap();
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "100/s");
    // A directory that is not there fails as a full disk does: with every body.
    spec.temporary = Some(dir.path().join("gone"));
    spec.more = "[window]\nmax_bytes = \"1MiB\"\n".to_owned();
    let worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    // Six times as much as memory may hold.
    let count = 120;
    let big = |n| {
        let mut body: serde_json::Value =
            serde_json::from_slice(&body(&format!("s{n}"), 1)).unwrap();
        body["note"] = "x".repeat(50_000).into();
        Bytes::from(body.to_string())
    };
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), (0..count).map(big)).await;
    // A session ends with each body that finds no room, so a result may be there twice: one run for each request.
    rig.results(count).await;
    let metrics = worker.get("/metrics").await.unwrap().1;
    let failures = metrics.lines().find(|line| line.starts_with("sluice_spill_failures_total"));
    let failures: u64 = failures.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(failures > 0 && worker.logged().contains("fewer requests are held from now on"));
    rig.nothing_left_and_nothing_twice().await;
    assert_eq!(worker.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_invalid_requests_is_told_in_short_where_there_is_no_room_and_each_is_a_dead_letter()
 {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let count = 500;
    // A hundred rules broken in each, and 40 kB.
    let wrong = |n| {
        let mut body: serde_json::Value =
            serde_json::from_slice(&body(&format!("s{n}"), 1)).unwrap();
        let disk = serde_json::json!({ "name": 1, "size": "big", "device_use": 2 });
        body["target_server"]["disks"] = vec![disk; 50].into();
        body["note"] = "x".repeat(40_000).into();
        Bytes::from(body.to_string())
    };
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), (0..count).map(wrong)).await;
    let dir = TempDir::new().unwrap();
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "100/s");
    // A few at a time have room for all that is to be said of them.
    let max_bytes = MIB / 4;
    spec.more = format!("[window]\nmax_bytes = \"{max_bytes}\"\n");
    let worker = Process::start(&spec, dir.path(), "worker");
    let results = rig.results(count).await;
    let peak = worker.memory("VmHWM");
    let told = results.iter().map(|result| &result.data.violations);
    let (all, few): (Vec<_>, Vec<_>) = told.partition(|violations| violations.len() > 50);
    println!(
        "{count} invalid requests: {} MB at most; {} told in short",
        peak / 1_000_000,
        few.len()
    );
    assert!(!all.is_empty() && !few.is_empty(), "{} and {}", all.len(), few.len());
    for violations in few {
        let (last, first) = violations.split_last().unwrap();
        assert!(first.len() == 3 && last.found == "further violations", "{violations:?}");
    }
    assert!(peak < max_bytes + AROUND, "{peak} bytes");
    let client = rig.lane.client().await;
    client.wait_for_depth(&rig.lane.queues.dead_letters(), u32::try_from(count).unwrap()).await;
    client.wait_for_depth(&rig.lane.queues.requests(), 0).await;
    assert_eq!(worker.stop().await, Some(0));
}

//! Does a worker stay as it was for hours? One process under a steady flow of requests while its network, the broker, the
//! account and the API's answers fail now and then. Memory, open files and series must be flat, and then the auditor
//! looks whether the promises were kept. `scripts/soak` runs it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::sandbox::{Options, Sandbox, TOKEN};
use tempfile::TempDir;

use super::auditor::{self, Found};
use super::{Steady, breaker, given};
use crate::support::process::{Process, Spec};
use crate::support::proxy::{Carry, Door, How, Proxy};
use crate::support::rabbit::{Lane, OwnNode};
use crate::support::rig::{body, properties};

/// Requests come in handfuls, this often.
const EVERY: Duration = Duration::from_secs(5);
/// How often the process is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A window that is full of memories soon: what is remembered of settled runs is bounded by it.
const WINDOW: u32 = 1_024;
/// KiB. The client library has 4 MiB for each direction of a session's two connections, which become resident with what has
/// gone through them, and end with the session.
const BUFFERS: u64 = 4 * 4 * 1_024;

/// The process at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// KiB resident.
    memory: u64,
    files: u64,
    series: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_flow_with_faults() {
    let lasts = Duration::from_secs(60 * u64::from(given("SLUICE_SOAK_MINUTES", 60)));
    soak(given("SLUICE_SOAK_SEED", 1).into(), given("SLUICE_SOAK_RATE", 12), lasts).await;
}

/// Fails where something was not flat, or a promise was broken.
pub(crate) async fn soak(seed: u64, rate: u32, lasts: Duration) {
    let own = OwnNode::start();
    let lane = Lane::new(&own.node, QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    // A quorum queue of a single node survives a kill only when it is some seconds old.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let sandbox = sandbox(seed).await;
    let proxy = Proxy::start(crate::rabbit::failover::address_of(&lane.url)).await;
    let dir = TempDir::new().unwrap();
    let mut process = Process::start(&spec(&lane, &proxy, &sandbox), dir.path(), "worker");
    process.active().await;

    let (steady, start) = (Steady::default(), Instant::now());
    let flow = flow(&lane, &steady, rate, start, lasts);
    let faults = faults(&own, &steady, &proxy, &sandbox, seed, start, lasts);
    let samples = samples(&process, start, lasts);
    let (requests, mut found, samples) = tokio::join!(flow, faults, samples);

    sandbox.set_faults(Vec::new()).unwrap();
    found.requests = requests;
    let results = auditor::settled(&lane, requests).await;
    let ended = !process.is_running();
    let code = process.stop().await;
    let mut found = auditor::audit(&lane, &sandbox, results, found).await;
    if ended || code != Some(0) {
        found.broken.push(format!("the worker ended by itself: {ended}; its exit code: {code:?}"));
    }
    found.broken.extend(rises(&samples, lasts));
    let text = report(&found, &samples, lasts);
    println!("{text}");
    if let Ok(path) = std::env::var("SLUICE_SOAK_REPORT") {
        std::fs::write(path, &text).unwrap();
    }
    if !found.broken.is_empty() {
        let logs = dir.keep();
        panic!(
            "seed {seed}; {}; the worker's log is in {}",
            found.broken.join("; "),
            logs.display()
        );
    }
}

async fn sandbox(seed: u64) -> Sandbox {
    let patch = json!({ "seed": seed, "tasks": { "allow_doubles": true, "running": "100h", "max_running": 1_000_000 } });
    let mut options = Options::default().patched(&patch).unwrap();
    options.faults = breaker::faults();
    Sandbox::start(options).await.unwrap()
}

fn spec(lane: &Lane, proxy: &Proxy, sandbox: &Sandbox) -> Spec {
    let url = format!("{}?heartbeat=2", crate::rabbit::failover::through(&lane.url, proxy));
    let mut spec = Spec::new(&url, &lane.queues, &sandbox.base_url, "80/s");
    spec.look_again = Duration::from_secs(3);
    spec.auth = format!("token = {TOKEN:?}");
    // Debug lines of hours are of no use to anybody.
    "info".clone_into(&mut spec.level);
    spec.more = format!("[window]\nsize = {WINDOW}\n");
    spec
}

/// Lets requests come until the end; how many.
async fn flow(lane: &Lane, steady: &Steady, rate: u32, start: Instant, lasts: Duration) -> usize {
    let mut number = 0_u32;
    let mut next = start;
    while start.elapsed() < lasts {
        let quiet = steady.read().await;
        auditor::reachable(lane).await;
        let client = lane.client().await;
        for _ in 0..rate * u32::try_from(EVERY.as_secs()).unwrap() {
            let priority = u16::try_from(number.wrapping_mul(7919) % 65_536).unwrap();
            let body = body(&format!("s{number}"), priority);
            client.publish(&lane.queues.requests(), &body, properties(&number.to_string())).await;
            number += 1;
        }
        let _ = client.connection.close(200, "published".into()).await;
        drop(quiet);
        next += EVERY;
        tokio::time::sleep_until(next.into()).await;
    }
    number as usize
}

/// Breaks something every few seconds, until a minute before the end at the latest.
async fn faults(
    own: &OwnNode,
    steady: &Steady,
    proxy: &Proxy,
    sandbox: &Sandbox,
    seed: u64,
    start: Instant,
    lasts: Duration,
) -> Found {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut found = Found { name: "soak".to_owned(), ..Found::default() };
    while start.elapsed() + Duration::from_secs(30) < lasts {
        tokio::time::sleep(breaker::millis(&mut random, 4_000..12_000)).await;
        let name = match random.random_range(0..10) {
            0 => {
                let kills = breaker::kill(own.node.clone(), Arc::clone(steady), 1, random.random());
                found.broker += kills.await;
                continue;
            }
            1..4 => breaker::account(sandbox, &mut random).await,
            _ => breaker::network(proxy, false, &mut random).await,
        };
        *found.broke.entry(name).or_default() += 1;
    }
    proxy.carry(Carry::Pass);
    proxy.door(Door::Open).await;
    proxy.cut(How::Reset);
    found
}

async fn samples(process: &Process, start: Instant, lasts: Duration) -> Vec<Sample> {
    let mut samples = Vec::new();
    while start.elapsed() < lasts {
        tokio::time::sleep(LOOK).await;
        let Some((200, metrics)) = process.get("/metrics").await else { continue };
        let series = metrics.lines().filter(|line| !line.starts_with('#')).count() as u64;
        samples.push(Sample { memory: memory(process.id()), files: files(process.id()), series });
    }
    samples
}

fn memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn files(id: u32) -> u64 {
    std::fs::read_dir(Path::new("/proc").join(id.to_string()).join("fd")).unwrap().count() as u64
}

/// The lowest and the highest value of a quarter.
#[derive(Clone, Copy, Debug)]
struct Range {
    low: u64,
    high: u64,
}

/// Of the second and of the last quarter: the first one is the time of filling up.
fn quarters(samples: &[Sample], value: fn(&Sample) -> u64) -> (Range, Range) {
    let quarter = samples.len() / 4;
    let range = |part: &[Sample]| Range {
        low: part.iter().map(value).min().unwrap_or(0),
        high: part.iter().map(value).max().unwrap_or(0),
    };
    (range(&samples[quarter..2 * quarter]), range(&samples[samples.len() - quarter..]))
}

/// What was not flat.
fn rises(samples: &[Sample], lasts: Duration) -> Vec<String> {
    let mut rises = Vec::new();
    let mut flat = |what: &str, before: u64, after: u64, room: u64| {
        if after > before + room {
            rises.push(format!("{what} rose from {before} to {after}"));
        }
    };
    let (before, after) = quarters(samples, |sample| sample.memory);
    // In the first minutes what the worker remembers of ended runs still fills up and the allocator warms: only a
    // coarse leak shows there, such as bodies that are kept. The rest takes the hour.
    let warming = if lasts < Duration::from_secs(600) { 32 * 1_024 } else { 2_048 };
    let room = before.low / 20 + warming;
    // What stays for ever is there at the lowest moment, too; the highest says how long a session lasted as well.
    flat("the lowest memory (KiB)", before.low, after.low, room);
    flat("the highest memory (KiB)", before.high, after.high, room + BUFFERS);
    // A session that ends while the next begins holds its sockets for a moment.
    let (before, after) = quarters(samples, |sample| sample.files);
    flat("open files", before.high, after.high, 8);
    let (before, after) = quarters(samples, |sample| sample.series);
    flat("series", before.high, after.high, 0);
    rises
}

fn report(found: &Found, samples: &[Sample], lasts: Duration) -> String {
    let row = |what: &str, value: fn(&Sample) -> u64| {
        let (before, after) = quarters(samples, value);
        format!("{what} | {} to {} | {} to {}\n", before.low, before.high, after.low, after.high)
    };
    format!(
        "{}{}\n{lasts:?}, {} looks at the process\nlowest to highest of | second quarter | last quarter\n--- | --- | ---\n{}{}{}",
        Found::HEAD,
        found.row(),
        samples.len(),
        row("memory (KiB)", |sample| sample.memory),
        row("open files", |sample| sample.files),
        row("series", |sample| sample.series),
    )
}

mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A look every two seconds of an hour at a worker whose sessions last so many looks each, take in 40 KiB with each of
    /// them, and leave so many bytes behind with each of 12 requests a second.
    fn hour(lasts: fn(u64) -> u64, leak: u64) -> Vec<Sample> {
        let mut age = 0;
        let look = |n: u64| {
            age = if age >= lasts(n) { 0 } else { age + 1 };
            let memory = 40_000 + (40 * age).min(BUFFERS) + n * 24 * leak / 1_024;
            Sample { memory, files: 20, series: 100 }
        };
        (0..1_800).map(look).collect()
    }

    #[test]
    fn sessions_that_last_longer_are_no_leak_and_a_leak_of_256_bytes_a_request_is_one() {
        let longer = |n: u64| 20 + n / 10;
        assert_eq!(rises(&hour(longer, 0), HOUR), Vec::<String>::new());
        let leaking = rises(&hour(|_| 20, 256), HOUR);
        assert!(leaking.len() == 1 && leaking[0].contains("lowest memory"), "{leaking:?}");
        let more = hour(longer, 1_024);
        let (before, after) = quarters(&more, |sample| sample.memory);
        assert!(after.high > before.high + BUFFERS, "{before:?} {after:?}");
        assert_eq!(rises(&more, HOUR).len(), 2);
    }

    #[test]
    fn files_and_series_that_grow_are_told() {
        let mut samples = hour(|_| 20, 0);
        let last = samples.last_mut().unwrap();
        (last.files, last.series) = (29, 101);
        let told = rises(&samples, HOUR);
        assert!(told[0].contains("open files") && told[1].contains("series"), "{told:?}");
    }
}

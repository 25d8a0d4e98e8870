//! Does a worker stay as it was for hours? One process under a steady flow of requests while its network, the broker, the
//! account and the API's answers fail now and then, and in calm sessions between and after that. Memory, open files and
//! series must be flat, and then the auditor looks whether the promises were kept. `scripts/soak` runs it.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::message::status::SessionStatus;
use sluicegate::sandbox::{Options, Sandbox, TOKEN};
use tempfile::TempDir;

use super::auditor::{self, Found};
use super::flat::{LOOK, Plan, SHORT, Sample};
use super::{Steady, breaker, given};
use crate::support::process::{Process, Spec};
use crate::support::proxy::{Carry, Door, How, Proxy};
use crate::support::rabbit::{Lane, OwnNode};
use crate::support::rig::{body, properties};

/// Requests come in handfuls, this often.
const EVERY: Duration = Duration::from_secs(5);
/// A window that is full of memories soon: what is remembered of settled runs is bounded by it.
const WINDOW: u32 = 1_024;
/// Calls a second that the worker may make. Half as many more are let pass: this process, which counts them, may stand still
/// for a moment, and takes in at once what came meanwhile.
const QUOTA: u64 = 80;
/// The bytes of all bodies of a short run together: if it kept them, that would be seen.
const LARGE: u64 = 65_000_000;

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
    own.node.keeps_its_queues().await;
    let sandbox = sandbox(seed).await;
    let proxy = Proxy::start(crate::rabbit::failover::address_of(&lane.url)).await;
    let dir = TempDir::new().unwrap();
    let mut process = Process::start(&spec(&lane, &proxy, &sandbox), dir.path(), "worker");
    process.active().await;

    let (steady, start, plan) = (Steady::default(), Instant::now(), Plan::of(lasts));
    let flow = flow(&lane, &steady, rate, start, lasts);
    let faults = faults(&own, &steady, &proxy, &sandbox, seed, start, &plan.faults);
    let samples = samples(&process, start, lasts);
    let (requests, mut found, samples) = tokio::join!(flow, faults, samples);

    sandbox.set_faults(Vec::new()).unwrap();
    found.requests = requests;
    let results = auditor::settled(&lane, requests, |_| true).await;
    let ended = !process.is_running();
    let code = process.stop().await;
    let mut found = auditor::audit(&lane, &sandbox, results, found).await;
    if ended || code != Some(0) {
        found.broken.push(format!("the worker ended by itself: {ended}; its exit code: {code:?}"));
    }
    found.broken.extend(plan.rises(&samples));
    let second = Duration::from_secs(1);
    let busiest = sandbox.stats(&[second]).max_in(second).unwrap_or_default();
    if !(1..=QUOTA * 3 / 2).contains(&busiest) {
        found.broken.push(format!("{busiest} calls in the busiest second, at {QUOTA}/s"));
    }
    let mut text = report(&found, &samples, &plan);
    let _ = writeln!(text, "busiest second: {busiest} calls, at {QUOTA}/s");
    println!("{text}");
    if let Ok(path) = std::env::var("SLUICE_SOAK_REPORT") {
        std::fs::write(path, &text).unwrap();
    }
    if let Ok(path) = std::env::var("SLUICE_SOAK_SAMPLES") {
        std::fs::write(path, rows(&samples)).unwrap();
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
    // A quota that refuses one call in a hundred at any rate holds the worker at some 16 calls a second, and the flow, its
    // retries and its look-ups are more: that is an overload, not a steady flow.
    for fault in options.faults.iter_mut().filter(|fault| fault.name == "429") {
        fault.probability = 0.001;
    }
    Sandbox::start(options).await.unwrap()
}

fn spec(lane: &Lane, proxy: &Proxy, sandbox: &Sandbox) -> Spec {
    let url = format!("{}?heartbeat=2", crate::rabbit::failover::through(&lane.url, proxy));
    let mut spec = Spec::new(&url, &lane.queues, &sandbox.base_url, &format!("{QUOTA}/s"));
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
            let body = sized(&body(&format!("s{number}"), priority), rate, lasts);
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

/// The body, made large in a short run: see [`SHORT`].
fn sized(body: &[u8], rate: u32, lasts: Duration) -> Vec<u8> {
    let size = LARGE / lasts.as_secs().max(1) / u64::from(rate);
    let mut body: serde_json::Value = serde_json::from_slice(body).unwrap();
    if lasts < SHORT {
        body["note"] = "x".repeat(usize::try_from(size).unwrap()).into();
    }
    serde_json::to_vec(&body).unwrap()
}

/// Breaks something every few seconds, within those times from the start.
async fn faults(
    own: &OwnNode,
    steady: &Steady,
    proxy: &Proxy,
    sandbox: &Sandbox,
    seed: u64,
    start: Instant,
    times: &[Range<Duration>],
) -> Found {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut found = Found { name: "soak".to_owned(), ..Found::default() };
    for time in times {
        tokio::time::sleep_until((start + time.start).into()).await;
        while time.contains(&start.elapsed()) {
            tokio::time::sleep(breaker::millis(&mut random, 4_000..12_000)).await;
            let name = match random.random_range(0..10) {
                0 => {
                    let (node, steady) = (own.node.clone(), Arc::clone(steady));
                    found.broker += breaker::kill(node, steady, 1, random.random()).await;
                    continue;
                }
                1..4 => breaker::account(sandbox, &mut random).await,
                _ => breaker::network(proxy, false, &mut random).await,
            };
            *found.broke.entry(name).or_default() += 1;
        }
        // With the calm begins a session.
        proxy.carry(Carry::Pass);
        proxy.door(Door::Open).await;
        proxy.cut(How::Reset);
    }
    found
}

async fn samples(process: &Process, start: Instant, lasts: Duration) -> Vec<Sample> {
    let mut samples = Vec::new();
    while start.elapsed() < lasts {
        tokio::time::sleep(LOOK).await;
        let Some((200, metrics)) = process.get("/metrics").await else { continue };
        let series = metrics.lines().filter(|line| !line.starts_with('#')).count() as u64;
        let Some(status) = process.status().await else { continue };
        let (memory, files) = (memory(process.id()), files(process.id()));
        let session = match status.session {
            SessionStatus::Active { since, .. } => Some(since),
            _ => None,
        };
        samples.push(Sample { at: start.elapsed(), memory, files, series, session });
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

fn report(found: &Found, samples: &[Sample], plan: &Plan) -> String {
    let (looks, table) = (samples.len(), plan.table(samples));
    format!("{}{}\n{plan:?}, {looks} looks at the process\n{table}", Found::HEAD, found.row())
}

/// All looks at the process as CSV.
fn rows(samples: &[Sample]) -> String {
    let mut rows = "seconds,memory_kib,files,series,session\n".to_owned();
    for Sample { at, memory, files, series, session } in samples {
        let session = session.map(|since| since.to_string()).unwrap_or_default();
        let _ = writeln!(rows, "{},{memory},{files},{series},{session}", at.as_secs());
    }
    rows
}

//! Who goes on when one is gone? Two real workers, and clusters that lose a node.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sluicegate::broker::settings::QueueType;
use sluicegate::core::Outcome;
use sluicegate::message::status::SessionStatus;
use sluicegate::sandbox::Options as SandboxOptions;
use tempfile::TempDir;

use super::peers::without_lane;
use crate::support::form::short_or_full;
use crate::support::process::{Process, Spec, is_active};
use crate::support::proxy::{Carry, How, Proxy};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, body, outcomes, publish};

const BOTH: [QueueType; 2] = [QueueType::Quorum, QueueType::Classic];

/// Several tasks for one source server are possible, so that a client's doubles are seen; an option each worker has a
/// name of its own in the log of calls.
pub(crate) fn sandbox() -> SandboxOptions {
    let tasks = serde_json::json!({ "tasks": { "allow_doubles": true, "running": "1h" } });
    SandboxOptions::default().patched(&tasks).unwrap()
}

fn spec(rig: &Rig, url: &str, rate: &str) -> Spec {
    Spec::new(url, &rig.lane.queues, &rig.sandbox.base_url, rate)
}

pub(crate) async fn enqueue(rig: &Rig, count: usize) {
    let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
}

async fn until_created(rig: &Rig, count: u64) {
    until_created_within(rig, count, SOON).await;
}

async fn until_created_within(rig: &Rig, count: u64, patience: Duration) {
    rig.created_within(patience, count).await;
}

/// Every request has one result, `created`; every source server one task; the queues are empty.
pub(crate) async fn all_created_once(rig: &Rig, count: usize) {
    let results = rig.results(count).await;
    assert!(
        outcomes(&results).keys().all(|outcome| *outcome == Outcome::Created),
        "{:?}",
        outcomes(&results)
    );
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, count as u64);
    rig.nothing_left_and_nothing_twice().await;
    rig.lane.client().await.wait_for_depth(&rig.lane.queues.dead_letters(), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_within_three_seconds_of_the_end_of_the_active_worker() {
    for kind in BOTH {
        let dir = TempDir::new().unwrap();
        let rig = Rig::with(Lane::new(&Node::shared(), kind), sandbox()).await;
        let spec = spec(&rig, &Node::shared().url, "60/s");
        let mut first = Process::start(&spec, dir.path(), "first");
        first.active().await;
        let second = Process::start(&spec, dir.path(), "second");
        second.standby().await;
        let (code, ready) = second.get("/readyz").await.unwrap();
        assert!(code == 200 && ready.contains("standby"), "{code} {ready}");
        let metric = |text: &str, value: u8| {
            without_lane(text).contains(&format!("\nsluice_consumer_active {value}"))
        };
        assert!(metric(&second.get("/metrics").await.unwrap().1, 0));
        let count = 300;
        enqueue(&rig, count).await;
        until_created(&rig, 60).await;
        first.kill();
        let took = second.until("active", SOON, is_active).await;
        println!("{kind:?}: the standby was active {took:?} after kill -9 of the active worker");
        assert!(took < Duration::from_secs(3), "{took:?}");
        all_created_once(&rig, count).await;
        let (code, ready) = second.get("/readyz").await.unwrap();
        assert!(code == 200 && ready.contains("\"active\""), "{code} {ready}");
        assert!(metric(&second.get("/metrics").await.unwrap().1, 1));
        assert_eq!(second.stop().await, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_cut_off_starts_nothing_after_it_has_noticed_and_the_standby_goes_on() {
    let heartbeat = Duration::from_secs(short_or_full(2, 4));
    let dir = TempDir::new().unwrap();
    let node = Node::shared();
    let rig = Rig::with(Lane::new(&node, QueueType::Quorum), sandbox()).await;
    let broker = Proxy::start(address_of(&node.url)).await;
    // The first worker's way to the API is its own too, so that its calls can be told from the second one's.
    let first_api =
        Proxy::start(rig.sandbox.base_url.trim_start_matches("http://").parse().unwrap()).await;
    let beat = |url: &str| format!("{url}?heartbeat={}", heartbeat.as_secs());
    let mut cut_off = spec(&rig, &beat(&through(&node.url, &broker)), "20/s");
    cut_off.endpoint = format!("http://{}", first_api.address);
    cut_off.look_again = 4 * heartbeat;
    let mut other = spec(&rig, &beat(&node.url), "20/s");
    other.look_again = 4 * heartbeat;

    let first = Process::start(&cut_off, dir.path(), "first");
    first.active().await;
    let second = Process::start(&other, dir.path(), "second");
    second.standby().await;
    let count = short_or_full(150, 300);
    enqueue(&rig, count).await;
    until_created(&rig, 40).await;

    let (cut, cut_at) = (Instant::now(), jiff::Timestamp::now());
    broker.carry(Carry::Swallow);
    let detached = |status: &sluicegate::message::status::Status| {
        matches!(status.session, SessionStatus::Detached { .. })
    };
    first.until("detached", SOON, detached).await;
    // What was in flight at that moment may still be on its way.
    first.until("at rest", SOON, |status| status.window.in_flight == 0).await;
    // From here on every connection to the API through the first worker's way would be seen.
    let connections = first_api.accepted();
    first_api.cut(How::Close);
    second.until("active", SOON, is_active).await;
    let took = cut.elapsed();
    assert!(took < 3 * heartbeat + Duration::from_secs(3), "{took:?}");
    all_created_once(&rig, count).await;
    assert_eq!(first_api.accepted(), connections, "the cut-off worker called the API");
    // The network is back: it is the standby now.
    broker.carry(Carry::Pass);
    broker.cut(How::Reset);
    first.standby().await;
    let log = first.log.clone();
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));

    let (noticed_at, begun) = calls_of(&log, cut_at);
    let noticed = noticed_at.duration_since(cut_at);
    println!(
        "cut off silently, heartbeat {heartbeat:?}: noticed after {noticed:#}, standby active after {took:?}"
    );
    assert!(noticed.unsigned_abs() <= 2 * heartbeat + Duration::from_secs(2), "{noticed:#}");
    assert!(begun.len() >= 40, "{begun:?}");
    // Half of the time between two calls at 20/s: one that begins afterwards would be later, and not alone.
    let room = jiff::SignedDuration::from_millis(25);
    let late: Vec<_> = begun.iter().filter(|at| **at > noticed_at + room).collect();
    assert!(late.is_empty(), "noticed at {noticed_at}, and then began calls at {late:?}");
}

/// By its log: when a worker first noticed after `cut_at` that its session was lost, and when it began each of its POSTs and
/// looks, to a millisecond.
fn calls_of(log: &Path, cut_at: jiff::Timestamp) -> (jiff::Timestamp, Vec<jiff::Timestamp>) {
    let (mut noticed_at, mut begun) = (None, Vec::new());
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let at: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        match line["message"].as_str().unwrap() {
            "the session with the broker was lost" if at > cut_at => {
                noticed_at.get_or_insert(at);
            }
            "attempted" | "looked" => {
                let took = line["took_ms"].as_i64().unwrap();
                begun.push(at - jiff::SignedDuration::from_millis(took));
            }
            _ => {}
        }
    }
    (noticed_at.expect("the session was lost"), begun)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_loses_its_leader_in_the_middle_and_nothing_is_lost_or_created_twice() {
    let cluster = Cluster::start();
    let dir = TempDir::new().unwrap();
    let rig = Rig::with(Lane::at(&cluster.urls[0], QueueType::Quorum), sandbox()).await;
    let mut spec = spec(&rig, "", "100/s");
    spec.urls.clone_from(&cluster.urls);
    let worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    // Asked before the flow: the answer takes seconds, in which all of it could be through.
    let leader = cluster.leader_of(&rig.lane.queues.requests());
    let count = short_or_full(1000, 2000);
    enqueue(&rig, count).await;
    until_created(&rig, short_or_full(200, 600)).await;
    let killed = Instant::now();
    cluster.script("kill", leader, &[]);
    // The plain clients of this test go to a node that is left.
    let left = &cluster.urls[(leader + 1) % 3];
    let rig = Rig { lane: Lane { url: left.clone(), ..rig.lane }, sandbox: rig.sandbox };
    let before = rig.sandbox.stats(&[]).tasks.created;
    assert!(
        before + 50 < count as u64,
        "{before} of {count} were through: that was not in the middle"
    );
    until_created_within(&rig, before + 50, SOON + Duration::from_secs(60)).await;
    println!("node {leader} led and was killed; 50 more tasks {:?} later", killed.elapsed());
    all_created_once(&rig, count).await;
    assert_eq!(worker.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_keeps_the_worker_running_and_costs_one_log_in() {
    let dir = TempDir::new().unwrap();
    let rig = Rig::with(Lane::new(&Node::shared(), QueueType::Quorum), sandbox()).await;
    let mut spec = spec(&rig, &Node::shared().url, "20/s");
    let (domain, user, _) = sluicegate::sandbox::USER;
    spec.auth = format!(
        "kind = \"iam_password\"\niam_endpoint = {:?}\ndomain = {domain:?}\nuser = {user:?}\npassword = \"not-this-one\"",
        rig.sandbox.base_url
    );
    let mut worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    enqueue(&rig, 50).await;
    worker.until("halted", SOON, |status| status.gate.detail.is_some() && !status.gate.open).await;
    // Two probes would have had the time.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(worker.is_running(), "a supervisor that starts it again would log in again");
    let log_ins =
        rig.sandbox.calls().iter().filter(|call| call.path.contains("auth/tokens")).count();
    assert_eq!(log_ins, 1);
    let (code, ready) = worker.get("/readyz").await.unwrap();
    assert!(code == 200 && ready.contains("IAM") && !ready.contains("not-this-one"), "{ready}");
    assert_eq!(worker.stop().await, Some(0));
    let client = rig.lane.client().await;
    client.wait_for_depth(&rig.lane.queues.requests(), 50).await;
    client.wait_for_depth(&rig.lane.queues.dead_letters(), 0).await;
}

pub(crate) fn address_of(url: &str) -> std::net::SocketAddr {
    let rest = url.rsplit_once('@').expect("user").1;
    rest.split_once('/').expect("vhost").0.parse().unwrap()
}

/// The same url, another way.
pub(crate) fn through(url: &str, proxy: &Proxy) -> String {
    url.replace(&address_of(url).to_string(), &proxy.address.to_string())
}

/// Three nodes, ended when dropped.
pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) urls: Vec<String>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let version = Node::shared().version;
        let dir = tempfile::Builder::new().prefix("sluice-cluster-").tempdir().unwrap();
        let process = std::process::id().to_string();
        let mut options = vec!["3", "--version", &version, "--no-management", "--with", &process];
        // A lost node may only be out of sight, so from 4.3 on a quorum queue waits a minute before it hands on what the
        // consumers there held.
        if version == "4.3" && short_or_full(true, false) {
            options.extend(["--conf", "consumer_disconnected_timeout = 5000"]);
        }
        run(dir.path(), "cluster", &options);
        let env = std::fs::read_to_string(dir.path().join("env")).unwrap();
        let urls = env.lines().find_map(|line| line.strip_prefix("AMQP_URLS=")).expect("urls");
        Self { urls: urls.split(',').map(str::to_owned).collect(), dir }
    }

    /// The number of the node on which a quorum queue's leader runs, from 0.
    fn leader_of(&self, queue: &str) -> usize {
        let list = run(&self.node(0), "ctl", &["list_queues", "name", "pid"]);
        let line = list.lines().find(|line| line.starts_with(queue)).expect("the queue is listed");
        (0..3)
            .find(|node| line.contains(&self.name_of(*node)))
            .unwrap_or_else(|| panic!("no node of the cluster in: {line}"))
    }

    /// What Erlang calls the node.
    pub(crate) fn name_of(&self, node: usize) -> String {
        let settings = std::fs::read_to_string(self.node(node).join("settings")).unwrap();
        settings.lines().find_map(|line| line.strip_prefix("NODE=")).unwrap().to_owned()
    }

    pub(crate) fn script(&self, what: &str, node: usize, arguments: &[&str]) {
        run(&self.node(node), what, arguments);
    }

    fn node(&self, node: usize) -> PathBuf {
        self.dir.path().join((node + 1).to_string())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq");
        let _ = Command::new(script).arg("stop").arg(self.dir.path()).output();
    }
}

fn run(dir: &Path, what: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq");
    let output = Command::new(script).arg(what).arg(dir).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/rabbitmq {what}: {told}{trouble}");
    told
}

//! Several accounts in one process: `sluice run -c a.toml -c b.toml`, and what one lane's trouble does to the other.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::Account;
use sluicegate::status::Status;

use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, body, publish};

/// A worker process; killed when dropped.
struct Worker {
    child: Child,
    http: SocketAddr,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    fn start(lanes: &[(&str, &Rig, &str)], dir: &std::path::Path) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().arg("run").stdout(Stdio::null()).stderr(Stdio::null());
        for (name, rig, limits) in lanes {
            let path = dir.join(format!("{name}.toml"));
            let url = rig.lane.settings.urls().unwrap().iter().next().unwrap().expose().to_owned();
            let mut file = std::fs::File::create(&path).unwrap();
            write!(
                file,
                "[broker]\nurl = {url:?}\n[queues]\nprefix = {:?}\n[api]\nendpoint = {:?}\n[api.auth]\ntoken = {:?}\n\
                 [http]\nlisten = \"{http}\"\n[log]\nlevel = \"warn\"\n[window]\nsize = 65535\nmax_bytes = \"16MiB\"\n{limits}",
                rig.lane.queues.prefix, rig.sandbox.base_url, sluicegate::sandbox::TOKEN
            )
            .unwrap();
            command.arg("-c").arg(path);
        }
        Self { child: command.spawn().unwrap(), http }
    }

    async fn get(&self, path: &str) -> Option<String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::get(format!("http://{}{path}", self.http)).await.ok()?.text().await.ok()
    }

    /// The lanes' status, once all are as `wanted`.
    async fn lanes(&self, wanted: impl Fn(&[Status]) -> bool) -> Vec<Status> {
        let end = Instant::now() + 4 * SOON;
        let mut lanes: Vec<Status> = Vec::new();
        while Instant::now() < end {
            if let Some(text) = self.get("/status").await {
                lanes = serde_json::from_str(&text).unwrap();
                if wanted(&lanes) {
                    return lanes;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{lanes:#?}");
    }
}

/// What the API saw of a lane in which one request is enqueued after the other: calls a second while many wait, and how
/// long each of several single ones took from being published to being called.
struct Measured {
    per_second: f64,
    latencies: Vec<Duration>,
}

async fn measure(rig: &Rig, name: &str, rate: u32) -> Measured {
    const BURST: usize = 150;
    let queue = rig.lane.queues.requests();
    let client = rig.lane.client().await;
    let before = rig.sandbox.calls().len();
    publish(&client, &queue, (0..BURST).map(|n| body(&format!("{name}-{n}"), 1))).await;
    while rig.sandbox.calls().len() < before + BURST {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let calls = rig.sandbox.calls();
    let span = calls[before + BURST - 1].started.duration_since(calls[before].started);
    #[allow(clippy::cast_precision_loss)]
    let per_second = (BURST - 1) as f64 / span.as_secs_f64();
    let mut latencies = Vec::new();
    for n in 0..20 {
        // The permit of the next call is there before it comes.
        tokio::time::sleep(Duration::from_secs(2) / rate).await;
        let at = rig.sandbox.calls().len();
        let published = Instant::now();
        publish(&client, &queue, [body(&format!("{name}-single-{n}"), 1)]).await;
        while rig.sandbox.calls().len() <= at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        latencies.push(published.elapsed());
    }
    latencies.sort();
    Measured { per_second, latencies }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_halted_and_flooded_does_not_touch_the_other() {
    let flood = std::env::var("SLUICE_FLOOD").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let node = Node::shared();
    let sick = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let well = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let dir = tempfile::tempdir().unwrap();
    let rates = "[limits]\nrates = [\"20/s\"]\n";
    let worker = Worker::start(&[("sick", &sick, rates), ("well", &well, rates)], dir.path());
    worker.lanes(|lanes| lanes.len() == 2 && lanes.iter().all(Status::is_ready)).await;
    let alone = measure(&well, "alone", 20).await;
    sick.sandbox.set_account(Account::Frozen);
    let queue = sick.lane.queues.requests();
    let client = sick.lane.client().await;
    for batch in 0..flood / 1_000 {
        publish(&client, &queue, (0..1_000).map(|n| body(&format!("f{batch}-{n}"), 1))).await;
    }
    let lanes = worker
        .lanes(|lanes| lanes[0].gate.reason == Some(sluicegate::core::gate::Reason::Halted))
        .await;
    assert!(lanes[0].why().contains("the account refuses"), "{}", lanes[0].why());
    let beside = measure(&well, "beside", 20).await;
    let median = |measured: &Measured| measured.latencies[measured.latencies.len() / 2];
    println!(
        "alone {:.3}/s, median latency {:?}; beside a lane that is halted and holds {} of {flood}: {:.3}/s, {:?}",
        alone.per_second,
        median(&alone),
        lanes[0].window.ready + lanes[0].window.waiting,
        beside.per_second,
        median(&beside)
    );
    // Generous, for the machine may be busy with something else; the figures are printed.
    assert!(beside.per_second > alone.per_second * 0.8);
    assert!(median(&beside) < median(&alone) + Duration::from_millis(250));
    let metrics = worker.get("/metrics").await.unwrap();
    for line in ["sluice_gate_open{lane=\"sick\"} 0", "sluice_gate_open{lane=\"well\"} 1"] {
        assert!(metrics.contains(line), "{line} is missing");
    }
    assert_eq!(sick.sandbox.stats(&[]).tasks.created, 0);
}

//! Several accounts in one process: `sluice run -c a.toml -c b.toml`, and what one lane's trouble does to the other.
//!
//! `SLUICE_FLOOD=100000` is the whole flood; `SLUICE_CHAOS_BINARY` names another program to measure, such as a release.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluicegate::broker::settings::QueueType;
use sluicegate::message::status::Status;
use sluicegate::sandbox::Account;

use crate::support::form::short_or_full;
use crate::support::process::sluice;
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, body, properties, publish};
use crate::support::wait;

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
        let mut command = sluice();
        command.arg("run").stdout(Stdio::null()).stderr(Stdio::null());
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
        wait::until(4 * SOON, async || {
            let text = self.get("/status").await.ok_or("it does not answer")?;
            let lanes: Vec<Status> = serde_json::from_str(&text).unwrap();
            if wanted(&lanes) { Ok(lanes) } else { Err(format!("{lanes:#?}")) }
        })
        .await
    }
}

/// What the API saw of two lanes that were given the same at the same time.
struct Pair {
    /// Calls a second while many requests waited.
    per_second: [f64; 2],
    /// From being published to being called, of single requests.
    latencies: Vec<[SignedDuration; 2]>,
}

impl Pair {
    /// What is measured now is measured of both, so that whatever else the machine is busy with hits both alike.
    async fn measure(lanes: [&Rig; 2], name: &str, singles: usize) -> Self {
        let burst = short_or_full(80, 150);
        let (one, two) = (lanes[0].lane.client().await, lanes[1].lane.client().await);
        let before = lanes.map(|rig| rig.sandbox.calls().len());
        let requests = || (0..burst).map(|n| body(&format!("{name}-{n}"), 1));
        let queues = lanes.map(|rig| rig.lane.queues.requests());
        tokio::join!(publish(&one, &queues[0], requests()), publish(&two, &queues[1], requests()));
        for (rig, before) in lanes.iter().zip(before) {
            called(rig, before + burst).await;
        }
        let per_second = [0, 1].map(|lane| {
            let calls = lanes[lane].sandbox.calls();
            let calls = &calls[before[lane]..before[lane] + burst];
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let intervals = (burst - 1) as f64;
            intervals / calls[burst - 1].started.duration_since(calls[0].started).as_secs_f64()
        });
        let mut latencies = Vec::new();
        for n in 0..singles {
            // The permits of the next calls are there before they come.
            tokio::time::sleep(Duration::from_secs(2) / RATE).await;
            let at = lanes.map(|rig| rig.sandbox.calls().len());
            let mut published = [Timestamp::UNIX_EPOCH; 2];
            // Each is the first one in turn.
            for lane in [n % 2, (n + 1) % 2] {
                let client = [&one, &two][lane];
                let id = format!("{name}-single-{n}");
                published[lane] = Timestamp::now();
                client.publish(&queues[lane], &body(&id, 1), properties(&id)).await;
            }
            called(lanes[0], at[0] + 1).await;
            called(lanes[1], at[1] + 1).await;
            latencies.push([0, 1].map(|lane| {
                lanes[lane].sandbox.calls()[at[lane]].started.duration_since(published[lane])
            }));
        }
        Self { per_second, latencies }
    }

    fn median(&self, of: impl Fn(&[SignedDuration; 2]) -> f64) -> f64 {
        let mut all: Vec<f64> = self.latencies.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }

    /// The rate and the latency of the first lane in parts of the second's, and both latencies in milliseconds.
    fn compared(&self) -> (f64, f64, [f64; 2]) {
        let ms = |lane: usize| self.median(|both| both[lane].as_secs_f64() * 1e3);
        let ratio = self.median(|both| both[0].as_secs_f64() / both[1].as_secs_f64());
        (self.per_second[0] / self.per_second[1], ratio, [ms(0), ms(1)])
    }
}

async fn called(rig: &Rig, calls: usize) {
    wait::until(4 * SOON, async || match rig.sandbox.calls().len() {
        seen if seen >= calls => Ok(()),
        seen => Err(format!("{seen} of {calls} calls")),
    })
    .await;
}

/// Calls a second of each lane.
const RATE: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_halted_and_flooded_does_not_touch_the_other() {
    let whole = std::env::var("SLUICE_FLOOD").ok().and_then(|n| n.parse::<usize>().ok());
    let (flood, singles) = whole.map_or((short_or_full(4_000, 10_000), 50), |flood| (flood, 300));
    let node = Node::shared();
    let [sick, well, alone] =
        [(); 3].map(|()| async { Rig::new(Lane::new(&node, QueueType::Quorum)).await });
    let (sick, well, alone) = tokio::join!(sick, well, alone);
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rates = format!("[limits]\nrates = [\"{RATE}/s\"]\n");
    let worker = Worker::start(&[("sick", &sick, &rates), ("well", &well, &rates)], dir.path());
    // The measure of all things: the same lane in a process of its own.
    let control = Worker::start(&[("alone", &alone, &rates)], other.path());
    for (process, lanes) in [(&worker, 2), (&control, 1)] {
        process.lanes(|is| is.len() == lanes && is.iter().all(Status::is_ready)).await;
    }
    let pair = [&well, &alone];
    let before = Pair::measure(pair, "before", singles).await;
    sick.sandbox.set_account(Account::Frozen);
    let queue = sick.lane.queues.requests();
    let client = sick.lane.client().await;
    let flooding = async {
        for batch in 0..flood / 1_000 {
            publish(&client, &queue, (0..1_000).map(|n| body(&format!("f{batch}-{n}"), 1))).await;
        }
    };
    let (during, ()) = tokio::join!(Pair::measure(pair, "during", singles), flooding);
    let expected = flood.min(usize::from(u16::MAX));
    let lanes = worker
        .lanes(|lanes| {
            lanes[0].gate.reason == Some(sluicegate::core::gate::Reason::Halted)
                && lanes[0].window.ready + lanes[0].window.waiting + 16 > expected
        })
        .await;
    assert!(lanes[0].why().contains("the account refuses"), "{}", lanes[0].why());
    let beside = Pair::measure(pair, "beside", singles).await;
    for (when, measured) in
        [("before", &before), ("during the flood", &during), ("beside it", &beside)]
    {
        let (rate, latency, [ms, control]) = measured.compared();
        println!(
            "{when}: the well lane has {rate:.3} of the rate of the same lane in a process of its own ({:.3}/s), and \
             {latency:.3} of its latency (median {ms:.2} ms, {control:.2} ms)",
            measured.per_second[1]
        );
    }
    println!("flooded with {flood}, of which the halted lane holds {}", lanes[0].window.ready);
    let (rate, latency, _) = beside.compared();
    let (_, usual, _) = before.compared();
    assert!((0.95..1.05).contains(&rate), "{rate}");
    // The smaller run has fewer pairs.
    let most = if whole.is_some() { 1.05 } else { 1.25 };
    assert!(latency < most * usual.max(1.0), "{latency}, and {usual} before");
    let metrics = worker.get("/metrics").await.unwrap();
    for line in ["sluice_gate_open{lane=\"sick\"} 0", "sluice_gate_open{lane=\"well\"} 1"] {
        assert!(metrics.contains(line), "{line} is missing");
    }
    assert_eq!(sick.sandbox.stats(&[]).tasks.created, 0);
}

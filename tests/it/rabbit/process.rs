//! The real binary on a real RabbitMQ: signals, exit codes, what is left behind.

use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::Options as SandboxOptions;

use crate::support::form::short_or_full;
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::{Rig, Setup, body, publish};
use crate::support::wait::{self, until_so};

/// A worker process of this lane; its log is `worker.log` beside its configuration.
fn sluice_run(rig: &Rig, url: &str, rates: &str, dir: &tempfile::TempDir) -> Child {
    let config = dir.path().join("worker.toml");
    let mut file = std::fs::File::create(&config).unwrap();
    write!(
        file,
        "[broker]\nurl = {url:?}\n[queues]\nprefix = {:?}\ntype = {:?}\n[limits]\nrates = [{rates:?}]\n\
         [api]\nendpoint = {:?}\ntimeout = \"2s\"\nconnect_timeout = \"1s\"\nlook_again = \"3s\"\n\
         [api.auth]\nkind = \"token\"\ntoken = {:?}\n[http]\nlisten = \"127.0.0.1:0\"\n",
        rig.lane.queues.prefix,
        rig.lane.queues.kind.as_str(),
        rig.sandbox.base_url,
        sluicegate::sandbox::TOKEN,
    )
    .unwrap();
    let log = dir.path().join("worker.log");
    let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["run", "-c"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

async fn ended(child: &mut Child, within: Duration) -> ExitStatus {
    wait::until(within, async || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_what_is_in_flight_and_leaves_the_rest_in_the_queue() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        // Every answer takes half a second, so that there is always something in flight.
        let slow = serde_json::json!({ "latency": { "fixed": "500ms" } });
        let options = SandboxOptions::default().patched(&slow).unwrap();
        let node = Node::shared();
        let rig = Rig::with(Lane::new(&node, kind), options).await;
        let mut setup = rig.start(&Setup::quick(&[]));
        setup.active().await;
        setup.stop().await;
        let count = short_or_full(120, 300);
        let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
        publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;

        let dir = tempfile::tempdir().unwrap();
        let mut worker = sluice_run(&rig, &node.url, "50/s", &dir);
        rig.created(40).await;
        signal(&worker, "TERM");
        // The timeout of a request, and the moments that leaving a broker takes (a quorum queue takes half a second).
        let status = ended(&mut worker, Duration::from_secs(8)).await;
        assert_eq!(status.code(), Some(0));

        let created = rig.sandbox.stats(&[]).tasks.created;
        assert!((40..count as u64).contains(&created), "{created} of {count}");
        let results = rig.all_results(usize::try_from(created).unwrap()).await;
        assert_eq!(
            results.len() as u64,
            created,
            "each one that was sent is settled, and settled once"
        );
        let rest = u32::try_from(count as u64 - created).unwrap();
        rig.lane.client().await.wait_for_depth(&rig.lane.queues.requests(), rest).await;

        // The next one finishes the work and cannot tell it from a crash.
        let mut worker = sluice_run(&rig, &node.url, "200/s", &dir);
        rig.results(count).await;
        signal(&worker, "INT");
        assert_eq!(ended(&mut worker, Duration::from_secs(8)).await.code(), Some(0));
        assert_eq!(rig.sandbox.stats(&[]).tasks.created, count as u64);
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let hang = serde_json::json!({ "faults": [{ "call": "create", "times": 1, "delay": { "fixed": "1900ms" } }] });
    let options = SandboxOptions::default().patched(&hang).unwrap();
    let node = Node::shared();
    let rig = Rig::with(Lane::new(&node, QueueType::Quorum), options).await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("worker.log");
    let mut worker = sluice_run(&rig, &node.url, "50/s", &dir);
    let mut declared = rig.start(&Setup::quick(&[]));
    // One of the two is active, and both have declared what is needed once either is.
    declared.active_or_standby().await;
    declared.stop().await;
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), [body("s1", 1)]).await;
    until_so("sent", || rig.sandbox.stats(&[]).max_creates_in_flight >= 1).await;
    signal(&worker, "TERM");
    // Two signals before the first is heard are one.
    let heard =
        || std::fs::read_to_string(&log).unwrap().contains("stopping: what is in flight ends");
    until_so("stopping", heard).await;
    signal(&worker, "TERM");
    let status = ended(&mut worker, Duration::from_secs(1)).await;
    assert_ne!(status.code(), Some(0), "not everything had ended");
    let mut worker = sluice_run(&rig, &node.url, "50/s", &dir);
    rig.results(1).await;
    signal(&worker, "TERM");
    ended(&mut worker, Duration::from_secs(8)).await;
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, 1);
    rig.nothing_left_and_nothing_twice().await;
}

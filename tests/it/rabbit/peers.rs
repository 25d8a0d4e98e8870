//! What can a peer of the process do to it, that reads nothing, sends nothing or is in its way? A real worker on a real
//! broker, beside whoever is rude.

use std::fs::File;
use std::io::{BufRead as _, BufReader, PipeReader, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use sluicegate::broker::settings::QueueType;

use super::failover::{address_of, through};
use crate::rude::besiege;
use crate::support::process::{Process, Spec, is_active};
use crate::support::proxy::{How, Proxy};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, body, publish};

/// A worker whose stdout and stderr are one pipe that has been read up to where it says that it listens, and no further.
fn start_and_read_until_it_listens(spec: &Spec, dir: &Path) -> (Process, BufReader<PipeReader>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (out, err) = (writer.try_clone().unwrap().into(), writer.into());
    let process = Process::start_with(spec, dir, "worker", out, err);
    let mut log = File::create(&process.log).unwrap();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "it ended; see {}",
            process.log.display()
        );
        log.write_all(line.as_bytes()).unwrap();
        if line.contains("\"listening\"") {
            return (process, reader);
        }
    }
}

/// The value of a metric without labels, or of one whose labels are given too.
/// The series of the only lane, without its name.
pub(crate) fn without_lane(text: &str) -> String {
    let Some(lane) = text.split("lane=\"").nth(1).and_then(|rest| rest.split('"').next()) else {
        return text.to_owned();
    };
    let label = format!("lane=\"{lane}\"");
    text.replace(&format!("{{{label}}}"), "")
        .replace(&format!(",{label}"), "")
        .replace(&format!("{{{label},"), "{")
}

pub(crate) async fn metric(process: &Process, name: &str) -> Option<f64> {
    let (_, text) = process.get("/metrics").await?;
    let text = without_lane(&text);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_log_that_stops_reading_holds_nothing_up() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "1000/s");
    // More lines than may wait.
    spec.level = "trace".to_owned();
    let dir = tempfile::tempdir().unwrap();
    let (process, mut reader) = start_and_read_until_it_listens(&spec, dir.path());
    process.active().await;
    let count = 1_500;
    let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    rig.created(count).await;
    rig.nothing_left_and_nothing_twice().await;
    assert_eq!(process.get("/healthz").await.unwrap().0, 200);
    let dropped = metric(&process, "sluice_log_lines_dropped_total").await.unwrap();
    assert!(dropped > 0.0, "{dropped}");
    // Whoever reads again is told what is missing.
    let told = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + SOON;
        let mut line = String::new();
        while !line.contains("lines of the log were dropped") {
            assert!(Instant::now() < end, "it says nothing of the lines that are missing");
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the log ended");
        }
        (line, reader)
    });
    let (line, reader) = told.await.unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(line["lines"].as_u64().unwrap() > 0, "{line}");
    // And again nobody reads: it stops all the same.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    assert_eq!(process.stop().await, Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(reader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rude_http_peers_take_no_files_from_the_worker() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let proxy = Proxy::start(address_of(&node.url)).await;
    let url = through(&node.url, &proxy);
    let mut spec = Spec::new(&url, &rig.lane.queues, &rig.sandbox.base_url, "100/s");
    // As many as the worker needs and a few for HTTP, far less than come.
    spec.files = Some(100);
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    let address = process.address().unwrap();
    let mut rude = besiege(&address).await;
    rude.extend(besiege(&address).await);
    assert_eq!(rude.len(), 300);
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count();
    assert!(open < 100, "{open} files are open");
    let client = rig.lane.client().await;
    publish(&client, &rig.lane.queues.requests(), (0..50).map(|n| body(&format!("s{n}"), 1))).await;
    rig.created(50).await;
    // It has files for a new session, too, and whoever asks is answered.
    proxy.cut(How::Reset);
    process.until("detached", SOON, |status| !is_active(status)).await;
    process.active().await;
    publish(&client, &rig.lane.queues.requests(), (50..99).map(|n| body(&format!("s{n}"), 1)))
        .await;
    rig.created(99).await;
    assert_eq!(process.get("/healthz").await.unwrap().0, 200);
    assert_eq!(process.get("/readyz").await.unwrap().0, 200);
    drop(rude);
    assert_eq!(process.stop().await, Some(0));
}

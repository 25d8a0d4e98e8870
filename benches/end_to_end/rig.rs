//! What is measured on? Lanes of queues on the RabbitMQ of `scripts/bench`, filled as `sluice enqueue` fills them, and
//! sandboxes in this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use sluicegate::broker::settings::{Broker as Settings, QueueType, Queues};
use sluicegate::broker::topology;
use sluicegate::broker::{Enqueue, Planner};
use sluicegate::config::values::SecretUrls;
use sluicegate::sandbox::{CallRecord, Kind, Options, Sandbox};
use uuid::Uuid;

/// So long anything may take before it is called stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running RabbitMQ.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) version: String,
    /// The id of its process.
    pub(crate) process: u32,
}

impl Node {
    /// The one of `scripts/bench`.
    pub(crate) fn given() -> Option<Self> {
        let dir = PathBuf::from(std::env::var_os("SLUICE_BENCH_RABBITMQ")?);
        let env = std::fs::read_to_string(dir.join("env")).unwrap();
        let values: BTreeMap<_, _> = env.lines().filter_map(|line| line.split_once('=')).collect();
        Some(Self {
            url: values["AMQP_URL"].into(),
            version: values["RABBITMQ_VERSION"].into(),
            process: values["RABBITMQ_PID"].parse().unwrap(),
        })
    }
}

/// Queues of one measurement.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) url: String,
    pub(crate) queues: Queues,
    settings: Settings,
}

impl Lane {
    /// With as many of the broker's levels as by default.
    pub(crate) async fn new(node: &Node, kind: QueueType) -> Self {
        Self::with_levels(node, kind, 10).await
    }

    pub(crate) async fn with_levels(node: &Node, kind: QueueType, max_priority: u8) -> Self {
        let queues = Queues {
            prefix: format!("b-{}", &Uuid::new_v4().simple().to_string()[..12]),
            kind,
            max_priority,
            declare: true,
            results_retention: "1D".into(),
            audit_retention: "1D".into(),
        };
        let settings = Settings {
            url: Some(SecretUrls::new([node.url.as_str()])),
            url_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        };
        topology::apply(&settings, &queues).await.unwrap();
        Self { url: node.url.clone(), queues, settings }
    }

    pub(crate) async fn planner(&self) -> Planner {
        Planner::open(&self.settings, &self.queues).await.unwrap()
    }

    /// Enqueues `count` requests of about `bytes` bytes, with the priority of each number.
    pub(crate) async fn fill(&self, count: usize, bytes: usize, priority: impl Fn(usize) -> u16) {
        const AT_ONCE: usize = 2_000;
        let planner = self.planner().await;
        // One after another: the queue has them in their order.
        for first in (0..count).step_by(AT_ONCE) {
            let numbers = first..count.min(first + AT_ONCE);
            let part = numbers.map(|number| request(number, priority(number), bytes)).collect();
            planner.enqueue(part).await.unwrap();
        }
    }

    /// Whether somebody consumes the requests, and none is left to be delivered.
    pub(crate) async fn is_delivered(&self) -> bool {
        let connection =
            Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let name = self.queues.requests();
        let queue = channel.queue_declare(name.as_str().into(), options, FieldTable::default());
        let queue = queue.await.unwrap();
        connection.close(200, "looked".into()).await.unwrap();
        queue.consumer_count() > 0 && queue.message_count() == 0
    }

    /// Takes the queues away again: what one measurement left behind must not slow down the next.
    pub(crate) async fn drop(self) {
        let connection =
            Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let names = [self.queues.requests(), self.queues.results_log(), self.queues.dead_letters()];
        for name in names {
            let _ = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await;
        }
        let _ = connection.close(200, "done".into()).await;
    }
}

/// A request as `sluice enqueue` makes them; `bytes` at the least what the page's example takes.
pub(crate) fn request(number: usize, priority: u16, bytes: usize) -> Enqueue {
    let source = source(number);
    let id = Uuid::now_v7();
    Enqueue {
        message_id: id.to_string(),
        body: body(&source, priority, bytes),
        batch: "bench".into(),
        batch_run: None,
        row: number as u64 + 1,
        enqueued_at: Timestamp::now(),
        priority,
        settings: vec![("traceparent", format!("00-{}-00f067aa0ba902b7-01", id.simple()))],
    }
}

pub(crate) fn source(number: usize) -> String {
    format!("{:08x}-9c1d-4e52-b3a7-1f0d6c3a5e42", number + 1)
}

/// The example of the API's page, made longer by disks; beyond those that it allows, by a field that it does not know, which
/// is sent on as it is.
fn body(source: &str, priority: u16, bytes: usize) -> Bytes {
    const DISKS: usize = 50;
    let mut body: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/data/create-task-example.json")).unwrap();
    body["source_server"]["id"] = source.into();
    // The example has letters where an id has digits.
    body["target_server"]["vm_id"] = format!("7d3a52c0{}", &source[8..]).into();
    body["name"] = format!("migrate-{}", &source[..8]).into();
    body["priority"] = priority.into();
    let length = |body: &serde_json::Value| serde_json::to_vec(body).unwrap().len();
    while length(&body) < bytes {
        let disks = body["target_server"]["disks"].as_array_mut().unwrap();
        if disks.len() < DISKS {
            let mut disk = disks[0].clone();
            disk["name"] = format!("/dev/sd{}", disks.len()).into();
            disks.push(disk);
        } else {
            body["note"] = "x".repeat(bytes - length(&body)).into();
        }
    }
    serde_json::to_vec(&body).unwrap().into()
}

/// A sandbox in which nothing ends and nothing is forgotten; `patch` as in `docs/sandbox.md`.
pub(crate) async fn sandbox(patch: serde_json::Value) -> Sandbox {
    let roomy = json!({ "tasks": { "running": "1h", "max_running": 10_000_000 },
        "log_capacity": 2_000_000, "arrivals_capacity": 2_000_000 });
    let options = Options::default().patched(&roomy).unwrap().patched(&patch).unwrap();
    Sandbox::start(options).await.unwrap()
}

/// The creates that the sandbox has answered, in the order of their arrival.
pub(crate) fn creates(sandbox: &Sandbox) -> Vec<CallRecord> {
    let mut calls = sandbox.calls();
    calls.retain(|call| call.kind == Kind::Create);
    calls.sort_by_key(|call| call.call);
    calls
}

/// Waits until `done`; looks rarely enough not to disturb.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until so many tasks were created, as long as more and more of them are.
pub(crate) async fn created(sandbox: &Sandbox, count: usize) {
    let mut made = 0;
    while made < count as u64 {
        until(&format!("{made} of {count} tasks"), async || sandbox.made() > made).await;
        made = sandbox.made();
    }
}

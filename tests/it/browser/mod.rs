//! What people see and do in the console: the real worker, a real RabbitMQ, the sandbox, and a real Chromium.
//!
//! With `UPDATE_SCREENSHOTS=1` the tests write the pictures of `docs/images` anew.

mod access;
mod batches;
mod crash;
mod failover;
mod letters;
mod measure;
mod now;
mod reviewers;
mod selection;
mod stage;
mod strange;

use bytes::Bytes;
use lapin::Confirmation;
use lapin::options::BasicPublishOptions;
use lapin::types::AMQPValue;
use sluicegate::broker::dead_letters::Review;
use sluicegate::broker::settings::QueueType;
use sluicegate::contract::Rules;
use sluicegate::sandbox::Options as SandboxOptions;
use tempfile::TempDir;

use crate::support::browser::{Browser, Looks};
use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, properties};

/// What the operator types to log in.
const TOKEN: &str = "an operator of the browser";

/// A worker process with its console, and a browser in front of it.
struct Desk {
    rig: Rig,
    spec: Spec,
    dir: TempDir,
    worker: Process,
    /// `http://127.0.0.1:PORT`
    base: String,
    browser: Browser,
}

impl Desk {
    /// A worker that is the active one of a lane of its own, of `rate` calls.
    async fn new(rate: &str, looks: Looks) -> Self {
        Self::with(rate, SandboxOptions::default(), looks).await
    }

    async fn with(rate: &str, options: SandboxOptions, looks: Looks) -> Self {
        let node = Node::shared();
        let rig = Rig::with(Lane::new(&node, QueueType::Quorum), options).await;
        let spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, rate);
        let dir = tempfile::tempdir().unwrap();
        let worker = Process::start(&spec, dir.path(), "worker");
        worker.active().await;
        let base = format!("http://{}", worker.address().unwrap());
        let browser = Browser::open(looks).await;
        Self { rig, spec, dir, worker, base, browser }
    }

    /// `kill -9`, and a new one in its place; the browser has to log in anew.
    async fn kill_the_worker(&mut self, name: &str) {
        self.worker.kill();
        self.worker = Process::start(&self.spec, self.dir.path(), name);
        self.worker.active().await;
        self.base = format!("http://{}", self.worker.address().unwrap());
    }

    /// Publishes requests with a batch and an id each.
    async fn enqueue(&self, batch: &str, requests: impl IntoIterator<Item = (String, Bytes)>) {
        let client = self.rig.lane.client().await;
        let queue = self.rig.lane.queues.requests();
        let mut confirms = Vec::new();
        for (id, body) in requests {
            let properties = properties(&id);
            let mut headers = properties.headers().clone().unwrap();
            headers.insert("x-sluice-batch".into(), AMQPValue::LongString(batch.into()));
            let publish = client.channel.basic_publish(
                "".into(),
                queue.as_str().into(),
                BasicPublishOptions { mandatory: true, ..Default::default() },
                &body,
                properties.with_headers(headers),
            );
            confirms.push(publish.await.unwrap());
        }
        for confirm in confirms {
            assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
        }
    }

    /// Waits until so many dead letters lie in the queue.
    async fn dead(&self, count: u32) {
        let client = self.rig.lane.client().await;
        client.wait_for_depth(&self.rig.lane.queues.dead_letters(), count).await;
    }

    /// Every text of this page has contrast enough in both colours, and the page fits the screen.
    async fn is_readable(&self, looks: Looks) {
        let hard = self.browser.hard_to_read(looks).await;
        assert!(hard.is_empty(), "{hard:#?}");
        let wide = self.browser.too_wide().await;
        assert!(wide.is_empty(), "wider than the screen: {wide:#?}");
    }

    /// Opens a page by its path.
    async fn open(&self, path: &str) {
        self.browser.go(&format!("{}{path}", self.base)).await;
    }

    async fn log_in(&self) {
        self.log_in_as("ada").await;
    }

    async fn log_in_as(&self, who: &str) {
        self.open("/log-in").await;
        self.browser.type_in("#who", who).await;
        self.browser.type_in("#token", TOKEN).await;
        self.browser.follow("main form button").await;
    }

    /// The browser found nothing wrong with any page so far.
    async fn no_complaints(&self) {
        let complaints = self.browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

/// A reviewer beside the console.
fn review(desk: &Desk) -> Review {
    let lane = &desk.rig.lane;
    Review { patience: SOON, ..Review::new(&lane.settings, &lane.queues, Rules::default()) }
}

//! What people see and do in the console: the real worker, a real RabbitMQ, the sandbox, and a real Chromium.
//!
//! With `UPDATE_SCREENSHOTS=1` the tests write the pictures of `docs/images` anew.

mod access;

use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::Options as SandboxOptions;
use tempfile::TempDir;

use crate::support::browser::{Browser, Looks};
use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::Rig;

/// What the operator types to log in.
const TOKEN: &str = "operator";

/// A worker process with its console, and a browser in front of it.
#[allow(dead_code)]
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

    /// Opens a page by its path.
    async fn open(&self, path: &str) {
        self.browser.go(&format!("{}{path}", self.base)).await;
    }

    #[allow(dead_code)]
    async fn log_in(&self) {
        self.open("/log-in").await;
        self.browser.type_in("#who", "ada").await;
        self.browser.type_in("#token", TOKEN).await;
        self.browser.follow("main form button").await;
    }

    /// The browser found nothing wrong with any page so far.
    async fn no_complaints(&self) {
        let complaints = self.browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

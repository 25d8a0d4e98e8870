//! A whole worker in the test's process: a lane of its own on a real RabbitMQ on one side, a sandbox on the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use sluicegate::api::Client as ApiClient;
use sluicegate::broker::Broker;
use sluicegate::core::gate;
use sluicegate::core::{Outcome, Rate, Settings, retry};
use sluicegate::lane::{self, Given};
use sluicegate::message::command::{Answer, Command, IssuedCommand, PendingCommand};
use sluicegate::message::result::{CloudEvent, ResultData};
use sluicegate::message::status::{SessionStatus, Status};
use sluicegate::observe::metrics::Metrics;
use sluicegate::observe::{Observer, SourceStatus};
use sluicegate::sandbox::{Options as SandboxOptions, Sandbox};
use sluicegate::worker::Worker;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::rabbit::{Client, Lane, Plain, SOON, results_in};
use super::wait;

/// What a test's worker is given.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) core: Settings,
    pub(crate) window: u16,
    pub(crate) max_bytes: u64,
    pub(crate) timeout: Duration,
    pub(crate) max_body: usize,
}

impl Setup {
    /// Quick retries and looks, so that a test shows in seconds what takes minutes in production.
    pub(crate) fn quick(rates: &[&str]) -> Self {
        let retry = retry::RetrySettings {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(2),
            attempts: 12,
            ..retry::RetrySettings::default()
        };
        let rates = rates.iter().map(|rate| rate.parse::<Rate>().unwrap()).collect();
        let gate = gate::GateSettings { rates, retry, ..gate::GateSettings::default() };
        let look_again = Duration::from_secs(2);
        let core = Settings { gate, look_again, parks: true, ..Settings::default() };
        Self {
            core,
            window: 65_535,
            max_bytes: 64 << 20,
            timeout: Duration::from_secs(2),
            max_body: 1 << 20,
        }
    }
}

/// A running worker.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    pub(crate) orders: mpsc::Sender<PendingCommand>,
    pub(crate) status: watch::Receiver<Status>,
}

impl Running {
    /// Stops it gracefully.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
        tokio::time::timeout(SOON, self.task).await.expect("it stops soon").expect("it stops well");
    }

    /// Ends it as a crash would: nothing is said to anybody.
    pub(crate) fn crash(self) {
        self.task.abort();
    }

    /// What the worker says to an operator's command that comes over HTTP.
    pub(crate) async fn order(&self, command: Command) -> Answer {
        let (pending, answer) = PendingCommand::new(order(command));
        self.orders.send(pending).await.expect("it runs");
        tokio::time::timeout(SOON, answer).await.expect("an answer soon").expect("an answer")
    }

    /// Waits until it is attached to the broker.
    pub(crate) async fn active_or_standby(&mut self) {
        let attached = self
            .status
            .wait_for(|status| !matches!(status.session, SessionStatus::Detached { .. }));
        tokio::time::timeout(SOON, attached).await.expect("attached soon").expect("it runs");
    }

    /// Waits until it is the active one.
    pub(crate) async fn active(&mut self) {
        let active =
            self.status.wait_for(|status| matches!(status.session, SessionStatus::Active { .. }));
        tokio::time::timeout(SOON, active).await.expect("active soon").expect("it runs");
    }
}

/// A lane and its sandbox.
pub(crate) struct Rig {
    pub(crate) lane: Lane,
    pub(crate) sandbox: Sandbox,
}

impl Rig {
    pub(crate) async fn new(lane: Lane) -> Self {
        Self::with(lane, SandboxOptions::default()).await
    }

    pub(crate) async fn with(lane: Lane, options: SandboxOptions) -> Self {
        Self { lane, sandbox: Sandbox::start(options).await.unwrap() }
    }

    pub(crate) fn api(&self, timeout: Duration) -> ApiClient {
        let text = format!(
            "[api]\nendpoint = {:?}\ntimeout = \"{}ms\"\nconnect_timeout = \"1s\"\n[api.auth]\ntoken = {:?}\n",
            self.sandbox.base_url,
            timeout.as_millis(),
            sluicegate::sandbox::TOKEN,
        );
        let given = Given { file: None, env: &BTreeMap::new(), overrides: &[], needs_api: true };
        let settings = lane::load_text(Some(("rig.toml", &text)), &given).unwrap().config.api;
        ApiClient::new(&settings).unwrap()
    }

    pub(crate) fn start(&self, setup: &Setup) -> Running {
        self.start_on(&self.lane, setup)
    }

    /// Starts a worker that reaches the same lane another way, such as through a proxy.
    pub(crate) fn start_on(&self, lane: &Lane, setup: &Setup) -> Running {
        let mut options = lane.options("test-worker");
        options.window = setup.window;
        options.max_bytes = setup.max_bytes;
        options.rules.max_body = setup.max_body;
        let clock = options.clock;
        let metrics = Arc::new(Metrics::new("lane").unwrap());
        let broker = Broker::start(options);
        let (publish, status) =
            watch::channel(Status::starting("test", "test-worker", clock.now().wall));
        let (broker_status, spill, started) = (broker.status(), broker.spill(), clock.now().wall);
        tokio::spawn(tell_lost_sessions(broker.status()));
        let around = move || SourceStatus {
            session: match &broker_status.borrow().state {
                sluicegate::broker::State::Active { .. } => SessionStatus::Active {
                    since: started,
                    server: String::new(),
                    unchecked: Vec::new(),
                },
                sluicegate::broker::State::Standby => SessionStatus::Standby { since: started },
                other => SessionStatus::Detached { why: format!("{other:?}"), since: started },
            },
            queues: None,
            others: None,
            foreign: false,
            window_bytes: spill.held().0 + spill.held().1,
            spill_failures: spill.trouble().1,
            token_expiry: None,
        };
        let watch = Observer::new(metrics, publish, around);
        let api = Arc::new(self.api(setup.timeout));
        let worker = Worker::new(broker, api, watch, setup.core.clone(), clock);
        let (stop, stopped) = oneshot::channel();
        let (orders, inbox) = mpsc::channel(8);
        let stopping = async move {
            // A test that drops it without a word means the same.
            let _ = stopped.await;
        };
        let task = tokio::spawn(worker.run(stopping, inbox));
        Running { stop: Some(stop), task, orders, status }
    }

    /// Waits until each of so many runs has a result; one of each, as any reader keeps them: a session that ends between a
    /// result and its acknowledgement repeats it.
    pub(crate) async fn results(&self, count: usize) -> Vec<CloudEvent<ResultData>> {
        let mut seen = BTreeSet::new();
        let all = self.all_results(count).await;
        all.into_iter().filter(|result| seen.insert(result.id.clone())).collect()
    }

    /// The same with whatever was published twice.
    pub(crate) async fn all_results(&self, count: usize) -> Vec<CloudEvent<ResultData>> {
        let (mut looked, mut runs) = (0, BTreeSet::new());
        let enough = |read: &[Plain]| {
            runs.extend(results_in(&read[looked..]).into_iter().map(|result| result.id));
            looked = read.len();
            runs.len() >= count
        };
        let client = self.lane.client().await;
        let stream = self.lane.queues.results_log();
        let read = client.stream_until(&stream, Duration::from_secs(120), enough).await;
        let tasks = self.sandbox.stats(&[]).tasks;
        assert_eq!(runs.len(), count, "as many runs as requests; sandbox: {tasks:?}");
        results_in(&read)
    }

    /// Waits until so many tasks were created.
    pub(crate) async fn created(&self, count: u64) {
        self.created_within(2 * SOON, count).await;
    }

    /// Waits until so many tasks were created, for so long.
    pub(crate) async fn created_within(&self, patience: Duration, count: u64) {
        wait::until(patience, async || match self.sandbox.stats(&[]).tasks {
            tasks if tasks.created >= count => Ok(()),
            tasks => Err(format!("{count} created: {tasks:?}")),
        })
        .await;
    }

    /// The queue is empty and nothing was created twice.
    pub(crate) async fn nothing_left_and_nothing_twice(&self) {
        self.lane.client().await.wait_for_depth(&self.lane.queues.requests(), 0).await;
        assert_eq!(
            self.sandbox.stats(&[]).created_twice.sources,
            0,
            "{:?}",
            self.sandbox.stats(&[]).created_twice
        );
    }
}

/// A test that fails because a session was lost says why it was.
async fn tell_lost_sessions(mut status: watch::Receiver<sluicegate::broker::Status>) {
    while status.changed().await.is_ok() {
        if let sluicegate::broker::State::Lost { why } = &status.borrow_and_update().state {
            println!("{}: a session was lost: {why}", jiff::Timestamp::now());
        }
    }
}

/// An order as `sluice gate` gives it.
pub(crate) fn order(command: Command) -> IssuedCommand {
    IssuedCommand { command, by: "anna@ops".into(), reason: Some("storage is being moved".into()) }
}

/// How many results each outcome has.
pub(crate) fn outcomes(results: &[CloudEvent<ResultData>]) -> BTreeMap<Outcome, usize> {
    let mut counts = BTreeMap::new();
    for result in results {
        *counts.entry(result.data.outcome).or_default() += 1;
    }
    counts
}

/// A valid body for a source server of its own.
pub(crate) fn body(source: &str, priority: u16) -> Bytes {
    let mut body: serde_json::Value =
        serde_json::from_str(include_str!("../../data/create-task-example.json")).unwrap();
    body["name"] = format!("migrate-{source}").into();
    body["source_server"]["id"] = source.into();
    body["priority"] = priority.into();
    serde_json::to_vec(&body).unwrap().into()
}

/// The properties of a request as `sluice enqueue` sets them, as far as these tests need them.
pub(crate) fn properties(id: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    let now = jiff::Timestamp::now().to_string();
    headers.insert("x-sluice-enqueued-at".into(), AMQPValue::LongString(now.as_str().into()));
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(id.into())
        .with_headers(headers)
}

/// Publishes bodies under the ids `0..`, pipelined, and waits for all confirms.
pub(crate) async fn publish(
    client: &Client,
    queue: &str,
    bodies: impl IntoIterator<Item = Bytes>,
) -> usize {
    let mut confirms = Vec::new();
    for (number, body) in bodies.into_iter().enumerate() {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = properties(&number.to_string());
        let publish =
            client.channel.basic_publish("".into(), queue.into(), options, &body, properties);
        confirms.push(publish.await.unwrap());
    }
    let count = confirms.len();
    for confirm in confirms {
        assert_eq!(confirm.await.unwrap(), lapin::Confirmation::Ack(None));
    }
    count
}

/// Takes all dead letters out, by message id.
pub(crate) async fn dead_letters(lane: &Lane, count: usize) -> Vec<Plain> {
    let client = lane.client().await;
    let queue = lane.queues.dead_letters();
    client.wait_for_depth(&queue, u32::try_from(count).unwrap()).await;
    let mut letters = Vec::new();
    while let Some(letter) = client.take(&queue).await {
        letters.push(letter);
    }
    letters
}

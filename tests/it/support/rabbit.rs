//! A real RabbitMQ for tests: the shared node that `scripts/test` starts, nodes of a test's own, and a plain client
//! that publishes, reads streams and counts as any other AMQP client would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use sluicegate::broker::settings::{Broker as Settings, QueueType, Queues};
use sluicegate::broker::{Broker, Held, Options};
use sluicegate::config::values::SecretUrls;
use sluicegate::contract::Rules;
use sluicegate::core::{Ending, Job, Outcome};
use sluicegate::message::result;
use sluicegate::worker::clock::Clock;
use sluicegate::worker::source::{Event, Source};
use tempfile::TempDir;
use uuid::Uuid;

use super::wait;

/// Longer than anything here takes, shorter than a person waits.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A running broker.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What `scripts/rabbitmq` was given as DIR.
    pub(crate) dir: PathBuf,
    pub(crate) url: String,
    /// `3.10`, `4.0`, `4.3`
    pub(crate) version: String,
}

impl Node {
    /// The node that all tests share. A test without its broker fails: one that passes without it is worse than none.
    pub(crate) fn shared() -> Self {
        let dir = std::env::var("SLUICE_TEST_RABBITMQ").expect(
            "SLUICE_TEST_RABBITMQ is not set: this test needs a RabbitMQ. `scripts/test` starts one; by hand: \
             `scripts/rabbitmq start DIR && SLUICE_TEST_RABBITMQ=DIR cargo nextest run --profile ci`",
        );
        Self::in_dir(dir.into())
    }

    fn in_dir(dir: PathBuf) -> Self {
        let env = std::fs::read_to_string(dir.join("env"))
            .unwrap_or_else(|error| panic!("{}/env: {error}; is the node started?", dir.display()));
        let values: BTreeMap<&str, &str> =
            env.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |name: &str| {
            (*values.get(name).unwrap_or_else(|| panic!("{}/env has no {name}", dir.display())))
                .to_owned()
        };
        Self { url: value("AMQP_URL"), version: value("RABBITMQ_VERSION"), dir }
    }

    /// Has the node write down what it otherwise writes half a second later, or more: a quorum queue of a single node that
    /// is declared just before a kill is lost, with what it was given.
    pub(crate) async fn keeps_its_queues(&self) {
        self.script("ctl", &["eval", "[ok = dets:sync(T) || T <- dets:all()]."]).await;
    }

    /// `scripts/rabbitmq WHAT DIR ARGUMENTS`. It takes a second or more, in which all else of the test goes on: a worker in
    /// the test's own process must hear of its heartbeats.
    pub(crate) async fn script(&self, what: &str, arguments: &[&str]) {
        let (node, what) = (self.clone(), what.to_owned());
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.into()).collect();
        let run = move || {
            node.script_now(&what, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        };
        tokio::task::spawn_blocking(run).await.unwrap();
    }

    /// The same, for a thread that may wait.
    pub(crate) fn script_now(&self, what: &str, arguments: &[&str]) {
        script(what, &self.dir, arguments);
    }
}

fn script(what: &str, dir: &Path, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq");
    let output = Command::new(script).arg(what).arg(dir).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "scripts/rabbitmq {what}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A node of one test's own, of the shared node's version, for what would disturb others. Stopped when dropped.
#[derive(Debug)]
pub(crate) struct OwnNode {
    pub(crate) node: Node,
    _dir: TempDir,
}

impl OwnNode {
    pub(crate) fn start() -> Self {
        Self::start_with(|_, _| Vec::new())
    }

    /// `conf` gives further lines of `rabbitmq.conf`. Files that they name stand in the node's directory: it is given
    /// that directory as this machine sees it and as the node does, which may run in a Debian tree of its own.
    pub(crate) fn start_with(conf: impl FnOnce(&Path, &Path) -> Vec<String>) -> Self {
        let version = Node::shared().version;
        let dir = tempfile::Builder::new().prefix("sluice-node-").tempdir().unwrap();
        let process = std::process::id().to_string();
        let lines = conf(dir.path(), &as_the_node_sees(dir.path(), &version));
        let mut arguments = vec!["--version", &version, "--no-management", "--with", &process];
        arguments.extend(lines.iter().flat_map(|line| ["--conf", line.as_str()]));
        script("start", dir.path(), &arguments);
        Self { node: Node::in_dir(dir.path().to_owned()), _dir: dir }
    }
}

/// The machine's own version runs as it is, any other in a tree where its directory is `/srv`.
fn as_the_node_sees(dir: &Path, version: &str) -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let own = format!("rabbitmq_server-{version}.");
    let is_own = installed
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().starts_with(&own));
    if is_own || version == "system" { dir.to_owned() } else { "/srv".into() }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/rabbitmq");
        let _ = Command::new(script).arg("stop").arg(&self.node.dir).output();
    }
}

/// The names and settings of one test on a node: nobody else uses them.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) settings: Settings,
    pub(crate) queues: Queues,
    pub(crate) url: String,
}

impl Lane {
    pub(crate) fn new(node: &Node, kind: QueueType) -> Self {
        Self::at(&node.url, kind)
    }

    /// On whatever answers at `url`, such as a proxy.
    pub(crate) fn at(url: &str, kind: QueueType) -> Self {
        let queues = Queues {
            prefix: format!("t-{}", &Uuid::new_v4().simple().to_string()[..12]),
            kind,
            max_priority: 10,
            declare: true,
            results_retention: "1D".into(),
            audit_retention: "1D".into(),
        };
        Self { settings: settings(url), queues, url: url.into() }
    }

    /// The same queues, reached through another address.
    pub(crate) fn through(&self, url: &str) -> Self {
        Self { settings: settings(url), queues: self.queues.clone(), url: url.into() }
    }

    pub(crate) fn options(&self, worker: &str) -> Options {
        Options {
            settings: self.settings.clone(),
            queues: self.queues.clone(),
            rules: Rules::default(),
            window: 1000,
            max_hold: Duration::from_secs(20 * 60),
            max_bytes: 64 << 20,
            worker: worker.into(),
            clock: Clock::start(),
            on_confirm: Arc::new(|_| {}),
        }
    }

    pub(crate) fn start(&self, worker: &str) -> Broker {
        Broker::start(self.options(worker))
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.url).await
    }

    /// All results so far, oldest first.
    pub(crate) async fn results(
        &self,
        at_least: usize,
    ) -> Vec<result::CloudEvent<result::ResultData>> {
        results_in(&self.client().await.stream(&self.queues.results_log(), at_least).await)
    }
}

/// The results among what was read from their stream.
pub(crate) fn results_in(messages: &[Plain]) -> Vec<result::CloudEvent<result::ResultData>> {
    let events = messages.iter().map(|message| result::Event::read(&message.body).unwrap());
    events
        .filter_map(|event| match event {
            result::Event::Result(result) => Some(*result),
            result::Event::Opened(_) | result::Event::Enqueued(_) => None,
        })
        .collect()
}

fn settings(url: &str) -> Settings {
    Settings {
        url: Some(SecretUrls::new([url])),
        url_file: None,
        ca_file: None,
        cert_file: None,
        key_file: None,
    }
}

/// A message as a plain client sees it.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
}

impl Plain {
    pub(crate) fn id(&self) -> &str {
        self.properties.message_id().as_ref().map_or("", |id| id.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        match self.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            other => Some(format!("{other:?}")),
        }
    }
}

/// Any AMQP client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, channel }
    }

    /// Publishes to a queue and waits for the confirm. Where only the worker's word counts it is said as the worker says it.
    pub(crate) async fn publish(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = properties.with_delivery_mode(2);
        let (exchange, key) = door(queue);
        let confirm =
            self.channel.basic_publish(exchange, key, options, body, properties).await.unwrap();
        assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None), "published to {queue}");
    }

    /// Publishes valid requests with the message ids `first..first + count`.
    pub(crate) async fn publish_requests(&self, queue: &str, first: usize, count: usize) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let mut confirms = Vec::new();
        for number in first..first + count {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(number.to_string().into());
            let body = request_body(number);
            let publish =
                self.channel.basic_publish("".into(), queue.into(), options, &body, properties);
            confirms.push(publish.await.unwrap());
        }
        for confirm in confirms {
            assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
        }
    }

    /// How many messages are ready in a queue.
    pub(crate) async fn depth(&self, queue: &str) -> u32 {
        self.declared(queue).await.message_count()
    }

    /// How many consumers a queue has. What one of them held is ready again before it is counted no more.
    pub(crate) async fn consumers(&self, queue: &str) -> u32 {
        self.declared(queue).await.consumer_count()
    }

    /// Waits until the broker lets nobody publish, by trying.
    pub(crate) async fn until_blocked(&self, queue: &str) {
        let (options, none) = (BasicPublishOptions::default(), BasicProperties::default());
        let exchange = "amq.fanout".into();
        let publish = self.channel.basic_publish(exchange, queue.into(), options, b"", none);
        let _confirm = publish.await.unwrap();
        wait::until_so("blocked", || self.connection.status().blocked()).await;
    }

    async fn declared(&self, queue: &str) -> lapin::Queue {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared =
            self.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        declared.unwrap()
    }

    /// Waits until so many are ready; what is requeued takes a moment to be there again.
    pub(crate) async fn wait_for_depth(&self, queue: &str, depth: u32) {
        wait::until(SOON, async || match self.depth(queue).await {
            now if now == depth => Ok(()),
            now => Err(format!("{queue} has {now} messages, expected {depth}")),
        })
        .await;
    }

    /// Takes the next message out of a queue.
    pub(crate) async fn take(&self, queue: &str) -> Option<Plain> {
        let got = self
            .channel
            .basic_get(queue.into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap()?;
        Some(Plain { properties: got.delivery.properties, body: got.delivery.data })
    }

    /// Reads a stream from its first message until `at_least` are there, and whatever comes within a moment more.
    pub(crate) async fn stream(&self, stream: &str, at_least: usize) -> Vec<Plain> {
        let read = self.stream_until(stream, SOON, |read| read.len() >= at_least).await;
        let count = read.len();
        assert!(count >= at_least, "{stream} has {count} messages, expected {at_least}");
        read
    }

    /// Reads a stream from its first message until there is `enough`, and whatever comes within a moment more; or until
    /// nothing has come for as long as `patience`.
    pub(crate) async fn stream_until(
        &self,
        stream: &str,
        patience: Duration,
        mut enough: impl FnMut(&[Plain]) -> bool,
    ) -> Vec<Plain> {
        const MOMENT: Duration = Duration::from_millis(300);
        let mut arguments = FieldTable::default();
        arguments
            .insert("x-stream-offset".into(), AMQPValue::LongString(LongString::from("first")));
        // A broker that has just come back needs a while until its streams are there again.
        let open = async || {
            let channel = self.connection.create_channel().await.unwrap();
            channel.basic_qos(500, BasicQosOptions::default()).await.unwrap();
            let options = BasicConsumeOptions::default();
            let consume =
                channel.basic_consume(stream.into(), "".into(), options, arguments.clone());
            let consumer = consume.await.map_err(|error| error.to_string())?;
            Ok((channel, consumer))
        };
        let (channel, mut consumer) = super::wait::until(SOON, open).await;
        let mut read = Vec::new();
        loop {
            let patience = if enough(&read) { MOMENT } else { patience };
            let Ok(next) = tokio::time::timeout(patience, consumer.next()).await else { break };
            let delivery = next.unwrap().unwrap();
            delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
            read.push(Plain { properties: delivery.properties, body: delivery.data });
        }
        channel.close(200, "read".into()).await.unwrap();
        read
    }
}

/// The exchange and the key by which a message to this queue is believed. A key without a dot is about no batch.
pub(crate) fn door(queue: &str) -> (ShortString, ShortString) {
    let by_the_worker = [".dead-letters", ".audit", ".gate"];
    if let Some(prefix) = queue.strip_suffix(".results.log") {
        return (format!("{prefix}.results").into(), "log".into());
    }
    let prefix = by_the_worker.iter().find_map(|end| queue.strip_suffix(end));
    let exchange = prefix.map_or_else(String::new, |prefix| format!("{prefix}.worker"));
    (exchange.into(), queue.into())
}

/// A body that the contract allows, another for each number.
pub(crate) fn request_body(number: usize) -> Bytes {
    let mut body: serde_json::Value =
        serde_json::from_str(include_str!("../../data/create-task-example.json")).unwrap();
    body["name"] = format!("task-{number}").into();
    serde_json::to_vec(&body).unwrap().into()
}

/// The next event of a source, soon.
pub(crate) async fn next(broker: &mut Broker) -> Event<Held> {
    tokio::time::timeout(SOON, broker.next()).await.expect("the source says nothing")
}

/// Waits until this worker is the active one; its session's number.
pub(crate) async fn opened(broker: &mut Broker) -> u32 {
    match next(broker).await {
        Event::Opened { session, .. } => session,
        other => panic!("expected a session, got {other:?}"),
    }
}

/// The next valid request.
pub(crate) async fn arrived(broker: &mut Broker) -> Job<Held> {
    match next(broker).await {
        Event::Arrived(job) => job,
        other => panic!("expected a delivery, got {other:?}"),
    }
}

/// Waits until the session is lost, throwing away what is delivered meanwhile; why.
pub(crate) async fn lost(broker: &mut Broker) -> String {
    loop {
        match next(broker).await {
            Event::Lost { why } => return why,
            Event::Arrived(_) | Event::Invalid(..) | Event::Blocked(_) => {}
            other => panic!("expected the end of the session, got {other:?}"),
        }
    }
}

/// An ending with nothing particular to say.
pub(crate) fn ending(outcome: Outcome) -> Ending {
    Ending {
        outcome,
        task_id: (outcome == Outcome::Created).then(|| "task".to_owned()),
        task_state: None,
        fault: None,
        violations: Vec::new(),
        reason: format!("it ended as {}", outcome.as_str()),
        attempts: 1,
        look_ups: 0,
        dead_lettered: false,
        never_sent: false,
        first_attempt_at: None,
        settled_at: jiff::Timestamp::now(),
        history: Vec::new(),
    }
}

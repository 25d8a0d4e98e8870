//! Which exchanges and queues does Sluicegate need, and are those on the broker what they should be?
//!
//! What is asked is asked on scratch channels: every refusal closes the channel that it comes on.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ErrorKind, ExchangeKind};
use serde::Serialize;

use super::convert::{long, short};
use super::link::SessionLost;
use super::settings::{Broker as Settings, QueueType, Queues};
use super::version::Version;
use super::{ANSWER, connect, within};

/// Streams drop what is too old a segment at a time, so segments are small (the broker's default is 500 MB).
const SEGMENT_BYTES: i64 = 16_000_000;

/// Arguments whose values are the operator's business: they may be changed by policy, or cannot be compared.
const TOLERATED: [&str; 4] =
    ["x-max-age", "x-stream-max-segment-size-bytes", TIMEOUT, "x-queue-leader-locator"];

const TIMEOUT: &str = "x-consumer-timeout";
const DELIVERY_LIMIT: &str = "x-delivery-limit";

/// One thing that must exist on the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Object {
    Exchange { name: String, routes: Routes },
    Queue { name: String, arguments: BTreeMap<&'static str, Argument> },
    Binding { exchange: String, queue: String, key: String },
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Routes {
    Topic,
    Fanout,
}

/// The value of a queue's argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// Something on the broker that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// `queue sluice.requests`
    pub object: String,
    /// `x-delivery-limit`, `durable`, `type`; empty where the whole object is missing.
    pub argument: String,
    pub is: String,
    pub should: String,
}

/// What was found on the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub mismatches: Vec<Mismatch>,
    /// The queue of requests has a consumer timeout of its own (an argument, in milliseconds).
    pub consumer_timeout: Option<Duration>,
}

/// Why a topology could not be declared or checked.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error(transparent)]
    Unreachable(#[from] SessionLost),
    #[error("{}", refusal(.0))]
    Mismatch(Vec<Mismatch>),
    #[error("{0}")]
    Settings(String),
}

fn refusal(mismatches: &[Mismatch]) -> String {
    let lines: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, argument, is, should } = self;
        if argument.is_empty() {
            return write!(
                f,
                "{object}: is {is}, should be {should}; `sluice topology apply` declares it"
            );
        }
        write!(f, "{object}: {argument} is {is}, should be {should}; ")?;
        if argument == DELIVERY_LIMIT && should == "-1" {
            write!(
                f,
                "RabbitMQ 4 dead-letters from such a queue what was returned 20 times, tried or not; "
            )?;
        }
        write!(
            f,
            "arguments cannot be changed: let it run empty, delete it, then `sluice topology apply`, or use another queues.prefix"
        )
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

impl Argument {
    fn to_amqp(&self) -> AMQPValue {
        match self {
            Self::Text(text) => long(text),
            Self::Number(number) => AMQPValue::LongLongInt(*number),
            Self::Flag(flag) => AMQPValue::Boolean(*flag),
        }
    }
}

/// Everything that must exist, in the order in which it can be declared.
pub fn objects(queues: &Queues, version: Version) -> Vec<Object> {
    let exchange = |name: String, routes| Object::Exchange { name, routes };
    let queue = |name: String, arguments| Object::Queue { name, arguments };
    let binding = |exchange: String, queue: String, key: &str| Object::Binding {
        exchange,
        queue,
        key: key.into(),
    };
    vec![
        exchange(queues.dead_letters(), Routes::Fanout),
        queue(queues.dead_letters(), kept(queues, version)),
        binding(queues.dead_letters(), queues.dead_letters(), ""),
        queue(queues.requests(), requests(queues, version)),
        exchange(queues.results(), Routes::Topic),
        queue(queues.results_log(), stream(&queues.results_retention)),
        binding(queues.results(), queues.results_log(), "#"),
        queue(queues.audit(), stream(&queues.audit_retention)),
        exchange(queues.control(), Routes::Fanout),
        queue(queues.gate(), latest(queues, version)),
    ]
}

/// The arguments that requests and dead letters share.
fn kept(queues: &Queues, version: Version) -> BTreeMap<&'static str, Argument> {
    let mut arguments = BTreeMap::new();
    arguments.insert("x-queue-type", Argument::Text(queues.kind.as_str().into()));
    if queues.kind == QueueType::Quorum && version.has_default_delivery_limit() {
        arguments.insert(DELIVERY_LIMIT, Argument::Number(-1));
    }
    arguments
}

fn requests(queues: &Queues, version: Version) -> BTreeMap<&'static str, Argument> {
    let mut arguments = kept(queues, version);
    arguments.insert("x-single-active-consumer", Argument::Flag(true));
    arguments.insert("x-dead-letter-exchange", Argument::Text(queues.dead_letters()));
    // Quorum queues refuse it; from 4.0 on they have levels of their own.
    if queues.kind == QueueType::Classic {
        arguments.insert("x-max-priority", Argument::Number(queues.max_priority.into()));
    }
    arguments
}

/// A queue that keeps its latest message only.
fn latest(queues: &Queues, version: Version) -> BTreeMap<&'static str, Argument> {
    let mut arguments = kept(queues, version);
    arguments.insert("x-max-length", Argument::Number(1));
    arguments
}

fn stream(retention: &str) -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([
        ("x-queue-type", Argument::Text("stream".into())),
        ("x-max-age", Argument::Text(retention.into())),
        ("x-stream-max-segment-size-bytes", Argument::Number(SEGMENT_BYTES)),
    ])
}

/// Connects and declares what is missing. For `sluice topology apply`, and for a start that should fail early.
///
/// # Errors
/// The broker is out of reach, or has something of that name that is different.
pub async fn apply(settings: &Settings, queues: &Queues) -> Result<Report, TopologyError> {
    let (connection, version) = reach(settings).await?;
    let report = declare(&connection, queues, version).await;
    close(&connection).await;
    report
}

/// Connects and compares, declaring nothing.
///
/// # Errors
/// The broker is out of reach. What is missing or different stands in the report.
pub async fn check(settings: &Settings, queues: &Queues) -> Result<Report, TopologyError> {
    let (connection, version) = reach(settings).await?;
    let report = compare(&connection, queues, version).await;
    close(&connection).await;
    Ok(report?)
}

/// What the broker's version makes of the settings, for `sluice topology show`.
///
/// # Errors
/// The broker is out of reach.
pub async fn show(
    settings: &Settings,
    queues: &Queues,
) -> Result<(Version, Vec<Object>), TopologyError> {
    let (connection, version) = reach(settings).await?;
    close(&connection).await;
    Ok((version, objects(queues, version)))
}

async fn reach(settings: &Settings) -> Result<(Connection, Version), TopologyError> {
    let addresses = connect::addresses(settings).map_err(TopologyError::Settings)?;
    let mut last = SessionLost("broker.url is empty".into());
    for address in &addresses {
        let reached = async {
            let version = connect::server_version(address).await?;
            Ok((connect::open(address, "sluice topology").await?, version))
        };
        match reached.await {
            Ok(reached) => return Ok(reached),
            Err(why) => last = why,
        }
    }
    Err(last.into())
}

async fn close(connection: &Connection) {
    // Nothing is lost if it does not close in time: everything on it was answered.
    let _ = within(Duration::from_secs(2), "closing", connection.close(200, "done".into())).await;
}

/// Declares everything on `connection`; what is there already must be the same.
pub(crate) async fn declare(
    connection: &Connection,
    queues: &Queues,
    version: Version,
) -> Result<Report, TopologyError> {
    let mut report = Report::default();
    for object in objects(queues, version) {
        put(connection, &object, &queues.requests(), &mut report).await?;
    }
    if report.mismatches.is_empty() {
        Ok(report)
    } else {
        Err(TopologyError::Mismatch(report.mismatches))
    }
}

/// Compares what exists on `connection` with what should.
pub(crate) async fn compare(
    connection: &Connection,
    queues: &Queues,
    version: Version,
) -> Result<Report, SessionLost> {
    let mut report = Report::default();
    for object in objects(queues, version) {
        match exists(connection, &object).await? {
            // Declaring what exists changes nothing and tells what is different. AMQP cannot ask for a binding.
            true if !matches!(object, Object::Binding { .. }) => {
                put(connection, &object, &queues.requests(), &mut report).await?;
            }
            true => {}
            false => report.mismatches.push(Mismatch {
                object: object.to_string(),
                argument: String::new(),
                is: "missing".into(),
                should: "there".into(),
            }),
        }
    }
    Ok(report)
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange { name, .. } => write!(f, "exchange {name}"),
            Self::Queue { name, .. } => write!(f, "queue {name}"),
            Self::Binding { exchange, queue, key } => {
                write!(f, "binding {exchange} -{key}-> {queue}")
            }
        }
    }
}

/// The broker's answer to one question on a channel of its own.
enum Answer {
    Yes,
    /// 404
    Missing,
    /// 403: this user may not ask.
    Forbidden,
    /// 406, with the broker's words.
    Different(String),
}

async fn exists(connection: &Connection, object: &Object) -> Result<bool, SessionLost> {
    let answer = ask(connection, object, &BTreeMap::<String, Argument>::new(), true).await?;
    Ok(!matches!(answer, Answer::Missing))
}

/// Declares one object. Of what is different the broker names one argument at a time, so what it has is taken over
/// and asked again, until it agrees and everything is known.
async fn put(
    connection: &Connection,
    object: &Object,
    requests: &str,
    report: &mut Report,
) -> Result<(), SessionLost> {
    let should = match object {
        Object::Queue { arguments, .. } => arguments.clone(),
        Object::Exchange { .. } | Object::Binding { .. } => BTreeMap::new(),
    };
    let mut asked: BTreeMap<String, Argument> =
        should.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    for _ in 0..12 {
        let words = match ask(connection, object, &asked, false).await? {
            Answer::Yes | Answer::Forbidden => return Ok(()),
            Answer::Missing => {
                return Err(SessionLost(format!("{object}: something that it needs is missing")));
            }
            Answer::Different(words) => words,
        };
        let Some(difference) = Difference::read(&words) else {
            report.mismatches.push(Mismatch {
                object: object.to_string(),
                argument: "declaration".into(),
                is: words,
                should: "accepted".into(),
            });
            return Ok(());
        };
        let argument = difference.argument.as_str();
        let is_requests = matches!(object, Object::Queue { name, .. } if name == requests);
        if argument == TIMEOUT && is_requests {
            report.consumer_timeout =
                difference.is.as_deref().and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        }
        if !TOLERATED.contains(&argument) {
            report.mismatches.push(Mismatch {
                object: object.to_string(),
                argument: argument.into(),
                is: difference.is.clone().unwrap_or_else(|| "absent".into()),
                should: should
                    .get(argument)
                    .map_or_else(|| difference.asked.clone(), ToString::to_string),
            });
        }
        // What is no argument of a queue (durable, an exchange's type) cannot be taken over: enough is known.
        if !argument.starts_with("x-") {
            return Ok(());
        }
        match difference.is {
            Some(value) => asked.insert(argument.into(), like(&value, asked.get(argument))),
            None => asked.remove(argument),
        };
    }
    Ok(())
}

/// The broker writes values as text; numbers and flags are told by their looks, as those of our own arguments are.
fn like(value: &str, asked: Option<&Argument>) -> Argument {
    match (value.parse(), value.parse()) {
        (Ok(number), _) if !matches!(asked, Some(Argument::Text(_))) => Argument::Number(number),
        (_, Ok(flag)) => Argument::Flag(flag),
        _ => Argument::Text(value.into()),
    }
}

async fn ask(
    connection: &Connection,
    object: &Object,
    arguments: &BTreeMap<impl AsRef<str>, Argument>,
    passive: bool,
) -> Result<Answer, SessionLost> {
    let channel = within(ANSWER, "opening a channel", connection.create_channel()).await?;
    let arguments: FieldTable = arguments
        .iter()
        .map(|(name, value)| (short(name.as_ref()), value.to_amqp()))
        .collect::<BTreeMap<_, _>>()
        .into();
    let asked = async {
        match object {
            Object::Exchange { name, routes } => {
                let kind = match routes {
                    Routes::Topic => ExchangeKind::Topic,
                    Routes::Fanout => ExchangeKind::Fanout,
                };
                let options =
                    ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
                channel.exchange_declare(short(name), kind, options, arguments).await
            }
            Object::Queue { name, .. } => {
                let options = QueueDeclareOptions { durable: true, passive, ..Default::default() };
                channel.queue_declare(short(name), options, arguments).await.map(drop)
            }
            Object::Binding { .. } if passive => Ok(()),
            Object::Binding { exchange, queue, key } => {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(short(queue), short(exchange), short(key), options, arguments)
                    .await
            }
        }
    };
    let error = match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(())) => {
            let _ = within(ANSWER, "closing a channel", channel.close(200, "asked".into())).await;
            return Ok(Answer::Yes);
        }
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(SessionLost(format!("{object}: the broker did not answer in {ANSWER:?}")));
        }
    };
    match error.kind() {
        ErrorKind::ProtocolError(refused) => match refused.get_id() {
            404 => Ok(Answer::Missing),
            403 => Ok(Answer::Forbidden),
            406 => Ok(Answer::Different(refused.get_message().to_string())),
            _ => Err(SessionLost(format!("{object}: {error}"))),
        },
        _ => Err(SessionLost(format!("{object}: {error}"))),
    }
}

/// What a 406 says: `inequivalent arg 'x-max-age' for queue 'q' in vhost '/': received the value '30D' of type
/// 'longstr' but current is the value '12D' of type 'longstr'`.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    argument: String,
    asked: String,
    is: Option<String>,
}

impl Difference {
    fn read(words: &str) -> Option<Self> {
        let argument = words.split_once("inequivalent arg ")?.1;
        let (received, current) =
            argument.split_once(": received ")?.1.split_once(" but current is ")?;
        let value = |text: &str| quoted(text).filter(|_| !text.starts_with("none"));
        Some(Self {
            argument: quoted(argument)?,
            asked: value(received).unwrap_or_else(|| "absent".into()),
            is: value(current),
        })
    }
}

/// What stands in the first pair of quotes. Texts longer than 255 bytes are cut off, so the last one may be missing.
fn quoted(text: &str) -> Option<String> {
    let inside = text.split_once('\'')?.1;
    Some(inside.split('\'').next().unwrap_or(inside).to_owned())
}

/// The longest that a delivery may be held, where the broker takes deliveries back at all. `of_queue` is the request
/// queue's own timeout ([`Report::consumer_timeout`]); without it the broker's default of 30 minutes is assumed.
pub fn consumer_timeout(
    version: Version,
    kind: QueueType,
    of_queue: Option<Duration>,
) -> Option<Duration> {
    const DEFAULT: Duration = Duration::from_secs(30 * 60);
    version.has_consumer_timeout(kind).then(|| of_queue.unwrap_or(DEFAULT))
}

/// Whether `window.max_hold` is safe: the broker looks once a minute before 4.3, and a busy worker may be late.
///
/// # Errors
/// A sentence that says what to change.
pub fn check_hold(
    max_hold: Duration,
    version: Version,
    kind: QueueType,
    of_queue: Option<Duration>,
) -> Result<(), String> {
    const SPARE: Duration = Duration::from_secs(60);
    match consumer_timeout(version, kind, of_queue) {
        Some(timeout) if max_hold + SPARE > timeout => Err(format!(
            "window.max_hold = {max_hold:?} is too long: RabbitMQ {version} takes deliveries back after {timeout:?}{}, with all that the worker holds; leave at least a minute between them",
            if of_queue.is_some() {
                " (x-consumer-timeout of the queue)"
            } else {
                " (consumer_timeout, its default)"
            },
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(kind: QueueType) -> Queues {
        Queues {
            prefix: "sluice".into(),
            kind,
            max_priority: 10,
            declare: true,
            results_retention: "30D".into(),
            audit_retention: "365D".into(),
        }
    }

    fn arguments(kind: QueueType, version: Version, queue: &str) -> Vec<String> {
        let objects = objects(&queues(kind), version);
        let found = objects.iter().find_map(|object| match object {
            Object::Queue { name, arguments } if name == queue => Some(arguments),
            _ => None,
        });
        found.unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    const V310: Version = Version::new(3, 10, 8);
    const V40: Version = Version::new(4, 0, 5);

    #[test]
    fn arguments_follow_version_and_type() {
        let base = ["x-dead-letter-exchange=sluice.dead-letters"];
        let check = |kind, version, more: &[&str]| {
            let mut expected: Vec<&str> = base.iter().chain(more).copied().collect();
            expected.sort_unstable();
            assert_eq!(arguments(kind, version, "sluice.requests"), expected);
        };
        let sac = "x-single-active-consumer=true";
        check(QueueType::Quorum, V310, &["x-queue-type=quorum", sac]);
        check(QueueType::Quorum, V40, &["x-queue-type=quorum", sac, "x-delivery-limit=-1"]);
        check(QueueType::Classic, V310, &["x-queue-type=classic", sac, "x-max-priority=10"]);
        check(QueueType::Classic, V40, &["x-queue-type=classic", sac, "x-max-priority=10"]);
        assert_eq!(
            arguments(QueueType::Quorum, V40, "sluice.dead-letters"),
            ["x-delivery-limit=-1", "x-queue-type=quorum"]
        );
        assert_eq!(
            arguments(QueueType::Quorum, V310, "sluice.audit"),
            ["x-max-age=365D", "x-queue-type=stream", "x-stream-max-segment-size-bytes=16000000"]
        );
    }

    #[test]
    fn a_refusal_is_read_as_the_broker_writes_it() {
        let read = |words: &str| Difference::read(words).map(|d| (d.argument, d.asked, d.is));
        let of = |a: &str, b: &str, c: Option<&str>| {
            Some((a.to_owned(), b.to_owned(), c.map(str::to_owned)))
        };
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'x-max-age' for queue 'q' in vhost '/': received the value '31D' of type 'longstr' but current is the value '30D' of type 'longstr'"
            ),
            of("x-max-age", "31D", Some("30D"))
        );
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received the value '-1' of type 'signedint' but current is none"
            ),
            of("x-delivery-limit", "-1", None)
        );
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"
            ),
            of("durable", "true", Some("false"))
        );
        assert_eq!(
            read(
                "PRECONDITION_FAILED - inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': received none but current is the value '10' of type 'signedint'"
            ),
            of("x-max-priority", "absent", Some("10"))
        );
        assert_eq!(read("PRECONDITION_FAILED - invalid arg 'x' for queue"), None);
    }

    #[test]
    fn a_mismatch_names_the_queue_the_argument_what_is_and_what_should_be() {
        let told = Mismatch {
            object: "queue sluice.requests".into(),
            argument: "x-delivery-limit".into(),
            is: "absent".into(),
            should: "-1".into(),
        }
        .to_string();
        for part in ["queue sluice.requests", "x-delivery-limit", "absent", "-1", "topology apply"]
        {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn a_hold_must_stay_below_the_consumer_timeout() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let v43 = Version::new(4, 3, 0);
        assert!(check_hold(minutes(20), V310, QueueType::Quorum, None).is_ok());
        assert!(check_hold(minutes(30), V310, QueueType::Classic, None).is_err());
        assert!(check_hold(minutes(300), v43, QueueType::Classic, None).is_ok());
        assert!(check_hold(minutes(20), v43, QueueType::Quorum, Some(minutes(10))).is_err());
        assert!(check_hold(minutes(60), v43, QueueType::Quorum, Some(minutes(120))).is_ok());
    }
}

//! Which exchanges, queues and bindings does Sluicegate need? The arguments follow the broker's version.

use std::collections::BTreeMap;
use std::fmt;

use lapin::types::AMQPValue;
use serde::Serialize;

use crate::broker::convert::long;
use crate::broker::settings::{QueueType, Queues};
use crate::broker::version::Version;

/// Streams drop what is too old a segment at a time, so segments are small (the broker's default is 500 MB).
const SEGMENT_BYTES: i64 = 16_000_000;

/// What the stream of orders takes, and a segment of it.
const ORDER_BYTES: i64 = 16_000_000;
const ORDER_SEGMENT_BYTES: i64 = 1_000_000;

pub(super) const DELIVERY_LIMIT: &str = "x-delivery-limit";
pub(super) const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";

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
    Direct,
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

impl Object {
    /// What the queue of the questions is called where objects are told.
    pub(crate) fn active(queues: &Queues) -> String {
        Self::Queue { name: queues.active(), arguments: BTreeMap::new() }.to_string()
    }
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
    pub(super) fn to_amqp(&self) -> AMQPValue {
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
    let mut all = vec![
        exchange(queues.dlx(), Routes::Fanout),
        queue(queues.dead_letters(), kept(queues, version)),
        binding(queues.dlx(), queues.dead_letters(), ""),
        queue(queues.requests(), requests(queues, version)),
        exchange(queues.enqueue(), Routes::Direct),
        binding(queues.enqueue(), queues.requests(), &queues.requests()),
        queue(queues.parked(), parked(queues, version)),
        exchange(queues.results(), Routes::Topic),
        exchange(queues.batches(), Routes::Topic),
        queue(queues.results_log(), stream(&queues.results_retention)),
        binding(queues.results(), queues.results_log(), "#"),
        binding(queues.batches(), queues.results_log(), "batch.*"),
        queue(queues.audit(), stream(&queues.audit_retention)),
        exchange(queues.control(), Routes::Topic),
        exchange(queues.answers(), Routes::Direct),
        queue(queues.orders(), orders()),
        binding(queues.control(), queues.orders(), "batch.*"),
        binding(queues.control(), queues.audit(), "batch.*"),
        queue(queues.gate(), latest(queues, version)),
        queue(queues.active(), questions(queues, version)),
        queue(queues.reviewing(), questions(queues, version)),
    ];
    for (door, behind) in doors(queues) {
        all.push(exchange(door.clone(), Routes::Direct));
        all.extend(behind.into_iter().map(|queue| binding(door.clone(), queue.clone(), &queue)));
    }
    all
}

/// The exchanges that one role alone writes to, and the queues behind each, by their names: whose word a message is, is told
/// by the door that it came through, so each role has one of its own.
fn doors(queues: &Queues) -> [(String, Vec<String>); 2] {
    let by_the_worker = vec![
        queues.requests(),
        queues.parked(),
        queues.dead_letters(),
        queues.audit(),
        queues.orders(),
        queues.gate(),
        queues.active(),
    ];
    let by_reviewers =
        vec![queues.requests(), queues.dead_letters(), queues.audit(), queues.reviewing()];
    [(queues.worker(), by_the_worker), (queues.review(), by_reviewers)]
}

/// Exchanges that versions before declared, and none needs any more.
pub(super) fn left_over(queues: &Queues) -> [Object; 1] {
    [Object::Exchange { name: queues.dead_letters(), routes: Routes::Fanout }]
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

/// What expires there is a dead letter, as it is in the queue of requests.
fn parked(queues: &Queues, version: Version) -> BTreeMap<&'static str, Argument> {
    let mut arguments = kept(queues, version);
    arguments.insert(DEAD_LETTER_EXCHANGE, Argument::Text(queues.dlx()));
    arguments
}

fn requests(queues: &Queues, version: Version) -> BTreeMap<&'static str, Argument> {
    let mut arguments = parked(queues, version);
    arguments.insert("x-single-active-consumer", Argument::Flag(true));
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

/// A queue that has one consumer hear its latest message.
fn questions(queues: &Queues, version: Version) -> BTreeMap<&'static str, Argument> {
    let mut arguments = latest(queues, version);
    arguments.insert("x-single-active-consumer", Argument::Flag(true));
    arguments
}

fn stream(retention: &str) -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([
        ("x-queue-type", Argument::Text("stream".into())),
        ("x-max-age", Argument::Text(retention.into())),
        ("x-stream-max-segment-size-bytes", Argument::Number(SEGMENT_BYTES)),
    ])
}

/// An order holds for as long as a copy of its request may come back, and a hold for as long as somebody wants: so not their
/// age ends them, but their number. It is some ten thousands.
fn orders() -> BTreeMap<&'static str, Argument> {
    BTreeMap::from([
        ("x-queue-type", Argument::Text("stream".into())),
        ("x-max-length-bytes", Argument::Number(ORDER_BYTES)),
        ("x-stream-max-segment-size-bytes", Argument::Number(ORDER_SEGMENT_BYTES)),
    ])
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
        let base = ["x-dead-letter-exchange=sluice.dlx"];
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
}

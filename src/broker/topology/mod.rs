//! Is everything that Sluicegate needs on the broker, and what it should be? Declares it, or compares and names what is
//! different, before anything is consumed.

mod ask;
mod objects;
mod roles;

use std::fmt;
use std::time::Duration;

use lapin::Connection;
use serde::Serialize;

use crate::broker::connection::connect::{self, NoConnection};
use crate::broker::connection::link::SessionLost;
use crate::broker::settings::{Broker as Settings, QueueType, Queues};
use crate::broker::transport::HARD;
use crate::broker::version::Version;
use crate::broker::within;
use crate::config::values::show_duration;
use ask::{exists, put};
use objects::DELIVERY_LIMIT;
use objects::left_over;
pub use objects::{Argument, Object, Routes, objects};
pub use roles::{Rights, Role, TopicRights};

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
pub struct Comparison {
    pub mismatches: Vec<Mismatch>,
    /// What is there, but whose arguments this user may not compare: declaring takes the right to configure.
    pub unchecked: Vec<String>,
    /// What versions before declared and this one does not need: harmless, and how to be rid of it.
    pub left_over: Vec<String>,
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
    #[error("the broker at {0}")]
    LogIn(String),
}

impl From<NoConnection> for TopologyError {
    fn from(why: NoConnection) -> Self {
        match why {
            NoConnection::Settings(why) => Self::Settings(why),
            NoConnection::LogIn(why) => Self::LogIn(why),
            NoConnection::Unreachable(why) => Self::Unreachable(why),
        }
    }
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
                "RabbitMQ 4 takes from such a queue what was returned 20 times, tried or not; "
            )?;
        }
        write!(
            f,
            "arguments cannot be changed: let it run empty, delete it, then `sluice topology apply`, or use another queues.prefix"
        )
    }
}

/// The command that takes the delivery limit off a queue that was declared without the argument.
pub(crate) fn lift_the_limit(queue: &str) -> String {
    let pattern = queue.replace('.', "\\.");
    format!(
        "rabbitmqctl set_policy sluice-no-limit '^{pattern}$' '{{\"delivery-limit\":-1}}' --apply-to queues"
    )
}

/// Connects and declares what is missing. For `sluice topology apply`, and for a start that should fail early.
///
/// # Errors
/// The broker is unreachable, or has something of that name that is different.
pub async fn apply(settings: &Settings, queues: &Queues) -> Result<Comparison, TopologyError> {
    let (connection, version) = reach(settings).await?;
    let report = declare(&connection, queues, version).await;
    close(&connection).await;
    report
}

/// Connects and compares, declaring nothing.
///
/// # Errors
/// The broker is unreachable. What is missing or different stands in the report.
pub async fn check(settings: &Settings, queues: &Queues) -> Result<Comparison, TopologyError> {
    let (connection, version) = reach(settings).await?;
    let report = compare(&connection, queues, version).await;
    close(&connection).await;
    Ok(report?)
}

/// What the broker's version makes of the settings, for `sluice topology show`.
///
/// # Errors
/// The broker is unreachable.
pub async fn show(
    settings: &Settings,
    queues: &Queues,
) -> Result<(Version, Vec<Object>), TopologyError> {
    let (connection, version) = reach(settings).await?;
    close(&connection).await;
    Ok((version, objects(queues, version)))
}

async fn reach(settings: &Settings) -> Result<(Connection, Version), TopologyError> {
    let opened = connect::first(settings, "sluice topology", HARD).await?;
    Ok((opened.connection, opened.version))
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
) -> Result<Comparison, TopologyError> {
    let mut report = Comparison::default();
    for object in objects(queues, version) {
        put(connection, &object, queues, &mut report).await?;
    }
    look_for_the_old(connection, queues, &mut report).await?;
    if report.mismatches.is_empty() {
        Ok(report)
    } else {
        Err(TopologyError::Mismatch(report.mismatches))
    }
}

/// Declares the one queue of this name where it is missing. What is different about it is told when all are declared.
pub(crate) async fn declare_one(
    connection: &Connection,
    queues: &Queues,
    version: Version,
    name: &str,
) -> Result<Comparison, SessionLost> {
    let mut report = Comparison::default();
    let is_meant = |object: &Object| matches!(object, Object::Queue { name: of, .. } if of == name);
    for object in objects(queues, version).iter().filter(|object| is_meant(object)) {
        put(connection, object, queues, &mut report).await?;
    }
    Ok(report)
}

/// Compares what exists on `connection` with what should.
pub(crate) async fn compare(
    connection: &Connection,
    queues: &Queues,
    version: Version,
) -> Result<Comparison, SessionLost> {
    let mut report = Comparison::default();
    for object in objects(queues, version) {
        match exists(connection, &object).await? {
            // Declaring what exists changes nothing and tells what is different. AMQP cannot ask for a binding.
            true if !matches!(object, Object::Binding { .. }) => {
                put(connection, &object, queues, &mut report).await?;
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
    look_for_the_old(connection, queues, &mut report).await?;
    Ok(report)
}

async fn look_for_the_old(
    connection: &Connection,
    queues: &Queues,
    report: &mut Comparison,
) -> Result<(), SessionLost> {
    for object in left_over(queues) {
        // A queue that is declared with it goes on using it, which is told already.
        if report.left_over.is_empty() && exists(connection, &object).await? {
            report.left_over.push(format!(
                "{object}: left over from a version before, and harmless; nothing uses it any more, so delete it when you like"
            ));
        }
    }
    Ok(())
}

/// The longest that a delivery may be held, where the broker takes deliveries back at all. `of_queue` is the request
/// queue's own timeout ([`Comparison::consumer_timeout`]); without it the broker's default of 30 minutes is assumed.
pub fn consumer_timeout(
    version: Version,
    kind: QueueType,
    of_queue: Option<Duration>,
) -> Option<Duration> {
    version.has_consumer_timeout(kind).then(|| of_queue.unwrap_or(CONSUMER_TIMEOUT))
}

/// RabbitMQ takes back what a consumer holds for longer, unless its operator has changed that.
pub const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Whether a delivery that is held for `max_hold` stays with its consumer: RabbitMQ looks once a minute before 4.3, and a
/// busy worker may be late.
pub fn outlasts(timeout: Duration, max_hold: Duration) -> bool {
    const SPARE: Duration = Duration::from_secs(60);
    max_hold + SPARE <= timeout
}

/// Whether `window.max_hold` is safe with this broker, see [`outlasts`].
///
/// # Errors
/// A sentence that says what to change.
pub fn check_hold(
    max_hold: Duration,
    version: Version,
    kind: QueueType,
    of_queue: Option<Duration>,
) -> Result<(), String> {
    match consumer_timeout(version, kind, of_queue) {
        Some(timeout) if !outlasts(timeout, max_hold) => Err(format!(
            "window.max_hold = {} is too long: RabbitMQ {version} takes deliveries back after {}{}, with all that the worker holds; leave at least a minute between them",
            show_duration(max_hold),
            show_duration(timeout),
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

    const V310: Version = Version::new(3, 10, 8);

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

//! How does the worker talk to RabbitMQ? Everything that names `lapin` stands here.
//!
//! A [`Broker`] is the source of requests: its supervisor opens one [`session`] after another, each of two
//! connections ([`connection::connect`]); what was declared or is wrong is [`topology`]'s; one task owns each confirm channel
//! ([`publish::publisher`]); bodies wait in memory or in a file ([`crate::worker::bodies`]).

mod connection;
mod consume;
mod control;
mod convert;
pub mod dead_letters;
mod doors;
mod publish;
mod session;
pub mod settings;
mod sizes;
pub mod streams;
pub mod topology;
mod transport;
mod version;

pub use connection::link::SessionLost;
pub use consume::delivery::Held;
pub use control::leasing::{Leasing, Turn, is_a_worker_there};
pub use control::short_connection::ShortConnection;
pub use control::steer::{Desk, NotAsked, ask};
pub use convert::coarse;
pub use publish::planner::{Enqueue, Planner, PlannerError, requests_waiting};
pub use session::source::{Broker, Options};
pub use session::status::{Others, State, Status};
pub use streams::reader::{ReadFrom, Reader};
pub use transport::{Filtered, filtered};
pub use version::Version;

use std::future::Future;
use std::time::Duration;

/// How long the broker may take to answer one method. Heartbeats find a dead peer in 10 s.
const ANSWER: Duration = Duration::from_secs(15);

/// Every await on the client library stands in here: several of them can hang for ever (a resource alarm, a silent network).
async fn within<T>(
    limit: Duration,
    what: &str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, SessionLost> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(SessionLost(format!("{what}: {error}"))),
        Err(_) => Err(SessionLost(format!("{what}: the broker did not answer in {limit:?}"))),
    }
}

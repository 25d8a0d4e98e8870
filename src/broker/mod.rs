//! How does the worker talk to RabbitMQ? Everything that names `lapin` stands here.
//!
//! A [`Broker`] is the source of requests: its [`supervisor`] opens one [`session`] after another, each of two
//! connections ([`connect`]); what was declared or is wrong is [`topology`]'s; one task owns each confirm channel
//! ([`publisher`]); bodies wait in memory or in a [`spill`] file.

mod active;
mod audit;
mod common;
mod connect;
mod convert;
pub mod dead_letters;
mod delivery;
mod link;
mod lock;
mod lookout;
mod parcels;
mod pass;
mod planner;
mod publisher;
mod reader;
mod session;
pub mod settings;
mod source;
mod spill;
mod status;
mod steer;
mod supervisor;
mod taker;
mod taking;
mod tool;
pub mod topology;
mod transport;
mod version;

pub use delivery::Held;
pub use link::SessionLost;
pub use planner::{Enqueue, Planner, PlannerError, coarse, requests_waiting};
pub use reader::{From, Reader};
pub use source::{Broker, Options};
pub use spill::{Body, Spill};
pub use status::{Others, State, Status};
pub use steer::{NotAsked, ask};
pub use tool::Tool;
pub use transport::{Filtered, filtered};
pub use version::Version;

use std::future::Future;
use std::time::Duration;

/// How long the broker may take to answer one method. Heartbeats find a dead peer in 10 s.
const ANSWER: Duration = Duration::from_secs(15);

/// Every await on the client library stands in here: several of them can hang for ever (an alarm, a silent network).
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

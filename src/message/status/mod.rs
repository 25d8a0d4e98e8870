//! How is the worker just now? One snapshot, written by the worker and read by everybody who asks: `/readyz`, `/status`,
//! the console, `sluice gate status`.

mod why;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::gate::Reason;

/// How many requests the window holds, by state.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct WindowCounts {
    pub ready: usize,
    pub waiting: usize,
    pub in_flight: usize,
    pub settling: usize,
    /// Ended, and the broker refuses the result or the dead letter.
    #[serde(default)]
    pub unpublished: usize,
}

/// How far one open batch has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BatchCounts {
    pub batch: String,
    /// The generation that is counted, the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub batch_run: Option<Uuid>,
    pub open: u64,
    pub done: u64,
    pub failed: u64,
}

/// One lane at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    /// The lane's name: its configuration file's, without the ending.
    pub lane: String,
    pub version: Cow<'static, str>,
    /// The worker's name, as results carry it.
    pub worker: String,
    /// Where its console is, as people reach it; none where it serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// When this snapshot was taken.
    #[schemars(with = "String")]
    pub at: Timestamp,
    pub session: SessionStatus,
    pub gate: Gate,
    pub window: WindowCounts,
    /// `window.size`: how many the window holds at most; 0: not known.
    #[serde(default)]
    pub window_size: usize,
    /// When the first of those goes that wait for a time of their own.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub next_wait: Option<Timestamp>,
    /// Bytes of the bodies held.
    pub window_bytes: u64,
    /// Seconds since the oldest delivery held was received.
    pub oldest_held_seconds: Option<f64>,
    pub limits: Limits,
    /// Migrations running in the account, where they are watched.
    pub running: Option<Running>,
    /// Messages ready in the request queue and in the dead-letter queue, as last looked; none while that is not known.
    pub queues: Option<Queues>,
    /// Requests that wait for a time or an order outside of the window, as far as that is known.
    #[serde(default)]
    pub parked: usize,
    /// When all that waits will have been submitted; none where nobody knows, and of a standby.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// Others that consume the request queue beside the active worker; none where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Others>,
    /// Something that is no worker consumes the queue that says who is active.
    #[serde(default)]
    pub foreign: bool,
    /// Sessions in a row that have ended before requests in doubt could be looked up a second time.
    #[serde(default)]
    pub short_sessions: u32,
    pub batches: Vec<BatchCounts>,
    pub settled: u64,
    /// A signal came: nothing new is started.
    pub stopping: bool,
}

/// What the worker is to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SessionStatus {
    /// No session: why, and since when.
    Detached {
        why: String,
        #[schemars(with = "String")]
        since: Timestamp,
    },
    /// Another worker of the same prefix is the active one.
    Standby {
        #[schemars(with = "String")]
        since: Timestamp,
    },
    /// This worker consumes.
    Active {
        #[schemars(with = "String")]
        since: Timestamp,
        /// RabbitMQ's version.
        server: String,
        /// Exchanges and queues whose arguments the broker's user may not compare.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unchecked: Vec<String>,
    },
}

/// Whether the next request may go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Gate {
    pub open: bool,
    /// Why it is shut.
    pub reason: Option<Reason>,
    /// For people: what the API said, who paused it and why.
    pub detail: Option<String>,
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// When it opens again, or is tried again, where that is known.
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Limits {
    /// As configured, or as an operator set them.
    pub rates: Vec<String>,
    /// Calls per second over the last minute.
    pub made_per_second: f64,
    /// Calls per second allowed now; `None`: no limit.
    pub allowed_per_second: Option<f64>,
    /// Since when less is allowed than configured, for the API said 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub lowered_since: Option<Timestamp>,
    pub max_in_flight: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Running {
    /// `None` before the first count: they are counted when a request waits for a place.
    pub migrations: Option<u32>,
    /// `limits.max_running`
    pub most: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Queues {
    pub requests: u64,
    pub dead_letters: u64,
}

/// How it stands with all that the worker holds and all that waits in its queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Forecast {
    /// So many have not been submitted.
    pub left: u64,
    /// When the last one will have been that nobody holds, if nothing fails and nothing more urgent comes; none while
    /// something holds all of them for an unknown time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub end: Option<Timestamp>,
    /// So many of them go only when an order releases them.
    #[serde(default)]
    pub on_hold: u64,
}

/// Consumers of the request queue that are none of Sluicegate's active worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Others {
    pub consumers: u32,
    /// Whether this worker has been given anything in this session: then it is the queue's single active consumer, and
    /// the others wait for its end. If not, they have the requests.
    pub receives: bool,
}

impl Status {
    /// A worker that has just begun.
    pub fn starting(lane: &str, worker: &str, now: Timestamp) -> Self {
        Self {
            lane: lane.to_owned(),
            version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
            worker: worker.to_owned(),
            console: None,
            started_at: now,
            at: now,
            session: SessionStatus::Detached {
                why: "connecting for the first time".to_owned(),
                since: now,
            },
            gate: Gate {
                open: false,
                reason: Some(Reason::NoSession),
                detail: None,
                since: Some(now),
                until: None,
            },
            window: WindowCounts::default(),
            window_size: 0,
            next_wait: None,
            window_bytes: 0,
            oldest_held_seconds: None,
            limits: Limits {
                rates: Vec::new(),
                made_per_second: 0.0,
                allowed_per_second: None,
                lowered_since: None,
                max_in_flight: 0,
            },
            running: None,
            queues: None,
            parked: 0,
            forecast: None,
            others: None,
            foreign: false,
            short_sessions: 0,
            batches: Vec::new(),
            settled: 0,
            stopping: false,
        }
    }

    /// Whether the broker is attached and gives its requests to Sluicegate: the active worker and its standbys are ready.
    pub fn is_ready(&self) -> bool {
        !matches!(self.session, SessionStatus::Detached { .. })
            && !self.stopping
            && !self.is_robbed()
            && !self.foreign
    }

    /// Others consume the requests, and this worker is given none.
    pub fn is_robbed(&self) -> bool {
        let is_active = matches!(self.session, SessionStatus::Active { .. });
        let waits = self.queues.is_none_or(|queues| queues.requests > 0);
        is_active && waits && self.others.is_some_and(|others| !others.receives)
    }
}

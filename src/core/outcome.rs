//! How did a request end? An [`Ending`] is everything that a result or a dead letter says beyond the request itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::verdict::Fault;
use crate::contract::Violation;

labelled! {
    /// How a request ended. All but `created`, `exists` and `cancelled` are dead letters.
    Outcome {
        /// A task was created for this run.
        Created => "created",
        /// The source server already has the task that the request asks for.
        Exists => "exists",
        /// The API refused the request for good.
        Rejected => "rejected",
        /// Another task stands in the way.
        Conflict => "conflict",
        /// The body breaks the API's contract; it was never sent.
        Invalid => "invalid",
        /// The retries ran out.
        Exhausted => "exhausted",
        /// The deadline passed before it could be sent.
        Expired => "expired",
        /// It may or may not have been created, and no look-up could tell.
        Unknown => "unknown",
        /// Its planner has taken it back before it was sent.
        Cancelled => "cancelled",
    }
}

impl Outcome {
    // Each is named, so that a new one has to say what it is.
    pub fn is_dead_letter(self) -> bool {
        match self {
            Self::Created | Self::Exists | Self::Cancelled => false,
            Self::Rejected
            | Self::Conflict
            | Self::Invalid
            | Self::Exhausted
            | Self::Expired
            | Self::Unknown => true,
        }
    }

    /// Whether there is a task as it was asked for.
    pub fn is_success(self) -> bool {
        matches!(self, Self::Created | Self::Exists)
    }

    /// Whether there may be a task all the same.
    pub fn is_in_doubt(self) -> bool {
        match self {
            Self::Exhausted | Self::Unknown => true,
            Self::Created
            | Self::Exists
            | Self::Rejected
            | Self::Conflict
            | Self::Invalid
            | Self::Expired
            | Self::Cancelled => false,
        }
    }
}

/// One attempt or look-up of a request's history, as a dead letter's `x-sluice-history` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Try {
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// `post` or `look`
    pub what: std::borrow::Cow<'static, str>,
    /// The verdict's word, see [`super::verdict::Verdict::as_str`].
    pub verdict: std::borrow::Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
}

/// How a settlement has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// Published, confirmed, and the delivery acknowledged.
    Done,
    /// Its session was lost under it: the delivery is void, and comes again.
    Void,
    /// The broker refuses what was to be published. The delivery is held as before.
    Refused,
}

/// How a request ended, and what is known about it.
#[derive(Clone, Debug)]
pub struct Ending {
    pub outcome: Outcome,
    pub task_id: Option<String>,
    /// The state of the task that a look-up found.
    pub task_state: Option<String>,
    /// What the API said, for outcomes that come from an answer.
    pub fault: Option<Fault>,
    /// For `invalid`: every rule of the contract that the body breaks.
    pub violations: Vec<Violation>,
    /// One sentence for the reader of a dead letter: what happened and what to do.
    pub reason: String,
    pub attempts: u32,
    pub look_ups: u32,
    /// Its dead letter has been published and confirmed; its result may not have been.
    pub dead_lettered: bool,
    /// Surely no `POST` of it was ever begun, by whomever.
    pub never_sent: bool,
    pub first_attempt_at: Option<Timestamp>,
    pub settled_at: Timestamp,
    pub history: Vec<Try>,
}

//! Why is the gate shut, and until when?

use serde::{Deserialize, Serialize};

use crate::core::breaker::Cause;
use crate::core::time::Moment;

/// Why the gate is shut.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The worker is stopping.
    Stopping,
    /// No session with the broker, or another worker is the active one.
    NoSession,
    /// The first requests wait for company.
    Linger,
    /// Results cannot be published.
    Blocked,
    /// Too many requests have ended whose result or dead letter the broker refuses.
    Unpublished,
    /// The account refuses: the breaker is open.
    Halted,
    /// A fresh token is being fetched.
    Token,
    /// Many failures in a row: the breaker is open.
    Breaker,
    /// The API said 429.
    Throttled,
    /// An operator paused it.
    Paused,
    /// Outside of the windows of `[schedule]`.
    Schedule,
    /// The account runs `limits.max_running` migrations, or it is not known how many.
    Running,
    /// `limits.max_in_flight` requests are in flight.
    InFlight,
    /// `limits.rates`
    Rate,
}

impl Reason {
    pub const ALL: [Self; 14] = [
        Self::Stopping,
        Self::NoSession,
        Self::Linger,
        Self::Blocked,
        Self::Unpublished,
        Self::Halted,
        Self::Token,
        Self::Breaker,
        Self::Throttled,
        Self::Paused,
        Self::Schedule,
        Self::Running,
        Self::InFlight,
        Self::Rate,
    ];

    /// Why an open breaker shuts the gate.
    pub fn of(cause: Cause) -> Self {
        match cause {
            Cause::Account => Self::Halted,
            Cause::Failures => Self::Breaker,
        }
    }

    /// The word of the metric's `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::NoSession => "no_session",
            Self::Linger => "linger",
            Self::Blocked => "blocked",
            Self::Unpublished => "unpublished",
            Self::Halted => "halted",
            Self::Token => "token",
            Self::Breaker => "breaker",
            Self::Throttled => "throttled",
            Self::Paused => "paused",
            Self::Schedule => "schedule",
            Self::Running => "running",
            Self::InFlight => "in_flight",
            Self::Rate => "rate",
        }
    }
}

/// The gate is shut: why, and until when if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shut {
    pub reason: Reason,
    pub until: Option<Moment>,
}

impl Shut {
    pub(super) fn new(reason: Reason, until: Option<Moment>) -> Self {
        Self { reason, until }
    }
}

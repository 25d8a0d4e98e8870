//! Why is the gate shut, and until when?

use crate::core::breaker::Cause;
use crate::core::time::Moment;

labelled! {
    /// Why the gate is shut.
    Reason {
        /// The worker is stopping.
        Stopping => "stopping",
        /// No session with the broker, or another worker is the active one.
        NoSession => "no_session",
        /// The first requests wait for company.
        Linger => "linger",
        /// Results cannot be published.
        Blocked => "blocked",
        /// Too many requests have ended whose result or dead letter the broker refuses.
        Unpublished => "unpublished",
        /// The account refuses: the breaker is open.
        Halted => "halted",
        /// A fresh token is being fetched.
        Token => "token",
        /// Many failures in a row: the breaker is open.
        Breaker => "breaker",
        /// The API said 429.
        Throttled => "throttled",
        /// An operator paused it.
        Paused => "paused",
        /// Outside of the windows of `[schedule]`.
        Schedule => "schedule",
        /// The account runs `limits.max_running` migrations, or it is not known how many.
        Running => "running",
        /// `limits.max_in_flight` requests are in flight.
        InFlight => "in_flight",
        /// `limits.rates`
        Rate => "rate",
    }
}

impl Reason {
    /// Why an open breaker shuts the gate.
    pub fn of(cause: Cause) -> Self {
        match cause {
            Cause::Account => Self::Halted,
            Cause::Failures => Self::Breaker,
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

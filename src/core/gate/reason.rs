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

    /// Of all that holds the next request, what holds it longest: that is what people are told. What only somebody can
    /// end goes before what ends at a time, and that before being in line: whoever waits for their turn in the rate of
    /// a paused gate waits for the pause. The time is the last one of all, for nothing goes before it.
    pub fn longest(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        let all: Vec<Self> = all.into_iter().collect();
        let last = all.iter().filter_map(|shut| shut.until).max();
        // Of equals the one that stands first in the list of reasons.
        let order = |shut: &Self| (shut.hold(), shut.until, std::cmp::Reverse(shut.reason.index()));
        let longest = all.iter().copied().max_by_key(order)?;
        Some(Self { until: longest.until.and(last), ..longest })
    }

    fn hold(self) -> Hold {
        match self.reason {
            Reason::Stopping | Reason::NoSession | Reason::Blocked | Reason::Paused => {
                Hold::Somebody
            }
            Reason::Schedule if self.until.is_none() => Hold::Somebody,
            Reason::Unpublished
            | Reason::Halted
            | Reason::Token
            | Reason::Breaker
            | Reason::Throttled
            | Reason::Schedule
            | Reason::Running => Hold::Time,
            Reason::InFlight => Hold::Others,
            Reason::Linger | Reason::Rate => Hold::Turn,
        }
    }
}

/// What ends it, from the soonest to the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    /// Its turn comes: the gate is as good as open.
    Turn,
    /// One of those in flight ends.
    Others,
    /// A time comes, or an answer.
    Time,
    /// An operator, the broker or another configuration.
    Somebody,
}

//! May another process make calls now? Not while calls fail or are refused, and never ahead of a `POST` that is due.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Core;
use crate::core::gate::{Call, Reason};
use crate::core::limits::{Grant, NotLent};
use crate::core::time::{Moment, Now};
use crate::core::window::Line;

/// Where no worker is active, others ask before each call whether one is; what they hear holds for so long.
pub(super) const USED: Duration = Duration::from_secs(2);

/// Why another process may make no calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unlent {
    /// The gate is shut for all calls, until then if that is known.
    Shut { reason: Reason, until: Option<Moment> },
    /// Something is lent already or was lately, or a request is due: not before this moment.
    Before(Moment),
    /// A tenth of the rates is too little to be of use.
    TooSlow,
}

impl Unlent {
    /// When it is worth asking again, if that is known.
    pub fn until(self) -> Option<Moment> {
        match self {
            Self::Shut { until, .. } => until,
            Self::Before(at) => Some(at),
            Self::TooSlow => None,
        }
    }

    /// It is of no use to ask again.
    pub fn is_final(self) -> bool {
        self == Self::TooSlow
    }
}

impl fmt::Display for Unlent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shut { reason, .. } => {
                write!(f, "the worker's own calls wait, too ({})", reason.as_str())
            }
            Self::Before(_) => f.write_str(
                "another process uses the part of the rate that the worker can spare, or has just done so",
            ),
            Self::TooSlow => f.write_str(
                "a tenth of limits.rates is less than a call in ten minutes: ask when no worker is active",
            ),
        }
    }
}

impl<D> Core<D> {
    /// Lends up to so many calls.
    pub(super) fn lend(&mut self, now: Now, calls: u32) -> Result<Grant, Unlent> {
        let shut = |reason, until| Unlent::Shut { reason, until };
        if self.session.stopping {
            return Err(shut(Reason::Stopping, None));
        }
        if !self.session.is_open() {
            return Err(shut(Reason::NoSession, None));
        }
        self.gate.tick(now.at);
        let waits = [Line::Starting, Line::CreateOnly].map(|line| self.first_post(line).is_some());
        let busy = waits.contains(&true);
        match self.gate.check(now.at, Call::LookUp) {
            // A permit is free, and the next one to go would take it.
            Ok(()) if busy && self.may_post(now).0.is_ok() => {
                return Err(Unlent::Before(now.at + self.gate.limits().pace()));
            }
            Ok(()) => {}
            Err(own) if matches!(own.reason, Reason::Rate | Reason::InFlight) => {}
            Err(own) => return Err(shut(own.reason, own.until)),
        }
        self.gate.lend(now.at, calls, busy).map_err(|not| match not {
            NotLent::Before(at) => Unlent::Before(at),
            NotLent::TooSlow => Unlent::TooSlow,
        })
    }
}

//! When is an open breaker probed next?

use std::time::Duration;

use jiff::Timestamp;

use super::{Call, Cause};
use crate::core::retry::{self, Jitter};
use crate::core::time::{Moment, Now};
use crate::core::verdict::Fault;

/// The longest wait between two probes of an API that fails.
const FAILING_MAX: Duration = Duration::from_secs(60);

/// A breaker that is open.
#[derive(Clone, Debug)]
pub struct Open {
    pub cause: Cause,
    /// What the API, the gateway or the network said last.
    pub fault: Fault,
    pub since: Timestamp,
    /// The kind of call that is in trouble.
    pub call: Call,
    /// The token was refused: a probe begins with a fresh one.
    pub token: bool,
    pub probe_at: Moment,
    pub(super) interval: Duration,
    /// Probes that have been made.
    pub probes: u32,
    /// Every request that could go was refused, and those were fewer than [`REFUSALS`](super::REFUSALS): the next one that comes goes at once.
    pub(super) few: bool,
}

impl Open {
    pub(super) fn new(
        now: Now,
        cause: Cause,
        call: Call,
        fault: &Fault,
        interval: Duration,
    ) -> Self {
        Self {
            cause,
            fault: fault.clone(),
            since: now.wall,
            call,
            token: false,
            probe_at: now.at + interval,
            interval,
            probes: 0,
            few: false,
        }
    }

    pub(super) fn fail(
        &mut self,
        now: Moment,
        call: Call,
        fault: &Fault,
        (retry, jitter): (&retry::RetrySettings, &mut Jitter),
    ) {
        // Calls that were out when the breaker opened do not lengthen it.
        if self.probe_at > now {
            return;
        }
        self.call = call;
        self.fault = fault.clone();
        self.probe_at = now + retry::delay(retry, self.probes.max(1), jitter).min(FAILING_MAX);
    }

    pub(super) fn postpone(&mut self, now: Moment) {
        if self.probe_at <= now {
            self.probe_at = now + self.interval;
        }
    }
}

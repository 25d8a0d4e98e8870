//! For how long has everything had to wait, and how do the clocks stand to each other?

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::time::{Moment, Now};

/// The two clocks may move so far against each other before what waits for the wall clock is sorted anew.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(1);

/// What keeps everything back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    /// A breaker that failures have opened.
    Failures,
    /// The account, an operator, or that there is no session.
    Halt,
}

/// What the core has seen of time.
#[derive(Debug)]
pub(super) struct ElapsedTimes {
    /// When it was asked last.
    pub(super) seen: Moment,
    /// How long a pause, a halt or the breaker have kept everything back so far, as of `seen`, and what does now.
    pub(super) kept: Duration,
    keeps: Keeps,
    /// The same without a breaker that failures have opened: look-ups go on meanwhile.
    pub(super) halted: Duration,
    /// The API's clock minus ours.
    pub(super) skew: SignedDuration,
    /// The wall clock minus the monotonic one, as what waits for the wall clock is sorted.
    sorted_by: Option<SignedDuration>,
}

impl ElapsedTimes {
    pub(super) fn begin(now: Moment) -> Self {
        Self {
            seen: now,
            kept: Duration::ZERO,
            keeps: Keeps::Nothing,
            halted: Duration::ZERO,
            skew: SignedDuration::ZERO,
            sorted_by: None,
        }
    }

    /// Time has passed; from now on this keeps everything back.
    pub(super) fn pass(&mut self, now: Moment, keeps: Keeps) {
        let since = now - self.seen;
        if self.keeps != Keeps::Nothing {
            self.kept += since;
        }
        if self.keeps == Keeps::Halt {
            self.halted += since;
        }
        (self.seen, self.keeps) = (now, keeps);
    }

    /// Whether the wall clock has moved against the monotonic one, since this was last so: a suspended machine does that,
    /// or a clock that is set.
    pub(super) fn clocks_moved(&mut self, now: Now) -> bool {
        let since = SignedDuration::try_from(now.at - Moment::START).unwrap_or(SignedDuration::MAX);
        let offset = now.wall.as_duration().saturating_sub(since);
        let sorted_by = *self.sorted_by.get_or_insert(offset);
        let moved = (offset.saturating_sub(sorted_by)).abs() > CLOCKS_APART;
        if moved {
            self.sorted_by = Some(offset);
        }
        moved
    }

    /// The API said that it is this time there.
    pub(super) fn heed_date(&mut self, now: Now, date: Option<Timestamp>) {
        if let Some(date) = date {
            self.skew = date.duration_since(now.wall);
        }
    }
}

//! Which session are the deliveries of, and how long do its first requests wait for company?

use std::time::Duration;

use crate::core::time::Moment;

/// After a start the first request waits until as many as waited have come, and then until no delivery has come for so
/// long, for what a predecessor held comes back on top of them ...
const START_QUIET: Duration = Duration::from_millis(200);
/// ... but for that no longer than this: others may publish all the time. What still has to come is not waited for
/// when nothing more has come for so long: it may have been purged ...
const START_LINGER: Duration = Duration::from_secs(5);
/// ... nor longer than this in all.
const START_LONGEST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Linger {
    /// Nothing is held: the next delivery starts the linger.
    Idle,
    /// After a start: as many as `missing` still have to come; `since` when that is waited for, or for the quiet after it,
    /// and when the latest delivery came.
    Start {
        since: Moment,
        latest: Moment,
        missing: usize,
    },
    Until(Moment),
    Over,
}

/// The session with the source of requests, from its beginning to its end, and what came before it.
#[derive(Debug)]
pub(super) struct SourceSession {
    number: Option<u32>,
    began: Moment,
    /// How many in a row have ended before a second look-up was due, with requests in doubt.
    short: u32,
    /// Nothing new is started any more.
    pub(super) stopping: bool,
    /// The source has no more requests.
    pub(super) source_ended: bool,
    linger: Linger,
}

impl SourceSession {
    /// None yet.
    pub(super) fn none() -> Self {
        Self {
            number: None,
            began: Moment::START,
            short: 0,
            stopping: false,
            source_ended: false,
            linger: Linger::Idle,
        }
    }

    pub(super) fn open(&mut self, now: Moment, number: u32, waiting: usize) {
        self.number = Some(number);
        self.began = now;
        self.linger = Linger::Start { since: now, latest: now, missing: waiting };
    }

    /// It has ended. `lasted`: longer than a second look-up takes; `in_doubt`: requests waited for one.
    pub(super) fn lose(&mut self, lasted: bool, in_doubt: bool) {
        if lasted {
            self.short = 0;
        } else if in_doubt {
            self.short += 1;
        }
        self.number = None;
    }

    pub(super) fn number(&self) -> Option<u32> {
        self.number
    }

    pub(super) fn is_open(&self) -> bool {
        self.number.is_some()
    }

    /// Whether this is its number: the deliveries of others are void.
    pub(super) fn is(&self, number: u32) -> bool {
        self.number == Some(number)
    }

    pub(super) fn lasted(&self, now: Moment) -> Duration {
        now - self.began
    }

    /// How many in a row were too short, but for the one that has lasted by now.
    pub(super) fn short(&self, lasted: bool) -> u32 {
        if self.is_open() && lasted { 0 } else { self.short }
    }

    pub(super) fn source_has_ended(&mut self) {
        self.source_ended = true;
        self.linger = Linger::Over;
    }

    /// When the first requests stop waiting for company, of which so many are held; `None`: now.
    pub(super) fn lingers(&mut self, now: Moment, held: usize, room: usize) -> Option<Moment> {
        let until = match self.linger {
            Linger::Idle | Linger::Over => return None,
            Linger::Start { .. } if held >= room => now,
            Linger::Start { since, latest, missing: 0 } => {
                (latest + START_QUIET).min(since + START_LINGER)
            }
            Linger::Start { since, .. } if held == 0 => since + START_LONGEST,
            Linger::Start { since, latest, .. } => {
                (latest + START_LINGER).min(since + START_LONGEST)
            }
            Linger::Until(until) => until,
        };
        if until > now {
            return Some(until);
        }
        self.linger = if held == 0 { Linger::Idle } else { Linger::Over };
        None
    }

    /// A delivery has come. `idle`: nothing else is there; then others are waited for so long.
    pub(super) fn note_arrival(&mut self, now: Moment, idle: bool, wait: Duration) {
        match &mut self.linger {
            Linger::Start { since, latest, missing } => {
                *latest = now;
                if *missing == 1 {
                    *since = now;
                }
                *missing = missing.saturating_sub(1);
            }
            linger if idle => *linger = Linger::Until(now + wait),
            _ => {}
        }
    }
}

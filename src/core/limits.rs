//! When may the next call go? Several limits at once on governor's cell rate algorithm, arranged so that a server that
//! counts in sliding windows never sees one over its limit, and lowered for a while when the server says 429.

mod lent;

use std::cmp;
use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use super::rate::Rate;
use super::time::Moment;
use lent::Lent;

pub use lent::{Grant, LONGEST, NotLent};

/// How late a timer may wake the worker without costing a call: tokio's timer ticks in milliseconds and was measured
/// 1.1 ms late in the mean; a busy machine adds some. It costs this part of a window in calls: 0.4 % of a second.
const LATENESS: Duration = Duration::from_millis(4);
/// The learned share is counted in thousandths.
const FULL: u32 = 1_000;
/// The share is never lowered below this: a 64th.
const LEAST: u32 = FULL / 64;
/// How much of the configured rate comes back with each quiet window ...
const CLIMB: u32 = 50;
/// ... and how much once the share is near the one at which the server last refused.
const CREEP: u32 = 5;

/// The limits of one account. Pure: it is told the time.
///
/// # How a limit holds
/// A limit of L calls in a window W becomes one cell of `k·unit` each call, with a tolerance of `m·unit`. Calls within
/// a span S then number at most `(S + m·unit) / (k·unit) + 1`, and with jitter up to `margin` on the way the calls that
/// arrive within W were sent within `W + margin`. So `unit > (W + margin) / (k·L - m)` admits at most L to any window.
/// With `m = (b-1)·k` this is the usual burst of b calls and a period of `(W + margin) / (L + 1 - b)`; but a burst of
/// two costs a whole call of each window, and all that is needed is the time by which a timer is late. A call is
/// therefore several of governor's cells, and the tolerance is [`LATENESS`], whatever the rate: it leaves the most of
/// the quota. The share used is `W / (W + margin + LATENESS)`: 98.6 % of `10/s` with a margin of 10 ms.
///
/// # How it starts
/// Spent: as if it had used up its tolerance at that moment. Whatever calls a predecessor with the same limits made
/// until then, the calls of both together obey the limit.
///
/// # What a 429 does
/// The *share* is the part of the configured rates that is permitted, 1 at first. [`Limits::lower`] halves it (not
/// below a 64th). With every quiet window (the longest of all limits, a second at least) a 20th of the
/// configured rate comes back; above 7/8 of the share at which the server last refused, only a 200th, so that a quota shared
/// with other clients is found and kept to instead of run into again and again. Back at 1, that memory is dropped. A
/// quota that the refusal names is a further limit, kept until the limits are set anew.
#[derive(Debug)]
pub struct Limits {
    configured: Vec<Rate>,
    /// The quota that a 429 named, where it is tighter than what is configured.
    named: Option<Rate>,
    margin: Duration,
    cells: Vec<Cell>,
    /// The latest call, or when the limits were set: what new cells are spent at.
    last: Moment,
    /// Thousandths of the configured rates.
    share: u32,
    /// The share at which the server last refused.
    refused_at: u32,
    lowered: Option<Moment>,
    next_climb: Moment,
    /// What another process may use of them meanwhile ...
    lent: Option<Lent>,
    /// ... and from when on it may be lent something again while requests wait.
    rested_at: Moment,
    /// All of a limit is lent until then.
    none_before: Moment,
}

impl Limits {
    /// `margin` is the greatest difference between the times that two calls need to reach the server's counter. No
    /// rates: no limit.
    pub fn new(rates: &[Rate], margin: Duration, start: Moment) -> Self {
        let mut limits = Self {
            configured: rates.to_vec(),
            named: None,
            margin,
            cells: Vec::new(),
            last: start,
            share: FULL,
            refused_at: FULL,
            lowered: None,
            next_climb: Moment::FAR,
            lent: None,
            rested_at: Moment::START,
            none_before: Moment::START,
        };
        limits.rebuild();
        limits
    }

    /// Other limits from now on, and nothing learned. They start spent, and as the old ones hold until now and the new
    /// ones from now on, a window that spans the change sees no more than the greater of the two lets through. What is lent
    /// ends under the old ones, and is left out of the new ones, too.
    pub fn set_rates(&mut self, rates: &[Rate], now: Moment) {
        let (lent, rested_at) = (self.lent.take(), self.rested_at);
        *self = Self { lent, rested_at, ..Self::new(rates, self.margin, now) };
        if self.lent.is_some() {
            self.rebuild();
        }
    }

    /// Spent from now on: somebody else may have used the same quota until now. What was learned is kept.
    pub fn restart(&mut self, now: Moment) {
        self.last = cmp::max(self.last, now);
        self.rebuild();
    }

    /// The earliest moment, not before `now`, at which one call may go.
    pub fn ready_at(&self, now: Moment) -> Moment {
        self.cells.iter().map(|cell| cell.ready).fold(now.max(self.none_before), cmp::max)
    }

    /// One call goes now. To be called only when [`Limits::ready_at`] is `now`: governor cannot take a cell back, so
    /// all limits are asked before any is used.
    pub fn take(&mut self, now: Moment) {
        debug_assert!(self.ready_at(now) == now, "a call was started before its limits allowed it");
        self.last = cmp::max(self.last, now);
        for cell in &mut self.cells {
            cell.take(now);
        }
    }

    /// The server refused (429) a call that was started at `started`. `named` is the quota that the answer spelled
    /// out; `until` is when the gate opens again, from when on quiet is counted. Refusals of calls that were under way
    /// when the rate was last lowered say nothing new: `false`.
    pub fn lower(
        &mut self,
        started: Moment,
        named: Option<Rate>,
        now: Moment,
        until: Moment,
    ) -> bool {
        self.next_climb = cmp::max(now, until) + self.quiet();
        if self.lowered.is_some_and(|lowered| started <= lowered) {
            return false;
        }
        let known = self.tightest().unwrap_or(f64::INFINITY);
        if let Some(rate) = named.filter(|rate| rate.per_second() < known) {
            self.named = Some(rate);
        }
        self.lowered = Some(now);
        self.refused_at = self.share;
        self.share = cmp::max(self.share / 2, LEAST);
        self.next_climb = cmp::max(now, until) + self.quiet();
        self.rebuild();
        true
    }

    /// Lets a lowered rate climb. Cheap, so call it with every event; answers when it has something to do next.
    pub fn tick(&mut self, now: Moment) -> Option<Moment> {
        let mut climbed = false;
        while self.share < FULL && self.next_climb <= now {
            let near = self.share >= self.refused_at - self.refused_at / 8;
            self.share = cmp::min(self.share + if near { CREEP } else { CLIMB }, FULL);
            self.next_climb = self.next_climb + self.quiet();
            climbed = true;
        }
        if climbed {
            if self.share == FULL {
                self.refused_at = FULL;
            }
            self.rebuild();
        }
        let climbs = (self.share < FULL).then_some(self.next_climb);
        self.end_lent(now).into_iter().chain(climbs).min()
    }

    /// The part of the configured rates that 429s have left, and when the last of them came; `None`: all of it.
    pub fn learned(&self) -> Option<(f64, Moment)> {
        let named = self.named.is_some().then_some(self.last);
        let lowered = self.lowered.filter(|_| self.share < FULL).or(named)?;
        Some((f64::from(self.share) / f64::from(FULL), self.lowered.unwrap_or(lowered)))
    }

    /// Calls per second that the configured limits allow in the long run; `None` without limits.
    pub fn configured_per_second(&self) -> Option<f64> {
        self.configured.iter().map(|rate| rate.per_second()).reduce(f64::min)
    }

    /// Calls per second permitted just now: the configured ones, less what was learned from refusals.
    pub fn permitted_per_second(&self) -> Option<f64> {
        self.tightest().map(|rate| rate * f64::from(self.share) / f64::from(FULL))
    }

    /// The time that one call takes of what is permitted just now.
    pub fn pace(&self) -> Duration {
        let rate = self.permitted_per_second().unwrap_or(f64::INFINITY);
        Duration::try_from_secs_f64(rate.recip()).unwrap_or(Duration::MAX)
    }

    /// The configured limits, as given.
    pub fn rates(&self) -> &[Rate] {
        &self.configured
    }

    fn all(&self) -> impl Iterator<Item = Rate> + '_ {
        self.configured.iter().copied().chain(self.named)
    }

    fn tightest(&self) -> Option<f64> {
        self.all().map(Rate::per_second).reduce(f64::min)
    }

    /// How long no refusal must come for the rate to climb by a step.
    fn quiet(&self) -> Duration {
        self.all().map(Rate::window).fold(Duration::from_secs(1), cmp::max)
    }

    /// Cells for the present share, spent at the latest call: their first call comes a whole period after it, as the
    /// slower or faster ones before would have had it at the earliest, so no window spans more than the limit.
    fn rebuild(&mut self) {
        let left: Vec<_> = self.all().map(|rate| self.less_lent(rate)).collect();
        let back = self.lent.as_ref().map(|lent| lent.until).filter(|_| left.contains(&None));
        self.none_before = back.unwrap_or(Moment::START);
        let cell = |rate| Cell::spent(rate, self.margin, self.share, self.last);
        self.cells = left.into_iter().flatten().map(cell).collect();
    }

    /// A limit without what is lent of it; `None`: nothing is left.
    fn less_lent(&self, rate: Rate) -> Option<Rate> {
        let lent = self.lent.as_ref().map_or(0, |lent| lent.within(rate.window()));
        Rate::new(rate.count().saturating_sub(lent), rate.window())
    }
}

/// One limit.
#[derive(Debug)]
struct Cell {
    limiter: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Tick>>,
    /// Governor's cells a call.
    call: NonZeroU32,
    /// Governor's cells in all: a call, and the tolerance.
    burst: NonZeroU32,
    /// The tolerance as a time.
    tolerance: Duration,
    /// When the next call may go, read from governor after the one before.
    ready: Moment,
}

impl Cell {
    fn spent(rate: Rate, margin: Duration, share: u32, at: Moment) -> Self {
        let (call, burst, unit) = Self::divide(rate, margin);
        let unit = Duration::from_nanos((unit * u64::from(FULL)).div_ceil(u64::from(share)));
        // `with_period` answers `None` only for a period of zero, which `divide` never gives.
        let quota = Quota::with_period(unit)
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let limiter =
            RateLimiter::new(quota, InMemoryState::default(), Told(AtomicU64::new(at.as_nanos())));
        let tolerance = unit * (burst.get() - call.get());
        let mut fresh = Self { limiter, call, burst, tolerance, ready: at };
        fresh.use_up(burst, at);
        fresh
    }

    /// A call in governor's cells, all cells, and the nanoseconds of one: see [`Limits`].
    fn divide(rate: Rate, margin: Duration) -> (NonZeroU32, NonZeroU32, u64) {
        let nanos = |time: Duration| {
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / u64::from(FULL) / 2)
        };
        let span = nanos(rate.window()).saturating_add(nanos(margin));
        let count = u64::from(rate.count());
        // A tenth of a millisecond is fine enough for a tolerance, and coarse enough that whole nanoseconds cost nothing.
        let call = (span / count / 100_000).clamp(1, 1_000_000);
        let cells = call * count;
        // A quarter of a very short window at most, so that something of it is left.
        let tolerance = nanos(cmp::min(LATENESS, rate.window() / 4));
        let tolerance = u64::try_from(u128::from(tolerance) * u128::from(cells) / u128::from(span))
            .unwrap_or(0);
        let unit = span / (cells - tolerance) + 1;
        let narrow = |cells: u64| {
            u32::try_from(cells).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX)
        };
        (narrow(call), narrow(call + tolerance), unit)
    }

    fn take(&mut self, now: Moment) {
        self.use_up(self.call, now);
    }

    fn use_up(&mut self, cells: NonZeroU32, now: Moment) {
        self.limiter.clock().0.store(now.as_nanos(), Ordering::Relaxed);
        let taken = self.limiter.check_n(cells);
        debug_assert!(matches!(taken, Ok(Ok(()))), "governor refused what was ready: {taken:?}");
        // Governor tells a time only when it refuses, and a refusal takes nothing. Right after a call not all of its
        // cells can be free, so asking for all is always refused, with the moment at which they would be.
        if let Ok(Err(refused)) = self.limiter.check_n(self.burst) {
            self.ready = NotUntil::earliest_possible(&refused).0 - self.tolerance;
        }
    }
}

/// The clock that governor reads: the time it was last told.
#[derive(Debug)]
struct Told(AtomicU64);

impl Clock for Told {
    type Instant = Tick;

    fn now(&self) -> Tick {
        Tick(Moment::from_nanos(self.0.load(Ordering::Relaxed)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(Moment);

impl Add<Nanos> for Tick {
    type Output = Self;

    fn add(self, rhs: Nanos) -> Self {
        Self(self.0 + Duration::from(rhs))
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> Nanos {
        (self.0 - earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0 - Duration::from(duration))
    }
}

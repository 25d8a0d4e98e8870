//! Which of two requests goes first?

use std::cmp::Reverse;

use super::Key;
use crate::core::request::Job;
use crate::core::time::Moment;

/// The order in which jobs start: most urgent first, then the oldest (enqueued-at, row, arrival).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    score: Reverse<i64>,
    since_ms: i64,
    /// The row of the plan above, the arrival number below: one number, for every request that is held has one.
    row_and_arrival: u64,
}

impl Rank {
    /// Where aging is measured from: keeps scores small.
    const AGING_EPOCH_MS: i64 = 1_577_836_800_000; // 2020-01-01
    /// Aging is kept to a hundredth of a point.
    const SCALE: i64 = 100 * 3_600_000;
    /// A trillion deliveries can arrive, three years at ten thousand a second, before their numbers begin again.
    const ARRIVAL_BITS: u32 = 40;
    pub(super) const LAST_ARRIVAL: u64 = u64::MAX >> (u64::BITS - Self::ARRIVAL_BITS);
    /// Rows above this one, of equal time, go by arrival alone.
    const LAST_ROW: u64 = u64::MAX >> Self::ARRIVAL_BITS;

    /// `aging`: priority points gained per hour of waiting. All requests age alike, so the order between two of them
    /// never changes.
    pub(super) fn of<D>(job: &Job<D>, priority: u16, scale: Scale) -> Self {
        let since_ms = scale.since_ms(job);
        let aged = scale.aging.saturating_mul(since_ms.saturating_sub(Self::AGING_EPOCH_MS));
        let score = (i64::from(priority) * Self::SCALE).saturating_sub(aged);
        let row = job.request.row.get().unwrap_or(0).min(Self::LAST_ROW);
        let row_and_arrival = row << Self::ARRIVAL_BITS | job.arrival;
        Self { score: Reverse(score), since_ms, row_and_arrival }
    }

    pub(super) fn arrival(self) -> Key {
        self.row_and_arrival & Self::LAST_ARRIVAL
    }
}

/// What ranks are measured by: the same for all jobs of a window, for as long as there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Hundredths of a point an hour.
    pub(super) aging: i64,
    /// The wall clock where the monotonic one begins, as it was when the first job came.
    pub(super) start_ms: i64,
}

impl Scale {
    /// When the job was enqueued, or, where it does not say so, first received.
    fn since_ms<D>(self, job: &Job<D>) -> i64 {
        let received = || {
            let after = (job.first_received() - Moment::START).as_millis();
            self.start_ms.saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
        };
        job.request.enqueued_at.millisecond().unwrap_or_else(received)
    }
}

//! How many calls to the API were made in the last minute?

use crate::core::Moment;

/// Calls to the API over the last minute, second by second.
#[derive(Debug)]
pub(super) struct Calls {
    seconds: [u32; 60],
    /// The second that is being counted, and the first one.
    now: u64,
    first: Option<u64>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { seconds: [0; 60], now: 0, first: None }
    }
}

impl Calls {
    fn slot(second: u64) -> usize {
        usize::try_from(second % 60).unwrap_or_default()
    }

    pub(super) fn advance(&mut self, now: Moment) {
        let second = now.as_nanos() / 1_000_000_000;
        for passed in (self.now + 1..=second).rev().take(60) {
            self.seconds[Self::slot(passed)] = 0;
        }
        self.now = self.now.max(second);
        self.first.get_or_insert(second);
    }

    pub(super) fn count(&mut self) {
        self.seconds[Self::slot(self.now)] += 1;
    }

    /// The mean over the seconds that have been counted, sixty at most.
    pub(super) fn per_second(&mut self, now: Moment) -> f64 {
        self.advance(now);
        let counted = (self.now - self.first.unwrap_or(self.now) + 1).min(60);
        let calls: u32 = self.seconds.iter().sum();
        #[allow(clippy::cast_precision_loss)] // sixty at most
        let counted = counted as f64;
        f64::from(calls) / counted
    }
}

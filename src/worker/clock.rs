//! What time is it? The one place outside of commands that asks: shells read both clocks here and tell the core.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::core::{Moment, Now};

/// The process's clock. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

impl Clock {
    /// Moments are counted from a second before the start, so that [`Moment::START`] lies before all of them.
    const BEFORE: Duration = Duration::from_secs(1);

    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        Now { at: Moment::START + Self::BEFORE + self.start.elapsed(), wall: Timestamp::now() }
    }

    /// The runtime's instant for a moment, to sleep until.
    pub fn instant(&self, moment: Moment) -> tokio::time::Instant {
        let since_start = (moment - Moment::START).saturating_sub(Self::BEFORE);
        let far = self.start + Duration::from_secs(365 * 24 * 3600);
        self.start.checked_add(since_start).unwrap_or(far).min(far).into()
    }
}

//! May this call pass the gateway? Every limit is counted in an exact sliding window.

use std::collections::VecDeque;
use std::time::Duration;

use super::options::QuotaOptions;
use crate::core::{Moment, Rate};

#[derive(Debug)]
pub(super) struct Meter {
    windows: Vec<Window>,
    count_refused: bool,
}

/// The newest counted calls, as many as the limit lets through: more are never needed to decide.
#[derive(Debug)]
struct Window {
    quota: Rate,
    calls: VecDeque<Moment>,
}

/// The limit that is full, and how long until it lets a call through if none comes before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) quota: Rate,
    pub(super) wait: Duration,
}

impl Meter {
    pub(super) fn new(options: &QuotaOptions) -> Self {
        let windows = options
            .limits
            .iter()
            .map(|quota| Window { quota: *quota, calls: VecDeque::new() })
            .collect();
        Self { windows, count_refused: options.count_refused }
    }

    /// Counts a call. A window reaches back from `now` and holds its whole length without the far end, so two calls
    /// exactly one length apart never meet in one.
    pub(super) fn take(&mut self, now: Moment) -> Result<(), Full> {
        let full = self.windows.iter().filter_map(|w| w.full(now)).max_by_key(|full| full.wait);
        if full.is_none() || self.count_refused {
            for window in &mut self.windows {
                window.count(now);
            }
        }
        full.map_or(Ok(()), Err)
    }
}

impl Window {
    fn full(&self, now: Moment) -> Option<Full> {
        if self.calls.len() < self.quota.count() as usize {
            return None;
        }
        let free = *self.calls.front()? + self.quota.window();
        (free > now).then(|| Full { quota: self.quota, wait: free - now })
    }

    fn count(&mut self, now: Moment) {
        if self.calls.len() == self.quota.count() as usize {
            self.calls.pop_front();
        }
        self.calls.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn meter(limits: &[&str], count_refused: bool) -> Meter {
        let limits = limits.iter().map(|l| l.parse().unwrap()).collect();
        Meter::new(&QuotaOptions { limits, count_refused, ..QuotaOptions::default() })
    }

    #[test]
    fn the_window_slides_and_excludes_its_far_end() {
        let mut meter = meter(&["2/s"], false);
        assert!(meter.take(at(0)).is_ok());
        assert!(meter.take(at(600)).is_ok());
        let full = meter.take(at(999)).unwrap_err();
        assert_eq!(full.wait, Duration::from_millis(1));
        assert!(meter.take(at(1000)).is_ok());
        assert!(meter.take(at(1599)).is_err());
        assert!(meter.take(at(1600)).is_ok());
    }

    #[test]
    fn refused_calls_keep_a_counting_gateway_shut() {
        let mut counting = meter(&["1/s"], true);
        let mut lenient = meter(&["1/s"], false);
        let passed =
            |meter: &mut Meter| (0..10).filter(|n| meter.take(at(n * 500)).is_ok()).count();
        assert_eq!(passed(&mut counting), 1);
        assert_eq!(passed(&mut lenient), 5);
    }

    #[test]
    fn all_limits_hold_and_the_one_with_the_longest_wait_is_named() {
        let mut meter = meter(&["2/s", "3/min"], false);
        let answers: Vec<_> = [0, 1, 2, 1500, 3000]
            .map(|t| meter.take(at(t)).err().map(|f| f.quota.to_string()))
            .into();
        assert_eq!(answers, [None, None, Some("2/s".into()), None, Some("3/min".into())]);
    }
}

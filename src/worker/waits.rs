//! The waits before something that has failed is tried again: they double, up to a bound. Those of requests are the core's.

use std::time::Duration;

/// Waits that double from the first to the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubling {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

impl Doubling {
    /// The wait after so many failures in a row, from 1.
    pub(crate) fn after(self, failures: u32) -> Duration {
        let times = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << times).min(self.last)
    }

    /// Between half and the whole of it, so that those who failed together do not come back together.
    pub(crate) fn scattered(self, failures: u32) -> Duration {
        self.after(failures).mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Doubling =
        Doubling { first: Duration::from_millis(100), last: Duration::from_secs(5) };

    #[test]
    fn waits_double_up_to_their_bound() {
        let waits = [0, 1, 2, 6, 7, u32::MAX].map(|failures| WAITS.after(failures).as_millis());
        assert_eq!(waits, [100, 100, 200, 3200, 5000, 5000]);
    }

    #[test]
    fn scattered_waits_keep_the_bounds_and_differ() {
        for failures in 1..40 {
            let (wait, whole) = (WAITS.scattered(failures), WAITS.after(failures));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?}");
        }
        let waits: std::collections::BTreeSet<_> = (0..100).map(|_| WAITS.scattered(9)).collect();
        assert!(waits.len() > 10);
    }
}

//! May a log-in with a password go out now? Five wrong ones lock the account for a quarter of an hour, so this counts
//! them as IAM would, on the safe side. Pure: it is told the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::secret::Fingerprint;
use crate::worker::waits::Doubling;

/// IAM's window, and how long its lock holds.
pub(super) const LOCK: Duration = Duration::from_secs(15 * 60);
/// Log-ins in one window that may have been wrong. IAM locks after five; others may log in as the same user.
const DOUBTFUL: usize = 3;
/// Between log-ins that failed for other reasons.
const PAUSES: Doubling = Doubling { first: Duration::from_secs(1), last: Duration::from_secs(60) };

/// What log-ins have shown so far.
#[derive(Debug, Default)]
pub(super) struct Lockout {
    /// The password that was refused last, and when.
    refused: Option<(Fingerprint, Instant)>,
    /// The password that was good last.
    good: Option<Fingerprint>,
    /// When those went out that IAM may have counted as wrong.
    doubtful: VecDeque<Instant>,
    /// How many failed in a row without being refused, and when the last one did.
    failed: u32,
    failed_at: Option<Instant>,
    /// What was said when the last one failed; empty after a good one.
    pub(super) said: String,
}

impl Lockout {
    /// From when on a log-in with this password may go out; `now` or earlier is now.
    pub(super) fn earliest(&self, password: Fingerprint, now: Instant) -> Instant {
        let refused = match self.refused {
            Some((wrong, at)) if wrong == password => at + LOCK,
            _ => now,
        };
        let counted = self.counted(now);
        let crowded =
            if counted.len() >= DOUBTFUL { counted[counted.len() - DOUBTFUL] + LOCK } else { now };
        let paused = self.failed_at.map_or(now, |at| at + PAUSES.after(self.failed));
        refused.max(crowded).max(paused)
    }

    /// A log-in goes out. A password that was good may be in doubt again only when it is refused.
    pub(super) fn started(&mut self, password: Fingerprint, now: Instant) {
        self.doubtful = self.counted(now).into();
        if self.good != Some(password) {
            self.doubtful.push_back(now);
        }
    }

    /// It surely did not reach IAM, so it was not counted there.
    pub(super) fn not_sent(&mut self, password: Fingerprint, now: Instant) {
        if self.good != Some(password) {
            self.doubtful.pop_back();
        }
        self.failed(now);
    }

    /// It ended in a way that says nothing about the password.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failed = self.failed.saturating_add(1);
        self.failed_at = Some(now);
    }

    pub(super) fn refused(&mut self, password: Fingerprint, now: Instant) {
        if self.good == Some(password) {
            self.good = None;
            self.doubtful.push_back(now);
        }
        self.refused = Some((password, now));
    }

    pub(super) fn succeeded(&mut self, password: Fingerprint) {
        *self = Self { good: Some(password), ..Self::default() };
    }

    fn counted(&self, now: Instant) -> Vec<Instant> {
        self.doubtful
            .iter()
            .copied()
            .filter(|at| now.saturating_duration_since(*at) < LOCK)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Fingerprint = Fingerprint::of_number(1);
    const NEW: Fingerprint = Fingerprint::of_number(2);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_refused_password_is_not_tried_again_for_a_quarter_of_an_hour() {
        let start = Instant::now();
        let mut lockout = Lockout::default();
        assert!(lockout.earliest(OLD, start) <= start);
        lockout.started(OLD, start);
        lockout.refused(OLD, start);
        assert_eq!(lockout.earliest(OLD, after(start, 1)), after(start, 900));
        let now = after(start, 900);
        assert!(lockout.earliest(OLD, now) <= now);
    }

    #[test]
    fn a_fixed_password_is_tried_at_once_but_five_wrong_ones_are_never_reached() {
        let start = Instant::now();
        let mut lockout = Lockout::default();
        let mut sent = 0;
        for number in 0..100 {
            let password = Fingerprint::of_number(number);
            let now = after(start, u64::from(number));
            if lockout.earliest(password, now) <= now {
                lockout.started(password, now);
                lockout.refused(password, now);
                sent += 1;
            }
        }
        assert_eq!(sent, 3);
        assert!(lockout.earliest(NEW, after(start, 100)) >= after(start, 900));
    }

    #[test]
    fn unclear_ends_count_while_the_password_was_never_good() {
        let start = Instant::now();
        let mut lockout = Lockout::default();
        let mut now = start;
        for _ in 0..3 {
            now = lockout.earliest(OLD, now).max(now);
            lockout.started(OLD, now);
            lockout.failed(now);
        }
        assert!(lockout.earliest(OLD, now) >= start + LOCK, "the fourth waits for the window");
    }

    #[test]
    fn with_a_password_that_was_good_an_outage_costs_pauses_only() {
        let start = Instant::now();
        let mut lockout = Lockout::default();
        lockout.started(OLD, start);
        lockout.succeeded(OLD);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            lockout.started(OLD, now);
            lockout.failed(now);
            let next = lockout.earliest(OLD, now);
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        lockout.refused(OLD, now);
        assert_eq!(lockout.earliest(OLD, now), now + LOCK);
    }

    #[test]
    fn what_never_reached_iam_is_not_counted() {
        let start = Instant::now();
        let mut lockout = Lockout::default();
        let mut now = start;
        for _ in 0..20 {
            now = lockout.earliest(OLD, now).max(now);
            lockout.started(OLD, now);
            lockout.not_sent(OLD, now);
            assert!(lockout.earliest(OLD, now) <= after(now, 60));
        }
    }
}

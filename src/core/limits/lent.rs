//! What part of the limits is another process's for a while, and what does it cost the worker? A tenth at most.
//!
//! # How a limit holds for both
//! The calls of one limit are evenly spaced ([`Limits`]): L calls in a window W have a pace that is linear in L. So the
//! limit is *split*: while something is lent, this process keeps to L - r calls in W and the other one to r, which starts
//! spent and ends in time; together no window sees more than L. As neither knows of the other's last call at the end, one
//! call more is left out then.
//!
//! Of a limit of less than ten calls a tenth is none. There one call is lent at a time, and so seldom that it costs no more
//! than a tenth in the long run.

use std::cmp;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{FULL, Limits};
use crate::core::rate::Rate;
use crate::core::time::Moment;

/// Nothing is lent for longer than this, ...
pub const LONGEST: Duration = Duration::from_secs(600);
/// ... and no longer than this if more than one call is wanted.
const USUAL: Duration = Duration::from_secs(60);
/// What the answer takes to arrive, and the last call to go.
const SLACK: Duration = Duration::from_secs(2);
/// One part of so many is lent at most.
const PART: u32 = 10;

/// Calls that another process may make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub calls: u32,
    /// Counted from before it was asked for.
    pub lasts: Duration,
    /// No faster than all of these; none: as fast as wanted.
    pub rates: Vec<Rate>,
    /// `limits.margin`
    pub margin: Duration,
}

/// What is lent just now.
#[derive(Clone, Debug)]
pub(super) struct Lent {
    rates: Vec<Rate>,
    pub(super) until: Moment,
}

impl Lent {
    /// The most calls of the other process in any window of this length. That it has fewer in all does not count: it may
    /// make them as fast as if it had more.
    pub(super) fn within(&self, window: Duration) -> u32 {
        let of = |rate: &Rate| {
            let windows = window.as_nanos().div_ceil(rate.window().as_nanos().max(1));
            u32::try_from(windows).unwrap_or(u32::MAX).saturating_mul(rate.count())
        };
        self.rates.iter().map(of).min().unwrap_or(0)
    }
}

/// Why nothing is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLent {
    /// Not before this moment: something is lent already, or was lately.
    Before(Moment),
    /// A tenth of the rates is less than a call in [`LONGEST`].
    TooSlow,
}

impl Limits {
    /// Lends up to so many calls from now on. `busy`: requests wait for these limits, so they are to have nine tenths in
    /// the long run.
    ///
    /// # Errors
    /// When it may be asked again, if ever.
    pub fn lend(&mut self, now: Moment, wanted: u32, busy: bool) -> Result<Grant, NotLent> {
        self.tick(now);
        if let Some(lent) = &self.lent {
            return Err(NotLent::Before(lent.until));
        }
        if busy && self.rested_at > now {
            return Err(NotLent::Before(self.rested_at));
        }
        let (grant, lost) = self.terms(wanted);
        let lasts = grant.lasts;
        if lasts > LONGEST {
            return Err(NotLent::TooSlow);
        }
        self.rested_at = now + lasts + self.rest(lasts, lost);
        self.lent = Some(Lent { rates: grant.rates.clone(), until: now + lasts });
        self.rebuild();
        Ok(grant)
    }

    /// Another process may have been lent a tenth by a worker before this one, or used all of it until so long from
    /// now, if nobody else did.
    pub fn assume_lent(&mut self, now: Moment, used: Duration) {
        let (Grant { rates, lasts, .. }, _) = self.terms(u32::MAX);
        if rates.is_empty() {
            return;
        }
        // What this process has lent itself it knows better, but for how long another one may have.
        let lent = self.lent.take().unwrap_or(Lent { rates, until: now });
        self.lent = Some(Lent { until: lent.until.max(now + lasts.min(LONGEST)), ..lent });
        self.restart(now + used);
    }

    /// What can be lent of so many calls, and the part of the permitted rate that is lost by it.
    fn terms(&self, wanted: u32) -> (Grant, f64) {
        let rates = self.tenth();
        let pace = rates.iter().map(|rate| spacing(*rate)).max().unwrap_or_default();
        let lost = self.lost(&rates);
        let most = match USUAL.as_nanos().checked_div(pace.as_nanos()) {
            _ if lost > 1.01 / f64::from(PART) => 1,
            Some(most) => u32::try_from(most).unwrap_or(u32::MAX).max(1),
            None => u32::MAX,
        };
        let calls = wanted.clamp(1, most);
        let lasts = if rates.is_empty() { USUAL } else { pace * calls + SLACK };
        (Grant { calls, lasts, rates, margin: self.margin }, lost)
    }

    /// Whether calls are lent just now, and until when.
    pub fn lent_until(&self) -> Option<Moment> {
        self.lent.as_ref().map(|lent| lent.until)
    }

    /// What was lent has come back: a call of it may have gone at the last moment.
    pub(super) fn end_lent(&mut self, now: Moment) -> Option<Moment> {
        let until = self.lent.as_ref()?.until;
        if until > now {
            return Some(until);
        }
        self.lent = None;
        self.last = cmp::max(self.last, until);
        self.rebuild();
        // As if one had gone as soon as it could.
        self.last = self.ready_at(self.last);
        self.rebuild();
        None
    }

    /// A tenth of each limit, as far as 429s have left it; one call at least.
    fn tenth(&self) -> Vec<Rate> {
        let of = |rate: Rate| {
            let window = rate.window().checked_mul(FULL).map(|window| window / self.share);
            let window = window.unwrap_or(Rate::LONGEST).min(Rate::LONGEST);
            Rate::new((rate.count() / PART).max(1), window).unwrap_or(rate)
        };
        self.all().map(of).collect()
    }

    /// The part of the permitted rate that is lost while a tenth of each limit is lent: 0 to 1.
    fn lost(&self, rates: &[Rate]) -> f64 {
        let all = self.all().map(Rate::per_second).fold(f64::INFINITY, f64::min);
        let left = self.all().zip(rates).map(|(rate, lent)| {
            f64::from(rate.count().saturating_sub(lent.count())) / rate.window().as_secs_f64()
        });
        let left = left.fold(f64::INFINITY, f64::min);
        if all.is_finite() { 1.0 - left / all } else { 0.0 }
    }

    /// How long nothing is lent after it, so that no more than a tenth is lost in the long run: a call is lost at either
    /// end.
    fn rest(&self, lasts: Duration, lost: f64) -> Duration {
        let part = f64::from(PART);
        let rest = lasts.mul_f64((lost * part - 1.0).max(0.0));
        rest + self.pace().min(LONGEST).mul_f64(2.0 * part)
    }
}

/// The time between two calls of a limit, generously.
fn spacing(rate: Rate) -> Duration {
    (rate.window() / rate.count()).mul_f64(1.05) + Duration::from_millis(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Duration = Duration::from_millis(10);

    fn limits(rates: &[&str]) -> Limits {
        let rates: Vec<Rate> = rates.iter().map(|rate| rate.parse().unwrap()).collect();
        Limits::new(&rates, MARGIN, Moment::START)
    }

    /// As fast as may be until then.
    fn use_up(limits: &mut Limits, mut now: Moment, until: Moment, calls: &mut Vec<Moment>) {
        loop {
            limits.tick(now);
            let next = limits.ready_at(now);
            // A tick may change it on the way.
            let tick = limits.tick(now).filter(|at| *at < next);
            now = tick.unwrap_or(next);
            if now >= until {
                break;
            }
            if tick.is_none() {
                limits.take(now);
                calls.push(now);
            }
        }
    }

    fn busiest(window: Duration, calls: &mut [Moment]) -> usize {
        calls.sort_unstable();
        let ends = |at: Moment| calls.partition_point(|call| *call - at <= window);
        let counts = calls.iter().enumerate().map(|(first, at)| ends(*at) - first);
        counts.max().unwrap_or(0)
    }

    #[test]
    fn both_together_keep_every_limit_before_during_and_after() {
        for rates in [
            &["10/s"][..],
            &["2/s", "60/min"],
            &["100/s"],
            &["1/s"],
            &["60/min"],
            &["3/2s"],
            &["15/s", "40/5s"],
            &["500/h"],
        ] {
            for asked_at in [0_u64, 1_730, 7_005] {
                let mut ours = limits(rates);
                let mut calls = Vec::new();
                let begin = Moment::START + Duration::from_millis(asked_at);
                use_up(&mut ours, Moment::START, begin, &mut calls);
                let grant = ours.lend(begin, 20, true).unwrap();
                let end = begin + grant.lasts;
                let mut theirs = Limits::new(&grant.rates, grant.margin, begin);
                let mut lent = Vec::new();
                use_up(&mut theirs, begin, end, &mut lent);
                lent.truncate(grant.calls as usize);
                assert_eq!(lent.len(), grant.calls as usize, "{rates:?}: all of it can be used");
                use_up(&mut ours, begin, end + Duration::from_secs(600), &mut calls);
                calls.extend(lent);
                for rate in rates {
                    let rate: Rate = rate.parse().unwrap();
                    let most = busiest(rate.window(), &mut calls);
                    assert!(most <= rate.count() as usize, "{most} calls in a window of {rate}");
                }
            }
        }
    }

    #[test]
    fn in_the_long_run_a_busy_worker_keeps_nine_tenths() {
        for rates in [&["10/s"][..], &["2/s", "60/min"], &["100/s"], &["1/s"], &["60/min"]] {
            let span = Duration::from_secs(3_600);
            let (mut alone, mut shared) = (Vec::new(), Vec::new());
            use_up(&mut limits(rates), Moment::START, Moment::START + span, &mut alone);
            let mut ours = limits(rates);
            let (mut now, mut given) = (Moment::START, 0);
            while now < Moment::START + span {
                let again = match ours.lend(now, 1_000, true) {
                    Ok(grant) => {
                        given += grant.calls;
                        now + grant.lasts
                    }
                    Err(NotLent::Before(at)) => at,
                    Err(NotLent::TooSlow) => panic!("{rates:?}"),
                };
                let again = again.min(Moment::START + span);
                use_up(&mut ours, now, again, &mut shared);
                now = again;
            }
            assert!(given > 0 && shared.len() * 100 >= alone.len() * 89, "{rates:?}: {given}");
        }
    }

    #[test]
    fn one_at_a_time_has_a_lease_and_no_limit_lends_what_is_wanted() {
        let mut ours = limits(&["10/s"]);
        let grant = ours.lend(Moment::START, 4, false).unwrap();
        let until = Moment::START + grant.lasts;
        assert_eq!(ours.lend(Moment::START, 4, false), Err(NotLent::Before(until)));
        assert!(ours.lend(until, 4, false).is_ok(), "nobody waits for it");
        let free = limits(&[]).lend(Moment::START, 400, true).unwrap();
        assert_eq!((free.calls, free.rates), (400, Vec::new()));
        assert_eq!(limits(&["1/h"]).lend(Moment::START, 1, false), Err(NotLent::TooSlow));
    }

    #[test]
    fn other_rates_meanwhile_leave_out_what_is_lent() {
        let mut ours = limits(&["100/s"]);
        let grant = ours.lend(Moment::START, 100, true).unwrap();
        assert_eq!(grant.rates, ["10/s".parse().unwrap()]);
        let change = Moment::START + Duration::from_secs(1);
        ours.set_rates(&["20/s".parse().unwrap()], change);
        let mut calls = Vec::new();
        use_up(&mut ours, change, Moment::START + grant.lasts, &mut calls);
        assert!(busiest(Duration::from_secs(1), &mut calls) <= 10);
        let mut none = limits(&["100/s"]);
        let grant = none.lend(Moment::START, 100, true).unwrap();
        none.set_rates(&["5/s".parse().unwrap()], change);
        assert!(none.ready_at(change) >= Moment::START + grant.lasts, "nothing is left of it");
    }

    #[test]
    fn what_a_worker_before_may_have_lent_is_left_out_by_the_next_one() {
        let mut ours = limits(&["10/s"]);
        let used = Duration::from_secs(2);
        ours.assume_lent(Moment::START, used);
        assert!(ours.ready_at(Moment::START) > Moment::START + used);
        let mut calls = Vec::new();
        use_up(&mut ours, Moment::START, Moment::START + Duration::from_secs(60), &mut calls);
        assert_eq!(busiest(Duration::from_secs(1), &mut calls), 9);
    }
}

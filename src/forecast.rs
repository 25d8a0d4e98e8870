//! When will the last request have been submitted? The limits, the schedule and the running cap, played through in
//! virtual time: no clock, no API.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::core::rate::Rate;
use crate::core::schedule::Schedule;
use crate::core::{Limits, Moment};

/// What the worker is configured to, and what can only be guessed.
#[derive(Clone, Debug)]
pub struct Pace {
    pub rates: Vec<Rate>,
    pub margin: Duration,
    pub schedule: Schedule,
    /// `api.timeout`: nothing is started that cannot be answered before a schedule window ends.
    pub answered_within: Duration,
    pub max_in_flight: u32,
    /// How long a call takes.
    pub call: Duration,
    /// 0: no cap.
    pub max_running: u32,
    /// How long one migration runs; without it the running cap cannot be forecast.
    pub migration: Option<Duration>,
}

/// What is to be submitted.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Requests that go before: waiting in the queue or in the window.
    pub ahead: u64,
    /// The plan's requests, each with the instant before which it must not go.
    pub not_before: Vec<Option<Timestamp>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Nothing but the calls themselves.
    Calls,
    Rate,
    Running,
    Schedule,
    NotBefore,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    pub first_submitted_at: Option<Timestamp>,
    pub last_submitted_at: Timestamp,
    /// What the last one waits for longest.
    pub bound_by: Bound,
    /// Of the plan's requests, from the first to the last.
    pub per_hour: Option<f64>,
}

/// Plays the work through from `now`. `None`: it never ends (a schedule without any window ahead), or there is none.
pub fn forecast(pace: &Pace, work: &Work, now: Timestamp) -> Option<Forecast> {
    let mut gate = Gate::new(pace, now);
    for _ in 0..work.ahead {
        gate.submit(None)?;
    }
    // The worker takes what may go; what may not yet waits. Urgency changes who is last, not when that is.
    let mut waiting = work.not_before.clone();
    waiting.sort_unstable();
    let (mut first, mut last) = (None, None);
    for not_before in waiting {
        let at = gate.submit(not_before)?;
        first.get_or_insert(at);
        last = Some(at);
    }
    let last_submitted_at = last?;
    let hours = first.map(|first| last_submitted_at.duration_since(first).as_secs_f64() / 3600.0);
    let between = u32::try_from(work.not_before.len() - 1).ok().filter(|between| *between > 0);
    let per_hour =
        hours.zip(between).filter(|(hours, _)| *hours > 0.0).map(|(hours, n)| f64::from(n) / hours);
    Some(Forecast {
        first_submitted_at: first,
        last_submitted_at,
        bound_by: gate.bound(),
        per_hour,
    })
}

/// The gate in virtual time.
struct Gate<'a> {
    pace: &'a Pace,
    start: Timestamp,
    limits: Limits,
    now: Moment,
    in_flight: BinaryHeap<Reverse<Moment>>,
    running: BinaryHeap<Reverse<Moment>>,
    /// How long each bound held back in all.
    waited: [Duration; 5],
}

impl<'a> Gate<'a> {
    fn new(pace: &'a Pace, start: Timestamp) -> Self {
        Self {
            pace,
            start,
            limits: Limits::new(&pace.rates, pace.margin, Moment::START),
            now: Moment::START,
            in_flight: BinaryHeap::new(),
            running: BinaryHeap::new(),
            waited: [Duration::ZERO; 5],
        }
    }

    /// When the next request goes.
    fn submit(&mut self, not_before: Option<Timestamp>) -> Option<Timestamp> {
        if let Some(not_before) = not_before {
            self.wait(Bound::NotBefore, self.moment(not_before));
        }
        if let Some(free) = free_at(&mut self.in_flight, self.pace.max_in_flight, self.now) {
            self.wait(Bound::Calls, free);
        }
        if self.pace.migration.is_some()
            && let Some(free) = free_at(&mut self.running, self.pace.max_running, self.now)
        {
            self.wait(Bound::Running, free);
        }
        loop {
            let ready = self.limits.ready_at(self.now);
            self.wait(Bound::Rate, ready);
            match self.pace.schedule.admits(self.wall(self.now), self.pace.answered_within) {
                Ok(_) => break,
                Err(next) => self.wait(Bound::Schedule, self.moment(next?)),
            }
        }
        self.limits.take(self.now);
        if self.pace.max_in_flight > 0 {
            self.in_flight.push(Reverse(self.now + self.pace.call));
        }
        if let Some(migration) = self.pace.migration.filter(|_| self.pace.max_running > 0) {
            self.running.push(Reverse(self.now + migration));
        }
        Some(self.wall(self.now))
    }

    fn wait(&mut self, bound: Bound, until: Moment) {
        self.waited[bound as usize] += until - self.now;
        self.now = self.now.max(until);
    }

    fn moment(&self, at: Timestamp) -> Moment {
        let ahead = Duration::try_from(at.duration_since(self.start)).unwrap_or_default();
        Moment::START + ahead
    }

    fn wall(&self, at: Moment) -> Timestamp {
        self.start.saturating_add(at - Moment::START).unwrap_or(Timestamp::MAX)
    }

    fn bound(&self) -> Bound {
        let all = [Bound::Calls, Bound::Rate, Bound::Running, Bound::Schedule, Bound::NotBefore];
        let longest = all.into_iter().max_by_key(|bound| self.waited[*bound as usize]);
        longest.filter(|bound| !self.waited[*bound as usize].is_zero()).unwrap_or(Bound::Calls)
    }
}

/// Takes what has ended by `now` out of `busy`; if it is still full, says when the next one ends.
fn free_at(busy: &mut BinaryHeap<Reverse<Moment>>, most: u32, now: Moment) -> Option<Moment> {
    while busy.peek().is_some_and(|Reverse(end)| *end <= now) {
        busy.pop();
    }
    let full = most > 0 && busy.len() >= usize::try_from(most).unwrap_or(usize::MAX);
    // Its place is taken by the request that waits for it.
    if full { busy.pop().map(|Reverse(end)| end) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rates: &[&str]) -> Pace {
        Pace {
            rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
            margin: Duration::from_millis(10),
            schedule: Schedule::default(),
            answered_within: Duration::from_secs(30),
            max_in_flight: 16,
            call: Duration::from_millis(200),
            max_running: 0,
            migration: None,
        }
    }

    fn work(requests: usize) -> Work {
        Work { ahead: 0, not_before: vec![None; requests] }
    }

    /// A Friday.
    const NOW: &str = "2026-11-27T12:00:00Z";

    fn seconds(pace: &Pace, work: &Work) -> (f64, Bound) {
        let now = NOW.parse().unwrap();
        let forecast = forecast(pace, work, now).unwrap();
        (forecast.last_submitted_at.duration_since(now).as_secs_f64(), forecast.bound_by)
    }

    fn is_near(found: (f64, Bound), expected: (f64, Bound)) {
        assert!(
            (found.0 / expected.0 - 1.0).abs() < 0.03 && found.1 == expected.1,
            "{found:?}, not {expected:?}"
        );
    }

    #[test]
    fn the_tightest_rate_is_the_pace_and_what_waits_goes_before() {
        is_near(seconds(&pace(&["2/s", "60/min"]), &work(600)), (600.0, Bound::Rate));
        is_near(seconds(&pace(&["20/s"]), &work(2_000)), (100.0, Bound::Rate));
        is_near(
            seconds(&pace(&["20/s"]), &Work { ahead: 2_000, ..work(2_000) }),
            (200.0, Bound::Rate),
        );
    }

    #[test]
    fn without_rates_the_calls_themselves_are_the_pace() {
        is_near(seconds(&pace(&[]), &work(1_600)), (19.8, Bound::Calls));
    }

    #[test]
    fn the_running_cap_is_the_pace_where_migrations_take_long() {
        let pace =
            Pace { max_running: 10, migration: Some(Duration::from_secs(600)), ..pace(&["2/s"]) };
        is_near(seconds(&pace, &work(100)), (9.0 * 600.0 + 5.0, Bound::Running));
    }

    #[test]
    fn a_schedule_stops_the_night_and_a_weekend() {
        let windows = vec!["Mon-Fri 22:00-23:00 UTC".parse().unwrap()];
        let pace = Pace { schedule: Schedule::new(windows), ..pace(&["1/s"]) };
        let (took, bound) = seconds(&pace, &work(4_000));
        // 3,530 or so on Friday night, the rest on Monday.
        assert!(took > 82.0 * 3600.0 && took < 82.5 * 3600.0, "{took}");
        assert_eq!(bound, Bound::Schedule);
    }

    #[test]
    fn what_must_wait_waits() {
        let mut work = work(10);
        work.not_before[3] = Some("2026-11-28T12:00:00Z".parse().unwrap());
        is_near(seconds(&pace(&["2/s"]), &work), (86_400.0, Bound::NotBefore));
    }

    #[test]
    fn no_work_has_no_end() {
        assert_eq!(forecast(&pace(&["1/s"]), &Work::default(), NOW.parse().unwrap()), None);
    }
}

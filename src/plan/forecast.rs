//! When will the last request have been submitted? Lets the real limits and schedule run in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::core::limits::Limits;
use crate::core::rate::Rate;
use crate::core::schedule::{Schedule, Watch};
use crate::core::{Moment, Now};

/// What holds submissions up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    Rate,
    InFlight,
    Running,
    Schedule,
    NotBefore,
}

/// How fast the worker may go.
#[derive(Clone, Debug)]
pub struct Pace {
    pub rates: Vec<Rate>,
    pub margin: Duration,
    pub max_in_flight: u32,
    /// 0: not watched.
    pub max_running: u32,
    pub schedule: Schedule,
    /// `api.timeout`: nothing is started that could be answered after the end of a window.
    pub timeout: Duration,
    /// How long a call to the API takes: an assumption.
    pub answer: Duration,
    /// How long a migration runs: an assumption that matters only where `max_running` is set.
    pub migration: Duration,
}

/// What the forecast needs to know of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub not_before: Option<Timestamp>,
    /// Whether its migration runs by itself, and so takes a place among the running.
    pub starts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Of the plan.
    pub requests: u64,
    /// Those that were counted as waiting before them.
    pub waiting: u64,
    pub first: Timestamp,
    /// When the last one has been submitted and answered.
    pub last: Timestamp,
    pub seconds: f64,
    /// What the most time is spent waiting for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<Hold>,
}

/// The forecast for a plan behind `waiting` other requests, if nothing fails and nothing more urgent comes. `None`
/// where the schedule lets nothing through, or there is nothing to submit.
pub fn forecast(pace: &Pace, waiting: u64, plan: &[Load], now: Timestamp) -> Option<Forecast> {
    let mut loads = plan.to_vec();
    // in whatever order they may go, the last one goes at the same time as if the earliest went first
    loads.sort_by_key(|load| load.not_before);
    let mut run = Run::new(pace, now);
    for _ in 0..waiting {
        run.submit(Load { not_before: None, starts: true })?;
    }
    let mut first = None;
    for load in &loads {
        let at = run.submit(*load)?;
        first.get_or_insert(at);
    }
    let last = run.wall(run.at + pace.answer);
    Some(Forecast {
        requests: plan.len() as u64,
        waiting,
        first: run.wall(first?),
        last,
        seconds: last.duration_since(now).as_secs_f64(),
        held_by: run.mostly(),
    })
}

/// Submissions in virtual time.
struct Run<'a> {
    pace: &'a Pace,
    start: Timestamp,
    at: Moment,
    limits: Limits,
    watch: Watch,
    /// When those under way end: calls, and migrations.
    in_flight: BinaryHeap<Reverse<Moment>>,
    running: BinaryHeap<Reverse<Moment>>,
    held: Vec<(Hold, Duration)>,
}

impl<'a> Run<'a> {
    fn new(pace: &'a Pace, start: Timestamp) -> Self {
        Self {
            pace,
            start,
            at: Moment::START,
            limits: Limits::new(&pace.rates, pace.margin, Moment::START),
            watch: Watch::default(),
            in_flight: BinaryHeap::new(),
            running: BinaryHeap::new(),
            held: Vec::new(),
        }
    }

    /// Submits one request at the earliest moment; `None` if that never comes.
    fn submit(&mut self, load: Load) -> Option<Moment> {
        let pace = self.pace;
        if let Some(not_before) = load.not_before {
            self.wait(Hold::NotBefore, self.moment(not_before));
        }
        let free = free_at(&mut self.in_flight, pace.max_in_flight as usize, self.at);
        self.wait(Hold::InFlight, free);
        if pace.max_running > 0 && load.starts {
            let free = free_at(&mut self.running, pace.max_running as usize, self.at);
            self.wait(Hold::Running, free);
        }
        loop {
            self.wait(Hold::Rate, self.limits.ready_at(self.at));
            let now = Now { at: self.at, wall: self.wall(self.at) };
            match self.watch.check(&pace.schedule, now, pace.timeout) {
                Ok(()) => break,
                Err(shut) => {
                    self.wait(Hold::Schedule, shut.until.filter(|until| *until > self.at)?);
                }
            }
        }
        self.limits.take(self.at);
        self.in_flight.push(Reverse(self.at + pace.answer));
        if load.starts && pace.max_running > 0 {
            self.running.push(Reverse(self.at + pace.answer + pace.migration));
        }
        Some(self.at)
    }

    fn wait(&mut self, hold: Hold, until: Moment) {
        if until <= self.at {
            return;
        }
        let waited = until - self.at;
        match self.held.iter_mut().find(|(held, _)| *held == hold) {
            Some((_, sum)) => *sum += waited,
            None => self.held.push((hold, waited)),
        }
        self.at = until;
    }

    fn mostly(&self) -> Option<Hold> {
        self.held.iter().max_by_key(|(_, waited)| *waited).map(|(hold, _)| *hold)
    }

    fn wall(&self, at: Moment) -> Timestamp {
        self.start.saturating_add(at - Moment::START).unwrap_or(Timestamp::MAX)
    }

    fn moment(&self, wall: Timestamp) -> Moment {
        Moment::START + Duration::try_from(wall.duration_since(self.start)).unwrap_or_default()
    }
}

/// When there is a place among `most`. Those that have ended by then are forgotten.
fn free_at(ends: &mut BinaryHeap<Reverse<Moment>>, most: usize, now: Moment) -> Moment {
    let mut free = now;
    while let Some(Reverse(end)) = ends.peek().copied()
        && (end <= now || ends.len() >= most.max(1))
    {
        free = free.max(end);
        ends.pop();
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rates: &[&str]) -> Pace {
        Pace {
            rates: rates.iter().map(|rate| rate.parse().unwrap()).collect(),
            margin: Duration::from_millis(10),
            max_in_flight: 16,
            max_running: 0,
            schedule: Schedule::default(),
            timeout: Duration::from_secs(30),
            answer: Duration::from_millis(200),
            migration: Duration::from_secs(3600),
        }
    }

    fn told(pace: &Pace, waiting: u64, requests: usize) -> (f64, Option<Hold>) {
        let plan = vec![Load { not_before: None, starts: true }; requests];
        let now = "2026-11-27T12:00:00Z".parse().unwrap();
        let forecast = forecast(pace, waiting, &plan, now).unwrap();
        (forecast.seconds, forecast.held_by)
    }

    #[test]
    fn the_tightest_rate_decides_and_what_waits_goes_first() {
        let (seconds, held) = told(&pace(&["20/s", "300/min"]), 0, 3000);
        assert!((590.0..625.0).contains(&seconds), "{seconds}");
        assert_eq!(held, Some(Hold::Rate));
        let (behind, _) = told(&pace(&["20/s", "300/min"]), 3000, 3000);
        assert!((behind / seconds - 2.0).abs() < 0.05, "{behind}");
    }

    #[test]
    fn a_running_cap_makes_waves() {
        let capped = Pace { max_running: 100, ..pace(&["2/s"]) };
        let (seconds, held) = told(&capped, 0, 1000);
        assert!((9.0 * 3600.0..9.2 * 3600.0).contains(&seconds), "{seconds}");
        assert_eq!(held, Some(Hold::Running));
    }

    #[test]
    fn without_a_rate_the_calls_in_flight_are_the_bound() {
        let (seconds, held) = told(&pace(&[]), 0, 1600);
        assert!((19.9..20.1).contains(&seconds), "{seconds}");
        assert_eq!(held, Some(Hold::InFlight));
    }

    #[test]
    fn the_schedule_and_not_before_are_kept() {
        let windows = vec!["Sat 00:00-24:00 UTC".parse().unwrap()];
        let weekend = Pace { schedule: Schedule::new(windows), ..pace(&["10/s"]) };
        let (seconds, held) = told(&weekend, 0, 10);
        assert!((12.0 * 3600.0..12.1 * 3600.0).contains(&seconds), "{seconds}");
        assert_eq!(held, Some(Hold::Schedule));

        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let later = now.saturating_add(Duration::from_secs(500)).unwrap();
        let plan = [Load { not_before: Some(later), starts: true }, Load::default()];
        let forecast = forecast(&pace(&["10/s"]), 0, &plan, now).unwrap();
        assert!(
            (500.0..501.0).contains(&forecast.seconds) && forecast.first < later,
            "{forecast:?}"
        );
        assert_eq!(super::forecast(&pace(&[]), 5, &[], now), None, "nothing to submit");
    }
}

//! When will the rest of a batch have been submitted, and why does nothing of it move? One answer for `sluice watch`,
//! `sluice gate status` and the console: the forecast's own simulation, from what the active worker says that it holds, its
//! rates, caps and schedule as they are now, and what was announced of the batch.

use jiff::{Timestamp, Unit};

use crate::core::Settings;
use crate::core::engine::Load as Held;
use crate::core::gate::Reason;
use crate::message::status::{SessionStatus, Status};
use crate::plan::{self, Load, Pace};

/// How many requests of a batch have no result yet, and what the worker says.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// Of the batch, wherever they are.
    pub requests: u64,
    pub held: &'a Held,
}

/// How it stands with what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Why nothing moves, where something that lasts is in the way: a word for programs (the gate's reason, or
    /// `no_session`, `robbed`, `not_before`, `on_hold`) and a sentence.
    pub waits: Option<(&'static str, String)>,
    /// Where all that is left waits for a time: the first of them.
    pub first: Option<Timestamp>,
    /// When the last one will have been submitted that nobody holds, if it goes on like this.
    pub end: Option<Timestamp>,
    /// So many go only when an order releases them.
    pub on_hold: u64,
}

impl Outlook {
    /// As the worker says. It may take seconds of work.
    pub fn of(left: Left<'_>, status: &Status, now: Timestamp) -> Self {
        let on_hold = left.held.on_hold.min(left.requests);
        let waits = why(status, left);
        let first = left.first().filter(|_| matches!(waits, Some(("not_before", _))));
        // It comes by way of two clocks, and planners give whole seconds.
        let first = first.map(|at| at.round(Unit::Second).unwrap_or(at));
        // What is shut for an unknown time has no end; a schedule, a full cap or a time that was set has.
        let ends = matches!(waits, None | Some(("schedule" | "running" | "not_before", _)));
        let end = if ends { left.end(now) } else { None };
        Self { waits, first, end, on_hold }
    }
}

impl<'a> Left<'a> {
    /// Of all that the worker holds and that waits in its queue.
    pub fn of_all(held: &'a Held) -> Self {
        let requests = waiting(held) + held.on_hold + held.ahead + held.queued.unwrap_or_default();
        Self { requests, held }
    }

    /// When the last one will have been submitted if nothing fails and nothing more urgent comes; `None`: never, or there
    /// is none. What is on hold is left out.
    pub fn end(self, now: Timestamp) -> Option<Timestamp> {
        let requests = self.requests.saturating_sub(self.held.on_hold);
        // What is not held waits in the queue; others that wait there, too, are counted before it.
        let beyond = requests.saturating_sub(waiting(self.held));
        let queued = self.held.queued.unwrap_or(beyond);
        let ahead = self.held.ahead + queued.saturating_sub(beyond);
        let mut loads: Vec<Load> = Vec::new();
        for due in &self.held.held {
            let load = |number: u64| Load { not_before: due.at, starts: number < due.starts };
            loads.extend((0..due.requests).map(load));
        }
        loads.extend((0..beyond).map(|_| Load { not_before: None, starts: true }));
        // Where more is held than is left, some have a result that is not heard of yet: those that went first.
        let over = loads.len().saturating_sub(usize::try_from(requests).unwrap_or(usize::MAX));
        loads.drain(..over);
        let pace = Pace {
            running: self.held.running.unwrap_or_default(),
            ..Pace::new(Settings::default().with(&self.held.limits))
        };
        plan::forecast(&pace, ahead, &loads, now).map(|forecast| forecast.last)
    }

    /// The first time that something held waits for, if all that is held waits for one.
    fn first(self) -> Option<Timestamp> {
        self.held.held.iter().map(|due| due.at).min().flatten()
    }
}

/// Held, and on nobody's hold.
fn waiting(held: &Held) -> u64 {
    held.held.iter().map(|due| due.requests).sum()
}

fn why(status: &Status, left: Left<'_>) -> Option<(&'static str, String)> {
    if !matches!(status.session, SessionStatus::Active { .. }) || status.stopping {
        return Some(("no_session", status.why()));
    }
    if status.is_robbed() {
        return Some(("robbed", status.why()));
    }
    match status.gate.reason {
        Some(Reason::Rate | Reason::InFlight | Reason::Linger | Reason::Token) | None => {
            let idle = status.window.in_flight + status.window.settling == 0;
            let all = waiting(left.held) + left.held.on_hold >= left.requests;
            if left.held.on_hold >= left.requests && left.requests > 0 {
                let why = "all that is left is on hold: `sluice batch release` lets it go";
                return Some(("on_hold", why.to_owned()));
            }
            left.first().filter(|_| idle && all)?;
            Some(("not_before", "all that is left waits for its time".to_owned()))
        }
        Some(reason) => Some((reason.as_str(), status.why())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Hot;
    use crate::core::engine::Due;
    use crate::core::schedule::Schedule;

    const NOW: &str = "2026-11-27T12:00:00Z";

    fn held(limits: Hot) -> Held {
        Held { held: Vec::new(), on_hold: 0, ahead: 0, queued: None, running: None, limits }
    }

    fn active() -> Status {
        let now: Timestamp = NOW.parse().unwrap();
        let mut status = Status::starting("lane", "worker", now);
        status.session =
            SessionStatus::Active { since: now, server: "4.0".into(), unchecked: Vec::new() };
        status.gate.reason = None;
        status
    }

    fn limits(rate: &str) -> Hot {
        Hot {
            rates: vec![rate.parse().unwrap()],
            max_in_flight: 16,
            max_running: 0,
            schedule: Schedule::default(),
        }
    }

    /// Seconds from now.
    fn end(requests: u64, held: &Held, at: &str) -> f64 {
        let now: Timestamp = at.parse().unwrap();
        let end = Left { requests, held }.end(now).unwrap();
        end.duration_since(now).as_secs_f64()
    }

    #[test]
    fn the_operators_rate_and_what_goes_before_decide() {
        let mut held = held(limits("1/s"));
        assert!((99.0..104.0).contains(&end(100, &held, NOW)), "{}", end(100, &held, NOW));
        (held.ahead, held.queued) = (50, Some(150));
        // Of 150 in the queue 100 are the batch's own.
        assert!((199.0..206.0).contains(&end(100, &held, NOW)), "{}", end(100, &held, NOW));
    }

    #[test]
    fn not_before_schedule_and_running_cap_are_known() {
        let later: Timestamp = "2026-11-27T22:00:00Z".parse().unwrap();
        let mut timed = held(limits("10/s"));
        timed.held = vec![Due { at: Some(later), requests: 5, starts: 5 }];
        let hours = 10.0 * 3_600.0;
        assert!((hours..hours + 2.0).contains(&end(5, &timed, NOW)), "{}", end(5, &timed, NOW));
        let windows = vec!["Sat 00:00-24:00 UTC".parse().unwrap()];
        let weekend = held(Hot { schedule: Schedule::new(windows), ..limits("10/s") });
        let hours = 12.0 * 3_600.0;
        assert!((hours..hours + 60.0).contains(&end(5, &weekend, NOW)));
        let mut full = held(Hot { max_running: 10, ..limits("10/s") });
        full.running = Some(10);
        let first = end(1, &full, NOW);
        assert!((600.0..4.0 * 3_600.0 + 60.0).contains(&first), "{first}");
    }

    #[test]
    fn it_does_not_slide_while_things_go_as_they_should() {
        let held = held(limits("2/s"));
        let first = end(100, &held, NOW);
        // Ten seconds later twenty have been submitted.
        let then = end(80, &held, "2026-11-27T12:00:10Z") + 10.0;
        assert!((first - then).abs() < 1.0, "{first} and then {then}");
    }

    #[test]
    fn what_is_on_hold_has_no_end_and_the_rest_has() {
        let mut some = held(limits("1/s"));
        some.on_hold = 90;
        assert!((9.0..14.0).contains(&end(100, &some, NOW)), "{}", end(100, &some, NOW));
        let now = NOW.parse().unwrap();
        assert_eq!(Left { requests: 90, held: &some }.end(now), None);
        let status = active();
        let told = Outlook::of(Left { requests: 90, held: &some }, &status, now);
        assert_eq!((told.on_hold, told.end, told.waits.unwrap().0), (90, None, "on_hold"));
        let told = Outlook::of(Left { requests: 100, held: &some }, &status, now);
        assert!(told.on_hold == 90 && told.end.is_some() && told.waits.is_none(), "{told:?}");
    }

    #[test]
    fn what_is_shut_for_an_unknown_time_has_no_end_and_what_waits_for_a_time_has() {
        let now: Timestamp = NOW.parse().unwrap();
        let later: Timestamp = "2026-11-27T22:00:00Z".parse().unwrap();
        let mut timed = held(limits("10/s"));
        timed.held = vec![Due { at: Some(later), requests: 5, starts: 5 }];
        let left = Left { requests: 5, held: &timed };
        let mut status = active();
        let told = Outlook::of(left, &status, now);
        assert_eq!((told.waits.unwrap().0, told.first), ("not_before", Some(later)));
        assert!(told.end.is_some_and(|end| end >= later), "{:?}", told.end);
        // Of six one waits in the queue: it is about to go.
        assert_eq!(Outlook::of(Left { requests: 6, held: &timed }, &status, now).waits, None);
        for (reason, ends) in [
            (Reason::Paused, false),
            (Reason::Halted, false),
            (Reason::Breaker, false),
            (Reason::Schedule, true),
            (Reason::Running, true),
        ] {
            status.gate.reason = Some(reason);
            let told = Outlook::of(left, &status, now);
            assert_eq!((told.waits.unwrap().0, told.end.is_some()), (reason.as_str(), ends));
        }
    }

    #[test]
    fn all_of_a_worker_is_what_it_holds_and_what_its_queue_has() {
        let mut all = held(limits("1/s"));
        all.held = vec![Due { at: None, requests: 10, starts: 10 }];
        (all.ahead, all.queued) = (2, Some(30));
        let now: Timestamp = NOW.parse().unwrap();
        let end = Left::of_all(&all).end(now).unwrap().duration_since(now).as_secs_f64();
        assert!((41.0..46.0).contains(&end), "{end}");
    }
}

//! When will the rest of a batch have been submitted? The forecast's own simulation answers, from what the active worker
//! holds, its rates, caps and schedule as they are now, and what was announced of the batch.

use jiff::Timestamp;

use crate::core::Settings;
use crate::core::engine::Load as Held;
use crate::plan::{self, Load, Pace};

/// How many requests of a batch have no result yet, and what the worker says.
#[derive(Clone, Debug)]
pub struct Left<'a> {
    /// Of the batch, wherever they are.
    pub requests: u64,
    pub held: &'a Held,
}

impl Left<'_> {
    /// When the last one will have been submitted if nothing fails and nothing more urgent comes; `None`: never, or there
    /// is none. It may take seconds of work. `settings` are those of the configuration: what the worker says goes first.
    pub fn end(&self, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
        let held: u64 = self.held.held.iter().map(|due| due.requests).sum();
        // What is not held waits in the queue; others that wait there, too, are counted before it.
        let beyond = self.requests.saturating_sub(held);
        let queued = self.held.queued.unwrap_or(beyond);
        let ahead = self.held.ahead + queued.saturating_sub(beyond);
        let mut loads: Vec<Load> = Vec::new();
        for due in &self.held.held {
            let load = |number: u64| Load { not_before: due.at, starts: number < due.starts };
            loads.extend((0..due.requests).map(load));
        }
        loads.extend((0..beyond).map(|_| Load { not_before: None, starts: true }));
        loads.truncate(usize::try_from(self.requests).unwrap_or(usize::MAX));
        let pace = Pace {
            running: self.held.running.unwrap_or_default(),
            ..Pace::new(settings.clone().with(&self.held.limits))
        };
        plan::forecast(&pace, ahead, &loads, now).map(|forecast| forecast.last)
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
        Held { held: Vec::new(), ahead: 0, parked: 0, queued: None, running: None, limits }
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
        let end = Left { requests, held }.end(&Settings::default(), now).unwrap();
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
}

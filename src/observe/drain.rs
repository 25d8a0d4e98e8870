//! How long does all that waits take? The forecast that people are told (`report::outlook`), made now and then beside the
//! worker's loop, for it may be seconds of work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::engine::Load;
use crate::core::gate::Reason;
use crate::core::{Core, Moment, Now};
use crate::message::status::{Forecast, Status};
use crate::report::outlook::{Left, Outlook};

/// How often: every request held is looked at for it.
const EVERY: Duration = Duration::from_secs(5);

/// What holds everything for an unknown time; where that changes, what was foreseen means nothing any more.
type Lasting = Option<Reason>;

/// The latest forecast.
#[derive(Debug, Default)]
pub(super) struct Drain {
    told: Arc<Mutex<Told>>,
    asked: Option<(Moment, Lasting)>,
}

#[derive(Debug, Default)]
struct Told {
    is_under_way: bool,
    latest: Option<(Lasting, Forecast)>,
}

impl Drain {
    /// What was foreseen last, if what the gate waits for is still the same.
    pub(super) fn told(&self, shut: Option<Reason>) -> Option<Forecast> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = told.latest.as_ref().filter(|(of, _)| *of == lasting(shut));
        latest.map(|(_, forecast)| forecast.clone())
    }

    /// Has it made anew, if it is old. `status`: as it is now, of an active worker.
    pub(super) fn renew<D>(&mut self, core: &Core<D>, status: &Status, now: Now) {
        let Some(queues) = status.queues else {
            self.asked = None;
            self.told.lock().unwrap_or_else(PoisonError::into_inner).latest = None;
            return;
        };
        let shut = lasting(status.gate.reason);
        if self.asked.is_some_and(|(at, of)| of == shut && now.at - at < EVERY) {
            return;
        }
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::replace(&mut told.is_under_way, true) {
                return;
            }
        }
        self.asked = Some((now.at, shut));
        let load = Load {
            queued: Some(queues.requests),
            running: status.running.and_then(|running| running.migrations),
            ..core.load(now, None, None)
        };
        let (told, status) = (Arc::clone(&self.told), status.clone());
        let work = move || {
            let forecast = foresee(&load, &status, now.wall);
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            *told = Told { is_under_way: false, latest: Some((shut, forecast)) };
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }
}

/// Of these it is known how long they take, or they take next to no time.
fn lasting(shut: Option<Reason>) -> Lasting {
    shut.filter(|reason| {
        use Reason::{InFlight, Linger, Rate, Running, Schedule, Token};
        !matches!(reason, Rate | InFlight | Linger | Token | Schedule | Running)
    })
}

fn foresee(load: &Load, status: &Status, now: Timestamp) -> Forecast {
    let left = Left::of_all(load);
    let outlook = Outlook::of(left, status, now);
    Forecast { left: left.requests, end: outlook.end, on_hold: outlook.on_hold }
}

/// Seconds until all that nobody holds has been submitted. Infinite while somebody has to end what holds it; `None`: not
/// known.
pub(super) fn seconds(
    forecast: Option<&Forecast>,
    shut: Option<Reason>,
    now: Timestamp,
) -> Option<f64> {
    let forecast = forecast?;
    if forecast.left == 0 {
        return Some(0.0);
    }
    if let Some(end) = forecast.end {
        return Some(end.duration_since(now).as_secs_f64().max(0.0));
    }
    let somebody = [Reason::Paused, Reason::Halted, Reason::Blocked, Reason::Stopping];
    let is_held = forecast.on_hold >= forecast.left;
    (is_held || shut.is_some_and(|shut| somebody.contains(&shut))).then_some(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Hot;
    use crate::core::engine::Due;
    use crate::core::schedule::Schedule;
    use crate::message::status::{Queues, SessionStatus};

    fn load() -> Load {
        let limits = Hot {
            rates: vec!["2/s".parse().unwrap()],
            max_in_flight: 16,
            max_running: 0,
            schedule: Schedule::default(),
        };
        let held = vec![Due { at: None, requests: 20, starts: 20 }];
        Load { held, on_hold: 0, ahead: 0, queued: Some(100), running: None, limits }
    }

    fn status(shut: Option<Reason>) -> Status {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let mut status = Status::starting("lane", "worker", now);
        status.session =
            SessionStatus::Active { since: now, server: "4.0".into(), unchecked: Vec::new() };
        status.queues = Some(Queues { requests: 100, dead_letters: 0 });
        status.gate.reason = shut;
        status
    }

    fn takes(load: &Load, shut: Option<Reason>) -> Option<f64> {
        let status = status(shut);
        seconds(Some(&foresee(load, &status, status.at)), shut, status.at)
    }

    #[test]
    fn it_is_the_forecast_that_people_are_told() {
        let (status, load) = (status(None), load());
        let end = Outlook::of(Left::of_all(&load), &status, status.at).end.unwrap();
        let told = takes(&load, None).unwrap();
        assert!((told - end.duration_since(status.at).as_secs_f64()).abs() < 0.001, "{told}");
        assert!((58.0..64.0).contains(&told), "120 at 2/s: {told}");
    }

    #[test]
    fn it_knows_a_not_before_and_the_schedule() {
        let at = "2026-11-27T22:00:00Z".parse().ok();
        let timed =
            Load { held: vec![Due { at, requests: 1, starts: 1 }], queued: Some(0), ..load() };
        let told = takes(&timed, None).unwrap();
        assert!((36_000.0..36_010.0).contains(&told), "{told}");
        let windows = vec!["Sat 00:00-24:00 UTC".parse().unwrap()];
        let weekend = Hot { schedule: Schedule::new(windows), ..load().limits };
        let told = takes(&Load { limits: weekend, ..load() }, Some(Reason::Schedule)).unwrap();
        assert!((12.0 * 3_600.0..12.1 * 3_600.0).contains(&told), "{told}");
    }

    #[test]
    fn it_is_infinite_while_somebody_has_to_end_what_holds_it_and_unknown_where_nobody_knows() {
        for shut in [Reason::Paused, Reason::Halted, Reason::Blocked] {
            assert_eq!(takes(&load(), Some(shut)), Some(f64::INFINITY), "{shut:?}");
        }
        for shut in [Reason::Breaker, Reason::Throttled] {
            assert_eq!(takes(&load(), Some(shut)), None, "{shut:?}");
        }
        let held = Load { held: Vec::new(), on_hold: 3, queued: Some(0), ..load() };
        assert_eq!(takes(&held, None), Some(f64::INFINITY), "all of it is on hold");
        let none = Load { held: Vec::new(), queued: Some(0), ..load() };
        assert_eq!(takes(&none, Some(Reason::Paused)), Some(0.0));
        assert_eq!(seconds(None, None, status(None).at), None, "a standby does not look");
    }

    #[test]
    fn what_was_foreseen_is_void_when_what_holds_it_is_another() {
        let forecast = foresee(&load(), &status(None), status(None).at);
        let drain = Drain::default();
        drain.told.lock().unwrap().latest = Some((None, forecast.clone()));
        assert_eq!(drain.told(Some(Reason::Rate)), Some(forecast));
        assert_eq!(drain.told(Some(Reason::Paused)), None);
    }
}

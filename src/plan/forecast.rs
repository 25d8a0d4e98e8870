//! When will the last request have been submitted? Drives the worker's own core in virtual time, with an API that
//! answers everything: so limits, schedule, running cap and every wait are those of the worker, not a copy of them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::core::gate::Reason;
use crate::core::running::COUNTED;
use crate::core::sweep::PAGE;
use crate::core::{
    Core, Ending, Input, Job, Listing, Moment, Now, Query, Question, Rare, Request, RowNumber, Run,
    Settings, Settlement, Sparse, Step, Task, Verdict,
};

/// What holds submissions up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
    /// What the worker goes by.
    pub settings: Settings,
    /// Whether it starts now: a worker that runs already has no start to linger after.
    pub starts_now: bool,
    /// How long a call to the API takes: an assumption.
    pub answer: Duration,
    /// How long a migration runs: an assumption that matters only where `max_running` is set.
    pub migration: Duration,
    /// So many run already, and end one after the other in that time.
    pub running: u32,
}

impl Pace {
    /// With guesses for what only the API knows.
    pub fn new(settings: Settings) -> Self {
        let (answer, migration) = (Duration::from_millis(300), Duration::from_secs(4 * 3600));
        Self { settings, starts_now: false, answer, migration, running: 0 }
    }
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

/// How long it takes to publish a result and hear that it is safe.
const SETTLE: Duration = Duration::from_millis(10);
/// So many requests are held at once at most: which of the others follow makes no difference here.
const HELD: usize = 1_000;
/// A worker that has started so long ago is idle.
const IDLE: Duration = Duration::from_secs(120);
/// Beyond so many steps (some seconds of work) the rest is taken to go on like what was driven through.
const MOST_STEPS: u64 = 1_000_000;
/// A wait as long as this is one for ever.
const FOR_EVER: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The forecast for a plan behind `waiting` other requests, if nothing fails and nothing more urgent comes. `None`
/// where the schedule lets nothing through, or there is nothing to submit.
pub fn forecast(pace: &Pace, waiting: u64, plan: &[Load], now: Timestamp) -> Option<Forecast> {
    let mut plan = plan.to_vec();
    // Where only a part is held at once, those that may go first must be in it.
    plan.sort_by_key(|load| load.not_before);
    let mut trial = Trial::new(pace, waiting, &plan, now);
    let last = trial.run()?;
    let (first, last) = (trial.wall(trial.first?), trial.wall(last));
    Some(Forecast {
        requests: plan.len() as u64,
        waiting,
        first,
        last,
        seconds: last.duration_since(now).as_secs_f64(),
        held_by: trial.held.iter().max_by_key(|(_, waited)| **waited).map(|(hold, _)| *hold),
    })
}

/// What comes back after a while.
enum Event {
    Answered(Job<()>, Now),
    Counted(Query, Now),
    Settled(Job<()>, Box<Ending>),
}

/// The core between a plan and an API that answers everything.
struct Trial<'a> {
    pace: &'a Pace,
    plan: &'a [Load],
    waiting: u64,
    core: Core<()>,
    /// When the forecast is made, on both clocks.
    start: Now,
    at: Moment,
    events: BTreeMap<(Moment, u64), Event>,
    serial: u64,
    /// Handed to the core, and answered by the API: those that wait before the plan first.
    delivered: u64,
    answered: u64,
    /// When the first one of the plan was begun.
    first: Option<Moment>,
    /// Migrations that run, by their ends.
    running: BTreeMap<(Moment, u64), Task>,
    held: BTreeMap<Hold, Duration>,
}

impl<'a> Trial<'a> {
    fn new(pace: &'a Pace, waiting: u64, plan: &'a [Load], now: Timestamp) -> Self {
        // Nothing is requeued for its age: it would come again at once.
        let settings = Settings { max_hold: FOR_EVER * 2, ..pace.settings.clone() };
        let begin = Now { at: Moment::START, wall: now };
        let mut core = Core::new(settings, begin);
        core.take(begin, Input::Opened { session: 0, waiting: 0 });
        let mut start = begin;
        if !pace.starts_now {
            start.at = Moment::START + IDLE;
            // It says that there is nothing to do.
            core.next(start);
        }
        Self {
            pace,
            plan,
            waiting,
            core,
            start,
            at: start.at,
            events: BTreeMap::new(),
            serial: 0,
            delivered: 0,
            answered: 0,
            first: None,
            running: running_already(pace, start.at),
            held: BTreeMap::new(),
        }
    }

    /// When the last one has been answered; `None` if that never happens.
    fn run(&mut self) -> Option<Moment> {
        let all = self.waiting + self.plan.len() as u64;
        for _ in 0..MOST_STEPS {
            if self.answered == all {
                return Some(self.at);
            }
            self.deliver(all);
            let now = self.now();
            match self.core.next(now) {
                Step::Post(job) => self.post(job),
                Step::Ask(Question::Count(query)) => {
                    self.after(self.pace.answer, Event::Counted(query, now));
                }
                Step::Settle(job, ending) => self.after(SETTLE, Event::Settled(job, ending)),
                Step::Wait(until) => self.wait(until)?,
                // With an API that answers everything nothing is in doubt, and no token grows old.
                step => {
                    tracing::debug!(?step, "a forecast that has trouble");
                    return None;
                }
            }
        }
        self.extrapolated(all)
    }

    fn deliver(&mut self, all: u64) {
        while self.delivered < all && self.delivered - self.answered < HELD as u64 {
            let number = self.delivered;
            let place = number.checked_sub(self.waiting).and_then(|n| usize::try_from(n).ok());
            let waits = Load { not_before: None, starts: true };
            let load = place.map_or(waits, |place| self.plan[place]);
            let job = Job::new(request(number, load), (), 0, false, self.at);
            self.core.take(self.now(), Input::Delivered(job));
            self.delivered += 1;
        }
    }

    fn post(&mut self, job: Job<()>) {
        if job.request.row.get().is_some_and(|number| number >= self.waiting) {
            self.first.get_or_insert(self.at);
        }
        let started = self.now();
        self.after(self.pace.answer, Event::Answered(job, started));
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((self.at + wait, self.serial), event);
    }

    /// Lets time pass until the core wants to go on, or something comes back.
    fn wait(&mut self, until: Option<Moment>) -> Option<()> {
        let comes = self.events.first_key_value().map(|((at, _), _)| *at);
        let next = until.into_iter().chain(comes).min()?;
        if next - self.at > FOR_EVER {
            return None;
        }
        if let Some(hold) = self.hold() {
            *self.held.entry(hold).or_default() += next - self.at;
        }
        self.at = next;
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= next
        {
            let event = entry.remove();
            self.happened(event);
        }
        Some(())
    }

    fn hold(&self) -> Option<Hold> {
        Some(match self.core.shut().map(|shut| shut.reason) {
            Some(Reason::Rate) => Hold::Rate,
            Some(Reason::InFlight) => Hold::InFlight,
            Some(Reason::Running) => Hold::Running,
            Some(Reason::Schedule) => Hold::Schedule,
            None if self.core.counts().waiting > 0 => Hold::NotBefore,
            _ => return None,
        })
    }

    fn happened(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Answered(job, started) => {
                self.answered += 1;
                if job.request.starts && self.pace.settings.max_running > 0 {
                    self.serial += 1;
                    let task = task(&job.request.source_server_id.get());
                    self.running.insert((self.at + self.pace.migration, self.serial), task);
                }
                let verdict = Verdict::Created { task_id: String::new() };
                self.core.take(now, Input::Answered { job, started, verdict, generation: 0 });
            }
            Event::Counted(query, started) => {
                let listing = self.listing(&query);
                let question = Question::Count(query);
                let told = Input::Told { question, started, result: Ok(listing), generation: 0 };
                self.core.take(now, told);
            }
            Event::Settled(job, ending) => {
                self.core.take(now, Input::Settled { job, ending, how: Settlement::Done });
            }
        }
    }

    /// The migrations that run: from their `POST` on, as the one state that takes the longest.
    fn listing(&mut self, query: &Query) -> Listing {
        self.running = self.running.split_off(&(self.at, 0));
        if !matches!(query, Query::State { state, .. } if *state == COUNTED[1]) {
            return Listing::default();
        }
        let count = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let tasks = self.running.values().take(PAGE as usize).cloned().collect();
        Listing { tasks, count, ..Listing::default() }
    }

    /// As if the rest went as fast as what has been driven through.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn extrapolated(&mut self, all: u64) -> Option<Moment> {
        let part = all as f64 / self.answered.max(1) as f64;
        let took = (self.at - self.start.at).as_secs_f64() * part;
        let took = Duration::try_from_secs_f64(took).ok().filter(|took| *took < FOR_EVER)?;
        self.first.get_or_insert(self.start.at + took.div_f64(part));
        Some(self.start.at + took)
    }

    fn now(&self) -> Now {
        Now { at: self.at, wall: self.wall(self.at) }
    }

    fn wall(&self, at: Moment) -> Timestamp {
        self.start.wall.saturating_add(at - self.start.at).unwrap_or(Timestamp::MAX)
    }
}

fn request(number: u64, load: Load) -> Request {
    Request {
        run: Run(Uuid::from_u128(number.into())),
        source_server_id: number.to_string().into(),
        row: RowNumber::from(Some(number)),
        priority: 1,
        rare: Sparse::new(Rare { not_before: load.not_before, ..Rare::default() }),
        starts: load.starts,
        ..Request::default()
    }
}

/// Migrations that run already, by their ends.
fn running_already(pace: &Pace, now: Moment) -> BTreeMap<(Moment, u64), Task> {
    let most = if pace.settings.max_running > 0 { pace.running } else { 0 };
    let each = pace.migration / most.max(1);
    let one = |number: u32| {
        let key = (now + each * number, u64::MAX - u64::from(number));
        (key, task(&format!("running {number}")))
    };
    (1..=most).map(one).collect()
}

fn task(source: &str) -> Task {
    Task {
        id: source.to_owned(),
        name: String::new(),
        state: COUNTED[1].to_owned(),
        source_server_id: source.to_owned(),
        target_vm_id: None,
        create_date: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gate;
    use crate::core::schedule::Schedule;

    fn pace(rates: &[&str]) -> Pace {
        let rates = rates.iter().map(|rate| rate.parse().unwrap()).collect();
        let gate = gate::GateSettings { rates, ..gate::GateSettings::default() };
        let (answer, migration) = (Duration::from_millis(200), Duration::from_secs(3600));
        Pace { answer, migration, ..Pace::new(Settings { gate, ..Settings::default() }) }
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
        let mut capped = pace(&["2/s"]);
        capped.settings.max_running = 100;
        let (seconds, held) = told(&capped, 0, 1000);
        assert!((9.0 * 3600.0..9.2 * 3600.0).contains(&seconds), "{seconds}");
        assert_eq!(held, Some(Hold::Running));
    }

    #[test]
    fn without_a_rate_the_calls_in_flight_are_the_bound() {
        let (seconds, held) = told(&pace(&[]), 0, 1600);
        // A hundred rounds of an answer and a result each.
        assert!((20.9..21.1).contains(&seconds), "{seconds}");
        assert_eq!(held, Some(Hold::InFlight));
    }

    #[test]
    fn the_schedule_and_not_before_are_kept() {
        let windows = vec!["Sat 00:00-24:00 UTC".parse().unwrap()];
        let mut weekend = pace(&["10/s"]);
        weekend.settings.schedule = Schedule::new(windows);
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

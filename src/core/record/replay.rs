//! Would this version decide the same? Runs a core over the lines of a recording.
//!
//! Up to the first difference every job of the recording is a job of ours too. Behind it an answer may belong to a call that
//! this core has not begun: it is an orphan, and left out. Answers and calls are paired by what the call is known by.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CallId, InputLine, InputRecord, Opening, ReplyRecord, StepLine, StepRecord, why};
use crate::contract::Violation;
use crate::core::engine::{Core, Input, Question, Settings, Step};
use crate::core::outcome::Ending;
use crate::core::request::Job;
use crate::core::time::Now;
use crate::core::verdict::Verdict;

/// No body has more, and each takes memory here.
const MOST_VIOLATIONS: usize = 1_000;
/// Nothing lasts longer: far below where arithmetic on times would overflow.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Whether a core can have been told so: a file that was edited must not take all memory or overflow a time.
///
/// # Errors
/// What is out of bounds.
pub fn check_settings(settings: &Settings) -> Result<(), &'static str> {
    let Settings { gate, .. } = settings;
    let retry = &gate.retry;
    let times = [
        settings.max_hold,
        settings.linger,
        settings.look_again,
        settings.clock_slack,
        settings.answered_within,
        gate.margin,
        gate.probe,
        retry.initial,
        retry.max,
        retry.max_age,
    ];
    let counts = [gate.max_in_flight, settings.max_running];
    if settings.window > usize::from(u16::MAX) {
        Err("the window holds more than a worker can")
    } else if times.iter().any(|time| *time > LONGEST) {
        Err("a time of the settings is longer than ten years")
    } else if counts.iter().any(|count| u32::try_from(*count).is_err()) {
        Err("a cap of the settings is too great")
    } else if !(1.0..=1e9).contains(&retry.multiplier) || !(0.0..=1e9).contains(&settings.aging) {
        Err("a factor of the settings is out of bounds")
    } else {
        Ok(())
    }
}

/// The same of an input.
///
/// # Errors
/// What is out of bounds.
pub fn check_input(input: &InputRecord) -> Result<(), &'static str> {
    let verdict = match input {
        InputRecord::Answered { verdict, .. } | InputRecord::Told { result: Err(verdict), .. } => {
            verdict
        }
        InputRecord::Opened { waiting, .. } if u32::try_from(*waiting).is_err() => {
            return Err("more requests wait than a queue can hold");
        }
        InputRecord::Reconfigured(hot)
            if [hot.max_in_flight, hot.max_running].iter().any(|n| u32::try_from(*n).is_err()) =>
        {
            return Err("a cap is too great");
        }
        _ => return Ok(()),
    };
    match verdict {
        Verdict::Throttled { wait, limit, .. }
            if [*wait, limit.map(|(_, window)| window)].iter().flatten().any(|t| *t > LONGEST) =>
        {
            Err("a wait is longer than ten years")
        }
        _ => Ok(()),
    }
}

/// What a line of the recording was to this core.
#[derive(Debug)]
pub enum Compared {
    /// It was told so; `Some`: it says now something else to it.
    Told(Option<(Option<ReplyRecord>, Option<ReplyRecord>)>),
    /// An answer to a call that this core has not begun.
    Orphan,
    /// It decides the same.
    Same { why: String },
    /// It decides this.
    Otherwise { ours: StepRecord, why: String },
}

/// What is under way, and comes back with an answer.
#[derive(Debug)]
enum Begun {
    Call(Job<()>),
    Settlement(Job<()>, Box<Ending>),
    Question(Question<()>),
}

/// What was said at once to an input; `None`: nothing.
#[derive(Debug)]
struct Said(Option<ReplyRecord>);

/// A core that is told what another one was told.
#[derive(Debug)]
pub struct Replayer {
    core: Core<()>,
    begun: BTreeMap<CallId, Begun>,
    /// What it said to the last input, until that is compared.
    said: Option<Said>,
}

impl Replayer {
    pub fn begin(begin: &Opening) -> Self {
        let now = Now { at: begin.at, wall: begin.wall };
        Self { core: Core::new(begin.settings.clone(), now), begun: BTreeMap::new(), said: None }
    }

    /// It is told what the recorded one was told. What it says to it is compared by [`Self::reply`].
    pub fn take(&mut self, line: InputLine) -> Compared {
        let now = Now { at: line.at, wall: line.wall };
        self.said = None;
        let Some(input) = self.input(line.what) else { return Compared::Orphan };
        self.said = Some(Said(ReplyRecord::of(&self.core.take(now, input))));
        Compared::Told(None)
    }

    /// Whether the recorded one said the same to the last input. To be asked at the line after that, whatever it is.
    pub fn reply(&mut self, recorded: Option<&ReplyRecord>) -> Compared {
        let Some(Said(ours)) = self.said.take() else { return Compared::Told(None) };
        let same = ours.as_ref() == recorded;
        Compared::Told((!same).then(|| (recorded.cloned(), ours)))
    }

    /// What it decides at a time at which the recorded one decided nothing, for it panicked.
    pub fn ask(&mut self, now: Now) -> (StepRecord, String) {
        let step = self.core.next(now);
        (StepRecord::of(&self.core, &step), why::why(&self.core, now, &step))
    }

    /// It is asked what the recorded one was asked.
    pub fn step(&mut self, line: &StepLine) -> Compared {
        let now = Now { at: line.at, wall: line.wall };
        let step = self.core.next(now);
        let ours = StepRecord::of(&self.core, &step);
        let why = why::why(&self.core, now, &step);
        self.hold(step);
        if ours == line.what { Compared::Same { why } } else { Compared::Otherwise { ours, why } }
    }

    fn hold(&mut self, step: Step<()>) {
        let (id, begun) = match step {
            Step::Post(job) => (CallId::Post(job.arrival), Begun::Call(job)),
            Step::Ask(question) => (CallId::of(&question), Begun::Question(question)),
            Step::Settle(job, ending) => {
                (CallId::Settle(job.arrival), Begun::Settlement(job, ending))
            }
            Step::Park(job) => (CallId::Park(job.arrival), Begun::Call(job)),
            Step::Acknowledge(_)
            | Step::Requeue(_)
            | Step::Refresh { .. }
            | Step::Fetch(_)
            | Step::Wait(_) => return,
        };
        self.begun.insert(id, begun);
    }

    fn call(&mut self, id: CallId) -> Option<Job<()>> {
        match self.begun.remove(&id)? {
            Begun::Call(job)
            | Begun::Settlement(job, _)
            | Begun::Question(Question::LookUp(job)) => Some(job),
            Begun::Question(_) => None,
        }
    }

    /// The input that it was; `None`: it answers what was not begun here.
    fn input(&mut self, given: InputRecord) -> Option<Input<()>> {
        Some(match given {
            InputRecord::Opened { session, waiting } => Input::Opened { session, waiting },
            InputRecord::Lost => Input::Lost,
            InputRecord::Blocked(blocked) => Input::Blocked(blocked),
            InputRecord::Renewed => Input::Renewed,
            InputRecord::Delivered(delivery) => Input::Delivered(delivery.job()),
            InputRecord::Invalid { delivery, violations } => {
                Input::Invalid(delivery.job(), vec![unsaid(); violations.min(MOST_VIOLATIONS)])
            }
            InputRecord::Unreadable(delivery) => Input::Unreadable(delivery.job(), String::new()),
            InputRecord::Answered { job, started, verdict, generation } => {
                let job = self.call(CallId::Post(job))?;
                Input::Answered { job, started, verdict, generation }
            }
            InputRecord::Told { call, started, result, generation } => {
                let Begun::Question(question) = self.begun.remove(&call)? else { return None };
                Input::Told { question, started, result, generation }
            }
            InputRecord::Late(job) => Input::Late(self.call(CallId::Post(job))?),
            InputRecord::Panicked(job) => {
                let calls = [CallId::Post(job), CallId::LookUp(job)];
                let job = calls.into_iter().find_map(|id| self.call(id))?;
                Input::Panicked(job, String::new())
            }
            InputRecord::Refreshed(result) => Input::Refreshed(result),
            InputRecord::Settled { job, how, dead_lettered } => {
                let begun = self.begun.remove(&CallId::Settle(job))?;
                let Begun::Settlement(job, mut ending) = begun else { return None };
                ending.dead_lettered = dead_lettered;
                Input::Settled { job, ending, how }
            }
            InputRecord::Parked(job) => Input::Parked(self.call(CallId::Park(job))?),
            InputRecord::NotParked(job) => Input::NotParked(self.call(CallId::Park(job))?),
            InputRecord::Fetched { session, fetched } => Input::Fetched { session, fetched },
            InputRecord::Orders(orders) => Input::Orders(orders),
            InputRecord::Ordered(order) => Input::Ordered(order),
            InputRecord::Reconfigured(hot) => Input::Reconfigured(hot),
            InputRecord::Stop => Input::Stop,
            InputRecord::SourceEnded => Input::SourceEnded,
        })
    }
}

/// A violation of which the recording says nothing.
fn unsaid() -> Violation {
    Violation { pointer: String::new(), found: String::new(), allowed: String::new() }
}

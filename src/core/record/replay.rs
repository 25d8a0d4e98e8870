//! Would this version decide the same? Runs a core over the lines of a recording.
//!
//! Up to the first difference every job of the recording is a job of ours too. Behind it an answer may belong to a call that
//! this core has not begun: it is an orphan, and left out. Answers and calls are paired by what the call is known by.

use std::collections::BTreeMap;

use super::{CallId, InputLine, InputRecord, Opening, ReplyRecord, StepLine, StepRecord, why};
use crate::contract::Violation;
use crate::core::engine::{Core, Input, Question, Step};
use crate::core::outcome::Ending;
use crate::core::request::Job;
use crate::core::time::Now;

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

/// A core that is told what another one was told.
#[derive(Debug)]
pub struct Replayer {
    core: Core<()>,
    begun: BTreeMap<CallId, Begun>,
}

impl Replayer {
    pub fn begin(begin: &Opening) -> Self {
        let now = Now { at: begin.at, wall: begin.wall };
        Self { core: Core::new(begin.settings.clone(), now), begun: BTreeMap::new() }
    }

    /// It is told what the recorded one was told.
    pub fn take(&mut self, line: InputLine) -> Compared {
        let now = Now { at: line.at, wall: line.wall };
        let Some(input) = self.input(line.what) else { return Compared::Orphan };
        let said = ReplyRecord::of(&self.core.take(now, input));
        Compared::Told((said != line.reply).then_some((line.reply, said)))
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
            Step::Republish(job, _) => (CallId::Republish(job.arrival), Begun::Call(job)),
            Step::Acknowledge(_) | Step::Requeue(_) | Step::Refresh { .. } | Step::Wait(_) => {
                return;
            }
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
            InputRecord::Delivered(delivery) => Input::Delivered(delivery.job()),
            InputRecord::Invalid { delivery, violations } => {
                Input::Invalid(delivery.job(), vec![unsaid(); violations])
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
            InputRecord::Republished(job) => Input::Republished(self.call(CallId::Republish(job))?),
            InputRecord::NotRepublished(job) => {
                self.call(CallId::Republish(job))?;
                Input::NotRepublished(job)
            }
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

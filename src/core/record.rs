//! How is a history of the core written down, to be run again? Line by line: each input, each step, and when.
//!
//! A recording begins with the core, so that it needs no snapshot of one, and holds of a request what decisions depend on.
//! Never in it: a body (what is there is its length, and the run, which is made of its digest), and what may quote one: the
//! words of a violation, of a panic and of the API. Nor what operators say of themselves. Credentials never reach the core.
//!
//! An input is written before the core is told it, for the one that it panics at is the one that is wanted.

mod given;
mod replay;
mod why;

use std::ops::Deref;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::engine::{Core, Input, Obeyed, Question, Reply, Settings, Step, Unlent};
use super::gate::Reason;
use super::judge::Found;
use super::outcome::Outcome;
use super::request::Job;
use super::time::{Moment, Now};
use super::verdict::Query;

pub use given::InputRecord;
pub use replay::{Compared, Replayer, check_input, check_settings};

/// The format of the lines. Another one is refused by name.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordLine {
    /// The first one: what core it was.
    Begin(Box<Opening>),
    /// It was told this.
    In(Box<InputLine>),
    /// It said this at once to the input of the line before; no such line: it said nothing.
    Reply(ReplyRecord),
    /// It decided this. Of waits in a row that are equal, the first and the last are here.
    Step(StepLine),
    /// The worker panicked.
    Panicked(Panicked),
    /// The last one, where the recording did not just stop: why it ends.
    End(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opening {
    pub version: u32,
    /// The program that wrote it.
    pub program: String,
    pub at: Moment,
    pub wall: Timestamp,
    pub settings: Settings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InputLine {
    pub at: Moment,
    pub wall: Timestamp,
    pub what: InputRecord,
}

/// What the core was doing when the worker panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Panicked {
    /// It was told the last input.
    Input,
    /// It was asked for a step at this time.
    Step(Now),
    /// Nothing: the panic was elsewhere.
    Elsewhere,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepLine {
    pub at: Moment,
    pub wall: Timestamp,
    pub what: StepRecord,
    /// For people: no difference of the words is one of the decision.
    pub why: String,
}

/// What a call, or whatever else is under way, is known by: an answer belongs to the one that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallId {
    /// By the number of the delivery.
    Post(u64),
    LookUp(u64),
    Settle(u64),
    Park(u64),
    Fetch,
    /// Of these there is one at a time.
    List,
    Count,
    Any,
    Refresh,
}

impl CallId {
    pub(super) fn of<D>(question: &Question<D>) -> Self {
        match question {
            Question::LookUp(job) => Self::LookUp(job.arrival),
            Question::List { .. } => Self::List,
            Question::Count(_) => Self::Count,
            Question::Any => Self::Any,
        }
    }
}

/// A delivery, for people and for whoever pairs lines: its number, and the id of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobName {
    pub job: u64,
    pub id: String,
}

impl JobName {
    fn of<D>(job: &Job<D>) -> Self {
        Self { job: job.arrival, id: job.request.id.to_string() }
    }
}

/// A step, as far as it is a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepRecord {
    Post(JobName),
    LookUp(JobName),
    List {
        offset: u32,
    },
    CountState {
        state: String,
        offset: u32,
    },
    CountTask(String),
    Any,
    Refresh {
        generation: Option<u64>,
    },
    Settle {
        #[serde(flatten)]
        named: JobName,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<String>,
        attempts: u32,
        look_ups: u32,
        never_sent: bool,
    },
    Acknowledge(JobName),
    Requeue(JobName),
    Park(JobName),
    Fetch {
        due: Timestamp,
        ahead: usize,
    },
    Wait {
        until: Option<Moment>,
        shut: Option<Reason>,
    },
}

impl StepRecord {
    pub fn of<D>(core: &Core<D>, step: &Step<D>) -> Self {
        match step {
            Step::Post(job) => Self::Post(JobName::of(job)),
            Step::Ask(question) => Self::asked(question),
            Step::Refresh { generation } => Self::Refresh { generation: *generation },
            Step::Settle(job, ending) => Self::Settle {
                named: JobName::of(job),
                outcome: ending.outcome,
                task: ending.task_id.clone(),
                attempts: ending.attempts,
                look_ups: ending.look_ups,
                never_sent: ending.never_sent,
            },
            Step::Acknowledge(job) => Self::Acknowledge(JobName::of(job)),
            Step::Requeue(job) => Self::Requeue(JobName::of(job)),
            Step::Park(job) => Self::Park(JobName::of(job)),
            Step::Fetch(fetch) => Self::Fetch { due: fetch.due, ahead: fetch.ahead.1 },
            Step::Wait(until) => {
                Self::Wait { until: *until, shut: core.shut().map(|shut| shut.reason) }
            }
        }
    }

    fn asked<D>(question: &Question<D>) -> Self {
        match question {
            Question::LookUp(job) => Self::LookUp(JobName::of(job)),
            Question::List { offset } => Self::List { offset: *offset },
            Question::Count(Query::State { state, offset }) => {
                Self::CountState { state: (*state).to_owned(), offset: *offset }
            }
            Question::Count(Query::Task(id)) => Self::CountTask(id.clone()),
            Question::Count(Query::Source(_) | Query::Any | Query::All { .. }) | Question::Any => {
                Self::Any
            }
        }
    }

    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Post(_) => "post",
            Self::LookUp(_) => "look-up",
            Self::List { .. } => "list",
            Self::CountState { .. } | Self::CountTask(_) => "count",
            Self::Any => "ask",
            Self::Refresh { .. } => "refresh",
            Self::Settle { .. } => "settle",
            Self::Acknowledge(_) => "acknowledge",
            Self::Requeue(_) => "requeue",
            Self::Park(_) => "park",
            Self::Fetch { .. } => "fetch",
            Self::Wait { .. } => "wait",
        }
    }

    /// The delivery that it is about.
    pub fn named(&self) -> Option<&JobName> {
        match self {
            Self::Post(named)
            | Self::LookUp(named)
            | Self::Acknowledge(named)
            | Self::Requeue(named)
            | Self::Park(named)
            | Self::Settle { named, .. } => Some(named),
            _ => None,
        }
    }
}

/// What was said at once to an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyRecord {
    Found(Found),
    Obeyed(Obeyed),
    /// So many calls are lent.
    Lent(u32),
    /// None are lent: why.
    Unlent(Unlent),
}

impl ReplyRecord {
    fn of(reply: &Reply) -> Option<Self> {
        match reply {
            Reply::Nothing => None,
            Reply::Found(found) => Some(Self::Found(*found)),
            Reply::Obeyed(obeyed) => Some(Self::Obeyed(*obeyed)),
            Reply::Lent(Ok(grant)) => Some(Self::Lent(grant.calls)),
            Reply::Lent(Err(unlent)) => Some(Self::Unlent(*unlent)),
        }
    }
}

/// Where lines go; `false`: it takes no more.
pub type Tape = Box<dyn FnMut(&RecordLine) -> bool + Send>;

/// A core, and where what goes in and comes out of it is written down, if anywhere. It is used as the core is.
pub struct Recorded<D> {
    core: Core<D>,
    tape: Option<Tape>,
    /// What the core is doing just now.
    doing: Panicked,
    /// The last line, if that is a wait.
    waits: Option<StepRecord>,
    /// The latest of the waits since that are equal to it, not written yet.
    same: Option<StepLine>,
}

impl<D> Recorded<D> {
    /// A core of which nothing is written down.
    pub fn new(settings: Settings, now: Now) -> Self {
        Self::over(Core::new(settings, now), None)
    }

    fn over(core: Core<D>, tape: Option<Tape>) -> Self {
        Self { core, tape, doing: Panicked::Elsewhere, waits: None, same: None }
    }

    /// Another core like this one, which nothing has happened to yet, of which everything is.
    #[must_use]
    pub fn onto(&self, now: Now, mut tape: Tape) -> Self {
        let settings = self.core.settings().clone();
        let begin = Opening {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            at: now.at,
            wall: now.wall,
            settings: settings.clone(),
        };
        let goes_on = tape(&RecordLine::Begin(Box::new(begin)));
        Self::over(Core::new(settings, now), goes_on.then_some(tape))
    }

    /// [`Core::take`].
    pub fn take(&mut self, now: Now, input: Input<D>) -> Reply {
        if self.tape.is_none() {
            return self.core.take(now, input);
        }
        let what = InputRecord::of(&input, self.core.next_delivery());
        self.write(&RecordLine::In(Box::new(InputLine { at: now.at, wall: now.wall, what })));
        self.doing = Panicked::Input;
        let reply = self.core.take(now, input);
        self.doing = Panicked::Elsewhere;
        if let Some(said) = ReplyRecord::of(&reply) {
            self.write(&RecordLine::Reply(said));
        }
        reply
    }

    /// [`Core::next`].
    pub fn next(&mut self, now: Now) -> Step<D> {
        self.doing = Panicked::Step(now);
        let step = self.core.next(now);
        self.doing = Panicked::Elsewhere;
        if self.tape.is_some() {
            let what = StepRecord::of(&self.core, &step);
            let why = why::why(&self.core, now, &step);
            let line = StepLine { at: now.at, wall: now.wall, what, why };
            if self.waits.as_ref() == Some(&line.what) {
                self.same = Some(line);
            } else {
                let waits = matches!(line.what, StepRecord::Wait { .. }).then(|| line.what.clone());
                self.write(&RecordLine::Step(line));
                self.waits = waits;
            }
        }
        step
    }

    /// [`Core::drain`].
    pub fn drain(&mut self) -> Vec<Job<D>> {
        self.core.drain()
    }

    /// The core remembers when it was asked last, so the last of equal waits goes before what follows them.
    fn write(&mut self, line: &RecordLine) {
        self.write_same();
        self.put(line);
    }

    fn write_same(&mut self) {
        self.waits = None;
        if let Some(same) = self.same.take() {
            self.put(&RecordLine::Step(same));
        }
    }

    fn put(&mut self, line: &RecordLine) {
        if let Some(tape) = &mut self.tape
            && !tape(line)
        {
            self.tape = None;
        }
    }
}

impl<D> Drop for Recorded<D> {
    fn drop(&mut self) {
        self.write_same();
        if std::thread::panicking() {
            self.put(&RecordLine::Panicked(self.doing));
        }
    }
}

impl<D> Deref for Recorded<D> {
    type Target = Core<D>;

    fn deref(&self) -> &Core<D> {
        &self.core
    }
}

//! What has happened? The core's one way in.

use serde::{Deserialize, Serialize};

use super::lending::{self, Unlent};
use super::{Core, Fetched, Hot, Obeyed, Question};
use crate::contract::Violation;
use crate::core::gate::Pause;
use crate::core::judge::Found;
use crate::core::limits::Grant;
use crate::core::orders::Order;
use crate::core::outcome::{Ending, Settlement};
use crate::core::rate::Rate;
use crate::core::request::Job;
use crate::core::time::Now;
use crate::core::verdict::{Fault, Listing, Verdict};

/// What the core is told. A job that was handed out by a [`Step`](super::Step) comes back with what became of it.
#[derive(Debug)]
pub enum Input<D> {
    /// This worker is the active one: deliveries of this session follow, of which so many are `waiting` already; 0 if
    /// that is not known.
    Opened { session: u32, waiting: usize },
    /// The session is gone and with it every delivery held. Calls that are out go on; their verdicts are kept for the
    /// redelivery.
    Lost,
    /// Results cannot (`true`) or can be published.
    Blocked(bool),
    /// Somebody has renewed the credential, and it was not for a probe: what was refused with the old one may be taken.
    Renewed,
    /// A valid request was delivered.
    Delivered(Job<D>),
    /// A message was delivered that must not be sent.
    Invalid(Job<D>, Vec<Violation>),
    /// A message was delivered that this program cannot read: reading it panicked with this text.
    Unreadable(Job<D>, String),
    /// A `POST` that was begun at `started` with a token of this generation has ended.
    Answered { job: Job<D>, started: Now, verdict: Verdict, generation: u64 },
    /// A question that was asked at `started` with a token of this generation has been answered, or was not.
    Told { question: Question<D>, started: Now, result: Result<Listing, Verdict>, generation: u64 },
    /// A `POST` was not begun: what it needs took so long that its permit is spent. It takes another one when its turn
    /// comes.
    Late(Job<D>),
    /// A call for this job panicked with this text: nobody knows what it did.
    Panicked(Job<D>, String),
    /// A fresh token is there (its generation), or cannot be had.
    Refreshed(Result<u64, Fault>),
    /// A settlement has ended.
    Settled { job: Job<D>, ending: Box<Ending>, how: Settlement },
    /// A request was parked and acknowledged, or its session was lost under it. Its delivery is gone either way.
    Parked(Job<D>),
    /// The broker refuses to park it: its delivery is held as before.
    NotParked(Job<D>),
    /// A fetch of this session has ended; `None`: it failed.
    Fetched { session: u32, fetched: Option<Fetched> },
    /// What planners want of requests that wait, in the order in which it was kept.
    Orders(Vec<Order>),
    /// What an operator wants.
    Ordered(Steer),
    /// The configuration was changed; the rates are the business of [`Steer::Set`], for an operator's go before them.
    Reconfigured(Hot),
    /// Nothing new is started from now on; what is in flight ends.
    Stop,
    /// The source has an end, and this is it: what is held is all there is.
    SourceEnded,
}

/// What an operator wants of the core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// What operators have set, as it stands.
    Set { pause: Option<Pause>, rates: Vec<Rate> },
    /// Start nothing.
    Pause(Pause),
    /// Lift a pause, and try at once whatever waits because of an error.
    Resume,
    /// Other limits.
    Rates(Vec<Rate>),
    /// The limits are set, if only to those that hold already: whatever 429s have taught is forgotten.
    ForgetLearned,
    /// Let another process make up to so many calls.
    Lend { calls: u32 },
    /// Another process may make calls, or have been lent some, that this worker does not know of.
    AssumeLent,
}

/// What is to be said at once to an [`Input`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nothing,
    /// What a question to the API has shown.
    Found(Found),
    /// What orders have done to what waits here.
    Obeyed(Obeyed),
    /// Whether calls are lent.
    Lent(Result<Grant, Unlent>),
}

impl<D> Core<D> {
    /// Something has happened. What follows from it are the next steps: [`Core::next`].
    pub fn take(&mut self, now: Now, input: Input<D>) -> Reply {
        match input {
            Input::Opened { session, waiting } => self.session_opened(now, session, waiting),
            Input::Lost => self.session_lost(),
            Input::Blocked(blocked) => self.gate.set_blocked(blocked),
            Input::Renewed => self.gate.renewed(now.at),
            Input::Delivered(job) => self.arrived(now, job),
            Input::Invalid(job, violations) => self.invalid(now, job, violations),
            Input::Unreadable(job, text) => self.unreadable(now, job, &text),
            Input::Answered { job, started, verdict, generation } => {
                self.posted(now, started, job, verdict, generation);
            }
            Input::Told { question, started, result, generation } => {
                return Reply::Found(self.told(now, started, question, result, generation));
            }
            Input::Late(job) => self.late(now, job),
            Input::Panicked(job, text) => self.panicked(now, job, &text),
            Input::Refreshed(result) => self.gate.refreshed(now, result.as_ref().copied()),
            Input::Settled { job, ending, how } => self.settled(now, job, ending, how),
            Input::Parked(job) => {
                drop(job);
                self.parked();
            }
            Input::NotParked(job) => self.not_parked(now, job),
            Input::Fetched { session, fetched } => self.fetched(now, session, fetched),
            Input::Orders(orders) => return Reply::Obeyed(self.obey(now, orders)),
            Input::Ordered(order) => return self.ordered(now, order),
            Input::Reconfigured(hot) => self.reconfigure(now, hot),
            Input::Stop => self.session.stopping = true,
            Input::SourceEnded => self.session.source_has_ended(),
        }
        Reply::Nothing
    }

    fn ordered(&mut self, now: Now, order: Steer) -> Reply {
        match order {
            Steer::Set { pause, rates } => self.gate.steer(now.at, pause, &rates),
            Steer::Pause(pause) => self.gate.pause(pause),
            Steer::Resume => {
                self.gate.resume(now.at);
                self.forget_troubles(now);
            }
            Steer::Rates(rates) => self.gate.set_rates(now.at, &rates),
            Steer::ForgetLearned => {
                let rates = self.gate.limits().rates().to_vec();
                self.gate.set_rates(now.at, &rates);
            }
            Steer::Lend { calls } => return Reply::Lent(self.lend(now, calls)),
            Steer::AssumeLent => self.gate.assume_lent(now.at, lending::USED),
        }
        Reply::Nothing
    }
}

//! Where do requests come from, and where does what became of them go? The seam between the worker and its sources:
//! the broker is one, a plan file with its journal is another.

use std::future::Future;

use bytes::Bytes;

use crate::contract::Violation;
use crate::core::{Ending, Fetch, Fetched, Job, Now, Request};
use crate::message::audit::Act;
use crate::message::command::{PendingCommand, Steering, SteeringChange};
use crate::message::intake::Intake;

/// A delivery as the worker sees it: the body, and whatever the source needs to settle it.
pub trait Delivery: Send + 'static {
    /// The body's bytes as they were enqueued. May read a file, so it is awaited when the body is to be sent, and while the
    /// delivery is held.
    fn body(&self) -> impl Future<Output = std::io::Result<Bytes>> + Send + 'static;

    /// Awaited right before each attempt; an error keeps it from being sent. A source that would not know of an attempt
    /// after a crash writes it down here. A broker needs nothing: it marks what it delivers again.
    fn starting(
        &self,
        _now: Now,
        _request: &Request,
    ) -> impl Future<Output = std::io::Result<()>> + Send + 'static {
        std::future::ready(Ok(()))
    }
}

/// What a source has to say.
#[derive(Debug)]
pub enum Event<D> {
    /// What operators have set, as the worker before this one left it. Comes before [`Event::Opened`].
    Steered(Steering),
    /// What planners have ordered of requests that wait, all of it so far. Comes before [`Event::Opened`].
    OrdersBefore(Vec<Act>),
    /// One more order was kept, by whomever.
    OrderKept(Box<Act>),
    /// Another process calls the same API: it may have been lent calls by a worker before this one. Comes before
    /// [`Event::Opened`].
    Leasing,
    /// An operator's command that came over the source.
    Ordered(PendingCommand),
    /// This worker is the active one of a new session: deliveries follow, of which so many are waiting already (0 if that
    /// is not known). Every job of it carries its number.
    Opened { session: u32, waiting: usize },
    /// A valid request.
    Arrived(Job<D>),
    /// A message that must not be sent: to be settled as `invalid` with these violations.
    Invalid(Job<D>, Vec<Violation>),
    /// A message whose reading panicked, with these words: to be settled as `unknown`.
    Unreadable(Job<D>, String),
    /// The session ended: its deliveries are void. The source opens a new one by itself.
    Lost { why: String },
    /// A source that has an end (a plan) has no more requests.
    Ended,
    /// Results can (`false`) or cannot (`true`) be published just now (`RabbitMQ`: `connection.blocked`).
    Blocked(bool),
}

impl<D> Event<D> {
    /// A message that was read, as the job that `job` makes of its request.
    pub fn of(intake: Intake, job: impl FnOnce(Request) -> Job<D>) -> Self {
        let Intake { request, violations, bug, .. } = intake;
        let job = job(request);
        match bug {
            Some(text) => Self::Unreadable(job, text),
            None if violations.is_empty() => Self::Arrived(job),
            None => Self::Invalid(job, violations),
        }
    }

    /// The job of a delivery.
    pub fn job(&self) -> Option<&Job<D>> {
        match self {
            Self::Arrived(job) | Self::Invalid(job, _) | Self::Unreadable(job, _) => Some(job),
            _ => None,
        }
    }

    /// The job of a delivery.
    pub fn into_job(self) -> Option<Job<D>> {
        match self {
            Self::Arrived(job) | Self::Invalid(job, _) | Self::Unreadable(job, _) => Some(job),
            _ => None,
        }
    }
}

/// How an attempt to settle ended.
#[derive(Debug)]
pub enum Settled {
    /// Published, confirmed, and the delivery acknowledged.
    Done,
    /// The session was lost under it: the delivery comes again.
    SessionLost,
    /// The broker refuses a message of it, and says why. The delivery is held as before.
    Refused(String),
}

/// A source of requests and sink of results.
pub trait Source: Send {
    type Delivery: Delivery;

    /// The next event; pending while there is none. Cancel safe: it stands in the worker's `select!`.
    fn next(&mut self) -> impl Future<Output = Event<Self::Delivery>> + Send;

    /// Publishes what became of the request (a result, and a dead letter where the outcome is one), awaits the
    /// confirms, and only then acknowledges the delivery.
    fn settle(
        &self,
        job: Job<Self::Delivery>,
        ending: Ending,
    ) -> impl Future<Output = (Job<Self::Delivery>, Ending, Settled)> + Send + 'static;

    /// Acknowledges a delivery whose result has been published and confirmed before (it came again all the same).
    fn acknowledge(&self, job: Job<Self::Delivery>) -> impl Future<Output = ()> + Send + 'static;

    /// Requeues a delivery unsettled; it comes again, here or at another worker.
    fn requeue(&self, job: Job<Self::Delivery>) -> impl Future<Output = ()> + Send + 'static;

    /// Publishes the request anew to the place for what waits, awaits the confirm, and only then acknowledges the delivery;
    /// where that place takes no copy, nothing is done. A source without one ([`Settings::parks`](crate::core::Settings))
    /// is never asked.
    fn park(
        &self,
        job: Job<Self::Delivery>,
    ) -> impl Future<Output = (Job<Self::Delivery>, Settled)> + Send + 'static {
        std::future::ready((job, Settled::SessionLost))
    }

    /// Publishes what is parked and due anew, each to come as a delivery again; `None`: it failed, and what is not fetched is
    /// still parked.
    fn fetch(&self, _: Fetch) -> impl Future<Output = Option<Fetched>> + Send + 'static {
        std::future::ready(None)
    }

    /// Keeps an order for this worker and every later one; it comes back as [`Event::OrderKept`]. `Err`: why it could not.
    fn keep_order(&self, _: Act) -> impl Future<Output = Result<(), String>> + Send + 'static {
        std::future::ready(Err("this source takes no orders".to_owned()))
    }

    /// Keeps what operators have set, for the next worker, and writes down who did it; `Err`: why it could not. A source
    /// that nobody takes over has nothing to keep.
    fn keep_steering(
        &self,
        _: SteeringChange,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        async { Ok(()) }
    }

    /// No more deliveries are wanted; those held stay valid until [`Source::leave`]. What comes back ends when the other side
    /// knows it, or after a while.
    fn stop(&mut self) -> impl Future<Output = ()> + Send + 'static;

    /// Requeues what is held, makes sure that the broker has read every acknowledgement, and closes.
    fn leave(self, held: Vec<Job<Self::Delivery>>) -> impl Future<Output = ()> + Send;
}

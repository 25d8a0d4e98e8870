//! What is to be done? The core's one way out.

use super::parking::Fetch;
use crate::core::judge;
use crate::core::outcome::Ending;
use crate::core::request::Job;
use crate::core::time::Moment;
use crate::core::verdict::Query;

/// What is to be done next.
#[derive(Debug)]
pub enum Step<D> {
    /// Send it; report with [`Input::Answered`](super::Input::Answered).
    Post(Job<D>),
    /// Ask the API; report with [`Input::Told`](super::Input::Told).
    Ask(Question<D>),
    /// Fetch a fresh token in place of this generation (`None`: of whatever is in use); report with
    /// [`Input::Refreshed`](super::Input::Refreshed).
    Refresh { generation: Option<u64> },
    /// Publish what became of it, then acknowledge; report with [`Input::Settled`](super::Input::Settled).
    Settle(Job<D>, Box<Ending>),
    /// What became of it has been published before: acknowledge only. No report.
    Acknowledge(Job<D>),
    /// Requeue the delivery; it comes again. No report.
    Requeue(Job<D>),
    /// Publish it anew to the queue of parked requests, then acknowledge; report with
    /// [`Input::Parked`](super::Input::Parked), or [`Input::NotParked`](super::Input::NotParked).
    Park(Job<D>),
    /// Publish what is parked and due anew to the queue of requests; report with
    /// [`Input::Fetched`](super::Input::Fetched).
    Fetch(Fetch),
    /// Nothing until something happens, or this moment comes.
    Wait(Option<Moment>),
}

impl<D> Step<D> {
    /// The request that it is about, if it is about one.
    pub fn job(&self) -> Option<&Job<D>> {
        match self {
            Self::Post(job)
            | Self::Settle(job, _)
            | Self::Acknowledge(job)
            | Self::Requeue(job)
            | Self::Park(job) => Some(job),
            Self::Ask(question) => question.job(),
            Self::Refresh { .. } | Self::Fetch(_) | Self::Wait(_) => None,
        }
    }
}

/// A `GET /v3/tasks`, and what it is for.
#[derive(Debug)]
pub enum Question<D> {
    /// A look-up: is there a task for this source server?
    LookUp(Job<D>),
    /// A page of all tasks, for every job that waits for the list.
    List { offset: u32 },
    /// The tasks in a state, or one of our own: for the running cap.
    Count(Query),
    /// One task, whichever: whether look-ups are answered at all.
    Any,
}

impl<D> Question<D> {
    pub fn query(&self) -> Query {
        match self {
            Self::LookUp(job) => judge::query(&job.request),
            Self::List { offset } => Query::All { offset: *offset },
            Self::Count(query) => query.clone(),
            Self::Any => Query::Any,
        }
    }

    /// The job that is looked up.
    pub fn job(&self) -> Option<&Job<D>> {
        match self {
            Self::LookUp(job) => Some(job),
            Self::List { .. } | Self::Count(_) | Self::Any => None,
        }
    }
}

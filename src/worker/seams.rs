//! What does the loop need of the API, and whom does it tell what happens? The two seams beside the source of requests.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::core::{Core, Ending, Fault, Found, Job, Listing, Now, Query, Trace, Verdict};
use crate::message::status::Status;
use crate::worker::source::Settled;

/// The API as the worker uses it. Each call is one request on the wire, and says the generation of the token it used.
pub trait Submit: Send + Sync + 'static {
    /// `POST /v3/tasks` with these bytes.
    fn post(
        &self,
        body: Bytes,
        trace: Option<&Trace>,
    ) -> impl Future<Output = (Verdict, u64)> + Send;

    /// `GET /v3/tasks`.
    fn list(
        &self,
        query: &Query,
        trace: Option<&Trace>,
    ) -> impl Future<Output = (Result<Listing, Verdict>, u64)> + Send;

    /// Fetches a fresh token in place of this generation (`None`: of whichever is in use) and says its generation.
    fn refresh(&self, generation: Option<u64>) -> impl Future<Output = Result<u64, Fault>> + Send;

    /// How often the credential has been renewed by somebody else than [`Submit::refresh`]; none where nobody can.
    fn renewals(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// What a call was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Post,
    Look,
}

/// What the loop tells those who watch: metrics, the log, the status. Called from the loop, so it must not wait.
pub trait Watch<D>: Send {
    /// An attempt has ended after `took`.
    fn posted(&mut self, job: &Job<D>, verdict: &Verdict, now: Now, took: Duration);
    /// A look-up for this job was answered, or was not, after `took`.
    fn look_answered(
        &mut self,
        _job: &Job<D>,
        _result: &Result<Listing, Verdict>,
        _now: Now,
        _took: Duration,
    ) {
    }
    /// The trace context that a call for this job carries.
    fn trace(&self, job: &Job<D>, _call: Call) -> Option<Trace> {
        job.request.trace()
    }
    /// A question to the API has been answered, or was not.
    fn looked(&mut self, found: Found, took: Duration);
    /// A request has been settled (or its session was lost under it).
    fn settled(&mut self, job: &Job<D>, ending: &Ending, how: &Settled, now: Now, took: Duration);
    /// A delivery came; `redelivered` as the source said.
    fn arrived(&mut self, job: &Job<D>);
    /// A delivery is held no more, and nothing has become of its request by this: it is requeued, or was published anew,
    /// or its request was settled before.
    fn left(&mut self, _job: &Job<D>) {}
    /// The source's session was opened or lost.
    fn session(&mut self, event: SessionEvent<'_>);
    /// All that could be started has been: the state until something happens.
    fn state(&mut self, core: &Core<D>, now: Now);
    /// How the worker is, for an operator who asks; none where nobody keeps such a thing.
    fn status(&mut self, _core: &Core<D>, _now: Now) -> Option<Status> {
        None
    }
}

/// What happened to the session.
#[derive(Clone, Copy, Debug)]
pub enum SessionEvent<'a> {
    Opened(u32),
    Lost(&'a str),
    Blocked(bool),
}

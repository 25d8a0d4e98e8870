//! What is a request, and who owns it? A [`Request`] is what was read of one message; a [`Job`] adds the delivery
//! (a value that cannot be copied, so there is one owner at a time) and what is left of its retries.

mod progress;

use std::fmt;
use std::num::{NonZeroI64, NonZeroU64};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::sparse::{Blank, Sparse};
use super::text::Text;
use super::time::Moment;
use super::trace::Trace;
use super::window::Place;

pub use progress::{Doubt, Progress, Tried};

/// One life of a request: (message id, SHA-256 of the body, enqueued-at, replay number) as a UUID of version 5.
/// Results carry it as their message id, and what is remembered goes by it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Run(pub Uuid);

impl Run {
    /// Any fixed UUID serves as a name space; changing it would give every run a new identity.
    const SPACE: Uuid = Uuid::from_u128(0x5e1c_9e0b_6a55_4d0e_9d5b_51c1_ce6a_7e00);

    /// `body_sha256` is the digest of the body's bytes as they were enqueued.
    pub fn of(
        message_id: &str,
        body_sha256: &[u8; 32],
        enqueued_at: Option<Timestamp>,
        replay: u32,
    ) -> Self {
        let mut name = Vec::with_capacity(message_id.len() + 64);
        name.extend_from_slice(message_id.as_bytes());
        name.push(0);
        name.extend_from_slice(body_sha256);
        let at = enqueued_at.map_or(i64::MIN, Timestamp::as_millisecond);
        name.extend_from_slice(&at.to_be_bytes());
        name.extend_from_slice(&replay.to_be_bytes());
        Self(Uuid::new_v5(&Self::SPACE, &name))
    }
}

/// What the worker knows of one message. Of an invalid body as much as could be read: unknown texts are empty.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The message id; derived from the body where the message has none.
    pub id: Text,
    pub run: Run,
    pub name: Text,
    pub source_server_id: Text,
    /// The target server's `vm_id`, where the body names one.
    pub target_vm_id: Option<Text>,
    /// Held once for all requests of which it is the same: most of a plan's.
    pub shared: Arc<Shared>,
    /// `x-sluice-row`: the place in the plan, from 1.
    pub row: RowNumber,
    /// `x-sluice-priority`, else the body's `priority`, else 1. Higher is more urgent.
    pub priority: u16,
    /// `x-sluice-enqueued-at`, else the message's `timestamp`.
    pub enqueued_at: Stamp,
    pub rare: Sparse<Rare>,
    /// Of a trace that has the message's id, as `sluice enqueue` begins one for each request: the span that it begins with.
    pub span: Option<NonZeroU64>,
    /// Whether the body's `auto_start` lets the migration run by itself: everything but an explicit `false`.
    pub starts: bool,
    /// The length of the body in bytes.
    pub bytes: u32,
}

/// What is the same for many requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    pub project_id: Box<str>,
    pub region_id: Box<str>,
    /// `x-sluice-batch`
    pub batch: Option<Box<str>>,
    /// `x-sluice-batch-run`: which generation of that id.
    pub batch_run: Option<Uuid>,
}

/// What few requests have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rare {
    /// `x-sluice-not-before`
    pub not_before: Option<Timestamp>,
    /// `x-sluice-deadline`
    pub deadline: Option<Timestamp>,
    /// The same on the monotonic clock while the request is held; [`Moment::START`]: it has none, or it has been dealt with.
    pub due: Moment,
    /// [`Rare::not_before`] on the monotonic clock while the request is held.
    pub from: Moment,
    /// `x-sluice-replay`: how often a reviewer has sent this request again.
    pub replay: u32,
    /// `x-sluice-again`: a finished migration is wanted again.
    pub again: bool,
    /// `traceparent` and `tracestate` (W3C), where they are not as `sluice enqueue` writes them.
    pub trace: Option<Trace>,
    /// `x-sluice-never-sent`: the worker that dead-lettered it says that no `POST` of it was ever begun.
    pub never_sent: bool,
    /// An order holds it back, until another one releases it.
    pub held: bool,
}

impl Rare {
    /// Whether it has a time of the wall clock.
    pub fn is_timed(&self) -> bool {
        self.not_before.is_some() || self.deadline.is_some()
    }
}

impl Blank for Rare {
    const BLANK: &'static Self = &Self {
        not_before: None,
        deadline: None,
        due: Moment::START,
        from: Moment::START,
        replay: 0,
        again: false,
        trace: None,
        never_sent: false,
        held: false,
    };
}

/// A row of a plan, if there is one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RowNumber(Option<NonZeroU64>);

impl RowNumber {
    pub fn get(self) -> Option<u64> {
        self.0.map(|row| !row.get())
    }
}

/// The last number of all is none: no plan has so many rows.
impl From<Option<u64>> for RowNumber {
    fn from(row: Option<u64>) -> Self {
        Self(row.and_then(|row| NonZeroU64::new(!row)))
    }
}

/// A time to the millisecond, as `x-sluice-enqueued-at` is written, if there is one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp(Option<NonZeroI64>);

impl Stamp {
    pub fn get(self) -> Option<Timestamp> {
        self.millisecond().and_then(|at| Timestamp::from_millisecond(at).ok())
    }

    /// Since 1970.
    pub fn millisecond(self) -> Option<i64> {
        self.0.map(|at| at.get() ^ i64::MIN)
    }
}

impl From<Option<Timestamp>> for Stamp {
    fn from(at: Option<Timestamp>) -> Self {
        // There is no time in the least millisecond of all, so it is none.
        Self(at.and_then(|at| NonZeroI64::new(at.as_millisecond() ^ i64::MIN)))
    }
}

impl fmt::Debug for RowNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Request {
    /// `x-sluice-batch`
    pub fn batch(&self) -> Option<&str> {
        self.shared.batch.as_deref()
    }

    /// `x-sluice-batch-run`: which generation of that batch; `None` for the batches of other clients.
    pub fn batch_run(&self) -> Option<Uuid> {
        self.shared.batch_run
    }

    /// `traceparent` and `tracestate` (W3C), forwarded as they came.
    pub fn trace(&self) -> Option<Trace> {
        let own = self.span.zip(self.id.uuid()).map(|(span, id)| Trace::begun(id, span));
        own.or_else(|| self.rare.trace.clone())
    }

    /// The trace that it belongs to, in as few bytes as it takes.
    #[must_use]
    pub fn with_trace(mut self, trace: Option<Trace>) -> Self {
        let begun = |trace: &Trace| {
            let span = NonZeroU64::new(trace.parent_id())?;
            (Trace::begun(self.id.uuid()?, span) == *trace).then_some(span)
        };
        self.span = trace.as_ref().and_then(begun);
        if self.span.is_none() && trace.is_some() {
            self.rare.trace = trace;
        }
        self
    }
}

/// A request, its delivery, and how far it has come. Whoever holds the job answers for the delivery. It is a pointer, so
/// that handing it on costs the same whatever it holds.
#[derive(Debug)]
pub struct Job<D>(Box<Parts<D>>);

/// What a job consists of.
#[derive(Debug)]
pub struct Parts<D> {
    pub request: Request,
    pub delivery: D,
    /// The session that delivered it: deliveries of a lost session are void.
    pub session: u32,
    /// The source says that it delivered this message before (AMQP `redelivered`).
    pub redelivered: bool,
    /// It holds a place in flight and its source server: a call for it has begun, and it is not settled yet.
    pub in_flight: bool,
    /// Where it stands in the window, or stood last.
    pub(super) place: Place,
    /// When this worker received it.
    pub received: Moment,
    /// How long a pause, a halt or a breaker had kept everything back by then. Not part of its progress: behind a shut gate
    /// every request would have one.
    pub(super) kept_before: Duration,
    /// Its number among all deliveries; 0 until the core has given it one.
    pub arrival: u64,
    pub progress: Progress,
}

impl<D> Deref for Job<D> {
    type Target = Parts<D>;

    fn deref(&self) -> &Parts<D> {
        &self.0
    }
}

impl<D> DerefMut for Job<D> {
    fn deref_mut(&mut self) -> &mut Parts<D> {
        &mut self.0
    }
}

impl<D> Job<D> {
    /// A job as a source hands it over: nothing has been tried yet.
    pub fn new(
        request: Request,
        delivery: D,
        session: u32,
        redelivered: bool,
        received: Moment,
    ) -> Self {
        Self(Box::new(Parts {
            request,
            delivery,
            session,
            redelivered,
            in_flight: false,
            place: Place::Post,
            received,
            kept_before: Duration::ZERO,
            arrival: 0,
            progress: Progress::default(),
        }))
    }

    /// Where it stands in the window, or stood last.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// What it consists of, for other owners.
    pub fn into_parts(self) -> Parts<D> {
        *self.0
    }

    /// When this worker received it first, through whatever requeues: what the age of a request is counted from that
    /// does not say when it was enqueued.
    pub fn first_received(&self) -> Moment {
        self.progress.first_received.unwrap_or(self.received)
    }

    /// When its wait ends: a retry's, or its planner's.
    pub fn wakes(&self) -> Moment {
        self.progress.until.max(self.request.rare.from)
    }

    /// What outlives this delivery.
    pub fn carried(&self) -> Progress {
        let mut progress = self.progress.clone();
        // Where the request says it nothing has to be remembered, and most have tried nothing.
        if self.request.enqueued_at.get().is_none() {
            progress.first_received = Some(self.first_received());
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window holds 65,535 of them: what most requests do not have takes a pointer.
    #[test]
    fn a_request_takes_few_bytes_beside_its_texts() {
        assert!(size_of::<Request>() <= 160, "{}", size_of::<Request>());
        assert_eq!(size_of::<Progress>(), 8);
    }

    #[test]
    fn rows_and_times_are_told_as_they_were_given() {
        for row in [None, Some(0), Some(1), Some(u64::MAX - 1)] {
            assert_eq!(RowNumber::from(row).get(), row);
        }
        assert_eq!(size_of::<RowNumber>() + size_of::<Stamp>(), 16);
        for text in [
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999Z",
            "2026-01-31T12:00:00.123Z",
            "0001-01-01T00:00:00Z",
        ] {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(Stamp::from(Some(at)).get(), Some(at));
        }
        assert_eq!(Stamp::default().get(), None);
        let finer: Timestamp = "2026-01-31T12:00:00.123456Z".parse().unwrap();
        assert_eq!(Stamp::from(Some(finer)).get().unwrap().to_string(), "2026-01-31T12:00:00.123Z");
    }
}

//! What is a request, and who owns it? A [`Request`] is what was read of one message; a [`Job`] adds the delivery
//! (a value that cannot be copied, so there is one owner at a time) and what is left of its retries.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::outcome::Try;
use super::time::Moment;
use super::trace::Trace;
use super::verdict::Fault;

/// One life of a request: (message id, SHA-256 of the body, enqueued-at, replay number) as a UUID of version 5.
/// Results carry it as their message id, and what is remembered goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Clone, Debug)]
pub struct Request {
    /// The message id; derived from the body where the message has none.
    pub id: Box<str>,
    pub run: Run,
    pub name: Box<str>,
    pub source_server_id: Box<str>,
    /// The target server's `vm_id`, where the body names one.
    pub target_vm_id: Option<Box<str>>,
    /// Shared by all requests that name the same, as the batch is: most do.
    pub project_id: Arc<str>,
    pub region_id: Arc<str>,
    /// `x-sluice-batch`
    pub batch: Option<Arc<str>>,
    /// `x-sluice-row`: the place in the plan, from 1.
    pub row: Option<u64>,
    /// `x-sluice-priority`, else the body's `priority`, else 1. Higher is more urgent.
    pub priority: u16,
    /// `x-sluice-enqueued-at`, else the message's `timestamp`.
    pub enqueued_at: Option<Timestamp>,
    /// Boxed, as the next: few requests have one, and a window holds many.
    pub not_before: Option<Box<Timestamp>>,
    pub deadline: Option<Box<Timestamp>>,
    /// `x-sluice-replay`: how often a reviewer has sent this request again.
    pub replay: u32,
    /// `x-sluice-again`: a finished migration is wanted again.
    pub again: bool,
    /// Whether the body's `auto_start` lets the migration run by itself: everything but an explicit `false`.
    pub starts: bool,
    /// `traceparent` and `tracestate` (W3C), forwarded as they came.
    pub trace: Option<Trace>,
    /// The length of the body in bytes.
    pub bytes: u32,
}

/// A request, its delivery, and how far it has come. Whoever holds the job answers for the delivery.
#[derive(Debug)]
pub struct Job<D> {
    pub request: Request,
    pub delivery: D,
    /// The session that delivered it: deliveries of a lost session are void.
    pub session: u64,
    /// The source says that it delivered this message before (AMQP `redelivered`).
    pub redelivered: bool,
    /// When this worker received it.
    pub received: Moment,
    /// Its number within the window; 0 until the window has given it one.
    pub arrival: u64,
    /// It holds a place in flight and its source server: a call for it has begun, and it is not settled yet.
    pub in_flight: bool,
    pub progress: Progress,
}

impl<D> Job<D> {
    /// A job as a source hands it over: nothing has been tried yet.
    pub fn new(
        request: Request,
        delivery: D,
        session: u64,
        redelivered: bool,
        received: Moment,
    ) -> Self {
        Self {
            request,
            delivery,
            session,
            redelivered,
            received,
            arrival: 0,
            in_flight: false,
            progress: Progress::default(),
        }
    }

    /// When this worker received it first, through whatever give-backs: what the age of a request is counted from that
    /// does not say when it was enqueued.
    pub fn first_received(&self) -> Moment {
        self.progress.first_received.unwrap_or(self.received)
    }

    /// What outlives this delivery.
    pub fn carried(&self) -> Progress {
        let mut progress = self.progress.clone();
        // Where the request says it nothing has to be remembered, and most have tried nothing.
        if self.request.enqueued_at.is_none() {
            progress.first_received = Some(self.first_received());
        }
        progress
    }
}

/// Whether the job may be sent, or must be looked up first.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Doubt {
    /// Nothing says that there may be a task already.
    #[default]
    None,
    /// In doubt: it must be looked up.
    Look {
        /// One look that finds nothing is enough: no `POST` for this source server can still be on its way.
        once: bool,
        /// When the first look that found nothing was begun; the second begins `api.look_again` later.
        first: Option<Moment>,
        /// The API's answer that a task is in the way, if that is what raised the doubt.
        conflict: Option<Box<Fault>>,
    },
    /// A conflict, and two looks at the source server found nothing: all tasks are listed for its target server.
    Target(Box<Fault>),
}

/// What has been tried for a run so far. It outlives a delivery that is given back. Of most requests that are held nothing
/// has been tried: so it takes no more than a pointer until something is written to it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Option<Box<Tried>>);

impl Deref for Progress {
    type Target = Tried;

    fn deref(&self) -> &Tried {
        static NOTHING: Tried = Tried::NOTHING;
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Progress {
    fn deref_mut(&mut self) -> &mut Tried {
        self.0.get_or_insert_with(|| Box::new(Tried::NOTHING))
    }
}

/// The attempts and looks of a run, and what they left open.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Attempts (`POST`s) that count against `retry.attempts`.
    pub counted: u32,
    /// All attempts.
    pub attempts: u32,
    /// Look-ups made for this run.
    pub looks: u32,
    pub first_attempt_at: Option<Timestamp>,
    /// The same on the monotonic clock, for `retry.max_age`.
    pub first_attempt: Option<Moment>,
    /// When the first of its deliveries was received, where the request does not say when it was enqueued.
    pub first_received: Option<Moment>,
    /// How long the core had kept everything back by then, or when the request arrived: such time is no age.
    pub kept_before: Duration,
    pub doubt: Doubt,
    /// When the look that ended the latest doubt was begun: what the worker has learned since raises a new one.
    pub cleared: Moment,
    /// Not before this moment: a retry's delay, or the second look's.
    pub until: Moment,
    /// Attempts that failed, and looks that failed in a row: what the delay of the next one grows with.
    pub failures: u32,
    pub look_failures: u32,
    /// What the latest failure said.
    pub fault: Option<Box<Fault>>,
    /// The latest tries, oldest first; bounded by the core.
    pub history: Vec<Try>,
}

impl Tried {
    const NOTHING: Self = Self {
        counted: 0,
        attempts: 0,
        looks: 0,
        first_attempt_at: None,
        first_attempt: None,
        first_received: None,
        kept_before: Duration::ZERO,
        doubt: Doubt::None,
        cleared: Moment::START,
        until: Moment::START,
        failures: 0,
        look_failures: 0,
        fault: None,
        history: Vec::new(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window holds 65,535 of them: what most requests do not have takes a pointer.
    #[test]
    fn a_request_takes_few_bytes_beside_its_texts() {
        assert!(size_of::<Request>() <= 208, "{}", size_of::<Request>());
        assert_eq!(size_of::<Progress>(), 8);
    }
}

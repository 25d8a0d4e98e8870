//! Which row comes next, and where does it go when it has ended? The rows of a plan as the worker's source.
//!
//! As many rows are held at once as the window has places; those beyond wait in the file, so the order is by priority
//! among the rows held.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::journal::{Head, Journal, Past, Writer};
use crate::contract::{Rules, View};
use crate::core::{Ending, Job, Now, Parts, Request};
use crate::message::headers;
use crate::message::intake::{self, Intake, Message};
use crate::message::result;
use crate::plan::{self, Fingerprint, Plan, Row};
use crate::planner::JournalError;
use crate::planner::enqueue::{self, message_id};
use crate::worker::bodies::{Body, Spill};
use crate::worker::clock::Clock;
use crate::worker::source::{Delivery, Event, Settled, Source};

/// The one session that a plan has.
const SESSION: u32 = 1;
/// Rows that ended before are passed over; so many at most before others may go on.
const PASSED_OVER: usize = 500;

/// Why no more can be submitted, if so: for people, with what to do.
pub type Trouble = watch::Receiver<Option<String>>;

/// What a source of requests in a plan needs to know.
#[derive(Debug)]
pub struct Options {
    pub head: Head,
    pub rules: Rules,
    /// How many rows to hold at once.
    pub window: u16,
    /// How many rows the plan has: the first request waits until as many, or a full window, are held.
    pub rows: usize,
    /// How many bytes of bodies to hold in memory: `window.max_bytes`.
    pub max_bytes: u64,
    /// `queues.prefix`, for the results' `source`.
    pub prefix: String,
    /// The name of this process in results.
    pub worker: String,
    pub clock: Clock,
}

/// A plan as a source of requests, and its journal as a sink of results.
pub struct Rows {
    options: Arc<Options>,
    past: Past,
    journal: Writer,
    writing: JoinHandle<()>,
    /// Until the file is at its end.
    plan: Option<plan::Valid>,
    fingerprint: Fingerprint,
    places: Arc<Semaphore>,
    spill: Spill,
    give: mpsc::UnboundedSender<Job<Held>>,
    requeued: mpsc::UnboundedReceiver<Job<Held>>,
    trouble: Arc<watch::Sender<Option<String>>>,
    told: Told,
}

/// What the worker has been told so far.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Nothing,
    Opened,
    /// There is nothing more to tell.
    All,
}

/// A row that is held. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Held {
    body: Body,
    journal: Writer,
    _place: OwnedSemaphorePermit,
}

impl Delivery for Held {
    fn body(&self) -> impl Future<Output = io::Result<Bytes>> + Send + 'static {
        self.body.read()
    }

    fn starting(
        &self,
        now: Now,
        request: &Request,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.journal.started(request.run, request.row.get(), now.wall)
    }
}

impl Rows {
    /// `plan` is read again from its beginning; `past` is what the journal says of it.
    ///
    /// # Errors
    /// The journal's thread cannot be started.
    pub fn start(
        plan: Plan,
        journal: Journal,
        past: Past,
        options: Options,
    ) -> Result<Self, JournalError> {
        let trouble = Arc::new(watch::Sender::new(None));
        let tell = Arc::clone(&trouble);
        let (journal, writing) = journal.writer(move |why| {
            tell.send_replace(Some(why));
        })?;
        let (give, requeued) = mpsc::unbounded_channel();
        Ok(Self {
            past,
            journal,
            writing,
            plan: Some(plan::valid(plan)),
            fingerprint: Fingerprint::default(),
            places: Arc::new(Semaphore::new(options.window.into())),
            spill: Spill::new(options.max_bytes),
            options: Arc::new(options),
            give,
            requeued,
            trouble,
            told: Told::Nothing,
        })
    }

    /// Whether it can go on: the worker is to be stopped when it cannot.
    pub fn trouble(&self) -> Trouble {
        self.trouble.subscribe()
    }

    /// The next row that has not ended; none if the file is at its end, or a while has been spent on rows that have.
    fn next_row(&mut self, place: OwnedSemaphorePermit) -> Option<Event<Held>> {
        for _ in 0..PASSED_OVER {
            match self.plan.as_mut()?.next() {
                Some(Ok((row, view))) => {
                    self.fingerprint.add(&row);
                    let Options { head, rules, .. } = &*self.options;
                    let (message, intake) = message(head, rules, &row, &view);
                    if !self.past.ended.contains_key(&intake.request.run) {
                        return self.delivery(message, intake, place);
                    }
                }
                Some(Err(error)) => {
                    self.plan = None;
                    self.cannot_go_on(&error);
                }
                None => {
                    self.plan = None;
                    let read = std::mem::take(&mut self.fingerprint).finish();
                    if read != self.options.head.digest {
                        self.cannot_go_on("the plan was changed while it was being submitted");
                    }
                }
            }
        }
        None
    }

    fn delivery(
        &self,
        message: Message<'_>,
        intake: Intake,
        place: OwnedSemaphorePermit,
    ) -> Option<Event<Held>> {
        let body = match self.spill.keep(message.body) {
            Ok(body) => body,
            Err(error) => {
                self.cannot_go_on(format_args!(
                    "window.max_bytes of bodies are in memory, and the temporary file for the rest cannot be written: {error}"
                ));
                return None;
            }
        };
        let held = Held { body, journal: self.journal.clone(), _place: place };
        let in_doubt = self.past.started.contains(&intake.request.run);
        let received = self.options.clock.now().at;
        Some(Event::of(intake, |request| Job::new(request, held, SESSION, in_doubt, received)))
    }

    fn cannot_go_on(&self, why: impl std::fmt::Display) {
        self.trouble.send_replace(Some(why.to_string()));
    }

    /// Everything that was handed out has been settled.
    fn all_is_settled(&self) -> bool {
        self.plan.is_none() && self.places.available_permits() == usize::from(self.options.window)
    }
}

impl Source for Rows {
    type Delivery = Held;

    async fn next(&mut self) -> Event<Held> {
        if self.told == Told::Nothing {
            self.told = Told::Opened;
            let waiting = self.options.rows.saturating_sub(self.past.ended.len());
            return Event::Opened { session: SESSION, waiting };
        }
        let mut trouble = self.trouble.subscribe();
        while self.told == Told::Opened {
            let why = trouble.borrow_and_update().clone();
            if let Some(why) = why {
                self.told = Told::All;
                return Event::Lost { why };
            }
            if self.all_is_settled() {
                self.told = Told::All;
                return Event::Ended;
            }
            let place = Arc::clone(&self.places).acquire_owned();
            tokio::select! {
                biased;
                // It cannot close: this source has the other end.
                _ = trouble.changed() => {}
                Some(job) = self.requeued.recv() => {
                    let received = self.options.clock.now().at;
                    let Parts { request, delivery, .. } = job.into_parts();
                    return Event::Arrived(Job::new(request, delivery, SESSION, true, received));
                }
                Ok(place) = place, if self.plan.is_some() => {
                    if let Some(event) = self.next_row(place) {
                        return event;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        std::future::pending().await
    }

    fn settle(
        &self,
        job: Job<Held>,
        ending: Ending,
    ) -> impl Future<Output = (Job<Held>, Ending, Settled)> + Send + 'static {
        let Options { prefix, worker, .. } = &*self.options;
        let result = result::result(&job.request, &ending, prefix, worker).to_json();
        let written = self.journal.ended(result);
        async move {
            // Where it fails the source says so: the next process finds it begun, and looks.
            let how = match written.await {
                Ok(()) => Settled::Done,
                Err(_) => Settled::SessionLost,
            };
            (job, ending, how)
        }
    }

    /// Its result is in the journal: there is nothing to acknowledge.
    fn acknowledge(&self, job: Job<Held>) -> impl Future<Output = ()> + Send + 'static {
        drop(job);
        std::future::ready(())
    }

    fn requeue(&self, job: Job<Held>) -> impl Future<Output = ()> + Send + 'static {
        let give = self.give.clone();
        // The source is there as long as its worker is.
        async move { drop(give.send(job)) }
    }

    fn stop(&mut self) -> impl Future<Output = ()> + Send + 'static {
        self.told = Told::All;
        std::future::ready(())
    }

    async fn leave(self, held: Vec<Job<Held>>) {
        let Self { journal, writing, requeued, give, .. } = self;
        drop((held, requeued, give, journal));
        // The lock is free when this returns: every line has been written and synced before it was answered.
        let ended = tokio::task::spawn_blocking(move || writing.join());
        let _ = ended.await;
    }
}

/// The row as the message that `sluice enqueue` would have made of it.
pub(super) fn message(
    head: &Head,
    rules: &Rules,
    row: &Row,
    view: &View,
) -> (Message<'static>, Intake) {
    let Head { batch, run, enqueued_at, .. } = head;
    let headers = [
        (headers::BATCH, batch.clone()),
        (headers::ENQUEUED_AT, format!("{enqueued_at:.3}")),
        (headers::ROW, row.number.to_string()),
    ];
    let generation = run.map(|run| (headers::BATCH_RUN, run.to_string()));
    let headers = headers.into_iter().chain(generation).chain(enqueue::headers(&row.settings));
    let id = message_id(batch, &view.source_server_id, &row.body).to_string();
    let message = Message {
        message_id: Some(id.into()),
        headers: headers.map(|(name, text)| (name.into(), text.into())).collect(),
        body: row.body.clone(),
        ..Message::default()
    };
    let intake = intake::read(&message, rules);
    (message, intake)
}

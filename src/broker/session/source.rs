//! Where do requests come from, and where do results go? The worker's end of the broker, whatever session there is.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::FutureExt as _;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::Instrument as _;

use crate::broker::connection::link::SessionLost;
use crate::broker::consume::delivery::Held;
use crate::broker::control::steer;
use crate::broker::convert;
use crate::broker::publish::orders;
use crate::broker::publish::publisher::{Offered, Publisher};
use crate::broker::session::parked::Parked;
use crate::broker::session::status::Status;
use crate::broker::session::supervisor::Supervisor;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::transport::Restored;
use crate::contract::{Rules, Violation};
use crate::core::{Ending, Fetch, Fetched, Job, Request};
use crate::message::audit::Act;
use crate::message::command::SteeringChange;
use crate::worker::bodies::Spill;
use crate::worker::clock::Clock;
use crate::worker::source::{Event, Settled, Source};

/// What a source of requests on RabbitMQ needs to know.
pub struct Options {
    pub settings: Settings,
    pub queues: Queues,
    pub rules: Rules,
    /// How many deliveries to hold at once: the prefetch, 1 to 65,535.
    pub window: u16,
    /// How long the worker holds a delivery at most: `window.max_hold`.
    pub max_hold: Duration,
    /// How many bytes of bodies to hold in memory: `window.max_bytes`.
    pub max_bytes: u64,
    /// The name of this worker in results and on connections.
    pub worker: String,
    pub clock: Clock,
    /// Told how long each confirm took.
    pub on_confirm: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, queues, window, max_bytes, worker, .. } = self;
        f.debug_struct("Options")
            .field("settings", settings)
            .field("queues", queues)
            .field("window", window)
            .field("max_bytes", max_bytes)
            .field("worker", worker)
            .finish_non_exhaustive()
    }
}

/// How much of dead letters may be on its way to the broker at once, in KiB. Thousands of requests can end at once, invalid
/// or expired, and the body of each has to be in memory until it is confirmed.
const LETTERS: u32 = 16 * 1024;

/// The broker as a source of requests and a sink of results.
#[derive(Debug)]
pub struct Broker {
    options: Arc<Options>,
    /// A permit for each KiB of [`LETTERS`].
    letters: Arc<Semaphore>,
    events: mpsc::UnboundedReceiver<Event<Held>>,
    orders: mpsc::UnboundedSender<SupervisorOrder>,
    status: watch::Receiver<Status>,
    publisher: watch::Receiver<Option<Publisher>>,
    parked: watch::Receiver<Option<Parked>>,
    spill: Spill,
    /// The session whose deliveries count. Those of a lost one can come after its end.
    session: Option<u32>,
    /// What was delivered after the worker wanted no more; none before it said so. The next worker has it.
    unwanted: Option<Vec<Job<Held>>>,
}

/// What the worker wants of the supervisor.
#[derive(Debug)]
pub(in crate::broker) enum SupervisorOrder {
    Stop(oneshot::Sender<()>),
    Leave(Vec<Job<Held>>, oneshot::Sender<()>),
}

impl Broker {
    /// Starts the supervisor. It never gives up; [`Broker::status`] says how it fares.
    pub fn start(options: Options) -> Self {
        let options = Arc::new(options);
        let spill = Spill::new(options.max_bytes);
        // Unbounded, because the prefetch bounds what can be in it.
        let (said, events) = mpsc::unbounded_channel();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (publish, status) = watch::channel(Status::default());
        let (current, publisher) = watch::channel(None);
        let (here, parked) = watch::channel(None);
        let supervisor = Supervisor {
            options: Arc::clone(&options),
            said,
            inbox,
            status: publish,
            publisher: current,
            parked: here,
            spill: spill.clone(),
            sessions: 0,
            next_address: 0,
            window: options.window,
        };
        tokio::spawn(supervisor.run().in_current_span());
        let letters = Arc::new(Semaphore::new(LETTERS as usize));
        Self {
            options,
            letters,
            events,
            orders,
            status,
            publisher,
            parked,
            spill,
            session: None,
            unwanted: None,
        }
    }

    /// How it stands with the broker, now and whenever it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The bytes of all bodies held, and where.
    pub fn spill(&self) -> Spill {
        self.spill.clone()
    }

    /// An event, unless it is a delivery that is void or comes too late. Those are left unsettled: the session's end
    /// requeues them.
    fn wanted(&mut self, event: Event<Held>) -> Option<Event<Held>> {
        match &event {
            Event::Opened { session, .. } => self.session = Some(*session),
            Event::Lost { .. } => {
                self.session = None;
                self.unwanted.iter_mut().for_each(Vec::clear);
            }
            _ => {}
        }
        let Some(session) = event.job().map(|job| job.session) else { return Some(event) };
        if self.session != Some(session) {
            return None;
        }
        match &mut self.unwanted {
            None => Some(event),
            Some(unwanted) => {
                unwanted.extend(event.into_job());
                None
            }
        }
    }
}

impl Source for Broker {
    type Delivery = Held;

    async fn next(&mut self) -> Event<Held> {
        loop {
            // The supervisor only ends after `leave`, which takes the source away. A worker that heard nothing for ever
            // would look alive; this ends its lane, which is told and started anew.
            let Some(event) = self.events.recv().await else {
                panic!("the task that keeps the sessions has ended: this is a bug in sluice");
            };
            if let Some(event) = self.wanted(event) {
                return event;
            }
        }
    }

    fn settle(
        &self,
        job: Job<Held>,
        mut ending: Ending,
    ) -> impl Future<Output = (Job<Held>, Ending, Settled)> + Send + 'static {
        let (options, letters) = (Arc::clone(&self.options), Arc::clone(&self.letters));
        async move {
            let _room = if ending.outcome.is_dead_letter() {
                // It is never closed.
                letters.acquire_many(kibibytes(&job, &ending)).await.ok()
            } else {
                None
            };
            let settled = match settle(&options, &job, &mut ending).await {
                Ok(settled) => settled,
                Err(lost) => {
                    tracing::debug!(request.id = &*job.request.id.get(), why = %lost, "not settled: the session was lost");
                    Settled::SessionLost
                }
            };
            (job, ending, settled)
        }
    }

    fn acknowledge(&self, job: Job<Held>) -> impl Future<Output = ()> + Send + 'static {
        // Where it fails the session is lost, and the delivery comes again.
        async move { job.delivery.ack().await }.map(drop)
    }

    fn requeue(&self, job: Job<Held>) -> impl Future<Output = ()> + Send + 'static {
        // Where it fails the session is lost, and the delivery is requeued with it.
        async move { job.delivery.nack().await }.map(drop)
    }

    fn park(&self, job: Job<Held>) -> impl Future<Output = (Job<Held>, Settled)> + Send + 'static {
        let options = Arc::clone(&self.options);
        async move {
            let settled = match publish_anew(&options, &job, &options.queues.parked()).await {
                Ok(settled) => settled,
                Err(lost) => {
                    tracing::debug!(request.id = &*job.request.id.get(), why = %lost, "not parked: the session was lost");
                    Settled::SessionLost
                }
            };
            (job, settled)
        }
    }

    fn fetch(&self, fetch: Fetch) -> impl Future<Output = Option<Fetched>> + Send + 'static {
        let (options, parked) = (Arc::clone(&self.options), self.parked.borrow().clone());
        async move {
            let fetched = parked?.fetch(&options, &fetch).await;
            let failed = |lost: &SessionLost| {
                tracing::warn!(why = %lost, "requests that are parked could not be looked through; trying again");
            };
            fetched.inspect_err(failed).ok()
        }
    }

    fn keep_order(&self, act: Act) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let publisher = self.publisher.borrow().clone();
        let message = orders::message(&act, &self.options.queues);
        async move {
            let publisher = publisher.ok_or_else(|| "no session with the broker".to_owned())?;
            publisher.publish(vec![message]).await.map(drop).map_err(|lost| lost.0)
        }
    }

    fn keep_steering(
        &self,
        change: SteeringChange,
    ) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let publisher = self.publisher.borrow().clone();
        let messages = steer::messages(&change, &self.options.queues);
        async move {
            let publisher = publisher.ok_or_else(|| "no session with the broker".to_owned())?;
            publisher.publish(messages).await.map(drop).map_err(|lost| lost.0)
        }
    }

    fn stop(&mut self) -> impl Future<Output = ()> + Send + 'static {
        self.unwanted.get_or_insert_default();
        let (done, answer) = oneshot::channel();
        let asked = self.orders.send(SupervisorOrder::Stop(done)).is_ok();
        async move {
            if asked {
                let _ = answer.await;
            }
        }
    }

    async fn leave(mut self, mut held: Vec<Job<Held>>) {
        self.stop().await;
        while let Ok(event) = self.events.try_recv() {
            self.wanted(event);
        }
        held.extend(self.unwanted.into_iter().flatten());
        let (done, answer) = oneshot::channel();
        if self.orders.send(SupervisorOrder::Leave(held, done)).is_ok() {
            let _ = answer.await;
        }
    }
}

/// How much of [`LETTERS`] the dead letter of a request takes: its body, and its violations twice, for the result has them too.
fn kibibytes(job: &Job<Held>, ending: &Ending) -> u32 {
    let violations: usize = ending.violations.iter().map(Violation::bytes).sum();
    let violations = u32::try_from(2 * violations).unwrap_or(u32::MAX);
    (job.request.bytes.saturating_add(violations) / 1024 + 1).min(LETTERS)
}

async fn body(held: &Held) -> Result<Bytes, SessionLost> {
    read_back(held, "a body", held.body.read().await)
}

async fn properties(held: &Held, request: &Request) -> Result<Restored, SessionLost> {
    read_back(held, "a header", held.properties.restored(request).await)
}

fn read_back<T>(held: &Held, what: &str, read: io::Result<T>) -> Result<T, SessionLost> {
    read.map_err(|error| {
        let why = format!("{what} cannot be read back from its temporary file: {error}");
        held.on.link.lose(&why);
        SessionLost(why)
    })
}

/// Publishes the same request to another queue, and acknowledges it only after the broker has confirmed the copy. What is
/// there twice until then is one run, and settled once.
pub(in crate::broker) async fn publish_anew(
    options: &Options,
    job: &Job<Held>,
    queue: &str,
) -> Result<Settled, SessionLost> {
    let (held, queues) = (&job.delivery, &options.queues);
    let original = properties(held, &job.request).await?;
    let body = body(held).await?;
    let copy = convert::moved(&original.properties, body, &job.request, queue, queues);
    match held.on.publisher.offer(vec![copy]).await? {
        Offered::Refused(why) => return Ok(Settled::Refused(why)),
        Offered::Taken(took) => (options.on_confirm)(took),
    }
    held.ack().await?;
    Ok(Settled::Done)
}

/// Publishes what became of a request, where the broker takes it.
async fn settle(
    options: &Options,
    job: &Job<Held>,
    ending: &mut Ending,
) -> Result<Settled, SessionLost> {
    let held = &job.delivery;
    // It may have waited for its turn; its body need not be read any more.
    held.alive()?;
    let is_too_long = held.body.too_long().is_some();
    let letter_wanted = ending.outcome.is_dead_letter() && !is_too_long && !ending.dead_lettered;
    let dead_letter = if letter_wanted {
        let (properties, body) = (properties(held, &job.request).await?, body(held).await?);
        let (room, queues) = (held.on.publisher.room, &options.queues);
        Some(convert::dead_letter(&job.request, ending, &properties, body, queues, room))
    } else {
        None
    };
    let result = convert::result(&job.request, ending, &options.queues, &options.worker);
    // The dead letter first: its queue may be full, and then no result says that it is there.
    for message in dead_letter.into_iter().chain([result]) {
        match held.on.publisher.offer(vec![message]).await? {
            Offered::Refused(why) => return Ok(Settled::Refused(why)),
            Offered::Taken(took) => (options.on_confirm)(took),
        }
        // Of the result it says nothing: what follows if that is refused is another offer of it alone.
        ending.dead_lettered |= letter_wanted;
    }
    if is_too_long && ending.outcome.is_dead_letter() {
        // The broker has it, and nobody else: its own dead-lettering moves it as it is.
        held.reject().await?;
    } else {
        held.ack().await?;
    }
    Ok(Settled::Done)
}

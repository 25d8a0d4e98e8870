//! Who carries the core's decisions out? The one loop: it owns the source, the core and everything that is under way.
//!
//! Only the `select!` waits. What takes time (a call, a settlement) is a future that comes back with what happened;
//! handlers are plain functions. Between two waits the core is asked until it has nothing more to start.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::core::engine::{Upcoming, Waits, out};
use crate::core::record::{Recorded, Tape};
use crate::core::{
    Ending, Fault, Fetched, Hot, Input, Job, Listing, Moment, Now, Question, Rate, Reply, Run,
    Settings, Settlement, Steer, Step, Verdict,
};
use crate::message::bug;
use crate::message::command::{PendingCommand, Steering, SteeringChange};
use crate::worker::clock::Clock;
use crate::worker::commands::LatestOrders;
use crate::worker::source::{Delivery, Event, Settled, Source};

pub mod bodies;
pub mod clock;
mod commands;
mod lending;
pub mod recording;
mod seams;
pub mod source;
pub(crate) mod waits;

pub use seams::{Call, SessionEvent, Submit, Watch};

/// Reading a body and passing it on takes so long on a busy machine, however exact the rate is to be.
const LEAST_FRESH: Duration = Duration::from_millis(5);

/// How something that was under way has ended.
#[allow(
    clippy::large_enum_variant,
    reason = "it comes out of a boxed future, to be taken apart at once"
)]
enum Done<D> {
    /// Its body was read, or its beginning written down, so slowly that the permit is of no use any more.
    Late {
        job: Job<D>,
        body: Bytes,
    },
    Posted {
        job: Job<D>,
        started: Now,
        outcome: Result<(Verdict, u64), Bug>,
    },
    Told {
        question: Question<D>,
        started: Now,
        outcome: Result<(Result<Listing, Verdict>, u64), Bug>,
    },
    Refreshed(Result<u64, Fault>),
    Settled {
        job: Job<D>,
        ending: Box<Ending>,
        how: Settled,
        started: Now,
    },
    Parked {
        job: Job<D>,
        how: Settled,
    },
    Fetched {
        session: u32,
        fetched: Option<Fetched>,
    },
    OrderKept {
        id: Uuid,
        result: Result<(), String>,
    },
    Released,
    SteeringKept {
        pending: Option<PendingCommand>,
        change: SteeringChange,
        result: Result<(), String>,
    },
}

impl<D> Done<D> {
    /// The request that it is about, if it is about one that was out.
    fn job(&self) -> Option<&Job<D>> {
        match self {
            Self::Late { job, .. } | Self::Posted { job, .. } | Self::Settled { job, .. } => {
                Some(job)
            }
            Self::Told { question, .. } => question.job(),
            _ => None,
        }
    }
}

/// What a panic said.
struct Bug(String);

/// The worker: one source, one API, one loop.
pub struct Worker<S: Source, A, W> {
    source: S,
    api: Arc<A>,
    watch: W,
    core: Recorded<S::Delivery>,
    clock: Clock,
    /// `limits.rates` of the configuration, and what operators have set since.
    configured: Vec<Rate>,
    /// Where a changed configuration comes from, if it may change.
    hot: Option<watch::Receiver<Hot>>,
    renewals: Option<watch::Receiver<u64>>,
    steering: Steering,
    orders: LatestOrders,
    /// Commands that are done and not answered yet, and why one could not be written down.
    answers: Vec<(PendingCommand, Option<String>)>,
    /// Bodies of requests that were late for their permit, and wait for another one.
    ready: HashMap<Run, Bytes>,
    /// What is with the API or on its way to the broker: for people who look for it.
    out: HashMap<Run, Upcoming>,
    /// A call that begins later than this after its permit was taken could come on top of the next one's.
    fresh: Duration,
    /// Changes that could not be written down yet, the latest few.
    unwritten: Vec<SteeringChange>,
    under_way: FuturesUnordered<BoxFuture<'static, Done<S::Delivery>>>,
}

impl<S, A, W> Worker<S, A, W>
where
    S: Source,
    A: Submit,
    W: Watch<S::Delivery>,
{
    pub fn new(source: S, api: Arc<A>, watch: W, settings: Settings, clock: Clock) -> Self {
        let configured = settings.gate.rates.clone();
        let fresh = settings.gate.margin.max(LEAST_FRESH);
        let core = Recorded::new(settings, clock.now());
        let renewals = api.renewals();
        Self {
            source,
            api,
            watch,
            core,
            clock,
            configured,
            hot: None,
            renewals,
            steering: Steering::default(),
            orders: LatestOrders::default(),
            answers: Vec::new(),
            ready: HashMap::new(),
            out: HashMap::new(),
            fresh,
            unwritten: Vec::new(),
            under_way: FuturesUnordered::new(),
        }
    }

    /// Takes over what changes in the configuration while it works.
    #[must_use]
    pub fn following(self, hot: watch::Receiver<Hot>) -> Self {
        Self { hot: Some(hot), ..self }
    }

    /// Writes down all that it is told and decides. To be said before it works.
    #[must_use]
    pub fn recording(self, tape: Tape) -> Self {
        let core = self.core.onto(self.clock.now(), tape);
        Self { core, ..self }
    }

    /// Works until `stop` resolves; then starts nothing new, waits for what is in flight, requeues the rest and
    /// leaves. A source that ends ([`Event::Ended`]) stops the worker once everything is settled.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()> + Send,
        mut orders: mpsc::Receiver<PendingCommand>,
    ) {
        let mut stop = std::pin::pin!(stop.fuse());
        let mut stopping = false;
        let mut ordered = true;
        loop {
            let wake = self.start_what_may();
            if (stopping || self.core.is_done())
                && self.core.is_quiet()
                && self.under_way.is_empty()
            {
                break;
            }
            let clock = self.clock;
            // In this order: what has ended makes room for what is chosen next, and new deliveries come last.
            tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.core.take(clock.now(), Input::Stop);
                    let stopped = self.source.stop();
                    self.begin(stopped.map(|()| Done::Released));
                }
                pending = orders.recv(), if ordered => match pending {
                    Some(pending) => self.obey(pending),
                    None => ordered = false,
                },
                hot = changed(&mut self.hot) => self.reconfigure(hot),
                _ = changed(&mut self.renewals) => {
                    self.core.take(clock.now(), Input::Renewed);
                }
                Some(done) = self.under_way.next() => self.done(done),
                event = self.source.next() => self.event(event),
                () = sleep_until(clock, wake) => {}
            }
            self.catch_up();
        }
        let held = self.core.drain();
        self.source.leave(held).await;
    }

    /// Everything else that has happened by now, so that the next choice is made with all that can be known.
    fn catch_up(&mut self) {
        const AT_MOST: usize = 1024;
        for _ in 0..AT_MOST {
            if let Some(Some(done)) = self.under_way.next().now_or_never() {
                self.done(done);
            } else if let Some(event) = self.source.next().now_or_never() {
                self.event(event);
            } else {
                break;
            }
        }
    }

    /// Asks the core until it has nothing more to start; says when to ask again.
    fn start_what_may(&mut self) -> Option<Moment> {
        loop {
            let now = self.clock.now();
            match self.core.next(now) {
                Step::Post(job) => self.post(job, now),
                Step::Ask(question) => self.ask(question, now),
                Step::Refresh { generation } => {
                    let api = Arc::clone(&self.api);
                    self.begin(async move { Done::Refreshed(api.refresh(generation).await) });
                }
                Step::Settle(job, ending) => self.settle(job, *ending, now),
                Step::Acknowledge(job) => {
                    self.watch.left(&job);
                    let ends = self.source.acknowledge(job);
                    self.begin(ends.map(|()| Done::Released));
                }
                Step::Park(job) => {
                    self.ready.remove(&job.request.run);
                    let parks = self.source.park(job);
                    self.begin(parks.map(|(job, how)| Done::Parked { job, how }));
                }
                Step::Fetch(fetch) => {
                    let session = fetch.session;
                    let fetches = self.source.fetch(fetch);
                    self.begin(fetches.map(move |fetched| Done::Fetched { session, fetched }));
                }
                Step::Requeue(job) => {
                    self.ready.remove(&job.request.run);
                    self.watch.left(&job);
                    let ends = self.source.requeue(job);
                    self.begin(ends.map(|()| Done::Released));
                }
                Step::Wait(until) => {
                    self.watch.state(&self.core, now);
                    self.tell_answers(now);
                    return until;
                }
            }
        }
    }

    fn begin(&self, future: impl Future<Output = Done<S::Delivery>> + Send + 'static) {
        self.under_way.push(future.boxed());
    }

    fn post(&mut self, job: Job<S::Delivery>, started: Now) {
        self.out.insert(job.request.run, out(&job, Waits::Called));
        let api = Arc::clone(&self.api);
        let trace = self.watch.trace(&job, Call::Post);
        if let Some(body) = self.ready.remove(&job.request.run) {
            return self.begin(async move {
                let outcome = caught(api.post(body, trace.as_ref())).await;
                Done::Posted { job, started, outcome }
            });
        }
        let (clock, fresh) = (self.clock, self.fresh);
        let body = job.delivery.body();
        let starting = job.delivery.starting(started, &job.request);
        self.begin(async move {
            let begun = clock.now().at;
            let body = match body.await {
                Ok(body) => starting.await.map(|()| body),
                error => error,
            };
            let took = clock.now().at - begun;
            let outcome = match body {
                Ok(body) if took > fresh => {
                    return Done::Late { job, body };
                }
                Ok(body) => caught(api.post(body, trace.as_ref())).await,
                // Surely not sent, and surely tried again: the source still has the request.
                Err(error) => Ok((unsent(&error), 0)),
            };
            Done::Posted { job, started, outcome }
        });
    }

    fn ask(&mut self, question: Question<S::Delivery>, started: Now) {
        if let Some(job) = question.job() {
            self.out.insert(job.request.run, out(job, Waits::Called));
        }
        let api = Arc::clone(&self.api);
        let trace = question.job().and_then(|job| self.watch.trace(job, Call::Look));
        self.begin(async move {
            let outcome = caught(api.list(&question.query(), trace.as_ref())).await;
            Done::Told { question, started, outcome }
        });
    }

    fn settle(&mut self, job: Job<S::Delivery>, ending: Ending, started: Now) {
        self.out.insert(job.request.run, out(&job, Waits::Ending));
        let settles = self.source.settle(job, ending);
        self.begin(settles.map(move |(job, ending, how)| Done::Settled {
            job,
            ending: Box::new(ending),
            how,
            started,
        }));
    }

    fn done(&mut self, done: Done<S::Delivery>) {
        let now = self.clock.now();
        if let Some(job) = done.job() {
            self.out.remove(&job.request.run);
        }
        match done {
            Done::Late { job, body } => {
                self.ready.insert(job.request.run, body);
                self.core.take(now, Input::Late(job));
            }
            Done::Posted { job, started, outcome: Ok((verdict, generation)) } => {
                self.watch.posted(&job, &verdict, now, now.at - started.at);
                self.core.take(now, Input::Answered { job, started, verdict, generation });
            }
            Done::Posted { job, outcome: Err(Bug(text)), .. }
            | Done::Told { question: Question::LookUp(job), outcome: Err(Bug(text)), .. } => {
                tracing::error!(request.id = &*job.request.id.get(), panic = %text, "a call panicked: this is a bug in sluice");
                self.core.take(now, Input::Panicked(job, text));
            }
            Done::Told { question, started, outcome } => {
                let (result, generation) =
                    outcome.unwrap_or_else(|Bug(text)| (Err(bug_as_transient(&text)), 0));
                self.told(now, started, question, result, generation);
            }
            Done::Refreshed(result) => {
                self.core.take(now, Input::Refreshed(result));
            }
            Done::Settled { job, ending, how, started } => {
                self.watch.settled(&job, &ending, &how, now, now.at - started.at);
                self.ready.remove(&job.request.run);
                let how = match how {
                    Settled::Done => Settlement::Done,
                    Settled::SessionLost => Settlement::Void,
                    Settled::Refused(_) => Settlement::Refused,
                };
                self.core.take(now, Input::Settled { job, ending, how });
            }
            Done::Parked { job, how } => self.parked(now, job, how),
            Done::Fetched { session, fetched } => {
                self.core.take(now, Input::Fetched { session, fetched });
            }
            Done::OrderKept { id, result } => self.order_kept(id, result),
            Done::Released => {}
            Done::SteeringKept { pending, change, result } => {
                self.steering_kept(pending, change, result);
            }
        }
    }

    fn told(
        &mut self,
        now: Now,
        started: Now,
        question: Question<S::Delivery>,
        result: Result<Listing, Verdict>,
        generation: u64,
    ) {
        let took = now.at - started.at;
        if let Some(job) = question.job() {
            self.watch.look_answered(job, &result, now, took);
        }
        let told = Input::Told { question, started, result, generation };
        if let Reply::Found(found) = self.core.take(now, told) {
            self.watch.looked(found, took);
        }
    }

    fn event(&mut self, event: Event<S::Delivery>) {
        let now = self.clock.now();
        match event {
            Event::Steered(steering) => self.take_over(now, steering),
            Event::Leasing => {
                tracing::info!("another process calls the API: a part of the limits is left to it");
                self.core.take(now, Input::Ordered(Steer::AssumeLent));
            }
            Event::Ordered(pending) => self.obey(pending),
            Event::OrdersBefore(acts) => self.take_over_orders(now, acts),
            Event::OrderKept(act) => self.obey_order(now, *act),
            Event::Opened { session, waiting } => {
                self.watch.session(SessionEvent::Opened(session));
                self.core.take(now, Input::Opened { session, waiting });
                self.write_down();
            }
            Event::Arrived(job) => {
                self.watch.arrived(&job);
                self.core.take(now, Input::Delivered(job));
            }
            Event::Invalid(job, violations) => {
                self.watch.arrived(&job);
                self.core.take(now, Input::Invalid(job, violations));
            }
            Event::Unreadable(job, text) => {
                self.watch.arrived(&job);
                self.core.take(now, Input::Unreadable(job, text));
            }
            Event::Lost { why } => {
                self.watch.session(SessionEvent::Lost(&why));
                self.orders.forget();
                self.ready.clear();
                self.core.take(now, Input::Lost);
            }
            Event::Blocked(blocked) => {
                self.watch.session(SessionEvent::Blocked(blocked));
                self.core.take(now, Input::Blocked(blocked));
            }
            Event::Ended => {
                self.core.take(now, Input::SourceEnded);
            }
        }
    }
}

/// The next change of what is followed.
async fn changed<T: Clone>(followed: &mut Option<watch::Receiver<T>>) -> T {
    if let Some(followed) = followed
        && followed.changed().await.is_ok()
    {
        return followed.borrow_and_update().clone();
    }
    // Nothing changes any more.
    std::future::pending().await
}

/// Until the moment, but for a second at most: whoever watches wants to see time pass.
async fn sleep_until(clock: Clock, moment: Option<Moment>) {
    let a_second = clock.now().at + Duration::from_secs(1);
    tokio::time::sleep_until(clock.instant(moment.map_or(a_second, |moment| moment.min(a_second))))
        .await;
}

/// The one place where a panic of a call is caught: whatever went wrong belongs to the request that was handled.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Bug> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|panic| Bug(bug::text(&*panic)))
}

fn unsent(error: &std::io::Error) -> Verdict {
    let error_msg = format!("not sent, for a file of this machine could not be used: {error}");
    Verdict::Transient { fault: Fault { error_msg, ..Fault::default() }, answered: false }
}

fn bug_as_transient(text: &str) -> Verdict {
    let error_msg = format!("a list of tasks panicked ({text}): this is a bug in sluice");
    Verdict::Transient { fault: Fault { error_msg, ..Fault::default() }, answered: false }
}

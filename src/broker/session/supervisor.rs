//! What happens when sessions come and go? One is opened after another, what it says goes to the worker, and what the
//! worker wants goes to it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument as _;

use crate::broker::connection::connect;
use crate::broker::consume::delivery::Held;
use crate::broker::consume::interner::PropertyInterner;
use crate::broker::consume::receiver::DeliveryReceiver;
use crate::broker::publish::publisher::Publisher;
use crate::broker::session::parked::Parked;
use crate::broker::session::source::{Options, SupervisorOrder};
use crate::broker::session::status::{Others, State, Status};
use crate::broker::session::{Connections, Said, Session};
use crate::broker::topology::{self, Object, TopologyError};
use crate::broker::transport::gathered;
use crate::broker::version::Version;
use crate::worker::bodies::Spill;
use crate::worker::source::Event;
use crate::worker::waits::Doubling;

/// The waits between sessions. One that lasted longer than [`STEADY`] starts them afresh.
const WAITS: Doubling =
    Doubling { first: Duration::from_millis(100), last: Duration::from_secs(5) };
const STEADY: Duration = Duration::from_secs(5);

/// Opens sessions, one after another, and carries what they say to the worker.
pub(in crate::broker) struct Supervisor {
    pub(in crate::broker) options: Arc<Options>,
    pub(in crate::broker) said: mpsc::UnboundedSender<Event<Held>>,
    pub(in crate::broker) inbox: mpsc::UnboundedReceiver<SupervisorOrder>,
    pub(in crate::broker) status: watch::Sender<Status>,
    /// Of the session that there is.
    pub(in crate::broker) publisher: watch::Sender<Option<Publisher>>,
    pub(in crate::broker) parked: watch::Sender<Option<Parked>>,
    pub(in crate::broker) spill: Spill,
    /// The number of the latest session; the first is 1.
    pub(in crate::broker) sessions: u32,
    pub(in crate::broker) next_address: usize,
    /// How many deliveries the next session holds at most.
    pub(in crate::broker) window: u16,
}

/// How a session ended for the supervisor.
enum Ended {
    Lost(String),
    Left,
}

impl Supervisor {
    pub(in crate::broker) async fn run(mut self) {
        let mut failures = 0_u32;
        loop {
            let (mut steady, mut had_session) = (false, false);
            let ended = match Box::pin(self.open_or_leave()).await {
                Ok(Some(session)) => {
                    let began = Instant::now();
                    let ended = Box::pin(self.attend(session)).await;
                    (steady, had_session) = (began.elapsed() > STEADY, true);
                    ended
                }
                Ok(None) => Ended::Left,
                Err(why) => Ended::Lost(why),
            };
            let why = match ended {
                Ended::Lost(why) => why,
                Ended::Left => break,
            };
            // What failed slowly has failed all the same.
            failures = if steady { 0 } else { failures + 1 };
            let wait = WAITS.scattered(failures + 1);
            // A session that was lost has said so.
            if !had_session {
                tracing::warn!(%why, wait_ms = wait.as_millis(), "no session with the broker; retrying");
            }
            self.lost(why);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                order = self.inbox.recv() => {
                    self.leave_without_session(order).await;
                    break;
                }
            }
        }
        self.status.send_modify(|status| status.state = State::Left);
    }

    /// A new session; none if the worker leaves meanwhile.
    async fn open_or_leave(&mut self) -> Result<Option<Session>, String> {
        let open = Self::open(
            Arc::clone(&self.options),
            self.status.clone(),
            self.next_address,
            self.window,
            self.spill.clone(),
        );
        self.next_address = self.next_address.wrapping_add(1);
        tokio::select! {
            opened = open => opened.map(Some),
            order = self.inbox.recv() => {
                self.leave_without_session(order).await;
                Ok(None)
            }
        }
    }

    async fn open(
        options: Arc<Options>,
        status: watch::Sender<Status>,
        turn: usize,
        window: u16,
        spill: Spill,
    ) -> Result<Session, String> {
        let addresses = connect::addresses(&options.settings)?;
        let address = &addresses[turn % addresses.len()];
        status.send_modify(|status| status.address = address.shown());
        let gathered = gathered(options.rules.max_body);
        let opened = Connections::open(address, &options.worker, gathered).await;
        let mut connections = opened.map_err(|lost| lost.0)?;
        status.send_modify(|status| status.server = Some(connections.version));
        let found = match connections.prepare(&options.queues).await {
            Ok(found) => found,
            Err(TopologyError::Unreachable(lost)) => return Err(lost.0),
            Err(error) => {
                tracing::error!(%error, "the broker's queues are not what they should be; nothing is consumed");
                return Err(error.to_string());
            }
        };
        check_hold(&options, connections.version, found.consumer_timeout)?;
        if !found.unchecked.is_empty() {
            tracing::warn!(unchecked = ?found.unchecked, "this user may not compare the arguments of all queues: `sluice topology check` by a user with the right to configure tells whether they are right");
        }
        let is_known = !found.unchecked.contains(&Object::active(&options.queues));
        status.send_modify(|status| status.unchecked = found.unchecked);
        let standby = || {
            let changed = status.send_if_modified(|status| {
                let changed = status.state != State::Standby;
                status.state = State::Standby;
                changed
            });
            if changed {
                tracing::info!("another worker is the active one: this one is its standby");
            }
        };
        let active = options.queues.active();
        let foreign = |now| {
            let changed = status
                .send_if_modified(|status| std::mem::replace(&mut status.foreign, now) != now);
            if changed && now {
                tracing::warn!(
                    queue = active,
                    "something that is no worker consumes the queue that says who is active, so no worker can be it; rabbitmqctl list_consumers names it"
                );
            }
        };
        let alarm = |now| status.send_modify(|status| status.blocked = now);
        let here = options.settings.only(turn)?;
        let active = connections.activate(
            (&options, &here),
            window,
            standby,
            (alarm, foreign),
            is_known,
            &spill,
        );
        Box::pin(active).await.map_err(|lost| lost.0)
    }

    /// Carries a session's words to the worker, and the worker's orders to the session, until either ends it.
    async fn attend(&mut self, mut session: Session) -> Ended {
        self.sessions += 1;
        // A good address is worth going back to first.
        self.next_address = self.next_address.wrapping_sub(1);
        if let Some(steering) = session.steering.take() {
            self.tell(Event::Steered(steering));
        }
        let orders = std::mem::take(&mut session.orders_before);
        if !orders.is_empty() {
            self.tell(Event::OrdersBefore(orders));
        }
        if session.leasing {
            self.tell(Event::Leasing);
        }
        self.publisher.send_replace(Some(session.on.publisher.clone()));
        self.parked.send_replace(Some(session.parked(&self.spill)));
        let waiting = usize::try_from(session.waiting).unwrap_or(usize::MAX);
        // The worker waits for a full window, and does not know of a prefetch that is smaller for want of room.
        let smaller = self.window < self.options.window;
        let waiting = if smaller { waiting.min(usize::from(self.window)) } else { waiting };
        self.tell(Event::Opened { session: self.sessions, waiting });
        let number = self.sessions;
        self.status.send_modify(|status| status.state = State::Active { session: number });
        // It may have begun in a resource alarm.
        if session.on.link.blocked_within(Duration::ZERO) {
            self.blocked(true);
        }
        // Only now, so that the worker knows of the session, and of a resource alarm, before anything that it delivers.
        session.take(self.taker(&session));
        tracing::info!(session = number, server = %session.on.version, waiting = session.waiting, "this worker is the active one");
        let lookout = session.lookout(&self.options.queues, self.status.clone());
        let watcher = tokio::spawn(lookout.run().in_current_span());
        let mut late: Vec<u64> = Vec::new();
        let ended = loop {
            tokio::select! {
                biased;
                order = self.inbox.recv() => match order {
                    Some(SupervisorOrder::Stop(done)) => {
                        session.stop(&self.options.queues).await;
                        let _ = done.send(());
                    }
                    order => {
                        let answer = order.map(|order| held_on(order, number, &mut late));
                        session.leave(late).await;
                        if let Some(done) = answer {
                            let _ = done.send(());
                        }
                        watcher.abort();
                        return Ended::Left;
                    }
                },
                said = session.next() => match said {
                    // Kept unsettled: the session's end requeues it.
                    Said::Late { tag } => late.push(tag),
                    Said::Ordered(pending) => self.tell(Event::Ordered(pending)),
                    Said::OrderKept(act) => self.tell(Event::OrderKept(act)),
                    Said::Blocked(now) => self.blocked(now),
                    Said::Lost(why) => {
                        self.window = self.window.saturating_mul(2).min(self.options.window);
                        break why.to_string();
                    }
                    Said::Full(why) => {
                        self.window = self.smaller_window();
                        break why.to_string();
                    }
                },
            }
        };
        watcher.abort();
        self.publisher.send_replace(None);
        self.parked.send_replace(None);
        tracing::warn!(why = ended, "the session with the broker was lost");
        self.tell(Event::Lost { why: ended.clone() });
        // Now, not after the closing, which takes seconds where nobody answers.
        self.lost(ended.clone());
        // The part of the active worker goes with the consume connection, so the next session waits for its end.
        session.close("lost").await;
        Ended::Lost(ended)
    }

    /// Where neither memory nor the file has a place for what a window holds, the next one is smaller: the broker cannot
    /// be told to stop for a while. It grows again with the sessions that end otherwise.
    fn smaller_window(&self) -> u16 {
        let (fitted, _) = self.spill.trouble();
        let smaller = u16::try_from(fitted * 3 / 4).unwrap_or(u16::MAX).min(self.window / 2).max(1);
        tracing::error!(
            window = smaller,
            "fewer requests are held from now on: free the disk of the temporary directory, or raise window.max_bytes, and restart"
        );
        smaller
    }

    fn taker(&self, session: &Session) -> DeliveryReceiver {
        DeliveryReceiver {
            rules: self.options.rules,
            queues: self.options.queues.clone(),
            spill: self.spill.clone(),
            clock: self.options.clock,
            worker: self.said.downgrade(),
            session: self.sessions,
            on: Arc::downgrade(&session.on),
            span: tracing::Span::current(),
            common: Mutex::new(PropertyInterner::default()),
        }
    }

    /// A worker that is gone hears nothing.
    fn tell(&self, event: Event<Held>) {
        let _ = self.said.send(event);
    }

    fn blocked(&self, now: bool) {
        self.status.send_modify(|status| status.blocked = now);
        self.tell(Event::Blocked(now));
    }

    fn lost(&self, why: String) {
        self.status.send_modify(|status| {
            status.state = State::Lost { why };
            status.blocked = false;
            status.others = Others::default();
            status.foreign = false;
        });
    }

    /// Obeys the worker's last orders while there is no session.
    async fn leave_without_session(&mut self, mut order: Option<SupervisorOrder>) {
        loop {
            match order {
                Some(SupervisorOrder::Stop(done)) => {
                    let _ = done.send(());
                }
                Some(SupervisorOrder::Leave(_, done)) => {
                    let _ = done.send(());
                    return;
                }
                None => return,
            }
            order = self.inbox.recv().await;
        }
    }
}

/// A timeout of the queue's own is known and stands; the broker's may be another than its default, so it is a warning.
fn check_hold(
    options: &Options,
    version: Version,
    of_queue: Option<Duration>,
) -> Result<(), String> {
    let fits = topology::check_hold(options.max_hold, version, options.queues.kind, of_queue);
    match (fits, of_queue) {
        (Ok(()), _) => Ok(()),
        (Err(why), Some(_)) => {
            tracing::error!(%why, "nothing is consumed");
            Err(why)
        }
        (Err(why), None) => {
            tracing::warn!(%why, "where the broker's consumer_timeout is not raised, lower window.max_hold");
            Ok(())
        }
    }
}

/// Adds the tags of the deliveries that this session made to `tags`, and says whom to tell.
fn held_on(order: SupervisorOrder, session: u32, tags: &mut Vec<u64>) -> oneshot::Sender<()> {
    match order {
        SupervisorOrder::Leave(held, done) => {
            tags.extend(
                held.iter().filter(|job| job.session == session).map(|job| job.delivery.tag),
            );
            done
        }
        SupervisorOrder::Stop(done) => done,
    }
}

//! How do requests that are parked come back? All of them are taken for a moment; those that are due are published anew to
//! the queue of requests, each confirmed before it is acknowledged, and the rest is requeued with the channel's end.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::mpsc;

use crate::broker::connection::link::SessionLost;
use crate::broker::consume::delivery::{Consuming, Held};
use crate::broker::consume::interner::PropertyInterner;
use crate::broker::consume::receiver::DeliveryReceiver;
use crate::broker::convert::short;
use crate::broker::session::source::{Options, publish_anew};
use crate::broker::session::{FLUSH, look_at};
use crate::broker::{ANSWER, within};
use crate::core::{Fetch, Fetched, Job};
use crate::worker::bodies::Spill;
use crate::worker::source::{Event, Settled};

/// How long for the first of them: a quorum queue reads from its disk before it sends any.
const FIRST: Duration = Duration::from_secs(30);
/// How long for one more that the queue said it had: another consumer may have taken it.
const NEXT: Duration = Duration::from_secs(3);
/// As many are published at once.
const IN_FLIGHT: usize = 64;

/// Where the parked requests of a session are.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Parked {
    pub(in crate::broker) connection: Weak<Connection>,
    pub(in crate::broker) on: Weak<Consuming>,
    pub(in crate::broker) spill: Spill,
}

/// What is still to be done with those that came.
struct Rest {
    told: Fetched,
    /// How many that are not due yet may come along.
    ahead: usize,
}

impl Parked {
    /// Publishes anew what is due.
    ///
    /// # Errors
    /// The session was lost, or the queue of requests refuses a copy: what was not acknowledged is still parked.
    pub(in crate::broker) async fn fetch(
        &self,
        options: &Options,
        fetch: &Fetch,
    ) -> Result<Fetched, SessionLost> {
        let gone = || SessionLost("the session was lost before".to_owned());
        let connection = self.connection.upgrade().ok_or_else(gone)?;
        let channel = within(ANSWER, "opening a channel", connection.create_channel()).await?;
        let queue = options.queues.parked();
        let count = look_at(&channel, &queue).await?.message_count();
        let fetched = if count == 0 {
            Ok(Fetched::default())
        } else {
            self.take_all(options, fetch, &channel, count).await
        };
        let _ = within(ANSWER, "closing", channel.close(200, short("fetched"))).await;
        fetched
    }

    async fn take_all(
        &self,
        options: &Options,
        fetch: &Fetch,
        channel: &Channel,
        count: u32,
    ) -> Result<Fetched, SessionLost> {
        let on =
            self.on.upgrade().ok_or_else(|| SessionLost("the session was lost before".into()))?;
        on.wire.keep(channel.id(), &self.spill);
        let qos = channel.basic_qos(u16::MAX, BasicQosOptions::default());
        within(ANSWER, "setting the prefetch", qos).await?;
        let queue = options.queues.parked();
        let consume = channel.basic_consume(
            short(&queue),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(ANSWER, &format!("consuming {queue}"), consume).await?;
        let here = Arc::new(Consuming {
            channel: channel.clone(),
            link: Arc::clone(&on.link),
            publisher: on.publisher.clone(),
            version: on.version,
            wire: Arc::clone(&on.wire),
            received: AtomicBool::new(true),
        });
        let (said, mut came) = mpsc::unbounded_channel();
        let receiver = DeliveryReceiver {
            rules: options.rules,
            queues: options.queues.clone(),
            spill: self.spill.clone(),
            clock: options.clock,
            worker: said.downgrade(),
            session: fetch.session,
            on: Arc::downgrade(&here),
            span: tracing::Span::current(),
            common: Mutex::new(PropertyInterner::default()),
        };
        let mut not_taken = receiver.attach(&consumer);
        let mut rest = Rest { told: Fetched::default(), ahead: fetch.ahead.1 };
        let mut under_way = FuturesUnordered::new();
        let (mut fetched, mut moved) = (0_usize, 0_usize);
        for nth in 0..count {
            let patience = if nth == 0 { FIRST } else { NEXT };
            let event = tokio::select! {
                event = tokio::time::timeout(patience, came.recv()) => match event {
                    Ok(Some(event)) => event,
                    // What another session still holds comes with its end.
                    Ok(None) | Err(_) => break,
                },
                why = not_taken.recv() => {
                    return Err(SessionLost(format!("reading {queue}: {why:?}")));
                }
            };
            let to = match rest.is_due(fetch, &event) {
                true => options.queues.requests(),
                // More than a channel can hold at once: those behind come into sight if these go to the end.
                false if count > u32::from(u16::MAX) => queue.clone(),
                false => continue,
            };
            fetched += usize::from(to != queue);
            let Some(job) = event.into_job() else { continue };
            moved += 1;
            if under_way.len() == IN_FLIGHT
                && let Some(done) = under_way.next().await
            {
                settle(done)?;
            }
            under_way.push(move_to(options, job, to));
        }
        while let Some(done) = under_way.next().await {
            settle(done)?;
        }
        // An answer says that the acknowledgements were read; a quorum queue's client hands them on a little later.
        let question = channel.basic_qos(1, BasicQosOptions::default());
        within(ANSWER, "the last question", question).await?;
        if fetched > 0 {
            tracing::debug!(
                fetched,
                left = rest.told.left,
                "requests that were parked and due are in the queue again"
            );
        }
        if moved > 0 {
            tokio::time::sleep(FLUSH).await;
        }
        drop(said);
        Ok(rest.told)
    }
}

impl Rest {
    /// Whether this one is to be fetched. What cannot be read is: the worker says what is wrong with it.
    fn is_due(&mut self, fetch: &Fetch, event: &Event<Held>) -> bool {
        let Event::Arrived(job) = event else { return true };
        let due = fetch.orders.due(&job.request);
        let soon = due.is_some_and(|due| due <= fetch.ahead.0) && self.ahead > 0;
        if due.is_some_and(|due| due <= fetch.due) {
            return true;
        }
        if soon {
            self.ahead -= 1;
            return true;
        }
        self.told.left += 1;
        self.told.next = self.told.next.into_iter().chain(due).min();
        let mut request = job.request.clone();
        fetch.orders.lay_over(&mut request);
        self.told.timetable.note(&request);
        false
    }
}

async fn move_to(options: &Options, job: Job<Held>, queue: String) -> Result<Settled, SessionLost> {
    publish_anew(options, &job, &queue).await
}

fn settle(moved: Result<Settled, SessionLost>) -> Result<(), SessionLost> {
    match moved? {
        Settled::Done => Ok(()),
        Settled::SessionLost => Err(SessionLost("the session was lost under it".to_owned())),
        Settled::Refused(why) => {
            Err(SessionLost(format!("the queue of requests takes no copy: {why}")))
        }
    }
}

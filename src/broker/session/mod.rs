//! How does a session begin, run and end? Two connections to one broker, the part of the active worker, and the
//! stream of deliveries. Any failure of any part ends the whole session; a new one starts from nothing.

pub(in crate::broker) mod active;
mod connections;
mod lookout;
mod orders;
pub(in crate::broker) mod parked;
pub(in crate::broker) mod source;
pub(in crate::broker) mod status;
pub(in crate::broker) mod supervisor;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ErrorKind};
use tokio::sync::{mpsc, watch};

use crate::broker::connection::connect;
use crate::broker::connection::link::{Link, SessionLost};
use crate::broker::consume::delivery::Consuming;
use crate::broker::consume::receiver::{DeliveryReceiver, NotTaken};
use crate::broker::control::leasing;
use crate::broker::control::steer::Control;
use crate::broker::convert::short;
use crate::broker::publish::publisher::Publisher;
use crate::broker::session::active::Candidate;
use crate::broker::session::lookout::Lookout;
use crate::broker::session::source::Options;
use crate::broker::session::status::Status;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::{ANSWER, within};
use crate::message::audit::Act;
use crate::message::command::{PendingCommand, Steering};
use crate::worker::bodies::Spill;
use connections::Side;
use orders::OrderReader;
use parked::Parked;

pub(in crate::broker) use connections::Connections;

/// How long a quorum queue's client takes to hand on settlements after the channel has read them.
pub(in crate::broker) const FLUSH: Duration = Duration::from_millis(500);

/// How long closing may take. What was to be said has been said by then.
const CLOSE: Duration = Duration::from_secs(2);

/// What a session has to say.
pub(in crate::broker) enum Said {
    /// A delivery that came after the consumer was cancelled.
    Late {
        tag: u64,
    },
    Blocked(bool),
    /// An operator's command.
    Ordered(PendingCommand),
    /// An order about requests that wait.
    OrderKept(Box<Act>),
    Lost(Arc<str>),
    /// The session is lost, because there was no place for a body.
    Full(Arc<str>),
}

/// The session of the active worker.
pub(in crate::broker) struct Session {
    connections: Connections,
    candidate: Candidate,
    publishing: Channel,
    consumer: Consumer,
    /// Why no more is taken in; none before [`Session::take`].
    not_taken: Option<mpsc::UnboundedReceiver<NotTaken>>,
    control: Control,
    orders: OrderReader,
    /// Those that were kept before this session.
    pub(in crate::broker) orders_before: Vec<Act>,
    /// What operators have set before this session.
    pub(in crate::broker) steering: Option<Steering>,
    /// Another process had the lock of those that call the API beside the worker.
    pub(in crate::broker) leasing: bool,
    /// The consumer is cancelled: what has been taken in is all, and what comes still comes another way.
    cancelled: bool,
    ended: bool,
    pub(in crate::broker) on: Arc<Consuming>,
    /// How many requests were waiting when it began.
    pub(in crate::broker) waiting: u32,
    /// How many others consumed the requests then.
    before: u32,
}

impl Session {
    pub(super) async fn start(
        connections: Connections,
        candidate: Candidate,
        (options, here): (&Options, &Settings),
        prefetch: u16,
        spill: &Spill,
    ) -> Result<Self, SessionLost> {
        let queues = &options.queues;
        let link = Link::new();
        let publishing = connect::confirming(&connections.publish).await?;
        let channel =
            within(ANSWER, "opening a channel", connections.consume.create_channel()).await?;
        let before = before(&channel, &queues.requests()).await?;
        let (control, kept) =
            Control::open(&connections.consume, &connections.publish, queues).await?;
        let publisher = Publisher::start(
            &connections.publish,
            publishing.clone(),
            Arc::clone(&link),
            Some(Arc::downgrade(&connections.publish)),
        );
        // Before anything is delivered: until it is read nothing may start, and nobody takes what comes.
        let (orders, orders_before) = OrderReader::open(here, queues, &publisher, &channel).await?;
        // After the queue of commands was bound: whoever has the lock has heard of no worker, or will hear of this one.
        let leasing = leasing::is_taken(&connections.consume, queues).await;
        connections.wire.keep(channel.id(), spill);
        // 0 would mean 2,000 on a quorum queue.
        let qos = channel.basic_qos(prefetch.max(1), BasicQosOptions::default());
        within(ANSWER, "setting the prefetch", qos).await?;
        // An empty tag is a fresh one: a tag that was used before can cost the connection.
        let consume = channel.basic_consume(
            short(&queues.requests()),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(ANSWER, &format!("consuming {}", queues.requests()), consume).await?;
        let steering = kept.as_ref().and_then(|kept| kept.steering.clone());
        // Before the worker can publish any change of it.
        if let Some(kept) = kept {
            kept.keep_anew(&publisher);
        }
        // The first consumer of a queue is its single active one.
        let received = AtomicBool::new(before.consumer_count() == 0);
        let (version, waiting) = (connections.version, before.message_count());
        let before = before.consumer_count();
        let wire = Arc::clone(&connections.wire);
        let on = Arc::new(Consuming { channel, link, publisher, version, wire, received });
        Ok(Self {
            connections,
            candidate,
            publishing,
            consumer,
            not_taken: None,
            control,
            orders,
            orders_before,
            steering,
            leasing,
            cancelled: false,
            ended: false,
            on,
            waiting,
            before,
        })
    }

    /// Lets this taker have what is delivered, and was since the consumer began.
    pub(in crate::broker) fn take(&mut self, taker: DeliveryReceiver) {
        self.not_taken = Some(taker.attach(&self.consumer));
    }

    /// The next thing that happens, but for deliveries, which go past here. Cancel safe.
    pub(in crate::broker) async fn next(&mut self) -> Said {
        loop {
            let said = tokio::select! {
                biased;
                why = self.on.link.lost() => Some(Said::Lost(why)),
                Some((side, event)) = self.connections.events.next() => self.heard(side, event),
                order = self.control.next() => self.ordered(order),
                kept = self.orders.next() => Some(match kept {
                    Ok(act) => Said::OrderKept(Box::new(act)),
                    Err(lost) => self.lose(&format!("the stream of orders: {lost}")),
                }),
                lost = self.candidate.deposed(&self.on.link) => Some(self.lose(&lost.0)),
                Some(why) = heard_of(&mut self.not_taken) => self.not_taken(why),
                item = self.consumer.next(), if self.cancelled && !self.ended => self.late(item),
            };
            if let Some(said) = said {
                return said;
            }
        }
    }

    fn heard(&self, side: Side, event: lapin::Event) -> Option<Said> {
        match (side, event) {
            (Side::Publish, lapin::Event::ConnectionBlocked(_)) => {
                self.on.link.set_blocked(true);
                Some(Said::Blocked(true))
            }
            (Side::Publish, lapin::Event::ConnectionUnblocked) => {
                self.on.link.set_blocked(false);
                Some(Said::Blocked(false))
            }
            (side, lapin::Event::Error(error)) if !self.connections.is_up(side) => {
                Some(self.lose(&format!("the connection to {}: {error}", side.what())))
            }
            _ => None,
        }
    }

    fn ordered(&self, order: Option<lapin::Result<Delivery>>) -> Option<Said> {
        match order {
            Some(Ok(delivery)) => self.control.heard(&delivery).map(Said::Ordered),
            Some(Err(error)) => Some(self.lose(&format!("the control queue: {error}"))),
            None => Some(self.lose("the control queue is gone")),
        }
    }

    /// The end of the stream, of whatever kind, is the end of the session, unless it was asked for.
    fn not_taken(&self, why: NotTaken) -> Option<Said> {
        match why {
            NotTaken::Ended if self.cancelled => None,
            // From RabbitMQ 4.3 on a quorum queue ends a consumer that holds something for too long without a word.
            NotTaken::Ended => Some(self.lose(&format!(
                "the broker ended the stream of deliveries: was the queue deleted, or its leader lost? If it comes again and again, {HELD_TOO_LONG}"
            ))),
            NotTaken::Stream(error) => Some(self.lose(&told("the stream of deliveries", &error))),
            NotTaken::NoPlace(error) => {
                let why = format!(
                    "window.max_bytes of bodies are in memory, and the temporary file for the rest cannot be written: {error}"
                );
                self.on.link.lose(&why);
                Some(Said::Full(why.into()))
            }
            NotTaken::Bug(text) => {
                Some(self.lose(&format!(
                    "taking in a delivery panicked: {text}; this is a bug in sluice"
                )))
            }
        }
    }

    /// From the moment of its cancelling the client library keeps what comes, and the end of the stream was asked for.
    fn late(&mut self, item: Option<lapin::Result<Delivery>>) -> Option<Said> {
        match item {
            Some(Ok(delivery)) => Some(Said::Late { tag: delivery.delivery_tag }),
            Some(Err(error)) => Some(self.lose(&format!("the stream of deliveries: {error}"))),
            None => {
                self.ended = true;
                None
            }
        }
    }

    fn lose(&self, why: &str) -> Said {
        self.on.link.lose(why);
        Said::Lost(why.into())
    }

    /// Wants no more deliveries, where the broker survives being told so.
    pub(in crate::broker) async fn stop(&mut self, queues: &Queues) {
        if self.cancelled || !self.on.version.may_cancel(queues.kind) {
            return;
        }
        let cancel =
            self.on.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        match within(ANSWER, "cancelling the consumer", cancel).await {
            Ok(()) => self.cancelled = true,
            Err(lost) => self.on.link.lose(&lost.0),
        }
    }

    /// Leaves in good order: what is held is requeued, the broker has read every settlement, and everything is
    /// closed. `held` are the tags of the deliveries that are not settled.
    pub(in crate::broker) async fn leave(mut self, held: Vec<u64>) {
        let mut held = held;
        while self.cancelled
            && !self.ended
            && let Some(Some(Ok(delivery))) = self.consumer.next().now_or_never()
        {
            held.push(delivery.delivery_tag);
        }
        if !self.on.link.is_lost()
            && let Err(lost) = self.requeue(&held).await
        {
            tracing::warn!(why = %lost, "the broker did not read the last settlements; it will deliver them again");
        }
        self.close("left").await;
    }

    async fn requeue(&mut self, held: &[u64]) -> Result<(), SessionLost> {
        if self.on.version.nacks_are_free() {
            for tag in held {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                within(ANSWER, "requeuing", self.on.channel.basic_nack(*tag, options)).await?;
            }
        }
        // An answer to anything on this channel says that all before it was read.
        let question = self.on.channel.basic_qos(1, BasicQosOptions::default());
        within(ANSWER, "the last question", question).await?;
        tokio::time::sleep(FLUSH).await;
        Ok(())
    }

    /// Closes channels before connections: a connection that loses its channels while it closes reports errors.
    pub(in crate::broker) async fn close(mut self, why: &str) {
        self.on.link.lose(why);
        self.candidate.hush();
        let reason = || short(why);
        // The next worker is the active one when this one consumes no requests any more.
        let Candidate { channel, questions, .. } = &self.candidate;
        for channel in [&self.on.channel, &self.publishing, channel, questions] {
            let _ = within(CLOSE, "closing", channel.close(200, reason())).await;
        }
        self.orders.close().await;
        for connection in [&*self.connections.consume, &*self.connections.publish] {
            let _ = within(CLOSE, "closing", connection.close(200, reason())).await;
        }
    }

    /// Where the requests are that wait outside of the window.
    pub(in crate::broker) fn parked(&self, spill: &Spill) -> Parked {
        let connection = Arc::downgrade(&self.connections.consume);
        Parked { connection, on: Arc::downgrade(&self.on), spill: spill.clone() }
    }

    /// What looks after the things around it that the broker tells nobody of.
    pub(in crate::broker) fn lookout(
        &self,
        queues: &Queues,
        status: watch::Sender<Status>,
    ) -> Lookout {
        let on = Arc::clone(&self.on);
        let connection = Arc::downgrade(&self.connections.consume);
        Lookout::new(
            connection,
            on,
            self.control.queue.clone(),
            queues.clone(),
            status,
            self.before,
        )
    }
}

/// Why a delivery was not taken in; pending where none are taken in, and `None` once none are any more.
async fn heard_of(not_taken: &mut Option<mpsc::UnboundedReceiver<NotTaken>>) -> Option<NotTaken> {
    match not_taken {
        Some(not_taken) => not_taken.recv().await,
        None => None,
    }
}

/// The queue before this worker consumes it. A quorum queue counts its single active consumer and none of those that
/// wait, so afterwards nobody could tell who was there before. That of a worker that has just gone goes in a moment.
async fn before(channel: &Channel, requests: &str) -> Result<lapin::Queue, SessionLost> {
    const MOMENT: Duration = Duration::from_millis(200);
    for _ in 0..10 {
        let found = look_at(channel, requests).await?;
        if found.consumer_count() == 0 {
            return Ok(found);
        }
        tokio::time::sleep(MOMENT).await;
    }
    look_at(channel, requests).await
}

/// What a queue says of itself. A missing queue costs `channel` its life.
pub(in crate::broker) async fn look_at(
    channel: &Channel,
    queue: &str,
) -> Result<lapin::Queue, SessionLost> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(short(queue), options, FieldTable::default());
    within(ANSWER, &format!("looking at {queue}"), declare).await
}

/// The cure where the broker takes back what was held for too long.
const HELD_TOO_LONG: &str = "the broker's consumer_timeout may be shorter than what the worker holds: lower window.max_hold to a minute below it, or raise consumer_timeout";

/// What failed, in words, and the key to change where one is to blame.
fn told(what: &str, error: &lapin::Error) -> String {
    if let ErrorKind::ProtocolError(refused) = error.kind()
        && refused.get_message().as_str().contains("delivery acknowledgement")
    {
        return format!("{what}: {error}; {HELD_TOO_LONG}");
    }
    format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPSoftError};

    use super::*;

    #[test]
    fn what_was_held_for_too_long_is_told_with_the_key_to_change() {
        let kind = AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED);
        let words = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out";
        let error = ErrorKind::ProtocolError(AMQPError::new(kind, words.into())).into();
        let told = told("the stream of deliveries", &error);
        assert!(
            told.contains("lower window.max_hold") && told.contains("consumer_timeout"),
            "{told}"
        );
    }
}

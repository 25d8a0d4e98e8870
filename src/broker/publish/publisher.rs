//! Has the broker taken it? One task owns the confirm channel of a session: two tasks on one channel swap their
//! confirms, and a message counts as lost then that was reported as taken.
//!
//! Confirms are pipelined. A return can be attached to the wrong confirm of a pipeline, so any return and any confirm
//! that does not come ends the session, and nothing that was in flight with it counts as published. A nack is always that
//! of its own message: it ends the session as well, unless whoever published can do without ([`Publisher::offer`]).

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::future::{FutureExt as _, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, Connection};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use crate::broker::connection::connect;
use crate::broker::connection::link::{Link, SessionLost};
use crate::broker::convert::Outgoing;
use crate::broker::sizes::header_bytes;
use crate::broker::{ANSWER, within};

/// How long a confirm may take while the broker has no resource alarm.
const CONFIRM: Duration = Duration::from_secs(30);

/// What a frame has beside what it carries.
const FRAME: usize = 8;

/// The one way to the confirm channel of a session.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    /// How many bytes of properties a message may have.
    pub(crate) room: usize,
    orders: mpsc::UnboundedSender<Publication>,
    link: Arc<Link>,
}

/// Messages that are confirmed together: all or none.
#[derive(Debug)]
struct Publication {
    messages: Vec<Outgoing>,
    /// A nack is told, and ends nothing.
    is_offer: bool,
    reply: oneshot::Sender<Offered>,
}

/// What became of messages that may be refused.
#[derive(Clone, Debug)]
pub(crate) enum Offered {
    /// All of them are confirmed; how long that took.
    Taken(Duration),
    /// The broker has refused one of them, and said so. The others may have been taken.
    Refused(String),
}

impl Publisher {
    /// `channel` is of this connection, in confirm mode and nobody else's.
    /// Where a refusal is not the end, `renewed` opens another channel after it.
    pub(crate) fn start(
        connection: &Connection,
        channel: Channel,
        link: Arc<Link>,
        renewed: Option<Weak<Connection>>,
    ) -> Self {
        let frame = usize::try_from(connection.configuration().frame_max()).unwrap_or(usize::MAX);
        let room = frame.saturating_sub(FRAME);
        // Unbounded, because whoever publishes waits for the confirm: what is in flight is bounded by them.
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(own(channel, room, inbox, Arc::clone(&link), renewed).in_current_span());
        Self { room, orders, link }
    }

    /// Publishes all of `messages`, and resolves when the broker has confirmed all of them: how long that took.
    pub(crate) async fn publish(&self, messages: Vec<Outgoing>) -> Result<Duration, SessionLost> {
        self.send(messages).await
    }

    /// Like [`Publisher::publish`], but they stand before everything that is published after this returns, whether or not
    /// anybody waits for the confirm.
    pub(crate) fn send(
        &self,
        messages: Vec<Outgoing>,
    ) -> impl Future<Output = Result<Duration, SessionLost>> + Send + 'static {
        let answer = self.order(messages, false);
        async move {
            match answer.await? {
                Offered::Taken(took) => Ok(took),
                Offered::Refused(why) => Err(SessionLost(why)),
            }
        }
    }

    /// Publishes what the broker may refuse without any harm to the session.
    pub(crate) async fn offer(&self, messages: Vec<Outgoing>) -> Result<Offered, SessionLost> {
        self.order(messages, true).await
    }

    fn order(
        &self,
        messages: Vec<Outgoing>,
        is_offer: bool,
    ) -> impl Future<Output = Result<Offered, SessionLost>> + Send + 'static {
        let (reply, answer) = oneshot::channel();
        // An order that nobody takes drops its reply, as the end of the session does.
        let _ = self.orders.send(Publication { messages, is_offer, reply });
        let link = Arc::clone(&self.link);
        async move {
            if !link.is_lost()
                && let Ok(offered) = answer.await
            {
                return Ok(offered);
            }
            Err(SessionLost(link.lost().await.to_string()))
        }
    }
}

type Confirmed = (oneshot::Sender<Offered>, Result<Offered, SessionLost>);

/// Why a message was not taken.
enum NotTaken {
    /// A nack: the broker is well, and does not want this one.
    Refused(String),
    Lost(SessionLost),
}

impl From<SessionLost> for NotTaken {
    fn from(lost: SessionLost) -> Self {
        Self::Lost(lost)
    }
}

async fn own(
    mut channel: Channel,
    room: usize,
    mut inbox: mpsc::UnboundedReceiver<Publication>,
    link: Arc<Link>,
    renewed: Option<Weak<Connection>>,
) {
    let mut pending = FuturesUnordered::new();
    let mut open = true;
    let lost = link.lost();
    tokio::pin!(lost);
    while open || !pending.is_empty() {
        tokio::select! {
            _ = &mut lost => break,
            order = inbox.recv(), if open => match order {
                Some(order) => pending.push(confirmed(channel.clone(), room, order, &link)),
                None => open = false,
            },
            Some(first) = pending.next(), if !pending.is_empty() => {
                // All that is known by now, before anybody is told: a stray return stands before the confirm that
                // it should have been attached to.
                let mut known = vec![first];
                while let Some(Some(next)) = pending.next().now_or_never() {
                    known.push(next);
                }
                let is_refused = |(_, result): &Confirmed| matches!(result, Ok(Offered::Refused(_)));
                let refused = known.iter().any(is_refused);
                if let Err(lost) = tell(known) {
                    link.lose(&lost.0);
                    break;
                }
                // A channel that was refused once may be refused for ever: the broker tells it that there is room again
                // when something is taken out of the queue, not when its limit is lifted.
                if refused && pending.is_empty()
                    && let Some(connection) = renewed.as_ref().and_then(Weak::upgrade)
                {
                    match connect::confirming(&connection).await {
                        Ok(other) => {
                            let old = std::mem::replace(&mut channel, other);
                            let _ = within(ANSWER, "closing", old.close(200, "done".into())).await;
                        }
                        Err(lost) => {
                            link.lose(&lost.0);
                            break;
                        }
                    }
                }
            }
        }
    }
    // Dropped orders tell their owners that the session is lost, so it must be.
    link.lose("the publisher ended");
}

fn tell(known: Vec<Confirmed>) -> Result<(), SessionLost> {
    if let Some((_, Err(lost))) = known.iter().find(|(_, result)| result.is_err()) {
        return Err(lost.clone());
    }
    for (reply, result) in known {
        // Nobody waits any more where a settlement was given up: the confirm then matters to nobody.
        let _ = result.map(|offered| reply.send(offered));
    }
    Ok(())
}

async fn confirmed(channel: Channel, room: usize, order: Publication, link: &Link) -> Confirmed {
    let started = Instant::now();
    let bytes = order.messages.iter().map(|message| header_bytes(&message.properties)).max();
    let result = match bytes {
        // None of the order is sent: they belong together.
        Some(bytes) if bytes > room => Err(SessionLost(format!(
            "a message's headers take {bytes} bytes, and the broker's frames hold {room}"
        ))),
        _ => match publish_all(&channel, order.messages, link).await {
            Ok(()) => Ok(Offered::Taken(started.elapsed())),
            Err(NotTaken::Refused(why)) if order.is_offer => Ok(Offered::Refused(why)),
            Err(NotTaken::Refused(why)) => Err(SessionLost(why)),
            Err(NotTaken::Lost(lost)) => Err(lost),
        },
    };
    (order.reply, result)
}

async fn publish_all(
    channel: &Channel,
    messages: Vec<Outgoing>,
    link: &Link,
) -> Result<(), NotTaken> {
    match <[Outgoing; 1]>::try_from(messages) {
        // What ends well is one message, so this is the way that has to be quick.
        Ok([message]) => publish(channel, message, link).await,
        Err(messages) => {
            let all = messages.into_iter().map(|message| publish(channel, message, link));
            try_join_all(all).await.map(drop)
        }
    }
}

async fn publish(channel: &Channel, message: Outgoing, link: &Link) -> Result<(), NotTaken> {
    let Outgoing { exchange, key, body, properties } = message;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let answer = async {
        let (exchange, key) = (exchange.clone(), key.clone());
        channel.basic_publish(exchange, key, options, &body, properties).await?.await
    };
    let place = || match exchange.as_str() {
        "" => format!("queue {key}"),
        exchange => format!("exchange {exchange} with key {key}"),
    };
    match patiently(link, answer).await {
        Some(Ok(Confirmation::Ack(None))) => Ok(()),
        Some(Ok(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back)))) => {
            Err(SessionLost(format!(
                "a message to exchange {:?} with key {} came back: {} {}; something deleted a queue or a binding",
                back.exchange.as_str(),
                back.routing_key,
                back.reply_code,
                back.reply_text
            ))
            .into())
        }
        Some(Ok(Confirmation::Nack(None))) => Err(NotTaken::Refused(format!(
            "the broker refused a message to {} (is the queue full?)",
            place()
        ))),
        Some(Ok(Confirmation::NotRequested)) => {
            Err(SessionLost("the channel is not in confirm mode".into()).into())
        }
        Some(Err(error)) => Err(SessionLost(format!("publishing to {}: {error}", place())).into()),
        None => Err(SessionLost(format!("no confirm from {} in {CONFIRM:?}", place())).into()),
    }
}

/// The answer, or none if it does not come in [`CONFIRM`]; the time of a resource alarm does not count.
async fn patiently<T>(link: &Link, answer: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(answer);
    loop {
        match tokio::time::timeout(CONFIRM, &mut answer).await {
            Ok(value) => return Some(value),
            Err(_) if link.blocked_within(CONFIRM) => {}
            Err(_) => return None,
        }
    }
}

//! Where is a dead letter taken in? On the thread that reads the socket, as requests are ([`crate::broker::consume::receiver`]): what has been
//! received and has no place yet is bounded by the socket's buffers, not by the prefetch.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lapin::BasicProperties;
use lapin::message::{Delivery, DeliveryResult};
use tokio::sync::{mpsc, watch};
use tracing::Span;

use crate::broker::connection::link::SessionLost;
use crate::broker::consume::interner::Aside;
use crate::broker::control::short_connection::ShortConnection;
use crate::broker::convert::returns;
use crate::broker::dead_letters::parcels;
use crate::broker::dead_letters::pass::{Copy, HeldDeadLetter, Terms};
use crate::broker::doors::{Door, is_a_claim};
use crate::broker::settings::Queues;
use crate::broker::sizes::heap_bytes;
use crate::broker::transport::{self, Original, Wire};
use crate::broker::version::Version;
use crate::contract::Rules;
use crate::message::intake;
use crate::message::{bug, headers};
use crate::review::{DeadLetter, Unread};
use crate::worker::bodies::{self, Spill};

/// A dead letter takes so many times as much in memory as its properties: as a parcel, and once more in what it says.
const TIMES: u64 = 3;

/// What one consumer of the dead letters delivers.
#[derive(Debug)]
pub(in crate::broker) struct DeadLetters {
    letters: mpsc::UnboundedReceiver<Result<Option<HeldDeadLetter>, SessionLost>>,
    over: watch::Receiver<Option<String>>,
}

impl DeadLetters {
    /// The next dead letter, or none where there is no room for it: it is delivered, and nothing is kept of it.
    pub(in crate::broker) async fn next(&mut self) -> Result<Option<HeldDeadLetter>, SessionLost> {
        self.letters
            .recv()
            .await
            .unwrap_or_else(|| Err(SessionLost("the connection is gone".into())))
    }

    /// Why the broker ended the consumer, once it does.
    pub(in crate::broker) fn ended(&self) -> impl Future<Output = SessionLost> + 'static {
        let mut over = self.over.clone();
        async move {
            let why = over.wait_for(Option::is_some).await;
            let why = why.ok().and_then(|why| why.clone());
            SessionLost(why.unwrap_or_else(|| "the connection is gone".to_owned()))
        }
    }
}

/// Takes in whatever comes to `consumer`, and came before.
pub(in crate::broker) fn attach(
    consumer: &lapin::Consumer,
    channel: u16,
    (tool, terms): (&ShortConnection, &Terms<'_>),
) -> DeadLetters {
    let (said, letters) = mpsc::unbounded_channel();
    let (ended, over) = watch::channel(None);
    consumer.set_delegate(Taking {
        rules: *terms.rules,
        queues: tool.queues.clone(),
        version: tool.version,
        spill: terms.spill.clone(),
        room: terms.room,
        taken: AtomicU64::new(0),
        channel,
        wire: Arc::clone(&tool.wire),
        said,
        ended,
        span: Span::current(),
    });
    DeadLetters { letters, over }
}

struct Taking {
    rules: Rules,
    queues: Queues,
    version: Version,
    spill: Spill,
    room: u64,
    /// How many bytes of it are taken.
    taken: AtomicU64,
    channel: u16,
    wire: Arc<Wire>,
    said: mpsc::UnboundedSender<Result<Option<HeldDeadLetter>, SessionLost>>,
    ended: watch::Sender<Option<String>>,
    span: Span,
}

impl Taking {
    fn take(&self, delivery: Delivery) -> Result<Option<HeldDeadLetter>, SessionLost> {
        let original = self.wire.take(self.channel, delivery.delivery_tag);
        let heap = TIMES * heap_bytes(&delivery.properties) as u64;
        if self.taken.fetch_add(heap, Ordering::Relaxed) + heap > self.room {
            return Ok(None);
        }
        self.entry(delivery, original).map(Some).map_err(|error| {
            SessionLost(format!("reading dead letters: no place for their bodies: {error}"))
        })
    }

    fn entry(
        &self,
        delivery: Delivery,
        original: Option<Original>,
    ) -> std::io::Result<HeldDeadLetter> {
        let properties = &delivery.properties;
        let copy = Copy { tag: delivery.delivery_tag, returns: returns(properties) };
        let door = Door::of(&delivery.exchange, &self.queues);
        let death = parcels::death(properties).filter(|_| door == Door::Broker);
        let knows = door.knows_the_past()
            || (death.is_some() && self.version.writes_deaths_alone() && self.was_ours(properties));
        let mut parcel = parcels::parcel(properties, bodies::trimmed(delivery.data));
        let mut unread = Unread::default();
        if !knows {
            parcel.headers.retain(|name, _| !is_a_claim(name));
            unread.stranger = death.is_none();
        }
        let (mut header, mut place) = (None, None);
        if let Some(original) = original {
            header = original.header.transpose()?;
            (unread.flaw, unread.identity) = (original.flaw, original.identity);
            if let Some(transport::Beyond { len, digest, body }) = original.beyond {
                place = Some(body?);
                unread.beyond = Some(intake::Beyond { len, digest });
            }
        }
        let letter = DeadLetter::read_with(&parcel, death, &self.rules, unread);
        let body = std::mem::take(&mut parcel.body);
        let body = match place {
            Some(place) => place,
            None => self.spill.keep(body)?,
        };
        if header.is_some() {
            // They stand in it, and in the dead letter.
            parcel.headers.retain(|name, _| name == headers::OUTCOME);
            let header = header.take().map(|header| Aside { header, knows });
            return Ok(HeldDeadLetter { letter, body, parcel, header, copies: vec![copy] });
        }
        Ok(HeldDeadLetter { letter, body, parcel, header: None, copies: vec![copy] })
    }

    /// Whether the broker dead-lettered what the worker or a reviewer had published.
    fn was_ours(&self, properties: &BasicProperties) -> bool {
        let exchange = parcels::published_to(properties);
        exchange.is_some_and(|exchange| Door::of(&exchange, &self.queues).knows_the_past())
    }
}

impl lapin::ConsumerDelegate for Taking {
    /// The client library calls this where it has read a message, and spawns what it returns: so the work is done before
    /// it returns.
    fn on_new_delivery(
        &self,
        delivery: DeliveryResult,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _span = self.span.enter();
        let taken = match delivery {
            Ok(Some(delivery)) => {
                let take = || self.take(delivery);
                std::panic::catch_unwind(AssertUnwindSafe(take)).unwrap_or_else(|panic| {
                    let text = bug::text(&*panic);
                    Err(SessionLost(format!("taking in a dead letter panicked: {text}; this is a bug in sluice")))
                })
            }
            Ok(None) => Err(self.end("the broker took the dead letters back, as it does with what is held for longer than its consumer timeout".to_owned())),
            Err(error) => Err(self.end(format!("the broker took the dead letters back: {error}"))),
        };
        // Nobody listens: the pass is over.
        let _ = self.said.send(taken);
        Box::pin(std::future::ready(()))
    }
}

impl Taking {
    fn end(&self, why: String) -> SessionLost {
        self.ended.send_replace(Some(why.clone()));
        SessionLost(why)
    }
}

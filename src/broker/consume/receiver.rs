//! Where is a delivery taken in? On the thread that reads the socket: it reads no further before the body has its place
//! in memory or in the file, and the worker has a job of it. So what has been received and has no place yet is bounded by
//! the socket's buffers, not by the prefetch, which counts messages and knows nothing of bytes.

use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::{Delivery, DeliveryResult};
use tokio::sync::mpsc;
use tracing::Span;

use crate::broker::consume::delivery::Consuming;
use crate::broker::consume::delivery::Held;
use crate::broker::consume::interner::{Aside, Kept, PropertyInterner};
use crate::broker::convert;
use crate::broker::doors::{Door, without_claims};
use crate::broker::settings::Queues;
use crate::broker::transport::{self, Original};
use crate::contract::{Rules, Violation};
use crate::core::{Job, Request};
use crate::message::bug;
use crate::message::intake::{self, Intake, Message};
use crate::worker::bodies::{Body, Spill};
use crate::worker::clock::Clock;
use crate::worker::source::Event;

/// Of a request with many violations as many are told where memory has no room for all of them.
const FEW: usize = 3;

/// Why nothing more is taken in.
#[derive(Debug)]
pub(in crate::broker) enum NotTaken {
    /// The stream of deliveries has ended: the consumer was cancelled, by whomever.
    Ended,
    /// The stream of deliveries ended with an error.
    Stream(lapin::Error),
    /// There is no place for the body. The delivery stays unsettled, so it comes again.
    NoPlace(io::Error),
    /// A panic that belongs to no message, in its words. The delivery stays unsettled.
    Bug(String),
}

/// Takes in what one session delivers, and hands it to the worker.
#[derive(Debug)]
pub(in crate::broker) struct DeliveryReceiver {
    pub(in crate::broker) rules: Rules,
    pub(in crate::broker) queues: Queues,
    pub(in crate::broker) spill: Spill,
    pub(in crate::broker) clock: Clock,
    /// Who hears of each delivery. Unbounded, because the prefetch bounds what can be in it. Weak, as the next but one: the
    /// client library keeps the taker for as long as the connection, which must not keep itself.
    pub(in crate::broker) worker: mpsc::WeakUnboundedSender<Event<Held>>,
    pub(in crate::broker) session: u32,
    pub(in crate::broker) on: Weak<Consuming>,
    pub(in crate::broker) span: Span,
    pub(in crate::broker) common: Mutex<PropertyInterner>,
}

impl DeliveryReceiver {
    /// Takes in whatever comes to `consumer` from now on; what comes back says why that has ended.
    pub(in crate::broker) fn attach(
        self,
        consumer: &lapin::Consumer,
    ) -> mpsc::UnboundedReceiver<NotTaken> {
        let (said, not_taken) = mpsc::unbounded_channel();
        consumer.set_delegate(Delegate { taker: self, said });
        not_taken
    }

    fn take(&self, delivery: Delivery) -> Result<(), NotTaken> {
        // A session that nobody keeps any more takes nothing: what it delivers is requeued with it.
        let Some((worker, on)) = self.worker.upgrade().zip(self.on.upgrade()) else {
            return Ok(());
        };
        on.received.store(true, Ordering::Relaxed);
        let received = self.clock.now().at;
        let original = on.wire.take(on.channel.id(), delivery.delivery_tag);
        let knows = Door::of(&delivery.exchange, &self.queues).knows_the_past();
        let read = Unread::of(delivery, original, knows).map_err(NotTaken::NoPlace)?;
        let (redelivered, mut intake) = read.intake(&self.rules);
        tell_warnings(&intake);
        let beside = self.fit(&mut intake.violations);
        let held = self.hold(read, &mut intake.request, beside, on)?;
        // A worker that is gone hears nothing: its deliveries are requeued with the session's end.
        let _ = worker.send(Event::of(intake, |request| {
            Job::new(request, held, self.session, redelivered, received)
        }));
        Ok(())
    }

    /// What is held of it until it is settled.
    fn hold(
        &self,
        read: Unread,
        request: &mut Request,
        beside: u64,
        on: Arc<Consuming>,
    ) -> Result<Held, NotTaken> {
        let Unread { tag, properties, knows, header, body, place, .. } = read;
        let body = match place {
            Some(place) => place,
            None => self.spill.keep_with(body, beside).map_err(NotTaken::NoPlace)?,
        };
        // What is remembered is whole after a panic: each change of it is one step.
        let mut common = self.common.lock().unwrap_or_else(PoisonError::into_inner);
        common.share(request);
        let properties = match header {
            Some(header) => Kept::Aside(Box::new(Aside { header, knows })),
            None => common.keep(&properties, request, &self.spill),
        };
        Ok(Held { tag, body, properties, on })
    }

    /// Thousands of invalid requests can come at once, each with a hundred violations, and nothing but memory holds those.
    /// Where it has no room, the first few stay: whoever fixes the request has it checked anew. How many bytes stay.
    fn fit(&self, violations: &mut Vec<Violation>) -> u64 {
        if violations.len() > FEW && !self.spill.has_room_beside(bytes_of(violations)) {
            violations.truncate(FEW);
            violations.push(Violation {
                pointer: String::new(),
                found: "further violations".to_owned(),
                allowed: "no room to tell them while so much is held (window.max_bytes): fix the first, then check again"
                    .to_owned(),
            });
            violations.shrink_to_fit();
        }
        bytes_of(violations)
    }
}

/// A delivery, with what the client library was not given of it.
struct Unread {
    tag: u64,
    redelivered: bool,
    properties: BasicProperties,
    /// Whether it came from somebody who knows its past: then its claims are kept.
    knows: bool,
    /// The header as it came, where another one was given.
    header: Option<Body>,
    flaw: Option<String>,
    identity: Option<[u8; 32]>,
    body: Bytes,
    beyond: Option<intake::Beyond>,
    /// Where its body waits already.
    place: Option<Body>,
}

impl Unread {
    /// # Errors
    /// There is no place for it.
    fn of(delivery: Delivery, original: Option<Original>, knows: bool) -> io::Result<Self> {
        let properties = delivery.properties;
        let mut read = Self {
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            properties: if knows { properties } else { without_claims(properties) },
            knows,
            header: None,
            flaw: None,
            identity: None,
            body: crate::worker::bodies::trimmed(delivery.data),
            beyond: None,
            place: None,
        };
        if let Some(Original { flaw, identity, header, beyond }) = original {
            read.header = header.transpose()?;
            (read.flaw, read.identity) = (flaw, identity);
            if let Some(transport::Beyond { len, digest, body }) = beyond {
                read.place = Some(body?);
                read.beyond = Some(intake::Beyond { len, digest });
            }
        }
        Ok(read)
    }

    /// What it asks for, and whether it was delivered before.
    fn intake(&self, rules: &Rules) -> (bool, Intake) {
        let known = |message| Message {
            body: self.body.clone(),
            flaw: self.flaw.as_deref().map(Into::into),
            identity: self.identity,
            beyond: self.beyond,
            ..message
        };
        let bare = || {
            let message_id = convert::message_id(&self.properties);
            known(Message { message_id, ..Message::default() })
        };
        let read = intake::guarded(bare, || {
            let message = known(convert::message(&self.properties, Bytes::new()));
            let was_out = self.redelivered || convert::was_out(&self.properties);
            (was_out, intake::read(&message, rules))
        });
        read.unwrap_or_else(|unreadable| (self.redelivered, *unreadable))
    }
}

fn tell_warnings(intake: &Intake) {
    for warning in &intake.warnings {
        tracing::debug!(
            request.id = &*intake.request.id.get(),
            pointer = warning.pointer,
            found = warning.found,
            "warning"
        );
    }
}

fn bytes_of(violations: &[Violation]) -> u64 {
    violations.iter().map(|violation| violation.bytes() as u64).sum()
}

struct Delegate {
    taker: DeliveryReceiver,
    said: mpsc::UnboundedSender<NotTaken>,
}

impl lapin::ConsumerDelegate for Delegate {
    /// The client library calls this where it has read a message, and spawns what it returns: so the work is done before
    /// it returns.
    fn on_new_delivery(
        &self,
        delivery: DeliveryResult,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _lane = self.taker.span.enter();
        let taken = match delivery {
            Ok(Some(delivery)) => {
                // The thread that this panics on is the client library's, and reads for the whole session.
                let take = || self.taker.take(delivery);
                std::panic::catch_unwind(AssertUnwindSafe(take))
                    .unwrap_or_else(|panic| Err(NotTaken::Bug(bug::text(&*panic))))
            }
            Ok(None) => Err(NotTaken::Ended),
            Err(error) => Err(NotTaken::Stream(error)),
        };
        if let Err(why) = taken {
            // Nobody listens: the session is over, and the broker takes the delivery back.
            let _ = self.said.send(why);
        }
        Box::pin(std::future::ready(()))
    }
}

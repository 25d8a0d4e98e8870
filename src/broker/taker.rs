//! Where is a delivery taken in? On the thread that reads the socket: it reads no further before the body has its place
//! in memory or in the file. So what has been received and has no place yet is bounded by the socket's buffers, not by
//! the prefetch, which counts messages and knows nothing of bytes.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use lapin::BasicProperties;
use lapin::message::{Delivery, DeliveryResult};
use tokio::sync::mpsc;

use super::convert;
use super::spill::{Body, Spill};
use crate::bug;
use crate::clock::Clock;
use crate::contract::{Rules, Violation};
use crate::core::Moment;
use crate::intake::{self, Intake, Message};

/// Of a request with many violations as many are told where memory has no room for all of them.
const FEW: usize = 3;

/// A delivery whose body has its place, and what was read of it.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    pub(super) properties: Box<BasicProperties>,
    pub(super) body: Body,
    pub(super) intake: Intake,
    pub(super) received: Moment,
}

/// Why nothing more is taken in.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The stream of deliveries ended with an error.
    Stream(lapin::Error),
    /// There is no place for the body. The delivery stays unsettled, so it comes again.
    NoPlace(std::io::Error),
    /// A panic that belongs to no message, in its words. The delivery stays unsettled.
    Bug(String),
}

/// What taking in needs to know.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    pub(super) rules: Rules,
    pub(super) spill: Spill,
    pub(super) clock: Clock,
}

impl Taker {
    /// Takes in whatever comes to `consumer` from now on; the end of the stream is `None`.
    pub(super) fn attach(
        self,
        consumer: &lapin::Consumer,
    ) -> mpsc::UnboundedReceiver<Result<Option<Taken>, NotTaken>> {
        // Unbounded, because the prefetch bounds what can be in it, and the bodies are not in memory.
        let (said, taken) = mpsc::unbounded_channel();
        consumer.set_delegate(Delegate { taker: self, said });
        taken
    }

    fn take(&self, delivery: Delivery) -> Result<Taken, NotTaken> {
        let body = super::spill::trimmed(delivery.data);
        let properties = Box::new(delivery.properties);
        let bare = || Message {
            message_id: convert::message_id(&properties),
            body: body.clone(),
            ..Message::default()
        };
        let (redelivered, mut intake) = intake::guarded(bare, || {
            let message = convert::message(&properties, body.clone());
            let was_out = delivery.redelivered || convert::was_out(&properties);
            (was_out, intake::read(&message, &self.rules))
        })
        .unwrap_or_else(|unreadable| (delivery.redelivered, *unreadable));
        let beside = self.fit(&mut intake.violations);
        let body = self.spill.keep_with(body, beside).map_err(NotTaken::NoPlace)?;
        let tag = delivery.delivery_tag;
        let received = self.clock.now().at;
        Ok(Taken { tag, redelivered, properties, body, intake, received })
    }

    /// Thousands of invalid requests can come at once, each with a hundred violations, and nothing but memory holds those.
    /// Where it has no room, the first few stay: whoever mends the request has it checked anew. How many bytes stay.
    fn fit(&self, violations: &mut Vec<Violation>) -> u64 {
        if violations.len() > FEW && !self.spill.has_room_beside(bytes_of(violations)) {
            violations.truncate(FEW);
            violations.push(Violation {
                pointer: String::new(),
                found: "further violations".to_owned(),
                allowed: "no room to tell them while so much is held (window.max_bytes): mend the first, then check again"
                    .to_owned(),
            });
            violations.shrink_to_fit();
        }
        bytes_of(violations)
    }
}

fn bytes_of(violations: &[Violation]) -> u64 {
    violations.iter().map(|violation| violation.bytes() as u64).sum()
}

struct Delegate {
    taker: Taker,
    said: mpsc::UnboundedSender<Result<Option<Taken>, NotTaken>>,
}

impl lapin::ConsumerDelegate for Delegate {
    /// The client library calls this where it has read a message, and spawns what it returns: so the work is done before
    /// it returns.
    fn on_new_delivery(
        &self,
        delivery: DeliveryResult,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let taken = match delivery {
            Ok(delivery) => {
                // The thread that this panics on is the client library's, and reads for the whole session.
                let take = || delivery.map(|delivery| self.taker.take(delivery)).transpose();
                std::panic::catch_unwind(AssertUnwindSafe(take))
                    .unwrap_or_else(|panic| Err(NotTaken::Bug(bug::text(&*panic))))
            }
            Err(error) => Err(NotTaken::Stream(error)),
        };
        // Nobody listens: the session is over, and the broker takes the delivery back.
        let _ = self.said.send(taken);
        Box::pin(std::future::ready(()))
    }
}

//! Where is a delivery taken in? On the thread that reads the socket: it reads no further before the body has its place
//! in memory or in the file. So what has been received and has no place yet is bounded by the socket's buffers, not by
//! the prefetch, which counts messages and knows nothing of bytes.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::{Delivery, DeliveryResult};
use tokio::sync::mpsc;

use super::convert;
use super::spill::{Body, Spill};
use crate::clock::Clock;
use crate::contract::Rules;
use crate::core::Moment;
use crate::intake::{self, Intake};

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
    ) -> mpsc::UnboundedReceiver<lapin::Result<Option<Taken>>> {
        // Unbounded, because the prefetch bounds what can be in it, and the bodies are not in memory.
        let (said, taken) = mpsc::unbounded_channel();
        consumer.set_delegate(Delegate { taker: self, said });
        taken
    }

    fn take(&self, delivery: Delivery) -> Taken {
        // A vector that grew with its frames can be twice as long as its bytes.
        let body = Bytes::from(delivery.data.into_boxed_slice());
        let message = convert::message(&delivery.properties, body);
        let intake = intake::read(&message, &self.rules);
        Taken {
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered || convert::was_out(&delivery.properties),
            properties: Box::new(delivery.properties),
            body: self.spill.keep(message.body),
            intake,
            received: self.clock.now().at,
        }
    }
}

struct Delegate {
    taker: Taker,
    said: mpsc::UnboundedSender<lapin::Result<Option<Taken>>>,
}

impl lapin::ConsumerDelegate for Delegate {
    /// The client library calls this where it has read a message, and spawns what it returns: so the work is done before
    /// it returns.
    fn on_new_delivery(
        &self,
        delivery: DeliveryResult,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let taken = delivery.map(|delivery| delivery.map(|delivery| self.taker.take(delivery)));
        // Nobody listens: the session is over, and the broker takes the delivery back.
        let _ = self.said.send(taken);
        Box::pin(std::future::ready(()))
    }
}

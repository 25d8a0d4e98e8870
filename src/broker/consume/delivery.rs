//! What does the worker hold of a message? A tag on a session, and a body that waits in memory or in a file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};

use crate::broker::connection::link::{Link, SessionLost};
use crate::broker::consume::interner::Kept;
use crate::broker::publish::publisher::Publisher;
use crate::broker::transport::Wire;
use crate::broker::version::Version;
use crate::broker::{ANSWER, within};
use crate::worker::bodies::Body;
use crate::worker::source::Delivery;

/// What a delivery needs of the session that it came on. Shared by all of them: its parts take 160 bytes.
#[derive(Debug)]
pub(crate) struct Consuming {
    pub(crate) channel: Channel,
    pub(crate) link: Arc<Link>,
    pub(crate) publisher: Publisher,
    pub(crate) version: Version,
    pub(crate) wire: Arc<Wire>,
    /// Something was delivered: of a queue with a single active consumer this one is it.
    pub(crate) received: AtomicBool,
}

/// A delivery of a session, unsettled. Dropped, it stays unsettled until its session ends.
#[derive(Debug)]
pub struct Held {
    pub(crate) tag: u64,
    pub(crate) body: Body,
    pub(crate) properties: Kept,
    pub(crate) on: Arc<Consuming>,
}

impl Delivery for Held {
    fn body(&self) -> impl Future<Output = io::Result<Bytes>> + Send + 'static {
        self.body.read()
    }
}

impl Held {
    /// Acknowledges this one delivery. That it is written is all that can be known: acks are not confirmed.
    pub(crate) async fn ack(&self) -> Result<(), SessionLost> {
        self.alive()?;
        let ack = self.on.channel.basic_ack(self.tag, BasicAckOptions::default());
        self.done(within(ANSWER, "acknowledging", ack).await)
    }

    /// Requeues this one delivery; it comes again.
    pub(crate) async fn nack(&self) -> Result<(), SessionLost> {
        self.alive()?;
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        let nack = self.on.channel.basic_nack(self.tag, options);
        self.done(within(ANSWER, "requeuing", nack).await)
    }

    /// Lets the broker dead-letter this one delivery, with its body and all else as it came.
    pub(crate) async fn reject(&self) -> Result<(), SessionLost> {
        self.alive()?;
        let reject = self.on.channel.basic_reject(self.tag, BasicRejectOptions { requeue: false });
        self.done(within(ANSWER, "rejecting", reject).await)
    }

    /// # Errors
    /// Its session was lost.
    pub(in crate::broker) fn alive(&self) -> Result<(), SessionLost> {
        if self.on.link.is_lost() {
            Err(SessionLost("the session was lost before".into()))
        } else {
            Ok(())
        }
    }

    /// A tag that cannot be settled is a dead channel.
    fn done(&self, settled: Result<(), SessionLost>) -> Result<(), SessionLost> {
        settled.inspect_err(|lost| self.on.link.lose(&lost.0))
    }
}

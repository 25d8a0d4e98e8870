//! How are the two connections of a session opened, and how does their worker become the active one?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use lapin::Connection;

use super::{Session, look_at};
use crate::broker::connection::connect::{self, Address, Opened};
use crate::broker::connection::link::SessionLost;
use crate::broker::session::active::Candidate;
use crate::broker::session::source::Options;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::transport::{HARD, Wire};
use crate::broker::version::Version;
use crate::broker::{ANSWER, topology, within};
use crate::worker::bodies::Spill;

/// How often a standby asks whether it is the active one.
const STANDBY: Duration = Duration::from_secs(1);

/// How often a standby looks whether the one that is heard in its place works.
const LOOK: Duration = Duration::from_secs(5);

/// The two connections of a session, before it is the active one.
pub(in crate::broker) struct Connections {
    pub(super) consume: Arc<Connection>,
    pub(super) publish: Arc<Connection>,
    pub(in crate::broker) version: Version,
    pub(super) events: BoxStream<'static, (Side, lapin::Event)>,
    /// Of the connection that consumes.
    pub(super) wire: Arc<Wire>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Consume,
    Publish,
}

impl Connections {
    /// Connects both. `worker` shows in the management pages. Bodies of more than `gathered` bytes wait in the file.
    pub(in crate::broker) async fn open(
        address: &Address,
        worker: &str,
        gathered: u64,
    ) -> Result<Self, SessionLost> {
        let name = |what: &str| format!("sluice {worker} {what}");
        let Opened { connection: consume, wire, version } =
            connect::open(address, &name("consume"), gathered).await?;
        let Opened { connection: publish, .. } =
            connect::open(address, &name("publish"), HARD).await?;
        let events = futures_util::stream::select(
            consume.events_listener().map(|event| (Side::Consume, event)),
            publish.events_listener().map(|event| (Side::Publish, event)),
        )
        .boxed();
        Ok(Self { consume: Arc::new(consume), publish: Arc::new(publish), version, events, wire })
    }

    /// The client library tells errors of single channels, such as the refused lock, in the same words as those of
    /// the connection.
    pub(super) fn is_up(&self, side: Side) -> bool {
        let connection = match side {
            Side::Consume => &self.consume,
            Side::Publish => &self.publish,
        };
        connection.status().connected()
    }

    /// Declares the topology, or checks it where that is left to others.
    pub(in crate::broker) async fn prepare(
        &mut self,
        queues: &Queues,
    ) -> Result<topology::Comparison, topology::TopologyError> {
        if queues.declare {
            return topology::declare(&self.consume, queues, self.version).await;
        }
        let report = topology::compare(&self.consume, queues, self.version).await?;
        if report.mismatches.is_empty() {
            Ok(report)
        } else {
            Err(topology::TopologyError::Mismatch(report.mismatches))
        }
    }

    /// Waits until this worker is the active one; `standby` is told when another one is, `alarm` when that cannot be known
    /// and when it can again, `foreign` whether the other one is no worker. Unless it `is_known` that there can be one only, that is tried.
    pub(in crate::broker) async fn activate(
        mut self,
        (options, here): (&Options, &Settings),
        prefetch: u16,
        standby: impl Fn(),
        (alarm, foreign): (impl Fn(bool), impl Fn(bool)),
        is_known: bool,
        spill: &Spill,
    ) -> Result<Session, SessionLost> {
        let queues = &options.queues;
        let (door, queue) = (queues.worker(), queues.active());
        let mut candidate =
            Candidate::stand(&self.consume, &self.publish, (&door, &queue), STANDBY).await?;
        let blocked = AtomicBool::new(false);
        // Silence says nothing about who is active while no question can be asked.
        let standby = || {
            if !blocked.load(Ordering::Relaxed) {
                standby();
            }
        };
        let mut elected = Box::pin(candidate.elected(standby));
        let watched = Arc::clone(&self.consume);
        let is_blocked = || blocked.load(Ordering::Relaxed);
        let mut works = Box::pin(watch_the_other(&watched, queues, is_blocked, &foreign));
        loop {
            tokio::select! {
                elected = &mut elected => break elected?,
                lost = &mut works => return Err(lost),
                Some((side, event)) = self.events.next() => match event {
                    lapin::Event::Error(error) if !self.is_up(side) => {
                        return Err(SessionLost(format!("the connection to {}: {error}", side.what())));
                    }
                    lapin::Event::ConnectionBlocked(_) => {
                        tracing::warn!("a resource alarm of the broker: which worker is active can be asked again when it ends");
                        blocked.store(true, Ordering::Relaxed);
                        alarm(true);
                    }
                    lapin::Event::ConnectionUnblocked => {
                        blocked.store(false, Ordering::Relaxed);
                        alarm(false);
                    }
                    _ => {}
                },
            }
        }
        drop((elected, works));
        foreign(false);
        if !is_known {
            candidate.alone(&self.consume).await?;
        }
        let starting = Session::start(self, candidate, (options, here), prefetch, spill);
        let session = Box::pin(starting).await?;
        if blocked.into_inner() {
            session.on.link.set_blocked(true);
        }
        Ok(session)
    }
}

/// Tells `foreign` whether somebody is heard who is no worker: whoever is the active worker consumes the requests. A worker
/// that has just begun, or gone, does not yet or any more, so that nobody does is to be seen twice.
async fn watch_the_other(
    connection: &Connection,
    queues: &Queues,
    is_blocked: impl Fn() -> bool,
    foreign: impl Fn(bool),
) -> SessionLost {
    let mut alone = false;
    let opened = within(ANSWER, "opening a channel", connection.create_channel()).await;
    let channel = match opened {
        Ok(channel) => channel,
        Err(lost) => return lost,
    };
    loop {
        tokio::time::sleep(LOOK).await;
        // With a resource alarm the broker may not answer, and nobody can become the active one.
        if is_blocked() {
            continue;
        }
        let found = match look_at(&channel, &queues.requests()).await {
            Ok(found) => found,
            Err(lost) => return lost,
        };
        let before = std::mem::replace(&mut alone, found.consumer_count() == 0);
        foreign(before && alone);
    }
}

impl Side {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Publish => "publish",
        }
    }
}

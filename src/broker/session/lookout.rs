//! What has changed around a session that the broker tells nobody of? How long the queues are, who else consumes the
//! requests, and whether operators' orders still find their way. Looked at every few seconds; what is missing is declared
//! anew, and what cannot be looked at is looked at again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::{Channel, Connection};
use tokio::sync::watch;

use crate::broker::connection::link::SessionLost;
use crate::broker::consume::delivery::Consuming;
use crate::broker::control::steer;
use crate::broker::publish::planner::is_not_found;
use crate::broker::session::look_at;
use crate::broker::session::status::{Others, Status};
use crate::broker::settings::Queues;
use crate::broker::{ANSWER, topology, within};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// Looks after what is around one session.
#[derive(Debug)]
pub(in crate::broker) struct Lookout {
    /// Weak: a connection must not be kept by whoever looks.
    connection: Weak<Connection>,
    on: Arc<Consuming>,
    /// The queue by which operators' orders come.
    control: ShortString,
    queues: Queues,
    status: watch::Sender<Status>,
    /// For questions, until one costs it its life.
    channel: Option<Channel>,
    /// What the last check has found missing.
    missing: bool,
    /// Other consumers at the last check. One that is seen once may be that of a session that is just ending.
    others: u32,
    /// Consumers that were there before this worker's.
    before: u32,
}

impl Lookout {
    pub(in crate::broker) fn new(
        connection: Weak<Connection>,
        on: Arc<Consuming>,
        control: ShortString,
        queues: Queues,
        status: watch::Sender<Status>,
        before: u32,
    ) -> Self {
        Self {
            connection,
            on,
            control,
            queues,
            status,
            channel: None,
            missing: false,
            others: 0,
            before,
        }
    }

    /// Until the session ends.
    pub(in crate::broker) async fn run(mut self) {
        while !self.on.link.is_lost()
            && let Some(connection) = self.connection.upgrade()
        {
            let lacks = self.look(&connection).await;
            match (lacks, self.missing) {
                (true, _) => {
                    self.restore(&connection).await;
                    // Whoever orders something just now waits for this; what it lacks still is seen the next time.
                    let _ = self.bind(&connection).await;
                }
                (false, true) => tracing::info!("all queues and exchanges are there again"),
                (false, false) => {}
            }
            self.missing = lacks;
            drop(connection);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks at everything; whether something was missing.
    async fn look(&mut self, connection: &Connection) -> bool {
        let requests = self.look_at(connection, &self.queues.requests()).await;
        let dead_letters = self.look_at(connection, &self.queues.dead_letters()).await;
        let is_heard = self.bind(connection).await;
        let consumers = requests.as_ref().ok().map(lapin::Queue::consumer_count);
        let length =
            |of: &Result<lapin::Queue, NotSeen>| of.as_ref().ok().map(lapin::Queue::message_count);
        let seen = (length(&requests), length(&dead_letters));
        let others = consumers.map(|consumers| self.count(consumers));
        self.status.send_if_modified(|status| {
            let others = others.unwrap_or(status.others);
            let changed =
                (status.requests, status.dead_letters, status.others) != (seen.0, seen.1, others);
            (status.requests, status.dead_letters) = seen;
            status.others = others;
            changed
        });
        let is_missing = |of: &Result<lapin::Queue, NotSeen>| matches!(of, Err(NotSeen::Missing));
        is_missing(&requests)
            || is_missing(&dead_letters)
            || matches!(is_heard, Err(NotSeen::Missing))
    }

    async fn look_at(
        &mut self,
        connection: &Connection,
        queue: &str,
    ) -> Result<lapin::Queue, NotSeen> {
        let channel = self.channel(connection).await?;
        look_at(&channel, queue).await.map_err(|lost| {
            // A queue that is not there is said in the same words as a channel that is not.
            if lost.0.contains("NOT_FOUND") { NotSeen::Missing } else { NotSeen::Failed(lost) }
        })
    }

    /// Makes sure that orders come here. Binding what is bound changes nothing, and AMQP cannot ask.
    async fn bind(&mut self, connection: &Connection) -> Result<(), NotSeen> {
        let channel = self.channel(connection).await?;
        steer::bind(&channel, &self.control, &self.queues).await.map_err(|error| {
            if is_not_found(&error) {
                NotSeen::Missing
            } else {
                NotSeen::Failed(SessionLost(error.to_string()))
            }
        })
    }

    async fn channel(&mut self, connection: &Connection) -> Result<Channel, NotSeen> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.status().connected())
        {
            return Ok(channel.clone());
        }
        let channel = within(ANSWER, "opening a channel", connection.create_channel()).await;
        let channel = channel.map_err(NotSeen::Failed)?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Who else consumes the requests, of all those that do and are counted; this one is among them.
    fn count(&mut self, consumers: u32) -> Others {
        let now = consumers.saturating_sub(1);
        let receives = self.on.received.load(Ordering::Relaxed);
        // Whoever is given something is the single active consumer, and nobody is before it any more.
        let ahead = if receives { 0 } else { self.before };
        let lasting = now.min(self.others).max(ahead);
        let before = self.status.borrow().others.consumers;
        self.others = now;
        if lasting > 0 && before == 0 {
            tracing::warn!(
                others = lasting,
                receives,
                queue = self.queues.requests(),
                "others consume the requests beside this worker: they take them, or will when it ends; rabbitmqctl list_consumers names them"
            );
        } else if lasting == 0 && before > 0 {
            tracing::info!("nobody else consumes the requests any more");
        }
        Others { consumers: lasting, receives }
    }

    /// Declares anew what was deleted, where this worker may.
    async fn restore(&self, connection: &Connection) {
        if !self.queues.declare {
            if !self.missing {
                tracing::error!(
                    "a queue or an exchange was deleted, and queues.declare is false: run `sluice topology apply`"
                );
            }
            return;
        }
        match topology::declare(connection, &self.queues, self.on.version).await {
            Ok(_) => tracing::warn!("a queue or an exchange was deleted; it is declared anew"),
            Err(error) => {
                tracing::error!(%error, "a queue or an exchange was deleted, and cannot be declared anew");
            }
        }
    }
}

/// Why something could not be looked at.
enum NotSeen {
    Missing,
    Failed(#[expect(dead_code, reason = "the session's end says why")] SessionLost),
}

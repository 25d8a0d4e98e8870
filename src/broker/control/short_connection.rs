//! How do the review and the operator's commands reach the broker? One connection, opened for a task and closed after it.
//! No supervisor: whoever uses it tells the person what happened.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::StreamExt as _;
use lapin::{BasicProperties, Channel, Connection};

use crate::broker::connection::connect::{self, Opened};
use crate::broker::connection::link::{self, Link, SessionLost};
use crate::broker::convert::Outgoing;
use crate::broker::convert::short;
use crate::broker::publish::publisher::Publisher;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::audit;
use crate::broker::topology::TopologyError;
use crate::broker::transport::Wire;
use crate::broker::version::Version;
use crate::broker::within;
use crate::message::audit::Act;

/// Longer bodies of dead letters wait in the file.
const GATHERED: u64 = 1024 * 1024;

/// A connection to the broker for a command or a page.
#[derive(Debug)]
pub struct ShortConnection {
    pub(crate) connection: Connection,
    pub(crate) wire: Arc<Wire>,
    pub(crate) publisher: Publisher,
    pub(crate) queues: Queues,
    pub(crate) version: Version,
    link: Arc<Link>,
    publishing: Channel,
}

impl ShortConnection {
    /// Connects to the first address that answers; `name` shows in the management pages.
    ///
    /// # Errors
    /// The settings are wrong, or no address answers.
    pub async fn connect(
        settings: &Settings,
        queues: &Queues,
        name: &str,
    ) -> Result<Self, TopologyError> {
        let Opened { connection, wire, version } =
            connect::first(settings, &format!("sluice {name}"), GATHERED).await?;
        let link = Link::new();
        tokio::spawn(link::listen(connection.events_listener().boxed(), Arc::clone(&link)));
        let publishing = connect::confirming(&connection).await?;
        let publisher = Publisher::start(&connection, publishing.clone(), Arc::clone(&link), None);
        let queues = queues.clone();
        Ok(Self { connection, wire, publisher, queues, version, link, publishing })
    }

    /// Which RabbitMQ it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the broker has a resource alarm and takes nothing just now.
    pub fn is_blocked(&self) -> bool {
        self.link.blocked_within(Duration::ZERO)
    }

    /// Sends a command (JSON) to the active worker.
    ///
    /// # Errors
    /// Nobody listens, or the connection was lost.
    pub async fn command(&self, body: Bytes) -> Result<(), SessionLost> {
        let message = Outgoing {
            exchange: short(&self.queues.control()),
            key: short(""),
            body,
            properties: BasicProperties::default().with_content_type("application/json".into()),
        };
        self.publisher.publish(vec![message]).await.map(drop)
    }

    /// Writes down an act that moves no message: a note, or something done to the gate.
    ///
    /// # Errors
    /// The broker did not take it.
    pub async fn record(&self, act: &Act) -> Result<(), SessionLost> {
        self.publisher
            .publish(vec![audit::message(act, &self.queues.review(), &self.queues)])
            .await
            .map(drop)
    }

    /// Closes in good order. Everything that was confirmed is safe without it.
    pub async fn close(self) {
        const CLOSE: Duration = Duration::from_secs(2);
        self.link.lose("closed");
        let _ = within(CLOSE, "closing", self.publishing.close(200, "done".into())).await;
        let _ = within(CLOSE, "closing", self.connection.close(200, "done".into())).await;
    }
}

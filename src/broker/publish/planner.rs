//! What does a planner's machine need of the broker? To publish requests and announcements with confirms, and to know
//! how much is waiting. No worker, no topology of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::StreamExt as _;
use jiff::Timestamp;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ErrorKind};
use uuid::Uuid;

use crate::broker::connection::connect::{self, NoConnection};
use crate::broker::connection::link::{self, Link, SessionLost};
use crate::broker::convert::Outgoing;
use crate::broker::convert::{coarse, long, properties, short};
use crate::broker::publish::orders;
use crate::broker::publish::publisher::Publisher;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::transport::HARD;
use crate::broker::{ANSWER, within};
use crate::message::audit::Act;
use crate::message::headers;
use crate::message::result::{self, CloudEvent, Enqueued, Opened};

/// One request as it is enqueued.
#[derive(Clone, Debug)]
pub struct Enqueue {
    pub message_id: String,
    pub body: Bytes,
    pub batch: String,
    /// The generation of the batch.
    pub batch_run: Option<Uuid>,
    pub row: u64,
    pub enqueued_at: Timestamp,
    /// What orders the request, for the broker's coarse pre-sort.
    pub priority: u16,
    /// The planner's settings as headers: name and text.
    pub settings: Vec<(&'static str, String)>,
}

/// Why a planner cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PlannerError {
    #[error("{0}")]
    Settings(String),
    #[error(
        "the broker is unreachable: {0}; check that it runs, and broker.url (host, user, password, vhost), which stands in the file of -c or SLUICE_CONFIG"
    )]
    Unreachable(SessionLost),
    /// A configuration's mistake, too.
    #[error("the broker at {0}")]
    LogIn(String),
    #[error(
        "there is no {what} on the broker: start the worker once, or run `sluice topology apply`; if it was, check queues.prefix"
    )]
    Missing { what: String },
    #[error("the broker refused: {0}")]
    Refused(SessionLost),
    #[error(
        "the broker has raised a resource alarm (its memory or its disk has run out) and takes no message just now; try again when it has ended (`rabbitmqctl status` shows it)"
    )]
    Alarm,
}

impl PlannerError {
    /// The user has no right to what was wanted.
    pub fn is_no_right(&self) -> bool {
        matches!(self, Self::Refused(lost) if lost.0.contains("ACCESS_REFUSED"))
    }
}

impl From<NoConnection> for PlannerError {
    fn from(why: NoConnection) -> Self {
        match why {
            NoConnection::Settings(why) => Self::Settings(why),
            NoConnection::LogIn(why) => Self::LogIn(why),
            NoConnection::Unreachable(why) => Self::Unreachable(why),
        }
    }
}

/// A resource alarm that ends sooner is waited for.
const ALARM: Duration = Duration::from_secs(15);

/// A connection of a planner.
#[derive(Debug)]
pub struct Planner {
    connection: Connection,
    link: Arc<Link>,
    publisher: Publisher,
    queues: Queues,
    /// The queue's highest priority.
    levels: u8,
    waiting: Option<u32>,
}

impl Planner {
    /// Connects to the first broker that answers, and makes sure that the queue and the exchange are there.
    ///
    /// # Errors
    /// Says what is missing and what to do.
    pub async fn open(settings: &Settings, queues: &Queues) -> Result<Self, PlannerError> {
        let connection = connection(settings, "sluice enqueue", HARD).await?;
        let waiting = waiting(&connection, &queues.requests()).await?;
        for exchange in [queues.enqueue(), queues.batches()] {
            waiting_exchange(&connection, &exchange).await?;
        }
        let channel = connect::confirming(&connection).await.map_err(PlannerError::Refused)?;
        let link = Link::new();
        tokio::spawn(link::listen(connection.events_listener().boxed(), Arc::clone(&link)));
        let publisher = Publisher::start(&connection, channel, Arc::clone(&link), None);
        Ok(Self {
            connection,
            link,
            publisher,
            queues: queues.clone(),
            levels: queues.max_priority,
            waiting,
        })
    }

    /// Messages that wait in the queue of requests, as of the start; those that a worker holds are not among them. None: it
    /// takes a right to see it (from RabbitMQ 4.3 on that to configure the queue, which no planner needs).
    pub fn waiting(&self) -> Option<u32> {
        self.waiting
    }

    /// Publishes requests; resolves when the broker has confirmed all of them. Several calls may be under way at once.
    ///
    /// # Errors
    /// The broker refused or lost one; some of the others may have been taken.
    pub async fn enqueue(&self, requests: Vec<Enqueue>) -> Result<(), PlannerError> {
        let queue = short(&self.queues.requests());
        let messages = requests.into_iter().map(|request| self.message(&queue, request)).collect();
        self.publish(messages).await
    }

    /// What is published in a resource alarm waits for its end, and nobody is to wait for that without knowing.
    async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), PlannerError> {
        let alarm = async {
            loop {
                self.link.blocked().await;
                tokio::time::sleep(ALARM).await;
                if self.link.blocked_within(Duration::ZERO) {
                    return;
                }
            }
        };
        tokio::select! {
            published = self.publisher.publish(messages) => {
                published.map(drop).map_err(PlannerError::Refused)
            }
            () = alarm => Err(PlannerError::Alarm),
        }
    }

    fn message(&self, queue: &ShortString, request: Enqueue) -> Outgoing {
        let mut headers = FieldTable::default();
        let mut put = |name: &str, value: AMQPValue| {
            headers.insert(short(name), value);
        };
        put(headers::BATCH, long(&request.batch));
        if let Some(run) = request.batch_run {
            put(headers::BATCH_RUN, long(&run.to_string()));
        }
        put(headers::ENQUEUED_AT, long(&format!("{:.3}", request.enqueued_at)));
        put(headers::ROW, long(&request.row.to_string()));
        for (name, text) in &request.settings {
            put(name, long(text));
        }
        let properties = properties(&request.message_id, "sluice.request", request.enqueued_at)
            .with_content_type("application/json".into())
            .with_priority(coarse(request.priority, self.levels))
            .with_headers(headers);
        Outgoing {
            exchange: short(&self.queues.enqueue()),
            key: queue.clone(),
            body: request.body,
            properties,
        }
    }

    /// Has orders about requests that wait kept, for every worker that there is or will be.
    ///
    /// # Errors
    /// The broker refused it.
    pub async fn order(&self, acts: &[Act]) -> Result<(), PlannerError> {
        self.publish(acts.iter().map(|act| orders::message(act, &self.queues)).collect()).await
    }

    /// Says on the exchange of batches that one begins.
    ///
    /// # Errors
    /// The broker refused it.
    pub async fn announce_opened(&self, opened: Opened, at: Timestamp) -> Result<(), PlannerError> {
        let batch = opened.batch.clone();
        self.announce(&result::opened(opened, &self.queues.prefix, at), &batch).await
    }

    /// Says on the exchange of batches that one is complete in the queue.
    ///
    /// # Errors
    /// The broker refused it.
    pub async fn announce_enqueued(
        &self,
        enqueued: Enqueued,
        at: Timestamp,
    ) -> Result<(), PlannerError> {
        let batch = enqueued.batch.clone();
        self.announce(&result::enqueued(enqueued, &self.queues.prefix, at), &batch).await
    }

    async fn announce<T: serde::Serialize>(
        &self,
        event: &CloudEvent<T>,
        batch: &str,
    ) -> Result<(), PlannerError> {
        let message = Outgoing {
            exchange: short(&self.queues.batches()),
            key: short(&result::batch_routing_key(batch)),
            body: event.to_json().into(),
            properties: properties(&event.id, &event.kind, event.time)
                .with_content_type(result::CONTENT_TYPE.into()),
        };
        self.publish(vec![message]).await
    }

    /// Everything was confirmed, so nothing depends on how this ends.
    pub async fn close(self) {
        self.link.lose("closed");
        let _ = within(ANSWER, "closing", self.connection.close(200, "done".into())).await;
    }
}

/// How many messages wait in the queue of requests; none where this user may not see it.
///
/// # Errors
/// The broker is unreachable, or has no such queue.
pub async fn requests_waiting(
    settings: &Settings,
    queues: &Queues,
) -> Result<Option<u32>, PlannerError> {
    let connection = connection(settings, "sluice check", HARD).await?;
    let found = waiting(&connection, &queues.requests()).await;
    let _ = within(ANSWER, "closing", connection.close(200, "done".into())).await;
    found
}

/// Connects to the first of the brokers that answers.
/// Bodies of more than `longest` bytes come as empty ones.
pub(in crate::broker) async fn connection(
    settings: &Settings,
    name: &str,
    longest: u64,
) -> Result<Connection, PlannerError> {
    Ok(connect::first(settings, name, longest).await?.connection)
}

/// How many messages wait; none where this user may not see it.
pub(in crate::broker) async fn waiting(
    connection: &Connection,
    queue: &str,
) -> Result<Option<u32>, PlannerError> {
    match look_at(connection, queue).await {
        Err(error) if error.is_no_right() => Ok(None),
        found => found.map(|found| Some(found.message_count())),
    }
}

/// How many consumers there are, standing by or not.
pub(in crate::broker) async fn consumers(
    connection: &Connection,
    queue: &str,
) -> Result<u32, PlannerError> {
    look_at(connection, queue).await.map(|found| found.consumer_count())
}

/// Asks on a scratch channel, which a missing queue costs its life.
async fn look_at(connection: &Connection, queue: &str) -> Result<lapin::Queue, PlannerError> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = async {
        let channel = connection.create_channel().await?;
        let found = channel.queue_declare(short(queue), options, FieldTable::default()).await?;
        channel.close(200, "done".into()).await?;
        Ok(found)
    };
    passive(asked, &format!("queue {queue}")).await
}

async fn waiting_exchange(connection: &Connection, exchange: &str) -> Result<(), PlannerError> {
    let options = lapin::options::ExchangeDeclareOptions { passive: true, ..Default::default() };
    let asked = async {
        let channel = connection.create_channel().await?;
        let kind = lapin::ExchangeKind::Topic;
        channel.exchange_declare(short(exchange), kind, options, FieldTable::default()).await?;
        channel.close(200, "done".into()).await
    };
    match passive(asked, &format!("exchange {exchange}")).await {
        // It is there, and this user may not look at it.
        Err(error) if error.is_no_right() => Ok(()),
        looked => looked,
    }
}

/// 404 is a thing that is missing; anything else is the broker's refusal.
async fn passive<T>(
    asked: impl Future<Output = lapin::Result<T>>,
    what: &str,
) -> Result<T, PlannerError> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if is_not_found(&error) => {
            Err(PlannerError::Missing { what: what.to_owned() })
        }
        Ok(Err(error)) => {
            Err(PlannerError::Refused(SessionLost(format!("looking at {what}: {error}"))))
        }
        Err(_) => Err(PlannerError::Refused(SessionLost(format!(
            "looking at {what}: no answer in {ANSWER:?}"
        )))),
    }
}

pub(in crate::broker) fn is_not_found(error: &lapin::Error) -> bool {
    const NOT_FOUND: u16 = 404;
    matches!(error.kind(), ErrorKind::ProtocolError(amqp) if amqp.get_id() == NOT_FOUND)
}

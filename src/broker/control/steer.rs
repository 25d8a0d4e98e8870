//! How do operators' commands reach the active worker wherever it runs, and who keeps what they have set?
//!
//! The active worker binds a queue of its own to the control exchange and answers to the sender's `reply-to`. What was
//! set last is the one message of the queue `{p}.gate`: the audit stream holds the same acts, but it can only be read
//! from its beginning on, a year of dead letters with it, and a worker that takes over must not wait for that.

use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use tokio::sync::oneshot;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::broker::connection::connect;
use crate::broker::connection::link::SessionLost;
use crate::broker::convert::Outgoing;
use crate::broker::convert::{long, properties, short};
use crate::broker::doors::Door;
use crate::broker::publish::planner::{self, PlannerError, is_not_found};
use crate::broker::publish::publisher::Publisher;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::audit;
use crate::broker::transport::HARD;
use crate::broker::{ANSWER, within};
use crate::message::command::{Answer, IssuedCommand, PendingCommand, Steering, SteeringChange};

/// How often it is tried anew to reach a worker that is there and hears nothing.
const AGAIN: Duration = Duration::from_millis(500);

/// A command that nobody has taken by then is void: late it would surprise.
const VOID: Duration = Duration::from_secs(10);

/// The active worker's end of the control exchange.
#[derive(Debug)]
pub(in crate::broker) struct Control {
    consumer: Consumer,
    /// On the connection that publishes, because the broker stops the writes of such a connection in a resource alarm.
    replies: Channel,
    queues: Queues,
    /// Kept open for the consumer.
    _channel: Channel,
    /// The queue that is bound to the control exchange.
    pub(in crate::broker) queue: ShortString,
}

/// What operators have set last, as it was taken out of its queue.
#[derive(Debug)]
pub(in crate::broker) struct Kept {
    /// None: it cannot be read.
    pub(in crate::broker) steering: Option<Steering>,
    message: Outgoing,
    channel: Channel,
    tag: u64,
}

impl Kept {
    /// Publishes it anew, before everything that is published after this returns, and acknowledges it then: whatever a
    /// session requeues is counted, and where the queue has a limit of deliveries (RabbitMQ before 4.3 counts a nack as
    /// well, and from 4.0 there is a limit of 20 where none was declared) it would be gone after so many sessions.
    pub(in crate::broker) fn keep_anew(self, publisher: &Publisher) {
        let Self { message, channel, tag, .. } = self;
        let confirm = publisher.send(vec![message]);
        let keep = async move {
            // Not confirmed, it comes back with the end of the session.
            if confirm.await.is_ok() {
                let ack = channel.basic_ack(tag, BasicAckOptions::default());
                let _ = within(ANSWER, "acknowledging what operators have set", ack).await;
            }
        };
        tokio::spawn(keep.in_current_span());
    }
}

impl Control {
    /// Binds a queue, and says what operators have set last.
    pub(in crate::broker) async fn open(
        consume: &Connection,
        publish: &Connection,
        queues: &Queues,
    ) -> Result<(Self, Option<Kept>), SessionLost> {
        let replies = within(ANSWER, "opening a channel", publish.create_channel()).await?;
        let channel = within(ANSWER, "opening a channel", consume.create_channel()).await?;
        let kept = latest(&channel, queues).await?;
        let name = own_queue(&channel, queues, false).await?;
        bind(&channel, &name, queues).await.map_err(|error| {
            SessionLost(format!("binding {name} to {}: {error}", queues.control()))
        })?;
        let consumer = consume_own(&channel, &name).await?;
        let queues = queues.clone();
        Ok((Self { consumer, replies, queues, _channel: channel, queue: name }, kept))
    }

    /// The next command; `None`: the queue is gone. Cancel safe.
    pub(in crate::broker) async fn next(&mut self) -> Option<lapin::Result<Delivery>> {
        self.consumer.next().await
    }

    /// What a message commands, with the way back of the answer. What is no command is answered with what is wrong.
    pub(in crate::broker) fn heard(&self, delivery: &Delivery) -> Option<PendingCommand> {
        let (pending, answer) = match self.command(delivery) {
            Ok(issued) => {
                let (pending, answer) = PendingCommand::new(issued);
                (Some(pending), answer)
            }
            Err(error) => {
                tracing::warn!(%error, "a message on the control exchange is no command");
                let (told, answer) = oneshot::channel();
                let _ = told.send(Answer::refused(format!("this is no command: {error}")));
                (None, answer)
            }
        };
        let id = delivery.properties.correlation_id().clone().unwrap_or_default();
        if let Some(to) = delivery.properties.reply_to().clone() {
            let way = (short(&self.queues.answers()), to);
            tokio::spawn(reply(self.replies.clone(), way, id, answer).in_current_span());
        }
        pending
    }

    /// The rights to give a command go by its routing key, so it is the key's command or none: a body that says another, or a
    /// copy that `CC` or `BCC` has brought here (its key is the one that the broker has looked at), does nothing.
    fn command(&self, delivery: &Delivery) -> Result<IssuedCommand, String> {
        if Door::of(&delivery.exchange, &self.queues) != Door::Control {
            return Err(format!("it did not come through {}", self.queues.control()));
        }
        let issued = serde_json::from_slice::<IssuedCommand>(&delivery.data);
        let issued = issued.map_err(|error| error.to_string())?;
        let (is, should) = (delivery.routing_key.as_str(), issued.command.routing_key());
        if is == should {
            return Ok(issued);
        }
        Err(format!("it came with the routing key {is:?}, and is to have {should:?}"))
    }
}

/// What of the control exchange a worker hears itself; orders about requests it reads where they are kept.
const HEARD: [&str; 2] = ["gate.*", "ask.*"];

/// Binds an active worker's own queue to the control exchange; nothing happens where it is bound. A missing exchange
/// costs `channel` its life.
pub(in crate::broker) async fn bind(
    channel: &Channel,
    queue: &ShortString,
    queues: &Queues,
) -> lapin::Result<()> {
    for key in HEARD {
        let exchange = short(&queues.control());
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bound = channel.queue_bind(queue.clone(), exchange, short(key), options, arguments);
        match tokio::time::timeout(ANSWER, bound).await {
            Ok(bound) => bound?,
            Err(_) => return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
    Ok(())
}

/// Not mandatory: whoever asked may have gone, and that must not cost the session.
async fn reply(
    channel: Channel,
    (door, to): (ShortString, ShortString),
    id: ShortString,
    answer: oneshot::Receiver<Answer>,
) {
    let Ok(answer) = answer.await else { return };
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_correlation_id(id);
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish(door, to, options, &body, properties);
    if let Err(lost) = within(ANSWER, "answering an operator", publish).await {
        tracing::debug!(why = %lost, "an operator's answer was not sent");
    }
}

/// What operators have set last. Only the active worker reads and writes it, so taking it out meets nobody.
async fn latest(channel: &Channel, queues: &Queues) -> Result<Option<Kept>, SessionLost> {
    let name = queues.gate();
    let get = channel.basic_get(short(&name), BasicGetOptions::default());
    let Some(got) = within(ANSWER, &format!("reading {name}"), get).await? else { return Ok(None) };
    let delivery = got.delivery;
    if Door::of(&delivery.exchange, queues) != Door::Worker {
        let exchange = delivery.exchange.as_str();
        tracing::error!(
            queue = name,
            exchange,
            "what operators have set was replaced by somebody who is no worker; it is dropped, and all is as configured"
        );
        let ack = channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
        within(ANSWER, &format!("emptying {name}"), ack).await?;
        return Ok(None);
    }
    let read = serde_json::from_slice(&delivery.data);
    let steering: Option<Steering> = read
        .inspect_err(|error| {
            tracing::error!(%error, queue = name, "what operators have set cannot be read; it is as configured");
        })
        .ok();
    let message = Outgoing {
        exchange: short(&queues.worker()),
        key: short(&name),
        body: delivery.data.into(),
        properties: delivery.properties,
    };
    Ok(Some(Kept { steering, message, channel: channel.clone(), tag: delivery.delivery_tag }))
}

/// The messages that keep a change.
pub(in crate::broker) fn messages(change: &SteeringChange, queues: &Queues) -> Vec<Outgoing> {
    let id = change.act.id.to_string();
    let state = Outgoing {
        exchange: short(&queues.worker()),
        key: short(&queues.gate()),
        // A plain struct of texts: nothing of it can fail to be written.
        body: serde_json::to_vec(&change.steering).unwrap_or_default().into(),
        properties: properties(&id, "sluice.gate", change.act.at)
            .with_content_type("application/json".into()),
    };
    vec![audit::message(&change.act, &queues.worker(), queues), state]
}

/// A queue that goes with its connection. Named like all of ours, so that the same permissions do.
/// `once`: it goes with its consumer already.
async fn own_queue(
    channel: &Channel,
    queues: &Queues,
    once: bool,
) -> Result<ShortString, SessionLost> {
    let name = short(&format!("{}.{}", queues.control(), Uuid::new_v4().simple()));
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: once,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), long("classic"));
    let declare = channel.queue_declare(name.clone(), options, arguments);
    within(ANSWER, &format!("declaring {name}"), declare).await?;
    Ok(name)
}

async fn consume_own(channel: &Channel, queue: &ShortString) -> Result<Consumer, SessionLost> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consume = channel.basic_consume(
        queue.clone(),
        ShortString::default(),
        options,
        FieldTable::default(),
    );
    within(ANSWER, &format!("consuming {queue}"), consume).await
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NotAsked {
    #[error(transparent)]
    Broker(#[from] PlannerError),
    #[error(
        "no worker is active on {prefix}: nothing was changed; start one (`sluice run`); if one runs, check queues.prefix"
    )]
    Nobody { prefix: String },
    #[error(
        "a worker consumes {prefix}.requests, but no command reaches it: was the exchange {prefix}.control deleted? \
         Nothing was changed. A worker that may declare restores it within seconds; if not, run `sluice topology apply` and \
         try again"
    )]
    Deaf { prefix: String },
    #[error(
        "no answer within {VOID:?}: the command may have been obeyed or not; ask with `sluice gate status`"
    )]
    NoAnswer,
    #[error(
        "the broker has raised a resource alarm (memory or disk: `rabbitmqctl status` names it) and reads no command before it \
         ends; it may be obeyed then. The worker itself answers meanwhile, at its http.listen: `sluice gate status --url \
         http://127.0.0.1:9464`"
    )]
    Alarm,
}

/// Gives a command to the active worker, wherever it runs, and waits for its answer.
///
/// # Errors
/// The broker is unreachable, no worker is active, or none answers.
pub async fn ask(
    settings: &Settings,
    queues: &Queues,
    issued: &IssuedCommand,
) -> Result<Answer, NotAsked> {
    let connection = planner::connection(settings, "sluice gate", HARD).await?;
    let asked = answered(&connection, exchange_if_heard(&connection, queues, issued)).await;
    let _ = within(Duration::from_secs(2), "closing", connection.close(200, "done".into())).await;
    asked
}

/// The answer, if it comes in time, and the broker takes commands at all: that it does not it says with the first one.
async fn answered(
    connection: &Connection,
    asked: impl Future<Output = Result<Answer, NotAsked>>,
) -> Result<Answer, NotAsked> {
    let mut events = connection.events_listener();
    let alarm = async {
        while let Some(event) = events.next().await {
            if let lapin::Event::ConnectionBlocked(_) = event {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        asked = tokio::time::timeout(VOID, asked) => asked.unwrap_or(Err(NotAsked::NoAnswer)),
        () = alarm => Err(NotAsked::Alarm),
    }
}

/// A connection over which the active worker is asked again and again.
#[derive(Debug)]
pub struct Desk {
    connection: Connection,
    queues: Queues,
}

impl Desk {
    /// Connects.
    ///
    /// # Errors
    /// The settings are wrong, or no broker answers.
    pub async fn open(settings: &Settings, queues: &Queues) -> Result<Self, NotAsked> {
        let connection = planner::connection(settings, "sluice watch", HARD).await?;
        Ok(Self { connection, queues: queues.clone() })
    }

    /// Gives the command, and waits for the answer.
    ///
    /// # Errors
    /// As of [`ask`].
    pub async fn ask(&self, issued: &IssuedCommand) -> Result<Answer, NotAsked> {
        let asked = exchange_if_heard(&self.connection, &self.queues, issued);
        answered(&self.connection, asked).await
    }
}

/// Where nobody hears the command it is asked whether a worker is there all the same: the exchange may have been deleted,
/// and is bound again in a moment. What was not routed was not heard by anybody, so it may be sent again.
pub(in crate::broker) async fn exchange_if_heard(
    connection: &Connection,
    queues: &Queues,
    issued: &IssuedCommand,
) -> Result<Answer, NotAsked> {
    const PATIENCE: Duration = Duration::from_secs(8);
    let start = tokio::time::Instant::now();
    loop {
        match exchange(connection, queues, issued).await {
            Err(NotAsked::Nobody { prefix }) => {
                match planner::consumers(connection, &queues.requests()).await {
                    // Starting a worker is not all of the cure where it may declare nothing.
                    Err(missing @ PlannerError::Missing { .. }) => return Err(missing.into()),
                    Ok(0) | Err(_) => return Err(NotAsked::Nobody { prefix }),
                    Ok(_) if start.elapsed() > PATIENCE => return Err(NotAsked::Deaf { prefix }),
                    Ok(_) => tokio::time::sleep(AGAIN).await,
                }
            }
            asked => return asked,
        }
    }
}

async fn exchange(
    connection: &Connection,
    queues: &Queues,
    issued: &IssuedCommand,
) -> Result<Answer, NotAsked> {
    let refused = |lost| NotAsked::Broker(PlannerError::Refused(lost));
    let channel = connect::confirming(connection).await.map_err(refused)?;
    let answer = exchange_on(&channel, queues, issued).await;
    // Whoever asks again and again over one connection leaves no channels and no queues behind.
    let _ = within(Duration::from_secs(2), "closing", channel.close(200, "done".into())).await;
    answer
}

async fn exchange_on(
    channel: &Channel,
    queues: &Queues,
    issued: &IssuedCommand,
) -> Result<Answer, NotAsked> {
    let refused = |lost| NotAsked::Broker(PlannerError::Refused(lost));
    let back = own_queue(channel, queues, true).await.map_err(refused)?;
    let (door, none) = (short(&queues.answers()), FieldTable::default());
    let bind =
        channel.queue_bind(back.clone(), door, back.clone(), QueueBindOptions::default(), none);
    // Where no worker has ever been, not even the exchange is there.
    let nobody = || NotAsked::Nobody { prefix: queues.prefix.clone() };
    match tokio::time::timeout(ANSWER, bind).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) if is_not_found(&error) => return Err(nobody()),
        Ok(Err(error)) => {
            return Err(refused(SessionLost(format!(
                "binding {back} to {}: {error}",
                queues.answers()
            ))));
        }
        Err(_) => {
            return Err(refused(SessionLost(format!("binding {back}: the broker did not answer"))));
        }
    }
    let mut answers = consume_own(channel, &back).await.map_err(refused)?;
    let id = short(&Uuid::new_v4().to_string());
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_reply_to(back)
        .with_correlation_id(id.clone())
        .with_expiration(short(&VOID.as_millis().to_string()));
    let body = serde_json::to_vec(issued).unwrap_or_default();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (to, key) = (short(&queues.control()), issued.command.routing_key());
    let publish =
        async { channel.basic_publish(to, short(key), options, &body, properties).await?.await };
    // The same of the exchange of commands: the confirm ends with the channel.
    let published = publish.map(|published| match published {
        Err(error) if is_not_found(&error) => Ok(None),
        published => published.map(Some),
    });
    match within(ANSWER, &format!("publishing to {}", queues.control()), published).await {
        // One publish is under way on this channel, so a return can be no other's.
        Ok(Some(Confirmation::Ack(None))) => {}
        Ok(_) => return Err(nobody()),
        Err(lost) => return Err(refused(lost)),
    }
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(|error| refused(SessionLost(error.to_string())))?;
        if answer.properties.correlation_id().as_ref() == Some(&id) {
            let read = serde_json::from_slice(&answer.data);
            return read.map_err(|error| {
                refused(SessionLost(format!("the worker's answer cannot be read: {error}")))
            });
        }
    }
    Err(NotAsked::NoAnswer)
}

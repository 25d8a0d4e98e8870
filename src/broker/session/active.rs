//! Which of several workers is the active one, which of several reviewers holds the dead letters? AMQP does not tell a consumer that it is the single active one of its
//! queue, and an exclusive queue, the usual lock, stays locked from RabbitMQ 4.2 on for as long as the cluster's node
//! that held it is away. So each worker consumes `{p}.active` (each reviewer `{p}.reviewing`), a queue with a single active consumer and as replicated
//! as the requests are, and asks into it. Whoever hears a question is the active one.
//!
//! AMQP does not tell it either when it is not that any more: after a partition of a cluster another consumer is the
//! active one, and the connection never broke. So the active worker goes on asking, and who does not hear its own
//! questions any more ends its session.

use std::time::Duration;

use futures_util::stream::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::broker::connection::connect;
use crate::broker::connection::link::{Link, SessionLost};
use crate::broker::convert::short;
use crate::broker::{ANSWER, within};

/// How long a question waits for its confirm.
const CONFIRM: Duration = Duration::from_secs(3);

/// How old the latest question that the active worker has heard may be. Two of the default heartbeats, the figure that
/// docs/assumptions.md counts with ("A silent network"), and longer than a queue takes to have another leader.
const SILENCE: Duration = Duration::from_secs(10);

/// How long it may take until two questions were heard.
const TRIAL: Duration = Duration::from_secs(10);

/// One's part in it, for as long as its connections last.
#[derive(Debug)]
pub(crate) struct Candidate {
    consumer: Consumer,
    /// Kept open for the consumer.
    pub(in crate::broker) channel: Channel,
    /// On the connection that publishes, because the broker stops the writes of such a connection in a resource alarm.
    pub(in crate::broker) questions: Channel,
    queue: ShortString,
    name: Name,
    /// How often it asks.
    again: Duration,
    /// The one task that publishes on `questions`; ends with why it cannot.
    asking: JoinSet<SessionLost>,
    /// When the latest question was asked that was heard: the single active consumer was this one then.
    proven: Instant,
}

/// Tells a worker's own questions, and when they were asked. Another session has another name.
#[derive(Clone, Copy, Debug)]
struct Name {
    id: Uuid,
    began: Instant,
}

impl Candidate {
    pub(in crate::broker) async fn stand(
        consume: &Connection,
        publish: &Connection,
        (door, queue): (&str, &str),
        again: Duration,
    ) -> Result<Self, SessionLost> {
        let (door, queue) = (short(door), short(queue));
        let questions = connect::confirming(publish).await?;
        let (channel, consumer) = hear(consume, &queue).await?;
        let now = Instant::now();
        let name = Name { id: Uuid::new_v4(), began: now };
        let mut asking = JoinSet::new();
        asking.spawn(ask_on(questions.clone(), (door, queue.clone()), name, again));
        Ok(Self { consumer, channel, questions, queue, name, again, asking, proven: now })
    }

    /// Waits until this worker is the active one; `standby` is told while another one is. Cancel safe.
    pub(in crate::broker) async fn elected(
        &mut self,
        standby: impl Fn(),
    ) -> Result<(), SessionLost> {
        loop {
            tokio::select! {
                heard = heard(&mut self.consumer, &self.queue) => {
                    // Whoever asked: it is this worker that hears it.
                    heard?;
                    self.proven = Instant::now();
                    return Ok(());
                }
                Some(lost) = self.asking.join_next() => return Err(ended(lost)),
                () = tokio::time::sleep(self.again) => standby(),
            }
        }
    }

    /// Makes sure that there can be one active worker only, where the queue's arguments could not be compared: no other
    /// consumer may hear anything while this one is there. Consumers that share a queue hear in turns, so two questions
    /// heard here with none heard there are proof.
    pub(in crate::broker) async fn alone(
        &mut self,
        consume: &Connection,
    ) -> Result<(), SessionLost> {
        let (channel, mut other) = hear(consume, &self.queue).await?;
        let trial = async {
            // What was under way before the other one was there says nothing.
            let since = self.name.now();
            let mut left = 2;
            while left > 0 {
                tokio::select! {
                    biased;
                    heard = heard(&mut other, &self.queue) => {
                        heard?;
                        return Err(SessionLost(format!(
                            "{} has no single active consumer, so two workers could both be active; nothing is consumed. \
                             Have a user with the right to configure delete it and run `sluice topology apply`",
                            self.queue
                        )));
                    }
                    heard = heard(&mut self.consumer, &self.queue) => {
                        if self.name.asked(&heard?).is_some_and(|asked| asked >= since) {
                            left -= 1;
                        }
                    }
                    Some(lost) = self.asking.join_next() => return Err(ended(lost)),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(TRIAL, trial).await {
            Ok(tried) => tried?,
            Err(_) => {
                return Err(SessionLost(format!(
                    "{}: this worker did not hear its own questions in {TRIAL:?}",
                    self.queue
                )));
            }
        }
        self.proven = Instant::now();
        within(ANSWER, "closing a channel", channel.close(200, "tried".into())).await
    }

    /// Hears its own questions for as long as it is the active worker; ends with the session, or when it hears none any
    /// more. A resource alarm keeps the questions from being asked, so silence says nothing then. Cancel safe.
    pub(in crate::broker) async fn deposed(&mut self, link: &Link) -> SessionLost {
        loop {
            tokio::select! {
                biased;
                heard = heard(&mut self.consumer, &self.queue) => match heard {
                    Ok(question) => {
                        self.proven = self.proven.max(self.name.asked(&question).unwrap_or(self.proven));
                    }
                    Err(lost) => return lost,
                },
                Some(lost) = self.asking.join_next() => return ended(lost),
                () = tokio::time::sleep_until(self.proven + SILENCE) => {
                    if !link.blocked_within(SILENCE) {
                        return SessionLost(format!(
                            "no question into {} was heard for {SILENCE:?}: another worker may be the active one by now \
                             (a partition of the cluster?)",
                            self.queue
                        ));
                    }
                    self.proven = Instant::now();
                }
            }
        }
    }

    /// No more questions.
    pub(in crate::broker) fn hush(&mut self) {
        self.asking.abort_all();
    }
}

impl Name {
    /// Milliseconds since it began: what its questions carry.
    fn millis(self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// As exact as the questions are.
    fn now(self) -> Instant {
        self.began + Duration::from_millis(self.millis())
    }

    fn question(self) -> [u8; 24] {
        let mut question = [0; 24];
        question[..16].copy_from_slice(self.id.as_bytes());
        question[16..].copy_from_slice(&self.millis().to_be_bytes());
        question
    }

    /// When this question was asked; none if somebody else asked it.
    fn asked(self, question: &Delivery) -> Option<Instant> {
        let (id, millis) = question.data.split_at_checked(16)?;
        let millis = u64::from_be_bytes(millis.try_into().ok()?);
        let at = self.began.checked_add(Duration::from_millis(millis));
        at.filter(|at| id == self.id.as_bytes() && *at <= Instant::now())
    }
}

async fn hear(
    consume: &Connection,
    queue: &ShortString,
) -> Result<(Channel, Consumer), SessionLost> {
    let channel = within(ANSWER, "opening a channel", consume.create_channel()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let tag = ShortString::default();
    let consume = channel.basic_consume(queue.clone(), tag, options, FieldTable::default());
    let consumer = within(ANSWER, &format!("consuming {queue}"), consume).await?;
    Ok((channel, consumer))
}

async fn heard(consumer: &mut Consumer, queue: &ShortString) -> Result<Delivery, SessionLost> {
    match consumer.next().await {
        Some(Ok(question)) => Ok(question),
        Some(Err(error)) => Err(SessionLost(format!("consuming {queue}: {error}"))),
        None => Err(SessionLost(format!(
            "the broker ended the consuming of {queue} (was the queue deleted?)"
        ))),
    }
}

/// Asks until it cannot. A question that has no confirm (a resource alarm, a queue without a majority) is asked again: the queue
/// keeps one.
async fn ask_on(
    questions: Channel,
    to: (ShortString, ShortString),
    name: Name,
    again: Duration,
) -> SessionLost {
    loop {
        let question = name.question();
        let asked = ask(&questions, &to, &question);
        if let Ok(Err(lost)) = tokio::time::timeout(CONFIRM, asked).await {
            return lost;
        }
        tokio::time::sleep(again).await;
    }
}

async fn ask(
    questions: &Channel,
    (door, queue): &(ShortString, ShortString),
    question: &[u8],
) -> Result<(), SessionLost> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default();
    let asked = async {
        questions
            .basic_publish(door.clone(), queue.clone(), options, question, properties)
            .await?
            .await
    };
    match asked.await {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(_) => Err(SessionLost(format!("{queue} took no question (was the queue deleted?)"))),
        Err(error) => Err(SessionLost(format!("asking {queue}: {error}"))),
    }
}

fn ended(asking: Result<SessionLost, tokio::task::JoinError>) -> SessionLost {
    asking.unwrap_or_else(|error| SessionLost(format!("asking who is active: {error}")))
}

//! Which of several workers is the active one? AMQP does not tell a consumer that it is the single active one of its
//! queue, and an exclusive queue, the usual lock, stays locked from RabbitMQ 4.2 on for as long as the cluster's node
//! that held it is away. So each worker consumes `{p}.active`, a queue with a single active consumer and as replicated
//! as the requests are, and asks into it. Whoever hears a question is the active one.

use std::time::Duration;

use futures_util::stream::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};

use super::convert::short;
use super::link::SessionLost;
use super::settings::Queues;
use super::{ANSWER, within};

/// How often a standby asks.
const AGAIN: Duration = Duration::from_secs(1);

/// One worker's part in it, for as long as its session lasts.
#[derive(Debug)]
pub(super) struct Candidate {
    consumer: Consumer,
    /// Kept open for the consumer.
    pub(super) channel: Channel,
    /// On the connection that publishes, because the broker stops the writes of such a connection in an alarm.
    pub(super) questions: Channel,
    queue: ShortString,
}

impl Candidate {
    pub(super) async fn stand(
        consume: &Connection,
        publish: &Connection,
        queues: &Queues,
    ) -> Result<Self, SessionLost> {
        let queue = short(&queues.active());
        let questions = within(ANSWER, "opening a channel", publish.create_channel()).await?;
        let confirms = questions.confirm_select(ConfirmSelectOptions::default());
        within(ANSWER, "asking for confirms", confirms).await?;
        let channel = within(ANSWER, "opening a channel", consume.create_channel()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(
            queue.clone(),
            ShortString::default(),
            options,
            FieldTable::default(),
        );
        let consumer = within(ANSWER, &format!("consuming {queue}"), consume).await?;
        Ok(Self { consumer, channel, questions, queue })
    }

    /// Asks until this worker is the active one; `standby` is told while another one is. Cancel safe.
    pub(super) async fn elected(&mut self, standby: impl Fn()) -> Result<(), SessionLost> {
        let Self { consumer, questions, queue, .. } = self;
        let asking = async {
            loop {
                // A question that has no confirm (an alarm, a queue without a majority) is asked again: the queue
                // keeps one.
                if let Ok(asked) = tokio::time::timeout(ANSWER, ask(questions, queue)).await {
                    asked?;
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let waiting = async {
            loop {
                tokio::time::sleep(AGAIN).await;
                standby();
            }
        };
        tokio::select! {
            heard = heard(consumer, queue) => heard,
            lost = asking => lost,
            () = waiting => Ok(()),
        }
    }

    /// Hears the questions of standbys, which the active worker answers by being there; ends with the session. Cancel
    /// safe.
    pub(super) async fn deposed(&mut self) -> SessionLost {
        loop {
            if let Err(lost) = heard(&mut self.consumer, &self.queue).await {
                return lost;
            }
        }
    }
}

async fn heard(consumer: &mut Consumer, queue: &ShortString) -> Result<(), SessionLost> {
    match consumer.next().await {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(SessionLost(format!("consuming {queue}: {error}"))),
        None => Err(SessionLost(format!(
            "the broker ended the consuming of {queue} (was the queue deleted?)"
        ))),
    }
}

async fn ask(questions: &Channel, queue: &ShortString) -> Result<(), SessionLost> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default();
    let asked = async {
        questions
            .basic_publish(ShortString::default(), queue.clone(), options, b"", properties)
            .await?
            .await
    };
    match asked.await {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(_) => Err(SessionLost(format!("{queue} took no question (was the queue deleted?)"))),
        Err(error) => Err(SessionLost(format!("asking {queue}: {error}"))),
    }
}

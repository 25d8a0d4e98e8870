//! What lies in the dead-letter queue, and how is it held for a moment? One reviewer at a time takes everything, acts,
//! and gives the rest back.
//!
//! A queue of its own is the lock, so that a second reviewer does not see half a queue while the first gives back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ErrorKind};
use uuid::Uuid;

use super::convert::{long, short};
use super::link::SessionLost;
use super::parcels;
use super::session;
use super::spill::{Body, Spill};
use super::tool::Tool;
use super::{ANSWER, within};
use crate::contract::Rules;
use crate::review::{Letter, Parcel};

/// The most letters that one pass holds: a few kilobytes each, without their bodies.
pub(crate) const MOST: u32 = 30_000;

/// How long a pass waits for letters that the queue said it had; another consumer may have taken them.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long after the last expected letter to wait for one more.
const QUIET: Duration = Duration::from_millis(100);

/// How often a reviewer who has to wait tries again.
const AGAIN: Duration = Duration::from_millis(250);

/// One letter of a pass, all its copies.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) letter: Letter,
    pub(crate) body: Arc<Body>,
    /// The message without its body.
    pub(crate) parcel: Parcel,
    pub(crate) tags: Vec<u64>,
}

/// The whole queue, held.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    tool: &'a Tool,
    channel: Channel,
    consumer: Consumer,
    lock: Channel,
    /// In the order of the queue, by each letter's first copy.
    pub(crate) entries: Vec<Entry>,
    /// How many more there are than this pass could hold.
    pub(crate) left: u32,
    held: u32,
    acknowledged: u32,
}

/// Why there is no pass.
#[derive(Debug)]
pub(crate) enum NoPass {
    /// Somebody else is at it.
    Busy,
    Lost(SessionLost),
}

impl From<SessionLost> for NoPass {
    fn from(lost: SessionLost) -> Self {
        Self::Lost(lost)
    }
}

impl<'a> Pass<'a> {
    /// Takes the whole queue, waiting up to `patience` for another reviewer to finish.
    pub(crate) async fn take(
        tool: &'a Tool,
        rules: &Rules,
        spill: &Spill,
        patience: Duration,
    ) -> Result<Self, NoPass> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::try_take(tool).await {
                Ok(mut pass) => {
                    pass.fill(rules, spill).await?;
                    return Ok(pass);
                }
                Err(NoPass::Busy) if Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
                Err(other) => return Err(other),
            }
        }
    }

    async fn try_take(tool: &'a Tool) -> Result<Self, NoPass> {
        let lock = take_lock(tool).await?;
        let queue = tool.queues.dead_letters();
        let found = session::look_at(&lock, &queue).await?;
        // Quorum queues let an exclusive consumer in beside others.
        if found.consumer_count() > 0 {
            return Err(NoPass::Busy);
        }
        let waiting = found.message_count();
        let channel = within(ANSWER, "opening a channel", tool.connection.create_channel()).await?;
        let prefetch = u16::try_from(MOST).unwrap_or(u16::MAX);
        within(
            ANSWER,
            "setting the prefetch",
            channel.basic_qos(prefetch, BasicQosOptions::default()),
        )
        .await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consume =
            channel.basic_consume(short(&queue), "".into(), options, FieldTable::default());
        let consumer = match tokio::time::timeout(ANSWER, consume).await {
            Ok(Ok(consumer)) => consumer,
            Ok(Err(error)) if is_refusal(&error) => return Err(NoPass::Busy),
            Ok(Err(error)) => return Err(SessionLost(format!("reading {queue}: {error}")).into()),
            Err(_) => {
                return Err(
                    SessionLost(format!("reading {queue}: the broker did not answer")).into()
                );
            }
        };
        Ok(Self {
            tool,
            channel,
            consumer,
            lock,
            entries: Vec::new(),
            left: waiting,
            held: 0,
            acknowledged: 0,
        })
    }

    /// Reads what is there: as many as the queue said, and whatever comes with them.
    async fn fill(&mut self, rules: &Rules, spill: &Spill) -> Result<(), SessionLost> {
        let expected = self.left.min(MOST);
        let mut known: HashMap<Uuid, usize> = HashMap::new();
        while self.held < MOST {
            let patience = if self.held < expected { PATIENCE } else { QUIET };
            let Ok(item) = tokio::time::timeout(patience, self.consumer.next()).await else {
                break;
            };
            let delivery = match item {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => {
                    return Err(SessionLost(format!("reading dead letters: {error}")));
                }
                None => {
                    return Err(SessionLost("reading dead letters: the broker ended it".into()));
                }
            };
            self.held += 1;
            let death = parcels::death(&delivery.properties);
            let mut parcel =
                parcels::parcel(&delivery.properties, delivery.data.into_boxed_slice().into());
            let letter = Letter::read(&parcel, death, rules);
            let body = std::mem::take(&mut parcel.body);
            if let Some(&at) = known.get(&letter.id) {
                self.entries[at].add(letter, delivery.delivery_tag);
                continue;
            }
            known.insert(letter.id, self.entries.len());
            let tags = vec![delivery.delivery_tag];
            self.entries.push(Entry { letter, body: Arc::new(spill.keep(body)), parcel, tags });
        }
        self.left = self.left.saturating_sub(self.held);
        Ok(())
    }

    /// Acknowledges all copies of a letter: it is gone.
    pub(crate) async fn acknowledge(&self, tags: &[u64]) -> Result<(), SessionLost> {
        for tag in tags {
            let ack = self.channel.basic_ack(*tag, BasicAckOptions::default());
            within(ANSWER, "acknowledging", ack).await?;
        }
        Ok(())
    }

    /// Says that so many copies were acknowledged.
    pub(crate) fn count_acknowledged(&mut self, copies: usize) {
        self.acknowledged += u32::try_from(copies).unwrap_or(u32::MAX);
    }

    /// Gives back what is still held: the letters of `entries`. The lock goes with the connection, when the
    /// next reviewer finds all of them there again.
    pub(crate) async fn give_back(self) -> Result<(), SessionLost> {
        if self.tool.version.nacks_are_free() {
            let tag = self.consumer.tag();
            // Uncancelled, the consumer would be given the same letters again.
            let cancel = self.channel.basic_cancel(tag, BasicCancelOptions::default());
            within(ANSWER, "ending the pass", cancel).await?;
            for tag in self.entries.iter().flat_map(|entry| &entry.tags) {
                let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
                within(ANSWER, "giving back", self.channel.basic_nack(*tag, options)).await?;
            }
        }
        let question = self.channel.basic_qos(1, BasicQosOptions::default());
        within(ANSWER, "the last question", question).await?;
        if self.acknowledged > 0 {
            // A quorum queue's client hands on acknowledgements late, and closing forgets those.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        within(ANSWER, "closing", self.channel.close(200, "reviewed".into())).await?;
        self.wait_until_back().await
    }

    /// Giving back goes on after the channel is closed.
    async fn wait_until_back(&self) -> Result<(), SessionLost> {
        let queue = self.tool.queues.dead_letters();
        let expected = (self.held + self.left).saturating_sub(self.acknowledged);
        let deadline = Instant::now() + Duration::from_secs(2);
        while session::depth(&self.lock, &queue).await? < expected && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Entry {
    /// Another copy of the same letter: what the latest says counts.
    fn add(&mut self, letter: Letter, tag: u64) {
        let copies = self.letter.copies + 1;
        if letter.failed_at >= self.letter.failed_at {
            self.letter = letter;
        }
        self.letter.copies = copies;
        self.tags.push(tag);
    }
}

fn lock_name(tool: &Tool) -> String {
    format!("{}.reviewing", tool.queues.prefix)
}

/// The exclusive queue of whoever reviews. It ends with the review, or with the connection.
async fn take_lock(tool: &Tool) -> Result<Channel, NoPass> {
    let channel = within(ANSWER, "opening a channel", tool.connection.create_channel()).await?;
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), long("classic"));
    let name = lock_name(tool);
    let declare = channel.queue_declare(short(&name), options, arguments);
    match tokio::time::timeout(ANSWER, declare).await {
        Ok(Ok(_)) => Ok(channel),
        Ok(Err(error)) if is_refusal(&error) => Err(NoPass::Busy),
        Ok(Err(error)) => Err(SessionLost(format!("declaring {name}: {error}")).into()),
        Err(_) => Err(SessionLost(format!("declaring {name}: the broker did not answer")).into()),
    }
}

/// Somebody else has it: 405 of an exclusive queue, 403 of an exclusive consumer (and of a missing permission, which
/// says something else).
fn is_refusal(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(refused) if refused.get_id() == 405 => true,
        ErrorKind::ProtocolError(refused) => {
            refused.get_message().as_str().contains("in exclusive use")
        }
        _ => false,
    }
}

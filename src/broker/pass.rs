//! What lies in the dead-letter queue, and how is it held for a moment? One reviewer at a time takes everything, acts,
//! and gives the rest back.
//!
//! A queue of its own is the lock, so that a second reviewer does not see half a queue while the first gives back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::stream::StreamExt as _;
use jiff::Timestamp;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Consumer, ErrorKind};
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

/// How long a pass waits for letters that the queue said it had; another consumer may have taken them.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long after the last expected letter to wait for one more.
const QUIET: Duration = Duration::from_millis(100);

/// How often a reviewer who has to wait tries again.
const AGAIN: Duration = Duration::from_millis(250);

/// How the queue is taken.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) rules: &'a Rules,
    /// Where the bodies wait.
    pub(crate) spill: &'a Spill,
    /// Who takes it: what another reviewer is told.
    pub(crate) who: &'a str,
    /// The most letters.
    pub(crate) most: u32,
    /// How long to wait for another reviewer.
    pub(crate) patience: Duration,
    /// Told once who that is.
    pub(crate) on_wait: fn(&str),
}

/// One letter of a pass, all its copies.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) letter: Letter,
    pub(crate) body: Body,
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
    most: u32,
    held: u32,
    acknowledged: u32,
    /// Deliveries to be given back that are in no entry any more.
    let_go: Vec<u64>,
    /// The broker has ended the consumer: what was held is void.
    is_over: bool,
}

/// Why there is no pass.
#[derive(Debug)]
pub(crate) enum NoPass {
    /// Somebody else is at it: who.
    Busy(String),
    Lost(SessionLost),
}

impl From<SessionLost> for NoPass {
    fn from(lost: SessionLost) -> Self {
        Self::Lost(lost)
    }
}

impl<'a> Pass<'a> {
    /// Takes the whole queue, or as much as the terms allow.
    pub(crate) async fn take(tool: &'a Tool, terms: &Terms<'_>) -> Result<Self, NoPass> {
        let deadline = Instant::now() + terms.patience;
        let mut told = false;
        loop {
            match Self::try_take(tool, terms).await? {
                Taken::Pass(mut pass) => {
                    pass.fill(terms).await?;
                    return Ok(*pass);
                }
                Taken::Not(_) if told && Instant::now() < deadline => {}
                Taken::Not(busy) => {
                    let why = busy.explained(tool).await;
                    if Instant::now() >= deadline {
                        return Err(NoPass::Busy(why));
                    }
                    (terms.on_wait)(&why);
                    told = true;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_take(tool: &'a Tool, terms: &Terms<'_>) -> Result<Taken<'a>, SessionLost> {
        let Some(lock) = take_lock(tool, terms.who).await? else {
            return Ok(Taken::Not(Busy::Reviewer));
        };
        let queue = tool.queues.dead_letters();
        let found = session::look_at(&lock, &queue).await?;
        // Quorum queues let an exclusive consumer in beside others.
        if found.consumer_count() > 0 {
            return Ok(Taken::Not(Busy::Consumer));
        }
        let waiting = found.message_count();
        let channel = within(ANSWER, "opening a channel", tool.connection.create_channel()).await?;
        let prefetch = u16::try_from(terms.most).unwrap_or(u16::MAX);
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        within(ANSWER, "setting the prefetch", qos).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consume =
            channel.basic_consume(short(&queue), "".into(), options, FieldTable::default());
        let consumer = match tokio::time::timeout(ANSWER, consume).await {
            Ok(Ok(consumer)) => consumer,
            Ok(Err(error)) if is_refusal(&error) => return Ok(Taken::Not(Busy::Consumer)),
            Ok(Err(error)) => return Err(SessionLost(format!("reading {queue}: {error}"))),
            Err(_) => {
                return Err(SessionLost(format!("reading {queue}: the broker did not answer")));
            }
        };
        Ok(Taken::Pass(Box::new(Self {
            tool,
            channel,
            consumer,
            lock,
            entries: Vec::new(),
            left: waiting,
            most: u32::from(prefetch),
            held: 0,
            acknowledged: 0,
            let_go: Vec::new(),
            is_over: false,
        })))
    }

    /// Reads what is there: as many as the queue said, and whatever comes with them.
    async fn fill(&mut self, terms: &Terms<'_>) -> Result<(), SessionLost> {
        let expected = self.left.min(self.most);
        let mut known: HashMap<Uuid, usize> = HashMap::new();
        while self.held < self.most {
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
            let letter = Letter::read(&parcel, death, terms.rules);
            let body = std::mem::take(&mut parcel.body);
            if let Some(&at) = known.get(&letter.id) {
                self.entries[at].add(letter, delivery.delivery_tag);
                continue;
            }
            known.insert(letter.id, self.entries.len());
            let tags = vec![delivery.delivery_tag];
            let body = terms.spill.keep(body).map_err(|error| {
                SessionLost(format!("reading dead letters: no place for their bodies: {error}"))
            })?;
            self.entries.push(Entry { letter, body, parcel, tags });
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

    /// The letters, no longer of this pass: it only gives them back.
    pub(crate) fn let_go(&mut self) -> Vec<Entry> {
        let entries = std::mem::take(&mut self.entries);
        self.let_go.extend(entries.iter().flat_map(|entry| &entry.tags));
        entries
    }

    /// Another end of the consumer, to see when the broker ends it.
    pub(crate) fn consumer(&self) -> Consumer {
        self.consumer.clone()
    }

    /// Says that the broker has ended the consumer.
    pub(crate) fn taken_back(&mut self) {
        self.is_over = true;
    }

    /// Says that so many copies were acknowledged.
    pub(crate) fn count_acknowledged(&mut self, copies: usize) {
        self.acknowledged += u32::try_from(copies).unwrap_or(u32::MAX);
    }

    /// Gives back what is still held: the letters of `entries`. The lock goes with the connection, when the
    /// next reviewer finds all of them there again.
    pub(crate) async fn give_back(mut self) -> Result<(), SessionLost> {
        if self.is_over {
            // The rest goes back with the channel; an acknowledgement now would wake a consumer that nobody reads.
            return within(ANSWER, "closing", self.channel.close(200, "reviewed".into())).await;
        }
        if self.tool.version.nacks_are_free() {
            let tag = self.consumer.tag();
            // Uncancelled, the consumer would be given the same letters again.
            let cancel = self.channel.basic_cancel(tag, BasicCancelOptions::default());
            within(ANSWER, "ending the pass", cancel).await?;
            self.let_go();
            // In the order of the queue, which keeps it.
            self.let_go.sort_unstable();
            for tag in &self.let_go {
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

/// The exclusive queue of whoever reviews; none if somebody else has it. It ends with the review, or with the connection.
async fn take_lock(tool: &Tool, who: &str) -> Result<Option<Channel>, SessionLost> {
    let channel = within(ANSWER, "opening a channel", tool.connection.create_channel()).await?;
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), long("classic"));
    let name = lock_name(tool);
    let declare = channel.queue_declare(short(&name), options, arguments);
    match tokio::time::timeout(ANSWER, declare).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if is_refusal(&error) => return Ok(None),
        Ok(Err(error)) => return Err(SessionLost(format!("declaring {name}: {error}"))),
        Err(_) => return Err(SessionLost(format!("declaring {name}: the broker did not answer"))),
    }
    // Who it is only helps others to wait, so it may fail.
    let _ = tokio::time::timeout(ANSWER, announce(tool, who)).await;
    Ok(Some(channel))
}

/// The queue whose one message says who has the lock, or had it last.
fn name_plate(tool: &Tool) -> String {
    format!("{}.reviewer", tool.queues.prefix)
}

async fn announce(tool: &Tool, who: &str) -> lapin::Result<()> {
    const HOUR: i32 = 3_600_000;
    let channel = tool.connection.create_channel().await?;
    let name = name_plate(tool);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), long("classic"));
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-expires".into(), AMQPValue::LongInt(HOUR));
    // From 4.3 on a queue that is not durable must be exclusive.
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(short(&name), options, arguments).await?;
    let text = format!("{who}, since {:.0}", Timestamp::now());
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel.basic_publish("".into(), short(&name), options, text.as_bytes(), properties).await?;
    channel.close(200, "said".into()).await
}

/// Who says to have the lock.
async fn holder(tool: &Tool) -> lapin::Result<Option<String>> {
    let channel = tool.connection.create_channel().await?;
    let got = channel.basic_get(short(&name_plate(tool)), BasicGetOptions::default()).await?;
    let text =
        got.map(|got| String::from_utf8_lossy(&got.delivery.data).chars().take(200).collect());
    // Not acknowledged, so it goes back for the next one who asks.
    channel.close(200, "read".into()).await?;
    Ok(text)
}

/// What is in the way of a pass.
enum Busy {
    Reviewer,
    Consumer,
}

enum Taken<'a> {
    Pass(Box<Pass<'a>>),
    Not(Busy),
}

impl Busy {
    async fn explained(&self, tool: &Tool) -> String {
        let queue = tool.queues.dead_letters();
        match self {
            Self::Consumer => format!(
                "another consumer reads {queue}, and sees letters that a review would miss; stop it"
            ),
            Self::Reviewer => {
                let known = tokio::time::timeout(ANSWER, holder(tool)).await;
                match known.ok().and_then(Result::ok).flatten() {
                    Some(who) => format!("{who}, is reviewing {queue} just now"),
                    None => format!("somebody else is reviewing {queue} just now"),
                }
            }
        }
    }
}

/// Why the broker ended a consumer, once it does. What it delivers meanwhile stays unacknowledged.
pub(crate) async fn ended(mut consumer: Consumer) -> SessionLost {
    loop {
        match consumer.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                return SessionLost(format!("the broker took the letters back: {error}"));
            }
            None => {
                return SessionLost(
                    "the broker took the letters back, as it does with what is held for longer than its consumer timeout".into(),
                );
            }
        }
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

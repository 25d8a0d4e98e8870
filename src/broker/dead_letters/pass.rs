//! What lies in the dead-letter queue, and how is it held for a moment? One reviewer at a time ([`crate::broker::dead_letters::lock`]) takes
//! everything, acts, and requeues the rest.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer, ErrorKind};
use uuid::Uuid;

use crate::broker::connection::link::SessionLost;
use crate::broker::consume::interner::Aside;
use crate::broker::control::short_connection::ShortConnection;
use crate::broker::convert::short;
use crate::broker::dead_letters::lock::{AGAIN, Lock};
use crate::broker::dead_letters::parcels;
use crate::broker::dead_letters::taking::{self, DeadLetters};
use crate::broker::dead_letters::{IN_FLIGHT, letter_message, whole};
use crate::broker::doors::without_claims;
use crate::broker::settings::QueueType;
use crate::broker::transport::Restored;
use crate::broker::{ANSWER, session, topology, within};
use crate::contract::Rules;
use crate::message::parcel::Parcel;
use crate::review::DeadLetter;
use crate::worker::bodies::{Body, Spill};

/// How long a pass waits for dead letters that the queue said it had; another consumer may have taken them.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long for the first of them: a quorum queue reads hundreds of megabytes from its disk before it sends any.
const FIRST: Duration = Duration::from_secs(30);

/// How long after the last expected dead letter to wait for one more.
const QUIET: Duration = Duration::from_millis(100);

/// Half of the broker's default delivery limit: as many reviewers may be killed before one comes to its end.
const WORN_OUT: u32 = 10;

/// The tag that means all deliveries of the channel that are not acknowledged.
const ALL: u64 = 0;

/// How the queue is taken.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) rules: &'a Rules,
    /// Where the bodies wait.
    pub(crate) spill: &'a Spill,
    /// How many bytes the dead letters themselves may take in memory.
    pub(crate) room: u64,
    /// Who takes it: what another reviewer is told.
    pub(crate) who: &'a str,
    /// The most dead letters.
    pub(crate) most: u32,
    /// How long to wait for another reviewer.
    pub(crate) patience: Duration,
    /// Told once who that is.
    pub(crate) on_wait: fn(&str),
}

/// One dead letter of a pass, all its copies.
#[derive(Debug)]
pub(crate) struct HeldDeadLetter {
    pub(crate) letter: DeadLetter,
    pub(crate) body: Body,
    /// The message without its body; and without headers that are not ours, where they are aside.
    pub(in crate::broker) parcel: Parcel,
    /// The header as it came, in the file, where it is too long to be held in memory or cannot be read as it is.
    pub(in crate::broker) header: Option<Aside>,
    pub(crate) copies: Vec<Copy>,
}

/// One message of a dead letter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    pub(in crate::broker) tag: u64,
    /// How often it was requeued before, as the broker counts.
    pub(in crate::broker) returns: u32,
}

/// The whole queue, held.
#[derive(Debug)]
pub(crate) struct ReviewPass<'a> {
    tool: &'a ShortConnection,
    channel: Channel,
    consumer: Consumer,
    letters: DeadLetters,
    lock: Lock,
    /// In the order of the queue, by each dead letter's first copy.
    pub(crate) entries: Vec<HeldDeadLetter>,
    known: HashMap<Uuid, usize>,
    /// How many more there are than this pass could hold.
    pub(crate) left: u32,
    most: u32,
    held: u32,
    has_acknowledged: bool,
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

impl<'a> ReviewPass<'a> {
    /// Takes the whole queue, or as much as the terms allow.
    pub(crate) async fn take(tool: &'a ShortConnection, terms: &Terms<'_>) -> Result<Self, NoPass> {
        let deadline = Instant::now() + terms.patience;
        let lock = Lock::take(tool, terms).await?;
        let mut told = false;
        let (channel, consumer, waiting) = loop {
            if let Some(alone) = consume_alone(tool, &lock, terms).await? {
                break alone;
            }
            let why = format!(
                "another consumer reads {}, and sees dead letters that a review would miss; stop it",
                tool.queues.dead_letters()
            );
            if Instant::now() >= deadline {
                return Err(NoPass::Busy(why));
            }
            if !std::mem::replace(&mut told, true) {
                (terms.on_wait)(&why);
            }
            tokio::time::sleep(AGAIN).await;
        };
        let letters = taking::attach(&consumer, channel.id(), (tool, terms));
        let mut pass = Self {
            tool,
            channel,
            consumer,
            letters,
            lock,
            entries: Vec::new(),
            known: HashMap::new(),
            left: waiting,
            most: u32::from(prefetch(terms.most)),
            held: 0,
            has_acknowledged: false,
            is_over: false,
        };
        pass.read(pass.left.min(pass.most)).await?;
        pass.left = pass.left.saturating_sub(pass.held);
        pass.renew_worn_out().await?;
        Ok(pass)
    }

    /// Reads what is there: so many more, and whatever comes with them.
    async fn read(&mut self, expected: u32) -> Result<(), SessionLost> {
        let mut came = 0;
        while self.held < self.most {
            let patience = match came {
                _ if came >= expected => QUIET,
                0 => FIRST,
                _ => PATIENCE,
            };
            let Ok(next) = tokio::time::timeout(patience, self.letters.next()).await else {
                if self.tool.wire.is_receiving() {
                    continue;
                }
                break;
            };
            came += 1;
            // What there is no room for is delivered, and no more is known of it.
            let Some(entry) = next? else { continue };
            self.held += 1;
            if let Some(&at) = self.known.get(&entry.letter.id) {
                self.entries[at].add(entry);
            } else {
                self.known.insert(entry.letter.id, self.entries.len());
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    /// A queue that was declared before RabbitMQ 4 has its default delivery limit: what was returned 20 times is gone,
    /// and each pass returns everything. A policy could lift the limit, but nobody can see policies from here. So what
    /// comes near it is put into the queue anew, with a count of its own, before the old copy is acknowledged.
    async fn renew_worn_out(&mut self) -> Result<(), SessionLost> {
        // What is too long to be held cannot be put in anew.
        let worn = |entry: &HeldDeadLetter| {
            entry.copies.iter().any(|copy| copy.returns >= WORN_OUT)
                && entry.body.too_long().is_none()
        };
        if self.tool.queues.kind != QueueType::Quorum
            || !self.tool.version.has_default_delivery_limit()
            || !self.entries.iter().any(worn)
        {
            return Ok(());
        }
        let (tool, queue) = (self.tool, self.tool.queues.dead_letters());
        let report =
            topology::declare_one(&tool.connection, &tool.queues, tool.version, &queue).await?;
        if report.mismatches.is_empty() && report.unchecked.is_empty() {
            return Ok(());
        }
        let anew: Vec<usize> =
            (0..self.entries.len()).filter(|&at| worn(&self.entries[at])).collect();
        {
            let mut under_way = FuturesUnordered::new();
            for &at in &anew {
                if under_way.len() == IN_FLIGHT {
                    under_way.next().await.transpose()?;
                }
                under_way.push(self.renew(&self.entries[at]));
            }
            while under_way.next().await.transpose()?.is_some() {}
        }
        for &at in &anew {
            let old = std::mem::take(&mut self.entries[at].copies);
            self.entries[at].letter.copies = 0;
            self.count_acknowledged(old.len());
        }
        tracing::warn!(
            queue,
            letters = anew.len(),
            "the queue has a delivery limit, and dead letters near it were put in anew: {}",
            topology::lift_the_limit(&queue)
        );
        self.read(u32::try_from(anew.len()).unwrap_or(u32::MAX)).await
    }

    async fn renew(&self, entry: &HeldDeadLetter) -> Result<(), SessionLost> {
        let lost = |error| {
            SessionLost(format!(
                "a dead letter cannot be read back from its temporary file: {error}"
            ))
        };
        let body = entry.body.bytes().map_err(lost)?;
        let parcel = whole(&entry.letter, entry.parcel().map_err(lost)?, body);
        self.tool.publisher.publish(vec![letter_message(&self.tool.queues, &parcel)]).await?;
        self.acknowledge(&entry.copies).await
    }

    /// Acknowledges all copies of a dead letter: it is gone.
    pub(crate) async fn acknowledge(&self, copies: &[Copy]) -> Result<(), SessionLost> {
        for copy in copies {
            let ack = self.channel.basic_ack(copy.tag, BasicAckOptions::default());
            within(ANSWER, "acknowledging", ack).await?;
        }
        Ok(())
    }

    /// Why the broker ended the consumer, once it does.
    pub(crate) fn ended(&self) -> impl Future<Output = SessionLost> + 'static {
        self.letters.ended()
    }

    /// Says that the broker has ended the consumer.
    pub(crate) fn taken_back(&mut self) {
        self.is_over = true;
    }

    /// Says that so many copies were acknowledged.
    pub(crate) fn count_acknowledged(&mut self, copies: usize) {
        self.has_acknowledged |= copies > 0;
        self.held = self.held.saturating_sub(u32::try_from(copies).unwrap_or(u32::MAX));
    }

    /// Requeues what is still held. The lock goes with the connection, when the next reviewer finds all of it there
    /// again.
    pub(crate) async fn requeue(self) -> Result<(), SessionLost> {
        if self.is_over {
            // The rest is requeued with the channel; an acknowledgement now would wake a consumer that nobody reads.
            return within(ANSWER, "closing", self.channel.close(200, "reviewed".into())).await;
        }
        if self.tool.version.nacks_are_free() {
            let tag = self.consumer.tag();
            // Uncancelled, the consumer would be given the same dead letters again.
            let cancel = self.channel.basic_cancel(tag, BasicCancelOptions::default());
            within(ANSWER, "ending the pass", cancel).await?;
            // One for all is safe here, for every acknowledgement on this channel was waited for. The order stays.
            let options = BasicNackOptions { requeue: true, multiple: true };
            within(ANSWER, "requeuing", self.channel.basic_nack(ALL, options)).await?;
        }
        let question = self.channel.basic_qos(1, BasicQosOptions::default());
        within(ANSWER, "the last question", question).await?;
        if self.has_acknowledged {
            // A quorum queue's client hands on acknowledgements late, and closing forgets those.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        within(ANSWER, "closing", self.channel.close(200, "reviewed".into())).await?;
        self.wait_until_back().await
    }

    /// Requeuing goes on after the channel is closed.
    async fn wait_until_back(&self) -> Result<(), SessionLost> {
        let queue = self.tool.queues.dead_letters();
        let expected = self.held + self.left;
        let deadline = Instant::now() + Duration::from_secs(2);
        while session::look_at(&self.lock.asking, &queue).await?.message_count() < expected
            && Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl HeldDeadLetter {
    /// Another copy of the same dead letter: what the latest says counts.
    fn add(&mut self, other: Self) {
        let copies = self.letter.copies + 1;
        if other.letter.failed_at >= self.letter.failed_at {
            self.letter = other.letter;
            (self.parcel, self.header) = (other.parcel, other.header);
        }
        self.letter.copies = copies;
        self.copies.extend(other.copies);
    }

    /// The message without its body, with all of its headers.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn parcel(&self) -> io::Result<Parcel> {
        restored(&self.parcel, self.header.as_ref())
    }

    /// The dead letter, its body, and the two parts of [`HeldDeadLetter::parcel`].
    pub(crate) fn into_parts(self) -> (DeadLetter, Body, Parcel, Option<Aside>) {
        (self.letter, self.body, self.parcel, self.header)
    }
}

/// A message without its body, with all headers that may be published again.
pub(crate) fn restored(parcel: &Parcel, header: Option<&Aside>) -> io::Result<Parcel> {
    match header {
        None => Ok(parcel.clone()),
        Some(Aside { header, knows }) => {
            let Restored { properties, .. } = Restored::of(&header.bytes()?)?;
            let properties = if *knows { properties } else { without_claims(properties) };
            Ok(parcels::parcel(&properties, Bytes::new()))
        }
    }
}

fn prefetch(most: u32) -> u16 {
    u16::try_from(most).unwrap_or(u16::MAX)
}

/// A consumer of the dead letters, and how many there are; none while somebody else consumes them.
async fn consume_alone(
    tool: &ShortConnection,
    lock: &Lock,
    terms: &Terms<'_>,
) -> Result<Option<(Channel, Consumer, u32)>, SessionLost> {
    let queue = tool.queues.dead_letters();
    let found = session::look_at(&lock.asking, &queue).await?;
    // Quorum queues let an exclusive consumer in beside others.
    if found.consumer_count() > 0 {
        return Ok(None);
    }
    let channel = within(ANSWER, "opening a channel", tool.connection.create_channel()).await?;
    tool.wire.keep(channel.id(), terms.spill);
    let qos = channel.basic_qos(prefetch(terms.most), BasicQosOptions::default());
    within(ANSWER, "setting the prefetch", qos).await?;
    let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    let consume = channel.basic_consume(short(&queue), "".into(), options, FieldTable::default());
    match tokio::time::timeout(ANSWER, consume).await {
        Ok(Ok(consumer)) => Ok(Some((channel, consumer, found.message_count()))),
        Ok(Err(error)) if is_refusal(&error) => Ok(None),
        Ok(Err(error)) => Err(SessionLost(format!("reading {queue}: {error}"))),
        Err(_) => Err(SessionLost(format!("reading {queue}: the broker did not answer"))),
    }
}

/// 403 of an exclusive consumer (and of a missing permission, which says something else).
fn is_refusal(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refused) if refused.get_message().as_str().contains("in exclusive use"))
}

//! What has been published to a stream, from some point on? For `watch`, days later and from any machine.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};

use crate::broker::connection::link::SessionLost;
use crate::broker::convert::{long, short, timestamp};
use crate::broker::publish::planner::{self, PlannerError};
use crate::broker::settings::Broker as Settings;
use crate::broker::{ANSWER, within};

/// Messages under way: a stream gives nothing without a prefetch. What they take is bounded by the longest body that a
/// reader wants.
const PREFETCH: u16 = 128;
/// How long to wait for the last chunk of a stream of which the broker says that nothing is in it. Its count may be some
/// seconds old, and an empty stream says nothing at all.
const EMPTY: Duration = Duration::from_secs(3);

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    First,
    /// At the chunk that was written last.
    Last,
    /// At the chunk that holds this time: earlier messages come too.
    Time(Timestamp),
    /// Exactly at this offset.
    Offset(u64),
    /// So many messages before the end that it has when the reading begins.
    Latest(u64),
}

/// What stands at a place of a stream.
#[derive(Debug)]
pub struct StreamMessage {
    pub offset: u64,
    /// The exchange to which it was published: whose word it is.
    pub exchange: ShortString,
    /// The routing key with which it was published.
    pub key: ShortString,
    pub body: Vec<u8>,
}

/// A reader of one stream. Any number of them read at once; reading takes nothing away.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    stream: String,
    /// The offset after what was read last; `None`: nothing was.
    place: Option<u64>,
    /// The offset after what was written last when the reading began.
    end: u64,
}

impl Reader {
    /// Bodies of more than `longest` bytes are read as empty ones: whoever may publish may publish anything.
    ///
    /// # Errors
    /// The broker is unreachable, or has no such stream.
    pub async fn open(
        settings: &Settings,
        stream: &str,
        from: ReadFrom,
        longest: u64,
    ) -> Result<Self, PlannerError> {
        let newest = newest(settings, stream).await?;
        let connection = planner::connection(settings, "sluice watch", longest).await?;
        planner::waiting(&connection, stream).await?;
        let refused = PlannerError::Refused;
        let from = match from {
            // The broker would wait for the next chunk and say nothing of it.
            ReadFrom::Time(at) if newest.at.is_some_and(|newest| newest < at) => {
                ReadFrom::Offset(newest.end)
            }
            ReadFrom::Latest(count) => ReadFrom::Offset(newest.end.saturating_sub(count)),
            from => from,
        };
        let (channel, consumer) =
            consume(&connection, stream, from, PREFETCH).await.map_err(refused)?;
        let place =
            matches!(from, ReadFrom::Offset(offset) if offset >= newest.end).then_some(newest.end);
        let stream = stream.to_owned();
        let end = newest.end;
        Ok(Self { connection, channel, consumer, stream, place, end })
    }

    /// Whether all has been read that was there when the reading began.
    pub fn is_caught_up(&self) -> bool {
        self.place.unwrap_or_default() >= self.end
    }

    /// The next message; `None` if none comes within `patience`. Cancel safe.
    ///
    /// # Errors
    /// The connection was lost, or what is known to be there does not come: open another reader at the offset after
    /// the latest.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<StreamMessage>, SessionLost> {
        let delivery = match tokio::time::timeout(patience, self.consumer.next()).await {
            Err(_) => return Ok(None),
            Ok(Some(Ok(delivery))) => delivery,
            Ok(Some(Err(error))) => return Err(SessionLost(error.to_string())),
            Ok(None) => return Err(SessionLost("the broker ended the stream".to_owned())),
        };
        // Acknowledging a stream's message only asks for more, and is on its way when it is first polled: to wait for it
        // would take more time than all the rest. One at a time, since the client library sends them in any order.
        if let Some(Err(error)) = delivery.acker.ack(BasicAckOptions::default()).now_or_never() {
            return Err(SessionLost(format!("asking for more: {error}")));
        }
        let offset = place(&delivery);
        self.place = Some(offset + 1);
        let (exchange, key) = (delivery.exchange, delivery.routing_key);
        Ok(Some(StreamMessage { offset, exchange, key, body: delivery.data }))
    }

    /// The next message, up to the last one that was there when the reading began; then `None`.
    ///
    /// # Errors
    /// The connection was lost, or what is known to be there does not come.
    pub async fn next_to_the_end(&mut self) -> Result<Option<StreamMessage>, SessionLost> {
        if self.is_caught_up() {
            return Ok(None);
        }
        let next = self.next(ANSWER).await?;
        let (stream, end) = (&self.stream, self.end);
        next.map(Some).ok_or_else(|| {
            SessionLost(format!("{stream} did not go on to its offset {end} in {ANSWER:?}"))
        })
    }

    pub async fn close(self) {
        let _ = within(ANSWER, "closing", self.channel.close(200, "done".into())).await;
        let _ = within(ANSWER, "closing", self.connection.close(200, "done".into())).await;
    }
}

/// What a stream ends with.
#[derive(Debug, Default)]
struct Newest {
    /// The offset after its last message.
    end: u64,
    /// The latest time that a message of the last chunk has.
    at: Option<Timestamp>,
}

/// Looks at the last chunk, on a connection that takes no bodies: a chunk may have thousands.
async fn newest(settings: &Settings, stream: &str) -> Result<Newest, PlannerError> {
    let connection = planner::connection(settings, "sluice watch", 0).await?;
    let is_empty = planner::waiting(&connection, stream).await? == Some(0);
    let patience = if is_empty { EMPTY } else { ANSWER };
    let newest = last_chunk(&connection, stream, patience).await.map_err(PlannerError::Refused);
    let _ = within(ANSWER, "closing", connection.close(200, "done".into())).await;
    newest
}

/// The broker sends a chunk whole before it answers anything else on the channel: what has come when the answer is there is
/// all of it.
async fn last_chunk(
    connection: &Connection,
    stream: &str,
    patience: Duration,
) -> Result<Newest, SessionLost> {
    let (channel, mut consumer) = consume(connection, stream, ReadFrom::Last, u16::MAX).await?;
    let mut next = tokio::time::timeout(patience, consumer.next()).await.unwrap_or_default();
    let qos = channel.basic_qos(u16::MAX, BasicQosOptions::default());
    within(ANSWER, "waiting for the last chunk", qos).await?;
    let mut newest = Newest::default();
    while let Some(delivery) = next {
        let delivery = delivery.map_err(|error| SessionLost(error.to_string()))?;
        newest.end = newest.end.max(place(&delivery) + 1);
        newest.at = newest.at.max(delivery.properties.timestamp().and_then(timestamp));
        next = consumer.next().now_or_never().flatten();
    }
    Ok(newest)
}

async fn consume(
    connection: &Connection,
    stream: &str,
    from: ReadFrom,
    prefetch: u16,
) -> Result<(Channel, Consumer), SessionLost> {
    let channel = within(ANSWER, "opening a channel", connection.create_channel()).await?;
    let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
    within(ANSWER, "setting the prefetch", qos).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), offset(from));
    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume(short(stream), "".into(), options, arguments);
    let consumer = within(ANSWER, &format!("reading {stream}"), consume).await?;
    Ok((channel, consumer))
}

fn offset(from: ReadFrom) -> AMQPValue {
    match from {
        ReadFrom::First => long("first"),
        // Where the end is, whoever reads the latest ones finds out first.
        ReadFrom::Last | ReadFrom::Latest(_) => long("last"),
        ReadFrom::Time(at) => {
            AMQPValue::Timestamp(u64::try_from(at.as_second()).unwrap_or_default())
        }
        ReadFrom::Offset(offset) => {
            AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
        }
    }
}

fn place(delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    let found = headers.and_then(|headers| headers.inner().get("x-stream-offset"));
    match found {
        Some(AMQPValue::LongLongInt(offset)) => u64::try_from(*offset).unwrap_or_default(),
        _ => 0,
    }
}

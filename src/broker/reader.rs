//! What has been published to a stream, from some point on? For `watch`, days later and from any machine.

use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer};

use super::convert::{long, short};
use super::link::SessionLost;
use super::planner::{self, PlannerError};
use super::settings::Broker as Settings;
use super::{ANSWER, within};

/// Messages under way: a stream gives nothing without a prefetch.
const PREFETCH: u16 = 500;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    First,
    /// At the chunk that was written last.
    Last,
    /// At the chunk that holds this time: earlier messages come too.
    Time(Timestamp),
    /// What is published from now on.
    Next,
    /// Exactly at this offset.
    Offset(u64),
}

/// A reader of one stream. Any number of them read at once; reading takes nothing away.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    /// What came and is not acknowledged yet: whoever gives up waiting gets it the next time.
    read: Option<Delivery>,
}

impl Reader {
    /// # Errors
    /// The broker is out of reach, or has no such stream.
    pub async fn open(settings: &Settings, stream: &str, from: From) -> Result<Self, PlannerError> {
        let connection = planner::connection(settings, "sluice watch").await?;
        planner::waiting(&connection, stream).await?;
        let refused = PlannerError::Refused;
        let channel = within(ANSWER, "opening a channel", connection.create_channel())
            .await
            .map_err(refused)?;
        let qos = channel.basic_qos(PREFETCH, BasicQosOptions::default());
        within(ANSWER, "setting the prefetch", qos).await.map_err(refused)?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), offset(from));
        let options = BasicConsumeOptions::default();
        let consume = channel.basic_consume(short(stream), "".into(), options, arguments);
        let consumer =
            within(ANSWER, &format!("reading {stream}"), consume).await.map_err(refused)?;
        Ok(Self { connection, channel, consumer, read: None })
    }

    /// The next message's offset and body; `None` if none comes within `patience`: then the reader has seen all there
    /// is. Cancel safe.
    ///
    /// # Errors
    /// The connection was lost: open another reader at the offset after the latest.
    pub async fn next(
        &mut self,
        patience: Duration,
    ) -> Result<Option<(u64, Vec<u8>)>, SessionLost> {
        if self.read.is_none() {
            self.read = match tokio::time::timeout(patience, self.consumer.next()).await {
                Err(_) => return Ok(None),
                Ok(Some(Ok(delivery))) => Some(delivery),
                Ok(Some(Err(error))) => return Err(SessionLost(error.to_string())),
                Ok(None) => return Err(SessionLost("the broker ended the stream".to_owned())),
            };
        }
        if let Some(delivery) = &self.read {
            // Acknowledging a stream's message only asks for more. A second time says and does nothing.
            let ack = delivery.acker.ack(BasicAckOptions::default());
            within(ANSWER, "asking for more", ack).await?;
        }
        Ok(self.read.take().map(|delivery| (place(&delivery), delivery.data)))
    }

    pub async fn close(self) {
        let _ = within(ANSWER, "closing", self.channel.close(200, "done".into())).await;
        let _ = within(ANSWER, "closing", self.connection.close(200, "done".into())).await;
    }
}

fn offset(from: From) -> AMQPValue {
    match from {
        From::First => long("first"),
        From::Last => long("last"),
        From::Next => long("next"),
        From::Time(at) => AMQPValue::Timestamp(u64::try_from(at.as_second()).unwrap_or_default()),
        From::Offset(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
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

//! How does a worker learn of all orders about requests that wait? It reads the whole stream of them before its session
//! starts anything, and goes on reading: the stream's order is the orders'.

use lapin::Channel;

use crate::broker::connection::link::SessionLost;
use crate::broker::convert::{Outgoing, properties, short};
use crate::broker::doors::Door;
use crate::broker::publish::publisher::Publisher;
use crate::broker::session;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::audit;
use crate::broker::streams::reader::{ReadFrom, Reader, StreamMessage};
use crate::message::audit::Act;
use crate::message::command::one_line;

/// No order of ours is longer, and anybody may publish one.
const LONGEST: u64 = 64 << 10;

/// The worker's end of the stream.
#[derive(Debug)]
pub(in crate::broker) struct OrderReader {
    reader: Reader,
    queues: Queues,
}

impl OrderReader {
    /// Reads all orders so far, and goes on from there with [`OrderReader::next`].
    pub(in crate::broker) async fn open(
        settings: &Settings,
        queues: &Queues,
        publisher: &Publisher,
        asking: &Channel,
    ) -> Result<(Self, Vec<Act>), SessionLost> {
        let stream = queues.orders();
        // An empty stream says nothing of itself for seconds; with a first message in it, it says at once where it ends.
        if session::look_at(asking, &stream).await?.message_count() == 0 {
            publisher.publish(vec![first(queues)]).await?;
        }
        let read =
            |error: &dyn std::fmt::Display| SessionLost(format!("reading {stream}: {error}"));
        let opened = Reader::open(settings, &stream, ReadFrom::First, LONGEST).await;
        let mut reader = opened.map_err(|error| read(&error))?;
        let mut before = Vec::new();
        while let Some(message) = reader.next_to_the_end().await? {
            before.extend(order(&message, queues));
        }
        Ok((Self { reader, queues: queues.clone() }, before))
    }

    /// The next order; pending while there is none. Cancel safe.
    pub(in crate::broker) async fn next(&mut self) -> Result<Act, SessionLost> {
        loop {
            if let Some(message) = self.reader.next(TURN).await?
                && let Some(act) = order(&message, &self.queues)
            {
                return Ok(act);
            }
        }
    }

    pub(in crate::broker) async fn close(self) {
        self.reader.close().await;
    }
}

/// The reader asks for nothing while it waits.
const TURN: std::time::Duration = std::time::Duration::from_secs(60);

/// What is no order, or did not come by the way of orders, is passed over: whoever may publish may publish anything.
fn order(message: &StreamMessage, queues: &Queues) -> Option<Act> {
    if Door::of(&message.exchange, queues) != Door::Control {
        return None;
    }
    let act = audit::order(message)?;
    Some(Act { who: one_line(&act.who), why: act.why.as_deref().map(one_line), ..act })
}

/// Says nothing.
fn first(queues: &Queues) -> Outgoing {
    Outgoing {
        exchange: short(&queues.worker()),
        key: short(&queues.orders()),
        body: b"{}".as_slice().into(),
        properties: properties("first", "sluice.orders.first", jiff::Timestamp::now()),
    }
}

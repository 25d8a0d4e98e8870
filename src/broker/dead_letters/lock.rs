//! Who reviews the dead letters just now? One at a time, so that a second reviewer does not see half a queue while the
//! first requeues. The lock is [`crate::broker::session::active`]'s on a queue of its own; it ends with the reviewer's connection.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use crate::broker::control::short_connection::ShortConnection;
use crate::broker::convert::{long, short};
use crate::broker::dead_letters::pass::{NoPass, Terms};
use crate::broker::session::active::Candidate;
use crate::broker::{ANSWER, session, topology, within};

/// How often a reviewer who has to wait tries again.
pub(in crate::broker) const AGAIN: Duration = Duration::from_millis(250);

/// How long a question may take to come back to who asked it, with nobody else there: once it has left the queue ...
const QUICK: Duration = Duration::from_secs(1);
/// ... and before.
const SLOW: Duration = Duration::from_secs(5);

/// Held until its connection is closed.
#[derive(Debug)]
pub(in crate::broker) struct Lock {
    _candidate: Candidate,
    /// For questions, such as how long a queue is.
    pub(in crate::broker) asking: Channel,
}

impl Lock {
    /// Waits for it as long as the terms say.
    pub(in crate::broker) async fn take(
        tool: &ShortConnection,
        terms: &Terms<'_>,
    ) -> Result<Self, NoPass> {
        let began = Instant::now();
        let (door, queue) = (tool.queues.review(), tool.queues.reviewing());
        if tool.queues.declare {
            topology::declare_one(&tool.connection, &tool.queues, tool.version, &queue).await?;
        }
        let (consume, publish) = (&tool.connection, &tool.connection);
        let asking = within(ANSWER, "opening a channel", tool.connection.create_channel()).await?;
        let mut candidate = Candidate::stand(consume, publish, (&door, &queue), AGAIN).await?;
        let mut told = false;
        {
            let elected = candidate.elected(|| {});
            tokio::pin!(elected);
            loop {
                tokio::select! {
                    elected = &mut elected => break elected?,
                    () = tokio::time::sleep(AGAIN) => {}
                }
                // Somebody else heard the question. (A quorum queue does not count those who wait.)
                // Nothing on a blocked connection is answered.
                let taken = !tool.is_blocked()
                    && session::look_at(&asking, &queue).await?.message_count() == 0;
                if began.elapsed() < if taken { QUICK } else { SLOW } {
                    continue;
                }
                let is_over = began.elapsed() >= terms.patience;
                if is_over || !told {
                    let why = why_not(tool).await;
                    if is_over {
                        return Err(NoPass::Busy(why));
                    }
                    (terms.on_wait)(&why);
                    told = true;
                }
            }
        }
        candidate.hush();
        // Who it is only helps others to wait, so it may fail.
        let _ = tokio::time::timeout(ANSWER, announce(tool, terms.who)).await;
        Ok(Self { _candidate: candidate, asking })
    }
}

async fn why_not(tool: &ShortConnection) -> String {
    let queue = tool.queues.dead_letters();
    if tool.is_blocked() {
        return format!(
            "the broker takes nothing just now (a resource alarm: its memory or its disk), so {queue} cannot be reviewed"
        );
    }
    let known = tokio::time::timeout(ANSWER, holder(tool)).await;
    match known.ok().and_then(Result::ok).flatten() {
        Some(who) => format!("{who}, is reviewing {queue} just now"),
        None => format!("somebody else is reviewing {queue} just now"),
    }
}

async fn announce(tool: &ShortConnection, who: &str) -> lapin::Result<()> {
    const HOUR: i32 = 3_600_000;
    let channel = tool.connection.create_channel().await?;
    let (door, name) = (short(&tool.queues.review()), short(&tool.queues.reviewer()));
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), long("classic"));
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-expires".into(), AMQPValue::LongInt(HOUR));
    // From 4.3 on a queue that is not durable must be exclusive.
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.clone(), options, arguments).await?;
    let (bind, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(name.clone(), door.clone(), name.clone(), bind, none).await?;
    let text = format!("{who}, since {:.0}", Timestamp::now());
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel.basic_publish(door, name, options, text.as_bytes(), properties).await?;
    channel.close(200, "said".into()).await
}

/// Who says to have the lock, or had it last.
async fn holder(tool: &ShortConnection) -> lapin::Result<Option<String>> {
    let channel = tool.connection.create_channel().await?;
    let got = channel.basic_get(short(&tool.queues.reviewer()), BasicGetOptions::default()).await?;
    let text =
        got.map(|got| String::from_utf8_lossy(&got.delivery.data).chars().take(200).collect());
    // Not acknowledged, so it is requeued for the next one who asks.
    channel.close(200, "read".into()).await?;
    Ok(text)
}

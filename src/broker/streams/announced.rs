//! Was a batch of this id announced before, from whatever machine? Looks through what the results stream ends with, in
//! bounded time: an id that is used again is another batch, and its planner is to know.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::follow::{self, LONGEST};
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::{PlannerError, ReadFrom, Reader};
use crate::message::result::Event;

/// So many messages are looked through, the latest. Results of some hundred plans are fewer.
const LOOKED_THROUGH: u64 = 100_000;
/// For so long at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the stream says of a batch id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The announcement that came last: when, by whom, of which plan, how many requests.
    pub latest: Option<(Timestamp, String, String, u64)>,
    /// How many announcements there are.
    pub announcements: u64,
    /// How many results: other clients announce nothing.
    pub results: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Of the ids that were looked for, those that the stream knows.
    pub known: BTreeMap<String, Known>,
    /// What is older was not looked at.
    pub since: Option<Timestamp>,
}

/// Why nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum NotLooked {
    #[error(transparent)]
    Broker(#[from] PlannerError),
    #[error("the results stream was not read to its end in {PATIENCE:?}")]
    TooSlow,
}

/// Looks for batch ids in the results stream, to the end that it had when this began.
///
/// # Errors
/// The stream cannot be read, or not in time.
pub async fn announced(
    settings: &Settings,
    queues: &Queues,
    batches: &[&str],
) -> Result<Looked, NotLooked> {
    let looked = tokio::time::timeout(PATIENCE, look(settings, queues, batches));
    looked.await.map_err(|_| NotLooked::TooSlow)?
}

async fn look(settings: &Settings, queues: &Queues, batches: &[&str]) -> Result<Looked, NotLooked> {
    let from = ReadFrom::Latest(LOOKED_THROUGH);
    let mut reader = Reader::open(settings, &queues.results_log(), from, LONGEST).await?;
    let (mut looked, mut read) = (Looked::default(), 0);
    let mut first = None;
    while let Some(message) = reader.next_to_the_end().await.map_err(PlannerError::Refused)? {
        read += 1;
        let Some(event) = follow::event(&message, queues) else { continue };
        first = first.or(Some(time(&event)));
        let Some(batch) = batch(&event).filter(|batch| batches.contains(batch)) else { continue };
        let known = looked.known.entry(batch.to_owned()).or_default();
        match event {
            Event::Opened(event) => {
                let data = event.data;
                known.announcements += 1;
                known.latest = Some((event.time, data.by, data.plan, data.total));
            }
            Event::Enqueued(_) => {}
            Event::Result(_) => known.results += 1,
        }
    }
    reader.close().await;
    looked.since = first.filter(|_| read >= LOOKED_THROUGH);
    Ok(looked)
}

fn batch(event: &Event) -> Option<&str> {
    match event {
        Event::Opened(event) => Some(&event.data.batch),
        Event::Enqueued(event) => Some(&event.data.batch),
        Event::Result(event) => event.data.batch.as_deref(),
    }
}

fn time(event: &Event) -> Timestamp {
    match event {
        Event::Opened(event) => event.time,
        Event::Enqueued(event) => event.time,
        Event::Result(event) => event.time,
    }
}

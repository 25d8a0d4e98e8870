//! How does a plan get into the queue? Row by row, with pipelined confirms, and so that doing it again after a crash at
//! any point completes it and doubles nothing: ids and times come from the batch, not from the moment.

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use uuid::Uuid;

use crate::broker::{Enqueue, Planner, PlannerError};
use crate::contract::View;
use crate::message::headers;
use crate::plan::{self, Fingerprint, Plan, PlanError, Row, RowSettings};
use crate::planner::JournalError;
use crate::planner::batch::{EnqueuedRow, Journal, Made};
use crate::planner::changes::is_enqueued;

/// Rows that are confirmed together; bodies beyond so many bytes begin the next chunk.
const CHUNK_ROWS: usize = 200;
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks under way at once: enough to hide the way to the broker, and 16 MiB of bodies at most.
const UNDER_WAY: usize = 8;

/// Any fixed UUID serves; changing it would send a batch that was begun before a second time.
const SPACE: Uuid = Uuid::from_u128(0x71b1_8f0a_3d56_4be1_9d1e_0c4f_66a1_5e21);

/// Why a plan is not, or not wholly, in the queue.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Broker(#[from] PlannerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(
        "the plan was changed while it was being enqueued; compare it with what is in the queue"
    )]
    Changed,
}

/// The identity of a request: the same however often its batch is gone on with, another one in each generation.
pub fn message_id(generation: &str, source_server_id: &str, body: &[u8]) -> Uuid {
    let space = Uuid::new_v5(&SPACE, generation.as_bytes());
    let mut name = Vec::with_capacity(source_server_id.len() + 1 + body.len());
    name.extend_from_slice(source_server_id.as_bytes());
    name.push(0);
    name.extend_from_slice(body);
    Uuid::new_v5(&space, &name)
}

/// Publishes the valid rows of `plan` that are not in the queue yet: of a batch that was begun those after the confirmed ones,
/// of an addition those that are new or changed. `told` hears how many are in the queue.
///
/// # Errors
/// Some rows may be in the queue: doing it again goes on.
pub async fn publish(
    planner: &Planner,
    plan: Plan,
    made: &Made,
    journal: &mut Journal,
    mut told: impl FnMut(u64),
) -> Result<(), EnqueueError> {
    let mut done = made.confirmed;
    let mut under_way = FuturesOrdered::new();
    let mut chunks = Chunks::new(plan, made);
    loop {
        let chunk = if under_way.len() < UNDER_WAY { chunks.next()? } else { None };
        if let Some(Chunk { messages, rows }) = chunk {
            under_way.push_back(async move { planner.enqueue(messages).await.map(|()| rows) });
            continue;
        }
        match under_way.next().await {
            Some(rows) => {
                let rows = rows?;
                done += rows.len() as u64;
                journal.confirmed(done, rows)?;
                told(done);
            }
            None => break,
        }
    }
    if chunks.fingerprint.finish() == made.digest() { Ok(()) } else { Err(EnqueueError::Changed) }
}

type Rows = Box<dyn Iterator<Item = Result<(Row, View), PlanError>> + Send>;

/// Rows that are published together.
#[derive(Default)]
struct Chunk {
    messages: Vec<Enqueue>,
    rows: Vec<EnqueuedRow>,
}

/// The rows of a plan as messages, a chunk at a time.
struct Chunks<'a> {
    rows: std::iter::Fuse<Rows>,
    made: &'a Made,
    generation: String,
    skip: u64,
    fingerprint: Fingerprint,
}

impl<'a> Chunks<'a> {
    fn new(plan: Plan, made: &'a Made) -> Self {
        let rows: Rows = Box::new(plan::valid(plan));
        Self {
            rows: rows.fuse(),
            made,
            generation: made.generation(),
            skip: made.confirmed,
            fingerprint: Fingerprint::default(),
        }
    }

    fn next(&mut self) -> Result<Option<Chunk>, PlanError> {
        let (mut chunk, mut bytes) = (Chunk::default(), 0);
        while chunk.rows.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
            let Some(row) = self.rows.next() else { break };
            let (row, view) = row?;
            self.fingerprint.add(&row);
            if self.made.addition.is_some() && is_enqueued(&row, &view, &self.made.rows) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            bytes += row.body.len();
            let id = message_id(&self.generation, &view.source_server_id, &row.body);
            chunk.messages.push(self.message(id, &row, &view));
            chunk.rows.push(EnqueuedRow {
                row: row.number,
                id,
                source: view.source_server_id.into(),
                name: view.name.into(),
                digest: plan::row_digest(&row).into(),
            });
        }
        Ok(Some(chunk).filter(|chunk| !chunk.rows.is_empty()))
    }

    fn message(&self, id: Uuid, row: &Row, view: &View) -> Enqueue {
        let head = &self.made.head;
        let mut settings = headers(&row.settings);
        settings.push((headers::TRACEPARENT, traceparent(id)));
        Enqueue {
            message_id: id.to_string(),
            body: row.body.clone(),
            batch: head.batch.clone(),
            batch_run: head.run,
            row: row.number,
            enqueued_at: self.made.enqueued_at(),
            priority: row.settings.priority.unwrap_or(view.priority),
            settings,
        }
    }
}

/// A trace begins with the request that is enqueued, and is found by its message id; recorded it is wherever somebody
/// records traces.
fn traceparent(id: Uuid) -> String {
    let parent = Uuid::new_v5(&SPACE, id.as_bytes()).as_u64_pair().0;
    format!("00-{}-{parent:016x}-01", id.simple())
}

/// The settings of a row, as headers of its message.
pub(crate) fn headers(settings: &RowSettings) -> Vec<(&'static str, String)> {
    let RowSettings { not_before, deadline, priority, again } = settings;
    let texts = [
        (headers::NOT_BEFORE, not_before.map(|at| at.to_string())),
        (headers::DEADLINE, deadline.map(|at| at.to_string())),
        (headers::PRIORITY, priority.map(|priority| priority.to_string())),
        (headers::AGAIN, again.map(|again| again.to_string())),
    ];
    texts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

#[cfg(test)]
mod tests {
    use super::{message_id, traceparent};

    #[test]
    fn a_trace_is_found_by_the_message_id() {
        let id = message_id("b", "src", b"{}");
        let parent = traceparent(id);
        let parts: Vec<&str> = parent.split('-').collect();
        assert_eq!((parts[0], parts[1], parts[3]), ("00", &*id.simple().to_string(), "01"));
        assert!(parts[2].len() == 16 && parts[2] != "0000000000000000", "{parent}");
        assert_eq!(parent, traceparent(id), "the same, however often it is enqueued");
    }

    #[test]
    fn a_message_id_is_of_generation_server_and_body_and_nothing_else() {
        let id = message_id("b", "src", b"{}");
        assert_eq!(id, message_id("b", "src", b"{}"));
        let others = [
            message_id("c", "src", b"{}"),
            message_id("b", "srd", b"{}"),
            message_id("b", "src", b"{ }"),
        ];
        assert!(others.iter().all(|other| *other != id));
    }
}

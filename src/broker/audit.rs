//! How do acts get into the audit stream, and out of it?

use std::time::Duration;

use super::ANSWER;
use super::convert::{properties, short};
use super::link::SessionLost;
use super::planner::PlannerError;
use super::publisher::Outgoing;
use super::reader::{From, Reader};
use super::settings::{Broker as Settings, Queues};
use crate::review::audit::Act;

/// The message that puts an act into the stream.
pub(crate) fn message(act: &Act, queues: &Queues) -> Outgoing {
    let kind = format!("sluice.audit.{}", act.action.as_str());
    Outgoing {
        exchange: short(""),
        key: short(&queues.audit()),
        // An act is a plain struct of texts, numbers and JSON: nothing of it can fail to be written.
        body: serde_json::to_vec(act).unwrap_or_default().into(),
        properties: properties(&act.id.to_string(), &kind, act.at)
            .with_content_type("application/json".into()),
    }
}

/// How long to wait for a message of the last chunk: only an empty stream has none.
const FIRST: Duration = Duration::from_millis(1500);

/// How long after an act of the last chunk to wait for the next one. A chunk comes without a pause.
const QUIET: Duration = Duration::from_millis(400);

/// All acts so far, oldest first; what is no act of ours is passed over.
#[derive(Debug)]
pub(crate) struct Acts {
    reader: Reader,
    /// Where the last chunk began when the reading began. A stream tells no end: up to here there is more to come,
    /// however long the broker takes.
    last: Option<u64>,
    patience: Duration,
}

impl Acts {
    pub(crate) async fn open(settings: &Settings, queues: &Queues) -> Result<Self, PlannerError> {
        let stream = queues.audit();
        let mut end = Reader::open(settings, &stream, From::Last).await?;
        let last = end.next(FIRST).await.map_err(PlannerError::OutOfReach)?;
        end.close().await;
        let reader = Reader::open(settings, &stream, From::First).await?;
        Ok(Self { reader, last: last.map(|(offset, _)| offset), patience: ANSWER })
    }

    /// The next act; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Act>, PlannerError> {
        let Some(last) = self.last else { return Ok(None) };
        loop {
            let next = self.reader.next(self.patience).await.map_err(PlannerError::OutOfReach)?;
            let Some((offset, body)) = next else { break };
            if offset >= last {
                self.patience = QUIET;
            }
            if let Ok(act) = serde_json::from_slice(&body) {
                return Ok(Some(act));
            }
        }
        if self.patience == QUIET {
            return Ok(None);
        }
        let why = format!("the audit stream did not go on to offset {last} in {ANSWER:?}");
        Err(PlannerError::OutOfReach(SessionLost(why)))
    }

    pub(crate) async fn close(self) {
        self.reader.close().await;
    }
}

//! How do acts get into the audit stream, and out of it?

use crate::broker::convert::Outgoing;
use crate::broker::convert::{properties, short};
use crate::broker::publish::planner::PlannerError;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::reader::{ReadFrom, Reader};
use crate::broker::transport::HARD;
use crate::message::audit::Act;

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

/// All acts so far, oldest first; what is no act of ours is passed over.
#[derive(Debug)]
pub(crate) struct Acts(Reader);

impl Acts {
    pub(crate) async fn open(settings: &Settings, queues: &Queues) -> Result<Self, PlannerError> {
        Reader::open(settings, &queues.audit(), ReadFrom::First, HARD).await.map(Self)
    }

    /// The next act; `None` after the last that was there when the reading began.
    pub(crate) async fn next(&mut self) -> Result<Option<Act>, PlannerError> {
        while let Some(body) = self.0.next_to_the_end().await.map_err(PlannerError::Unreachable)? {
            if let Ok(act) = serde_json::from_slice(&body) {
                return Ok(Some(act));
            }
        }
        Ok(None)
    }

    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

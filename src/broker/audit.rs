//! How do acts get into the audit stream, and out of it?

use std::time::Duration;

use super::convert::{properties, short};
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

/// How long to wait for the first act: the broker looks for the beginning of the stream.
const FIRST: Duration = Duration::from_millis(1500);

/// How long after an act to wait for the next one. A stream tells no end, but sends what it has without a pause.
const QUIET: Duration = Duration::from_millis(400);

/// All acts that `wanted` wants, oldest first; what is no act of ours is passed over.
pub(crate) async fn acts(
    settings: &Settings,
    queues: &Queues,
    wanted: impl Fn(&Act) -> bool,
) -> Result<Vec<Act>, PlannerError> {
    let mut reader = Reader::open(settings, &queues.audit(), From::First).await?;
    let mut acts = Vec::new();
    let mut patience = FIRST;
    while let Some((_, body)) = reader.next(patience).await.map_err(PlannerError::OutOfReach)? {
        patience = QUIET;
        if let Ok(act) = serde_json::from_slice::<Act>(&body)
            && wanted(&act)
        {
            acts.push(act);
        }
    }
    reader.close().await;
    Ok(acts)
}

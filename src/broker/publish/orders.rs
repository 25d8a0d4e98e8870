//! How does an order about requests that wait outlive every worker? It is published to the control exchange, which keeps it
//! in a stream of its own and in the audit stream; nobody needs a worker for it.

use crate::broker::convert::{Outgoing, properties, short};
use crate::broker::settings::Queues;
use crate::message::audit::Act;

/// The message that has an order kept.
pub(in crate::broker) fn message(act: &Act, queues: &Queues) -> Outgoing {
    let action = act.action.as_str();
    Outgoing {
        exchange: short(&queues.control()),
        key: short(&key(act)),
        // An act is a plain struct of texts, numbers and JSON: nothing of it can fail to be written.
        body: serde_json::to_vec(act).unwrap_or_default().into(),
        properties: properties(&act.id.to_string(), &format!("sluice.order.{action}"), act.at)
            .with_content_type("application/json".into()),
    }
}

/// The routing key by which an order is published: rights to order go by it.
pub(in crate::broker) fn key(act: &Act) -> String {
    format!("batch.{}", act.action.as_str())
}

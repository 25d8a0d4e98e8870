//! Which headers does a message have, and how is each written?

use serde_json::{Map, Value, json};

use crate::core::Outcome;
use crate::message::headers;

/// The headers of a request, all of them optional.
pub(super) fn request() -> Value {
    object(&request_properties())
}

fn request_properties() -> Map<String, Value> {
    let time =
        |about: &str| json!({ "type": "string", "format": "date-time", "description": about });
    let number = |most: u64, about: &str| json!({ "type": ["integer", "string"], "minimum": 0, "maximum": most, "description": about });
    let properties = [
        (
            headers::BATCH,
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "description": "The batch that it belongs to" }),
        ),
        (
            headers::BATCH_RUN,
            json!({ "type": "string", "format": "uuid", "description": "The generation of the batch: an id that is used again is another batch" }),
        ),
        (
            headers::ENQUEUED_AT,
            time("When it was enqueued, in milliseconds; else the property `timestamp`"),
        ),
        (
            headers::ROW,
            number(
                u64::from(u32::MAX),
                "Its row in the plan: of equal priority and age the lower goes first",
            ),
        ),
        (headers::NOT_BEFORE, time("Not sent before")),
        (headers::DEADLINE, time("Not sent after: it ends as `expired`")),
        (
            headers::PRIORITY,
            number(65_535, "Orders it in place of the body's priority, which stays as it is"),
        ),
        (
            headers::REPLAY,
            number(
                u64::from(u32::MAX),
                "How often it was sent again by a reviewer: looked up before it is sent",
            ),
        ),
        (
            headers::AGAIN,
            json!({ "type": ["boolean", "string"], "description": "A finished migration of the same name is wanted once more" }),
        ),
        (
            headers::NEVER_SENT,
            json!({ "type": ["boolean", "string"], "description": "Of a replay: no `POST` of it was ever begun, so it goes without a look-up. Written by the worker on its dead letters" }),
        ),
        (
            headers::MOVED,
            json!({ "type": ["boolean", "string"], "description": "A worker has published it anew with another priority: to any other it counts as delivered before" }),
        ),
        (
            headers::PAST,
            json!({ "type": "string", "description": "Of a replay, in JSON: how it ended before, the latest last" }),
        ),
        (
            headers::TRACEPARENT,
            json!({ "type": "string", "description": "W3C trace context: sent on to the API and into the result" }),
        ),
        (headers::TRACESTATE, json!({ "type": "string", "description": "W3C trace context" })),
    ];
    properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

/// The headers of a dead letter: those of the request, and why it ended so.
pub(super) fn dead_letter() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let bad = Outcome::ALL.iter().filter(|outcome| outcome.is_dead_letter());
    let bad: Vec<&str> = bad.map(|outcome| outcome.as_str()).collect();
    let mut properties = request_properties();
    let own = [
        (headers::OUTCOME, json!({ "enum": bad, "description": "How the request ended" })),
        (headers::ERROR_CODE, text("The code of the API's error")),
        (headers::STATUS, text("The HTTP status of the API's answer")),
        (headers::REASON, text("What happened, in a sentence")),
        (headers::ATTEMPTS, text("How many `POST`s were sent")),
        (
            headers::FAILED_AT,
            json!({ "type": "string", "format": "date-time", "description": "When it ended" }),
        ),
        (
            headers::VIOLATIONS,
            text("JSON: what of the contract the body breaks, as `violations` of a result"),
        ),
        (headers::HISTORY, text("JSON: what each try showed, the latest last")),
        (headers::ERROR, text("JSON: the whole error, as `error` of a result")),
        (
            headers::ORIGINAL,
            text(
                "Of a message that cannot be read: its properties as AMQP has them, the first 8 KiB, as hexadecimal digits",
            ),
        ),
        (
            headers::STRANGER,
            json!({ "type": ["boolean", "string"], "description": "true: somebody else had put it into the queue, says the reviewer who put it there again" }),
        ),
        (
            headers::REQUEST_ID,
            text("The message id of the request; the dead letter's own is the run"),
        ),
    ];
    properties.extend(own.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    object(&properties)
}

fn object(properties: &Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": properties })
}

//! What comes among the healthy requests that hurts only itself? Messages that end as `invalid`, of every kind that is
//! known to have hurt more than that, and requests that the API answers the same, every time. A new kind is a line more in
//! [`messages`], or in [`ANSWERS`].

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use serde_json::json;
use sluicegate::sandbox::Fault;

use crate::support::rig::{body, properties};

/// What the message ids of poison begin with.
pub(crate) const MARK: &str = "poison-";

pub(crate) fn is_poison(id: &str) -> bool {
    id.starts_with(MARK)
}

/// What the message ids of requests begin with that are answered the same, every time.
const ANSWERED: &str = "answered-";

/// What such requests are answered: the account's refusals, the API's failures, the quota's.
const ANSWERS: [(&str, u16, &str); 5] = [
    ("forbidden", 403, ""),
    ("no-quota", 400, "SMS.6407"),
    ("no-permission", 403, "SMS.9004"),
    ("failing", 400, "SMS.8104"),
    ("throttled", 429, "APIGW.0308"),
];

pub(crate) fn is_answered(id: &str) -> bool {
    id.starts_with(ANSWERED)
}

/// One of each kind, before all others.
pub(super) fn requests() -> Vec<(Bytes, BasicProperties)> {
    let request = |kind: &str| {
        let id = format!("{ANSWERED}{kind}");
        (body(&id, u16::MAX), properties(&id))
    };
    ANSWERS.iter().map(|(kind, ..)| request(kind)).collect()
}

/// What makes them so.
pub(super) fn faults() -> Vec<Fault> {
    let fault = |(kind, status, code): &(&str, u16, &str)| {
        let answer = json!({ "status": status, "code": code, "message": "every time" });
        let source = format!("{ANSWERED}{kind}");
        let fault = json!({ "source": source, "call": "create", "do": { "answer": answer } });
        serde_json::from_value(fault).unwrap()
    };
    ANSWERS.iter().map(fault).collect()
}

/// One of each kind for this part of a round.
pub(super) fn messages(part: u32) -> Vec<(Bytes, BasicProperties)> {
    let header = |name: &str, value: AMQPValue| {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), value);
        headers
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    let kinds: [(&str, Bytes, FieldTable); 4] = [
        ("no-json", Bytes::from_static(b"\xff\xfe not JSON"), FieldTable::default()),
        ("empty", Bytes::from_static(b"{}"), FieldTable::default()),
        ("priority", body("poisoned", 1), header("x-sluice-priority", text("high"))),
        ("deadline", body("poisoned", 1), header("x-sluice-deadline", text("tomorrow"))),
    ];
    let message = |(kind, body, headers): (&str, Bytes, FieldTable)| {
        let id = format!("{MARK}{kind}-{part}");
        let properties = BasicProperties::default().with_message_id(id.into());
        (body, properties.with_headers(headers))
    };
    kinds.into_iter().map(message).collect()
}

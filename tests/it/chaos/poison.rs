//! What comes among the healthy requests that hurts only itself? Messages that end as `invalid`, of every kind that is
//! known to have hurt more than that. A new kind is a line more in [`messages`].

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::support::rig::body;

/// What the message ids of poison begin with.
pub(crate) const MARK: &str = "poison-";

pub(crate) fn is_poison(id: &str) -> bool {
    id.starts_with(MARK)
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

//! How does an AMQP message become one of ours, and back? Properties and headers, nothing else.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::broker::settings::Queues;
use crate::broker::sizes::{field_bytes, header_bytes};
use crate::broker::transport::Restored;
use crate::core::{Ending, Request};
use crate::message::headers;
use crate::message::intake::Message;
use crate::message::result;

/// Headers that the broker acts upon or writes itself: a message that is published again must not carry them.
const BROKERS_OWN: [&str; 5] = ["CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"];

/// How many bytes of properties that cannot be read a dead letter has, each as two digits.
const UNREADABLE: usize = 8 * 1024;

/// How many bytes the reason needs to say which headers are left out.
const NOTE: usize = 600;

/// Text as the protocol's short string, which holds 255 bytes: cut at a character.
pub(crate) fn short(text: &str) -> ShortString {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    ShortString::try_new(&text[..end]).unwrap_or_default()
}

/// A header's value as text; none for what has no plain text (tables, lists, bytes that are not UTF-8).
pub(crate) fn text_of(value: &AMQPValue) -> Option<Cow<'_, str>> {
    let text = match value {
        AMQPValue::LongString(text) => {
            return std::str::from_utf8(text.as_bytes()).ok().map(Cow::from);
        }
        AMQPValue::ByteArray(bytes) => {
            return std::str::from_utf8(bytes.as_slice()).ok().map(Cow::from);
        }
        AMQPValue::ShortString(text) => return Some(text.as_str().into()),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::Timestamp(seconds) => timestamp(*seconds)?.to_string(),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::Void => {
            return None;
        }
    };
    Some(text.into())
}

/// Out of range (some clients send milliseconds) is as good as none: only ever a hint.
pub(super) fn timestamp(seconds: u64) -> Option<Timestamp> {
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
}

/// Whether the broker's own counts say that the message was out before. On 4.3 a `basic.nack` does not count as a
/// delivery, only as an acquisition; and whoever held it may have sent it before requeueing it. What a worker has
/// published anew was out before, too.
pub(crate) fn was_out(properties: &BasicProperties) -> bool {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    if headers.is_some_and(|headers| headers.contains_key(headers::MOVED)) {
        return true;
    }
    let counts = properties.headers().iter().flatten();
    counts
        .filter(|(name, _)| matches!(name.as_str(), "x-delivery-count" | "x-acquired-count"))
        .any(|(_, count)| text_of(count).is_some_and(|count| count != "0"))
}

/// How often the message was requeued to a quorum queue.
pub(crate) fn returns(properties: &BasicProperties) -> u32 {
    let headers = properties.headers().as_ref().map(FieldTable::inner);
    let count = headers.and_then(|headers| headers.get("x-delivery-count")).and_then(text_of);
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The message's own id, which may be missing.
pub(crate) fn message_id(properties: &BasicProperties) -> Option<Cow<'_, str>> {
    properties.message_id().as_ref().map(|id| id.as_str().into())
}

/// The message without its protocol.
pub(crate) fn message(properties: &BasicProperties, body: Bytes) -> Message<'_> {
    let ours = |name: &str| {
        name.starts_with(headers::PREFIX)
            || matches!(name, headers::TRACEPARENT | headers::TRACESTATE)
    };
    let headers = properties.headers().iter().flatten();
    Message {
        message_id: message_id(properties),
        timestamp: properties.timestamp().and_then(timestamp),
        priority: *properties.priority(),
        headers: headers
            // Some clients write an absent value so.
            .filter(|(name, value)| ours(name.as_str()) && **value != AMQPValue::Void)
            // What has no text is kept as a text that no header allows, so that it is named as a violation.
            .map(|(name, value)| {
                let text = text_of(value);
                (
                    name.as_str().into(),
                    text.unwrap_or_else(|| format!("a {}", value.get_type()).into()),
                )
            })
            .collect(),
        body,
        content_encoding: properties.content_encoding().as_ref().map(|text| text.as_str().into()),
        ..Message::default()
    }
}

/// A persistent message of ours.
pub(crate) fn properties(message_id: &str, kind: &str, at: Timestamp) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(short(message_id))
        .with_type(short(kind))
        .with_app_id("sluicegate".into())
        .with_timestamp(u64::try_from(at.as_second()).unwrap_or(0))
}

/// The result of a request, for the topic exchange.
pub(crate) fn result(
    request: &Request,
    ending: &Ending,
    queues: &Queues,
    worker: &str,
) -> Outgoing {
    let event = result::result(request, ending, &queues.prefix, worker);
    Outgoing {
        exchange: short(&queues.results()),
        key: short(&result::routing_key(ending.outcome, request.batch())),
        body: event.to_json().into(),
        properties: properties(&event.id, &event.kind, ending.settled_at)
            .with_content_type(result::CONTENT_TYPE.into()),
    }
}

/// The dead letter of a request: its body untouched, its properties, and the reason in headers. All of its own headers
/// too, as far as they fit into `room` bytes beside the reason, which comes first and says what is left out.
pub(crate) fn dead_letter(
    request: &Request,
    ending: &Ending,
    original: &Restored,
    body: Bytes,
    queues: &Queues,
    room: usize,
) -> Outgoing {
    let Restored { properties: original, unreadable } = original;
    let mut headers: BTreeMap<_, _> = result::dead_letter_headers(ending)
        .into_iter()
        .map(|(name, text)| (short(name), long(&text)))
        .collect();
    headers.insert(short(headers::REQUEST_ID), long(&request.id.get()));
    if let Some(unreadable) = unreadable {
        let bounded = &unreadable[..unreadable.len().min(UNREADABLE)];
        headers.insert(short(headers::ORIGINAL), long(&hex::encode(bounded)));
    }
    let properties = republished(original).with_message_id(short(&request.run.0.to_string()));
    let taken = header_bytes(&properties.clone().with_headers(headers.clone().into())) + NOTE;
    let mut left = room.saturating_sub(taken);
    let mut left_out = Vec::new();
    // The mark is of one copy of one run. A replay with it would pass for a redelivery of what has ended, and what
    // has ended is only acknowledged when it comes back.
    let (ours, others): (Vec<_>, Vec<_>) = kept_headers(original)
        .into_iter()
        .filter(|(name, _)| name.as_str() != headers::MOVED && !headers.contains_key(name))
        .partition(|(name, _)| name.as_str().starts_with(headers::PREFIX));
    for (name, value) in ours.into_iter().chain(others) {
        match left.checked_sub(field_bytes(&name, &value)) {
            Some(rest) => {
                left = rest;
                headers.insert(name, value);
            }
            None => left_out.push(name.to_string()),
        }
    }
    if !left_out.is_empty() {
        let names: String = left_out.join(", ").chars().take(100).collect();
        let reason = headers.get(&short(headers::REASON)).and_then(text_of);
        let reason = format!(
            "{} (headers left out, for the broker's frames hold no more: {names})",
            reason.unwrap_or_default()
        );
        tracing::warn!(
            request.id = &*request.id.get(),
            headers = names,
            "headers do not fit into the dead letter"
        );
        headers.insert(short(headers::REASON), long(&reason));
    }
    Outgoing {
        exchange: short(&queues.worker()),
        key: short(&queues.dead_letters()),
        body,
        properties: properties.with_headers(headers.into()),
    }
}

/// The same request for another queue: body, id and time of enqueueing as they are, so that it stays the same run. What
/// orders have changed of it is written into it, for the day when they are kept no longer.
pub(crate) fn moved(
    original: &BasicProperties,
    body: Bytes,
    request: &Request,
    queue: &str,
    queues: &Queues,
) -> Outgoing {
    let priority = request.priority;
    let mut headers = kept_headers(original);
    headers.insert(short(headers::PRIORITY), AMQPValue::LongInt(i32::from(priority)));
    headers.insert(short(headers::MOVED), AMQPValue::Boolean(true));
    let times = [
        (headers::NOT_BEFORE, request.rare.not_before),
        (headers::DEADLINE, request.rare.deadline),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            headers.insert(short(name), long(&at.to_string()));
        }
    }
    let mut properties = republished(original)
        .with_headers(headers.into())
        .with_priority(coarse(priority, queues.max_priority));
    if let Some(id) = original.message_id() {
        properties = properties.with_message_id(id.clone());
    }
    if let Some(expiration) = original.expiration() {
        properties = properties.with_expiration(expiration.clone());
    }
    Outgoing { exchange: short(&queues.worker()), key: short(queue), body, properties }
}

/// What of a message's properties may be published again. Not `expiration` (it would vanish), `user_id` (it must be
/// the publisher's), or `priority` (of the queue that it came from).
pub(crate) fn republished(original: &BasicProperties) -> BasicProperties {
    match original.timestamp() {
        Some(value) => timeless(original).with_timestamp(*value),
        None => timeless(original),
    }
}

/// The same without its timestamp.
pub(super) fn timeless(original: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default().with_delivery_mode(2);
    if let Some(value) = original.content_type() {
        kept = kept.with_content_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        kept = kept.with_content_encoding(value.clone());
    }
    if let Some(value) = original.correlation_id() {
        kept = kept.with_correlation_id(value.clone());
    }
    if let Some(value) = original.reply_to() {
        kept = kept.with_reply_to(value.clone());
    }
    if let Some(value) = original.kind() {
        kept = kept.with_type(value.clone());
    }
    if let Some(value) = original.app_id() {
        kept = kept.with_app_id(value.clone());
    }
    kept
}

/// The headers that may be published again: all but the broker's own.
pub(crate) fn kept_headers(original: &BasicProperties) -> BTreeMap<ShortString, AMQPValue> {
    let headers = original.headers().iter().flat_map(FieldTable::inner);
    let kept = headers.filter(|(name, _)| !is_brokers_own(name.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(super) fn is_brokers_own(name: &str) -> bool {
    BROKERS_OWN.contains(&name)
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

pub(crate) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

/// One message to publish.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) exchange: ShortString,
    pub(crate) key: ShortString,
    pub(crate) body: Bytes,
    pub(crate) properties: BasicProperties,
}

/// The broker's level for a priority: 0 to 3 keep levels of their own, the rest spread evenly over those that the
/// queue has.
pub fn coarse(priority: u16, highest: u8) -> u8 {
    const OWN: u16 = 4;
    if priority < OWN || highest < 4 {
        return u8::try_from(priority).unwrap_or(u8::MAX).min(highest);
    }
    let levels = u32::from(highest) - 3;
    let above = u32::from(priority - OWN) * levels / (u32::from(u16::MAX - OWN) + 1);
    u8::try_from(above + u32::from(OWN)).unwrap_or(highest).min(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_headers(headers: &[(&str, AMQPValue)]) -> BasicProperties {
        let table: BTreeMap<_, _> =
            headers.iter().map(|(name, value)| (short(name), value.clone())).collect();
        BasicProperties::default().with_headers(table.into())
    }

    #[test]
    fn a_count_of_the_broker_says_that_a_message_was_out_before() {
        let with = |name: &str, count: i64| {
            let mut headers = FieldTable::default();
            headers.insert(name.into(), AMQPValue::LongLongInt(count));
            was_out(&BasicProperties::default().with_headers(headers))
        };
        assert!(with("x-acquired-count", 1) && with("x-delivery-count", 3));
        assert!(!with("x-acquired-count", 0) && !with("x-sluice-row", 7));
    }

    #[test]
    fn the_mark_of_a_copy_says_that_it_was_out_before() {
        let marked = with_headers(&[(headers::MOVED, AMQPValue::Boolean(true))]);
        assert!(was_out(&marked) && kept_headers(&marked).len() == 1);
        assert!(!was_out(&with_headers(&[(headers::PRIORITY, AMQPValue::LongInt(9))])));
    }

    #[test]
    fn headers_of_every_plain_type_are_texts() {
        let properties = with_headers(&[
            ("x-sluice-row", AMQPValue::LongInt(7)),
            ("x-sluice-again", AMQPValue::Boolean(true)),
            ("x-sluice-priority", long("9")),
            ("x-sluice-not-before", AMQPValue::Timestamp(0)),
            ("x-sluice-replay", AMQPValue::FieldTable(FieldTable::default())),
            ("other", long("never read")),
            ("traceparent", long("00")),
        ]);
        let message = message(&properties, Bytes::new());
        let shown: Vec<_> =
            message.headers.iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(
            shown,
            [
                "traceparent=00",
                "x-sluice-again=true",
                "x-sluice-not-before=1970-01-01T00:00:00Z",
                "x-sluice-priority=9",
                "x-sluice-replay=a FieldTable",
                "x-sluice-row=7",
            ]
        );
    }

    #[test]
    fn a_timestamp_in_milliseconds_is_as_good_as_none() {
        let properties = BasicProperties::default().with_timestamp(1_769_860_800_000);
        assert_eq!(message(&properties, Bytes::new()).timestamp, None);
        let properties = BasicProperties::default().with_timestamp(u64::MAX);
        assert_eq!(message(&properties, Bytes::new()).timestamp, None);
    }

    #[test]
    fn what_the_broker_would_act_upon_is_not_published_again() {
        let original = with_headers(&[
            ("CC", AMQPValue::FieldArray(vec![long("elsewhere")].into())),
            ("x-death", long("x")),
            ("x-first-death-queue", long("x")),
            ("x-sluice-batch", long("b")),
            ("planner", long("kept")),
        ])
        .with_expiration("1000".into())
        .with_user_id("somebody".into())
        .with_content_type("application/json".into());
        let kept: Vec<_> = kept_headers(&original).keys().map(ToString::to_string).collect();
        assert_eq!(kept, ["planner", "x-sluice-batch"]);
        let again = republished(&original);
        assert!(again.expiration().is_none() && again.user_id().is_none());
        assert_eq!(again.content_type().as_ref().unwrap().as_str(), "application/json");
    }

    #[test]
    fn a_request_for_another_queue_is_the_same_run_and_counts_as_delivered_before() {
        let original = with_headers(&[
            ("x-sluice-priority", long("3")),
            ("x-sluice-enqueued-at", long("2026-01-31T12:00:00.123Z")),
            ("x-delivery-count", AMQPValue::LongLongInt(2)),
            ("planner", long("kept")),
        ])
        .with_message_id("17".into())
        .with_timestamp(1_769_860_800)
        .with_expiration("60000".into());
        let body = Bytes::from_static(b"{ \"as\": \"enqueued\" }");
        let queues = Queues {
            prefix: "sluice".into(),
            kind: crate::broker::settings::QueueType::Quorum,
            max_priority: 10,
            declare: true,
            results_retention: "30D".into(),
            audit_retention: "365D".into(),
        };
        let rules = crate::contract::Rules::default();
        let read = |properties: &BasicProperties, body: &Bytes| {
            crate::message::intake::read(&message(properties, body.clone()), &rules).request
        };
        let mut changed = read(&original, &body);
        changed.priority = 40_000;
        changed.rare.not_before = Some("2026-02-01T00:00:00Z".parse().unwrap());
        let copy = moved(&original, body.clone(), &changed, "sluice.parked", &queues);
        assert_eq!((copy.key.as_str(), &copy.body), ("sluice.parked", &body));
        let (before, after) = (read(&original, &body), read(&copy.properties, &copy.body));
        assert_eq!((before.run, before.priority, after.priority), (after.run, 3, 40_000));
        assert_eq!(after.rare.not_before, changed.rare.not_before);
        assert!(
            was_out(&copy.properties)
                && !was_out(&original.clone().with_headers(FieldTable::default()))
        );
        let headers = copy.properties.headers().as_ref().unwrap().inner();
        assert!(headers.contains_key("planner") && !headers.contains_key("x-delivery-count"));
        assert_eq!(copy.properties.expiration().as_ref().unwrap().as_str(), "60000");
    }

    #[test]
    fn a_text_too_long_for_a_short_string_is_cut_at_a_character() {
        assert_eq!(short(&"ü".repeat(200)).as_str().len(), 254);
    }

    #[test]
    fn coarse_levels_keep_the_order_and_use_all_that_the_queue_has() {
        for highest in [1, 3, 4, 10, 31, 255] {
            let levels: Vec<u8> =
                (0..=u16::MAX).map(|priority| coarse(priority, highest)).collect();
            assert!(levels.is_sorted(), "{highest}");
            assert_eq!((levels[0], levels[65_535]), (0, highest), "{highest}");
            let mut used = levels.clone();
            used.dedup();
            assert_eq!(used.len(), usize::from(highest) + 1, "{highest}");
        }
        assert_eq!([0, 1, 2, 3, 4].map(|priority| coarse(priority, 10)), [0, 1, 2, 3, 4]);
    }
}

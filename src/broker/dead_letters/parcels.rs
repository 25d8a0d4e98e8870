//! How does a message of the broker become a parcel, and a parcel a message again?

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::generation::gen_value;
use lapin::types::parsing::parse_value;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Map, Value};

use crate::broker::convert::{kept_headers, long, short, text_of};
use crate::message::parcel::Parcel;
use crate::review::Death;

/// The parcel of a message: what may be published again, nothing of what the broker wrote.
pub(crate) fn parcel(properties: &BasicProperties, body: Bytes) -> Parcel {
    let text = |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
    Parcel {
        message_id: text(properties.message_id()),
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        kind: text(properties.kind()),
        app_id: text(properties.app_id()),
        timestamp: *properties.timestamp(),
        headers: kept_headers(properties)
            .iter()
            .map(|(name, value)| (name.to_string(), to_json(value)))
            .collect(),
        body,
    }
}

/// The properties of a parcel's message.
pub(crate) fn properties(parcel: &Parcel) -> BasicProperties {
    let headers: BTreeMap<_, _> =
        parcel.headers.iter().map(|(name, value)| (short(name), from_json(value))).collect();
    let mut properties =
        BasicProperties::default().with_delivery_mode(2).with_headers(headers.into());
    if let Some(text) = &parcel.message_id {
        properties = properties.with_message_id(short(text));
    }
    if let Some(text) = &parcel.content_type {
        properties = properties.with_content_type(short(text));
    }
    if let Some(text) = &parcel.content_encoding {
        properties = properties.with_content_encoding(short(text));
    }
    if let Some(text) = &parcel.correlation_id {
        properties = properties.with_correlation_id(short(text));
    }
    if let Some(text) = &parcel.reply_to {
        properties = properties.with_reply_to(short(text));
    }
    if let Some(text) = &parcel.kind {
        properties = properties.with_type(short(text));
    }
    if let Some(text) = &parcel.app_id {
        properties = properties.with_app_id(short(text));
    }
    if let Some(seconds) = parcel.timestamp {
        properties = properties.with_timestamp(seconds);
    }
    properties
}

/// Under this key stands what JSON has no word for, in the client library's own form.
const AMQP: &str = "amqp";
/// And under this one what would not come back from that (it nests too deep, or is not a number): as bytes of the
/// protocol, in hex digits.
const BYTES: &str = "amqp-bytes";
/// So deep may JSON nest that stands in an act or a file and is read by whatever reads JSON: half of what serde takes.
const DEEPEST: usize = 64;

fn to_json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) if std::str::from_utf8(text.as_bytes()).is_ok() => {
            text.to_string().into()
        }
        AMQPValue::Boolean(flag) => (*flag).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        other => {
            let form = Some(other).filter(|value| depth(value) <= DEEPEST / 2);
            let form = form.and_then(|value| serde_json::to_value(value).ok());
            match form.filter(|form| comes_back(form, other)) {
                Some(form) => Value::Object(Map::from_iter([(AMQP.to_owned(), form)])),
                None => Value::Object(Map::from_iter([(
                    BYTES.to_owned(),
                    hex::encode(bytes(other)).into(),
                )])),
            }
        }
    }
}

/// How many arrays and tables stand in each other. What came over the wire nests no deeper than the transport bears.
fn depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldArray(values) => {
            1 + values.as_slice().iter().map(depth).max().unwrap_or_default()
        }
        AMQPValue::FieldTable(table) => {
            1 + table.inner().values().map(depth).max().unwrap_or_default()
        }
        _ => 0,
    }
}

/// Whether the value is the same after being written as JSON and read: no number of JSON is infinite or none at all.
fn comes_back(form: &Value, value: &AMQPValue) -> bool {
    let text = form.to_string();
    serde_json::from_str::<AMQPValue>(&text).is_ok_and(|read| read == *value)
}

/// The value with its type octet, as the protocol has it.
fn bytes(value: &AMQPValue) -> Vec<u8> {
    // Into memory: it cannot fail.
    let written = gen_value(value)(Vec::new().into());
    written.map(|context| context.into_inner().0).unwrap_or_default()
}

fn from_bytes(digits: &str) -> Option<AMQPValue> {
    let bytes = hex::decode(digits).ok()?;
    let (rest, value) = parse_value(&*bytes).ok()?;
    rest.is_empty().then_some(value)
}

fn from_json(value: &Value) -> AMQPValue {
    match value {
        Value::String(text) => long(text),
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => number
            .as_i64()
            .map_or(AMQPValue::Double(number.as_f64().unwrap_or(0.0)), AMQPValue::LongLongInt),
        Value::Object(map) => map
            .get(AMQP)
            .and_then(|form| serde_json::from_value(form.clone()).ok())
            .or_else(|| from_bytes(map.get(BYTES)?.as_str()?))
            .unwrap_or_else(|| long(&value.to_string())),
        Value::Null => AMQPValue::Void,
        Value::Array(_) => long(&value.to_string()),
    }
}

/// Why the broker dead-lettered a message: the latest entry of its `x-death`.
pub(crate) fn death(properties: &BasicProperties) -> Option<Death> {
    let deaths = properties.headers().as_ref()?.inner().get("x-death")?;
    let AMQPValue::FieldArray(deaths) = deaths else { return None };
    let AMQPValue::FieldTable(latest) = deaths.as_slice().first()? else { return None };
    let text =
        |table: &FieldTable, name: &str| text_of(table.inner().get(name)?).map(Cow::into_owned);
    let at = match latest.inner().get("time") {
        Some(AMQPValue::Timestamp(seconds)) => {
            i64::try_from(*seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
        }
        _ => None,
    };
    Some(Death {
        reason: text(latest, "reason")?,
        queue: text(latest, "queue").unwrap_or_default(),
        at,
    })
}

/// The exchange to which the message was published that the broker dead-lettered.
pub(crate) fn published_to(properties: &BasicProperties) -> Option<ShortString> {
    let deaths = properties.headers().as_ref()?.inner().get("x-death")?;
    let AMQPValue::FieldArray(deaths) = deaths else { return None };
    let AMQPValue::FieldTable(latest) = deaths.as_slice().first()? else { return None };
    Some(short(&text_of(latest.inner().get("exchange")?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_cannot_hold_is_kept_as_bytes_and_comes_back_exactly() {
        let table = |inner| {
            let mut table = FieldTable::default();
            table.insert("t\u{202e}".into(), inner);
            AMQPValue::FieldTable(table)
        };
        let nested = |levels: usize| {
            (0..levels).fold(AMQPValue::Double(0.1), |inner, level| {
                if level % 2 == 0 {
                    AMQPValue::FieldArray(vec![inner].into())
                } else {
                    table(inner)
                }
            })
        };
        let mut values: Vec<AMQPValue> = [1, 31, 32, 33, 60, 100, 128, 200].map(nested).into();
        values.extend(
            [f64::NAN, f64::INFINITY, -0.0, 0.1, f64::MIN_POSITIVE, 5e-324].map(AMQPValue::Double),
        );
        values.extend([f32::NAN, f32::NEG_INFINITY, 0.1].map(AMQPValue::Float));
        values.extend([
            AMQPValue::LongString(b"\xff".as_slice().into()),
            AMQPValue::ShortString("s".into()),
            AMQPValue::Timestamp(u64::MAX),
            AMQPValue::Void,
        ]);
        for value in values {
            let mut headers = FieldTable::default();
            headers.insert("x".into(), value.clone());
            let message = BasicProperties::default().with_headers(headers);
            let kept = parcel(&message, Bytes::new());
            let json = serde_json::to_vec(&kept).unwrap();
            let kept: Parcel = serde_json::from_slice(&json).unwrap();
            let back = properties(&kept);
            let back = &back.headers().as_ref().unwrap().inner()["x"];
            // As bytes: what is not a number is not even itself.
            assert_eq!(bytes(back), bytes(&value), "{value:?}");
        }
    }

    #[test]
    fn a_message_is_the_same_after_being_a_parcel() {
        let mut headers = FieldTable::default();
        headers.insert("text".into(), long("ü"));
        headers.insert("bytes".into(), AMQPValue::LongString(b"\xff".as_slice().into()));
        headers.insert("flag".into(), AMQPValue::Boolean(true));
        headers.insert("small".into(), AMQPValue::ShortShortInt(-7));
        headers.insert("number".into(), AMQPValue::LongLongInt(1 << 60));
        headers
            .insert("list".into(), AMQPValue::FieldArray(vec![long("a"), AMQPValue::Void].into()));
        let message = BasicProperties::default()
            .with_delivery_mode(2)
            .with_headers(headers)
            .with_message_id("17".into())
            .with_content_type("application/json".into())
            .with_type("t".into())
            .with_timestamp(7);
        let parcel = parcel(&message, Bytes::from_static(b"{}"));
        let kept: Parcel = serde_json::from_str(&serde_json::to_string(&parcel).unwrap()).unwrap();
        assert_eq!(properties(&kept), message);
    }
}

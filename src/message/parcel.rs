//! What is a message when it is kept outside of the broker? As in the audit, or in an exported file.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A message with all that is needed to publish it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Parcel {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// Seconds since 1970, as the protocol has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// Texts, numbers and flags as such; what JSON has no word for as `{"amqp": ...}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Value>,
    #[serde(serialize_with = "write_body", deserialize_with = "read_body")]
    #[schemars(with = "BodyForm<'static>")]
    pub body: Bytes,
}

impl Parcel {
    /// A header's value as text, where it has one.
    pub fn header(&self, name: &str) -> Option<String> {
        match self.headers.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// UTF-8 as a text, anything else as `{"hex": "..."}`: whatever was enqueued must come back byte for byte.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum BodyForm<'a> {
    Text(std::borrow::Cow<'a, str>),
    Hex { hex: String },
}

fn write_body<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    let form = match std::str::from_utf8(body) {
        Ok(text) => BodyForm::Text(text.into()),
        Err(_) => BodyForm::Hex { hex: hex::encode(body) },
    };
    form.serialize(serializer)
}

fn read_body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    match BodyForm::deserialize(deserializer)? {
        BodyForm::Text(text) => Ok(text.into_owned().into()),
        BodyForm::Hex { hex } => hex::decode(hex)
            .map(Bytes::from)
            .map_err(|_| serde::de::Error::custom("the body's hex digits are broken")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_comes_back_byte_for_byte() {
        for body in [
            b"".as_slice(),
            b"{ \"a\" :1}\r\n",
            "中\u{202e}".as_bytes(),
            b"\xff\xfe\x00",
            b"\"\\u0000",
        ] {
            let parcel = Parcel { body: Bytes::copy_from_slice(body), ..Parcel::default() };
            let json = serde_json::to_string(&parcel).unwrap();
            assert_eq!(serde_json::from_str::<Parcel>(&json).unwrap(), parcel, "{json}");
        }
        for broken in [
            r#"{"body":{"hex":"f"}}"#,
            r#"{"body":{"hex":"zz"}}"#,
            r#"{"body":{"hex":"+1"}}"#,
            r#"{"body":1}"#,
        ] {
            assert!(serde_json::from_str::<Parcel>(broken).is_err(), "{broken}");
        }
    }
}

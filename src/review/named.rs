//! What is a message called? Read leniently from its body alone, where a whole reading would take too long: for the rows of a
//! list.

use serde::Deserialize;
use serde_json::Value;

use crate::message::headers;
use crate::message::parcel::Parcel;

/// The longest text that is kept, in characters.
const LONGEST: usize = 256;

/// How people know a request; what cannot be read is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub source_server_id: String,
    pub request_id: String,
    pub batch: String,
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    source_server: Value,
}

impl Named {
    pub fn of(parcel: &Parcel) -> Self {
        let Body { name, source_server } = serde_json::from_slice(&parcel.body).unwrap_or_default();
        let short = |text: Option<&str>| text.unwrap_or_default().chars().take(LONGEST).collect();
        let id = parcel.header(headers::REQUEST_ID).or_else(|| parcel.message_id.clone());
        Self {
            name: short(name.as_str()),
            source_server_id: short(source_server.get("id").and_then(Value::as_str)),
            request_id: short(id.as_deref()),
            batch: short(parcel.header(headers::BATCH).as_deref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_where_there_is_one_and_nothing_else_is_asked_for() {
        let of =
            |body: &str| Named::of(&Parcel { body: body.to_owned().into(), ..Parcel::default() });
        let named = of(r#"{"name":"web-1","source_server":{"id":"s-1"},"type":7}"#);
        assert_eq!((&*named.name, &*named.source_server_id), ("web-1", "s-1"));
        for body in ["", "[]", "{", r#"{"name":1,"source_server":"s"}"#] {
            assert_eq!(of(body), Named::default(), "{body}");
        }
    }
}

//! How is a request fixed without touching the rest of it? Of its body only the bytes of what changes are replaced, and
//! of its headers only those that say what is asked for.

mod differences;
mod splice;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use crate::contract;
use splice::change_at;

use crate::message::headers;
pub use differences::{Difference, differences};

/// How requests are to be changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// The whole body, of one dead letter.
    Body(Bytes),
    /// Fields and headers, of every dead letter that is selected.
    Fields(Vec<FieldChange>),
}

/// One thing to set or to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldChange {
    /// Of the body: `target_server`, `disks`, `0`, `name`.
    Field { path: Vec<String>, to: To },
    /// A header of the message, one of [`HEADERS`].
    Header { name: String, to: To },
}

/// The headers that a reviewer may set: those that say what is asked for. What the worker writes down itself, such as the
/// number of replays, is none of them.
pub const HEADERS: [&str; 10] = [
    headers::BATCH,
    headers::BATCH_RUN,
    headers::ENQUEUED_AT,
    headers::ROW,
    headers::NOT_BEFORE,
    headers::DEADLINE,
    headers::PRIORITY,
    headers::AGAIN,
    headers::TRACEPARENT,
    headers::TRACESTATE,
];

/// What stands before a header where fields are meant otherwise, as in the violations.
const OF_A_HEADER: &str = "header ";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// As typed by a person: a text where a text stands, otherwise JSON if it is JSON, otherwise a text.
    Typed(String),
    Removed,
}

/// Why a body cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("the body is not JSON, so no field of it can be set; edit it as a whole")]
    NotJson,
    #[error("{0}: there is no such place in this body")]
    NoPlace(String),
    #[error(
        "{0:?} is no change: write field=value, such as target_server.name=web-1, or field! to remove it"
    )]
    NoChange(String),
    #[error("{name:?} is no header of a request that can be set: {}{}", HEADERS.join(", "), hint(*.nearest))]
    NoHeader { name: String, nearest: Option<&'static str> },
    #[error("the value of the header {0} has a control character in it")]
    NoText(String),
    #[error(
        "{name} is a header of the message and no field of its body: give --header {name}=VALUE in place of --set (in the console: header {name}=VALUE)"
    )]
    IsHeader { name: String },
    #[error(
        "{name} is no field of the body{}; what the API does not know can be changed where it is, and not added here",
        hint(.nearest.as_ref())
    )]
    NoField { name: String, nearest: Option<String> },
}

fn hint(nearest: Option<impl std::fmt::Display>) -> String {
    nearest.map(|name| format!("; is {name} meant?")).unwrap_or_default()
}

impl FieldChange {
    /// Reads `field=value` and `field!`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, EditError> {
        let (field, to) = Self::parts(text)?;
        if header_named(field).is_some() {
            return Err(EditError::IsHeader { name: field.to_owned() });
        }
        let path: Vec<String> = field.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(EditError::NoChange(text.to_owned()));
        }
        Ok(Self::Field { path, to })
    }

    /// Reads `name=value` and `name!`, where a header is meant.
    ///
    /// # Errors
    /// It is neither, or no header that can be set.
    pub fn parse_header(text: &str) -> Result<Self, EditError> {
        let (name, to) = Self::parts(text)?;
        let Some(known) = header_named(name) else {
            let nearest = contract::nearest(name, HEADERS);
            return Err(EditError::NoHeader { name: name.to_owned(), nearest });
        };
        if matches!(&to, To::Typed(value) if value.chars().any(char::is_control)) {
            return Err(EditError::NoText(known.to_owned()));
        }
        Ok(Self::Header { name: known.to_owned(), to })
    }

    /// Reads a line of a form: `field=value`, `field!`, or one of these with `header ` before it.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse_line(text: &str) -> Result<Self, EditError> {
        text.strip_prefix(OF_A_HEADER).map_or_else(|| Self::parse(text), Self::parse_header)
    }

    fn parts(text: &str) -> Result<(&str, To), EditError> {
        match (text.split_once('='), text.strip_suffix('!')) {
            (Some((name, value)), _) => Ok((name.trim(), To::Typed(value.to_owned()))),
            (None, Some(name)) => Ok((name.trim(), To::Removed)),
            (None, None) => Err(EditError::NoChange(text.to_owned())),
        }
    }

    /// Whether there is such a field: the page has it, or this body.
    fn exists_in(&self, body: &Bytes) -> Result<(), EditError> {
        let Self::Field { path, .. } = self else { return Ok(()) };
        let name = path.join(".");
        let there = || serde_json::from_slice(body).is_ok_and(|body| is_there(body, path));
        if contract::find(&name).is_some() || there() {
            return Ok(());
        }
        let fields = contract::fields();
        let names = fields.iter().map(|field| field.path.as_str());
        let nearest = contract::nearest(&name, names).map(str::to_owned);
        Err(EditError::NoField { name, nearest })
    }
}

/// Whether there is a value at `path`.
fn is_there(body: Value, path: &[String]) -> bool {
    let found = path.iter().try_fold(body, |value, step| match value {
        Value::Object(mut fields) => fields.remove(step),
        Value::Array(mut items) => {
            let at = step.parse().ok().filter(|at| *at < items.len())?;
            Some(items.swap_remove(at))
        }
        _ => None,
    });
    found.is_some()
}

/// The text with one field changed. Where the field is missing, there is nothing to remove; and what is added is a text
/// where the page wants one, even if it looks like a number.
fn changed_at(text: &str, path: &[String], to: &To) -> Result<String, EditError> {
    let body: Value = serde_json::from_str(text).map_err(|_| EditError::NotJson)?;
    let is_object = body.is_object();
    if !is_there(body, path) {
        let rule = contract::find(&path.join("."));
        let is_text = rule.is_some_and(|rule| rule.kind.is_text());
        match to {
            To::Removed if is_object => return Ok(text.to_owned()),
            To::Typed(typed) if is_text && typed != "null" => {
                let quoted =
                    typed.starts_with('"') && serde_json::from_str::<String>(typed).is_ok();
                let value = if quoted { typed.clone() } else { Value::from(&**typed).to_string() };
                return change_at(text, path, &To::Typed(value));
            }
            _ => {}
        }
    }
    change_at(text, path, to)
}

fn header_named(name: &str) -> Option<&'static str> {
    HEADERS.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

impl Edit {
    /// The changed body.
    ///
    /// # Errors
    /// The body is not JSON, or has no such place.
    pub fn apply(&self, body: &Bytes) -> Result<Bytes, EditError> {
        match self {
            Self::Body(new) => Ok(new.clone()),
            Self::Fields(changes) => {
                let mut text = String::from_utf8(body.to_vec()).map_err(|_| EditError::NotJson)?;
                for change in changes {
                    if let FieldChange::Field { path, to } = change {
                        text = changed_at(&text, path, to)
                            .map_err(|error| error.named(&path.join(".")))?;
                    }
                }
                Ok(text.into())
            }
        }
    }

    /// Whether all that it changes of this body is a field of it.
    ///
    /// # Errors
    /// Names the first that is none, and what was probably meant.
    pub fn fits(&self, body: &Bytes) -> Result<(), EditError> {
        match self {
            Self::Body(_) => Ok(()),
            Self::Fields(changes) => changes.iter().try_for_each(|change| change.exists_in(body)),
        }
    }

    /// Changes the headers of a message.
    pub fn apply_to_headers(&self, headers: &mut BTreeMap<String, Value>) {
        for (name, to) in self.headers() {
            match to {
                To::Typed(value) => headers.insert(name.to_owned(), value.trim().into()),
                To::Removed => headers.remove(name),
            };
        }
    }

    /// What it does to headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &To)> {
        let changes = match self {
            Self::Body(_) => &[][..],
            Self::Fields(changes) => changes,
        };
        changes.iter().filter_map(|change| match change {
            FieldChange::Header { name, to } => Some((name.as_str(), to)),
            FieldChange::Field { .. } => None,
        })
    }
}

impl EditError {
    fn named(self, field: &str) -> Self {
        match self {
            Self::NoPlace(_) => Self::NoPlace(field.to_owned()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str, changes: &[&str]) -> Result<String, EditError> {
        let changes =
            changes.iter().map(|text| FieldChange::parse(text)).collect::<Result<_, _>>()?;
        let body = Edit::Fields(changes).apply(&Bytes::copy_from_slice(body.as_bytes()))?;
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn only_the_bytes_of_what_changes_change() {
        let body = "{ \"name\" : \"a\",\r\n\t\"x\":1e0, \"disks\":[ {\"n\":1} , {\"n\": 2}] }\n";
        for (change, result) in [
            ("name=b", body.replace("\"a\"", "\"b\"")),
            ("name=0012", body.replace("\"a\"", "\"0012\"")),
            ("name=null", body.replace("\"a\"", "null")),
            ("x=2", body.replace("1e0", "2")),
            ("x=two", body.replace("1e0", "\"two\"")),
            ("disks.1.n=7", body.replace("\"n\": 2", "\"n\": 7")),
            ("disks.0={\"m\":[]}", body.replace("{\"n\":1}", "{\"m\":[]}")),
        ] {
            assert_eq!(edited(body, &[change]).unwrap(), result, "{change}");
        }
    }

    #[test]
    fn what_is_absent_is_added_and_what_is_there_removed() {
        assert_eq!(edited("{}", &["a=1"]).unwrap(), "{\"a\":1}");
        assert_eq!(
            edited("{\"a\":1}", &["b.c=x", "b.d=true"]).unwrap(),
            "{\"a\":1,\"b\":{\"c\":\"x\",\"d\":true}}"
        );
        assert_eq!(edited("{\"l\":[]}", &["l.0.a=1", "l.1=2"]).unwrap(), "{\"l\":[{\"a\":1},2]}");
        assert_eq!(edited("{\"a\":1,\"b\":2}", &["a!"]).unwrap(), "{\"b\":2}");
        assert_eq!(edited("{\"l\":[1,2,3]}", &["l.1!"]).unwrap(), "{\"l\":[1,3]}");
    }

    #[test]
    fn a_field_that_is_missing_is_missing_and_not_a_reason_to_refuse_a_group() {
        for body in ["{}", "{\"a\": [1]}", "{ \"target_server\":{} }"] {
            for change in ["tags!", "target_server.name!", "a.7!"] {
                assert_eq!(edited(body, &[change]).unwrap(), body, "{change}");
            }
        }
        // The page wants a text there, so what looks like a number is one.
        assert_eq!(edited("{}", &["name=0012"]).unwrap(), "{\"name\":\"0012\"}");
        assert_eq!(edited("{}", &["name=12"]).unwrap(), "{\"name\":\"12\"}");
        assert_eq!(edited("{}", &["name=\"a\""]).unwrap(), "{\"name\":\"a\"}");
        assert_eq!(edited("{}", &["priority=12"]).unwrap(), "{\"priority\":12}");
        let nested = edited("{}", &["target_server.name=7"]).unwrap();
        assert_eq!(nested, "{\"target_server\":{\"name\":\"7\"}}");
    }

    #[test]
    fn what_cannot_be_changed_is_told() {
        assert_eq!(edited("nonsense", &["a=1"]), Err(EditError::NotJson));
        assert_eq!(edited("{", &["a=1"]), Err(EditError::NotJson));
        assert_eq!(edited("", &["a=1"]), Err(EditError::NotJson));
        assert_eq!(edited("{\"a\":1}", &["a.b=1"]), Err(EditError::NoPlace("a.b".into())));
        assert_eq!(edited("{\"l\":[]}", &["l.5=1"]), Err(EditError::NoPlace("l.5".into())));
        for text in ["name", "=1", ".a=1", ""] {
            assert_eq!(edited("{}", &[text]), Err(EditError::NoChange(text.into())));
        }
    }

    #[test]
    fn headers_that_say_what_is_asked_for_can_be_set_and_no_others() {
        let edit =
            |text: &str| FieldChange::parse_header(text).map(|change| Edit::Fields(vec![change]));
        let mut headers = BTreeMap::from([
            ("x-sluice-priority".to_owned(), Value::from("high")),
            ("x-sluice-deadline".to_owned(), Value::from("tomorrow")),
            ("theirs".to_owned(), Value::from(1)),
        ]);
        edit("X-Sluice-Priority= 3 ").unwrap().apply_to_headers(&mut headers);
        edit("x-sluice-deadline!").unwrap().apply_to_headers(&mut headers);
        assert_eq!(headers["x-sluice-priority"], "3");
        assert_eq!(headers.len(), 2, "{headers:?}");
        for (text, says) in [
            ("x-sluice-priorty=3", "is x-sluice-priority meant?"),
            ("x-sluice-replay=0", "no header of a request that can be set"),
            ("x-sluice-outcome!", "no header of a request that can be set"),
            ("x-sluice-batch=a\nb", "control character"),
            ("x-sluice-batch", "is no change"),
        ] {
            let error = edit(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert_eq!(
            FieldChange::parse_line("header x-sluice-row=3"),
            FieldChange::parse_header("x-sluice-row=3")
        );
        assert_eq!(FieldChange::parse_line("name=3"), FieldChange::parse("name=3"));
    }

    #[test]
    fn what_is_no_field_of_the_body_is_refused_with_what_was_meant() {
        let fits = |body: &'static str, text: &str| {
            let change = FieldChange::parse(text)?;
            Edit::Fields(vec![change]).fits(&Bytes::from_static(body.as_bytes()))
        };
        for (text, says) in [
            ("x-sluice-priority=3", "--header x-sluice-priority=VALUE"),
            ("target_server.nmae=a", "is target_server.name meant?"),
            ("nonsense.that.nobody.knows=1", "is no field of the body;"),
        ] {
            let error = fits("{}", text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        for text in ["name=a", "target_server.disks.0.size=1", "target_server.disks=[]"] {
            assert_eq!(fits("{}", text), Ok(()), "{text}");
        }
        // What is there can be changed, whether the API knows it or not.
        assert_eq!(fits(r#"{"theirs":[{"a":1}]}"#, "theirs.0.a=2"), Ok(()));
    }
}

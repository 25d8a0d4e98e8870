//! Are the ids of a body ids? Those that nobody can see are refused; marks that ids do not have are worth a warning.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::cell::Refused;
use super::clean;
use crate::contract::shown;

/// What there is to say of a body, each with its place.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    pub refused: Vec<(String, Refused)>,
    pub doubted: Vec<(String, Refused)>,
}

/// Looks at a body that the contract accepts.
pub(super) fn of(body: &Value) -> Doubts {
    let mut doubts = Doubts::default();
    ids(body, &mut String::new(), &mut doubts);
    doubts
}

/// Looks at every id, wherever it stands; `at`: the place of the value.
fn ids(value: &Value, at: &mut String, doubts: &mut Doubts) {
    let length = at.len();
    let mut below = |step: &dyn std::fmt::Display, value: &Value, id: bool| {
        let _ = write!(at, "/{step}");
        match value {
            Value::String(text) if id => judge(at, text, doubts),
            Value::Object(_) | Value::Array(_) => ids(value, at, doubts),
            _ => {}
        }
        at.truncate(length);
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| below(name, value, clean::is_id(name)));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| below(&index, item, false));
        }
        _ => {}
    }
}

/// The ids that every request has; the others may be empty, which is as if they were absent.
const NEEDED: [&str; 3] = ["/source_server/id", "/project_id", "/region_id"];

/// An id has at least one character that can be seen, and none that cannot.
fn judge(pointer: &str, id: &str, doubts: &mut Doubts) {
    if id.is_empty() && !NEEDED.contains(&pointer) {
        return;
    }
    let (found, advice) = if id.is_empty() {
        ("an empty id".to_owned(), "fill it in".into())
    } else if !clean::is_visible(id) {
        (format!("{}, an id of blanks", shown(id)), "fill it in".into())
    } else if clean::trim(id) != id {
        (format!("{} with blanks around it", shown(id)), "remove them".into())
    } else {
        match clean::clean(id, true) {
            Ok(clean) => {
                let marked = id.starts_with('#') || id.contains(['"', ';']);
                let marks = marked.then_some("marks that ids do not have");
                if let Some(marks) = clean.taken.or(marks) {
                    let doubt = Refused {
                        found: format!("{} ({marks})", shown(id)),
                        allowed: "an id".to_owned(),
                        advice: "it is sent as it is: remove it if it does not belong to the id"
                            .into(),
                    };
                    doubts.doubted.push((pointer.to_owned(), doubt));
                }
                return;
            }
            Err(unclear) => (format!("{} ({})", shown(id), unclear.found), unclear.advice),
        }
    };
    let allowed =
        "an id with at least one character that can be seen, and none that cannot".to_owned();
    doubts.refused.push((pointer.to_owned(), Refused { found, allowed, advice }));
}

/// Whether a row is what a tool of the vendor's takes: the request inside `body`.
pub(super) fn is_wrapped(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        body: &'a serde_json::value::RawValue,
        name: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Wrapped<'_>>(body)
        .is_ok_and(|wrapped| wrapped.name.is_none() && wrapped.body.get().starts_with('{'))
}

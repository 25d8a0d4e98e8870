//! The text of a JSON value with one value in it replaced, added or removed: every byte besides stays as it was.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{EditError, To};

/// An object as its keys and the texts of its values, in order.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// The text with the value at `path` changed.
pub(super) fn change_at(text: &str, path: &[String], to: &To) -> Result<String, EditError> {
    let Some((step, rest)) = path.split_first() else {
        return match to {
            To::Typed(typed) => Ok(value_of(typed, Some(text))),
            To::Removed => Err(EditError::NoPlace(String::new())),
        };
    };
    match text.trim_start().chars().next() {
        Some('{') => in_object(text, step, rest, to),
        Some('[') => in_array(text, step, rest, to),
        Some(_) => Err(EditError::NoPlace(step.clone())),
        None => Err(EditError::NotJson),
    }
}

fn in_object(text: &str, key: &str, rest: &[String], to: &To) -> Result<String, EditError> {
    let Entries(entries) = serde_json::from_str(text).map_err(|_| EditError::NotJson)?;
    let removes = rest.is_empty() && *to == To::Removed;
    match entries.iter().find(|(name, _)| name == key) {
        Some(_) if removes => {
            let kept = entries.iter().filter(|(name, _)| name != key);
            let members: Vec<String> =
                kept.map(|(name, value)| format!("{}:{}", json_text(name), value.get())).collect();
            Ok(format!("{{{}}}", members.join(",")))
        }
        Some((_, value)) => splice(text, value.get(), &change_at(value.get(), rest, to)?),
        None if *to == To::Removed => Err(EditError::NoPlace(key.to_owned())),
        None => {
            let value = if rest.is_empty() { new_value(to)? } else { change_at("{}", rest, to)? };
            let open = text.trim_end().strip_suffix('}').ok_or(EditError::NotJson)?.trim_end();
            let comma = if entries.is_empty() { "" } else { "," };
            Ok(format!("{open}{comma}{}:{value}}}", json_text(key)))
        }
    }
}

fn in_array(text: &str, index: &str, rest: &[String], to: &To) -> Result<String, EditError> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| EditError::NotJson)?;
    let at: usize = index.parse().map_err(|_| EditError::NoPlace(index.to_owned()))?;
    let removes = rest.is_empty() && *to == To::Removed;
    match items.get(at) {
        Some(_) if removes => {
            let kept = items.iter().enumerate().filter(|(position, _)| *position != at);
            let kept: Vec<&str> = kept.map(|(_, value)| value.get()).collect();
            Ok(format!("[{}]", kept.join(",")))
        }
        Some(value) => splice(text, value.get(), &change_at(value.get(), rest, to)?),
        None if at == items.len() && *to != To::Removed => {
            let value = if rest.is_empty() { new_value(to)? } else { change_at("{}", rest, to)? };
            let open = text.trim_end().strip_suffix(']').ok_or(EditError::NotJson)?.trim_end();
            let comma = if items.is_empty() { "" } else { "," };
            Ok(format!("{open}{comma}{value}]"))
        }
        None => Err(EditError::NoPlace(index.to_owned())),
    }
}

/// `whole` with `part`, which is a piece of it, replaced.
fn splice(whole: &str, part: &str, new: &str) -> Result<String, EditError> {
    let at =
        (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize).ok_or(EditError::NotJson)?;
    let (before, after) = (whole.get(..at), whole.get(at + part.len()..));
    match (before, after) {
        (Some(before), Some(after)) => Ok(format!("{before}{new}{after}")),
        _ => Err(EditError::NotJson),
    }
}

fn new_value(to: &To) -> Result<String, EditError> {
    match to {
        To::Typed(typed) => Ok(value_of(typed, None)),
        To::Removed => Err(EditError::NoPlace(String::new())),
    }
}

/// What a person typed as JSON. Where a text stands a text is meant, even if it looks like a number: names such as `0012`.
fn value_of(typed: &str, standing: Option<&str>) -> String {
    let quoted = typed.starts_with('"') && serde_json::from_str::<String>(typed).is_ok();
    let stands_text = standing.is_some_and(|text| text.trim_start().starts_with('"'));
    let is_json = serde_json::from_str::<Value>(typed).is_ok();
    if quoted || (is_json && (!stands_text || typed == "null")) {
        typed.to_owned()
    } else {
        json_text(typed)
    }
}

fn json_text(text: &str) -> String {
    Value::from(text).to_string()
}

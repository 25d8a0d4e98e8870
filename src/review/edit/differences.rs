//! What two bodies differ in, place by place, for a person to read.

use serde::Serialize;
use serde_json::Value;

/// One difference between two bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// JSON pointer; empty where the bodies cannot be compared as JSON.
    pub pointer: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// The most differences that are told.
const MOST: usize = 200;

/// What changed, place by place; [`MOST`] places at most.
pub fn differences(before: &[u8], after: &[u8]) -> Vec<Difference> {
    if before == after {
        return Vec::new();
    }
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let mut found = Vec::new();
    if let (Some(old), Some(new)) = (parse(before), parse(after)) {
        compare("", Some(&old), Some(&new), &mut found);
    }
    if found.is_empty() {
        let text = |bytes: &[u8]| Some(shown(&String::from_utf8_lossy(bytes)));
        found.push(Difference { pointer: String::new(), before: text(before), after: text(after) });
    }
    found
}

fn compare(pointer: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    if old == new || found.len() >= MOST {
        return;
    }
    let below = |step: &str| format!("{pointer}/{}", step.replace('~', "~0").replace('/', "~1"));
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                compare(&below(key), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(&below(&index.to_string()), old.get(index), new.get(index), found);
            }
        }
        _ => {
            let text = |value: Option<&Value>| value.map(|value| shown(&value.to_string()));
            found.push(Difference { pointer: pointer.into(), before: text(old), after: text(new) });
        }
    }
}

fn shown(text: &str) -> String {
    const LONGEST: usize = 2_000;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_each_place() {
        let found =
            differences(br#"{"a":1,"b":{"c":[1,2]},"d":0}"#, br#"{"a":2,"b":{"c":[1]},"e":"x"}"#);
        let shown: Vec<_> = found
            .iter()
            .map(|d| format!("{} {:?} {:?}", d.pointer, d.before.as_deref(), d.after.as_deref()))
            .collect();
        assert_eq!(
            shown,
            [
                "/a Some(\"1\") Some(\"2\")",
                "/b/c/1 Some(\"2\") None",
                "/d Some(\"0\") None",
                "/e None Some(\"\\\"x\\\"\")"
            ]
        );
        assert_eq!(differences(b"{}", b"{}"), []);
        assert_eq!(differences(b"{}", b"{ }").len(), 1);
        assert_eq!(differences(b"nonsense", b"{}")[0].pointer, "");
    }
}

//! How does a row of a plan become JSON? A tree that keeps the order of its fields, and, byte for byte, every part of a
//! JSON row that nobody changes.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::contract::Part;

#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Valid JSON that has not been looked into.
    Raw(Box<str>),
    /// May hold one name twice, as its source did: the contract refuses it then.
    Object(Vec<(Box<str>, Node)>),
    Array(Vec<Node>),
}

/// Why a value could not be put in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// An element without the one before it.
    Gap,
    /// There is a value where the path needs an object or an array.
    Kind,
}

impl Node {
    pub(super) fn object() -> Self {
        Self::Object(Vec::new())
    }

    /// The JSON is read only to see that it is some.
    pub(super) fn parse(json: &str) -> serde_json::Result<Self> {
        let raw: &RawValue = serde_json::from_str(json)?;
        Ok(Self::Raw(raw.get().into()))
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Raw(serde_json::Value::from(text).to_string().into())
    }

    /// Puts a value at a path, over what is there; objects and arrays on the way are made as needed.
    pub(super) fn set(&mut self, path: &[Part<'_>], value: Node) -> Result<(), Clash> {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return Ok(());
        };
        self.open();
        match (self, first) {
            (Self::Object(fields), Part::Key(name)) => {
                let at = fields.iter().position(|(field, _)| **field == **name);
                let at = at.unwrap_or_else(|| {
                    fields.push(((*name).into(), Self::start(rest)));
                    fields.len() - 1
                });
                fields[at].1.set(rest, value)
            }
            (Self::Array(items), Part::Index(index)) => {
                if *index == items.len() {
                    items.push(Self::start(rest));
                }
                items.get_mut(*index).ok_or(Clash::Gap)?.set(rest, value)
            }
            _ => Err(Clash::Kind),
        }
    }

    /// An empty place for what the path goes on with.
    fn start(path: &[Part<'_>]) -> Self {
        match path.first() {
            Some(Part::Index(_) | Part::Each) => Self::Array(Vec::new()),
            _ => Self::object(),
        }
    }

    /// Adds the fields that are absent here, in objects of objects too. What is there stays, `null` included; arrays
    /// are taken whole or not at all.
    pub(super) fn fill(&mut self, defaults: &Node) {
        let Self::Object(defaults) = defaults else { return };
        self.open();
        let Self::Object(fields) = self else { return };
        for (name, default) in defaults {
            match fields.iter_mut().find(|(field, _)| field == name) {
                Some((_, value)) => value.fill(default),
                None => fields.push((name.clone(), default.clone())),
            }
        }
    }

    /// Like [`Node::fill`], and in elements of arrays too, by their places; an array that is there gets no more elements.
    pub(super) fn fill_deep(&mut self, defaults: &Node) {
        self.open();
        let mut defaults = defaults.clone();
        defaults.open();
        match (self, defaults) {
            (Self::Object(fields), Self::Object(defaults)) => {
                for (name, default) in defaults {
                    match fields.iter_mut().find(|(field, _)| *field == name) {
                        Some((_, value)) => value.fill_deep(&default),
                        None => fields.push((name, default)),
                    }
                }
            }
            (Self::Array(items), Self::Array(defaults)) => {
                for (item, default) in items.iter_mut().zip(&defaults) {
                    item.fill_deep(default);
                }
            }
            _ => {}
        }
    }

    /// Takes a field out of an object.
    pub(super) fn remove(&mut self, name: &str) -> Option<Node> {
        self.open();
        let Self::Object(fields) = self else { return None };
        let at = fields.iter().position(|(field, _)| **field == *name)?;
        Some(fields.remove(at).1)
    }

    /// A field of an object.
    pub(super) fn field(&mut self, name: &str) -> Option<&mut Node> {
        self.open();
        let Self::Object(fields) = self else { return None };
        fields.iter_mut().find(|(field, _)| **field == *name).map(|(_, value)| value)
    }

    /// A text, if it is one.
    pub(super) fn as_text(&self) -> Option<String> {
        serde_json::from_slice(&self.to_bytes()).ok()
    }

    /// Takes the fields out of an object that begin with this.
    pub(super) fn take(&mut self, prefix: &str) -> Vec<(Box<str>, Node)> {
        self.open();
        match self {
            Self::Object(fields) => {
                fields.extract_if(.., |(name, _)| name.starts_with(prefix)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Looks one level into raw JSON; everything below stays raw.
    pub(super) fn open(&mut self) {
        let Self::Raw(json) = self else { return };
        let opened = match json.as_bytes().first() {
            Some(b'{') => {
                serde_json::Deserializer::from_str(json).deserialize_map(Fields).map(Self::Object)
            }
            Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(json).map(|items| {
                Self::Array(items.into_iter().map(|item| Self::Raw(item.get().into())).collect())
            }),
            _ => return,
        };
        if let Ok(opened) = opened {
            *self = opened;
        }
    }

    /// Looks into everything, for what is filled into many rows.
    pub(super) fn open_all(&mut self) {
        self.open();
        match self {
            Self::Object(fields) => fields.iter_mut().for_each(|(_, field)| field.open_all()),
            Self::Array(_) | Self::Raw(_) => {}
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut json = String::with_capacity(1024);
        self.write(&mut json);
        json.into_bytes()
    }

    fn write(&self, json: &mut String) {
        match self {
            Self::Raw(raw) => json.push_str(raw),
            Self::Object(fields) => {
                json.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        json.push(',');
                    }
                    json.push_str(&serde_json::Value::from(&**name).to_string());
                    json.push(':');
                    value.write(json);
                }
                json.push('}');
            }
            Self::Array(items) => {
                json.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        json.push(',');
                    }
                    item.write(json);
                }
                json.push(']');
            }
        }
    }
}

/// Reads the fields of an object in their order, values raw.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(Box<str>, Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<Box<str>, &RawValue>()? {
            fields.push((name, Node::Raw(value.get().into())));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::parts;

    fn set(json: &str, path: &str, value: &str) -> Result<String, Clash> {
        let mut node = Node::parse(json).unwrap();
        let path: Vec<Part<'_>> = parts(path).collect();
        node.set(&path, Node::parse(value).unwrap())?;
        Ok(String::from_utf8(node.to_bytes()).unwrap())
    }

    #[test]
    fn what_is_not_touched_stays_byte_for_byte() {
        let json = r#"{"z": 1.50, "a": {"size": 1e2,  "n":"é"},"z":[ ]}"#;
        assert_eq!(
            set(json, "a.b.0.c", "7").unwrap(),
            r#"{"z":1.50,"a":{"size":1e2,"n":"é","b":[{"c":7}]},"z":[ ]}"#
        );
        assert_eq!(set(json, "a", "null").unwrap(), r#"{"z":1.50,"a":null,"z":[ ]}"#);
    }

    #[test]
    fn a_value_finds_its_place_or_says_why_not() {
        assert_eq!(set("{}", "a.1.b", "1"), Err(Clash::Gap));
        assert_eq!(set(r#"{"a":[{}]}"#, "a.1.b", "1").unwrap(), r#"{"a":[{},{"b":1}]}"#);
        assert_eq!(set(r#"{"a":1}"#, "a.b", "1"), Err(Clash::Kind));
        assert_eq!(set(r#"{"a":{}}"#, "a.0", "1"), Err(Clash::Kind));
        assert_eq!(set("[]", "a", "1"), Err(Clash::Kind));
    }

    #[test]
    fn defaults_fill_what_is_absent_only() {
        let mut node = Node::parse(r#"{"a":{"x":null},"b":[1],"c":1}"#).unwrap();
        let mut defaults =
            Node::parse(r#"{"a":{"x":1,"y":{"z":2}},"b":[2,3],"c":{"d":1},"e":[4]}"#).unwrap();
        defaults.open_all();
        node.fill(&defaults);
        let filled = String::from_utf8(node.to_bytes()).unwrap();
        assert_eq!(filled, r#"{"a":{"x":null,"y":{"z":2}},"b":[1],"c":1,"e":[4]}"#);
    }
}

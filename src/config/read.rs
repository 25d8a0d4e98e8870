//! How does the tree become the structs of the sections? By serde, with three things that a format usually does not
//! give: all errors at once, unknown keys with their place, and the list of the keys that there are.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
};

use super::problem::Problem;
use super::tree::{Node, Origin, Table, TreeEntry, Value};
use super::trouble::{Trouble, unknown};
use super::values::{Secret, SecretUrl};

/// What was learned of the structs while they were read.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// Every key that the structs know, as dotted paths; sections are not among them.
    pub(crate) keys: BTreeSet<String>,
    /// The keys whose values are never shown.
    pub(crate) secrets: BTreeSet<String>,
    /// The keys whose values are urls that may hold a password.
    pub(crate) urls: BTreeSet<String>,
    /// The keys that were given as a text and read as a number or a truth, and those that were read as a list.
    pub(crate) bare: BTreeSet<String>,
    pub(crate) lists: BTreeSet<String>,
    /// What each value is read as, in serde's words; only of the keys that were given.
    pub(crate) kinds: BTreeMap<String, String>,
    unknown: Vec<Problem>,
}

/// Reads `tree` into `T`. A value that cannot be read becomes a problem, and the `defaults`' value is read in its place,
/// so that one run finds every problem. `None` only if `defaults` itself does not fit `T`.
pub(crate) fn read<T: DeserializeOwned>(
    mut tree: Table,
    defaults: &Table,
) -> (Option<T>, Learned, Vec<Problem>) {
    let mut problems = Vec::new();
    loop {
        let learned = RefCell::new(Learned::default());
        let result =
            T::deserialize(Reader { at: At::Root(&tree), path: String::new(), learned: &learned });
        let mut learned = learned.into_inner();
        match result {
            Ok(value) => {
                problems.append(&mut learned.unknown);
                return (Some(value), learned, problems);
            }
            Err(trouble) => {
                let fixed = fix(&mut tree, defaults, &trouble.path);
                problems.push(trouble.into_problem());
                if !fixed {
                    problems.append(&mut learned.unknown);
                    return (None, learned, problems);
                }
            }
        }
    }
}

/// Takes the value at `path` out of the tree: a list loses the item, a key falls back to its default. Returns whether
/// anything changed.
fn fix(tree: &mut Table, defaults: &Table, path: &str) -> bool {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let default = defaults.get(first);
    let Some(entry) = tree.get_mut(first) else { return false };
    match &mut entry.node.value {
        Value::Table(inner) if !rest.is_empty() => {
            let below = match default {
                Some(TreeEntry { node: Node { value: Value::Table(below), .. }, .. }) => below,
                _ => &Table::new(),
            };
            fix(inner, below, rest)
        }
        Value::List(list) if rest.parse().is_ok_and(|i: usize| i < list.len()) => {
            list.remove(rest.parse().unwrap_or_default());
            true
        }
        _ if entry.node.origin == Origin::Default => false,
        _ => {
            match default {
                Some(below) => *entry = below.clone(),
                None => drop(tree.remove(first)),
            }
            true
        }
    }
}

#[derive(Clone, Copy)]
enum At<'a> {
    Root(&'a Table),
    Node(&'a Node),
}

/// A deserializer over one node.
struct Reader<'a> {
    at: At<'a>,
    path: String,
    learned: &'a RefCell<Learned>,
}

impl<'a> Reader<'a> {
    fn origin(&self) -> Origin {
        match self.at {
            At::Root(_) => Origin::Default,
            At::Node(node) => node.origin.clone(),
        }
    }

    fn is_read_as(&self, kind: impl FnOnce() -> String) {
        self.learned.borrow_mut().kinds.entry(self.path.clone()).or_insert_with(kind);
    }

    fn untyped(&self) -> Option<&'a str> {
        match self.at {
            At::Node(Node { value: Value::Untyped(text), .. }) => Some(text),
            _ => None,
        }
    }

    fn table(&self) -> Option<&'a Table> {
        match self.at {
            At::Root(table) | At::Node(Node { value: Value::Table(table), .. }) => Some(table),
            At::Node(_) => None,
        }
    }

    /// Reads a text as what the key wants; what is no such thing stays a text, and serde says what it should be.
    fn typed<T, V>(
        self,
        visitor: V,
        parse: fn(&str) -> Option<T>,
        visit: fn(V, T) -> Result<V::Value, Trouble>,
    ) -> Result<V::Value, Trouble>
    where
        V: Visitor<'a>,
    {
        let origin = self.origin();
        self.learned.borrow_mut().bare.insert(self.path.clone());
        match self.untyped().and_then(|text| parse(text.trim())) {
            Some(value) => visit(visitor, value).map_err(|e| e.at(&self.path, &origin)),
            None => de::Deserializer::deserialize_any(self, visitor),
        }
    }

    fn fields(&self, table: &'a Table, fields: &'static [&'static str]) -> Fields<'a> {
        let path = |key: &str| join(&self.path, key);
        let mut learned = self.learned.borrow_mut();
        learned.keys.remove(&self.path);
        learned.keys.extend(fields.iter().map(|field| path(field)));
        for (key, entry) in table.iter().filter(|(key, _)| !fields.contains(&key.as_str())) {
            let message = unknown(key, &self.path, fields);
            learned.unknown.push(Problem::new(entry.key.clone(), Some(path(key)), message));
        }
        let entries =
            table.iter().filter(|(key, _)| fields.contains(&key.as_str())).collect::<Vec<_>>();
        Fields {
            entries: entries.into_iter(),
            value: None,
            path: self.path.clone(),
            learned: self.learned,
        }
    }
}

/// What a visitor says that it wants.
struct Expected<'a, V>(&'a V);

impl<'de, V: Visitor<'de>> std::fmt::Display for Expected<'_, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.expecting(f)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

macro_rules! typed {
    ($($method:ident $type:ty => $visit:ident;)*) => {$(
        fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Trouble> {
            self.typed(visitor, |text| text.parse::<$type>().ok(), |visitor, value| visitor.$visit(value))
        }
    )*};
}

impl<'a> de::Deserializer<'a> for Reader<'a> {
    type Error = Trouble;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Trouble> {
        let origin = self.origin();
        self.is_read_as(|| Expected(&visitor).to_string());
        let result = match self.at {
            At::Root(table) | At::Node(Node { value: Value::Table(table), .. }) => {
                let entries = table.iter().collect::<Vec<_>>().into_iter();
                visitor.visit_map(Fields {
                    entries,
                    value: None,
                    path: self.path.clone(),
                    learned: self.learned,
                })
            }
            At::Node(node) => match &node.value {
                Value::Text(text) | Value::Untyped(text) => visitor.visit_borrowed_str(text),
                Value::Int(number) => visitor.visit_i64(*number),
                Value::Float(number) => visitor.visit_f64(*number),
                Value::Bool(truth) => visitor.visit_bool(*truth),
                Value::List(list) => visitor.visit_seq(Items {
                    left: list.iter().enumerate(),
                    path: &self.path,
                    learned: self.learned,
                }),
                Value::Other(what) => {
                    Err(de::Error::invalid_type(de::Unexpected::Other(what), &visitor))
                }
                Value::Table(_) => Err(de::Error::custom("a table")),
            },
        };
        result.map_err(|e| e.at(&self.path, &origin))
    }

    typed! {
        deserialize_bool bool => visit_bool;
        deserialize_i8 i64 => visit_i64;
        deserialize_i16 i64 => visit_i64;
        deserialize_i32 i64 => visit_i64;
        deserialize_i64 i64 => visit_i64;
        deserialize_u8 u64 => visit_u64;
        deserialize_u16 u64 => visit_u64;
        deserialize_u32 u64 => visit_u64;
        deserialize_u64 u64 => visit_u64;
        deserialize_f32 f64 => visit_f64;
        deserialize_f64 f64 => visit_f64;
    }

    /// An empty variable is an optional key that is not set: that is how compose files leave one out.
    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Trouble> {
        if self.untyped().is_some_and(|text| text.trim().is_empty()) {
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.learned.borrow_mut().lists.insert(self.path.clone());
        let Some(text) = self.untyped() else { return self.deserialize_any(visitor) };
        let origin = self.origin();
        let at = |e: Trouble| e.at(&self.path, &origin);
        let items = list_of(text).map_err(|message| at(de::Error::custom(message)))?;
        visitor.visit_seq(de::value::SeqDeserializer::new(items.into_iter())).map_err(at)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        let mut learned = self.learned.borrow_mut();
        let known = match name {
            Secret::NAME => Some(&mut learned.secrets),
            SecretUrl::NAME => Some(&mut learned.urls),
            _ => None,
        };
        if let Some(paths) = known {
            paths.insert(self.path.clone());
        }
        drop(learned);
        let (path, origin) = (self.path.clone(), self.origin());
        // What serde says would quote the secret.
        let wrong = || Trouble {
            path,
            origin: Some(origin),
            message: "expected a text in quotes".to_owned(),
        };
        let result = visitor.visit_newtype_struct(self);
        if matches!(name, Secret::NAME | SecretUrl::NAME) {
            result.map_err(|_| wrong())
        } else {
            result
        }
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        let Some(table) = self.table() else { return self.deserialize_any(visitor) };
        let origin = self.origin();
        let fields = self.fields(table, fields);
        visitor.visit_map(fields).map_err(|e| e.at(&self.path, &origin))
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        let origin = self.origin();
        self.is_read_as(|| format!("one of {}", variants.join(", ")));
        let result = match self.at {
            At::Node(Node { value: Value::Text(text) | Value::Untyped(text), .. }) => {
                let text: StrDeserializer<'_, Trouble> = text.as_str().into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            _ => Err(de::Error::custom(format!("expected one of {}", variants.join(", ")))),
        };
        result.map_err(|e| e.at(&self.path, &origin))
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Trouble> {
        let Some(table) = self.table() else { return self.deserialize_any(visitor) };
        let entries = table.iter().collect::<Vec<_>>().into_iter();
        let map = Fields { entries, value: None, path: self.path, learned: self.learned };
        MapAccessDeserializer::new(map).deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'a>>
        char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list in one text: `a, b`, or a TOML array where an item holds a comma. Nothing is the empty list.
pub(crate) fn list_of(text: &str) -> Result<Vec<String>, String> {
    #[derive(serde::Deserialize)]
    struct Line {
        list: Vec<String>,
    }
    let trimmed = text.trim();
    if !trimmed.starts_with('[') {
        return Ok(trimmed
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect());
    }
    let line: Result<Line, _> = toml::from_str(&format!("list = {trimmed}"));
    line.map(|line| line.list)
        .map_err(|e| format!("`{trimmed}` is not a list of texts: {}", e.message().trim()))
}

/// The keys of a table that a struct knows.
struct Fields<'a> {
    entries: std::vec::IntoIter<(&'a String, &'a TreeEntry)>,
    value: Option<(&'a str, &'a TreeEntry)>,
    path: String,
    learned: &'a RefCell<Learned>,
}

impl<'a> MapAccess<'a> for Fields<'a> {
    type Error = Trouble;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Trouble> {
        let Some((key, entry)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, entry));
        let key: StrDeserializer<'_, Trouble> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Trouble> {
        let Some((key, entry)) = self.value.take() else {
            return Err(de::Error::custom("a value without its key"));
        };
        let path = join(&self.path, key);
        let reader =
            Reader { at: At::Node(&entry.node), path: path.clone(), learned: self.learned };
        seed.deserialize(reader).map_err(|e| e.at(&path, &entry.node.origin))
    }
}

struct Items<'a, 'p> {
    left: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: &'p str,
    learned: &'a RefCell<Learned>,
}

impl<'a> SeqAccess<'a> for Items<'a, '_> {
    type Error = Trouble;

    fn next_element_seed<S: DeserializeSeed<'a>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Trouble> {
        let Some((i, node)) = self.left.next() else { return Ok(None) };
        let path = join(self.path, &i.to_string());
        let reader = Reader { at: At::Node(node), path: path.clone(), learned: self.learned };
        seed.deserialize(reader).map(Some).map_err(|e| e.at(&path, &node.origin))
    }
}

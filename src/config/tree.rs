//! What is set where? A configuration as a tree whose every value remembers its origin: the embedded default, a line
//! and column of the file, a variable of the environment, a flag.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    /// Line and column count from 1, columns in characters.
    File {
        name: Arc<str>,
        line: usize,
        column: usize,
    },
    Env(Arc<str>),
    Flag(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Env(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    /// From the environment or a flag: a text that is read as whatever the key wants.
    Untyped(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// Something that no key takes: a date.
    Other(&'static str),
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

#[derive(Clone)]
pub(crate) struct TreeEntry {
    /// Where the key itself stands.
    pub(crate) key: Origin,
    pub(crate) node: Node,
}

pub(crate) type Table = BTreeMap<String, TreeEntry>;

/// Reads TOML. All syntax errors at once.
pub(crate) fn parse(text: &str, name: Option<&str>) -> Result<Table, Vec<Problem>> {
    let place = Spot { text, name: name.map(Arc::from) };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let origin = place.at(error.span().map_or(0, |span| span.start));
        let problem = Problem::new(origin, None, error.message().trim().to_owned());
        // A broken line gives one error a symptom; the first says it.
        if problems.iter().all(|known| known.line() != problem.line()) {
            problems.push(problem);
        }
    }
    if problems.is_empty() { Ok(place.table(table.into_inner())) } else { Err(problems) }
}

/// Turns the parser's spans into origins.
struct Spot<'a> {
    text: &'a str,
    name: Option<Arc<str>>,
}

impl Spot<'_> {
    fn at(&self, offset: usize) -> Origin {
        let Some(name) = &self.name else { return Origin::Default };
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Origin::File { name: name.clone(), line, column }
    }

    fn table(&self, table: DeTable<'_>) -> Table {
        let entry = |(key, value): (Spanned<_>, _)| {
            let origin = self.at(key.span().start);
            let key: std::borrow::Cow<'_, str> = key.into_inner();
            (key.into_owned(), TreeEntry { key: origin, node: self.node(value) })
        };
        table.into_iter().map(entry).collect()
    }

    fn node(&self, spanned: Spanned<DeValue<'_>>) -> Node {
        let origin = self.at(spanned.span().start);
        let value = match spanned.into_inner() {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Value::Other("a number beyond 64 bits"), Value::Int),
            DeValue::Float(number) => {
                number.as_str().parse().map_or(Value::Other("not a number"), Value::Float)
            }
            DeValue::Boolean(truth) => Value::Bool(truth),
            DeValue::Datetime(_) => Value::Other("a date"),
            DeValue::Array(list) => {
                Value::List(list.into_iter().map(|item| self.node(item)).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, origin }
    }
}

/// Lays a layer over another: a key of the upper one wins. `x` and `x_file` are two ways to say one thing, so either of
/// them replaces both of the lower layer.
pub(crate) fn overlay(lower: &mut Table, upper: Table) {
    for (key, entry) in upper {
        let twin = key.strip_suffix("_file").map_or_else(|| format!("{key}_file"), str::to_owned);
        match (lower.get_mut(&key), entry.node.value) {
            (
                Some(TreeEntry { node: Node { value: Value::Table(below), .. }, .. }),
                Value::Table(above),
            ) => {
                overlay(below, above);
            }
            (_, value) => {
                let lower_twin =
                    lower.get(&twin).is_some_and(|below| !same_layer(&below.key, &entry.key));
                if lower_twin {
                    lower.remove(&twin);
                }
                let node = Node { value, origin: entry.node.origin };
                lower.insert(key, TreeEntry { key: entry.key, node });
            }
        }
    }
}

fn same_layer(a: &Origin, b: &Origin) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Sets one key, given as its path, to a text of the environment or of a flag.
pub(crate) fn set(table: &mut Table, path: &[&str], text: &str, origin: &Origin) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        let node = Node { value: Value::Untyped(text.to_owned()), origin: origin.clone() };
        table.insert((*first).to_owned(), TreeEntry { key: origin.clone(), node });
        return;
    }
    let empty = || TreeEntry {
        key: origin.clone(),
        node: Node { value: Value::Table(Table::new()), origin: origin.clone() },
    };
    if let Value::Table(inner) =
        &mut table.entry((*first).to_owned()).or_insert_with(empty).node.value
    {
        set(inner, rest, text, origin);
    }
}

/// The entry at a dotted path.
pub(crate) fn find<'a>(table: &'a Table, path: &str) -> Option<&'a TreeEntry> {
    let (first, rest) =
        path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let entry = table.get(first)?;
    match (rest, &entry.node.value) {
        (None, _) => Some(entry),
        (Some(rest), Value::Table(inner)) => find(inner, rest),
        (Some(_), _) => None,
    }
}

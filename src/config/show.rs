//! What holds, and where does it come from? The effective configuration as TOML, with secrets masked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::read::{Learned, list_of};
use super::tree::{Node, Origin, Table, Value};
use super::values::mask_url;

/// The whole tree, section after section; a value that is not the default's says in a comment where it comes from.
pub(crate) fn show(tree: &Table, learned: &Learned) -> String {
    let mut text = String::new();
    section(&mut text, "", tree, learned);
    text
}

/// The value of every key, as it is written. With secrets: not to be shown.
pub(crate) fn values(tree: &Table) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (key, entry) in tree {
        match &entry.node.value {
            Value::Table(inner) => {
                let below = self::values(inner).into_iter();
                values.extend(below.map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            _ => drop(values.insert(key.clone(), literal(&entry.node, false))),
        }
    }
    values
}

fn section(text: &mut String, path: &str, table: &Table, learned: &Learned) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let is_table = |node: &Node| matches!(node.value, Value::Table(_));
    let mut values = table.iter().filter(|(_, entry)| !is_table(&entry.node)).peekable();
    if !path.is_empty() && values.peek().is_some() {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}[{path}]");
    }
    for (key, entry) in values {
        let shown = mask(&join(key), &entry.node, learned);
        let from = match &entry.node.origin {
            Origin::Default => String::new(),
            origin => format!("  # {origin}"),
        };
        let _ = writeln!(text, "{key} = {shown}{from}");
    }
    for (key, entry) in table {
        if let Value::Table(inner) = &entry.node.value {
            section(text, &join(key), inner, learned);
        }
    }
}

fn mask(path: &str, node: &Node, learned: &Learned) -> String {
    if learned.secrets.contains(path) {
        return quoted("***");
    }
    // A list of urls is known by its items.
    let is_url = learned
        .urls
        .iter()
        .any(|url| url == path || url.strip_prefix(path).is_some_and(|r| r.starts_with('.')));
    match &node.value {
        Value::Untyped(text) if learned.bare.contains(path) => text.trim().to_owned(),
        Value::Untyped(text) if learned.lists.contains(path) => {
            let items: Vec<_> =
                list_of(text).unwrap_or_default().iter().map(|item| quoted(item)).collect();
            format!("[{}]", items.join(", "))
        }
        _ => literal(node, is_url),
    }
}

fn literal(node: &Node, is_url: bool) -> String {
    match &node.value {
        Value::Text(text) | Value::Untyped(text) if is_url => {
            quoted(&text.split(',').map(|url| mask_url(url.trim())).collect::<Vec<_>>().join(", "))
        }
        Value::Text(text) | Value::Untyped(text) => quoted(text),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Bool(truth) => truth.to_string(),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| literal(item, is_url)).collect();
            format!("[{}]", items.join(", "))
        }
        // Of a list of tables; secrets of one stand in files.
        Value::Table(inner) => {
            let fields: Vec<_> = inner
                .iter()
                .map(|(key, entry)| format!("{key} = {}", literal(&entry.node, is_url)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Other(_) => String::new(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

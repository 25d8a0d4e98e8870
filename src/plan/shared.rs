//! What do all rows of a plan share? The defaults file and the `--set` values, read and typed once.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::TimeZone;

use super::cell::{Cell, Refused, Typed, Wants};
use super::mapping::Mapping;
use super::settings::RowSettings;
use super::tree::Node;
use super::{Options, PlanError};
use crate::contract::{
    self, ABSENT, Kind, Part, Rule, Rules, Violation, fields, find, nearest, parts, says,
};
use crate::message::headers;

/// What is filled into every row.
#[derive(Default)]
pub(super) struct SharedFields {
    /// Fields that rows may leave out.
    pub(super) defaults: Option<Node>,
    pub(super) default_settings: RowSettings,
    /// (path, value): over whatever the row says.
    pub(super) set: Vec<(String, Node)>,
    /// (name, value): over the row's settings.
    pub(super) set_settings: Vec<(String, Cell)>,
    /// The options' own, and what the defaults file says of columns.
    pub(super) mapping: Mapping,
}

impl SharedFields {
    /// All that is wrong with the options at once.
    pub(super) fn read(options: &Options) -> Result<Self, PlanError> {
        let mut shared = Self { mapping: options.mapping.clone(), ..Self::default() };
        let mut problems = Vec::new();
        if let Some(file) = &options.defaults
            && let Err(found) = shared.read_defaults(file, options)
        {
            problems.extend(found.iter().map(|what| format!("{}: {what}", file.display())));
        }
        for text in &options.set {
            if let Err(problem) = shared.read_set(text, options) {
                problems.push(format!("--set {text}: {problem}"));
            }
        }
        if problems.is_empty() { Ok(shared) } else { Err(PlanError::Shared(problems)) }
    }

    /// Whether a JSON row stays as it is.
    pub(super) fn is_empty(&self) -> bool {
        self.defaults.is_none() && self.set.is_empty()
    }

    /// All that is wrong with the file, so that no row is blamed for it.
    fn read_defaults(&mut self, file: &Path, options: &Options) -> Result<(), Vec<String>> {
        let mut node = defaults_of(file).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        if let Some(columns) = node.remove("columns")
            && let Err(problem) = self.read_columns(&columns)
        {
            problems.push(format!("[columns]: {problem}"));
        }
        for (name, value) in node.take(headers::PREFIX) {
            if let Err(refused) =
                put_setting(&mut self.default_settings, &name, &value, &options.zone)
            {
                problems.push(in_words(&name, &refused));
            }
        }
        problems.extend(judge(&node, &options.rules).into_iter().map(|wrong| {
            let Violation { pointer, found, allowed } = wrong;
            let colon = if pointer.is_empty() { "" } else { ": " };
            format!("{pointer}{colon}{}", says(&found, &allowed))
        }));
        self.defaults = Some(node);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// What `--map` says goes before it.
    fn read_columns(&mut self, columns: &Node) -> Result<(), String> {
        let columns: BTreeMap<String, String> = serde_json::from_slice(&columns.to_bytes())
            .map_err(
                |_| "a table of headers and fields, as \"Host name\" = \"source_server.name\"",
            )?;
        for (header, field) in &columns {
            if self.mapping.field_of(header).is_none() {
                self.mapping.add(header, field)?;
            }
        }
        Ok(())
    }

    fn read_set(&mut self, text: &str, options: &Options) -> Result<(), String> {
        let zone = &options.zone;
        let Some((name, value)) = text.split_once('=') else {
            return Err("write it as field=value".to_owned());
        };
        let name = name.trim();
        // nobody sets a field to say nothing: the empty value is the empty text
        let cell = if value.is_empty() { Cell::Blank } else { Cell::typed(value) };
        if name.starts_with(headers::PREFIX) {
            RowSettings::default()
                .put(name, &cell, zone)
                .map_err(|refused| in_words(name, &refused))?;
            self.set_settings.push((name.to_owned(), cell));
            return Ok(());
        }
        let rule = known(name)?;
        let typed =
            cell.to_json(Wants::of(rule, false)).map_err(|refused| in_words(name, &refused))?;
        let Typed { node: Some(node), .. } = typed else {
            return Err(format!("needs a value: {}", rule.allowed()));
        };
        let mut body = Node::object();
        if body.set(&parts(name).collect::<Vec<_>>(), node.clone()).is_ok()
            && let Some(wrong) = judge(&body, &options.rules).first()
        {
            return Err(says(&wrong.found, &wrong.allowed));
        }
        self.set.push((name.to_owned(), node));
        Ok(())
    }

    /// Whether `--set` says what stands at this place of every row, or is this setting.
    pub(super) fn sets(&self, wanted: &str) -> bool {
        let field = |path: &str| {
            let pointer = super::columns::pointer(path);
            let below = wanted.strip_prefix(&pointer);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        };
        self.set.iter().any(|(path, _)| field(path))
            || self.set_settings.iter().any(|(name, _)| name == wanted)
    }
}

/// The rule of a field that `--set` names.
fn known(name: &str) -> Result<&'static Rule, String> {
    match find(name) {
        Some(_) if parts(name).any(|part| part == Part::Each) => {
            Err(format!("name the element, from 0 on: {}", name.replacen("[]", ".0", 1)))
        }
        Some(rule) if !matches!(rule.kind, Kind::Object(_)) => Ok(rule),
        _ => {
            let paths: Vec<String> = fields().into_iter().map(|field| field.path).collect();
            let hint = nearest(name, paths.iter().map(String::as_str));
            let hint = hint.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
            Err(format!("{name:?} is no field of the contract{hint}"))
        }
    }
}

/// The fields that a defaults file holds, and settings.
fn defaults_of(file: &Path) -> Result<Node, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    let toml = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
    let mut node = if toml {
        let value: serde_json::Value = toml::from_str(&text).map_err(|error| error.to_string())?;
        Node::parse(&value.to_string())
    } else {
        Node::parse(text.trim_start_matches('\u{feff}'))
    }
    .map_err(|error| format!("is no valid JSON: {error}"))?;
    node.open_all();
    if !matches!(node, Node::Object(_)) {
        return Err("must hold one JSON object: the fields of a request".to_owned());
    }
    Ok(node)
}

/// What the contract has against fields that stand in no row yet. What is missing may stand in the rows, and what depends
/// on other fields is seen with them.
fn judge(body: &Node, rules: &Rules) -> Vec<Violation> {
    const WITH_OTHERS: &str = "/migration_ip";
    let Err(invalid) = contract::read(&body.to_bytes(), rules) else { return Vec::new() };
    let alone = |wrong: &Violation| wrong.found != ABSENT && wrong.pointer != WITH_OTHERS;
    invalid.violations.into_iter().filter(alone).collect()
}

fn in_words(name: &str, refused: &Refused) -> String {
    let advice = if refused.advice.is_empty() { "" } else { "; " };
    format!("{name}: {}{advice}{}", says(&refused.found, &refused.allowed), refused.advice)
}

/// Puts a setting that stands in JSON.
pub(super) fn put_setting(
    settings: &mut RowSettings,
    name: &str,
    value: &Node,
    zone: &TimeZone,
) -> Result<(), Refused> {
    let json = value.to_bytes();
    let cell = match serde_json::from_slice(&json) {
        Ok(serde_json::Value::Null) => Cell::Empty,
        Ok(serde_json::Value::Bool(value)) => Cell::Boolean(value),
        Ok(serde_json::Value::Number(number)) => Cell::Number(number.as_f64().unwrap_or(f64::NAN)),
        Ok(serde_json::Value::String(text)) => Cell::typed(&text),
        // an object or an array is no setting: it is refused as the text it is
        _ => Cell::bad(crate::contract::shown(&String::from_utf8_lossy(&json)), ""),
    };
    settings.put(name, &cell, zone)
}

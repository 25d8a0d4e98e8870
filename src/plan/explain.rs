//! What may stand in this field? Answers `sluice check --explain FIELD`.

use std::fmt::Write as _;

use super::settings::SETTINGS;
use crate::contract::{Kind, Need, fields, find, nearest};

/// There is no such field.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no field of the contract{}", .meant.as_ref().map(|meant| format!("; did you mean {meant}?")).unwrap_or_default())]
pub struct UnknownField {
    pub name: String,
    pub meant: Option<String>,
}

/// The rule of a field (dotted, indices as `.0`, `[0]` or `[]`), of an object or of a setting, in a few lines.
pub fn explain(name: &str) -> Result<String, UnknownField> {
    let name = name.trim();
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
        let about = setting.about;
        return Ok(format!(
            "{name} (a setting of the row, not sent to the API)\n{about}\nallowed: {}\nrequired: no",
            setting.allowed
        ));
    }
    let Some(rule) = find(name) else {
        let known: Vec<String> = fields().into_iter().map(|field| field.path).collect();
        let known =
            known.iter().map(String::as_str).chain(SETTINGS.iter().map(|setting| setting.name));
        let meant = nearest(name, known).map(str::to_owned);
        return Err(UnknownField { name: name.to_owned(), meant });
    };
    let mut text = format!("{name}\n{}", rule.explain());
    if let Kind::Object(of) | Kind::List { of, .. } = rule.kind {
        text.push_str("\nfields:");
        for rule in of.rules {
            let star = if rule.need == Need::Optional { "" } else { " (required)" };
            let _ = write!(text, "\n  {}{star}: {}", rule.name, rule.allowed());
        }
    }
    if name.contains("[]") {
        let _ = write!(text, "\nin a CSV or Excel plan: {}", name.replace("[]", ".0"));
    }
    Ok(text)
}

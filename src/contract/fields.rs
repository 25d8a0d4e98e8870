//! What is the rule for a field with this name? Every leaf of the page by its dotted path, and rules in words.

use std::fmt::Write as _;

use strsim::osa_distance;

use super::page::{Kind, Letters, Literal, Need, Rule, Shape, TASK};

/// A field of the body that holds no other: what a column of a plan can fill.
#[derive(Clone, Debug)]
pub struct Field {
    /// Dotted; `[]` stands for the index of an array: `target_server.disks[].name`.
    pub path: String,
    pub rule: &'static Rule,
}

/// Every leaf of the page, in its order.
pub fn fields() -> Vec<Field> {
    fn walk(shape: &'static Shape, path: &str, fields: &mut Vec<Field>) {
        for rule in shape.rules {
            let path = format!("{path}{}", rule.name);
            match rule.kind {
                Kind::Object(of) => walk(of, &format!("{path}."), fields),
                Kind::List { of, .. } => walk(of, &format!("{path}[]."), fields),
                _ => fields.push(Field { path, rule }),
            }
        }
    }
    let mut fields = Vec::with_capacity(96);
    walk(&TASK, "", &mut fields);
    fields
}

/// One step of a dotted path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Key(&'a str),
    Index(usize),
    /// `[]`: any element.
    Each,
}

/// The steps of a dotted path: `a.0.b`, `a[0].b` and `a[].b` are all read.
pub fn parts(path: &str) -> impl Iterator<Item = Part<'_>> {
    path.split(['.', '[']).filter(|part| !part.is_empty()).map(|part| {
        let bare = part.strip_suffix(']').unwrap_or(part);
        match bare.parse() {
            _ if part == "]" => Part::Each,
            Ok(index) if bare.bytes().all(|byte| byte.is_ascii_digit()) => Part::Index(index),
            _ => Part::Key(part),
        }
    })
}

/// The rule of a dotted path, leaf or not; `None` for what the page does not know.
pub fn find(path: &str) -> Option<&'static Rule> {
    let mut shape = Some(&TASK);
    let mut found: Option<&'static Rule> = None;
    for part in parts(path) {
        match (part, found.map(|rule| rule.kind)) {
            (Part::Index(_) | Part::Each, Some(Kind::List { of, .. })) if shape.is_none() => {
                shape = Some(of);
            }
            (Part::Key(name), _) => {
                let rule = shape?.rules.iter().find(|rule| rule.name == name)?;
                shape = if let Kind::Object(of) = rule.kind { Some(of) } else { None };
                found = Some(rule);
            }
            _ => return None,
        }
    }
    found
}

/// The name among `names` that was probably meant, for a hint.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = plain(wrong);
    let allowed = wrong.len() / 5 + 1;
    let (distance, name) =
        names.into_iter().map(|name| (osa_distance(&wrong, &plain(name)), name)).min()?;
    (distance <= allowed && wrong.len() < 128).then_some(name)
}

/// Without case and separators, so that `sourceServer` is `source_server`.
fn plain(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|char| char.to_ascii_lowercase())
        .take(128)
        .collect()
}

impl Rule {
    /// What is allowed there, in words: `a whole number from 0 to 65535`.
    pub fn allowed(&self) -> String {
        self.kind.in_words()
    }

    /// The whole rule in a few lines, for `sluice check --explain`.
    pub fn explain(&self) -> String {
        let mut text = format!("{}\nallowed: {}", self.about, self.allowed());
        let need = match self.need {
            Need::Optional => "no; null counts as absent",
            Need::Required => "yes",
            Need::UnlessTemplate => "yes, unless vm_template_id names a template",
        };
        let _ = write!(text, "\nrequired: {need}");
        if let Some(default) = self.default {
            let _ = write!(text, "\ndefault: {default}");
        }
        match self.kind {
            Kind::Choice { verified: false, .. } => {
                text.push_str("\nother values: a warning (the API does not verify)");
            }
            Kind::Integer { or_text: true, .. } => text.push_str("\nas text (\"1\"): a warning"),
            Kind::Text { letters: Letters::Name, .. } => {
                text.push_str("\nChinese characters: a warning");
            }
            _ => {}
        }
        text
    }
}

impl Kind {
    /// Whether a value of it is a text.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::Choice { .. })
    }

    pub(crate) fn in_words(&self) -> String {
        match *self {
            Self::Text { min: 0, max, .. } => format!("text of at most {max} characters"),
            Self::Text { min, max, letters: Letters::Any } => {
                format!("text of {min} to {max} characters")
            }
            Self::Text { min, max, letters: Letters::Name } => {
                format!(
                    "text of {min} to {max} characters: letters, digits, underscores and hyphens"
                )
            }
            Self::Choice { values, .. } => format!("one of {}", values.join(", ")),
            Self::Integer { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Boolean => "true or false".to_owned(),
            Self::Object(of) => format!("an object ({})", of.name),
            Self::List { of, max } => format!("an array of at most {max} objects ({})", of.name),
        }
    }
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_with_any_way_of_writing_an_index() {
        for path in [
            "target_server.disks.0.size",
            "target_server.disks[3].size",
            "target_server.disks[].size",
        ] {
            assert_eq!(
                find(path).unwrap().allowed(),
                "a whole number from 0 to 9223372036854775807",
                "{path}"
            );
        }
        for path in [
            "",
            "nme",
            "name.0",
            "target_server.disks.size",
            "target_server.0.size",
            "source_server.id.x",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
        assert!(matches!(find("target_server.disks").unwrap().kind, Kind::List { max: 50, .. }));
        assert_eq!(fields().len(), 75);
        assert!(fields().iter().all(|field| std::ptr::eq(find(&field.path).unwrap(), field.rule)));
    }

    #[test]
    fn a_slip_of_the_pen_gets_a_hint_and_another_word_does_not() {
        let names = || TASK.rules.iter().map(|rule| rule.name);
        assert_eq!(nearest("prority", names()), Some("priority"));
        assert_eq!(nearest("nmae", names()), Some("name"));
        assert_eq!(nearest("sourceServer", names()), Some("source_server"));
        assert_eq!(nearest("owner", names()), None);
    }
}

//! What does a cell mean? Turns what stands in a CSV or Excel cell into JSON of the type that the contract wants there.
//!
//! A cell that does not fit its type is passed on as the text it is, so that the contract, which knows what is allowed,
//! says what is wrong.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::civil::DateTime;

use super::clean::{self, Unclear, trim};
use super::shown::{NOTHING, digits, general, says};
use super::tree::Node;
use crate::contract::{Kind, Rule, shown};

/// What stands in a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Cell {
    #[default]
    Empty,
    /// An empty text that was meant: `""`.
    Blank,
    Text(String),
    /// Spreadsheets keep every number as a float.
    Number(f64),
    /// A number that its format shows as something else.
    Shown {
        value: f64,
        shown: Box<str>,
    },
    Boolean(bool),
    /// A day and a time; and the number that is stored, where it is one.
    Date {
        at: DateTime,
        stored: Option<f64>,
        /// What of it the cell does not show.
        unseen: Option<&'static str>,
    },
    /// What has no value: an error, a formula without a result, a part of a merged cell.
    Bad {
        found: Arc<str>,
        advice: Cow<'static, str>,
    },
}

/// What is wrong with a cell as such, or questionable: what was found, what is allowed, what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub found: String,
    pub allowed: String,
    pub advice: Cow<'static, str>,
}

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub kind: Kind,
    /// Something is told from others by it.
    pub id: bool,
    /// 1,5 is a number.
    pub comma: bool,
}

impl Wants {
    pub(super) fn of(rule: &Rule, comma: bool) -> Self {
        Self { kind: rule.kind, id: clean::is_id(rule.name), comma }
    }

    fn text(self) -> bool {
        self.kind.is_text()
    }

    fn refuse(self, found: String, advice: impl Into<Cow<'static, str>>) -> Refused {
        Refused { found, allowed: self.kind.in_words(), advice: advice.into() }
    }
}

/// A cell as JSON: `None` where the field is absent; and what is questionable about it.
#[derive(Debug, Default)]
pub(super) struct Typed {
    pub node: Option<Node>,
    pub doubt: Option<Refused>,
}

impl From<Node> for Typed {
    fn from(node: Node) -> Self {
        Self { node: Some(node), doubt: None }
    }
}

/// Spreadsheets keep 15 digits of a number; what has more has lost some.
const EXACT: f64 = 1e15;
pub(super) const AS_TEXT: &str = "format the column as Text, then type the value again";

impl Cell {
    /// A text as a person typed it: without blanks around it, `""` as the empty text.
    pub(super) fn typed(text: &str) -> Self {
        match trim(text) {
            "" => Self::Empty,
            "\"\"" => Self::Blank,
            text => Self::Text(text.to_owned()),
        }
    }

    pub(super) fn bad(found: impl Into<Arc<str>>, advice: impl Into<Cow<'static, str>>) -> Self {
        Self::Bad { found: found.into(), advice: advice.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::Empty
    }

    /// The cell as JSON for a field that wants this.
    pub(super) fn to_json(&self, wants: Wants) -> Result<Typed, Refused> {
        let node = match self {
            Self::Empty => return Ok(Typed::default()),
            // no other type can be empty, and files that quote everything quote their empty cells too
            Self::Blank if !wants.text() => return Ok(Typed::default()),
            Self::Blank => Node::text(""),
            Self::Text(text) if wants.text() => return text_of(text, wants),
            Self::Text(text) => return typed_text(text, wants),
            Self::Number(value) if wants.text() => return number_as_text(*value, wants),
            Self::Number(value) => return Ok(number_as_number(*value, wants)),
            Self::Shown { value, shown } if wants.text() => {
                return shown_as_text(*value, shown, wants);
            }
            Self::Shown { value, shown } => {
                let doubt = (!says(shown, *value)).then(|| {
                    wants.refuse(
                        format!("{shown} (stored, and sent, as {})", digits(*value)),
                        "format the column as General to see what is sent",
                    )
                });
                return Ok(Typed { node: Some(typed_number(*value, wants.kind)), doubt });
            }
            Self::Boolean(value) if wants.text() => {
                let text = if *value { "true" } else { "false" };
                let found = format!("the boolean {}", text.to_uppercase());
                let doubt = Some(
                    wants.refuse(found, format!("\"{text}\" is sent; {AS_TEXT} if that is not it")),
                );
                return Ok(Typed { node: Some(Node::text(text)), doubt });
            }
            Self::Boolean(value) => raw(value),
            Self::Date { .. } => {
                return Err(wants.refuse(format!("the date {}", self.shown()), AS_TEXT));
            }
            Self::Bad { found, advice } => {
                return Err(wants.refuse(found.to_string(), advice.clone()));
            }
        };
        Ok(node.into())
    }

    /// The cell as it is shown in a message, and what is stored where that is something else.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Empty => "an empty cell".to_owned(),
            Self::Blank => "\"\"".to_owned(),
            Self::Text(text) => shown(text),
            Self::Number(value) => digits(*value),
            Self::Shown { value, shown } => format!("{shown} (stored as {})", digits(*value)),
            Self::Boolean(value) => value.to_string(),
            Self::Date { at, stored, .. } => {
                let day = at.time() == jiff::civil::Time::midnight();
                let format = if day { "%F" } else { "%F %H:%M:%S" };
                let stored = stored.map(|stored| format!(" (stored as {stored})"));
                format!("{}{}", at.strftime(format), stored.unwrap_or_default())
            }
            Self::Bad { found, .. } => found.to_string(),
        }
    }

    /// What stands in the cell as a spreadsheet shows it, to be written down again.
    pub(super) fn as_seen(&self) -> Option<String> {
        Some(match self {
            Self::Empty => return None,
            Self::Text(text) => text.clone(),
            Self::Shown { shown, .. } if &**shown == NOTHING => return None,
            Self::Shown { shown, .. } => shown.to_string(),
            Self::Date { at, .. } => at.strftime("%F %H:%M:%S").to_string(),
            other => other.shown(),
        })
    }
}

/// A text where one is wanted.
fn text_of(text: &str, wants: Wants) -> Result<Typed, Refused> {
    let clean = clean::clean(text, wants.id).map_err(|Unclear { found, advice }| {
        wants.refuse(format!("{} ({found})", shown(text)), advice)
    })?;
    let doubt = clean.taken.map(|taken| {
        let found = format!("{} ({taken})", shown(text));
        wants.refuse(found, format!("{} is sent", shown(&clean.text)))
    });
    Ok(Typed { node: Some(Node::text(&clean.text)), doubt })
}

/// A text where something else is wanted.
fn typed_text(text: &str, wants: Wants) -> Result<Typed, Refused> {
    let typed = match wants.kind {
        Kind::Boolean => boolean(text).map(raw),
        Kind::Integer { .. } | Kind::Number { .. } => {
            if let Some(advice) = ambiguous(text, wants) {
                return Err(wants.refuse(shown(text), advice));
            }
            if matches!(wants.kind, Kind::Integer { .. }) {
                whole(text)
            } else {
                number(text, wants.comma)
            }
        }
        Kind::Object(_) | Kind::List { .. } => {
            let broken = |error: serde_json::Error| Refused {
                found: format!("{} ({error})", shown(text)),
                allowed: format!("{}, as JSON", wants.kind.in_words()),
                advice: "put valid JSON there, or use a column for each field".into(),
            };
            Some(Node::parse(text).map_err(broken)?)
        }
        Kind::Text { .. } | Kind::Choice { .. } => None,
    };
    Ok(typed.unwrap_or_else(|| Node::text(text)).into())
}

/// What to do about a number that one reader takes for a thousand times another's.
fn ambiguous(text: &str, wants: Wants) -> Option<Cow<'static, str>> {
    if clean::is_rounded(text) {
        return Some(
            "a spreadsheet has cut it short: format the column as Number without decimals, save it again".into(),
        );
    }
    if let Some(number) = text.strip_suffix('%') {
        return Some(format!("write {} if that many percent are meant", trim(number)).into());
    }
    if let Some(error) = clean::error_of(text).or_else(|| clean::office_error_of(text)) {
        return Some(format!("{error} is an error: {}", clean::FIX).into());
    }
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mark = bare.chars().find(|char| !char.is_ascii_digit())?;
    let mut groups = bare.split(mark);
    let figures = |group: &str, most: usize| {
        !group.is_empty() && group.len() <= most && group.bytes().all(|byte| byte.is_ascii_digit())
    };
    let first = groups.next().is_some_and(|group| figures(group, 3) && group != "0");
    let rest: Vec<&str> = groups.collect();
    let thousands = first && rest.iter().all(|group| group.len() == 3 && figures(group, 3));
    let decimal = matches!(wants.kind, Kind::Number { .. })
        && rest.len() == 1
        && mark == if wants.comma { ',' } else { '.' };
    let separates = matches!(mark, '.' | ',' | '\'' | ' ' | '_') || mark.is_whitespace();
    (thousands && separates && !decimal).then(|| {
        format!(
            "it may mean {}{} or less: write it without separators",
            &bare[..bare.find(mark).unwrap_or(0)],
            rest.concat()
        )
        .into()
    })
}

/// A number where a text is wanted: its digits, if that is what one sees.
fn number_as_text(value: f64, wants: Wants) -> Result<Typed, Refused> {
    let (digits, seen) = (digits(value), general(value));
    if value.fract() == 0.0 && value.abs() >= EXACT {
        let found = format!("{seen} (the number {digits}, of which 15 digits are kept)");
        return Err(wants.refuse(found, AS_TEXT));
    }
    if seen == digits {
        return Ok(Node::text(&digits).into());
    }
    let found = format!("{seen} (stored as the number {digits})");
    if value.fract() != 0.0 {
        return Err(wants.refuse(found, AS_TEXT));
    }
    let advice = format!("{digits} is sent; {AS_TEXT} if that is not it");
    let doubt = Some(wants.refuse(found, advice));
    Ok(Typed { node: Some(Node::text(&digits)), doubt })
}

/// A number where one is wanted; spreadsheets put zeros in the place of what does not fit.
fn number_as_number(value: f64, wants: Wants) -> Typed {
    let doubt = (value.abs() >= EXACT).then(|| {
        let found = format!("{}, of which a spreadsheet keeps 15 digits", digits(value));
        wants.refuse(found, "give it in a CSV or JSON plan if its last digits matter")
    });
    Typed { node: Some(typed_number(value, wants.kind)), doubt }
}

/// A number with a format of its own where a text is wanted.
fn shown_as_text(value: f64, shown: &str, wants: Wants) -> Result<Typed, Refused> {
    let found = format!("{shown} (stored as the number {})", digits(value));
    Err(wants.refuse(found, AS_TEXT))
}

/// A number where something else than a text is wanted.
fn typed_number(number: f64, kind: Kind) -> Node {
    if kind == Kind::Boolean && (number == 0.0 || number.to_bits() == 1.0_f64.to_bits()) {
        return raw(number != 0.0);
    }
    raw(digits(number))
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// Digits with a sign, or with a fraction of zeros, as spreadsheets write them. `1E+10` is not taken: whoever wrote
/// that has dropped digits.
fn whole(text: &str) -> Option<Node> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let digits = match digits.split_once('.') {
        Some((digits, zeros)) if zeros.bytes().all(|byte| byte == b'0') => digits,
        Some(_) => return None,
        None => digits,
    };
    let plain =
        !digits.is_empty() && digits.len() < 25 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let digits = digits.trim_start_matches('0');
    plain.then(|| raw(if digits.is_empty() { "0".to_owned() } else { format!("{sign}{digits}") }))
}

fn number(text: &str, comma: bool) -> Option<Node> {
    if let Some(whole) = whole(text) {
        return Some(whole);
    }
    let number: f64 =
        if comma { text.replacen(',', ".", 1).parse().ok()? } else { text.parse().ok()? };
    serde_json::Number::from_f64(number).map(raw)
}

#[allow(clippy::needless_pass_by_value)] // taken by `map(raw)`
fn raw(json: impl ToString) -> Node {
    Node::Raw(json.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::find;

    fn json(cell: &Cell, path: &str) -> String {
        match cell.to_json(Wants::of(find(path).unwrap(), true)) {
            Ok(Typed { node: None, .. }) => "absent".to_owned(),
            Ok(Typed { node: Some(node), doubt }) => {
                let doubt = if doubt.is_some() { " in doubt" } else { "" };
                String::from_utf8(node.to_bytes()).unwrap() + doubt
            }
            Err(refused) => format!("refused: {}", refused.found),
        }
    }

    #[test]
    fn cells_take_the_type_that_the_contract_wants() {
        let text = |text: &str| Cell::typed(text);
        for (cell, path, expected) in [
            (text("0012"), "source_server.id", "\"0012\""),
            (text("0012"), "priority", "12"),
            (text(" a b "), "region_name", "\"a b\""),
            (text("  "), "region_name", "absent"),
            (text("\"\""), "target_server.vm_id", "\"\""),
            (text("\"\""), "priority", "absent"),
            (text("TRUE"), "syncing", "true"),
            (text("1"), "syncing", "true"),
            (text("no"), "syncing", "false"),
            (text("maybe"), "syncing", "\"maybe\""),
            (text("100.0"), "priority", "100"),
            (text("-5"), "priority", "-5"),
            (text("1.5"), "priority", "\"1.5\""),
            (text("4.29E+10"), "target_server.disks.0.size", "refused: \"4.29E+10\""),
            (text("1.000"), "priority", "refused: \"1.000\""),
            (text("42.949.672.960"), "target_server.disks.0.size", "refused: \"42.949.672.960\""),
            (text("12,500"), "over_speed_threshold", "12.5"),
            (text("12.500"), "over_speed_threshold", "refused: \"12.500\""),
            (text("50%"), "over_speed_threshold", "refused: \"50%\""),
            (text("='0012'"), "source_server.id", "refused: \"='0012'\" (a formula as text)"),
            (text("'0012"), "source_server.id", "\"0012\" in doubt"),
            (text("10,5"), "over_speed_threshold", "10.5"),
            (text("inf"), "over_speed_threshold", "\"inf\""),
            (text("[{}]"), "target_server.disks", "[{}]"),
            (
                text("[{"),
                "target_server.disks",
                "refused: \"[{\" (EOF while parsing an object at line 1 column 2)",
            ),
            (Cell::Number(12.0), "source_server.id", "\"12\""),
            (Cell::Number(12.0), "priority", "12"),
            (Cell::Number(1.5), "priority", "1.5"),
            (Cell::Number(42_949_672_960.0), "target_server.disks.0.size", "42949672960"),
            (Cell::Number(1.0), "syncing", "true"),
            (Cell::Number(2.0), "syncing", "2"),
            (Cell::Number(0.1 + 0.2), "over_speed_threshold", "0.30000000000000004"),
            (
                Cell::Boolean(true),
                "target_server.btrfs_list.0.subvolumn.0.is_snapshot",
                "\"true\" in doubt",
            ),
            (Cell::Boolean(false), "syncing", "false"),
            (
                Cell::Date {
                    at: jiff::civil::datetime(2026, 11, 3, 0, 0, 0, 0),
                    stored: Some(46329.0),
                    unseen: None,
                },
                "name",
                "refused: the date 2026-11-03 (stored as 46329)",
            ),
            (Cell::bad("the error #N/A", ""), "name", "refused: the error #N/A"),
            (
                Cell::Shown { value: 12.0, shown: "000012".into() },
                "source_server.id",
                "refused: 000012 (stored as the number 12)",
            ),
            (Cell::Shown { value: 12.0, shown: "12.00".into() }, "priority", "12"),
            (Cell::Shown { value: 50.0, shown: "5000%".into() }, "priority", "50 in doubt"),
            (Cell::Number(582_520_512_002.0), "project_id", "\"582520512002\" in doubt"),
        ] {
            assert_eq!(json(&cell, path), expected, "{cell:?} {path}");
        }
        let long = json(&Cell::Number(1_234_567_890_123_456.0), "project_id");
        assert!(long.starts_with("refused: 1.23457E+15 (the number 1234567890123456"), "{long}");
    }
}

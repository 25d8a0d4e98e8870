//! What does a cell mean? Turns what stands in a CSV or Excel cell into JSON of the type that the contract wants there.
//!
//! A cell that does not fit its type is passed on as the text it is, so that the contract, which knows what is allowed,
//! says what is wrong.

use crate::contract::{Kind, shown};

use super::tree::Node;

/// What stands in a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Cell {
    #[default]
    Empty,
    /// An empty text that was meant: `""`.
    Blank,
    Text(String),
    /// Excel keeps every number as a float.
    Number(f64),
    Boolean(bool),
    /// An Excel date: (year, month, day, hour, minute, second).
    Date(u16, u8, u8, u8, u8, u8),
    /// An Excel error such as `#N/A`.
    Error(String),
}

/// What is wrong with a cell as such: what was found, what is allowed, what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub found: String,
    pub allowed: String,
    pub advice: &'static str,
}

/// Excel keeps 15 digits of a number; what has more has lost some.
const EXACT: f64 = 1e15;

impl Cell {
    /// A text as a person typed it: without spaces around it, `""` as the empty text.
    pub(super) fn typed(text: &str) -> Self {
        match text.trim() {
            "" => Self::Empty,
            "\"\"" => Self::Blank,
            text => Self::Text(text.to_owned()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::Empty
    }

    /// The cell as JSON for a field of this kind; `None` where the field is absent. `comma`: 1,5 is a number.
    pub(super) fn to_json(&self, kind: Kind, comma: bool) -> Result<Option<Node>, Refused> {
        let wants_text = matches!(kind, Kind::Text { .. } | Kind::Choice { .. });
        let node = match self {
            Self::Empty => return Ok(None),
            // no other type can be empty, and files that quote everything quote their empty cells too
            Self::Blank if !wants_text => return Ok(None),
            Self::Blank => Node::text(""),
            Self::Text(text) if wants_text => Node::text(text),
            Self::Text(text) => typed_text(text, kind, comma)?,
            Self::Number(number) => typed_number(*number, kind)?,
            Self::Boolean(value) if wants_text => Node::text(if *value { "true" } else { "false" }),
            Self::Boolean(value) => raw(value),
            Self::Date(year, month, day, ..) => {
                return Err(Refused {
                    found: format!("the date {year}-{month:02}-{day:02}"),
                    allowed: kind.in_words(),
                    advice: "format the column as Text, then type the value again",
                });
            }
            Self::Error(error) => {
                return Err(Refused {
                    found: format!("the error {error}"),
                    allowed: kind.in_words(),
                    advice: "mend the formula, or put the value in its place",
                });
            }
        };
        Ok(Some(node))
    }

    /// The cell as it is shown in a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Empty => "an empty cell".to_owned(),
            Self::Blank => "\"\"".to_owned(),
            Self::Text(text) | Self::Error(text) => shown(text),
            Self::Number(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Date(year, month, day, hour, minute, second) => {
                format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
            }
        }
    }
}

/// A text where something else is wanted.
fn typed_text(text: &str, kind: Kind, comma: bool) -> Result<Node, Refused> {
    let typed = match kind {
        Kind::Boolean => boolean(text).map(raw),
        Kind::Integer { .. } => whole(text),
        Kind::Number { .. } => number(text, comma),
        Kind::Object(_) | Kind::List { .. } => {
            let broken = |error: serde_json::Error| Refused {
                found: format!("{} ({error})", shown(text)),
                allowed: format!("{}, as JSON", kind.in_words()),
                advice: "put valid JSON there, or use a column for each field",
            };
            Some(Node::parse(text).map_err(broken)?)
        }
        Kind::Text { .. } | Kind::Choice { .. } => None,
    };
    Ok(typed.unwrap_or_else(|| Node::text(text)))
}

/// A number of Excel.
fn typed_number(number: f64, kind: Kind) -> Result<Node, Refused> {
    let whole = number.fract() == 0.0;
    let digits =
        if whole && number.abs() < 1e20 { format!("{number:.0}") } else { number.to_string() };
    match kind {
        Kind::Text { .. } | Kind::Choice { .. } if whole && number.abs() >= EXACT => Err(Refused {
            found: format!("the number {digits}, of which Excel has kept 15 digits only"),
            allowed: kind.in_words(),
            advice: "format the column as Text, then type the value again",
        }),
        Kind::Text { .. } | Kind::Choice { .. } => Ok(Node::text(&digits)),
        Kind::Boolean if whole && (number == 0.0 || number.to_bits() == 1.0_f64.to_bits()) => {
            Ok(raw(number != 0.0))
        }
        _ => Ok(raw(digits)),
    }
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
        match cell.to_json(find(path).unwrap().kind, true) {
            Ok(None) => "absent".to_owned(),
            Ok(Some(node)) => String::from_utf8(node.to_bytes()).unwrap(),
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
            (text("4.29E+10"), "target_server.disks.0.size", "\"4.29E+10\""),
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
            (Cell::Boolean(true), "target_server.btrfs_list.0.subvolumn.0.is_snapshot", "\"true\""),
            (Cell::Boolean(false), "syncing", "false"),
            (Cell::Date(2026, 11, 3, 0, 0, 0), "name", "refused: the date 2026-11-03"),
            (Cell::Error("#N/A".into()), "name", "refused: the error #N/A"),
        ] {
            assert_eq!(json(&cell, path), expected, "{cell:?} {path}");
        }
        let long = json(&Cell::Number(1_234_567_890_123_456.0), "project_id");
        assert!(long.starts_with("refused: the number 1234567890123456"), "{long}");
    }
}

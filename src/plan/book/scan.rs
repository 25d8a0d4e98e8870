//! What does a sheet of an `.xlsx` package hide? Walks its XML once, beside the reader of cells, for the [`Facts`].

use std::io::BufReader;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::Broken;
use super::super::clean::FIX;
use super::facts::{Area, Facts, MOST_COLUMNS, MOST_MERGED, MOST_ROWS, Special};
use super::package::{MOST_OF_A_SHEET, Package, attribute, entity};
use super::tame::Tame;
use crate::contract::shown;

/// Reads a sheet of a package to its end, keeping none of its values.
pub(in super::super) fn read(package: &mut Package, path: &str) -> Result<Facts, Broken> {
    let damaged = |error: &dyn std::fmt::Display| {
        Broken::new(0, format!("no readable sheet: {error}"), "save the workbook again")
    };
    let (uncalculated, texts) = (package.uncalculated, package.texts);
    let part = package.zip.by_name(path).map_err(|error| damaged(&error))?;
    let tame = Tame::new(part, MOST_OF_A_SHEET);
    let mut xml = Reader::from_reader(BufReader::with_capacity(64 << 10, tame));
    xml.config_mut().expand_empty_elements = true;
    let mut scan = Scan { uncalculated, texts, ..Scan::default() };
    let (mut open, mut buffer) = (0_u64, Vec::new());
    loop {
        match xml.read_event_into(&mut buffer).map_err(|error| damaged(&error))? {
            Event::Start(element) => {
                open += 1;
                scan.opens(&element);
                if scan.misplaced {
                    return Err(damaged(&format!("a cell behind row {} is nowhere", scan.row)));
                }
            }
            Event::Text(text) if scan.in_value => {
                scan.pieces += 1;
                scan.value.push_str(&text.xml10_content());
            }
            Event::GeneralRef(name) if scan.in_value => {
                scan.pieces += 2;
                entity(&name, &mut scan.value).map_err(|error| damaged(&error))?;
            }
            Event::CData(text) if scan.in_value => {
                (scan.pieces, scan.marked) = (scan.pieces + 2, true);
                scan.value.push_str(&text);
            }
            Event::Comment(_) | Event::PI(_) if scan.in_value => scan.pieces += 2,
            Event::End(element) => {
                open = open.saturating_sub(1);
                scan.closes(element.local_name().as_ref())?;
            }
            Event::Eof if open == 0 => break,
            Event::Eof => return Err(damaged(&"its end is missing")),
            _ => {}
        }
        buffer.clear();
        if scan.merged.len() > MOST_MERGED {
            break;
        }
    }
    scan.facts.set_merged(scan.merged)?;
    if scan.nameless {
        // behind a cell that it stumbles over the reader counts such cells wrongly
        scan.facts.unreadable.clear();
    }
    Ok(scan.facts)
}

/// Where the reading of a sheet stands.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an element that is open, or was seen")]
struct Scan {
    facts: Facts,
    merged: Vec<Area>,
    uncalculated: bool,
    /// In the table of texts.
    texts: usize,
    row: u32,
    column: u32,
    /// A cell does not say where it stands.
    nameless: bool,
    /// Of the cell that is open.
    kind: Type,
    formula: bool,
    inline: bool,
    value: String,
    /// How many values it has, of how many pieces of XML; as text that is marked as such.
    values: usize,
    pieces: usize,
    marked: bool,
    in_value: bool,
    /// A place that is none: its reader would take it for another one.
    misplaced: bool,
}

impl Scan {
    fn opens(&mut self, element: &BytesStart<'_>) {
        let number = |name| attribute(element, name).and_then(|text| text.parse::<u32>().ok());
        let is =
            |name| attribute(element, name).is_some_and(|value| value == "1" || value == "true");
        let flat =
            |name| attribute(element, name).and_then(|text| text.parse::<f64>().ok()) == Some(0.0);
        match element.local_name().as_ref() {
            "row" => {
                if attribute(element, "r").is_some() {
                    match number("r").and_then(|row| row.checked_sub(1)) {
                        Some(row) => self.row = row,
                        None => self.misplaced = true,
                    }
                }
                if is("hidden") || flat("ht") {
                    self.facts.hidden_rows.add(self.row, self.row);
                }
            }
            "col" if is("hidden") || flat("width") => {
                if let (Some(first @ 1..), Some(last)) = (number("min"), number("max")) {
                    let folded = number("outlineLevel").is_some_and(|level| level > 0);
                    let facts = &mut self.facts;
                    let spans =
                        if folded { &mut facts.folded_columns } else { &mut facts.hidden_columns };
                    spans.add(first - 1, last.max(first) - 1);
                }
            }
            "c" => {
                match attribute(element, "r").map(|at| position(&at)) {
                    Some(Some(at)) => (self.row, self.column) = at,
                    Some(None) => self.misplaced = true,
                    None => self.nameless = true,
                }
                self.kind = Type::of(attribute(element, "t").as_deref());
                (self.formula, self.inline, self.marked) = (false, false, false);
                (self.values, self.pieces) = (0, 0);
                self.value.clear();
            }
            "dimension" => {
                let all = attribute(element, "ref").unwrap_or_default();
                self.misplaced |= all.split(':').any(|at| position(at).is_none());
            }
            "f" => self.formula = true,
            "v" => {
                self.in_value = true;
                self.values += 1;
            }
            "is" => self.inline = true,
            "mergeCell" => {
                self.merged.extend(attribute(element, "ref").and_then(|area| area_of(&area)));
            }
            _ => {}
        }
    }

    fn closes(&mut self, name: &str) -> Result<(), Broken> {
        match name {
            "v" => self.in_value = false,
            "c" => {
                if let Some(special) = self.unclear().or_else(|| self.unanswered()) {
                    self.facts.set_special(self.row, self.column, special)?;
                } else if let Some(special) = self.unreadable() {
                    self.facts.set_special(self.row, self.column, special)?;
                    self.facts.unreadable.push((self.row, self.column));
                }
                self.column += 1;
                self.formula = false;
            }
            "row" => {
                (self.row, self.column) = (self.row.saturating_add(1), 0);
                if self.row > MOST_ROWS || self.facts.hidden_rows.0.len() > MOST_ROWS as usize {
                    let what = format!("more than {MOST_ROWS} rows");
                    return Err(Broken::new(u64::from(self.row), what, "save the workbook again"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Scan {
    /// A value that its reader takes for another one.
    fn unclear(&self) -> Option<Special> {
        let whole = match self.kind {
            Type::Text | Type::Day => !self.marked,
            _ => self.pieces <= self.values,
        };
        let lost = self.kind == Type::Inline && !self.inline && !self.value.trim().is_empty();
        let number = self.kind != Type::Shared
            || self.value.is_empty()
            || self.value.bytes().all(|byte| byte.is_ascii_digit());
        let other = self.values > 1 || !whole || lost || !number;
        let found = || format!("{}, written as no spreadsheet does", shown(&self.value));
        other.then(|| Special::bad(found(), AGAIN))
    }

    /// A formula that nobody has calculated.
    fn unanswered(&self) -> Option<Special> {
        // a text may be empty
        let text = self.kind == Type::Text && self.values > 0;
        if !self.formula || text {
            return None;
        }
        match self.value.trim() {
            "" => Some(Special::NoResult),
            value if self.uncalculated && value.parse() == Ok(0.0) => Some(Special::Uncalculated),
            _ => None,
        }
    }

    /// A value at which its reader gives up.
    fn unreadable(&self) -> Option<Special> {
        let value = self.value.as_str();
        let known = match self.kind {
            Type::Other => self.values == 0,
            _ if value.is_empty() => true,
            Type::Plain | Type::Text | Type::Day | Type::Inline => true,
            Type::Number => value.parse::<f64>().is_ok(),
            Type::Shared => value.parse::<usize>().is_ok_and(|at| at < self.texts),
            Type::Boolean => {
                let value = value.trim();
                ["", "0", "1", "false", "true"].iter().any(|one| value.eq_ignore_ascii_case(one))
            }
            Type::Error => value.parse::<calamine::CellErrorType>().is_ok(),
        };
        let shown = shown(value);
        (!known).then(|| match self.kind {
            Type::Error => Special::bad(format!("the error {}", shown.trim_matches('"')), FIX),
            Type::Shared => {
                Special::bad("a text that the workbook's table of texts does not have", AGAIN)
            }
            _ => Special::bad(format!("{shown}, which is no value of its kind"), AGAIN),
        })
    }
}

pub(super) const AGAIN: &str = "type the value again, and save the workbook in a spreadsheet";

/// What a cell says that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Type {
    /// A number, or what else stands there.
    #[default]
    Plain,
    Number,
    Shared,
    Boolean,
    Error,
    /// Of a formula.
    Text,
    Day,
    Inline,
    Other,
}

impl Type {
    fn of(name: Option<&str>) -> Self {
        match name {
            None => Self::Plain,
            Some("n") => Self::Number,
            Some("s") => Self::Shared,
            Some("b") => Self::Boolean,
            Some("e") => Self::Error,
            Some("str") => Self::Text,
            Some("d") => Self::Day,
            Some("inlineStr" | "is") => Self::Inline,
            Some(_) => Self::Other,
        }
    }
}

/// `J7`, as (row, column) from 0.
pub(in super::super) fn position(at: &str) -> Option<(u32, u32)> {
    let digits = at.find(|char: char| char.is_ascii_digit())?;
    let mut column = 0_u32;
    for letter in at[..digits].bytes() {
        let letter = letter.to_ascii_uppercase().checked_sub(b'A').filter(|letter| *letter < 26)?;
        column = column.checked_mul(26)?.checked_add(u32::from(letter) + 1)?;
    }
    let (row, column) = (at[digits..].parse::<u32>().ok()?.checked_sub(1)?, column.checked_sub(1)?);
    (row < MOST_ROWS && column < MOST_COLUMNS).then_some((row, column))
}

pub(super) fn area_of(area: &str) -> Option<Area> {
    let (from, to) = area.split_once(':')?;
    let ((top, left), (bottom, right)) = (position(from)?, position(to)?);
    Some((top, left, bottom, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_spreadsheets_write_them() {
        assert_eq!(position("A1"), Some((0, 0)));
        assert_eq!(position("XFD1048576"), Some((1_048_575, 16_383)));
        for wrong in ["", "A", "1", "A0", "é1", "ZZZZZZZZZ1", "A99999999999"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
        assert_eq!(area_of("F2:G4"), Some((1, 5, 3, 6)));
    }
}

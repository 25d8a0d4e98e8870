//! What does a sheet hide? All that the reader of cells does not tell: hidden rows and columns, merged cells, formulas
//! without a result.

use std::collections::HashMap;
use std::io::BufReader;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::cell::Cell;
use super::super::{Broken, column_name};
use super::package::{MOST_OF_A_SHEET, Package, attribute};
use super::tame::Tame;

/// As many special cells, and as many merged ones, are kept in mind; no sheet that people made has so many.
const MOST: usize = 1_000_000;
const MOST_MERGED: usize = 65_536;
/// Excel's own last row.
const MOST_ROWS: u32 = 1 << 20;
const MOST_COLUMNS: u32 = 1 << 14;
const CALCULATE: &str = "open the workbook in a spreadsheet, let it calculate, and save it; or put the value in its place";

/// Numbers from 0 that come in runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Spans(Vec<(u32, u32)>);

impl Spans {
    /// Adds a run that begins behind the others, or anywhere if they are few.
    pub(in super::super) fn add(&mut self, first: u32, last: u32) {
        match self.0.last_mut() {
            Some((_, end)) if first == end.saturating_add(1) => *end = last,
            _ => self.0.push((first, last)),
        }
    }

    pub(in super::super) fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }
}

/// A rectangle of cells, from 0, ends included: (first row, first column, last row, last column).
pub(in super::super) type Area = (u32, u32, u32, u32);

/// What is to be known of a sheet beside its cells.
#[derive(Debug, Default)]
pub(in super::super) struct Facts {
    pub hidden_rows: Spans,
    pub hidden_columns: Spans,
    /// By first row.
    merged: Vec<Area>,
    /// (row, column): what stands there in place of a value.
    special: HashMap<(u32, u32), Special>,
    /// Numbers that are shown as something else.
    pub shown: HashMap<(u32, u32), Shown>,
}

/// How a number is shown, where its reader does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Shown {
    As(Box<str>),
    By(Arc<str>),
}

/// Cells that are not what their value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Special {
    NoResult,
    Uncalculated,
}

impl Special {
    fn cell(self) -> Cell {
        Cell::bad(
            match self {
                Self::NoResult => "a formula without a result",
                Self::Uncalculated => {
                    "a formula with the result 0, put there by a program that does not calculate"
                }
            },
            CALCULATE,
        )
    }
}

impl Facts {
    pub(in super::super) fn special(&self, row: u32, column: u32) -> Option<Cell> {
        self.special.get(&(row, column)).map(|special| special.cell())
    }

    pub(in super::super) fn set_special(
        &mut self,
        row: u32,
        column: u32,
        special: Special,
    ) -> Result<(), Broken> {
        self.special.insert((row, column), special);
        if self.special.len() > MOST {
            let what = format!("more than {MOST} formulas without a result");
            return Err(Broken::new(u64::from(row) + 1, what, CALCULATE));
        }
        Ok(())
    }

    pub(in super::super) fn set_merged(&mut self, mut merged: Vec<Area>) -> Result<(), Broken> {
        if merged.len() > MOST_MERGED {
            let what = format!("more than {MOST_MERGED} merged cells");
            return Err(Broken::new(0, what, "unmerge them, and fill each cell"));
        }
        merged.sort_unstable();
        self.merged = merged;
        Ok(())
    }

    /// Puts what they are into the cells of a row that only look filled; `active`: the merged areas that reach it,
    /// kept from row to row.
    pub(in super::super) fn mark_merged(
        &self,
        active: &mut Active,
        row: u32,
        cells: &mut Vec<Cell>,
        width: usize,
    ) {
        if self.merged.is_empty() || cells.iter().all(Cell::is_empty) {
            return;
        }
        while let Some(area) = self.merged.get(active.next).filter(|area| area.0 <= row) {
            active.areas.push(*area);
            active.next += 1;
        }
        active.areas.retain(|area| area.2 >= row);
        for &(top, left, bottom, right) in &active.areas {
            let first = left as usize + usize::from(row == top);
            let end = (right as usize + 1).min(width);
            if cells.len() < end {
                cells.resize(end, Cell::Empty);
            }
            for cell in cells.get_mut(first..end).into_iter().flatten() {
                let (from, to) = (column_name(left as usize), column_name(right as usize));
                let found =
                    format!("a part of the merged cell {from}{}:{to}{}", top + 1, bottom + 1);
                *cell = Cell::bad(found, "unmerge it, and fill each of its cells");
            }
        }
    }
}

/// The merged areas that reach a row.
#[derive(Debug, Default)]
pub(in super::super) struct Active {
    next: usize,
    areas: Vec<Area>,
}

/// Reads a sheet of a package to its end, keeping none of its values.
pub(in super::super) fn read(package: &mut Package, path: &str) -> Result<Facts, Broken> {
    let damaged = |error: &dyn std::fmt::Display| {
        Broken::new(0, format!("no readable sheet: {error}"), "save the workbook again")
    };
    let uncalculated = package.uncalculated;
    let part = package.zip.by_name(path).map_err(|error| damaged(&error))?;
    let tame = Tame::new(part, MOST_OF_A_SHEET);
    let mut xml = Reader::from_reader(BufReader::with_capacity(64 << 10, tame));
    xml.config_mut().expand_empty_elements = true;
    let mut scan = Scan { uncalculated, ..Scan::default() };
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
                scan.zero &= text.trim().parse::<f64>() == Ok(0.0);
                scan.answered |= !text.trim().is_empty();
            }
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
    Ok(scan.facts)
}

/// Where the reading of a sheet stands.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an element that is open, or was seen")]
struct Scan {
    facts: Facts,
    merged: Vec<Area>,
    uncalculated: bool,
    row: u32,
    column: u32,
    /// Of the cell that is open.
    formula: bool,
    /// Its result is a text, which may be empty.
    text: bool,
    answered: bool,
    zero: bool,
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
                    self.facts.hidden_columns.add(first - 1, last.max(first) - 1);
                }
            }
            "c" => {
                if let Some(at) = attribute(element, "r") {
                    match position(&at) {
                        Some(at) => (self.row, self.column) = at,
                        None => self.misplaced = true,
                    }
                }
                self.text = attribute(element, "t").is_some_and(|kind| kind == "str");
                (self.formula, self.answered, self.zero) = (false, false, true);
            }
            "dimension" => {
                let all = attribute(element, "ref").unwrap_or_default();
                self.misplaced |= all.split(':').any(|at| position(at).is_none());
            }
            "f" => self.formula = true,
            "v" => {
                self.in_value = true;
                self.answered |= self.text;
            }
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
                let special = match (self.formula, self.answered) {
                    (true, false) => Some(Special::NoResult),
                    (true, true) if self.zero && self.uncalculated && !self.text => {
                        Some(Special::Uncalculated)
                    }
                    _ => None,
                };
                if let Some(special) = special {
                    self.facts.set_special(self.row, self.column, special)?;
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

fn area_of(area: &str) -> Option<Area> {
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

    #[test]
    fn runs_are_kept_as_runs() {
        let mut spans = Spans::default();
        for row in [2, 3, 4, 9] {
            spans.add(row, row);
        }
        assert_eq!(spans.0, [(2, 4), (9, 9)]);
        assert!(spans.contains(3) && spans.contains(9) && !spans.contains(5) && !spans.contains(0));
    }
}

//! What does a sheet hide? All that the reader of cells does not tell: hidden rows and columns, merged cells, formulas
//! without a result.

use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::super::cell::Cell;
use super::super::clean::MEND;
use super::super::{Broken, column_name};
use super::package::{MOST_OF_A_SHEET, Package, attribute, entity};
use super::tame::Tame;
use super::values;
use crate::contract::shown;

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
    /// What stands there in place of a value.
    pub special: Places<Special>,
    /// Of those, the cells at which the reader stumbles, as they come.
    pub unreadable: Vec<(u32, u32)>,
    /// Values that are shown as something else.
    pub shown: Places<Shown>,
}

/// What is known of some cells: of single ones, and of areas that come in the sheet's order, as a file has them that
/// repeats rows and columns.
#[derive(Debug)]
pub(in super::super) struct Places<T> {
    single: HashMap<(u32, u32), T>,
    areas: Vec<(Area, T)>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { single: HashMap::new(), areas: Vec::new() }
    }
}

impl<T> Places<T> {
    pub(in super::super) fn get(&self, row: u32, column: u32) -> Option<&T> {
        self.single.get(&(row, column)).or_else(|| self.area(row, column))
    }

    /// The areas of one row of the file begin and end in the same rows.
    fn area(&self, row: u32, column: u32) -> Option<&T> {
        let before = self.areas.partition_point(|(area, _)| area.0 <= row);
        let top = self.areas[..before].last()?.0.0;
        let before = self.areas.partition_point(|(area, _)| (area.0, area.1) <= (top, column));
        let (area, what) = self.areas[..before].last()?;
        (area.0 == top && area.2 >= row && area.3 >= column).then_some(what)
    }

    pub(in super::super) fn set(&mut self, row: u32, column: u32, what: T) {
        self.single.insert((row, column), what);
    }

    pub(in super::super) fn set_area(&mut self, area: Area, what: T) {
        self.areas.push((area, what));
    }

    /// How many rows and columns the areas reach over.
    pub(in super::super) fn extent(&self) -> (u32, u32) {
        self.areas.iter().fold((0, 0), |(rows, columns), (area, _)| {
            (rows.max(area.2.saturating_add(1)), columns.max(area.3.saturating_add(1)))
        })
    }
}

/// How a value is shown, where its reader does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Shown {
    As(Arc<str>),
    By(Arc<str>),
}

/// Cells that are not what their value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Special {
    NoResult,
    Uncalculated,
    /// A text that its reader passes over.
    Text(Arc<str>),
    /// What is found there, and what to do.
    Bad(Arc<str>, &'static str),
}

impl Special {
    fn bad(found: impl Into<Arc<str>>, advice: &'static str) -> Self {
        Self::Bad(found.into(), advice)
    }

    fn cell(&self) -> Cell {
        let found = match self {
            Self::Text(text) => return values::text_or_error(text),
            Self::Bad(found, advice) => return Cell::bad(Arc::clone(found), *advice),
            Self::NoResult => "a formula without a result",
            Self::Uncalculated => {
                "a formula with the result 0, put there by a program that does not calculate"
            }
        };
        Cell::bad(found, CALCULATE)
    }
}

impl Facts {
    pub(in super::super) fn special(&self, row: u32, column: u32) -> Option<Cell> {
        self.special.get(row, column).map(Special::cell)
    }

    pub(in super::super) fn set_special(
        &mut self,
        row: u32,
        column: u32,
        special: Special,
    ) -> Result<(), Broken> {
        self.special.set(row, column, special);
        if self.special.single.len() > MOST {
            let what = format!(
                "more than {MOST} cells without a value, such as formulas without a result"
            );
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
        merged.dedup();
        if let Some(area) = overlapping(&merged) {
            let what = format!("the merged cell {}, which overlaps another one", named(area));
            return Err(Broken::new(0, what, "unmerge them, and fill each cell"));
        }
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
            let found = format!("a part of the merged cell {}", named(*area));
            active.areas.push((*area, found.into()));
            active.next += 1;
        }
        active.areas.retain(|(area, _)| area.2 >= row);
        for ((top, left, _, right), found) in &active.areas {
            let (left, right) = (*left as usize, *right as usize);
            let first = left + usize::from(row == *top);
            let end = (right + 1).min(width);
            if cells.len() < end {
                cells.resize(end, Cell::Empty);
            }
            for cell in cells.get_mut(first..end).into_iter().flatten() {
                *cell = Cell::bad(Arc::clone(found), "unmerge it, and fill each of its cells");
            }
        }
    }
}

/// The merged areas that reach a row, and what is said of their cells.
#[derive(Debug, Default)]
pub(in super::super) struct Active {
    next: usize,
    areas: Vec<(Area, Arc<str>)>,
}

/// `F2:G4`
fn named((top, left, bottom, right): Area) -> String {
    let (from, to) = (column_name(left as usize), column_name(right as usize));
    format!("{from}{}:{to}{}", top + 1, bottom + 1)
}

/// One of these areas, by their first rows, that shares a cell with one before it.
fn overlapping(areas: &[Area]) -> Option<Area> {
    // by first column: (last column, last row) of what no later area has come to stand on; they share no column
    let mut open = BTreeMap::new();
    for &(top, left, bottom, right) in areas {
        while let Some((&first, &(last, end))) = open.range(..=right).next_back()
            && last >= left
        {
            if end >= top {
                return Some((top, left, bottom, right));
            }
            open.remove(&first);
        }
        open.insert(left, (right, bottom));
    }
    None
}

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
                    self.facts.hidden_columns.add(first - 1, last.max(first) - 1);
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
            Type::Error => Special::bad(format!("the error {}", shown.trim_matches('"')), MEND),
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
    fn areas_that_share_a_cell_are_found() {
        let all = |areas: &[&str]| {
            let mut areas: Vec<Area> = areas.iter().map(|area| area_of(area).unwrap()).collect();
            areas.sort_unstable();
            overlapping(&areas).map(named)
        };
        assert_eq!(all(&["A1:B2", "C1:D9", "A3:B4", "A5:D9"]), Some("A5:D9".to_owned()));
        assert_eq!(all(&["A1:B2", "C1:D4", "A3:B4", "A5:D9", "B10:C10"]), None);
        assert_eq!(all(&["A1:B9", "C1:D9", "B9:C9"]), Some("B9:C9".to_owned()));
    }

    #[test]
    fn what_is_known_of_areas_is_found_in_them() {
        let mut places = Places::default();
        for (area, what) in [((1, 0, 3, 1), 'a'), ((1, 4, 3, 4), 'b'), ((7, 2, 7, 9), 'c')] {
            places.set_area(area, what);
        }
        places.set(2, 0, 'd');
        let at = |row, column| places.get(row, column).copied();
        assert_eq!(
            [at(1, 1), at(3, 4), at(2, 0), at(7, 9)].map(Option::unwrap),
            ['a', 'b', 'd', 'c']
        );
        assert_eq!([at(0, 0), at(1, 2), at(4, 0), at(7, 1), at(8, 2)], [None; 5]);
        assert_eq!(places.extent(), (8, 10));
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

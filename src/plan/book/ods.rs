//! What does an `.ods` file hide, and how large is it? Walks its content for hidden rows and columns, merged cells,
//! formulas without a result, values that are shown as something else and texts that their reader does not see; the values
//! are left to that reader.

use std::io::{BufReader, Read as _};
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use super::super::Broken;
use super::super::cell::{AS_TEXT, Cell};
use super::super::clean::{FIX, trim};
use super::super::shown::{Dated, date_in, digits};
use super::facts::{Facts, Shown, Special};
use super::opened;
use super::package::{attribute, calculates, entity, whole};
use super::scan::AGAIN;
use super::tame::Tame;
use super::values;
use super::whole::{MOST_CELLS, too_large};
use crate::contract::shown;

/// The content, unpacked.
const MOST: u64 = 512 << 20;
/// The longest text of a cell, in bytes.
const LONGEST: usize = 128 << 10;

/// Of each sheet, in the workbook's order.
pub(super) fn facts(file: &Path) -> Result<Vec<Facts>, Broken> {
    let damaged = |error: &dyn std::fmt::Display| {
        Broken::new(0, format!("no readable workbook: {error}"), "save it as .xlsx")
    };
    let mut zip =
        ZipArchive::new(BufReader::new(opened(file)?)).map_err(|error| damaged(&error))?;
    for part in ["META-INF/manifest.xml", "meta.xml"] {
        if let Ok(part) = zip.by_name(part) {
            whole(part, MOST, |_| {}).map_err(|error| damaged(&error))?;
        }
    }
    let mut properties = String::new();
    if let Ok(part) = zip.by_name("meta.xml") {
        Tame::new(part, MOST).read_to_string(&mut properties).map_err(|error| damaged(&error))?;
    }
    let content = zip.by_name("content.xml").map_err(|error| damaged(&error))?;
    let mut xml = Reader::from_reader(BufReader::with_capacity(64 << 10, Tame::new(content, MOST)));
    xml.config_mut().expand_empty_elements = true;
    let mut scan = Scan { uncalculated: !calculates(&properties), ..Scan::default() };
    let (mut open, mut buffer) = (0_u64, Vec::new());
    loop {
        match xml.read_event_into(&mut buffer).map_err(|error| damaged(&error))? {
            Event::Start(element) => {
                open += 1;
                scan.opens(&element);
            }
            Event::Text(text) if scan.is_seen() => scan.seen.push_str(&text.xml10_content()),
            Event::CData(text) if scan.is_seen() => {
                scan.marked = true;
                scan.seen.push_str(&text);
            }
            Event::GeneralRef(name) if scan.is_seen() => {
                entity(&name, &mut scan.seen).map_err(|error| damaged(&error))?;
            }
            Event::End(element) => {
                open = open.saturating_sub(1);
                scan.closes(element.local_name().as_ref())?;
            }
            Event::Eof if open == 0 => break,
            // its reader would never find the end
            Event::Eof => return Err(damaged(&"its end is missing")),
            _ => {}
        }
        buffer.clear();
    }
    Ok(scan.all)
}

/// Where the walk stands.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is what was seen, or not")]
struct Scan {
    all: Vec<Facts>,
    facts: Facts,
    merged: Vec<(u32, u32, u32, u32)>,
    /// Tables stand in cells of tables; only the outermost is a sheet.
    depth: usize,
    row: u32,
    row_repeats: u32,
    columns: u32,
    column: u32,
    repeats: u32,
    /// Whether each group of rows or columns that is open is shown.
    groups: Vec<bool>,
    /// Nobody calculates its formulas.
    uncalculated: bool,
    /// Of the open cell.
    stored: Option<Stored>,
    kind: String,
    formula: bool,
    /// Its text is an error's.
    error: bool,
    seen: String,
    /// How many lines of text it has; some as text that is marked as such.
    lines: usize,
    marked: bool,
    /// Texts and comments that are open.
    texts: usize,
    notes: usize,
    /// The reader's own measure: cells of all rows, and the last row and column that have any.
    cells: u64,
    width: u64,
}

impl Scan {
    fn opens(&mut self, element: &BytesStart<'_>) {
        let count =
            |name| attribute(element, name).and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
        let folded = self.groups.contains(&false);
        let hidden =
            || folded || attribute(element, "visibility").is_some_and(|value| value != "visible");
        match element.local_name().as_ref() {
            "table" => {
                self.depth += 1;
                if self.depth == 1 {
                    (self.row, self.columns, self.width) = (0, 0, 0);
                }
            }
            "table-row-group" | "table-column-group" if self.depth == 1 => {
                self.groups
                    .push(attribute(element, "display").is_none_or(|shown| shown != "false"));
            }
            "table-column" if self.depth == 1 => {
                let repeats = count("number-columns-repeated").min(1 << 14);
                let facts = &mut self.facts;
                let spans =
                    if folded { &mut facts.folded_columns } else { &mut facts.hidden_columns };
                if hidden() && repeats > 0 {
                    spans.add(self.columns, self.columns.saturating_add(repeats - 1));
                }
                self.columns = self.columns.saturating_add(repeats);
            }
            "table-row" if self.depth == 1 => {
                self.row_repeats = count("number-rows-repeated").min(1 << 20);
                self.column = 0;
                if hidden() && self.row_repeats > 0 {
                    self.facts
                        .hidden_rows
                        .add(self.row, self.row.saturating_add(self.row_repeats - 1));
                }
            }
            "table-cell" | "covered-table-cell" if self.depth == 1 => {
                self.repeats = count("number-columns-repeated").min(1 << 14);
                let (columns, rows) =
                    (count("number-columns-spanned"), count("number-rows-spanned"));
                if columns > 1 || rows > 1 {
                    let end = |start: u32, count: u32| start.saturating_add(count.max(1) - 1);
                    self.merged.push((
                        self.row,
                        self.column,
                        end(self.row, rows),
                        end(self.column, columns),
                    ));
                }
                self.open_cell(element);
            }
            "annotation" => self.notes += 1,
            "p" => {
                self.texts += 1;
                if self.notes == 0 {
                    self.seen.push_str(if self.lines > 0 { "\n" } else { "" });
                    self.lines += 1;
                }
            }
            "s" if self.is_seen() => {
                let blanks = count("c").min(1 << 10) as usize;
                self.seen.extend(std::iter::repeat_n(' ', blanks));
            }
            "tab" if self.is_seen() => self.seen.push('\t'),
            "line-break" if self.is_seen() => self.seen.push('\n'),
            _ => {}
        }
    }

    fn closes(&mut self, name: &str) -> Result<(), Broken> {
        match name {
            "annotation" => self.notes = self.notes.saturating_sub(1),
            "p" => self.texts = self.texts.saturating_sub(1),
            "table-cell" | "covered-table-cell" if self.depth == 1 => self.cell()?,
            "table-row-group" | "table-column-group" if self.depth == 1 => {
                self.groups.pop();
            }
            "table-row" if self.depth == 1 => self.row = self.row.saturating_add(self.row_repeats),
            "table" => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    let mut facts = std::mem::take(&mut self.facts);
                    facts.set_merged(std::mem::take(&mut self.merged))?;
                    self.all.push(facts);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether what comes is text of a cell.
    fn is_seen(&self) -> bool {
        self.texts > 0 && self.notes == 0 && self.seen.len() < LONGEST
    }

    /// Takes the value as its reader does: the first one counts.
    fn open_cell(&mut self, element: &BytesStart<'_>) {
        (self.stored, self.formula, self.error) = (None, false, false);
        (self.lines, self.marked) = (0, false);
        self.kind.clear();
        self.seen.clear();
        for found in element.attributes().flatten() {
            let text =
                || quick_xml::escape::unescape(&found.value).map(String::from).unwrap_or_default();
            let stored = match found.key.as_ref() {
                "office:value" => Stored::Number(text().parse().unwrap_or(f64::NAN)),
                "office:string-value" => Stored::Text(text()),
                "office:date-value" => Stored::Day(text()),
                "office:time-value" | "office:boolean-value" => Stored::Other,
                name => {
                    match name {
                        "office:value-type" => self.kind = text(),
                        "calcext:value-type" => self.error = text() == "error",
                        "table:formula" => self.formula = true,
                        _ => {}
                    }
                    continue;
                }
            };
            self.stored.get_or_insert(stored);
        }
    }

    fn cell(&mut self) -> Result<(), Broken> {
        let filled =
            self.stored.is_some() || !self.kind.is_empty() || self.formula || !self.seen.is_empty();
        if filled {
            let last = u64::from(self.column.saturating_add(self.repeats));
            self.width = self.width.max(last);
            // the reader holds a cell for each repetition, and rows as wide as the widest
            self.cells =
                self.cells.saturating_add(u64::from(self.repeats) * u64::from(self.row_repeats));
            let area = u64::from(self.row.saturating_add(self.row_repeats)) * self.width;
            if self.cells > MOST_CELLS || area > MOST_CELLS {
                return Err(too_large());
            }
            self.keep();
        }
        self.column = self.column.saturating_add(self.repeats);
        Ok(())
    }

    /// Notes what the reader will not tell of a cell, and of its repetitions.
    fn keep(&mut self) {
        let end = |start: u32, repeats: u32| Some(start.saturating_add(repeats.checked_sub(1)?));
        let (Some(bottom), Some(right)) =
            (end(self.row, self.row_repeats), end(self.column, self.repeats))
        else {
            return;
        };
        let area = (self.row, self.column, bottom, right);
        if let Some(special) = self.special() {
            self.facts.special.set_area(area, special);
        } else if self.is_other() {
            self.facts.shown.set_area(area, Shown::As(trim(&self.seen).into()));
        }
    }

    /// What stands in the cell in place of what its reader takes for its value.
    fn special(&self) -> Option<Special> {
        let seen = trim(&self.seen);
        let found = || if seen.is_empty() { "nothing".to_owned() } else { shown(seen) };
        match &self.stored {
            // an error's text is read as a text's is
            Some(Stored::Text(text)) if self.error && text.is_empty() => None,
            Some(_) if self.error && !seen.is_empty() => {
                Some(Special::Bad(format!("the error {seen}").into(), FIX))
            }
            Some(Stored::Text(text)) => {
                let solid = |text: &str| text.split_whitespace().collect::<String>();
                let other =
                    self.lines > 0 && solid(text) != solid(seen) && self.seen.len() < LONGEST;
                let found = || format!("{} (stored as {})", found(), shown(text));
                other.then(|| Special::Bad(found().into(), AS_TEXT))
            }
            Some(Stored::Number(value)) if *value == 0.0 && self.formula && self.uncalculated => {
                Some(Special::Uncalculated)
            }
            Some(_) => None,
            None if self.kind == "string" => self.marked.then(|| Special::Text(seen.into())),
            None if seen.is_empty() => self.formula.then_some(Special::NoResult),
            None if matches!(self.kind.as_str(), "" | "void") => Some(Special::Text(seen.into())),
            None => {
                let found =
                    format!("{}, of the type {}, without its value", found(), shown(&self.kind));
                Some(Special::Bad(found.into(), AGAIN))
            }
        }
    }

    /// Whether the cell shows something else than its value.
    fn is_other(&self) -> bool {
        let seen = trim(&self.seen);
        match &self.stored {
            Some(Stored::Number(value)) => self.lines > 0 && digits(*value) != seen,
            Some(Stored::Day(text)) => match values::day(text) {
                Cell::Date { at, .. } => self.lines > 0 && date_in(at, seen) != Dated::Plainly,
                _ => false,
            },
            _ => false,
        }
    }
}

/// The value that a cell has beside its text.
enum Stored {
    Number(f64),
    Text(String),
    Day(String),
    Other,
}

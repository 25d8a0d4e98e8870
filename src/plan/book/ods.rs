//! What does an `.ods` file hide, and how large is it? Walks its content for hidden rows and columns, merged cells,
//! formulas without a result and numbers that are shown as something else; the values are left to their reader.

use std::io::BufReader;
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use super::super::Broken;
use super::facts::{Facts, Shown, Special};
use super::opened;
use super::package::{attribute, whole};
use super::tame::Tame;
use super::whole::{MOST_CELLS, too_large};

/// The content, unpacked.
const MOST: u64 = 512 << 20;
/// Of the texts of a cell that are kept to compare them.
const LONGEST: usize = 64;

/// Of each sheet, in the workbook's order.
pub(super) fn facts(file: &Path) -> Result<Vec<Facts>, Broken> {
    let damaged = |error: &dyn std::fmt::Display| {
        Broken::new(0, format!("no readable workbook: {error}"), "save it as .xlsx")
    };
    let mut zip =
        ZipArchive::new(BufReader::new(opened(file)?)).map_err(|error| damaged(&error))?;
    for part in ["META-INF/manifest.xml", "meta.xml"] {
        if let Ok(part) = zip.by_name(part) {
            whole(part, MOST).map_err(|error| damaged(&error))?;
        }
    }
    let content = zip.by_name("content.xml").map_err(|error| damaged(&error))?;
    let mut xml = Reader::from_reader(BufReader::with_capacity(64 << 10, Tame::new(content, MOST)));
    xml.config_mut().expand_empty_elements = true;
    let (mut scan, mut open, mut buffer) = (Scan::default(), 0_u64, Vec::new());
    loop {
        match xml.read_event_into(&mut buffer).map_err(|error| damaged(&error))? {
            Event::Start(element) => {
                open += 1;
                scan.opens(&element);
            }
            Event::Text(text) if scan.texts > 0 && scan.notes == 0 && scan.seen.len() < LONGEST => {
                scan.seen.push_str(&text.xml10_content());
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
    /// Of the open cell.
    value: Option<f64>,
    formula: bool,
    answered: bool,
    seen: String,
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
        let hidden = || attribute(element, "visibility").is_some_and(|value| value != "visible");
        match element.local_name().as_ref() {
            "table" => {
                self.depth += 1;
                if self.depth == 1 {
                    (self.row, self.columns, self.width) = (0, 0, 0);
                }
            }
            "table-column" if self.depth == 1 => {
                let repeats = count("number-columns-repeated").min(1 << 14);
                if hidden() && repeats > 0 {
                    self.facts
                        .hidden_columns
                        .add(self.columns, self.columns.saturating_add(repeats - 1));
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
                self.value = attribute(element, "value").and_then(|text| text.parse().ok());
                self.formula = attribute(element, "formula").is_some();
                self.answered = attribute(element, "value-type").is_some();
                self.seen.clear();
            }
            "annotation" => self.notes += 1,
            "p" => self.texts += 1,
            _ => {}
        }
    }

    fn closes(&mut self, name: &str) -> Result<(), Broken> {
        match name {
            "annotation" => self.notes = self.notes.saturating_sub(1),
            "p" => self.texts = self.texts.saturating_sub(1),
            "table-cell" | "covered-table-cell" if self.depth == 1 => self.cell()?,
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

    fn cell(&mut self) -> Result<(), Broken> {
        let filled = self.answered || self.formula || !self.seen.is_empty();
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
            self.keep()?;
        }
        self.column = self.column.saturating_add(self.repeats);
        Ok(())
    }

    /// Notes what the reader will not tell of a cell, for each of its repetitions.
    fn keep(&mut self) -> Result<(), Broken> {
        let unanswered = self.formula && !self.answered && self.seen.trim().is_empty();
        let seen = self.seen.trim();
        let other = self.value.is_some_and(|value| super::super::shown::digits(value) != seen)
            && !seen.is_empty();
        if !unanswered && !other {
            return Ok(());
        }
        for row in self.row..self.row.saturating_add(self.row_repeats) {
            for column in self.column..self.column.saturating_add(self.repeats) {
                if unanswered {
                    self.facts.set_special(row, column, Special::NoResult)?;
                } else {
                    self.facts.shown.insert((row, column), Shown::As(seen.into()));
                }
            }
        }
        Ok(())
    }
}

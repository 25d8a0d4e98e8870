//! What do the planner's own columns say? The headers of a table as they stand in it, and of each row what is under
//! `#...`: tickets, owners, whatever is not sent and yet belongs to the row.

use std::collections::HashMap;
use std::path::Path;

use super::cell::Cell;
use super::clean::{error_of, trim};
use super::rows::{Line, Source, is_comment};
use super::shared::SharedFields;
use super::{Broken, Options, PlanError, format_of, source};

/// The column that says whose row it is.
const SOURCE: &str = "source_server.id";

/// The notes of a plan that is a table; a plan of JSON has none.
#[derive(Debug, Default)]
pub struct Notes {
    headers: Vec<String>,
    rows: HashMap<u64, Noted>,
}

#[derive(Debug)]
struct Noted {
    /// The row's source server, where a column says it.
    source: Option<String>,
    /// A text for each note.
    texts: Vec<String>,
}

impl Notes {
    /// # Errors
    /// The file cannot be read as a plan is.
    pub fn read(file: &Path, options: &Options) -> Result<Self, PlanError> {
        let name = options.name.as_deref().unwrap_or(file);
        let format = options.format.map_or_else(|| format_of(name), Ok)?;
        let mapping = SharedFields::read(options)?.mapping;
        let read = || -> Result<Self, Broken> {
            let (mut source, _) = source(file, format, options)?;
            let mut notes = Self::default();
            while let Some(Line { number, cells, .. }) = next(&mut source)? {
                if cells.iter().all(Cell::is_empty) || is_comment(&cells) {
                    continue;
                }
                if notes.headers.is_empty() {
                    let header = |cell| mapping.translated(&text(cell));
                    notes.headers = cells.iter().map(header).collect();
                } else {
                    notes.add(number, &cells);
                }
            }
            Ok(notes)
        };
        read().map_err(|broken| broken.in_file(name))
    }

    fn add(&mut self, number: u64, cells: &[Cell]) {
        let at = |at: usize| cells.get(at).map(text).unwrap_or_default();
        let source = self.headers.iter().position(|header| header == SOURCE).map(at);
        let places = self.headers.iter().enumerate().filter(|(_, header)| is_note(header));
        let texts = places.map(|(place, _)| at(place)).collect();
        self.rows.insert(number, Noted { source, texts });
    }

    /// All headers, in the file's order; empty ones where a column has none.
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// The headers of the notes, `#...`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(String::as_str).filter(|header| is_note(header))
    }

    /// What a row's notes say, a text for each of [`Notes::names`]; `None` if it is not the row of this source server (the
    /// file was sorted since, or is another one).
    pub fn of(&self, row: u64, source_server_id: &str) -> Option<&[String]> {
        let noted = self.rows.get(&row)?;
        let is = |source: &str| source.is_empty() || source == source_server_id;
        let same = noted.source.as_deref().is_none_or(is);
        same.then_some(&*noted.texts)
    }
}

/// Whether a header is that of a note.
pub(super) fn is_note(header: &str) -> bool {
    header.starts_with('#') && error_of(header).is_none()
}

fn text(cell: &Cell) -> String {
    cell.as_seen().map(|text| trim(&text).to_owned()).unwrap_or_default()
}

/// The next row of a table.
fn next(source: &mut Source) -> Result<Option<Line>, Broken> {
    match source {
        Source::Csv(csv) => csv.next(),
        Source::Book(sheet) => sheet.next(),
        Source::Lines(_) | Source::Elements(_) => Ok(None),
    }
}

//! What are the texts of a table that is no plan? The same reading as of plans, for whoever knows the columns: any
//! encoding, any workbook, and nothing that would be another value than the one seen.

use std::path::Path;

use super::cell::Cell;
use super::check::hidden;
use super::rows::Line;
use super::{Broken, Format, Hidden, Options, book, clean, csv, format_of, text, text_of};

/// A cell as text, or why it has none.
pub(crate) type Text = Result<String, String>;

enum Source {
    Csv(csv::Csv<text::Input>),
    Book(book::Sheet),
}

/// The rows of a table.
pub(crate) struct Table {
    source: Source,
    hidden: Option<Hidden>,
}

/// As many UTF-16 units fit into a cell: a spreadsheet cuts what is longer, without a word.
const LONGEST: usize = 32_767;

impl Table {
    /// Opens a CSV file or a workbook; `None` for what is lines of JSON.
    pub(crate) fn open(file: &Path, options: &Options) -> Result<Option<Self>, Broken> {
        let name = options.name.as_deref().unwrap_or(file);
        let format = options.format.map_or_else(|| format_of(name), Ok);
        let format = format.map_err(|error| Broken::new(0, error.to_string(), ""))?;
        let source = match format {
            Format::Json | Format::Jsonl => return Ok(None),
            Format::Csv => {
                let (input, _) = text_of(file, true, options.encoding)?;
                Source::Csv(csv::Csv::open(input)?)
            }
            Format::Xlsx | Format::Xls | Format::Ods => {
                let sheet = options.sheet.as_deref();
                Source::Book(book::Sheet::open(file, sheet, is_letters)?)
            }
        };
        Ok(Some(Self { source, hidden: options.hidden }))
    }

    /// The next row that is not left out: its number and its texts.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<Text>)>, Broken> {
        loop {
            let sheet = match &mut self.source {
                Source::Csv(csv) => {
                    let row = csv.texts()?;
                    return Ok(
                        row.map(|(row, texts)| (row, texts.into_iter().map(whole).collect()))
                    );
                }
                Source::Book(sheet) => sheet,
            };
            let Some(Line { number, cells, hidden: unseen }) = sheet.next()? else {
                return Ok(None);
            };
            match self.hidden {
                None if unseen => {
                    let told = hidden("a hidden row".to_owned());
                    return Err(Broken::new(
                        number,
                        told.found,
                        &format!("{}: {}", told.allowed, told.advice),
                    ));
                }
                Some(Hidden::Skip | Hidden::SkipRows) if unseen => {}
                _ => return Ok(Some((number, cells.iter().map(text_of_cell).collect()))),
            }
        }
    }
}

/// Of the tables that are read so, all have a body: dead letters.
fn is_letters(cell: &Cell) -> bool {
    matches!(cell, Cell::Text(name) if name == "body")
}

pub(super) fn text_of_cell(cell: &Cell) -> Text {
    match cell {
        Cell::Empty | Cell::Blank => Ok(String::new()),
        Cell::Text(text) => whole(text.clone()),
        Cell::Number(value) => {
            let digits = super::shown::digits(*value);
            if super::shown::general(*value) == digits { Ok(digits) } else { Err(cell.shown()) }
        }
        Cell::Boolean(value) => Ok(value.to_string()),
        Cell::Shown { .. } | Cell::Date { .. } | Cell::Bad { .. } => Err(cell.shown()),
    }
}

fn whole(text: String) -> Text {
    if text.len() >= LONGEST && text.encode_utf16().count() == LONGEST {
        return Err(format!(
            "a text of {LONGEST} characters, where a spreadsheet cuts what is longer"
        ));
    }
    if let Some(error) = clean::error_of(&text) {
        return Err(format!("the error {error}"));
    }
    Ok(text)
}

//! Where do the invalid rows of a plan go, to be fixed and enqueued later? Into a file of the plan's own format: a table keeps
//! its columns, notes included, and gets one more that says what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rust_xlsxwriter::{Format as Style, Workbook, XlsxError};

use super::export::{MARK, harmless};
use super::rows::{Line, Source, is_comment};
use super::{Broken, CheckReport, Format, Options, PlanError, Row, format_of, source};

/// The header of the column that is added: a note, which is never sent.
const WRONG: &str = "# what is wrong";

/// Why the rows are not set aside.
#[derive(Debug, thiserror::Error)]
pub enum AsideError {
    #[error("{}: what is set aside is {kind}, as the plan is: give it a name that ends in {ending}", to.display())]
    Ending { to: PathBuf, kind: &'static str, ending: &'static str },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the rows set aside cannot be written: {0}")]
    Write(#[from] io::Error),
    #[error("the rows set aside cannot be written: {0}")]
    Book(#[from] XlsxError),
}

/// The kind of files of a plan's rows, and the ending of their names.
fn kind_of(format: Format) -> (&'static str, &'static str) {
    match format {
        Format::Csv => ("CSV", ".csv"),
        Format::Xlsx | Format::Xls | Format::Ods => ("a workbook", ".xlsx"),
        Format::Jsonl => ("lines of JSON", ".jsonl"),
        Format::Json => ("JSON", ".json"),
    }
}

/// Takes the invalid rows of a plan in JSON as they come.
pub struct Aside<'a> {
    out: &'a mut dyn Write,
    /// Elements of one array, which has no comments; else lines.
    array: bool,
    written: u64,
}

impl<'a> Aside<'a> {
    /// For rows of a plan of this format, in a file of this name; `None` for a table.
    ///
    /// # Errors
    /// The name is one of another format.
    pub fn new(
        out: &'a mut dyn Write,
        format: Format,
        to: &Path,
    ) -> Result<Option<Self>, AsideError> {
        let (kind, ending) = kind_of(format);
        if !format_of(to).is_ok_and(|named| kind_of(named) == (kind, ending)) {
            return Err(AsideError::Ending { to: to.to_owned(), kind, ending });
        }
        let json = matches!(format, Format::Json | Format::Jsonl);
        Ok(json.then_some(Self { out, array: format == Format::Json, written: 0 }))
    }

    pub(super) fn put(&mut self, row: &Row) -> io::Result<()> {
        self.written += 1;
        if self.array {
            let before = if self.written == 1 { "[\n" } else { ",\n" };
            self.out.write_all(before.as_bytes())?;
            return self.out.write_all(row.as_line().as_bytes());
        }
        self.out.write_all(row.set_aside().as_bytes())
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.array {
            let end: &[u8] = if self.written == 0 { b"[]\n" } else { b"\n]\n" };
            self.out.write_all(end)?;
        }
        Ok(())
    }
}

/// Writes these rows of a table down again: its header, the cells as they are seen, and what is wrong with each.
///
/// # Errors
/// The plan cannot be read a second time, or the rows not be written.
pub fn set_aside(
    plan: &Path,
    options: &Options,
    rows: &[u64],
    report: &CheckReport,
    out: &mut dyn Write,
) -> Result<(), AsideError> {
    let name = options.name.as_deref().unwrap_or(plan);
    let format = options.format.map_or_else(|| format_of(name), Ok)?;
    let broken = |broken: Broken| broken.in_file(name);
    let (mut source, _) = source(plan, format, options).map_err(broken)?;
    let separator = if let Source::Csv(csv) = &source { csv.separator() } else { b',' };
    let mut told: BTreeMap<u64, String> = BTreeMap::new();
    for finding in &report.findings {
        let told = told.entry(finding.row).or_default();
        let field = if finding.pointer.is_empty() { "" } else { ": " };
        let before = if told.is_empty() { "" } else { " | " };
        let _ = write!(told, "{before}{}{field}{}", finding.pointer, finding.said());
    }
    let wanted: BTreeSet<u64> = rows.iter().copied().collect();
    let mut table: Vec<Vec<String>> = Vec::new();
    while let Some(Line { number, cells, .. }) = next(&mut source).map_err(broken)? {
        let blank = cells.iter().all(super::cell::Cell::is_empty) || is_comment(&cells);
        let is_header = table.is_empty() && !blank;
        if !is_header && !wanted.contains(&number) {
            continue;
        }
        let mut texts: Vec<String> =
            cells.iter().map(|cell| cell.as_seen().unwrap_or_default()).collect();
        if let Some(header) = table.first() {
            // below its header, whatever the row's length
            texts.resize(header.len() - 1, String::new());
        }
        texts.push(if is_header {
            WRONG.to_owned()
        } else {
            told.get(&number).cloned().unwrap_or_default()
        });
        table.push(texts);
    }
    if format.is_book() { write_book(&table, out) } else { write_csv(&table, separator, out) }
}

fn next(source: &mut Source) -> Result<Option<Line>, Broken> {
    match source {
        Source::Csv(csv) => csv.next(),
        Source::Book(sheet) => sheet.next(),
        Source::Lines(_) | Source::Elements(_) => Ok(None),
    }
}

fn write_csv(table: &[Vec<String>], separator: u8, out: &mut dyn Write) -> Result<(), AsideError> {
    out.write_all(MARK.as_bytes())?;
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .delimiter(separator)
        .flexible(true)
        .from_writer(out);
    for row in table {
        let cells = row.iter().map(|cell| harmless(cell).into_owned());
        writer.write_record(cells).map_err(io::Error::other)?;
    }
    Ok(writer.flush()?)
}

/// All cells are texts, which read as what they say: no spreadsheet turns an id into a number.
fn write_book(table: &[Vec<String>], out: &mut dyn Write) -> Result<(), AsideError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet().set_name("plan")?;
    let style = Style::new().set_num_format("@");
    for (row, cells) in (0_u32..).zip(table) {
        for (column, text) in (0_u16..).zip(cells).filter(|(_, text)| !text.is_empty()) {
            sheet.write_string_with_format(row, column, text, &style)?;
        }
    }
    out.write_all(&book.save_to_buffer()?)?;
    Ok(())
}

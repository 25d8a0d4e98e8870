//! What does a plan ask for? Reads `.jsonl`, `.json`, `.csv` and `.xlsx` files row by row into requests, each with what
//! is wrong with it.
//!
//! [`open`] gives an iterator that holds one row at a time. CSV and Excel headers are dotted field names with indices
//! (`target_server.disks.0.name`); cells take the type that the contract wants; an empty cell is an absent field, `""`
//! the empty text; columns and rows that begin with `#` are notes. A JSON row that needs no change is the body, byte
//! for byte. What rows share comes from a defaults file (rows win over it) and from `--set` (which wins over rows).
//! Columns or fields `x-sluice-*` ([`SETTINGS`]) say what the worker, not the API, is to know.

pub mod batch;
mod cell;
mod check;
mod columns;
pub(crate) mod csv;
mod explain;
mod finding;
mod forecast;
mod json;
mod rows;
mod settings;
mod shared;
mod survey;
mod template;
mod tree;
mod xlsx;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;

pub use check::{Check, Report, check};
pub(crate) use csv::csv_cell;
pub use explain::{UnknownField, explain};
pub use finding::Finding;
pub use forecast::{Forecast, Hold, Load, Pace, forecast};
pub use rows::Plan;
pub use settings::{SETTINGS, Setting, Settings, moment};
pub use survey::{Fingerprint, Survey, SurveyError, Valid, survey, valid};
pub use template::template;

use crate::contract::{Rules, View};

/// How a plan is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Csv,
    Xlsx,
    Jsonl,
    Json,
}

/// How to read a plan.
#[derive(Clone, Debug)]
pub struct Options {
    pub rules: Rules,
    /// Else by the ending of the file's name.
    pub format: Option<Format>,
    /// The sheet of a workbook; the first one if absent.
    pub sheet: Option<String>,
    /// A `.json` or `.toml` file of one request: fills what rows leave out.
    pub defaults: Option<PathBuf>,
    /// `field=value`, typed by the contract: put into every row.
    pub set: Vec<String>,
    /// What times without an offset mean.
    pub zone: TimeZone,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            format: None,
            sheet: None,
            defaults: None,
            set: Vec::new(),
            zone: TimeZone::system(),
        }
    }
}

/// One request of a plan.
#[derive(Clone, Debug)]
pub struct Row {
    /// See [`Finding::row`]; what `x-sluice-row` tells.
    pub number: u64,
    /// What the API gets, if the row is valid.
    pub body: Bytes,
    pub settings: Settings,
    /// Of an invalid row too, where it can be read.
    pub source_server_id: Option<String>,
    /// What the body says, or all that is wrong with the row.
    pub read: Result<View, Vec<Finding>>,
    pub warnings: Vec<Finding>,
    /// Where what is found later stands in the file.
    columns: Option<Arc<columns::Columns>>,
}

impl Row {
    /// Orders the request: `x-sluice-priority`, else the body's.
    pub fn priority(&self) -> Option<u16> {
        self.settings.priority.or(self.read.as_ref().ok().map(|view| view.priority))
    }

    /// The row as lines of a `.jsonl` plan, what is wrong with it as comments: to be mended and read again.
    pub fn set_aside(&self) -> String {
        let mut lines = String::new();
        for finding in self.read.as_ref().err().into_iter().flatten() {
            lines.push_str(&format!("# {finding}").replace(['\n', '\r'], " "));
            lines.push('\n');
        }
        let body = String::from_utf8_lossy(&self.body).replace(['\n', '\r'], " ");
        let settings = serde_json::to_string(&self.settings).unwrap_or_default();
        let settings = settings.trim_start_matches('{').trim_end_matches('}');
        match body.strip_prefix('{') {
            Some(fields) if !settings.is_empty() => {
                let comma = if fields.trim_start().starts_with('}') { "" } else { "," };
                let _ = write!(lines, "{{{settings}{comma}{fields}");
            }
            _ => lines.push_str(&body),
        }
        lines.push('\n');
        lines
    }
}

/// Why a plan cannot be read, or no further.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("{}: cannot be read: {source}{}", file.display(), cure(source))]
    Open { file: PathBuf, source: io::Error },
    #[error("{}: {what}; {cure}", file.display())]
    Unknown { file: PathBuf, what: String, cure: String },
    #[error("{}, row {row}: {what}; {cure}", file.display())]
    Broken { file: PathBuf, row: u64, what: String, cure: String },
    #[error("{}: {} of its headers cannot be used:\n{}", file.display(), problems.len(), listed(problems))]
    Headers { file: PathBuf, problems: Vec<Finding> },
    #[error("{}: has no requests; write one row for each server (sluice plan template shows how)", file.display())]
    Empty { file: PathBuf },
    /// A defaults file or a `--set` cannot be used: all of them at once.
    #[error("{}", .0.join("\n"))]
    Shared(Vec<String>),
}

fn listed(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n")
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "; check the path, or begin a plan with `sluice plan template --output FILE`"
        }
        io::ErrorKind::PermissionDenied => {
            "; let yourself read it (chmod u+r), or ask its owner for a copy"
        }
        io::ErrorKind::IsADirectory => "; name the file in it",
        _ => "",
    }
}

/// Opens a plan and reads its header. The rows come from the iterator; after an error there are no more.
pub fn open(file: &Path, options: &Options) -> Result<Plan, PlanError> {
    let format = options.format.map_or_else(|| format_of(file), Ok)?;
    let shared = shared::Shared::read(options)?;
    let failed = |source| PlanError::Open { file: file.to_owned(), source };
    let input = File::open(file).map_err(failed)?;
    if input.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let broken = |broken: Broken| broken.in_file(file);
    let source = match format {
        Format::Csv => rows::Source::Csv(csv::Csv::open(buffered(input)).map_err(broken)?),
        Format::Xlsx => {
            rows::Source::Xlsx(xlsx::Sheet::open(input, options.sheet.as_deref()).map_err(broken)?)
        }
        Format::Jsonl => {
            rows::Source::Lines(json::Lines::new(buffered(input), options.rules.max_body))
        }
        Format::Json => rows::Source::Elements(
            json::Elements::open(buffered(input), options.rules.max_body).map_err(broken)?,
        ),
    };
    Plan::new(file.to_owned(), source, shared, options)
}

/// A header line is looked at whole to find its separator.
fn buffered(input: File) -> BufReader<File> {
    BufReader::with_capacity(64 << 10, input)
}

/// By the ending of the name.
///
/// # Errors
/// It is none that a plan has.
pub fn format_of(file: &Path) -> Result<Format, PlanError> {
    let ending = file
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match ending.as_str() {
        "csv" | "tsv" | "txt" => Ok(Format::Csv),
        "xlsx" | "xlsm" => Ok(Format::Xlsx),
        "jsonl" | "ndjson" => Ok(Format::Jsonl),
        "json" => Ok(Format::Json),
        _ => Err(PlanError::Unknown {
            file: file.to_owned(),
            what: "a file of an unknown kind".to_owned(),
            cure: "a plan ends in .csv, .xlsx, .jsonl or .json (older Excel files: save as .xlsx)"
                .to_owned(),
        }),
    }
}

/// Why a file ends being readable at some row.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) row: u64,
    pub(crate) what: String,
    pub(crate) cure: String,
}

impl Broken {
    fn new(row: u64, what: impl Into<String>, cure: &str) -> Self {
        Self { row, what: what.into(), cure: cure.to_owned() }
    }

    fn io(row: u64, error: &io::Error) -> Self {
        Self::new(row, format!("cannot be read on: {error}"), "try again")
    }

    fn in_file(self, file: &Path) -> PlanError {
        let Self { row, what, cure } = self;
        let file = file.to_owned();
        if row == 0 {
            PlanError::Unknown { file, what, cure }
        } else {
            PlanError::Broken { file, row, what, cure }
        }
    }
}

/// The letters of a column as spreadsheets show them, from 0: A, B, ..., Z, AA.
fn column_name(at: usize) -> String {
    let mut name = Vec::new();
    let mut left = at + 1;
    while left > 0 {
        left -= 1;
        name.push(b'A' + u8::try_from(left % 26).unwrap_or(0));
        left /= 26;
    }
    name.reverse();
    String::from_utf8(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_have_the_letters_of_a_spreadsheet() {
        let names = [0, 25, 26, 51, 52, 701, 702, 16_383].map(super::column_name);
        assert_eq!(names, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA", "XFD"]);
    }
}

//! What does a plan ask for? Reads `.jsonl`, `.json`, `.csv`, `.xlsx`, `.xls` and `.ods` files row by row into requests, each with what
//! is wrong with it.
//!
//! [`open`] gives an iterator that holds one row at a time. CSV and Excel headers are dotted field names with indices
//! (`target_server.disks.0.name`); cells take the type that the contract wants; an empty cell is an absent field, `""`
//! the empty text; columns whose header begins with `#` are notes, rows with nothing but `#...` comments. What would be
//! sent as something else than one sees is a finding, or at least a warning. A JSON row that needs no change is the body, byte
//! for byte. What rows share comes from a defaults file (rows win over it) and from `--set` (which wins over rows).
//! Columns or fields `x-sluice-*` ([`SETTINGS`]) say what the worker, not the API, is to know.

mod again;
mod aside;
mod book;
mod cell;
mod check;
mod clean;
mod columns;
pub(crate) mod csv;
mod doubts;
mod draft;
mod drafted;
mod explain;
pub(crate) mod export;
mod finding;
mod forecast;
mod groups;
mod json;
mod kind;
mod mapping;
mod marked;
mod notes;
mod of_wave;
mod plausible;
mod rows;
mod servers;
mod settings;
mod shared;
mod shown;
mod spool;
mod survey;
pub(crate) mod table;
mod tally;
mod template;
pub(crate) mod text;
mod tree;
mod waves;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use encoding_rs::Encoding;
use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use again::{Again, Returned, Written, again, settings as returned_settings};
pub use aside::{Aside, AsideError, set_aside};
pub use check::{Check, CheckReport, check};
pub use drafted::{DraftError, Drafted, Known, can_share, drafted};
pub use explain::{UnknownField, explain};
pub use finding::Finding;
pub use forecast::{Forecast, Hold, Load, Pace, forecast};
pub use groups::Group;
pub use mapping::Mapping;
pub use marked::{MarkError, mark};
pub use notes::Notes;
pub use of_wave::OfWave;
pub use plausible::{Account, PLAUSIBILITY, Plausibility, plausibility};
pub use rows::Plan;
pub use servers::{Named, Servers, filled};
pub use settings::{RowSettings, SETTINGS, SKIP, Setting, time};
pub use spool::{Spooled, is_numbered, spooled};
pub use survey::{Fingerprint, Survey, SurveyError, Valid, row_digest, survey, valid};
pub use tally::{Rows, Tally};
pub use template::{Purpose, template};
pub use waves::{
    SHEET as WAVES_SHEET, Wave, WavesError, batch_ids, has_waves_sheet, plan_sheets, waves,
};

use crate::contract::{Rules, View};

/// How a plan is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Csv,
    /// Any workbook: what it is, is told by what it holds.
    Xlsx,
    Xls,
    Ods,
    Jsonl,
    Json,
}

impl Format {
    /// The same reader takes all kinds of workbooks.
    pub fn is_book(self) -> bool {
        matches!(self, Self::Xlsx | Self::Xls | Self::Ods)
    }
}

/// What to do with what a workbook hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Hidden {
    /// Hidden rows and columns are left out
    Skip,
    /// Hidden rows and columns are sent as if they were seen
    Include,
    /// Hidden rows are left out, hidden columns are sent
    SkipRows,
}

impl Hidden {
    fn skips_rows(self) -> bool {
        self != Self::Include
    }
}

/// How to read a plan.
#[derive(Clone, Debug)]
pub struct Options {
    pub rules: Rules,
    /// Else by the ending of the file's name.
    pub format: Option<Format>,
    /// The sheet of a workbook; if absent, the visible one with the headers of a plan.
    pub sheet: Option<String>,
    /// What becomes of hidden rows and columns; if absent they make the plan invalid.
    pub hidden: Option<Hidden>,
    /// What a CSV file is written in; if absent it is found out.
    pub encoding: Option<&'static Encoding>,
    /// A `.json` or `.toml` file of one request: fills what rows leave out.
    pub defaults: Option<PathBuf>,
    /// `field=value`, typed by the contract: put into every row.
    pub set: Vec<String>,
    /// What times without an offset mean.
    pub zone: TimeZone,
    /// When it is read: times before are past.
    pub now: Timestamp,
    /// Only the rows of this wave, if the plan is of several.
    pub of: Option<OfWave>,
    /// The file's name in messages, where it is read from elsewhere.
    pub name: Option<PathBuf>,
    /// Rules of plausibility that say nothing: their ids.
    pub allow: Vec<&'static str>,
    /// The account that the requests go to, as far as it is known.
    pub account: Account,
    /// The account's source servers: rows may name theirs without its id, and what they leave out is filled.
    pub servers: Option<Arc<Servers>>,
    /// With them, the disks that rows say are replaced by what the account knows.
    pub refresh: bool,
    /// What the headers of the file stand for.
    pub mapping: Mapping,
    /// Rows with something in their `x-sluice-skip` are given too: to be written down again.
    pub skipped: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            format: None,
            sheet: None,
            hidden: None,
            encoding: None,
            defaults: None,
            set: Vec::new(),
            zone: TimeZone::system(),
            now: Timestamp::now(),
            of: None,
            name: None,
            allow: Vec::new(),
            account: Account::default(),
            servers: None,
            refresh: false,
            mapping: Mapping::default(),
            skipped: false,
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
    pub settings: RowSettings,
    /// Of an invalid row too, where it can be read.
    pub source_server_id: Option<String>,
    /// What the body says, or all that is wrong with the row.
    pub read: Result<View, Vec<Finding>>,
    pub warnings: Vec<Finding>,
    /// Hidden in the workbook.
    pub hidden: bool,
    /// Hidden, and nobody has said whether such rows are meant: not to be sent.
    pub undecided: bool,
    /// Where what is found later stands in the file.
    columns: Option<Arc<columns::Columns>>,
    /// The ids of its disks, with the disk's number, for what only all rows together show.
    disks: Vec<(usize, String)>,
    /// See [`Options::allow`].
    allow: Arc<[&'static str]>,
    /// What it says of its source server beside the id.
    pub server: Named,
    /// What stands in its `x-sluice-skip`; only with [`Options::skipped`] anything that leaves it out.
    pub skip: Option<String>,
}

/// What there is to say of a plan as a whole.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub tally: Tally,
    pub findings: Vec<Finding>,
    pub warnings: Vec<Finding>,
    /// The sheet that was read.
    pub sheet: Option<Arc<str>>,
    /// Headers of the file, and the fields that they stand for.
    pub mapped: Vec<(String, String)>,
}

impl Row {
    fn sheet(&self) -> Option<Arc<str>> {
        self.columns.as_deref().and_then(|columns| columns.sheet.clone())
    }

    /// Orders the request: `x-sluice-priority`, else the body's.
    pub fn priority(&self) -> Option<u16> {
        self.settings.priority.or(self.read.as_ref().ok().map(|view| view.priority))
    }

    /// The row as lines of a `.jsonl` plan, what is wrong with it as comments: to be fixed and read again.
    pub fn set_aside(&self) -> String {
        let mut lines = String::new();
        for finding in self.read.as_ref().err().into_iter().flatten() {
            lines.push_str(&format!("# {finding}").replace(['\n', '\r'], " "));
            lines.push('\n');
        }
        lines.push_str(&self.as_line());
        lines.push('\n');
        lines
    }

    /// The body with the row's settings, on one line.
    fn as_line(&self) -> String {
        let body = String::from_utf8_lossy(&self.body).replace(['\n', '\r'], " ");
        let settings = serde_json::to_string(&self.settings).unwrap_or_default();
        let settings = settings.trim_start_matches('{').trim_end_matches('}');
        match body.strip_prefix('{') {
            Some(fields) if !settings.is_empty() => {
                let comma = if fields.trim_start().starts_with('}') { "" } else { "," };
                format!("{{{settings}{comma}{fields}")
            }
            _ => body,
        }
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
    #[error("{}: has no requests{others}; write one row for each server (sluice plan template shows how)", file.display())]
    Empty {
        file: PathBuf,
        /// What its rows are instead.
        others: String,
    },
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
    let name = options.name.as_deref().unwrap_or(file);
    let format = options.format.map_or_else(|| format_of(name), Ok)?;
    let shared = shared::SharedFields::read(options)?;
    let failed = |source| PlanError::Open { file: name.to_owned(), source };
    if File::open(file).and_then(|file| file.metadata()).map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let (source, guess) = source(file, format, options).map_err(|broken| broken.in_file(name))?;
    Plan::new(name.to_owned(), source, shared, options, guess)
}

/// Opens what a format says, if the file is that; the word is about a guess.
fn source(
    file: &Path,
    format: Format,
    options: &Options,
) -> Result<(rows::Source, Option<cell::Refused>), Broken> {
    if format.is_book() {
        let sheet = book::Sheet::open(file, options.sheet.as_deref(), columns::is_header)?;
        return Ok((rows::Source::Book(sheet), None));
    }
    let (input, guess) = text_of(file, format == Format::Csv, options.encoding)?;
    let longest = options.rules.max_body;
    let source = match format {
        Format::Jsonl => rows::Source::Lines(json::Lines::new(input, longest)),
        Format::Json => rows::Source::Elements(json::Elements::open(input, longest)?),
        _ => rows::Source::Csv(csv::Csv::open(input)?),
    };
    Ok((source, guess))
}

/// Opens a file of text, whose name may say so wrongly.
pub(crate) fn text_of(
    file: &Path,
    table: bool,
    encoding: Option<&'static Encoding>,
) -> Result<(text::Input, Option<cell::Refused>), Broken> {
    let empty = std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.len() == 0);
    match kind::of(file).map_err(|error| Broken::io(0, &error))? {
        kind::Kind::Text => {}
        kind::Kind::Other { .. } if empty => {}
        kind::Kind::Other { what, cure } => return Err(Broken::new(0, what, cure)),
        kind => {
            let ending = format!("{kind:?}").to_lowercase();
            let what = format!("a workbook (.{ending}), not text");
            return Err(Broken::new(
                0,
                what,
                &format!("name it .{ending}, or say --format {ending}"),
            ));
        }
    }
    text::open(file, encoding, table)
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
        "xlsx" | "xlsm" | "xltx" => Ok(Format::Xlsx),
        "xls" | "xlt" => Ok(Format::Xls),
        "ods" | "ots" => Ok(Format::Ods),
        "jsonl" | "ndjson" => Ok(Format::Jsonl),
        "json" => Ok(Format::Json),
        _ => Err(PlanError::Unknown {
            file: file.to_owned(),
            what: "a file of an unknown kind".to_owned(),
            cure: "a plan ends in .csv, .xlsx, .xls, .ods, .jsonl or .json; or say what it is with --format".to_owned(),
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

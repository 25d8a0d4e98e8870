//! What became of a batch, as a file to keep or to send on: CSV, an Excel workbook, or a page for a browser.
//!
//! One row a request that has ended, in the plan's order. The file appears whole or not at all, and replaces another one
//! only where that was asked for.

mod csv;
mod html;
mod plot;
mod xlsx;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::message::result::ResultData;
use crate::report::new_file::{NewFile, NewFileError};
use crate::report::progress::BatchProgress;

/// What can be written, by the file's ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    Xlsx,
    Html,
}

/// How a CSV report writes times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Times {
    /// As spreadsheets take them for times, in whole seconds; the header names the zone.
    #[default]
    Excel,
    /// RFC 3339 with milliseconds, for programs.
    Iso,
}

/// Where to, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub file: PathBuf,
    pub format: Format,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file = PathBuf::from(text);
        let ending = file.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        let format = match ending.as_deref() {
            Some("csv") => Format::Csv,
            Some("xlsx") => Format::Xlsx,
            Some("html") => Format::Html,
            _ => return Err("the file's name must end with .csv, .xlsx or .html".to_owned()),
        };
        Ok(Self { file, format })
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    File(#[from] NewFileError),
    #[error("cannot write {}: {source}; export as .csv, which has no limits", file.display())]
    Workbook { file: PathBuf, source: rust_xlsxwriter::XlsxError },
}

impl Target {
    /// Whether the file could be written now: said before anybody waits for hours.
    ///
    /// # Errors
    /// It is there already, or its directory cannot be written to.
    pub fn check(&self, overwrite: bool) -> Result<(), ExportError> {
        NewFile::create(&self.file, overwrite)?;
        Ok(())
    }

    /// Writes the report of a batch. `zone`: of the times on the page; the others have UTC; `times`: of CSV.
    ///
    /// # Errors
    /// The file was not written, and what was there before is as it was.
    pub fn write(
        &self,
        progress: &BatchProgress,
        now: Timestamp,
        zone: &TimeZone,
        times: Times,
        overwrite: bool,
    ) -> Result<(), ExportError> {
        let results = progress.results();
        let bytes = match self.format {
            Format::Csv => csv::report(&results, times),
            Format::Xlsx => xlsx::report(progress, &results, now)
                .map_err(|source| ExportError::Workbook { file: self.file.clone(), source })?,
            Format::Html => html::report(progress, &results, now, zone).into_bytes(),
        };
        let mut file = NewFile::create(&self.file, overwrite)?;
        file.write_all(&bytes)
            .map_err(|source| NewFileError::Write { file: self.file.clone(), source })?;
        Ok(file.keep()?)
    }
}

/// The columns of a report, in its order.
const COLUMNS: [&str; 14] = [
    "row",
    "source_server_id",
    "name",
    "priority",
    "region_id",
    "outcome",
    "task_id",
    "reason",
    "attempts",
    "looked_up",
    "enqueued_at",
    "first_attempt_at",
    "settled_at",
    "seconds_waited",
];

/// What stands in a place of a report.
#[derive(Clone, Debug, PartialEq)]
enum Cell<'a> {
    Empty,
    /// A word of ours, or a text of anybody.
    Text(Cow<'a, str>),
    Count(u64),
    /// With milliseconds.
    Seconds(f64),
    Time(Timestamp),
}

/// A request's row, a cell for each of [`COLUMNS`].
fn cells(result: &ResultData) -> [Cell<'_>; 14] {
    let text = |text: &'_ str| match text {
        "" => Cell::Empty,
        text => Cell::Text(text.to_owned().into()),
    };
    let time = |at: Option<Timestamp>| at.map_or(Cell::Empty, Cell::Time);
    [
        result.row.map_or(Cell::Empty, Cell::Count),
        text(&result.source_server_id),
        text(&result.name),
        Cell::Count(result.priority.into()),
        text(&result.region_id),
        Cell::Text(result.outcome.as_str().into()),
        text(result.task_id.as_deref().unwrap_or_default()),
        text(&reason(result)),
        Cell::Count(result.attempts.into()),
        Cell::Count(result.looked_up.into()),
        time(result.enqueued_at),
        time(result.first_attempt_at),
        Cell::Time(result.settled_at),
        seconds_waited(result).map_or(Cell::Empty, Cell::Seconds),
    ]
}

/// From the moment it was enqueued until it was settled, in whole milliseconds.
fn seconds_waited(result: &ResultData) -> Option<f64> {
    let waited = result.settled_at.duration_since(result.enqueued_at?);
    Some(std::time::Duration::try_from(waited).ok()?.as_millis())
        .and_then(|ms| u32::try_from(ms / 1000).ok().zip(u16::try_from(ms % 1000).ok()))
        .map(|(seconds, ms)| f64::from(seconds) + f64::from(ms) / 1000.0)
}

/// All that is known of why it ended so: our sentence, the API's answer, every rule that it breaks.
fn reason(result: &ResultData) -> String {
    let mut said = result.reason.clone();
    let mut add = |text: std::fmt::Arguments<'_>| {
        let between = if said.is_empty() { "" } else { "; " };
        // Writing to a text cannot fail.
        let _ = write!(said, "{between}{text}");
    };
    if let Some(fault) = &result.error
        && !result.reason.contains(&fault.error_msg)
    {
        add(format_args!("{fault}"));
    }
    for violation in &result.violations {
        let crate::contract::Violation { pointer, found, allowed, .. } = violation;
        add(format_args!("{pointer}: found {found}, allowed: {allowed}"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_names_the_format_and_a_wrong_one_names_all() {
        let format = |text: &str| text.parse::<Target>().map(|target| target.format);
        assert_eq!(format("a/report.csv"), Ok(Format::Csv));
        assert_eq!(format("REPORT.XLSX"), Ok(Format::Xlsx));
        assert_eq!(format("r.html"), Ok(Format::Html));
        for wrong in ["report", "report.pdf", ".csv", "csv", "report.csv.gz"] {
            let said = format(wrong).unwrap_err();
            for ending in [".csv", ".xlsx", ".html"] {
                assert!(said.contains(ending), "{wrong}: {said}");
            }
        }
    }

    #[test]
    fn a_file_is_replaced_only_when_asked_and_stays_as_it_was_on_failure() {
        let dir = tempfile::tempdir().unwrap();
        let target: Target = dir.path().join("r.csv").to_str().unwrap().parse().unwrap();
        std::fs::write(&target.file, "mine").unwrap();
        let progress = BatchProgress::new("b");
        let write = |overwrite| {
            target.write(&progress, Timestamp::UNIX_EPOCH, &TimeZone::UTC, Times::Iso, overwrite)
        };
        assert!(matches!(target.check(false), Err(ExportError::File(NewFileError::Exists(_)))));
        assert!(matches!(write(false), Err(ExportError::File(NewFileError::Exists(_)))));
        assert_eq!(std::fs::read_to_string(&target.file).unwrap(), "mine");
        target.check(true).unwrap();
        write(true).unwrap();
        assert!(std::fs::read_to_string(&target.file).unwrap().contains("seconds_waited"));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let away: Target = dir.path().join("no/such/r.csv").to_str().unwrap().parse().unwrap();
        assert!(matches!(away.check(false), Err(ExportError::File(NewFileError::Write { .. }))));
    }
}

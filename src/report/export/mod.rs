//! What became of a batch, or of several, as a file to keep or to send on: CSV, an Excel workbook, or a page for a browser.
//!
//! One row a request, in the plan's order. The file appears whole or not at all, and replaces another one
//! only where that was asked for.

mod csv;
mod html;
mod plot;
mod report;
mod xlsx;

use std::io::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::report::Report;
use crate::report::new_file::{NewFile, NewFileError};

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

    /// Writes a report. `zone`: of the times on the page; the others have UTC; `times`: of CSV.
    ///
    /// # Errors
    /// The file was not written, and what was there before is as it was.
    pub fn write(
        &self,
        report: &Report<'_>,
        now: Timestamp,
        zone: &TimeZone,
        times: Times,
        overwrite: bool,
    ) -> Result<(), ExportError> {
        let bytes = match self.format {
            Format::Csv => csv::report(report, times),
            Format::Xlsx => xlsx::report(report, now)
                .map_err(|source| ExportError::Workbook { file: self.file.clone(), source })?,
            Format::Html => html::report(report, now, zone).into_bytes(),
        };
        let mut file = NewFile::create(&self.file, overwrite)?;
        file.write_all(&bytes)
            .map_err(|source| NewFileError::Write { file: self.file.clone(), source })?;
        Ok(file.keep()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::progress::BatchProgress;

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
        let progress = BatchProgress::new("b", None);
        let report = Report::of_results("Batch b".into(), vec![&progress]);
        let write = |overwrite| {
            target.write(&report, Timestamp::UNIX_EPOCH, &TimeZone::UTC, Times::Iso, overwrite)
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

//! Where does a report go that a command writes? The options of all commands that write one.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Failure;
use crate::report::export::{Report, Target, Times};

/// No file: no report.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Write a report to a file, a row a server: .csv, .xlsx or .html
    #[arg(long = "export", value_name = "FILE")]
    pub(super) target: Option<Target>,
    /// Times of a .csv report: excel or iso
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        default_value = "excel",
        requires = "target"
    )]
    times: Times,
    /// Replace the file of --export
    #[arg(long, requires = "target")]
    overwrite: bool,
}

impl Args {
    /// Whether the file may be written, before anything else is done.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.target
            .as_ref()
            .map_or(Ok(()), |target| target.check(self.overwrite).map_err(Failure::usage))
    }

    /// Writes the report, if one is wanted.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, report: &Report<'_>) -> Result<(), Failure> {
        let Some(target) = &self.target else { return Ok(()) };
        let (now, zone) = (Timestamp::now(), TimeZone::system());
        target.write(report, now, &zone, self.times, self.overwrite).map_err(Failure::usage)
    }
}

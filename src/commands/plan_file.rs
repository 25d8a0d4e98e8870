//! Which plan does a command read, and how? The arguments that all of them share.

use std::path::{Path, PathBuf};

use super::Failure;
use crate::contract::Rules;
use crate::plan::{self, Format, Options, Plan, PlanError};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// What rows leave out: a .json or .toml file with fields of a request
    #[arg(long, value_name = "FILE")]
    defaults: Option<PathBuf>,
    /// Put into every row, above what it says
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The sheet of a workbook (default: the first)
    #[arg(long, value_name = "NAME")]
    sheet: Option<String>,
    /// csv, xlsx, jsonl or json (default: by its ending)
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
}

impl Args {
    /// # Errors
    /// Why the plan cannot be read; wrong options are usage.
    pub(super) fn open(&self, file: &Path, rules: Rules) -> Result<Plan, Failure> {
        self.open_with(file, rules, &[])
    }

    /// Like [`Args::open`]; what is in `set` is put into every row as well.
    pub(super) fn open_with(
        &self,
        file: &Path,
        rules: Rules,
        set: &[String],
    ) -> Result<Plan, Failure> {
        let options = Options {
            rules,
            format: self.format,
            sheet: self.sheet.clone(),
            defaults: self.defaults.clone(),
            set: self.set.iter().chain(set).cloned().collect(),
            ..Options::default()
        };
        plan::open(file, &options).map_err(failure)
    }
}

/// A file that is not there, or an option that is wrong, is usage; a file with something wrong in it is the plan.
pub(super) fn failure(error: PlanError) -> Failure {
    match error {
        PlanError::Open { .. } | PlanError::Shared(_) => Failure::usage(error),
        _ => Failure::invalid_plan(error),
    }
}

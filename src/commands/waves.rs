//! Which batches are made of one plan? A batch of each sheet, or of each value of a column, with what a small table says of
//! when each may go.

use std::collections::HashMap;
use std::path::PathBuf;

use super::plan_file::{self, Judge, PlanFile};
use super::{Exit, Failure};
use crate::plan::{self, OfWave, Options, Survey, WavesError};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// A batch of each value of this column; `sheet`: of each sheet
    #[arg(long, value_name = "COLUMN")]
    batch_by: Option<String>,
    /// The table of the waves (docs/plans.md): default, the sheet Waves
    #[arg(long, value_name = "FILE", requires = "batch_by")]
    waves: Option<PathBuf>,
}

/// What of a plan becomes one batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// The wave's name.
    pub(super) wave: Option<String>,
    /// The batch's id, if one was given.
    pub(super) batch: Option<String>,
    /// The sheet, in place of the one that is named or found.
    pub(super) sheet: Option<String>,
    pub(super) of: Option<OfWave>,
}

impl Args {
    pub(super) fn is_given(&self) -> bool {
        self.batch_by.is_some()
    }

    fn by_sheet(&self) -> bool {
        self.batch_by.as_deref() == Some("sheet")
    }

    /// The batches of a plan, in the order in which they go; one without waves.
    ///
    /// # Errors
    /// Waves that cannot be told, or a table of them that is wrong.
    pub(super) fn scopes(
        &self,
        batch: Option<&String>,
        reading: &plan_file::Args,
        file: &PlanFile,
        judge: &Judge,
    ) -> Result<Vec<Scope>, Failure> {
        let Some(by) = &self.batch_by else {
            return Ok(vec![Scope { batch: batch.cloned(), ..Scope::default() }]);
        };
        let Some(prefix) = batch else {
            return Err(Failure::usage(
                "--batch-by needs --batch: what the ids of its batches begin with",
            ));
        };
        let options = reading.options_of(file, judge, &[], &Scope::default());
        let (names, column) = if self.by_sheet() {
            if options.sheet.is_some() {
                return Err(Failure::usage("--batch-by sheet reads all sheets: leave --sheet out"));
            }
            (plan::plan_sheets(&file.path, &options).map_err(plan_file::failure)?, None)
        } else {
            let of = OfWave { column: Some(by.clone()), ..OfWave::default() };
            let options = Options { of: Some(of), ..options.clone() };
            let plan = plan::open(&file.path, &options).map_err(plan_file::failure)?;
            (plan.waves().map_err(failure)?, Some(by.clone()))
        };
        let ids = plan::batch_ids(prefix, &names);
        let id_of: HashMap<&String, String> = names.iter().zip(ids).collect();
        let waves = self.in_order(file, &options, &names)?;
        let scope = |wave: plan::Wave| Scope {
            batch: id_of.get(&wave.name).cloned(),
            sheet: column.is_none().then(|| wave.name.clone()),
            of: Some(OfWave {
                column: column.clone(),
                wave: Some(wave.name.clone()),
                settings: wave.settings,
            }),
            wave: Some(wave.name),
        };
        Ok(waves.into_iter().map(scope).collect())
    }

    /// The waves by their table, else as they stand in the plan.
    fn in_order(
        &self,
        file: &PlanFile,
        options: &Options,
        names: &[String],
    ) -> Result<Vec<plan::Wave>, Failure> {
        let own = |name: Option<PathBuf>, sheet: Option<&str>, format| Options {
            format,
            name,
            sheet: sheet.map(str::to_owned),
            ..options.clone()
        };
        if let Some(table) = &self.waves {
            let options = own(Some(table.clone()), None, None);
            return plan::waves(table, &options, names).map_err(failure);
        }
        let format = options.format.map_or_else(|| plan::format_of(&file.name), Ok);
        let is_book = format.map_err(plan_file::failure)?.is_book();
        if is_book && plan::has_waves_sheet(&file.path).map_err(plan_file::failure)? {
            let options = own(Some(file.name.clone()), Some(plan::WAVES_SHEET), options.format);
            return plan::waves(&file.path, &options, names).map_err(failure);
        }
        let wave = |name: &String| plan::Wave { name: name.clone(), ..plan::Wave::default() };
        Ok(names.iter().map(wave).collect())
    }
}

fn failure(error: WavesError) -> Failure {
    match error {
        WavesError::Plan(error) => plan_file::failure(error),
        error @ WavesError::Findings { .. } => Failure::invalid_plan(error),
    }
}

/// A server is in one wave only.
///
/// # Errors
/// Those that are in several.
pub(super) fn refuse_servers_twice(surveys: &[(Scope, Survey)]) -> Result<(), Failure> {
    const TOLD: usize = 20;
    let mut seen: HashMap<&str, (&Scope, u64)> = HashMap::new();
    let mut twice = Vec::new();
    for (scope, survey) in surveys {
        for (row, source) in &survey.sources {
            if let Some((other, first)) = seen.insert(source, (scope, *row)) {
                let name = |scope: &Scope| {
                    crate::contract::shown(scope.wave.as_deref().unwrap_or_default())
                };
                twice.push(format!(
                    "wave {}, row {row}: found the source server of wave {}, row {first}; allowed: each source server in one \
                     wave; remove one of the two rows",
                    name(scope),
                    name(other)
                ));
            }
        }
    }
    if twice.is_empty() {
        return Ok(());
    }
    let count = twice.len();
    twice.truncate(TOLD);
    let message =
        format!("{}\n{count} servers are in two waves; nothing was sent", twice.join("\n"));
    Err(Failure { exit: Exit::InvalidPlan, message })
}

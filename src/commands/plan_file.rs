//! Which plan does a command read, and how? The arguments that all of them share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use super::waves::Scope;
use crate::contract::Rules;
use crate::lane::Config;
use crate::plan::{
    self, Account, Format, Hidden, Mapping, Options, Plan, PlanError, Servers, Spooled,
};
use crate::report::new_file::NewFile;

/// Where a table comes from, and how it is read.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Source {
    /// The sheet of a workbook (default: the visible one with headers)
    #[arg(long, value_name = "NAME")]
    sheet: Option<String>,
    /// What a workbook hides: skip, include, or skip-rows (no columns)
    #[arg(long, value_enum, hide_possible_values = true)]
    hidden: Option<Hidden>,
    /// csv, xlsx, xls, ods, jsonl or json (default: by its ending)
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// What a CSV file is written in, such as gbk (default: found out)
    #[arg(long, value_name = "NAME", value_parser = encoding)]
    encoding: Option<&'static encoding_rs::Encoding>,
}

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// What rows leave out: a .json or .toml file with fields of a request
    #[arg(long, value_name = "FILE")]
    defaults: Option<PathBuf>,
    /// Put into every row, in place of what it says; --defaults keeps that
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// No warning by these rules of plausibility (docs/plans.md)
    #[arg(long, value_name = "RULE,RULE", value_delimiter = ',', value_parser = plan::plausibility)]
    allow: Vec<&'static str>,
    /// What headers of the file stand for: 'Prio=priority, ...'
    #[arg(long, value_name = "HEADER=FIELD", value_parser = mapping)]
    map: Vec<Mapping>,
    /// Columns that are neither mapped nor of a plan are notes
    #[arg(long)]
    ignore_other_columns: bool,
    #[command(flatten)]
    source: Source,
}

fn mapping(text: &str) -> Result<Mapping, String> {
    let mut mapping = Mapping::default();
    mapping.add_text(text).map(|()| mapping)
}

fn encoding(name: &str) -> Result<&'static encoding_rs::Encoding, String> {
    encoding_rs::Encoding::for_label(name.as_bytes()).ok_or_else(|| {
        format!("`{name}` is no encoding that is known; name one such as utf-8, utf-16le, windows-1252, gbk, shift_jis")
    })
}

/// What the configuration says of how a plan is judged.
pub(super) struct Judge {
    rules: Rules,
    account: Account,
    /// The account's source servers, where it was asked.
    pub(super) servers: Option<Arc<Servers>>,
}

impl Judge {
    /// `strict`: what the page does not allow is wrong, whatever the configuration says.
    pub(super) fn of(config: &Config, strict: bool) -> Self {
        let mut rules = config.contract.rules();
        rules.strict |= strict;
        let auth = &config.api.auth;
        let account =
            Account { project: auth.project.clone(), project_id: auth.project_id.clone() };
        Self { rules, account, servers: None }
    }
}

/// A plan that can be read as often as a command needs to.
pub(super) struct PlanFile {
    /// What is read.
    pub(super) path: PathBuf,
    /// What it is called, and what the files beside it are named after.
    pub(super) name: PathBuf,
    /// What came through a pipe, for as long as it is needed.
    _spooled: Option<Spooled>,
}

impl Source {
    /// A plan of which only the sheet is named.
    pub(super) fn of_sheet(sheet: Option<String>) -> Self {
        Self { sheet, hidden: None, format: None, encoding: None }
    }

    /// Takes what came through a pipe; anything else is read where it is.
    ///
    /// # Errors
    /// Why it cannot be read, or not be told what it is.
    pub(super) fn take(&self, plan: &Path) -> Result<PlanFile, Failure> {
        let nameless = plan == Path::new("-") || plan::is_numbered(plan);
        if nameless && self.format.is_none() {
            let shown = plan.display();
            let cure = "what comes through a pipe has no ending that says what it is: add --format csv, xlsx, xls, ods, jsonl or json";
            return Err(Failure::usage(format!("{shown}: {cure}")));
        }
        let spooled = plan::spooled(plan, self.format)
            .map_err(|source| Failure::usage(PlanError::Open { file: plan.to_owned(), source }))?;
        Ok(match spooled {
            None => PlanFile { path: plan.to_owned(), name: plan.to_owned(), _spooled: None },
            Some(spooled) => PlanFile {
                path: spooled.file.path().to_owned(),
                name: spooled.name.clone(),
                _spooled: Some(spooled),
            },
        })
    }

    /// How such a file is read.
    pub(super) fn options(&self, file: &PlanFile) -> Options {
        Options {
            format: self.format,
            sheet: self.sheet.clone(),
            hidden: self.hidden,
            encoding: self.encoding,
            name: Some(file.name.clone()),
            ..Options::default()
        }
    }
}

/// Where a marked plan goes.
#[derive(Clone, Copy)]
pub(super) struct Marked<'a> {
    pub(super) file: &'a Path,
    pub(super) overwrite: bool,
}

impl Marked<'_> {
    fn write(
        self,
        plan: &Path,
        options: &Options,
        report: &plan::CheckReport,
    ) -> Result<(), Failure> {
        let Self { file, overwrite } = self;
        // Whatever may be replaced, it is not what is read.
        if is_same(file, plan) {
            let file = file.display();
            return Err(Failure::usage(format!(
                "--marked {file} is the plan itself; give another file"
            )));
        }
        let mut new = NewFile::create(file, overwrite).map_err(Failure::usage)?;
        plan::mark(plan, options, report, file, new.as_file_mut()).map_err(Failure::usage)?;
        new.keep().map_err(Failure::usage)
    }
}

/// Whether both are one file, by whatever names.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| Some(one) == real(other))
}

impl Args {
    /// See [`Source::take`].
    pub(super) fn take(&self, plan: &Path) -> Result<PlanFile, Failure> {
        self.source.take(plan)
    }

    /// # Errors
    /// Why the plan cannot be read; wrong options are usage.
    pub(super) fn open(&self, plan: &PlanFile, judge: &Judge) -> Result<Plan, Failure> {
        self.open_with(plan, judge, &[])
    }

    /// The planner's own columns.
    pub(super) fn notes(&self, plan: &PlanFile) -> Result<plan::Notes, Failure> {
        let (mapping, defaults) = (self.mapping(), self.defaults.clone());
        let options = Options { defaults, mapping, ..self.source.options(plan) };
        plan::Notes::read(&plan.path, &options).map_err(failure)
    }

    fn mapping(&self) -> Mapping {
        let mut all = Mapping::default();
        all.ignore_others = self.ignore_other_columns;
        for mapping in &self.map {
            all.extend(mapping);
        }
        all
    }

    /// Like [`Args::open`]; headers that cannot be used are marked too, in a workbook at `marked`.
    pub(super) fn open_or_mark(
        &self,
        plan: &PlanFile,
        judge: &Judge,
        marked: Option<Marked<'_>>,
    ) -> Result<Plan, Failure> {
        let options = self.options(plan, judge, &[]);
        plan::open(&plan.path, &options).map_err(|error| {
            if let (PlanError::Headers { problems, .. }, Some(to)) = (&error, marked) {
                let report = plan::CheckReport::of_headers(problems);
                if let Err(failure) = to.write(&plan.path, &options, &report) {
                    return failure;
                }
            }
            failure(error)
        })
    }

    /// Like [`Args::open`]; what is in `set` is put into every row as well.
    pub(super) fn open_with(
        &self,
        plan: &PlanFile,
        judge: &Judge,
        set: &[String],
    ) -> Result<Plan, Failure> {
        plan::open(&plan.path, &self.options(plan, judge, set)).map_err(failure)
    }

    /// Writes the plan down again, marked with what was found.
    pub(super) fn mark(
        &self,
        plan: &PlanFile,
        judge: &Judge,
        report: &plan::CheckReport,
        to: Marked<'_>,
    ) -> Result<(), Failure> {
        to.write(&plan.path, &self.options(plan, judge, &[]), report)
    }

    /// How the plan is written.
    ///
    /// # Errors
    /// Its name does not say.
    pub(super) fn format(&self, plan: &PlanFile) -> Result<Format, Failure> {
        self.source.format.map_or_else(|| plan::format_of(&plan.name).map_err(failure), Ok)
    }

    /// Writes the invalid rows of a table down again.
    pub(super) fn set_aside(
        &self,
        plan: &PlanFile,
        judge: &Judge,
        survey: &plan::Survey,
        out: &mut dyn std::io::Write,
    ) -> Result<(), plan::AsideError> {
        let options = self.options(plan, judge, &[]);
        plan::set_aside(&plan.path, &options, &survey.invalid, &survey.report, out)
    }

    /// Like [`Args::open_with`], of one of the batches that are made of the plan.
    pub(super) fn open_scope(
        &self,
        plan: &PlanFile,
        judge: &Judge,
        set: &[String],
        scope: &Scope,
    ) -> Result<Plan, Failure> {
        plan::open(&plan.path, &self.options_of(plan, judge, set, scope)).map_err(failure)
    }

    /// How one of the batches that are made of the plan is read.
    pub(super) fn options_of(
        &self,
        plan: &PlanFile,
        judge: &Judge,
        set: &[String],
        scope: &Scope,
    ) -> Options {
        let options = self.options(plan, judge, set);
        let sheet = scope.sheet.clone().or(options.sheet);
        Options { sheet, of: scope.of.clone(), ..options }
    }

    /// How the plan is read.
    pub(super) fn as_read(&self, plan: &PlanFile, judge: &Judge) -> Options {
        self.options(plan, judge, &[])
    }

    fn options(&self, plan: &PlanFile, judge: &Judge, set: &[String]) -> Options {
        Options {
            rules: judge.rules,
            account: judge.account.clone(),
            servers: judge.servers.clone(),
            mapping: self.mapping(),
            allow: self.allow.clone(),
            defaults: self.defaults.clone(),
            set: self.set.iter().chain(set).cloned().collect(),
            ..self.source.options(plan)
        }
    }
}

/// A file that is not there, or an option that is wrong, is usage; a file with something wrong in it is the plan.
pub(super) fn failure(error: PlanError) -> Failure {
    match error {
        PlanError::Open { .. } | PlanError::Shared(_) => Failure::usage(error),
        _ => Failure::invalid_plan(error),
    }
}

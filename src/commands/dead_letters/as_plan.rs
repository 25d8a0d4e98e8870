//! `sluice dead-letters export --as plan`: failed rows in the format and columns of their plan, to be fixed in the
//! spreadsheet that they came from, checked and enqueued.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::super::plan_file::{self, Source};
use super::super::{Exit, Failure, World, print};
use super::file::Export;
use super::{Desk, letters};
use crate::broker::dead_letters::Found;
use crate::plan::{self, Notes, Returned, Written};
use crate::report::new_file::NewFile;

/// The plan that they came from.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct OfPlan {
    /// For --as plan: the plan they came from, for its columns and notes
    #[arg(long, value_name = "PLAN")]
    plan: Option<PathBuf>,
    /// The sheet of that plan (default: the visible one with headers)
    #[arg(long, value_name = "NAME", requires = "plan")]
    sheet: Option<String>,
}

impl OfPlan {
    pub(super) fn is_given(&self) -> bool {
        self.plan.is_some()
    }

    fn notes(&self) -> Result<Notes, Failure> {
        let Some(plan) = &self.plan else { return Ok(Notes::default()) };
        let source = Source::of_sheet(self.sheet.clone());
        let file = source.take(plan)?;
        Notes::read(&file.path, &source.options(&file)).map_err(plan_file::failure)
    }
}

pub(super) fn export(args: &Export, world: &World) -> Result<Exit, Failure> {
    let format = format(&args.file)?;
    let notes = args.of_plan.notes()?;
    let mut file = NewFile::create(&args.file, args.overwrite).map_err(Failure::usage)?;
    let desk = Desk::open(&args.place, world)?;
    let snapshot = desk.look()?;
    let filter = args.selection.filter();
    let mut selected = args.selection.of(&snapshot, &filter)?;
    if selected.is_empty() {
        return Err(Failure::usage("no dead letter meets these conditions; nothing was written"));
    }
    selected.sort_by_key(|found| {
        let letter = &found.letter;
        (letter.batch.clone(), letter.batch_run, letter.row.unwrap_or(u64::MAX), letter.failed_at)
    });
    let returned: Vec<Returned> =
        selected.iter().map(|found| returned(found)).collect::<Result<_, _>>()?;
    let again = plan::again(&returned, &notes, format).map_err(|error| {
        let file = args.file.display();
        Failure::usage(format!("cannot write {file}: {error}; export as .csv, which has no limits"))
    })?;
    let wrong = |e| Failure::usage(format!("cannot write {}: {e}", args.file.display()));
    file.write_all(&again.bytes).map_err(wrong)?;
    file.keep().map_err(Failure::usage)?;
    let rows = selected.len() - again.left_out.len();
    let file = args.file.display();
    print(&format!("wrote {} to {file}, a row each\n", letters(rows)));
    for (at, why) in &again.left_out {
        if let Some(found) = selected.get(*at) {
            let (id, why) = (found.letter.id, crate::report::text::one_line(why));
            eprintln!("sluice: {id} is not in it: {why}");
        }
    }
    eprintln!(
        "the queue keeps them: put the rows right, `sluice check {file}`, enqueue it, then `sluice dead-letters discard`"
    );
    Ok(if again.left_out.is_empty() { Exit::Done } else { Exit::NotAllWell })
}

fn format(file: &Path) -> Result<Written, Failure> {
    let ending = file.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    match ending.as_deref() {
        Some("csv") => Ok(Written::Csv),
        Some("xlsx") => Ok(Written::Xlsx),
        Some("jsonl" | "ndjson") => Ok(Written::Jsonl),
        _ => Err(Failure::usage(format!(
            "{}: with --as plan the file's name must end with .csv, .xlsx or .jsonl",
            file.display()
        ))),
    }
}

fn returned(found: &Found) -> Result<Returned, Failure> {
    let unreadable = |e| Failure::usage(format!("the temporary file cannot be read: {e}"));
    let parcel = found.parcel().map_err(unreadable)?;
    let letter = &found.letter;
    let violations = letter.violations.iter().map(super::show::violation);
    let why: Vec<String> = std::iter::once(letter.reason.clone()).chain(violations).collect();
    Ok(Returned {
        body: parcel.body.to_vec(),
        settings: plan::returned_settings(|name| parcel.header(name)),
        row: letter.row,
        source_server_id: letter.source_server_id.clone(),
        outcome: letter.cause.outcome.clone(),
        why: why.join("; "),
        ..Returned::default()
    })
}

//! `sluice dead-letters export` and `import`: dead letters as a file, whole, and back into the queue.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::super::plan_file::{PlanFile, Source};
use super::super::{Exit, Failure, World, print, print_json};
use super::as_plan::{self, OfPlan};
use super::selection::Selection;
use super::{Desk, LaneArgs, Who, letters, moving};
use crate::message::parcel::Parcel;
use crate::report::new_file::NewFile;
use crate::review::file::{self, FileError, Format, Writer};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
JSON lines keep every byte; so does CSV, but a spreadsheet that saves it may not. The queue keeps
the dead letters: discard them if the file is to replace them. --as plan writes the failed rows
in the columns of their plan, to be fixed and enqueued, with what became of each as notes.
Example: sluice dead-letters export failed.jsonl --batch wave-1
         sluice dead-letters export again.xlsx --as plan --batch wave-1 --plan weekend.xlsx")]
pub(super) struct Export {
    /// The file to write: .jsonl or .csv; with --as plan .xlsx, too
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Default: by the file's ending
    #[arg(long, conflicts_with = "kind")]
    format: Option<Format>,
    /// messages, to import again; or plan, to fix rows
    #[arg(long = "as", value_enum, hide_possible_values = true, default_value = "messages")]
    kind: Kind,
    #[command(flatten)]
    pub(super) of_plan: OfPlan,
    /// Replace the file
    #[arg(long)]
    pub(super) overwrite: bool,
    #[command(flatten)]
    pub(super) place: LaneArgs,
    /// How many went where, as JSON on stdout
    #[arg(long, conflicts_with = "kind")]
    json: bool,
}

/// What dead letters are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Messages,
    Plan,
}

pub(super) fn export(args: &Export, world: &World) -> Result<Exit, Failure> {
    match args.kind {
        Kind::Plan => return as_plan::export(args, world),
        Kind::Messages if args.of_plan.is_given() => {
            return Err(Failure::usage("--plan is for --as plan: give both, or none"));
        }
        Kind::Messages => {}
    }
    let format = format(&args.file, args.format)?;
    let file = &args.file;
    let wrong = |e: std::io::Error| Failure::usage(format!("cannot write {}: {e}", file.display()));
    let mut whole = NewFile::create(file, args.overwrite).map_err(Failure::usage)?;
    let desk = Desk::open(&args.place, world)?;
    let snapshot = desk.look()?;
    let filter = args.selection.filter();
    let selected = args.selection.of(&snapshot, &filter)?;
    let mut write = || -> std::io::Result<()> {
        let mut writer = Writer::new(BufWriter::new(&mut whole), format)?;
        for found in &selected {
            writer.put(&found.letter, &found.parcel()?)?;
        }
        writer.finish().map(drop)
    };
    write().map_err(wrong)?;
    whole.keep().map_err(Failure::usage)?;
    if args.json {
        let said = serde_json::json!({
            "done": "exported", "letters": selected.len(), "not_looked_at": snapshot.left, "file": file,
        });
        print_json(&format!("{said}\n"));
    } else {
        print(&format!("wrote {} to {}\n", letters(selected.len()), file.display()));
    }
    Ok(Exit::Done)
}

fn format(file: &Path, given: Option<Format>) -> Result<Format, Failure> {
    let ending = file.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    match (given, ending.as_deref()) {
        (Some(format), _) => Ok(format),
        (None, Some("jsonl" | "ndjson")) => Ok(Format::Jsonl),
        (None, Some("csv")) => Ok(Format::Csv),
        (None, _) => Err(Failure::usage(format!(
            "{}: is it jsonl or csv? Its ending does not say; give --format",
            file.display()
        ))),
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The whole file is read first: if a row of it is wrong, nothing is put into the queue (else: 3). What
is in the queue already is there twice then, but shown and moved as one.
Example: sluice dead-letters import failed.jsonl --why 'from the other cluster'")]
pub(super) struct Import {
    /// What export wrote, .jsonl or .csv, or a workbook made of it; or - with --format
    file: PathBuf,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    place: LaneArgs,
    #[command(flatten)]
    who: Who,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn import(args: &Import, world: &World) -> Result<Exit, Failure> {
    let letters = args.source.take(&args.file)?;
    let mut count = 0;
    for parcel in read(args, &letters)? {
        parcel.map_err(|error| wrong_file(&letters, &error))?;
        count += 1;
    }
    let desk = Desk::open(&args.place, world)?;
    let by = args.who.by(world);
    // Read a second time: a file may be larger than the memory. If somebody changes it meanwhile it ends there.
    let parcels = read(args, &letters)?.map_while(Result::ok);
    let progress = moving::run(&desk, world, "importing", |attendant| {
        desk.review.import(parcels, count, &by, attendant)
    })?;
    Ok(moving::report("imported", progress, args.json))
}

fn read(
    args: &Import,
    letters: &PlanFile,
) -> Result<Box<dyn Iterator<Item = Result<Parcel, FileError>> + Send>, Failure> {
    if let Err(e) = std::fs::File::open(&letters.path) {
        return Err(Failure::usage(format!("cannot read {}: {e}", letters.name.display())));
    }
    file::read(&letters.path, &args.source.options(letters))
        .map_err(|error| wrong_file(letters, &error))
}

fn wrong_file(letters: &PlanFile, error: &FileError) -> Failure {
    let file = letters.name.display();
    Failure::invalid_plan(format!("{file}: {error}; nothing was put into the queue"))
}

//! `sluice dead-letters export` and `import`: dead letters as a file, whole, and back into the queue.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::super::plan_file::{PlanFile, Source};
use super::super::{Exit, Failure, World, print};
use super::selection::Selection;
use super::{Desk, LaneArgs, Who, letters, moving};
use crate::message::parcel::Parcel;
use crate::review::file::{self, FileError, Format, Writer};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
JSON lines keep every byte; so does CSV, but a spreadsheet that saves it may not. The queue keeps
the dead letters: discard them if the file is to replace them. A file that is there is left alone.
Example: sluice dead-letters export failed.jsonl --batch wave-1
         sluice dead-letters export failed.csv")]
pub(super) struct Export {
    /// The file to write: .jsonl or .csv
    file: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// Default: by the file's ending
    #[arg(long)]
    format: Option<Format>,
    #[command(flatten)]
    place: LaneArgs,
}

pub(super) fn export(args: &Export, world: &World) -> Result<Exit, Failure> {
    let format = format(&args.file, args.format)?;
    let file = &args.file;
    let wrong = |e: std::io::Error| Failure::usage(format!("cannot write {}: {e}", file.display()));
    if file.exists() {
        let why = "is there already: name another file, or remove it";
        return Err(Failure::usage(format!("{} {why}", file.display())));
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut whole =
        tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new("."))).map_err(wrong)?;
    let desk = Desk::open(&args.place, world)?;
    let snapshot = desk.look()?;
    let filter = args.selection.filter();
    let selected = args.selection.of(&snapshot, &filter)?;
    let mut write = || -> std::io::Result<()> {
        let mut writer = Writer::new(BufWriter::new(whole.as_file_mut()), format)?;
        for found in &selected {
            writer.put(&found.letter, &found.parcel()?)?;
        }
        writer.finish()?;
        whole.as_file().sync_all()
    };
    write().map_err(wrong)?;
    // It appears whole or not at all.
    whole.persist_noclobber(file).map_err(|error| wrong(error.error))?;
    print(&format!("wrote {} to {}\n", letters(selected.len()), file.display()));
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

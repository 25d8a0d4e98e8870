//! `sluice dead-letters export`: letters as a file, whole.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::super::{Exit, Failure, World, print};
use super::selection::Selection;
use super::{Desk, Place, letters};
use crate::review::file::{Format, Writer};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
JSON lines keep every byte; so does CSV, but a spreadsheet that saves it may not. The queue keeps
the letters: discard them if the file is to replace them. A file that is there is left alone.
Example: sluice dead-letters export letters.jsonl --batch wave-1
         sluice dead-letters export letters.csv")]
pub(super) struct Args {
    /// The file to write: .jsonl or .csv
    file: PathBuf,
    #[command(flatten)]
    selection: Selection,
    /// Default: by the file's ending
    #[arg(long)]
    format: Option<Format>,
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
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

pub(super) fn format(file: &Path, given: Option<Format>) -> Result<Format, Failure> {
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

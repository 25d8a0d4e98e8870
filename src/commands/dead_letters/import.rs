//! `sluice dead-letters import`: the letters of a file into the queue.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::super::{Exit, Failure, World};
use super::{Desk, Place, Who, bulk, export};
use crate::review::Parcel;
use crate::review::file::{self, FileError, Format};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The whole file is read first: if a row of it is wrong, nothing is put into the queue (else: 3). What
is in the queue already is there twice then, but shown and moved as one.
Example: sluice dead-letters import letters.jsonl --why 'from the other cluster'")]
pub(super) struct Args {
    /// What `sluice dead-letters export` wrote: .jsonl or .csv
    file: PathBuf,
    /// Default: by the file's ending
    #[arg(long)]
    format: Option<Format>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    who: Who,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let format = export::format(&args.file, args.format)?;
    let mut count = 0;
    for parcel in read(args, format)? {
        parcel.map_err(|error| wrong(args, &error))?;
        count += 1;
    }
    let desk = Desk::open(&args.place, world)?;
    let by = args.who.by(world);
    // Read a second time: a file may be larger than the memory. If somebody changes it meanwhile it ends there.
    let parcels = read(args, format)?.map_while(Result::ok);
    let progress = bulk::run(&desk, world, "importing", |attendant| {
        desk.review.import(parcels, count, &by, attendant)
    })?;
    Ok(bulk::report("imported", progress, args.json))
}

fn read(
    args: &Args,
    format: Format,
) -> Result<Box<dyn Iterator<Item = Result<Parcel, FileError>> + Send>, Failure> {
    let file = File::open(&args.file)
        .map_err(|e| Failure::usage(format!("cannot read {}: {e}", args.file.display())))?;
    file::read(BufReader::new(file), format).map_err(|error| wrong(args, &error))
}

fn wrong(args: &Args, error: &FileError) -> Failure {
    let file = args.file.display();
    Failure::invalid_plan(format!("{file}: {error}; nothing was put into the queue"))
}

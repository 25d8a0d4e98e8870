//! `sluice dead-letters import`: the letters of a file into the queue.

use std::path::PathBuf;

use super::super::plan_file::{PlanFile, Source};
use super::super::{Exit, Failure, World};
use super::{Desk, Place, Who, bulk};
use crate::message::parcel::Parcel;
use crate::review::file::{self, FileError};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The whole file is read first: if a row of it is wrong, nothing is put into the queue (else: 3). What
is in the queue already is there twice then, but shown and moved as one.
Example: sluice dead-letters import letters.jsonl --why 'from the other cluster'")]
pub(super) struct Args {
    /// What export wrote, .jsonl or .csv, or a workbook made of it; or - with --format
    file: PathBuf,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    who: Who,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let letters = args.source.take(&args.file)?;
    let mut count = 0;
    for parcel in read(args, &letters)? {
        parcel.map_err(|error| wrong(&letters, &error))?;
        count += 1;
    }
    let desk = Desk::open(&args.place, world)?;
    let by = args.who.by(world);
    // Read a second time: a file may be larger than the memory. If somebody changes it meanwhile it ends there.
    let parcels = read(args, &letters)?.map_while(Result::ok);
    let progress = bulk::run(&desk, world, "importing", |attendant| {
        desk.review.import(parcels, count, &by, attendant)
    })?;
    Ok(bulk::report("imported", progress, args.json))
}

fn read(
    args: &Args,
    letters: &PlanFile,
) -> Result<Box<dyn Iterator<Item = Result<Parcel, FileError>> + Send>, Failure> {
    if let Err(e) = std::fs::File::open(&letters.path) {
        return Err(Failure::usage(format!("cannot read {}: {e}", letters.name.display())));
    }
    file::read(&letters.path, &args.source.options(letters)).map_err(|error| wrong(letters, &error))
}

fn wrong(letters: &PlanFile, error: &FileError) -> Failure {
    let file = letters.name.display();
    Failure::invalid_plan(format!("{file}: {error}; nothing was put into the queue"))
}

//! `sluice plan template`: how does a planner start without an account's list?

use std::io::Write as _;
use std::path::PathBuf;

use crate::commands::{Exit, Failure, output};
use crate::plan::{self, Format, Purpose};
use crate::report::new_file::NewFile;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// csv, xlsx, jsonl or json (default: by the ending of --output, else csv)
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// Only what such a plan needs: existing target servers, or new ones
    #[arg(long = "for", value_enum, value_name = "existing|new", hide_possible_values = true)]
    purpose: Option<Purpose>,
    /// Where to write it (default: stdout)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file of --output
    #[arg(long, requires = "output")]
    overwrite: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let format = match (&args.format, &args.output) {
        (Some(format), _) => *format,
        (None, Some(file)) => plan::format_of(file).map_err(Failure::usage)?,
        (None, None) => Format::Csv,
    };
    let bytes = plan::template(format, args.purpose).map_err(Failure::usage)?;
    let Some(path) = &args.output else {
        output::write(&bytes);
        return Ok(Exit::Done);
    };
    let mut file = NewFile::create(path, args.overwrite).map_err(Failure::usage)?;
    file.write_all(&bytes)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    file.keep().map_err(Failure::usage)?;
    eprintln!("{} is written: fill it in, then: sluice check {0}", path.display());
    Ok(Exit::Done)
}

//! `sluice plan template`: how does a planner start?

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use clap::Subcommand;

use super::{Exit, Failure, output};
use crate::plan::{self, Format};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an empty plan with every field, its limits and an example row
    #[command(after_help = "Example: sluice plan template --format xlsx --output plan.xlsx")]
    Template(Template),
}

#[derive(Debug, clap::Args)]
struct Template {
    /// csv, xlsx, jsonl or json (default: by the ending of --output, else csv)
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// Where to write it (default: stdout); a file that is there is left alone
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let Command::Template(template) = &args.command;
    let format = match (&template.format, &template.output) {
        (Some(format), _) => *format,
        (None, Some(file)) => plan::format_of(file).map_err(Failure::usage)?,
        (None, None) => Format::Csv,
    };
    let bytes = plan::template(format).map_err(Failure::usage)?;
    let Some(path) = &template.output else {
        output::write(&bytes);
        return Ok(Exit::Done);
    };
    let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(&bytes));
    written.map_err(|error| {
        let cure = match error.kind() {
            ErrorKind::AlreadyExists => "it is left as it is: choose another name",
            _ => "choose a directory that is there and that you may write to",
        };
        Failure::usage(format!("{}: cannot be written: {error}; {cure}", path.display()))
    })?;
    eprintln!("{} is written: fill it in, then: sluice check {0}", path.display());
    Ok(Exit::Done)
}

//! `sluice token new`: a token that nobody guesses, for the console, for programs that read, for sessions.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::{Exit, Failure, print};
use crate::report::new_file::{NewFile, NewFileError};

/// Bytes: nobody tries 2^256 of them.
const LENGTH: usize = 32;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a token or a key for `[http]`: 32 random bytes, as 64 characters
    #[command(after_help = "\
Example: sluice token new --file /etc/sluice/secrets/operator-token
         sluice token new | ssh worker-1 'umask 077; cat > operator-token'")]
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Write it to a new file that only its owner reads, instead of printing it
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let Action::New(new) = &args.command;
    let token = token().map_err(|error| {
        Failure::usage(format!("cannot read random bytes from /dev/urandom: {error}"))
    })?;
    match &new.file {
        Some(file) => write(file, &token)?,
        None => print(&format!("{token}\n")),
    }
    Ok(Exit::Done)
}

fn token() -> std::io::Result<String> {
    let mut bytes = [0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

fn write(path: &Path, token: &str) -> Result<(), Failure> {
    let told = |error: NewFileError| match error {
        NewFileError::Exists(file) => Failure::usage(format!(
            "{} is there already, and whoever has that token would be locked out: choose another name, or remove it first",
            file.display()
        )),
        error @ NewFileError::Write { .. } => Failure::usage(error),
    };
    let mut file = NewFile::create_private(path).map_err(told)?;
    file.write_all(format!("{token}\n").as_bytes())
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    file.keep().map_err(told)
}

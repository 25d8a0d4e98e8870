//! `sluice completions`: completion scripts for shells, and man pages.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Exit, Failure, print};
use crate::report::new_file::NewFile;

#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
Example: sluice completions bash > /etc/bash_completion.d/sluice
         sluice completions --man /usr/local/share/man/man1")]
pub(super) struct Args {
    /// The shell to complete for
    #[arg(value_enum, required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write a man page for every command into this directory
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,
    /// Replace the man pages that are there
    #[arg(long, requires = "man")]
    overwrite: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    if let Some(dir) = &args.man {
        write_man_pages(dir, args.overwrite)?;
    }
    if let Some(shell) = args.shell {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut script);
        print(&String::from_utf8_lossy(&script));
    }
    Ok(Exit::Done)
}

/// Each beside its name first: all of them, or none where one is there and may not be replaced.
fn write_man_pages(dir: &Path, overwrite: bool) -> Result<(), Failure> {
    let wrong = |e| Failure::usage(format!("cannot write man pages to {}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(wrong)?;
    let made = tempfile::tempdir().map_err(wrong)?;
    clap_mangen::generate_to(Cli::command(), made.path()).map_err(wrong)?;
    let mut pages = Vec::new();
    for page in std::fs::read_dir(made.path()).map_err(wrong)? {
        let page = page.map_err(wrong)?;
        let mut file =
            NewFile::create(&dir.join(page.file_name()), overwrite).map_err(Failure::usage)?;
        file.write_all(&std::fs::read(page.path()).map_err(wrong)?).map_err(wrong)?;
        pages.push(file);
    }
    pages.into_iter().try_for_each(|page| page.keep().map_err(Failure::usage))
}

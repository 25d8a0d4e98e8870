//! `sluice completions`: completion scripts for shells, and man pages.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Exit, Failure, print};

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
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    if let Some(dir) = &args.man {
        let wrong = |e| Failure::usage(format!("cannot write man pages to {}: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(wrong)?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(wrong)?;
    }
    if let Some(shell) = args.shell {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "sluice", &mut script);
        print(&String::from_utf8_lossy(&script));
    }
    Ok(Exit::Done)
}

//! `sluice config check|show`: is a configuration right, and what holds?

use clap::Subcommand;

use super::{Exit, Failure, World, lane, print};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report all problems at once, with line and column
    #[command(after_help = "Example: sluice config check -c lane.toml")]
    Check(lane::Args),
    /// Print what holds and where it comes from, secrets masked
    #[command(after_help = "\
Every key can be overridden: SLUICE_LIMITS__RATES=\"5/s\" or -o limits.rates=5/s
Example: sluice config show -c lane.toml | grep SLUICE_")]
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    lane: lane::Args,
    /// The commented default file, to start from
    #[arg(long, conflicts_with_all = ["config", "overrides"])]
    default: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    match &args.command {
        Command::Check(lane) => {
            let loaded = lane.load(world, true)?;
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            eprintln!("the configuration is valid");
        }
        Command::Show(show) if show.default => print(crate::config::DEFAULT),
        // What is shown may still lack a credential: `check` says so.
        Command::Show(show) => print(&show.lane.load(world, false)?.show()),
    }
    Ok(Exit::Done)
}

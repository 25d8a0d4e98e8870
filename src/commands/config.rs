//! `sluice config check|show`: is a configuration right, and what holds?

use clap::Subcommand;

use super::{Exit, Failure, World, lane, lanes, print};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Report all problems at once, with line and column
    #[command(after_help = "\
Several files are checked as the lanes of one `sluice run`, which must not share queues.
Example: sluice config check -c lane.toml")]
    Check(lanes::Args),
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
        Command::Check(lanes) => {
            let lanes = lanes.load(world)?;
            for warning in lanes.iter().flat_map(|(_, loaded)| &loaded.warnings) {
                eprintln!("warning: {warning}");
            }
            let valid =
                if lanes.len() == 1 { "the configuration is" } else { "the configurations are" };
            eprintln!("{valid} valid");
        }
        Command::Show(show) if show.default => print(crate::lane::DEFAULT),
        // What is shown may still lack a credential: `check` says so.
        Command::Show(show) => print(&show.lane.load(world, false)?.show()),
    }
    Ok(Exit::Done)
}

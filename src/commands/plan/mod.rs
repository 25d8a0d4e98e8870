//! `sluice plan`: how does a planner start?

mod draft;
mod template;

use clap::Subcommand;

use super::{Exit, Failure, World};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an empty plan with every field, its limits and an example row
    #[command(after_help = "\
Examples: sluice plan template --format xlsx --output plan.xlsx
          sluice plan template --for existing -o plan.xlsx")]
    Template(template::Args),
    /// Write a plan of the account's source servers, with all that the account knows of them
    Draft(Box<draft::Args>),
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    match &args.command {
        Command::Template(args) => template::run(args),
        Command::Draft(args) => draft::run(args, world),
    }
}

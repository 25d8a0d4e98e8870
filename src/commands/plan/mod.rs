//! `sluice plan`: how does a planner start?

mod draft;
mod fill;
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
    /// Write a plan of the account's source servers, with their disks
    Draft(Box<draft::Args>),
    /// Write a plan anew with the ids of the servers that it names, and with their disks
    Fill(Box<fill::Args>),
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    match &args.command {
        Command::Template(args) => template::run(args),
        Command::Draft(args) => draft::run(args, world),
        Command::Fill(args) => fill::run(args, world),
    }
}

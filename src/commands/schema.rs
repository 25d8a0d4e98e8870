//! `sluice schema`: what do messages look like, for other programs?

use clap::ValueEnum;

use super::{Exit, print};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sluice schema request > create-task.schema.json")]
pub(super) struct Args {
    /// What to describe
    #[arg(value_enum)]
    of: Of,
    /// request: only what the API's page allows, without what real clients send besides
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    /// The body of a request: what POST /v3/tasks takes
    Request,
    /// What is published when a request has ended
    Result,
}

pub(super) fn run(args: &Args) -> Exit {
    let schema = match args.of {
        Of::Request => crate::contract::schema(args.strict),
        Of::Result => crate::results::schema(),
    };
    print(&format!("{schema:#}\n"));
    Exit::Done
}

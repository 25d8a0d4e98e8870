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
    /// A dead letter, as `sluice dead-letters export` writes it
    DeadLetter,
    /// What was done to a dead letter or to the gate: an event of the audit stream
    Audit,
}

pub(super) fn run(args: &Args) -> Exit {
    let schema = match args.of {
        Of::Request => crate::contract::schema(args.strict),
        Of::Result => crate::results::schema(),
        Of::DeadLetter => crate::review::schema::dead_letter(),
        Of::Audit => crate::review::schema::act(),
    };
    print(&format!("{schema:#}\n"));
    Exit::Done
}

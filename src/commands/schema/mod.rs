//! `sluice schema`: what do messages look like, for other programs?

pub mod asyncapi;
mod headers;

use clap::ValueEnum;

use std::collections::BTreeMap;

use super::{Exit, Failure, print_json};
use crate::lane::{self, Given};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sluice schema request > create-task.schema.json")]
pub(super) struct Args {
    /// What to describe
    #[arg(value_enum)]
    of: Of,
    /// request: only what the API's page allows, without what real clients send besides
    #[arg(long)]
    strict: bool,
    /// asyncapi: what the names begin with
    #[arg(long, value_name = "PREFIX", default_value = "sluice")]
    prefix: String,
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
    /// All of it as an AsyncAPI 3 document: queues, headers, payloads
    Asyncapi,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let schema = match args.of {
        Of::Request => crate::contract::schema(args.strict),
        Of::Result => crate::message::result::schema(),
        Of::DeadLetter => crate::review::schema::dead_letter(),
        Of::Audit => crate::review::schema::act(),
        Of::Asyncapi => asyncapi(&args.prefix)?,
    };
    print_json(&format!("{schema:#}\n"));
    Ok(Exit::Done)
}

fn asyncapi(prefix: &str) -> Result<serde_json::Value, Failure> {
    let prefix = [("queues.prefix".to_owned(), prefix.to_owned())];
    let env = BTreeMap::new();
    let given = Given { file: None, env: &env, overrides: &prefix, needs_api: false };
    let loaded = lane::load(&given).map_err(|problems| Failure::usage(problems.to_string()))?;
    Ok(crate::commands::schema::asyncapi::document(&loaded.config.queues))
}

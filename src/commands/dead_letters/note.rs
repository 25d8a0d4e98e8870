//! `sluice dead-letters note`: write something down about a letter.

use uuid::Uuid;

use super::super::{Exit, Failure, World, print};
use super::{Desk, Place, failure, gate, selection};
use crate::message::audit::By;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
`sluice dead-letters audit ID` tells it to everybody.
Example: sluice dead-letters note 0d6c3a5e 'the customer will remove the second disk'")]
pub(super) struct Args {
    /// The letter's id; as long as it is in the queue its first 8 characters will do
    id: String,
    /// What to write down
    text: String,
    #[command(flatten)]
    place: Place,
    /// Who says it, for the audit (default: user@host)
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    if args.text.trim().is_empty() {
        return Err(Failure::usage("a note needs a text"));
    }
    let desk = Desk::open(&args.place, world)?;
    let letter = match args.id.parse::<Uuid>() {
        Ok(id) => id,
        Err(_) => selection::one(&desk.look()?, &args.id)?.letter.id,
    };
    let who = args.by.clone().unwrap_or_else(|| gate::who(world));
    let by = By { who, why: Some(args.text.clone()) };
    desk.runtime.block_on(desk.review.note(letter, &by)).map_err(|error| failure(&error))?;
    print(&format!("noted about {letter}\n"));
    Ok(Exit::Done)
}

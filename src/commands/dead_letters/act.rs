//! `sluice dead-letters replay`, `discard` and `note`: send dead letters again as they are, take them out, write
//! something down about one.

use uuid::Uuid;

use super::super::{Exit, Failure, World, print, print_json};
use super::{Desk, LaneArgs, MoveArgs, failure, gate, letters, moving, selection};
use crate::broker::dead_letters::{Found, MoveProgress, ReviewAction};
use crate::message::audit::By;
use crate::review::Filter;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
They go as new runs: their retries start afresh, what was tried before stays in their history, and
the worker looks first whether the task is there already. Ctrl-C lets what is in hand end.
Example: sluice dead-letters replay --cause SMS.6603 --why 'the agents are connected again'
         sluice dead-letters replay 0d6c3a5e --yes")]
pub(super) struct Replay {
    #[command(flatten)]
    common: MoveArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The audit keeps them whole: `sluice dead-letters restore` puts them back.
Example: sluice dead-letters discard --batch rehearsal --why 'it was a rehearsal'
         sluice dead-letters discard --cause invalid --until 720h --yes")]
pub(super) struct Discard {
    #[command(flatten)]
    common: MoveArgs,
}

pub(super) fn replay(args: &Replay, world: &World) -> Result<Exit, Failure> {
    run(&args.common, world, ["replay", "replaying", "replayed"], &ReviewAction::Replay)
}

pub(super) fn discard(args: &Discard, world: &World) -> Result<Exit, Failure> {
    run(&args.common, world, ["discard", "discarding", "discarded"], &ReviewAction::Discard)
}

fn run(
    args: &MoveArgs,
    world: &World,
    verb: [&str; 3],
    order: &ReviewAction,
) -> Result<Exit, Failure> {
    args.yes.can_be_asked(world)?;
    let filter = args.which.filter()?;
    let desk = Desk::open(&args.place, world)?;
    let snapshot = desk.look()?;
    let selected = args.which.selection.of(&snapshot, &filter)?;
    let [will, doing, done] = verb;
    if !selected.is_empty() {
        eprintln!("this will {will} {}:", letters(selected.len()));
        moving::describe(&selected);
        if !args.yes.confirmed(&format!("{will} {}?", letters(selected.len()))) {
            return Ok(Exit::NotAllWell);
        }
    }
    let exactly = exactly(&selected);
    let by = args.who.by(world);
    let progress = if selected.is_empty() {
        eprintln!("no dead letter meets these conditions");
        MoveProgress { left: snapshot.left, ..Default::default() }
    } else {
        drop(snapshot);
        moving::run(&desk, world, doing, |attendant| {
            desk.review.act(&exactly, order, &by, attendant)
        })?
    };
    Ok(moving::report(done, progress, args.json))
}

/// Those that were shown, and none that came since.
pub(super) fn exactly(selected: &[&Found]) -> Filter {
    Filter::ids(selected.iter().map(|found| found.letter.id.to_string()))
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
`sluice dead-letters audit ID` tells it to everybody.
Example: sluice dead-letters note 0d6c3a5e 'the customer will remove the second disk'")]
pub(super) struct Note {
    /// The dead letter's id; as long as it is in the queue its first 8 characters will do
    id: String,
    /// What to write down
    text: String,
    #[command(flatten)]
    place: LaneArgs,
    /// Who says it, for the audit (default: user@host)
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn note(args: &Note, world: &World) -> Result<Exit, Failure> {
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
    if args.json {
        print_json(&format!("{}\n", serde_json::json!({ "done": "noted", "letter": letter })));
    } else {
        print(&format!("noted about {letter}\n"));
    }
    Ok(Exit::Done)
}

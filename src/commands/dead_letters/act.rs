//! `sluice dead-letters replay` and `discard`: send letters again as they are, or take them out.

use super::super::{Exit, Failure, World};
use super::ask::describe;
use super::{Common, Desk, bulk, letters};
use crate::broker::dead_letters::{Found, Order};
use crate::review::Filter;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
They go as new runs: their retries start afresh, what was tried before stays in their history, and
the worker looks first whether the task is there already. Ctrl-C lets what is in hand end.
Example: sluice dead-letters replay --cause SMS.6603 --why 'the agents are connected again'
         sluice dead-letters replay 0d6c3a5e --yes")]
pub(super) struct Replay {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The audit keeps them whole: `sluice dead-letters restore` puts them back.
Example: sluice dead-letters discard --batch rehearsal --why 'it was a rehearsal'
         sluice dead-letters discard --cause invalid --until 720h --yes")]
pub(super) struct Discard {
    #[command(flatten)]
    common: Common,
}

pub(super) fn replay(args: &Replay, world: &World) -> Result<Exit, Failure> {
    run(&args.common, world, ["replay", "replaying", "replayed"], &Order::Replay)
}

pub(super) fn discard(args: &Discard, world: &World) -> Result<Exit, Failure> {
    run(&args.common, world, ["discard", "discarding", "discarded"], &Order::Discard)
}

fn run(args: &Common, world: &World, verb: [&str; 3], order: &Order) -> Result<Exit, Failure> {
    args.yes.can_be_asked(world)?;
    let filter = args.which.filter()?;
    let desk = Desk::open(&args.place, world)?;
    let snapshot = desk.look()?;
    let selected = args.which.selection.of(&snapshot, &filter)?;
    let [will, doing, done] = verb;
    if !selected.is_empty() {
        eprintln!("this will {will} {}:", letters(selected.len()));
        describe(&selected);
        if !args.yes.confirmed(&format!("{will} {}?", letters(selected.len()))) {
            return Ok(Exit::NotAllWell);
        }
    }
    let exactly = exactly(&selected);
    let by = args.who.by(world);
    let progress = if selected.is_empty() {
        eprintln!("no dead letter meets these conditions");
        crate::broker::dead_letters::Progress { left: snapshot.left, ..Default::default() }
    } else {
        drop(snapshot);
        bulk::run(&desk, world, doing, |attendant| {
            desk.review.act(&exactly, order, &by, attendant)
        })?
    };
    Ok(bulk::report(done, progress, args.json))
}

/// Those that were shown, and none that came since.
pub(super) fn exactly(selected: &[&Found]) -> Filter {
    Filter::ids(selected.iter().map(|found| found.letter.id.to_string()))
}

//! `sluice dead-letters restore`: put back what was discarded or edited, from what the audit keeps.

use std::collections::HashSet;

use super::super::{Exit, Failure, World};
use super::{Desk, MoveArgs, failure, letters, local, moving};
use crate::broker::dead_letters::MoveProgress;
use crate::contract::Rules;
use crate::message::audit::Act;
use crate::report::text::one_line;
use crate::review::{DeadLetter, Filter};

/// So many acts are named one by one.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
IDs are of acts or of dead letters; --since and --until are about when it was done. They come back
as they were before; what an edit has sent stays sent. What was undone is not undone again.
Example: sluice dead-letters restore 0d6c3a5e
         sluice dead-letters restore --since 10m --why 'the wrong cause'")]
pub(super) struct Args {
    #[command(flatten)]
    common: MoveArgs,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    args.common.yes.can_be_asked(world)?;
    let filter = args.common.which.filter()?;
    let desk = Desk::open(&args.common.place, world)?;
    let wanted = |act: &Act| is_wanted(act, &filter, &desk.review.rules);
    let acts =
        desk.runtime.block_on(desk.review.undoable(wanted)).map_err(|error| failure(&error))?;
    if acts.is_empty() {
        let why = "nothing of that can be undone: discards and edits can, once, as long as the audit keeps them";
        if args.common.which.selection.ids.is_empty() {
            eprintln!("{why}");
            return Ok(moving::report("restored", MoveProgress::default(), args.common.json));
        }
        return Err(Failure::usage(why));
    }
    eprintln!("this will put back {}:", letters(acts.len()));
    for act in acts.iter().take(NAMED) {
        eprintln!("  {}", in_a_line(act));
    }
    if acts.len() > NAMED {
        eprintln!("  and {} more", acts.len() - NAMED);
    }
    if !args.common.yes.confirmed(&format!("put back {}?", letters(acts.len()))) {
        return Ok(Exit::NotAllWell);
    }
    let ids: HashSet<_> = acts.iter().map(|act| act.id).collect();
    let by = args.common.who.by(world);
    let progress =
        moving::run(&desk, world, "restoring", |attendant| desk.review.undo(&ids, &by, attendant))?;
    Ok(moving::report("restored", progress, args.common.json))
}

/// The time is that of the act; everything else is about the dead letter as it was.
fn is_wanted(act: &Act, filter: &Filter, rules: &Rules) -> bool {
    let Some(before) = act.before.as_ref().filter(|_| act.can_be_undone()) else {
        return false;
    };
    if filter.from.is_some_and(|from| act.at < from) || filter.to.is_some_and(|to| act.at >= to) {
        return false;
    }
    let letter = DeadLetter::read(before, None, rules);
    let is_named = filter.ids.is_empty()
        || act.is_named(&filter.ids)
        || filter.ids.contains(&letter.request_id);
    let others = Filter { ids: Vec::new(), from: None, to: None, ..filter.clone() };
    is_named && others.matches(&letter, || Some(before.body.clone()))
}

/// `2026-01-31 12:00:00  discard by ada@host  0d6c3a5e-...  rejected SMS.6603 (400): ...`
pub(super) fn in_a_line(act: &Act) -> String {
    let letter = act.letter.map(|id| format!("  {id}")).unwrap_or_default();
    let cause = act.cause.as_deref().map(|cause| format!("  {cause}")).unwrap_or_default();
    let why = act.why.as_deref().map(|why| format!("  ({why})")).unwrap_or_default();
    let line = format!("{} by {}{letter}{cause}{why}", act.action.as_str(), act.who);
    format!("{}  {}", local(act.at), one_line(&line))
}

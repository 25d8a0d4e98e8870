//! `sluice dead-letters edit`: fix dead letters and send them again, in one step. Nothing moves unless all would be valid.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use super::super::{Exit, Failure, World, print_json};
use super::act::exactly;
use super::moving::describe;
use super::{Desk, MoveArgs, editor, json, letters, moving, show};
use crate::broker::dead_letters::{Found, MoveProgress, Preview, ReviewAction, Snapshot};
use crate::report::text::one_line;
use crate::review::edit::{Edit, FieldChange};

/// So many different changes, and dead letters that would be invalid, are shown.
const SHOWN: usize = 50;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --set and --header one dead letter opens in $VISUAL or $EDITOR, what is wrong with it in
comments on top. You see every difference before anything moves, and nothing moves unless all are
valid then (else: 3).
Undone, a dead letter is back as it was; what was sent stays sent.
Example: sluice dead-letters edit --cause SMS.6539 --set target_server.disks.0.size=53687091200
         sluice dead-letters edit --batch wave-7 --header x-sluice-priority=3
         sluice dead-letters edit 0d6c3a5e")]
pub(super) struct Args {
    #[command(flatten)]
    common: MoveArgs,
    /// Set a field of all: target_server.name=web-1; remove one: tags!
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Set a header of all: x-sluice-priority=3; remove one: x-sluice-row!
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Only show what would change; as JSON with --json
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    if !args.dry_run {
        args.common.yes.can_be_asked(world)?;
    }
    let filter = args.common.which.filter()?;
    let fields = args.set.iter().map(|text| FieldChange::parse(text));
    let headers = args.header.iter().map(|text| FieldChange::parse_header(text));
    let changes: Result<Vec<FieldChange>, _> = fields.chain(headers).collect();
    let changes = changes.map_err(Failure::usage)?;
    let desk = Desk::open(&args.common.place, world)?;
    let snapshot = desk.look()?;
    let selected = args.common.which.selection.of(&snapshot, &filter)?;
    if selected.is_empty() {
        eprintln!("no dead letter meets these conditions");
        return Ok(moving::report("fixed and replayed", MoveProgress::default(), args.common.json));
    }
    let edit = if changes.is_empty() {
        let Some(body) = in_editor(&selected, &desk, args, world)? else {
            eprintln!("nothing was changed, so nothing was done");
            return Ok(Exit::Done);
        };
        Edit::Body(body)
    } else {
        Edit::Fields(changes)
    };
    if !preview(args, &desk, &snapshot, &selected, &edit)? {
        return Ok(Exit::InvalidPlan);
    }
    let many = letters(selected.len());
    if args.dry_run {
        return Ok(Exit::Done);
    }
    if !args.common.yes.confirmed(&format!("fix and replay {many}?")) {
        return Ok(Exit::NotAllWell);
    }
    let (exactly, by, order) =
        (exactly(&selected), args.common.who.by(world), ReviewAction::Edit(edit));
    drop(snapshot);
    let progress = moving::run(&desk, world, "fixing", |attendant| {
        desk.review.act(&exactly, &order, &by, attendant)
    })?;
    Ok(moving::report("fixed and replayed", progress, args.common.json))
}

/// The new body of the one dead letter, if it was changed.
fn in_editor(
    selected: &[&Found],
    desk: &Desk,
    args: &Args,
    world: &World,
) -> Result<Option<Bytes>, Failure> {
    let [found] = selected else {
        return Err(Failure::usage(format!(
            "an editor takes one dead letter, these are {}: give --set field=value for all of them",
            selected.len()
        )));
    };
    let body = found
        .body()
        .map_err(|e| Failure::usage(format!("the temporary file cannot be read: {e}")))?;
    editor::edit(&found.letter, &body, &desk.review.rules, args.common.yes.is_given(), world)
}

/// Shows what would change; whether all would be valid.
fn preview(
    args: &Args,
    desk: &Desk,
    snapshot: &Snapshot,
    selected: &[&Found],
    edit: &Edit,
) -> Result<bool, Failure> {
    let previews = snapshot
        .preview(&exactly(selected), edit, &desk.review.rules)
        .map_err(|e| Failure::usage(format!("the temporary file cannot be read: {e}")))?;
    let invalid: Vec<&Preview> = previews.iter().filter(|one| !is_valid(one)).collect();
    if args.dry_run && args.common.json {
        print_json(&json(&previews));
        return Ok(invalid.is_empty());
    }
    eprintln!("this will change {}, and send them again:", letters(previews.len()));
    describe(selected);
    eprint!("{}", differences(&previews));
    for one in invalid.iter().take(SHOWN) {
        eprintln!("invalid: {}  {}", one.id, one_line(&one.name));
        if let Some(error) = &one.error {
            eprintln!("  {}", one_line(error));
        }
        one.violations.iter().for_each(|one| eprintln!("  {}", show::violation(one)));
    }
    if !invalid.is_empty() {
        eprintln!(
            "sluice: {} of {} would not be valid, so nothing was done: change what you set, or select others",
            invalid.len(),
            letters(previews.len())
        );
    }
    Ok(invalid.is_empty())
}

fn is_valid(one: &Preview) -> bool {
    one.error.is_none() && one.violations.is_empty()
}

/// Each difference once, with how many dead letters have it.
fn differences(previews: &[Preview]) -> String {
    let mut counts: BTreeMap<(&str, Option<&str>, Option<&str>), usize> = BTreeMap::new();
    for one in previews.iter().flat_map(|preview| &preview.differences) {
        let key = (one.pointer.as_str(), one.before.as_deref(), one.after.as_deref());
        *counts.entry(key).or_default() += 1;
    }
    let mut text = String::new();
    for ((pointer, before, after), count) in counts.iter().take(SHOWN) {
        let place = if pointer.is_empty() { "the whole body" } else { pointer };
        let _ = writeln!(text, "  {} (in {})", one_line(place), letters(*count));
        for (sign, value) in [("-", before), ("+", after)] {
            if let Some(value) = value {
                let _ = writeln!(text, "    {sign} {}", one_line(value));
            }
        }
    }
    if counts.len() > SHOWN {
        let more = counts.len() - SHOWN;
        let _ = writeln!(text, "  and {more} more: --dry-run --json shows all");
    }
    let same = previews.iter().filter(|one| is_valid(one) && one.differences.is_empty()).count();
    if same > 0 {
        let _ = writeln!(text, "  {} would stay as they are, and be replayed", letters(same));
    }
    text
}

//! `sluice dead-letters list`: the causes, or the dead letters.

use std::fmt::Write as _;

use serde_json::json;

use super::super::{Exit, Failure, World, print, print_json};
use super::selection::Selection;
use super::{Desk, LaneArgs, json, local};
use crate::broker::dead_letters::Found;
use crate::report::text::one_line;
use crate::review::Group;
use crate::review::groups;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A cause is what dead letters have in common: outcome, error code, status, and the message without
what differs from request to request; for invalid ones the places that are wrong.
Example: sluice dead-letters list --batch wave-1
         sluice dead-letters list --cause SMS.6603 --letters")]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    place: LaneArgs,
    /// Each dead letter in a line
    #[arg(long)]
    letters: bool,
    /// As JSON on stdout; with --letters one dead letter a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let desk = Desk::open(&args.place, world)?;
    let snapshot = desk.look()?;
    let filter = args.selection.filter();
    let selected = args.selection.of(&snapshot, &filter)?;
    let groups = groups(selected.iter().map(|found| &found.letter));
    match (args.letters, args.json) {
        (false, true) => print_json(&json(&json!({
            "at": snapshot.at, "letters": selected.len(), "not_looked_at": snapshot.left, "causes": groups,
        }))),
        (true, true) => {
            for found in &selected {
                print_json(&format!(
                    "{}\n",
                    serde_json::to_string(&found.letter).unwrap_or_default()
                ));
            }
        }
        (false, false) => print(&causes(selected.len(), &groups)),
        (true, false) => print(&each(&selected)),
    }
    if selected.is_empty() && !args.json {
        let why = if snapshot.letters.is_empty() {
            "there are no dead letters"
        } else {
            "no dead letter meets these conditions"
        };
        eprintln!("{why}");
    }
    Ok(Exit::Done)
}

fn causes(count: usize, groups: &[Group]) -> String {
    let mut text = String::new();
    if groups.is_empty() {
        return text;
    }
    let _ =
        writeln!(text, "{:>7}  {:<19}  {:<19}  {:<8}  why", "count", "newest", "oldest", "cause");
    for group in groups {
        let at = |at: Option<jiff::Timestamp>| at.map_or_else(|| "-".to_owned(), local);
        let (newest, oldest) = (at(group.newest), at(group.oldest));
        let why = group.cause.in_a_line();
        let _ = writeln!(
            text,
            "{:>7}  {newest:<19}  {oldest:<19}  {}  {}",
            group.count,
            group.cause.id,
            one_line(&why)
        );
    }
    let _ = writeln!(text, "{count:>7}  in all, {} causes", groups.len());
    text
}

fn each(selected: &[&Found]) -> String {
    let mut text = String::new();
    if !selected.is_empty() {
        let _ =
            writeln!(text, "{:<13}  {:<19}  {:<8}  batch:row  name: why", "id", "failed", "cause");
    }
    for found in selected {
        let letter = &found.letter;
        let failed = letter.failed_at.map_or_else(|| "-".to_owned(), local);
        let name = if letter.name.is_empty() { &letter.request_id } else { &letter.name };
        let batch = letter.batch.as_deref().unwrap_or("-");
        let row = letter.row.map(|row| format!(":{row}")).unwrap_or_default();
        let copies =
            if letter.copies > 1 { format!(" (×{})", letter.copies) } else { String::new() };
        let id = letter.id.to_string();
        let _ = writeln!(
            text,
            "{}  {failed:<19}  {}  {}{row}  {}{copies}: {}",
            id.get(..13).unwrap_or(&id),
            letter.cause.id,
            one_line(batch),
            one_line(name),
            one_line(&letter.reason)
        );
    }
    text
}

//! `sluice dead-letters show`: one dead letter, with all that is known about it.

use std::fmt::Write as _;

use serde_json::json;

use super::super::{Exit, Failure, World, output, print, print_json};
use super::{Desk, LaneArgs, json, local, selection};
use crate::contract::{Violation, says};
use crate::report::text::{indented, one_line, visible};
use crate::review::DeadLetter;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Control characters and marks that turn the direction of a text are shown escaped, as ⟨U+202E⟩.
Example: sluice dead-letters show 0d6c3a5e
         sluice dead-letters show 0d6c3a5e --body | jq .target_server")]
pub(super) struct Args {
    /// Its id (the first 8 characters will do) or message id
    id: String,
    #[command(flatten)]
    place: LaneArgs,
    /// Only the body, byte for byte (escaped if stdout is a terminal)
    #[arg(long)]
    body: bool,
    /// As JSON on stdout: what is known, and the whole message
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let desk = Desk::open(&args.place, world)?;
    let snapshot = desk.look()?;
    let found = selection::one(&snapshot, &args.id)?;
    let unreadable = |e| Failure::usage(format!("the temporary file cannot be read: {e}"));
    let body = found.body().map_err(unreadable)?;
    if args.json {
        let message = found.parcel().map_err(unreadable)?;
        print_json(&json(&json!({ "letter": found.letter, "message": message })));
    } else if args.body && !world.stdout_is_terminal {
        output::write(&body);
    } else if args.body {
        print(&format!("{}\n", visible(&String::from_utf8_lossy(&body))));
    } else {
        print(&about(&found.letter, &body));
    }
    Ok(Exit::Done)
}

fn about(letter: &DeadLetter, body: &[u8]) -> String {
    let mut text = format!("{}  {}\n", letter.id, one_line(&letter.name));
    let outcome = letter.cause.outcome.as_str();
    let _ = writeln!(text, "{outcome}: {}\n", visible(&letter.reason));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<14} {}", one_line(value));
        }
    };
    line("cause", &format!("{}  {}", letter.cause.id, letter.cause.in_a_line()));
    line("failed", &letter.failed_at.map(local).unwrap_or_default());
    line("attempts", &letter.attempts.to_string());
    line("message id", &letter.request_id);
    line("source server", &letter.source_server_id);
    line("region", &letter.region_id);
    line("project", &letter.project_id);
    line("batch", letter.batch.as_deref().unwrap_or(""));
    line("generation", &letter.batch_run.map(|run| run.to_string()).unwrap_or_default());
    line("row", &letter.row.map(|row| row.to_string()).unwrap_or_default());
    line("priority", &letter.priority.to_string());
    line("enqueued", &letter.enqueued_at.map(local).unwrap_or_default());
    line("replays before", &letter.replay.to_string());
    if letter.copies > 1 {
        line("copies", &format!("{} of it lie in the queue; they move together", letter.copies));
    }
    if let Some(error) = &letter.error {
        let error = serde_json::to_string_pretty(error).unwrap_or_default();
        let _ = write!(text, "\nthe API said:\n{}\n", inset(&visible(&error)));
    }
    if !letter.violations.is_empty() {
        let _ = writeln!(text, "\nwrong with the body:");
        for one in &letter.violations {
            let _ = writeln!(text, "  {}", violation(one));
        }
    }
    text.push_str(&history(letter));
    let shown = String::from_utf8_lossy(body);
    let _ = writeln!(text, "\nbody, {} bytes:", body.len());
    if std::str::from_utf8(body).is_err() {
        let _ = writeln!(text, "(it is not UTF-8: what cannot be read is shown as \u{fffd})");
    }
    let _ = writeln!(text, "{}", visible(&indented(&shown)));
    text
}

fn history(letter: &DeadLetter) -> String {
    let mut text = String::new();
    if !letter.history.is_empty() {
        text.push_str("\ntried:\n");
    }
    for one in &letter.history {
        let status = one.status.map(|status| format!(" {status}")).unwrap_or_default();
        let code = one.error_code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
        let line = format!("{}  {} {}{status}{code}", local(one.at), one.what, one.verdict);
        let _ = writeln!(text, "  {}", one_line(&line));
    }
    if !letter.past.is_empty() {
        text.push_str("\nbefore it was replayed:\n");
    }
    for one in &letter.past {
        let at = one.failed_at.map_or_else(|| "-".to_owned(), local);
        let _ = writeln!(text, "  {at}  {}, after {} attempts", one_line(&one.cause), one.attempts);
    }
    text
}

/// `/name: found ""; allowed: 1 to 255 characters`
pub(super) fn violation(one: &Violation) -> String {
    let place = if one.pointer.is_empty() { "the whole body" } else { &one.pointer };
    one_line(&format!("{place}: {}", says(&one.found, &one.allowed))).into_owned()
}

fn inset(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

//! `sluice dead-letters audit`: who did what, when and why.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::super::times::past;
use super::super::{Exit, Failure, World, print, print_json};
use super::restore::in_a_line;
use super::{Desk, LaneArgs, failure};
use crate::message::audit::{Act, Action, AuditEntry, Deeds, UnreadableAct};
use crate::message::parcel::Parcel;
use crate::report::text::{indented, one_line, visible};
use crate::review::edit::differences;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Oldest first, as long as the stream keeps them (queues.audit_retention). With an ID you see the body
before, and what an edit has changed.
Example: sluice dead-letters audit --since 2h
         sluice dead-letters audit 0d6c3a5e --json")]
pub(super) struct Args {
    /// Acts or dead letters, by id; the first 8 characters will do
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// What this one did
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Only this: replay, edit, discard, restore, note, pause, ...
    #[arg(long, value_name = "WHAT", value_parser = action)]
    action: Option<Action>,
    /// Done then or later: '2026-01-31 12:00', ...T12:00Z, or 2h (ago)
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Timestamp>,
    /// Done before
    #[arg(long, value_name = "TIME", value_parser = past)]
    until: Option<Timestamp>,
    #[command(flatten)]
    place: LaneArgs,
    /// One event a line on stdout, whole (`sluice schema audit`)
    #[arg(long)]
    json: bool,
}

fn action(text: &str) -> Result<Action, String> {
    let known = Action::ALL.into_iter().find(|action| action.as_str() == text);
    known.ok_or_else(|| {
        let all: Vec<&str> = Action::ALL.into_iter().map(Action::as_str).collect();
        format!("`{text}` is none of {}", all.join(", "))
    })
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    if let Some(short) = args.ids.iter().find(|id| id.len() < 8) {
        return Err(Failure::usage(format!("{short}: write 8 characters of an id at least")));
    }
    let desk = Desk::open(&args.place, world)?;
    let mut count = 0;
    let (mut deeds, mut shown_deeds) = (Deeds::default(), BTreeSet::new());
    // Shown as they come: what is kept in memory does not grow with the stream.
    let shown = |entry: AuditEntry| match entry {
        AuditEntry::Act(act) => {
            deeds.take(&act);
            if is_wanted(args, &act) {
                count += 1;
                shown_deeds.extend(act.deed);
                tell(args, &act);
            }
        }
        // Whatever was asked for may be what cannot be read.
        AuditEntry::Unreadable(entry) => unreadable(args, &entry),
    };
    desk.runtime.block_on(desk.review.audit(shown)).map_err(|error| failure(&error))?;
    for deed in shown_deeds {
        if let Some(missing) = deeds.missing(deed) {
            eprintln!("sluice: deed {deed}: {missing}");
        }
    }
    if count == 0 && !args.json {
        eprintln!("the audit has no such act");
    }
    Ok(Exit::Done)
}

fn is_wanted(args: &Args, act: &Act) -> bool {
    (args.ids.is_empty() || act.is_named(&args.ids))
        && args.by.as_ref().is_none_or(|by| *by == act.who)
        && args.action.is_none_or(|action| action == act.action)
        && args.since.is_none_or(|since| act.at >= since)
        && args.until.is_none_or(|until| act.at < until)
}

fn unreadable(args: &Args, entry: &UnreadableAct) {
    eprintln!("sluice: {}", one_line(&entry.to_string()));
    if args.json {
        print_json(&format!("{}\n", serde_json::json!({ "unreadable": entry })));
    }
}

fn tell(args: &Args, act: &Act) {
    if args.json {
        print_json(&format!("{}\n", serde_json::to_string(act).unwrap_or_default()));
    } else {
        print(&told(args, act));
    }
}

fn told(args: &Args, act: &Act) -> String {
    let mut text = format!("{}\n", in_a_line(act));
    if args.ids.is_empty() {
        return text;
    }
    let _ = writeln!(text, "  act {}", act.id);
    if let Some(undone) = act.undoes {
        let _ = writeln!(text, "  undoes {undone}");
    }
    if let Some(gate) = &act.gate {
        let _ = writeln!(text, "  {}", one_line(&gate.to_string()));
    }
    if let Some(order) = &act.order {
        let _ = writeln!(text, "  {}", one_line(&format!("{}: {}", order.of, order.change)));
    }
    if let (Some(before), Some(after)) = (&act.before, &act.after) {
        for one in differences(&before.body, &after.body) {
            let _ = writeln!(text, "  {}", one_line(&one.pointer));
            for (sign, value) in [("-", one.before), ("+", one.after)] {
                if let Some(value) = value {
                    let _ = writeln!(text, "    {sign} {}", one_line(&value));
                }
            }
        }
    }
    if let Some(before) = &act.before {
        text.push_str(&body(before));
    }
    text
}

fn body(before: &Parcel) -> String {
    let shown = String::from_utf8_lossy(&before.body);
    format!("  the body before, {} bytes:\n{}\n", before.body.len(), visible(&indented(&shown)))
}

//! `sluice dead-letters`: see what failed and why, fix it, send it again, take it out, put it back.

mod act;
mod as_plan;
mod audit;
mod edit;
mod editor;
mod file;
mod list;
mod moving;
mod restore;
mod selection;
mod show;

use std::time::Duration;

use clap::Subcommand;
use tokio::runtime::Runtime;

use super::times::local;
use super::{Exit, Failure, World, gate, lane};
use crate::broker::PlannerError;
use crate::broker::dead_letters::{Review, ReviewError, Snapshot};
use crate::broker::topology::TopologyError;
use crate::config::values::parse_duration;
use crate::message::audit::By;
use crate::report::text::one_line;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what they died of: causes with their count, newest and oldest; or the dead letters
    List(list::Args),
    /// Show one with all that is known: reason, violations, history, body
    Show(show::Args),
    /// Fix and send again: one in an editor, or fields of a whole group
    Edit(edit::Args),
    /// Send again as they are, with fresh retries
    Replay(act::Replay),
    /// Take them out of the queue; `restore` puts them back
    Discard(act::Discard),
    /// Put back, as they were, what was discarded or edited
    Restore(restore::Args),
    /// Write them to a file, whole; the queue keeps them
    Export(file::Export),
    /// Put the dead letters of an exported file into the queue
    Import(file::Import),
    /// Write something down about one, for others
    Note(act::Note),
    /// Say who did what to dead letters and the gate, when and why
    Audit(audit::Args),
}

/// What is moved, by whom, and whether to ask first: of every command that moves dead letters.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct MoveArgs {
    #[command(flatten)]
    which: selection::Chosen,
    #[command(flatten)]
    place: LaneArgs,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    yes: moving::Yes,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Where the dead letters are, and how long to wait for another reviewer.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct LaneArgs {
    #[command(flatten)]
    lane: lane::Args,
    /// How long to wait while somebody else reviews
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    wait: Duration,
}

/// Who acts, and why.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Who {
    /// Who does it, for the audit (default: user@host)
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

impl Who {
    fn by(&self, world: &World) -> By {
        By { who: self.by.clone().unwrap_or_else(|| gate::who(world)), why: self.why.clone() }
    }
}

/// A reviewer's desk: one lane's dead letters, and a runtime to wait in.
struct Desk {
    review: Review,
    runtime: Runtime,
}

impl Desk {
    fn open(place: &LaneArgs, world: &World) -> Result<Self, Failure> {
        let config = place.lane.load(world, false)?.config;
        let review = Review {
            max_bytes: config.window.max_bytes,
            patience: place.wait,
            who: gate::who(world),
            on_wait: |why| eprintln!("sluice: waiting: {}", one_line(why)),
            on_unreadable: |entry| eprintln!("sluice: {}", one_line(&entry.to_string())),
            ..Review::new(&config.broker, &config.queues, config.contract.rules())
        };
        Ok(Self { review, runtime: super::runtime()? })
    }

    /// Everything that lies in the queue; says so if one pass cannot hold all.
    fn look(&self) -> Result<Snapshot, Failure> {
        let snapshot =
            self.runtime.block_on(self.review.list()).map_err(|error| failure(&error))?;
        say_left(snapshot.left);
        Ok(snapshot)
    }
}

fn say_left(left: u32) {
    if left > 0 {
        eprintln!(
            "sluice: one pass cannot hold all: {left} more were not looked at; they come to light when some of these are gone"
        );
    }
}

fn failure(error: &ReviewError) -> Failure {
    let exit = match error {
        ReviewError::Unreachable(TopologyError::Settings(_) | TopologyError::LogIn(_))
        | ReviewError::Audit(PlannerError::Settings(_) | PlannerError::LogIn(_))
        | ReviewError::Nothing(_) => Exit::Usage,
        ReviewError::Invalid(_) => Exit::InvalidPlan,
        ReviewError::File(_) => Exit::NotAllWell,
        ReviewError::Unreachable(_)
        | ReviewError::Audit(_)
        | ReviewError::Busy(_)
        | ReviewError::Missing(_)
        | ReviewError::Lost { .. } => Exit::Unreachable,
    };
    Failure { exit, message: error.to_string() }
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    match &args.command {
        Command::List(args) => list::run(args, world),
        Command::Show(args) => show::run(args, world),
        Command::Edit(args) => edit::run(args, world),
        Command::Replay(args) => act::replay(args, world),
        Command::Discard(args) => act::discard(args, world),
        Command::Restore(args) => restore::run(args, world),
        Command::Export(args) => file::export(args, world),
        Command::Import(args) => file::import(args, world),
        Command::Note(args) => act::note(args, world),
        Command::Audit(args) => audit::run(args, world),
    }
}

/// `1 dead letter`, `2 dead letters`
fn letters(count: usize) -> String {
    format!("{count} {}", if count == 1 { "dead letter" } else { "dead letters" })
}

/// Pretty JSON and the end of the line.
fn json(value: &impl serde::Serialize) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}

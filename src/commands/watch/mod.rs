//! `sluice watch`: what becomes of a batch, live or days later, from any machine.

mod list;
mod screen;
mod which;

use jiff::Timestamp;
use uuid::Uuid;

use super::outlook::Outlook;
use super::{Exit, Failure, World, export, lane, output, times};
use crate::broker::streams::follow::{Results, beginning};
use crate::broker::{PlannerError, ReadFrom};
use crate::lane::Config;
use crate::message::generation::{RunPrefix, short};
use crate::report::batches::BatchPattern;
use crate::report::export::Report;
use screen::Screen;
use which::Watched;
pub(super) use which::Which;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
At a terminal it follows the batch to its end; elsewhere it tells how things stand, or waits with
--until-done.
Ends with 1 if --until-done, or all have ended, and some did not end as created or existing.
Without BATCH it lists the batches, and the generations of those whose id was used again.
Examples: sluice watch 019ab0d0-...        sluice watch nightly --until-done --export report.html
          sluice watch 'weekend-*'         sluice watch nightly --run 019ab0d0")]
pub(super) struct Args {
    /// The batch's id, as `sluice enqueue` printed it; 'PREFIX-*': all that begin so, together
    batch: Option<BatchPattern>,
    #[command(flatten)]
    lane: lane::Args,
    /// This generation of an id that was used again (default: the latest)
    #[arg(long, value_name = "UUID", requires = "batch")]
    run: Option<RunPrefix>,
    /// Wait until every request has ended
    #[arg(long, requires = "batch")]
    until_done: bool,
    /// Batches since then, such as 7d (ago); else all that the stream keeps
    #[arg(long, value_name = "TIME", value_parser = times::past, conflicts_with = "batch")]
    since: Option<Timestamp>,
    /// JSON lines on stdout: each result as it comes, the summary last
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    export: export::Args,
}

/// What to follow.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) which: Which,
    pub(super) until_done: bool,
    pub(super) json: bool,
    /// The report that is written at the end.
    pub(super) export: export::Args,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    if let (Some(run), Some(BatchPattern::Beginning(_))) = (&args.run, &args.batch) {
        return Err(Failure::usage(format!(
            "--run {run} is a generation of one batch: name that, without a *"
        )));
    }
    let config = args.lane.load(world, false)?.config;
    let runtime = super::runtime()?;
    if args.export.target.is_some() && args.batch.is_none() {
        return Err(Failure::usage(
            "--export writes a report of a batch: name one, or several by 'PREFIX-*'",
        ));
    }
    args.export.check()?;
    match &args.batch {
        Some(batch) => {
            let follow = Follow {
                which: Which::Named(batch.clone(), args.run.clone()),
                until_done: args.until_done,
                json: args.json,
                export: args.export.clone(),
            };
            runtime.block_on(self::follow(&config, &follow, world))
        }
        None => runtime.block_on(list::list(&config, args.since, args.json)),
    }
}

/// Follows batches. Ctrl-C ends the watching, not the batches.
pub(super) async fn follow(
    config: &Config,
    follow: &Follow,
    world: &World,
) -> Result<Exit, Failure> {
    let results = open(config, earliest(&follow.which)).await?;
    let mut results = results.only(follow.which.patterns());
    let live = follow.until_done || (world.stderr_is_terminal && !follow.json);
    let mut watched = Watched::new(follow.which.clone());
    let mut screen = Screen::new(world, follow.json, follow.which.is_one());
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let (mut begun, mut events) = (false, 0);
    let mut outlook = Outlook::none();
    loop {
        if !begun && results.is_caught_up() {
            watched.settle()?;
            screen.begin(&watched);
            begun = true;
            outlook = Outlook::start(config, only(&watched), world);
        }
        // A replay may still come after the end; what had ended by the time of the question counts.
        if begun && (!live || watched.together().done) {
            break;
        }
        if begun {
            outlook.note(left(&watched));
            screen.draw(&watched, &outlook.known());
        } else {
            screen.reading(events);
        }
        let event = tokio::select! {
            event = results.next() => event,
            known = outlook.changed() => {
                screen.waits(&known);
                output::written()?;
                continue;
            }
            _ = &mut interrupted => break,
        };
        if let Some(event) = event {
            events += 1;
            screen.show(watched.take(&event), &event);
            if let Some((batch, run, at)) = watched.announced_anew(&event).filter(|_| begun) {
                let (at, run) = (times::local(at), short(run));
                screen.tell(&format!(
                    "batch {batch} was enqueued again at {at}, as generation {run}, which is not followed here"
                ));
            }
            // Nobody can be told any more.
            output::written()?;
        }
    }
    let known = if live { outlook.known() } else { outlook.once(left(&watched)).await };
    if !live {
        screen.waits(&known);
    }
    screen.close(&watched, &known);
    results.close().await;
    write_report(&follow.export, &watched)?;
    Ok(exit(&watched, follow.until_done))
}

/// The one batch that is followed, and its generation.
fn only(watched: &Watched) -> Option<(String, Option<Uuid>)> {
    match watched.followed().as_slice() {
        [one] if watched.which.is_one() => Some((one.batch.clone(), one.run)),
        _ => None,
    }
}

/// How many requests have no result yet, as far as they were announced.
fn left(watched: &Watched) -> u64 {
    let all = watched.together();
    all.total.map_or(0, |total| total.saturating_sub(all.settled))
}

/// Where in the stream they can begin at the earliest.
fn earliest(which: &Which) -> ReadFrom {
    match which {
        Which::Named(BatchPattern::One(batch), _) => beginning(batch),
        Which::These(these) => match these.as_slice() {
            [(batch, _)] => beginning(batch),
            _ => ReadFrom::First,
        },
        Which::Named(BatchPattern::Beginning(_), _) => ReadFrom::First,
    }
}

/// Some did not end as they were meant to, and that is what was waited for, or all there is to say.
fn exit(watched: &Watched, until_done: bool) -> Exit {
    let all = watched.together();
    let ended = all.outcomes.iter();
    let otherwise = ended.filter(|(outcome, _)| !outcome.is_success()).any(|(_, count)| *count > 0);
    if otherwise && (until_done || all.done) { Exit::NotAllWell } else { Exit::Done }
}

fn write_report(to: &export::Args, watched: &Watched) -> Result<(), Failure> {
    let Some(target) = &to.target else { return Ok(()) };
    let title = match watched.followed().as_slice() {
        [one] => format!("Batch {}", one.batch),
        _ => format!("Batches {}", watched.which.shown()),
    };
    let report = Report::of_results(title, watched.followed());
    to.write(&report)?;
    let (file, rows) = (target.file.display(), report.len());
    eprintln!("{file}: {rows} requests, one a row");
    let all = watched.together();
    let left = all.total.map_or(0, |total| total.saturating_sub(all.settled));
    if left > 0 {
        eprintln!(
            "{left} have not ended yet and are not in it: `sluice report PLAN --export` has every row; or write it again later, with --overwrite"
        );
    }
    Ok(())
}

pub(super) async fn open(config: &Config, from: ReadFrom) -> Result<Results, Failure> {
    let opened = Results::open(&config.broker, &config.queues, from).await;
    opened.map_err(|error| match error {
        PlannerError::Settings(_) | PlannerError::LogIn(_) => Failure::usage(error),
        _ => Failure::unreachable(error),
    })
}

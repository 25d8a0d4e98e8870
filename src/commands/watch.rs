//! `sluice watch`: what becomes of a batch, live or days later, from any machine.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::times::{self, local};
use super::{Exit, Failure, World, lane, output, print, progress_bar};
use crate::broker::streams::follow::{Results, beginning};
use crate::broker::{PlannerError, ReadFrom};
use crate::core::Outcome;
use crate::lane::Config;
use crate::message::result::Event;
use crate::message::words;
use crate::report::export::{Target, Times};
use crate::report::progress::{BatchChange, BatchProgress, Batches, Summary, failure_line};

const DRAW: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
At a terminal it follows the batch to its end; elsewhere it tells how things stand, or waits with
--until-done.
Ends with 1 if --until-done and some requests did not end well. Without BATCH it lists the batches.
Examples: sluice watch 019ab0d0-...        sluice watch nightly --until-done --export report.html")]
pub(super) struct Args {
    /// The batch's id, as `sluice enqueue` printed it
    batch: Option<String>,
    #[command(flatten)]
    lane: lane::Args,
    /// Wait until every request of the batch has ended
    #[arg(long, requires = "batch")]
    until_done: bool,
    /// Batches since then, such as 2h (ago); else all that the stream keeps
    #[arg(long, value_name = "TIME", value_parser = times::past, conflicts_with = "batch")]
    since: Option<Timestamp>,
    /// JSON lines on stdout: each result as it comes, the summary last
    #[arg(long)]
    json: bool,
    /// At the end write a report, a row a server: .csv, .xlsx or .html
    #[arg(long, value_name = "FILE", requires = "batch")]
    export: Option<Target>,
    /// Times of a .csv report: excel or iso
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        default_value = "excel",
        requires = "export"
    )]
    times: Times,
    /// Replace the file of --export
    #[arg(long, requires = "export")]
    overwrite: bool,
}

/// What to follow.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) batch: String,
    pub(super) until_done: bool,
    pub(super) json: bool,
    /// Where the report goes, how it writes times, and whether it may replace one.
    pub(super) export: Option<(Target, Times, bool)>,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let config = args.lane.load(world, false)?.config;
    let runtime = super::runtime()?;
    if let Some(target) = &args.export {
        target.check(args.overwrite).map_err(Failure::usage)?;
    }
    match &args.batch {
        Some(batch) => {
            let follow = Follow {
                batch: batch.clone(),
                until_done: args.until_done,
                json: args.json,
                export: args.export.clone().map(|target| (target, args.times, args.overwrite)),
            };
            runtime.block_on(self::follow(&config, &follow, world))
        }
        None => runtime.block_on(list(&config, args.since, args.json)),
    }
}

/// Follows one batch. Ctrl-C ends the watching, not the batch.
pub(super) async fn follow(
    config: &Config,
    follow: &Follow,
    world: &World,
) -> Result<Exit, Failure> {
    let mut results = open(config, beginning(&follow.batch)).await?;
    let live = follow.until_done || (world.stderr_is_terminal && !follow.json);
    let mut screen = Screen::new(world, follow.json);
    let mut progress = BatchProgress::new(&follow.batch);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        if results.is_caught_up() {
            if !progress.is_known() {
                return Err(unknown(&follow.batch));
            }
            // A replay may still come after the end; what had ended by the time of the question counts.
            if !live || progress.is_done() {
                break;
            }
        }
        screen.draw(&progress);
        let event = tokio::select! {
            event = results.next() => event,
            _ = &mut interrupted => break,
        };
        if let Some(event) = event {
            screen.show(progress.take(&event), &event);
            // Nobody can be told any more.
            output::written()?;
        }
    }
    screen.close(&progress);
    results.close().await;
    if let Some((target, times, overwrite)) = &follow.export {
        export(target, *times, *overwrite, &progress)?;
    }
    let failed = progress.failed() > 0 && (follow.until_done || progress.is_done());
    Ok(if failed { Exit::NotAllWell } else { Exit::Done })
}

fn export(
    target: &Target,
    times: Times,
    overwrite: bool,
    progress: &BatchProgress,
) -> Result<(), Failure> {
    let zone = TimeZone::system();
    target.write(progress, Timestamp::now(), &zone, times, overwrite).map_err(Failure::usage)?;
    let (file, rows) = (target.file.display(), progress.settled());
    eprintln!("{file}: {rows} requests, one a row");
    let left = progress.total().map_or(0, |total| total.saturating_sub(rows));
    if left > 0 {
        eprintln!(
            "{left} have not ended yet and are not in it: write it again later, with --overwrite"
        );
    }
    Ok(())
}

async fn open(config: &Config, from: ReadFrom) -> Result<Results, Failure> {
    let opened = Results::open(&config.broker, &config.queues, from).await;
    opened.map_err(|error| match error {
        PlannerError::Settings(_) => Failure::usage(error),
        _ => Failure::unreachable(error),
    })
}

fn unknown(batch: &str) -> Failure {
    let advice =
        "`sluice watch` lists those it knows; is queues.prefix the one that it was enqueued with?";
    Failure::usage(format!("the results stream knows no batch {batch}: {advice}"))
}

/// What is shown while a batch is followed.
struct Screen {
    bar: ProgressBar,
    json: bool,
    drawn: Option<Instant>,
}

impl Screen {
    fn new(world: &World, json: bool) -> Self {
        Self { bar: progress_bar(world, 0, ""), json, drawn: None }
    }

    /// Failures are told as they come; as JSON every result is.
    fn show(&self, change: BatchChange, event: &Event) {
        let (BatchChange::Settled, Event::Result(event)) = (change, event) else { return };
        if self.json {
            let mut line = serde_json::to_value(&event.data).unwrap_or_default();
            if let Some(object) = line.as_object_mut() {
                object.insert("type".to_owned(), event.kind.clone().into());
            }
            print(&format!("{line}\n"));
        } else if event.data.outcome.is_dead_letter() {
            self.bar.suspend(|| eprintln!("{}", failure_line(&event.data)));
        }
    }

    /// Draws how far it has come, [`DRAW`] apart: working it out costs more than an event does.
    fn draw(&mut self, progress: &BatchProgress) {
        if self.bar.is_hidden() || self.drawn.is_some_and(|at| at.elapsed() < DRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.bar.set_length(progress.total().unwrap_or_else(|| progress.settled()));
        self.bar.set_position(progress.settled());
        self.bar.set_message(line(progress, Timestamp::now()));
    }

    fn close(&self, progress: &BatchProgress) {
        self.bar.finish_and_clear();
        let summary = progress.summary();
        if self.json {
            let mut line = serde_json::to_value(&summary).unwrap_or_default();
            if let Some(object) = line.as_object_mut() {
                object.insert("type".to_owned(), json!("summary"));
            }
            print(&format!("{line}\n"));
        } else {
            print(&in_words(&summary, progress, Timestamp::now()));
        }
    }
}

/// `created 12, rejected 1 · 2.0/s · done about 22:10:31, in 4 min`
fn line(progress: &BatchProgress, now: Timestamp) -> String {
    let mut parts = vec![outcomes(progress)];
    if let Some(rate) = progress.per_second(now).filter(|_| !progress.is_done()) {
        parts.push(format!("{rate:.1}/s"));
    }
    if let Some(left) = progress.remaining(now).filter(|left| !left.is_zero()) {
        let end = now.saturating_add(left).unwrap_or(now).to_zoned_datetime(TimeZone::system());
        let left = words::roughly(left.as_secs().max(1));
        parts.push(format!("done about {}, in {left}", end.strftime("%H:%M:%S")));
    }
    parts.join(" · ")
}

fn outcomes(progress: &BatchProgress) -> String {
    let counts = Outcome::ALL.map(|outcome| (outcome, progress.count(outcome)));
    let told = counts.iter().filter(|(_, count)| *count > 0);
    let told: Vec<_> =
        told.map(|(outcome, count)| format!("{} {count}", outcome.as_str())).collect();
    if told.is_empty() { "nothing has ended yet".to_owned() } else { told.join(", ") }
}

fn in_words(summary: &Summary, progress: &BatchProgress, now: Timestamp) -> String {
    let of = summary
        .total
        .map_or_else(|| "of a batch of unknown size".to_owned(), |total| format!("of {total}"));
    let mut text = format!(
        "batch {}: {} {of} have ended: {}\n",
        summary.batch,
        summary.settled,
        line(progress, now)
    );
    if let (Some(first), Some(last)) =
        (summary.opened_at.or(summary.first_settled_at), summary.last_settled_at)
    {
        let took = words::span(last.duration_since(first).as_secs().unsigned_abs());
        let _ = writeln!(text, "from {} to {}: {took}", local(first), local(last));
    }
    if summary.failed > 0 {
        let batch = &summary.batch;
        let _ = writeln!(
            text,
            "{} did not end well: sluice dead-letters list --batch {batch}",
            summary.failed
        );
    }
    text
}

async fn list(config: &Config, since: Option<Timestamp>, json: bool) -> Result<Exit, Failure> {
    let mut results = open(config, since.map_or(ReadFrom::First, ReadFrom::Time)).await?;
    let mut batches = Batches::default();
    while !results.is_caught_up() {
        if let Some(event) = results.next().await {
            batches.take(&event);
        }
    }
    results.close().await;
    let summaries = batches.summaries();
    if json {
        let lines: Vec<_> =
            summaries.iter().filter_map(|summary| serde_json::to_string(summary).ok()).collect();
        for line in &lines {
            print(&format!("{line}\n"));
        }
    } else if summaries.is_empty() {
        eprintln!(
            "the results stream knows no batches: nothing has been enqueued under queues.prefix = {:?}; is it the \
             planners' one?",
            config.queues.prefix
        );
    } else {
        print(&table(&summaries));
    }
    Ok(Exit::Done)
}

fn table(summaries: &[Summary]) -> String {
    let mut table = format!(
        "{:<36}  {:<19}  {:>13}  {:>6}  {}\n",
        "batch", "opened", "ended", "failed", "plan"
    );
    for summary in summaries {
        let opened = summary.opened_at.or(summary.first_settled_at).map(local).unwrap_or_default();
        let total = summary.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
        let ended = format!("{} of {total}", summary.settled);
        let plan = [summary.plan.as_deref(), summary.by.as_deref()];
        let plan: Vec<_> = plan.into_iter().flatten().collect();
        let (batch, failed) = (&summary.batch, summary.failed);
        let _ = writeln!(
            table,
            "{batch:<36}  {opened:<19}  {ended:>13}  {failed:>6}  {}",
            plan.join(" by ")
        );
    }
    table
}

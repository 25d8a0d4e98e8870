//! `sluice enqueue`: validate the whole plan, then put it into the queue.

mod begin;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use self::begin::{Decision, Ours};
use super::plan_file::{self, Judge, PlanFile};
use super::waves::{self, Scope};
use super::{
    Exit, Failure, World, check, export, lane, print, print_json, progress_bar, times, watch,
};
use crate::broker::{Planner, PlannerError};
use crate::lane::Config;
use crate::message::intake::is_batch_id;
use crate::message::result::{Enqueued, Opened};
use crate::plan::{self, Aside, AsideError, CheckReport, Pace, Plan, Survey, SurveyError};
use crate::planner::JournalError;
use crate::planner::batch::{Journal, Made, MadeBatches};
use crate::planner::changes::Changes;
use crate::planner::enqueue::{self, EnqueueError};
use crate::report::new_file::NewFile;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is sent unless every row is valid. Prints the batch id; PLAN.batch, beside the plan, keeps
it: after a crash or Ctrl-C run the same command again, it goes on and doubles nothing. Of a plan
that was edited since, what is new or changed is shown and added to the same batch.
Examples: sluice enqueue plan.xlsx -c lane.toml --watch
          sluice enqueue plan.csv --not-before '2026-11-28 22:00' --skip-invalid bad-rows.csv")]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
pub(super) struct Args {
    /// The plan: .csv, .xlsx, .xls, .ods, .jsonl, .json; or - (a pipe) with --format
    plan: PathBuf,
    #[command(flatten)]
    reading: plan_file::Args,
    #[command(flatten)]
    lane: lane::Args,
    /// The batch's id: 1 to 64 letters, digits, _ and - (default: new)
    #[arg(long, value_name = "ID", value_parser = batch_id)]
    batch: Option<String>,
    /// Enqueue a plan, or use a batch id, once more: as a new batch
    #[arg(long)]
    again: bool,
    /// Add what is new or changed in an edited plan without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    waves: waves::Args,
    /// Enqueue the others, and write invalid rows to FILE; exit code 1
    #[arg(long, value_name = "FILE", conflicts_with = "batch_by")]
    skip_invalid: Option<PathBuf>,
    /// Replace the file of --skip-invalid
    #[arg(long, requires = "skip_invalid")]
    overwrite: bool,
    /// Submit nothing before this time
    #[arg(long, value_name = "TIME", value_parser = times::time, conflicts_with = "batch_by")]
    not_before: Option<Timestamp>,
    /// What was not submitted by this time ends as expired
    #[arg(long, value_name = "TIME", value_parser = times::time, conflicts_with = "batch_by")]
    deadline: Option<Timestamp>,
    /// Order all of it by this, 0 to 65535; the API gets the rows' own
    #[arg(long, value_name = "NUMBER", conflicts_with = "batch_by")]
    priority: Option<u16>,
    /// Follow it to its end, as `sluice watch` does
    #[arg(long)]
    watch: bool,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn batch_id(text: &str) -> Result<String, String> {
    let allowed = "letters, digits, _ and -, 1 to 64 of them";
    if is_batch_id(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a batch id: {allowed}"))
    }
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let config = args.lane.load(world, false)?.config;
    let plan = args.reading.take(&args.plan)?;
    // A batch that was begun goes on with the flags that it was begun with.
    if args.again || !Journal::is_beside(&plan.name) {
        not_too_late(args)?;
    }
    let judge = Judge::of(&config, false);
    let scopes = args.waves.scopes(args.batch.as_ref(), &args.reading, &plan, &judge)?;
    let (surveys, aside) = surveys(args, &plan, &config, scopes)?;
    let runtime = super::runtime()?;
    let batches = runtime.block_on(enqueue(args, &plan, &config, &surveys, world))?;
    keep_aside(args, aside)?;
    let skipped = surveys.iter().any(|(_, survey)| survey.report.rows > survey.report.valid);
    if args.watch {
        let which = watch::Which::These(batches);
        let follow = watch::Follow {
            which,
            until_done: true,
            json: args.json,
            export: export::Args::default(),
        };
        let followed = runtime.block_on(watch::follow(&config, &follow, world))?;
        if !matches!(followed, Exit::Done) {
            return Ok(followed);
        }
    }
    Ok(if skipped { Exit::NotAllWell } else { Exit::Done })
}

/// The batches with what was read of each, and the file of the rows that were set aside.
type Surveyed = (Vec<(Scope, Survey)>, Option<NewFile>);

/// Reads the plan of each batch; what is wrong with any of them ends the command here, before anything is sent.
fn surveys(
    args: &Args,
    plan: &PlanFile,
    config: &Config,
    scopes: Vec<Scope>,
) -> Result<Surveyed, Failure> {
    let (mut surveys, mut aside) = (Vec::new(), None);
    for scope in scopes {
        if let (Some(wave), Some(batch)) = (&scope.wave, &scope.batch) {
            eprintln!("wave {} is batch {batch}:", crate::contract::shown(wave));
        }
        let (survey, file) = survey(args, plan, config, &scope)?;
        // Rows are set aside of a plan that is one batch.
        aside = file;
        surveys.push((scope, survey));
    }
    waves::refuse_servers_twice(&surveys)?;
    Ok((surveys, aside))
}

/// The flags that are settings of every row.
fn settings(args: &Args) -> Vec<String> {
    use crate::message::headers;
    let texts = [
        (headers::NOT_BEFORE, args.not_before.map(|at| at.to_string())),
        (headers::DEADLINE, args.deadline.map(|at| at.to_string())),
        (headers::PRIORITY, args.priority.map(|priority| priority.to_string())),
    ];
    texts.into_iter().filter_map(|(name, text)| Some(format!("{name}={}", text?))).collect()
}

fn too_late(args: &Args) -> Option<String> {
    let (now, deadline) = (Timestamp::now(), args.deadline?);
    (deadline <= now).then(|| format!("--deadline {deadline:.0} has passed, it is {now:.0} now"))
}

fn not_too_late(args: &Args) -> Result<(), Failure> {
    too_late(args).map_or(Ok(()), |late| {
        Err(Failure::usage(format!(
            "{late}: every request would end as expired; give a later time; nothing was sent"
        )))
    })
}

fn open(args: &Args, plan: &PlanFile, config: &Config, scope: &Scope) -> Result<Plan, Failure> {
    args.reading.open_scope(plan, &Judge::of(config, false), &settings(args), scope)
}

/// How many rows are wrong, and in how many ways.
pub(super) fn verdict(report: &CheckReport) -> String {
    let bad = report.rows - report.valid;
    let (problems, _) = report.counts();
    match (report.rows, bad) {
        (0, _) => "the plan has no rows".to_owned(),
        (rows, 0) => format!("all {rows} rows are valid"),
        (rows, bad) => format!("{bad} of {rows} rows are invalid, {problems} problems in all"),
    }
}

/// The file of `--skip-invalid`, beside its name until the plan is in the queue.
fn aside(args: &Args, plan: &PlanFile) -> Result<Option<NewFile>, Failure> {
    let Some(file) = &args.skip_invalid else { return Ok(None) };
    // Whatever may be replaced, it is not what is read.
    if plan_file::is_same(file, &plan.path) {
        let message = format!(
            "--skip-invalid {} is the plan itself; give another file; nothing was sent",
            file.display()
        );
        return Err(Failure::usage(message));
    }
    NewFile::create(file, args.overwrite).map(Some).map_err(Failure::usage)
}

/// Reads the whole plan; what is wrong with it ends the command here, before anything is sent. With the file of the rows
/// set aside, where there are any.
fn survey(
    args: &Args,
    plan: &PlanFile,
    config: &Config,
    scope: &Scope,
) -> Result<(Survey, Option<NewFile>), Failure> {
    let unwritable = |e: AsideError| Failure::usage(format!("{e}; nothing was sent"));
    let mut file = aside(args, plan)?;
    let rows = open(args, plan, config, scope)?;
    let read = |error| match error {
        SurveyError::Plan(error) => plan_file::failure(error),
        SurveyError::SetAside(error) => unwritable(error.into()),
    };
    let survey = if let (Some(file), Some(to)) = (&mut file, &args.skip_invalid) {
        let mut out = BufWriter::new(file);
        let format = args.reading.format(plan)?;
        let mut lines = Aside::new(&mut out, format, to).map_err(unwritable)?;
        let survey = plan::survey(rows, lines.as_mut()).map_err(read)?;
        if lines.is_none() && !survey.invalid.is_empty() {
            let judge = Judge::of(config, false);
            args.reading.set_aside(plan, &judge, &survey, &mut out).map_err(unwritable)?;
        }
        out.flush().map_err(|error| unwritable(error.into()))?;
        survey
    } else {
        plan::survey(rows, None).map_err(read)?
    };
    eprint!("{}", check::findings(&survey.report));
    eprintln!("{}: {}", plan.name.display(), check::rows_in_words(&survey.report));
    let verdict = verdict(&survey.report);
    let plan = plan.name.display();
    let advice = "fix them, or set them aside with --skip-invalid FILE; nothing was sent";
    match (&args.skip_invalid, survey.report.valid) {
        (_, 0) => Err(Failure::invalid_plan(format!("{plan}: {verdict}; nothing was sent"))),
        (Some(_), _) if !survey.report.decided => Err(Failure::invalid_plan(format!(
            "{plan}: say what becomes of what it hides: --hidden; nothing was sent"
        ))),
        (None, _) if !survey.report.is_valid() => {
            Err(Failure::invalid_plan(format!("{plan}: {verdict}; {advice}")))
        }
        (Some(_), _) if !survey.report.is_valid() => {
            eprintln!("{plan}: {verdict}");
            Ok((survey, file))
        }
        // Without rows to set aside there is no file.
        _ => Ok((survey, None)),
    }
}

/// Once the others are in the queue: what goes wrong before leaves no file, and the same command can be run again.
fn keep_aside(args: &Args, file: Option<NewFile>) -> Result<(), Failure> {
    let (Some(file), Some(to)) = (file, &args.skip_invalid) else { return Ok(()) };
    file.keep().map_err(Failure::usage)?;
    eprintln!("the invalid rows stand in {}", to.display());
    Ok(())
}

/// Enqueues each batch, in order, and says which they are.
async fn enqueue(
    args: &Args,
    file: &PlanFile,
    config: &Config,
    surveys: &[(Scope, Survey)],
    world: &World,
) -> Result<Vec<(String, Option<Uuid>)>, Failure> {
    // First the broker: without it no journal is begun.
    let planner = Planner::open(&config.broker, &config.queues).await.map_err(refused)?;
    let ours = surveys.iter().filter_map(|(scope, _)| scope.batch.as_deref());
    let mut ours = Ours::new(ours.collect());
    let mut journals: BTreeMap<Option<&str>, (Journal, MadeBatches)> = BTreeMap::new();
    let mut decided = Vec::new();
    for (scope, survey) in surveys {
        let sheet = survey.sheet();
        let (_, known) = match journals.entry(sheet) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Journal::open(&file.name, sheet).map_err(unusable)?)
            }
        };
        let desk = Desk { args, file, config, survey, world, scope };
        let decision = desk.decide(known, &mut ours).await?;
        decided.push((desk, decision));
    }
    let whole = |(_, decision): &(_, Decision)| matches!(decision, Decision::Whole(..));
    if decided.iter().all(whole)
        && let Some((desk, Decision::Whole(made, at, more))) = decided.first()
    {
        // Of several the first one stands for all.
        desk.ask_again(made, *at, more)?;
        for (_, decision) in &mut decided {
            *decision = Decision::New;
        }
    }
    let mut batches = Vec::new();
    for (desk, decision) in decided {
        let Some((journal, _)) = journals.get_mut(&desk.survey.sheet()) else { continue };
        if let Decision::Whole(made, at, more) = &decision {
            let (batch, total) = (&made.head.batch, made.total());
            eprintln!("batch {batch} was enqueued at {at:.0} ({total} requests){more}");
            batches.push((batch.clone(), made.head.run));
        }
        let Some((made, changes)) = desk.begin(decision, journal)? else { continue };
        desk.publish(&planner, &made, journal).await?;
        let waiting = planner.waiting();
        if waiting.is_none() {
            check::unseen(&desk.config.queues.requests());
        }
        tell(&desk, &made, changes.as_ref(), u64::from(waiting.unwrap_or_default()));
        batches.push((made.head.batch, made.head.run));
    }
    planner.close().await;
    Ok(batches)
}

/// All that enqueueing a batch goes by.
struct Desk<'a> {
    args: &'a Args,
    file: &'a PlanFile,
    config: &'a Config,
    survey: &'a Survey,
    world: &'a World,
    scope: &'a Scope,
}

impl Desk<'_> {
    /// Announces the batch and publishes what is not in the queue yet.
    async fn publish(
        &self,
        planner: &Planner,
        made: &Made,
        journal: &mut Journal,
    ) -> Result<(), Failure> {
        let head = &made.head;
        let file_name = self.file.name.file_name();
        let opened = Opened {
            batch: head.batch.clone(),
            batch_run: head.run,
            total: made.total(),
            plan: file_name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            by: who(self.world),
        };
        planner.announce_opened(opened, Timestamp::now()).await.map_err(refused)?;
        let bar = progress_bar(self.world, made.rows_now(), "enqueued");
        bar.set_position(made.confirmed);
        let plan = open(self.args, self.file, self.config, self.scope)?;
        let told = |rows| bar.set_position(rows);
        let published = enqueue::publish(planner, plan, made, journal, told).await;
        published.map_err(|error| {
            bar.abandon();
            interrupted(error)
        })?;
        bar.finish_and_clear();
        let enqueued =
            Enqueued { batch: head.batch.clone(), batch_run: head.run, total: made.total() };
        planner.announce_enqueued(enqueued, Timestamp::now()).await.map_err(refused)?;
        journal.finish(Timestamp::now()).map_err(unusable)
    }
}

pub(super) fn in_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

fn tell(desk: &Desk<'_>, made: &Made, changes: Option<&Changes>, waiting: u64) {
    let Desk { args, config, survey, .. } = desk;
    let (head, rows) = (&made.head, made.rows_now());
    let pace = Pace::new(config.core());
    let loads = survey.report.loads();
    // Which rows are added does not matter to the forecast, only how many.
    let loads = &loads[..usize::try_from(rows).unwrap_or(usize::MAX).min(loads.len())];
    let forecast = plan::forecast(&pace, waiting, loads, Timestamp::now());
    if args.json {
        let skipped = survey.report.rows - survey.report.valid;
        let mut told = json!({
            "batch": head.batch, "batch_run": head.run, "total": made.total(), "skipped": skipped,
            "queue": head.queue, "enqueued_at": made.enqueued_at(), "forecast": forecast,
        });
        if let (Some(changes), Some(told)) = (changes, told.as_object_mut()) {
            told.insert("changes".to_owned(), json!(changes));
        }
        print_json(&format!("{told}\n"));
        return;
    }
    print(&format!("{}\n", head.batch));
    let added = match &made.addition {
        Some(_) => format!("{rows} of its {} requests were added to {}", made.total(), head.queue),
        None => format!("{rows} requests are in {}", head.queue),
    };
    let lane = args.lane.shown();
    eprintln!("{added}; follow them with: sluice watch {}{lane}", head.batch);
    if let Some(forecast) = forecast {
        eprintln!("forecast: {}", check::in_words(&forecast, &pace));
    }
}

fn refused(error: PlannerError) -> Failure {
    match error {
        PlannerError::Settings(_) | PlannerError::LogIn(_) => Failure::usage(error),
        _ => Failure::unreachable(error),
    }
}

fn unusable(error: JournalError) -> Failure {
    Failure::usage(error)
}

fn interrupted(error: EnqueueError) -> Failure {
    match error {
        EnqueueError::Broker(error) => Failure::unreachable(format!(
            "{error}\nsome rows may be in the queue: run it again, it goes on"
        )),
        EnqueueError::Plan(error) => plan_file::failure(error),
        EnqueueError::Journal(error) => unusable(error),
        EnqueueError::Changed => Failure::invalid_plan(EnqueueError::Changed),
    }
}

pub(super) fn who(world: &World) -> String {
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| world.env.get(*name).cloned());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{}", user.unwrap_or_else(|| "somebody".to_owned()), host.trim())
}

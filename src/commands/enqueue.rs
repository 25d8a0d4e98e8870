//! `sluice enqueue`: validate the whole plan, then put it into the queue.

use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::plan_file::{self, Judge, PlanFile};
use super::{Exit, Failure, World, check, lane, print, progress_bar, times, watch};
use crate::broker::{Planner, PlannerError};
use crate::lane::Config;
use crate::message::intake::is_batch_id;
use crate::message::result::{Enqueued, Opened};
use crate::plan::{self, CheckReport, Pace, Plan, Survey, SurveyError};
use crate::planner::JournalError;
use crate::planner::batch::{Batch, Head, State};
use crate::planner::enqueue::{self, EnqueueError};
use crate::report::new_file::NewFile;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is sent unless every row is valid. Prints the batch id; PLAN.batch, beside the plan, keeps
it: after a crash or Ctrl-C run the same command again, it goes on and doubles nothing.
Examples: sluice enqueue plan.xlsx -c lane.toml --watch
          sluice enqueue plan.csv --not-before '2026-11-28 22:00' --skip-invalid bad-rows.jsonl")]
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
    /// Enqueue a plan that was enqueued before as a new batch
    #[arg(long)]
    again: bool,
    /// Write invalid rows to FILE and enqueue the others; exit code 1
    #[arg(long, value_name = "FILE")]
    skip_invalid: Option<PathBuf>,
    /// Replace the file of --skip-invalid
    #[arg(long, requires = "skip_invalid")]
    overwrite: bool,
    /// Submit nothing before this time
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    not_before: Option<Timestamp>,
    /// What was not submitted by this time ends as expired
    #[arg(long, value_name = "TIME", value_parser = times::time)]
    deadline: Option<Timestamp>,
    /// Order all of it by this, 0 to 65535; the API gets the rows' own
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u16>,
    /// Follow it to its end, as `sluice watch` does
    #[arg(long)]
    watch: bool,
    /// As JSON on stdout
    #[arg(long)]
    json: bool,
}

fn batch_id(text: &str) -> Result<String, String> {
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
    if args.again || !Batch::path_of(&plan.name).exists() {
        not_too_late(args)?;
    }
    let survey = survey(args, &plan, &config)?;
    let runtime = super::runtime()?;
    let head = runtime.block_on(enqueue(args, &plan, &config, &survey, world))?;
    if args.watch {
        let which = watch::Which::These(vec![(head.batch, head.run)]);
        let follow = watch::Follow { which, until_done: true, json: args.json, export: None };
        let followed = runtime.block_on(watch::follow(&config, &follow, world))?;
        if !matches!(followed, Exit::Done) {
            return Ok(followed);
        }
    }
    let skipped = survey.report.rows > survey.report.valid;
    Ok(if skipped { Exit::NotAllWell } else { Exit::Done })
}

/// Whether both are one file, by whatever names.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(one).is_some_and(|one| Some(one) == real(other))
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

fn open(args: &Args, plan: &PlanFile, config: &Config) -> Result<Plan, Failure> {
    args.reading.open_with(plan, &Judge::of(config, false), &settings(args))
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

/// Reads the whole plan; what is wrong with it ends the command here, before anything is sent.
fn survey(args: &Args, plan: &PlanFile, config: &Config) -> Result<Survey, Failure> {
    let unwritable = |e: std::io::Error| {
        let file = args.skip_invalid.as_deref().unwrap_or_else(|| "-".as_ref());
        Failure::usage(format!("cannot write {}: {e}", file.display()))
    };
    let mut aside = match &args.skip_invalid {
        Some(file) => {
            // Whatever may be replaced, it is not what is read.
            if is_same(file, &plan.path) {
                let message = format!(
                    "--skip-invalid {} is the plan itself; give another file; nothing was sent",
                    file.display()
                );
                return Err(Failure::usage(message));
            }
            let created = NewFile::create(file, args.overwrite).map_err(Failure::usage)?;
            Some(BufWriter::new(created))
        }
        None => None,
    };
    let writer = aside.as_mut().map(|file| file as &mut dyn Write);
    let survey = plan::survey(open(args, plan, config)?, writer).map_err(|error| match error {
        SurveyError::Plan(error) => plan_file::failure(error),
        SurveyError::SetAside(error) => unwritable(error),
    })?;
    eprint!("{}", check::findings(&survey.report));
    eprintln!("{}: {}", plan.name.display(), check::rows_in_words(&survey.report));
    // Without rows to set aside there is no file.
    if let Some(aside) = aside.filter(|_| survey.report.rows > survey.report.valid) {
        let aside = aside.into_inner().map_err(|error| unwritable(error.into_error()))?;
        aside.keep().map_err(Failure::usage)?;
    }
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
        (Some(file), _) if !survey.report.is_valid() => {
            eprintln!("{plan}: {verdict}; the invalid ones stand in {}", file.display());
            Ok(survey)
        }
        _ => Ok(survey),
    }
}

async fn enqueue(
    args: &Args,
    file: &PlanFile,
    config: &Config,
    survey: &Survey,
    world: &World,
) -> Result<Head, Failure> {
    // First the broker: without it no journal is begun.
    let planner = Planner::open(&config.broker, &config.queues).await.map_err(refused)?;
    let (mut journal, state) = Batch::open(&file.name).map_err(unusable)?;
    let (head, confirmed) = begin(args, file, config, survey, &mut journal, state)?;
    let opened = Opened {
        batch: head.batch.clone(),
        batch_run: head.run,
        total: head.total,
        plan: file
            .name
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        by: who(world),
    };
    planner.announce_opened(opened, Timestamp::now()).await.map_err(refused)?;
    let bar = progress_bar(world, head.total, "enqueued");
    bar.set_position(confirmed);
    let plan = open(args, file, config)?;
    let told = |rows| bar.set_position(rows);
    enqueue::publish(&planner, plan, &head, confirmed, &mut journal, told).await.map_err(
        |error| {
            bar.abandon();
            interrupted(error)
        },
    )?;
    bar.finish_and_clear();
    let enqueued = Enqueued { batch: head.batch.clone(), batch_run: head.run, total: head.total };
    planner.announce_enqueued(enqueued, Timestamp::now()).await.map_err(refused)?;
    journal.finish(Timestamp::now()).map_err(unusable)?;
    tell(args, config, survey, &head, u64::from(planner.waiting()));
    planner.close().await;
    Ok(head)
}

/// A new batch on disk, or the one that was begun before.
fn begin(
    args: &Args,
    file: &PlanFile,
    config: &Config,
    survey: &Survey,
    journal: &mut Batch,
    state: State,
) -> Result<(Head, u64), Failure> {
    let file = Batch::path_of(&file.name);
    let file = file.display();
    let queue = config.queues.requests();
    match state {
        State::Begun { head, confirmed } if !args.again => {
            let (batch, total) = (&head.batch, head.total);
            if args.batch.as_ref().is_some_and(|wanted| wanted != batch) {
                let message = format!(
                    "{file}: batch {batch} was begun; finish it without --batch, or begin anew with --again"
                );
                return Err(Failure::usage(message));
            }
            if head.queue != queue {
                let advice = "use the same configuration, or begin anew with --again";
                return Err(Failure::usage(format!(
                    "{file}: batch {batch} was begun for {}; {advice}",
                    head.queue
                )));
            }
            if head.digest != survey.digest {
                let advice = "put the plan and the flags back as they were to go on, or begin anew with --again \
                              (what was sent stays sent)";
                return Err(Failure::usage(format!(
                    "{file}: batch {batch} was begun ({confirmed} of {total} sent), and the plan has changed since; {advice}"
                )));
            }
            eprintln!("going on with batch {batch}: {confirmed} of {total} were confirmed");
            if let Some(late) = too_late(args) {
                eprintln!("warning: {late}: what was not submitted by then ends as expired");
            }
            Ok((head, confirmed))
        }
        State::Finished { head, at } if !args.again && !confirms(args, &head, at)? => {
            Err(Failure::usage("nothing was sent"))
        }
        _ => {
            not_too_late(args)?;
            let head = Head {
                batch: args.batch.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
                run: Some(Uuid::new_v4()),
                // Headers carry milliseconds, and the run is made of what they carry.
                enqueued_at: in_milliseconds(Timestamp::now()),
                total: survey.report.valid,
                digest: survey.digest.clone(),
                queue,
            };
            journal.begin(&head).map_err(unusable)?;
            Ok((head, 0))
        }
    }
}

pub(super) fn in_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Asks at a terminal; elsewhere `--again` must say it.
fn confirms(args: &Args, head: &Head, at: Timestamp) -> Result<bool, Failure> {
    let was = format!(
        "this plan was enqueued at {at:.0} as batch {} ({} requests)",
        head.batch, head.total
    );
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let advice = format!(
            "sluice watch {}{} shows what became of it; --again enqueues it as a new batch",
            head.batch,
            args.lane.shown()
        );
        return Err(Failure::usage(format!("{was}; {advice}")));
    }
    eprint!("{was}. Enqueue it again as a new batch? [y/N] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer).map_err(Failure::usage)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tell(args: &Args, config: &Config, survey: &Survey, head: &Head, waiting: u64) {
    let pace = Pace::new(config.core());
    let forecast = plan::forecast(&pace, waiting, survey.report.loads(), Timestamp::now());
    if args.json {
        let skipped = survey.report.rows - survey.report.valid;
        let told = json!({
            "batch": head.batch, "batch_run": head.run, "total": head.total, "skipped": skipped, "queue": head.queue,
            "enqueued_at": head.enqueued_at, "forecast": forecast,
        });
        print(&format!("{told}\n"));
        return;
    }
    print(&format!("{}\n", head.batch));
    eprintln!(
        "{} requests are in {}; follow them with: sluice watch {}{}",
        head.total,
        head.queue,
        head.batch,
        args.lane.shown()
    );
    if let Some(forecast) = forecast {
        eprintln!("forecast: {}", check::in_words(&forecast, &pace));
    }
}

fn refused(error: PlannerError) -> Failure {
    match error {
        PlannerError::Settings(_) => Failure::usage(error),
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

//! `sluice submit`: a plan without a broker. The same worker, with the plan's file as the queue and a journal beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::plan_file::{self, Judge, PlanFile};
use super::share::Share;
use super::signals::Signals;
use super::{
    Exit, Failure, World, check, dry_run, enqueue, lane, print, print_json, progress_bar, run,
};
use crate::api::Client;
use crate::broker::{self, PlannerError};
use crate::core::gate::Reason;
use crate::core::{Core, Ending, Found, Job, Now, Outcome, Query, Settings, Verdict};
use crate::lane::Config;
use crate::message::result;
use crate::plan::{self, Survey, SurveyError};
use crate::planner::submit::{Head, Journal, Options, Past, Rows, Trouble};
use crate::report::progress::failure_line;
use crate::report::text::one_line;
use crate::worker::clock::Clock;
use crate::worker::source::Settled;
use crate::worker::{SessionEvent, Watch, Worker};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is sent unless every row is valid. PLAN.results.jsonl, beside the plan, has the results and
is the journal: after Ctrl-C or a crash run the same command again, it goes on, looks up what is in
doubt and creates nothing twice. Ctrl-C lets what is in flight end; a second one stops at once.
Examples: sluice submit plan.xlsx -c lane.toml --dry-run
          sluice submit plan.csv -c lane.toml -o limits.rates=2/s
          sluice submit plan.csv -c lane.toml --failed")]
pub(super) struct Args {
    /// The plan: .csv, .xlsx, .xls, .ods, .jsonl, .json; or - (a pipe) with --format
    plan: PathBuf,
    #[command(flatten)]
    reading: plan_file::Args,
    #[command(flatten)]
    lane: lane::Args,
    /// Try again what did not end well
    #[arg(long)]
    failed: bool,
    /// Say what would be sent, in which order, when; send and write nothing
    #[arg(long)]
    dry_run: bool,
    /// So much of limits.rates, such as 10%, also while a worker is active
    #[arg(long, value_name = "PERCENT")]
    share: Option<Share>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// A journal's delivery can go to nobody else, so it is never requeued for its age.
const NO_MAX_HOLD: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A broker that does not answer by then holds nobody up.
const LOOK: Duration = Duration::from_secs(3);
/// An attempt waits for its `started` line, and not all of them equally long: the server's counter sees that as jitter.
const SYNC: Duration = Duration::from_millis(40);

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let mut config = args.lane.load(world, !args.dry_run)?.config;
    let share = args.share.unwrap_or(Share::WHOLE);
    config.limits.rates = share.of(&config.limits.rates);
    let plan = args.reading.take(&args.plan)?;
    let survey = survey(args, &plan, &config)?;
    let mut past = Journal::peek(&plan.name, survey.sheet()).map_err(Failure::usage)?;
    check_head(&plan, &config, &survey, &past)?;
    again(args, &mut past);
    if args.dry_run {
        let rows = args.reading.open(&plan, &Judge::of(&config, false))?;
        let trial = dry_run::Trial { plan: &plan, config: &config, survey: &survey, past: &past };
        return trial.tell(rows, args.json);
    }
    let _log = crate::observe::log::start(&config.log).map_err(Failure::usage)?;
    if args.share.is_none() {
        super::runtime()?.block_on(check_alone(&config))?;
    }
    let tally = Tally::of(&survey, &past);
    if tally.left() == 0 {
        return Ok(tell(
            args,
            &plan,
            survey.sheet(),
            &past.head.map_or_else(String::new, |head| head.batch),
            &tally,
        ));
    }
    super::runtime()?.block_on(submit(args, &plan, config, &survey, world))
}

/// A worker of the same prefix takes the whole rate of the same account.
async fn check_alone(config: &Config) -> Result<(), Failure> {
    let looks = broker::is_a_worker_there(&config.broker, &config.queues);
    match tokio::time::timeout(LOOK, looks).await {
        Ok(Ok(true)) => Err(Failure::usage(format!(
            "a worker consumes {}, and takes the whole of limits.rates: enqueue the plan (`sluice enqueue`), stop the \
             worker, or give --share 10% (and the worker as much less with `sluice gate rate`); nothing was sent",
            config.queues.requests()
        ))),
        // It needs no broker, and where none answers no worker works.
        Ok(Ok(false) | Err(PlannerError::Unreachable(_))) | Err(_) => Ok(()),
        Ok(Err(why)) => {
            eprintln!("warning: whether a worker is active cannot be asked: {why}");
            Ok(())
        }
    }
}

/// What `--failed` asks for.
fn again(args: &Args, past: &mut Past) {
    if args.failed {
        match past.forget_failures() {
            0 => eprintln!("--failed: none has failed"),
            failed => eprintln!("{failed} that did not end well are tried again"),
        }
    }
}

/// Reads the whole plan; what is wrong with it ends the command here, before anything is sent.
fn survey(args: &Args, plan: &PlanFile, config: &Config) -> Result<Survey, Failure> {
    let rows = args.reading.open(plan, &Judge::of(config, false))?;
    let survey = plan::survey(rows, None).map_err(|error| match error {
        SurveyError::Plan(error) => plan_file::failure(error),
        SurveyError::SetAside(error) => Failure::usage(error),
    })?;
    eprint!("{}", check::findings(&survey.report));
    eprintln!("{}: {}", plan.name.display(), check::rows_in_words(&survey.report));
    if survey.report.is_valid() {
        return Ok(survey);
    }
    let verdict = enqueue::verdict(&survey.report);
    let message = format!("{}: {verdict}; fix them; nothing was sent", plan.name.display());
    Err(Failure::invalid_plan(message))
}

/// Going on is only for the same plan and the same API.
fn check_head(
    plan: &PlanFile,
    config: &Config,
    survey: &Survey,
    past: &Past,
) -> Result<(), Failure> {
    let Some(head) = &past.head else { return Ok(()) };
    let file = Journal::path_of(&plan.name, survey.sheet());
    let (file, ended, total) = (file.display(), past.ended.len(), head.total);
    if head.digest != survey.digest {
        return Err(Failure::usage(format!(
            "{file}: {ended} of {total} rows have ended, and the plan, or what --set and --defaults add to it, has \
             changed since; put it back as it was to go on, and write further or fixed rows into a plan of their own"
        )));
    }
    if head.endpoint != config.api.endpoint {
        return Err(Failure::usage(format!(
            "{file}: this plan was submitted to {}, and api.endpoint is {}; use the same configuration to go on, or a \
             copy of the plan to submit it there too",
            head.endpoint, config.api.endpoint
        )));
    }
    Ok(())
}

async fn submit(
    args: &Args,
    file: &PlanFile,
    config: Config,
    survey: &Survey,
    world: &World,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(Failure::usage)?;
    let client = Client::new(&config.api).map_err(Failure::usage)?;
    // Before the journal is begun: one that nothing was sent for would be left behind, empty.
    reach(&client).await?;
    let (mut journal, mut past) =
        Journal::open(&file.name, survey.sheet()).map_err(Failure::usage)?;
    // Another process may have gone on with it since it was looked at.
    check_head(file, &config, survey, &past)?;
    if args.failed {
        past.forget_failures();
    }
    let head = match &past.head {
        Some(head) => head.clone(),
        None => begin(&config, survey, &mut journal)?,
    };
    let by = format!("{}, process {}", enqueue::who(world), std::process::id());
    journal.opened(&by, Timestamp::now()).map_err(Failure::usage)?;
    let tally = Tally::of(survey, &past);
    eprintln!("batch {}: {} of {} have ended", head.batch, tally.ended(), head.total);
    if !past.started.is_empty() {
        eprintln!("{} are in doubt and are looked up first", past.started.len());
    }

    let bar = progress_bar(world, head.total, "submitted");
    let tally = Arc::new(Mutex::new(tally));
    let worker = run::worker_name(world);
    let teller =
        Teller { bar: bar.clone(), tally: Arc::clone(&tally), worker: worker.clone(), shut: None };
    let clock = Clock::start();
    let source = Options {
        head: head.clone(),
        rules: config.contract.rules(),
        window: config.deliveries(),
        rows: usize::try_from(head.total).unwrap_or(usize::MAX),
        max_bytes: config.window.max_bytes,
        prefix: config.queues.prefix.clone(),
        worker,
        clock,
    };
    let plan = args.reading.open(file, &Judge::of(&config, false))?;
    let source = Rows::start(plan, journal, past, source).map_err(Failure::usage)?;
    let trouble = source.trouble();
    let refresher = client.clone();
    let renewal = tokio::spawn(async move { refresher.keep_fresh().await });
    let worker = Worker::new(source, Arc::new(client), teller, settings(&config), clock);
    Box::pin(work(worker, &mut signals, trouble.clone())).await;
    renewal.abort();
    bar.finish_and_clear();
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let why = trouble.borrow().clone();
    let exit = tell(args, file, survey.sheet(), &head.batch, &tally);
    match why {
        Some(why) => Err(Failure {
            exit: Exit::NotAllWell,
            message: format!(
                "{why}\nrun it again when that is fixed: it goes on, and looks up what is in doubt"
            ),
        }),
        None => Ok(exit),
    }
}

/// What the worker goes by here.
pub(super) fn settings(config: &Config) -> Settings {
    let mut settings = config.core();
    settings.seed = fastrand::u64(..);
    settings.max_hold = NO_MAX_HOLD;
    settings.gate.margin += SYNC;
    settings
}

/// Until every row has ended, or a signal or trouble stops it. A second signal ends the process.
async fn work(worker: Worker<Rows, Client, Teller>, signals: &mut Signals, mut trouble: Trouble) {
    let stop = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&stop);
    let stopping = async move {
        tokio::select! {
            () = told.notified() => {}
            // Its other end is the source's: if that is gone there is nothing to stop.
            _ = trouble.wait_for(Option::is_some) => {}
        }
    };
    // Nobody steers it: a configuration and a signal are all there is.
    let (_commands, inbox) = mpsc::channel(1);
    let stopper = async {
        let signal = signals.next().await;
        eprintln!(
            "{signal}: what is in flight ends; once more stops at once, and what is in flight is in doubt"
        );
        stop.notify_one();
        signals.give_up().await;
    };
    tokio::select! {
        () = worker.run(stopping, inbox) => {}
        () = stopper => {}
    }
}

/// An API that cannot be reached, or that refuses the credential, is said before anything is begun.
async fn reach(client: &Client) -> Result<(), Failure> {
    let query = Query::State { state: "RUNNING", offset: 0 };
    let mut first = client.list(&query, None).await;
    if let Err(Verdict::Unauthorized(_)) = first.result {
        // There is no token before the first one has been made.
        let refreshed = client.refresh(Some(first.generation)).await;
        refreshed.map_err(|fault| Failure::unreachable(format!("no token: {fault}")))?;
        first = client.list(&query, None).await;
    }
    match first.result {
        Err(Verdict::Transient { fault, answered: false }) => Err(Failure::unreachable(format!(
            "the API is unreachable: {fault}; see api.endpoint, or try again later; nothing was sent"
        ))),
        Err(Verdict::Unauthorized(fault)) => Err(Failure::usage(format!(
            "the API refuses the credential: {fault}; see [api.auth]; nothing was sent"
        ))),
        // Whatever else it says, the worker knows what to do with.
        _ => Ok(()),
    }
}

fn begin(config: &Config, survey: &Survey, journal: &mut Journal) -> Result<Head, Failure> {
    let head = Head {
        batch: Uuid::now_v7().to_string(),
        run: Some(Uuid::new_v4()),
        enqueued_at: enqueue::in_milliseconds(Timestamp::now()),
        total: survey.report.valid,
        digest: survey.digest.clone(),
        endpoint: config.api.endpoint.clone(),
    };
    journal.begin(&head).map_err(Failure::usage)?;
    Ok(head)
}

/// How many rows have ended, and how.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) total: u64,
    counts: BTreeMap<Outcome, u64>,
}

impl Tally {
    pub(super) fn of(survey: &Survey, past: &Past) -> Self {
        let mut counts = BTreeMap::new();
        for outcome in past.ended.values() {
            *counts.entry(*outcome).or_default() += 1;
        }
        Self { total: survey.report.valid, counts }
    }

    pub(super) fn ended(&self) -> u64 {
        self.counts.values().sum()
    }

    fn left(&self) -> u64 {
        self.total.saturating_sub(self.ended())
    }

    fn failed(&self) -> u64 {
        let failed = self.counts.iter().filter(|(outcome, _)| outcome.is_dead_letter());
        failed.map(|(_, count)| count).sum()
    }
}

fn tell(args: &Args, plan: &PlanFile, sheet: Option<&str>, batch: &str, tally: &Tally) -> Exit {
    let file = Journal::path_of(&plan.name, sheet);
    let Tally { total, counts } = tally;
    let (ended, left, failed) = (tally.ended(), tally.left(), tally.failed());
    if args.json {
        let told = json!({
            "batch": batch, "total": total, "ended": ended, "left": left, "failed": failed, "outcomes": counts,
            "results": file,
        });
        print_json(&format!("{told}\n"));
    } else {
        let words: Vec<String> =
            counts.iter().map(|(outcome, count)| format!("{count} {}", outcome.as_str())).collect();
        print(&format!("{ended} of {total} have ended: {}\n", words.join(", ")));
        eprintln!("results: {}", file.display());
    }
    if left > 0 {
        eprintln!("{left} are left: run the same command again to go on");
    } else if failed > 0 {
        eprintln!(
            "{failed} did not end well; the results say why. When the cause is fixed, --failed tries them again; rows \
             that must change go into a plan of their own"
        );
    }
    if failed + left == 0 { Exit::Done } else { Exit::NotAllWell }
}

/// Tells people at a terminal what the worker does.
struct Teller {
    bar: ProgressBar,
    tally: Arc<Mutex<Tally>>,
    worker: String,
    shut: Option<Reason>,
}

impl<D> Watch<D> for Teller {
    fn posted(&mut self, job: &Job<D>, verdict: &Verdict, _now: Now, took: Duration) {
        let took_ms = took.as_millis();
        tracing::debug!(request.id = %job.request.id, verdict = verdict.as_str(), took_ms, "attempted");
    }

    fn looked(&mut self, found: Found, took: Duration) {
        tracing::debug!(found = found.as_str(), took_ms = took.as_millis(), "looked");
    }

    fn settled(
        &mut self,
        job: &Job<D>,
        ending: &Ending,
        how: &Settled,
        _now: Now,
        _took: Duration,
    ) {
        if matches!(how, Settled::SessionLost) {
            return;
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *tally.counts.entry(ending.outcome).or_default() += 1;
        self.bar.set_position(tally.ended());
        drop(tally);
        if ending.outcome.is_dead_letter() {
            let line = failure_line(&result::outcomes(&job.request, ending, &self.worker));
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }

    fn arrived(&mut self, _job: &Job<D>) {}

    fn session(&mut self, event: SessionEvent<'_>) {
        if let SessionEvent::Opened(_) = event {
            let ended = self.tally.lock().unwrap_or_else(PoisonError::into_inner).ended();
            self.bar.set_position(ended);
        }
    }

    fn state(&mut self, core: &Core<D>, _now: Now) {
        let shut = core.shut().map(|shut| shut.reason);
        if shut == self.shut {
            return;
        }
        self.shut = shut;
        let why = match shut {
            None | Some(Reason::Rate | Reason::Linger | Reason::InFlight) => "",
            Some(reason) => reason.as_str(),
        };
        self.bar.set_message(one_line(why).into_owned());
        if let Some(Reason::Halted | Reason::Breaker | Reason::Throttled) = shut {
            let said = core
                .gate()
                .breaker()
                .opened()
                .map(|open| open.fault.to_string())
                .unwrap_or_default();
            self.bar.suspend(|| eprintln!("waiting ({why}) {said}"));
        }
    }
}

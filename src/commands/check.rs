//! `sluice check`: is the plan good, and when will it be through?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::plan_file::{Judge, PlanFile};
use super::share::Share;
use super::waves::{self, Scope};
use super::{Exit, Failure, World, account, lane, online, plan_file, print, print_json};
use crate::broker;
use crate::config::values::{self, show_duration};
use crate::lane::Config;
use crate::message::status::Status;
use crate::message::words::span;
use crate::plan::{self, CheckReport, Forecast, Hold, Pace, Row, Servers, SurveyError};

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are flags")]
#[command(after_help = "\
Findings go to stderr: the cell, what was found, what is allowed. Exit code 3 if there are any.
Example: sluice check plan.xlsx --set region_id=ap-southeast-3 --waiting 200
         sluice check plan.xlsx --marked marked.xlsx
         sluice check --explain target_server.disks[].size")]
pub(super) struct Args {
    /// The plan: .csv, .xlsx, .xls, .ods, .jsonl, .json; or - (a pipe) with --format
    #[arg(required_unless_present = "explain")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    reading: plan_file::Args,
    #[command(flatten)]
    lane: lane::Args,
    /// What the API's page does not allow is wrong, even if it works
    #[arg(long)]
    strict: bool,
    /// Write the plan as a workbook with comments and colours on its mistakes
    #[arg(long, value_name = "FILE", conflicts_with = "batch_by")]
    marked: Option<PathBuf>,
    /// Replace the file of --marked
    #[arg(long, requires = "marked")]
    overwrite: bool,
    /// Ask the API about each source server: connected, free, no task yet
    #[arg(long, conflicts_with = "batch_by")]
    online: bool,
    /// With --online: so much of limits.rates, and ask no worker for calls
    #[arg(long, value_name = "PERCENT", requires = "online")]
    share: Option<Share>,
    /// Forecast: count what waits in the queue and in the worker's window
    #[arg(long, conflicts_with = "waiting")]
    queue: bool,
    /// Forecast: so many requests are waiting already
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    waiting: u64,
    /// Forecast: how long a call to the API takes
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = values::parse_duration)]
    answer: Duration,
    /// Forecast: how long a migration runs, for `max_running`
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = values::parse_duration)]
    migration: Duration,
    #[command(flatten)]
    waves: waves::Args,
    /// What the ids of its batches begin with, as of `sluice enqueue`
    #[arg(long, value_name = "ID", value_parser = super::enqueue::batch_id, requires = "batch_by")]
    batch: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Print the rule of a field instead
    #[arg(long, value_name = "FIELD", conflicts_with = "plan")]
    explain: Option<String>,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let file = match (&args.explain, &args.plan) {
        (Some(field), _) => {
            print(&format!("{}\n", plan::explain(field).map_err(Failure::usage)?));
            return Ok(Exit::Done);
        }
        (None, Some(file)) => file,
        (None, None) => return Err(Failure::usage("name a plan: sluice check plan.csv")),
    };
    let config = args.lane.load(world, args.online)?.config;
    let mut judge = Judge::of(&config, args.strict);
    let pace = args.pace(&config);
    let file = args.reading.take(file)?;
    if args.online {
        judge.servers = args.servers(&file, &judge, &config, world)?;
    }
    if args.waves.is_given() {
        return check_waves(args, &config, &judge, &pace, &file);
    }
    let marked = args.marked.as_deref();
    let marked = marked.map(|file| plan_file::Marked { file, overwrite: args.overwrite });
    let rows = args.reading.open_or_mark(&file, &judge, marked)?;
    let survey = plan::survey(rows, None).map_err(unreadable)?;
    let report = &survey.report;
    if let Some(marked) = marked {
        args.reading.mark(&file, &judge, report, marked)?;
    }
    let waiting = args.waiting(&config)?;
    let forecast = plan::forecast(&pace, waiting, report.loads(), Timestamp::now());
    let online = args.ask(&config, &survey.sources, world)?.filter(|_| report.is_valid());
    if args.json {
        let servers = online.as_ref().map(|found| &found.servers);
        let json = serde_json::json!({ "plan": file.name, "report": report, "forecast": forecast, "online": servers });
        print_json(&format!("{json:#}\n"));
    } else {
        eprint!("{}", findings(report));
        print(&summary(&file.name.display().to_string(), report, forecast.as_ref(), &pace));
        print(&online.as_ref().map(|found| found.table(Timestamp::now())).unwrap_or_default());
    }
    if let Some(missing) = online.as_ref().and_then(online::Found::missing) {
        return Err(missing);
    }
    Ok(match online {
        _ if !report.is_valid() => Exit::InvalidPlan,
        Some(found) if !found.all_ready() => Exit::NotAllWell,
        _ => Exit::Done,
    })
}

/// Of each wave what is wrong with it, and when it will be through: behind those that go before it.
fn check_waves(
    args: &Args,
    config: &Config,
    judge: &Judge,
    pace: &Pace,
    file: &PlanFile,
) -> Result<Exit, Failure> {
    let waiting = args.waiting(config)?;
    let scopes = args.waves.scopes(args.batch.as_ref(), &args.reading, file, judge)?;
    let (mut surveys, mut loads, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for scope in scopes {
        let plan = args.reading.open_scope(file, judge, &[], &scope)?;
        let survey = plan::survey(plan, None).map_err(unreadable)?;
        let report = &survey.report;
        loads.extend_from_slice(report.loads());
        let forecast = plan::forecast(pace, waiting, &loads, Timestamp::now());
        let Scope { wave, batch, .. } = &scope;
        if args.json {
            told.push(serde_json::json!({ "wave": wave, "batch": batch, "report": report, "forecast": forecast }));
        } else {
            eprint!("{}", findings(report));
            let wave = crate::contract::shown(wave.as_deref().unwrap_or_default());
            let name = format!("wave {wave}, batch {}", batch.as_deref().unwrap_or_default());
            print(&summary(&name, report, forecast.as_ref(), pace));
        }
        surveys.push((scope, survey));
    }
    if args.json {
        print_json(&format!("{:#}\n", serde_json::json!({ "plan": file.name, "waves": told })));
    }
    waves::refuse_servers_twice(&surveys)?;
    let valid = surveys.iter().all(|(_, survey)| survey.report.is_valid());
    Ok(if valid { Exit::Done } else { Exit::InvalidPlan })
}

pub(super) fn unreadable(error: SurveyError) -> Failure {
    match error {
        SurveyError::Plan(error) => plan_file::failure(error),
        SurveyError::SetAside(error) => Failure::usage(error),
    }
}

/// What the active worker says that it holds, where it answers on `http.listen`.
async fn held(config: &Config) -> Option<u64> {
    let url = format!("http://{}/status", config.http.listen?);
    let client =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().ok()?;
    let lanes: Vec<Status> = client.get(url).send().await.ok()?.json().await.ok()?;
    let held = |lane: &Status| lane.window.ready + lane.window.waiting + lane.window.in_flight;
    Some(lanes.iter().map(held).sum::<usize>() as u64)
}

/// RabbitMQ 4.3 shows how long a queue is only to those who may configure it.
pub(super) fn unseen(queue: &str) {
    eprintln!(
        "warning: this user may not see how many requests wait in {queue}: the forecast does not count them"
    );
}

impl Args {
    /// The account's source servers, if any row means one by its name or its address.
    fn servers(
        &self,
        file: &PlanFile,
        judge: &Judge,
        config: &Config,
        world: &World,
    ) -> Result<Option<Arc<Servers>>, Failure> {
        let rows = self.reading.open_or_mark(file, judge, None)?;
        // Nothing but what tells the servers is kept of them.
        let bare = |mut row: Row| {
            row.body = bytes::Bytes::new();
            row
        };
        let rows: Result<Vec<Row>, _> = rows.map(|row| row.map(bare)).collect();
        // What cannot be read is told where the plan is judged.
        let Ok(rows) = rows else { return Ok(None) };
        if !rows.iter().any(|row| row.server.says()) {
            return Ok(None);
        }
        let asked = account::servers(&rows, config, self.share, world);
        super::runtime()?.block_on(asked).map(|servers| Some(Arc::new(servers)))
    }

    /// Requests that go before the plan.
    fn waiting(&self, config: &Config) -> Result<u64, Failure> {
        if !self.queue {
            return Ok(self.waiting);
        }
        super::runtime()?.block_on(async {
            let queued = broker::requests_waiting(&config.broker, &config.queues).await;
            let queued = queued.map_err(Failure::unreachable)?;
            let held = held(config).await;
            if held.is_none() {
                eprintln!("warning: no worker answers on http.listen: what its window holds is not counted");
            }
            if queued.is_none() {
                unseen(&config.queues.requests());
            }
            Ok(u64::from(queued.unwrap_or_default()) + held.unwrap_or_default())
        })
    }

    fn ask(
        &self,
        config: &Config,
        sources: &[(u64, String)],
        world: &World,
    ) -> Result<Option<online::Found>, Failure> {
        if !self.online {
            return Ok(None);
        }
        super::runtime()?.block_on(online::ask(config, sources, self.share, world)).map(Some)
    }

    fn pace(&self, config: &Config) -> Pace {
        Pace { answer: self.answer, migration: self.migration, ..Pace::new(config.core()) }
    }
}

/// Everything that is wrong, then everything that is questionable: a line for what is the same in several rows.
pub(super) fn findings(report: &CheckReport) -> String {
    let mut text = String::new();
    for group in &report.finding_groups {
        let _ = writeln!(text, "{}", group.in_words(report.rows));
    }
    for group in &report.warning_groups {
        let _ = writeln!(text, "warning: {}", group.in_words(report.rows));
    }
    let more = [(report.ungrouped_findings, "findings"), (report.ungrouped_warnings, "warnings")];
    for (more, what) in more.into_iter().filter(|(more, _)| *more > 0) {
        let _ = writeln!(text, "... and {more} more {what}");
    }
    let rules: BTreeSet<&str> =
        report.warning_groups.iter().filter_map(|group| group.finding.rule).collect();
    if !rules.is_empty() {
        let rules: Vec<&str> = rules.into_iter().collect();
        let _ = writeln!(text, "if that is meant: --allow {}", rules.join(","));
    }
    text
}

/// All rows of the file, and what each is.
pub(super) fn rows_in_words(report: &CheckReport) -> String {
    let (other, undecided) = (&report.other, &report.undecided);
    let all = report.rows + other.rows();
    let sheet =
        report.sheet.as_ref().map(|sheet| format!(" in sheet {}", crate::contract::shown(sheet)));
    let mut text = format!("{all} rows{}: ", sheet.unwrap_or_default());
    if other.header > 0 {
        text.push_str("1 header, ");
    }
    let _ = write!(text, "{} valid, {} invalid", report.valid, report.invalid);
    let (hidden, skipped, comments) = (&other.hidden, &other.skipped, &other.comments);
    for (rows, what) in [
        (undecided, "hidden, not decided"),
        (hidden, "hidden, left out"),
        (skipped, "left out by x-sluice-skip"),
        (comments, "comments"),
    ] {
        if rows.count > 0 {
            let _ = write!(text, ", {} {what} ({rows})", rows.count);
        } else if what.starts_with("hidden, left") || what == "comments" {
            let _ = write!(text, ", 0 {}", what.split(',').next().unwrap_or_default());
        }
    }
    let _ = write!(text, ", {} empty", other.empty);
    text
}

fn summary(file: &str, report: &CheckReport, forecast: Option<&Forecast>, pace: &Pace) -> String {
    let CheckReport { rows, valid, invalid, undecided, .. } = report;
    let mut text = format!("{file}: {rows} requests, {valid} valid");
    for (count, what) in [(*invalid, "invalid"), (undecided.count, "hidden, not decided")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    // these are of rows and of the file, and may be several of one row
    let (findings, warnings) = report.counts();
    for (before, count, what) in [("; ", findings, "finding"), (", ", warnings, "warning")] {
        if count > 0 {
            let before = if findings == 0 { "; " } else { before };
            let _ = write!(text, "{before}{count} {what}{}", if count == 1 { "" } else { "s" });
        }
    }
    text.push('\n');
    let _ = writeln!(text, "  {}", rows_in_words(report));
    let of = |(header, field): &(String, String)| {
        format!("{} is {field}", crate::contract::shown(header))
    };
    if !report.mapped.is_empty() {
        let mapped: Vec<String> = report.mapped.iter().map(of).collect();
        let _ = writeln!(text, "  columns: {}", mapped.join(", "));
    }
    let counts = [
        ("region", listed(&report.by_region)),
        ("type", listed(&report.by_type)),
        ("priority", listed(&report.by_priority)),
    ];
    for (what, counts) in counts.iter().filter(|(_, counts)| !counts.is_empty()) {
        let _ = writeln!(text, "  valid by {what}: {counts}");
    }
    if let Some(forecast) = forecast {
        let _ = writeln!(text, "  forecast: {}", in_words(forecast, pace));
    }
    text
}

/// The most frequent ones first, twelve at most.
fn listed<K: std::fmt::Display>(counts: &std::collections::BTreeMap<K, u64>) -> String {
    const MOST: usize = 12;
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut words: Vec<String> =
        counts.iter().take(MOST).map(|(name, count)| format!("{name} ({count})")).collect();
    if counts.len() > MOST {
        let rest: u64 = counts[MOST..].iter().map(|(_, count)| **count).sum();
        words.push(format!("{} others ({rest})", counts.len() - MOST));
    }
    words.join(", ")
}

pub(super) fn in_words(forecast: &Forecast, pace: &Pace) -> String {
    let last = forecast.last.to_zoned_datetime(TimeZone::system()).strftime("%a %F %H:%M:%S");
    let took = Duration::try_from_secs_f64(forecast.seconds.ceil()).unwrap_or_default();
    let took = span(took.as_secs());
    let mut text = format!("the last one submitted {last}, {took} from now");
    if forecast.waiting > 0 {
        let _ = write!(text, ", behind {} that wait already", forecast.waiting);
    }
    match forecast.held_by {
        None => {}
        Some(Hold::Rate) => {
            let rates: Vec<String> =
                pace.settings.gate.rates.iter().map(ToString::to_string).collect();
            let _ = write!(text, "; bound by limits.rates ({})", rates.join(", "));
        }
        Some(Hold::InFlight) => {
            let _ = write!(
                text,
                "; bound by limits.max_in_flight ({})",
                pace.settings.gate.max_in_flight
            );
        }
        Some(Hold::Running) => {
            let migration = show_duration(pace.migration);
            let _ = write!(
                text,
                "; bound by limits.max_running ({}), if a migration runs {migration} (--migration)",
                pace.settings.max_running
            );
        }
        Some(Hold::Schedule) => text.push_str("; bound by schedule.windows"),
        Some(Hold::NotBefore) => text.push_str("; bound by x-sluice-not-before"),
    }
    text
}

//! `sluice check`: is the plan good, and when will it be through?

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Exit, Failure, World, lane, plan_file, print};
use crate::config::{Config, values};
use crate::core::schedule::Schedule;
use crate::plan::{self, Forecast, Hold, Pace, Report};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Findings go to stderr: row, column, what was found, what is allowed. Exit code 3 if there are any.
Example: sluice check plan.xlsx --set region_id=ap-southeast-3 --waiting 200
         sluice check --explain target_server.disks[].size")]
pub(super) struct Args {
    /// The plan: .csv, .xlsx, .jsonl or .json
    #[arg(required_unless_present = "explain")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    reading: plan_file::Args,
    #[command(flatten)]
    lane: lane::Args,
    /// What the API's page does not allow is wrong, even if it works
    #[arg(long)]
    strict: bool,
    /// Forecast: so many requests are waiting already
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    waiting: u64,
    /// Forecast: how long a call to the API takes
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = values::parse_duration)]
    answer: Duration,
    /// Forecast: how long a migration runs, for `max_running`
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = values::parse_duration)]
    migration: Duration,
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
    let config = args.lane.load(world, false)?.config;
    let mut rules = config.contract.rules();
    rules.strict |= args.strict;
    let pace = args.pace(&config);
    let rows = args.reading.open(file, rules)?;
    let report = plan::check(rows).map_err(plan_file::failure)?;
    let forecast = plan::forecast(&pace, args.waiting, report.loads(), Timestamp::now());
    if args.json {
        let json = serde_json::json!({ "plan": file, "report": report, "forecast": forecast });
        print(&format!("{json:#}\n"));
    } else {
        eprint!("{}", findings(&report));
        print(&summary(&file.display().to_string(), &report, forecast.as_ref(), &pace));
    }
    Ok(if report.is_valid() { Exit::Done } else { Exit::InvalidPlan })
}

impl Args {
    fn pace(&self, config: &Config) -> Pace {
        Pace {
            rates: config.limits.rates.clone(),
            margin: config.limits.margin,
            max_in_flight: config.limits.max_in_flight,
            max_running: config.limits.max_running,
            schedule: Schedule::new(config.schedule.windows.clone()),
            timeout: config.api.timeout,
            answer: self.answer,
            migration: self.migration,
        }
    }
}

/// Everything that is wrong, then everything that is questionable, a line each.
fn findings(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(text, "{finding}");
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for (more, what) in [(report.more_findings, "findings"), (report.more_warnings, "warnings")] {
        if more > 0 {
            let _ = writeln!(text, "... and {more} more {what}");
        }
    }
    text
}

fn summary(file: &str, report: &Report, forecast: Option<&Forecast>, pace: &Pace) -> String {
    let Report { rows, valid, .. } = report;
    let mut text = format!("{file}: {rows} requests, {valid} valid");
    let wrong = report.findings.len() as u64 + report.more_findings;
    let questioned = report.warnings.len() as u64 + report.more_warnings;
    for (count, what) in [(wrong, "wrong"), (questioned, "questionable")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text.push('\n');
    let counts = [
        ("region", listed(&report.by_region)),
        ("type", listed(&report.by_type)),
        ("priority", listed(&report.by_priority)),
    ];
    for (what, counts) in counts.iter().filter(|(_, counts)| !counts.is_empty()) {
        let _ = writeln!(text, "  by {what}: {counts}");
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
        words.push(format!("and {} more", counts.len() - MOST));
    }
    words.join(", ")
}

fn in_words(forecast: &Forecast, pace: &Pace) -> String {
    let last = forecast.last.to_zoned_datetime(TimeZone::system()).strftime("%a %F %H:%M:%S");
    let took = SignedDuration::try_from_secs_f64(forecast.seconds.ceil()).unwrap_or_default();
    let mut text = format!("the last one submitted {last}, {took:#} from now");
    if forecast.waiting > 0 {
        let _ = write!(text, ", behind {} that wait already", forecast.waiting);
    }
    match forecast.held_by {
        None => {}
        Some(Hold::Rate) => {
            let rates: Vec<String> = pace.rates.iter().map(ToString::to_string).collect();
            let _ = write!(text, "; bound by limits.rates ({})", rates.join(", "));
        }
        Some(Hold::InFlight) => {
            let _ = write!(text, "; bound by limits.max_in_flight ({})", pace.max_in_flight);
        }
        Some(Hold::Running) => {
            let hours = SignedDuration::try_from(pace.migration).unwrap_or_default();
            let _ = write!(
                text,
                "; bound by limits.max_running ({}), if a migration runs {hours:#} (--migration)",
                pace.max_running
            );
        }
        Some(Hold::Schedule) => text.push_str("; bound by schedule.windows"),
        Some(Hold::NotBefore) => text.push_str("; bound by x-sluice-not-before"),
    }
    text
}

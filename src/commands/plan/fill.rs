//! `sluice plan fill`: which servers do the names and addresses of a plan mean, and what does the account know of them?

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::commands::account;
use crate::commands::plan_file::{self, Judge, PlanFile};
use crate::commands::share::Share;
use crate::commands::{Exit, Failure, World, lane, runtime};
use crate::contract::ABSENT;
use crate::plan::{self, Finding, Format, Row, Servers};
use crate::report::new_file::NewFile;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A row may name its source server in source_server.name or source_server.ip in place of the id.
What a person wrote stays; what is empty is filled with what the account knows.
Examples: sluice plan fill names.csv plan.xlsx -c lane.toml
          sluice plan fill plan.xlsx plan-2.xlsx --refresh disks -c lane.toml")]
pub(super) struct Args {
    /// The plan: .csv, .xlsx, .xls, .ods, .jsonl, .json; or - (a pipe) with --format
    plan: PathBuf,
    /// Where the filled plan goes: .xlsx, .csv or .jsonl
    to: PathBuf,
    /// Take the disks of all rows anew, and show what changes
    #[arg(long, value_enum, value_name = "disks", hide_possible_values = true)]
    refresh: Option<Refresh>,
    /// Replace the file
    #[arg(long)]
    overwrite: bool,
    /// So much of limits.rates, such as 10%, and ask no worker for calls
    #[arg(long, value_name = "PERCENT")]
    share: Option<Share>,
    #[command(flatten)]
    reading: plan_file::Args,
    #[command(flatten)]
    lane: lane::Args,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Refresh {
    Disks,
}

/// As many changes are shown.
const MOST_SHOWN: usize = 100;

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let file = args.reading.take(&args.plan)?;
    if plan_file::is_same(&args.to, &file.path) {
        let to = args.to.display();
        return Err(Failure::usage(format!("{to} is the plan itself; give another file")));
    }
    let format = account::written(plan::format_of(&args.to).map_err(plan_file::failure)?)?;
    // Before the API is asked for anything.
    let mut new = NewFile::create(&args.to, args.overwrite).map_err(Failure::usage)?;
    let config = args.lane.load(world, true)?.config;
    let judge = Judge::of(&config, false);
    let before = args.rows(&file, &judge, None, false)?;
    let servers = runtime()?.block_on(account::servers(&before, &config, args.share, world))?;
    let servers = Arc::new(servers);
    let unknown = before.iter().filter_map(|row| row.source_server_id.as_deref());
    let unknown = unknown.filter(|id| !id.is_empty() && !servers.has(id)).count();
    let servers = Some(servers);
    let after = args.rows(&file, &judge, servers.clone(), args.refresh.is_some())?;
    refuse(&file, &after)?;
    let made = plan::filled(&after, &args.notes(&file)?, format).map_err(Failure::usage)?;
    if let Some((at, why)) = made.left_out.first() {
        let row = after.get(*at).map_or(0, |row| row.number);
        let message = format!("{}, row {row}: {why}; nothing is written", file.name.display());
        return Err(Failure::invalid_plan(message));
    }
    new.write_all(&made.bytes)
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", args.to.display())))?;
    new.keep().map_err(Failure::usage)?;
    if args.refresh.is_some() {
        let kept = args.rows(&file, &judge, servers, false)?;
        eprint!("{}", differences(&kept, &after));
    }
    eprint!("{}", args.said(&before, &after, unknown));
    Ok(Exit::Done)
}

impl Args {
    /// All rows, those that are left out as well.
    fn rows(
        &self,
        file: &PlanFile,
        judge: &Judge,
        servers: Option<Arc<Servers>>,
        refresh: bool,
    ) -> Result<Vec<Row>, Failure> {
        let options =
            plan::Options { servers, refresh, skipped: true, ..self.reading.as_read(file, judge) };
        let rows = plan::open(&file.path, &options).map_err(plan_file::failure)?;
        rows.collect::<Result<_, _>>().map_err(plan_file::failure)
    }

    fn notes(&self, file: &PlanFile) -> Result<plan::Notes, Failure> {
        if matches!(self.reading.format(file)?, Format::Json | Format::Jsonl) {
            return Ok(plan::Notes::default());
        }
        self.reading.notes(file)
    }

    fn said(&self, before: &[Row], after: &[Row], unknown: usize) -> String {
        let changed = before.iter().zip(after).filter(|(before, after)| before.body != after.body);
        let (to, rows, changed) = (self.to.display(), after.len(), changed.count());
        let mut text = format!("{to}: {rows} rows, {changed} of them filled from the account\n");
        if unknown > 0 {
            let _ = writeln!(text, "  {unknown} are of servers that the account does not have");
        }
        let _ = writeln!(text, "next: sluice check {to}{}", self.lane.shown());
        text
    }
}

/// What a person wrote and cannot be read would be lost, and a server that is not found is the plan's mistake. What is
/// missing beside that may be filled in later.
fn refuse(file: &PlanFile, rows: &[Row]) -> Result<(), Failure> {
    let wrong: Vec<&Finding> = rows
        .iter()
        .flat_map(|row| row.read.as_ref().err().into_iter().flatten())
        .filter(|finding| finding.found != ABSENT)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    for finding in wrong.iter().take(MOST_SHOWN) {
        eprintln!("{finding}");
    }
    let (count, plan) = (wrong.len(), file.name.display());
    let s = if count == 1 { "" } else { "s" };
    Err(Failure::invalid_plan(format!("{plan}: {count} finding{s}; fix them; nothing is written")))
}

/// What is another one than before, a line each.
fn differences(before: &[Row], after: &[Row]) -> String {
    let value = |row: &Row| serde_json::from_slice::<Value>(&row.body).unwrap_or_default();
    let mut lines = Vec::new();
    for (before, after) in before.iter().zip(after) {
        let mut told = Vec::new();
        differ("", &value(before), &value(after), &mut told);
        lines.extend(told.into_iter().map(|line| format!("row {}: {line}", after.number)));
    }
    let more = lines.len().saturating_sub(MOST_SHOWN);
    lines.truncate(MOST_SHOWN);
    if more > 0 {
        lines.push(format!("... and {more} more"));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn differ(path: &str, before: &Value, after: &Value, told: &mut Vec<String>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            let names: std::collections::BTreeSet<&String> =
                one.keys().chain(other.keys()).collect();
            for name in names {
                let (one, other) = (&before[name.as_str()], &after[name.as_str()]);
                differ(&below(name), one, other, told);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            for at in 0..one.len().max(other.len()) {
                let (one, other) = (one.get(at), other.get(at));
                let none = Value::Null;
                differ(&below(&at.to_string()), one.unwrap_or(&none), other.unwrap_or(&none), told);
            }
        }
        (one, other) if one != other => told.push(format!("{path}: {one}, now {other}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_its_place() {
        let mut told = Vec::new();
        let before = serde_json::json!({"a": [{"size": 1, "name": "x"}], "b": 1});
        let after = serde_json::json!({"a": [{"size": 2, "name": "x"}, 3], "b": 1});
        differ("", &before, &after, &mut told);
        assert_eq!(told, ["a.0.size: 1, now 2", "a.1: null, now 3"]);
    }
}

//! `sluice report`: every row of a plan, ended or not, with what has become of it and what it waits for.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use super::plan_file::{self, Judge, PlanFile};
use super::times::local;
use super::{Exit, Failure, World, export, gate, lane, print, print_json, watch};
use crate::broker::{self, NotAsked, PlannerError, ReadFrom};
use crate::core::Run;
use crate::core::engine::{Upcoming, Waits};
use crate::lane::Config;
use crate::message::command::{Command, IssuedCommand};
use crate::plan::{Notes, Row};
use crate::planner::batch::{self, Made};
use crate::planner::enqueue::message_id;
use crate::planner::submit::{Journal, Past};
use crate::report::batches::{BatchPattern, Batches, Generation};
use crate::report::export::Report;
use crate::report::planned::{Accounted, PlanRow, RowState, account, counts};
use crate::report::progress::{BatchProgress, failure_line};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the plan was sent as is read from the journals beside it; --batch names it elsewhere. The plan
is read as `enqueue` or `submit` read it: give the same --set, --defaults and --sheet.
Ends with 1 if all have ended and some not as created or existing.
Examples: sluice report weekend.xlsx -c lane.toml
          sluice report weekend.xlsx -c lane.toml --export weekend-report.xlsx
          sluice report weekend.xlsx --batch 'weekend-*' --export weekend.html")]
pub(super) struct Args {
    /// The plan: .csv, .xlsx, .xls, .ods, .jsonl, .json; or - (a pipe) with --format
    plan: PathBuf,
    #[command(flatten)]
    reading: plan_file::Args,
    #[command(flatten)]
    lane: lane::Args,
    /// What it was enqueued as: ids, 'PREFIX-*' (default: the journals say)
    #[arg(long = "batch", value_name = "BATCH")]
    batches: Vec<BatchPattern>,
    #[command(flatten)]
    export: export::Args,
    /// JSON lines on stdout: each row, the counts last
    #[arg(long)]
    json: bool,
}

/// What the plan was sent as, and what is known of that.
#[derive(Default)]
struct Sent {
    batches: Batches,
    /// Of the plan, in the order in which it was sent.
    generations: Vec<Generation>,
    /// What the journal of `enqueue` says of it.
    enqueued: Vec<Made>,
    /// The journal of `submit`.
    submitted: Option<Past>,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let config = args.lane.load(world, false)?.config;
    let plan = args.reading.take(&args.plan)?;
    args.export.check()?;
    let notes = args.reading.notes(&plan)?;
    let mut opened = args.reading.open(&plan, &Judge::of(&config, false))?;
    let rows = opened.by_ref().collect::<Result<Vec<Row>, _>>().map_err(plan_file::failure)?;
    let sheet = opened.ending().sheet;
    let runtime = super::runtime()?;
    let sent = runtime.block_on(sent(args, &plan, sheet.as_deref(), &config))?;
    let mut planned: Vec<PlanRow> = rows.iter().map(|row| PlanRow::of(row, &notes)).collect();
    identify(&rows, &mut planned, &sent);
    let batches = sent.shown();
    let mut all = account(planned, &batches);
    if sent.submitted.is_none() && all.iter().any(|one| one.row.state == RowState::Waiting) {
        let waiting = runtime.block_on(waiting(&config, world));
        explain(&mut all, &waiting);
    }
    if args.json {
        tell_json(&all, &notes);
    } else {
        print(&in_words(&all));
    }
    let exit = exit(&all);
    if let Some(target) = &args.export.target {
        let title = format!("Plan {}", plan.name.display());
        let names: Vec<String> = notes.names().map(str::to_owned).collect();
        let report = Report::of_plan(title, batches, all, &names);
        args.export.write(&report)?;
        eprintln!("{}: {} rows of the plan, one a row", target.file.display(), report.len());
    }
    Ok(exit)
}

impl Sent {
    /// Why a row is not in the queue, if it is not; `place`: among the valid ones, from 1.
    fn is_missing(&self, source: &str, place: u64) -> Option<&'static str> {
        let begun = self.enqueued.iter().find(|made| made.finished.is_none());
        let has = self.enqueued.iter().any(|made| made.has(source));
        match (self.enqueued.as_slice(), begun) {
            _ if has => None,
            // An earlier version wrote down how many, and not which.
            ([only], None) if !only.knows_its_rows() => None,
            ([only], Some(begun)) if only.head.run.is_none() => {
                (place > begun.confirmed).then_some(INTERRUPTED)
            }
            ([], _) => None,
            (_, Some(_)) => Some(INTERRUPTED),
            (_, None) => Some(ADDED),
        }
    }

    fn shown(&self) -> Vec<&BatchProgress> {
        let get = |(batch, run): &Generation| self.batches.get(batch, *run);
        self.generations.iter().filter_map(get).collect()
    }
}

/// What the journals beside the plan say, or the stream of the batches that were named.
async fn sent(
    args: &Args,
    plan: &PlanFile,
    sheet: Option<&str>,
    config: &Config,
) -> Result<Sent, Failure> {
    let mut sent = Sent::default();
    let mut wanted = Vec::new();
    if args.batches.is_empty() {
        let past = Journal::peek(&plan.name, sheet).map_err(Failure::usage)?;
        if let Some(head) = &past.head {
            sent.generations.push((head.batch.clone(), head.run));
            for event in Journal::results(&plan.name, sheet).map_err(Failure::usage)? {
                sent.batches.take(&event);
            }
            sent.submitted = Some(past);
        }
        let known = batch::Journal::peek(&plan.name, sheet).map_err(Failure::usage)?;
        sent.enqueued = known.current().into_iter().cloned().collect();
        wanted.extend(sent.enqueued.iter().map(|made| (made.head.batch.clone(), made.head.run)));
        if wanted.is_empty() && sent.generations.is_empty() {
            let plan = plan.name.display();
            return Err(Failure::usage(format!(
                "{plan}: no journal beside it says that it was enqueued or submitted from here; name its batches with --batch"
            )));
        }
    }
    if !wanted.is_empty() || !args.batches.is_empty() {
        follow(&mut sent, &wanted, &args.batches, config).await?;
    }
    Ok(sent)
}

/// Reads what there is of these generations, and the latest ones of the batches that were named.
async fn follow(
    sent: &mut Sent,
    wanted: &[Generation],
    named: &[BatchPattern],
    config: &Config,
) -> Result<(), Failure> {
    let from = match (wanted, named) {
        ([(batch, _)], []) => crate::broker::streams::follow::beginning(batch),
        _ => ReadFrom::First,
    };
    let of_journal = wanted.iter().map(|(batch, _)| BatchPattern::One(batch.clone()));
    let meant: Vec<BatchPattern> = of_journal.chain(named.iter().cloned()).collect();
    let mut results = watch::open(config, from).await?.only(meant.clone());
    let is_meant = |batch: &str| meant.iter().any(|one| one.matches(batch));
    while !results.is_caught_up() {
        if let Some(event) = results.next().await
            && event.batch().is_some_and(|(batch, _)| is_meant(batch))
        {
            sent.batches.take(&event);
        }
    }
    results.close().await;
    sent.generations.extend(wanted.iter().cloned());
    for pattern in named {
        let ids = sent.batches.ids().into_iter().filter(|id| pattern.matches(id));
        let latest: Vec<_> = ids.filter_map(|id| sent.batches.latest(id)).collect();
        if latest.is_empty() {
            return Err(Failure::usage(format!(
                "the results stream knows no batch {pattern}: `sluice watch` lists those it knows"
            )));
        }
        let found: Vec<_> = latest.iter().map(|one| (one.batch.clone(), one.run)).collect();
        sent.generations.extend(found);
    }
    Ok(())
}

const INTERRUPTED: &str = "enqueuing was interrupted: run it again, it goes on";
const ADDED: &str = "it is not enqueued: `sluice enqueue` adds it to the batch";

/// Says under which ids each row was sent, and which were not sent at all.
fn identify(rows: &[Row], planned: &mut [PlanRow], sent: &Sent) {
    let past = sent.submitted.as_ref();
    let mut valid = 0;
    for (row, planned) in rows.iter().zip(planned) {
        let source = &planned.source_server_id;
        let id = |of: &str| message_id(of, source, &row.body).to_string();
        // Those of `submit`, and of batches from before generations, are made of the batch's id.
        let named = sent.generations.iter().flat_map(|(batch, run)| {
            [Some(batch.clone()), run.map(|run| run.to_string())].into_iter().flatten()
        });
        let added = sent.enqueued.iter().flat_map(Made::generations);
        planned.ids = named.chain(added).map(|of| id(&of)).collect();
        if planned.state == RowState::Invalid {
            continue;
        }
        valid += 1;
        if let Some(why) = sent.is_missing(source, valid) {
            planned.state = RowState::NotSent;
            why.clone_into(&mut planned.why);
        }
        let Some(past) = past else { continue };
        let head = past.head.as_ref();
        let run = head.map(|head| {
            let digest = sha256(&row.body);
            Run::of(&id(&head.batch), &digest, Some(head.enqueued_at), 0)
        });
        let begun = run.is_some_and(|run| past.started.contains(&run));
        let (state, why) = if begun {
            (RowState::Begun, "it may have been sent: `sluice submit` looks it up first")
        } else {
            (RowState::NotSent, "not submitted yet: `sluice submit` goes on with it")
        };
        (planned.state, planned.why) = (state, why.to_owned());
    }
}

fn sha256(body: &[u8]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(body).into()
}

/// What the worker says of the requests that come next, and of the gate.
struct Waiting {
    next: HashMap<String, Upcoming>,
    all: String,
}

async fn waiting(config: &Config, world: &World) -> Waiting {
    let ask = async |command| {
        let issued = IssuedCommand { command, by: gate::who(world), reason: None };
        broker::ask(&config.broker, &config.queues, &issued).await
    };
    let status = ask(Command::Status).await;
    let all = match status {
        Ok(answer) => answer.status.map_or(answer.said, |status| status.why()),
        Err(NotAsked::Broker(PlannerError::Refused(_))) => {
            "what holds it up cannot be asked with this broker's user".to_owned()
        }
        Err(NotAsked::Nobody { .. }) => "no worker is active: start one (`sluice run`)".to_owned(),
        Err(error) => error.to_string(),
    };
    let next = match ask(Command::window()).await {
        Ok(answer) => answer.window.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    Waiting { next: next.into_iter().map(|one| (one.id.clone(), one)).collect(), all }
}

/// Says of each row that waits what it waits for.
fn explain(all: &mut [Accounted<'_>], waiting: &Waiting) {
    let now = Timestamp::now();
    for one in all.iter_mut().filter(|one| one.row.state == RowState::Waiting) {
        let next = one.row.ids.iter().find_map(|id| waiting.next.get(id));
        one.row.why = match next {
            Some(next) => in_window(next, &waiting.all),
            None => one.row.own_wait(now).unwrap_or_else(|| waiting.all.clone()),
        };
    }
}

/// As `sluice gate list` and the console say it, and for its turn why that does not come. A report is read elsewhere, too,
/// so its times are UTC.
fn in_window(one: &Upcoming, gate: &str) -> String {
    // The worker counts in its own time: a moment before the whole second is that second.
    let whole = |at: Timestamp| at.round(jiff::Unit::Second).unwrap_or(at);
    let until = one.until.map(|until| format!(", at {:.0}", whole(until))).unwrap_or_default();
    match one.waits {
        Waits::Turn => format!("{}: {gate}", one.waits_for()),
        _ => format!("{}{until}", one.waits_for()),
    }
}

fn exit(all: &[Accounted<'_>]) -> Exit {
    let is_open = |one: &Accounted<'_>| one.result.is_none();
    let is_success = |one: &Accounted<'_>| one.result.is_some_and(|r| r.outcome.is_success());
    if all.iter().any(is_open) || all.iter().all(is_success) {
        Exit::Done
    } else {
        Exit::NotAllWell
    }
}

fn in_words(all: &[Accounted<'_>]) -> String {
    let mut text = String::new();
    for one in all {
        let line = match one.result {
            Some(result) if result.outcome.is_success() => continue,
            Some(result) => failure_line(result),
            None => {
                let row = &one.row;
                let name = if row.name.is_empty() { "(no name)" } else { &row.name };
                let state = row.state.as_str();
                format!("row {}: {name} ({}): {state}: {}", row.row, row.source_server_id, row.why)
            }
        };
        let _ = writeln!(text, "{}", crate::report::text::one_line(&line));
    }
    let told: Vec<String> =
        counts(all).into_iter().map(|(word, count)| format!("{word} {count}")).collect();
    let _ =
        writeln!(text, "{} rows as of {}: {}", all.len(), local(Timestamp::now()), told.join(", "));
    text
}

fn tell_json(all: &[Accounted<'_>], notes: &Notes) {
    for one in all {
        let row = &one.row;
        let said: serde_json::Map<String, serde_json::Value> = notes
            .names()
            .zip(&row.notes)
            .map(|(name, text)| (name.to_owned(), text.clone().into()))
            .collect();
        let line = json!({
            "type": "row", "row": row.row, "batch": one.batch.map(|batch| &batch.batch),
            "batch_run": one.batch.and_then(|batch| batch.run), "name": row.name,
            "source_server_id": row.source_server_id, "target_server": row.target_server,
            "state": row.state, "why": row.why, "not_before": row.settings.not_before,
            "deadline": row.settings.deadline, "notes": said, "result": one.result,
        });
        print_json(&format!("{line}\n"));
    }
    let counts: serde_json::Map<String, serde_json::Value> =
        counts(all).into_iter().map(|(word, count)| (word.to_owned(), count.into())).collect();
    print_json(&format!("{}\n", json!({ "type": "summary", "rows": all.len(), "counts": counts })));
}

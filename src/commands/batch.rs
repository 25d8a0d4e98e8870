//! `sluice batch cancel|hold|release|move`: take back, hold or move what waits of a batch, or single requests.
//!
//! The order is kept by the broker before anybody is asked: every worker that there is or will be obeys it. Then the
//! active worker, if there is one, says what it has done.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Subcommand;
use jiff::Timestamp;
use uuid::Uuid;

use super::gate::who;
use super::times::time;
use super::{Exit, Failure, World, lane, print, print_json, runtime, watch};
use crate::broker::{self, NotAsked, Planner, PlannerError, ReadFrom};
use crate::core::{Change, Obeyed, Target};
use crate::lane::Config;
use crate::message::audit::{Act, By};
use crate::message::command::{Command, IssuedCommand};
use crate::message::intake::is_batch_id;
use crate::report::batches::{BatchPattern, Batches};

/// So long the active worker may take to obey.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take back what waits: it is never sent, and ends as `cancelled`
    #[command(after_help = "\
What is in flight ends by its answer and is not tried again; what is in doubt is looked up first.
Nothing undoes it but enqueuing the plan again with --again.
Example: sluice batch cancel wave-2 --reason 'the storage is late'
         sluice batch cancel wave-2 --row 17 --row 18")]
    Cancel(Of),
    /// Keep what waits from being sent, until it is released
    #[command(
        after_help = "Example: sluice batch hold wave-2 --reason 'waits for a change window'"
    )]
    Hold(Of),
    /// Let what was held go
    #[command(after_help = "Example: sluice batch release wave-2")]
    Release(Of),
    /// Give what waits another time, deadline or priority
    #[command(after_help = "\
A time that has passed means now. The bodies stay as they are.
Example: sluice batch move wave-2 --not-before 2026-12-05T22:00:00+08:00 --priority 500")]
    Move(Move),
}

#[derive(Debug, clap::Args)]
struct Of {
    /// A batch (its latest generation), or a request by its message id or run
    #[arg(required = true, value_name = "BATCH|ID")]
    names: Vec<String>,
    /// Only this row of the batch; may be given several times
    #[arg(long = "row", value_name = "N")]
    rows: Vec<u64>,
    /// An earlier generation of the batch (`sluice watch` lists them)
    #[arg(long, value_name = "UUID")]
    run: Option<Uuid>,
    /// It is a batch, though nobody has announced it
    #[arg(long, conflicts_with = "run")]
    unannounced: bool,
    /// Who does it, for the audit (default: user@host)
    #[arg(long, value_name = "WHO")]
    by: Option<String>,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lane: lane::Args,
}

#[derive(Debug, clap::Args)]
struct Move {
    #[command(flatten)]
    of: Of,
    /// Not to be sent before this (no offset: the zone of this machine)
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_before: Option<Timestamp>,
    /// Not to be sent after this
    #[arg(long, value_name = "TIME", value_parser = time)]
    deadline: Option<Timestamp>,
    /// 0 to 65535; higher is more urgent
    #[arg(long, value_name = "N")]
    priority: Option<u16>,
}

/// What was ordered, and what has come of it.
#[derive(Debug, serde::Serialize)]
struct Told {
    order: Uuid,
    of: Target,
    change: Change,
    /// Absent: no worker has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    obeyed: Option<Obeyed>,
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let (of, change) = match &args.command {
        Action::Cancel(of) => (of, Change { cancel: true, ..Change::default() }),
        Action::Hold(of) => (of, Change { hold: Some(true), ..Change::default() }),
        Action::Release(of) => (of, Change { hold: Some(false), ..Change::default() }),
        Action::Move(Move { of, not_before, deadline, priority }) => {
            if let (Some(from), Some(until)) = (not_before, deadline)
                && from >= until
            {
                let why = format!(
                    "--not-before {from} is not before --deadline {until}: nothing could ever be sent"
                );
                return Err(Failure::usage(why));
            }
            let (not_before, deadline, priority) = (*not_before, *deadline, *priority);
            let change = Change { not_before, deadline, priority, ..Change::default() };
            if change == Change::default() {
                let why =
                    "nothing to move: give --not-before, --deadline, --priority or several of them";
                return Err(Failure::usage(why));
            }
            (of, change)
        }
    };
    let by = By { who: of.by.clone().unwrap_or_else(|| who(world)), why: of.reason.clone() };
    let config = of.lane.load(world, false)?.config;
    runtime()?.block_on(order(of, &change, &by, &config))
}

async fn order(of: &Of, change: &Change, by: &By, config: &Config) -> Result<Exit, Failure> {
    let targets = targets(of, config).await?;
    let now = Timestamp::now();
    let acts: Vec<Act> =
        targets.into_iter().map(|of| Act::ordered(of, change.clone(), by, now)).collect();
    let planner = Planner::open(&config.broker, &config.queues).await.map_err(failure)?;
    planner.order(&acts).await.map_err(failure)?;
    planner.close().await;
    let mut told = Vec::new();
    let mut trouble = None;
    let until = Instant::now() + PATIENCE;
    for act in acts {
        let Act { id, order: Some(order), .. } = act else { continue };
        let obeyed = match &trouble {
            None => match obeyed(id, by, config, until).await {
                Ok(obeyed) => Some(obeyed),
                Err(why) => {
                    trouble = Some(why);
                    None
                }
            },
            Some(_) => None,
        };
        told.push(Told { order: id, of: order.of, change: order.change, obeyed });
    }
    if of.json {
        let json = serde_json::to_string_pretty(&told).unwrap_or_default();
        print_json(&format!("{json}\n"));
    } else {
        for one in &told {
            print(&format!("{}\n", words(one)));
        }
    }
    if let Some(why) = trouble {
        eprintln!(
            "sluice: {why}. The order is kept: a worker obeys it before it sends anything else."
        );
    }
    Ok(Exit::Done)
}

/// What the order is about, by what the results stream knows.
async fn targets(of: &Of, config: &Config) -> Result<Vec<Target>, Failure> {
    if !of.rows.is_empty() && of.names.len() > 1 {
        let why = format!("--row is a row of one batch, and {} names are given", of.names.len());
        return Err(Failure::usage(why));
    }
    let known = if of.unannounced || of.run.is_some() {
        BTreeMap::new()
    } else {
        generations(&of.names, config).await?
    };
    let mut targets = Vec::new();
    for name in &of.names {
        let run = match known.get(name) {
            Some(run) => *run,
            None if of.unannounced || of.run.is_some() => {
                if !is_batch_id(name) {
                    let why = format!(
                        "{name:?} is no batch id: 1 to 64 of the characters A-Z a-z 0-9 _ -"
                    );
                    return Err(Failure::usage(why));
                }
                of.run
            }
            None if of.rows.is_empty() => {
                eprintln!(
                    "{name}: no batch of this name was announced, so it is taken for the id of a request (a batch of \
                     another client: --unannounced)"
                );
                targets.push(Target::Request(name.clone()));
                continue;
            }
            None => {
                let why = format!(
                    "no batch {name:?} was announced, and --row is a row of a batch: `sluice watch` lists the batches; \
                     one of another client needs --unannounced"
                );
                return Err(Failure::usage(why));
            }
        };
        let batch = |row| Target::Batch { id: name.clone(), run, row };
        if of.rows.is_empty() {
            targets.push(batch(None));
        }
        targets.extend(of.rows.iter().map(|row| batch(Some(*row))));
    }
    Ok(targets)
}

/// The latest generation of each of these batches, as far as the results stream knows them.
async fn generations(
    names: &[String],
    config: &Config,
) -> Result<BTreeMap<String, Option<Uuid>>, Failure> {
    let meant = names.iter().filter(|name| is_batch_id(name));
    let meant: Vec<_> = meant.map(|name| BatchPattern::One(name.clone())).collect();
    let mut results = watch::open(config, ReadFrom::First).await?.only(meant);
    let mut batches = Batches::default();
    while !results.is_caught_up() {
        if let Some(event) = results.next().await {
            batches.take(&event);
        }
    }
    results.close().await;
    let latest = |name: &String| Some((name.clone(), batches.latest(name)?.run));
    Ok(names.iter().filter_map(latest).collect())
}

/// What the active worker says that the order has done.
async fn obeyed(order: Uuid, by: &By, config: &Config, until: Instant) -> Result<Obeyed, String> {
    let issued =
        IssuedCommand { command: Command::Obeyed { order }, by: by.who.clone(), reason: None };
    loop {
        match broker::ask(&config.broker, &config.queues, &issued).await {
            Ok(answer) => match answer.obeyed {
                Some(obeyed) => return Ok(obeyed),
                None if Instant::now() > until => {
                    return Err("the active worker has not come to it yet".to_owned());
                }
                None => tokio::time::sleep(AGAIN).await,
            },
            Err(NotAsked::Nobody { .. }) => return Err("no worker is active".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn words(told: &Told) -> String {
    let here = match told.obeyed {
        None => String::new(),
        Some(Obeyed { here, in_doubt, parked }) => {
            let doubt = match in_doubt {
                0 => String::new(),
                some => format!(", {some} of them in doubt and looked up first"),
            };
            format!("; {here} in the worker's window{doubt}, {parked} parked are looked through")
        }
    };
    let Told { of, change, .. } = told;
    format!("{of}: {change}{here}; what is in the queue is met by the order when it comes")
}

fn failure(error: PlannerError) -> Failure {
    match error {
        PlannerError::Settings(_) => Failure::usage(error),
        error => Failure::unreachable(error),
    }
}

//! `sluice run`: the worker, a lane for each configuration file.

mod keep;
mod notify;
mod reload;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::Instrument as _;

use keep::{WAITS, keep};
use reload::{Followed, Reload};

use super::{Exit, Failure, World, lanes, signals::Signals};
use crate::broker::dead_letters::Review;
use crate::commands::run::notify::Notifier;
use crate::config::values::parse_size;
use crate::lane::wiring::{self, Lane, told_to_stop};
use crate::lane::{Config, Loaded};
use crate::message::status;
use crate::observe::log::{self, Level};
use crate::observe::traces::Traces;
use crate::web::console;
use crate::web::http::{self, Doors, Tokens};
use crate::worker::recording;

/// So long a page waits for another reviewer.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGTERM or SIGINT stops it gracefully: what is in flight ends, the rest stays in the queue.
A second one stops it at once. SIGHUP reads the files again: limits.rates, limits.max_in_flight,
limits.max_running, schedule.windows and log.level change; an invalid file changes nothing.
GET /readyz on http.listen says whether it is attached, and why not.
A recording holds ids, names, times and codes; no bodies, no tokens. Several lanes: FILE.LANE each.
Example: sluice run -c singapore.toml -c bangkok.toml")]
pub(super) struct Args {
    #[command(flatten)]
    lanes: lanes::Args,
    /// Write down what is told and decided, for `sluice replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// A recording ends at this size; the worker goes on
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, requires = "record")]
    record_size: u64,
    /// Recordings that are kept: FILE, FILE.1, ...
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..), requires = "record")]
    record_keep: u8,
}

impl Args {
    /// Where a lane's recording goes, if there is one.
    fn recording(&self, lane: &str, several: bool) -> Option<recording::Options> {
        let mut file = self.record.clone()?.into_os_string();
        if several {
            file.push(format!(".{lane}"));
        }
        let (bytes, keep) = (self.record_size, self.record_keep.into());
        Some(recording::Options { file: file.into(), bytes, keep })
    }

    /// Nothing but recordings makes way for a recording, and no lane's for another one's.
    fn check_recordings<'a>(
        &self,
        lanes: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        let several = lanes.len() > 1;
        let mut taken = BTreeSet::new();
        for options in lanes.filter_map(|lane| self.recording(lane, several)) {
            options.check().map_err(Failure::usage)?;
            if let Some(twice) = options.files().find(|file| !taken.insert(file.clone())) {
                return Err(Failure::usage(format!(
                    "two lanes would record to {}: lanes are named after their files, and .1, .2, ... are earlier recordings; rename one of them",
                    twice.display()
                )));
            }
        }
        Ok(())
    }
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let lanes = args.lanes.load(world)?;
    args.check_recordings(lanes.iter().map(|(name, _)| &**name))?;
    // One process has one log and one port: those of the first lane.
    let first = &lanes[0].1.config;
    let log = log::start(&first.log).map_err(Failure::usage)?;
    for (name, loaded) in &lanes {
        for warning in &loaded.warnings {
            tracing::warn!(lane = %name, "{warning}");
        }
    }
    let traces = Traces::from_env(&world.env).map_err(Failure::usage)?;
    let exit =
        super::runtime()?.block_on(serve(lanes, log.level.clone(), traces.as_ref(), args, world));
    if let Some(traces) = traces {
        traces.finish();
    }
    exit
}

async fn serve(
    loaded: Vec<(String, Loaded)>,
    level: Level,
    traces: Option<&Traces>,
    args: &Args,
    world: &World,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen().map_err(Failure::usage)?;
    tokio::spawn(log::tell_of_dropped_lines());
    let reload = Reload::listen(level).map_err(Failure::usage)?;
    let worker = worker_name(world);
    let several = loaded.len() > 1;
    let (mut lanes, mut followed) = (Vec::new(), Vec::new());
    for (name, loaded) in loaded {
        let prepared = wiring::prepare(name, loaded.config.clone(), &worker).await;
        let mut lane = prepared.map_err(Failure::usage)?;
        lane.traces = traces.cloned();
        lane.recording = args.recording(&lane.name, several);
        followed.push(Followed { loaded, hot: lane.hot.clone() });
        lanes.push(lane);
    }
    let (stop, stopping) = watch::channel(false);
    let listening = listen(&lanes, world, stopping.clone()).await?;
    let supervisor = Notifier::new(world.env.get("NOTIFY_SOCKET").map(String::as_str));
    // Ready is what /healthz means by it: a broker that is away is waited for, and no reason to start anew.
    supervisor.ready("running; /readyz says whether the broker is attached");
    let workers =
        lanes.into_iter().map(|lane| run_lane(lane, worker.clone(), several, stopping.clone()));
    let workers = join_all(workers);
    let stopper = async {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping: what is in flight ends, the rest stays in the queue");
        supervisor.stopping();
        let _ = stop.send(true);
        signals.give_up().await
    };
    tokio::select! {
        _ = workers => {}
        _ = stopper => {}
        () = reload.follow(&args.lanes, world, followed) => {}
    }
    if let Some(listening) = listening {
        let _ = listening.await;
    }
    tracing::info!("stopped");
    Ok(Exit::Done)
}

type Listening = tokio::task::JoinHandle<()>;

/// Where people reach the console: as configured, or by the address, or by this machine's name where it listens on all.
fn console_url(configured: Option<&str>, address: SocketAddr, host: &str) -> String {
    match configured {
        Some(url) => url.to_owned(),
        None if address.ip().is_unspecified() => format!("http://{host}:{}", address.port()),
        None => format!("http://{address}"),
    }
}

async fn listen(
    lanes: &[Lane],
    world: &World,
    stopping: watch::Receiver<bool>,
) -> Result<Option<Listening>, Failure> {
    let http = &lanes[0].config.http;
    let Some(address) = http.listen else { return Ok(None) };
    let tokens = Tokens::from_settings(http).map_err(Failure::usage)?;
    let doors = Doors::new(tokens, address).map_err(Failure::usage)?;
    let doors = Arc::new(doors.open_on_loopback(http.open_on_loopback));
    let console = lanes.iter().map(|lane| console::Lane {
        status: lane.status.subscribe(),
        orders: lane.orders.subscribe(),
        hour: console::Hour::keep(lane.status.subscribe(), Arc::clone(&lane.metrics)),
        review: review(&lane.config),
    });
    let console = console::router(console.collect(), &doors);
    let (places, warning) = places(lanes);
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    let listener = http::bind(address).await.map_err(Failure::usage)?;
    let told = lanes.iter().map(|lane| http::Lane {
        metrics: Arc::clone(&lane.metrics),
        status: lane.status.subscribe(),
        orders: lane.orders.subscribe(),
    });
    let router = http::router(told.collect(), &doors).merge(console);
    // Port 0 is a free one, so say which.
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "listening");
    let console = console_url(http.url.as_deref(), address, &super::host(world));
    for lane in lanes {
        lane.status.send_modify(|status| status.console = Some(console.clone()));
    }
    Ok(Some(tokio::spawn(http::serve(listener, router, places, told_to_stop(stopping)))))
}

/// How many connections HTTP may have, so that the lanes always have files for theirs.
fn places(lanes: &[Lane]) -> (usize, Option<String>) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let in_flight = lanes.iter().map(|lane| lane.config.core().gate.max_in_flight);
    http::places(limit, in_flight)
}

/// What the console reviews dead letters with.
fn review(config: &Config) -> Review {
    Review {
        max_bytes: config.window.max_bytes,
        patience: PATIENCE,
        who: "the console".into(),
        ..Review::new(&config.broker, &config.queues, config.contract.rules())
    }
}

/// Runs one lane until it is told to stop, and has left the broker; a panic in it is this lane's trouble alone.
async fn run_lane(lane: Lane, worker: String, several: bool, stopping: watch::Receiver<bool>) {
    let down = |why: &str| {
        tracing::error!(lane = %lane.name, why, "a lane is down; the others go on");
        lane.orders.send_replace(None);
        let (why, since) = (why.to_owned(), Timestamp::now());
        lane.status
            .send_modify(|status| status.session = status::SessionStatus::Detached { why, since });
    };
    keep(WAITS, stopping.clone(), down, || {
        // Of the highest level, or `log.level = "warn"` would take the name from the warnings too.
        let span = several.then(|| tracing::error_span!("lane", name = %lane.name));
        let work = wiring::work(lane.clone(), worker.clone(), stopping.clone());
        work.instrument(span.unwrap_or_else(tracing::Span::none))
    })
    .await;
}

/// Host and process: the name in results, on connections and in the audit trail.
pub(super) fn worker_name(world: &World) -> String {
    format!("{}-{}", super::host(world), std::process::id())
}

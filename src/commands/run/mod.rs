//! `sluice run`: the worker, a lane for each configuration file.

mod keep;
mod notify;
mod reload;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use keep::{WAITS, keep};
use reload::{Followed, Reload};

use super::{Exit, Failure, World, lanes, signals::Signals};
use crate::api::Client;
use crate::broker::dead_letters::Review;
use crate::broker::{self, Broker, topology};
use crate::commands::run::notify::Notifier;
use crate::config::values::parse_size;
use crate::core::{Hot, Settings};
use crate::lane::{Config, Loaded};
use crate::message::command::PendingCommand;
use crate::message::status::{self, Status};
use crate::observe::log::{self, Level};
use crate::observe::metrics::Metrics;
use crate::observe::traces::Traces;
use crate::observe::{Observer, SourceStatus};
use crate::web::console;
use crate::web::http::{self, Operator};
use crate::worker::clock::Clock;
use crate::worker::recording::{self, Recording};
use crate::worker::source::Source;
use crate::worker::{Watch, Worker};

/// So long a page waits for another reviewer.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGTERM or SIGINT stops it gracefully: what is in flight ends, the rest stays in the queue.
A second one stops it at once. SIGHUP reads the files again: limits.rates, limits.max_in_flight,
limits.max_running, schedule.windows and log.level change; an invalid file changes nothing.
GET /readyz on http.listen says whether it is attached, and why not.
A recording holds no bodies and no secrets. With several lanes each has its own: FILE.LANE.
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
}

pub(super) fn run(args: &Args, world: &World) -> Result<Exit, Failure> {
    let lanes = args.lanes.load(world)?;
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

/// A lane that is ready to run.
#[derive(Clone)]
struct Lane {
    name: String,
    config: Config,
    client: Client,
    metrics: Arc<Metrics>,
    traces: Option<Traces>,
    recording: Option<recording::Options>,
    status: watch::Sender<Status>,
    /// What of the configuration may change meanwhile.
    hot: watch::Sender<Hot>,
    /// The way to its loop, while that runs.
    orders: watch::Sender<Option<mpsc::Sender<PendingCommand>>>,
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
        let mut lane = prepare(name, loaded.config.clone(), &worker, several).await?;
        lane.traces = traces.cloned();
        lane.recording = args.recording(&lane.name, several);
        followed.push(Followed { loaded, hot: lane.hot.clone() });
        lanes.push(lane);
    }
    let (stop, stopping) = watch::channel(false);
    let listening = listen(&lanes, stopping.clone()).await?;
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

/// Everything that can fail for good fails here. A broker that is away comes back: the worker waits for it.
async fn prepare(
    name: String,
    config: Config,
    worker: &str,
    several: bool,
) -> Result<Lane, Failure> {
    let client = Client::new(&config.api).map_err(Failure::usage)?;
    let objects = if config.queues.declare {
        topology::apply(&config.broker, &config.queues).await.map(drop)
    } else {
        super::topology::compare(&config).await
    };
    match objects {
        Ok(()) => {}
        Err(topology::TopologyError::Unreachable(why)) => {
            tracing::warn!(lane = %name, %why, "the broker is unreachable; retrying");
        }
        Err(error) => return Err(Failure::usage(format!("lane {name}: {error}"))),
    }
    let metrics = Metrics::new(several.then_some(&*name)).map_err(Failure::usage)?;
    let status = Status::starting(&name, worker, Timestamp::now());
    Ok(Lane {
        name,
        hot: watch::Sender::new(config.hot()),
        config,
        client,
        metrics: Arc::new(metrics),
        traces: None,
        recording: None,
        status: watch::Sender::new(status),
        orders: watch::Sender::new(None),
    })
}

type Listening = tokio::task::JoinHandle<()>;

async fn listen(
    lanes: &[Lane],
    stopping: watch::Receiver<bool>,
) -> Result<Option<Listening>, Failure> {
    let http = &lanes[0].config.http;
    let Some(address) = http.listen else { return Ok(None) };
    let operator = Operator::from_settings(http).map_err(Failure::usage)?;
    let console = lanes.iter().map(|lane| console::Lane {
        status: lane.status.subscribe(),
        orders: lane.orders.subscribe(),
        hour: console::Hour::keep(lane.status.subscribe(), Arc::clone(&lane.metrics)),
        review: review(&lane.config),
    });
    let console =
        console::router(console.collect(), operator.clone(), address).map_err(Failure::usage)?;
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
    let router = http::router(told.collect(), operator, address).merge(console);
    // Port 0 is a free one, so say which.
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(%address, "listening");
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
        let work = work(lane.clone(), worker.clone(), stopping.clone());
        work.instrument(span.unwrap_or_else(tracing::Span::none))
    })
    .await;
}

async fn work(lane: Lane, worker: String, stopping: watch::Receiver<bool>) {
    let Lane { name, config, client, metrics, traces, recording, status, hot, orders } = lane;
    let clock = Clock::start();
    let confirmed = Arc::clone(&metrics);
    let source = Broker::start(broker::Options {
        settings: config.broker.clone(),
        queues: config.queues.clone(),
        rules: config.contract.rules(),
        window: config.deliveries(),
        max_hold: config.window.max_hold,
        max_bytes: config.window.max_bytes,
        worker,
        clock,
        on_confirm: Arc::new(move |took| confirmed.confirmed(took)),
    });
    let around = around(&source, client.clone());
    let observer = Observer::new(metrics, status, around).tracing(traces);
    let refresher = client.clone();
    // Ends with this lane, however that ends.
    let mut renewal = JoinSet::new();
    renewal.spawn(async move { refresher.keep_fresh().await }.in_current_span());
    let (sender, inbox) = mpsc::channel(16);
    orders.send_replace(Some(sender));
    tracing::info!(lane = %name, "the worker begins");
    let changes = hot.subscribe();
    let seed = fastrand::u64(..);
    tracing::info!(seed, "all chance in this worker's decisions comes from this seed");
    let core = Settings { seed, ..config.core().with(&changes.borrow()) };
    let worker = Worker::new(source, Arc::new(client), observer, core, clock).following(changes);
    let (worker, recording) = record(worker, recording.as_ref());
    worker.run(told_to_stop(stopping), inbox).await;
    if let Some(recording) = recording {
        recording.finish().await;
    }
}

/// A recording that cannot begin keeps no worker from working.
fn record<W>(
    worker: Worker<Broker, Client, W>,
    options: Option<&recording::Options>,
) -> (Worker<Broker, Client, W>, Option<Recording>)
where
    W: Watch<<Broker as Source>::Delivery>,
{
    let Some(options) = options else { return (worker, None) };
    match Recording::begin(options) {
        Ok((tape, recording)) => (worker.recording(tape), Some(recording)),
        Err(error) => {
            let file = options.file.display();
            tracing::warn!(%file, %error, "nothing is recorded: the file cannot be opened; the worker goes on");
            (worker, None)
        }
    }
}

async fn told_to_stop(mut stopping: watch::Receiver<bool>) {
    // A sender that is gone means that the process ends.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// What the observer asks for with each snapshot.
fn around(source: &Broker, client: Client) -> impl Fn() -> SourceStatus + Send + use<> {
    let (status, spill) = (source.status(), source.spill());
    let latest = Mutex::new((broker::State::default(), Timestamp::now()));
    move || {
        let now = status.borrow().clone();
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.0 != now.state {
            *latest = (now.state.clone(), Timestamp::now());
        }
        let (in_memory, in_file) = spill.held();
        let queues = now.requests.zip(now.dead_letters);
        SourceStatus {
            session: session(&now, latest.1),
            queues: queues.map(|(requests, dead_letters)| status::Queues {
                requests: requests.into(),
                dead_letters: dead_letters.into(),
            }),
            others: (now.others.consumers > 0).then_some(status::Others {
                consumers: now.others.consumers,
                receives: now.others.receives,
            }),
            window_bytes: in_memory + in_file,
            spill_failures: spill.trouble().1,
            token_expiry: client.token_expiry(),
        }
    }
}

fn session(broker: &broker::Status, since: Timestamp) -> status::SessionStatus {
    let detached = |why: &str| status::SessionStatus::Detached { why: why.to_owned(), since };
    match &broker.state {
        broker::State::Connecting | broker::State::Lost { .. } if broker.blocked => detached(
            "the broker is in an alarm (memory or disk) and takes no message, so it cannot be asked which worker is the active one; it goes on when the alarm ends",
        ),
        broker::State::Connecting => detached("connecting"),
        broker::State::Standby => status::SessionStatus::Standby { since },
        broker::State::Active { .. } => {
            let server = broker.server.map(|version| version.to_string()).unwrap_or_default();
            status::SessionStatus::Active { since, server, unchecked: broker.unchecked.clone() }
        }
        broker::State::Lost { why } => detached(why),
        broker::State::Left => detached("left"),
    }
}

/// Host and process: the name in results, on connections and in the audit trail.
pub(super) fn worker_name(world: &World) -> String {
    format!("{}-{}", super::host(world), std::process::id())
}

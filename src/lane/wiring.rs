//! How do the parts of one lane come together? Its API client, its source, its observer and its core, in one loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::Config;
use crate::api::Client;
use crate::broker::topology::TopologyError;
use crate::broker::{self, Broker, topology};
use crate::core::{Hot, Settings};
use crate::message::command::PendingCommand;
use crate::message::status::{self, Status};
use crate::observe::metrics::Metrics;
use crate::observe::traces::Traces;
use crate::observe::{Observer, SourceStatus};
use crate::worker::clock::Clock;
use crate::worker::recording::{self, Recording};
use crate::worker::source::Source;
use crate::worker::{Watch, Worker};

/// A lane that is ready to run.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Option<Traces>,
    pub(crate) recording: Option<recording::Options>,
    /// It has started before in this process, and panicked.
    pub(crate) restarted: Arc<AtomicBool>,
    pub(crate) status: watch::Sender<Status>,
    /// What of the configuration may change meanwhile.
    pub(crate) hot: watch::Sender<Hot>,
    /// The way to its loop, while that runs.
    pub(crate) orders: watch::Sender<Option<mpsc::Sender<PendingCommand>>>,
}

/// Everything that can fail for good fails here. A broker that is away comes back: the worker waits for it.
pub(crate) async fn prepare(name: String, config: Config, worker: &str) -> Result<Lane, String> {
    let client = Client::new(&config.api).map_err(|error| error.to_string())?;
    let objects = if config.queues.declare {
        topology::apply(&config.broker, &config.queues).await.map(drop)
    } else {
        compare(&config).await
    };
    match objects {
        Ok(()) => {}
        Err(topology::TopologyError::Unreachable(why)) => {
            tracing::warn!(lane = %name, %why, "the broker is unreachable; retrying");
        }
        // It may have been changed on one side, and is about to be on the other.
        Err(topology::TopologyError::LogIn(why)) => {
            tracing::error!(lane = %name, %why, "the broker refuses the log-in; retrying");
        }
        Err(error) => return Err(format!("lane {name}: {error}")),
    }
    let metrics = Metrics::new(&name).map_err(|error| error.to_string())?;
    let status = Status::starting(&name, worker, Timestamp::now());
    Ok(Lane {
        name,
        hot: watch::Sender::new(config.hot()),
        config,
        client,
        metrics: Arc::new(metrics),
        traces: None,
        recording: None,
        restarted: Arc::default(),
        status: watch::Sender::new(status),
        orders: watch::Sender::new(None),
    })
}

/// Compares before a worker begins that must not declare; a mismatch is an error.
async fn compare(config: &Config) -> Result<(), TopologyError> {
    let report = topology::check(&config.broker, &config.queues).await?;
    if report.mismatches.is_empty() {
        Ok(())
    } else {
        Err(TopologyError::Mismatch(report.mismatches))
    }
}

/// Works until it is told to stop, and has left the broker.
pub(crate) async fn work(lane: Lane, worker: String, stopping: watch::Receiver<bool>) {
    let Lane { name, config, client, metrics, traces, recording, restarted, status, hot, orders } =
        lane;
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
    let core = Settings { seed, parks: true, ..config.core().with(&changes.borrow()) };
    let worker = Worker::new(source, Arc::new(client), observer, core, clock).following(changes);
    let again = restarted.swap(true, Ordering::Relaxed);
    let (worker, recording) = record(worker, recording.as_ref(), again);
    worker.run(told_to_stop(stopping), inbox).await;
    if let Some(recording) = recording {
        recording.finish().await;
    }
}

/// A recording that cannot begin keeps no worker from working.
fn record<W>(
    worker: Worker<Broker, Client, W>,
    options: Option<&recording::Options>,
    again: bool,
) -> (Worker<Broker, Client, W>, Option<Recording>)
where
    W: Watch<<Broker as Source>::Delivery>,
{
    let Some(options) = options else { return (worker, None) };
    if again {
        let file = options.file.display();
        tracing::warn!(%file, "nothing more is recorded: the file holds what led to the panic; the worker goes on");
        return (worker, None);
    }
    match Recording::begin(options) {
        Ok((tape, recording)) => (worker.recording(tape), Some(recording)),
        Err(error) => {
            let file = options.file.display();
            tracing::warn!(%file, %error, "nothing is recorded: the file cannot be opened; the worker goes on");
            (worker, None)
        }
    }
}

pub(crate) async fn told_to_stop(mut stopping: watch::Receiver<bool>) {
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
            foreign: now.foreign,
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
            "the broker has raised a resource alarm (memory or disk) and takes no message, so it cannot be asked which worker is the active one; it goes on when the alarm ends",
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

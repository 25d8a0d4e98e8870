//! Where do log lines go, in which form, and from which level? To stderr, as `[log]` says; the level can be changed
//! while the worker runs. Nothing waits for whoever reads them.

mod fields;
mod lines;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::OnceLock;
use std::time::Duration;

use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use fields::Fields;
use lines::{Dropped, Guard, Lines};

/// `[log]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// There is one log a process, as there is one subscriber.
static DROPPED: OnceLock<Dropped> = OnceLock::new();

/// How often it is looked whether lines were dropped.
const LOOK: Duration = Duration::from_secs(5);

/// How many lines of the log nobody will read: its reader did not keep up, or the system did not take them.
pub fn dropped() -> u64 {
    DROPPED.get().map_or(0, Dropped::count)
}

/// Changes the level of a running worker.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// `level` is what `log.level` takes.
    ///
    /// # Errors
    /// Says that it is no level.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level)?;
        self.0.reload(filter).map_err(|e| e.to_string())
    }
}

/// # Errors
/// Says that it is no level, and what there is.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let wrong = |_| {
        format!(
            "`{level}` is not a level: error, warn, info, debug, trace, or a filter such as info,lapin=warn"
        )
    };
    if level.contains("lapin") {
        return level.parse().map_err(wrong);
    }
    // The AMQP client calls every refusal an error, also those that were expected (a standby is refused every second),
    // and all that matters of them is logged where it is handled.
    format!("{level},lapin=off").parse().map_err(wrong)
}

/// The log of the process. What waits to be written is written at its end.
#[derive(Debug)]
#[must_use]
pub struct Logging {
    pub level: Level,
    _guard: Guard,
}

/// Starts logging for the whole process, once.
///
/// # Errors
/// The level is none, or logging has been started before.
pub fn start(log: &Log) -> Result<Logging, String> {
    let (filter, handle) = reload::Layer::new(filter(&log.level)?);
    let (lines, guard) = Lines::start(std::io::stderr(), log.format);
    let dropped = lines.dropped();
    let layer = fmt::layer().with_writer(lines);
    let layer = match log.format {
        LogFormat::Text => layer.fmt_fields(Fields).with_target(false).with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let started: Result<(), TryInitError> =
        tracing_subscriber::registry().with(filter).with(layer).try_init();
    started.map_err(|e| e.to_string())?;
    let _ = DROPPED.set(dropped);
    std::panic::set_hook(Box::new(log_panic));
    Ok(Logging { level: Level(handle), _guard: guard })
}

/// The usual hook writes to stderr itself, and would wait for its reader.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(%panic, backtrace, "a panic: this is a bug in sluice");
}

/// Says when lines were dropped, for as long as the process runs. The line that says so may be dropped itself: then the
/// next one says it.
pub async fn tell_of_dropped_lines() {
    let mut told = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let dropped = dropped();
        if dropped > told {
            let lines = dropped - told;
            told = dropped;
            tracing::warn!(
                lines,
                "lines of the log were dropped: whoever reads stderr is too slow, or it cannot be written"
            );
        }
    }
}

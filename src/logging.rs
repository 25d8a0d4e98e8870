//! Where do log lines go, in which form, and from which level? To stderr, as `[log]` says; the level can be changed
//! while the worker runs.

mod fields;
mod lines;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use crate::config::sections::{Log, LogFormat};
use fields::Fields;
use lines::Lines;

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
    lines: Lines,
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.lines.flush();
    }
}

/// Starts logging for the whole process, once.
///
/// # Errors
/// The level is none, or logging has been started before, or no thread can be.
pub fn start(log: &Log) -> Result<Logging, String> {
    let (filter, handle) = reload::Layer::new(filter(&log.level)?);
    let lines = Lines::start().map_err(|e| format!("the log cannot be started: {e}"))?;
    let layer = fmt::layer().with_writer(lines.clone());
    let layer = match log.format {
        LogFormat::Text => layer.fmt_fields(Fields).with_target(false).with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let started: Result<(), TryInitError> =
        tracing_subscriber::registry().with(filter).with(layer).try_init();
    started.map_err(|e| e.to_string())?;
    Ok(Logging { level: Level(handle), lines })
}

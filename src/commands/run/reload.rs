//! What does SIGHUP change? The keys of [`lane::HOT`], in every lane, if all of the files hold; else nothing at all.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::World;
use crate::commands::lanes;
use crate::core::Hot;
use crate::lane::{self, Loaded};
use crate::observe::log::Level;

/// Listens from the moment it is made: SIGHUP ends a process that does not.
pub(super) struct Reload {
    hangup: Signal,
    level: Level,
}

/// A lane as it was read last, and the way to its worker.
pub(super) struct Followed {
    pub(super) loaded: Loaded,
    pub(super) hot: watch::Sender<Hot>,
}

impl Reload {
    pub(super) fn listen(level: Level) -> std::io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, level })
    }

    /// Reads the configuration again with each SIGHUP, for ever. `lanes` are in the order of the arguments.
    pub(super) async fn follow(
        mut self,
        args: &lanes::Args,
        world: &World,
        mut lanes: Vec<Followed>,
    ) {
        while self.hangup.recv().await.is_some() {
            match args.load(world) {
                Ok(read) => {
                    for (i, ((name, loaded), lane)) in read.into_iter().zip(&mut lanes).enumerate()
                    {
                        self.take_over(i == 0, &name, loaded, lane);
                    }
                }
                Err(failure) => {
                    tracing::error!(why = failure.message, "SIGHUP: nothing is changed");
                }
            }
        }
        std::future::pending::<()>().await;
    }

    fn take_over(&self, first: bool, name: &str, loaded: Loaded, lane: &mut Followed) {
        for warning in &loaded.warnings {
            tracing::warn!(lane = %name, "{warning}");
        }
        let changed = loaded.differences(&lane.loaded);
        let (hot, cold): (Vec<&str>, Vec<&str>) =
            changed.iter().map(String::as_str).partition(|key| lane::HOT.contains(key));
        if first && let Err(why) = self.level.set(&loaded.config.log.level) {
            tracing::error!(why, "SIGHUP: the level of the log stays as it is");
        }
        let new = loaded.config.hot();
        lane.hot.send_if_modified(|old| {
            let differs = *old != new;
            *old = new;
            differs
        });
        tracing::info!(lane = %name, changed = hot.join(", "), "SIGHUP: the configuration was read again");
        if !cold.is_empty() {
            tracing::warn!(lane = %name, keys = cold.join(", "), "SIGHUP: these have changed too, and hold after a restart");
        }
        lane.loaded = loaded;
    }
}

//! What of the configuration does the core need? Plain values: the core knows no configuration.

use super::Config;
use crate::core::schedule::Schedule;
use crate::core::{Hot, Settings, gate, retry};

impl Config {
    /// What the worker's decisions depend on.
    pub fn core(&self) -> Settings {
        let retry = retry::RetrySettings {
            initial: self.retry.initial,
            multiplier: self.retry.multiplier,
            max: self.retry.max,
            attempts: self.retry.attempts,
            max_age: self.retry.max_age,
        };
        Settings {
            window: self.deliveries().into(),
            max_hold: self.window.max_hold,
            parks: false,
            linger: self.window.linger,
            aging: self.window.aging,
            gate: gate::GateSettings {
                rates: self.limits.rates.clone(),
                margin: self.limits.margin,
                max_in_flight: usize::try_from(self.limits.max_in_flight).unwrap_or(usize::MAX),
                halt_after: self.halt.after,
                probe: self.halt.probe,
                retry,
            },
            look_up: self.api.look_up,
            look_again: self.api.look_again(),
            clock_slack: self.api.clock_slack,
            schedule: Schedule::new(self.schedule.windows.clone()),
            answered_within: self.api.timeout,
            max_running: usize::try_from(self.limits.max_running).unwrap_or(usize::MAX),
            // Whoever starts a core draws one.
            seed: 0,
        }
    }

    /// The part of it that may change while the worker runs.
    pub fn hot(&self) -> Hot {
        let Settings { gate, schedule, max_running, .. } = self.core();
        Hot { rates: gate.rates, max_in_flight: gate.max_in_flight, max_running, schedule }
    }

    /// How many deliveries are held at once: the prefetch.
    pub fn deliveries(&self) -> u16 {
        self.window.deliveries()
    }
}

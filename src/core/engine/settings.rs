//! What of the configuration do decisions depend on, and what of it may change meanwhile?

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::gate;
use crate::core::rate::Rate;
use crate::core::schedule::Schedule;

/// Everything of the configuration that decisions depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// `window.size`: how many deliveries are held at most. What is remembered is bounded by it too, but for source servers
    /// in doubt.
    pub window: usize,
    pub max_hold: Duration,
    /// The source has a place beside the window for what waits for a time or for a planner's word.
    #[serde(default)]
    pub parks: bool,
    pub linger: Duration,
    /// `window.aging`: priority points gained per hour of waiting.
    pub aging: f64,
    pub gate: gate::GateSettings,
    /// `api.look_up`: `false` settles what is in doubt as `unknown`.
    pub look_up: bool,
    pub look_again: Duration,
    pub clock_slack: Duration,
    pub schedule: Schedule,
    /// `api.timeout`: nothing is started that cannot be answered before a schedule window ends.
    pub answered_within: Duration,
    /// `limits.max_running`; 0: not watched.
    pub max_running: usize,
    /// What all chance begins with: whoever starts a core draws it. The same inputs and the same seed have the same steps.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: 65_535,
            max_hold: Duration::from_secs(20 * 60),
            parks: false,
            linger: Duration::from_millis(5),
            aging: 0.0,
            gate: gate::GateSettings::default(),
            look_up: true,
            look_again: Duration::from_secs(45),
            clock_slack: Duration::from_secs(300),
            schedule: Schedule::default(),
            answered_within: Duration::from_secs(30),
            max_running: 0,
            seed: 0,
        }
    }
}

impl Settings {
    /// These, with what has changed since.
    #[must_use]
    pub fn with(mut self, hot: &Hot) -> Self {
        self.gate.rates.clone_from(&hot.rates);
        self.gate.max_in_flight = hot.max_in_flight;
        self.max_running = hot.max_running;
        self.schedule = hot.schedule.clone();
        self
    }
}

/// What of the settings may change while the worker runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hot {
    pub rates: Vec<Rate>,
    pub max_in_flight: usize,
    pub max_running: usize,
    pub schedule: Schedule,
}

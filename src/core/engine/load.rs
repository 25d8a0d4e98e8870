//! What stands before the end of a batch, as far as the window knows? For whoever forecasts it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Core, Hot};
use crate::core::time::Now;

/// More times than these are told as the latest.
const TIMES: usize = 64;

/// Requests that wait for the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    /// Not before this; absent: as soon as their turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
    pub requests: u64,
    /// Those of them whose migrations start by themselves.
    pub starts: u64,
}

/// What is held, and how fast it may go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// The requests of the batch that are held.
    pub held: Vec<Due>,
    /// Requests of others that are held and go before its last one.
    pub ahead: u64,
    /// Requests, of whatever batch, that wait for a time or a planner's word outside of the window, for what is known.
    #[serde(default)]
    pub parked: u64,
    /// Messages that wait in the queue, of whatever batch; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
    /// Migrations that run, where they are watched and counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Rates (an operator's, too), caps and schedule as they hold now.
    #[schemars(with = "serde_json::Value")]
    pub limits: Hot,
}

impl<D> Core<D> {
    /// What is held of this batch (`None`: of all) and before its end. Looks at every request.
    pub fn load(&self, now: Now, batch: Option<&str>) -> Load {
        let is_of = |of: Option<&str>| batch.is_none() || of == batch;
        let last = self.window.iter().filter(|(job, _)| is_of(job.request.batch()));
        let last = last.map(|(job, _)| job.request.priority).min();
        let (mut held, mut ahead) = (BTreeMap::<Option<Timestamp>, (u64, u64)>::new(), 0);
        for (job, _) in self.window.iter() {
            if !is_of(job.request.batch()) {
                ahead += u64::from(last.is_none_or(|last| job.request.priority >= last));
                continue;
            }
            let wakes = Some(job.wakes()).filter(|at| *at > now.at);
            let mut at = wakes.and_then(|at| now.wall.saturating_add(at - now.at).ok());
            if at.is_some() && held.len() >= TIMES && !held.contains_key(&at) {
                at = at.max(held.keys().next_back().copied().flatten());
            }
            let counts = held.entry(at).or_default();
            counts.0 += 1;
            counts.1 += u64::from(job.request.starts);
        }
        // What is in a call or being settled has no place in the window.
        let out = self.out.calling + self.out.settling;
        ahead += u64::try_from(out).unwrap_or_default();
        let held = held.into_iter();
        let gate = self.gate();
        Load {
            held: held.map(|(at, (requests, starts))| Due { at, requests, starts }).collect(),
            ahead,
            parked: u64::try_from(self.out.parking.len()).unwrap_or_default(),
            queued: None,
            running: None,
            limits: Hot {
                rates: gate.limits().rates().to_vec(),
                max_in_flight: gate.max_in_flight(),
                max_running: self.running.most(),
                schedule: self.settings.schedule.clone(),
            },
        }
    }
}

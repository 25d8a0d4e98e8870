//! What stands before the end of a batch, as far as the window knows? For whoever forecasts it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::timetable::Due;
use super::{Core, Hot};
use crate::core::request::Job;
use crate::core::time::Now;
use crate::core::window::Place;

/// What is held, and how fast it may go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// The requests of the batch that are held, or parked, but for those on hold.
    pub held: Vec<Due>,
    /// Those of them that wait until an order releases them.
    #[serde(default)]
    pub on_hold: u64,
    /// Requests of others that are held, wait for no time, and go before its last one.
    pub ahead: u64,
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
    /// What is held of this generation of this batch (`None`: of all) and before its end. Looks at every request.
    pub fn load(&self, now: Now, batch: Option<&str>, run: Option<Uuid>) -> Load {
        let is_of = |job: &Job<D>| {
            let request = &job.request;
            batch.is_none_or(|batch| request.batch() == Some(batch))
                && (run.is_none() || request.batch_run() == run)
        };
        let last = self.window.iter().filter(|(job, _)| is_of(job));
        let last = last.map(|(job, _)| job.request.priority).min();
        let (mut times, mut ahead) = (self.out.parking.timetable().of(batch, run), 0);
        for (job, place) in self.window.iter() {
            let wakes = Some(job.wakes()).filter(|at| *at > now.at);
            if is_of(job) {
                times.note(
                    &job.request,
                    wakes.and_then(|at| now.wall.saturating_add(at - now.at).ok()),
                );
            } else if wakes.is_none() && place != Place::Held {
                ahead += u64::from(last.is_none_or(|last| job.request.priority >= last));
            }
        }
        // What is in a call or being settled has no place in the window.
        let out = self.out.calling + self.out.settling;
        ahead += u64::try_from(out).unwrap_or_default();
        let gate = self.gate();
        Load {
            held: times.due,
            on_hold: times.on_hold,
            ahead,
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

//! Which requests come next, and what does each wait for? For people who look at the window.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Core;
use crate::core::request::{Doubt, Job};
use crate::core::time::Now;
use crate::core::window::Place;

/// The longest text of somebody else that is told, in characters.
const QUOTED: usize = 120;

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Waits {
    /// Its turn.
    Turn,
    /// The time that its planner set.
    NotBefore,
    /// An order that releases it.
    Release,
    /// The delay after an attempt that failed.
    Retry,
    /// A look-up: there may be a task already.
    Look,
    /// What becomes of another request for the same source server.
    Copy,
    /// The account refused it where others were not, or refuses its project: it is tried again by itself.
    Refused,
}

/// One request of the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Upcoming {
    #[schemars(with = "String")]
    pub run: uuid::Uuid,
    pub id: String,
    pub name: String,
    pub source_server_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    pub priority: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub enqueued_at: Option<Timestamp>,
    pub attempts: u32,
    pub waits: Waits,
    /// Not before this, where it waits for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
}

impl<D> Core<D> {
    /// The next `most` requests: first those whose turn has come, in their order; then those that wait for something
    /// else, the earliest first. Costs as much as it tells, however much is held.
    pub fn upcoming(&self, now: Now, most: usize) -> Vec<Upcoming> {
        let mut next = self.window.first_ready(most);
        next.extend(self.window.first_waiting(most - next.len()));
        next.into_iter().map(|(job, place)| tell(job, place, now)).collect()
    }

    /// The request of this run, if it waits in the window. Looks at every one.
    pub fn waiting(&self, now: Now, run: uuid::Uuid) -> Option<Upcoming> {
        let found = self.window.iter().find(|(job, _)| job.request.run.0 == run);
        found.map(|(job, place)| tell(job, place, now))
    }
}

fn tell<D>(job: &Job<D>, place: Place, now: Now) -> Upcoming {
    let request = &job.request;
    let short = |text: &str| text.chars().take(QUOTED).collect::<String>();
    let in_doubt = job.progress.doubt != Doubt::None;
    let (waits, until) = match place {
        Place::Copy => (Waits::Copy, None),
        Place::LookUp | Place::Swept => (Waits::Look, None),
        Place::Post => (Waits::Turn, None),
        Place::Group => (Waits::Refused, None),
        Place::Aside => (Waits::Refused, now.wall.saturating_add(job.progress.until - now.at).ok()),
        Place::Held => (Waits::Release, None),
        Place::Until | Place::Planned => {
            let waits = match place {
                Place::Planned => Waits::NotBefore,
                _ if in_doubt => Waits::Look,
                _ => Waits::Retry,
            };
            (waits, now.wall.saturating_add(job.wakes() - now.at).ok())
        }
    };
    Upcoming {
        run: request.run.0,
        id: short(&request.id.get()),
        name: short(&request.name.get()),
        source_server_id: short(&request.source_server_id.get()),
        batch: request.batch().map(str::to_owned),
        priority: request.priority,
        enqueued_at: request.enqueued_at.get(),
        attempts: job.progress.attempts,
        waits,
        until,
    }
}

//! Which requests come next, and what does each wait for? For people who look at the window.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Core;
use crate::core::request::{Doubt, Job, Request};
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
    /// Nothing: a call for it is under way, to send it or to look it up.
    Called,
    /// Nothing: it has ended, and that is being published.
    Ending,
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

/// Which requests are looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sought<'a> {
    /// With this in their name, source server, message id or batch, in any case.
    pub text: &'a str,
    /// Of this batch alone.
    pub batch: Option<&'a str>,
}

impl Sought<'_> {
    fn is_of(self, batch: Option<&str>) -> bool {
        self.batch.is_none_or(|wanted| batch == Some(wanted))
    }

    /// Whether it is this one.
    pub fn is(self, one: &Upcoming) -> bool {
        self.is_of(one.batch.as_deref()) && one.is_named(self.text)
    }
}

impl Upcoming {
    /// Whether `text` stands in one of the texts that people know it by, in any case.
    pub fn is_named(&self, text: &str) -> bool {
        let texts = [&self.name, &self.source_server_id, &self.id].map(String::as_str);
        texts.into_iter().chain(self.batch.as_deref()).any(|whole| contains(whole, text))
    }

    /// What it waits for, in words.
    pub fn waits_for(&self) -> &'static str {
        match (self.waits, self.until) {
            (Waits::Turn, _) => "its turn",
            (Waits::Called, _) => "the answer to its call",
            (Waits::Ending, _) => "its result to be stored",
            (Waits::NotBefore, _) => "its time",
            (Waits::Release, _) => "its release: it is held",
            (Waits::Retry, _) => "the next try",
            (Waits::Look, None) => "a look-up: is there a task already?",
            (Waits::Look, Some(_)) => "another look-up",
            (Waits::Copy, _) => "another request for this source server",
            (Waits::Refused, _) => {
                "another try: the account refused it, or its project, where others were not"
            }
        }
    }
}

impl<D> Core<D> {
    /// The next `most` requests: first those whose turn has come, in their order; then those that wait for something
    /// else, the earliest first. Costs as much as it tells, however much is held.
    pub fn upcoming(&self, now: Now, most: usize) -> Vec<Upcoming> {
        self.upcoming_from(now, 0, most)
    }

    /// The same without the first `from`; costs as much as if these were told, too.
    pub fn upcoming_from(&self, now: Now, from: usize, most: usize) -> Vec<Upcoming> {
        let upto = from.saturating_add(most);
        let mut next = self.window.first_ready(upto);
        next.extend(self.window.first_waiting(upto - next.len()));
        next.into_iter().skip(from).map(|(job, place)| tell(job, place, now)).collect()
    }

    /// Those that wait in the window and are sought, in their order; at most so many, without the first `from`. Looks at
    /// every one.
    pub fn find_waiting(
        &self,
        now: Now,
        sought: Sought<'_>,
        from: usize,
        most: usize,
    ) -> Vec<Upcoming> {
        let mut all = self.window.first_ready(usize::MAX);
        all.extend(self.window.first_waiting(usize::MAX));
        let found = all.into_iter().filter(|(job, _)| {
            let request = &job.request;
            sought.is_of(request.batch()) && is_named(request, sought.text)
        });
        found.skip(from).take(most).map(|(job, place)| tell(job, place, now)).collect()
    }

    /// The request of this run, if it waits in the window. Looks at every one.
    pub fn waiting(&self, now: Now, run: uuid::Uuid) -> Option<Upcoming> {
        let found = self.window.iter().find(|(job, _)| job.request.run.0 == run);
        found.map(|(job, place)| tell(job, place, now))
    }
}

/// Whether `text` stands in one of the texts that people know a request by, in any case.
fn is_named(request: &Request, text: &str) -> bool {
    let has = |whole: &str| contains(whole, text);
    has(&request.name.get())
        || has(&request.source_server_id.get())
        || has(&request.id.get())
        || request.batch().is_some_and(has)
}

/// Letters of ASCII count the same in either case.
fn contains(whole: &str, part: &str) -> bool {
    let (whole, part) = (whole.as_bytes(), part.as_bytes());
    part.is_empty() || whole.windows(part.len()).any(|at| at.eq_ignore_ascii_case(part))
}

/// A request that is out of the window: with the shell, which says for what.
pub fn out<D>(job: &Job<D>, waits: Waits) -> Upcoming {
    told(job, waits, None)
}

fn tell<D>(job: &Job<D>, place: Place, now: Now) -> Upcoming {
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
    told(job, waits, until)
}

fn told<D>(job: &Job<D>, waits: Waits, until: Option<Timestamp>) -> Upcoming {
    let request = &job.request;
    let short = |text: &str| text.chars().take(QUOTED).collect::<String>();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_in_any_case_is_found() {
        for part in ["", "web", "WEB-0", "b-01", "1"] {
            assert!(contains("Web-01", part), "{part}");
        }
        for part in ["web-02", "Web-011", "ü"] {
            assert!(!contains("Web-01", part), "{part}");
        }
    }
}

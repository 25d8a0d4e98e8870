//! The API as pure state: the tasks there are, and what one `POST` comes to.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;
use sluicegate::core::{Fault, Listing, Moment, Now, Task, Verdict};

/// What a call comes to, decided when it is made.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// Applied when it arrives, and answered.
    Answered,
    /// Applied so long after its start (`None`: never), and the worker learns nothing.
    Lost { applied: Option<Duration> },
    /// Answered with this; `applied`: when it arrived it was applied all the same.
    Refused { verdict: Verdict, applied: bool },
}

#[derive(Debug, Default)]
pub(crate) struct Api {
    /// In the order of the list.
    pub(crate) tasks: Vec<Task>,
    /// The source server of each task that a worker has created.
    pub(crate) created: Vec<String>,
    /// A second live task for a source server is refused.
    pub(crate) refuses_second: bool,
    pub(crate) newest_first: bool,
    pub(crate) page: usize,
}

impl Api {
    /// A `POST` is applied: the id of its task, or `None` if another one is in the way.
    pub(crate) fn apply(&mut self, now: Now, name: &str, source: &str) -> Option<String> {
        if self.refuses_second && self.tasks.iter().any(|task| task.source_server_id == source) {
            return None;
        }
        self.created.push(source.to_owned());
        Some(self.add(now, name, source))
    }

    /// A task appears that no worker has made.
    pub(crate) fn add(&mut self, now: Now, name: &str, source: &str) -> String {
        let id = format!("t{}", self.tasks.len());
        let task = Task {
            id: id.clone(),
            name: name.to_owned(),
            state: "RUNNING".to_owned(),
            source_server_id: source.to_owned(),
            target_vm_id: None,
            create_date: Some(now.wall),
        };
        let at = if self.newest_first { 0 } else { self.tasks.len() };
        self.tasks.insert(at, task);
        id
    }

    /// How many tasks workers have created for a source server.
    pub(crate) fn created_for(&self, source: &str) -> usize {
        self.created.iter().filter(|created| *created == source).count()
    }

    pub(crate) fn knows(&self, source: &str) -> bool {
        self.tasks.iter().any(|task| task.source_server_id == source)
    }

    pub(crate) fn look(&self, now: Now, source: &str) -> Listing {
        let tasks: Vec<Task> =
            self.tasks.iter().filter(|task| task.source_server_id == source).cloned().collect();
        let count = u32::try_from(tasks.len()).unwrap();
        Listing { tasks, count, date: Some(now.wall) }
    }

    pub(crate) fn list(&self, now: Now, offset: u32) -> Listing {
        let tasks = self.tasks.iter().skip(offset as usize).take(self.page).cloned().collect();
        let count = u32::try_from(self.tasks.len()).unwrap();
        Listing { tasks, count, date: Some(now.wall) }
    }
}

fn fault(code: &str) -> Fault {
    Fault { error_code: Some(code.to_owned()), error_msg: "said so".to_owned(), ..Fault::default() }
}

/// What a `POST` comes to in a rough world. `look_again`: nothing is applied later than that after its start.
pub(crate) fn post_fate(random: &mut SmallRng, look_again: Duration) -> Fate {
    let refused = |verdict| Fate::Refused { verdict, applied: false };
    match random.random_range(0..100) {
        0..8 => Fate::Lost { applied: Some(Duration::ZERO) },
        8..14 => Fate::Lost { applied: None },
        14..20 => {
            let latest = u64::try_from(look_again.as_millis()).unwrap() - 1;
            Fate::Lost { applied: Some(Duration::from_millis(random.random_range(0..latest))) }
        }
        20..26 => refused(Verdict::Transient { fault: fault("none"), answered: false }),
        26..32 => Fate::Refused {
            verdict: Verdict::Transient { fault: fault("SMS.6000"), answered: true },
            applied: random.random_ratio(1, 3),
        },
        32 => refused(Verdict::Rejected(fault("SMS.6033"))),
        33..35 => refused(call_trouble(random)),
        _ => Fate::Answered,
    }
}

/// What can become of a look or a page instead of an answer.
pub(crate) fn look_trouble(random: &mut SmallRng) -> Option<Verdict> {
    match random.random_range(0..100) {
        0..5 => Some(Verdict::Ambiguous { fault: fault("none"), conflict: false }),
        5..9 => Some(Verdict::Transient { fault: fault("none"), answered: false }),
        9 => Some(call_trouble(random)),
        _ => None,
    }
}

/// Answers that say nothing about the request.
fn call_trouble(random: &mut SmallRng) -> Verdict {
    match random.random_range(0..6) {
        0 => Verdict::Unauthorized(fault("SMS.6521")),
        1 => Verdict::Account { fault: fault("SMS.6529"), one_resource: false },
        2 => Verdict::Account { fault: fault("SMS.9004"), one_resource: true },
        3 => Verdict::Throttled { fault: fault("APIGW.0308"), wait: None, limit: None },
        4 => Verdict::Throttled {
            fault: fault("APIGW.0308"),
            wait: None,
            limit: Some((random.random_range(10..100), Duration::from_secs(5))),
        },
        _ => Verdict::Throttled {
            fault: fault("APIGW.0308"),
            wait: Some(Duration::from_secs(3)),
            limit: None,
        },
    }
}

pub(crate) fn conflict() -> Verdict {
    Verdict::Ambiguous { fault: fault("SMS.7605"), conflict: true }
}

pub(crate) fn silence() -> Verdict {
    Verdict::Ambiguous { fault: fault("none"), conflict: false }
}

/// The most calls that any closed window of this length saw.
pub(crate) fn busiest(window: Duration, arrivals: &[Moment]) -> usize {
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    let mut first = 0;
    let seen = (0..sorted.len()).map(|last| {
        while sorted[last] - sorted[first] > window {
            first += 1;
        }
        last - first + 1
    });
    seen.max().unwrap_or(0)
}

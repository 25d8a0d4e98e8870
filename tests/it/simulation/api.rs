//! The API as pure state: the tasks there are, and what one `POST` comes to.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::SmallRng;
use sluicegate::core::{Fault, Listing, Moment, Now, Request, Task, Text, Verdict};

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

impl Fate {
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Answered => "a POST answered",
            Self::Lost { applied: None } => "a POST that vanished",
            Self::Lost { applied: Some(Duration::ZERO) } => "a POST whose answer was lost",
            Self::Lost { .. } => "a POST applied late",
            Self::Refused { applied: true, .. } => "a POST applied and refused",
            Self::Refused { .. } => "a POST refused",
        }
    }
}

/// Every call comes to the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outage {
    Unreachable,
    Token,
    Account,
    Throttled,
}

/// What one request is answered, every time.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    pub(crate) post: Answer,
    /// `None`: its look-ups are answered well.
    pub(crate) look: Option<Answer>,
    /// It was delivered before, so it is looked up first.
    pub(crate) in_doubt: bool,
}

/// Each class of answer, as far as it does not end the request by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Account,
    OneResource,
    Unauthorized,
    Throttled,
    /// SMS itself says "try again".
    Transient,
    /// It never reaches the API.
    Unreachable,
    /// A timeout, a reset, a 5xx.
    Silence,
}

impl Answer {
    pub(crate) const ALL: [Self; 7] = [
        Self::Account,
        Self::OneResource,
        Self::Unauthorized,
        Self::Throttled,
        Self::Transient,
        Self::Unreachable,
        Self::Silence,
    ];

    fn any(random: &mut SmallRng) -> Self {
        Self::ALL[random.random_range(0..Self::ALL.len())]
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Account => "a request always refused as the account's",
            Self::OneResource => "a request always refused for one resource",
            Self::Unauthorized => "a request always answered 401",
            Self::Throttled => "a request always answered 429",
            Self::Transient => "a request always told to try again",
            Self::Unreachable => "a request that never reaches the API",
            Self::Silence => "a request never answered",
        }
    }

    pub(crate) fn verdict(self) -> Verdict {
        match self {
            Self::Account => Verdict::Account { fault: fault("SMS.9003"), one_resource: false },
            Self::OneResource => Verdict::Account { fault: fault("SMS.9004"), one_resource: true },
            Self::Unauthorized => Verdict::Unauthorized(fault("SMS.6521")),
            Self::Throttled => {
                Verdict::Throttled { fault: fault("APIGW.0308"), wait: None, limit: None }
            }
            Self::Transient => Verdict::Transient { fault: fault("SMS.8104"), answered: true },
            Self::Unreachable => Verdict::Transient { fault: fault("none"), answered: false },
            Self::Silence => silence(),
        }
    }
}

impl Poison {
    pub(crate) fn new(random: &mut SmallRng) -> Self {
        let post = Answer::any(random);
        let look = random.random_ratio(1, 3).then(|| Answer::any(random));
        Self { post, look, in_doubt: random.random_ratio(1, 3) }
    }

    /// Whether it must end all the same: it fails, and look-ups show that it is not the API.
    pub(crate) fn ends(&self) -> bool {
        self.look.is_none() && matches!(self.post, Answer::Transient | Answer::Silence)
    }

    /// What becomes of a `POST` of it.
    pub(crate) fn fate(&self) -> Fate {
        match self.post {
            Answer::Silence => Fate::Lost { applied: None },
            answer => Fate::Refused { verdict: answer.verdict(), applied: false },
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Api {
    /// In the order of the list, and whether the migration starts by itself. States are as of their creation.
    pub(crate) tasks: Vec<(Task, bool)>,
    /// Name and source server of each task that a worker has created.
    pub(crate) created: Vec<(String, String)>,
    /// The request that each task was made for, where its worker was told so. Of its runs, one that was replayed and one that a
    /// killed broker has brought back, either may be told of it.
    pub(crate) made_for: HashMap<String, Text>,
    /// Migrations fail at their end.
    pub(crate) fails: bool,
    /// A second live task for a source server is refused.
    pub(crate) refuses_second: bool,
    pub(crate) newest_first: bool,
    pub(crate) page: usize,
    /// How long a migration takes; `None`: for ever.
    pub(crate) lasts: Option<Duration>,
    pub(crate) outage: Option<Outage>,
}

impl Api {
    /// A `POST` is applied: the id of its task, or `None` if another one is in the way.
    pub(crate) fn apply(&mut self, now: Now, request: &Request) -> Option<String> {
        let (name, source) = (&*request.name.get(), &*request.source_server_id.get());
        if self.refuses_second && self.knows(source) {
            return None;
        }
        self.created.push((name.to_owned(), source.to_owned()));
        Some(self.add(now, name, source, request.starts))
    }

    /// Whether this task was made for another request.
    pub(crate) fn is_of_another(&self, id: &str, request: &Text) -> bool {
        self.made_for.get(id).is_some_and(|made_for| made_for != request)
    }

    fn is_ended(&self, task: &Task, starts: bool, now: Now) -> bool {
        [DONE, FAILED].contains(&self.state(task, starts, now))
    }

    /// A task appears, whoever has made it.
    pub(crate) fn add(&mut self, now: Now, name: &str, source: &str, starts: bool) -> String {
        let id = format!("t{}", self.tasks.len());
        let task = Task {
            id: id.clone(),
            name: name.to_owned(),
            state: "READY".to_owned(),
            source_server_id: source.to_owned(),
            target_vm_id: None,
            create_date: Some(now.wall),
        };
        let at = if self.newest_first { 0 } else { self.tasks.len() };
        self.tasks.insert(at, (task, starts));
        id
    }

    pub(crate) fn knows(&self, source: &str) -> bool {
        self.tasks.iter().any(|(task, _)| task.source_server_id == source)
    }

    /// Tasks of a source server that have not ended.
    pub(crate) fn live(&self, source: &str, now: Now) -> usize {
        let of = |task: &Task| task.source_server_id == source;
        self.tasks
            .iter()
            .filter(|(task, starts)| of(task) && !self.is_ended(task, *starts, now))
            .count()
    }

    /// Migrations that run or are about to.
    pub(crate) fn running(&self, now: Now) -> usize {
        self.tasks
            .iter()
            .filter(|(task, starts)| *starts && !self.is_ended(task, *starts, now))
            .count()
    }

    fn state(&self, task: &Task, starts: bool, now: Now) -> &'static str {
        let age = task.create_date.map(|at| now.wall.duration_since(at)).unwrap_or_default();
        let age = Duration::try_from(age).unwrap_or_default();
        match self.lasts {
            _ if !starts || age < Duration::from_secs(5) => "READY",
            Some(lasts) if age >= lasts && self.fails => FAILED,
            Some(lasts) if age >= lasts => DONE,
            _ => "RUNNING",
        }
    }

    fn rows(&self, now: Now) -> impl Iterator<Item = Task> {
        self.tasks.iter().map(move |(task, starts)| Task {
            state: self.state(task, *starts, now).to_owned(),
            ..task.clone()
        })
    }

    pub(crate) fn look(&self, now: Now, source: &str) -> Listing {
        let tasks = self.rows(now).filter(|task| task.source_server_id == source).collect();
        listing(now, tasks, None)
    }

    pub(crate) fn list(&self, now: Now, offset: u32) -> Listing {
        let tasks = self.rows(now).skip(offset as usize).take(self.page).collect();
        listing(now, tasks, Some(self.tasks.len()))
    }

    pub(crate) fn one(&self, now: Now, id: &str) -> Listing {
        listing(now, self.rows(now).filter(|task| task.id == id).collect(), None)
    }

    pub(crate) fn in_state(&self, now: Now, state: &str, offset: u32) -> Listing {
        let there: Vec<Task> = self.rows(now).filter(|task| task.state == state).collect();
        let count = there.len();
        let page = there.into_iter().skip(offset as usize).take(self.page).collect();
        listing(now, page, Some(count))
    }
}

/// The states of a migration that has ended.
const DONE: &str = "MIGRATE_SUCCESS";
const FAILED: &str = "MIGRATE_FAIL";

fn listing(now: Now, tasks: Vec<Task>, count: Option<usize>) -> Listing {
    let count = u32::try_from(count.unwrap_or(tasks.len())).unwrap();
    Listing { tasks, count, date: Some(now.wall), ..Listing::default() }
}

fn fault(code: &str) -> Fault {
    Fault { error_code: Some(code.to_owned()), error_msg: "said so".to_owned(), ..Fault::default() }
}

/// What a `POST` comes to in a rough world; it is applied within that time of its start or never.
pub(crate) fn post_fate(random: &mut SmallRng, applies_within: Duration) -> Fate {
    let refused = |verdict| Fate::Refused { verdict, applied: false };
    match random.random_range(0..100) {
        0..8 => Fate::Lost { applied: Some(Duration::ZERO) },
        8..14 => Fate::Lost { applied: None },
        14..20 => {
            let applied = applies_within.mul_f64(random.random());
            Fate::Lost { applied: Some(applied + Duration::from_nanos(1)) }
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

/// What can become of a look-up or a page instead of an answer.
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

pub(crate) fn outage(kind: Outage) -> Verdict {
    match kind {
        Outage::Unreachable => Verdict::Transient { fault: fault("none"), answered: false },
        Outage::Token => Verdict::Unauthorized(fault("SMS.6521")),
        Outage::Account => Verdict::Account { fault: fault("SMS.6529"), one_resource: false },
        Outage::Throttled => {
            Verdict::Throttled { fault: fault("APIGW.0308"), wait: None, limit: None }
        }
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

//! Did the client keep the promises? Arrivals, rates by sliding window, the order of the creates, and doubles.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::call::Kind;
use super::iam::Logins;
use crate::config::values::show_duration;
use crate::core::{Moment, Rate};

/// How many sources with doubles are named.
const NAMED: usize = 100;

/// What is remembered of each call; the oldest are dropped beyond the capacity.
#[derive(Debug)]
pub(super) struct Tally {
    capacity: usize,
    arrivals: VecDeque<Arrival>,
    creates: VecDeque<Create>,
    forgotten: u64,
    first_create: u64,
    calls: BTreeMap<Kind, u64>,
    answers: BTreeMap<String, u64>,
    error_codes: BTreeMap<String, u64>,
    made: HashMap<String, u32>,
    tasks_created: u64,
    in_flight: u64,
    max_in_flight: u64,
    creates_in_flight: u64,
    max_creates_in_flight: u64,
    pub(super) connections: u64,
    since: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: Moment,
    create: bool,
}

/// One `POST /v3/tasks`, from its arrival to its end.
#[derive(Clone, Copy, Debug)]
struct Create {
    started: Moment,
    ended: Option<Moment>,
    priority: Option<u16>,
    made: bool,
}

/// Where a call's record is kept until it ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    kind: Kind,
    create: Option<u64>,
    epoch: Moment,
}

impl Tally {
    pub(super) fn new(capacity: usize, now: Moment) -> Self {
        Self {
            capacity: capacity.max(1),
            arrivals: VecDeque::new(),
            creates: VecDeque::new(),
            forgotten: 0,
            first_create: 0,
            calls: BTreeMap::new(),
            answers: BTreeMap::new(),
            error_codes: BTreeMap::new(),
            made: HashMap::new(),
            tasks_created: 0,
            in_flight: 0,
            max_in_flight: 0,
            creates_in_flight: 0,
            max_creates_in_flight: 0,
            connections: 0,
            since: now,
        }
    }

    pub(super) fn arrived(&mut self, kind: Kind, now: Moment) -> Ticket {
        *self.calls.entry(kind).or_default() += 1;
        self.in_flight += 1;
        self.max_in_flight = self.max_in_flight.max(self.in_flight);
        if kind != Kind::Token {
            if self.arrivals.len() == self.capacity {
                self.arrivals.pop_front();
                self.forgotten += 1;
            }
            self.arrivals.push_back(Arrival { at: now, create: kind == Kind::Create });
        }
        let create = (kind == Kind::Create).then(|| self.create_arrived(now));
        Ticket { kind, create, epoch: self.since }
    }

    fn create_arrived(&mut self, now: Moment) -> u64 {
        self.creates_in_flight += 1;
        self.max_creates_in_flight = self.max_creates_in_flight.max(self.creates_in_flight);
        if self.creates.len() == self.capacity {
            self.creates.pop_front();
            self.first_create += 1;
        }
        self.creates.push_back(Create { started: now, ended: None, priority: None, made: false });
        self.first_create + self.creates.len() as u64 - 1
    }

    /// `status` is absent where no answer was sent.
    pub(super) fn ended(&mut self, ticket: Ticket, end: &End<'_>, now: Moment) {
        if ticket.epoch != self.since {
            return;
        }
        self.in_flight -= 1;
        let status = end.status.map_or_else(|| "none".to_owned(), |s| s.to_string());
        *self.answers.entry(status).or_default() += 1;
        if let Some(code) = end.error_code {
            *self.error_codes.entry(code.to_owned()).or_default() += 1;
        }
        if ticket.kind == Kind::Create {
            self.creates_in_flight -= 1;
        }
        let index = ticket.create.and_then(|n| n.checked_sub(self.first_create));
        let index = index.and_then(|n| usize::try_from(n).ok());
        if let Some(create) = index.and_then(|n| self.creates.get_mut(n)) {
            *create =
                Create { ended: Some(now), priority: end.priority, made: end.made, ..*create };
        }
    }

    /// A task was created through the API.
    pub(super) fn made(&mut self, source: &str) {
        self.tasks_created += 1;
        match self.made.get_mut(source) {
            Some(count) => *count += 1,
            None => {
                self.made.insert(source.to_owned(), 1);
            }
        }
    }

    pub(super) fn tasks_created(&self) -> u64 {
        self.tasks_created
    }

    pub(super) fn raw(&self) -> Raw {
        let mut twice: Vec<_> = self.made.iter().filter(|(_, n)| **n > 1).collect();
        twice.sort();
        let sources = twice.len();
        twice.truncate(NAMED);
        Raw {
            arrivals: self.arrivals.iter().copied().collect(),
            creates: self.creates.iter().copied().collect(),
            stats: Stats {
                calls: self.calls.clone(),
                answers: self.answers.clone(),
                error_codes: self.error_codes.clone(),
                connections: self.connections,
                max_in_flight: self.max_in_flight,
                max_creates_in_flight: self.max_creates_in_flight,
                forgotten: self.forgotten,
                created_twice: Twice {
                    sources,
                    named: twice
                        .into_iter()
                        .map(|(source, tasks)| Double {
                            source_server_id: source.clone(),
                            tasks: *tasks,
                        })
                        .collect(),
                },
                tasks: TaskStats { created: self.tasks_created, ..TaskStats::default() },
                ..Stats::default()
            },
        }
    }
}

/// How a call ended.
pub(super) struct End<'a> {
    pub(super) status: Option<u16>,
    pub(super) error_code: Option<&'a str>,
    pub(super) priority: Option<u16>,
    pub(super) made: bool,
}

/// What is counted while the world is held; the sums are made of it afterwards.
pub(super) struct Raw {
    arrivals: Vec<Arrival>,
    creates: Vec<Create>,
    pub(super) stats: Stats,
}

/// What the sandbox saw since it started, or since the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    pub since: Timestamp,
    pub seconds: f64,
    pub calls: BTreeMap<Kind, u64>,
    /// By status; `none` where no answer was sent.
    pub answers: BTreeMap<String, u64>,
    pub error_codes: BTreeMap<String, u64>,
    /// Connections accepted.
    pub connections: u64,
    /// Most calls, and most creates, that were under way at once.
    pub max_in_flight: u64,
    pub max_creates_in_flight: u64,
    pub windows: Vec<WindowStats>,
    pub order: Sequence,
    pub tasks: TaskStats,
    pub created_twice: Twice,
    pub logins: Logins,
    /// Arrivals too old to be kept: `windows` and `order` know nothing of them.
    pub forgotten: u64,
}

impl Stats {
    pub fn calls(&self, kind: Kind) -> u64 {
        self.calls.get(&kind).copied().unwrap_or_default()
    }

    /// The most calls in any window of this length, if it was configured or asked for.
    pub fn max_in(&self, window: Duration) -> Option<u64> {
        self.windows.iter().find(|w| w.length == window).map(|w| w.max_calls)
    }
}

/// Calls to the API endpoint (not IAM) by a sliding window.
#[derive(Clone, Debug, Serialize)]
pub struct WindowStats {
    pub window: String,
    #[serde(skip)]
    pub length: Duration,
    /// The quota for this window, if there is one.
    pub limit: Option<u32>,
    /// The most calls, over all half-open windows `[t, t + window)`.
    pub max_calls: u64,
    pub max_creates: u64,
    /// (calls - 1) over what the quota lets through between the first and the last call. A stream that keeps exactly to
    /// the quota has 1; one of a few bursts can have more.
    pub used: Option<f64>,
}

/// Whether the most urgent went first.
///
/// An inversion is a pair of creates that did not overlap (one had ended when the other started) of which the later one
/// has the higher priority. The sandbox cannot know whether the later one was waiting already, so a request that was
/// enqueued later, or tried again later, counts too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sequence {
    /// Creates whose priority is known, and inversions among them.
    pub creates: u64,
    pub inversions: u64,
    /// The same for those that made a task.
    pub made: u64,
    pub inversions_among_made: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct TaskStats {
    pub total: usize,
    pub by_state: BTreeMap<String, u64>,
    /// Through the API, since the last reset.
    pub created: u64,
    pub running: u32,
    /// The most that ran at once.
    pub max_running: u32,
    /// Ready to run, but without a place.
    pub waiting_for_a_place: usize,
}

/// Source servers for which more than one task was created since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Twice {
    pub sources: usize,
    /// The first hundred.
    pub named: Vec<Double>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Double {
    pub source_server_id: String,
    pub tasks: u32,
}

impl Raw {
    /// The sums, for the limits in force and the windows asked for.
    pub(super) fn sum(mut self, limits: &[Rate], asked: &[Duration]) -> Stats {
        let configured = limits.iter().map(|quota| (quota.window(), Some(quota.count())));
        let mut windows: Vec<(Duration, Option<u32>)> = configured.collect();
        for window in asked {
            if !windows.iter().any(|(known, _)| known == window) {
                windows.push((*window, None));
            }
        }
        let all: Vec<Moment> = self.arrivals.iter().map(|a| a.at).collect();
        let creates: Vec<Moment> =
            self.arrivals.iter().filter(|a| a.create).map(|a| a.at).collect();
        self.stats.windows = windows
            .into_iter()
            .map(|(length, limit)| WindowStats {
                window: show_duration(length),
                length,
                limit,
                max_calls: busiest(&all, length),
                max_creates: busiest(&creates, length),
                used: limit.and_then(|limit| used(&all, limit, length)),
            })
            .collect();
        self.stats.order = order(&self.creates);
        self.stats
    }
}

/// The most arrivals in any half-open window; `arrivals` are in order. A busiest window can always be moved to begin
/// with an arrival.
fn busiest(arrivals: &[Moment], window: Duration) -> u64 {
    let (mut first, mut most) = (0, 0);
    for (last, at) in arrivals.iter().enumerate() {
        while *at - arrivals[first] >= window {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most as u64
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn used(arrivals: &[Moment], limit: u32, window: Duration) -> Option<f64> {
    let elapsed = *arrivals.last()? - *arrivals.first()?;
    let through = f64::from(limit) * elapsed.as_secs_f64() / window.as_secs_f64();
    (through > 0.0).then(|| (arrivals.len() - 1) as f64 / through)
}

fn order(creates: &[Create]) -> Sequence {
    let known: Vec<&Create> = creates.iter().filter(|c| c.priority.is_some()).collect();
    let made: Vec<&Create> = known.iter().copied().filter(|c| c.made).collect();
    Sequence {
        creates: known.len() as u64,
        inversions: inversions(&known),
        made: made.len() as u64,
        inversions_among_made: inversions(&made),
    }
}

/// Walks through the starts in order, with a Fenwick tree that counts, by priority, those that had ended before.
fn inversions(creates: &[&Create]) -> u64 {
    let priority = |c: &Create| usize::from(c.priority.unwrap_or(1));
    let mut starts = creates.to_vec();
    starts.sort_by_key(|c| c.started);
    let mut ends: Vec<(Moment, usize)> =
        creates.iter().filter_map(|c| Some((c.ended?, priority(c)))).collect();
    ends.sort_unstable();
    let mut ended = ends.into_iter().peekable();
    let mut tree = Fenwick::new();
    let mut found = 0;
    for create in starts {
        while let Some((_, priority)) = ended.next_if(|(at, _)| *at <= create.started) {
            tree.add(priority);
        }
        found += tree.below(priority(create));
    }
    found
}

/// Counts by priority, with sums below a priority in 16 steps.
struct Fenwick(Vec<u64>);

impl Fenwick {
    fn new() -> Self {
        Self(vec![0; usize::from(u16::MAX) + 2])
    }

    fn add(&mut self, priority: usize) {
        let mut node = priority + 1;
        while node < self.0.len() {
            self.0[node] += 1;
            node += node & node.wrapping_neg();
        }
    }

    /// How many have a priority below this one.
    fn below(&self, priority: usize) -> u64 {
        let (mut node, mut sum) = (priority, 0);
        while node > 0 {
            sum += self.0[node];
            node &= node - 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn the_busiest_window_is_half_open() {
        let arrivals: Vec<Moment> = [0, 500, 999, 1000, 1499, 3000].map(at).into();
        assert_eq!(busiest(&arrivals, Duration::from_secs(1)), 4);
        assert_eq!(busiest(&arrivals, Duration::from_millis(1)), 1);
        assert_eq!(busiest(&arrivals, Duration::from_secs(60)), 6);
        assert_eq!(busiest(&[], Duration::from_secs(1)), 0);
        let spaced: Vec<Moment> = (0..10).map(|n| at(n * 1000)).collect();
        assert_eq!(busiest(&spaced, Duration::from_secs(1)), 1);
        assert!((used(&spaced, 1, Duration::from_secs(1)).unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn inversions_equal_a_count_of_all_pairs() {
        let mut dice = fastrand::Rng::with_seed(3);
        let creates: Vec<Create> = (0..400)
            .map(|_| {
                let started = dice.u64(0..2000);
                let ended = (dice.u8(..) > 10).then(|| at(started + dice.u64(0..100)));
                let priority = Some([0, 1, 7, 65_535, dice.u16(..)][dice.usize(0..5)]);
                Create { started: at(started), ended, priority, made: true }
            })
            .collect();
        let pair = |a: &Create, b: &Create| {
            a.ended.is_some_and(|end| end <= b.started) && a.priority < b.priority
        };
        // A create that ends in the moment it starts does not come before itself: its priority is not below its own.
        let slow = creates.iter().flat_map(|a| creates.iter().filter(move |b| pair(a, b))).count();
        assert_eq!(order(&creates).inversions, slow as u64);
        assert!(slow > 1000);
    }
}

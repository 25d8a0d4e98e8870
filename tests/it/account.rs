//! Does a freed place go to the request that an ideal scheduler would take, over months and a million requests? The real
//! core with everything that the account and the planner ask for at once: places, windows of the week, a rate, aging,
//! not-before and deadlines. Virtual time.
//!
//! `SLUICE_BACKLOG=1000000` is the whole of it (half an hour: run it with `cargo test`).

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sluicegate::core::schedule::{Hours, Schedule};
use sluicegate::core::{
    Job, Moment, Outcome, Query, Question, Rare, Request, Run, Settings, Settlement, Sparse, Step,
    gate,
};

use crate::support::bench::{Bench, Inputs as _, created, listing, request, settings, start, task};

const PLACES: usize = 100;
/// Points an hour; a whole number, so that the ideal order needs no rounding.
const AGING: i64 = 40;
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// The longest interval between two counts while requests wait, and one call of each state at the rate.
const COUNTED_WITHIN: Duration = Duration::from_secs(31);

fn account(requests: usize) -> Settings {
    let windows = ["Mon-Fri 19:00-07:00 Europe/Berlin", "Sat,Sun 00:00-24:00 Europe/Berlin"];
    let gate = gate::GateSettings { rates: vec!["10/s".parse().unwrap()], ..settings().gate };
    Settings {
        window: requests,
        max_running: PLACES,
        schedule: Schedule::new(windows.map(|window| window.parse().unwrap()).into()),
        aging: f64::from(i32::try_from(AGING).unwrap()),
        answered_within: ANSWERED_WITHIN,
        // Held as long as it takes.
        max_hold: Duration::from_secs(10 * 365 * 24 * 3_600),
        gate,
        ..settings()
    }
}

/// Where a request stands in the ideal order: points with aging, then age, then arrival.
type Standing = (Reverse<i64>, i64, usize);

/// What happens in the account without the worker.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The migration of this request ends.
    Ended(usize),
    /// Its not-before has come.
    MayGo(usize),
    Enqueued(usize),
}

#[derive(Default)]
struct Tally {
    posts: usize,
    expired: usize,
    counts: usize,
    steps: u32,
    /// In the core alone.
    took: Duration,
    /// The longest that a place stayed empty while a request waited and the hour was right.
    empty: Duration,
}

struct Account {
    bench: Bench,
    random: SmallRng,
    schedule: Schedule,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<(Moment, Event)>>,
    /// What an ideal scheduler chooses from.
    ideal: BTreeSet<Standing>,
    /// Migrations that run, by the request's number.
    running: BTreeSet<usize>,
    /// Since when a place is empty although a request might go.
    idle_since: Option<Moment>,
    tally: Tally,
}

impl Account {
    fn new(count: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(8);
        let settings = account(count + 1);
        let schedule = settings.schedule.clone();
        let bench = Bench::with(settings);
        let mut events = BinaryHeap::new();
        // A hundred places and five minutes each: three seconds a request.
        let lasts = 3_000 * i64::try_from(count).unwrap();
        let requests: Vec<Request> =
            (0..count).map(|number| planned(&mut random, number, lasts)).collect();
        for (number, request) in requests.iter().enumerate() {
            let at = bench.now.at + since(bench.now.wall, request.enqueued_at.get().unwrap());
            events.push(Reverse((at, Event::Enqueued(number))));
        }
        let (ideal, running) = (BTreeSet::new(), BTreeSet::new());
        let tally = Tally::default();
        Self { bench, random, schedule, requests, events, ideal, running, idle_since: None, tally }
    }

    /// Calls the core, and times it.
    fn core<T>(&mut self, call: impl FnOnce(&mut Bench) -> T) -> T {
        let began = Instant::now();
        let result = call(&mut self.bench);
        self.tally.took += began.elapsed();
        self.tally.steps += 1;
        result
    }

    fn standing(&self, number: usize) -> Standing {
        let request = &self.requests[number];
        let enqueued = request.enqueued_at.millisecond().unwrap();
        let points = i64::from(request.priority) * 3_600_000 - AGING * enqueued;
        (Reverse(points), enqueued, number)
    }

    fn run(mut self) -> Tally {
        while self.tally.posts + self.tally.expired < self.requests.len() {
            self.happen();
            self.watch_places();
            match self.core(Bench::next) {
                Step::Post(job) => self.post(job),
                Step::Ask(Question::Count(query)) => self.count(&query),
                Step::Settle(job, ending) => {
                    if ending.outcome == Outcome::Expired {
                        self.expire(&job);
                    } else {
                        assert_eq!(ending.outcome, Outcome::Created);
                    }
                    self.core(|bench| bench.core.settled(bench.now, job, ending, Settlement::Done));
                }
                Step::Wait(until) => self.wait(until),
                step => panic!("{step:?}"),
            }
        }
        self.tally
    }

    /// Time goes on to whatever comes first: what the core waits for, or something in the account.
    fn wait(&mut self, until: Option<Moment>) {
        let event = self.events.peek().map(|Reverse((at, _))| *at);
        let next = until.into_iter().chain(event).min().expect("an end of the wait");
        assert!(next > self.bench.now.at, "the core waits for what has been");
        self.bench.wait(next - self.bench.now.at);
    }

    fn happen(&mut self) {
        while let Some(Reverse((at, _))) = self.events.peek() {
            if *at > self.bench.now.at {
                return;
            }
            let Some(Reverse((_, event))) = self.events.pop() else { return };
            match event {
                Event::Ended(number) => drop(self.running.remove(&number)),
                Event::MayGo(number) => self.may_go(number),
                Event::Enqueued(number) => self.enqueue(number),
            }
        }
    }

    fn enqueue(&mut self, number: usize) {
        let request = self.requests[number].clone();
        match request.rare.not_before.filter(|at| *at > self.bench.now.wall) {
            Some(at) => {
                let at = self.bench.now.at + since(self.bench.now.wall, at);
                self.events.push(Reverse((at, Event::MayGo(number))));
            }
            None => self.may_go(number),
        }
        let job = Job::new(request, number as u64 + 1, 1, false, self.bench.now.at);
        self.core(|bench| bench.core.arrived(bench.now, job));
    }

    /// It may be sent from now on, if its deadline has not come first.
    fn may_go(&mut self, number: usize) {
        if self.requests[number].rare.deadline.is_none_or(|at| at > self.bench.now.wall) {
            self.ideal.insert(self.standing(number));
        }
    }

    fn open(&self) -> bool {
        self.schedule.admits(self.bench.now.wall, ANSWERED_WITHIN).is_ok()
    }

    fn watch_places(&mut self) {
        let might = self.running.len() < PLACES && !self.ideal.is_empty() && self.open();
        self.idle_since = self.idle_since.filter(|_| might).or(might.then_some(self.bench.now.at));
    }

    fn post(&mut self, job: Job<u64>) {
        let number = number_of(&job);
        let ideal = self.ideal.pop_first().expect("a request that may go");
        let now = self.bench.now;
        let better = &self.requests[ideal.2];
        assert_eq!(
            ideal.2, number,
            "call {} at {}: {better:?} is ideal",
            self.tally.posts, now.wall
        );
        assert!(matches!(self.schedule.at(now.wall), Hours::Open(_)), "sent at {}", now.wall);
        assert!(job.request.rare.deadline.is_none_or(|at| at > now.wall), "too late");
        assert!(self.running.len() < PLACES, "no place is free");
        if let Some(since) = self.idle_since.take() {
            self.tally.empty = self.tally.empty.max(now.at - since);
        }
        self.running.insert(number);
        let lasts = Duration::from_secs(self.random.random_range(150..450));
        self.events.push(Reverse((now.at + lasts, Event::Ended(number))));
        self.tally.posts += 1;
        self.bench.wait(Duration::from_millis(5));
        self.core(|bench| {
            bench.core.posted(bench.now, now, job, created(&format!("task-s{number}-a")), 1);
        });
    }

    fn expire(&mut self, job: &Job<u64>) {
        let deadline = job.request.rare.deadline.expect("a deadline");
        assert!(deadline <= self.bench.now.wall, "expired before {deadline}");
        self.ideal.remove(&self.standing(number_of(job)));
        self.tally.expired += 1;
    }

    fn count(&mut self, query: &Query) {
        let running = self.running.iter().map(|n| task(&format!("s{n}"), "a", "RUNNING", 0));
        let tasks = match query {
            Query::State { state: "RUNNING", .. } => running.collect(),
            Query::Task(id) => {
                let source = id.trim_start_matches("task-").trim_end_matches("-a");
                let runs = running.into_iter().any(|task| task.id == *id);
                vec![task(source, "a", if runs { "RUNNING" } else { "MIGRATE_SUCCESS" }, 0)]
            }
            _ => Vec::new(),
        };
        self.tally.counts += 1;
        let started = self.bench.now;
        self.bench.wait(Duration::from_millis(5));
        let tasks = Ok(listing(tasks));
        self.core(|bench| bench.core.counted(bench.now, started, tasks, 1));
    }
}

fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn number_of(job: &Job<u64>) -> usize {
    job.request.source_server_id.get()[1..].parse().unwrap()
}

/// A request of a plan that takes so many milliseconds to be done: half of them wait at the start, the others come later.
fn planned(random: &mut SmallRng, number: usize, lasts: i64) -> Request {
    let mut later = |rarely: u32| {
        let at = SignedDuration::from_millis(random.random_range(0..lasts));
        random.random_ratio(1, rarely).then(|| start() + at)
    };
    let (enqueued_at, not_before, deadline) = (later(2), later(50), later(50));
    let source = format!("s{number}");
    let enqueued_at = enqueued_at.or(Some(start()));
    Request {
        priority: random.random(),
        enqueued_at: enqueued_at.into(),
        run: Run::of(&source, &[0; 32], enqueued_at, 0),
        rare: Sparse::new(Rare { not_before, deadline, ..Rare::default() }),
        ..request(&source, "a")
    }
}

#[test]
fn every_freed_place_goes_to_the_ideal_request_at_a_cost_that_does_not_grow() {
    let many = std::env::var("SLUICE_BACKLOG").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let few = 2_000;
    let [small, large] = [few, many].map(|count| Account::new(count).run());
    for (requests, Tally { posts, expired, counts, steps, took, empty }) in
        [(few, &small), (many, &large)]
    {
        println!(
            "{requests} requests: {posts} sent in the ideal order, {expired} expired, {counts} counts; a place was empty for \
             {empty:?} at most; {:?} a step",
            *took / *steps
        );
        assert_eq!(posts + expired, requests);
        assert!(*expired > requests / 1_000, "deadlines were met by chance");
        assert!(*empty < COUNTED_WITHIN, "{empty:?}");
    }
    let [few, many] = [small, large].map(|tally| tally.took / tally.steps);
    // A tree of a million is a third deeper than one of some thousand, and less of it is in the processor's cache.
    assert!(many < few * 6, "{few:?} and {many:?}");
}

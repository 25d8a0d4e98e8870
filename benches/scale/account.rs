//! One account: its queue, its worker's core and its API, in virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluicegate::core::{
    Core, Ending, Fault, Input, Job, Listing, Moment, Now, Parts, Question, Request, Run, Settings,
    Settlement, Step, Task, Verdict, gate,
};

pub(crate) const START: Moment = Moment::from_nanos(1_000_000_000);
/// A choice of `docs/scale.md`; by default all 10,000 would be held.
pub(crate) const WINDOW: usize = 1_000;
const PAGE: usize = 200;

/// What a run has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) posts: u64,
    pub(crate) looks: u64,
    pub(crate) lists: u64,
    pub(crate) created: usize,
    pub(crate) twice: usize,
    pub(crate) busiest_minute: usize,
    pub(crate) busiest_second: usize,
    pub(crate) held: usize,
    /// The POSTs at which inversions were looked for, and how many were found.
    pub(crate) heeded: u64,
    pub(crate) inversions: u64,
}

impl Counts {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            posts: self.posts + other.posts,
            looks: self.looks + other.looks,
            lists: self.lists + other.lists,
            created: self.created + other.created,
            twice: self.twice + other.twice,
            busiest_minute: self.busiest_minute.max(other.busiest_minute),
            busiest_second: self.busiest_second.max(other.busiest_second),
            held: self.held + other.held,
            heeded: self.heeded + other.heeded,
            inversions: self.inversions + other.inversions,
        }
    }
}

/// Something that is under way.
enum Out {
    Posted(Job<u32>, Now, Verdict),
    Looked(Job<u32>, Now),
    Listed(usize, Now),
    Settled(Job<u32>, Box<Ending>),
}

/// It ends then. Compared by its end alone.
struct Due(Moment, u64, Out);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

pub(crate) struct Account {
    number: usize,
    requests: u32,
    core: Core<u32>,
    random: fastrand::Rng,
    /// The next of its requests that the broker delivers, and how many are held.
    next: u32,
    held: usize,
    out: BinaryHeap<Reverse<Due>>,
    begun: u64,
    /// How many tasks each request has made, and in which order.
    made: Vec<u8>,
    tasks: Vec<u32>,
    /// The calls of the last minute.
    calls: VecDeque<Moment>,
    counts: Counts,
}

impl Account {
    pub(crate) fn new(number: usize, requests: usize) -> Self {
        let rates = ["2/s", "60/min"].map(|rate| rate.parse().unwrap()).to_vec();
        let gate = gate::GateSettings { rates, ..gate::GateSettings::default() };
        let settings = Settings { gate, window: WINDOW, ..Settings::default() };
        let mut core = Core::new(settings, at(START));
        core.take(at(START), Input::Opened { session: 1, waiting: 0 });
        Self {
            number,
            requests: u32::try_from(requests).unwrap(),
            core,
            random: fastrand::Rng::with_seed(number as u64),
            next: 0,
            held: 0,
            out: BinaryHeap::new(),
            begun: 0,
            made: vec![0; requests],
            tasks: Vec::new(),
            calls: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// What happens at this moment; when the next thing does, `None`: all is done.
    pub(crate) fn turn(&mut self, now: Moment) -> Option<Moment> {
        while self.out.peek().is_some_and(|Reverse(due)| due.0 <= now) {
            let Some(Reverse(Due(_, _, out))) = self.out.pop() else { break };
            self.ends(at(now), out);
        }
        self.deliver(at(now));
        let wake = self.start(at(now));
        if self.out.is_empty() && self.held == 0 && self.next == self.requests {
            return None;
        }
        let due = self.out.peek().map(|Reverse(due)| due.0);
        // The core may ask to be woken now: time must pass.
        [wake, due].into_iter().flatten().min().map(|next| next.max(now + Duration::from_nanos(1)))
    }

    /// The broker keeps the window full.
    fn deliver(&mut self, now: Now) {
        while self.held < WINDOW && self.next < self.requests {
            let priority = self.random.u16(..);
            let request = self.request(self.next, priority, now);
            let job = Job::new(request, self.next, 1, false, now.at);
            self.core.take(now, Input::Delivered(job));
            self.next += 1;
            self.held += 1;
            self.counts.held = self.counts.held.max(self.held);
        }
    }

    /// Asks the core until it waits; until when.
    fn start(&mut self, now: Now) -> Option<Moment> {
        loop {
            match self.core.next(now) {
                Step::Post(job) => self.post(now, job),
                Step::Ask(Question::LookUp(job)) => {
                    self.counts.looks += 1;
                    self.call(now);
                    self.later(now, 20..80, Out::Looked(job, now));
                }
                Step::Ask(Question::List { offset }) => {
                    self.counts.lists += 1;
                    self.call(now);
                    self.later(now, 50..200, Out::Listed(offset as usize, now));
                }
                Step::Settle(job, ending) => self.later(now, 2..10, Out::Settled(job, ending)),
                // It comes again at once.
                Step::Requeue(mut job) => {
                    job.redelivered = true;
                    let Parts { request, delivery, .. } = job.into_parts();
                    let again = Job::new(request, delivery, 1, true, now.at);
                    self.core.take(now, Input::Delivered(again));
                }
                Step::Acknowledge(_) => self.held -= 1,
                Step::Wait(until) => return until,
                other => panic!("the core wants what no account here gives: {other:?}"),
            }
        }
    }

    /// One answer in a hundred is lost, with or without the task; one in a hundred is a refusal of the moment.
    fn post(&mut self, now: Now, job: Job<u32>) {
        self.counts.posts += 1;
        self.call(now);
        self.heed_order(&job);
        let fault = || Fault { error_msg: "unclear".into(), ..Fault::default() };
        let (makes, verdict) = match self.random.u8(..200) {
            0 => (false, Verdict::Ambiguous { fault: fault(), conflict: false }),
            1 => (true, Verdict::Ambiguous { fault: fault(), conflict: false }),
            2 | 3 => (false, Verdict::Transient { fault: fault(), answered: true }),
            _ => (true, Verdict::Created { task_id: task_id(job.delivery) }),
        };
        if makes {
            let made = &mut self.made[job.delivery as usize];
            *made += 1;
            self.counts.twice += usize::from(*made == 2);
            self.tasks.push(job.delivery);
        }
        self.later(now, 30..300, Out::Posted(job, now, verdict));
    }

    /// Whether something more urgent is ready while this one goes: with what has been tried left out. Of one call in 256 or so,
    /// for it looks through all that is held.
    fn heed_order(&mut self, job: &Job<u32>) {
        if self.begun.is_multiple_of(256) && job.progress.attempts == 0 {
            let above = self.core.held().filter(|(held, place)| {
                held.request.priority > job.request.priority
                    && *place == sluicegate::core::window::Place::Post
                    && held.progress.attempts == 0
            });
            self.counts.inversions += above.count() as u64;
            self.counts.heeded += 1;
        }
    }

    fn later(&mut self, now: Now, millis: std::ops::Range<u64>, out: Out) {
        self.begun += 1;
        let end = now.at + Duration::from_millis(self.random.u64(millis));
        self.out.push(Reverse(Due(end, self.begun, out)));
    }

    /// Counts a call into the sliding windows of its quota.
    fn call(&mut self, now: Now) {
        self.calls.push_back(now.at);
        while self.calls.front().is_some_and(|at| now.at - *at >= Duration::from_secs(60)) {
            self.calls.pop_front();
        }
        let second =
            self.calls.iter().rev().take_while(|at| now.at - **at < Duration::from_secs(1));
        self.counts.busiest_second = self.counts.busiest_second.max(second.count());
        self.counts.busiest_minute = self.counts.busiest_minute.max(self.calls.len());
    }

    fn ends(&mut self, now: Now, out: Out) {
        match out {
            Out::Posted(job, started, verdict) => {
                self.core.take(now, Input::Answered { job, started, verdict, generation: 1 });
            }
            Out::Looked(job, started) => {
                let found = self.made[job.delivery as usize] > 0;
                let tasks: Vec<_> = found.then(|| self.task(job.delivery)).into_iter().collect();
                let count = u32::try_from(tasks.len()).unwrap();
                let listing = Listing { tasks, count, ..Listing::default() };
                self.told(now, started, Question::LookUp(job), listing);
            }
            Out::Listed(offset, started) => {
                let page = self.tasks.iter().skip(offset).take(PAGE);
                let tasks = page.map(|request| self.task(*request)).collect();
                let count = u32::try_from(self.tasks.len()).unwrap();
                let offset = u32::try_from(offset).unwrap();
                let listing = Listing { tasks, count, ..Listing::default() };
                self.told(now, started, Question::List { offset }, listing);
            }
            Out::Settled(job, ending) => {
                assert!(ending.task_id.is_some(), "a request ended without its task: {ending:?}");
                self.held -= 1;
                self.core.take(now, Input::Settled { job, ending, how: Settlement::Done });
            }
        }
    }

    fn told(&mut self, now: Now, started: Now, question: Question<u32>, listing: Listing) {
        let result = Ok(listing);
        self.core.take(now, Input::Told { question, started, result, generation: 1 });
    }

    fn task(&self, request: u32) -> Task {
        Task {
            id: task_id(request),
            name: name(request),
            state: "RUNNING".into(),
            source_server_id: self.source(request),
            target_vm_id: None,
            create_date: Some(at(START).wall + SignedDuration::from_secs(1)),
        }
    }

    fn source(&self, request: u32) -> String {
        format!("{request:08x}-{:04x}-4e52-b3a7-1f0d6c3a5e42", self.number)
    }

    fn request(&self, number: u32, priority: u16, now: Now) -> Request {
        let source = self.source(number);
        Request {
            run: Run::of(&source, &[7; 32], Some(at(START).wall), 0),
            id: source.as_str().into(),
            name: name(number).into(),
            source_server_id: source.into(),
            row: Some(number.into()).into(),
            priority,
            enqueued_at: Some(at(START).wall.min(now.wall)).into(),
            starts: true,
            bytes: 1_000,
            ..Request::default()
        }
    }

    pub(crate) fn finished(&self) -> Counts {
        let created = self.made.iter().filter(|made| **made > 0).count();
        Counts { created, ..self.counts }
    }
}

fn name(request: u32) -> String {
    format!("migrate-{request}")
}

fn task_id(request: u32) -> String {
    format!("task-{request}")
}

fn at(at: Moment) -> Now {
    let start: Timestamp = Timestamp::constant(1_800_000_000, 0);
    Now { at, wall: start + (at - Moment::START) }
}

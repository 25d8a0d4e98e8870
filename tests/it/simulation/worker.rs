//! One worker process: a core, and what it has out. Carries out what the core decides.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use rand::RngExt as _;
use sluicegate::core::record::Recorded;
use sluicegate::core::{
    Change, Ending, Fault, Fetch, Fetched, Job, Listing, Moment, Now, Order, Outcome, Query,
    Question, Rare, Request, Run, Settings, Settlement, Sparse, Step, Target, Verdict, judge,
};

use super::api::{self, Answer, Fate, Poison};
use super::broker::{At, Message, Token};
use super::world::{Event, World, at};
use crate::support::bench::Inputs as _;

/// What every call needs at least to reach the API.
pub(super) const WAY: Duration = Duration::from_millis(20);
/// What the client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) enum What {
    Post(Job<Token>, Fate),
    Look(Job<Token>),
    List { offset: u32 },
    Count(Query),
    Ask,
}

impl What {
    pub(super) fn job(&self) -> Option<&Job<Token>> {
        match self {
            Self::Post(job, _) | Self::Look(job) => Some(job),
            Self::List { .. } | Self::Count(_) | Self::Ask => None,
        }
    }
}

/// A call that is out.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) what: What,
    started: Now,
    generation: u64,
    /// The task that an applied `POST` has made.
    task: Option<String>,
    listing: Option<Listing>,
}

pub(super) struct Worker {
    pub(super) core: Recorded<Token>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) settlements: BTreeMap<u64, (Job<Token>, Box<Ending>)>,
    /// Those that are being parked.
    pub(super) moves: BTreeMap<u64, Job<Token>>,
    fetching: Option<(u64, Fetch)>,
    /// How many orders it has heard of.
    pub(super) heard: usize,
    refreshing: Option<u64>,
    pub(super) wake: Option<Moment>,
    /// The session that the worker believes in.
    pub(super) session: Option<u32>,
}

impl Worker {
    pub(super) fn new(settings: &Settings, now: Moment) -> Self {
        Self {
            core: Recorded::new(settings.clone(), at(now)),
            calls: BTreeMap::new(),
            settlements: BTreeMap::new(),
            moves: BTreeMap::new(),
            fetching: None,
            heard: 0,
            refreshing: None,
            wake: None,
            session: None,
        }
    }
}

impl World {
    /// Carries out what the core decides, until it waits.
    pub(super) fn pump(&mut self, w: usize) {
        for _ in 0..10_000 {
            let step = self.workers[w].core.next(at(self.now));
            self.check_step(w, &step);
            match step {
                Step::Wait(wake) => {
                    assert!(wake.is_none_or(|wake| wake > self.now), "a wake in the past");
                    self.workers[w].wake = wake;
                    return self.check_waiting(w);
                }
                Step::Post(job) => self.start_post(w, job),
                Step::Ask(Question::LookUp(job)) => self.start_read(w, What::Look(job)),
                Step::Ask(Question::List { offset }) => self.start_read(w, What::List { offset }),
                Step::Ask(Question::Count(query)) => self.start_read(w, What::Count(query)),
                Step::Ask(Question::Any) => self.start_read(w, What::Ask),
                Step::Refresh { .. } => self.start_refresh(w),
                Step::Settle(job, ending) => self.start_settlement(w, job, ending),
                Step::Acknowledge(job) => {
                    self.say(|| format!("acknowledge {}", job.request.id));
                    self.checks.count("an acknowledgement of what was settled before");
                    self.acknowledge(&job);
                }
                Step::Park(job) => self.start_park(w, job),
                Step::Fetch(fetch) => self.start_fetch(w, fetch),
                Step::Requeue(job) => {
                    self.say(|| format!("requeue {}", job.request.id));
                    self.checks.count("a delivery requeued");
                    self.broker.requeue(&job.delivery);
                    self.tempt(3, 2);
                }
            }
        }
        panic!("the core never waits");
    }

    fn call(&mut self, w: usize, what: What) -> u64 {
        self.serial += 1;
        let (started, generation) = (at(self.now), self.generation);
        let call = Call { what, started, generation, task: None, listing: None };
        self.workers[w].calls.insert(self.serial, call);
        let margin = self.history.settings.gate.margin;
        let way = WAY + margin.mul_f64(self.random.random());
        self.checks.arrived(self.now + way);
        self.serial
    }

    fn start_post(&mut self, worker: usize, job: Job<Token>) {
        let message = job.delivery.message;
        let poison = self.poisons.get(&job.request.run).map(Poison::fate);
        let fate = match self.api.outage {
            Some(outage) => Fate::Refused { verdict: api::outage(outage), applied: false },
            None if poison.is_some() => poison.unwrap_or(Fate::Answered),
            None if self.rough => api::post_fate(&mut self.random, self.history.applies_within),
            None => Fate::Answered,
        };
        self.say(|| format!("worker {worker} posts {}: {fate:?}", job.request.id));
        self.checks.count(fate.as_str());
        if let Some(poison) = self.poisons.get(&job.request.run) {
            self.checks.count(poison.post.as_str());
        }
        let way = self.millis(20..=30);
        let answer = way + self.millis(1..=400);
        let (applied, answered) = match &fate {
            Fate::Answered | Fate::Refused { applied: true, .. } => (Some(way), answer),
            Fate::Refused { applied: false, .. } => (None, answer),
            Fate::Lost { applied } if self.random.random_ratio(1, 2) => (*applied, answer),
            Fate::Lost { applied } => (*applied, TIMEOUT),
        };
        let call = self.call(worker, What::Post(job, fate));
        if let Some(wait) = applied {
            self.after(wait, Event::Apply { worker, call, message });
        }
        self.after(answered, Event::Answer(worker, call));
        self.tempt(20, 600);
    }

    fn start_read(&mut self, w: usize, what: What) {
        match &what {
            What::Look(job) => self.say(|| format!("worker {w} looks {}", job.request.id)),
            what => self.say(|| format!("worker {w} asks for {what:?}")),
        }
        let way = self.millis(20..=30);
        let answered = way + self.millis(1..=100);
        let call = self.call(w, what);
        self.after(way, Event::Read(w, call));
        self.after(answered, Event::Answer(w, call));
    }

    fn start_refresh(&mut self, w: usize) {
        assert!(self.workers[w].refreshing.is_none(), "two tokens are fetched at once");
        self.checks.count("a fresh token");
        self.serial += 1;
        let serial = self.serial;
        self.workers[w].refreshing = Some(serial);
        let wait = self.millis(1..=500);
        self.after(wait, Event::Refreshed(w, serial));
    }

    fn start_settlement(&mut self, w: usize, job: Job<Token>, ending: Box<Ending>) {
        self.say(|| format!("worker {w} settles {} as {:?}", job.request.id, ending.outcome));
        self.checks.count(ending.outcome.as_str());
        self.serial += 1;
        let serial = self.serial;
        self.workers[w].settlements.insert(serial, (job, ending));
        let wait = self.millis(1..=20);
        self.after(wait, Event::Publish(w, serial));
    }

    /// A planner orders something of a request or of the whole batch; it is kept, and heard by the active worker a little
    /// later.
    pub(super) fn order(&mut self) {
        let index = self.random.random_range(0..self.broker.messages.len());
        let request = self.broker.messages[index].request.clone();
        let of = match self.random.random_range(0..4) {
            0 => Target::Batch { id: "batch".into(), run: None, row: None },
            1 => Target::Request(request.run.0.to_string()),
            _ => Target::Request(request.id.to_string()),
        };
        let wall = at(self.now).wall;
        let soon = wall + SignedDuration::from_millis(self.random.random_range(-5_000..90_000));
        let change = match self.random.random_range(0..6) {
            0 => Change { cancel: true, ..Change::default() },
            1 => {
                let wait = self.millis(1..=120_000);
                self.after(wait, Event::Release(of.clone()));
                Change { hold: Some(true), ..Change::default() }
            }
            2 => Change { hold: Some(false), ..Change::default() },
            3 => Change { not_before: Some(soon), ..Change::default() },
            4 => Change { deadline: Some(soon), ..Change::default() },
            _ => {
                let priority = self.random.random_range(0..5) * 1_000;
                Change { priority: Some(priority), ..Change::default() }
            }
        };
        self.keep_order(of, change);
    }

    pub(super) fn keep_order(&mut self, of: Target, change: Change) {
        let order = Order { at: at(self.now).wall, of, change };
        self.say(|| format!("ordered: {order:?}"));
        self.checks.count("an order");
        self.orders.push(order);
        let wait = self.millis(1..=500);
        self.after(wait, Event::Hear);
    }

    /// The active worker hears what has been kept.
    pub(super) fn hear(&mut self) {
        let Some(w) = self.active else { return };
        let new: Vec<_> = self.orders[self.workers[w].heard..].to_vec();
        self.workers[w].heard = self.orders.len();
        for order in new {
            let Order { of, change, .. } = order.clone();
            let obeyed = self.workers[w].core.order_at(at(self.now), order);
            self.say(|| format!("worker {w} obeys {of:?}: {change:?}: {obeyed:?}"));
            if obeyed.here > 0 {
                self.checks.count("an order about what is here");
            }
        }
    }

    fn start_park(&mut self, worker: usize, job: Job<Token>) {
        self.say(|| format!("worker {worker} parks {}", job.request.id));
        assert!(!job.in_flight, "it must only wait");
        self.serial += 1;
        let (serial, message, session) = (self.serial, job.delivery.message, job.session);
        let request = Box::new(job.request.clone());
        self.workers[worker].moves.insert(serial, job);
        let wait = self.millis(1..=20);
        self.after(wait, Event::PublishCopy { worker, serial, message, session, request });
        // The worst moment to lose the session.
        if self.rough && self.random.random_ratio(1, 4) {
            let wait = self.millis(0..=15);
            self.after(wait, Event::LoseSession);
        }
    }

    /// What was on its way when its session ended reaches the broker all the same, or does not, however late.
    pub(super) fn publish_copy(&mut self, w: usize, serial: u64, copy: (usize, u32, Box<Request>)) {
        let (of, session, request) = copy;
        let alive = self.broker.session == Some(session);
        if alive && self.broker.blocked {
            let again = Event::PublishCopy { worker: w, serial, message: of, session, request };
            return self.after(Duration::from_secs(2), again);
        }
        if alive && self.rough && self.random.random_ratio(1, 8) {
            self.checks.count("a copy that the broker refuses");
            let Some(job) = self.workers[w].moves.remove(&serial) else { return };
            return self.workers[w].core.not_parked(at(self.now), job);
        }
        let lands = alive || self.rough && self.random.random_ratio(3, 4);
        if lands {
            self.checks.count("a request parked");
            self.broker.publish_copy(of, *request, At::Parked);
        }
        if lands && !alive {
            self.checks.count("a copy whose publisher has lost its session");
        }
        let wait = self.millis(1..=if alive { 20 } else { 5_000 });
        self.after(wait, Event::Parked(w, serial));
    }

    pub(super) fn parked(&mut self, w: usize, serial: u64) {
        let Some(job) = self.workers[w].moves.remove(&serial) else { return };
        if self.broker.session == Some(job.session) {
            assert!(self.broker.messages[job.delivery.message].copied);
            assert!(self.broker.acknowledge(&job.delivery), "{} is settled twice", job.request.id);
        }
        self.workers[w].core.parked(at(self.now), job);
    }

    fn start_fetch(&mut self, worker: usize, fetch: Fetch) {
        assert_eq!(Some(fetch.session), self.workers[worker].session);
        assert!(self.workers[worker].fetching.is_none(), "two fetches at once");
        self.serial += 1;
        self.workers[worker].fetching = Some((self.serial, fetch));
        let (serial, wait) = (self.serial, self.millis(1..=200));
        self.after(wait, Event::Fetch(worker, serial));
    }

    /// What is parked and due is published anew, and acknowledged; or the session ends in the middle of it.
    pub(super) fn fetch(&mut self, w: usize, serial: u64) {
        let now = at(self.now);
        let fetching = &mut self.workers[w].fetching;
        let Some((_, fetch)) = fetching.take_if(|(known, _)| *known == serial) else { return };
        let session = fetch.session;
        let alive = self.broker.session == Some(session) && !self.broker.blocked;
        let fails = !alive || self.rough && self.random.random_ratio(1, 8);
        let (mut left, mut next, mut ahead) = (0, None, fetch.ahead.1);
        for index in self.broker.parked() {
            let request = self.broker.messages[index].request.clone();
            let due = fetch.orders.due(&request);
            let is_due = due.is_some_and(|due| due <= fetch.due);
            let soon = due.is_some_and(|due| due <= fetch.ahead.0) && ahead > 0;
            if !is_due && !soon {
                left += 1;
                next = next.into_iter().chain(due).min();
                continue;
            }
            if !is_due {
                ahead -= 1;
            }
            // Of a fetch that fails some copies land, and their originals stay.
            if !fails || self.random.random_ratio(1, 2) {
                self.checks.count("a request fetched back");
                self.broker.publish_copy(index, request, At::Queue);
            }
            if !fails {
                self.broker.messages[index].at = At::Gone;
            }
        }
        if fails {
            self.checks.count("a fetch that failed");
        }
        let fetched = (!fails).then_some(Fetched { left, next, ..Fetched::default() });
        self.workers[w].core.fetched(now, session, fetched);
    }

    /// A `POST` is applied, now or never, whether or not its worker still lives.
    pub(super) fn apply(&mut self, w: usize, call: u64, message: usize) {
        let request = self.broker.messages[message].request.clone();
        let source = &request.source_server_id;
        let task = self.api.apply(at(self.now), &request);
        self.say(|| format!("applied for {source}: {task:?}"));
        self.check_tasks(&request);
        match self.workers[w].calls.get_mut(&call) {
            Some(call) => call.task = task,
            None => self.checks.count("a task made after its worker stopped waiting"),
        }
    }

    pub(super) fn read(&mut self, w: usize, call: u64) {
        let now = at(self.now);
        let Some(call) = self.workers[w].calls.get_mut(&call) else { return };
        call.listing = match &call.what {
            What::Look(job) => Some(self.api.look(now, &job.request.source_server_id.get())),
            What::List { offset } => Some(self.api.list(now, *offset)),
            What::Count(Query::State { state, offset }) => {
                Some(self.api.in_state(now, state, *offset))
            }
            What::Count(Query::Task(id)) => Some(self.api.one(now, id)),
            What::Count(query) => panic!("no count asks {query:?}"),
            What::Ask => Some(self.api.list(now, 0)),
            What::Post(..) => None,
        };
    }

    pub(super) fn answer(&mut self, w: usize, call: u64) {
        let now = at(self.now);
        let Some(call) = self.workers[w].calls.remove(&call) else { return };
        let Call { what, started, generation, task, listing } = call;
        let own = match &what {
            What::Look(job) => self.poisons.get(&job.request.run).and_then(|poison| poison.look),
            What::List { .. } if self.history.list_fails => Some(Answer::Silence),
            _ => None,
        };
        let trouble = match self.api.outage {
            Some(outage) => Some(api::outage(outage)),
            None if own.is_some() => own.map(Answer::verdict),
            None if self.rough => api::look_trouble(&mut self.random),
            None => None,
        };
        let read = trouble.map_or_else(|| Ok(listing.unwrap_or_default()), Err);
        let core = &mut self.workers[w].core;
        match what {
            What::Post(job, fate) => {
                let verdict = match (fate, task) {
                    (Fate::Answered, Some(task_id)) => {
                        self.api.made_for.insert(task_id.clone(), job.request.id.clone());
                        Verdict::Created { task_id }
                    }
                    (Fate::Answered, _) => api::conflict(),
                    (Fate::Lost { .. }, _) => api::silence(),
                    (Fate::Refused { verdict, .. }, _) => verdict,
                };
                core.posted(now, started, job, verdict, generation);
            }
            What::Look(job) => {
                let id = job.request.id.clone();
                let found = core.looked(now, started, job, read, generation);
                let found = found.as_str();
                self.checks.count(found);
                self.say(|| format!("worker {w} looked up {id}: {found}"));
            }
            What::List { .. } => {
                self.checks.count("a page of all tasks");
                core.listed(now, started, read, generation);
            }
            What::Count(query) => {
                if let Query::Task(_) = query {
                    self.checks.count("a task of its own read");
                }
                core.counted(now, started, read, generation);
            }
            What::Ask => core.asked(now, started, read, generation),
        }
    }

    pub(super) fn refreshed(&mut self, w: usize, serial: u64) {
        let worker = &mut self.workers[w];
        if worker.refreshing != Some(serial) {
            return;
        }
        worker.refreshing = None;
        if self.rough && self.random.random_ratio(1, 4) {
            worker.core.refreshed(at(self.now), Err(&Fault::default()));
        } else {
            self.generation += 1;
            worker.core.refreshed(at(self.now), Ok(self.generation));
        }
    }

    pub(super) fn publish(&mut self, w: usize, settlement: u64) {
        let Some((job, ending)) = self.workers[w].settlements.get(&settlement) else { return };
        let mut wait = Duration::from_millis(self.random.random_range(1..20));
        if self.broker.session == Some(job.session) {
            if self.broker.blocked {
                self.checks.count("a blocked result");
                return self.after(Duration::from_secs(2), Event::Publish(w, settlement));
            }
            if self.broker.full && ending.outcome.is_dead_letter() {
                self.checks.count("a dead letter refused by the broker");
                return self.after(wait, Event::Refused(w, settlement));
            }
            let says = ending.task_id.as_deref().filter(|_| ending.outcome == Outcome::Created);
            let ended = ending.task_state.as_deref().is_some_and(judge::is_ended);
            let other = says.is_some_and(|id| ended && self.api.is_of_another(id, &job.request.id));
            assert!(!other, "{} is told the ended task {says:?} of another run", job.request.id);
            self.broker.messages[job.delivery.message].results.push(ending.outcome);
            let wanted = self.history.replays && self.rough && self.random.random_ratio(1, 2);
            if wanted && ending.outcome.is_dead_letter() && job.request.rare.replay < 3 {
                let request = replayed(&job.request, ending.never_sent);
                if ending.never_sent {
                    self.checks.count("a replay of what was never sent");
                }
                self.broker.messages.push(Message::queued(request));
            }
        } else {
            // How long it takes to notice: the redelivery may be here before.
            wait = Duration::from_millis(self.random.random_range(1..5_000));
        }
        self.after(wait, Event::Settled(w, settlement));
    }

    pub(super) fn settled(&mut self, w: usize, settlement: u64, how: Option<Settlement>) {
        let Some((job, ending)) = self.workers[w].settlements.remove(&settlement) else { return };
        let alive = self.broker.session == Some(job.session);
        let how = match how {
            _ if !alive => Settlement::Void,
            Some(how) => how,
            None => Settlement::Done,
        };
        match how {
            Settlement::Done => self.acknowledge(&job),
            Settlement::Void => self.checks.count("a settlement whose session was lost"),
            Settlement::Refused => {}
        }
        self.workers[w].core.settled(at(self.now), job, ending, how);
    }

    /// A delivery of a session that is lost cannot be acknowledged; nothing happens.
    fn acknowledge(&mut self, job: &Job<Token>) {
        let published = !self.broker.results(job.request.run).is_empty();
        assert!(published, "{} is acknowledged before a result of it is published", job.request.id);
        let live = self.broker.acknowledge(&job.delivery);
        let void = self.broker.session != Some(job.session);
        assert!(live || void, "{} is settled twice", job.request.id);
    }
}

/// What a reviewer sends again: a run of its own.
fn replayed(request: &Request, never_sent: bool) -> Request {
    let replay = request.rare.replay + 1;
    let rare = Rare { replay, never_sent, deadline: None, ..(*request.rare).clone() };
    let digest = *request.run.0.as_bytes();
    let digest = std::array::from_fn(|byte| digest[byte % digest.len()]);
    let run = Run::of(&request.id.get(), &digest, request.enqueued_at.get(), replay);
    Request { run, rare: Sparse::new(rare), ..request.clone() }
}

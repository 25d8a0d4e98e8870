//! Runs one history: the real core between a broker and an API that are pure state, in virtual time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sluicegate::core::gate::Pause;
use sluicegate::core::{
    Core, Doubt, Ending, Fault, Job, Listing, Moment, Now, Rate, Step, Verdict,
};

use super::api::{self, Api, Fate};
use super::broker::{At, Broker, Token};
use super::checks::Checks;
use super::history::{self, History};

/// What every call needs at least to reach the API.
const WAY: Duration = Duration::from_millis(20);
/// What the client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// All that is wrong has been mended for so long that nothing may be left.
const PATIENCE: Duration = Duration::from_secs(3 * 24 * 3600);

#[derive(Debug)]
pub(super) enum What {
    Post(Job<Token>, Fate),
    Look(Job<Token>),
    List { offset: u32 },
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

#[derive(Debug)]
enum Event {
    Deliver,
    /// A `POST` is applied, whoever waits for it.
    Apply {
        call: u64,
        message: usize,
    },
    /// A look or page reaches the API.
    Read(u64),
    Answer(u64),
    Publish(u64),
    Settled(u64),
    Refreshed(u64),
    Open,
    LoseSession,
    KillBroker,
    Restart {
        clean: bool,
    },
    Blocked(bool),
    Pause,
    Resume,
    Rates(Vec<Rate>),
    ForeignTask(usize),
    Mended,
}

pub(crate) struct World {
    pub(super) now: Moment,
    random: SmallRng,
    pub(super) history: History,
    pub(super) core: Core<Token>,
    pub(super) broker: Broker,
    pub(super) api: Api,
    events: BTreeMap<(Moment, u64), Event>,
    pub(super) calls: BTreeMap<u64, Call>,
    pub(super) settlements: HashMap<u64, (Job<Token>, Box<Ending>)>,
    refreshing: Option<u64>,
    wake: Option<Moment>,
    delivering: bool,
    rough: bool,
    serial: u64,
    generation: u64,
    sessions: u64,
    trace: bool,
    pub(crate) checks: Checks,
}

impl World {
    pub(crate) fn new(seed: u64, history: History, trace: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(!seed);
        let now = Moment::START + Duration::from_secs(1);
        let api = Api {
            // Copies across a crash need it: `docs/assumptions.md`, 4.
            refuses_second: history.copies && history.restarts > 0,
            newest_first: random.random_ratio(1, 2),
            page: random.random_range(2..200),
            ..Api::default()
        };
        let mut world = Self {
            now,
            core: Core::new(history.settings.clone(), at(now)),
            broker: Broker::new(history.requests.clone()),
            api,
            events: BTreeMap::new(),
            calls: BTreeMap::new(),
            settlements: HashMap::new(),
            refreshing: None,
            wake: None,
            delivering: false,
            rough: history.rough,
            serial: 0,
            generation: 0,
            sessions: 0,
            trace,
            checks: Checks::new(&history.settings),
            random,
            history,
        };
        world.schedule_troubles();
        world
    }

    fn schedule_troubles(&mut self) {
        let History { restarts, lost_sessions, kills, blocks, pauses, rate_changes, .. } =
            self.history;
        self.after(Duration::ZERO, Event::Open);
        for _ in 0..restarts {
            let clean = self.random.random_ratio(1, 2);
            self.sometime(Event::Restart { clean });
        }
        (0..lost_sessions).for_each(|_| self.sometime(Event::LoseSession));
        (0..kills).for_each(|_| self.sometime(Event::KillBroker));
        (0..pauses).for_each(|_| self.sometime(Event::Pause));
        for _ in 0..blocks {
            self.sometime(Event::Blocked(true));
            self.sometime(Event::Blocked(false));
        }
        for _ in 0..rate_changes {
            let rates = history::rates(&mut self.random);
            self.sometime(Event::Rates(rates));
        }
        if self.rough && self.random.random_ratio(1, 4) {
            let message = self.random.random_range(0..self.broker.messages.len());
            self.sometime(Event::ForeignTask(message));
        }
        self.after(self.history.troubles, Event::Mended);
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + wait, self.serial), event);
    }

    fn sometime(&mut self, event: Event) {
        let wait = self.history.troubles.mul_f64(self.random.random());
        self.after(wait, event);
    }

    fn millis(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.random.random_range(range.start() * 1_000..=range.end() * 1_000))
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12.3} {}", (self.now - Moment::START).as_secs_f64(), what());
        }
    }

    /// Runs to the end of the history: everything is settled, or it panics.
    pub(crate) fn run(&mut self) {
        let end = self.now + self.history.troubles + PATIENCE;
        self.pump();
        loop {
            let next = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(moment) = next.into_iter().chain(self.wake).min() else { break };
            assert!(moment < end, "something is never settled: {:?}", self.unsettled());
            self.now = self.now.max(moment);
            if next == Some(moment)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            } else {
                // Timers are late.
                self.now = self.now + self.millis(0..=1);
            }
            self.pump();
            self.queue_deliveries();
            if self.broker.is_done() && !self.rough && self.core.is_quiet() {
                break;
            }
        }
        assert!(
            self.broker.is_done(),
            "nothing is going to happen, and not settled: {:?}",
            self.unsettled()
        );
        self.check_end();
    }

    fn unsettled(&self) -> Vec<String> {
        let left = self.broker.messages.iter().filter(|message| message.at != At::Gone);
        let places = self
            .core
            .held()
            .map(|(job, place)| format!("{} {place:?} {:?}", job.request.id, job.progress.doubt));
        left.map(|message| format!("{} {:?}", message.request.id, message.at))
            .chain(places)
            .collect()
    }

    fn queue_deliveries(&mut self) {
        let room = self.broker.held() < self.history.settings.window;
        if !self.delivering
            && self.broker.session.is_some()
            && room
            && !self.broker.waiting().is_empty()
        {
            self.delivering = true;
            let wait = self.millis(0..=3);
            self.after(wait, Event::Deliver);
        }
    }

    /// Carries out what the core decides, until it waits.
    fn pump(&mut self) {
        for _ in 0..10_000 {
            let now = at(self.now);
            let step = self.core.next(now);
            self.check_step(&step);
            match step {
                Step::Wait(wake) => {
                    assert!(wake.is_none_or(|wake| wake > self.now), "a wake in the past");
                    self.say(|| format!("wait until {wake:?} {:?}", self.core.shut()));
                    self.wake = wake;
                    self.check_quiet();
                    return;
                }
                Step::Post(job) => self.start_post(job),
                Step::Look(job) => {
                    self.say(|| format!("look {}", job.request.id));
                    self.start_read(What::Look(job));
                }
                Step::List { offset } => {
                    self.say(|| format!("list from {offset}"));
                    self.start_read(What::List { offset });
                }
                Step::Count { .. } => unreachable!("the running cap is off"),
                Step::Refresh { .. } => {
                    assert!(self.refreshing.is_none(), "two tokens are fetched at once");
                    self.serial += 1;
                    self.refreshing = Some(self.serial);
                    let wait = self.millis(1..=500);
                    self.after(wait, Event::Refreshed(self.serial));
                }
                Step::Settle(job, ending) => {
                    self.say(|| format!("settle {} as {:?}", job.request.id, ending.outcome));
                    self.serial += 1;
                    let serial = self.serial;
                    self.settlements.insert(serial, (job, ending));
                    let wait = self.millis(1..=20);
                    self.after(wait, Event::Publish(serial));
                }
                Step::Acknowledge(job) => {
                    self.say(|| format!("acknowledge {}", job.request.id));
                    self.acknowledge(&job);
                }
                Step::GiveBack(job) => {
                    self.say(|| format!("give back {}", job.request.id));
                    assert!(self.broker.give_back(&job.delivery), "a void delivery is given back");
                }
            }
        }
        panic!("the core never waits");
    }

    fn call(&mut self, what: What) -> u64 {
        self.serial += 1;
        let call = Call {
            what,
            started: at(self.now),
            generation: self.generation,
            task: None,
            listing: None,
        };
        self.calls.insert(self.serial, call);
        let margin = self.history.settings.gate.margin;
        let way = WAY + margin.mul_f64(self.random.random());
        self.checks.arrived(self.now + way);
        self.serial
    }

    fn start_post(&mut self, job: Job<Token>) {
        let message = job.delivery.message;
        let fate = if self.rough {
            api::post_fate(&mut self.random, self.history.settings.look_again)
        } else {
            Fate::Answered
        };
        self.say(|| format!("post {}: {fate:?}", job.request.id));
        let way = self.millis(20..=30);
        let answer = way + self.millis(1..=400);
        let (applied, answered) = match &fate {
            Fate::Answered | Fate::Refused { applied: true, .. } => (Some(way), answer),
            Fate::Refused { applied: false, .. } => (None, answer),
            Fate::Lost { applied } if self.random.random_ratio(1, 2) => (*applied, answer),
            Fate::Lost { applied } => (*applied, TIMEOUT),
        };
        let call = self.call(What::Post(job, fate));
        if let Some(wait) = applied {
            self.after(wait, Event::Apply { call, message });
        }
        self.after(answered, Event::Answer(call));
    }

    fn start_read(&mut self, what: What) {
        let way = self.millis(20..=30);
        let answered = way + self.millis(1..=100);
        let call = self.call(what);
        self.after(way, Event::Read(call));
        self.after(answered, Event::Answer(call));
    }

    fn happen(&mut self, event: Event) {
        let now = at(self.now);
        match event {
            Event::Deliver => self.deliver(),
            Event::Apply { call, message } => {
                let request = &self.broker.messages[message].request;
                let (name, source) = (request.name.clone(), request.source_server_id.clone());
                let task = self.api.apply(now, &name, &source);
                self.say(|| format!("applied for {source}: {task:?}"));
                self.check_tasks(&source);
                if let Some(call) = self.calls.get_mut(&call) {
                    call.task = task;
                }
            }
            Event::Read(call) => {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.listing = match &call.what {
                        What::Look(job) => Some(self.api.look(now, &job.request.source_server_id)),
                        What::List { offset } => Some(self.api.list(now, *offset)),
                        What::Post(..) => None,
                    };
                }
            }
            Event::Answer(call) => self.answer(call),
            Event::Publish(settlement) => self.publish(settlement),
            Event::Settled(settlement) => self.settled(settlement),
            Event::Refreshed(serial) => self.refreshed(serial),
            Event::Blocked(blocked) => {
                self.broker.blocked = blocked && self.rough;
                self.core.blocked(self.broker.blocked);
            }
            Event::Pause => {
                self.core.pause(Pause { by: "op".into(), reason: "lunch".into() });
                let wait = self.millis(1..=60_000);
                self.after(wait, Event::Resume);
            }
            Event::Resume => self.core.resume(now),
            Event::Rates(rates) => {
                self.core.set_rates(now, &rates);
                self.history.settings.gate.rates.clone_from(&rates);
                self.checks.rates_changed(rates);
            }
            Event::ForeignTask(message) => {
                let request = &self.broker.messages[message].request;
                let (name, source) = (request.name.clone(), request.source_server_id.clone());
                let name = if self.random.random_ratio(1, 2) { &*name } else { "other" };
                if !self.api.knows(&source) {
                    self.api.add(now, name, &source);
                }
            }
            Event::Mended => {
                self.rough = false;
                self.broker.blocked = false;
                self.core.blocked(false);
            }
            event => self.lose(&event),
        }
    }

    /// What ends a session, or begins one.
    fn lose(&mut self, event: &Event) {
        self.say(|| format!("{event:?}"));
        if let Event::Open = event {
            if self.broker.session.is_none() {
                self.sessions += 1;
                self.broker.session = Some(self.sessions);
                self.core.session_opened(at(self.now), self.sessions);
            }
            return;
        }
        self.broker.lose_session();
        if let Event::KillBroker = event {
            let random = &mut self.random;
            self.broker.bring_back(|| random.random_ratio(1, 2));
        }
        if let Event::Restart { clean } = event {
            if *clean {
                self.core.stop();
                drop(self.core.drain());
            }
            // What was sent is on its way; nobody is left to hear of it.
            self.calls.clear();
            self.settlements.clear();
            self.refreshing = None;
            self.core = Core::new(self.history.settings.clone(), at(self.now));
        } else {
            self.core.session_lost();
        }
        let wait = self.millis(1..=3_000);
        self.after(wait, Event::Open);
    }

    fn deliver(&mut self) {
        self.delivering = false;
        let Some(session) = self.broker.session else { return };
        let waiting = self.broker.waiting();
        if waiting.is_empty() {
            return;
        }
        let index = waiting[self.random.random_range(0..waiting.len())];
        let token = self.broker.deliver(index);
        let message = &self.broker.messages[index];
        let job = Job::new(message.request.clone(), token, session, message.redelivered, self.now);
        self.say(|| format!("deliver {} again={}", job.request.id, job.redelivered));
        self.core.arrived(at(self.now), job);
    }

    fn answer(&mut self, call: u64) {
        let now = at(self.now);
        let Some(Call { what, started, generation, task, listing }) = self.calls.remove(&call)
        else {
            return;
        };
        let trouble = if self.rough { api::look_trouble(&mut self.random) } else { None };
        let read = trouble.map_or_else(|| Ok(listing.unwrap_or_default()), Err);
        match what {
            What::Post(job, fate) => {
                let verdict = match (fate, task) {
                    (Fate::Answered, Some(task_id)) => Verdict::Created { task_id },
                    (Fate::Answered, _) => api::conflict(),
                    (Fate::Lost { .. }, _) => api::silence(),
                    (Fate::Refused { verdict, .. }, _) => verdict,
                };
                self.say(|| format!("answer {}: {}", job.request.id, verdict.as_str()));
                self.core.posted(now, started, job, verdict, generation);
            }
            What::Look(job) => {
                let id = job.request.id.clone();
                let found = self.core.looked(now, started, job, read, generation);
                self.say(|| format!("looked {id}: {found}"));
            }
            What::List { .. } => self.core.listed(now, started, read, generation),
        }
    }

    fn refreshed(&mut self, serial: u64) {
        if self.refreshing != Some(serial) {
            return;
        }
        self.refreshing = None;
        if self.rough && self.random.random_ratio(1, 4) {
            self.core.refreshed(at(self.now), Err(&Fault::default()));
        } else {
            self.generation += 1;
            self.core.refreshed(at(self.now), Ok(self.generation));
        }
    }

    fn publish(&mut self, settlement: u64) {
        let Some((job, ending)) = self.settlements.get(&settlement) else { return };
        let mut wait = Duration::from_millis(self.random.random_range(1..20));
        if self.broker.session == Some(job.session) {
            if self.broker.blocked {
                return self.after(Duration::from_millis(100), Event::Publish(settlement));
            }
            self.broker.messages[job.delivery.message].results.push(ending.outcome);
        } else {
            // How long it takes to notice: the redelivery may be here before.
            wait = Duration::from_millis(self.random.random_range(1..5_000));
        }
        self.after(wait, Event::Settled(settlement));
    }

    fn settled(&mut self, settlement: u64) {
        let Some((job, ending)) = self.settlements.remove(&settlement) else { return };
        let alive = self.broker.session == Some(job.session);
        if alive {
            self.acknowledge(&job);
        }
        self.core.settled(at(self.now), job, ending, alive);
    }

    fn acknowledge(&mut self, job: &Job<Token>) {
        let published = !self.broker.messages[job.delivery.message].results.is_empty();
        assert!(published, "{} is acknowledged before a result of it is published", job.request.id);
        assert!(self.broker.acknowledge(&job.delivery), "{} is settled twice", job.request.id);
    }
}

pub(super) fn at(moment: Moment) -> Now {
    let since = SignedDuration::try_from(moment - Moment::START).unwrap();
    Now { at: moment, wall: history::epoch() + since }
}

/// Whether a job may be sent without a look.
pub(super) fn is_clear(job: &Job<Token>) -> bool {
    job.progress.doubt == Doubt::None
}

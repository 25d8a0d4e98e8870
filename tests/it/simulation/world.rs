//! Runs one history: real cores between a broker and an API that are pure state, in virtual time. Here: time, the
//! troubles, and what happens to sessions; what the cores want done is in `worker`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use sluicegate::core::gate::Pause;
use sluicegate::core::record::Tape;
use sluicegate::core::{
    Change, Input, Job, Moment, Now, Order, Rate, Request, Run, Settlement, Steer, Target,
};

use super::api::{Api, Outage, Poison};
use super::broker::{At, Broker, Message};
use super::checks::Checks;
use super::history::{self, History};
use super::lent::Lent;
use super::worker::Worker;
use crate::support::bench::Inputs as _;

/// All that is wrong has been fixed for so long that nothing may be left.
const PATIENCE: Duration = Duration::from_secs(3 * 24 * 3600);

/// What happens, and, where it is one worker's affair, to which. Numbers name calls, settlements and log-ins.
#[derive(Debug)]
pub(super) enum Event {
    Deliver,
    /// A `POST` is applied, whoever waits for it.
    Apply {
        worker: usize,
        call: u64,
        message: usize,
    },
    /// A look-up or page reaches the API.
    Read(usize, u64),
    Answer(usize, u64),
    Publish(usize, u64),
    Settled(usize, u64),
    /// The broker refuses what was to be published.
    Refused(usize, u64),
    Refreshed(usize, u64),
    /// A worker becomes the active one, if none is.
    Open,
    LoseSession,
    /// The broker ends the session, and the worker does not know it yet ...
    Cut,
    /// ... until now.
    Detect(usize),
    KillBroker,
    Restart {
        clean: bool,
    },
    Blocked(bool),
    /// The queue of dead letters takes nothing, or something again.
    Full(bool),
    Pause,
    Resume,
    Rates(Vec<Rate>),
    /// A planner orders something of what waits; what is held is released again.
    Order,
    Release(Target),
    /// The active worker hears of it.
    Hear,
    /// Another process asks the active worker for calls.
    Lease,
    /// It makes one, if it still may.
    Leased,
    /// The copy reaches the broker, or does not.
    PublishCopy {
        worker: usize,
        serial: u64,
        message: usize,
        session: u32,
        request: Box<Request>,
    },
    Parked(usize, u64),
    /// What is parked is looked through.
    Fetch(usize, u64),
    ForeignTask(usize),
    Outage(Option<Outage>),
    Fixed,
}

/// What cores have written down: one after the other, as they began.
pub(crate) type Recordings = Arc<Mutex<Vec<Vec<u8>>>>;

pub(crate) struct World {
    pub(super) now: Moment,
    pub(super) random: SmallRng,
    pub(super) history: History,
    pub(super) workers: Vec<Worker>,
    /// The worker that the broker's session is with.
    pub(super) active: Option<usize>,
    pub(super) broker: Broker,
    pub(super) api: Api,
    /// What planners have ordered, as the broker keeps it.
    pub(super) orders: Vec<Order>,
    /// What belongs to a request, whichever of its deliveries it is.
    pub(super) poisons: HashMap<Run, Poison>,
    events: BTreeMap<(Moment, u64), Event>,
    delivering: bool,
    /// How many of those that waited when the session began have not been delivered yet; 0 once the window
    /// has been full.
    pub(super) missing: usize,
    /// How often the broker may still pause meanwhile.
    pauses: usize,
    /// Calls fail at random.
    pub(super) rough: bool,
    pub(super) serial: u64,
    pub(super) generation: u64,
    sessions: u32,
    /// What the other process has been lent.
    pub(super) lent: Option<Lent>,
    /// Its chance is its own, so that what is known of a seed stays true.
    pub(super) leasing: SmallRng,
    trace: bool,
    /// Where each core writes down its history, if they do.
    recordings: Option<Recordings>,
    pub(crate) checks: Checks,
}

impl World {
    pub(crate) fn new(seed: u64, history: History, trace: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(!seed);
        let now = Moment::START + Duration::from_secs(1);
        let api = Api {
            refuses_second: history.copies && history.forgets(),
            newest_first: random.random_ratio(1, 2),
            page: random.random_range(2..200),
            lasts: history.lasts,
            fails: history.fails,
            ..Api::default()
        };
        let mut broker = Broker::new(history.requests.clone());
        let mut poisons = HashMap::new();
        for (index, poison) in &history.poisons {
            broker.messages[*index].redelivered = poison.in_doubt;
            poisons.insert(history.requests[*index].run, poison.clone());
        }
        let workers = (0..history.workers).map(|_| Worker::new(&history.settings, now));
        let mut world = Self {
            now,
            workers: workers.collect(),
            active: None,
            broker,
            api,
            orders: Vec::new(),
            poisons,
            events: BTreeMap::new(),
            delivering: false,
            missing: 0,
            pauses: 0,
            rough: history.rough,
            serial: 0,
            generation: 0,
            sessions: 0,
            lent: None,
            leasing: SmallRng::seed_from_u64(seed ^ 0x1ea5e),
            trace,
            recordings: None,
            checks: Checks::new(&history),
            random,
            history,
        };
        world.schedule_troubles();
        world
    }

    /// Every core writes down its history from now on; nothing has happened yet.
    pub(crate) fn record(&mut self) -> Recordings {
        let recordings = self.recordings.insert(Recordings::default()).clone();
        (0..self.workers.len()).for_each(|w| self.record_worker(w));
        recordings
    }

    fn record_worker(&mut self, w: usize) {
        let Some(recordings) = self.recordings.clone() else { return };
        let place = {
            let mut all = recordings.lock().unwrap();
            all.push(Vec::new());
            all.len() - 1
        };
        let tape: Tape = Box::new(move |line| {
            let recording = &mut recordings.lock().unwrap()[place];
            serde_json::to_writer(&mut *recording, line).unwrap();
            recording.push(b'\n');
            true
        });
        let worker = &mut self.workers[w];
        worker.core = worker.core.onto(at(self.now), tape);
    }

    fn schedule_troubles(&mut self) {
        let history = self.history.clone();
        self.after(Duration::ZERO, Event::Open);
        for _ in 0..history.restarts {
            let clean = self.random.random_ratio(1, 2);
            self.sometime(Event::Restart { clean });
        }
        (0..history.lost_sessions).for_each(|_| self.sometime(Event::LoseSession));
        (0..history.cuts).for_each(|_| self.sometime(Event::Cut));
        (0..history.kills).for_each(|_| self.sometime(Event::KillBroker));
        (0..history.orders).for_each(|_| self.sometime(Event::Order));
        for _ in 0..history.leases {
            // Also when nothing but what belongs to requests is wrong.
            let span = history.troubles + Duration::from_secs(300);
            let wait = span.mul_f64(self.leasing.random());
            self.after(wait, Event::Lease);
        }
        (0..history.pauses).for_each(|_| self.sometime(Event::Pause));
        for _ in 0..history.blocks {
            self.sometime(Event::Blocked(true));
            self.sometime(Event::Blocked(false));
        }
        for _ in 0..history.fulls {
            self.sometime(Event::Full(true));
            self.sometime(Event::Full(false));
        }
        for _ in 0..history.rate_changes {
            let rates = history::rates(&mut self.random);
            self.sometime(Event::Rates(rates));
        }
        for outage in history.outages {
            self.sometime(Event::Outage(Some(outage)));
            self.sometime(Event::Outage(None));
        }
        if self.rough && self.random.random_ratio(1, 4) {
            let message = self.random.random_range(0..self.broker.messages.len());
            self.sometime(Event::ForeignTask(message));
        }
        self.after(history.troubles, Event::Fixed);
    }

    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + wait, self.serial), event);
    }

    /// Now and then the session is lost at the worst moment: within `millis`, once in `odds`.
    pub(super) fn tempt(&mut self, odds: u32, millis: u64) {
        if self.rough && self.workers.len() > 1 && self.random.random_ratio(1, odds) {
            let wait = self.millis(0..=millis);
            self.after(wait, Event::LoseSession);
        }
    }

    fn sometime(&mut self, event: Event) {
        let wait = self.history.troubles.mul_f64(self.random.random());
        self.after(wait, event);
    }

    pub(super) fn millis(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.random.random_range(range.start() * 1_000..=range.end() * 1_000))
    }

    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>12.3} {}", (self.now - Moment::START).as_secs_f64(), what());
        }
    }

    /// Runs to the end of the history: everything is settled, or it panics.
    pub(crate) fn run(&mut self) {
        let poisoned = !self.poisons.is_empty() || self.history.list_fails;
        let patience = if poisoned { self.history.bound() } else { PATIENCE };
        let end = self.now + self.history.troubles + patience;
        self.pump_all();
        loop {
            let next = self.events.first_key_value().map(|((at, _), _)| *at);
            let wakes = self.workers.iter().filter_map(|worker| worker.wake);
            let Some(moment) = next.into_iter().chain(wakes).min() else { break };
            assert!(moment < end, "something is held up for ever: {:?}", self.unsettled());
            self.now = self.now.max(moment);
            if next == Some(moment)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            } else {
                // Timers are late.
                self.now = self.now + self.millis(0..=1);
            }
            self.pump_all();
            self.queue_deliveries();
            let quiet = self.workers.iter().all(|worker| worker.core.is_quiet());
            if self.is_done() && !self.rough && (quiet || !self.poisons.is_empty()) {
                break;
            }
        }
        let done = self.is_done();
        assert!(done, "nothing is going to happen, and not settled: {:?}", self.unsettled());
        self.check_end();
    }

    /// Whether everything is settled, but for what is answered the same for ever.
    fn is_done(&self) -> bool {
        self.left().next().is_none()
    }

    fn left(&self) -> impl Iterator<Item = &Message> {
        // Where an account refuses, failures count against nobody.
        let all = self.poisons.values().all(Poison::ends);
        let ends =
            move |message: &&Message| all || !self.poisons.contains_key(&message.request.run);
        self.broker.messages.iter().filter(|message| message.at != At::Gone).filter(ends)
    }

    fn unsettled(&self) -> Vec<String> {
        let left = self.left();
        let held = self.workers.iter().flat_map(|worker| worker.core.held());
        let places = held
            .map(|(job, place)| format!("{} {place:?} {:?}", job.request.id, job.progress.doubt));
        left.map(|message| format!("{} {:?}", message.request.id, message.at))
            .chain(places)
            .collect()
    }

    fn pump_all(&mut self) {
        (0..self.workers.len()).for_each(|w| self.pump(w));
    }

    fn queue_deliveries(&mut self) {
        let room = self.broker.held() < self.history.settings.window;
        let waiting = self.active.is_some() && !self.broker.waiting().is_empty();
        if !self.delivering && room && waiting {
            self.delivering = true;
            // A broker pauses while it reads a large backlog.
            let pauses = self.missing > 0 && self.pauses > 0 && self.random.random_ratio(1, 4);
            if pauses {
                self.pauses -= 1;
                self.checks.count("a pause of the broker after a start");
            }
            let wait = self.millis(0..=if pauses { 2_000 } else { 3 });
            self.after(wait, Event::Deliver);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver => self.deliver(),
            Event::Apply { worker, call, message } => self.apply(worker, call, message),
            Event::Read(w, call) => self.read(w, call),
            Event::Answer(w, call) => self.answer(w, call),
            Event::Publish(w, settlement) => self.publish(w, settlement),
            Event::Settled(w, settlement) => self.settled(w, settlement, None),
            Event::Refused(w, settlement) => self.settled(w, settlement, Some(Settlement::Refused)),
            Event::Full(full) => self.broker.full = full && self.rough,
            Event::Refreshed(w, serial) => self.refreshed(w, serial),
            Event::Lease => self.lease(),
            Event::Leased => self.leased(),
            Event::Order => self.order(),
            Event::Release(of) => {
                self.keep_order(of, Change { hold: Some(false), ..Change::default() });
            }
            Event::Hear => self.hear(),
            Event::PublishCopy { worker, serial, message, session, request } => {
                self.publish_copy(worker, serial, (message, session, request));
            }
            Event::Parked(w, serial) => self.parked(w, serial),
            Event::Fetch(w, serial) => self.fetch(w, serial),
            Event::ForeignTask(message) => self.foreign_task(message),
            Event::Outage(outage) => self.api.outage = outage.filter(|_| self.rough),
            Event::Open => self.open(),
            Event::Detect(w) => self.detect(w),
            Event::LoseSession | Event::Cut | Event::KillBroker | Event::Restart { .. } => {
                self.lose(&event);
            }
            Event::Blocked(_) | Event::Pause | Event::Resume | Event::Rates(_) | Event::Fixed => {
                self.steer(event);
            }
        }
    }

    /// What concerns every worker alike.
    fn steer(&mut self, event: Event) {
        let now = at(self.now);
        self.say(|| format!("{event:?}"));
        if let Event::Fixed = event {
            self.rough = false;
            self.broker.full = false;
            self.api.outage = None;
        }
        if let Event::Blocked(_) | Event::Fixed = event {
            self.broker.blocked = matches!(event, Event::Blocked(true)) && self.rough;
        }
        for worker in &mut self.workers {
            match &event {
                Event::Pause => {
                    worker.core.pause(now, Pause { by: "op".into(), reason: "lunch".into() });
                }
                Event::Resume => worker.core.resume(now),
                Event::Rates(rates) => worker.core.set_rates(now, rates),
                _ => worker.core.blocked(now, self.broker.blocked),
            }
        }
        match event {
            Event::Pause => {
                let wait = self.millis(1..=60_000);
                self.after(wait, Event::Resume);
            }
            Event::Rates(rates) => {
                self.history.settings.gate.rates.clone_from(&rates);
                self.checks.rates_changed(rates);
            }
            _ => {}
        }
    }

    fn foreign_task(&mut self, message: usize) {
        let request = &self.broker.messages[message].request;
        let source = request.source_server_id.clone();
        let name = if self.random.random_ratio(1, 2) {
            request.name.to_string()
        } else {
            "other".to_owned()
        };
        if !self.api.knows(&source.get()) {
            self.checks.count("a task made by somebody else");
            self.api.add(at(self.now), &name, &source.get(), true);
        }
    }

    /// Whoever is quickest takes the exclusive queue.
    fn open(&mut self) {
        let free: Vec<usize> =
            (0..self.workers.len()).filter(|w| self.workers[*w].session.is_none()).collect();
        if self.active.is_some() || free.is_empty() {
            return;
        }
        let w = free[self.random.random_range(0..free.len())];
        self.sessions += 1;
        self.say(|| format!("worker {w} is active in session {}", self.sessions));
        self.active = Some(w);
        self.broker.session = Some(self.sessions);
        self.workers[w].session = Some(self.sessions);
        // Every order is read before anything starts.
        self.hear();
        let waiting = self.broker.waiting().len();
        if self.is_leasing() {
            self.checks.count("a worker that finds calls lent");
            self.workers[w].core.tell(at(self.now), Input::Ordered(Steer::AssumeLent));
        }
        self.missing = waiting;
        self.pauses = self.random.random_range(0..=5);
        self.workers[w].core.session_opened(at(self.now), self.sessions, waiting);
    }

    fn detect(&mut self, w: usize) {
        if self.workers[w].session.is_some() && self.active != Some(w) {
            self.say(|| format!("worker {w} learns that its session is lost"));
            self.workers[w].session = None;
            self.workers[w].core.session_lost(at(self.now));
            // Nobody may have been there to take over.
            self.after(Duration::from_millis(1), Event::Open);
        }
    }

    fn lose(&mut self, event: &Event) {
        self.say(|| format!("{event:?}"));
        let lost = self.active.take();
        self.broker.lose_session();
        match event {
            Event::KillBroker => {
                self.checks.count("a broker killed");
                let random = &mut self.random;
                self.broker.bring_back(|| random.random_ratio(1, 2));
            }
            Event::Cut if lost.is_some() => {
                self.checks.count("a worker cut off");
                let wait = self.history.overlap.mul_f64(self.random.random());
                if let Some(w) = lost {
                    self.after(wait, Event::Detect(w));
                }
            }
            _ => {}
        }
        if let (Event::LoseSession | Event::KillBroker, Some(w)) = (event, lost) {
            self.workers[w].session = None;
            self.workers[w].core.session_lost(at(self.now));
        }
        if let Event::Restart { clean } = event {
            self.restart(lost.unwrap_or(0), *clean);
        }
        let longest = if self.random.random_ratio(1, 2) { 5 } else { 3_000 };
        let wait = self.millis(1..=longest);
        self.after(wait, Event::Open);
    }

    /// What it has sent is on its way; nobody is left to hear of it.
    fn restart(&mut self, w: usize, clean: bool) {
        if clean {
            self.workers[w].core.stop(at(self.now));
            drop(self.workers[w].core.drain());
        }
        self.workers[w] = Worker::new(&self.history.settings, self.now);
        self.record_worker(w);
    }

    fn deliver(&mut self) {
        self.delivering = false;
        let waiting = self.broker.waiting();
        let (Some(w), Some(session)) = (self.active, self.broker.session) else { return };
        if waiting.is_empty() {
            return;
        }
        let index = waiting[self.random.random_range(0..waiting.len())];
        let token = self.broker.deliver(index);
        let message = &self.broker.messages[index];
        let job = Job::new(message.request.clone(), token, session, message.redelivered, self.now);
        self.say(|| format!("deliver {} again={}", job.request.id, job.redelivered));
        if job.redelivered {
            self.checks.count("a redelivery");
        }
        let full = self.broker.held() >= self.history.settings.window;
        self.missing = if full { 0 } else { self.missing.saturating_sub(1) };
        self.workers[w].core.arrived(at(self.now), job);
    }
}

pub(super) fn at(moment: Moment) -> Now {
    let since = SignedDuration::try_from(moment - Moment::START).unwrap();
    Now { at: moment, wall: history::epoch() + since }
}

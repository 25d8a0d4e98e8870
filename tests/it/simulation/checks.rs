//! The promises, asked after every step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use sluicegate::core::gate::Reason;
use sluicegate::core::window::Place;
use sluicegate::core::{Doubt, Job, Moment, Orders, Outcome, Question, Rate, Request, Step, Text};

use super::api::busiest;
use super::broker::Token;
use super::history::History;
use super::world::{World, at};

pub(crate) struct Checks {
    rates: Vec<Rate>,
    /// When calls arrived at the API since those rates hold.
    arrivals: Vec<Moment>,
    /// Everything is remembered in maps of this size.
    memory: usize,
    /// What has happened, and how often: a history without troubles would prove little.
    pub(crate) tally: BTreeMap<&'static str, usize>,
}

impl Checks {
    pub(crate) fn new(history: &History) -> Self {
        Self {
            rates: history.settings.gate.rates.clone(),
            arrivals: Vec::new(),
            memory: history.settings.window.max(1024),
            tally: BTreeMap::new(),
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(crate) fn arrived(&mut self, at: Moment) {
        self.arrivals.push(at);
    }

    /// Calls per second, from the first to the last.
    pub(crate) fn pace(&self) -> f64 {
        let took = *self.arrivals.last().unwrap() - self.arrivals[0];
        f64::from(u32::try_from(self.arrivals.len() - 1).unwrap()) / took.as_secs_f64()
    }

    pub(crate) fn rates_changed(&mut self, rates: Vec<Rate>) {
        self.rates = rates;
        self.arrivals.clear();
    }

    fn check_rates(&self) {
        for rate in &self.rates {
            let most = busiest(rate.window(), &self.arrivals);
            assert!(most <= rate.count() as usize, "{most} calls in a window of {rate}");
        }
    }
}

/// The order that was promised, for jobs that have an enqueue time.
fn urgency(job: &Job<Token>) -> (Reverse<u16>, i64, u64) {
    let enqueued = job.request.enqueued_at.millisecond().unwrap_or(i64::MIN);
    (Reverse(job.request.priority), enqueued, job.arrival)
}

impl World {
    pub(super) fn check_step(&self, w: usize, step: &Step<Token>) {
        let worker = &self.workers[w];
        if let Step::Post(job) = step {
            assert!(job.progress.doubt == Doubt::None, "{} is sent in doubt", job.request.id);
            assert!(worker.session.is_some(), "{} is sent without a session", job.request.id);
            self.check_orders(w, job);
            // A probe is no matter of urgency, and what was refused is tried again at its own time.
            if worker.core.gate().breaker().opened().is_none() && !job.progress.aside {
                self.check_most_urgent(w, job);
            }
        }
        let calls = matches!(step, Step::Post(_) | Step::Ask(_));
        if calls && self.active == Some(w) {
            assert_eq!(self.missing, 0, "a call before all that waited at the start has come");
        }
        if let Step::Post(job) | Step::Ask(Question::LookUp(job)) = step {
            let source = &job.request.source_server_id;
            let mut jobs = worker.calls.values().filter_map(|call| call.what.job());
            let alone = jobs.all(|other| other.request.source_server_id != *source);
            assert!(alone, "two calls for {source} are in flight");
        }
        if let Step::Settle(job, _)
        | Step::Acknowledge(job)
        | Step::Requeue(job)
        | Step::Park(job) = step
        {
            assert_eq!(Some(job.session), worker.session, "a void delivery is settled");
        }
        let most = self.history.settings.gate.max_in_flight;
        assert!(worker.core.gate().in_flight() <= most, "more in flight than {most}");
    }

    /// What this worker has been told of is never sent against an order. One that is cut off and does not know it has heard
    /// less.
    fn check_orders(&self, w: usize, job: &Job<Token>) {
        let mut kept = Orders::none(self.history.settings.clock_slack);
        self.orders[..self.workers[w].heard].iter().cloned().for_each(|order| kept.take(order));
        let Some(original) = self.broker.original(job.request.run) else { return };
        let mut request = original.clone();
        let cancelled = kept.lay_over(&mut request);
        let id = &request.id;
        assert!(!cancelled, "{id} is sent, and was cancelled");
        assert!(!request.rare.held, "{id} is sent, and is held");
        let now = at(self.now).wall;
        assert!(
            request.rare.not_before.is_none_or(|from| from <= now),
            "{id} is sent at {now}, before {:?}",
            request.rare.not_before
        );
    }

    /// Source servers with a request in flight: in a call, or settled after one.
    fn busy(&self, w: usize) -> HashSet<&Text> {
        let worker = &self.workers[w];
        let called = worker.calls.values().filter_map(|call| call.what.job());
        let settled = worker.settlements.values().map(|(job, _)| job).filter(|job| job.in_flight);
        called.chain(settled).map(|job| &job.request.source_server_id).collect()
    }

    fn check_most_urgent(&self, w: usize, job: &Job<Token>) {
        let mut busy = self.busy(w);
        busy.insert(&job.request.source_server_id);
        // With the running cap reached, what starts no migration may overtake what does.
        let room = self.history.settings.max_running == 0;
        for (other, place) in self.workers[w].core.held() {
            let comparable = other.request.enqueued_at.get().is_some()
                && job.request.enqueued_at.get().is_some()
                || other.request.priority != job.request.priority;
            let startable = matches!(place, Place::Post | Place::LookUp)
                && (room || other.request.starts == job.request.starts)
                && !busy.contains(&other.request.source_server_id);
            assert!(
                !startable || !comparable || urgency(job) < urgency(other),
                "{} goes before {} ({place:?})",
                job.request.id,
                other.request.id
            );
        }
    }

    /// The core waits: each delivery is in one place, nobody waits in vain, and what is remembered is bounded.
    pub(super) fn check_waiting(&self, w: usize) {
        let worker = &self.workers[w];
        assert_eq!(self.broker.leaked(), None, "a delivery was dropped unsettled");
        if self.active == Some(w) {
            let live = |job: &&Job<Token>| Some(job.session) == self.broker.session;
            let called = worker.calls.values().filter_map(|call| call.what.job());
            let settled = worker.settlements.values().map(|(job, _)| job);
            let settled = settled.chain(worker.moves.values());
            let held = worker.core.held().map(|(job, _)| job);
            let held = held.chain(worker.core.unpublished_jobs());
            let places = called.chain(settled).chain(held).filter(live).count();
            assert_eq!(places, self.broker.held(), "a delivery is in no place, or in two");
        }
        // A copy waits for what is under way for its source server, or stands behind another one of its line.
        let busy = self.busy(w);
        let lined =
            worker.core.held().filter(|(_, place)| matches!(place, Place::Post | Place::LookUp));
        let lined: HashSet<_> =
            lined.map(|(job, _)| (&job.request.source_server_id, job.request.starts)).collect();
        for (job, place) in worker.core.held() {
            let source = &job.request.source_server_id;
            let in_vain = place == Place::Copy
                && !busy.contains(source)
                && !lined.contains(&(source, job.request.starts));
            assert!(!in_vain, "{} waits for nobody", job.request.id);
        }
        self.check_wakes(w);
        let counts = worker.core.counts();
        let out = (worker.calls.len(), worker.settlements.len() + worker.moves.len());
        assert_eq!((counts.in_flight, counts.settling), out, "what is out is counted wrong");
        assert!(worker.core.remembered() <= 5 * self.checks.memory, "too much is remembered");
    }

    /// With nothing out, only time goes on: the core must know when.
    fn check_wakes(&self, w: usize) {
        let worker = &self.workers[w];
        let settled = worker.settlements.is_empty() && worker.moves.is_empty();
        let idle = worker.calls.is_empty() && settled;
        if !idle || worker.session.is_none() || worker.core.held().next().is_none() {
            return;
        }
        let shut = worker.core.shut();
        let startable = worker.core.held().find(|(_, place)| *place == Place::Post);
        assert!(shut.is_some() || startable.is_none(), "the gate is open, and nothing starts");
        let timed =
            [Reason::Halted, Reason::Breaker, Reason::Throttled, Reason::Rate, Reason::Linger];
        if let Some(shut) = shut.filter(|shut| timed.contains(&shut.reason)) {
            let until = shut.until.expect("an end of what ends by itself");
            assert!(worker.wake.is_some_and(|wake| wake <= until), "nobody wakes it: {shut:?}");
        }
    }

    /// A task has been created.
    pub(super) fn check_tasks(&self, request: &Request) {
        let Request { name, source_server_id: source, .. } = request;
        // After a migration has ended another name may ask for another one.
        let ends = self.history.lasts.is_some();
        let same =
            |(task, server): &&(String, String)| *source == **server && (!ends || *name == **task);
        let created = self.api.created.iter().filter(same).count();
        // What has failed is wanted again by whoever publishes it again.
        assert!(created < 2 || self.api.fails, "two tasks were created for {source}");
        let alone = !self.checks.tally.contains_key("a task made by somebody else");
        let live = self.api.live(&source.get(), at(self.now));
        assert!(live < 2 || !alone, "two tasks for {source} are live at once");
        let most = self.history.settings.max_running;
        // Two workers that both believe to be the active one keep the cap each for itself.
        if most > 0 && alone && self.history.cuts == 0 {
            let running = self.api.running(at(self.now));
            assert!(running <= most, "{running} migrations run, and {most} may");
        }
    }

    pub(super) fn check_end(&self) {
        // Two workers that both believe to be the active one keep the rate each for itself.
        if self.history.cuts == 0 {
            self.checks.check_rates();
        }
        for message in &self.broker.messages {
            let results = self.broker.results(message.request.run);
            let (id, source) = (&message.request.id, &message.request.source_server_id);
            let waits = self.poisons.contains_key(&message.request.run);
            assert!(waits || !results.is_empty(), "{id} has left the queue without a result");
            let says_there_is = |outcome: &Outcome| outcome.is_success();
            let says = results.iter().any(says_there_is);
            assert!(!says || self.api.knows(&source.get()), "{id}: there is no task for {source}");
        }
        for worker in &self.workers {
            let left = worker.core.gate().in_flight();
            let settled = worker.settlements.values().filter(|(job, _)| job.in_flight).count();
            let out = worker.calls.len() + settled;
            assert_eq!(left, out, "a place in flight is never requeued");
        }
    }
}

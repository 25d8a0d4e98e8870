//! The promises, asked after every step.

use std::cmp::Reverse;
use std::collections::HashSet;

use sluicegate::core::window::Place;
use sluicegate::core::{Job, Moment, Outcome, Rate, Settings, Step};

use super::api::busiest;
use super::broker::Token;
use super::world::{What, World, is_clear};

/// When calls arrived at the API, by the rates that held then.
pub(crate) struct Checks {
    rates: Vec<Rate>,
    arrivals: Vec<Moment>,
    /// Everything is remembered in maps of this size.
    memory: usize,
}

impl Checks {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            rates: settings.gate.rates.clone(),
            arrivals: Vec::new(),
            memory: settings.window.max(1024),
        }
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
        self.check_rates();
        self.rates = rates;
        self.arrivals.clear();
    }

    pub(crate) fn check_rates(&self) {
        for rate in &self.rates {
            let most = busiest(rate.window(), &self.arrivals);
            assert!(most <= rate.count() as usize, "{most} calls in a window of {rate}");
        }
    }
}

/// The order that was promised, for jobs that have an enqueue time.
fn urgency(job: &Job<Token>) -> (Reverse<u16>, i64, u64) {
    let enqueued = job.request.enqueued_at.map_or(i64::MIN, jiff::Timestamp::as_millisecond);
    (Reverse(job.request.priority), enqueued, job.arrival)
}

impl World {
    pub(super) fn check_step(&self, step: &Step<Token>) {
        if let Step::Post(job) = step {
            assert!(is_clear(job), "{} is sent while in doubt", job.request.id);
            self.check_alone(job);
            if self.core.gate().halted().is_none() {
                self.check_most_urgent(job);
            }
        }
        if let Step::Settle(job, _) | Step::Acknowledge(job) | Step::GiveBack(job) = step {
            assert_eq!(Some(job.session), self.broker.session, "a void delivery is settled");
        }
        let most = self.history.settings.gate.max_in_flight;
        assert!(self.core.gate().in_flight() <= most, "more in flight than {most}");
    }

    fn check_alone(&self, job: &Job<Token>) {
        let source = &job.request.source_server_id;
        let same = self.calls.values().any(|call| match &call.what {
            What::Post(other, _) | What::Look(other) => other.request.source_server_id == *source,
            What::List { .. } => false,
        });
        assert!(!same, "two calls for {source} are in flight");
    }

    fn check_most_urgent(&self, job: &Job<Token>) {
        let busy: HashSet<&str> = self
            .calls
            .values()
            .filter_map(|call| match &call.what {
                What::Post(job, _) | What::Look(job) => Some(&*job.request.source_server_id),
                What::List { .. } => None,
            })
            .chain(
                self.settlements
                    .values()
                    .filter(|(job, _)| job.in_flight)
                    .map(|(job, _)| &*job.request.source_server_id),
            )
            .chain([&*job.request.source_server_id])
            .collect();
        for (other, place) in self.core.held() {
            let startable = matches!(place, Place::Post | Place::Look)
                && !busy.contains(&*other.request.source_server_id)
                && (other.request.enqueued_at.is_some() && job.request.enqueued_at.is_some()
                    || other.request.priority != job.request.priority);
            assert!(
                !startable || urgency(job) < urgency(other),
                "{} goes before {} ({place:?})",
                job.request.id,
                other.request.id
            );
        }
    }

    /// The core waits: each delivery is in one place, and what is remembered is bounded.
    pub(super) fn check_quiet(&self) {
        assert_eq!(self.broker.leaked(), None, "a delivery was dropped unsettled");
        let live = |job: &Job<Token>| Some(job.session) == self.broker.session;
        let out = self
            .calls
            .values()
            .filter(|call| match &call.what {
                What::Post(job, _) | What::Look(job) => live(job),
                What::List { .. } => false,
            })
            .count();
        let settling = self.settlements.values().filter(|(job, _)| live(job)).count();
        assert_eq!(
            self.core.held().count() + out + settling,
            self.broker.held(),
            "a delivery is in no place, or in two"
        );
        let counts = self.core.counts();
        assert_eq!(
            (counts.in_flight, counts.settling),
            (self.calls.len(), self.settlements.len()),
            "calls and settlements are counted wrong"
        );
        assert!(self.core.remembered() <= 5 * self.checks.memory, "too much is remembered");
    }

    pub(super) fn check_tasks(&self, source: &str) {
        assert!(self.api.created_for(source) < 2, "two tasks were created for {source}");
    }

    pub(super) fn check_end(&self) {
        self.checks.check_rates();
        for message in &self.broker.messages {
            let (id, source) = (&message.request.id, &message.request.source_server_id);
            assert!(!message.results.is_empty(), "{id} has left the queue without a result");
            let says_there_is = |outcome: &Outcome| !outcome.is_dead_letter();
            let says = message.results.iter().any(says_there_is);
            assert!(!says || self.api.knows(source), "{id}: there is no task for {source}");
        }
        assert_eq!(self.core.gate().in_flight(), 0, "a place in flight is never given back");
    }
}

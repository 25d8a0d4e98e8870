//! What becomes of a request that has ended, when the broker refuses its dead letter or its result?
//!
//! It waits unsettled: in no call, in nobody's way, and its delivery is held. It is offered again at growing intervals,
//! what was received first first, and all of them as soon as one is taken. Others go on, until too many wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Core, Step};
use crate::core::gate::{Reason, Shut};
use crate::core::outcome::{Ending, Outcome};
use crate::core::request::Job;
use crate::core::time::{Moment, Now};

/// The longest time between two tries.
const SELDOM: Duration = Duration::from_secs(60);
/// So many are offered at once when the broker has just taken some.
const MOST_AT_ONCE: usize = 64;

/// Those that wait for the same: that dead letters are taken, or results.
#[derive(Debug)]
pub(super) struct Unpublished<D> {
    /// By when the delivery was received, for none may be held for too long.
    waiting: BTreeMap<(Moment, u64), (Job<D>, Box<Ending>)>,
    /// Numbers those that were received at the same moment.
    serial: u64,
    /// Tries in a row that were refused.
    refused: u32,
    /// No try before this.
    due: Moment,
    /// How many are offered at once, and how many are out.
    at_once: usize,
    out: usize,
}

impl<D> Default for Unpublished<D> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            serial: 0,
            refused: 0,
            due: Moment::START,
            at_once: 1,
            out: 0,
        }
    }
}

impl<D> Unpublished<D> {
    /// Those that are offered just now may well be refused again.
    pub(super) fn len(&self) -> usize {
        let out = if self.is_refused() { self.out } else { 0 };
        self.waiting.len() + out
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job<D>> {
        self.waiting.values().map(|(job, _)| job)
    }

    pub(super) fn into_jobs(self) -> impl Iterator<Item = Job<D>> {
        self.waiting.into_values().map(|(job, _)| job)
    }

    /// The latest try was refused.
    fn is_refused(&self) -> bool {
        self.refused > 0
    }

    fn insert(&mut self, job: Job<D>, ending: Box<Ending>) {
        self.serial += 1;
        self.waiting.insert((job.received, self.serial), (job, ending));
    }

    fn received_first(&self) -> Option<Moment> {
        self.waiting.keys().next().map(|(received, _)| *received)
    }

    fn pop(&mut self) -> Option<(Job<D>, Box<Ending>)> {
        self.waiting.pop_first().map(|(_, ended)| ended)
    }

    fn next_to_offer(&mut self, now: Moment) -> Option<(Job<D>, Box<Ending>)> {
        if self.due > now || self.out >= self.at_once {
            return None;
        }
        let next = self.pop()?;
        self.out += 1;
        Some(next)
    }

    fn taken(&mut self) {
        self.out = self.out.saturating_sub(1);
        self.refused = 0;
        self.at_once = (2 * self.at_once).min(MOST_AT_ONCE);
        self.due = Moment::START;
    }
}

impl<D> Core<D> {
    /// A settlement begins. A job that comes from a call stays in flight until it ends, so a broker that takes no
    /// results stops submissions.
    pub(super) fn settle(&mut self, now: Now, job: Job<D>, ending: Ending) {
        if self.out.unpublished_of(ending.outcome).is_refused() {
            return self.keep_unpublished(now, job, Box::new(ending));
        }
        self.out.settling += 1;
        self.out.steps.push_back(Step::Settle(job, Box::new(ending)));
    }

    fn keep_unpublished(&mut self, now: Now, mut job: Job<D>, ending: Box<Ending>) {
        self.land(now, &job);
        job.in_flight = false;
        self.out.unpublished_of(ending.outcome).insert(job, ending);
    }

    /// The broker has taken what became of a request.
    pub(super) fn was_published(&mut self, outcome: Outcome) {
        self.out.unpublished_of(outcome).taken();
    }

    /// The broker has refused it. Several that were out together are refused once.
    pub(super) fn was_refused(&mut self, now: Now, job: Job<D>, ending: Box<Ending>) {
        let unpublished = self.out.unpublished_of(ending.outcome);
        unpublished.out = unpublished.out.saturating_sub(1);
        unpublished.at_once = 1;
        if unpublished.due <= now.at {
            unpublished.refused += 1;
            let refused = unpublished.refused;
            let delay = self.gate.delay(refused, &mut self.random).min(SELDOM);
            self.out.unpublished_of(ending.outcome).due = now.at + delay;
        }
        if self.session.is(job.session) {
            self.keep_unpublished(now, job, ending);
        } else {
            self.ledger.keep(&job, ending);
            self.land(now, &job);
        }
    }

    /// Offers again what is due, and requeues what was held for too long: it ends the same when it comes again.
    pub(super) fn offer_unpublished(&mut self, now: Now) {
        for kind in 0..self.out.unpublished.len() {
            while let Some(received) = self.out.unpublished[kind].received_first()
                && received + self.settings.max_hold <= now.at
                && let Some((job, ending)) = self.out.unpublished[kind].pop()
            {
                self.ledger.keep(&job, ending);
                self.requeue(now, job);
            }
            if self.session.stopping || self.gate.is_blocked() {
                continue;
            }
            while let Some((job, ending)) = self.out.unpublished[kind].next_to_offer(now.at) {
                self.out.settling += 1;
                self.out.steps.push_back(Step::Settle(job, ending));
            }
        }
    }

    /// When something of this is due next.
    pub(super) fn next_unpublished(&self) -> Option<Moment> {
        let times = self.out.unpublished.iter().filter_map(|unpublished| {
            let held = unpublished.received_first()? + self.settings.max_hold;
            let due = Some(unpublished.due).filter(|_| unpublished.out < unpublished.at_once);
            Some(due.map_or(held, |due| due.min(held)))
        });
        times.min()
    }

    /// The session is lost, and with it their deliveries; whoever opens the next one tries anew.
    pub(super) fn forget_unpublished(&mut self) {
        for unpublished in std::mem::take(&mut self.out.unpublished) {
            for (job, ending) in unpublished.waiting.into_values() {
                self.ledger.keep(&job, ending);
            }
        }
    }

    /// Dead letters wait up to a quarter of the window. What was created is known to nobody else until its result is
    /// there: of that no more than may be in flight.
    pub(super) fn too_many_unpublished(&self) -> Option<Shut> {
        let [results, dead_letters] = &self.out.unpublished;
        let most = (self.settings.window / 4).max(1);
        let full = dead_letters.len() >= most || results.len() >= self.gate.max_in_flight();
        full.then(|| Shut { reason: Reason::Unpublished, until: self.next_unpublished() })
    }
}

//! What is remembered of runs whose delivery is gone, or may come again?

use crate::core::Hashes;
use crate::core::memory::Memory;
use crate::core::outcome::{Ending, Outcome};
use crate::core::request::{Job, Progress, Run};
use crate::core::time::Moment;

/// So many refusals are remembered, whatever the window.
const REFUSED: usize = 1024;

/// What outlives a delivery, by run; all of it bounded.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Runs that have ended, and whose result has not been confirmed: the next delivery of the run is settled so.
    pub(super) pending: Memory<Run, Box<Ending>>,
    /// Runs whose result has been published: a redelivery is only acknowledged.
    pub(super) published: Memory<Run, ()>,
    /// Runs of which a `POST` was begun by this process, whatever became of it.
    pub(super) begun: Memory<Run, ()>,
    /// What was tried for runs whose delivery was lost or requeued; `true`: this worker requeued it itself.
    pub(super) carried: Memory<Run, (Progress, bool)>,
    /// When the account last refused what has project, region and target server in common, and which runs were probes last:
    /// each by a hash of it.
    refused: Memory<u64, Moment>,
}

impl Ledger {
    pub(super) fn new(capacity: usize, hashes: &Hashes) -> Self {
        Self {
            pending: Memory::new(capacity, hashes.clone()),
            published: Memory::new(2 * capacity, hashes.clone()),
            begun: Memory::new(capacity, hashes.clone()),
            carried: Memory::new(capacity, hashes.clone()),
            refused: Memory::new(REFUSED, hashes.clone()),
        }
    }

    /// How many runs are remembered.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.published.len() + self.begun.len() + self.carried.len()
    }

    /// Keeps what was tried for a run whose delivery goes; `requeued`: this worker requeues it.
    pub(super) fn carry<D>(&mut self, job: &Job<D>, requeued: bool) {
        self.carried.insert(job.request.run, (job.carried(), requeued));
    }

    /// What this worker requeued may have been taken by another one since.
    pub(super) fn others_may_have_had_it(&mut self) {
        for (_, requeued) in self.carried.values_mut() {
            *requeued = false;
        }
    }

    /// Keeps how a run has ended for its next delivery. One that is invalid ends the same by itself when it comes again, and
    /// thousands of them have long lists of violations.
    pub(super) fn keep<D>(&mut self, job: &Job<D>, ending: Box<Ending>) {
        if ending.outcome != Outcome::Invalid {
            self.pending.insert(job.request.run, ending);
        }
    }

    /// The result of this run has been published.
    pub(super) fn publish(&mut self, run: Run) {
        self.pending.remove(&run);
        self.published.insert(run, ());
    }

    pub(super) fn note_trouble(&mut self, of: u64, at: Moment) {
        self.refused.insert(of, at);
    }

    pub(super) fn forget_trouble(&mut self, of: u64) {
        self.refused.remove(&of);
    }

    /// When this was last in trouble; [`Moment::START`]: never, for what is known.
    pub(super) fn last_trouble(&self, of: u64) -> Moment {
        self.refused.get(&of).copied().unwrap_or(Moment::START)
    }
}

//! When is the list of all tasks read, and what does it say about the jobs that wait for it?

use super::doubt::raise;
use super::ending::in_the_way;
use super::{Core, SWEEP_FROM};
use crate::core::judge;
use crate::core::outcome::Outcome;
use crate::core::request::{Doubt, Job};
use crate::core::sweep::{self, Sweep};
use crate::core::time::{Moment, Now};
use crate::core::verdict::{Fault, Task};
use crate::core::window::{Key, Rank};

impl<D> Core<D> {
    /// Begins a list if one is cheaper than the looks it replaces, or if a target server has to be found.
    pub(super) fn begin_sweep(&mut self, now: Moment) {
        let waited_for = self.window.first_swept().is_some();
        // All that waited for it may have been given back.
        self.sweep = self.sweep.take().filter(|sweep| sweep.out || waited_for);
        if self.sweep.is_some() {
            return;
        }
        let worth = SWEEP_FROM.max(sweep::pages(self.tasks_listed));
        if self.window.looks_len() >= worth && self.no_sweep_until <= now {
            self.window.sweep_looks();
        }
        let keys: Vec<Key> = self.window.swept_keys().collect();
        if keys.is_empty() {
            return;
        }
        let jobs = keys.iter().filter_map(|key| self.window.get(*key));
        let servers =
            jobs.map(|job| (&job.request.source_server_id, job.request.target_vm_id.as_ref()));
        let sweep = Sweep::new(keys.clone(), servers);
        self.sweep = Some(sweep);
    }

    /// The rank of the most urgent job that waits for the next page, if it may be asked for.
    pub(super) fn next_page(&self, now: Moment) -> Option<Rank> {
        let sweep = self.sweep.as_ref()?;
        if sweep.out || sweep.until > now || sweep.keys.is_empty() {
            return None;
        }
        self.window.first_swept()
    }

    /// The list is complete: it answers for every job that waited for it as a look begun when the list was.
    pub(super) fn swept(&mut self, now: Now, sweep: &Sweep) {
        let begun = sweep.begun.unwrap_or(Moment::START);
        self.lists_given_up = 0;
        let mut unclear = false;
        for key in &sweep.keys {
            let Some(mut job) = self.window.take_swept(*key) else { continue };
            // A `POST` for the same source server may have begun since an earlier look of this one.
            raise(&self.known, &mut job);
            job.progress.looks += 1;
            if let Doubt::Target(fault) = &job.progress.doubt {
                let fault = fault.clone();
                self.found_target(now, job, &fault, &sweep.rows);
            } else if sweep.unread.contains(&job.request.source_server_id) {
                // The list is silent about it: a look-up of its own may not be.
                self.back(now, job, now.at);
                unclear = true;
            } else if self.window.is_busy(&job.request.source_server_id) {
                // The call that is under way may create what the list could not show: another look decides.
                self.back(now, job, now.at);
            } else {
                self.found(now, begun, job, &sweep.rows);
            }
        }
        if unclear {
            self.no_sweep_until = now.at + self.settings.look_again * 10;
        }
    }

    /// A conflict that the source server does not explain: is there a task at the target server?
    pub(super) fn found_target(&mut self, now: Now, job: Job<D>, fault: &Fault, rows: &[Task]) {
        let Some(task) = judge::by_target(&job.request, rows) else {
            let reason = fault.to_string();
            return self.finish(now, job, Outcome::Rejected, reason);
        };
        let reason = in_the_way(task);
        let mut ending = self.ending(now, &job, Outcome::Conflict, reason);
        ending.task_id = Some(task.id.clone());
        ending.task_state = Some(task.state.clone());
        self.end(now, job, ending);
    }

    /// The list cannot be read whole: the jobs are looked up one by one.
    pub(super) fn sweep_given_up(&mut self, now: Now, sweep: &Sweep) {
        let longer = 1 << self.lists_given_up.min(6);
        self.lists_given_up += 1;
        self.no_sweep_until = now.at + self.settings.look_again * 10 * longer;
        for key in &sweep.keys {
            let Some(job) = self.window.take_swept(*key) else { continue };
            if let Doubt::Target(fault) = &job.progress.doubt {
                let reason = fault.to_string();
                self.finish(now, job, Outcome::Rejected, reason);
            } else {
                self.back(now, job, now.at);
            }
        }
    }
}

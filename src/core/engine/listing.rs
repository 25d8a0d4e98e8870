//! When is the list of all tasks read, and what does it say about the jobs that wait for it?

use super::Core;
use super::ending::in_the_way;
use crate::core::judge;
use crate::core::outcome::Outcome;
use crate::core::request::{Doubt, Job};
use crate::core::sweep::{self, Sweep};
use crate::core::time::{Moment, Now};
use crate::core::verdict::{Fault, Task};
use crate::core::window::{Key, Rank};

/// Fewer jobs in doubt than this, or than the list of all tasks has pages, are looked up one by one.
const SWEEP_FROM: usize = 8;

impl<D> Core<D> {
    /// Begins a list if one is cheaper than the look-ups it replaces, or if a target server has to be found.
    pub(super) fn begin_sweep(&mut self, now: Moment) {
        let waited_for = self.window.first_swept().is_some();
        // All that waited for it may have been requeued.
        self.doubts.list = self.doubts.list.take().filter(|sweep| sweep.out || waited_for);
        if self.doubts.list.is_some() {
            return;
        }
        let worth = SWEEP_FROM.max(sweep::pages(self.doubts.tasks_listed));
        if self.window.look_ups_len() >= worth && self.doubts.no_list_until <= now {
            self.window.sweep_look_ups();
        }
        let keys: Vec<Key> = self.window.swept_keys().collect();
        if keys.is_empty() {
            return;
        }
        let jobs = keys.iter().filter_map(|key| self.window.get(*key));
        let servers =
            jobs.map(|job| (&job.request.source_server_id, job.request.target_vm_id.as_ref()));
        let sweep = Sweep::new(keys.clone(), servers);
        self.doubts.list = Some(sweep);
    }

    /// The rank of the most urgent job that waits for the next page, if it may be asked for.
    pub(super) fn next_page(&self, now: Moment) -> Option<Rank> {
        let sweep = self.doubts.list.as_ref()?;
        if sweep.out || sweep.until > now || sweep.keys.is_empty() {
            return None;
        }
        self.window.first_swept()
    }

    /// The list is complete: it answers for every job that waited for it as a look-up begun when the list was.
    pub(super) fn swept(&mut self, now: Now, sweep: &Sweep) {
        let begun = sweep.begun.unwrap_or(Moment::START);
        self.doubts.lists_given_up = 0;
        let mut unclear = false;
        for key in &sweep.keys {
            let Some(mut job) = self.window.take_swept(*key) else { continue };
            // A `POST` for the same source server may have begun since an earlier look-up of this one.
            self.doubts.raise(&mut job);
            job.progress.look_ups += 1;
            if let Doubt::Target(fault) = &job.progress.doubt {
                let fault = fault.clone();
                self.found_target(now, job, &fault, &sweep.rows);
            } else if sweep.unread.contains(&job.request.source_server_id) {
                // The list is silent about it: a look-up of its own may not be.
                self.back(now, job, now.at);
                unclear = true;
            } else if self.window.is_busy(&job.request.source_server_id) {
                // The call that is under way may create what the list could not show: another look-up decides.
                self.back(now, job, now.at);
            } else {
                self.found(now, begun, job, &sweep.rows);
            }
        }
        if unclear {
            self.doubts.no_list_until = now.at + self.settings.look_again * 10;
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
        let longer = 1 << self.doubts.lists_given_up.min(6);
        self.doubts.lists_given_up += 1;
        self.doubts.no_list_until = now.at + self.settings.look_again * 10 * longer;
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

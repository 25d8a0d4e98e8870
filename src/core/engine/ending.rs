//! How did a request end, and who is told?

use super::Core;
use crate::core::outcome::{Ending, Outcome};
use crate::core::request::Job;
use crate::core::time::Now;
use crate::core::verdict::Task;

impl<D> Core<D> {
    pub(super) fn created(&mut self, now: Now, job: Job<D>, task_id: String) {
        self.passed(now, &job);
        self.learn_own(now.at, &job, &task_id);
        if let Some(sweep) = &mut self.doubts.list {
            sweep.created(&task_id);
        }
        let mut ending = self.ending(now, &job, Outcome::Created, String::new());
        ending.task_id = Some(task_id);
        ending.fault = None;
        self.end(now, job, ending);
    }

    pub(super) fn exhausted(&mut self, now: Now, job: Job<D>) {
        let said = job.progress.fault.as_deref().map(ToString::to_string).unwrap_or_default();
        let reason =
            format!("given up after {} attempts; the last one: {said}", job.progress.attempts);
        self.finish(now, job, Outcome::Exhausted, reason);
    }

    pub(super) fn expired(&mut self, now: Now, job: Job<D>) {
        let deadline = job.request.rare.deadline.map(|at| at.to_string()).unwrap_or_default();
        let reason = format!("its deadline {deadline} passed before it could be sent");
        self.finish(now, job, Outcome::Expired, reason);
    }

    pub(super) fn cancelled(&mut self, now: Now, job: Job<D>) {
        let reason = match job.progress.attempts {
            0 => "its planner has taken it back; it was not sent".to_owned(),
            attempts => format!(
                "its planner has taken it back; after {attempts} attempts nothing says that there is a task"
            ),
        };
        self.finish(now, job, Outcome::Cancelled, reason);
    }

    pub(super) fn finish(&mut self, now: Now, job: Job<D>, outcome: Outcome, reason: String) {
        let ending = self.ending(now, &job, outcome, reason);
        self.end(now, job, ending);
    }

    pub(super) fn ending(
        &self,
        now: Now,
        job: &Job<D>,
        outcome: Outcome,
        reason: String,
    ) -> Ending {
        Ending {
            outcome,
            task_id: None,
            task_state: None,
            fault: job.progress.fault.as_deref().cloned(),
            violations: Vec::new(),
            reason,
            attempts: job.progress.attempts,
            look_ups: job.progress.look_ups,
            dead_lettered: false,
            never_sent: job.progress.attempts == 0
                // Another copy of it may have been sent.
                && self.ledger.begun.get(&job.request.run).is_none()
                && !job.redelivered
                && (job.request.rare.replay == 0 || job.request.rare.never_sent),
            first_attempt_at: job.progress.first_attempt_at,
            settled_at: now.wall,
            history: job.progress.history.clone(),
        }
    }

    /// A request has ended. If its delivery is void by now, the redelivery is settled so.
    pub(super) fn end(&mut self, now: Now, job: Job<D>, ending: Ending) {
        if self.session.is(job.session) {
            return self.settle(now, job, ending);
        }
        // Whatever it is, for it was in a call and comes again.
        self.ledger.pending.insert(job.request.run, Box::new(ending));
        self.land(now, &job);
    }
}

pub(super) fn in_the_way(task: &Task) -> String {
    format!(
        "task {} ({:?}, {}) is in the way: finish it, or delete it, then replay this request",
        task.id, task.name, task.state
    )
}

//! May there be a task already, and how is that found out?

use super::ending::in_the_way;
use super::look_ups::Asks;
use super::{Core, hash_of};
use crate::core::gate::Call;
use std::time::Duration;

use crate::core::judge::{self, Clocks, Finding, Found};
use crate::core::outcome::Outcome;
use crate::core::request::{Doubt, Job};
use crate::core::text::Text;
use crate::core::time::{Moment, Now};
use crate::core::verdict::{Task, Verdict};

impl<D> Core<D> {
    /// This worker has made a task for this source server.
    pub(super) fn learn_own(&mut self, at: Moment, job: &Job<D>, task_id: &str) {
        self.doubts.learn(self.times.seen, at, &job.request.source_server_id);
        self.doubts.learn_whose(job, task_id);
        self.running.created(&job.request.source_server_id, task_id);
    }

    /// There may be a task for this source server. `once`: no `POST` for it can still be on its way.
    pub(super) fn doubt(&mut self, at: Moment, source: &Text, once: bool) {
        self.doubts.doubt(self.times.seen, at, source, once);
    }

    pub(super) fn clocks(&self) -> Clocks {
        Clocks { skew: self.times.skew, slack: self.settings.clock_slack }
    }

    /// Judges what a look-up, begun at `started`, has found for a job that is out of the window.
    pub(super) fn found(
        &mut self,
        now: Now,
        started: Moment,
        mut job: Job<D>,
        rows: &[Task],
    ) -> Found {
        let (known, run) = (self.doubts.of(&job.request.source_server_id), job.request.run);
        let of_another =
            |task: &Task| known.is_some_and(|known| known.is_of_another(run, &task.id));
        let finding = judge::judge(&job.request, rows, self.clocks(), of_another);
        let found = finding.found();
        let others = matches!(finding, Finding::Created(task) if of_another(task));
        let (outcome, task, reason) = match finding {
            Finding::Created(task) => (Outcome::Created, task, String::new()),
            Finding::Exists(task) => (Outcome::Exists, task, String::new()),
            Finding::Conflict(task) => (Outcome::Conflict, task, in_the_way(task)),
            Finding::Unclear(task) => {
                let reason = format!(
                    "a task of this name for this source server ended as {} (task {}), and without an enqueue time \
                     nothing tells whether it was made for this request: publish requests with a timestamp, then \
                     replay or discard it",
                    task.state, task.id
                );
                (Outcome::Unknown, task, reason)
            }
            Finding::Nothing => {
                let source = job.request.source_server_id.get();
                let bare = rows.iter().all(|task| task.source_server_id != *source);
                self.found_nothing(now, started, job, bare);
                return Found::Nothing;
            }
        };
        let own = outcome == Outcome::Created && job.progress.attempts > 0;
        let times = (self.times.seen, now.at);
        self.doubts.learn_found(times, started, &job.request.source_server_id, own);
        if outcome == Outcome::Created && !others {
            self.doubts.learn_whose(&job, &task.id);
        }
        if matches!(outcome, Outcome::Created | Outcome::Exists) {
            job.progress.fault = None;
        }
        let mut ending = self.ending(now, &job, outcome, reason);
        ending.task_id = Some(task.id.clone());
        ending.task_state = Some(task.state.clone());
        self.end(now, job, ending);
        found
    }

    /// Nothing stands in this request's way. `bare`: there is no task for its source server at all; an ended one of
    /// another name may be what a copy has asked for.
    pub(super) fn found_nothing(&mut self, now: Now, started: Moment, mut job: Job<D>, bare: bool) {
        job.progress.look_up_failures = 0;
        job.progress.blind = Duration::ZERO;
        job.progress.blind_since = None;
        job.progress.throttles = 0;
        job.progress.refused_token = None;
        job.progress.aside = false;
        // A probe that was answered well is no trouble: were it, each of the two look-ups and the `POST` would wait for the
        // probes of all that are refused, an interval each.
        self.ledger.forget_trouble(hash_of(job.request.run));
        self.count_failure(&mut job);
        let (conflict, enough) = match &mut job.progress.doubt {
            Doubt::None | Doubt::Target(_) => (None, true),
            Doubt::LookUp { once: true, conflict, .. } => (conflict.take(), true),
            Doubt::LookUp { first: Some(first), conflict, .. }
                if started >= *first + self.settings.look_again =>
            {
                (conflict.take(), true)
            }
            Doubt::LookUp { first, .. } => {
                let first = *first.get_or_insert(started);
                return self.back(now, job, first + self.settings.look_again);
            }
        };
        debug_assert!(enough);
        job.progress.cleared = started;
        let source = &job.request.source_server_id;
        let known = self.doubts.of(source).map(|known| known.at);
        if known.is_none_or(|at| at <= started) {
            self.running.gave_up(source, started);
        }
        match known {
            Some(at) if at <= started && bare => self.doubts.forget(source),
            Some(at) if at <= started => self.doubts.learn(self.times.seen, at, source),
            _ => {}
        }
        match conflict {
            Some(fault) if job.request.target_vm_id.as_ref().is_some_and(|id| !id.is_empty()) => {
                job.progress.doubt = Doubt::Target(fault);
                self.back(now, job, now.at);
            }
            Some(fault) => {
                let reason = fault.to_string();
                self.finish(now, job, Outcome::Rejected, reason);
            }
            None => {
                job.progress.doubt = Doubt::None;
                self.cleared(now, job);
            }
        }
    }

    /// Surely there is no task: it may be sent, if it is worth another attempt.
    pub(super) fn cleared(&mut self, now: Now, job: Job<D>) {
        if self.is_exhausted(now.at, &job) {
            return self.exhausted(now, job);
        }
        self.back(now, job, now.at);
    }

    /// A look-up that was begun at `started` has failed.
    pub(super) fn look_up_failed(
        &mut self,
        now: Now,
        started: Now,
        mut job: Job<D>,
        verdict: &Verdict,
        refused: bool,
    ) {
        job.progress.fault = verdict.fault().cloned().map(Box::new);
        job.progress.troubled = now.at;
        // What the account refuses has its own count.
        if !refused {
            self.count_blindness(now.at, &mut job);
        }
        let too_long = job.progress.blind >= self.settings.gate.retry.max_age;
        match verdict {
            Verdict::Rejected(_) => self.cannot_tell(now, job),
            _ if too_long => self.cannot_tell(now, job),
            Verdict::Throttled { wait, .. } => self.throttled(now, job, *wait),
            Verdict::Account { fault, .. } | Verdict::Unauthorized(fault) if refused => {
                self.doubts.look_ups.refused(now.at);
                if self.doubts.look_ups.are_forbidden(started) {
                    return self.cannot_tell(now, job);
                }
                let token = matches!(verdict, Verdict::Unauthorized(_));
                self.refused(now, Call::LookUp, job, fault, token);
            }
            Verdict::Unauthorized(_) => self.back(now, job, now.at),
            _ => self.look_up_later(now, job),
        }
    }

    /// The time in which look-ups for this request fail while those of others succeed. Where nobody else is looked up, one is
    /// asked for.
    fn count_blindness(&mut self, now: Moment, job: &mut Job<D>) {
        let kept = self.times.halted;
        if let Some((since, kept_before)) = job.progress.blind_since.replace((now, kept)) {
            if self.doubts.look_ups.well > since {
                let held_back = kept.saturating_sub(kept_before);
                job.progress.blind += (now - since).saturating_sub(held_back);
            }
            if self.doubts.look_ups.asks == Asks::No && job.progress.look_up_failures > 1 {
                self.doubts.look_ups.asks = Asks::Wanted;
            }
        }
    }

    pub(super) fn cannot_tell(&mut self, now: Now, job: Job<D>) {
        let said = job.progress.fault.as_deref().map(ToString::to_string).unwrap_or_default();
        let reason = format!(
            "it may have been created already, and no look-up could tell ({said}): find out, then replay or discard it"
        );
        self.finish(now, job, Outcome::Unknown, reason);
    }

    pub(super) fn is_exhausted(&self, now: Moment, job: &Job<D>) -> bool {
        job.progress.counted >= self.settings.gate.retry.attempts || self.is_too_old(now, job)
    }

    pub(super) fn is_too_old(&self, now: Moment, job: &Job<D>) -> bool {
        let since = job.progress.first_attempt.unwrap_or(job.first_received());
        // What the account, the API or an operator has held up is not the request's fault.
        let tried = job.progress.first_attempt.is_some();
        let before = if tried { job.progress.kept_before } else { job.kept_before };
        let kept = self.times.kept.saturating_sub(before);
        !self.gate.is_account_trouble() && now - since >= self.settings.gate.retry.max_age + kept
    }
}

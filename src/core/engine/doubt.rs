//! May there be a task already, and how is that found out?

use super::ending::in_the_way;
use super::{Asks, Core, Known, TASKS, hash_of};
use crate::core::gate::Call;
use std::time::Duration;

use crate::core::judge::{self, Clocks, Finding};
use crate::core::memory::Memory;
use crate::core::outcome::Outcome;
use crate::core::request::{Doubt, Job};
use crate::core::text::Text;
use crate::core::time::{Moment, Now};
use crate::core::verdict::{Listing, Task, Verdict};

impl<D> Core<D> {
    /// There is a task for this source server.
    pub(super) fn learn(&mut self, at: Moment, source: &Text) {
        self.remember(source, Known { at, once: true, doubted: false, made: Vec::new() });
    }

    /// This worker has made a task for this source server.
    pub(super) fn learn_own(&mut self, at: Moment, job: &Job<D>, task_id: &str) {
        self.learn(at, &job.request.source_server_id);
        self.learn_whose(job, task_id);
        self.running.created(&job.request.source_server_id, task_id);
    }

    /// The task is known to be this run's.
    fn learn_whose(&mut self, job: &Job<D>, task_id: &str) {
        let Some(known) = self.known.get_mut(&job.request.source_server_id) else { return };
        let made = (hash_of(task_id), job.request.run);
        if !known.made.contains(&made) {
            known.made.push(made);
            let older = known.made.len().saturating_sub(TASKS);
            known.made.drain(..older);
        }
    }

    /// There may be a task for this source server. `once`: no `POST` for it can still be on its way.
    pub(super) fn doubt(&mut self, at: Moment, source: &Text, once: bool) {
        self.remember(source, Known { at, once, doubted: true, made: Vec::new() });
    }

    fn remember(&mut self, source: &Text, mut known: Known) {
        if let Some(before) = self.known.get_mut(source) {
            known.made = std::mem::take(&mut before.made);
        }
        let (now, stays) = (self.seen, super::DOUBTED.max(self.settings.gate.retry.max_age));
        let must_stay = |known: &Known| known.doubted && now < known.at + stays;
        self.known.insert_beside(source.clone(), known, must_stay);
    }

    /// A listed task: one is known now, unless more than that was known already.
    pub(super) fn learn_task(&mut self, source: &str) {
        let source = Text::from(source);
        if self.known.get(&source).is_none() {
            // Known since ever: a job that is cleared later than this list is not put in doubt by it.
            self.learn(Moment::from_nanos(1), &source);
        }
    }

    /// A task that a look, begun at `started`, has found. Unless it is of this job's `own` making, it need not be that of a
    /// `POST` which may still be on its way.
    fn learn_found(&mut self, at: Moment, started: Moment, source: &Text, own: bool) {
        let open = self
            .known
            .get(source)
            .is_some_and(|known| !known.once && started < known.at + self.settings.look_again);
        if own || !open {
            self.learn(at, source);
        }
    }

    pub(super) fn clocks(&self) -> Clocks {
        Clocks { skew: self.skew, slack: self.settings.clock_slack }
    }

    pub(super) fn heed_date(&mut self, now: Now, listing: &Listing) {
        if let Some(date) = listing.date {
            self.skew = date.duration_since(now.wall);
        }
    }

    /// Judges what a look, begun at `started`, has found for a job that is out of the window.
    pub(super) fn found(
        &mut self,
        now: Now,
        started: Moment,
        mut job: Job<D>,
        rows: &[Task],
    ) -> &'static str {
        let known = self.known.get(&job.request.source_server_id);
        let made = known.map(|known| known.made.as_slice()).unwrap_or_default();
        let of_another = |task: &Task| {
            let id = hash_of(task.id.as_str());
            made.iter().any(|(made, run)| *made == id && *run != job.request.run)
        };
        let finding = judge::judge(&job.request, rows, self.clocks(), of_another);
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
                return finding.as_str();
            }
        };
        let own = outcome == Outcome::Created && job.progress.attempts > 0;
        self.learn_found(now.at, started, &job.request.source_server_id, own);
        if outcome == Outcome::Created && !others {
            self.learn_whose(&job, &task.id);
        }
        if matches!(outcome, Outcome::Created | Outcome::Exists) {
            job.progress.fault = None;
        }
        let mut ending = self.ending(now, &job, outcome, reason);
        ending.task_id = Some(task.id.clone());
        ending.task_state = Some(task.state.clone());
        self.end(now, job, ending);
        finding.as_str()
    }

    /// Nothing stands in this request's way. `bare`: there is no task for its source server at all; an ended one of
    /// another name may be what a copy has asked for.
    pub(super) fn found_nothing(&mut self, now: Now, started: Moment, mut job: Job<D>, bare: bool) {
        job.progress.look_failures = 0;
        job.progress.blind = Duration::ZERO;
        job.progress.blind_since = None;
        job.progress.throttles = 0;
        job.progress.refused_token = None;
        job.progress.aside = false;
        self.count_failure(&mut job);
        let (conflict, enough) = match &mut job.progress.doubt {
            Doubt::None | Doubt::Target(_) => (None, true),
            Doubt::Look { once: true, conflict, .. } => (conflict.take(), true),
            Doubt::Look { first: Some(first), conflict, .. }
                if started >= *first + self.settings.look_again =>
            {
                (conflict.take(), true)
            }
            Doubt::Look { first, .. } => {
                let first = *first.get_or_insert(started);
                return self.back(now, job, first + self.settings.look_again);
            }
        };
        debug_assert!(enough);
        job.progress.cleared = started;
        let source = &job.request.source_server_id;
        let known = self.known.get(source).map(|known| known.at);
        if known.is_none_or(|at| at <= started) {
            self.running.gave_up(source, started);
        }
        match known {
            Some(at) if at <= started && bare => {
                self.known.remove(source);
            }
            Some(at) if at <= started => self.learn(at, source),
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

    /// A look that was begun at `started` has failed.
    pub(super) fn look_failed(
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
                self.looks_refused.get_or_insert(now.at);
                if self.may_not_look(started) {
                    return self.cannot_tell(now, job);
                }
                let token = matches!(verdict, Verdict::Unauthorized(_));
                self.refused(now, Call::Look, job, fault, token);
            }
            Verdict::Unauthorized(_) => self.back(now, job, now.at),
            _ => self.look_later(now, job),
        }
    }

    /// The time in which look-ups for this request fail while those of others succeed. Where nobody else is looked up, one is
    /// asked for.
    fn count_blindness(&mut self, now: Moment, job: &mut Job<D>) {
        let kept = self.halted;
        if let Some((since, kept_before)) = job.progress.blind_since.replace((now, kept)) {
            if self.looked_well > since {
                let held_back = kept.saturating_sub(kept_before);
                job.progress.blind += (now - since).saturating_sub(held_back);
            }
            if self.asks == Asks::No && job.progress.look_failures > 1 {
                self.asks = Asks::Wanted;
            }
        }
    }

    /// A `POST` that was begun at `started` has ended. One that was under way when a look was refused shows nothing: the
    /// account may have been frozen in between.
    pub(super) fn note_allowed(&mut self, now: Now, started: Now, verdict: &Verdict) {
        let is_well = matches!(
            verdict,
            Verdict::Created { .. }
                | Verdict::Rejected(_)
                | Verdict::Ambiguous { conflict: true, .. }
        );
        if is_well && self.looks_refused.is_some_and(|refused| refused <= started.at) {
            self.posts_allowed.get_or_insert(now.at);
        }
    }

    /// A look was answered: whatever was refused before is over.
    pub(super) fn looks_allowed(&mut self, now: Moment) {
        self.looked_well = now;
        self.forget_refused_looks();
    }

    pub(super) fn forget_refused_looks(&mut self) {
        self.looks_refused = None;
        self.posts_allowed = None;
    }

    /// The identity may create but not list: a look was refused, a `POST` begun after that was answered well, and a look
    /// begun after that, at `started`, is refused again.
    pub(super) fn may_not_look(&self, started: Now) -> bool {
        self.posts_allowed.is_some_and(|allowed| allowed <= started.at)
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
        let kept = self.kept.saturating_sub(job.progress.kept_before);
        !self.gate.is_account_trouble() && now - since >= self.settings.gate.retry.max_age + kept
    }
}

/// What a new piece of knowledge about its source server means for a job: a doubt, or a longer one.
pub(super) fn raise<D>(known: &Memory<Text, Known>, job: &mut Job<D>) {
    let Some(known) = known.get(&job.request.source_server_id) else { return };
    if known.at <= job.progress.cleared {
        return;
    }
    match &mut job.progress.doubt {
        doubt @ Doubt::None => {
            *doubt = Doubt::Look { once: known.once, first: None, conflict: None }
        }
        Doubt::Look { once, first, .. } if !known.once => {
            *once = false;
            // A POST may have begun since that look.
            *first = first.filter(|first| *first >= known.at);
        }
        Doubt::Look { .. } | Doubt::Target(_) => {}
    }
}

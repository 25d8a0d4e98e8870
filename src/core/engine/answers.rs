//! What does the end of a call mean? The inputs of the API.

use jiff::Timestamp;

use super::look_ups::Asks;
use super::{BUG, Core, Question};
use crate::core::gate::{Call, Of};
use crate::core::judge::{self, Found};
use crate::core::outcome::{Outcome, Try};
use crate::core::request::{Doubt, Job, Progress};
use crate::core::sweep::Page;
use crate::core::time::Now;
use crate::core::verdict::{Fault, Listing, Verdict};

/// The latest tries that a dead letter tells about.
const HISTORY: usize = 20;
/// A list of all tasks that fails so often in a row is given up for a while: look-ups do its work.
const LIST_FAILURES: u32 = 3;

impl<D> Core<D> {
    /// A `POST` that was begun at `started` with a token of this generation has ended.
    pub(super) fn posted(
        &mut self,
        now: Now,
        started: Now,
        mut job: Job<D>,
        verdict: Verdict,
        generation: u64,
    ) {
        self.out.calling -= 1;
        let of = self.of(&job, generation);
        let refused =
            self.gate.answered(now, Call::Post, started.at, Err(&verdict), of, &mut self.random);
        let progress = &mut job.progress;
        progress.attempts += 1;
        progress.first_attempt_at.get_or_insert(started.wall);
        if progress.first_attempt.is_none() {
            progress.first_attempt = Some(started.at);
            progress.kept_before = self.times.kept;
        }
        note(progress, started.wall, "post", &verdict);
        progress.fault = verdict.fault().cloned().map(Box::new);
        let may_run = matches!(
            verdict,
            Verdict::Created { .. }
                | Verdict::Ambiguous { .. }
                | Verdict::Transient { answered: true, .. }
        );
        if !may_run {
            self.running.gave_up(&job.request.source_server_id, started.at);
        }
        self.doubts.look_ups.note_post(now, started, &verdict);
        if !matches!(verdict, Verdict::Throttled { .. }) {
            job.progress.throttles = 0;
        }
        note_token(&mut job.progress, &verdict, generation, refused);
        if !refused && !matches!(verdict, Verdict::Created { .. }) {
            job.progress.aside = false;
        }
        if let Verdict::Ambiguous { conflict: false, .. }
        | Verdict::Transient { .. }
        | Verdict::Unauthorized(_) = verdict
        {
            job.progress.troubled = now.at;
        }
        match verdict {
            Verdict::Created { task_id } => self.created(now, job, task_id),
            Verdict::Rejected(fault) => {
                let reason = fault.to_string();
                self.finish(now, job, Outcome::Rejected, reason);
            }
            Verdict::Ambiguous { fault, conflict } => {
                self.doubt(now.at, &job.request.source_server_id, false);
                job.progress.uncounted = !conflict;
                let conflict = conflict.then(|| Box::new(fault));
                job.progress.doubt = Doubt::LookUp { once: false, first: None, conflict };
                self.back(now, job, now.at);
            }
            Verdict::Transient { answered, .. } => {
                job.progress.uncounted = answered;
                if answered {
                    self.doubt(now.at, &job.request.source_server_id, true);
                    job.progress.doubt = Doubt::LookUp { once: true, first: None, conflict: None };
                } else if self.is_exhausted(now.at, &job) {
                    return self.exhausted(now, job);
                }
                self.back_later(now, job);
            }
            Verdict::Throttled { wait, .. } => self.throttled(now, job, wait),
            Verdict::Unauthorized(fault) if refused => {
                self.refused(now, Call::Post, job, &fault, true);
            }
            Verdict::Unauthorized(_) => self.back(now, job, now.at),
            Verdict::Account { fault, .. } => self.refused(now, Call::Post, job, &fault, false),
        }
    }

    /// A `POST` was not begun: what it needs took so long that its permit is spent. It takes another one when its turn comes.
    pub(super) fn late(&mut self, now: Now, job: Job<D>) {
        self.out.calling -= 1;
        self.gate.not_begun();
        self.running.gave_up(&job.request.source_server_id, now.at);
        self.back(now, job, now.at);
    }

    /// A call for this job panicked: nobody knows what it did.
    pub(super) fn panicked(&mut self, now: Now, mut job: Job<D>, text: &str) {
        self.out.calling -= 1;
        // It shows nothing about the account, but a row of bugs had better shut the gate.
        let verdict = Verdict::Ambiguous { fault: Fault::default(), conflict: false };
        let of = self.of(&job, 0);
        self.gate.answered(now, Call::Post, now.at, Err(&verdict), of, &mut self.random);
        self.doubt(now.at, &job.request.source_server_id, false);
        job.progress.attempts += 1;
        let reason = format!(
            "{BUG} ({text}): report it; find out whether the task exists, then replay or discard"
        );
        self.finish(now, job, Outcome::Unknown, reason);
    }

    /// A question that was asked at `started` has been answered, or was not. Says what that has shown.
    pub(super) fn told(
        &mut self,
        now: Now,
        started: Now,
        question: Question<D>,
        result: Result<Listing, Verdict>,
        generation: u64,
    ) -> Found {
        self.out.calling -= 1;
        let answered = result.as_ref().map(|_| ());
        let of = question.job().map_or_else(|| of_all(generation), |job| self.of(job, generation));
        let refused =
            self.gate.answered(now, Call::LookUp, started.at, answered, of, &mut self.random);
        if let Ok(listing) = &result {
            self.doubts.look_ups.allowed(now.at);
            self.times.heed_date(now, listing.date);
        }
        let shown = match (&result, &question) {
            (Err(_), _) => Found::Failed,
            (Ok(_), Question::Count(_)) => Found::Count,
            (Ok(_), _) => Found::Page,
        };
        match question {
            Question::LookUp(job) => {
                return self.looked_up(now, started, job, result, (generation, refused));
            }
            Question::List { .. } => {
                self.gate.settled();
                self.listed(now, started, result);
            }
            Question::Count(_) => {
                self.gate.settled();
                match result {
                    Ok(listing) => self.running.answered(now, &listing, self.times.skew),
                    Err(_) => self.running.failed(now.at),
                }
            }
            Question::Any => {
                self.gate.settled();
                self.doubts.look_ups.asks = Asks::No;
            }
        }
        shown
    }

    fn looked_up(
        &mut self,
        now: Now,
        started: Now,
        mut job: Job<D>,
        result: Result<Listing, Verdict>,
        (generation, refused): (u64, bool),
    ) -> Found {
        job.progress.look_ups += 1;
        match result {
            Ok(listing) => self.found(now, started.at, job, &listing.tasks),
            Err(verdict) => {
                note(&mut job.progress, started.wall, "look", &verdict);
                note_token(&mut job.progress, &verdict, generation, refused);
                self.look_up_failed(now, started, job, &verdict, refused);
                Found::Failed
            }
        }
    }

    /// A page of the list of all tasks that was asked for at `started`.
    fn listed(&mut self, now: Now, started: Now, result: Result<Listing, Verdict>) {
        let Some(mut list) = self.doubts.list.take() else { return };
        match result {
            Ok(listing) => {
                self.doubts.tasks_listed = listing.count;
                for task in listing.tasks.iter().filter(|task| !judge::is_ended(&task.state)) {
                    self.doubts.learn_listed(self.times.seen, &task.source_server_id);
                }
                match list.page(listing) {
                    Page::More => self.doubts.list = Some(list),
                    Page::Done => self.swept(now, &list),
                    Page::GivenUp => self.sweep_given_up(now, &list),
                }
            }
            Err(verdict) => {
                list.out = false;
                list.failures += 1;
                if let Verdict::Account { .. } = verdict {
                    self.doubts.look_ups.refused(now.at);
                }
                if matches!(verdict, Verdict::Rejected(_))
                    || self.doubts.look_ups.are_forbidden(started)
                    || list.failures >= LIST_FAILURES
                {
                    return self.sweep_given_up(now, &list);
                }
                list.until = match verdict {
                    Verdict::Unauthorized(_) => now.at,
                    _ => now.at + self.gate.delay(list.failures, &mut self.random),
                };
                self.doubts.list = Some(list);
            }
        }
        if self.doubts.list.as_ref().is_some_and(|list| list.keys.is_empty()) {
            self.doubts.list = None;
        }
    }

    /// A call for this job has ended.
    fn of(&self, job: &Job<D>, generation: u64) -> Of {
        let renewed = job.progress.refused_token.is_some_and(|refused| generation > refused);
        let alone = job.progress.throttles > 0 && !self.gate.is_throttling();
        Of { generation, run: Some(job.request.run), renewed, alone }
    }
}

/// A call for many.
fn of_all(generation: u64) -> Of {
    Of { generation, run: None, renewed: false, alone: false }
}

/// Remembers with which token it was answered 401, until a fresher one was refused too.
fn note_token(progress: &mut Progress, verdict: &Verdict, generation: u64, refused: bool) {
    let unauthorized = matches!(verdict, Verdict::Unauthorized(_)) && !refused;
    if unauthorized || progress.refused_token.is_some() {
        progress.refused_token = unauthorized.then_some(generation);
    }
}

/// Adds a try to what a dead letter tells, the latest ones only.
fn note(progress: &mut Progress, at: Timestamp, what: &'static str, verdict: &Verdict) {
    let fault = verdict.fault();
    progress.history.push(Try {
        at,
        what: what.into(),
        verdict: verdict.as_str().into(),
        status: fault.and_then(|fault| fault.status),
        error_code: fault.and_then(|fault| fault.error_code.clone()),
    });
    if progress.history.len() > HISTORY {
        progress.history.remove(0);
    }
}

//! What does the end of a call mean? The events of the API.

use jiff::Timestamp;

use super::{Core, HISTORY};
use crate::core::gate::Call;
use crate::core::judge;
use crate::core::outcome::{Outcome, Try};
use crate::core::request::{Doubt, Job, Progress};
use crate::core::retry;
use crate::core::sweep::Page;
use crate::core::time::Now;
use crate::core::verdict::{Fault, Listing, Verdict};

impl<D> Core<D> {
    /// A `POST` that was begun at `started` with a token of this generation has ended.
    pub fn posted(
        &mut self,
        now: Now,
        started: Now,
        mut job: Job<D>,
        verdict: Verdict,
        generation: u64,
    ) {
        self.calling -= 1;
        self.gate.answered(now, Call::Post, started.at, Err(&verdict), generation);
        let progress = &mut job.progress;
        progress.attempts += 1;
        progress.first_attempt_at.get_or_insert(started.wall);
        if progress.first_attempt.is_none() {
            progress.first_attempt = Some(started.at);
            progress.kept_before = self.kept;
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
        self.note_allowed(now, started, &verdict);
        match verdict {
            Verdict::Created { task_id } => self.created(now, job, task_id),
            Verdict::Rejected(fault) => {
                let reason = fault.to_string();
                self.finish(now, job, Outcome::Rejected, reason);
            }
            Verdict::Ambiguous { fault, conflict } => {
                self.doubt(now.at, &job.request.source_server_id, false);
                self.count_failure(&mut job);
                let conflict = conflict.then(|| Box::new(fault));
                job.progress.doubt = Doubt::Look { once: false, first: None, conflict };
                self.back(now, job, now.at);
            }
            Verdict::Transient { answered, .. } => {
                self.count_failure(&mut job);
                if answered {
                    self.doubt(now.at, &job.request.source_server_id, true);
                    job.progress.doubt = Doubt::Look { once: true, first: None, conflict: None };
                } else if self.is_exhausted(now.at, &job) {
                    return self.exhausted(now, job);
                }
                self.back_later(now, job);
            }
            Verdict::Throttled { .. } | Verdict::Unauthorized(_) => self.back(now, job, now.at),
            Verdict::Account { one_resource, .. } => self.refused(now, job, one_resource),
        }
    }

    /// A look that was begun at `started` has ended. Says what it found, for the `found` label.
    pub fn looked(
        &mut self,
        now: Now,
        started: Now,
        mut job: Job<D>,
        result: Result<Listing, Verdict>,
        generation: u64,
    ) -> &'static str {
        self.calling -= 1;
        self.gate.answered(now, Call::Look, started.at, result.as_ref().map(|_| ()), generation);
        job.progress.looks += 1;
        match result {
            Ok(listing) => {
                self.looks_allowed();
                self.heed_date(now, &listing);
                self.found(now, started.at, job, &listing.tasks)
            }
            Err(verdict) => {
                note(&mut job.progress, started.wall, "look", &verdict);
                self.look_failed(now, started, job, &verdict);
                "failed"
            }
        }
    }

    /// A call for this job panicked: nobody knows what it did.
    pub fn panicked(&mut self, now: Now, mut job: Job<D>, text: &str) {
        self.calling -= 1;
        // It shows nothing about the account, but a row of bugs had better shut the gate.
        let verdict = Verdict::Ambiguous { fault: Fault::default(), conflict: false };
        self.gate.answered(now, Call::Post, now.at, Err(&verdict), 0);
        self.doubt(now.at, &job.request.source_server_id, false);
        job.progress.attempts += 1;
        let reason = format!(
            "a bug in sluice ({text}): report it; find out whether the task exists, then replay or discard"
        );
        self.finish(now, job, Outcome::Unknown, reason);
    }

    /// A page of the list of all tasks that was asked for at `started` has answered.
    pub fn listed(
        &mut self,
        now: Now,
        started: Now,
        result: Result<Listing, Verdict>,
        generation: u64,
    ) {
        self.calling -= 1;
        self.gate.answered(now, Call::Look, started.at, result.as_ref().map(|_| ()), generation);
        self.gate.settled();
        let Some(mut sweep) = self.sweep.take() else { return };
        match result {
            Ok(listing) => {
                self.looks_allowed();
                self.heed_date(now, &listing);
                self.tasks_listed = listing.count;
                for task in listing.tasks.iter().filter(|task| !judge::is_ended(&task.state)) {
                    self.learn_task(&task.source_server_id);
                }
                match sweep.page(listing) {
                    Page::More => self.sweep = Some(sweep),
                    Page::Done => self.swept(now, &sweep),
                    Page::GivenUp => self.sweep_given_up(now, &sweep),
                }
            }
            Err(verdict) => {
                sweep.out = false;
                sweep.failures += 1;
                if let Verdict::Account { .. } = verdict {
                    self.looks_refused.get_or_insert(now.at);
                }
                if matches!(verdict, Verdict::Rejected(_)) || self.may_not_look(started) {
                    return self.sweep_given_up(now, &sweep);
                }
                sweep.until = match verdict {
                    Verdict::Throttled { .. } | Verdict::Unauthorized(_) => now.at,
                    _ => now.at + retry::delay(&self.settings.gate.retry, sweep.failures),
                };
                self.sweep = Some(sweep);
            }
        }
        if self.sweep.as_ref().is_some_and(|sweep| sweep.keys.is_empty()) {
            self.sweep = None;
        }
    }

    /// A list for the running cap that was asked for at `started` has answered.
    pub fn counted(
        &mut self,
        now: Now,
        started: Now,
        result: Result<Listing, Verdict>,
        generation: u64,
    ) {
        self.calling -= 1;
        self.gate.answered(now, Call::Look, started.at, result.as_ref().map(|_| ()), generation);
        self.gate.settled();
        match result {
            Ok(listing) => {
                self.looks_allowed();
                self.heed_date(now, &listing);
                self.running.answered(now, &listing, self.skew);
            }
            Err(_) => self.running.failed(now.at),
        }
    }

    /// A fresh token is there (its generation), or cannot be had.
    pub fn refreshed(&mut self, now: Now, result: Result<u64, &Fault>) {
        self.gate.refreshed(now, result);
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

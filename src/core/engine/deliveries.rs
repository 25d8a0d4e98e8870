//! What does a delivery, a lost session or a settlement mean? The events of the source of requests.

use std::time::Duration;

use super::{Core, Linger, Step};
use crate::contract::Violation;
use crate::core::outcome::{Ending, Outcome, Settlement};
use crate::core::request::{Doubt, Job};
use crate::core::time::{Moment, Now};

impl<D> Core<D> {
    /// This worker is the active one: deliveries of this session follow, of which so many are `waiting` already; 0 if
    /// that is not known.
    pub fn session_opened(&mut self, now: Now, session: u32, waiting: usize) {
        self.session = Some(session);
        self.opened = now.at;
        self.gate.take_over(now.at);
        self.running.take_over(now.at, self.gate.max_in_flight());
        self.linger = Linger::Start { since: now.at, latest: now.at, missing: waiting };
    }

    /// The session is gone and with it every delivery held. Calls that are out go on; their verdicts are kept for the
    /// redelivery.
    pub fn session_lost(&mut self) {
        // An alarm is the broker's word on this session; nobody takes it back after a crash.
        self.gate.set_blocked(false);
        self.forget_refused_looks();
        if self.is_long_enough() {
            self.short_sessions = 0;
        } else if self.window.iter().any(|(job, _)| job.progress.doubt != Doubt::None) {
            self.short_sessions += 1;
        }
        self.session = None;
        self.away.clear();
        // A page that is out still comes back; nobody waits for the list any more.
        self.sweep = self.sweep.take().filter(|sweep| sweep.out);
        if let Some(sweep) = &mut self.sweep {
            sweep.keys.clear();
        }
        let steps = std::mem::take(&mut self.steps);
        for step in steps {
            match step {
                Step::Settle(job, ending) => self.void_settlement(&job, ending),
                Step::Republish(..) => {
                    self.settling -= 1;
                    self.moving -= 1;
                }
                Step::Acknowledge(_) | Step::GiveBack(_) => {}
                step => self.steps.push_back(step),
            }
        }
        self.forget_unpublished();
        for job in self.window.drain() {
            self.carry(&job, false);
        }
        // What this worker gave back may have been taken by another one since.
        for (_, given_back) in self.carried.values_mut() {
            *given_back = false;
        }
    }

    /// A valid request was delivered.
    pub fn arrived(&mut self, now: Now, mut job: Job<D>) {
        self.note_arrival(now.at);
        let run = job.request.run;
        self.away.remove(run);
        let mut in_doubt = job.redelivered;
        let mut replay = job.request.rare.replay > 0 && !job.request.rare.never_sent;
        if job.redelivered {
            if let Some((progress, given_back)) = self.carried.remove(&run) {
                job.progress = progress;
                in_doubt = !given_back;
                replay = false;
            }
        } else {
            // The same words, published anew: somebody wants it tried again.
            self.published.remove(&run);
        }
        if in_doubt || replay {
            self.doubt(now.at, &job.request.source_server_id, false);
            job.progress.doubt = Doubt::Look { once: false, first: None, conflict: None };
            // What it waited for was a look of another session's.
            job.progress.until = Moment::START;
        }
        // Written only where it is not nothing: a job that was never tried has no progress to hold.
        if self.kept > Duration::ZERO && job.progress.first_attempt.is_none() {
            job.progress.kept_before = self.kept;
        }
        self.admit(now, job);
    }

    /// A message was delivered that must not be sent.
    pub fn invalid(&mut self, now: Now, job: Job<D>, violations: Vec<Violation>) {
        let reason = match violations.first() {
            // Not the body is wrong: what is says the finding, and what a replay does about it.
            Some(first) if first.pointer == "headers" => {
                format!("{}; allowed: {}", first.found, first.allowed)
            }
            Some(first) => {
                let cure = match first.pointer.strip_prefix("header ") {
                    Some(name) => {
                        format!("fix the header (edit --header {name}=VALUE) and send it again")
                    }
                    None => "fix the body and send it again".to_owned(),
                };
                format!("{} at {:?}: {cure}", first.allowed, first.pointer)
            }
            None => "the body breaks the API's contract".to_owned(),
        };
        let mut ending = self.ending(now, &job, Outcome::Invalid, reason);
        ending.violations = violations;
        self.unsendable(now, job, ending);
    }

    /// A message was delivered that this program cannot read: reading it panicked with this text.
    pub fn unreadable(&mut self, now: Now, job: Job<D>, text: &str) {
        let reason = format!(
            "a bug in sluice ({text}): report it with this body; it was not sent by this delivery, so mend or replay it \
             with another version"
        );
        let ending = self.ending(now, &job, Outcome::Unknown, reason);
        self.unsendable(now, job, ending);
    }

    fn unsendable(&mut self, now: Now, job: Job<D>, ending: Ending) {
        if self.session != Some(job.session) {
            return;
        }
        self.note_arrival(now.at);
        if job.redelivered && self.published.get(&job.request.run).is_some() {
            self.steps.push_back(Step::Acknowledge(job));
            return;
        }
        self.settle(now, job, ending);
    }

    /// Results cannot (`true`) or can be published.
    pub fn blocked(&mut self, blocked: bool) {
        self.gate.set_blocked(blocked);
    }

    /// A settlement has ended.
    pub fn settled(&mut self, now: Now, job: Job<D>, ending: Box<Ending>, how: Settlement) {
        self.settling -= 1;
        match how {
            Settlement::Done => {
                self.was_published(ending.outcome);
                self.pending.remove(&job.request.run);
                self.published.insert(job.request.run, ());
                self.land(now, &job);
            }
            Settlement::Void => {
                self.keep_ending(&job, ending);
                self.land(now, &job);
            }
            Settlement::Refused => self.was_refused(now, job, ending),
        }
    }
}

//! What does a delivery, a lost session or a settlement mean? The inputs of the source of requests.

use super::{BUG, Core, Step};
use crate::contract::Violation;
use crate::core::outcome::{Ending, Outcome, Settlement};
use crate::core::request::{Doubt, Job};
use crate::core::time::{Moment, Now};

impl<D> Core<D> {
    pub(super) fn session_opened(&mut self, now: Now, session: u32, waiting: usize) {
        self.session.open(now.at, session, waiting);
        self.out.parking.session_opened(now.at);
        self.gate.take_over(now.at);
        self.running.take_over(now.at, self.gate.max_in_flight());
    }

    pub(super) fn session_lost(&mut self) {
        // A resource alarm is the broker's word on this session; nobody withdraws it after a crash.
        self.gate.set_blocked(false);
        self.doubts.look_ups.forget_refused();
        let in_doubt = self.window.iter().any(|(job, _)| job.progress.doubt != Doubt::None);
        self.session.lose(self.is_long_enough(), in_doubt);
        self.out.away.clear();
        // A page that is out still comes back; nobody waits for the list any more.
        self.doubts.list = self.doubts.list.take().filter(|list| list.out);
        if let Some(list) = &mut self.doubts.list {
            list.keys.clear();
        }
        let steps = std::mem::take(&mut self.out.steps);
        for step in steps {
            match step {
                Step::Settle(job, ending) => self.void_settlement(&job, ending),
                Step::Acknowledge(_) | Step::Requeue(_) => {}
                step => self.out.steps.push_back(step),
            }
        }
        self.forget_unpublished();
        for job in self.window.drain() {
            self.ledger.carry(&job, false);
        }
        self.ledger.others_may_have_had_it();
    }

    fn note_arrival(&mut self, now: Moment) {
        let idle = self.window.is_empty() && self.out.calling == 0 && self.out.settling == 0;
        self.session.note_arrival(now, idle, self.settings.linger);
    }

    /// A valid request was delivered.
    pub(super) fn arrived(&mut self, now: Now, mut job: Job<D>) {
        self.window.number(&mut job);
        self.note_arrival(now.at);
        let run = job.request.run;
        self.out.away.remove(run);
        let mut in_doubt = job.redelivered;
        let mut replay = job.request.rare.replay > 0 && !job.request.rare.never_sent;
        if job.redelivered {
            if let Some((progress, requeued)) = self.ledger.carried.remove(&run) {
                job.progress = progress;
                in_doubt = !requeued;
                replay = false;
            }
        } else {
            // The same words, published anew: somebody wants it tried again.
            self.ledger.published.remove(&run);
        }
        if in_doubt || replay {
            self.doubt(now.at, &job.request.source_server_id, false);
            job.progress.doubt = Doubt::LookUp { once: false, first: None, conflict: None };
            // What it waited for was a look-up of another session's.
            job.progress.until = Moment::START;
        }
        job.kept_before = self.times.kept;
        self.admit(now, job);
    }

    /// A message was delivered that must not be sent.
    pub(super) fn invalid(&mut self, now: Now, mut job: Job<D>, violations: Vec<Violation>) {
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
        self.window.number(&mut job);
        let mut ending = self.ending(now, &job, Outcome::Invalid, reason);
        ending.violations = violations;
        self.unsendable(now, job, ending);
    }

    /// A message was delivered that this program cannot read: reading it panicked with this text.
    pub(super) fn unreadable(&mut self, now: Now, mut job: Job<D>, text: &str) {
        let reason = format!(
            "{BUG} ({text}): report it with this body; it was not sent by this delivery, so fix it, or replay it \
             with another version"
        );
        self.window.number(&mut job);
        let ending = self.ending(now, &job, Outcome::Unknown, reason);
        self.unsendable(now, job, ending);
    }

    fn unsendable(&mut self, now: Now, job: Job<D>, ending: Ending) {
        if !self.session.is(job.session) {
            return;
        }
        self.note_arrival(now.at);
        if job.redelivered && self.ledger.published.get(&job.request.run).is_some() {
            self.out.steps.push_back(Step::Acknowledge(job));
            return;
        }
        self.settle(now, job, ending);
    }

    /// A settlement has ended.
    pub(super) fn settled(&mut self, now: Now, job: Job<D>, ending: Box<Ending>, how: Settlement) {
        self.out.settling -= 1;
        match how {
            Settlement::Done => {
                self.was_published(ending.outcome);
                self.ledger.publish(job.request.run);
                self.land(now, &job);
            }
            Settlement::Void => {
                self.ledger.keep(&job, ending);
                self.land(now, &job);
            }
            Settlement::Refused => self.was_refused(now, job, ending),
        }
    }
}

//! Where does a job belong that has just arrived, or come back from a call?

use super::{Core, Step};
use crate::core::outcome::{Ending, Outcome};
use crate::core::request::{Doubt, Job};
use crate::core::text::Text;
use crate::core::time::{Moment, Now};
use crate::core::window::{Line, Place};

/// Where a job has been put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// Its turn comes by its rank.
    InLine,
    /// It waits for something, or has ended.
    Elsewhere,
}

impl<D> Core<D> {
    /// Finds the place of a job that is not in the window: just arrived, or come back.
    pub(super) fn admit(&mut self, now: Now, mut job: Job<D>) -> Admitted {
        if !self.session.is(job.session) {
            self.ledger.carry(&job, false);
            return Admitted::Elsewhere;
        }
        if job.redelivered {
            if let Some(mut ending) = self.ledger.pending.remove(&job.request.run) {
                ending.settled_at = now.wall;
                self.settle(now, job, *ending);
                return Admitted::Elsewhere;
            }
            if self.ledger.published.get(&job.request.run).is_some() {
                self.out.steps.push_back(Step::Acknowledge(job));
                return Admitted::Elsewhere;
            }
        }
        let cancelled = self.orders.lay_over(&mut job.request);
        self.doubts.raise(&mut job);
        if job.progress.doubt != Doubt::None && !self.settings.look_up {
            let reason = "it may have been created already, and look-ups are switched off (api.look_up): find out, then \
                          replay or discard it";
            self.finish(now, job, Outcome::Unknown, reason.to_owned());
            return Admitted::Elsewhere;
        }
        let late = job.request.rare.deadline.is_some_and(|deadline| deadline <= now.wall);
        if late && job.progress.doubt == Doubt::None {
            self.expired(now, job);
            return Admitted::Elsewhere;
        }
        // What is in doubt is looked up first, and what becomes of a copy that is in a call is waited for.
        let is_free = !self.window.is_busy(&job.request.source_server_id);
        if cancelled && is_free && job.progress.doubt == Doubt::None {
            self.cancelled(now, job);
            return Admitted::Elsewhere;
        }
        let planned = !cancelled && job.request.rare.not_before.is_some_and(|at| at > now.wall);
        let place = match job.progress.doubt {
            _ if planned => Place::Planned,
            Doubt::None if job.request.rare.held && !cancelled => Place::Held,
            Doubt::None | Doubt::LookUp { .. } if self.is_in_a_group_aside(&job) => Place::Group,
            Doubt::None | Doubt::LookUp { .. } if job.progress.aside => Place::Aside,
            _ if job.progress.until > now.at => Place::Until,
            Doubt::None => Place::Post,
            Doubt::LookUp { .. } => Place::LookUp,
            Doubt::Target(_) => Place::Swept,
        };
        self.window.put(now, job, place);
        if matches!(place, Place::Post | Place::LookUp) {
            Admitted::InLine
        } else {
            Admitted::Elsewhere
        }
    }

    /// Lets the next copy of a free source server stand in line: the most urgent one that can.
    fn admit_copies(&mut self, now: Now, source: &Text) {
        for line in Line::BOTH {
            while let Some(copy) = self.window.take_copy(source, line) {
                if self.admit(now, copy) == Admitted::InLine {
                    break;
                }
            }
        }
    }

    /// Wherever a job has left its line without a call, the next copy takes its place. Whether there was such a job.
    pub(super) fn close_ranks(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(source) = self.window.take_left() {
            self.admit_copies(now, &source);
            any = true;
        }
        any
    }

    /// Puts a job back whose call has ended, not to start before `until`.
    pub(super) fn back(&mut self, now: Now, mut job: Job<D>, until: Moment) {
        job.progress.until = until;
        self.land(now, &job);
        job.in_flight = false;
        self.admit(now, job);
    }

    /// A job is in flight no more: its place and its source server are free.
    pub(super) fn land(&mut self, now: Now, job: &Job<D>) {
        if job.in_flight {
            self.gate.settled();
            self.window.vacate(&job.request.source_server_id);
            self.admit_copies(now, &job.request.source_server_id);
        }
    }

    /// Puts a job back after an attempt that failed, to be tried again after the next delay.
    pub(super) fn back_later(&mut self, now: Now, mut job: Job<D>) {
        job.progress.failures += 1;
        let delay = self.gate.delay(job.progress.failures, &mut self.random);
        self.back(now, job, now.at + delay);
    }

    /// Puts a job back after a look-up that failed. An empty look-up does not make the delay of attempts start anew.
    pub(super) fn look_up_later(&mut self, now: Now, mut job: Job<D>) {
        job.progress.look_up_failures += 1;
        let delay = self.gate.delay(job.progress.look_up_failures, &mut self.random);
        self.back(now, job, now.at + delay);
    }

    pub(super) fn requeue(&mut self, now: Now, job: Job<D>) {
        self.put_out_of_sight(now, &job);
        self.out.steps.push_back(Step::Requeue(job));
    }

    /// A job leaves the window unsettled: what is known of it is kept for when it comes again.
    pub(super) fn put_out_of_sight(&mut self, now: Now, job: &Job<D>) {
        if job.progress.doubt != Doubt::None {
            // Copies must not be sent while the doubt is out of sight. But it is no new doubt: the look-ups that jobs for
            // this source server have had still count, or a `max_hold` shorter than `look_again` would let none have
            // its second one.
            let source = &job.request.source_server_id;
            let (first, once) = match job.progress.doubt {
                Doubt::LookUp { first, once, .. } => (first, once),
                Doubt::None | Doubt::Target(_) => (None, false),
            };
            let (at, once) = match self.doubts.of(source) {
                Some(known) => (known.at, once && known.once),
                None => (first.unwrap_or(now.at), once),
            };
            self.doubt(at, source, once);
        }
        self.ledger.carry(job, true);
    }

    pub(super) fn void_settlement(&mut self, job: &Job<D>, ending: Box<Ending>) {
        self.out.settling -= 1;
        if job.in_flight {
            self.gate.settled();
            self.window.vacate(&job.request.source_server_id);
        }
        self.ledger.keep(job, ending);
    }
}

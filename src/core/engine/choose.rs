//! Which call is the most urgent that may go now?

use super::doubt::raise;
use super::{Core, Linger, START_LINGER, START_QUIET, Step};
use crate::core::gate::{Call, Reason, Shut};
use crate::core::request::{Doubt, Job};
use crate::core::time::{Moment, Now};
use crate::core::window::{Key, Place, Rank};

impl<D> Core<D> {
    /// The most urgent call that may go now; `Err`: why none may, `None` if there is none to make.
    pub(super) fn choose(&mut self, now: Now) -> Result<Step<D>, Option<Shut>> {
        if let Some(until) = self.lingers(now.at) {
            return Err(Some(Shut { reason: Reason::Linger, until: Some(until) }));
        }
        self.begin_sweep(now.at);
        let post = self.first_post();
        let look = self.first_look();
        let list = self.next_page(now.at);
        if post.is_none() && look.is_none() && list.is_none() {
            // Being at a limit with nothing to send is not being shut.
            let idle = |shut: &Shut| matches!(shut.reason, Reason::Rate | Reason::InFlight);
            return Err(self.gate.check(now.at, Call::Post).err().filter(|shut| !idle(shut)));
        }
        let posts = self.gate.check(now.at, Call::Post);
        self.gate.check(now.at, Call::Look).map_err(Some)?;
        // A halt is probed with a POST if there is one: that one may look does not show that one may create.
        let probes = self.gate.halted().is_some() && post.is_some();
        let post = post.filter(|_| posts.is_ok());
        let rivals =
            [look.map(|(rank, _)| rank), list].into_iter().flatten().min().filter(|_| !probes);
        match post {
            Some((rank, key)) if rivals.is_none_or(|rival| rank < rival) => {
                self.start_post(now, key)
            }
            _ => match (look, list) {
                _ if probes => None,
                (Some((rank, key)), list) if list.is_none_or(|list| rank < list) => {
                    self.start_look(now, key)
                }
                (_, Some(_)) => self.start_page(now),
                _ => None,
            },
        }
        .ok_or(posts.err())
    }

    pub(super) fn start_post(&mut self, now: Now, key: Key) -> Option<Step<D>> {
        let job = self.start_call(now, key)?;
        Some(Step::Post(job))
    }

    pub(super) fn start_look(&mut self, now: Now, key: Key) -> Option<Step<D>> {
        let job = self.start_call(now, key)?;
        Some(Step::Look(job))
    }

    pub(super) fn start_call(&mut self, now: Now, key: Key) -> Option<Job<D>> {
        let mut job = self.window.take(key)?;
        self.window.occupy(&job.request.source_server_id);
        job.in_flight = true;
        self.gate.start(now.at);
        self.calling += 1;
        Some(job)
    }

    pub(super) fn start_page(&mut self, now: Now) -> Option<Step<D>> {
        let offset = self.sweep.as_mut()?.next(now.at);
        self.gate.start(now.at);
        self.calling += 1;
        Some(Step::List { offset })
    }

    /// The first job that may be sent without a look, by all that is known now.
    pub(super) fn first_post(&mut self) -> Option<(Rank, Key)> {
        loop {
            let (rank, key) = self.window.first_post()?;
            let job = self.window.get_mut(key)?;
            raise(&self.known, job);
            match job.progress.doubt {
                Doubt::None => return Some((rank, key)),
                Doubt::Look { .. } => self.window.move_to(key, Place::Look),
                Doubt::Target(_) => self.window.move_to(key, Place::Swept),
            }
        }
    }

    pub(super) fn first_look(&mut self) -> Option<(Rank, Key)> {
        let first = self.window.first_look()?;
        raise(&self.known, self.window.get_mut(first.1)?);
        Some(first)
    }

    /// When the first requests stop waiting for company; `None`: now.
    pub(super) fn lingers(&mut self, now: Moment) -> Option<Moment> {
        let until = match self.linger {
            Linger::Idle | Linger::Over => return None,
            Linger::Start { .. } if self.window.len() >= self.settings.window => now,
            Linger::Start { since, latest } => (latest + START_QUIET).min(since + START_LINGER),
            Linger::Until(until) => until,
        };
        if until > now {
            return Some(until);
        }
        self.linger = if self.window.is_empty() { Linger::Idle } else { Linger::Over };
        None
    }

    pub(super) fn note_arrival(&mut self, now: Moment) {
        let idle = self.window.is_empty() && self.calling == 0 && self.settling == 0;
        match &mut self.linger {
            Linger::Start { latest, .. } => *latest = now,
            linger if idle => *linger = Linger::Until(now + self.settings.linger),
            _ => {}
        }
    }

    /// Lets waits end, deadlines pass, and deliveries go back that were held too long.
    pub(super) fn on_time(&mut self, now: Now) {
        for job in self.window.due(now.at) {
            self.admit(now, job);
        }
        while let Some((at, key)) = self.window.next_deadline()
            && at <= now.at
        {
            // In doubt, it is looked up first: it may have been created in time.
            self.window.forget_deadline(key);
            let in_doubt =
                self.window.get(key).is_some_and(|job| job.progress.doubt != Doubt::None);
            if !in_doubt && let Some(job) = self.window.take(key) {
                self.expired(now, job);
            }
        }
        while let Some((received, key)) = self.window.oldest_held()
            && received + self.settings.max_hold <= now.at
        {
            let Some(job) = self.window.take(key) else { break };
            self.give_back(now, job);
        }
    }

    /// When something is due next, if nothing happens before; never a time that has passed.
    pub(super) fn next_time(&self, now: Moment) -> Option<Moment> {
        let held = self.window.oldest_held().map(|(at, _)| at + self.settings.max_hold);
        let deadline = self.window.next_deadline().map(|(at, _)| at);
        let sweep = self.sweep.as_ref().filter(|sweep| !sweep.out).map(|sweep| sweep.until);
        [self.window.next_wait(), held, deadline, sweep]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }
}

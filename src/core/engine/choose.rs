//! Which call is the most urgent that may go now?

use super::look_ups::Asks;
use super::{Core, Question, Step};
use crate::core::away;
use crate::core::gate::{Call, Reason, Shut};
use crate::core::request::{Doubt, Job};
use crate::core::time::{Moment, Now};
use crate::core::window::{Key, Line, Place, Rank};

/// A call that could be made.
#[derive(Clone, Copy)]
enum Pick {
    Post(Key),
    LookUp(Key),
    /// A page of the list of all tasks.
    Page,
    /// Which tasks are in a state, or how one of our own stands.
    Count,
    /// Whether look-ups are answered at all.
    Ask,
}

/// A limit that only work meets: to be at it with nothing to send is not to be shut.
fn is_of_work(shut: Shut) -> bool {
    matches!(shut.reason, Reason::Rate | Reason::InFlight)
}

impl<D> Core<D> {
    /// The most urgent call that may go now; `Err`: why none may, `None` if there is none to make.
    pub(super) fn choose(&mut self, now: Now) -> Result<Step<D>, Option<Shut>> {
        if let Some(until) = self.lingers(now.at) {
            return Err(Some(Shut { reason: Reason::Linger, until: Some(until) }));
        }
        if let Some(shut) = self.too_many_unpublished() {
            return Err(Some(shut));
        }
        // While calls fail, what is in doubt is looked up singly: a list would hold up all at once.
        if self.gate.breaker().opened().is_none() {
            self.begin_sweep(now.at);
        }
        let starting = self.first_post(Line::Starting);
        let still = self.first_post(Line::CreateOnly);
        let look = self.first_look_up();
        let page = self.next_page(now.at);
        let fresh = starting.is_some() || still.is_some() || look.is_some() || page.is_some();
        if fresh {
            self.gate.another_may_go();
        } else {
            let runs = self.gate.all_refused(now);
            self.forgive(&runs);
        }
        if self.gate.breaker().opened().is_some() {
            return self.choose_probe(now);
        }
        // The most urgent of what was refused and is tried again.
        let again =
            self.first_aside(now.at, fresh).into_iter().chain(self.first_of_groups(now.at)).min();
        let again = again.filter(|(_, key)| self.may_go_again(*key));
        let asks = self.doubts.look_ups.asks == Asks::Wanted;
        if !fresh && again.is_none() && !asks {
            // Being at a limit with nothing to send is not being shut.
            let holds = self.gate.holds(now.at, Call::Post);
            return Err(Shut::longest(holds.filter(|shut| !is_of_work(*shut))));
        }
        self.gate.check(now.at, Call::LookUp).map_err(Some)?;
        let (may_post, may_start) = self.may_post(now);
        let post = [starting.filter(|_| may_start.is_ok()), still];
        let post = post.into_iter().flatten().min().filter(|_| may_post.is_ok());
        let wanted = may_post.is_ok() && self.running.wants(now.at);
        let count = starting.filter(|_| wanted);
        // A count goes before the request that it is made for.
        let (look_again, post_again) = match again {
            Some((rank, key)) if self.is_in_doubt(key) => (Some((rank, Pick::LookUp(key))), None),
            Some((rank, key)) => {
                let job = self.window.get(key);
                let cap = job.is_some_and(|job| job.request.starts) && may_start.is_err();
                // For what is tried again there is a count, too: it may be all that is held.
                let pick = if cap { wanted.then_some(Pick::Count) } else { Some(Pick::Post(key)) };
                (None, pick.filter(|_| may_post.is_ok()).map(|pick| (rank, pick)))
            }
            None => (None, None),
        };
        let calls = [
            count.map(|(rank, _)| (rank, Pick::Count)),
            post.map(|(rank, key)| (rank, Pick::Post(key))),
            look.map(|(rank, key)| (rank, Pick::LookUp(key))),
            page.map(|rank| (rank, Pick::Page)),
            look_again,
            post_again,
        ];
        let first = calls.into_iter().flatten().min_by_key(|(rank, _)| *rank);
        let ask = asks.then_some(Pick::Ask);
        match first {
            // One call now and then, and something waits for it that nothing else can end.
            _ if ask.is_some() => self.start(now, Pick::Ask).ok_or(None),
            // What is on its way to the broker and back keeps its place in the order.
            Some((rank, _)) if self.out.away.precedes(rank) => {
                Err(Some(Shut { reason: Reason::Linger, until: self.out.away.expire(now.at) }))
            }
            Some((_, pick)) => self.start(now, pick).ok_or(None),
            None => Err(may_post.err().or(may_start.err())),
        }
    }

    /// Why the next request is not going now, if that was the reason why no call goes: what holds requests longest.
    /// A look-up that waits for its turn in the rate of a paused gate is not what requests wait for.
    pub(super) fn said(&mut self, now: Now, chosen: Option<Shut>) -> Option<Shut> {
        let holds = self.gate.holds(now.at, Call::Post).filter(|shut| !is_of_work(*shut));
        let mut holds: Vec<Shut> = chosen.into_iter().chain(holds).collect();
        let (settings, hours) = (&self.settings, &mut self.hours);
        holds.extend(hours.check(&settings.schedule, now, settings.answered_within).err());
        holds.extend(self.too_many_unpublished());
        if self.window.first_post(Line::Starting).is_some()
            && let Err(until) = self.running.admits(now.at)
        {
            holds.push(Shut { reason: Reason::Running, until });
        }
        Shut::longest(holds)
    }

    /// Whether a `POST` may go, and whether one may that starts a migration.
    pub(super) fn may_post(&mut self, now: Now) -> (Result<(), Shut>, Result<(), Shut>) {
        let scheduled =
            self.hours.check(&self.settings.schedule, now, self.settings.answered_within);
        let may_post = self.gate.check(now.at, Call::Post).and(scheduled);
        self.running.set_pace(self.gate.limits().pace());
        let room = self.running.admits(now.at);
        (may_post, room.map_err(|until| Shut { reason: Reason::Running, until }))
    }

    fn start(&mut self, now: Now, pick: Pick) -> Option<Step<D>> {
        match pick {
            Pick::Post(key) => self.start_post(now, key),
            Pick::LookUp(key) => self.start_look_up(now, key),
            Pick::Page => self.start_page(now),
            Pick::Count => Some(self.start_count(now)),
            Pick::Ask => Some(self.start_ask(now)),
        }
    }

    pub(super) fn start_ask(&mut self, now: Now) -> Step<D> {
        self.doubts.look_ups.asks = Asks::Out;
        self.gate.start(now.at);
        self.out.calling += 1;
        Step::Ask(Question::Any)
    }

    /// What is set aside may be in doubt by what is known now.
    fn is_in_doubt(&mut self, key: Key) -> bool {
        let Some(job) = self.window.get_mut(key) else { return false };
        self.doubts.raise(job);
        job.progress.doubt != Doubt::None
    }

    /// What waits for its target server's tasks is no affair of single calls.
    fn may_go_again(&self, key: Key) -> bool {
        let job = self.window.get(key);
        job.is_some_and(|job| !matches!(job.progress.doubt, Doubt::Target(_)))
    }

    pub(super) fn start_count(&mut self, now: Now) -> Step<D> {
        let query = self.running.ask(now.at);
        self.gate.start(now.at);
        self.out.calling += 1;
        Step::Ask(Question::Count(query))
    }

    pub(super) fn start_post(&mut self, now: Now, key: Key) -> Option<Step<D>> {
        let job = self.start_call(now, key)?;
        self.ledger.begun.insert(job.request.run, ());
        self.running.started(now.at, &job.request.source_server_id, job.request.starts);
        Some(Step::Post(job))
    }

    pub(super) fn start_look_up(&mut self, now: Now, key: Key) -> Option<Step<D>> {
        let job = self.start_call(now, key)?;
        Some(Step::Ask(Question::LookUp(job)))
    }

    pub(super) fn start_call(&mut self, now: Now, key: Key) -> Option<Job<D>> {
        let mut job = self.window.take(key)?;
        self.window.occupy(&job.request.source_server_id);
        job.in_flight = true;
        self.gate.start(now.at);
        self.out.calling += 1;
        Some(job)
    }

    pub(super) fn start_page(&mut self, now: Now) -> Option<Step<D>> {
        let offset = self.doubts.list.as_mut()?.next(now.at);
        self.gate.start(now.at);
        self.out.calling += 1;
        Some(Step::Ask(Question::List { offset }))
    }

    /// The first job that may be sent without a look-up, by all that is known now.
    pub(super) fn first_post(&mut self, line: Line) -> Option<(Rank, Key)> {
        loop {
            let (rank, key) = self.window.first_post(line)?;
            let job = self.window.get_mut(key)?;
            self.doubts.raise(job);
            match job.progress.doubt {
                Doubt::None => return Some((rank, key)),
                Doubt::LookUp { .. } => self.window.move_to(key, Place::LookUp),
                Doubt::Target(_) => self.window.move_to(key, Place::Swept),
            }
        }
    }

    pub(super) fn first_look_up(&mut self) -> Option<(Rank, Key)> {
        let first = self.window.first_look_up()?;
        self.doubts.raise(self.window.get_mut(first.1)?);
        Some(first)
    }

    /// When the first requests stop waiting for company; `None`: now.
    pub(super) fn lingers(&mut self, now: Moment) -> Option<Moment> {
        self.session.lingers(now, self.window.len(), self.settings.window)
    }

    /// Lets waits end and deadlines pass, and requeues deliveries that were held too long.
    pub(super) fn on_time(&mut self, now: Now) {
        self.out.away.expire(now.at);
        for job in self.window.due(now.at) {
            self.admit(now, job);
        }
        while let Some((at, key)) = self.window.next_deadline()
            && at <= now.at
        {
            // In doubt, it is looked up first: it may have been created in time. So may a copy of it have been that is in a
            // call just now; what comes of that is waited for.
            self.window.forget_deadline(key);
            if !self.is_in_doubt(key)
                && !self.window.is_busy_for(key)
                && let Some(job) = self.window.take(key)
            {
                self.expired(now, job);
            }
        }
        while let Some((received, key)) = self.window.oldest_held()
            && received + self.settings.max_hold <= now.at
            && self.out.away.len() < away::AT_MOST
        {
            let Some((rank, job)) = self.window.rank(key).zip(self.window.take(key)) else { break };
            // What waits holds up nobody while it is away.
            let planned = matches!(job.place(), Place::Planned | Place::Held);
            if job.progress.until <= now.at && !planned {
                self.out.away.insert(now.at, job.request.run, rank);
            }
            self.requeue(now, job);
        }
    }

    /// When something is due next, if nothing happens before; never a time that has passed.
    pub(super) fn next_time(&mut self, now: Moment) -> Option<Moment> {
        let away = self.out.away.expire(now);
        let held = self.window.oldest_held().map(|(at, _)| at + self.settings.max_hold);
        let deadline = self.window.next_deadline().map(|(at, _)| at);
        let sweep = self.doubts.list.as_ref().filter(|sweep| !sweep.out).map(|sweep| sweep.until);
        let aside = self.next_aside(now).filter(|_| self.gate.breaker().opened().is_none());
        let unpublished = self.next_unpublished();
        [self.window.next_wait(), held, deadline, sweep, away, aside, unpublished]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }
}

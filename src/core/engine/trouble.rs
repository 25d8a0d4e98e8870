//! A call was refused or failed: is it held against the request, and what of the rest may go meanwhile?

use std::collections::BTreeSet;
use std::time::Duration;

use super::look_ups::Asks;
use super::{Core, Step, hash_of};
use crate::core::breaker::{self, Cause, Group, How};
use crate::core::gate::{Call, Reason, Shut};
use crate::core::outcome::Outcome;
use crate::core::request::{Doubt, Job};
use crate::core::time::{Moment, Now};
use crate::core::verdict::Fault;
use crate::core::window::{Key, Place, Rank};

/// What a probe could be made with; the least goes first.
type Probe = (bool, Moment, Moment, bool, u64, Rank, Key);

impl<D> Core<D> {
    /// A request was created: the account takes requests, the API works, and what others are refused is their own.
    pub(super) fn passed(&mut self, now: Now, job: &Job<D>) {
        let group = Group::of(&job.request);
        let was_aside = self.gate.breaker().groups().contains_key(&group);
        let closed = self.gate.passed(now.at, &group, job.progress.aside);
        if was_aside {
            for job in self.window.take_group(&group) {
                self.admit(now, job);
            }
        }
        if closed == Some(Cause::Account) {
            self.try_again(now, |job| job.progress.strikes == 0);
        }
    }

    /// Those set aside alone of which this is true need not wait for their time any longer.
    pub(super) fn try_again(&mut self, now: Now, which: impl Fn(&Job<D>) -> bool) {
        let of = |job: &Job<D>| job.place() == Place::Aside && which(job);
        for key in self.window.keys_where(of) {
            if let Some(mut job) = self.window.take(key) {
                job.progress.until = now.at;
                self.admit(now, job);
            }
        }
    }

    /// The account refused a call for this request. It is set aside, and the next one goes: whether it is the account, others
    /// show. Only what is refused while others are created, `halt.after` times and apart, has ended.
    pub(super) fn refused(
        &mut self,
        now: Now,
        call: Call,
        mut job: Job<D>,
        fault: &Fault,
        token: bool,
    ) {
        let created = self.gate.breaker().created();
        let progress = &mut job.progress;
        let fresh = progress.refusals == 0 || created == progress.created_then;
        let before = progress.refusals;
        progress.refusals += 1;
        progress.created_then = created;
        progress.troubled = now.at;
        progress.aside = true;
        progress.strikes += u32::from(before == 0 || !fresh);
        let group = Group::of(&job.request);
        let others = self.window.others_may_go(&group);
        let how = How { refusals: before, fresh, others, token };
        let refused = self.gate.refused(now, call, &job.request, fault, how);
        self.ledger.note_trouble(Self::kin(&job), now.at);
        // An account that refuses, or a project that it has no right to, is no trouble of the request's.
        if refused.group || refused.opened.contains(&job.request.run) {
            job.progress.strikes = 0;
        }
        self.forgive(&refused.opened);
        if job.progress.strikes >= self.settings.gate.halt_after {
            if call == Call::LookUp {
                return self.cannot_tell(now, job);
            }
            let said = fault.to_string();
            let reason = format!(
                "{said}; others were created before and after, so it is this request that the account refuses"
            );
            return self.finish(now, job, Outcome::Rejected, reason);
        }
        self.back(now, job, now.at + refused.wait);
        if refused.group {
            self.set_aside(now, &group);
            // Those of which nothing is left are forgotten: anybody may name a project.
            let waiting: BTreeSet<Group> =
                self.window.groups().map(|(group, _)| group.clone()).collect();
            self.gate.keep_groups(|known| *known == group || waiting.contains(known));
        }
    }

    /// What was refused by an account that refuses everything is held against nobody.
    pub(super) fn forgive(&mut self, runs: &[crate::core::Run]) {
        if runs.is_empty() {
            return;
        }
        for key in self.window.keys_where(|job| runs.contains(&job.request.run)) {
            if let Some(job) = self.window.get_mut(key) {
                job.progress.strikes = 0;
            }
        }
    }

    /// Moves what is held of a group to where it waits for the group's probe.
    fn set_aside(&mut self, now: Now, group: &Group) {
        let turn = |job: &Job<D>| {
            matches!(job.place(), Place::Post | Place::LookUp | Place::Aside)
                && group.has(&job.request)
        };
        for key in self.window.keys_where(turn) {
            if let Some(mut job) = self.window.take(key) {
                job.progress.strikes = 0;
                self.admit(now, job);
            }
        }
    }

    pub(super) fn is_in_a_group_aside(&self, job: &Job<D>) -> bool {
        let groups = self.gate.breaker().groups();
        !groups.is_empty() && groups.contains_key(&Group::of(&job.request))
    }

    /// Whatever has gone wrong, an operator says that it is well again.
    pub(super) fn forget_troubles(&mut self, now: Now) {
        let groups: Vec<Group> = self.window.groups().map(|(group, _)| group.clone()).collect();
        for group in groups {
            for job in self.window.take_group(&group) {
                self.admit(now, job);
            }
        }
        self.try_again(now, |_| true);
    }

    /// To be throttled (429) is the gate's affair. But a request that is throttled again and again goes behind others.
    pub(super) fn throttled(&mut self, now: Now, mut job: Job<D>, wait: Option<Duration>) {
        job.progress.throttles += 1;
        job.progress.troubled = now.at;
        if job.progress.throttles < 2 {
            return self.back(now, job, now.at);
        }
        let created = self.gate.breaker().created();
        let others = created > job.progress.created_then;
        job.progress.created_then = created;
        if others && self.is_too_old(now.at, &job) {
            return match job.progress.doubt {
                Doubt::None => self.exhausted(now, job),
                Doubt::LookUp { .. } | Doubt::Target(_) => self.cannot_tell(now, job),
            };
        }
        job.progress.aside = true;
        let delay = self.gate.delay(job.progress.throttles - 1, &mut self.random);
        let after = self.gate.throttled_until().max(now.at);
        self.back(now, job, (after + delay).max(now.at + wait.unwrap_or_default()));
    }

    /// The attempt before was the request's own failure if the API answers: it has just done so. Where all that is held
    /// fails, and that is little, it counts as well.
    pub(super) fn count_failure(&self, job: &mut Job<D>) {
        if !std::mem::take(&mut job.progress.uncounted) {
            return;
        }
        let few = self.window.len() + self.out.calling < breaker::FAILURES as usize;
        let counts = match self.gate.breaker().opened() {
            None => true,
            Some(open) => open.cause == Cause::Failures && few,
        };
        job.progress.counted += u32::from(counts);
    }

    /// Those set aside alone are tried again each when its time has come: what was refused one at a time, and what gets 429s
    /// when another call did not, or no other is there to go.
    pub(super) fn first_aside(&self, now: Moment, others: bool) -> Option<(Rank, Key)> {
        let again = self.gate.breaker().aside_at() <= now;
        let quiet = !others || !self.gate.is_throttling();
        self.window.first_aside(now, |job| if job.progress.throttles > 1 { quiet } else { again })
    }

    /// The most urgent request of those with which a group may be probed now.
    pub(super) fn first_of_groups(&self, now: Moment) -> Option<(Rank, Key)> {
        let groups = self.gate.breaker().groups().iter();
        let due = groups.filter(|(_, aside)| aside.probe_at <= now);
        due.filter_map(|(group, _)| self.window.first_of_group(group)).min()
    }

    /// When one of those that are set aside may be tried next.
    pub(super) fn next_aside(&self, now: Moment) -> Option<Moment> {
        let breaker = self.gate.breaker();
        let waiting = self.window.groups();
        let probes = waiting.filter_map(|(group, _)| breaker.groups().get(group));
        let probes = probes.map(|aside| aside.probe_at);
        let times = probes.chain([breaker.aside_at()]).chain(self.window.next_aside(now));
        times.filter(|at| *at > now).min()
    }

    /// The call that asks whether the account, or the API, is well again: each with another request. First those that came
    /// since the last one, every second time; then what was refused or failed longest ago, or never; then by what has project,
    /// region and target server in common with it. Of equals any one, for the most urgent ones may all be of a kind, and it may be theirs.
    pub(super) fn choose_probe(&mut self, now: Now) -> Result<Step<D>, Option<Shut>> {
        self.gate.check(now.at, Call::LookUp).map_err(Some)?;
        // Look-ups of a few may fail and open the breaker; whether those of others do is asked in between.
        if self.doubts.look_ups.asks == Asks::Wanted {
            self.gate.probed();
            return Ok(self.start_ask(now));
        }
        let (may_post, may_start) = self.may_post(now);
        let count = self.running.wants(now.at);
        let page = self.next_page(now.at).is_some();
        let probes = self.gate.breaker().opened().map_or(0, |open| open.probes);
        let newcomers = probes.is_multiple_of(2);
        let probe = self.settings.gate.probe;
        for key in self.window.keys_where(|_| true) {
            if let Some(job) = self.window.get_mut(key)
                && matches!(job.place(), Place::Post | Place::Aside | Place::Group)
            {
                self.doubts.raise(job);
            }
        }
        let mut best: Option<(Probe, Place)> = None;
        for (job, place) in self.window.iter() {
            if self.window.is_busy(&job.request.source_server_id) {
                continue;
            }
            let looks = job.progress.doubt != Doubt::None;
            let goes = match place {
                Place::Swept => page,
                Place::Post | Place::LookUp | Place::Aside | Place::Group if looks => {
                    !matches!(job.progress.doubt, Doubt::Target(_))
                }
                Place::Post | Place::Aside | Place::Group => {
                    may_post.is_ok() && (may_start.is_ok() || !job.request.starts || count)
                }
                Place::LookUp | Place::Until | Place::Planned | Place::Held | Place::Copy => false,
            };
            if !goes {
                continue;
            }
            // Its copies count, and deliveries that nothing was carried over to.
            let troubled =
                job.progress.troubled.max(self.ledger.last_trouble(hash_of(job.request.run)));
            let new = troubled == Moment::START && now.at - job.first_received() < probe;
            let kin = self.ledger.last_trouble(Self::kin(job));
            let Some(rank) = self.window.rank(job.arrival) else { continue };
            let lot = hash_of((job.request.run, probes));
            let order = (!(new && newcomers), troubled, kin, looks, lot, rank, job.arrival);
            if best.as_ref().is_none_or(|(least, _)| order < *least) {
                best = Some((order, place));
            }
        }
        let Some(((.., looks, _, rank, key), place)) = best else {
            // Nothing that could go is there: the next one whose time comes is the probe.
            let until = self.next_time(now.at);
            let open = self.gate.breaker().opened();
            let shut = open.map(|open| Shut { reason: Reason::of(open.cause), until });
            return Err(may_post.err().or(may_start.err()).or(shut));
        };
        if self.out.away.precedes(rank) {
            let until = self.out.away.expire(now.at);
            return Err(Some(Shut { reason: Reason::Linger, until }));
        }
        self.gate.probed();
        let Some(job) = self.window.get(key) else { return Err(None) };
        let (starts, run) = (job.request.starts, hash_of(job.request.run));
        self.ledger.note_trouble(run, now.at);
        let step = match (place, looks) {
            (Place::Swept, _) => self.start_page(now),
            (_, true) => self.start_look_up(now, key),
            (_, false) if starts && may_start.is_err() => count.then(|| self.start_count(now)),
            (_, false) => self.start_post(now, key),
        };
        step.ok_or(None)
    }

    /// What an account may refuse together: project, region, target server.
    fn kin(job: &Job<D>) -> u64 {
        let request = &job.request;
        let target = request.target_vm_id.as_ref().map(ToString::to_string);
        let shared = &request.shared;
        hash_of((&shared.project_id, &shared.region_id, target))
    }
}

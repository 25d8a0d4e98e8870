//! Is it the request, the account, or the API as a whole? The one circuit that shuts the gate for trouble that is not the
//! requests', and the count of what is held against a request that others do not share.
//!
//! The breaker *opens* (and the gate is shut) when different requests fail or are refused in a row with nothing created
//! between them; half open, one *probe* at a time goes, each with another request, until one is created or an operator
//! resumes. One request that is refused, or fails, while others are created hurts only itself.

mod open;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::request::{Request, Run};
use super::retry::{self, Jitter};
use super::time::{Moment, Now};
use super::verdict::Fault;

pub use open::Open;

/// So many failures in a row, of at least two requests, shut the gate: by then it is not the requests.
pub const FAILURES: u32 = 10;
/// So many different requests refused in a row shut the gate: by then it is the account.
pub const REFUSALS: usize = 3;
/// The longest wait between two probes of an account that refuses is this many times the first.
const PROBE_GROWTH: u32 = 16;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Post,
    /// A look-up, or a page of a list.
    LookUp,
}

/// Whose trouble has opened the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The account: a halt.
    Account,
    /// The API or the way to it: failures.
    Failures,
}

/// What requests share that an account may have the right to, or not: project and region.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    pub project_id: Box<str>,
    pub region_id: Box<str>,
}

impl Group {
    pub fn of(request: &Request) -> Self {
        Self {
            project_id: request.shared.project_id.clone(),
            region_id: request.shared.region_id.clone(),
        }
    }

    pub fn has(&self, request: &Request) -> bool {
        self.project_id == request.shared.project_id && self.region_id == request.shared.region_id
    }
}

/// A group whose requests are refused while others are created: kept, and probed by itself.
#[derive(Clone, Debug)]
pub struct Aside {
    /// What the API said.
    pub fault: Fault,
    pub since: Timestamp,
    pub probe_at: Moment,
    interval: Duration,
}

/// A call for a request that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    pub run: Run,
    pub call: Call,
    /// It failed at the API, or on the way back; otherwise it surely was not sent.
    pub reached: bool,
}

/// What the core knows of a request that is refused.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// How often it was refused before.
    pub refusals: u32,
    /// Nothing was created since it was refused before, or it was not.
    pub fresh: bool,
    /// Requests of other groups are there to go.
    pub others: bool,
    /// It is the token that was refused.
    pub token: bool,
}

/// What has become of a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The breaker is open by now: refusals of these runs were the account's.
    pub opened: Vec<Run>,
    /// This group is set aside from now on, or still is.
    pub group: bool,
    /// How long the request waits before it is tried again, if it is set aside alone.
    pub wait: Duration,
}

#[derive(Clone, Debug)]
struct Refusal {
    run: Run,
    group: Group,
    code: Option<String>,
}

/// Failures in a row with nothing created between.
#[derive(Clone, Debug, Default)]
struct FailureRun {
    failures: u32,
    /// Of these, what never reached the API: no request can be blamed for it.
    unreached: u32,
    first: Option<Run>,
    several: bool,
}

/// The circuit.
#[derive(Debug)]
pub struct Breaker {
    /// `halt.probe`: the first wait between two probes.
    probe: Duration,
    retry: retry::RetrySettings,
    open: Option<Open>,
    /// The different requests that were refused in a row with nothing created between, the latest few.
    refused: Vec<Refusal>,
    /// What was said last, and whether it was the token that was refused.
    said: (Fault, bool),
    failed: FailureRun,
    groups: BTreeMap<Group, Aside>,
    /// Requests created so far.
    created: u64,
    /// No request that was set aside alone is tried again before this.
    aside_at: Moment,
}

impl Breaker {
    pub fn new(probe: Duration, retry: retry::RetrySettings) -> Self {
        Self {
            probe,
            retry,
            open: None,
            refused: Vec::new(),
            said: (Fault::default(), false),
            failed: FailureRun::default(),
            groups: BTreeMap::new(),
            created: 0,
            aside_at: Moment::START,
        }
    }

    pub fn opened(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// Requests created so far: what is refused is held against a request only if others are created.
    pub fn created(&self) -> u64 {
        self.created
    }

    pub fn keep_groups(&mut self, keep: impl Fn(&Group) -> bool) {
        self.groups.retain(|group, _| keep(group));
    }

    pub fn groups(&self) -> &BTreeMap<Group, Aside> {
        &self.groups
    }

    /// When a request that was set aside alone may be tried again: one at a time, and one an interval while they are refused.
    pub fn aside_at(&self) -> Moment {
        self.aside_at
    }

    /// A request was created. Answers the cause that the breaker was open for, if this closes it.
    pub fn passed(&mut self, now: Moment, group: &Group, was_aside: bool) -> Option<Cause> {
        self.created += 1;
        self.refused.clear();
        self.failed = FailureRun::default();
        self.groups.remove(group);
        if was_aside {
            self.aside_at = now;
        }
        self.open.take().map(|open| open.cause)
    }

    /// A call was answered in a way that proves nothing about the account: a final refusal of the request, or a look-up.
    pub fn answered(&mut self, now: Moment, call: Call) {
        let Some(open) = &mut self.open else { return };
        let closes = match open.cause {
            // The API answers, and not only look-ups where `POST`s were in trouble.
            Cause::Failures => call == Call::Post || open.call == Call::LookUp,
            // That one may look does not show that one may create; but look-ups, or the token, are allowed again.
            Cause::Account => call == Call::LookUp && (open.call == Call::LookUp || open.token),
        };
        if closes {
            self.open = None;
            self.refused.clear();
            self.failed = FailureRun::default();
        } else {
            // The next probe follows at once.
            open.probe_at = open.probe_at.min(now);
        }
    }

    /// A call failed.
    pub fn failed(&mut self, now: Now, failure: Failure, fault: &Fault, jitter: &mut Jitter) {
        let Failure { run, call, reached } = failure;
        let row = &mut self.failed;
        row.failures = row.failures.saturating_add(1);
        row.unreached = if reached { 0 } else { row.unreached.saturating_add(1) };
        row.several |= *row.first.get_or_insert(run) != run;
        let api = row.several || row.unreached >= FAILURES;
        let many = api && row.failures >= FAILURES;
        match &mut self.open {
            Some(open) if open.cause == Cause::Account => open.postpone(now.at),
            Some(open) => open.fail(now.at, call, fault, (&self.retry, jitter)),
            None if many => {
                let mut open = Open::new(now, Cause::Failures, call, fault, Duration::ZERO);
                open.fail(now.at, call, fault, (&self.retry, jitter));
                open.probes = 0;
                self.open = Some(open);
            }
            None => {}
        }
    }

    /// A probe showed nothing (a 429): it is made again later.
    pub fn showed_nothing(&mut self, now: Moment) {
        if let Some(open) = &mut self.open {
            open.postpone(now);
        }
    }

    /// The account refused a call for this request.
    pub fn refused(
        &mut self,
        now: Now,
        call: Call,
        request: &Request,
        fault: &Fault,
        how: How,
    ) -> Refused {
        let wait = self.probe * (1 << how.refusals.min(4));
        let group = Group::of(request);
        self.said = (fault.clone(), how.token);
        if how.refusals > 0 {
            self.aside_at = now.at + self.probe;
        }
        if let Some(aside) = self.groups.get_mut(&group) {
            aside.fault = fault.clone();
            if aside.probe_at <= now.at {
                aside.interval = (aside.interval * 2).min(self.probe * PROBE_GROWTH);
                aside.probe_at = now.at + aside.interval;
            }
            return Refused { group: true, wait, ..Refused::default() };
        }
        if let Some(open) = &mut self.open {
            if open.probe_at <= now.at {
                (open.cause, open.call, open.token) = (Cause::Account, call, how.token);
                open.fault = fault.clone();
                open.interval = (open.interval * 2).clamp(self.probe, self.probe * PROBE_GROWTH);
                open.probe_at = now.at + open.interval;
            }
            return Refused { opened: vec![request.run], group: false, wait };
        }
        if !how.fresh || self.refused.iter().any(|refusal| refusal.run == request.run) {
            return Refused { wait, ..Refused::default() };
        }
        let code = fault.error_code.clone();
        self.refused.push(Refusal { run: request.run, group: group.clone(), code });
        if self.refused.len() >= REFUSALS {
            let opened = self.refused.iter().map(|refusal| refusal.run).collect();
            let open = Open::new(now, Cause::Account, call, fault, self.probe);
            self.open = Some(Open { token: how.token, ..open });
            return Refused { opened, group: false, wait };
        }
        let code = &fault.error_code;
        let alike = self.refused.iter().filter(|one| one.group == group && one.code == *code);
        if how.others && alike.count() > 1 {
            self.refused.retain(|one| one.group != group);
            let probe_at = now.at + self.probe;
            let aside =
                Aside { fault: fault.clone(), since: now.wall, probe_at, interval: self.probe };
            self.groups.insert(group, aside);
            return Refused { group: true, wait, ..Refused::default() };
        }
        Refused { wait, ..Refused::default() }
    }

    /// The token cannot be had, or a fresh one is refused whatever it is shown with.
    pub fn no_token(&mut self, now: Now, fault: &Fault) {
        match &mut self.open {
            Some(open) if open.probe_at > now.at => {}
            Some(open) => {
                open.interval = (open.interval * 2).clamp(self.probe, self.probe * PROBE_GROWTH);
                (open.cause, open.token, open.fault) = (Cause::Account, true, fault.clone());
                open.probe_at = now.at + open.interval;
            }
            None => {
                let mut open = Open::new(now, Cause::Account, Call::LookUp, fault, self.probe);
                open.token = true;
                self.open = Some(open);
            }
        }
    }

    /// Something of the account has changed: it is asked then at the latest. Says whether that is sooner than it would be.
    pub fn ask_by(&mut self, at: Moment) -> bool {
        let halted = self.open.as_mut().filter(|open| open.cause == Cause::Account);
        let sooner = halted.filter(|open| open.probe_at > at);
        sooner.map(|open| open.probe_at = at).is_some()
    }

    /// Every request that could go has been refused, if only one or two.
    pub fn all_refused(&mut self, now: Now) -> Vec<Run> {
        if self.refused.is_empty() || self.open.is_some() {
            return Vec::new();
        }
        let (fault, token) = self.said.clone();
        let open = Open::new(now, Cause::Account, Call::Post, &fault, self.probe);
        self.open = Some(Open { few: true, token, ..open });
        self.refused.iter().map(|refusal| refusal.run).collect()
    }

    /// A request that was not refused is there to go. Where only one or two were, it goes at once.
    pub fn another_may_go(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.few) {
            self.open = None;
        }
    }

    /// A probe goes.
    pub fn probed(&mut self) {
        if let Some(open) = &mut self.open {
            open.probes = open.probes.saturating_add(1);
        }
    }

    /// An operator says that all is well again.
    pub fn resume(&mut self, now: Moment) {
        self.open = None;
        self.refused.clear();
        self.failed = FailureRun::default();
        self.groups.clear();
        self.aside_at = now;
    }
}

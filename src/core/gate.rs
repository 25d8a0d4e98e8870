//! May the next call go now, and if not, why and until when?
//!
//! The gate is *open* or *shut*. Limits, throttling and the breaker hold every call; a pause holds `POST`s only.

mod reason;
mod token;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::breaker::Call;
use super::breaker::{Breaker, Cause, Failure, Group, How, Refused};
use super::limits::{Grant, Limits, NotLent};
use super::rate::Rate;
use super::request::{Request, Run};
use super::retry::{self, Jitter};
use super::time::{Moment, Now};
use super::verdict::{Fault, Verdict};
use token::Refresh;

pub use reason::{Reason, Shut};

/// How long a 429 that names no time holds the gate at first.
const THROTTLE_FIRST: Duration = Duration::from_secs(1);

/// `[limits]`, `[halt]` and what of `[retry]` the gate needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GateSettings {
    pub rates: Vec<Rate>,
    pub margin: Duration,
    pub max_in_flight: usize,
    pub halt_after: u32,
    pub probe: Duration,
    pub retry: retry::RetrySettings,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            rates: Vec::new(),
            margin: Duration::from_millis(10),
            max_in_flight: 16,
            halt_after: 3,
            probe: Duration::from_secs(60),
            retry: retry::RetrySettings::default(),
        }
    }
}

/// Who paused the gate, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pause {
    pub by: String,
    pub reason: String,
}

/// What decides whether the next call may go now.
#[derive(Debug)]
pub struct Gate {
    settings: GateSettings,
    limits: Limits,
    /// Requests in a call or being settled, and pages of a list.
    in_flight: usize,
    /// Calls that have not answered yet.
    calls: usize,
    throttled_until: Moment,
    throttles: u32,
    /// What the latest 429 said: it names the quota.
    throttle: Option<Fault>,
    breaker: Breaker,
    refresh: Refresh,
    pause: Option<Pause>,
    blocked: bool,
    /// The latest answer that was none of success, for whoever wants to know what shut the gate.
    trouble: Option<Trouble>,
    /// When a fresh token that was refused was replaced at once.
    logged_in_again: Option<Moment>,
    /// When a halted account is, or was last, asked for nothing but a renewed credential.
    asked_renewed: Option<Moment>,
}

/// A call that was refused or failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    pub fault: Fault,
    /// The request that it was for; none: a list, or a count.
    pub run: Option<Run>,
}

/// What a call was for, and what it carried.
#[derive(Clone, Copy, Debug)]
pub struct Of {
    /// The generation of its token.
    pub generation: u64,
    /// The request; none: a list for many, or a count.
    pub run: Option<Run>,
    /// The request was refused with an earlier token already.
    pub renewed: bool,
    /// The request was answered 429 before, and other calls were not since.
    pub alone: bool,
}

impl Gate {
    /// A gate starts as if it had just let through all that the limits allow.
    pub fn new(settings: GateSettings, now: Now) -> Self {
        let limits = Limits::new(&settings.rates, settings.margin, now.at);
        let breaker = Breaker::new(settings.probe, settings.retry.clone());
        Self {
            settings,
            limits,
            in_flight: 0,
            calls: 0,
            throttled_until: Moment::START,
            throttles: 0,
            throttle: None,
            breaker,
            refresh: Refresh::Good,
            pause: None,
            blocked: false,
            trouble: None,
            logged_in_again: None,
            asked_renewed: None,
        }
    }

    /// This worker is the active one from now on; until now another one may have used the account's quota.
    pub fn take_over(&mut self, now: Moment) {
        self.limits.restart(now);
    }

    /// Another process may have used the quota until so long from now, or be lent a part of it.
    pub fn assume_lent(&mut self, now: Moment, used: Duration) {
        self.limits.assume_lent(now, used);
    }

    /// Lends up to so many calls to another process; `busy`: requests wait for the rate.
    pub fn lend(&mut self, now: Moment, wanted: u32, busy: bool) -> Result<Grant, NotLent> {
        self.limits.lend(now, wanted, busy)
    }

    /// Lets a lowered rate climb, and what is lent come back; answers when there is something to do next.
    pub fn tick(&mut self, now: Moment) -> Option<Moment> {
        self.limits.tick(now)
    }

    /// Whether a call may go now; `Err`: what holds it longest.
    pub fn check(&self, now: Moment, call: Call) -> Result<(), Shut> {
        Shut::longest(self.holds(now, call)).map_or(Ok(()), Err)
    }

    /// Everything that holds a call now.
    pub fn holds(&self, now: Moment, call: Call) -> impl Iterator<Item = Shut> {
        let blocked = self.blocked.then(|| Shut::new(Reason::Blocked, None));
        let token = matches!(self.refresh, Refresh::Fetching | Refresh::Wanted(_));
        let token = token.then(|| Shut::new(Reason::Token, None));
        let open = self.breaker.opened();
        let halted = open.filter(|open| self.calls > 0 || open.probe_at > now).map(|open| {
            let until = (self.calls == 0).then_some(open.probe_at);
            Shut::new(Reason::of(open.cause), until)
        });
        // A probe asks whether the account is well again, throttled or not.
        let asks = open.is_some_and(|open| open.cause == Cause::Account);
        let throttled = (!asks && self.throttled_until > now)
            .then(|| Shut::new(Reason::Throttled, Some(self.throttled_until)));
        let paused = call == Call::Post && self.pause.is_some();
        let paused = paused.then(|| Shut::new(Reason::Paused, None));
        let full = self.in_flight >= self.settings.max_in_flight;
        let full = full.then(|| Shut::new(Reason::InFlight, None));
        let ready = self.limits.ready_at(now);
        let rate = (ready > now).then(|| Shut::new(Reason::Rate, Some(ready)));
        [blocked, token, halted, throttled, paused, full, rate].into_iter().flatten()
    }

    /// Takes the permit of a call that [`Gate::check`] has allowed.
    pub fn start(&mut self, now: Moment) {
        self.limits.take(now);
        self.in_flight += 1;
        self.calls += 1;
    }

    /// A call that was started at `started` has ended with this verdict (a look-up that answered: `Ok`). Says whether the
    /// account refused it.
    pub fn answered(
        &mut self,
        now: Now,
        call: Call,
        started: Moment,
        result: Result<(), &Verdict>,
        of: Of,
        jitter: &mut Jitter,
    ) -> bool {
        let run = of.run;
        self.calls = self.calls.saturating_sub(1);
        if let Err(fault) = result.map_err(Verdict::fault) {
            self.trouble =
                fault.map(|fault| Trouble { fault: fault.clone(), run }).or(self.trouble.take());
        }
        match result {
            Ok(())
            | Err(
                Verdict::Created { .. }
                | Verdict::Rejected(_)
                | Verdict::Ambiguous { conflict: true, .. },
            ) => {
                self.throttles = 0;
                if let Refresh::Fresh(_) = self.refresh {
                    self.refresh = Refresh::Good;
                }
                // A list for many, or a count, proves nothing about a call for one.
                if run.is_some() {
                    self.breaker.answered(now.at, call);
                }
            }
            Err(Verdict::Ambiguous { fault, .. }) => {
                self.failed(now, (call, run, true), fault, jitter);
            }
            Err(Verdict::Transient { fault, answered }) => {
                self.failed(now, (call, run, *answered), fault, jitter);
            }
            // One that is told so while others are not says nothing about the quota.
            Err(Verdict::Throttled { .. }) if of.alone => self.breaker.showed_nothing(now.at),
            Err(Verdict::Throttled { fault, wait, limit }) => {
                self.throttle = Some(fault.clone());
                self.throttled(now.at, started, (*wait, *limit), jitter);
            }
            Err(Verdict::Unauthorized(fault)) => return self.unauthorized(now, fault, of),
            Err(Verdict::Account { .. }) => return true,
        }
        false
    }

    fn failed(
        &mut self,
        now: Now,
        (call, run, reached): (Call, Option<Run>, bool),
        fault: &Fault,
        jitter: &mut Jitter,
    ) {
        match run {
            Some(run) => {
                let failure = Failure { run, call, reached };
                self.breaker.failed(now, failure, fault, jitter);
            }
            None => self.breaker.showed_nothing(now.at),
        }
    }

    /// A call was not begun after all; its permit is spent.
    pub fn not_begun(&mut self) {
        self.calls = self.calls.saturating_sub(1);
    }

    /// A request was created: says the cause that the breaker was open for, if this closes it.
    pub fn passed(&mut self, now: Moment, group: &Group, was_aside: bool) -> Option<Cause> {
        self.breaker.passed(now, group, was_aside)
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
        let refused = self.breaker.refused(now, call, request, fault, how);
        if how.token && self.breaker.opened().is_some() {
            self.doubt_the_token();
        }
        refused
    }

    /// Every request that could go has been refused: these, the account's.
    pub fn all_refused(&mut self, now: Now) -> Vec<Run> {
        let runs = if self.calls == 0 { self.breaker.all_refused(now) } else { Vec::new() };
        if !runs.is_empty() && self.breaker.opened().is_some_and(|open| open.token) {
            self.doubt_the_token();
        }
        runs
    }

    /// A request that was not refused is there to go.
    pub fn another_may_go(&mut self) {
        self.breaker.another_may_go();
    }

    /// A request or a page is no longer in flight.
    pub fn settled(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    fn throttled(
        &mut self,
        now: Moment,
        started: Moment,
        (wait, limit): (Option<Duration>, Option<(u32, Duration)>),
        jitter: &mut Jitter,
    ) {
        self.throttles = self.throttles.saturating_add(1);
        let wait = wait.or(limit.map(|(_, window)| window)).unwrap_or_else(|| {
            let settings =
                retry::RetrySettings { initial: THROTTLE_FIRST, ..self.settings.retry.clone() };
            retry::delay(&settings, self.throttles, jitter)
        });
        self.throttled_until = self.throttled_until.max(now + wait);
        let named = limit.and_then(|(count, window)| Rate::new(count, window));
        self.limits.lower(started, named, now, self.throttled_until);
        self.breaker.showed_nothing(now);
    }

    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
    }

    /// What operators have set, as it stands: no halt or wait is touched by it.
    pub fn steer(&mut self, now: Moment, pause: Option<Pause>, rates: &[Rate]) {
        self.pause = pause;
        if self.limits.rates() != rates {
            self.limits.set_rates(rates, now);
        }
    }

    pub fn pause(&mut self, pause: Pause) {
        self.pause = Some(pause);
    }

    /// Lifts a pause, and asks again now whatever an error has shut.
    pub fn resume(&mut self, now: Moment) {
        self.pause = None;
        self.breaker.resume(now);
        self.throttled_until = now;
    }

    pub fn set_rates(&mut self, now: Moment, rates: &[Rate]) {
        self.limits.set_rates(rates, now);
    }

    /// No call has been answered otherwise since the last 429.
    pub fn is_throttling(&self) -> bool {
        self.throttles > 0
    }

    /// How long what has failed so often in a row waits for its next try.
    pub fn delay(&self, failures: u32, jitter: &mut Jitter) -> Duration {
        retry::delay(&self.settings.retry, failures, jitter)
    }

    /// The latest answer that was none of success.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// What the latest 429 said that held every call.
    pub fn throttle(&self) -> Option<&Fault> {
        self.throttle.as_ref()
    }

    /// A 429 holds every call until then.
    pub fn throttled_until(&self) -> Moment {
        self.throttled_until
    }

    /// Forgets the groups that are set aside and not to be kept.
    pub fn keep_groups(&mut self, keep: impl Fn(&Group) -> bool) {
        self.breaker.keep_groups(keep);
    }

    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// A probe of the open breaker goes.
    pub fn probed(&mut self) {
        self.breaker.probed();
    }

    pub fn paused(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// While the account or the API as a whole is the trouble, attempts do not count against requests.
    pub fn is_account_trouble(&self) -> bool {
        self.breaker.opened().is_some()
    }

    /// What is in flight beyond a lower number ends as it would have.
    pub fn set_max_in_flight(&mut self, most: usize) {
        self.settings.max_in_flight = most;
    }

    pub fn max_in_flight(&self) -> usize {
        self.settings.max_in_flight
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

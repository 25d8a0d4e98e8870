//! May the next call go now, and if not, why and until when?
//!
//! The gate is *open* or *shut*. Limits, throttling, halts and the breaker hold every call; a pause holds `POST`s only.

mod reason;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::rate::Rate;
use super::retry;
use super::time::{Moment, Now};
use super::verdict::{Fault, Verdict};
pub use reason::{Reason, Shut};

/// So many transient failures in a row shut the gate: by then it is not the requests.
pub const BREAKER_AFTER: u32 = 10;
/// The longest wait between two canaries.
const CANARY_MAX: Duration = Duration::from_secs(60);
/// The longest wait between two probes is this many times the first.
const PROBE_GROWTH: u32 = 16;
/// How long a 429 that names no time holds the gate at first.
const THROTTLE_FIRST: Duration = Duration::from_secs(1);

/// `[limits]`, `[halt]` and what of `[retry]` the gate needs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub rates: Vec<Rate>,
    pub margin: Duration,
    pub max_in_flight: usize,
    pub halt_after: u32,
    pub probe: Duration,
    pub retry: retry::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rates: Vec::new(),
            margin: Duration::from_millis(10),
            max_in_flight: 16,
            halt_after: 3,
            probe: Duration::from_secs(60),
            retry: retry::Settings::default(),
        }
    }
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Post,
    /// A look, or a page of a list.
    Look,
}

/// The gate shut by an account-wide error.
#[derive(Clone, Debug)]
pub struct Halt {
    /// What the API said.
    pub fault: Fault,
    pub since: Timestamp,
    /// It was a look that was refused.
    by_look: bool,
    /// The token was refused: a probe begins with a fresh one.
    token: bool,
    probe_at: Moment,
    interval: Duration,
}

#[derive(Clone, Debug)]
struct Breaker {
    canary_at: Moment,
    failures: u32,
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
    settings: Settings,
    limits: Limits,
    /// Requests in a call or being settled, and pages of a list.
    in_flight: usize,
    /// Calls that have not answered yet.
    calls: usize,
    throttled_until: Moment,
    throttles: u32,
    halt: Option<Halt>,
    refused: u32,
    breaker: Option<Breaker>,
    failures: u32,
    /// What failed or was refused last.
    in_trouble: Call,
    refresh: Refresh,
    pause: Option<Pause>,
    blocked: bool,
}

/// Where the token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresh {
    Good,
    /// This generation was refused: a fresh token is wanted.
    Wanted(u64),
    Fetching,
    /// This generation is fresh: if it is refused too, it is not the token's age.
    Fresh(u64),
}

impl Gate {
    /// A gate starts as if it had just let through all that the limits allow.
    pub fn new(settings: Settings, now: Now) -> Self {
        let limits = Limits::new(&settings.rates, settings.margin, now.at);
        Self {
            settings,
            limits,
            in_flight: 0,
            calls: 0,
            throttled_until: Moment::START,
            throttles: 0,
            halt: None,
            refused: 0,
            breaker: None,
            failures: 0,
            in_trouble: Call::Post,
            refresh: Refresh::Good,
            pause: None,
            blocked: false,
        }
    }

    /// This worker is the active one from now on; until now another one may have used the account's quota.
    pub fn take_over(&mut self, now: Moment) {
        self.limits.restart(now);
    }

    /// Lets a lowered rate climb; answers when it climbs next.
    pub fn tick(&mut self, now: Moment) -> Option<Moment> {
        self.limits.tick(now)
    }

    /// Whether a call may go now.
    pub fn check(&self, now: Moment, call: Call) -> Result<(), Shut> {
        if self.blocked {
            return Err(Shut::new(Reason::Blocked, None));
        }
        if matches!(self.refresh, Refresh::Fetching | Refresh::Wanted(_)) {
            return Err(Shut::new(Reason::Token, None));
        }
        if let Some(halt) = &self.halt
            && (self.calls > 0 || halt.probe_at > now)
        {
            return Err(Shut::new(Reason::Halted, (self.calls == 0).then_some(halt.probe_at)));
        }
        if let Some(breaker) = &self.breaker
            && (self.calls > 0 || breaker.canary_at > now)
        {
            return Err(Shut::new(Reason::Breaker, (self.calls == 0).then_some(breaker.canary_at)));
        }
        // A probe asks whether the account is well again, throttled or not.
        if self.halt.is_none() && self.throttled_until > now {
            return Err(Shut::new(Reason::Throttled, Some(self.throttled_until)));
        }
        if call == Call::Post && self.pause.is_some() {
            return Err(Shut::new(Reason::Paused, None));
        }
        if self.in_flight >= self.settings.max_in_flight {
            return Err(Shut::new(Reason::InFlight, None));
        }
        let ready = self.limits.ready_at(now);
        if ready > now {
            return Err(Shut::new(Reason::Rate, Some(ready)));
        }
        Ok(())
    }

    /// Takes the permit of a call that [`Gate::check`] has allowed.
    pub fn start(&mut self, now: Moment) {
        self.limits.take(now);
        self.in_flight += 1;
        self.calls += 1;
    }

    /// A call that was started at `started` has ended with this verdict (a look that answered: `Ok`). `generation` is
    /// that of the token it carried.
    pub fn answered(
        &mut self,
        now: Now,
        call: Call,
        started: Moment,
        result: Result<(), &Verdict>,
        generation: u64,
    ) {
        self.calls = self.calls.saturating_sub(1);
        match result {
            Ok(()) => self.went_well(now, call),
            Err(
                Verdict::Created { .. }
                | Verdict::Rejected(_)
                | Verdict::Ambiguous { conflict: true, .. },
            ) => {
                self.went_well(now, call);
            }
            Err(Verdict::Ambiguous { .. } | Verdict::Transient { .. }) => {
                self.in_trouble = call;
                self.failed(now.at);
            }
            Err(Verdict::Throttled { wait, limit, .. }) => {
                self.throttled(now.at, started, *wait, *limit);
            }
            Err(Verdict::Unauthorized(fault)) => self.unauthorized(now, call, fault, generation),
            Err(Verdict::Account { fault, one_resource }) => {
                self.account(now, call, fault, *one_resource);
            }
        }
    }

    /// A request or a page is no longer in flight.
    pub fn settled(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    fn went_well(&mut self, now: Now, call: Call) {
        self.throttles = 0;
        // That looks are answered does not show that POSTs are: only what was in trouble is well again.
        if call == Call::Post || self.in_trouble == Call::Look {
            self.failures = 0;
            self.breaker = None;
            self.refused = 0;
        } else if let Some(breaker) = &mut self.breaker {
            breaker.canary_at = now.at;
        }
        if let Refresh::Fresh(_) = self.refresh {
            self.refresh = Refresh::Good;
        }
        let Some(halt) = &mut self.halt else { return };
        if call == Call::Post || halt.by_look || halt.token {
            self.halt = None;
        } else {
            // That one may look does not show that one may create: the POST follows as the same probe.
            halt.probe_at = now.at;
        }
    }

    fn failed(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        self.postpone_probe(now);
        if let Some(breaker) = &mut self.breaker {
            breaker.failures += 1;
        } else if self.failures >= BREAKER_AFTER {
            self.breaker = Some(Breaker { canary_at: now, failures: 1 });
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.canary_at =
                now + retry::delay(&self.settings.retry, breaker.failures).min(CANARY_MAX);
        }
    }

    fn throttled(
        &mut self,
        now: Moment,
        started: Moment,
        wait: Option<Duration>,
        limit: Option<(u32, Duration)>,
    ) {
        self.throttles = self.throttles.saturating_add(1);
        let wait = wait.or(limit.map(|(_, window)| window)).unwrap_or_else(|| {
            let settings =
                retry::Settings { initial: THROTTLE_FIRST, ..self.settings.retry.clone() };
            retry::delay(&settings, self.throttles)
        });
        self.throttled_until = self.throttled_until.max(now + wait);
        let named = limit.and_then(|(count, window)| Rate::new(count, window));
        self.limits.lower(started, named, now, self.throttled_until);
        self.postpone_probe(now);
    }

    fn unauthorized(&mut self, now: Now, call: Call, fault: &Fault, generation: u64) {
        match self.refresh {
            // The token that was refused is not the one in use any more.
            Refresh::Fresh(fresh) if generation < fresh => {}
            Refresh::Wanted(_) | Refresh::Fetching => {}
            Refresh::Good if self.halt.is_none() => self.refresh = Refresh::Wanted(generation),
            Refresh::Good | Refresh::Fresh(_) => {
                self.refresh = Refresh::Good;
                self.halt(now, call, fault, true);
            }
        }
    }

    fn account(&mut self, now: Now, call: Call, fault: &Fault, one_resource: bool) {
        self.in_trouble = call;
        self.refused = self.refused.saturating_add(1);
        if self.halt.is_some() || !one_resource || self.refused >= self.settings.halt_after {
            self.halt(now, call, fault, false);
        }
    }

    /// Halts, or lengthens the halt that there is.
    fn halt(&mut self, now: Now, call: Call, fault: &Fault, token: bool) {
        let most = self.settings.probe * PROBE_GROWTH;
        let (since, interval) = match &self.halt {
            // Calls that were out when the gate was halted do not lengthen it.
            Some(halt) if halt.probe_at > now.at => return,
            Some(halt) => (halt.since, (halt.interval * 2).min(most)),
            None => (now.wall, self.settings.probe),
        };
        let probe_at = now.at + interval;
        self.halt = Some(Halt {
            fault: fault.clone(),
            since,
            by_look: call == Call::Look,
            token,
            probe_at,
            interval,
        });
    }

    /// A probe that showed nothing is made again later.
    fn postpone_probe(&mut self, now: Moment) {
        if let Some(halt) = &mut self.halt
            && halt.probe_at <= now
        {
            halt.probe_at = now + halt.interval;
        }
    }

    /// The generation of the token to replace (`None`: whichever is in use), if a fresh one is wanted now. The caller fetches it and says
    /// [`Gate::refreshed`].
    pub fn wants_token(&mut self, now: Moment) -> Option<Option<u64>> {
        let probe = self
            .halt
            .as_ref()
            .is_some_and(|halt| halt.token && halt.probe_at <= now && self.calls == 0);
        let wanted = match self.refresh {
            Refresh::Wanted(generation) => Some(generation),
            // The probe of a refused token begins with a fresh one.
            Refresh::Good if probe => None,
            _ => return None,
        };
        self.refresh = Refresh::Fetching;
        Some(wanted)
    }

    /// The token has been fetched (its generation), or could not be.
    pub fn refreshed(&mut self, now: Now, result: Result<u64, &Fault>) {
        match result {
            Ok(generation) => self.refresh = Refresh::Fresh(generation),
            Err(fault) => {
                self.refresh = Refresh::Good;
                self.halt(now, Call::Look, fault, true);
            }
        }
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
        self.breaker = None;
        self.failures = 0;
        self.refused = 0;
        self.throttled_until = now;
        self.halt = None;
    }

    pub fn set_rates(&mut self, now: Moment, rates: &[Rate]) {
        self.limits.set_rates(rates, now);
    }

    pub fn halted(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    pub fn paused(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// While the account or the API as a whole is the trouble, attempts do not count against requests.
    pub fn is_account_trouble(&self) -> bool {
        self.halt.is_some() || self.breaker.is_some()
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

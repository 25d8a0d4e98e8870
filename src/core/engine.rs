//! What happens next? The state machine that owns the window and the gate: events go in, [`Step`]s come out.
//!
//! It does no input or output and never asks the time. Whoever drives it calls [`Core::next`] until it says
//! [`Step::Wait`], carries each step out, and reports how it ended. A job is in one place at a time: in the window,
//! out in one call, out in one settlement, or given back.

mod choose;
mod doubt;
mod ending;
mod listing;
mod place;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::away::Away;
use super::gate::{self, Call, Gate, Pause, Reason, Shut};
use super::judge;
use super::memory::Memory;
use super::outcome::{Ending, Outcome, Try};
use super::rate::Rate;
use super::request::{Doubt, Job, Progress, Run};
use super::retry;
use super::running::Running;
use super::schedule::{self, Schedule};
use super::sweep::{Page, Sweep};
use super::time::{Moment, Now};
use super::verdict::{Fault, Listing, Verdict};
use super::window::{Place, Window};
use crate::contract::Violation;

/// After a start the first request waits until no delivery has come for so long ...
const START_QUIET: Duration = Duration::from_millis(200);
/// ... but no longer than this.
const START_LINGER: Duration = Duration::from_secs(5);
/// The latest tries that a dead letter tells about.
const HISTORY: usize = 20;
/// Fewer jobs in doubt than this are looked up one by one.
const SWEEP_FROM: usize = 8;

/// Everything of the configuration that decisions depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `window.size`: how many deliveries are held at most. What is remembered is bounded by it too.
    pub window: usize,
    pub max_hold: Duration,
    pub linger: Duration,
    /// `window.aging`: priority points gained per hour of waiting.
    pub aging: f64,
    pub gate: gate::Settings,
    /// `api.look_up`: `false` settles what is in doubt as `unknown`.
    pub look_up: bool,
    pub look_again: Duration,
    pub clock_slack: Duration,
    pub schedule: Schedule,
    /// `api.timeout`: nothing is started that cannot be answered before a schedule window ends.
    pub answered_within: Duration,
    /// `limits.max_running`; 0: not watched.
    pub max_running: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: 65_535,
            max_hold: Duration::from_secs(20 * 60),
            linger: Duration::from_millis(5),
            aging: 0.0,
            gate: gate::Settings::default(),
            look_up: true,
            look_again: Duration::from_secs(45),
            clock_slack: Duration::from_secs(300),
            schedule: Schedule::default(),
            answered_within: Duration::from_secs(30),
            max_running: 0,
        }
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step<D> {
    /// Send it; report with [`Core::posted`].
    Post(Job<D>),
    /// List the tasks of its source server; report with [`Core::looked`].
    Look(Job<D>),
    /// List a page of all tasks; report with [`Core::listed`].
    List { offset: u32 },
    /// List the tasks in this state, for the running cap; report with [`Core::counted`].
    Count { state: &'static str },
    /// Fetch a fresh token in place of this generation (`None`: of whatever is in use); report with [`Core::refreshed`].
    Refresh { generation: Option<u64> },
    /// Publish what became of it, then acknowledge; report with [`Core::settled`].
    Settle(Job<D>, Box<Ending>),
    /// What became of it has been published before: acknowledge only. No report.
    Acknowledge(Job<D>),
    /// Give the delivery back; it comes again. No report.
    GiveBack(Job<D>),
    /// Nothing until something happens, or this moment comes.
    Wait(Option<Moment>),
}

/// What the worker knows of a source server: since when, and whether one look is enough to end the doubt.
#[derive(Clone, Copy, Debug)]
struct Known {
    at: Moment,
    once: bool,
}

#[derive(Clone, Copy, Debug)]
enum Linger {
    /// Nothing is held: the next delivery starts the linger.
    Idle,
    /// After a start: since when, and when the latest delivery came.
    Start {
        since: Moment,
        latest: Moment,
    },
    Until(Moment),
    Over,
}

/// The figures of one instant, for metrics and people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub ready: usize,
    pub waiting: usize,
    /// In a call.
    pub in_flight: usize,
    pub settling: usize,
    /// When the delivery held longest was received.
    pub oldest: Option<Moment>,
}

/// The state machine. `D` is a delivery, whatever the source of requests makes of it.
#[derive(Debug)]
pub struct Core<D> {
    settings: Settings,
    gate: Gate,
    window: Window<D>,
    steps: VecDeque<Step<D>>,
    session: Option<u64>,
    stopping: bool,
    /// The source has no more requests.
    ended: bool,
    linger: Linger,
    shut: Option<Shut>,
    settling: usize,
    calling: usize,
    /// Given back, and not here again yet.
    away: Away,
    hours: schedule::Watch,
    running: Running,
    sweep: Option<Sweep>,
    /// No list before this moment, after one that could not be read whole.
    no_sweep_until: Moment,
    /// Source servers that a task is, or may be, known of.
    known: Memory<Box<str>, Known>,
    /// Runs that have ended, and whose result has not been confirmed: the next delivery of the run is settled so.
    pending: Memory<Run, Box<Ending>>,
    /// Runs whose result has been published: a redelivery is only acknowledged.
    published: Memory<Run, ()>,
    /// What was tried for runs whose delivery was lost or given back; `true`: this worker gave it back itself.
    carried: Memory<Run, (Progress, bool)>,
    /// The API's clock minus ours.
    skew: SignedDuration,
    /// Since when looks have been refused, and when a `POST` was last answered as by a healthy account.
    looks_refused: Option<Moment>,
    posts_allowed: Option<Moment>,
}

impl<D> Core<D> {
    pub fn new(settings: Settings, now: Now) -> Self {
        let memory = settings.window.max(1024);
        Self {
            gate: Gate::new(settings.gate.clone(), now),
            window: Window::new(settings.aging),
            steps: VecDeque::new(),
            session: None,
            stopping: false,
            ended: false,
            linger: Linger::Idle,
            shut: None,
            settling: 0,
            calling: 0,
            away: Away::default(),
            hours: schedule::Watch::default(),
            running: Running::new(settings.max_running, settings.look_again),
            sweep: None,
            no_sweep_until: Moment::START,
            known: Memory::new(memory),
            pending: Memory::new(memory),
            published: Memory::new(2 * memory),
            carried: Memory::new(memory),
            skew: SignedDuration::ZERO,
            looks_refused: None,
            posts_allowed: None,
            settings,
        }
    }

    // Events of the source.

    /// This worker is the active one: deliveries of this session follow.
    pub fn session_opened(&mut self, now: Now, session: u64) {
        self.session = Some(session);
        self.gate.take_over(now.at);
        self.linger = Linger::Start { since: now.at, latest: now.at };
    }

    /// The session is gone and with it every delivery held. Calls that are out go on; their verdicts are kept for the
    /// redelivery.
    pub fn session_lost(&mut self) {
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
                Step::Acknowledge(_) | Step::GiveBack(_) => {}
                step => self.steps.push_back(step),
            }
        }
        for job in self.window.drain() {
            self.carry(job, false);
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
        let mut replay = job.request.replay > 0;
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
            self.learn(now.at, &job.request.source_server_id, false);
            job.progress.doubt = Doubt::Look { once: false, first: None, conflict: None };
        }
        if let Some(not_before) = job.request.not_before
            && let Ok(wait) = Duration::try_from(not_before.duration_since(now.wall))
        {
            job.progress.until = job.progress.until.max(now.at + wait);
        }
        self.admit(now, job);
    }

    /// A message was delivered that must not be sent.
    pub fn invalid(&mut self, now: Now, job: Job<D>, violations: Vec<Violation>) {
        if self.session != Some(job.session) {
            return;
        }
        if job.redelivered && self.published.get(&job.request.run).is_some() {
            self.steps.push_back(Step::Acknowledge(job));
            return;
        }
        let reason = match violations.first() {
            Some(first) => {
                format!("{} at {:?}: mend the body and send it again", first.allowed, first.pointer)
            }
            None => "the body breaks the API's contract".to_owned(),
        };
        let mut ending = Self::ending(now, &job, Outcome::Invalid, reason);
        ending.violations = violations;
        self.settle(job, ending);
    }

    /// Results cannot (`true`) or can be published.
    pub fn blocked(&mut self, blocked: bool) {
        self.gate.set_blocked(blocked);
    }

    // Events of the API.

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
        progress.first_attempt.get_or_insert(started.at);
        note(progress, started.wall, "post", &verdict);
        progress.fault = verdict.fault().cloned().map(Box::new);
        let may_run = matches!(
            verdict,
            Verdict::Created { .. }
                | Verdict::Ambiguous { .. }
                | Verdict::Transient { answered: true, .. }
        );
        if !may_run {
            self.running.gave_up(&job.request.source_server_id);
        }
        match verdict {
            Verdict::Created { task_id } => self.created(now, job, task_id),
            Verdict::Rejected(fault) => {
                self.posts_allowed = Some(now.at);
                let reason = fault.to_string();
                self.finish(now, job, Outcome::Rejected, reason);
            }
            Verdict::Ambiguous { fault, conflict } => {
                if conflict {
                    self.posts_allowed = Some(now.at);
                }
                self.learn(now.at, &job.request.source_server_id, false);
                self.count_failure(&mut job);
                let conflict = conflict.then(|| Box::new(fault));
                job.progress.doubt = Doubt::Look { once: false, first: None, conflict };
                self.back(now, job, now.at);
            }
            Verdict::Transient { answered, .. } => {
                self.count_failure(&mut job);
                if answered {
                    self.learn(now.at, &job.request.source_server_id, true);
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
                self.looks_refused = None;
                self.heed_date(now, &listing);
                self.found(now, started.at, job, &listing.tasks)
            }
            Err(verdict) => {
                note(&mut job.progress, started.wall, "look", &verdict);
                self.look_failed(now, job, &verdict);
                "failed"
            }
        }
    }

    /// A call for this job panicked: nobody knows what it did.
    pub fn panicked(&mut self, now: Now, mut job: Job<D>, text: &str) {
        self.calling -= 1;
        self.gate.answered(now, Call::Look, now.at, Ok(()), 0);
        self.learn(now.at, &job.request.source_server_id, false);
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
                self.looks_refused = None;
                self.heed_date(now, &listing);
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
                if matches!(verdict, Verdict::Rejected(_)) || self.may_not_look() {
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

    // Events of the settlement.

    /// A settlement has ended; `done`: published, confirmed and acknowledged.
    /// The job is consumed: its delivery is settled, or void.
    #[allow(clippy::needless_pass_by_value)]
    pub fn settled(&mut self, now: Now, job: Job<D>, ending: Box<Ending>, done: bool) {
        self.settling -= 1;
        if done {
            self.pending.remove(&job.request.run);
            self.published.insert(job.request.run, ());
        } else {
            self.pending.insert(job.request.run, ending);
        }
        self.land(now, &job);
    }

    // Events of operators.

    pub fn pause(&mut self, pause: Pause) {
        self.gate.pause(pause);
    }

    pub fn resume(&mut self, now: Now) {
        self.gate.resume(now.at);
    }

    pub fn set_rates(&mut self, now: Now, rates: &[Rate]) {
        self.gate.set_rates(now.at, rates);
    }

    /// Nothing new is started from now on; what is in flight ends.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// The source has an end, and this is it: what is held is all there is.
    pub fn source_ended(&mut self) {
        self.ended = true;
        self.linger = Linger::Over;
    }

    /// Whether the source has ended and nothing of it is held any more.
    pub fn is_done(&self) -> bool {
        self.ended && self.window.is_empty()
    }

    /// Whether nothing is in flight any more.
    pub fn is_quiet(&self) -> bool {
        self.calling == 0 && self.settling == 0 && self.steps.is_empty()
    }

    /// What is held, to be given back.
    pub fn drain(&mut self) -> Vec<Job<D>> {
        self.window.drain()
    }

    // What people and tests ask.

    pub fn counts(&self) -> Counts {
        let (ready, waiting) = self.window.counts();
        Counts {
            ready,
            waiting,
            in_flight: self.calling,
            settling: self.settling,
            oldest: self.window.oldest_held().map(|(at, _)| at),
        }
    }

    /// Why the next request is not going just now, as of the latest [`Core::next`]; `None`: the gate is open.
    pub fn shut(&self) -> Option<Shut> {
        self.shut
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    pub fn running(&self) -> &Running {
        &self.running
    }

    pub fn held(&self) -> impl Iterator<Item = (&Job<D>, Place)> {
        self.window.iter()
    }

    /// How much is remembered: runs and source servers.
    pub fn remembered(&self) -> usize {
        self.known.len() + self.pending.len() + self.published.len() + self.carried.len()
    }

    /// What to do now. To be called until it says [`Step::Wait`].
    pub fn next(&mut self, now: Now) -> Step<D> {
        self.on_time(now);
        if let Some(step) = self.steps.pop_front() {
            return step;
        }
        if self.stopping {
            self.shut = Some(Shut { reason: Reason::Stopping, until: None });
            return Step::Wait(None);
        }
        if self.session.is_none() {
            self.shut = Some(Shut { reason: Reason::NoSession, until: None });
            return Step::Wait(None);
        }
        if !self.window.is_empty()
            && let Some(generation) = self.gate.wants_token(now.at)
        {
            return Step::Refresh { generation };
        }
        let climb = self.gate.tick(now.at);
        match self.choose(now) {
            Ok(step) => {
                self.shut = None;
                step
            }
            Err(shut) => {
                self.shut = shut;
                let times = [shut.and_then(|shut| shut.until), climb, self.next_time(now.at)];
                Step::Wait(times.into_iter().flatten().filter(|at| *at > now.at).min())
            }
        }
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

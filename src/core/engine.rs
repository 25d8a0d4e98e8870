//! What happens next? The state machine that owns the window and the gate: events go in, [`Step`]s come out.
//!
//! It does no input or output and never asks the time. Whoever drives it calls [`Core::next`] until it says
//! [`Step::Wait`], carries each step out, and reports how it ended. A job is in one place at a time: in the window,
//! out in one call, out in one settlement, or given back.

mod answers;
mod choose;
mod deliveries;
mod doubt;
mod ending;
mod listing;
mod place;
mod reprioritise;
mod trouble;
mod unpublished;
mod upcoming;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::time::Duration;

use jiff::SignedDuration;

use super::away::Away;
use super::breaker::Cause;
use super::gate::{self, Gate, Pause, Reason, Shut};
use super::memory::Memory;
use super::outcome::Ending;
use super::rate::Rate;
use super::request::{Job, Progress, Run};
use super::running::Running;
use super::schedule::{self, Schedule};
use super::sweep::Sweep;
use super::text::Text;
use super::time::{Moment, Now};
use super::verdict::Query;
use super::window::{Place, Window};
use unpublished::Unpublished;

pub use reprioritise::{Kept, Reprioritised};
pub use upcoming::{Upcoming, Waits};

/// After a start the first request waits until as many as waited have come, and then until no delivery has come for so
/// long, for what a predecessor held comes back on top of them ...
const START_QUIET: Duration = Duration::from_millis(200);
/// ... but for that no longer than this: others may publish all the time. What still has to come is not waited for
/// when nothing more has come for so long: it may have been purged ...
const START_LINGER: Duration = Duration::from_secs(5);
/// ... nor longer than this in all.
const START_LONGEST: Duration = Duration::from_secs(30);
/// The two clocks may move so far against each other before what waits for the wall clock is sorted anew.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(1);
/// So many tasks of one source server are remembered as somebody's.
const TASKS: usize = 8;
/// The latest tries that a dead letter tells about.
const HISTORY: usize = 20;
/// How long a source server in doubt is remembered whatever else comes; `limits.max_age` if that is longer. By then its
/// request has been settled, here or elsewhere.
const DOUBTED: Duration = Duration::from_secs(7 * 24 * 3600);
/// Fewer jobs in doubt than this, or than the list of all tasks has pages, are looked up one by one.
const SWEEP_FROM: usize = 8;

/// Everything of the configuration that decisions depend on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `window.size`: how many deliveries are held at most. What is remembered is bounded by it too, but for source servers
    /// in doubt.
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

impl Settings {
    /// These, with what has changed since.
    #[must_use]
    pub fn with(mut self, hot: &Hot) -> Self {
        self.gate.rates.clone_from(&hot.rates);
        self.gate.max_in_flight = hot.max_in_flight;
        self.max_running = hot.max_running;
        self.schedule = hot.schedule.clone();
        self
    }
}

/// What of the settings may change while the worker runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Hot {
    pub rates: Vec<Rate>,
    pub max_in_flight: usize,
    pub max_running: usize,
    pub schedule: Schedule,
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
    /// List one task, whichever: whether look-ups are answered at all; report with [`Core::asked`].
    Ask,
    /// List the tasks in a state, or read one of our own, for the running cap; report with [`Core::counted`].
    Count(Query),
    /// Fetch a fresh token in place of this generation (`None`: of whatever is in use); report with [`Core::refreshed`].
    Refresh { generation: Option<u64> },
    /// Publish what became of it, then acknowledge; report with [`Core::settled`].
    Settle(Job<D>, Box<Ending>),
    /// What became of it has been published before: acknowledge only. No report.
    Acknowledge(Job<D>),
    /// Give the delivery back; it comes again. No report.
    GiveBack(Job<D>),
    /// Publish it anew with this priority, then acknowledge; report with [`Core::republished`].
    Republish(Job<D>, u16),
    /// Nothing until something happens, or this moment comes.
    Wait(Option<Moment>),
}

/// A number that stands for something long where many are remembered: the same in every process.
fn hash_of(what: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(what)
}

/// What the worker knows of a source server: since when, and whether one look is enough to end the doubt.
#[derive(Clone, Debug)]
struct Known {
    at: Moment,
    once: bool,
    /// A request for it is in doubt, or was when it went out of sight: there may be a task that only this knows of.
    doubted: bool,
    /// The latest few tasks of it that are known to be a run's, each by a hash of its id.
    made: Vec<(u64, Run)>,
}

/// Where the question stands whether look-ups are answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    No,
    Wanted,
    Out,
}

/// What keeps everything back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    Nothing,
    /// A breaker that failures have opened.
    Failures,
    /// The account, an operator, or that there is no session.
    Halt,
}

#[derive(Clone, Copy, Debug)]
enum Linger {
    /// Nothing is held: the next delivery starts the linger.
    Idle,
    /// After a start: as many as `missing` still have to come; `since` when that is waited for, or for the quiet after it,
    /// and when the latest delivery came.
    Start {
        since: Moment,
        latest: Moment,
        missing: usize,
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
    /// Ended, and the broker refuses the result or the dead letter.
    pub unpublished: usize,
    /// When the delivery held longest was received.
    pub oldest: Option<Moment>,
    /// How many the window holds at most.
    pub size: usize,
    /// When the first of those is due that wait for a time of their own.
    pub next_wait: Option<Moment>,
}

/// The state machine. `D` is a delivery, whatever the source of requests makes of it.
#[derive(Debug)]
pub struct Core<D> {
    settings: Settings,
    gate: Gate,
    window: Window<D>,
    steps: VecDeque<Step<D>>,
    session: Option<u32>,
    /// When it began, and how many in a row have ended before a second look was due, with requests in doubt.
    opened: Moment,
    short_sessions: u32,
    stopping: bool,
    /// The source has no more requests.
    ended: bool,
    linger: Linger,
    shut: Option<Shut>,
    /// How long a pause, a halt or the breaker have kept everything back so far, as of `seen`, and what does now.
    kept: Duration,
    seen: Moment,
    keeps: Keeps,
    /// The same without a breaker that failures have opened: look-ups go on meanwhile.
    halted: Duration,
    settling: usize,
    /// What has ended and the broker refuses: results, and dead letters.
    unpublished: [Unpublished<D>; 2],
    /// Of these, what is published anew with another priority.
    moving: usize,
    calling: usize,
    /// Given back, and not here again yet.
    away: Away,
    hours: schedule::Watch,
    running: Running,
    sweep: Option<Sweep>,
    /// No list before this moment, after one that could not be read whole.
    no_sweep_until: Moment,
    /// How many tasks the account had when a page of the list was last read; 0 before the first.
    tasks_listed: u32,
    /// Source servers that there is, or may be, a task of.
    known: Memory<Text, Known>,
    /// Runs that have ended, and whose result has not been confirmed: the next delivery of the run is settled so.
    pending: Memory<Run, Box<Ending>>,
    /// Runs whose result has been published: a redelivery is only acknowledged.
    published: Memory<Run, ()>,
    /// Runs of which a `POST` was begun by this process, whatever became of it.
    begun: Memory<Run, ()>,
    /// What was tried for runs whose delivery was lost or given back; `true`: this worker gave it back itself.
    carried: Memory<Run, (Progress, bool)>,
    /// The API's clock minus ours.
    skew: SignedDuration,
    /// When the account last refused what has project, region and target server in common, and which runs were probes last.
    last_refused: Memory<u64, Moment>,
    /// When a look-up, a list or a count last succeeded.
    looked_well: Moment,
    /// Whether look-ups of others succeed is to be found out; the question is out.
    asks: Asks,
    /// Lists that were given up in a row.
    lists_given_up: u32,
    /// The wall clock minus the monotonic one, as what waits for the wall clock is sorted.
    sorted_by: Option<SignedDuration>,
    /// Since when looks have been refused, and when a `POST` that was begun after that was answered as by a healthy account.
    looks_refused: Option<Moment>,
    posts_allowed: Option<Moment>,
}

impl<D> Core<D> {
    pub fn new(settings: Settings, now: Now) -> Self {
        // No fewer than the 1,000 source servers that an account may have.
        let memory = settings.window.max(1024);
        Self {
            gate: Gate::new(settings.gate.clone(), now),
            window: Window::new(settings.aging),
            steps: VecDeque::new(),
            session: None,
            opened: Moment::START,
            short_sessions: 0,
            stopping: false,
            ended: false,
            linger: Linger::Idle,
            shut: None,
            kept: Duration::ZERO,
            seen: now.at,
            keeps: Keeps::Nothing,
            halted: Duration::ZERO,
            settling: 0,
            unpublished: Default::default(),
            moving: 0,
            calling: 0,
            away: Away::default(),
            hours: schedule::Watch::default(),
            running: Running::new(settings.max_running, settings.look_again),
            sweep: None,
            no_sweep_until: Moment::START,
            tasks_listed: 0,
            known: Memory::new(memory),
            pending: Memory::new(memory),
            published: Memory::new(2 * memory),
            begun: Memory::new(memory),
            carried: Memory::new(memory),
            skew: SignedDuration::ZERO,
            last_refused: Memory::new(1024),
            looked_well: Moment::START,
            asks: Asks::No,
            lists_given_up: 0,
            sorted_by: None,
            looks_refused: None,
            posts_allowed: None,
            settings,
        }
    }

    // Events of operators.

    /// What operators have set, as it stands.
    pub fn steer(&mut self, now: Now, pause: Option<Pause>, rates: &[Rate]) {
        self.gate.steer(now.at, pause, rates);
    }

    /// The configuration was changed; the rates are the business of [`Core::steer`], for an operator's go before them.
    pub fn reconfigure(&mut self, now: Now, hot: &Hot) {
        self.gate.set_max_in_flight(hot.max_in_flight);
        self.running.set_most(hot.max_running, now.at);
        self.settings.schedule = hot.schedule.clone();
        self.hours = schedule::Watch::default();
    }

    pub fn pause(&mut self, pause: Pause) {
        self.gate.pause(pause);
    }

    /// Lifts a pause, and tries at once whatever an error has held back.
    pub fn resume(&mut self, now: Now) {
        self.gate.resume(now.at);
        self.forget_troubles(now);
    }

    pub fn set_rates(&mut self, now: Now, rates: &[Rate]) {
        self.gate.set_rates(now.at, rates);
    }

    /// An operator sets the rates, if only those that hold already: whatever 429s have taught is forgotten.
    pub fn forget_learned(&mut self, now: Now) {
        let rates = self.gate.limits().rates().to_vec();
        self.gate.set_rates(now.at, &rates);
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
        self.ended && self.window.is_empty() && self.unpublished.iter().all(|kind| kind.len() == 0)
    }

    /// Whether nothing is in flight any more.
    pub fn is_quiet(&self) -> bool {
        self.calling == 0 && self.settling == 0 && self.steps.is_empty()
    }

    /// What is held, to be given back.
    pub fn drain(&mut self) -> Vec<Job<D>> {
        let unpublished = std::mem::take(&mut self.unpublished);
        let unpublished = unpublished.into_iter().flat_map(Unpublished::into_jobs);
        self.window.drain().into_iter().chain(unpublished).collect()
    }

    // What people and tests ask.

    pub fn counts(&self) -> Counts {
        let (ready, waiting) = self.window.counts();
        Counts {
            ready,
            waiting,
            in_flight: self.calling,
            settling: self.settling,
            unpublished: self.unpublished.iter().map(Unpublished::len).sum(),
            oldest: self.window.oldest_held().map(|(at, _)| at),
            size: self.settings.window,
            next_wait: self.window.next_wait(),
        }
    }

    /// How many sessions in a row have ended before a second look was due, with requests in doubt: those can never go so.
    /// 0 as soon as one has lasted.
    pub fn short_sessions(&self) -> u32 {
        let lasts = self.session.is_some() && self.is_long_enough();
        if lasts { 0 } else { self.short_sessions }
    }

    fn is_long_enough(&self) -> bool {
        self.seen - self.opened > self.settings.look_again
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

    /// What has ended, and the broker refuses its result or its dead letter.
    pub fn unpublished_jobs(&self) -> impl Iterator<Item = &Job<D>> {
        self.unpublished.iter().flat_map(Unpublished::jobs)
    }

    /// How much is remembered: runs and source servers.
    pub fn remembered(&self) -> usize {
        let runs = self.pending.len() + self.published.len() + self.begun.len();
        self.known.len() + runs + self.carried.len()
    }

    /// A suspended machine, or a clock that is set, moves the wall clock against the monotonic one.
    fn watch_the_clocks(&mut self, now: Now) {
        let since = SignedDuration::try_from(now.at - Moment::START).unwrap_or(SignedDuration::MAX);
        let offset = now.wall.as_duration().saturating_sub(since);
        let sorted_by = *self.sorted_by.get_or_insert(offset);
        if (offset.saturating_sub(sorted_by)).abs() > CLOCKS_APART {
            self.sorted_by = Some(offset);
            self.window.clocks_moved(now);
        }
    }

    fn count_kept(&mut self, now: Moment) {
        let since = now - self.seen;
        if self.keeps != Keeps::Nothing {
            self.kept += since;
        }
        if self.keeps == Keeps::Halt {
            self.halted += since;
        }
        self.seen = now;
        self.keeps = match self.gate.breaker().opened().map(|open| open.cause) {
            _ if self.gate.paused().is_some() || self.session.is_none() => Keeps::Halt,
            Some(Cause::Account) => Keeps::Halt,
            Some(Cause::Failures) => Keeps::Failures,
            None => Keeps::Nothing,
        };
    }

    /// What to do now. To be called until it says [`Step::Wait`].
    pub fn next(&mut self, now: Now) -> Step<D> {
        self.count_kept(now.at);
        self.watch_the_clocks(now);
        self.on_time(now);
        self.offer_unpublished(now);
        self.close_ranks(now);
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
        let mut chosen = self.choose(now);
        // Choosing can find that what stood first has to wait for something else.
        while chosen.is_err() && self.close_ranks(now) {
            chosen = self.choose(now);
        }
        match chosen {
            Ok(step) => {
                self.shut = None;
                step
            }
            Err(shut) => {
                self.shut = shut;
                // A copy that took a place in line may have ended instead.
                if let Some(step) = self.steps.pop_front() {
                    return step;
                }
                let times = [shut.and_then(|shut| shut.until), climb, self.next_time(now.at)];
                Step::Wait(times.into_iter().flatten().filter(|at| *at > now.at).min())
            }
        }
    }
}

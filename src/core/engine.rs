//! What happens next? The state machine that owns the window and the gate: [`Input`]s go in, [`Step`]s come out.
//!
//! It does no input or output, never asks the time and draws chance from its seed alone: the same inputs have the same
//! steps. Whoever drives it calls [`Core::next`] until it says [`Step::Wait`], carries each step out, and tells
//! [`Core::take`] how it ended. A job is in one place at a time: in the window, out in one call, out in one settlement, or
//! requeued.

mod answers;
mod choose;
mod deliveries;
mod doubt;
mod ending;
mod input;
mod ledger;
mod lending;
mod listing;
mod load;
mod look_ups;
mod obey;
mod parking;
mod place;
mod session;
mod settings;
mod step;
mod task_doubts;
mod times;
mod timetable;
mod trouble;
mod under_way;
mod unpublished;
mod upcoming;

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::time::Duration;

use super::Hashes;
use super::breaker::Cause;
use super::gate::{Gate, Reason, Shut};
use super::orders::Orders;
use super::request::Job;
use super::retry::Jitter;
use super::running::Running;
use super::schedule;
use super::time::{Moment, Now};
use super::window::{Place, Window};
use ledger::Ledger;
use session::SourceSession;
use task_doubts::TaskDoubts;
use times::{ElapsedTimes, Keeps};
use under_way::UnderWay;
use unpublished::Unpublished;

pub use input::{Input, Reply, Steer};
pub use lending::Unlent;
pub use load::Load;
pub use obey::Obeyed;
pub use parking::{Fetch, Fetched};
pub use settings::{Hot, Settings};
pub use step::{Question, Step};
pub use timetable::{Due, Timetable};
pub use upcoming::{Sought, Upcoming, Waits, out};

/// How long a source server in doubt is remembered whatever else comes; `retry.max_age` if that is longer. By then its
/// request has been settled, here or elsewhere.
const DOUBTED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a reason begins with that says what a panic said.
pub(crate) const BUG: &str = "a bug in sluice";

/// A number that stands for something long where many are remembered: the same in every process.
fn hash_of(what: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(what)
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
    /// Waits for a time or a planner's word outside of the window, for what is known.
    pub parked: usize,
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
    /// All chance comes from here.
    random: Jitter,
    /// What is held, and waits.
    window: Window<D>,
    /// What is out of the window.
    out: UnderWay<D>,
    gate: Gate,
    hours: schedule::Watch,
    running: Running,
    /// Why the next request is not going just now.
    shut: Option<Shut>,
    session: SourceSession,
    times: ElapsedTimes,
    doubts: TaskDoubts,
    ledger: Ledger,
    /// What planners have said of requests since they enqueued them. Fetching takes a copy along.
    orders: Arc<Orders>,
}

impl<D> Core<D> {
    pub fn new(settings: Settings, now: Now) -> Self {
        // No fewer than the 1,000 source servers that an account may have.
        let memory = settings.window.max(1024);
        let mut random = Jitter::with_seed(settings.seed);
        let hashes = Hashes::with_seed(random.u64(..));
        let stays = DOUBTED.max(settings.gate.retry.max_age);
        Self {
            random,
            window: Window::new(settings.aging, hashes.clone()),
            out: UnderWay::default(),
            gate: Gate::new(settings.gate.clone(), now),
            hours: schedule::Watch::default(),
            running: Running::new(settings.max_running, settings.look_again),
            shut: None,
            session: SourceSession::none(),
            times: ElapsedTimes::begin(now.at),
            doubts: TaskDoubts::new(memory, hashes.clone(), stays, settings.look_again),
            ledger: Ledger::new(memory, &hashes),
            orders: Arc::new(Orders::none(settings.clock_slack)),
            settings,
        }
    }

    fn reconfigure(&mut self, now: Now, hot: Hot) {
        self.gate.set_max_in_flight(hot.max_in_flight);
        self.running.set_most(hot.max_running, now.at);
        self.settings.gate.rates = hot.rates;
        self.settings.schedule = hot.schedule;
        self.hours = schedule::Watch::default();
    }

    /// Whether the source has ended and nothing of it is held any more.
    pub fn is_done(&self) -> bool {
        self.session.source_ended && self.window.is_empty() && self.out.unpublished_len() == 0
    }

    /// Whether nothing is in flight any more.
    pub fn is_quiet(&self) -> bool {
        self.out.is_quiet()
    }

    /// What is held, to be requeued.
    pub fn drain(&mut self) -> Vec<Job<D>> {
        let unpublished = std::mem::take(&mut self.out.unpublished);
        let unpublished = unpublished.into_iter().flat_map(Unpublished::into_jobs);
        self.window.drain().into_iter().chain(unpublished).collect()
    }

    // What people and tests ask.

    pub fn counts(&self) -> Counts {
        let (ready, waiting) = self.window.counts();
        Counts {
            ready,
            waiting,
            in_flight: self.out.calling,
            settling: self.out.settling,
            unpublished: self.out.unpublished_len(),
            parked: self.out.parking.len(),
            oldest: self.window.oldest_held().map(|(at, _)| at),
            size: self.settings.window,
            next_wait: self.window.next_wait(),
        }
    }

    /// How many sessions in a row have ended before a second look-up was due, with requests in doubt: those can never go so.
    /// 0 as soon as one has lasted.
    pub fn short_sessions(&self) -> u32 {
        self.session.short(self.is_long_enough())
    }

    fn is_long_enough(&self) -> bool {
        self.session.lasted(self.times.seen) > self.settings.look_again
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number that the next delivery is given.
    pub fn next_delivery(&self) -> u64 {
        self.window.next_number()
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
        self.out.unpublished_jobs()
    }

    /// How much is remembered: runs and source servers.
    pub fn remembered(&self) -> usize {
        self.doubts.len() + self.ledger.len()
    }

    fn let_time_pass(&mut self, now: Now) {
        let keeps = match self.gate.breaker().opened().map(|open| open.cause) {
            _ if self.gate.paused().is_some() || !self.session.is_open() => Keeps::Halt,
            Some(Cause::Account) => Keeps::Halt,
            Some(Cause::Failures) => Keeps::Failures,
            None => Keeps::Nothing,
        };
        self.times.pass(now.at, keeps);
        if self.times.clocks_moved(now) {
            self.window.clocks_moved(now);
        }
    }

    /// What to do now. To be called until it says [`Step::Wait`].
    pub fn next(&mut self, now: Now) -> Step<D> {
        self.let_time_pass(now);
        self.on_time(now);
        self.offer_unpublished(now);
        self.close_ranks(now);
        if let Some(step) = self.out.steps.pop_front() {
            return step;
        }
        if self.session.stopping {
            self.shut = Some(Shut { reason: Reason::Stopping, until: None });
            return Step::Wait(None);
        }
        if !self.session.is_open() {
            self.shut = Some(Shut { reason: Reason::NoSession, until: None });
            return Step::Wait(None);
        }
        if let Some(step) = self.park_or_fetch(now) {
            return step;
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
                self.shut = self.said(now, shut);
                // A copy that took a place in line may have ended instead.
                if let Some(step) = self.out.steps.pop_front() {
                    return step;
                }
                let parking = self.next_parking(now);
                let times =
                    [shut.and_then(|shut| shut.until), climb, self.next_time(now.at), parking];
                Step::Wait(times.into_iter().flatten().filter(|at| *at > now.at).min())
            }
        }
    }
}

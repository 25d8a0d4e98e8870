//! A bench for the pure core: events by hand, expectations of its next step, and a clock that is moved by hand.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluicegate::contract::Violation;
use sluicegate::core::gate::{self, Pause};
use sluicegate::core::record::Recorded;
use sluicegate::core::{
    Change, Core, Ending, Fault, Fetched, Found, Input, Job, Listing, Moment, Now, Obeyed, Order,
    Query, Question, Rate, Reply, Request, Run, Settings, Settlement, Steer, Step, Target, Task,
    Verdict, retry,
};

pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(45);

type Answer = Result<Listing, Verdict>;

/// The inputs of a core, in few words.
pub(crate) trait Inputs<D> {
    fn tell(&mut self, now: Now, input: Input<D>) -> Reply;

    fn session_opened(&mut self, now: Now, session: u32, waiting: usize) {
        self.tell(now, Input::Opened { session, waiting });
    }

    fn session_lost(&mut self, now: Now) {
        self.tell(now, Input::Lost);
    }

    fn blocked(&mut self, now: Now, blocked: bool) {
        self.tell(now, Input::Blocked(blocked));
    }

    fn arrived(&mut self, now: Now, job: Job<D>) {
        self.tell(now, Input::Delivered(job));
    }

    fn invalid(&mut self, now: Now, job: Job<D>, violations: Vec<Violation>) {
        self.tell(now, Input::Invalid(job, violations));
    }

    fn unreadable(&mut self, now: Now, job: Job<D>, text: &str) {
        self.tell(now, Input::Unreadable(job, text.to_owned()));
    }

    fn posted(&mut self, now: Now, started: Now, job: Job<D>, verdict: Verdict, generation: u64) {
        self.tell(now, Input::Answered { job, started, verdict, generation });
    }

    fn late(&mut self, now: Now, job: Job<D>) {
        self.tell(now, Input::Late(job));
    }

    fn told(&mut self, now: Now, started: Now, question: Question<D>, result: Answer, token: u64) {
        self.tell(now, Input::Told { question, started, result, generation: token });
    }

    fn looked(&mut self, now: Now, started: Now, job: Job<D>, result: Answer, token: u64) -> Found {
        let question = Question::LookUp(job);
        match self.tell(now, Input::Told { question, started, result, generation: token }) {
            Reply::Found(found) => found,
            other => panic!("a look-up shows something, not {other:?}"),
        }
    }

    fn listed(&mut self, now: Now, started: Now, result: Answer, token: u64) {
        self.told(now, started, Question::List { offset: 0 }, result, token);
    }

    fn counted(&mut self, now: Now, started: Now, result: Answer, token: u64) {
        self.told(now, started, Question::Count(Query::Any), result, token);
    }

    fn asked(&mut self, now: Now, started: Now, result: Answer, token: u64) {
        self.told(now, started, Question::Any, result, token);
    }

    fn refreshed(&mut self, now: Now, result: Result<u64, &Fault>) {
        self.tell(now, Input::Refreshed(result.map_err(Clone::clone)));
    }

    fn settled(&mut self, now: Now, job: Job<D>, ending: Box<Ending>, how: Settlement) {
        self.tell(now, Input::Settled { job, ending, how });
    }

    fn parked(&mut self, now: Now, job: Job<D>) {
        self.tell(now, Input::Parked(job));
    }

    fn not_parked(&mut self, now: Now, job: Job<D>) {
        self.tell(now, Input::NotParked(job));
    }

    fn fetched(&mut self, now: Now, session: u32, fetched: Option<Fetched>) {
        self.tell(now, Input::Fetched { session, fetched });
    }

    fn order(&mut self, now: Now, of: Target, change: Change) -> Obeyed {
        self.order_at(now, Order { at: now.wall, of, change })
    }

    fn order_at(&mut self, now: Now, order: Order) -> Obeyed {
        match self.tell(now, Input::Orders(vec![order])) {
            Reply::Obeyed(obeyed) => obeyed,
            other => panic!("an order is obeyed, not {other:?}"),
        }
    }

    fn pause(&mut self, now: Now, pause: Pause) {
        self.tell(now, Input::Ordered(Steer::Pause(pause)));
    }

    fn resume(&mut self, now: Now) {
        self.tell(now, Input::Ordered(Steer::Resume));
    }

    fn set_rates(&mut self, now: Now, rates: &[Rate]) {
        self.tell(now, Input::Ordered(Steer::Rates(rates.to_vec())));
    }

    fn stop(&mut self, now: Now) {
        self.tell(now, Input::Stop);
    }
}

impl<D> Inputs<D> for Recorded<D> {
    fn tell(&mut self, now: Now, input: Input<D>) -> Reply {
        self.take(now, input)
    }
}

impl<D> Inputs<D> for Core<D> {
    fn tell(&mut self, now: Now, input: Input<D>) -> Reply {
        self.take(now, input)
    }
}

/// A core under a clock that is moved by hand, with session 1 open and the start's linger over.
pub(crate) struct Bench {
    pub(crate) core: Core<u64>,
    pub(crate) now: Now,
    deliveries: u64,
}

pub(crate) fn settings() -> Settings {
    let gate = gate::GateSettings {
        max_in_flight: 100,
        retry: retry::RetrySettings::default(),
        ..gate::GateSettings::default()
    };
    // Held as long as a test likes.
    let max_hold = Duration::from_secs(30 * 24 * 3600);
    Settings { gate, max_hold, ..Settings::default() }
}

pub(crate) fn start() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

pub(crate) fn request(source: &str, name: &str) -> Request {
    let id = format!("{name}@{source}");
    Request {
        run: Run::of(&id, &[7; 32], Some(start()), 0),
        id: id.into(),
        name: name.into(),
        source_server_id: source.into(),
        target_vm_id: Some("vm-1".into()),
        priority: 1,
        enqueued_at: Some(start()).into(),
        starts: true,
        bytes: 100,
        ..Request::default()
    }
}

pub(crate) fn task(source: &str, name: &str, state: &str, minutes: i64) -> Task {
    Task {
        id: format!("task-{source}-{name}"),
        name: name.into(),
        state: state.into(),
        source_server_id: source.into(),
        target_vm_id: Some("vm-1".into()),
        create_date: Some(start() + SignedDuration::from_mins(minutes)),
    }
}

pub(crate) fn listing(tasks: Vec<Task>) -> Listing {
    let count = u32::try_from(tasks.len()).unwrap();
    Listing { tasks, count, ..Listing::default() }
}

pub(crate) fn fault(code: &str) -> Fault {
    Fault {
        status: Some(400),
        error_code: Some(code.into()),
        error_msg: "said".into(),
        ..Fault::default()
    }
}

pub(crate) fn timeout() -> Verdict {
    Verdict::Ambiguous {
        fault: Fault { error_msg: "timeout".into(), ..Fault::default() },
        conflict: false,
    }
}

pub(crate) fn conflict() -> Verdict {
    Verdict::Ambiguous { fault: fault("SMS.7605"), conflict: true }
}

pub(crate) fn created(id: &str) -> Verdict {
    Verdict::Created { task_id: id.into() }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(settings())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let now = Now { at: Moment::from_nanos(1_000_000_000), wall: start() };
        let mut core = Core::new(settings, now);
        core.session_opened(now, 1, 0);
        let mut bench = Self { core, now, deliveries: 0 };
        bench.wait(Duration::from_millis(300));
        bench.expect_wait();
        bench
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = Now { at: self.now.at + time, wall: self.now.wall + time };
    }

    pub(crate) fn deliver(&mut self, request: Request, redelivered: bool) {
        self.deliver_in(1, request, redelivered);
    }

    pub(crate) fn deliver_in(&mut self, session: u32, request: Request, redelivered: bool) {
        self.deliveries += 1;
        let job = Job::new(request, self.deliveries, session, redelivered, self.now.at);
        self.core.arrived(self.now, job);
        self.wait(Duration::from_millis(10));
    }

    pub(crate) fn next(&mut self) -> Step<u64> {
        self.core.next(self.now)
    }

    pub(crate) fn expect_post(&mut self) -> Job<u64> {
        match self.next() {
            Step::Post(job) => job,
            other => panic!("expected a POST, not {other:?}; gate: {:?}", self.core.shut()),
        }
    }

    pub(crate) fn expect_look(&mut self) -> Job<u64> {
        match self.next() {
            Step::Ask(Question::LookUp(job)) => job,
            other => panic!("expected a look-up, not {other:?}; gate: {:?}", self.core.shut()),
        }
    }

    /// Expects nothing to do, and says until when.
    pub(crate) fn expect_wait(&mut self) -> Option<Moment> {
        match self.next() {
            Step::Wait(until) => until,
            other => panic!("expected to wait, not {other:?}"),
        }
    }

    pub(crate) fn expect_settled(&mut self) -> (Job<u64>, Ending) {
        match self.next() {
            Step::Settle(job, ending) => (job, *ending),
            other => panic!("expected a settlement, not {other:?}"),
        }
    }

    pub(crate) fn settle(&mut self) -> Ending {
        let (job, ending) = self.expect_settled();
        self.core.settled(self.now, job, Box::new(ending.clone()), Settlement::Done);
        ending
    }

    pub(crate) fn post(&mut self, verdict: Verdict) {
        let job = self.expect_post();
        self.posted(job, verdict);
    }

    pub(crate) fn posted(&mut self, job: Job<u64>, verdict: Verdict) {
        let started = self.now;
        self.wait(Duration::from_millis(5));
        self.core.posted(self.now, started, job, verdict, 1);
    }

    pub(crate) fn look(&mut self, tasks: Vec<Task>) {
        let job = self.expect_look();
        let started = self.now;
        self.wait(Duration::from_millis(5));
        self.core.looked(self.now, started, job, Ok(listing(tasks)), 1);
    }

    pub(crate) fn look_fails(&mut self, verdict: Verdict) {
        let job = self.expect_look();
        let started = self.now;
        self.wait(Duration::from_millis(5));
        self.core.looked(self.now, started, job, Err(verdict), 1);
    }

    pub(crate) fn two_empty_looks(&mut self) {
        self.look(vec![]);
        self.expect_wait();
        self.wait(LOOK_AGAIN);
        self.look(vec![]);
    }

    /// Two requests for "s0" in doubt, of which "a" is cleared and starts its migration, and the second look-up of "b", which
    /// does not, is due.
    pub(crate) fn clear_the_first_of_two(&mut self) {
        self.deliver(Request { priority: 9, starts: true, ..request("s0", "a") }, true);
        self.deliver(Request { priority: 8, starts: false, ..request("s0", "b") }, true);
        self.look(vec![]);
        self.two_empty_looks();
    }
}

//! Does one request that is answered the same, every time, hold up the others? Promise 8 on the pure core in virtual time:
//! how long each case takes, who is held responsible, and that a real outage costs no request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::core::breaker::Cause;
use sluicegate::core::gate::{self, Reason};
use sluicegate::core::{
    Fault, Listing, Outcome, Question, Rate, Request, Settings, Settlement, Shared, Step, Verdict,
};

use crate::support::bench::{
    Bench, Inputs as _, created, fault, listing, request, settings, timeout,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the API answers in a world of its own, and what becomes of each request.
struct World<P, L> {
    bench: Bench,
    /// What a `POST` is answered.
    post: P,
    /// What a look-up is answered.
    look: L,
    /// What the list of all tasks, and the question whether look-ups are answered at all, are answered.
    list: fn() -> Result<Listing, Verdict>,
    /// When each request ended, and how.
    ended: BTreeMap<String, (Duration, Outcome)>,
    posts: usize,
    calls: usize,
    /// Log-ins so far.
    generation: u64,
    begun: sluicegate::core::Moment,
}

#[expect(clippy::unnecessary_wraps, reason = "an answer is one or the other")]
fn nothing(_: &str) -> Result<Listing, Verdict> {
    Ok(listing(vec![]))
}

#[expect(clippy::unnecessary_wraps, reason = "an answer is one or the other")]
fn empty() -> Result<Listing, Verdict> {
    Ok(listing(vec![]))
}

impl<P, L> World<P, L>
where
    P: FnMut(&str, Duration) -> Verdict,
    L: FnMut(&str) -> Result<Listing, Verdict>,
{
    fn new(settings: Settings, post: P, look: L) -> Self {
        let bench = Bench::with(settings);
        let begun = bench.now.at;
        let (ended, posts, calls) = (BTreeMap::new(), 0, 0);
        Self { bench, post, look, list: empty, ended, posts, calls, generation: 0, begun }
    }

    fn deliver(&mut self, source: &str, priority: u16) {
        self.bench.deliver(Request { priority, ..request(source, "a") }, false);
    }

    fn redeliver(&mut self, source: &str) {
        self.bench.deliver(request(source, "a"), true);
    }

    fn since(&self) -> Duration {
        self.bench.now.at - self.begun
    }

    /// Runs for so long, every call being answered after some milliseconds.
    fn run(&mut self, time: Duration) {
        let end = self.bench.now.at + time;
        loop {
            let started = self.bench.now;
            match self.bench.next() {
                Step::Post(job) => {
                    self.posts += 1;
                    self.calls += 1;
                    let since = self.since();
                    let verdict = (self.post)(&job.request.source_server_id.get(), since);
                    self.bench.wait(Duration::from_millis(5));
                    self.bench.core.posted(self.bench.now, started, job, verdict, self.generation);
                }
                Step::Ask(Question::LookUp(job)) => {
                    self.calls += 1;
                    let result = (self.look)(&job.request.source_server_id.get());
                    self.bench.wait(Duration::from_millis(5));
                    self.bench.core.looked(self.bench.now, started, job, result, self.generation);
                }
                Step::Ask(Question::List { .. }) => {
                    self.calls += 1;
                    self.bench.wait(Duration::from_millis(5));
                    self.bench.core.listed(self.bench.now, started, (self.list)(), self.generation);
                }
                Step::Ask(Question::Any) => {
                    self.calls += 1;
                    self.bench.wait(Duration::from_millis(5));
                    self.bench.core.asked(self.bench.now, started, (self.list)(), self.generation);
                }
                Step::Refresh { .. } => {
                    self.generation += 1;
                    self.bench.core.refreshed(self.bench.now, Ok(self.generation));
                }
                Step::Settle(job, ending) => {
                    let source = job.request.source_server_id.to_string();
                    self.ended.insert(source, (self.since(), ending.outcome));
                    self.bench.core.settled(self.bench.now, job, ending, Settlement::Done);
                }
                Step::Wait(Some(at)) if at < end => self.bench.wait(at - self.bench.now.at),
                Step::Wait(_) => {
                    return self.bench.wait(end - self.bench.now.at);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// How long the last of the healthy ones took; all must have been created.
    #[track_caller]
    fn healthy(&self, count: usize) -> Duration {
        let healthy = self.ended.iter().filter(|(source, _)| source.starts_with('h'));
        let created = healthy.clone().filter(|(_, (_, outcome))| *outcome == Outcome::Created);
        assert_eq!(created.count(), count, "{:?}", self.ended);
        healthy.map(|(_, (at, _))| *at).max().unwrap()
    }
}

fn at_two_a_second() -> Settings {
    let rates: Vec<Rate> = vec!["2/s".parse().unwrap()];
    Settings { gate: gate::GateSettings { rates, ..settings().gate }, ..settings() }
}

/// What is answered to one request as if it were the account's trouble.
fn refusals() -> Vec<(&'static str, Verdict)> {
    let account = |code: &str| Verdict::Account { fault: fault(code), one_resource: false };
    let bare = |status| Verdict::Account {
        fault: Fault { status: Some(status), error_code: None, ..fault("") },
        one_resource: false,
    };
    vec![
        ("403", bare(403)),
        ("404", bare(404)),
        ("SMS.9003", account("SMS.9003")),
        ("SMS.0204", account("SMS.0204")),
        ("SMS.6407", account("SMS.6407")),
        ("SMS.6526", account("SMS.6526")),
        ("SMS.9004", Verdict::Account { fault: fault("SMS.9004"), one_resource: true }),
        ("401", Verdict::Unauthorized(fault("SMS.6521"))),
    ]
}

#[test]
fn one_request_that_the_account_refuses_holds_up_nobody_however_urgent_it_is() {
    for (what, refusal) in refusals() {
        let post = |source: &str, _| match source {
            "poison" => refusal.clone(),
            _ => created("t"),
        };
        let mut world = World::new(at_two_a_second(), post, nothing);
        world.deliver("poison", 65_535);
        for n in 0..50 {
            world.deliver(&format!("h{n}"), 1);
        }
        world.run(2 * MINUTE);
        let took = world.healthy(50);
        println!(
            "{what}: the last of 50 healthy requests at 2/s after {:.1} s",
            took.as_secs_f64()
        );
        assert!(took < Duration::from_secs(30), "{what}: {took:?}");
        assert!(!world.ended.contains_key("poison"), "{what}: no wrong answer in a hurry");
        // While others are created it is told, in time, that it is its own trouble.
        for n in 50..200 {
            world.deliver(&format!("h{n}"), 1);
            world.run(10 * Duration::from_secs(1));
        }
        let (at, outcome) = world.ended["poison"];
        assert!(world.generation <= 8, "{what}: {} log-ins", world.generation);
        println!("{what}: ended as {outcome:?} after {:.0} s", at.as_secs_f64());
        assert_eq!(outcome, Outcome::Rejected, "{what}");
    }
}

#[test]
fn a_429_for_one_request_holds_up_nobody_and_is_never_held_against_it() {
    let post = |source: &str, _| match source {
        "poison" => Verdict::Throttled { fault: fault("APIGW.0308"), wait: None, limit: None },
        _ => created("t"),
    };
    let mut world = World::new(at_two_a_second(), post, nothing);
    world.deliver("poison", 65_535);
    for n in 0..50 {
        world.deliver(&format!("h{n}"), 1);
    }
    world.run(10 * MINUTE);
    let took = world.healthy(50);
    println!("429: the last of 50 healthy requests after {:.1} s", took.as_secs_f64());
    for n in 50..400 {
        world.deliver(&format!("h{n}"), 1);
        world.run(5 * MINUTE);
    }
    assert_eq!(world.ended["poison"].1, Outcome::Exhausted, "after retry.max_age, and no sooner");
    assert!(world.ended["poison"].0 > DAY);
    world.healthy(400);
}

/// The account refuses those whose source server begins with a `p`.
fn refuses_p(source: &str, _: Duration) -> Verdict {
    if source.starts_with('p') {
        Verdict::Account { fault: fault("SMS.9003"), one_resource: false }
    } else {
        created("t")
    }
}

#[test]
fn several_poisoned_requests_cost_some_probes_and_nobody_their_turn() {
    for poisoned in [2, 3, 4, 7] {
        let mut world = World::new(at_two_a_second(), refuses_p, nothing);
        for n in 0..poisoned {
            world.deliver(&format!("p{n}"), 60_000);
        }
        for n in 0..50 {
            world.deliver(&format!("h{n}"), 1);
        }
        world.run(60 * MINUTE);
        let took = world.healthy(50);
        println!("{poisoned} poisoned: 50 healthy after {:.1} s", took.as_secs_f64());
        assert!(took <= MINUTE * poisoned + Duration::from_secs(30), "{took:?}");
    }
}

#[test]
fn what_is_in_doubt_behind_an_open_breaker_waits_for_two_probes_and_not_for_a_turn_of_all_that_are_refused()
 {
    let mut world = World::new(at_two_a_second(), refuses_p, nothing);
    for n in 0..6 {
        world.deliver(&format!("p{n}"), 60_000);
    }
    // By now a probe goes every 16 minutes.
    world.run(180 * MINUTE);
    assert_eq!(world.bench.core.gate().breaker().opened().unwrap().cause, Cause::Account);
    let begun = world.since();
    // Each is looked up twice before it is sent, and by the next probe they are no newcomers.
    world.redeliver("h0");
    world.redeliver("h1");
    world.run(600 * MINUTE);
    let took = world.healthy(2).saturating_sub(begun);
    println!("two in doubt among six that are refused: created after {:.0} s", took.as_secs_f64());
    assert!(took <= 2 * 16 * MINUTE + settings().look_again, "{took:?}");
}

#[test]
fn a_real_outage_of_the_account_costs_no_request_whatever_its_length() {
    for hours in [1, 30] {
        let until = Duration::from_secs(hours * 3600);
        let post = |_: &str, now: Duration| {
            if now < until {
                Verdict::Account { fault: fault("SMS.6529"), one_resource: false }
            } else {
                created("t")
            }
        };
        let mut world = World::new(at_two_a_second(), post, nothing);
        for n in 0..200 {
            world.deliver(&format!("h{n}"), n);
        }
        world.run(until.saturating_sub(world.since()));
        assert!(world.ended.is_empty(), "{:?}", world.ended);
        assert_eq!(world.bench.core.gate().breaker().opened().unwrap().cause, Cause::Account);
        world.run(60 * MINUTE);
        let took = world.healthy(200).saturating_sub(until);
        println!(
            "an outage of {hours} h: all 200 created {:.0} s after its end",
            took.as_secs_f64()
        );
        assert!(took < 16 * MINUTE + Duration::from_secs(150), "one probe interval: {took:?}");
    }
}

#[test]
fn an_account_that_comes_and_goes_costs_no_request() {
    // Every other minute.
    let post = |_: &str, now: Duration| match now.as_secs() / 60 % 2 {
        0 => Verdict::Account { fault: fault("SMS.6529"), one_resource: false },
        _ => created("t"),
    };
    let mut world = World::new(at_two_a_second(), post, nothing);
    for n in 0..1_000 {
        world.deliver(&format!("h{n}"), n);
    }
    world.run(5 * 60 * MINUTE);
    world.healthy(1_000);
}

fn in_project(source: &str, project: &str, priority: u16) -> Request {
    let shared = Arc::new(Shared { project_id: project.into(), ..Shared::default() });
    Request { shared, priority, ..request(source, "a") }
}

#[test]
fn a_project_without_rights_is_kept_and_probed_by_itself_while_others_go_at_the_full_rate() {
    let until = 10 * 60 * MINUTE;
    let post = |source: &str, now: Duration| {
        if source.starts_with("hx") && now < until {
            Verdict::Account { fault: fault("SMS.9003"), one_resource: false }
        } else {
            created("t")
        }
    };
    let mut world = World::new(at_two_a_second(), post, nothing);
    for n in 0..300 {
        world.bench.deliver(in_project(&format!("hx{n}"), "forbidden", 60_000), false);
    }
    for n in 0..100 {
        world.bench.deliver(in_project(&format!("h{n}"), "allowed", 1), false);
    }
    world.run(2 * MINUTE);
    let took = world.healthy(100);
    println!("beside a project without rights: 100 healthy after {:.1} s", took.as_secs_f64());
    assert!(took < Duration::from_secs(60), "{took:?}");
    // All day others are created, so it is not the account; but it is no request's own trouble either.
    let mut more = 100;
    while world.since() < until {
        world.bench.deliver(in_project(&format!("h{more}"), "allowed", 1), false);
        more += 1;
        world.run(MINUTE);
    }
    world.healthy(more);
    assert!(world.posts < more + 60, "{} POSTs for {more} healthy ones", world.posts);
    let groups = world.bench.core.gate().breaker().groups();
    let (group, aside) = groups.first_key_value().unwrap();
    assert_eq!(
        (&*group.project_id, aside.fault.error_code.as_deref()),
        ("forbidden", Some("SMS.9003"))
    );
    // The right is given: all of it goes.
    world.run(40 * MINUTE);
    assert_eq!(
        world.ended.values().filter(|(_, outcome)| *outcome == Outcome::Created).count(),
        more + 300
    );
}

#[test]
fn what_comes_while_one_or_two_are_refused_goes_at_once() {
    let post = |source: &str, _| {
        if source.starts_with('p') {
            Verdict::Account { fault: fault("SMS.9003"), one_resource: false }
        } else {
            created("t")
        }
    };
    let mut world = World::new(at_two_a_second(), post, nothing);
    world.deliver("p0", 9);
    world.run(10 * MINUTE);
    assert_eq!(world.bench.core.shut().map(|shut| shut.reason), Some(Reason::Halted));
    let came = world.since();
    world.deliver("h0", 1);
    world.run(MINUTE);
    assert!(world.healthy(1).saturating_sub(came) < Duration::from_secs(1), "{:?}", world.ended);
}

#[test]
fn two_requests_that_always_fail_are_given_up_and_cost_few_calls() {
    for (what, failure) in [
        ("SMS.8104", Verdict::Transient { fault: fault("SMS.8104"), answered: true }),
        ("a 5xx", timeout()),
    ] {
        let mut world = World::new(at_two_a_second(), |_: &str, _| failure.clone(), nothing);
        world.deliver("p0", 9);
        world.deliver("p1", 9);
        world.run(7 * DAY);
        for source in ["p0", "p1"] {
            let (at, outcome) = world.ended[source];
            println!(
                "{what}: {source} ended as {outcome:?} after {:.0} min",
                at.as_secs_f64() / 60.0
            );
            assert_eq!(outcome, Outcome::Exhausted);
        }
        assert!(world.calls < 100, "{what}: {} calls in a week", world.calls);
    }
}

#[test]
fn two_requests_that_always_fail_do_not_keep_others_waiting() {
    let post = |source: &str, _| {
        if source.starts_with('p') { timeout() } else { created("t") }
    };
    let mut world = World::new(at_two_a_second(), post, nothing);
    world.deliver("p0", 60_000);
    world.deliver("p1", 60_000);
    for n in 0..50 {
        world.deliver(&format!("h{n}"), 1);
    }
    world.run(60 * MINUTE);
    let took = world.healthy(50);
    assert!(took < MINUTE, "{took:?}");
    assert_eq!(world.ended["p0"].1, Outcome::Exhausted);
}

#[test]
fn an_api_that_fails_as_a_whole_exhausts_nothing_where_look_ups_fail_too() {
    let until = 5 * 60 * MINUTE;
    let now = std::cell::Cell::new(Duration::ZERO);
    let post = |_: &str, at: Duration| {
        now.set(at);
        if at < until { timeout() } else { created("t") }
    };
    let look = |_: &str| if now.get() < until { Err(timeout()) } else { Ok(listing(vec![])) };
    for count in [1, 2, 20] {
        let mut world = World::new(at_two_a_second(), post, look);
        for n in 0..count {
            world.deliver(&format!("h{n}"), 1);
        }
        world.run(until.saturating_sub(world.since()));
        assert!(world.ended.is_empty(), "{count}: {:?}", world.ended);
        // The clock of the look-ups is that of the latest POST.
        now.set(until);
        world.run(60 * MINUTE);
        world.healthy(count);
    }
}

#[test]
fn a_list_that_fails_for_good_is_given_up_and_look_ups_do_its_work() {
    let fails: [fn() -> Result<Listing, Verdict>; 4] = [
        || Err(timeout()),
        || Err(Verdict::Account { fault: fault("SMS.9003"), one_resource: false }),
        || Err(Verdict::Throttled { fault: fault("APIGW.0308"), wait: None, limit: None }),
        || Ok(Listing { count: 300, unread: vec![None], ..listing(vec![]) }),
    ];
    for list in fails {
        let mut world = World::new(at_two_a_second(), |_: &str, _| created("t"), nothing);
        world.list = list;
        for n in 0..20 {
            world.redeliver(&format!("h{n}"));
        }
        world.run(60 * MINUTE);
        let took = world.healthy(20);
        println!("a list that fails: 20 in doubt created after {:.0} s", took.as_secs_f64());
        assert!(took < 5 * MINUTE, "{took:?}");
    }
}

#[test]
fn a_row_that_cannot_be_read_clears_nobody_whom_it_could_be_about() {
    let list = || Ok(Listing { count: 1, unread: vec![Some("h7".to_owned())], ..listing(vec![]) });
    let look = |source: &str| if source == "h7" { Err(timeout()) } else { nothing(source) };
    let mut world = World::new(at_two_a_second(), |_: &str, _| created("t"), look);
    world.list = list;
    for n in 0..20 {
        world.redeliver(&format!("h{n}"));
    }
    world.run(20 * MINUTE);
    world.healthy(19);
    assert!(!world.ended.contains_key("h7"));
}

#[test]
fn a_request_whose_look_ups_always_fail_ends_as_unknown_after_the_age_that_retries_have() {
    let look = |source: &str| if source == "p" { Err(timeout()) } else { nothing(source) };
    let mut world = World::new(at_two_a_second(), |_: &str, _| created("t"), look);
    world.redeliver("p");
    world.run(10 * DAY);
    let (at, outcome) = world.ended["p"];
    assert_eq!(outcome, Outcome::Unknown);
    assert!(at >= DAY && at < 2 * DAY, "{at:?}");
}

#[test]
fn no_request_ends_as_unknown_for_an_api_that_answers_no_look_up_at_all() {
    let mut world =
        World::new(at_two_a_second(), |_: &str, _| created("t"), |_: &str| Err(timeout()));
    world.list = || Err(timeout());
    for n in 0..3 {
        world.redeliver(&format!("p{n}"));
    }
    world.run(10 * DAY);
    assert!(world.ended.is_empty(), "{:?}", world.ended);
}

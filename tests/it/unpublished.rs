//! A broker that refuses dead letters, or results: what has ended waits, and nothing else does.

use std::time::Duration;

use sluicegate::core::gate::{self, Reason};
use sluicegate::core::{Ending, Job, Outcome, Request, Settings, Settlement, Step, Verdict};

use crate::support::bench::{Bench, Inputs as _, created, fault, request, settings};

const MINUTE: Duration = Duration::from_secs(60);

fn rejected() -> Verdict {
    Verdict::Rejected(fault("SMS.0202"))
}

impl Bench {
    /// A request of its own, answered so; returns its settlement, which is out.
    fn ended(&mut self, name: &str, verdict: Verdict) -> (Job<u64>, Ending) {
        self.deliver(request(&format!("source-{name}"), name), false);
        self.post(verdict);
        self.expect_settled()
    }

    fn refuse(&mut self, (job, ending): (Job<u64>, Ending)) {
        self.core.settled(self.now, job, Box::new(ending), Settlement::Refused);
    }

    fn reason(&mut self) -> Option<Reason> {
        self.expect_wait();
        self.core.shut().map(|shut| shut.reason)
    }
}

/// A window in which four are a quarter.
fn small() -> Settings {
    Settings { window: 16, ..settings() }
}

#[test]
fn dead_letters_that_are_refused_wait_in_nobodys_way_and_are_offered_again() {
    let mut bench = Bench::with(small());
    let ended = bench.ended("bad", rejected());
    bench.refuse(ended);
    assert_eq!((bench.core.counts().unpublished, bench.core.gate().in_flight()), (1, 0));
    // Its source server is free, and others end well meanwhile.
    bench.deliver(request("source-bad", "good"), false);
    bench.post(created("t"));
    assert_eq!(bench.settle().outcome, Outcome::Created);
    // The next dead letter is not even offered: it waits with the first.
    bench.deliver(request("source-worse", "worse"), false);
    bench.post(rejected());
    let mut tries = 0;
    let began = bench.now.at;
    while bench.now.at - began < 10 * MINUTE {
        match bench.next() {
            Step::Settle(job, ending) => {
                assert_eq!(&*job.request.name.get(), "bad", "what was received first");
                tries += 1;
                bench.refuse((job, *ending));
            }
            Step::Wait(until) => {
                let wait = until.expect("it knows when to offer again") - bench.now.at;
                assert!(wait <= MINUTE, "{wait:?}");
                bench.wait(wait);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((10..=20).contains(&tries), "{tries} tries in ten minutes");
    // As soon as one is taken, so are the others.
    bench.wait(MINUTE);
    assert_eq!(bench.settle().outcome, Outcome::Rejected);
    assert_eq!(bench.settle().outcome, Outcome::Rejected);
    bench.expect_wait();
    assert_eq!(bench.core.counts().unpublished, 0);
    let ended = bench.ended("later", rejected());
    assert_eq!(ended.1.outcome, Outcome::Rejected, "offered at once");
}

#[test]
fn invalid_messages_without_end_stop_at_a_quarter_of_the_window_and_go_on_after_it() {
    let mut bench = Bench::with(small());
    for number in 0..4 {
        assert_ne!(bench.reason(), Some(Reason::Unpublished), "after {number}");
        let job = Job::new(request(&format!("s{number}"), "bad"), number, 1, false, bench.now.at);
        bench.core.invalid(bench.now, job, Vec::new());
        if let Step::Settle(job, ending) = bench.next() {
            bench.refuse((job, *ending));
        }
    }
    bench.deliver(request("healthy", "healthy"), false);
    assert_eq!(bench.reason(), Some(Reason::Unpublished));
    bench.wait(MINUTE);
    for _ in 0..4 {
        assert_eq!(bench.settle().outcome, Outcome::Invalid);
    }
    bench.post(created("t"));
}

#[test]
fn results_that_are_refused_hold_up_no_more_than_may_be_in_flight() {
    let gate = gate::GateSettings { max_in_flight: 2, ..settings().gate };
    let mut bench = Bench::with(Settings { gate, ..settings() });
    let first = bench.ended("a", created("1"));
    bench.refuse(first);
    bench.deliver(request("b", "b"), false);
    bench.post(created("2"));
    bench.deliver(request("c", "c"), false);
    assert_eq!(bench.reason(), Some(Reason::Unpublished));
    bench.wait(MINUTE);
    let offered = bench.expect_settled();
    assert_eq!(offered.1.task_id.as_deref(), Some("1"));
    bench.core.settled(bench.now, offered.0, Box::new(offered.1), Settlement::Done);
    assert_eq!(bench.settle().task_id.as_deref(), Some("2"));
    bench.post(created("3"));
}

#[test]
fn what_waits_so_is_requeued_in_time_and_ends_the_same_when_it_comes_again() {
    let max_hold = Duration::from_secs(1_200);
    let mut bench = Bench::with(Settings { max_hold, ..small() });
    let ended = bench.ended("bad", rejected());
    bench.refuse(ended);
    let received = bench.now.at;
    let again = loop {
        match bench.next() {
            Step::Settle(job, ending) => bench.refuse((job, *ending)),
            Step::Wait(until) => {
                let wait = until.unwrap() - bench.now.at;
                bench.wait(wait);
            }
            Step::Requeue(job) => break job,
            other => panic!("{other:?}"),
        }
    };
    let held = bench.now.at - received;
    assert!(held <= max_hold, "{held:?}");
    let request: Request = again.request.clone();
    bench.deliver(request, true);
    bench.wait(MINUTE);
    let (_, ending) = bench.expect_settled();
    assert_eq!((ending.outcome, ending.attempts), (Outcome::Rejected, 1));
}

#[test]
fn with_its_session_what_waits_is_void_and_ends_the_same_in_the_next() {
    let mut bench = Bench::with(small());
    let ended = bench.ended("bad", rejected());
    let again = ended.0.request.clone();
    bench.refuse(ended);
    bench.core.session_lost(bench.now);
    assert_eq!(bench.core.counts().unpublished, 0);
    bench.core.session_opened(bench.now, 2, 1);
    bench.deliver_in(2, again, true);
    let (_, ending) = bench.expect_settled();
    assert_eq!((ending.outcome, ending.attempts), (Outcome::Rejected, 1));
}

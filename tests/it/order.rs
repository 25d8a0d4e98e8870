//! How is a request that waits given another priority, and what do people see of the window? On the pure core, in
//! virtual time.

use std::time::Duration;

use sluicegate::core::engine::{Kept, Waits};
use sluicegate::core::gate::Pause;
use sluicegate::core::{
    Job, Outcome, Question, Rare, Request, Run, Settings, Settlement, Sparse, Step,
};

use crate::support::bench::{
    Bench, Inputs as _, created, listing, request, settings, task, timeout,
};

const SECOND: Duration = Duration::from_secs(1);

fn paused() -> Bench {
    let mut bench = Bench::new();
    bench.core.pause(bench.now, Pause { by: "me".into(), reason: "test".into() });
    bench
}

fn raise(bench: &mut Bench, id: &str, priority: u16) -> Result<u16, Kept> {
    bench.core.reprioritise(bench.now, id, priority).map(|moved| moved.before)
}

/// The job that is to be published anew.
fn expect_move(bench: &mut Bench) -> (Job<u64>, u16) {
    match bench.next() {
        Step::Republish(job, priority) => (job, priority),
        other => panic!("expected to publish anew, not {other:?}"),
    }
}

/// Raises it, and brings the copy as the broker would: marked, so taken for a redelivery.
fn moved(bench: &mut Bench, id: &str, priority: u16) {
    raise(bench, id, priority).unwrap();
    let (job, priority) = expect_move(bench);
    bench.deliver(Request { priority, ..job.request.clone() }, true);
    bench.core.republished(bench.now, job);
}

#[test]
fn what_is_raised_goes_first_without_a_look_and_counts_as_one_request() {
    let mut bench = paused();
    for (n, priority) in [(0, 30), (1, 20), (2, 10)] {
        bench.deliver(Request { priority, ..request(&format!("s{n}"), "a") }, false);
    }
    moved(&mut bench, "a@s2", 65_535);
    bench.core.resume(bench.now);
    for source in ["s2", "s0", "s1"] {
        let job = bench.expect_post();
        assert_eq!(job.request.source_server_id, source);
        bench.posted(job, created(source));
        assert_eq!(bench.settle().outcome, Outcome::Created);
    }
    bench.expect_wait();
    assert!(bench.core.is_quiet() && bench.core.counts().settling == 0);
}

#[test]
fn while_a_raised_request_is_on_its_way_nothing_less_urgent_overtakes_it() {
    let mut bench = paused();
    bench.deliver(Request { priority: 30, ..request("s0", "a") }, false);
    bench.deliver(Request { priority: 10, ..request("s1", "a") }, false);
    raise(&mut bench, "a@s1", 40).unwrap();
    let (job, _) = expect_move(&mut bench);
    bench.core.resume(bench.now);
    bench.expect_wait();
    bench.deliver(Request { priority: 40, ..job.request.clone() }, true);
    bench.core.republished(bench.now, job);
    assert_eq!(bench.expect_post().request.source_server_id, "s1");
}

#[test]
fn a_lowered_request_keeps_its_retries() {
    let mut bench = Bench::new();
    bench.deliver(Request { priority: 9, ..request("s0", "a") }, false);
    bench.post(sluicegate::core::Verdict::Transient {
        fault: sluicegate::core::Fault::default(),
        answered: false,
    });
    bench.expect_wait();
    moved(&mut bench, "a@s0", 2);
    bench.wait(60 * SECOND);
    let job = bench.expect_post();
    assert_eq!((job.progress.attempts, job.progress.failures, job.request.priority), (1, 1, 2));
}

#[test]
fn what_is_in_flight_in_doubt_unknown_or_the_same_keeps_its_priority() {
    let mut bench = Bench::new();
    bench.deliver(request("s0", "a"), false);
    assert_eq!(raise(&mut bench, "nobody", 5), Err(Kept::NotHeld));
    assert_eq!(raise(&mut bench, "a@s0", 1), Err(Kept::Same));
    let job = bench.expect_post();
    assert_eq!(raise(&mut bench, "a@s0", 5), Err(Kept::NotHeld));
    bench.posted(job, timeout());
    assert_eq!(raise(&mut bench, "a@s0", 5), Err(Kept::InDoubt));
    let copy = |n: u8| Request { run: Run::of("twin", &[n; 32], None, 0), ..request("s9", "twin") };
    bench.deliver(copy(1), false);
    bench.deliver(copy(2), false);
    assert_eq!(raise(&mut bench, "twin@s9", 5), Err(Kept::Several));
    let run = copy(2).run.0.to_string();
    assert_eq!(raise(&mut bench, &run, 5), Ok(1), "the run tells them apart");
    bench.core.blocked(bench.now, true);
    assert_eq!(raise(&mut bench, "twin@s9", 5), Err(Kept::Blocked));
}

#[test]
fn with_a_full_window_a_request_is_not_sent_behind_the_rest_of_the_queue() {
    let mut bench = Bench::with(Settings { window: 2, ..settings() });
    bench.core.pause(bench.now, Pause { by: "me".into(), reason: "test".into() });
    bench.deliver(request("s0", "a"), false);
    bench.deliver(Request { priority: 7, ..request("s1", "a") }, false);
    assert_eq!(raise(&mut bench, "a@s0", 5), Err(Kept::Full));
    assert_eq!(raise(&mut bench, "a@s1", 5), Err(Kept::Full), "lowered, it may still be the first");
}

#[test]
fn while_the_window_still_fills_after_a_start_a_request_is_not_sent_behind_the_rest_of_the_queue() {
    let mut bench = paused();
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 2, 0);
    bench.deliver_in(2, request("s0", "a"), false);
    bench.wait(SECOND / 10);
    bench.deliver_in(2, request("s1", "a"), false);
    assert_eq!(raise(&mut bench, "a@s0", 5), Err(Kept::Filling));
    // Nothing more has come for a while: all is held.
    bench.wait(SECOND);
    assert!(raise(&mut bench, "a@s0", 5).is_ok());
}

#[test]
fn only_so_many_move_at_once() {
    let mut bench = paused();
    for n in 0..=64 {
        bench.deliver(request(&format!("s{n}"), "a"), false);
    }
    for n in 0..64 {
        raise(&mut bench, &format!("a@s{n}"), 5).unwrap();
    }
    assert_eq!(raise(&mut bench, "a@s64", 5), Err(Kept::Busy));
    let (job, _) = expect_move(&mut bench);
    bench.core.republished(bench.now, job);
    assert!(raise(&mut bench, "a@s64", 5).is_ok());
}

#[test]
fn a_session_lost_in_between_leaves_two_copies_of_one_run_and_one_task() {
    let mut bench = paused();
    bench.deliver(request("s0", "a"), false);
    raise(&mut bench, "a@s0", 5).unwrap();
    let (job, _) = expect_move(&mut bench);
    bench.core.session_lost(bench.now);
    bench.core.republished(bench.now, job);
    bench.core.session_opened(bench.now, 2, 0);
    bench.deliver_in(2, request("s0", "a"), true);
    bench.deliver_in(2, Request { priority: 5, ..request("s0", "a") }, true);
    bench.core.resume(bench.now);
    // Each copy is looked up for itself, twice.
    let job = loop {
        match bench.next() {
            Step::Ask(Question::LookUp(job)) => {
                let started = bench.now;
                bench.core.looked(bench.now, started, job, Ok(listing(vec![])), 1);
            }
            Step::Wait(Some(until)) => bench.wait(until - bench.now.at),
            Step::Post(job) => break job,
            other => panic!("not {other:?}"),
        }
    };
    assert_eq!(job.progress.look_ups, 2);
    assert_eq!(job.request.priority, 5, "the more urgent one");
    bench.posted(job, created("t"));
    let (job, ending) = bench.expect_settled();
    assert_eq!(ending.outcome, Outcome::Created);
    bench.core.settled(bench.now, job, Box::new(ending), Settlement::Done);
    // The other copy is looked up once more, and is told the same.
    bench.look(vec![task("s0", "a", "RUNNING", 1)]);
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

#[test]
fn a_session_lost_before_it_began_settles_nothing() {
    let mut bench = paused();
    bench.deliver(request("s0", "a"), false);
    raise(&mut bench, "a@s0", 5).unwrap();
    bench.core.session_lost(bench.now);
    assert!(bench.core.is_quiet() && bench.core.counts().settling == 0);
}

#[test]
fn the_next_requests_are_told_in_order_with_what_each_waits_for() {
    let mut bench = paused();
    bench.deliver(Request { priority: 3, ..request("s0", "a") }, false);
    bench.deliver(Request { priority: 8, ..request("s1", "a") }, false);
    let not_before = Some(bench.now.wall + 60 * SECOND);
    let rare = Sparse::new(Rare { not_before, ..Rare::default() });
    bench.deliver(Request { rare, priority: 9, ..request("s2", "a") }, false);
    bench.deliver(request("s3", "a"), true);
    let told = |bench: &Bench, most| -> Vec<(String, Waits, bool)> {
        let next = bench.core.upcoming(bench.now, most);
        next.into_iter().map(|one| (one.id, one.waits, one.until.is_some())).collect()
    };
    let expected = [
        ("a@s1", Waits::Turn, false),
        ("a@s0", Waits::Turn, false),
        ("a@s3", Waits::Look, false),
        ("a@s2", Waits::NotBefore, true),
    ];
    assert_eq!(told(&bench, 100), expected.map(|(id, waits, timed)| (id.to_owned(), waits, timed)));
    assert_eq!(told(&bench, 2).len(), 2);
    let run = request("s2", "a").run.0;
    assert_eq!(bench.core.waiting(bench.now, run).unwrap().priority, 9);
}

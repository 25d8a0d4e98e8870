//! What goes first while the window still fills after a start? On the pure core, in virtual time.

use std::time::Duration;

use sluicegate::core::gate::Reason;
use sluicegate::core::{Outcome, Request, Step};

use crate::support::bench::{Bench, created, request};

/// What is held of a session that has just begun goes by number and priority.
fn started(priorities: &[u16], redelivered: bool) -> Bench {
    let mut bench = Bench::new();
    bench.core.session_lost();
    bench.core.session_opened(bench.now, 2);
    for (n, priority) in priorities.iter().enumerate() {
        deliver(&mut bench, n, *priority, redelivered);
    }
    bench
}

fn deliver(bench: &mut Bench, n: usize, priority: u16, redelivered: bool) {
    let request = Request { priority, ..request(&format!("s{n}"), "a") };
    bench.deliver_in(2, request, redelivered);
}

fn expect_linger(bench: &mut Bench) {
    assert!(bench.expect_wait().is_some());
    assert_eq!(bench.core.shut().map(|shut| shut.reason), Some(Reason::Linger));
}

/// The priority of the request that goes next; it is created and settled.
fn goes(bench: &mut Bench) -> u16 {
    let job = bench.expect_post();
    let priority = job.request.priority;
    bench.posted(job, created("t"));
    assert_eq!(bench.settle().outcome, Outcome::Created);
    priority
}

#[test]
fn what_is_whole_goes_while_the_rest_still_comes_and_the_rest_in_order_when_it_is_there() {
    let mut bench = started(&[9, 8, 5], false);
    expect_linger(&mut bench);
    bench.core.whole_above(6);
    assert_eq!([goes(&mut bench), goes(&mut bench)], [9, 8]);
    // There may be more of the level of this one, and more urgent.
    expect_linger(&mut bench);
    deliver(&mut bench, 3, 6, false);
    expect_linger(&mut bench);
    bench.core.whole_above(2);
    deliver(&mut bench, 4, 2, false);
    assert_eq!([goes(&mut bench), goes(&mut bench)], [6, 5]);
    expect_linger(&mut bench);
    bench.wait(Duration::from_millis(300));
    assert_eq!(goes(&mut bench), 2);
}

#[test]
fn what_comes_meanwhile_and_is_more_urgent_goes_first() {
    let mut bench = started(&[9], false);
    bench.core.whole_above(6);
    deliver(&mut bench, 1, 20, false);
    assert_eq!([goes(&mut bench), goes(&mut bench)], [20, 9]);
}

#[test]
fn what_is_whole_and_in_doubt_is_looked_up_one_by_one_and_a_list_waits_for_the_rest() {
    let priorities: Vec<u16> = (0..20).map(|n| 100 - n).collect();
    let mut bench = started(&priorities, true);
    expect_linger(&mut bench);
    bench.core.whole_above(90);
    for _ in 0..10 {
        bench.look(Vec::new());
    }
    expect_linger(&mut bench);
    bench.wait(Duration::from_millis(300));
    assert!(matches!(bench.next(), Step::List { offset: 0 }));
}

#[test]
fn what_was_whole_in_one_session_is_not_in_the_next() {
    let mut bench = started(&[9], false);
    bench.core.whole_above(6);
    bench.core.session_lost();
    bench.core.session_opened(bench.now, 3);
    bench.deliver_in(3, Request { priority: 9, ..request("s0", "a") }, false);
    expect_linger(&mut bench);
}

//! How long does a session wait, once it has begun, for what waits at the broker? On the pure core, in virtual time.

use std::time::Duration;

use sluicegate::core::gate::Reason;
use sluicegate::core::{Job, Moment, Request, Settings};

use crate::support::bench::{Bench, Inputs as _, request, settings};

/// A session has just begun, with so many waiting at the broker.
fn started(window: usize, waiting: usize) -> Bench {
    let mut bench = Bench::with(Settings { window, ..settings() });
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 2, waiting);
    bench
}

fn deliver(bench: &mut Bench, n: u16) {
    let request = Request { priority: n, ..request(&format!("s{n}"), "a") };
    bench.deliver_in(2, request, false);
}

/// How long from now it waits for company; it waits.
fn lingers(bench: &mut Bench) -> Duration {
    let until = bench.expect_wait();
    assert_eq!(bench.core.shut().map(|shut| shut.reason), Some(Reason::Linger));
    until.map(|until: Moment| until - bench.now.at).expect("a linger ends")
}

#[test]
fn what_waits_at_the_broker_is_waited_for_through_its_pauses() {
    let mut bench = started(10, 3);
    deliver(&mut bench, 1);
    deliver(&mut bench, 2);
    bench.wait(Duration::from_secs(4));
    lingers(&mut bench);
    deliver(&mut bench, 3);
    // All of it is here; what a predecessor held may still come back.
    assert_eq!(lingers(&mut bench), Duration::from_millis(190));
    bench.wait(Duration::from_millis(190));
    assert_eq!(bench.expect_post().request.priority, 3);
}

#[test]
fn a_full_window_goes_at_once() {
    let mut bench = started(2, 3);
    deliver(&mut bench, 1);
    lingers(&mut bench);
    deliver(&mut bench, 2);
    assert_eq!(bench.expect_post().request.priority, 2);
}

#[test]
fn what_is_invalid_has_come_and_makes_room_for_the_next() {
    let mut bench = started(2, 3);
    deliver(&mut bench, 1);
    let job = Job::new(request("s2", "a"), 2, 2, false, bench.now.at);
    bench.core.invalid(bench.now, job, Vec::new());
    bench.settle();
    bench.wait(Duration::from_secs(2));
    assert_eq!(lingers(&mut bench), Duration::from_secs(3));
    deliver(&mut bench, 3);
    assert_eq!(bench.expect_post().request.priority, 3);
}

#[test]
fn what_a_predecessor_held_is_waited_for_after_a_long_start_too() {
    let mut bench = started(100, 3);
    for n in 1..=3 {
        bench.wait(Duration::from_secs(3));
        deliver(&mut bench, n);
    }
    assert_eq!(lingers(&mut bench), Duration::from_millis(190));
    deliver(&mut bench, 4);
    assert_eq!(lingers(&mut bench), Duration::from_millis(190));
    bench.wait(Duration::from_millis(190));
    assert_eq!(bench.expect_post().request.priority, 4);
}

#[test]
fn what_waited_and_does_not_come_is_waited_for_five_seconds() {
    let mut bench = started(10, 3);
    bench.wait(Duration::from_secs(1));
    deliver(&mut bench, 1);
    assert_eq!(lingers(&mut bench), Duration::from_millis(4_990));
    bench.wait(Duration::from_millis(4_990));
    assert_eq!(bench.expect_post().request.priority, 1);
}

#[test]
fn a_first_delivery_that_takes_its_time_does_not_go_alone() {
    let mut bench = started(10, 3);
    bench.wait(Duration::from_secs(8));
    bench.expect_wait();
    deliver(&mut bench, 1);
    assert_eq!(lingers(&mut bench), Duration::from_millis(4_990));
}

#[test]
fn what_comes_too_slowly_is_waited_for_half_a_minute_in_all() {
    let mut bench = started(100, 50);
    for n in 1..=9 {
        bench.wait(Duration::from_millis(2_990));
        deliver(&mut bench, n);
    }
    bench.wait(Duration::from_secs(2));
    assert_eq!(lingers(&mut bench), Duration::from_secs(1));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.expect_post().request.priority, 9);
}

#[test]
fn what_others_publish_all_the_time_does_not_hold_a_start_for_longer_than_five_seconds() {
    let mut bench = started(1_000, 1);
    for n in 1..=50 {
        bench.wait(Duration::from_millis(90));
        deliver(&mut bench, n);
        lingers(&mut bench);
    }
    bench.wait(Duration::from_millis(90));
    assert_eq!(bench.expect_post().request.priority, 50);
}

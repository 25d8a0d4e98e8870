//! What do orders of planners do to requests that wait, what is parked and fetched back, and what do people see of the
//! window? On the pure core, in virtual time.

use std::time::Duration;

use jiff::Timestamp;
use sluicegate::core::engine::{Sought, Timetable, Upcoming, Waits};
use sluicegate::core::gate::Pause;
use sluicegate::core::{
    Change, Fault, Fetch, Fetched, Job, Obeyed, Outcome, Rare, Request, Settings, Shared, Sparse,
    Step, Target, Verdict,
};

use crate::support::bench::{Bench, Inputs as _, created, request, settings, task, timeout};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn paused() -> Bench {
    let mut bench = Bench::new();
    bench.core.pause(bench.now, Pause { by: "me".into(), reason: "test".into() });
    bench
}

fn one(id: &str) -> Target {
    Target::Request(id.to_owned())
}

fn wave() -> Target {
    Target::Batch { id: "wave".into(), run: None, row: None }
}

fn of_the_wave(source: &str, row: u64) -> Request {
    let shared = Shared { batch: Some("wave".into()), ..Shared::default() };
    Request { shared: shared.into(), row: Some(row).into(), ..request(source, "a") }
}

fn cancel() -> Change {
    Change { cancel: true, ..Change::default() }
}

fn hold(hold: bool) -> Change {
    Change { hold: Some(hold), ..Change::default() }
}

fn priority(priority: u16) -> Change {
    Change { priority: Some(priority), ..Change::default() }
}

fn not_before(at: Timestamp) -> Change {
    Change { not_before: Some(at), ..Change::default() }
}

fn order(bench: &mut Bench, of: Target, change: Change) -> Obeyed {
    bench.core.order(bench.now, of, change)
}

fn transient() -> Verdict {
    Verdict::Transient { fault: Fault::default(), answered: false }
}

#[test]
fn what_is_raised_goes_first_and_keeps_its_retries() {
    let mut bench = Bench::new();
    bench.deliver(Request { priority: 9, ..request("s0", "a") }, false);
    bench.post(transient());
    bench.expect_wait();
    bench.deliver(Request { priority: 20, ..request("s1", "a") }, false);
    assert_eq!(order(&mut bench, one("a@s0"), priority(30)).here, 1);
    bench.wait(60 * SECOND);
    let job = bench.expect_post();
    assert_eq!((job.progress.attempts, job.request.priority), (1, 30));
    assert_eq!(bench.expect_post().request.source_server_id, "s1");
}

#[test]
fn a_run_names_one_of_two_requests_with_the_same_message_id() {
    let mut bench = paused();
    let copy = |n: u8| Request {
        run: sluicegate::core::Run::of("twin", &[n; 32], None, 0),
        ..request("s9", "twin")
    };
    bench.deliver(copy(1), false);
    bench.deliver(copy(2), false);
    assert_eq!(order(&mut bench, one(&copy(2).run.0.to_string()), priority(5)).here, 1);
    assert_eq!(order(&mut bench, one("twin@s9"), priority(6)).here, 2);
}

#[test]
fn a_cancelled_batch_ends_what_waits_and_what_comes_later_and_nothing_else() {
    let mut bench = paused();
    bench.deliver(of_the_wave("s0", 1), false);
    bench.deliver(request("s1", "a"), false);
    assert_eq!(order(&mut bench, wave(), cancel()).here, 1);
    let ending = bench.settle();
    assert_eq!(ending.outcome, Outcome::Cancelled);
    assert!(ending.never_sent && ending.reason.contains("taken it back"), "{ending:?}");
    bench.deliver(of_the_wave("s2", 2), false);
    assert_eq!(bench.settle().outcome, Outcome::Cancelled, "in the middle of a pause");
    bench.core.resume(bench.now);
    assert_eq!(bench.expect_post().request.source_server_id, "s1");
}

#[test]
fn what_is_in_a_call_ends_by_its_answer_and_is_not_tried_again() {
    for (verdict, ends) in [(created("t"), Outcome::Created), (transient(), Outcome::Cancelled)] {
        let mut bench = Bench::new();
        bench.deliver(of_the_wave("s0", 1), false);
        let job = bench.expect_post();
        order(&mut bench, wave(), cancel());
        bench.posted(job, verdict);
        assert_eq!(bench.settle().outcome, ends);
    }
}

#[test]
fn what_is_in_doubt_is_looked_up_and_then_created_or_cancelled() {
    for found in [true, false] {
        let mut bench = Bench::new();
        bench.deliver(of_the_wave("s0", 1), false);
        bench.post(timeout());
        let obeyed = order(&mut bench, wave(), cancel());
        assert_eq!((obeyed.here, obeyed.in_doubt), (1, 1));
        if found {
            bench.look(vec![task("s0", "a", "RUNNING", 1)]);
            assert_eq!(bench.settle().outcome, Outcome::Created);
        } else {
            bench.two_empty_looks();
            assert_eq!(bench.settle().outcome, Outcome::Cancelled);
        }
    }
}

#[test]
fn a_cancelled_copy_waits_for_what_becomes_of_the_one_in_a_call() {
    let mut bench = Bench::new();
    bench.deliver(of_the_wave("s0", 1), false);
    let job = bench.expect_post();
    bench.deliver(of_the_wave("s0", 2), false);
    order(&mut bench, wave(), cancel());
    bench.expect_wait();
    bench.posted(job, transient());
    assert_eq!(bench.settle().outcome, Outcome::Cancelled);
    assert_eq!(bench.settle().outcome, Outcome::Cancelled);
    bench.expect_wait();
}

#[test]
fn what_is_held_goes_when_it_is_released_and_a_deadline_ends_it_all_the_same() {
    let mut bench = Bench::new();
    order(&mut bench, wave(), hold(true));
    let deadline = Some(bench.now.wall + HOUR);
    let rare = Sparse::new(Rare { deadline, ..Rare::default() });
    bench.deliver(of_the_wave("s0", 1), false);
    bench.deliver(Request { rare, ..of_the_wave("s1", 2) }, false);
    let until = bench.expect_wait();
    let due = bench.now.at + HOUR;
    assert!(until.is_some_and(|until| until < due && until + SECOND > due), "{until:?}");
    bench.wait(2 * HOUR);
    assert_eq!(bench.settle().outcome, Outcome::Expired);
    let held = bench.core.upcoming(bench.now, 10);
    assert_eq!((held.len(), held[0].waits), (1, Waits::Release));
    order(&mut bench, wave(), hold(false));
    assert_eq!(bench.expect_post().request.source_server_id, "s0");
}

#[test]
fn a_moved_request_goes_at_its_new_time_whichever_copy_comes() {
    let mut bench = Bench::new();
    let at = bench.now.wall + HOUR;
    let rare = Sparse::new(Rare { not_before: Some(at), ..Rare::default() });
    let timed = Request { rare, ..request("s0", "a") };
    bench.deliver(timed.clone(), false);
    order(&mut bench, one("a@s0"), not_before(at + HOUR));
    bench.wait(HOUR);
    bench.expect_wait();
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 2, 0);
    bench.deliver_in(2, timed, false);
    bench.wait(SECOND);
    bench.expect_wait();
    bench.wait(HOUR);
    assert_eq!(bench.expect_post().request.source_server_id, "s0");
    bench.deliver_in(2, request("s1", "a"), false);
    order(&mut bench, one("a@s1"), not_before(bench_past()));
    assert_eq!(bench.expect_post().request.source_server_id, "s1", "a time that has passed is now");
}

fn bench_past() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

/// A window of four that parks, with what came into it.
fn parks() -> Bench {
    let mut bench = Bench::with(settings());
    let settings = Settings { window: 4, parks: true, ..settings() };
    bench.core = sluicegate::core::Core::new(settings, bench.now);
    bench.core.session_opened(bench.now, 1, 0);
    let fetch = expect_fetch(&mut bench);
    assert_eq!(fetch.session, 1, "nobody knows what is parked when a session begins");
    bench.core.fetched(bench.now, 1, Some(Fetched::default()));
    bench.wait(SECOND);
    bench.expect_wait();
    bench
}

fn expect_park(bench: &mut Bench) -> Job<u64> {
    match bench.next() {
        Step::Park(job) => job,
        other => panic!("expected to park, not {other:?}"),
    }
}

fn expect_fetch(bench: &mut Bench) -> Fetch {
    match bench.next() {
        Step::Fetch(fetch) => fetch,
        other => panic!("expected to fetch, not {other:?}"),
    }
}

fn later(bench: &Bench, source: &str, hours: u32) -> Request {
    let not_before = Some(bench.now.wall + HOUR * hours);
    Request { rare: Sparse::new(Rare { not_before, ..Rare::default() }), ..request(source, "a") }
}

#[test]
fn beyond_half_of_the_window_what_is_due_last_is_parked_and_fetched_when_it_is_due() {
    let mut bench = parks();
    for (source, hours) in [("s1", 1), ("s3", 3), ("s2", 2)] {
        let request = later(&bench, source, hours);
        bench.deliver(request, false);
    }
    let job = expect_park(&mut bench);
    assert_eq!(job.request.source_server_id, "s3");
    let due = job.request.rare.not_before.unwrap();
    bench.core.parked(bench.now, job);
    assert_eq!(bench.core.counts().parked, 1);
    // It is looked through every few minutes, whatever is known; nothing is due.
    let mut sent = Vec::new();
    let fetch = loop {
        match bench.next() {
            Step::Wait(until) => bench.wait(until.unwrap() - bench.now.at),
            Step::Post(job) => sent.push(job.request.source_server_id.to_string()),
            Step::Fetch(fetch) if fetch.due >= due => break fetch,
            Step::Fetch(_) => {
                bench.core.fetched(
                    bench.now,
                    1,
                    Some(Fetched { left: 1, next: Some(due), ..Fetched::default() }),
                );
            }
            other => panic!("not {other:?}"),
        }
    };
    assert_eq!(sent, ["s1", "s2"]);
    assert!(fetch.due >= due && fetch.due < due + SECOND, "{} for {due}", fetch.due);
    // As the broker brings it: marked, so taken for a redelivery; this worker knows better.
    let request = Request {
        rare: Sparse::new(Rare { not_before: Some(due), ..Rare::default() }),
        ..request("s3", "a")
    };
    bench.deliver(request, true);
    bench.core.fetched(bench.now, 1, Some(Fetched::default()));
    assert_eq!(bench.expect_post().request.source_server_id, "s3");
}

#[test]
fn an_order_has_what_is_parked_looked_through_and_a_refusal_keeps_it_here() {
    let mut bench = parks();
    order(&mut bench, wave(), hold(true));
    expect_fetch(&mut bench);
    bench.core.fetched(bench.now, 1, Some(Fetched::default()));
    for n in 0..3 {
        bench.deliver(of_the_wave(&format!("s{n}"), n), false);
    }
    let job = expect_park(&mut bench);
    assert_eq!(job.request.source_server_id, "s2", "the least urgent of those that are held");
    bench.core.not_parked(bench.now, job);
    assert_eq!(bench.core.counts().waiting, 3);
    let again = bench.expect_wait().unwrap();
    bench.wait(again - bench.now.at);
    let job = expect_park(&mut bench);
    bench.core.parked(bench.now, job);
    bench.expect_wait();
    let obeyed = order(&mut bench, wave(), cancel());
    assert_eq!((obeyed.here, obeyed.parked), (2, 1));
    assert_eq!(bench.settle().outcome, Outcome::Cancelled);
    assert_eq!(bench.settle().outcome, Outcome::Cancelled);
    let fetch = expect_fetch(&mut bench);
    assert_eq!(fetch.orders.due(&of_the_wave("s2", 2)), Some(Timestamp::MIN), "at once");
}

#[test]
fn a_fetch_that_failed_or_was_of_another_session_is_made_again() {
    let mut bench = parks();
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 2, 0);
    assert_eq!(expect_fetch(&mut bench).session, 2);
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 3, 0);
    bench.core.fetched(bench.now, 2, Some(Fetched { left: 7, ..Fetched::default() }));
    assert_eq!(expect_fetch(&mut bench).session, 3);
    bench.core.fetched(bench.now, 3, None);
    bench.expect_wait();
    bench.wait(30 * SECOND);
    expect_fetch(&mut bench);
    bench.core.fetched(
        bench.now,
        3,
        Some(Fetched { left: 1, next: Some(bench.now.wall + HOUR), ..Fetched::default() }),
    );
    assert_eq!(bench.core.counts().parked, 1);
}

#[test]
fn with_half_of_the_window_waiting_the_other_half_works() {
    let mut bench = parks();
    for n in 0..10_u32 {
        let request = later(&bench, &format!("s{n}"), n + 1);
        bench.deliver(request, false);
        while let Step::Park(job) = bench.next() {
            bench.core.parked(bench.now, job);
        }
    }
    assert_eq!(bench.core.counts().waiting, 2, "half of the window");
    bench.deliver(request("now", "a"), false);
    assert_eq!(bench.expect_post().request.source_server_id, "now");
}

fn found(bench: &Bench, text: &str, from: usize, most: usize) -> Vec<Upcoming> {
    bench.core.find_waiting(bench.now, Sought { text, batch: None }, from, most)
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
    // A page of it, and what is looked for by anything that it is known by.
    let rest = bench.core.upcoming_from(bench.now, 1, 2);
    assert_eq!(rest.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["a@s0", "a@s3"]);
    assert!(bench.core.upcoming_from(bench.now, 100, 5).is_empty());
    for (text, count) in [("S1", 1), ("a@s", 4), ("nothing", 0)] {
        assert_eq!(found(&bench, text, 0, 100).len(), count, "{text}");
    }
    // In their order, a page at a time, and those of one batch alone.
    let ids = |all: Vec<Upcoming>| all.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(found(&bench, "a@s", 0, 2)), ["a@s1", "a@s0"]);
    assert_eq!(ids(found(&bench, "a@s", 2, 2)), ["a@s3", "a@s2"]);
    let other = Sought { text: "", batch: Some("other") };
    assert!(bench.core.find_waiting(bench.now, other, 0, 100).is_empty());
    let run = request("s2", "a").run.0;
    assert_eq!(bench.core.waiting(bench.now, run).unwrap().priority, 9);
}

#[test]
fn what_is_parked_or_on_hold_is_told_with_what_is_held_of_a_batch() {
    let mut bench = parks();
    let timed = |bench: &Bench, n: u64| {
        let not_before = Some(bench.now.wall + HOUR * u32::try_from(n).unwrap());
        let rare = Sparse::new(Rare { not_before, ..Rare::default() });
        Request { rare, ..of_the_wave(&format!("s{n}"), n) }
    };
    for n in 1..=3 {
        let request = timed(&bench, n);
        bench.deliver(request, false);
    }
    let job = expect_park(&mut bench);
    bench.core.parked(bench.now, job);
    let hours = |bench: &Bench, batch: &str| -> Vec<u64> {
        let load = bench.core.load(bench.now, Some(batch), None);
        let wall = bench.now.wall;
        let half = Duration::from_secs(1_800);
        let hours = |at: Timestamp| (at + half).duration_since(wall).as_hours().unsigned_abs();
        load.held.iter().map(|due| due.at.map_or(0, hours)).collect()
    };
    assert_eq!(hours(&bench, "wave"), [1, 2, 3]);
    assert_eq!(hours(&bench, "another"), [0_u64; 0]);
    // What is parked is known by what a fetch has seen, and by what was parked since.
    order(&mut bench, Target::Batch { id: "wave".into(), run: None, row: Some(1) }, hold(true));
    assert_eq!(bench.core.load(bench.now, Some("wave"), None).on_hold, 1);
    expect_fetch(&mut bench);
    let mut timetable = Timetable::default();
    timetable.note(&Request { rare: Sparse::default(), ..timed(&bench, 9) });
    let held = Rare { held: true, ..Rare::default() };
    timetable.note(&Request { rare: Sparse::new(held), ..timed(&bench, 8) });
    bench.core.fetched(bench.now, 1, Some(Fetched { left: 2, timetable, ..Fetched::default() }));
    assert_eq!(hours(&bench, "wave"), [0, 2]);
    assert_eq!(bench.core.load(bench.now, Some("wave"), None).on_hold, 2);
    // Others that wait for a time go before nobody.
    assert_eq!(bench.core.load(bench.now, Some("another"), None).ahead, 0);
}

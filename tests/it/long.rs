//! What shows only over days, or over a million requests: windows over changes of the clock, aging under a flood,
//! the cost of a decision, and a day behind a shut gate. All in virtual time.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sluicegate::core::engine::Sought;
use sluicegate::core::gate::{Pause, Reason};
use sluicegate::core::schedule::{Hours, Schedule};
use sluicegate::core::{
    Fault, Outcome, Question, Request, Run, Settings, Settlement, Step, Verdict, gate,
};

use crate::support::bench::{Bench, Inputs as _, created, listing, request, settings, timeout};
use crate::support::cpu;
use crate::support::form::number;

const SECOND: Duration = Duration::from_secs(1);

/// Zones that change by an hour in the north, and by half an hour in the south; the days of both changes in 2026.
const CHANGES: [(&str, [&str; 2]); 3] = [
    ("Europe/Berlin", ["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z"]),
    ("America/New_York", ["2026-03-07T00:00:00Z", "2026-10-31T00:00:00Z"]),
    ("Australia/Lord_Howe", ["2026-04-04T00:00:00Z", "2026-10-03T00:00:00Z"]),
];

#[test]
fn windows_follow_the_clock_on_the_wall_over_both_changes_in_three_zones() {
    const TIMEOUT: Duration = Duration::from_secs(30);
    for (zone, changes) in CHANGES {
        let wall = TimeZone::get(zone).unwrap();
        let nights = format!("Mon-Sun 22:00-05:00 {zone}").parse().unwrap();
        let nights = Schedule::new(vec![nights]);
        for from in changes {
            let from: Timestamp = from.parse().unwrap();
            let mut offsets = std::collections::BTreeSet::new();
            for minute in 0..3 * 24 * 60 {
                let now = from + SignedDuration::from_mins(minute);
                let local = wall.to_datetime(now);
                offsets.insert(wall.to_offset(now));
                let open = local.hour() >= 22 || local.hour() < 5;
                let said = nights.at(now);
                assert_eq!(matches!(said, Hours::Open(_)), open, "{zone} {now} {local}: {said:?}");
                // Whatever may start now is answered while it is open, and "not before" is a moment at which it is.
                match nights.admits(now, TIMEOUT) {
                    Ok(_) => assert!(
                        matches!(nights.at(now + TIMEOUT), Hours::Open(_)) || {
                            let end = wall.to_datetime(now + TIMEOUT);
                            (end.hour(), end.minute(), end.second()) == (5, 0, 0)
                        }
                    ),
                    Err(next) => {
                        let next = next.expect("a window within the week");
                        assert!(
                            next > now && wall.to_datetime(next).hour() == 22,
                            "{zone} {now}: {next}"
                        );
                    }
                }
            }
            assert_eq!(offsets.len(), 2, "{zone}: the clock was changed in these days");
        }
    }
}

#[test]
fn a_window_that_closes_in_the_middle_of_an_attempt_settles_it_and_starts_no_retry() {
    let windows = vec!["Mon 11:00-12:30 UTC".parse().unwrap()];
    let mut bench = Bench::with(Settings { schedule: Schedule::new(windows), ..settings() });
    for source in ["fine", "again", "unclear"] {
        bench.deliver(request(source, "a"), false);
    }
    bench.wait(29 * 60 * SECOND);
    let jobs = [bench.expect_post(), bench.expect_post(), bench.expect_post()];
    let started = bench.now;
    // The answers come two minutes late, after the end at 12:30.
    bench.wait(120 * SECOND);
    let [fine, again, unclear] = jobs;
    bench.core.posted(bench.now, started, fine, created("t"), 1);
    let transient = Verdict::Transient { fault: Fault::default(), answered: false };
    bench.core.posted(bench.now, started, again, transient, 1);
    bench.core.posted(bench.now, started, unclear, timeout(), 1);
    assert_eq!(bench.settle().task_id.as_deref(), Some("t"), "what was made is settled");
    // A look-up creates nothing, so it may be made.
    bench.look(vec![]);
    bench.wait(10 * 60 * SECOND);
    bench.look(vec![]);
    bench.expect_wait();
    let shut = bench.core.shut().expect("shut");
    assert_eq!(shut.reason, Reason::Schedule);
    let opens = bench.now.wall + (shut.until.unwrap() - bench.now.at);
    assert_eq!(opens.to_string(), "2026-11-30T11:00:00Z");
    bench.wait(shut.until.unwrap() - bench.now.at);
    assert!(matches!(bench.next(), Step::Post(_)), "in the next window they go on");
}

/// When a request of priority 1 is submitted under a flood of 101 that the rate can just take; seconds.
fn submitted_after(aging: f64, patience: u64) -> Option<u64> {
    // A permit takes a second and the limiter's margin.
    const EACH: Duration = Duration::from_millis(1_100);
    let gate = gate::GateSettings { rates: vec!["1/s".parse().unwrap()], ..settings().gate };
    let mut bench = Bench::with(Settings { aging, gate, ..settings() });
    let begun = bench.now.at;
    let now = bench.now.wall;
    let low = Request { enqueued_at: Some(now).into(), ..request("low", "a") };
    bench.deliver(low, false);
    for second in 0..patience {
        let source = format!("s{second}");
        let now = bench.now.wall;
        let urgent = Request {
            priority: 101,
            enqueued_at: Some(now).into(),
            run: Run::of(&source, &[0; 32], Some(now), 0),
            ..request(&source, "a")
        };
        bench.deliver(urgent, false);
        bench.wait(EACH.saturating_sub(Duration::from_millis(10)));
        while let Step::Post(job) = bench.next() {
            if job.request.source_server_id == "low" {
                return Some((bench.now.at - begun).as_secs());
            }
            bench.core.posted(bench.now, bench.now, job, created("t"), 1);
            bench.settle();
        }
    }
    None
}

#[test]
fn a_low_priority_goes_within_the_time_that_aging_promises_under_a_flood() {
    // 100 points at 600 an hour: ten minutes.
    let after = submitted_after(600.0, 1_200).expect("submitted");
    assert!((590..=615).contains(&after), "after {after} s");
    assert_eq!(submitted_after(0.0, 1_200), None, "without aging urgent is urgent");
}

/// The time of one decision (a request comes, the most urgent goes, is answered and settled) beside so many held.
fn decision(held: usize) -> Duration {
    const DECISIONS: u32 = 10_000;
    let settings = Settings { window: held + 10, ..settings() };
    let mut bench = Bench::with(settings);
    let pause = gate::Pause { by: "test".into(), reason: "gather".into() };
    bench.core.pause(bench.now, pause);
    let mut number = 0_u64;
    let mut deliver = |bench: &mut Bench| {
        number += 1;
        let source = number.to_string();
        let request = request(&source, "a");
        let priority = u16::try_from(number * 40_503 % 65_536).unwrap();
        bench.deliver(
            Request { priority, run: Run::of(&source, &[0; 32], None, 0), ..request },
            false,
        );
    };
    for _ in 0..held {
        deliver(&mut bench);
    }
    bench.core.resume(bench.now);
    let before = cpu::used();
    for _ in 0..DECISIONS {
        deliver(&mut bench);
        bench.post(created("t"));
        bench.settle();
    }
    cpu::used().saturating_sub(before) / DECISIONS
}

/// The time from one ending to the next of so many requests for one source server; all are refused.
fn ending_beside_copies(copies: u32) -> Duration {
    const ENDINGS: u32 = 500;
    let mut bench = Bench::with(Settings { window: copies as usize, ..settings() });
    for n in 0..copies {
        let run = Run::of(&n.to_string(), &[0; 32], None, 0);
        bench.deliver(Request { run, ..request("one", "a") }, false);
    }
    let before = cpu::used();
    for _ in 0..ENDINGS {
        bench.post(Verdict::Rejected(Fault::default()));
        bench.settle();
    }
    let took = cpu::used().saturating_sub(before) / ENDINGS;
    assert_eq!(bench.core.held().count(), (copies - ENDINGS) as usize);
    took
}

#[test]
fn an_ending_costs_no_more_beside_a_window_of_copies_than_beside_a_few() {
    let (few, many) = (ending_beside_copies(1_000), ending_beside_copies(65_535));
    println!("an ending takes {few:?} beside 1,000 copies and {many:?} beside 65,535");
    assert!(many < few * 6, "{few:?} and {many:?}");
}

/// What it takes to look for one request among so many that are held.
fn finding(held: u32) -> Duration {
    const TIMES: u32 = 5;
    let mut bench = Bench::with(Settings { window: 65_535, ..settings() });
    bench.core.pause(bench.now, Pause { by: "anna".into(), reason: String::new() });
    for n in 0..held {
        bench.deliver(request(&format!("source-{n}"), "wave"), false);
    }
    let sought = |text| Sought { text, batch: None };
    let last = format!("source-{}", held - 1);
    assert_eq!(bench.core.find_waiting(bench.now, sought(&last), 0, 100).len(), 1);
    let before = cpu::used();
    for _ in 0..TIMES {
        assert!(bench.core.find_waiting(bench.now, sought("nowhere"), 0, 100).is_empty());
    }
    cpu::used().saturating_sub(before) / TIMES
}

/// The worker's loop stands still so long for each.
#[test]
fn to_find_a_request_in_a_full_window_costs_what_its_length_says_and_no_more() {
    let (few, many) = (finding(6_553), finding(65_535));
    println!("a find takes {few:?} among 6,553 and {many:?} among 65,535");
    // Ten times as many, sorted once, and less of them is in the processor's cache.
    assert!(many < few * 30, "{few:?} and {many:?}");
    assert!(many < Duration::from_secs(1), "{many:?}");
}

#[test]
fn a_decision_costs_no_more_beside_many_requests_than_beside_few() {
    let many = number("SLUICE_BACKLOG", 100_000, 1_000_000);
    let (few, many_took) = (decision(10_000), decision(many));
    println!("a decision takes {few:?} beside 10,000 requests and {many_took:?} beside {many}");
    // A tree of a million is a third deeper than one of ten thousand, and less of it is in the processor's cache.
    assert!(many_took < few * 6, "{few:?} and {many_took:?}");
}

/// What this process has in memory now, in bytes.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A whole day of an account without permission, then paused: what is held is requeued and comes again, sessions are
/// lost, probes fail. Afterwards all are created, each once.
#[test]
fn a_day_behind_a_shut_gate_leaves_memory_flat_and_loses_nothing() {
    const REQUESTS: u16 = 3000;
    const HOUR: Duration = Duration::from_secs(3600);
    let max_hold = Duration::from_secs(20 * 60);
    let mut bench = Bench::with(Settings { max_hold, ..settings() });
    let denied = Fault { error_code: Some("SMS.9004".into()), ..Fault::default() };
    let denied = Verdict::Account { fault: denied, one_resource: false };
    let mut session = 1;
    for n in 0..REQUESTS {
        bench.deliver_in(session, request(&format!("s{n}"), "a"), false);
    }
    let begun = bench.now.at;
    let (mut requeued, mut probes, mut used) = (0_usize, 0_usize, Vec::new());
    for hour in 1..=24 {
        let end = begun + HOUR * hour;
        while bench.now.at < end {
            match bench.next() {
                Step::Post(job) => {
                    probes += 1;
                    bench.posted(job, denied.clone());
                }
                Step::Requeue(job) => {
                    requeued += 1;
                    bench.deliver_in(session, job.into_parts().request, true);
                }
                Step::Ask(Question::List { .. }) => {
                    let now = bench.now;
                    bench.core.listed(now, now, Err(denied.clone()), 1);
                }
                Step::Ask(Question::LookUp(job)) => {
                    let now = bench.now;
                    bench.core.looked(now, now, job, Err(denied.clone()), 1);
                }
                Step::Wait(until) => {
                    let until = until.map_or(end, |until| until.min(end));
                    bench.wait((until - bench.now.at).max(Duration::from_millis(1)));
                }
                other => panic!("nothing may be settled: {other:?}"),
            }
            let counts = bench.core.counts();
            assert_eq!(counts.ready + counts.waiting, usize::from(REQUESTS), "nothing is lost");
        }
        if hour % 3 == 0 {
            session += 1;
            bench.core.session_lost(bench.now);
            bench.core.session_opened(bench.now, session, 0);
            for n in 0..REQUESTS {
                bench.deliver_in(session, request(&format!("s{n}"), "a"), true);
            }
        }
        if hour == 12 {
            bench
                .core
                .pause(bench.now, gate::Pause { by: "test".into(), reason: "the night".into() });
        }
        used.push(memory());
    }
    println!("{requeued} requeued, {probes} calls, bytes at the end of each hour: {used:?}");
    assert!(requeued > 20 * usize::from(REQUESTS) && probes < 200, "{requeued}, {probes}");
    // The allocator and what is remembered of runs have their size after some hours.
    let grown = |from: usize| used[23].saturating_sub(used[from - 1]);
    assert!(grown(16) < 1 << 20 && grown(6) < 6 << 20, "{used:?}");

    bench.core.resume(bench.now);
    let mut made = std::collections::BTreeSet::new();
    let mut settled = 0;
    while settled < REQUESTS {
        match bench.next() {
            Step::Post(job) => {
                assert!(made.insert(job.request.source_server_id.to_string()), "twice");
                bench.posted(job, created("t"));
            }
            Step::Settle(job, ending) => {
                settled += 1;
                assert_eq!(ending.outcome, Outcome::Created, "{ending:?}");
                bench.core.settled(bench.now, job, ending, Settlement::Done);
            }
            Step::Requeue(job) => bench.deliver_in(session, job.into_parts().request, true),
            Step::Ask(Question::List { .. }) => {
                bench.core.listed(bench.now, bench.now, Ok(listing(vec![])), 1);
            }
            Step::Ask(Question::LookUp(job)) => {
                bench.core.looked(bench.now, bench.now, job, Ok(listing(vec![])), 1);
            }
            Step::Wait(until) => bench.wait(until.expect("more to come") - bench.now.at),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made.len(), usize::from(REQUESTS));
}

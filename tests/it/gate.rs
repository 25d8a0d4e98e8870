//! When does the whole gate wait, and for how long? Throttling, halts, the breaker, pauses, schedule and the running cap,
//! on the pure core in virtual time.

use std::time::Duration;

use sluicegate::core::breaker::FAILURES;
use sluicegate::core::gate::{self, Pause, Reason};
use sluicegate::core::schedule::Schedule;
use sluicegate::core::{
    Core, Fault, Input, Outcome, Query, Question, Rare, Request, Run, Settings, Settlement, Sparse,
    Step, Verdict, retry,
};

use crate::support::bench::{
    Bench, Inputs as _, LOOK_AGAIN, conflict, created, fault, listing, request, settings, task,
    timeout,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn many(bench: &mut Bench, count: u16) {
    for n in 0..count {
        bench.deliver(Request { priority: 1000 - n, ..request(&format!("s{n}"), "a") }, false);
    }
}

fn throttled(wait: Option<Duration>, limit: Option<(u32, Duration)>) -> Verdict {
    Verdict::Throttled { fault: fault("APIGW.0308"), wait, limit }
}

fn account(code: &str, one_resource: bool) -> Verdict {
    Verdict::Account { fault: fault(code), one_resource }
}

fn refused_connection() -> Verdict {
    Verdict::Transient {
        fault: Fault { error_msg: "refused".into(), ..Fault::default() },
        answered: false,
    }
}

fn reason(bench: &Bench) -> Option<Reason> {
    bench.core.shut().map(|shut| shut.reason)
}

/// Runs the core for `time`, every `POST` being answered at once with `verdict`; says how many there were.
fn answer_for(bench: &mut Bench, time: Duration, verdict: &Verdict) -> u32 {
    let end = bench.now.at + time;
    let mut posts = 0;
    loop {
        match bench.next() {
            Step::Post(job) => {
                posts += 1;
                bench.posted(job, verdict.clone());
            }
            Step::Wait(Some(at)) if at < end => {
                let step = at - bench.now.at;
                bench.wait(step);
            }
            Step::Wait(_) => return posts,
            other => panic!("not a POST: {other:?}"),
        }
    }
}

#[test]
fn a_429_holds_the_whole_gate_for_its_retry_after_and_costs_no_attempt() {
    let mut bench = Bench::new();
    many(&mut bench, 2);
    bench.post(throttled(Some(30 * SECOND), None));
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Throttled));
    bench.wait(29 * SECOND);
    bench.expect_wait();
    bench.wait(SECOND);
    bench.post(created("t"));
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.attempts), (Outcome::Created, 2));
}

#[test]
fn a_429_that_names_its_window_holds_the_gate_for_it() {
    let mut bench = Bench::new();
    many(&mut bench, 1);
    bench.post(throttled(None, Some((60, MINUTE))));
    bench.expect_wait();
    bench.wait(59 * SECOND);
    bench.expect_wait();
    bench.wait(SECOND);
    bench.expect_post();
}

#[test]
fn a_429_that_says_nothing_holds_the_gate_longer_each_time() {
    let mut bench = Bench::new();
    many(&mut bench, 1);
    let mut held = Vec::new();
    for _ in 0..6 {
        let job = loop {
            match bench.next() {
                Step::Post(job) => break job,
                Step::Wait(until) => {
                    let until = until.expect("its own delay");
                    bench.wait(until - bench.now.at);
                }
                other => panic!("{other:?}"),
            }
        };
        bench.posted(job, throttled(None, None));
        bench.expect_wait();
        let until = bench.core.gate().throttled_until();
        held.push((until - bench.now.at).as_secs_f64());
        bench.wait(until - bench.now.at);
    }
    assert!(held[0] <= 1.5 && held[5] >= 8.0, "{held:?}");
}

/// Three different requests are refused: by then it is the account.
fn halt(bench: &mut Bench) {
    for _ in 0..3 {
        bench.post(account("SMS.6529", false));
    }
}

#[test]
fn three_requests_refused_in_a_row_halt_the_gate_and_keep_the_work() {
    let mut bench = Bench::new();
    many(&mut bench, 50);
    bench.post(account("SMS.6529", false));
    bench.post(account("SMS.6529", false));
    assert!(bench.core.gate().breaker().opened().is_none(), "it may be those two");
    bench.post(account("SMS.6529", false));
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Halted));
    let open = bench.core.gate().breaker().opened().expect("open");
    assert_eq!(open.fault.error_code.as_deref(), Some("SMS.6529"));
    let counts = bench.core.counts();
    assert_eq!((counts.ready, counts.waiting), (47, 3), "nothing is dead-lettered");
}

#[test]
fn a_halt_is_probed_once_at_a_time_each_with_another_request_and_ever_more_seldom() {
    let mut bench = Bench::new();
    many(&mut bench, 50);
    halt(&mut bench);
    let (mut waits, mut probed) = (Vec::new(), std::collections::HashSet::new());
    for _ in 0..6 {
        let until = bench.expect_wait().expect("a probe");
        waits.push((until - bench.now.at).as_secs());
        bench.wait(until - bench.now.at);
        let probe = bench.expect_post();
        assert!(probed.insert(probe.request.run), "each with another request");
        bench.expect_wait();
        bench.posted(probe, account("SMS.6529", false));
    }
    // The clock has moved on by the milliseconds that the answer took.
    assert_eq!(
        waits.iter().map(|wait| (wait + 1) / 60 * 60).collect::<Vec<_>>(),
        [60, 120, 240, 480, 960, 960]
    );
}

#[test]
fn a_probe_that_succeeds_resumes_without_anyones_hand() {
    let mut bench = Bench::new();
    many(&mut bench, 20);
    halt(&mut bench);
    bench.wait(MINUTE);
    bench.post(created("t"));
    bench.settle();
    for _ in 0..19 {
        bench.post(created("t"));
        assert_eq!(bench.settle().outcome, Outcome::Created);
    }
}

#[test]
fn an_operator_resumes_a_halt() {
    let mut bench = Bench::new();
    many(&mut bench, 1);
    bench.post(account("SMS.6529", false));
    bench.expect_wait();
    bench.core.resume(bench.now);
    bench.expect_post();
}

#[test]
fn what_is_requeued_keeps_its_place_while_it_is_away() {
    let mut bench = Bench::with(Settings { max_hold: MINUTE, ..settings() });
    bench.core.pause(bench.now, Pause { by: "test".into(), reason: "hold".into() });
    bench.deliver(Request { priority: 9, ..request("urgent", "a") }, false);
    bench.wait(59 * SECOND);
    bench.deliver(request("fresh", "a"), false);
    bench.wait(SECOND);
    bench.core.resume(bench.now);
    let Step::Requeue(job) = bench.next() else { panic!("held for a minute") };
    let until = bench.expect_wait().expect("it waits for a moment");
    assert_eq!(reason(&bench), Some(Reason::Linger));
    bench.deliver(job.into_parts().request, true);
    assert_eq!(bench.expect_post().request.source_server_id, "urgent");
    assert_eq!(bench.expect_post().request.source_server_id, "fresh");
    assert!(until - bench.now.at < SECOND, "and no longer than that");
}

#[test]
fn a_request_without_a_time_ages_through_requeues() {
    let mut bench = Bench::with(Settings { max_hold: 20 * MINUTE, aging: 10.0, ..settings() });
    bench.core.pause(bench.now, Pause { by: "test".into(), reason: "hold".into() });
    bench.deliver(Request { enqueued_at: None.into(), ..request("old", "a") }, false);
    for _ in 0..3 {
        bench.wait(20 * MINUTE);
        let Step::Requeue(job) = bench.next() else { panic!("held for 20 minutes") };
        bench.deliver(job.into_parts().request, true);
    }
    bench.wait(MINUTE);
    // An hour is 10 points.
    let fresh =
        |name, priority| Request { enqueued_at: None.into(), priority, ..request(name, "a") };
    bench.deliver(fresh("urgent", 12), false);
    bench.deliver(fresh("hardly", 11), false);
    bench.core.resume(bench.now);
    for name in ["urgent", "old", "hardly"] {
        assert_eq!(bench.expect_post().request.source_server_id, name);
    }
}

#[test]
fn what_went_to_somebody_else_is_waited_for_but_a_moment() {
    let mut bench = Bench::with(Settings { max_hold: MINUTE, ..settings() });
    bench.core.pause(bench.now, Pause { by: "test".into(), reason: "hold".into() });
    bench.deliver(Request { priority: 9, ..request("urgent", "a") }, false);
    bench.wait(59 * SECOND);
    bench.deliver(request("fresh", "a"), false);
    bench.wait(SECOND);
    bench.core.resume(bench.now);
    assert!(matches!(bench.next(), Step::Requeue(_)));
    let until = bench.expect_wait().expect("it waits for a moment");
    bench.wait(until - bench.now.at);
    assert_eq!(bench.expect_post().request.source_server_id, "fresh");
}

#[test]
fn a_request_created_in_between_starts_the_row_of_refusals_anew() {
    let mut bench = Bench::new();
    many(&mut bench, 10);
    for _ in 0..2 {
        bench.post(account("SMS.9004", true));
        bench.post(account("SMS.9004", true));
        assert!(bench.core.gate().breaker().opened().is_none());
        bench.post(created("t"));
        bench.settle();
    }
    halt(&mut bench);
    assert!(bench.core.gate().breaker().opened().is_some());
}

#[test]
fn an_account_without_permission_costs_few_calls_and_no_request() {
    let mut bench = Bench::with(Settings {
        gate: gate::GateSettings { max_in_flight: 16, ..gate::GateSettings::default() },
        ..settings()
    });
    many(&mut bench, 500);
    let mut posts = 0;
    let mut out = Vec::new();
    let hour = bench.now.at + 60 * MINUTE;
    while bench.now.at < hour {
        match bench.next() {
            Step::Post(job) => out.push(job),
            Step::Wait(until) => {
                if let Some(job) = out.pop() {
                    posts += 1;
                    bench.posted(job, account("SMS.9004", true));
                } else {
                    let until = until.expect("a probe");
                    bench.wait(until - bench.now.at);
                }
            }
            Step::Requeue(job) => bench.deliver(job.into_parts().request, true),
            other => panic!("nothing may be settled: {other:?}"),
        }
    }
    // Those that open the breaker, what was in flight, and the probes of an hour at 1, 2, 4, 8, 16, 16 ... minutes
    assert!(posts <= 3 + 16 + 7, "{posts} calls");
    bench.core.resume(bench.now);
    let mut created_tasks = 0;
    while created_tasks < 500 {
        match bench.next() {
            Step::Post(job) => bench.posted(job, created("t")),
            Step::Settle(job, ending) => {
                assert_eq!(ending.outcome, Outcome::Created);
                created_tasks += 1;
                bench.core.settled(bench.now, job, ending, Settlement::Done);
            }
            Step::Wait(until) => {
                let until = until.expect("more to come");
                bench.wait(until - bench.now.at);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_fresh_token_that_is_refused_is_replaced_at_once_and_once() {
    let mut bench = Bench::new();
    many(&mut bench, 1);
    bench.post(Verdict::Unauthorized(fault("APIGW.0301")));
    for generation in [1, 2] {
        let Step::Refresh { generation: Some(old) } = bench.next() else { panic!("a token") };
        assert_eq!(old, generation);
        bench.core.refreshed(bench.now, Ok(generation + 1));
        let job = bench.expect_post();
        let verdict = match generation {
            1 => Verdict::Unauthorized(fault("APIGW.0301")),
            _ => created("t"),
        };
        bench.core.posted(bench.now, bench.now, job, verdict, generation + 1);
    }
    assert_eq!(bench.settle().outcome, Outcome::Created, "no minute was waited for");
}

#[test]
fn a_refused_token_is_replaced_twice_and_then_halts() {
    let mut bench = Bench::new();
    many(&mut bench, 3);
    bench.post(Verdict::Unauthorized(fault("APIGW.0301")));
    let Step::Refresh { generation: Some(1) } = bench.next() else { panic!("a fresh token") };
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Token));
    bench.core.refreshed(bench.now, Ok(2));
    let job = bench.expect_post();
    bench.core.posted(bench.now, bench.now, job, Verdict::Unauthorized(fault("APIGW.0301")), 2);
    let Step::Refresh { generation: Some(2) } = bench.next() else { panic!("another one, once") };
    bench.core.refreshed(bench.now, Ok(3));
    for _ in 0..3 {
        let job = bench.expect_post();
        let refused = Verdict::Unauthorized(fault("APIGW.0301"));
        bench.core.posted(bench.now, bench.now, job, refused, 3);
    }
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Halted));
    assert_eq!(bench.core.counts().waiting, 3, "no request has failed");
    bench.wait(MINUTE);
    let Step::Refresh { generation: None } = bench.next() else { panic!("another token") };
}

#[test]
fn a_refused_token_costs_one_log_in_however_many_calls_were_out() {
    let mut bench = Bench::new();
    many(&mut bench, 10);
    let out: Vec<_> = (0..10).map(|_| bench.expect_post()).collect();
    let mut late = Vec::new();
    for (n, job) in out.into_iter().enumerate() {
        if n < 5 {
            bench.posted(job, Verdict::Unauthorized(fault("APIGW.0307")));
        } else {
            late.push(job);
        }
    }
    let Step::Refresh { generation: Some(1) } = bench.next() else { panic!("a fresh token") };
    bench.core.refreshed(bench.now, Ok(2));
    for job in late {
        bench.posted(job, Verdict::Unauthorized(fault("APIGW.0307")));
    }
    for _ in 0..10 {
        let job = bench.expect_post();
        bench.core.posted(bench.now, bench.now, job, created("t"), 2);
        assert_eq!(bench.settle().outcome, Outcome::Created);
    }
    bench.expect_wait();
}

#[test]
fn a_token_that_cannot_be_had_halts_and_a_probe_begins_with_another_try() {
    let mut bench = Bench::new();
    many(&mut bench, 1);
    bench.post(Verdict::Unauthorized(fault("APIGW.0301")));
    assert!(matches!(bench.next(), Step::Refresh { .. }));
    bench
        .core
        .refreshed(bench.now, Err(&Fault { error_msg: "IAM is down".into(), ..Fault::default() }));
    let until = bench.expect_wait().expect("a probe");
    assert_eq!(reason(&bench), Some(Reason::Halted));
    bench.wait(until - bench.now.at);
    let Step::Refresh { generation: None } = bench.next() else { panic!("a fresh token") };
    bench.core.refreshed(bench.now, Ok(3));
    let job = bench.expect_post();
    bench.core.posted(bench.now, bench.now, job, created("t"), 3);
    assert!(bench.core.gate().breaker().opened().is_none());
}

#[test]
fn the_breaker_shuts_the_gate_after_many_transient_failures_and_lets_one_canary_go_at_a_time() {
    let mut bench = Bench::new();
    many(&mut bench, 100);
    for _ in 0..FAILURES {
        bench.post(refused_connection());
    }
    bench.expect_wait();
    let shut = bench.core.shut().expect("shut");
    assert_eq!(shut.reason, Reason::Breaker);
    let until = shut.until.expect("a canary");
    bench.wait(until - bench.now.at);
    let canary = bench.expect_post();
    bench.expect_wait();
    bench.posted(canary, created("t"));
    bench.settle();
    bench.expect_post();
    bench.expect_post();
}

#[test]
fn looks_that_are_answered_do_not_hide_that_posts_fail() {
    let mut bench = Bench::new();
    many(&mut bench, 30);
    let end = bench.now.at + 120 * MINUTE;
    while bench.now.at < end {
        match bench.next() {
            Step::Post(job) => {
                bench.posted(job, Verdict::Transient { fault: fault("SMS.6000"), answered: true });
            }
            Step::Ask(Question::LookUp(job)) => {
                bench.core.looked(bench.now, bench.now, job, Ok(listing(vec![])), 1);
                bench.wait(Duration::from_millis(5));
            }
            Step::Ask(Question::List { .. }) => {
                bench.core.listed(bench.now, bench.now, Ok(listing(vec![])), 1);
            }
            Step::Wait(until) => {
                let until = until.expect("another try");
                bench.wait(until - bench.now.at);
            }
            other => panic!("nothing may be given up: {other:?}"),
        }
    }
    assert!(bench.core.gate().is_account_trouble(), "the breaker has shut the gate");
}

#[test]
fn behind_the_breaker_attempts_do_not_count_so_an_outage_of_hours_exhausts_nothing() {
    let mut bench = Bench::new();
    many(&mut bench, 20);
    let posts = answer_for(&mut bench, 6 * 60 * MINUTE, &refused_connection());
    assert!((300..=800).contains(&posts), "{posts} canaries in six hours");
    let counts = bench.core.counts();
    assert_eq!(counts.ready + counts.waiting, 20);
}

#[test]
fn a_request_that_fails_alone_is_given_up_and_costs_the_others_nothing() {
    let failed = Verdict::Transient { fault: fault("SMS.8104"), answered: true };
    let mut bench = Bench::new();
    bench.deliver(request("bad", "a"), false);
    let mut healthy = 0;
    for n in 0.. {
        bench.deliver(Request { priority: 0, ..request(&format!("s{n}"), "a") }, false);
        match bench.next() {
            Step::Post(job) if job.request.source_server_id == "bad" => {
                bench.posted(job, failed.clone());
            }
            Step::Ask(Question::LookUp(job)) => {
                bench.core.looked(bench.now, bench.now, job, Ok(listing(vec![])), 1);
            }
            Step::Post(job) => {
                healthy += 1;
                bench.posted(job, created("t"));
                assert_eq!(bench.settle().outcome, Outcome::Created);
            }
            Step::Settle(job, ending) => {
                assert_eq!(
                    (&*job.request.source_server_id.get(), ending.outcome),
                    ("bad", Outcome::Exhausted)
                );
                assert_eq!(ending.attempts, retry::RetrySettings::default().attempts);
                break;
            }
            Step::Wait(until) => {
                let until = until.expect("more to come");
                bench.wait((until - bench.now.at).min(SECOND));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(healthy > 20, "others went on: {healthy}");
}

#[test]
fn a_permanent_answer_ends_the_request_at_once_with_what_the_api_said() {
    let mut bench = Bench::new();
    many(&mut bench, 1);
    bench.post(Verdict::Rejected(Fault { error_param: vec!["disk".into()], ..fault("SMS.6103") }));
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.attempts), (Outcome::Rejected, 1));
    let said = ending.fault.expect("what the API said");
    assert_eq!(
        (said.error_code.as_deref(), said.error_param),
        (Some("SMS.6103"), vec!["disk".to_owned()])
    );
}

#[test]
fn a_pause_holds_posts_and_lets_looks_go_on() {
    let mut bench = Bench::new();
    many(&mut bench, 2);
    bench.post(timeout());
    bench.core.pause(bench.now, Pause { by: "ops".into(), reason: "change freeze".into() });
    bench.look(vec![]);
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Paused));
    bench.core.resume(bench.now);
    bench.expect_post();
}

#[test]
fn an_alarm_ends_with_the_session_that_told_it() {
    let mut bench = Bench::new();
    bench.core.blocked(bench.now, true);
    many(&mut bench, 1);
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Blocked));
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 2, 0);
    bench.deliver_in(2, request("s-2", "n"), false);
    // The linger of a new session, at most.
    bench.wait(Duration::from_secs(6));
    bench.expect_post();
}

#[test]
fn a_broker_that_takes_no_results_stops_submissions() {
    let mut bench = Bench::with(Settings {
        gate: gate::GateSettings { max_in_flight: 4, ..gate::GateSettings::default() },
        ..settings()
    });
    many(&mut bench, 10);
    for _ in 0..4 {
        bench.post(created("t"));
        assert!(matches!(bench.next(), Step::Settle(..)), "settlements that never end");
    }
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::InFlight));
}

#[test]
fn the_most_urgent_goes_first_and_equal_ones_by_age() {
    let mut bench = Bench::new();
    bench.core.pause(bench.now, Pause { by: "test".into(), reason: "gather".into() });
    let old = request("x", "a").enqueued_at.get().map(|at| at - SECOND);
    for (source, priority, enqueued_at) in [
        ("low", 1, None),
        ("zero", 0, old),
        ("top", 65_535, None),
        ("old", 5, old),
        ("new", 5, request("x", "a").enqueued_at.get()),
    ] {
        let fresh = request(source, "a");
        let enqueued_at = enqueued_at.or(fresh.enqueued_at.get());
        bench.deliver(
            Request {
                priority,
                enqueued_at: enqueued_at.into(),
                run: Run::of(source, &[0; 32], enqueued_at, 0),
                ..fresh
            },
            false,
        );
    }
    bench.core.resume(bench.now);
    let order: Vec<String> =
        (0..5).map(|_| bench.expect_post().request.source_server_id.to_string()).collect();
    assert_eq!(order, ["top", "old", "new", "low", "zero"]);
}

#[test]
fn aging_lets_the_old_overtake_the_urgent_in_the_time_it_promises() {
    let mut bench = Bench::with(Settings { aging: 10.0, ..settings() });
    bench.core.pause(bench.now, Pause { by: "test".into(), reason: "gather".into() });
    let hours = |hours: u64| {
        request("x", "a").enqueued_at.get().map(|at| at - Duration::from_secs(hours * 3600))
    };
    for (source, priority, waited) in
        [("fresh", 100, 0), ("nine hours", 1, 9), ("ten hours", 1, 10)]
    {
        bench.deliver(
            Request { priority, enqueued_at: hours(waited).into(), ..request(source, "a") },
            false,
        );
    }
    let order = |bench: &mut Bench| -> Vec<String> {
        bench.core.resume(bench.now);
        (0..3).map(|_| bench.expect_post().request.source_server_id.to_string()).collect()
    };
    // 1 + 10 * 10 = 101 is more than 100, and 1 + 9 * 10 = 91 is not.
    assert_eq!(order(&mut bench), ["ten hours", "fresh", "nine hours"]);
}

#[test]
fn outside_of_the_schedule_only_looks_are_made() {
    // The bench begins on Monday at 12:00 UTC.
    let schedule = Schedule::new(vec!["Mon 13:00-14:00 UTC".parse().unwrap()]);
    let mut bench = Bench::with(Settings { schedule, ..settings() });
    bench.deliver(request("s1", "a"), true);
    bench.deliver(request("s2", "a"), false);
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    bench.settle();
    let until = bench.expect_wait().expect("the window");
    assert_eq!(reason(&bench), Some(Reason::Schedule));
    assert!((until - bench.now.at).as_secs() / 60 == 59, "{:?}", until - bench.now.at);
    bench.wait(60 * MINUTE);
    bench.expect_post();
}

#[test]
fn nothing_is_started_that_cannot_be_answered_before_the_window_ends() {
    let schedule = Schedule::new(vec!["Mon 11:00-12:30 UTC".parse().unwrap()]);
    let mut bench = Bench::with(Settings { schedule, answered_within: 30 * SECOND, ..settings() });
    many(&mut bench, 2);
    bench.post(created("t"));
    bench.settle();
    bench.wait(29 * MINUTE + 31 * SECOND);
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Schedule));
}

#[test]
fn a_request_waits_for_its_time_and_expires_at_its_deadline() {
    let mut bench = Bench::new();
    let at = |minutes: u64| {
        request("x", "a").enqueued_at.get().map(|at| at + Duration::from_secs(minutes * 60))
    };
    let later = Rare { not_before: at(10), ..Rare::default() };
    let never = Rare { deadline: at(5), ..later.clone() };
    for (source, rare) in [("later", later), ("never", never)] {
        bench.deliver(Request { rare: Sparse::new(rare), ..request(source, "a") }, false);
    }
    bench.expect_wait();
    bench.wait(5 * MINUTE);
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.attempts), (Outcome::Expired, 0));
    bench.expect_wait();
    bench.wait(5 * MINUTE);
    assert_eq!(bench.expect_post().request.source_server_id, "later");
}

#[test]
fn a_deadline_that_passes_in_doubt_is_looked_up_first() {
    let mut bench = Bench::new();
    let deadline = request("x", "a").enqueued_at.get().map(|at| at + 10 * SECOND);
    let rare = Sparse::new(Rare { deadline, ..Rare::default() });
    bench.deliver(Request { rare, ..request("s1", "a") }, false);
    bench.post(timeout());
    bench.look(vec![]);
    bench.wait(MINUTE);
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

/// Answers one whole count: no tasks, but for these in RUNNING.
fn count(bench: &mut Bench, running: &[&str]) {
    for state in ["READY", "RUNNING", "SYNCING"] {
        match bench.next() {
            Step::Ask(Question::Count(query)) => {
                assert_eq!(query, Query::State { state, offset: 0 });
            }
            other => panic!("expected a count of {state}, not {other:?}"),
        }
        let of = if state == "RUNNING" { running } else { &[] };
        let tasks = of.iter().map(|source| task(source, "a", state, -60)).collect();
        bench.core.counted(bench.now, bench.now, Ok(listing(tasks)), 1);
    }
}

#[test]
fn a_full_account_holds_what_starts_and_a_freed_place_goes_to_the_most_urgent_by_then() {
    let mut bench = Bench::with(Settings { max_running: 2, ..settings() });
    bench.deliver(request("low", "a"), false);
    count(&mut bench, &["f1", "f2"]);
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Running));
    bench.deliver(Request { starts: false, priority: 0, ..request("still", "a") }, false);
    assert_eq!(bench.expect_post().request.source_server_id, "still");
    bench.deliver(Request { priority: 9, ..request("urgent", "a") }, false);
    bench.wait(MINUTE);
    count(&mut bench, &["f1"]);
    assert_eq!(bench.expect_post().request.source_server_id, "urgent");
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Running));
}

#[test]
fn the_account_is_counted_for_what_is_tried_again_alone_as_well() {
    let mut bench = Bench::with(Settings { max_running: 2, ..settings() });
    // Whatever an earlier worker sent can be seen by now.
    bench.wait(LOOK_AGAIN);
    bench.deliver(request("s1", "a"), false);
    bench.deliver(Request { priority: 9, ..request("s2", "b") }, false);
    count(&mut bench, &[]);
    bench.post(Verdict::Account { fault: fault("SMS.0204"), one_resource: false });
    bench.post(created("t"));
    bench.settle();
    // By the time that it is tried again nobody knows how many run.
    bench.wait(10 * MINUTE);
    count(&mut bench, &["s2"]);
    assert_eq!(bench.expect_post().request.source_server_id, "s2");
}

#[test]
fn an_unreachable_count_shuts_the_gate_rather_than_guess() {
    let mut bench = Bench::with(Settings { max_running: 2, ..settings() });
    bench.deliver(request("s1", "a"), false);
    assert!(matches!(bench.next(), Step::Ask(Question::Count(_))));
    bench.core.counted(bench.now, bench.now, Err(timeout()), 1);
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Running));
}

#[test]
fn a_place_is_requeued_by_a_refusal_and_kept_through_doubt() {
    let mut bench = Bench::with(Settings { max_running: 1, ..settings() });
    // Whatever an earlier worker sent can be seen by now.
    bench.wait(LOOK_AGAIN);
    bench.deliver(Request { priority: 9, ..request("refused", "a") }, false);
    bench.deliver(Request { priority: 8, ..request("unclear", "a") }, false);
    bench.deliver(request("last", "a"), false);
    count(&mut bench, &[]);
    bench.post(Verdict::Rejected(fault("SMS.6103")));
    bench.settle();
    bench.post(timeout());
    bench.look(vec![]);
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Running), "it may have been created");
}

#[test]
fn a_list_that_shows_nothing_frees_no_place_of_a_call_that_is_under_way() {
    let mut bench = Bench::with(Settings { max_running: 1, ..settings() });
    bench.wait(LOOK_AGAIN);
    bench.clear_the_first_of_two();
    // The other's second look-up would be due; with so many in doubt a list takes its place.
    for n in 1..=8 {
        bench.deliver(request(&format!("s{n}"), "a"), true);
    }
    count(&mut bench, &[]);
    let job = bench.expect_post();
    assert!(matches!(bench.next(), Step::Ask(Question::List { offset: 0 })));
    bench.core.listed(bench.now, bench.now, Ok(listing(vec![])), 1);
    assert_eq!(bench.core.running().known(), Some(1));
    bench.posted(job, created("t"));
    bench.settle();
    bench.look(vec![task("s0", "a", "RUNNING", 0)]);
    assert_eq!(bench.settle().outcome, Outcome::Conflict);
}

#[test]
fn a_conflict_is_an_answer_of_a_healthy_api() {
    let mut bench = Bench::new();
    many(&mut bench, u16::try_from(FAILURES).unwrap() + 5);
    for _ in 0..FAILURES + 5 {
        let job = loop {
            match bench.next() {
                Step::Post(job) => break job,
                Step::Ask(Question::LookUp(_) | Question::List { .. }) => {}
                other => panic!("{other:?}"),
            }
        };
        bench.posted(job, conflict());
    }
    assert_ne!(reason(&bench), Some(Reason::Breaker));
}

#[test]
fn a_stopping_core_starts_nothing_and_ends_what_it_has() {
    let mut bench = Bench::new();
    many(&mut bench, 3);
    let out = bench.expect_post();
    bench.core.stop(bench.now);
    bench.expect_wait();
    assert!(!bench.core.is_quiet());
    bench.posted(out, created("t"));
    bench.settle();
    assert!(bench.core.is_quiet());
    assert_eq!(bench.core.drain().len(), 2);
    let _: &Core<u64> = &bench.core;
}

#[test]
fn a_deadline_and_a_not_before_go_by_the_wall_clock_whatever_the_monotonic_one_does() {
    let mut bench = Bench::new();
    let at = |minutes: i64| {
        request("x", "a").enqueued_at.get().map(|at| at + jiff::SignedDuration::from_mins(minutes))
    };
    let later = |minutes| Rare { not_before: at(minutes), ..Rare::default() };
    let ends = |minutes| Rare { deadline: at(minutes), ..Rare::default() };
    let asked = [("later", later(60)), ("much later", later(600)), ("late", ends(60))];
    for (source, rare) in asked {
        bench.deliver(Request { rare: Sparse::new(rare), ..request(source, "a") }, false);
    }
    // Until then nothing may go, so the one with a deadline waits as well.
    bench.core.pause(bench.now, Pause { by: "op".into(), reason: "lunch".into() });
    bench.expect_wait();
    // The machine sleeps for two hours: its monotonic clock stands.
    bench.now.wall += 120 * MINUTE;
    assert_eq!(bench.settle().outcome, Outcome::Expired, "also while the gate is shut");
    bench.core.resume(bench.now);
    assert_eq!(bench.expect_post().request.source_server_id, "later");
    bench.expect_wait();
    // Somebody sets the clock back: what is to start at its time starts then, not ten hours after the start of the worker.
    bench.now.wall -= 60 * MINUTE;
    bench.wait(8 * 60 * MINUTE);
    bench.expect_wait();
    bench.wait(60 * MINUTE);
    assert_eq!(bench.expect_post().request.source_server_id, "much later");
}

/// A full window waits behind a gate that is shut for hours: what each request of it takes must not grow by that.
#[test]
fn what_comes_while_the_gate_is_shut_holds_no_more_than_other_requests() {
    let mut bench = Bench::new();
    bench.core.pause(bench.now, Pause { by: "op".into(), reason: "lunch".into() });
    bench.expect_wait();
    bench.wait(MINUTE);
    bench.expect_wait();
    for number in 0..3 {
        bench.deliver(request(&format!("source-{number}"), "a"), false);
        bench.expect_wait();
    }
    let held = bench.core.drain();
    assert_eq!(held.len(), 3);
    assert!(held.iter().all(|job| job.progress.is_blank()));
}

/// Halted for a refused token, with the next probe far away.
fn halted_by_its_token() -> Bench {
    let gate = gate::GateSettings { probe: 10 * MINUTE, ..settings().gate };
    let mut bench = Bench::with(Settings { gate, ..settings() });
    many(&mut bench, 3);
    bench.post(Verdict::Unauthorized(fault("APIGW.0301")));
    assert!(matches!(bench.next(), Step::Refresh { .. }));
    let none = Fault { error_msg: "there is no other one".into(), ..Fault::default() };
    bench.core.refreshed(bench.now, Err(&none));
    bench.expect_wait();
    assert_eq!(reason(&bench), Some(Reason::Halted));
    bench
}

#[test]
fn a_renewed_credential_is_tried_at_once_and_opens_the_gate() {
    let mut bench = halted_by_its_token();
    bench.core.tell(bench.now, Input::Renewed);
    let Step::Refresh { generation: None } = bench.next() else { panic!("a probe begins with it") };
    bench.core.refreshed(bench.now, Ok(2));
    let job = bench.expect_post();
    bench.core.posted(bench.now, bench.now, job, created("t"), 2);
    bench.settle();
    bench.expect_post();
}

#[test]
fn credentials_that_change_again_and_again_are_tried_once_an_interval() {
    let mut bench = halted_by_its_token();
    let (end, mut probes) = (bench.now.at + 60 * MINUTE, 0);
    while bench.now.at < end {
        // Somebody writes another wrong token every second.
        bench.core.tell(bench.now, Input::Renewed);
        match bench.next() {
            Step::Refresh { .. } => bench.core.refreshed(bench.now, Ok(2)),
            Step::Post(job) => {
                probes += 1;
                let verdict = Verdict::Unauthorized(fault("APIGW.0301"));
                bench.core.posted(bench.now, bench.now, job, verdict, 2);
            }
            Step::Wait(_) => bench.wait(SECOND),
            other => panic!("{other:?}"),
        }
    }
    assert!((5..=7).contains(&probes), "{probes} probes in an hour of ten minutes each");
}

#[test]
fn a_renewed_credential_opens_no_breaker_of_failures_and_is_no_news_to_an_open_gate() {
    let mut bench = Bench::new();
    many(&mut bench, 100);
    bench.core.tell(bench.now, Input::Renewed);
    for _ in 0..FAILURES {
        bench.post(refused_connection());
    }
    let until = bench.expect_wait();
    bench.core.tell(bench.now, Input::Renewed);
    assert_eq!(bench.expect_wait(), until);
}

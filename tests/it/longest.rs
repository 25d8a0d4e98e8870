//! Several things hold the next request at once: which one are people told of? What shuts longest is what is said.

use std::time::Duration;

use sluicegate::core::gate::{GateSettings, Pause, Reason, Shut};
use sluicegate::core::{Core, Hot, Input, Moment, Now, Settings, Steer, Step, Verdict};

use crate::support::bench::{Bench, Inputs as _, fault, request, settings, start};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// From what holds longest to what holds shortest, where no times are known or all are the same.
const ORDER: [Reason; 14] = [
    // Somebody has to end these.
    Reason::Stopping,
    Reason::NoSession,
    Reason::Blocked,
    Reason::Paused,
    // A time or an answer ends these.
    Reason::Unpublished,
    Reason::Halted,
    Reason::Token,
    Reason::Breaker,
    Reason::Throttled,
    Reason::Schedule,
    Reason::Running,
    // One of those in flight ends this.
    Reason::InFlight,
    // And with these it is only not its turn yet.
    Reason::Linger,
    Reason::Rate,
];

fn shut(reason: Reason, until: u64) -> Shut {
    Shut { reason, until: Some(Moment::from_nanos(until * 1_000_000_000)) }
}

fn somebody(reason: Reason) -> bool {
    matches!(reason, Reason::Stopping | Reason::NoSession | Reason::Blocked | Reason::Paused)
}

#[test]
fn of_each_pair_of_reasons_the_one_that_holds_longest_is_said() {
    assert_eq!(ORDER.iter().filter(|one| Reason::ALL.contains(one)).count(), Reason::ALL.len());
    for (i, longer) in ORDER.into_iter().enumerate() {
        for shorter in ORDER.into_iter().skip(i + 1) {
            let (first, then) = (shut(longer, 60), shut(shorter, 60));
            assert_eq!(Shut::longest([first, then]), Some(first), "{longer:?}, {shorter:?}");
            assert_eq!(Shut::longest([then, first]), Some(first), "{longer:?}, {shorter:?}");
            // Nothing goes before the last of all times, whatever is said.
            let later = Shut::longest([first, shut(shorter, 300)]).unwrap();
            assert_eq!(later.until, shut(shorter, 300).until, "{longer:?}, {shorter:?}");
        }
    }
}

#[test]
fn of_two_that_end_at_a_time_the_later_one_is_said() {
    let ends = |reason: &Reason| !somebody(*reason);
    for longer in ORDER.iter().copied().filter(ends) {
        for shorter in ORDER.iter().copied().filter(ends).filter(|other| *other != longer) {
            let turn = |reason| matches!(reason, Reason::InFlight | Reason::Linger | Reason::Rate);
            let said = Shut::longest([shut(longer, 300), shut(shorter, 60)]).unwrap();
            assert_eq!(said.until, shut(longer, 300).until);
            match (turn(longer), turn(shorter)) {
                // A gate that is shut is not open, however short it is and however long the line.
                (true, false) => assert_eq!(said.reason, shorter),
                (false, _) => assert_eq!(said.reason, longer),
                (true, true) => assert!(turn(said.reason)),
            }
        }
    }
    assert_eq!(Shut::longest([]), None);
}

fn reason(core: &Bench) -> Reason {
    core.core.shut().map(|shut| shut.reason).expect("shut")
}

fn pause() -> Pause {
    Pause { by: "anna".into(), reason: "maintenance".into() }
}

/// What an API can have said, so that the gate is shut.
fn refused(bench: &mut Bench, reason: Reason) {
    let fault = fault("SMS.1");
    match reason {
        Reason::Throttled => {
            bench.post(Verdict::Throttled { fault, wait: Some(30 * SECOND), limit: None });
        }
        Reason::Token => {
            bench.post(Verdict::Unauthorized(fault));
            assert!(matches!(bench.next(), Step::Refresh { .. }));
        }
        Reason::Halted => {
            for _ in 0..3 {
                bench.post(Verdict::Account { fault: fault.clone(), one_resource: false });
                bench.wait(61 * SECOND);
            }
            let _ = bench.next();
        }
        Reason::Breaker => {
            for _ in 0..10 {
                bench.post(Verdict::Transient { fault: fault.clone(), answered: false });
                bench.wait(61 * SECOND);
            }
        }
        Reason::InFlight | Reason::Rate => drop(bench.expect_post()),
        other => panic!("no answer shuts it for {other:?}"),
    }
}

/// A core with many requests, a rate that is spent by one call, and one thing that an answer has shut it for.
fn spent(by: Reason) -> Bench {
    let max_in_flight = if by == Reason::InFlight { 1 } else { 100 };
    let gate = GateSettings {
        rates: vec!["1/min".parse().unwrap()],
        max_in_flight,
        probe: 10 * MINUTE,
        ..settings().gate
    };
    let mut bench = Bench::with(Settings { gate, ..settings() });
    for n in 0..30 {
        bench.deliver(request(&format!("s{n}"), "a"), false);
    }
    bench.wait(61 * SECOND);
    refused(&mut bench, by);
    bench
}

fn nights() -> Hot {
    // The bench's clock begins at noon, UTC.
    let windows = ["Mon-Sun 22:00-06:00 UTC"].map(|window| window.parse().unwrap()).to_vec();
    let schedule = sluicegate::core::schedule::Schedule::new(windows);
    Hot { rates: vec!["1/min".parse().unwrap()], max_in_flight: 100, max_running: 0, schedule }
}

#[test]
fn a_gate_that_is_paused_or_blocked_says_so_whatever_the_api_said_and_while_the_rate_is_spent() {
    for by in [Reason::Throttled, Reason::Token, Reason::Breaker, Reason::InFlight, Reason::Rate] {
        let mut bench = spent(by);
        bench.core.pause(bench.now, pause());
        bench.expect_wait();
        assert_eq!(reason(&bench), Reason::Paused, "{by:?}");
        bench.core.blocked(bench.now, true);
        bench.expect_wait();
        assert_eq!(reason(&bench), Reason::Blocked, "{by:?}");
        bench.core.blocked(bench.now, false);
        bench.core.resume(bench.now);
        bench.core.tell(bench.now, Input::Reconfigured(nights()));
        bench.expect_wait();
        assert_eq!(reason(&bench), Reason::Schedule, "{by:?}");
    }
}

#[test]
fn a_pause_after_a_new_rate_is_what_is_said_and_so_is_one_that_was_there_before_a_restart() {
    // `gate rate` starts spent.
    let mut bench = Bench::new();
    bench.deliver(request("s", "a"), false);
    let rates = vec!["1/min".parse().unwrap()];
    bench.core.tell(bench.now, Input::Ordered(Steer::Set { pause: None, rates: rates.clone() }));
    bench.expect_wait();
    assert_eq!(reason(&bench), Reason::Rate);
    bench.core.tell(bench.now, Input::Ordered(Steer::Set { pause: Some(pause()), rates }));
    bench.expect_wait();
    assert_eq!(reason(&bench), Reason::Paused);

    // A restart: what operators have set comes before the session, and the first requests wait for company.
    let now = Now { at: Moment::from_nanos(1_000_000_000), wall: start() };
    let gate = GateSettings { rates: vec!["1/min".parse().unwrap()], ..settings().gate };
    let mut core = Core::<u64>::new(Settings { gate, ..settings() }, now);
    core.pause(now, pause());
    core.session_opened(now, 1, 5);
    assert!(matches!(core.next(now), Step::Wait(Some(_))), "the linger's end is waited for");
    assert_eq!(core.shut().map(|shut| shut.reason), Some(Reason::Paused));
    // And with nothing to send at all, too.
    let later = Now { at: now.at + 10 * MINUTE, wall: now.wall + 10 * MINUTE };
    assert!(matches!(core.next(later), Step::Wait(_)));
    assert_eq!(core.shut().map(|shut| shut.reason), Some(Reason::Paused));
}

#[test]
fn outside_of_the_schedule_an_idle_gate_does_not_say_that_the_next_request_goes_at_once() {
    let mut bench = Bench::new();
    bench.core.tell(bench.now, Input::Reconfigured(nights()));
    bench.expect_wait();
    assert_eq!(reason(&bench), Reason::Schedule);
}

#[test]
fn a_halt_is_said_while_the_rate_is_spent_with_the_time_of_whichever_is_later() {
    let bench = spent(Reason::Halted);
    assert_eq!(reason(&bench), Reason::Halted);
    let until = bench.core.shut().and_then(|shut| shut.until).expect("a probe");
    assert!(until > bench.now.at + 60 * SECOND, "{until:?}");
}

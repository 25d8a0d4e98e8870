//! When is a request looked up before it is sent, and what does a look-up mean? Each rule by name, on the pure core in
//! virtual time.

use std::time::Duration;

use jiff::SignedDuration;
use sluicegate::contract::Violation;
use sluicegate::core::gate::{self, Pause, Reason};
use sluicegate::core::{
    Fault, Job, Listing, Outcome, Question, Rare, Request, Run, Settings, Settlement, Sparse, Step,
    Task, Verdict, retry,
};

use crate::support::bench::{
    Bench, Inputs as _, LOOK_AGAIN, conflict, created, fault, listing, request, settings, task,
    timeout,
};

#[test]
fn a_fresh_request_is_sent_without_a_look() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(created("t1"));
    let ending = bench.settle();
    assert_eq!(
        (ending.outcome, ending.task_id.as_deref(), ending.look_ups),
        (Outcome::Created, Some("t1"), 0)
    );
}

#[test]
fn after_an_ambiguous_answer_two_empty_looks_a_look_again_apart_come_before_the_next_post() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(timeout());
    bench.look(vec![]);
    let second = bench.expect_wait().expect("a second look-up");
    assert!(second + Duration::from_millis(10) >= bench.now.at + LOOK_AGAIN);
    bench.wait(LOOK_AGAIN.saturating_sub(Duration::from_secs(1)));
    bench.expect_wait();
    bench.wait(Duration::from_secs(1));
    bench.look(vec![]);
    bench.post(created("t1"));
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.attempts, ending.look_ups), (Outcome::Created, 2, 2));
}

#[test]
fn a_task_that_appears_between_the_two_looks_is_found() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(timeout());
    bench.look(vec![]);
    bench.wait(LOOK_AGAIN);
    bench.look(vec![task("s1", "a", "READY", 0)]);
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.task_state.as_deref()), (Outcome::Created, Some("READY")));
    bench.expect_wait();
}

#[test]
fn a_doubt_is_remembered_however_many_other_servers_come() {
    let failed = Verdict::Transient { fault: fault("SMS.6000"), answered: true };
    for verdict in [timeout(), failed] {
        let retry = retry::RetrySettings {
            initial: Duration::from_secs(200),
            ..retry::RetrySettings::default()
        };
        let gate = gate::GateSettings { retry, ..settings().gate };
        let mut bench = Bench::with(Settings { window: 10, gate, ..settings() });
        bench.deliver(request("s0", "a"), false);
        let looks_at_once = matches!(verdict, Verdict::Ambiguous { .. });
        bench.post(verdict);
        if looks_at_once {
            bench.look(vec![]);
        }
        for other in 1..2_000 {
            bench.deliver(request(&format!("s{other}"), "a"), false);
            bench.post(created("t"));
            bench.settle();
        }
        bench.deliver(request("s0", "b"), false);
        assert_eq!(&*bench.expect_look().request.name.get(), "b");
    }
}

#[test]
fn a_redelivery_from_elsewhere_is_in_doubt() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.two_empty_looks();
    bench.post(created("t1"));
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

#[test]
fn a_replay_is_in_doubt() {
    let mut bench = Bench::new();
    let rare = Sparse::new(Rare { replay: 1, ..Rare::default() });
    bench.deliver(Request { rare, ..request("s1", "a") }, false);
    bench.two_empty_looks();
    bench.post(created("t1"));
}

#[test]
fn what_this_worker_requeued_itself_is_not_in_doubt() {
    let mut bench = Bench::with(Settings { max_hold: Duration::from_secs(60), ..settings() });
    bench.core.pause(bench.now, gate::Pause { by: "me".into(), reason: "test".into() });
    bench.deliver(request("s1", "a"), false);
    bench.wait(Duration::from_secs(61));
    assert!(matches!(bench.next(), Step::Requeue(_)));
    bench.deliver(request("s1", "a"), true);
    bench.core.resume(bench.now);
    bench.post(created("t1"));
}

#[test]
fn a_doubt_survives_being_requeued() {
    let mut bench = Bench::with(Settings { max_hold: Duration::from_secs(30), ..settings() });
    bench.deliver(request("s1", "a"), false);
    bench.post(timeout());
    bench.look(vec![]);
    bench.wait(Duration::from_secs(31));
    assert!(matches!(bench.next(), Step::Requeue(_)));
    bench.deliver(request("s1", "a"), true);
    bench.expect_wait();
    bench.wait(Duration::from_secs(15));
    assert!(matches!(bench.next(), Step::Ask(Question::LookUp(_))), "never a POST");
}

#[test]
fn what_was_requeued_is_in_doubt_after_a_lost_session() {
    let mut bench = Bench::with(Settings { max_hold: Duration::from_secs(60), ..settings() });
    bench.core.pause(bench.now, gate::Pause { by: "me".into(), reason: "test".into() });
    bench.deliver(request("s1", "a"), false);
    bench.wait(Duration::from_secs(61));
    assert!(matches!(bench.next(), Step::Requeue(_)));
    bench.core.session_lost(bench.now);
    bench.core.resume(bench.now);
    bench.core.session_opened(bench.now, 2, 0);
    bench.deliver_in(2, request("s1", "a"), true);
    bench.wait(Duration::from_secs(1));
    bench.expect_look();
}

#[test]
fn a_source_server_with_a_known_task_is_looked_up_first() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(created("t1"));
    bench.settle();
    bench.deliver(request("s1", "b"), false);
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.attempts), (Outcome::Conflict, 0));
    assert!(ending.reason.contains("task-s1-a"), "{}", ending.reason);
}

#[test]
fn one_empty_look_is_enough_where_the_known_task_is_gone() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(created("t1"));
    bench.settle();
    bench.deliver(request("s1", "b"), false);
    bench.look(vec![task("s1", "a", "ABORT", 0)]);
    bench.post(created("t2"));
}

#[test]
fn one_empty_look_is_enough_after_an_answered_transient_failure() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(Verdict::Transient { fault: fault("SMS.6000"), answered: true });
    bench.expect_wait();
    bench.wait(Duration::from_secs(2));
    bench.look(vec![]);
    bench.post(created("t1"));
}

#[test]
fn what_surely_was_not_sent_is_sent_again_without_a_look() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(Verdict::Transient { fault: Fault::default(), answered: false });
    bench.expect_wait();
    bench.wait(Duration::from_secs(2));
    bench.post(created("t1"));
}

#[test]
fn a_copy_waits_for_the_verdict_and_finds_the_task() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.deliver(Request { run: Run::of("copy", &[1; 32], None, 0), ..request("s1", "a") }, false);
    let first = bench.expect_post();
    bench.expect_wait();
    bench.posted(first, created("t1"));
    let (job, ending) = bench.expect_settled();
    bench.expect_wait();
    bench.core.settled(bench.now, job, Box::new(ending), Settlement::Done);
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

#[test]
fn a_copy_of_an_ambiguous_post_makes_two_looks_of_its_own() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.deliver(
        Request { run: Run::of("copy", &[1; 32], None, 0), priority: 0, ..request("s1", "a") },
        false,
    );
    bench.post(timeout());
    bench.look(vec![]);
    bench.look(vec![]);
    bench.expect_wait();
}

#[test]
fn an_older_task_that_a_copy_finds_does_not_end_the_doubt_of_a_post() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(timeout());
    bench.look(vec![]);
    bench.deliver(request("s1", "b"), true);
    bench.look(vec![task("s1", "b", "MIGRATE_SUCCESS", -600)]);
    assert_eq!(bench.settle().outcome, Outcome::Exists);
    // The POST for "a" may still be on its way.
    bench.deliver(request("s1", "c"), false);
    bench.look(vec![task("s1", "b", "MIGRATE_SUCCESS", -600)]);
    bench.expect_wait();
    bench.wait(LOOK_AGAIN);
    let late = || vec![task("s1", "a", "RUNNING", 0)];
    bench.look(late());
    assert_eq!(bench.settle().outcome, Outcome::Created);
    bench.look(late());
    assert_eq!(bench.settle().outcome, Outcome::Conflict);
}

#[test]
fn a_verdict_that_outlives_its_session_settles_the_redelivery_without_a_second_post() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    let out = bench.expect_post();
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 2, 0);
    bench.deliver_in(2, request("s1", "a"), true);
    bench.wait(Duration::from_secs(1));
    bench.expect_wait();
    bench.posted(out, created("t1"));
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.task_id.as_deref()), (Outcome::Created, Some("t1")));
    bench.expect_wait();
}

#[test]
fn a_settlement_that_lost_its_session_is_made_again() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(created("t1"));
    let (job, ending) = bench.expect_settled();
    bench.core.session_lost(bench.now);
    bench.core.settled(bench.now, job, Box::new(ending), Settlement::Void);
    bench.core.session_opened(bench.now, 2, 0);
    bench.deliver_in(2, request("s1", "a"), true);
    assert_eq!(bench.settle().task_id.as_deref(), Some("t1"));
}

#[test]
fn an_acked_message_that_comes_back_is_only_acknowledged() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(created("t1"));
    bench.settle();
    bench.deliver(request("s1", "a"), true);
    assert!(matches!(bench.next(), Step::Acknowledge(_)));
}

#[test]
fn the_same_words_published_anew_are_a_new_request() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(Verdict::Rejected(fault("SMS.6603")));
    assert_eq!(bench.settle().outcome, Outcome::Rejected);
    bench.deliver(request("s1", "a"), false);
    bench.post(created("t1"));
}

#[test]
fn rule_1_a_same_name_task_made_since_the_enqueueing_is_ours_whatever_its_state() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.look(vec![task("s1", "a", "MIGRATE_FAIL", 1)]);
    let ending = bench.settle();
    assert_eq!(
        (ending.outcome, ending.task_state.as_deref()),
        (Outcome::Created, Some("MIGRATE_FAIL"))
    );
}

#[test]
fn rule_1_reaches_back_by_the_clock_slack_and_no_further() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.look(vec![task("s1", "a", "MIGRATE_FAIL", -4)]);
    assert_eq!(bench.settle().outcome, Outcome::Created);
    bench.deliver(request("s2", "a"), true);
    bench.look(vec![task("s2", "a", "MIGRATE_FAIL", -6)]);
    bench.expect_wait();
}

#[test]
fn rule_1_is_corrected_by_the_apis_clock() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    let job = bench.expect_look();
    let date = Some(bench.now.wall - SignedDuration::from_hours(1));
    let listing = Listing { date, ..listing(vec![task("s1", "a", "MIGRATE_FAIL", -60)]) };
    bench.core.looked(bench.now, bench.now, job, Ok(listing), 1);
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

#[test]
fn rule_2_a_live_task_of_the_same_name_exists_and_of_another_is_a_conflict() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.look(vec![task("s1", "a", "RUNNING", -600)]);
    assert_eq!(bench.settle().outcome, Outcome::Exists);
    bench.deliver(request("s2", "a"), true);
    bench.look(vec![task("s2", "other", "RUNNING", -600)]);
    assert_eq!(bench.settle().outcome, Outcome::Conflict);
}

#[test]
fn rule_2_an_unknown_state_counts_as_not_ended() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.look(vec![task("s1", "other", "SOMETHING_NEW", -600)]);
    assert_eq!(bench.settle().outcome, Outcome::Conflict);
}

#[test]
fn rule_3_an_earlier_success_exists_unless_it_is_wanted_again() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.look(vec![task("s1", "a", "MIGRATE_SUCCESS", -600)]);
    assert_eq!(bench.settle().outcome, Outcome::Exists);
    let rare = Sparse::new(Rare { again: true, ..Rare::default() });
    bench.deliver(Request { rare, ..request("s2", "a") }, true);
    bench.look(vec![task("s2", "a", "MIGRATE_SUCCESS", -600)]);
    bench.wait(LOOK_AGAIN);
    bench.look(vec![task("s2", "a", "MIGRATE_SUCCESS", -600)]);
    bench.post(created("t2"));
}

#[test]
fn rule_4_other_ended_tasks_are_nothing() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    let rows = || vec![task("s1", "a", "ABORT", -600), task("s1", "other", "MIGRATE_FAIL", 1)];
    bench.look(rows());
    bench.wait(LOOK_AGAIN);
    bench.look(rows());
    bench.post(created("t1"));
}

#[test]
fn rows_of_other_source_servers_are_passed_over() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.look(vec![task("s2", "a", "RUNNING", 1)]);
    bench.wait(LOOK_AGAIN);
    bench.look(vec![task("s2", "a", "RUNNING", 1)]);
    bench.post(created("t1"));
}

#[test]
fn without_an_enqueue_time_a_live_task_exists_and_an_ended_one_is_never_a_reason_to_send() {
    let mut bench = Bench::new();
    bench.deliver(Request { enqueued_at: None.into(), ..request("s1", "a") }, true);
    bench.look(vec![task("s1", "a", "RUNNING", 1)]);
    assert_eq!(bench.settle().outcome, Outcome::Exists);
    bench.deliver(Request { enqueued_at: None.into(), ..request("s2", "a") }, true);
    bench.look(vec![task("s2", "a", "MIGRATE_FAIL", 1)]);
    assert_eq!(bench.settle().outcome, Outcome::Unknown);
}

#[test]
fn a_conflict_answer_that_was_our_own_earlier_post_is_created() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(conflict());
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

/// Answers one page of the list of all tasks.
fn list(bench: &mut Bench, tasks: Vec<Task>) {
    let Step::Ask(Question::List { offset: 0 }) = bench.next() else {
        panic!("a list of all tasks")
    };
    bench.core.listed(bench.now, bench.now, Ok(listing(tasks)), 1);
}

#[test]
fn a_conflict_that_the_source_does_not_explain_is_sought_at_the_target_ended_tasks_included() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(conflict());
    bench.two_empty_looks();
    list(&mut bench, vec![task("s9", "stale", "MIGRATE_FAIL", -600)]);
    let ending = bench.settle();
    assert_eq!(
        (ending.outcome, ending.task_id.as_deref()),
        (Outcome::Conflict, Some("task-s9-stale"))
    );
    assert!(
        ending.reason.contains("stale") && ending.reason.contains("MIGRATE_FAIL"),
        "{}",
        ending.reason
    );
}

#[test]
fn a_conflict_that_nothing_explains_is_rejected_with_what_the_api_said() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(conflict());
    bench.two_empty_looks();
    list(&mut bench, vec![]);
    let ending = bench.settle();
    assert_eq!(ending.outcome, Outcome::Rejected);
    assert_eq!(ending.fault.unwrap().error_code.as_deref(), Some("SMS.7605"));
}

#[test]
fn without_look_ups_doubt_is_unknown() {
    let mut bench = Bench::with(Settings { look_up: false, ..settings() });
    bench.deliver(request("s1", "a"), false);
    bench.post(timeout());
    let ending = bench.settle();
    assert_eq!(ending.outcome, Outcome::Unknown);
    assert!(ending.reason.contains("api.look_up"), "{}", ending.reason);
}

#[test]
fn an_identity_that_may_create_but_not_list_settles_doubt_as_unknown() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    bench.look_fails(Verdict::Account { fault: fault("SMS.9004"), one_resource: true });
    bench.expect_wait();
    bench.deliver(request("s2", "b"), false);
    bench.post(created("t2"));
    bench.settle();
    bench.wait(Duration::from_secs(60));
    bench.look_fails(Verdict::Account { fault: fault("SMS.9004"), one_resource: true });
    assert_eq!(bench.settle().outcome, Outcome::Unknown);
}

#[test]
fn a_post_that_was_under_way_when_looks_were_refused_does_not_show_who_may_list() {
    let mut bench = Bench::new();
    bench.deliver(request("s2", "b"), false);
    let Step::Post(under_way) = bench.next() else { panic!() };
    let begun = bench.now;
    bench.deliver(request("s1", "a"), true);
    // The account is frozen now; the POST got through before.
    let frozen = Verdict::Account { fault: fault("SMS.6525"), one_resource: false };
    bench.look_fails(frozen.clone());
    bench.wait(Duration::from_millis(100));
    bench.core.posted(bench.now, begun, under_way, created("t2"), 1);
    bench.settle();
    let mut looks = 0;
    while looks < 3 {
        match bench.next() {
            Step::Ask(Question::LookUp(job)) => {
                bench.core.looked(bench.now, bench.now, job, Err(frozen.clone()), 1);
                looks += 1;
            }
            Step::Wait(Some(_)) => bench.wait(Duration::from_secs(60)),
            other => panic!("nothing may be settled: {other:?}"),
        }
    }
    bench.wait(Duration::from_secs(600));
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

#[test]
fn an_invalid_request_whose_settlement_is_void_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(created("t1"));
    bench.settle();
    let remembered = bench.core.remembered();
    let at = bench.now.at;
    let wrong = || Job::new(request("s2", "b"), 9, 1, false, at);
    let told =
        vec![Violation { pointer: "/name".into(), found: "1".into(), allowed: "a text".into() }];
    bench.core.invalid(bench.now, wrong(), told.clone());
    let (job, ending) = bench.expect_settled();
    bench.core.settled(bench.now, job, Box::new(ending), Settlement::Void);
    assert_eq!(bench.core.remembered(), remembered);
    // It is told again from its next delivery.
    bench.core.invalid(bench.now, wrong(), told);
    assert_eq!(bench.settle().outcome, Outcome::Invalid);
}

#[test]
fn looks_refused_before_any_post_was_allowed_keep_the_work() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    for _ in 0..200 {
        match bench.next() {
            Step::Ask(Question::LookUp(job)) => {
                let verdict = Verdict::Account { fault: fault("SMS.9004"), one_resource: true };
                bench.core.looked(bench.now, bench.now, job, Err(verdict), 1);
            }
            Step::Wait(Some(_)) => bench.wait(Duration::from_secs(60)),
            Step::Requeue(_) => bench.deliver(request("s1", "a"), true),
            other => panic!("nothing may be settled: {other:?}"),
        }
    }
    assert_eq!(bench.core.shut().map(|shut| shut.reason), Some(Reason::Halted));
}

#[test]
fn a_look_that_fails_is_made_again_and_never_creates() {
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), true);
    for _ in 0..5 {
        bench.look_fails(timeout());
        // Alone in doubt, it asks whether look-ups are answered at all.
        if let Step::Ask(Question::Any) = bench.next() {
            bench.core.asked(bench.now, bench.now, Err(timeout()), 1);
        }
        bench.wait(Duration::from_secs(60));
    }
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

#[test]
fn many_in_doubt_are_answered_by_two_lists_and_what_is_fresh_goes_on() {
    let mut bench = Bench::new();
    for n in 0..50 {
        bench.deliver(request(&format!("s{n}"), "a"), true);
    }
    bench.deliver(Request { priority: 0, ..request("fresh", "f") }, false);
    let Step::Ask(Question::List { offset: 0 }) = bench.next() else { panic!("a list") };
    let asked = bench.now;
    bench.post(created("fresh"));
    bench.settle();
    bench.core.listed(bench.now, asked, Ok(listing(vec![task("s7", "a", "RUNNING", 0)])), 1);
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.task_id.as_deref()), (Outcome::Created, Some("task-s7-a")));
    bench.expect_wait();
    bench.wait(LOOK_AGAIN);
    list(&mut bench, vec![task("s7", "a", "RUNNING", 0), task("s9", "a", "READY", 0)]);
    assert_eq!(bench.settle().task_id.as_deref(), Some("task-s9-a"));
    for _ in 0..48 {
        bench.post(created("t"));
        bench.settle();
    }
    bench.expect_wait();
}

#[test]
fn a_list_clears_no_copy_of_a_post_that_was_begun_after_the_copys_first_look() {
    let mut bench = Bench::new();
    bench.clear_the_first_of_two();
    let job = bench.expect_post();
    assert_eq!(job.request.name, "a");
    bench.posted(job, timeout());
    // The other's second look-up would be due; a list takes its place.
    for n in 1..=8 {
        bench.deliver(request(&format!("s{n}"), "a"), true);
    }
    list(&mut bench, vec![]);
    bench.expect_wait();
    // The task of the lost answer shows only now.
    bench.wait(LOOK_AGAIN);
    list(&mut bench, vec![task("s0", "a", "RUNNING", 0)]);
    let ended: Vec<_> = std::iter::repeat_with(|| bench.settle()).take(2).collect();
    assert_eq!(
        ended.iter().map(|ending| ending.outcome).collect::<Vec<_>>(),
        [Outcome::Created, Outcome::Conflict]
    );
}

#[test]
fn a_list_that_has_more_pages_than_there_are_jobs_in_doubt_is_not_read_again() {
    let all: Vec<Task> = (0..2_000).map(|n| task(&format!("x{n}"), "x", "RUNNING", 1)).collect();
    let mut bench = Bench::new();
    let read = |bench: &mut Bench| {
        let mut pages = 0;
        while let Step::Ask(Question::List { offset }) = bench.next() {
            let tasks = all.iter().skip(offset as usize).take(200).cloned().collect();
            let page = Listing { tasks, count: 2_000, ..Listing::default() };
            bench.core.listed(bench.now, bench.now, Ok(page), 1);
            pages += 1;
        }
        bench.wait(LOOK_AGAIN);
        pages
    };
    // The first list after a start is read from eight on: nobody knows how long it is.
    let deliver = |bench: &mut Bench, from: usize, count: usize| {
        for n in from..from + count {
            bench.deliver(request(&format!("s{n}"), "a"), true);
        }
    };
    deliver(&mut bench, 0, 8);
    assert_eq!(read(&mut bench), 11);
    for _ in 0..8 {
        bench.look(vec![]);
        bench.post(created("t"));
        bench.settle();
    }
    deliver(&mut bench, 10, 11);
    assert_eq!([read(&mut bench), read(&mut bench)], [11, 11]);
    bench.post(created("t"));
}

#[test]
fn the_last_attempt_of_a_request_is_looked_up_before_it_is_given_up() {
    let retry = retry::RetrySettings { attempts: 1, ..retry::RetrySettings::default() };
    let mut bench = Bench::with(Settings {
        gate: gate::GateSettings { retry, ..gate::GateSettings::default() },
        ..settings()
    });
    bench.deliver(request("s1", "a"), false);
    bench.post(timeout());
    bench.two_empty_looks();
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.attempts), (Outcome::Exhausted, 1));
    assert_eq!(ending.history.len(), 1);
}

#[test]
fn a_message_that_cannot_be_read_is_settled_once_as_unknown_and_hurts_nobody_else() {
    let mut bench = Bench::new();
    let job = |bench: &Bench, redelivered| {
        Job::new(request("", "unread"), 7, 1, redelivered, bench.now.at)
    };
    bench.core.unreadable(bench.now, job(&bench, false), "index out of bounds");
    let ending = bench.settle();
    assert_eq!(ending.outcome, Outcome::Unknown);
    assert!(ending.reason.contains("index out of bounds"), "{}", ending.reason);
    bench.core.unreadable(bench.now, job(&bench, true), "index out of bounds");
    assert!(matches!(bench.next(), Step::Acknowledge(_)), "its result is published");
    bench.deliver(request("s", "a"), false);
    bench.post(created("t"));
    assert_eq!(bench.settle().outcome, Outcome::Created);
}

#[test]
fn a_copy_goes_on_when_the_one_before_it_leaves_without_a_call() {
    let mut bench = Bench::new();
    let copy = |n: u32, deadline: Option<i64>| {
        let run = Run::of(&n.to_string(), &[0; 32], None, 0);
        let deadline = deadline.map(|minutes| bench.now.wall + SignedDuration::from_mins(minutes));
        let rare = Sparse::new(Rare { deadline, ..Rare::default() });
        Request { run, rare, priority: u16::try_from(100 - n).unwrap(), ..request("s", "a") }
    };
    let copies = [copy(0, None), copy(1, Some(5)), copy(2, None)];
    for request in copies {
        bench.deliver(request, false);
    }
    let first = bench.expect_post();
    bench.expect_wait();
    bench.posted(first, Verdict::Rejected(fault("SMS.0204")));
    bench.settle();
    // The second one's turn has come, but the gate is shut until its deadline has passed.
    bench.core.pause(bench.now, Pause { by: "anna".into(), reason: "not now".into() });
    bench.expect_wait();
    bench.wait(Duration::from_secs(600));
    assert_eq!(bench.settle().outcome, Outcome::Expired);
    bench.expect_wait();
    bench.core.resume(bench.now);
    let third = bench.expect_post();
    assert_eq!(third.request.priority, 98);
}

#[test]
fn a_replay_of_what_was_never_sent_goes_at_once_unless_something_else_speaks_against_it() {
    let replay = |never_sent| {
        let rare = Sparse::new(Rare { replay: 1, never_sent, ..Rare::default() });
        Request { rare, ..request("s1", "a") }
    };
    let mut bench = Bench::new();
    bench.deliver(replay(true), false);
    bench.post(created("t1"));
    bench.settle();
    // The worker knows a task of the source server.
    bench.deliver(replay(true), false);
    bench.expect_look();
    // It was delivered before.
    let mut bench = Bench::new();
    bench.deliver(replay(true), true);
    bench.expect_look();
}

#[test]
fn never_sent_is_said_only_of_what_was_surely_never_sent() {
    let invalid = |replay, never_sent, redelivered| {
        let mut bench = Bench::new();
        let rare = Sparse::new(Rare { replay, never_sent, ..Rare::default() });
        let request = Request { rare, ..request("s1", "a") };
        let job = Job::new(request, 7, 1, redelivered, bench.now.at);
        bench.core.invalid(bench.now, job, Vec::new());
        bench.settle().never_sent
    };
    assert!(invalid(0, false, false));
    assert!(invalid(1, true, false), "a replay of what was never sent");
    assert!(!invalid(1, false, false), "a replay of what may have been sent");
    assert!(!invalid(0, false, true), "delivered before: to a worker that may have sent it");
    let mut bench = Bench::new();
    bench.deliver(request("s1", "a"), false);
    bench.post(Verdict::Rejected(fault("SMS.6033")));
    assert!(!bench.settle().never_sent);
}

#[test]
fn a_post_that_is_late_for_its_permit_takes_another_one() {
    let rates = vec!["1/s".parse().unwrap()];
    let gate = gate::GateSettings { rates, ..settings().gate };
    let mut bench = Bench::with(Settings { gate, ..settings() });
    bench.wait(Duration::from_secs(2));
    bench.deliver(request("s1", "a"), false);
    let job = bench.expect_post();
    bench.core.late(bench.now, job);
    let next = bench.expect_wait().expect("another permit");
    assert!(next - bench.now.at > Duration::from_millis(900));
    bench.wait(next - bench.now.at);
    bench.post(created("t1"));
    assert_eq!(bench.settle().attempts, 1);
}

#[test]
fn sessions_too_short_for_a_second_look_are_counted_until_one_lasts() {
    let mut bench = Bench::new();
    let second = Duration::from_secs(1);
    bench.deliver(request("s1", "a"), true);
    for session in 1..=5 {
        assert_eq!(bench.core.short_sessions(), session - 1);
        bench.wait(second);
        bench.look(vec![]);
        bench.expect_wait();
        bench.core.session_lost(bench.now);
        bench.core.session_opened(bench.now, session + 1, 1);
        bench.deliver_in(session + 1, request("s1", "a"), true);
        bench.wait(second);
    }
    bench.look(vec![]);
    bench.expect_wait();
    bench.wait(2 * LOOK_AGAIN);
    bench.look(vec![]);
    bench.post(created("t"));
    assert_eq!(bench.core.short_sessions(), 0);
    bench.settle();
    // Nothing is in doubt: what ends soon holds nothing up.
    bench.core.session_lost(bench.now);
    bench.core.session_opened(bench.now, 9, 0);
    bench.expect_wait();
    bench.core.session_lost(bench.now);
    assert_eq!(bench.core.short_sessions(), 0);
}

#[test]
fn a_copy_of_a_request_that_is_in_a_call_does_not_expire_as_never_sent() {
    let mut bench = Bench::new();
    let deadline = bench.now.wall + Duration::from_secs(5);
    let rare = Sparse::new(Rare { deadline: Some(deadline), ..Rare::default() });
    let twice = Request { rare, ..request("s1", "a") };
    bench.deliver(twice.clone(), false);
    bench.deliver(twice, false);
    let first = bench.expect_post();
    // The copy's deadline passes while nobody knows what becomes of the first.
    bench.wait(Duration::from_secs(9));
    bench.expect_wait();
    bench.posted(first, created("t"));
    assert_eq!(bench.settle().outcome, Outcome::Created);
    bench.look(vec![task("s1", "a", "RUNNING", 0)]);
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.never_sent), (Outcome::Created, false));
}

#[test]
fn what_was_sent_in_this_process_is_never_marked_as_never_sent() {
    let mut bench = Bench::new();
    let deadline = bench.now.wall + Duration::from_secs(5);
    let rare = Sparse::new(Rare { deadline: Some(deadline), ..Rare::default() });
    let twice = Request { rare, ..request("s1", "a") };
    bench.deliver(twice.clone(), false);
    bench.deliver(twice, false);
    // Its end says nothing of a task, and the copy expires.
    bench.post(Verdict::Rejected(fault("SMS.0202")));
    assert!(!bench.settle().never_sent);
    bench.wait(Duration::from_secs(9));
    let ending = bench.settle();
    assert_eq!((ending.outcome, ending.never_sent), (Outcome::Expired, false));
}

/// Two requests in doubt, where this is `retry.max_age`.
fn two_in_doubt(max_age: Duration) -> Bench {
    let settings = settings();
    let retry = retry::RetrySettings { max_age, ..settings.gate.retry.clone() };
    let gate = gate::GateSettings { retry, ..settings.gate.clone() };
    let mut bench = Bench::with(Settings { gate, ..settings });
    for name in ["a", "b"] {
        bench.deliver(request(name, name), true);
    }
    bench
}

#[test]
fn several_requests_whose_look_ups_always_fail_end_though_they_open_the_breaker() {
    let max_age = Duration::from_secs(3_600);
    let mut bench = two_in_doubt(max_age);
    let (begun, mut ended, mut opened) = (bench.now.at, 0, false);
    while ended < 2 {
        assert!(bench.now.at - begun < 4 * max_age, "{ended} have ended");
        opened |= bench.core.gate().breaker().opened().is_some();
        match bench.next() {
            Step::Ask(Question::LookUp(job)) => {
                let started = bench.now;
                bench.wait(Duration::from_millis(5));
                bench.core.looked(bench.now, started, job, Err(timeout()), 1);
            }
            // Others are answered.
            Step::Ask(Question::Any) => {
                bench.core.asked(bench.now, bench.now, Ok(listing(vec![])), 1);
            }
            Step::Settle(job, ending) => {
                assert_eq!(ending.outcome, Outcome::Unknown);
                ended += 1;
                bench.core.settled(bench.now, job, ending, Settlement::Done);
            }
            Step::Wait(until) => bench.wait(until.expect("something follows") - bench.now.at),
            step => panic!("{step:?}"),
        }
    }
    assert!(opened && bench.now.at - begun >= max_age);
}

#[test]
fn while_nobody_is_answered_look_ups_that_fail_end_nothing() {
    let max_age = Duration::from_secs(3_600);
    let mut bench = two_in_doubt(max_age);
    let begun = bench.now.at;
    while bench.now.at - begun < 10 * max_age {
        match bench.next() {
            Step::Ask(Question::LookUp(job)) => {
                bench.core.looked(bench.now, bench.now, job, Err(timeout()), 1);
            }
            Step::Ask(Question::Any) => bench.core.asked(bench.now, bench.now, Err(timeout()), 1),
            Step::Wait(until) => bench.wait(until.expect("something follows") - bench.now.at),
            step => panic!("{step:?}"),
        }
    }
}

//! What is made of the results stream, whatever order and repeats it comes in.

use jiff::Timestamp;
use sluicegate::core::Outcome;
use sluicegate::message::result::{self, CloudEvent, Enqueued, Event, Opened, ResultData};
use sluicegate::report::batches::{Batches, Together};
use sluicegate::report::progress::{BatchChange, BatchProgress, failure_line};
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn opened(batch: &str, total: u64) -> Event {
    let opened = Opened {
        batch: batch.into(),
        batch_run: None,
        total,
        plan: "plan.csv".into(),
        by: "mei".into(),
    };
    Event::Opened(result::opened(opened, "sluice", at(0)))
}

fn enqueued(batch: &str, total: u64) -> Event {
    Event::Enqueued(result::enqueued(
        Enqueued { batch: batch.into(), batch_run: None, total },
        "sluice",
        at(1),
    ))
}

fn result(batch: &str, id: u32, replay: u32, outcome: Outcome, second: i64) -> Event {
    let data = ResultData {
        request_id: format!("r{id}"),
        run: Uuid::from_u128(u128::from(id) << 32 | u128::from(replay)),
        batch: Some(batch.into()),
        batch_run: None,
        row: Some(id.into()),
        name: format!("task-{id}"),
        source_server_id: format!("src-{id}"),
        project_id: String::new(),
        region_id: String::new(),
        priority: 1,
        outcome,
        task_id: None,
        task_state: None,
        error: None,
        violations: Vec::new(),
        reason: "the API said no".into(),
        attempts: 1,
        looked_up: 0,
        replay,
        enqueued_at: None,
        first_attempt_at: None,
        settled_at: at(second),
        worker: "w".into(),
    };
    Event::Result(Box::new(CloudEvent {
        specversion: "1.0".into(),
        id: data.run.to_string(),
        source: "/sluicegate/sluice".into(),
        kind: format!("sluice.request.{}", outcome.as_str()),
        subject: None,
        time: data.settled_at,
        datacontenttype: "application/json".into(),
        traceparent: None,
        tracestate: None,
        data,
    }))
}

#[test]
fn a_batch_is_done_when_every_announced_request_has_ended() {
    let mut progress = BatchProgress::new("b", None);
    assert!(!progress.is_known());
    progress.take(&opened("b", 2));
    progress.take(&enqueued("b", 2));
    progress.take(&result("other", 1, 0, Outcome::Created, 2));
    assert_eq!((progress.settled(), progress.is_done()), (0, false));
    progress.take(&result("b", 1, 0, Outcome::Created, 3));
    assert!(!progress.is_done());
    progress.take(&result("b", 2, 0, Outcome::Rejected, 4));
    assert!(progress.is_done() && progress.enqueued);
    assert_eq!(progress.failed(), 1);
}

#[test]
fn repeats_count_once_and_a_success_stands() {
    let mut progress = BatchProgress::new("b", None);
    let events = [
        result("b", 1, 0, Outcome::Created, 3),
        result("b", 1, 0, Outcome::Created, 3),
        result("b", 1, 0, Outcome::Exists, 5),
        result("b", 2, 0, Outcome::Rejected, 4),
        result("b", 2, 1, Outcome::Created, 9),
        result("b", 2, 0, Outcome::Rejected, 4),
        result("b", 3, 0, Outcome::Rejected, 4),
        result("b", 3, 1, Outcome::Conflict, 8),
        result("b", 3, 0, Outcome::Rejected, 4),
    ];
    let changes = events.map(|event| progress.take(&event) == BatchChange::Settled);
    assert_eq!(changes, [true, false, false, true, true, false, true, true, false]);
    assert_eq!(progress.settled(), 3);
    assert_eq!(progress.count(Outcome::Created), 2);
    assert_eq!(progress.count(Outcome::Conflict), 1);
    assert_eq!(progress.count(Outcome::Rejected), 0);
    let rows: Vec<_> =
        progress.results().iter().map(|result| (result.row.unwrap(), result.outcome)).collect();
    assert_eq!(rows, [(1, Outcome::Created), (2, Outcome::Created), (3, Outcome::Conflict)]);
}

#[test]
fn the_rate_is_that_of_the_latest_settlements() {
    let mut progress = BatchProgress::new("b", None);
    progress.take(&opened("b", 1_000));
    assert_eq!(progress.per_second(at(0)), None);
    for i in 0..100 {
        progress.take(&result("b", i, 0, Outcome::Created, i64::from(i) / 2));
    }
    let rate = progress.per_second(at(50)).unwrap();
    assert!((rate - 2.0).abs() < 0.05, "{rate}");
    assert_eq!(progress.per_second(at(10_000)), None, "what was long ago says nothing of now");
}

#[test]
fn batches_of_other_clients_have_counts_only_and_the_latest_comes_first() {
    let mut batches = Batches::default();
    batches.take(&result("nightly", 1, 0, Outcome::Created, 50));
    batches.take(&opened("b", 1));
    batches.take(&result("b", 1, 0, Outcome::Rejected, 10));
    let summaries = batches.summaries();
    assert_eq!(summaries.iter().map(|s| &*s.batch).collect::<Vec<_>>(), ["nightly", "b"]);
    assert_eq!((summaries[0].total, summaries[0].done), (None, false));
    assert_eq!((summaries[1].total, summaries[1].done, summaries[1].failed), (Some(1), true, 1));
}

#[test]
fn a_failure_is_told_in_one_line() {
    let Event::Result(event) = result("b", 7, 0, Outcome::Rejected, 1) else { unreachable!() };
    assert_eq!(failure_line(&event.data), "row 7: task-7 (src-7): rejected: the API said no");
}

/// The same event in another generation.
fn of(run: u128, mut event: Event, opened_at: i64) -> Event {
    let run = Some(Uuid::from_u128(run));
    match &mut event {
        Event::Result(event) => event.data.batch_run = run,
        Event::Opened(event) => (event.data.batch_run, event.time) = (run, at(opened_at)),
        Event::Enqueued(event) => event.data.batch_run = run,
    }
    event
}

#[test]
fn an_id_that_is_used_again_is_another_batch_and_the_latest_one_is_meant() {
    let mut batches = Batches::default();
    // The UUID of the later one is the lower one: what counts is when it was begun.
    batches.take(&of(9, opened("b", 3), 0));
    for id in 1..=3 {
        batches.take(&of(9, result("b", id, 0, Outcome::Created, 5), 0));
    }
    assert!(batches.latest("b").unwrap().is_done());
    batches.take(&of(2, opened("b", 2), 100));
    let latest = batches.latest("b").unwrap();
    assert_eq!((latest.settled(), latest.total(), latest.is_done()), (0, Some(2), false));
    // A replay of the first generation counts there.
    batches.take(&of(9, result("b", 1, 1, Outcome::Exists, 200), 0));
    batches.take(&of(2, result("b", 1, 0, Outcome::Rejected, 201), 0));
    let runs = |batches: &Batches| -> Vec<_> {
        let told = |one: &BatchProgress| (one.run.unwrap().as_u128(), one.settled(), one.failed());
        batches.generations("b").into_iter().map(told).collect()
    };
    assert_eq!(runs(&batches), [(2, 1, 1), (9, 3, 0)]);
    // What carries no generation is none of these.
    batches.take(&result("b", 7, 0, Outcome::Created, 1));
    assert_eq!(batches.get("b", None).unwrap().settled(), 1);
    assert_eq!(batches.latest("b").unwrap().run, Some(Uuid::from_u128(2)));
}

#[test]
fn what_was_cancelled_is_no_failure_and_may_be_found_created() {
    let mut progress = BatchProgress::new("b", None);
    progress.take(&opened("b", 1));
    progress.take(&result("b", 1, 0, Outcome::Cancelled, 3));
    assert_eq!((progress.failed(), progress.succeeded(), progress.is_done()), (0, 0, true));
    progress.take(&result("b", 1, 0, Outcome::Created, 4));
    assert_eq!((progress.succeeded(), progress.count(Outcome::Cancelled)), (1, 0));
}

#[test]
fn batches_together_are_done_when_each_of_them_is() {
    let mut batches = Batches::default();
    for (batch, total) in [("w-1", 1), ("w-2", 2)] {
        batches.take(&opened(batch, total));
        batches.take(&result(batch, 1, 0, Outcome::Created, 3));
    }
    let all = |batches: &Batches| Together::of(batches.iter());
    assert_eq!(
        (all(&batches).total, all(&batches).settled, all(&batches).done),
        (Some(3), 2, false)
    );
    batches.take(&result("w-2", 2, 0, Outcome::Rejected, 3));
    assert_eq!((all(&batches).failed, all(&batches).done), (1, true));
    batches.take(&result("w-3", 2, 0, Outcome::Created, 3));
    assert_eq!((all(&batches).total, all(&batches).done), (None, false), "w-3 was not announced");
}

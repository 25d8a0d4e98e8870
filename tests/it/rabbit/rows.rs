//! Every row of a plan, ended or not: the report; and failed rows as a plan again, fixed and enqueued.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluicegate::sandbox::Options;

use super::planner::{Desk, lines, text};
use crate::support::wait::until_so;

/// A plan as a planner keeps it: a note, the fields that this needs, a setting. A row is `(name, vm, not before)`.
fn plan(desk: &Desk, rows: &[(&str, &str)]) -> PathBuf {
    let mut text =
        "source_server.id,#owner,name,target_server.vm_id,x-sluice-not-before\r\n".to_owned();
    for (number, (name, not_before)) in rows.iter().enumerate() {
        let _ = write!(text, "source-{number},team {number},{name},vm-{number},{not_before}\r\n");
    }
    let file = desk.path("weekend.csv");
    std::fs::write(&file, text).unwrap();
    // What all of them share is not in the rows.
    let mut shared: Value =
        serde_json::from_str(include_str!("../../data/create-task-example.json")).unwrap();
    shared.as_object_mut().unwrap().remove("name");
    std::fs::write(desk.path("shared.json"), shared.to_string()).unwrap();
    file
}

/// An API that refuses this server.
fn refusing(source: &str) -> Options {
    let fault = json!({ "source": source, "call": "create",
        "do": { "answer": { "status": 400, "code": "SMS.0202", "message": "no, never" } } });
    Options::default().patched(&json!({ "faults": [fault] })).unwrap()
}

fn args<'a>(command: &'a str, plan: &'a Path, shared: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let read = [command, plan.to_str().unwrap(), "--defaults", shared.to_str().unwrap()];
    [&read[..], more].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_row_of_a_plan_is_told_with_its_state_and_what_it_waits_for() {
    let desk = Desk::new().await;
    let rows = [("one", ""), ("two", ""), ("late", "2099-01-01T00:00:00Z"), ("", "")];
    let (plan, shared) = (plan(&desk, &rows), desk.path("shared.json"));
    let aside = desk.path("aside.csv");
    let unsent = desk.sluice(&args("report", &plan, &shared, &[]));
    assert_eq!(unsent.status.code(), Some(2));
    assert!(text(&unsent.stderr).contains("name its batches with --batch"), "{unsent:?}");

    let set_aside = ["--batch", "weekend", "--skip-invalid", aside.to_str().unwrap()];
    let enqueued = desk.sluice(&args("enqueue", &plan, &shared, &set_aside));
    assert_eq!(enqueued.status.code(), Some(1), "{}", text(&enqueued.stderr));
    let before = desk.sluice(&args("report", &plan, &shared, &[]));
    let said = text(&before.stdout);
    assert!(said.contains("4 rows as of") && said.contains("invalid 1, waiting 3"), "{said}");
    assert!(said.contains("no worker is active: start one"), "{said}");

    let worker = desk.worker(refusing("source-1")).await;
    let ended = || {
        let told = lines(&desk.sluice(&["watch", "weekend", "--json"]));
        told.last().unwrap()["settled"] == 2
    };
    until_so("two have ended", ended).await;
    let told = lines(&desk.sluice(&args("report", &plan, &shared, &["--json"])));
    let states: Vec<_> = told[..4]
        .iter()
        .map(|row| {
            (row["row"].clone(), row["state"].as_str().unwrap(), row["result"]["outcome"].clone())
        })
        .collect();
    let wanted = [
        (json!(2), "ended", json!("created")),
        (json!(3), "ended", json!("rejected")),
        (json!(4), "waiting", Value::Null),
        (json!(5), "invalid", Value::Null),
    ];
    assert_eq!(states, wanted);
    assert!(told[2]["why"].as_str().unwrap().contains("its time, at 2099-01-01"), "{}", told[2]);
    assert_eq!(told[1]["notes"], json!({ "#owner": "team 1" }));
    assert_eq!(
        told[4]["counts"],
        json!({ "created": 1, "rejected": 1, "invalid": 1, "waiting": 1 })
    );

    let report = desk.path("report.csv");
    let export = ["--export", report.to_str().unwrap(), "--times", "iso"];
    let done = desk.sluice(&args("report", &plan, &shared, &export));
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let report = std::fs::read_to_string(&report).unwrap();
    assert_eq!(report.lines().count(), 5);
    assert!(report.lines().next().unwrap().ends_with(",seconds_waited,#owner"), "{report}");
    let late = report.lines().find(|line| line.starts_with("4,weekend,source-2,late,")).unwrap();
    assert!(late.contains("vm-2") && late.contains(",waiting,"), "{late}");
    assert!(late.contains("2099-01-01T00:00:00.000Z") && late.ends_with(",team 2"), "{late}");
    for ending in ["xlsx", "html"] {
        let file = desk.path(&format!("report.{ending}"));
        let export = ["--export", file.to_str().unwrap()];
        assert!(desk.sluice(&args("report", &plan, &shared, &export)).status.success());
    }
    let page = std::fs::read_to_string(desk.path("report.html")).unwrap();
    assert!(page.contains("1 of 4 migration tasks were created, 1 did not end well"), "{page}");
    assert!(page.contains("What has not ended"), "{page}");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn failed_rows_become_a_plan_again_that_is_checked_and_enqueued() {
    let desk = Desk::new().await;
    let (plan, shared) =
        (plan(&desk, &[("one", ""), ("two", ""), ("three", "")]), desk.path("shared.json"));
    let worker = desk.worker(refusing("source-1")).await;
    let watched = desk.sluice(&args("enqueue", &plan, &shared, &["--batch", "wave", "--watch"]));
    assert_eq!(watched.status.code(), Some(1), "{}", text(&watched.stderr));
    drop(worker);
    let worker = desk.worker(Options::default()).await;
    let plan = plan.to_str().unwrap();
    for ending in ["csv", "xlsx", "jsonl"] {
        let again = desk.path(&format!("again.{ending}"));
        let again = again.to_str().unwrap();
        let export = ["dead-letters", "export", again, "--as", "plan", "--plan", plan];
        let exported = desk.sluice(&[&export[..], &["--batch", "wave"]].concat());
        assert_eq!(exported.status.code(), Some(0), "{}", text(&exported.stderr));
        let twice = desk.sluice(&export);
        assert_eq!(twice.status.code(), Some(2), "it is left alone");
        let checked = desk.sluice(&["check", again]);
        assert_eq!(checked.status.code(), Some(0), "{ending}: {}", text(&checked.stderr));
        assert!(text(&checked.stdout).contains("1 valid"), "{checked:?}");
    }
    let csv = std::fs::read_to_string(desk.path("again.csv")).unwrap();
    let head = csv.lines().next().unwrap().trim_start_matches('\u{feff}');
    assert!(head.starts_with("source_server.id,#owner,name,target_server.vm_id,"), "{head}");
    let row = csv.lines().nth(1).unwrap();
    assert!(row.starts_with("source-1,team 1,two,vm-1,") && row.contains("no, never"), "{row}");
    let again = desk.path("again.xlsx");
    let enqueued =
        desk.sluice(&["enqueue", again.to_str().unwrap(), "--batch", "wave-again", "--watch"]);
    assert_eq!(enqueued.status.code(), Some(0), "{}", text(&enqueued.stderr));
    let tasks = worker.sandbox.tasks();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].made.name, "two");
    drop(worker);
}

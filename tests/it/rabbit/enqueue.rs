//! What is enqueued of a plan that was enqueued before, edited or not, under the same id or another: on a real broker.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lapin::options::QueueDeleteOptions;
use rust_xlsxwriter::Workbook;
use serde_json::{Value, json};
use sluicegate::sandbox::Options;

use super::planner::{Desk, lines, request, text};
use crate::support::form::number;

fn write(plan: &Path, rows: &[Value]) {
    let text: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(plan, text.concat()).unwrap();
}

/// Ten rows; then the third has another priority, the ninth is gone, one stands before the first and one after the last.
fn edited() -> Vec<Value> {
    let mut rows: Vec<Value> = (0..10).map(request).collect();
    rows[2]["priority"] = 60.into();
    rows.remove(8);
    rows.insert(0, request(20));
    rows.push(request(21));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_edited_plan_only_what_is_new_or_changed_is_added_to_its_batch() {
    let desk = Desk::new().await;
    let plan = desk.plan(10);
    let name = plan.to_str().unwrap();
    assert_eq!(desk.sluice(&["enqueue", name, "--batch", "weekend"]).status.code(), Some(0));
    write(&plan, &edited());
    // Without a word nothing is sent; what would be, is told.
    let asked = desk.sluice(&["enqueue", name, "--json"]);
    assert_eq!(asked.status.code(), Some(2));
    let said = text(&asked.stderr);
    for line in [
        "2 new, 1 changed, 1 removed (already enqueued, not taken back), 8 unchanged",
        "+ row 1: \"task-20\", source server \"source-20\"",
        "~ row 4: \"task-2\", source server \"source-2\" (was row 3)",
        "- row 9: \"task-8\", source server \"source-8\"",
        "--yes adds the 3 that are new or changed to batch weekend",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let changes = &lines(&asked)[0]["changes"];
    assert_eq!((&changes["new"]["count"], &changes["unchanged"]), (&json!(2), &json!(8)));
    assert_eq!(changes["changed"]["rows"][0]["was_row"], 3);
    // The old version is told by its id, which the broker has: the row is the new version's too.
    let old = changes["changed"]["rows"][0]["was_id"].as_str().unwrap();
    assert!(
        said.contains(&format!("To take old versions back: sluice batch cancel {old} -c ")),
        "{said}"
    );
    assert_eq!(changes["removed"]["rows"][0]["name"], "task-8");
    let client = desk.lane.client().await;
    assert_eq!(client.depth(&desk.lane.queues.requests()).await, 10);

    let added = desk.sluice(&["enqueue", name, "--yes", "--json"]);
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    let told = &lines(&added)[0];
    assert_eq!((&told["batch"], &told["total"]), (&json!("weekend"), &json!(13)));
    client.wait_for_depth(&desk.lane.queues.requests(), 13).await;
    let events = desk.announcements().await;
    let totals: Vec<_> = events.iter().map(|(_, of)| of["total"].as_u64().unwrap()).collect();
    assert_eq!(totals, [10, 10, 13, 13]);
    let runs: std::collections::HashSet<_> =
        events.iter().map(|(_, of)| &of["batch_run"]).collect();
    assert_eq!(runs.len(), 1, "one generation");

    // Now it is as it was enqueued; changed back, the row is a request of its own once more.
    let same = desk.sluice(&["enqueue", name]);
    assert!(text(&same.stderr).contains("as batch weekend (13 requests)"), "{same:?}");
    let mut back = edited();
    back[3] = request(2);
    write(&plan, &back);
    let added = desk.sluice(&["enqueue", name, "--yes"]);
    assert_eq!(added.status.code(), Some(0), "{}", text(&added.stderr));
    client.wait_for_depth(&desk.lane.queues.requests(), 14).await;

    // The first version of the row is taken back by the id that was named; each version ends, and so does the watching.
    let cancelled = desk.sluice(&["batch", "cancel", old]);
    assert_eq!(cancelled.status.code(), Some(0), "{}", text(&cancelled.stderr));
    let worker = desk.worker(Options::default()).await;
    let watched = desk.sluice(&["watch", "weekend", "--until-done", "--json"]);
    assert_eq!(watched.status.code(), Some(1), "{}", text(&watched.stderr));
    let summary = lines(&watched).pop().unwrap();
    // Its later versions are not caught; they find the same task.
    assert_eq!(summary["outcomes"], json!({ "created": 13, "cancelled": 1 }), "{summary}");
    assert_eq!((&summary["total"], &summary["done"]), (&json!(14), &json!(true)));
    assert_eq!(worker.sandbox.tasks().len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_in_which_rows_were_only_moved_has_not_changed() {
    let desk = Desk::new().await;
    let plan = desk.plan(4);
    let name = plan.to_str().unwrap();
    assert_eq!(desk.sluice(&["enqueue", name, "--batch", "weekend"]).status.code(), Some(0));
    write(&plan, &[3, 1, 0].map(request));
    let same = desk.sluice(&["enqueue", name, "--yes"]);
    assert_eq!(same.status.code(), Some(2));
    let said = text(&same.stderr);
    let told =
        "since then: 0 new, 0 changed, 1 removed (already enqueued, not taken back), 3 unchanged";
    assert!(said.contains(told) && said.contains("--again"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changed_rows_the_first_old_versions_are_named_and_the_others_counted() {
    let desk = Desk::new().await;
    let plan = desk.plan(5);
    let name = plan.to_str().unwrap();
    assert_eq!(desk.sluice(&["enqueue", name]).status.code(), Some(0));
    let mut rows: Vec<Value> = (0..5).map(request).collect();
    for row in &mut rows {
        row["priority"] = 60.into();
    }
    write(&plan, &rows);
    let asked = desk.sluice(&["enqueue", name, "--json"]);
    assert_eq!(asked.status.code(), Some(2));
    let rows = lines(&asked)[0]["changes"]["changed"]["rows"].clone();
    let ids: Vec<_> = (0..5).map(|row| rows[row]["was_id"].as_str().unwrap()).collect();
    let said = text(&asked.stderr);
    assert!(said.contains(&format!("sluice batch cancel {} -c ", ids[..3].join(" "))), "{said}");
    assert!(said.contains("(and 2 more; --json gives up to 1000 as was_id)"), "{said}");
}

/// Killed at random points while changed rows are added, and run again each time: each version of each row once.
#[tokio::test(flavor = "multi_thread")]
async fn an_addition_killed_at_random_points_goes_on_and_doubles_nothing() {
    const ROWS: usize = 210;
    let wanted = number("SLUICE_KILLS", 5, 40);
    let desk = Desk::new().await;
    let mut random = fastrand::Rng::with_seed(20);
    let plan = desk.plan_of("plan", 0..ROWS);
    let name = plan.to_str().unwrap().to_owned();
    let started = Instant::now();
    assert_eq!(desk.sluice(&["enqueue", &name, "--batch", "edited"]).status.code(), Some(0));
    let mut run = u64::try_from(started.elapsed().as_millis()).unwrap();
    let (mut kills, mut versions) = (0, 1);
    while kills < wanted {
        versions += 1;
        assert!(versions < 50, "no kill ever hits");
        let mut rows: Vec<Value> = (0..ROWS).map(request).collect();
        for row in &mut rows {
            row["priority"] = (100 + versions).into();
        }
        write(&plan, &rows);
        // One that has the time at last ends the version.
        for tries in 1.. {
            let mut command = desk.command(&["enqueue", &name, "--yes"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let longest = if tries < 4 { run } else { 240_000 };
            let end = Instant::now() + Duration::from_millis(random.u64(longest / 8..=longest));
            while child.try_wait().unwrap().is_none() && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            child.kill().unwrap();
            let ended = child.wait_with_output().unwrap();
            let said = text(&ended.stderr);
            match ended.status.code() {
                None => kills += 1,
                // Killed when all was done but the end.
                Some(2) if said.contains("this plan was enqueued at") => break,
                code => {
                    assert_eq!(code, Some(0), "{said}");
                    run -= run / 4;
                    break;
                }
            }
        }
    }
    let worker = desk.worker(Options::default()).await;
    let watched = desk.sluice(&["watch", "edited", "--until-done", "--json"]);
    assert_eq!(watched.status.code(), Some(0), "{}", text(&watched.stderr));
    let summary = lines(&watched).pop().unwrap();
    let all = ROWS * versions;
    assert_eq!((&summary["total"], &summary["settled"]), (&json!(all), &json!(all)), "{summary}");
    assert_eq!(worker.sandbox.tasks().len(), ROWS);
    println!("killed {kills} times in {versions} versions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_id_that_was_announced_is_used_again_only_when_asked_whoever_announced_it() {
    let desk = Desk::new().await;
    let mine = desk.plan_of("mine", 0..5);
    let other = desk.plan_of("other", 5..7);
    let (mine, other) = (mine.to_str().unwrap(), other.to_str().unwrap());
    assert_eq!(desk.sluice(&["enqueue", mine, "--batch", "weekend"]).status.code(), Some(0));
    // Nothing beside this plan says so: the stream does.
    let refused = desk.sluice(&["enqueue", other, "--batch", "weekend"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("batch weekend was announced at ") && said.contains("by mei@"), "{said}");
    assert!(said.contains("5 requests of mine.jsonl") && said.contains("--again"), "{said}");
    assert!(!Path::new(&format!("{other}.batch")).exists(), "nothing was begun");
    let client = desk.lane.client().await;
    assert_eq!(client.depth(&desk.lane.queues.requests()).await, 5);

    let again = desk.sluice(&["enqueue", other, "--batch", "weekend", "--again", "--json"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    let runs: Vec<_> =
        desk.announcements().await.into_iter().map(|(_, of)| of["batch_run"].clone()).collect();
    assert!(runs[0] == runs[1] && runs[2] == runs[3] && runs[0] != runs[2], "{runs:?}");
    assert_eq!(lines(&again)[0]["batch_run"], runs[2]);

    // Where the stream cannot be asked, nothing is sent.
    let third = desk.plan_of("third", 7..8);
    let third = third.to_str().unwrap();
    let log = desk.lane.queues.results_log();
    client.channel.queue_delete(log.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    let refused = desk.sluice(&["enqueue", third, "--batch", "monday"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(said.contains("could not be found out") && said.contains("nothing was sent"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_id_needs_a_word_only_where_servers_of_the_plan_were_enqueued() {
    let desk = Desk::new().await;
    let plan = desk.plan_of("plan", 0..5);
    let name = plan.to_str().unwrap();
    assert_eq!(desk.sluice(&["enqueue", name, "--batch", "one"]).status.code(), Some(0));
    let refused = desk.sluice(&["enqueue", name, "--batch", "two"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("this plan was enqueued at") && said.contains("as batch one"), "{said}");
    desk.plan_of("plan", 3..9);
    let refused = desk.sluice(&["enqueue", name, "--batch", "two"]);
    assert!(text(&refused.stderr).contains("2 of its servers were enqueued"), "{refused:?}");
    // The file has the next wave now.
    desk.plan_of("plan", 5..9);
    let sent = desk.sluice(&["enqueue", name, "--batch", "two"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    // Both are known, each by its id.
    let again = desk.sluice(&["enqueue", name, "--batch", "two"]);
    assert!(text(&again.stderr).contains("as batch two (4 requests)"), "{again:?}");
    desk.plan_of("plan", 0..5);
    let again = desk.sluice(&["enqueue", name, "--batch", "one"]);
    assert!(text(&again.stderr).contains("as batch one (5 requests)"), "{again:?}");
}

/// A workbook with a sheet of each name, of so many servers.
pub(super) fn workbook(path: &Path, sheets: &[(&str, std::ops::Range<usize>)]) {
    let mut book = Workbook::new();
    for (name, rows) in sheets {
        let sheet = book.add_worksheet().set_name(*name).unwrap();
        let fields = [
            "name",
            "type",
            "os_type",
            "source_server.id",
            "target_server.vm_id",
            "target_server.name",
            "region_id",
            "region_name",
            "project_id",
            "project_name",
        ];
        for (column, field) in (0_u16..).zip(fields) {
            sheet.write_string(0, column, field).unwrap();
            for (line, row) in (1_u32..).zip(rows.clone()) {
                let request = request(row);
                let value = request.pointer(&format!("/{}", field.replace('.', "/"))).unwrap();
                sheet.write_string(line, column, value.as_str().unwrap()).unwrap();
            }
        }
    }
    book.save(path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sheet_of_a_workbook_is_a_plan_with_a_journal_of_its_own() {
    let desk = Desk::new().await;
    let plan = desk.path("plan.xlsx");
    workbook(&plan, &[("East", 0..3), ("West 1", 3..5)]);
    let name = plan.to_str().unwrap();
    for (sheet, rows) in [("East", 3), ("West 1", 2)] {
        let sent = desk.sluice(&["enqueue", name, "--sheet", sheet, "--json"]);
        assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
        assert_eq!(lines(&sent)[0]["total"], rows);
        assert!(desk.path(&format!("plan.xlsx.{sheet}.batch")).exists());
        let again = desk.sluice(&["enqueue", name, "--sheet", sheet]);
        assert_eq!(again.status.code(), Some(2));
        assert!(text(&again.stderr).contains(&format!("({rows} requests)")), "{again:?}");
    }
}

/// A plan of six servers with their wave in a note, and a table of the waves.
fn waves_of(desk: &Desk) -> [String; 2] {
    let fields = "name,type,os_type,source_server.id,target_server.vm_id,target_server.name,region_id,region_name,project_id,project_name";
    let mut plan = format!("{fields},#wave\n");
    for row in 0..6 {
        let wave = if row % 2 == 0 { "late" } else { "early" };
        let _ = writeln!(
            plan,
            "task-{row},MIGRATE_FILE,LINUX,source-{row},vm-{row},target,r1,Region 1,p1,Project 1,{wave}"
        );
    }
    let table = "wave,not before,priority,after\nlate,2030-11-29 22:00,7,early\nearly,2030-11-28 22:00,9,\n";
    [("waves-plan.csv", plan.as_str()), ("waves.csv", table)].map(|(name, text)| {
        std::fs::write(desk.path(name), text).unwrap();
        desk.path(name).to_str().unwrap().to_owned()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wave_of_a_plan_is_a_batch_with_its_times_and_a_crash_in_between_goes_on() {
    let desk = Desk::new().await;
    let [plan, table] = waves_of(&desk);
    let args =
        [plan.as_str(), "--batch", "weekend", "--batch-by", "wave", "--waves", &table, "--json"];
    let checked = desk.sluice(&[&["check"], &args[..]].concat());
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    let told: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(told["waves"][0]["batch"], "weekend-early");
    assert!(told["waves"][1]["forecast"]["last"].as_str() > Some("2030-11-29T"), "{told}");

    let enqueue = || desk.sluice(&[&["enqueue"], &args[..]].concat());
    let sent = enqueue();
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let sent = lines(&sent);
    let batches: Vec<_> = sent.iter().map(|batch| (&batch["batch"], &batch["total"])).collect();
    let three = json!(3);
    assert_eq!(batches, [(&json!("weekend-early"), &three), (&json!("weekend-late"), &three)]);
    let client = desk.lane.client().await;
    client.wait_for_depth(&desk.lane.queues.requests(), 6).await;

    // As if it had died in the second: only that one goes on, in its own generation.
    let journal = format!("{plan}.batch");
    let written = std::fs::read_to_string(&journal).unwrap();
    let finished = written.trim_end().rfind('\n').unwrap();
    std::fs::write(&journal, &written[..=finished]).unwrap();
    let again = enqueue();
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(lines(&again)[0]["batch_run"], sent[1]["batch_run"]);
    assert_eq!(lines(&again).len(), 1);
    assert!(text(&again.stderr).contains("batch weekend-early was enqueued at"), "{again:?}");
    let whole = enqueue();
    assert_eq!(whole.status.code(), Some(2));
    assert!(text(&whole.stderr).contains("--again"), "{}", text(&whole.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_any_wave_is_sent_where_one_of_them_is_wrong() {
    let desk = Desk::new().await;
    let [plan, table] = waves_of(&desk);
    let args = ["enqueue", &plan, "--batch", "weekend", "--batch-by", "#wave", "--waves", &table];
    std::fs::write(&table, "wave,not before,after\nlate,2030-11-28,early\nearly,2030-11-28,\n")
        .unwrap();
    let refused = desk.sluice(&args);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(
        said.contains("row 2, not before") && said.contains("the not before of \"early\""),
        "{said}"
    );
    // The second wave's id was announced by somebody else.
    let other = desk.plan(1);
    let sent = desk.sluice(&["enqueue", other.to_str().unwrap(), "--batch", "weekend-late"]);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let [plan, table] = waves_of(&desk);
    let args = ["enqueue", &plan, "--batch", "weekend", "--batch-by", "wave", "--waves", &table];
    let refused = desk.sluice(&args);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("batch weekend-late was announced at"), "{refused:?}");
    let client = desk.lane.client().await;
    assert_eq!(client.depth(&desk.lane.queues.requests()).await, 1);
    assert!(!Path::new(&format!("{plan}.batch")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sheet_is_a_wave_and_a_server_is_in_one_of_them_only() {
    let desk = Desk::new().await;
    let plan = desk.path("plan.xlsx");
    workbook(&plan, &[("East", 0..3), ("West 1", 3..5)]);
    let name = plan.to_str().unwrap();
    let args = ["enqueue", name, "--batch", "w", "--batch-by", "sheet"];
    let sent = desk.sluice(&args);
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert_eq!(text(&sent.stdout), "w-East\nw-West-1\n");
    workbook(&plan, &[("East", 0..3), ("West 1", 2..5)]);
    let refused = desk.sluice(&args);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(
        said.contains("wave \"West 1\", row 2: found the source server of wave \"East\", row 4"),
        "{said}"
    );
}

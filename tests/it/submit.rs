//! `sluice submit`: the real binary, plans on disk, a sandbox in the test's process; killed, stopped and run again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::planner::JournalError;
use sluicegate::planner::submit::Journal;
use sluicegate::sandbox::{Kind, Options, Sandbox, TOKEN};
use tempfile::TempDir;

use crate::support::rig::body;
use crate::support::wait::until_so;

/// A plan, a configuration and an API of its own.
struct Desk {
    dir: TempDir,
    sandbox: Sandbox,
}

impl Desk {
    async fn new(rows: usize, sandbox: Value) -> Self {
        let options = Options::default().patched(&sandbox).unwrap();
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
            sandbox: Sandbox::start(options).await.unwrap(),
        };
        desk.write_plan(rows);
        desk.write_config(&desk.sandbox.base_url, "200/s");
        desk
    }

    fn plan(&self) -> PathBuf {
        self.dir.path().join("plan.jsonl")
    }

    fn journal(&self) -> PathBuf {
        Journal::path_of(&self.plan(), None)
    }

    fn write_plan(&self, rows: usize) {
        let mut lines = Vec::new();
        for row in 0..rows {
            // A server is the target of one row only.
            let mut body: Value = serde_json::from_slice(&body(&format!("s{row}"), 1)).unwrap();
            body["target_server"]["vm_id"] = format!("vm-{row}").into();
            serde_json::to_writer(&mut lines, &body).unwrap();
            lines.push(b'\n');
        }
        fs::write(self.plan(), lines).unwrap();
    }

    fn write_config(&self, endpoint: &str, rate: &str) {
        let text = format!(
            "[limits]\nrates = [{rate:?}]\n[retry]\ninitial = \"50ms\"\nmax = \"500ms\"\n\
             [api]\nendpoint = {endpoint:?}\ntimeout = \"500ms\"\nconnect_timeout = \"400ms\"\nlook_again = \"700ms\"\n\
             [api.auth]\nkind = \"token\"\ntoken = {TOKEN:?}\n"
        );
        fs::write(self.dir.path().join("lane.toml"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().arg("submit").arg(self.plan());
        command.arg("-c").arg(self.dir.path().join("lane.toml")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self) -> Child {
        self.command(&["--json"]).spawn().unwrap()
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    fn created(&self) -> u64 {
        self.sandbox.stats(&[]).tasks.created
    }

    async fn until_created(&self, count: u64) {
        until_so("submitted", || self.created() >= count).await;
    }

    /// Lines of the journal.
    fn written(&self) -> usize {
        let journal = fs::read(self.journal()).unwrap_or_default();
        String::from_utf8_lossy(&journal).matches('\n').count()
    }

    async fn until_written(&self, lines: usize) {
        until_so("written", || self.written() >= lines).await;
    }

    /// Of each source server its results, of which each must be the only one.
    fn results(&self) -> BTreeMap<String, Value> {
        let mut results = BTreeMap::new();
        for line in fs::read_to_string(self.journal()).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if let Some(source) = line["subject"].as_str() {
                let before = results.insert(source.to_owned(), line["data"].clone());
                assert_eq!(before, None, "{source} has two results");
            }
        }
        results
    }

    /// The head of the journal.
    fn head(&self) -> Value {
        let journal = fs::read_to_string(self.journal()).unwrap();
        serde_json::from_str(journal.lines().next().unwrap()).unwrap()
    }

    /// Every server of the plan has one task at the API and one result that names it.
    fn every_server_exactly_once(&self, rows: usize) {
        let stats = self.sandbox.stats(&[]);
        assert_eq!((stats.tasks.created, stats.created_twice.sources), (rows as u64, 0));
        let tasks: BTreeMap<_, _> = self
            .sandbox
            .tasks()
            .iter()
            .map(|task| (task.source().to_owned(), task.id.clone()))
            .collect();
        let results = self.results();
        assert_eq!(results.len(), rows);
        for (source, result) in results {
            assert_eq!(result["outcome"], "created", "{source}");
            assert_eq!(result["task_id"], tasks[&source][..], "{source}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap()
}

fn kinds(journal: &Path) -> Vec<&'static str> {
    let kind = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let known = ["digest", "opened", "started", "data"];
        known.into_iter().find(|key| line.get(key).is_some()).unwrap()
    };
    fs::read_to_string(journal).unwrap().lines().map(kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_submitted_and_a_second_run_sends_nothing() {
    let desk = Desk::new(20, json!({})).await;
    let output = desk.run(&["--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["outcomes"], json!({ "created": 20 }));
    assert_eq!((&summary["left"], &summary["failed"]), (&json!(0), &json!(0)));
    desk.every_server_exactly_once(20);
    let kinds = kinds(&desk.journal());
    assert_eq!(kinds[..3], ["digest", "opened", "started"]);
    assert_eq!(kinds.iter().filter(|kind| **kind == "started").count(), 20);

    let before = fs::read(desk.journal()).unwrap();
    let calls = desk.sandbox.calls().len();
    let again = desk.run(&["--json"]).await;
    assert_eq!((again.status.code(), &again.stdout), (Some(0), &output.stdout));
    assert_eq!(desk.sandbox.calls().len(), calls);
    assert_eq!(fs::read(desk.journal()).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_post_is_in_the_journal_before_it_is_sent() {
    // The API takes no POST before the file says so: looked at while the first ones hang.
    let hang = json!({ "faults": [{ "call": "create", "delay": { "fixed": "300ms" } }] });
    let desk = Desk::new(5, hang).await;
    let child = desk.start();
    until_so("sent", || desk.sandbox.stats(&[]).max_creates_in_flight >= 1).await;
    let arrived = desk.sandbox.stats(&[]).calls(Kind::Create);
    let started = kinds(&desk.journal()).iter().filter(|kind| **kind == "started").count() as u64;
    assert!(started >= arrived, "{started} written, {arrived} sent");
    assert_eq!(ended(child).await.status.code(), Some(0));
    desk.every_server_exactly_once(5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_fifty_random_points_it_creates_every_server_exactly_once() {
    // Answers take up to 60 ms and some come never, so that a kill finds some sent, some applied, some answered.
    let slow = json!({
        "latency": { "fixed": "5ms", "jitter": "55ms" },
        "faults": [{ "call": "create", "probability": 0.05, "do": { "close": { "applied": true } } }],
    });
    let rows = 600;
    let desk = Desk::new(rows, slow).await;
    desk.write_config(&desk.sandbox.base_url, "20/s");
    let mut random = fastrand::Rng::with_seed(4);
    let (mut kills, mut torn) = (0, 0);
    while kills < 50 {
        let written = desk.written();
        let mut child = desk.start();
        // Half of them at a time of the clock; half of them, however slow the machine is, while it is at work.
        let longest = if kills % 2 == 0 {
            desk.until_written(written + random.usize(2..10)).await;
            60
        } else {
            1200
        };
        tokio::time::sleep(Duration::from_millis(random.u64(1..longest))).await;
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended after {kills} kills ({status}): the plan is too short");
        }
        // SIGKILL
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        // What a power cut leaves: half a line, now and then.
        if kills % 5 == 0 && desk.journal().exists() {
            let mut journal = fs::read(desk.journal()).unwrap();
            journal.extend_from_slice(br#"{"started":"0193"#);
            fs::write(desk.journal(), journal).unwrap();
            torn += 1;
        }
    }
    let before = desk.created();
    desk.write_config(&desk.sandbox.base_url, "400/s");
    let output = desk.run(&["--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(before > 20, "the kills came before anything was sent ({before})");
    assert!(torn > 5);
    desk.every_server_exactly_once(rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_lets_what_is_in_flight_end_and_the_next_run_goes_on_without_a_doubt() {
    let slow = json!({ "latency": { "fixed": "100ms" } });
    let desk = Desk::new(60, slow).await;
    desk.write_config(&desk.sandbox.base_url, "50/s");
    let child = desk.start();
    desk.until_created(5).await;
    signal(&child, "INT");
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("run the same command again"));
    let created = desk.created();
    assert!(created < 60);
    assert_eq!(
        desk.results().len() as u64,
        created,
        "what was sent has ended, and is written down"
    );
    let output = desk.run(&[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // Nothing was in flight. But one whose beginning a slow disk wrote down too late for its permit may have waited for
    // another one: it is looked up first, as after a crash. Each run asks for a list at its start.
    let looked_up = desk.sandbox.stats(&[]).calls(Kind::List);
    let in_doubt = text(&output.stderr).contains("in doubt");
    assert!(in_doubt || looked_up == 2, "{looked_up}: {}", text(&output.stderr));
    desk.every_server_exactly_once(60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_is_looked_up_before_it_is_sent() {
    let desk = Desk::new(3, json!({})).await;
    assert_eq!(desk.run(&[]).await.status.code(), Some(0));
    // As if it had died before the results were written: all three are begun, and the API has them.
    let whole = fs::read_to_string(desk.journal()).unwrap();
    let begun: Vec<_> = whole.lines().filter(|line| !line.contains("\"data\"")).collect();
    fs::write(desk.journal(), begun.join("\n") + "\n").unwrap();
    let output = desk.run(&[]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("3 are in doubt"), "{}", text(&output.stderr));
    assert_eq!(desk.sandbox.stats(&[]).calls(Kind::Create), 3, "looked up, not sent again");
    desk.every_server_exactly_once(3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_told_who_submits_the_plan() {
    let desk = Desk::new(4, json!({})).await;
    desk.write_config(&desk.sandbox.base_url, "1/s");
    let first = desk.start();
    desk.until_created(1).await;
    let second = desk.run(&[]).await;
    assert_eq!(second.status.code(), Some(2));
    let said = text(&second.stderr);
    let process = format!("process {} since ", first.id());
    assert!(said.contains("is being submitted already, by ") && said.contains(&process), "{said}");
    assert!(matches!(
        Journal::open(&desk.plan(), None),
        Err(JournalError::Locked { by: Some(_), .. })
    ));
    assert_eq!(ended(first).await.status.code(), Some(0));
    desk.every_server_exactly_once(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_plan_or_another_api_is_refused_with_advice() {
    let desk = Desk::new(4, json!({})).await;
    assert_eq!(desk.run(&[]).await.status.code(), Some(0));
    desk.write_plan(5);
    for args in [&[][..], &["--dry-run"]] {
        let changed = desk.run(args).await;
        assert_eq!(changed.status.code(), Some(2));
        let said = text(&changed.stderr);
        assert!(said.contains("4 of 4 rows have ended") && said.contains("put it back"), "{said}");
    }
    desk.write_plan(4);
    desk.write_config("http://127.0.0.1:9", "5/s");
    let elsewhere = desk.run(&[]).await;
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(text(&elsewhere.stderr).contains("was submitted to http://127.0.0.1:"));
    assert_eq!(desk.created(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_say_how_it_went() {
    let refuse = json!({ "faults": [{ "source": "s1", "call": "create",
        "do": { "answer": { "status": 400, "code": "SMS.0202", "message": "no such template" } } }] });
    let desk = Desk::new(3, refuse).await;
    let output = desk.run(&["--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("row 2: migrate-s1 (s1): rejected"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(desk.created(), 2);

    let desk = Desk::new(2, json!({})).await;
    let mut plan = fs::read_to_string(desk.plan()).unwrap();
    plan.push_str("{\"name\":\"\"}\n");
    fs::write(desk.plan(), plan).unwrap();
    let invalid = desk.run(&[]).await;
    assert_eq!(invalid.status.code(), Some(3));
    assert!(text(&invalid.stderr).contains("1 of 3 rows are invalid"), "{}", text(&invalid.stderr));
    assert!(!desk.journal().exists() && desk.sandbox.calls().is_empty());

    desk.write_plan(2);
    desk.write_config("http://127.0.0.1:9", "5/s");
    let away = desk.run(&[]).await;
    assert_eq!(away.status.code(), Some(4), "{}", text(&away.stderr));
    assert!(text(&away.stderr).contains("the API is unreachable"), "{}", text(&away.stderr));
    // Nothing was begun, so the right configuration may begin it.
    desk.write_config(&desk.sandbox.base_url, "50/s");
    assert_eq!(desk.run(&[]).await.status.code(), Some(0));
    desk.every_server_exactly_once(2);
}

/// One is refused and one meets a service error, at first. Then the API is well again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_end_well_is_tried_again_when_asked_and_nothing_else_is() {
    let trouble = json!({ "faults": [
        { "source": "s1", "call": "create", "do": { "answer": { "status": 400, "code": "SMS.0202", "message": "no" } } },
        { "source": "s2", "call": "create", "do": { "answer": {} } },
    ] });
    let desk = Desk::new(5, trouble).await;
    let failed = desk.run(&["--json", "-o", "retry.attempts=2"]).await;
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    assert!(text(&failed.stderr).contains("--failed tries them again"), "{}", text(&failed.stderr));
    let summary: Value = serde_json::from_slice(&failed.stdout).unwrap();
    assert_eq!((&summary["failed"], &summary["left"]), (&json!(2), &json!(0)), "{summary}");
    desk.sandbox.set_faults(Vec::new()).unwrap();
    let calls = desk.sandbox.stats(&[]).calls(Kind::Create);
    // Without being asked nothing is done again.
    assert_eq!(desk.run(&[]).await.status.code(), Some(1));
    assert_eq!(desk.sandbox.stats(&[]).calls(Kind::Create), calls);
    let again = desk.run(&["--failed", "--json"]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert!(text(&again.stderr).contains("2 that did not end well are tried again"));
    let summary: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(summary["outcomes"], json!({ "created": 5 }), "{summary}");
    let stats = desk.sandbox.stats(&[]);
    assert_eq!((stats.tasks.created, stats.created_twice.sources), (5, 0));
    assert_eq!(stats.calls(Kind::Create), calls + 2);
    let none = desk.run(&["--failed"]).await;
    assert_eq!(none.status.code(), Some(0));
    assert!(text(&none.stderr).contains("none has failed"), "{}", text(&none.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_of_every_row_before_and_after_it_ended() {
    let refuse = json!({ "faults": [{ "source": "s1", "call": "create",
        "do": { "answer": { "status": 400, "code": "SMS.0202", "message": "no" } } }] });
    let desk = Desk::new(3, refuse).await;
    let report = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().arg("report").arg(desk.plan());
        command.arg("-c").arg(desk.dir.path().join("lane.toml")).args(more).output().unwrap()
    };
    let unsent = report(&[]);
    assert_eq!(unsent.status.code(), Some(2));
    assert!(text(&unsent.stderr).contains("no journal beside it"), "{}", text(&unsent.stderr));
    assert_eq!(desk.run(&[]).await.status.code(), Some(1));
    let told = report(&[]);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told.stderr));
    let said = text(&told.stdout);
    assert!(said.contains("row 2: ") && said.contains("created 2, rejected 1"), "{said}");
    // As if it had been interrupted: the second was begun, the third was not.
    let journal = fs::read_to_string(desk.journal()).unwrap();
    let of = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let goes = |line: &&str| {
        let (result, begun) = (of(line)["data"]["row"].clone(), of(line)["row"].clone());
        result != 2 && result != 3 && begun != 3
    };
    let kept: String = journal.lines().filter(goes).flat_map(|line| [line, "\n"]).collect();
    fs::write(desk.journal(), kept).unwrap();
    let told = report(&["--json"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stderr));
    let rows: Vec<Value> =
        text(&told.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = rows[..3].iter().map(|row| row["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ended", "begun", "not_sent"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_shows_the_order_the_times_and_one_body_and_sends_nothing() {
    let desk = Desk::new(30, json!({})).await;
    desk.write_config(&desk.sandbox.base_url, "1/s");
    let mut rows: Vec<Value> = fs::read_to_string(desk.plan())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    rows[28]["x-sluice-priority"] = json!(900);
    rows[4]["x-sluice-not-before"] = json!("2030-01-01T00:00:00Z");
    let lines: String = rows.iter().flat_map(|row| [row.to_string(), "\n".to_owned()]).collect();
    fs::write(desk.plan(), lines).unwrap();
    let output = desk.run(&["--dry-run"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let start = "30 rows, 0 have ended, 0 are in doubt and would be looked up first, 30 would be submitted to ";
    assert!(said.contains(start) && said.contains("forecast: "), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let order: Vec<&str> = lines
        .iter()
        .filter(|line| line.contains("migrate-s"))
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    // the most urgent row, then as they stand, and the one that waits last
    let mut expected = vec!["29".to_owned()];
    expected.extend((1..=20).filter(|row| *row != 5).map(|row| row.to_string()));
    expected.push("5".to_owned());
    assert_eq!(order, expected, "{said}");
    assert!(said.contains("...                      9 more\n"), "{said}");
    let last = lines.iter().find(|line| line.contains(" (s4)")).unwrap();
    assert!(last.starts_with("Tue 2030-01-01 00:00:0"), "{last}");
    let body: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(body["source_server"]["id"], "s28", "as it is sent: without settings");
    assert!(body.get("x-sluice-priority").is_none() && said.contains("the body of row 29, as it"));
    assert!(!desk.journal().exists() && desk.sandbox.calls().is_empty());

    let output = desk.run(&["--dry-run", "--json"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["left"], &told["in_doubt"]), (&json!(30), &json!(0)));
    assert_eq!(
        (&told["first"][0]["row"], &told["first"][0]["priority"]),
        (&json!(29), &json!(900))
    );
    let at =
        |n: usize| told["first"][n]["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(at(10).duration_since(at(1)).as_secs() >= 8, "one a second: {told}");
    assert_eq!(told["body"].as_str().unwrap(), lines.last().unwrap().to_owned());
}

/// Ended, in doubt and left are all rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sums_of_a_dry_run_add_up() {
    let desk = Desk::new(6, json!({})).await;
    assert_eq!(desk.run(&[]).await.status.code(), Some(0));
    // two results are lost, one of them with the word that it was begun
    let lines: Vec<String> =
        fs::read_to_string(desk.journal()).unwrap().lines().map(str::to_owned).collect();
    let is_result = |line: &&String| line.contains("\"data\"");
    let lost: Vec<String> = lines.iter().filter(is_result).take(2).cloned().collect();
    let run = |line: &String| {
        serde_json::from_str::<Value>(line).unwrap()["data"]["run"].as_str().unwrap().to_owned()
    };
    let unbegun = run(&lost[1]);
    let kept: String = lines
        .iter()
        .filter(|line| !lost.contains(*line))
        .filter(|line| !(line.contains("\"started\"") && line.contains(&unbegun)))
        .flat_map(|line| [line.as_str(), "\n"])
        .collect();
    fs::write(desk.journal(), kept).unwrap();
    let output = desk.run(&["--dry-run"]).await;
    let said = text(&output.stdout);
    assert!(
        said.contains("6 rows, 4 have ended, 1 are in doubt and would be looked up first, 1 would be submitted"),
        "{said}"
    );
    assert!(said.contains("looked up first\n"), "{said}");
}

/// Nothing was sent, so nothing is left behind that says a plan was begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_submit_leaves_no_journal() {
    let desk = Desk::new(2, json!({})).await;
    desk.write_config("http://127.0.0.1:9", "5/s");
    let nowhere = desk.run(&[]).await;
    assert_eq!(nowhere.status.code(), Some(4), "{}", text(&nowhere.stderr));
    assert!(!desk.journal().exists());
    desk.write_config(&desk.sandbox.base_url, "5/s");
    let refused = desk.run(&["-o", "api.auth.token=wrong"]).await;
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));
    assert!(!desk.journal().exists());
    assert_eq!(desk.run(&[]).await.status.code(), Some(0));
    assert!(desk.journal().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_smaller_than_the_plan_is_enough() {
    let desk = Desk::new(50, json!({})).await;
    let output = desk.run(&["-o", "window.size=4", "-o", "window.max_bytes=1KiB"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    desk.every_server_exactly_once(50);
    let generation = &desk.head()["batch_run"];
    assert!(
        generation.is_string() && desk.results().values().all(|r| r["batch_run"] == *generation)
    );
}

#[test]
fn a_journal_cut_at_any_byte_is_fixed_and_what_is_none_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.csv");
    let run = "0193e1a0-0000-7000-8000-000000000001";
    let whole = format!(
        "{}\n{}\n{}\n{}\n",
        json!({ "batch": "b", "enqueued_at": "2026-11-28T14:00:00.123Z", "total": 1, "digest": "00", "endpoint": "e" }),
        json!({ "opened": "2026-11-28T14:00:00Z", "by": "ann@desk, process 7" }),
        json!({ "started": run, "row": 1, "at": "2026-11-28T14:00:01Z" }),
        json!({ "type": "sluice.request.created", "data": { "run": run, "outcome": "created" } }),
    );
    // As it is written: the key that tells a journal comes first.
    assert!(whole.starts_with("{\"batch\":\""));
    for cut in 0..=whole.len() {
        fs::write(Journal::path_of(&plan, None), &whole[..cut]).unwrap();
        let (journal, past) = Journal::open(&plan, None).unwrap();
        let lines = whole[..cut].matches('\n').count();
        assert_eq!(past.head.is_some(), lines >= 1);
        assert_eq!(
            (past.started.len(), past.ended.len()),
            (usize::from(lines == 3), usize::from(lines == 4))
        );
        drop(journal);
        // Where nothing was begun no file is left.
        let kept = fs::read_to_string(Journal::path_of(&plan, None)).unwrap_or_default();
        let end = whole[..cut].rfind('\n').map_or(0, |end| end + 1);
        assert_eq!(kept, whole[..end]);
    }
    for other in ["hello", "hello\n", "{}\n", "{\"started\":1}\n"] {
        fs::write(Journal::path_of(&plan, None), other).unwrap();
        assert!(
            matches!(Journal::open(&plan, None), Err(JournalError::Unreadable { line: 1, .. })),
            "{other}"
        );
        assert_eq!(fs::read_to_string(Journal::path_of(&plan, None)).unwrap(), other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_from_a_pipe_is_submitted_once_and_goes_on_under_a_name_of_its_own() {
    let desk = Desk::new(3, json!({})).await;
    let piped = || {
        let plan = fs::File::open(desk.plan()).unwrap();
        let mut cat = Command::new("cat").stdin(plan).stdout(Stdio::piped()).spawn().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.env_clear().args(["submit", "-", "--format", "jsonl", "-c", "lane.toml"]);
        command.current_dir(desk.dir.path()).stdin(cat.stdout.take().unwrap());
        let output = command.output().unwrap();
        cat.wait().unwrap();
        output
    };
    let first = tokio::task::block_in_place(piped);
    assert_eq!(first.status.code(), Some(0), "{}", String::from_utf8_lossy(&first.stderr));
    assert_eq!(desk.created(), 3);
    let again = tokio::task::block_in_place(piped);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(desk.created(), 3, "the same plan goes on, and all of it has ended");
    let names = fs::read_dir(desk.dir.path()).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("plan-"));
    assert!(
        matches!(&names[..], [name] if name.ends_with(".jsonl.results.jsonl")),
        "beside nobody's pipe: {names:?}"
    );
}

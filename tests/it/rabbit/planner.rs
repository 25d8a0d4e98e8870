//! The planner's commands as processes, on a real broker: enqueue, watch, and what happens when they die.
//! (Tests have several threads, because the commands are waited for without an `await`, and the sandbox answers here.)

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};
use sluicegate::broker::ReadFrom;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::streams::follow::Results;
use sluicegate::broker::topology;
use sluicegate::message::result::Event;
use sluicegate::sandbox::{Options, Sandbox, TOKEN};
use tempfile::TempDir;

use crate::support::form::number;
use crate::support::rabbit::{Client, Lane, Node};
use crate::support::wait::until_so;

/// A planner's desk: a directory, and a lane whose exchanges and queues are there.
pub(super) struct Desk {
    dir: TempDir,
    pub(super) lane: Lane,
    pub(super) config: PathBuf,
}

impl Desk {
    pub(super) async fn new() -> Self {
        let lane = Lane::new(&Node::shared(), QueueType::Quorum);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        Self::on(lane)
    }

    pub(super) fn on(lane: Lane) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = lane.settings.url.as_ref().unwrap().iter().next().unwrap().expose().to_owned();
        let config = dir.path().join("lane.toml");
        let text = format!(
            "[broker]\nurl = \"{url}\"\n[queues]\nprefix = \"{}\"\n[http]\nlisten = \"\"\n[limits]\nrates = []\n",
            lane.queues.prefix
        );
        std::fs::write(&config, text).unwrap();
        Self { dir, lane, config }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plan of so many servers.
    pub(super) fn plan(&self, rows: usize) -> PathBuf {
        self.plan_of("plan", 0..rows)
    }

    pub(super) fn plan_of(&self, name: &str, rows: std::ops::Range<usize>) -> PathBuf {
        let mut text = String::new();
        for row in rows {
            let _ = writeln!(text, "{}", request(row));
        }
        let path = self.path(&format!("{name}.jsonl"));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What the results stream says of batches: each event's type and data.
    pub(super) async fn announcements(&self) -> Vec<(String, Value)> {
        let (settings, queues) = (&self.lane.settings, &self.lane.queues);
        let mut results = Results::open(settings, queues, ReadFrom::First).await.unwrap();
        let mut told = Vec::new();
        while !results.is_caught_up() {
            told.extend(results.next().await.and_then(|event| match event {
                Event::Opened(event) => Some((event.kind, json!(event.data))),
                Event::Enqueued(event) => Some((event.kind, json!(event.data))),
                Event::Result(_) => None,
            }));
        }
        results.close().await;
        told
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command
            .env_clear()
            .env("USER", "mei")
            .args(args)
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null());
        command
    }

    pub(super) fn sluice(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A worker against a sandbox; the sandbox is told how fast it is to be.
    pub(super) async fn worker(&self, options: Options) -> Worker {
        self.worker_at(options, "").await
    }

    /// Empty: no limit.
    pub(super) async fn worker_at(&self, options: Options, rate: &str) -> Worker {
        let sandbox = Sandbox::start(options).await.unwrap();
        let child = self
            .command(&[
                "run",
                "-o",
                &format!("api.endpoint={}", sandbox.base_url),
                "-o",
                "limits.max_in_flight=64",
                "-o",
                &format!("limits.rates={rate}"),
            ])
            .env("SLUICE_API__AUTH__TOKEN", TOKEN)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Worker { sandbox, child }
    }
}

pub(super) struct Worker {
    pub(super) sandbox: Sandbox,
    child: Child,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn request(row: usize) -> Value {
    json!({
        "name": format!("task-{row}"), "type": "MIGRATE_FILE", "os_type": "LINUX", "priority": row % 7,
        "source_server": {"id": format!("source-{row}")},
        "target_server": {"vm_id": format!("vm-{row}"), "name": "target"},
        "region_id": "r1", "region_name": "Region 1", "project_id": "p1", "project_name": "Project 1",
    })
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_enqueued_worked_and_watched_to_its_end() {
    let desk = Desk::new().await;
    let worker = desk.worker(Options::default()).await;
    let plan = desk.plan(300);
    let started = Instant::now();
    let enqueued = desk.sluice(&["enqueue", plan.to_str().unwrap()]);
    assert_eq!(enqueued.status.code(), Some(0), "{}", text(&enqueued.stderr));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let batch = text(&enqueued.stdout).trim().to_owned();
    let watched = desk.sluice(&["watch", &batch, "--until-done", "--json"]);
    assert_eq!(watched.status.code(), Some(0), "{}", text(&watched.stderr));
    let told = lines(&watched);
    let summary = told.last().unwrap();
    assert_eq!(
        (&summary["type"], &summary["total"], &summary["settled"]),
        (&json!("summary"), &json!(300), &json!(300))
    );
    assert_eq!(summary["outcomes"], json!({ "created": 300 }));
    assert_eq!(told.len(), 301);
    assert_eq!(worker.sandbox.tasks().len(), 300);
    // Days later, from anywhere: the same totals.
    let later = desk.sluice(&["watch", &batch]);
    assert!(
        text(&later.stdout).contains("300 of 300 have ended: created 300"),
        "{}",
        text(&later.stdout)
    );
    let listed = desk.sluice(&["watch"]);
    assert!(text(&listed.stdout).contains(&format!("{batch}  ")), "{}", text(&listed.stdout));
    assert!(text(&listed.stdout).contains("plan.jsonl by mei@"), "{}", text(&listed.stdout));
}

/// A result as a worker writes it.
pub(super) fn result(batch: &str, number: u32) -> Value {
    json!({
        "specversion": "1.0", "id": uuid::Uuid::from_u128(number.into()), "source": "s",
        "type": "sluice.request.created", "time": jiff::Timestamp::now(),
        "datacontenttype": "application/json",
        "data": {
            "request_id": number.to_string(), "run": uuid::Uuid::from_u128(number.into()),
            "batch": batch, "name": "n", "source_server_id": "s", "project_id": "p",
            "region_id": "r", "priority": 1, "outcome": "created", "attempts": 1, "looked_up": 0,
            "settled_at": jiff::Timestamp::now(), "worker": "w",
        },
    })
}

/// Results of another batch, a hundred a second, until it is aborted.
async fn flow(client: Client, exchange: String) {
    let mut due = tokio::time::interval(Duration::from_millis(10));
    for number in 0_u32.. {
        due.tick().await;
        let body = serde_json::to_vec(&result("others", number)).unwrap();
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let exchange = exchange.as_str().into();
        let publish = client.channel.basic_publish(
            exchange,
            "created.others".into(),
            options,
            &body,
            properties,
        );
        let _confirm = publish.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn watch_answers_beside_a_flow_of_others_that_never_pauses() {
    let desk = Desk::new().await;
    let plan = desk.plan(20);
    let worker = desk.worker(Options::default()).await;
    let enqueued = desk.sluice(&["enqueue", plan.to_str().unwrap(), "--batch", "ended", "--watch"]);
    assert_eq!(enqueued.status.code(), Some(0), "{}", text(&enqueued.stderr));
    drop(worker);
    let flow = tokio::spawn(flow(desk.lane.client().await, desk.lane.queues.results()));
    let others =
        || lines(&desk.sluice(&["watch", "--json"])).iter().any(|b| b["batch"] == "others");
    until_so("the others flow", others).await;
    let report = desk.path("report.csv");
    let report = report.to_str().unwrap();
    for args in [
        &["watch", "ended"][..],
        &["watch", "ended", "--until-done", "--json"],
        &["watch", "ended", "--export", report],
    ] {
        let told = desk.sluice(args);
        assert_eq!(told.status.code(), Some(0), "{args:?}: {}", text(&told.stderr));
        let told = text(&told.stdout);
        assert!(told.contains("20 of 20") || told.contains(r#""settled":20"#), "{args:?}: {told}");
    }
    let rows = std::fs::read_to_string(report).unwrap().lines().count();
    assert_eq!(rows, 21);
    let unknown = desk.sluice(&["watch", "nobodys"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", text(&unknown.stderr));
    assert!(text(&desk.sluice(&["watch"]).stdout).contains("20 of 20"));
    assert!(!flow.is_finished(), "it flowed all the time");
    flow.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_with_their_row_and_reason_and_end_with_1() {
    let desk = Desk::new().await;
    let worker = desk.worker(Options::default()).await;
    // Two rows whose servers have tasks of other names already.
    for row in [3, 5] {
        let mut other = request(row);
        other["name"] = "somebody-elses".into();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let post = reqwest::Client::new().post(format!("{}/v3/tasks", worker.sandbox.base_url));
        let answer = post.header("X-Auth-Token", TOKEN).json(&other).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let plan = desk.plan(20);
    let watched =
        desk.sluice(&["enqueue", plan.to_str().unwrap(), "--batch", "weekend", "--watch"]);
    assert_eq!(watched.status.code(), Some(1), "{}", text(&watched.stderr));
    let failures: Vec<_> = text(&watched.stderr)
        .lines()
        .filter(|line| line.contains(": conflict"))
        .map(str::to_owned)
        .collect();
    assert_eq!(failures.len(), 2, "{}", text(&watched.stderr));
    assert!(
        failures.iter().any(|line| line.starts_with("row 4: task-3 (source-3): conflict")),
        "{failures:?}"
    );
    assert!(
        text(&watched.stdout)
            .contains("2 did not end well: sluice dead-letters list --batch weekend")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_plan_is_not_sent_and_its_bad_rows_can_be_set_aside() {
    let desk = Desk::new().await;
    let plan = desk.plan(10);
    let mut rows = std::fs::read_to_string(&plan).unwrap();
    rows = rows
        .replace("\"source-2\"", "null")
        .replace("\"task-7\"", "7")
        .replace("\"source-9\"", "\"source-8\"");
    std::fs::write(&plan, rows).unwrap();
    let plan = plan.to_str().unwrap();
    let refused = desk.sluice(&["enqueue", plan]);
    assert_eq!(refused.status.code(), Some(3));
    let said = text(&refused.stderr);
    for row in [3, 8, 10] {
        assert!(said.contains(&format!("row {row}, ")), "{said}");
    }
    assert!(
        said.contains("3 of 10 rows are invalid") && said.contains("nothing was sent"),
        "{said}"
    );
    let client = desk.lane.client().await;
    assert_eq!(client.depth(&desk.lane.queues.requests()).await, 0);
    let aside = desk.path("bad.jsonl");
    // Neither the plan nor any other file is written over, and what goes wrong leaves no file.
    let before = std::fs::read(plan).unwrap();
    for more in [&[][..], &["--overwrite"]] {
        let itself = desk.sluice(&[&["enqueue", plan, "--skip-invalid", plan], more].concat());
        assert_eq!(itself.status.code(), Some(2), "{}", text(&itself.stderr));
    }
    assert_eq!(std::fs::read(plan).unwrap(), before);
    let other = desk.path("mine.txt");
    let other = other.to_str().unwrap();
    std::fs::write(other, "mine").unwrap();
    let kept = desk.sluice(&["enqueue", plan, "--skip-invalid", other]);
    assert_eq!(kept.status.code(), Some(2));
    assert!(text(&kept.stderr).contains("--overwrite"), "{}", text(&kept.stderr));
    assert_eq!(std::fs::read_to_string(other).unwrap(), "mine");
    let missing =
        desk.sluice(&["enqueue", "nowhere.csv", "--skip-invalid", aside.to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(!aside.exists());
    let sent = desk.sluice(&["enqueue", plan, "--skip-invalid", aside.to_str().unwrap(), "--json"]);
    assert_eq!(sent.status.code(), Some(1), "three are not in it: {}", text(&sent.stderr));
    assert_eq!((&lines(&sent)[0]["total"], &lines(&sent)[0]["skipped"]), (&json!(7), &json!(3)));
    client.wait_for_depth(&desk.lane.queues.requests(), 7).await;
    let set_aside = std::fs::read_to_string(aside).unwrap();
    assert_eq!(set_aside.lines().filter(|line| line.starts_with('{')).count(), 3, "{set_aside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_identity_travel_in_properties() {
    // A quorum queue with a single active consumer lets nobody fetch one message.
    let desk = Desk::on(Lane::new(&Node::shared(), QueueType::Classic));
    topology::apply(&desk.lane.settings, &desk.lane.queues).await.unwrap();
    let plan = desk.plan(1);
    let args = [
        "--not-before",
        "2030-01-02T03:04:05Z",
        "--deadline",
        "2031-01-01T00:00:00Z",
        "--priority",
        "65535",
    ];
    let sent =
        desk.sluice(&[&["enqueue", plan.to_str().unwrap(), "--batch", "b-1"][..], &args].concat());
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let message = desk.lane.client().await.take(&desk.lane.queues.requests()).await.unwrap();
    let header = |name: &str| message.header(&format!("x-sluice-{name}"));
    assert_eq!(header("batch").as_deref(), Some("b-1"));
    let journal = std::fs::read_to_string(format!("{}.batch", plan.display())).unwrap();
    let head: Value = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    assert_eq!(header("batch-run").as_deref(), head["batch_run"].as_str());
    let told = desk.announcements().await;
    let kinds: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["sluice.batch.opened", "sluice.batch.enqueued"]);
    assert!(told.iter().all(|(_, of)| of["batch_run"] == head["batch_run"]), "{told:?}");
    assert_eq!(header("row").as_deref(), Some("1"));
    assert_eq!(header("not-before").as_deref(), Some("2030-01-02T03:04:05Z"));
    assert_eq!(header("deadline").as_deref(), Some("2031-01-01T00:00:00Z"));
    assert_eq!(header("priority").as_deref(), Some("65535"));
    let body = request(0).to_string();
    assert_eq!(text(&message.body), body, "the planner's bytes arrive");
    let run = header("batch-run").unwrap();
    let id = sluicegate::planner::enqueue::message_id(&run, "source-0", body.as_bytes());
    assert_eq!(message.id(), id.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_plan_is_sent_again_only_when_asked_and_a_begun_one_goes_on_as_it_was() {
    let desk = Desk::new().await;
    let plan = desk.plan(5);
    let plan = plan.to_str().unwrap();
    assert_eq!(desk.sluice(&["enqueue", plan, "--batch", "first"]).status.code(), Some(0));
    let refused = desk.sluice(&["enqueue", plan]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("as batch first (5 requests)") && said.contains("--again"), "{said}");
    let journal = format!("{plan}.batch");
    let first = std::fs::read_to_string(&journal).unwrap();
    assert_eq!(desk.sluice(&["enqueue", plan, "--again"]).status.code(), Some(0));
    desk.lane.client().await.wait_for_depth(&desk.lane.queues.requests(), 10).await;
    let both = std::fs::read_to_string(&journal).unwrap();
    assert!(both.starts_with(&first) && both.len() > first.len(), "the first journal stays");
    // A batch that was begun goes on with the same plan only.
    let head = first.lines().next().unwrap();
    std::fs::write(&journal, format!("{head}\n")).unwrap();
    let changed = std::fs::read_to_string(plan).unwrap().replace("task-1", "task-one");
    std::fs::write(plan, changed).unwrap();
    let refused = desk.sluice(&["enqueue", plan]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("the plan has changed since"), "{said}");
}

/// Killed at random points of its run and run again each time, one plan after the other: every server once.
#[tokio::test(flavor = "multi_thread")]
async fn enqueue_killed_at_random_points_goes_on_and_doubles_nothing() {
    let wanted = number("SLUICE_KILLS", 8, 50);
    let desk = Desk::new().await;
    let started = Instant::now();
    let whole = desk.plan_of("plan-0", 0..ROWS);
    let enqueued = desk.sluice(&["enqueue", whole.to_str().unwrap()]);
    assert_eq!(enqueued.status.code(), Some(0), "{}", text(&enqueued.stderr));
    let run = u64::try_from(started.elapsed().as_millis()).unwrap();
    let mut plans = vec![whole];
    let mut random = fastrand::Rng::with_seed(4);
    let mut kills = 0;
    // A machine that has become busier since must not kill each run before it has published anything, for ever.
    let mut longest = run * 3 / 4;
    while kills < wanted || !is_finished(plans.last().unwrap()) {
        if is_finished(plans.last().unwrap()) {
            longest = run * 3 / 4;
            let from = plans.len() * ROWS;
            plans.push(desk.plan_of(&format!("plan-{}", plans.len()), from..from + ROWS));
        }
        let plan = plans.last().unwrap();
        let mut child = desk
            .command(&["enqueue", plan.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Anywhere: the start, the journal, the publishing, the end.
        tokio::time::sleep(Duration::from_millis(random.u64(0..=longest))).await;
        child.kill().unwrap();
        kills += u32::from(!child.wait().unwrap().success());
        longest += longest / 8;
        assert!(plans.len() < 200, "no kill ever hits");
    }
    let worker = desk.worker(Options::default()).await;
    let end = Instant::now() + Duration::from_secs(120);
    let batches = loop {
        let batches = lines(&desk.sluice(&["watch", "--json"]));
        if batches.iter().all(|batch| batch["done"] == true) {
            break batches;
        }
        assert!(Instant::now() < end, "not done: {batches:?}");
    };
    assert_eq!(batches.len(), plans.len());
    for batch in batches {
        assert_eq!(batch["outcomes"], json!({ "created": ROWS }), "{batch}");
        assert_eq!(batch["total"], json!(ROWS), "{batch}");
    }
    let mut sources: Vec<_> =
        worker.sandbox.tasks().into_iter().map(|task| task.made.source_server_id).collect();
    let tasks = sources.len();
    sources.sort();
    sources.dedup();
    let all = plans.len() * ROWS;
    assert_eq!((sources.len(), tasks), (all, all), "killed {kills} times");
    println!("killed {kills} times in {} plans", plans.len());
}

/// Of a plan that is killed while it is enqueued.
const ROWS: usize = 210;

fn is_finished(plan: &Path) -> bool {
    let journal = std::fs::read_to_string(format!("{}.batch", plan.display())).unwrap_or_default();
    journal.contains("\"finished\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_unreachable_is_told_with_what_to_do() {
    let desk = Desk::on(Lane::new(&Node::shared(), QueueType::Quorum));
    let plan = desk.plan(1);
    let plan = plan.to_str().unwrap();
    let missing = desk.sluice(&["enqueue", plan]);
    assert_eq!(missing.status.code(), Some(4));
    let said = text(&missing.stderr);
    assert!(said.contains(&format!("there is no queue {}", desk.lane.queues.requests())), "{said}");
    assert!(said.contains("sluice topology apply"), "{said}");
    assert!(!Path::new(&format!("{plan}.batch")).exists(), "a journal was begun");
    let away = desk.sluice(&["enqueue", plan, "-o", "broker.url=amqp://127.0.0.1:1/"]);
    assert_eq!(away.status.code(), Some(4));
    assert!(text(&away.stderr).contains("unreachable"), "{}", text(&away.stderr));
    let watched = desk.sluice(&["watch", "nobody", "--until-done"]);
    assert_eq!(watched.status.code(), Some(4), "{}", text(&watched.stderr));
    topology::apply(&desk.lane.settings, &desk.lane.queues).await.unwrap();
    let unknown = desk.sluice(&["watch", "nobody", "--until-done"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("knows no batch nobody"), "{}", text(&unknown.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_from_a_pipe_is_enqueued_once_under_a_name_of_its_own() {
    let desk = Desk::new().await;
    let plan = desk.plan(5);
    let piped = |more: &[&str]| {
        let mut cat = Command::new("cat").arg(&plan).stdout(Stdio::piped()).spawn().unwrap();
        let mut command = desk.command(&[&["enqueue", "-", "--format", "jsonl"], more].concat());
        command.current_dir(desk.dir.path()).stdin(cat.stdout.take().unwrap());
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        cat.wait().unwrap();
        output
    };
    let first = piped(&[]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let again = piped(&[]);
    assert_eq!(again.status.code(), Some(2), "the same plan was enqueued: {again:?}");
    assert!(text(&again.stderr).contains("--again enqueues it as a new batch"), "{again:?}");
    let client = desk.lane.client().await;
    assert_eq!(client.depth(&desk.lane.queues.requests()).await, 5);
    let names = std::fs::read_dir(desk.dir.path()).unwrap();
    let names: Vec<_> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(
        names.iter().any(|name| name.starts_with("plan-") && name.ends_with(".jsonl.batch")),
        "{names:?}"
    );
}

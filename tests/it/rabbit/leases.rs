//! Calls beside the worker: lent by the active one, one process at a time, and at the whole rate only where there is none.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::sandbox::{Options, Sandbox, SourceServer};

use crate::support::process::{Process, Spec, sluice};
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::{Rig, body, publish};

const ROWS: usize = 250;
const SECOND: Duration = Duration::from_secs(1);

/// An account with the source servers of a plan, and with as many that others are migrating.
async fn account() -> Rig {
    let ids = (0..ROWS).flat_map(|number| [format!("s{number}"), format!("w{number}")]);
    let sources = Some(ids.map(|id| SourceServer::connected(&id)).collect());
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    Rig::with(lane, Options { sources, ..Options::default() }).await
}

/// A plan of so many rows.
pub(crate) fn plan(dir: &Path, rows: usize) -> PathBuf {
    let row = |number: usize| {
        json!({
            "name": format!("web-{number}"), "type": "MIGRATE_FILE", "os_type": "LINUX",
            "source_server": {"id": format!("s{number}")},
            "target_server": {"vm_id": format!("vm-{number}"), "name": "target"}, "region_id": "r1",
            "region_name": "Region 1", "project_id": "p1", "project_name": "Project 1",
        })
    };
    let rows: Vec<String> = (0..rows).map(|number| row(number).to_string()).collect();
    let plan = dir.join("plan.jsonl");
    std::fs::write(&plan, rows.join("\n") + "\n").unwrap();
    plan
}

/// `sluice` with the worker's configuration, in a process of its own.
pub(crate) async fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = sluice();
    command.args(arguments).arg("-c").arg(dir.join("worker.toml")).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All servers were told of as free.
fn all_free(output: &Output) {
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let servers = told["online"].as_array().unwrap();
    let free = servers.iter().filter(|server| server["problems"] == json!([])).count();
    assert_eq!((servers.len(), free), (ROWS, ROWS), "{}", text(&output.stderr));
    assert!(servers.iter().all(|server| server["known_at"].is_string()));
}

/// The most calls of any second.
fn busiest(sandbox: &Sandbox) -> u64 {
    sandbox.stats(&[SECOND]).max_in(SECOND).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_and_two_checks_together_never_exceed_the_limit() {
    let rig = account().await;
    let dir = tempfile::tempdir().unwrap();
    let mut spec = Spec::new(&rig.lane.url, &rig.lane.queues, &rig.sandbox.base_url, "10/s");
    // The way of the calls of three processes varies by more than the 10 ms of the default on a machine that is busy. What
    // is lent brings the worker's margin along.
    spec.arguments = vec!["-o".to_owned(), "limits.margin=150ms".to_owned()];
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    let client = rig.lane.client().await;
    let bodies = (0..ROWS).map(|number| body(&format!("w{number}"), 1));
    publish(&client, &rig.lane.queues.requests(), bodies).await;
    rig.created(1).await;

    let plan = plan(dir.path(), ROWS);
    let arguments = ["check", plan.to_str().unwrap(), "--online", "--json"];
    let (one, other) = tokio::join!(run(dir.path(), &arguments), run(dir.path(), &arguments));
    for output in [&one, &other] {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        all_free(output);
        assert!(text(&output.stderr).contains("a worker is active: it lends"), "{output:?}");
    }
    let waited = [&one, &other].map(|output| text(&output.stderr).contains("waiting for its end"));
    assert_ne!(waited, [true, true], "one of them went at once");
    let created = rig.sandbox.tasks().len();
    assert!(created < ROWS, "the worker was at work all the time");
    assert_eq!(busiest(&rig.sandbox).max(10), 10, "more than 10 calls in a second");

    let submit = run(dir.path(), &["submit", plan.to_str().unwrap()]).await;
    assert_eq!(submit.status.code(), Some(2), "{}", text(&submit.stderr));
    let said = text(&submit.stderr);
    assert!(said.contains("a worker consumes") && said.contains("--share"), "{said}");
    assert!(!dir.path().join("plan.jsonl.results.jsonl").exists(), "no journal was begun");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_worker_a_check_takes_the_rate_until_one_is_active() {
    let rig = account().await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec::new(&rig.lane.url, &rig.lane.queues, &rig.sandbox.base_url, "2/s");
    // The file of the worker that is to come.
    std::fs::write(dir.path().join("worker.toml"), spec.toml()).unwrap();
    let plan = plan(dir.path(), ROWS);
    let margin = "limits.margin=150ms";
    let arguments = ["check", plan.to_str().unwrap(), "--online", "--json", "-o", margin];
    let (one, other) = tokio::join!(run(dir.path(), &arguments), run(dir.path(), &arguments));
    for output in [&one, &other] {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        all_free(output);
        assert!(!text(&output.stderr).contains("lends"), "{output:?}");
    }
    assert_eq!(busiest(&rig.sandbox).max(2), 2, "more than 2 calls in a second");
    assert!(rig.sandbox.made() <= 10, "{} calls", rig.sandbox.made());

    let share = ["check", plan.to_str().unwrap(), "--online", "--json", "--share", "50%"];
    let output =
        run(dir.path(), &[&share[..], &["-o", "broker.url=amqp://127.0.0.1:1/"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    all_free(&output);
}

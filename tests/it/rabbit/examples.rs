//! The clients of `examples/` with a real worker: each enqueues a plan and prints what became of it.

use std::path::Path;
use std::process::{Command, Stdio};

use sluicegate::broker::settings::QueueType;

use crate::support::rabbit::{Lane, Node};
use crate::support::rig::{Rig, Setup, body};

/// Runs `program examples/script < plan` beside a worker; each line must be a server of the plan and its task.
async fn enqueues_and_reads_the_results(program: &str, script: &str) {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let mut worker = rig.start(&Setup::quick(&[]));
    worker.active().await;
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.jsonl");
    let servers = ["s1", "s2", "s3"];
    let lines: Vec<_> = servers.iter().map(|server| body(server, 1)).collect();
    std::fs::write(&plan, [lines.join(&b'\n'), b"\n".to_vec()].concat()).unwrap();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(script);
    let mut command = Command::new(program);
    command.arg(script).env("AMQP_URL", &node.url).env("SLUICE_PREFIX", &rig.lane.queues.prefix);
    command.stdin(std::fs::File::open(plan).unwrap()).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{program}: {}; is its client library there?", output.status);

    let said = String::from_utf8(output.stdout).unwrap();
    let mut said: Vec<_> = said.lines().collect();
    said.sort_unstable();
    let mut tasks: Vec<_> = rig
        .sandbox
        .tasks()
        .iter()
        .map(|task| format!("{} created {}", task.source(), task.id))
        .collect();
    tasks.sort_unstable();
    assert_eq!(said, tasks);
    assert_eq!(tasks.len(), servers.len());
    rig.nothing_left_and_nothing_twice().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_pika_enqueues_and_reads_the_results() {
    enqueues_and_reads_the_results("python3", "enqueue.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_amqplib_enqueues_and_reads_the_results() {
    enqueues_and_reads_the_results("node", "enqueue.js").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_with_amqp_publish_enqueues_and_reads_the_results() {
    enqueues_and_reads_the_results("sh", "enqueue.sh").await;
}

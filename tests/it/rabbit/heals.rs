//! What is done around a session that the broker tells nobody of? It heals, or it is said as it is: queues and exchanges
//! that are deleted, others that consume the requests, alarms at the start, and orders that a full queue refuses.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, ExchangeKind};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::{ask, topology};
use sluicegate::core::gate::Reason;
use sluicegate::core::{Change, Settings, Target};
use sluicegate::message::command::Command;
use sluicegate::message::status::SessionStatus;
use sluicegate::sandbox::Options;

use super::peers::metric;
use super::planner::{Desk, text};
use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Client, Lane, Node, OwnNode, SOON};
use crate::support::rig::{Rig, Setup, body, dead_letters, order, properties, publish};
use crate::support::wait;

async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let look = async || if is().await { Ok(()) } else { Err(format!("not {what}")) };
    wait::until(SOON, look).await;
}

async fn worker(rig: &Rig, node: &Node) -> (Process, tempfile::TempDir) {
    let spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "100/s");
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    (process, dir)
}

pub(crate) async fn consume(client: &Client, queue: &str) {
    client.channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let options = BasicConsumeOptions::default();
    let consume =
        client.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    // Held by the client library for as long as the connection.
    std::mem::forget(consume.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_consumer_that_was_there_before_is_seen_and_said() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        seen_and_said(kind).await;
    }
}

async fn seen_and_said(kind: QueueType) {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, kind)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let requests = rig.lane.queues.requests();
    let other = rig.lane.client().await;
    consume(&other, &requests).await;
    let client = rig.lane.client().await;
    publish(&client, &requests, (0..15).map(|n| body(&format!("s{n}"), 1))).await;
    let (process, _dir) = worker(&rig, &node).await;
    process
        .until("robbed", SOON, |status| {
            status.others.is_some_and(|others| others.consumers == 1 && !others.receives)
        })
        .await;
    let (code, ready) = process.get("/readyz").await.unwrap();
    assert!(code == 503 && ready.contains("1 other consumers were on the queue"), "{ready}");
    assert!(ready.contains("13 wait in it"), "{ready}");
    assert_eq!(metric(&process, "sluice_other_consumers").await, Some(1.0));
    assert!(process.logged().contains("others consume the requests beside this worker"));
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, 0);
    // When it is gone everything is as it should be.
    other.connection.close(200, "done".into()).await.unwrap();
    rig.created(15).await;
    process.until("alone", SOON, |status| status.others.is_none()).await;
    assert_eq!(process.get("/readyz").await.unwrap().0, 200);
    // One that comes later is said too where the queue counts those that wait, and takes nothing while this worker is there.
    if kind == QueueType::Quorum {
        return;
    }
    let later = rig.lane.client().await;
    consume(&later, &requests).await;
    process
        .until("beside another", SOON, |status| {
            status.others.is_some_and(|others| others.consumers == 1 && others.receives)
        })
        .await;
    assert_eq!(process.get("/readyz").await.unwrap().0, 200);
    publish(&client, &requests, [body("s15", 1)]).await;
    rig.created(16).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_consumer_of_the_queue_that_says_who_is_active_is_seen_and_said() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let other = rig.lane.client().await;
    consume(&other, &rig.lane.queues.active()).await;
    let spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "100/s");
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    process.until("told of it", SOON, |status| status.foreign).await;
    let (code, ready) = process.get("/readyz").await.unwrap();
    assert!(code == 503 && ready.contains("no worker is the active one"), "{ready}");
    let name = "sluice_foreign_active_consumers";
    assert_eq!(metric(&process, name).await, Some(1.0));
    assert_eq!(
        metric(&process, "sluice_queue_messages{queue=\"requests\"}").await.map(f64::is_nan),
        Some(true),
        "a standby does not look"
    );
    other.connection.close(200, "done".into()).await.unwrap();
    process.active().await;
    eventually("gone", async || metric(&process, name).await == Some(0.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_was_deleted_is_declared_anew_and_its_length_is_known_again() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let (process, _dir) = worker(&rig, &node).await;
    let client = rig.lane.client().await;
    let queue = rig.lane.queues.dead_letters();
    client
        .channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    eventually("told", async || process.logged().contains("it is declared anew")).await;
    for _ in 0..7 {
        client.publish(&queue, b"{}", BasicProperties::default()).await;
    }
    let name = "sluice_queue_messages{queue=\"dead-letters\"}";
    eventually("known again", async || metric(&process, name).await == Some(7.0)).await;
    // The session has lived all the while, and dead letters find their way.
    publish(&client, &rig.lane.queues.requests(), [b"{}".as_slice().into()]).await;
    client.wait_for_depth(&queue, 8).await;
    assert!(!process.logged().contains("the session with the broker was lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_reach_the_worker_though_the_control_exchange_was_deleted() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let (process, _dir) = worker(&rig, &node).await;
    let client = rig.lane.client().await;
    let control = rig.lane.queues.control();
    let delete = async || {
        let options = ExchangeDeleteOptions::default();
        client.channel.exchange_delete(control.as_str().into(), options).await.unwrap();
    };
    delete().await;
    let paused = ask(&rig.lane.settings, &rig.lane.queues, &order(Command::Pause)).await.unwrap();
    assert!(paused.done, "{paused:?}");
    // Deleted, and declared by somebody else: without the binding of the worker.
    delete().await;
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let (name, kind) = (control.as_str().into(), ExchangeKind::Fanout);
    client.channel.exchange_declare(name, kind, options, FieldTable::default()).await.unwrap();
    let resumed = ask(&rig.lane.settings, &rig.lane.queues, &order(Command::Resume)).await.unwrap();
    assert!(resumed.done, "{resumed:?}");
    assert!(!process.logged().contains("the session with the broker was lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_an_alarm_a_start_and_an_enqueue_say_so() {
    let own = OwnNode::start();
    let node = &own.node;
    let lane = Lane::new(node, QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let rig = Rig::new(lane.clone()).await;
    node.script("ctl", &["set_vm_memory_high_watermark", "0.000001"]).await;
    let spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "100/s");
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    let says = |status: &sluicegate::message::status::Status| matches!(&status.session, SessionStatus::Detached { why, .. } if why.contains("the broker has raised a resource alarm"));
    process.until("told of the alarm", SOON, says).await;
    // It stays so: the silence of an alarm is no other worker.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (code, ready) = process.get("/readyz").await.unwrap();
    assert!(code == 503 && ready.contains("the broker has raised a resource alarm"), "{ready}");
    let desk = Desk::on(lane);
    let plan = desk.plan(1);
    let enqueued = desk.sluice(&["enqueue", plan.to_str().unwrap()]);
    let said = text(&enqueued.stderr);
    assert_eq!(enqueued.status.code(), Some(4), "{said}");
    assert!(said.contains("the broker has raised a resource alarm"), "{said}");
    // The broker reads no command; the worker answers itself.
    let asked = desk.sluice(&["gate", "status"]);
    let said = text(&asked.stderr);
    assert_eq!(asked.status.code(), Some(4), "{said}");
    assert!(said.contains("resource alarm") && said.contains("sluice gate status --url"), "{said}");
    let url = format!("http://{}", process.address().unwrap());
    let asked = desk.sluice(&["gate", "status", "--url", &url]);
    let (told, said) = (text(&asked.stdout), text(&asked.stderr));
    assert_eq!(asked.status.code(), Some(0), "{said}");
    assert!(told.contains("the broker has raised a resource alarm"), "{told}");
    node.script("ctl", &["set_vm_memory_high_watermark", "0.6"]).await;
    process.active().await;
    let enqueued = desk.sluice(&["enqueue", plan.to_str().unwrap()]);
    assert_eq!(enqueued.status.code(), Some(0), "{}", text(&enqueued.stderr));
    rig.created(1).await;
    // What was published in the alarm may have come twice, and is one run.
    rig.nothing_left_and_nothing_twice().await;
}

async fn policy(node: &Node, rig: &Rig, queue: &str, definition: &str) {
    let (name, pattern) = (queue.to_owned(), format!("^{}$", queue.replace('.', "\\.")));
    assert!(queue.starts_with(&rig.lane.queues.prefix));
    node.script("ctl", &["set_policy", "--apply-to", "queues", &name, &pattern, definition]).await;
}

/// Has the queue refuse what comes, and fills it with requests numbered from `first` on; how many it took.
async fn full(node: &Node, rig: &Rig, client: &Client, queue: &str, first: u64) -> u64 {
    full_of(node, rig, client, queue, (first, FieldTable::default())).await
}

/// The same, of messages with these headers, too.
async fn full_of(
    node: &Node,
    rig: &Rig,
    client: &Client,
    queue: &str,
    (first, headers): (u64, FieldTable),
) -> u64 {
    // One after the other, or the queue may drop what is too much before it knows that it is to refuse.
    policy(node, rig, queue, r#"{"max-length":1000,"overflow":"reject-publish"}"#).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    policy(node, rig, queue, r#"{"max-length":1,"overflow":"reject-publish"}"#).await;
    // A policy takes a moment.
    for count in 0.. {
        let (body, properties) =
            (body(&format!("s{}", first + count), 10), properties(&(first + count).to_string()));
        let mut all = properties.headers().clone().unwrap_or_default();
        for (name, value) in headers.inner() {
            all.insert(name.clone(), value.clone());
        }
        let properties = properties.with_headers(all);
        let (options, channel) = (BasicPublishOptions::default(), &client.channel);
        let publish = channel.basic_publish("".into(), queue.into(), options, &body, properties);
        if !matches!(publish.await.unwrap().await.unwrap(), Confirmation::Ack(_)) {
            return count;
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_of_dead_letters_holds_up_nobody_until_a_quarter_of_the_window_waits() {
    let node = Node::shared();
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let rig = Rig::new(Lane::new(&node, kind)).await;
        topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
        let (requests, letters) = (rig.lane.queues.requests(), rig.lane.queues.dead_letters());
        let client = rig.lane.client().await;
        let others = full(&node, &rig, &client, &letters, 1_000).await;
        let quick = Setup::quick(&[]);
        let core = Settings { window: 40, ..quick.core };
        let mut worker = rig.start(&Setup { window: 40, core, ..quick });
        worker.active().await;
        let session = worker.status.borrow().session.clone();
        // Nine that nobody can take, and healthy ones behind each.
        let invalid = || Bytes::from_static(b"{}");
        let healthy = |number| body(&format!("healthy-{number}"), 10);
        publish(&client, &requests, (0..9).flat_map(|n| [invalid(), healthy(n)])).await;
        rig.created(9).await;
        let wait = worker.status.wait_for(|status| status.window.unpublished == 9);
        let status = tokio::time::timeout(SOON, wait).await.expect("soon").unwrap().clone();
        assert!(status.why().contains("9 that have ended wait"), "{}", status.why());
        // The tenth is a quarter of the window.
        publish(&client, &requests, [invalid()]).await;
        let shut = worker.status.wait_for(|s| s.gate.reason == Some(Reason::Unpublished));
        let status = tokio::time::timeout(SOON, shut).await.expect("soon").unwrap().clone();
        assert!(status.why().contains("refuses the dead letter"), "{}", status.why());
        publish(&client, &requests, (20..25).map(healthy)).await;
        let held = worker.status.wait_for(|status| status.window.ready == 5);
        tokio::time::timeout(SOON, held).await.expect("soon").unwrap();
        assert_eq!(rig.sandbox.stats(&[]).tasks.created, 9);
        // A limit that is lifted is not told to those who were refused; one that is raised is.
        if kind == QueueType::Quorum {
            node.script("ctl", &["clear_policy", &letters]).await;
        } else {
            let room = r#"{"max-length":1000,"overflow":"reject-publish"}"#;
            policy(&node, &rig, &letters, room).await;
        }
        rig.created(14).await;
        let all = dead_letters(&rig.lane, 10 + usize::try_from(others).unwrap()).await;
        let ours = all.iter().filter(|letter| letter.header("x-sluice-outcome").is_some());
        assert_eq!(ours.count(), 10, "each once");
        assert_eq!(worker.status.borrow().session, session, "it lived through all of it");
        rig.nothing_left_and_nothing_twice().await;
        worker.stop().await;
        if kind == QueueType::Classic {
            node.script("ctl", &["clear_policy", &letters]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_refused_makes_no_second_dead_letter() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let client = rig.lane.client().await;
    // Somebody's queue for results that takes one message, and has it.
    let theirs = format!("{}.theirs", rig.lane.queues.prefix);
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    client.channel.queue_declare(theirs.as_str().into(), options, arguments).await.unwrap();
    client.publish(&theirs, b"full", BasicProperties::default()).await;
    let results = rig.lane.queues.results();
    client
        .channel
        .queue_bind(
            theirs.as_str().into(),
            results.as_str().into(),
            "invalid.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let worker = rig.start(&Setup::quick(&[]));
    let invalid = Bytes::from_static(b"{}");
    publish(&client, &rig.lane.queues.requests(), [invalid, body("healthy", 1)]).await;
    rig.created(1).await;
    // The stream takes each offer, so there are as many as were made.
    let log = rig.lane.queues.results_log();
    let offers = client.stream_until(&log, SOON, |read| read.len() >= 4).await;
    assert!(offers.len() >= 4, "{} results of two requests", offers.len());
    let letters = rig.lane.queues.dead_letters();
    assert_eq!(client.depth(&letters).await, 1);
    client.take(&theirs).await.unwrap();
    let mut status = worker.status.clone();
    let gone = status.wait_for(|status| status.window.unpublished == 0 && status.settled == 2);
    tokio::time::timeout(2 * SOON, gone).await.expect("taken soon").unwrap();
    assert_eq!(client.depth(&letters).await, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_outlives_more_sessions_than_its_queue_has_deliveries() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    policy(&node, &rig, &rig.lane.queues.gate(), r#"{"delivery-limit":2}"#).await;
    let setup = Setup::quick(&[]);
    let mut worker = rig.start(&setup);
    worker.active().await;
    assert!(worker.order(Command::Pause).await.done);
    worker.stop().await;
    for session in 0..8 {
        let mut worker = rig.start(&setup);
        worker.active().await;
        let paused = worker.status.wait_for(|status| status.gate.reason == Some(Reason::Paused));
        let is_paused = tokio::time::timeout(SOON, paused).await.is_ok();
        assert!(is_paused, "the pause is lost after {session} sessions");
        worker.stop().await;
        rig.lane.client().await.wait_for_depth(&rig.lane.queues.gate(), 1).await;
    }
    node.script("ctl", &["clear_policy", &rig.lane.queues.gate()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_parked_is_held_as_before_and_the_session_lives() {
    let node = Node::shared();
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let rig = Rig::new(Lane::new(&node, kind)).await;
        let mut setup = Setup::quick(&[]);
        (setup.window, setup.core.window) = (4, 4);
        let mut worker = rig.start(&setup);
        worker.active().await;
        let client = rig.lane.client().await;
        let parked = rig.lane.queues.parked();
        // What is not due stays there, however often it is looked through.
        let mut headers = FieldTable::default();
        let never = AMQPValue::LongString("2099-01-01T00:00:00Z".into());
        headers.insert("x-sluice-not-before".into(), never);
        let stuffed = full_of(&node, &rig, &client, &parked, (100, headers)).await;
        let session = worker.status.borrow().session.clone();
        let hold = Change { hold: Some(true), ..Change::default() };
        let of = |n: u32| Target::Request(n.to_string());
        for n in 0..4 {
            let kept = worker.order(Command::Order { of: of(n), change: hold.clone() }).await;
            assert!(kept.done, "{kept:?}");
        }
        let bodies = (0..4).map(|n| body(&format!("s{n}"), 10));
        publish(&client, &rig.lane.queues.requests(), bodies).await;
        let waits = worker.status.wait_for(|status| status.window.waiting == 4);
        tokio::time::timeout(SOON, waits).await.expect("held soon").expect("it runs");
        for n in 0..4 {
            let change = Change { hold: Some(false), ..Change::default() };
            assert!(worker.order(Command::Order { of: of(n), change }).await.done);
        }
        rig.created(4).await;
        assert_eq!(worker.status.borrow().session, session, "it lives");
        node.script("ctl", &["clear_policy", &parked]).await;
        // What was parked by whomever goes when an order says so.
        for n in 100..100 + stuffed {
            let change = Change { not_before: Some(Timestamp::UNIX_EPOCH), ..Change::default() };
            let of = Target::Request(n.to_string());
            assert!(worker.order(Command::Order { of, change }).await.done);
        }
        rig.created(4 + stuffed).await;
        rig.nothing_left_and_nothing_twice().await;
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_with_a_bad_header_is_fixed_by_its_header_and_by_nothing_else() {
    let desk = Desk::new().await;
    // A replay is looked up twice before it is sent.
    let mut config = std::fs::read_to_string(&desk.config).unwrap();
    config.push_str("[api]\ntimeout = \"1s\"\nconnect_timeout = \"500ms\"\nlook_again = \"2s\"\n");
    std::fs::write(&desk.config, config).unwrap();
    let worker = desk.worker(Options::default()).await;
    let client = desk.lane.client().await;
    let mut headers = FieldTable::default();
    headers.insert("x-sluice-priority".into(), AMQPValue::LongString("high".into()));
    let bad = properties("a").with_headers(headers);
    client.publish(&desk.lane.queues.requests(), &body("s1", 1), bad).await;
    client.wait_for_depth(&desk.lane.queues.dead_letters(), 1).await;
    let listed = desk.sluice(&["dead-letters", "list", "--letters"]);
    let said = text(&listed.stdout);
    assert!(said.contains("header x-sluice-priority"), "{said}");
    let edit = |change: &[&str]| {
        let output = desk.sluice(&[&["dead-letters", "edit", "--all", "--yes"], change].concat());
        (output.status.code().unwrap(), text(&output.stderr) + &text(&output.stdout))
    };
    let (code, said) = edit(&["--set", "x-sluice-priority=3"]);
    assert!(code == 2 && said.contains("--header x-sluice-priority=VALUE"), "{code} {said}");
    let (code, said) = edit(&["--set", "target_server.nmae=x"]);
    assert!(code == 3 && said.contains("is target_server.name meant?"), "{code} {said}");
    // Of the body nothing is wrong, so no edit of it helps.
    let (code, said) = edit(&["--set", "name=b"]);
    assert!(code == 3 && said.contains("header x-sluice-priority"), "{code} {said}");
    let (code, said) = edit(&["--header", "x-sluice-priority=higher"]);
    assert!(code == 3 && said.contains("a whole number from 0 to 65535"), "{code} {said}");
    let (code, said) = edit(&["--header", "x-sluice-replay=0"]);
    assert!(code == 2 && said.contains("no header of a request that can be set"), "{code} {said}");
    assert_eq!(client.depth(&desk.lane.queues.dead_letters()).await, 1, "nothing has moved");
    let (code, said) = edit(&["--header", "x-sluice-priority=3"]);
    assert!(code == 0 && said.contains("header x-sluice-priority"), "{code} {said}");
    eventually("created", async || worker.sandbox.stats(&[]).tasks.created == 1).await;
    let result = desk.lane.results(2).await.pop().unwrap();
    assert_eq!(result.data.priority, 3);
    client.wait_for_depth(&desk.lane.queues.dead_letters(), 0).await;
}

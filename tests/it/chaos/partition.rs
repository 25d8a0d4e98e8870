//! A node is out of sight of its cluster, and the worker that is connected to it has nothing to publish: its gate is
//! paused. `scripts/chaos --partition` runs this; it takes two minutes, most of them RabbitMQ's own from 4.3 on.

use std::time::{Duration, Instant};

use sluicegate::broker::settings::QueueType;
use sluicegate::message::command::{Command, IssuedCommand};
use sluicegate::message::status::SessionStatus;
use tempfile::TempDir;

use crate::rabbit::failover::{Cluster, all_created_once, enqueue, sandbox};
use crate::support::process::{Process, Spec, is_active};
use crate::support::rabbit::{Lane, SOON};
use crate::support::rig::Rig;

/// From 4.3 on what a lost node held is handed on after a minute.
const HANDED_ON: Duration = Duration::from_secs(90);

/// `node` and the others neither see nor hear each other any more, or do again. Their clients notice nothing. It loses
/// sight of all at once: RabbitMQ 3.10 makes more of it when some can still see it.
fn part(cluster: &Cluster, node: usize, is_cut: bool) {
    let others = (0..3).filter(|n| *n != node);
    let secret = |from: usize, to: usize| {
        // Not the same on both sides: nodes that share a secret talk.
        let secret = if is_cut { format!("of_{from}") } else { "erlang:get_cookie()".to_owned() };
        format!("erlang:set_cookie('{}', {secret})", cluster.name_of(to))
    };
    for other in others.clone() {
        cluster.script("ctl", other, &["eval", &format!("{}.", secret(other, node))]);
    }
    let mut steps: Vec<String> = others.clone().map(|other| secret(node, other)).collect();
    if is_cut {
        let forget = |other| format!("erlang:disconnect_node('{}')", cluster.name_of(other));
        steps.extend(others.map(forget));
    }
    cluster.script("ctl", node, &["eval", &format!("{}.", steps.join(", "))]);
}

async fn steer(rig: &Rig, command: Command) {
    let order = IssuedCommand { command, by: "a test".into(), reason: None };
    let settings = &rig.lane.settings;
    sluicegate::broker::ask(settings, &rig.lane.queues, &order).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_worker_whose_node_is_out_of_sight_is_active_no_more_when_the_network_heals() {
    let cluster = Cluster::start();
    let dir = TempDir::new().unwrap();
    let rig = Rig::with(Lane::at(&cluster.urls[1], QueueType::Quorum), sandbox()).await;
    let spec = |node: usize| {
        let mut spec =
            Spec::new(&cluster.urls[node], &rig.lane.queues, &rig.sandbox.base_url, "100/s");
        spec.look_again = Duration::from_secs(15);
        spec
    };
    let first = Process::start(&spec(2), dir.path(), "first");
    first.active().await;
    let second = Process::start(&spec(1), dir.path(), "second");
    second.standby().await;
    steer(&rig, Command::Pause).await;
    let count = 200;
    enqueue(&rig, count).await;
    first.until("full", SOON, |status| status.window.ready == count).await;

    let began = Instant::now();
    part(&cluster, 2, true);
    let out_of_sight = began.elapsed();
    let detached = |status: &sluicegate::message::status::Status| {
        matches!(status.session, SessionStatus::Detached { .. })
    };
    let noticed = first.until("detached", SOON, detached).await;
    let why = first.status().await.unwrap().session;
    let took = second.until("active", HANDED_ON, is_active).await + noticed;
    second.until("full", HANDED_ON, |status| status.window.ready == count).await;
    println!(
        "cut off within {out_of_sight:?}, noticed {noticed:?} later ({why:?}), its successor active after {took:?}"
    );
    part(&cluster, 2, false);
    // Both may be on the same side again before the order reaches whoever is active.
    first
        .until("a standby", HANDED_ON, |status| {
            matches!(status.session, SessionStatus::Standby { .. })
        })
        .await;
    assert!(is_active(&second.status().await.unwrap()));
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, 0, "the gate was paused all the time");
    steer(&rig, Command::Resume).await;
    all_created_once(&rig, count).await;
    assert!(!is_active(&first.status().await.unwrap()));
    let active = first.logged().matches("\"message\":\"active\"").count();
    assert_eq!(active, 1, "the first worker was the active one before the partition only");
    assert_eq!(first.stop().await, Some(0));
    assert_eq!(second.stop().await, Some(0));
}

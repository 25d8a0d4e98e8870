//! Steering the active worker over the broker: `sluice gate`, and what outlives the worker that heard it.

use std::collections::BTreeMap;
use std::process::{Command as Process, Output};

use lapin::options::BasicPublishOptions;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::{NotAsked, PlannerError, ask};
use sluicegate::core::Outcome;
use sluicegate::core::gate::Reason;
use sluicegate::message::audit::{Act, Action};
use sluicegate::message::command::{Answer, Command};

use crate::rabbit::failover;
use crate::support::proxy::{Door, How, Proxy};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, Running, Setup, body, order, outcomes, publish};

const BOTH: [QueueType; 2] = [QueueType::Quorum, QueueType::Classic];

async fn gate(rig: &Rig, command: Command) -> Answer {
    let answer = ask(&rig.lane.settings, &rig.lane.queues, &order(command)).await.unwrap();
    assert!(answer.done, "{answer:?}");
    answer
}

/// Waits until the gate is shut for this reason (`None`: open).
async fn shut_for(worker: &mut Running, reason: Option<Reason>) {
    let shut = worker.status.wait_for(|status| status.gate.reason == reason);
    tokio::time::timeout(SOON, shut).await.unwrap_or_else(|_| panic!("never {reason:?}")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_over_the_broker_is_audited_and_outlives_a_crash_and_a_restart() {
    for kind in BOTH {
        let rig = Rig::new(Lane::new(&Node::shared(), kind)).await;
        let setup = Setup::quick(&["50/s"]);
        let mut first = rig.start(&setup);
        first.active().await;
        let mut second = rig.start(&setup);
        second.active_or_standby().await;
        let answer = gate(&rig, Command::Pause).await;
        let status = answer.status.expect("a status");
        assert_eq!(
            status.why(),
            "paused by anna@ops: storage is being moved; the next request goes after `sluice gate resume`"
        );
        publish(
            &rig.lane.client().await,
            &rig.lane.queues.requests(),
            (0..20).map(|n| body(&format!("s{n}"), n)),
        )
        .await;
        first.crash();
        second.active().await;
        shut_for(&mut second, Some(Reason::Paused)).await;
        let all = second.status.wait_for(|status| status.window.ready == 20);
        tokio::time::timeout(SOON, all).await.expect("all are held").unwrap();
        assert_eq!(
            rig.sandbox.stats(&[]).tasks.created,
            0,
            "{kind:?}: it was paused before it started anything"
        );
        let rates = Some(vec!["40/s".parse().unwrap()]);
        gate(&rig, Command::Rate { rates }).await;
        second.stop().await;
        let mut third = rig.start(&setup);
        third.active().await;
        shut_for(&mut third, Some(Reason::Paused)).await;
        assert_eq!(third.status.borrow().limits.rates, ["40/s"]);
        let answer = gate(&rig, Command::Resume).await;
        assert!(
            answer.said.starts_with("resumed") && !answer.said.contains("not written"),
            "{answer:?}"
        );
        let results = rig.results(20).await;
        assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, 20)]));
        gate(&rig, Command::Rate { rates: None }).await;
        assert_eq!(gate(&rig, Command::Status).await.status.unwrap().limits.rates, ["50/s"]);
        third.stop().await;
        let mut fourth = rig.start(&setup);
        fourth.active().await;
        shut_for(&mut fourth, None).await;
        fourth.stop().await;
        let acts: Vec<Act> = rig
            .lane
            .client()
            .await
            .stream(&rig.lane.queues.audit(), 4)
            .await
            .iter()
            .map(|message| serde_json::from_slice(&message.body).unwrap())
            .collect();
        let actions: Vec<_> = acts.iter().map(|act| act.action).collect();
        assert_eq!(
            actions,
            [Action::Pause, Action::Rate, Action::Resume, Action::Rate],
            "a status changes nothing"
        );
        assert!(acts.iter().all(|act| act.who == "anna@ops" && act.why.is_some()), "{acts:?}");
        assert_eq!(acts[1].gate.as_ref().unwrap()["after"]["rates"][0], "40/s");
        rig.nothing_left_and_nothing_twice().await;
    }
}

/// The gate is shut for the pause, in the words, the figures and the metrics.
fn says_that_it_is_paused(answer: Answer) {
    let status = answer.status.expect("a status");
    assert_eq!((status.gate.reason, status.gate.open), (Some(Reason::Paused), false));
    assert!(status.why().starts_with("paused by anna@ops"), "{}", status.why());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_what_is_said_while_the_rate_is_spent_in_its_answer_and_after_a_restart() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    // Spent from the start, and for a minute.
    let setup = Setup::quick(&["1/min"]);
    let mut first = rig.start(&setup);
    first.active().await;
    let requests = rig.lane.queues.requests();
    publish(&rig.lane.client().await, &requests, (0..5).map(|n| body(&format!("s{n}"), n))).await;
    shut_for(&mut first, Some(Reason::Rate)).await;
    says_that_it_is_paused(gate(&rig, Command::Pause).await);
    // `gate rate` starts spent, too.
    let rates = Some(vec!["2/min".parse().unwrap()]);
    says_that_it_is_paused(gate(&rig, Command::Rate { rates }).await);
    says_that_it_is_paused(gate(&rig, Command::Status).await);
    first.stop().await;
    let mut second = rig.start(&setup);
    second.active().await;
    shut_for(&mut second, Some(Reason::Paused)).await;
    says_that_it_is_paused(gate(&rig, Command::Status).await);
    let answer = gate(
        &rig,
        Command::Window { first: Some(3), run: None, from: None, find: None, batch: None },
    )
    .await;
    assert_eq!(answer.window.map(|window| window.len()), Some(3), "gate list");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_could_not_be_written_down_is_obeyed_and_written_later() {
    let node = Node::shared();
    let real = Lane::new(&node, QueueType::Quorum);
    let proxy = Proxy::start(failover::address_of(&node.url)).await;
    let through = real.through(&failover::through(&node.url, &proxy));
    let rig = Rig::new(real).await;
    let setup = Setup::quick(&[]);
    let mut worker = rig.start_on(&through, &setup);
    worker.active().await;
    proxy.door(Door::Refuse).await;
    proxy.cut(How::Reset);
    shut_for(&mut worker, Some(Reason::NoSession)).await;
    let answer = worker.order(Command::Pause).await;
    assert!(answer.done && answer.said.contains("not written down yet"), "{answer:?}");
    proxy.door(Door::Open).await;
    worker.active().await;
    shut_for(&mut worker, Some(Reason::Paused)).await;
    // What is kept is there when the act is in the stream: both are confirmed together.
    rig.lane.client().await.stream(&rig.lane.queues.audit(), 1).await;
    rig.lane.client().await.wait_for_depth(&rig.lane.queues.gate(), 1).await;
    worker.stop().await;
    let mut next = rig.start(&setup);
    next.active().await;
    shut_for(&mut next, Some(Reason::Paused)).await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_active_worker_nothing_is_changed_and_nonsense_hurts_nobody() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    let mut worker = rig.start(&Setup::quick(&[]));
    worker.active().await;
    let client = rig.lane.client().await;
    for nonsense in [
        &b"pause"[..],
        b"{}",
        b"\xff\xfe",
        br#"{"do":"rate","rates":["0/s"],"by":"x"}"#,
        br#"{"do":"rate","by":"x"}"#,
        br#"{"do":"pause","by":""}"#,
    ] {
        let options = BasicPublishOptions::default();
        let exchange = rig.lane.queues.control();
        client
            .channel
            .basic_publish(
                exchange.as_str().into(),
                "".into(),
                options,
                nonsense,
                lapin::BasicProperties::default(),
            )
            .await
            .unwrap()
            .await
            .unwrap();
    }
    // The moment for company after a start has to be over first.
    shut_for(&mut worker, None).await;
    let status = gate(&rig, Command::Status).await.status.unwrap();
    assert_eq!(status.why(), "nothing waits; the next request goes as soon as it comes");
    worker.stop().await;
    let asked = ask(&rig.lane.settings, &rig.lane.queues, &order(Command::Pause)).await;
    assert!(matches!(asked, Err(NotAsked::Nobody { .. })), "{asked:?}");
    // Nothing has ever been declared there.
    let mut never = rig.lane.queues.clone();
    never.prefix.push_str("-never");
    let asked = ask(&rig.lane.settings, &never, &order(Command::Status)).await;
    let missing = |asked: &PlannerError| matches!(asked, PlannerError::Missing { .. });
    assert!(matches!(&asked, Err(NotAsked::Broker(why)) if missing(why)), "{asked:?}");
    assert_eq!(client.depth(&rig.lane.queues.gate()).await, 0);
}

/// `sluice gate ...` on this lane, over the broker.
async fn sluice(rig: &Rig, args: &[&str]) -> Output {
    let url = rig.lane.settings.urls().unwrap().iter().next().unwrap().expose().to_owned();
    let mut command = Process::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().env("SLUICE_BROKER__URL", url).env("USER", "bert");
    command.env("SLUICE_QUEUES__PREFIX", &rig.lane.queues.prefix).arg("gate").args(args);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_what_was_done_and_why_the_next_request_waits() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    let mut worker = rig.start(&Setup::quick(&["2/s"]));
    worker.active().await;
    // The moment for company after a start has to be over first.
    shut_for(&mut worker, None).await;
    let said = |output: &Output| {
        String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
    };
    let paused = sluice(&rig, &["pause", "--reason", "a freeze"]).await;
    assert_eq!(paused.status.code(), Some(0), "{}", said(&paused));
    assert!(said(&paused).starts_with("paused: what is in flight ends"), "{}", said(&paused));
    let status = sluice(&rig, &["status"]).await;
    assert!(
        said(&status).contains("paused by bert@") && said(&status).contains(": a freeze;"),
        "{}",
        said(&status)
    );
    let rate = sluice(&rig, &["rate", "fast"]).await;
    assert_eq!(rate.status.code(), Some(2), "{}", said(&rate));
    let json = sluice(&rig, &["resume", "--json"]).await;
    let answer: Answer = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer.status.unwrap().gate.reason, None);
    worker.stop().await;
    let nobody = sluice(&rig, &["status"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(said(&nobody).contains("no worker is active on t-"), "{}", said(&nobody));
}

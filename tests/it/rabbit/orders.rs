//! Orders of planners about requests that wait, and what is parked meanwhile: on a real broker, for good, and never twice.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::{Planner, ask, topology};
use sluicegate::core::engine::{Upcoming, Waits};
use sluicegate::core::{Change, Outcome, Target};
use sluicegate::message::audit::{Act, Action, By};
use sluicegate::message::command::{Answer, Command, PendingCommand};
use sluicegate::sandbox::Options as SandboxOptions;

use crate::rabbit::failover;
use crate::support::proxy::{How, Proxy};
use crate::support::rabbit::{Client, Lane, Node, SOON};
use crate::support::rig::{Rig, Running, Setup, body, order, outcomes, publish};
use crate::support::wait;

async fn gate(rig: &Rig, command: Command) -> Answer {
    ask(&rig.lane.settings, &rig.lane.queues, &order(command)).await.unwrap()
}

async fn raise(rig: &Rig, id: &str, priority: u16) -> Answer {
    let change = Change { priority: Some(priority), ..Change::default() };
    gate(rig, Command::Order { of: Target::Request(id.into()), change }).await
}

async fn window(rig: &Rig) -> Vec<Upcoming> {
    gate(rig, Command::window()).await.window.expect("a window")
}

/// Paused before it starts anything, with so many requests in its window, of priority 10.
async fn paused(rig: &Rig, setup: &Setup, count: u16) -> Running {
    let mut worker = rig.start(setup);
    worker.active().await;
    assert!(gate(rig, Command::Pause).await.done);
    let bodies = (0..count).map(|n| body(&format!("s{n}"), 10));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    holds(&mut worker, count.into()).await;
    worker
}

async fn holds(worker: &mut Running, count: usize) {
    let holds = worker.status.wait_for(|status| status.window.ready == count);
    tokio::time::timeout(SOON, holds).await.expect("held soon").expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_found_by_its_name_and_gone_when_it_has_ended() {
    let slow =
        serde_json::json!({ "faults": [{ "call": "create", "delay": { "fixed": "1500ms" } }] });
    let options = SandboxOptions::default().patched(&slow).unwrap();
    let rig = Rig::with(Lane::new(&Node::shared(), QueueType::Quorum), options).await;
    let mut worker = rig.start(&Setup::quick(&["100/s"]));
    worker.active().await;
    let find = async |text: &str| {
        let find = Some(text.to_owned());
        let command = Command::Window { first: None, run: None, from: None, find, batch: None };
        gate(&rig, command).await.window.expect("a window")
    };
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), [body("s77", 10)]).await;
    wait::until(SOON, async || {
        let found = find("MIGRATE-s7").await;
        let is_out =
            found.iter().any(|one| one.waits == Waits::Called && one.source_server_id == "s77");
        is_out.then_some(()).ok_or_else(|| format!("{found:?}"))
    })
    .await;
    rig.created(1).await;
    wait::until(SOON, async || {
        let found = find("migrate-s77").await;
        found.is_empty().then_some(()).ok_or_else(|| format!("{found:?}"))
    })
    .await;
    worker.stop().await;
}

/// The source servers in the order in which their tasks were created.
async fn order_of(rig: &Rig, count: usize) -> Vec<String> {
    let mut results = rig.results(count).await;
    results.sort_by_key(|result| result.data.settled_at);
    assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, count)]));
    results.into_iter().map(|result| result.data.source_server_id).collect()
}

/// Publishes requests of a batch, with the message ids and source servers `{batch}-{n}`.
async fn publish_batch(rig: &Rig, batch: &str, count: u16, not_before: Option<Timestamp>) {
    let Client { channel, .. } = &rig.lane.client().await;
    for n in 0..count {
        let mut headers = FieldTable::default();
        let mut put = |name: &str, text: String| {
            headers.insert(name.into(), AMQPValue::LongString(text.into()));
        };
        put("x-sluice-batch", batch.to_owned());
        put("x-sluice-row", n.to_string());
        put("x-sluice-enqueued-at", format!("{:.3}", Timestamp::now()));
        if let Some(at) = not_before {
            put("x-sluice-not-before", at.to_string());
        }
        let properties = BasicProperties::default()
            .with_message_id(format!("{batch}-{n}").into())
            .with_delivery_mode(2)
            .with_headers(headers);
        let body = body(&format!("{batch}-{n}"), 10);
        let requests = rig.lane.queues.requests();
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), requests.into(), options, &body, properties);
        sent.await.unwrap();
    }
}

fn of(batch: &str) -> Target {
    Target::Batch { id: batch.into(), run: None, row: None }
}

fn cancel() -> Change {
    Change { cancel: true, ..Change::default() }
}

fn hold(hold: bool) -> Change {
    Change { hold: Some(hold), ..Change::default() }
}

/// As `sluice batch` does it: kept, whether or not there is a worker.
async fn keep(rig: &Rig, of: Target, change: Change) -> Act {
    let by = By { who: "anna@desk".into(), why: Some("the storage is late".into()) };
    let act = Act::ordered(of, change, &by, Timestamp::now());
    let planner = Planner::open(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    planner.order(std::slice::from_ref(&act)).await.unwrap();
    act
}

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_priority_is_honoured_audited_and_outlives_the_worker_and_the_body_stays() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let rig = Rig::new(Lane::new(&Node::shared(), kind)).await;
        // One after the other, so that the order of results is that of the calls.
        let mut setup = Setup::quick(&["20/s"]);
        setup.core.gate.max_in_flight = 1;
        let mut first = paused(&rig, &setup, 5).await;
        let raised = raise(&rig, "3", 60_000).await;
        assert!(
            raised.done && raised.said.contains("1 request that waits was changed"),
            "{raised:?}"
        );
        assert!(raise(&rig, "0", 1).await.done);
        holds(&mut first, 5).await;
        let next = window(&rig).await;
        let told: Vec<_> = next.iter().map(|one| (&*one.id, one.priority, one.waits)).collect();
        let turn = |id, priority| (id, priority, Waits::Turn);
        assert_eq!(
            told,
            [turn("3", 60_000), turn("1", 10), turn("2", 10), turn("4", 10), turn("0", 1)],
            "{kind:?}"
        );
        let nobody = raise(&rig, "nobody", 5).await;
        assert!(nobody.done && nobody.said.contains("none of it waits"), "{nobody:?}");
        // The next worker knows it from the stream of orders.
        first.crash();
        let mut second = rig.start(&setup);
        second.active().await;
        assert!(gate(&rig, Command::Resume).await.done);
        let issued = order_of(&rig, 5).await;
        assert_eq!(issued, ["s3", "s1", "s2", "s4", "s0"], "{kind:?}");
        second.stop().await;
        let acts = rig.lane.client().await.stream(&rig.lane.queues.audit(), 5).await;
        let acts = acts.iter().map(|message| serde_json::from_slice::<Act>(&message.body).unwrap());
        let acts: Vec<Act> = acts.filter(|act| act.action == Action::Move).collect();
        assert_eq!((acts.len(), &*acts[1].who), (3, "anna@ops"));
        assert_eq!(acts[0].order.as_ref().unwrap().change.priority, Some(60_000));
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wave_for_later_does_not_keep_out_what_may_go_now_and_goes_at_its_time() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let rig = Rig::new(Lane::new(&Node::shared(), kind)).await;
        let mut setup = Setup::quick(&[]);
        (setup.window, setup.core.window) = (10, 10);
        topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
        // Sixty are parked and twenty created before that, on a machine that has other things to do.
        let later = in_seconds(30);
        publish_batch(&rig, "later", 60, Some(later)).await;
        publish_batch(&rig, "now", 20, None).await;
        let mut worker = rig.start(&setup);
        worker.active().await;
        rig.created(20).await;
        assert!(Timestamp::now() < later, "the test is too slow to show anything");
        let client = rig.lane.client().await;
        client.wait_for_depth(&rig.lane.queues.parked(), 55).await;
        worker.crash();
        let mut worker = rig.start(&setup);
        worker.active().await;
        let results = rig.results(80).await;
        assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, 80)]), "{kind:?}");
        let of_later = results.iter().filter(|one| one.data.batch.as_deref() == Some("later"));
        assert!(of_later.clone().all(|one| one.data.first_attempt_at.unwrap() >= later));
        client.wait_for_depth(&rig.lane.queues.parked(), 0).await;
        worker.stop().await;
        rig.nothing_left_and_nothing_twice().await;
        assert_eq!(rig.sandbox.stats(&[]).tasks.created, 80);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_cancelled_in_the_window_beyond_it_and_without_any_worker() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let rig = Rig::new(Lane::new(&Node::shared(), kind)).await;
        let mut setup = Setup::quick(&[]);
        (setup.window, setup.core.window) = (10, 10);
        let mut worker = rig.start(&setup);
        worker.active().await;
        assert!(gate(&rig, Command::Pause).await.done);
        publish_batch(&rig, "wrong", 30, None).await;
        publish_batch(&rig, "held", 30, None).await;
        holds(&mut worker, 10).await;
        let answer = gate(&rig, Command::Order { of: of("wrong"), change: cancel() }).await;
        assert_eq!(answer.obeyed.map(|obeyed| obeyed.here), Some(10), "{answer:?}");
        // With what the order leaves the window fills again, and half of it is held: the rest is parked.
        let held = keep(&rig, of("held"), hold(true)).await;
        let obeyed = Command::Obeyed { order: held.id };
        wait::until(SOON, async || {
            let answer = gate(&rig, obeyed.clone()).await;
            if answer.done { Ok(()) } else { Err(answer.said) }
        })
        .await;
        let client = rig.lane.client().await;
        client.wait_for_depth(&rig.lane.queues.parked(), 25).await;
        worker.crash();
        // Nobody is there to hear it.
        let late = Target::Batch { id: "held".into(), run: None, row: Some(7) };
        keep(&rig, late, cancel()).await;
        keep(&rig, of("held"), hold(false)).await;
        publish_batch(&rig, "right", 5, None).await;
        let mut worker = rig.start(&setup);
        worker.active().await;
        assert!(gate(&rig, Command::Resume).await.done);
        let results = rig.results(65).await;
        let counts = BTreeMap::from([(Outcome::Created, 34), (Outcome::Cancelled, 31)]);
        assert_eq!(outcomes(&results), counts, "{kind:?}");
        let cancelled = results.iter().filter(|one| one.data.outcome == Outcome::Cancelled);
        let row = |one: &str| one == "held-7" || one.starts_with("wrong-");
        assert!(cancelled.clone().all(|one| row(&one.data.request_id) && one.data.attempts == 0));
        worker.stop().await;
        rig.nothing_left_and_nothing_twice().await;
        assert_eq!(rig.sandbox.stats(&[]).tasks.created, 34);
        assert_eq!(client.depth(&rig.lane.queues.dead_letters()).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_request_waits_for_its_new_time_through_a_crash() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    let setup = Setup::quick(&[]);
    let mut worker = rig.start(&setup);
    worker.active().await;
    publish_batch(&rig, "moved", 3, Some(in_seconds(3))).await;
    let waits = worker.status.wait_for(|status| status.window.waiting == 3);
    tokio::time::timeout(SOON, waits).await.expect("held soon").expect("it runs");
    let later = in_seconds(8);
    let change = Change { not_before: Some(later), priority: Some(7), ..Change::default() };
    assert!(gate(&rig, Command::Order { of: of("moved"), change }).await.done);
    worker.crash();
    let mut worker = rig.start(&setup);
    worker.active().await;
    let results = rig.results(3).await;
    assert!(
        results
            .iter()
            .all(|one| one.data.first_attempt_at.unwrap() >= later && one.data.priority == 7)
    );
    worker.stop().await;
    rig.nothing_left_and_nothing_twice().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_cut_at_any_moment_of_parking_and_orders_lose_nothing_and_create_nothing_twice() {
    let node = Node::shared();
    let real = Lane::new(&node, QueueType::Quorum);
    let proxy = Proxy::start(failover::address_of(&node.url)).await;
    let through = real.through(&failover::through(&node.url, &proxy));
    let rig = Rig::new(real).await;
    let mut setup = Setup::quick(&["100/s"]);
    (setup.window, setup.core.window) = (20, 20);
    let mut worker = rig.start_on(&through, &setup);
    worker.active().await;
    assert!(worker.order(Command::Order { of: of("held"), change: hold(true) }).await.done);
    publish_batch(&rig, "held", 60, None).await;
    for round in 0..6_u64 {
        let cut = async {
            tokio::time::sleep(Duration::from_millis(40 * round)).await;
            proxy.cut(How::Reset);
        };
        let orders = (0..8_u16).map(|n| {
            let change = Change { priority: Some(100 + n), ..Change::default() };
            let of = Target::Request(format!("held-{n}"));
            let (pending, answer) = PendingCommand::new(order(Command::Order { of, change }));
            let orders = worker.orders.clone();
            async move {
                let _ = orders.send(pending).await;
                answer.await
            }
        });
        let ((), answers) = tokio::join!(cut, futures_util::future::join_all(orders));
        assert!(answers.iter().all(Result::is_ok), "everybody is answered");
        worker.active().await;
    }
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, 0, "held through all of it");
    let rows =
        (0..20_u64).map(|row| Target::Batch { id: "held".into(), run: None, row: Some(row) });
    for of in rows {
        keep(&rig, of, cancel()).await;
    }
    keep(&rig, of("held"), hold(false)).await;
    let results = rig.results(60).await;
    let counts = BTreeMap::from([(Outcome::Created, 40), (Outcome::Cancelled, 20)]);
    assert_eq!(outcomes(&results), counts);
    let client = rig.lane.client().await;
    client.wait_for_depth(&rig.lane.queues.parked(), 0).await;
    worker.stop().await;
    rig.nothing_left_and_nothing_twice().await;
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_stands_among_the_orders_or_the_parked_the_worker_goes_on() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let client = rig.lane.client().await;
    let long = vec![0xff; 100_000];
    let strange: [&[u8]; 5] =
        [b"", b"nonsense", b"{\"order\":{}}", &long, b"{\"id\":\"x\",\"action\":\"cancel\"}"];
    for bytes in strange {
        let control = rig.lane.queues.control();
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent = client.channel.basic_publish(
            control.into(),
            "batch.cancel".into(),
            options,
            bytes,
            properties,
        );
        sent.await.unwrap();
        let bodies = [bytes.to_vec()].map(Into::into);
        publish(&client, &rig.lane.queues.parked(), bodies).await;
    }
    let mut worker = rig.start(&Setup::quick(&[]));
    worker.active().await;
    publish_batch(&rig, "good", 5, None).await;
    // What cannot be read comes back from the parked as what it is: five dead letters.
    let results = rig.results(10).await;
    let counts = BTreeMap::from([(Outcome::Created, 5), (Outcome::Invalid, 5)]);
    assert_eq!(outcomes(&results), counts);
    let session = worker.status.borrow().session.clone();
    assert!(raise(&rig, "good-1", 9).await.done, "orders are heard as before");
    assert_eq!(worker.status.borrow().session, session, "it lives");
    worker.stop().await;
}

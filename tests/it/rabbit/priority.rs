//! A request that waits is given another priority: on a real broker, for good, and never twice.

use std::collections::BTreeMap;
use std::time::Duration;

use sluicegate::broker::ask;
use sluicegate::broker::settings::QueueType;
use sluicegate::core::Outcome;
use sluicegate::core::engine::{Upcoming, Waits};
use sluicegate::message::audit::{Act, Action};
use sluicegate::message::command::{Answer, Command};

use crate::rabbit::failover;
use crate::support::proxy::{How, Proxy};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, Running, Setup, body, order, outcomes, publish};

async fn gate(rig: &Rig, command: Command) -> Answer {
    ask(&rig.lane.settings, &rig.lane.queues, &order(command)).await.unwrap()
}

async fn raise(rig: &Rig, id: &str, priority: u16) -> Answer {
    gate(rig, Command::Priority { id: id.into(), priority }).await
}

async fn window(rig: &Rig) -> Vec<Upcoming> {
    gate(rig, Command::Window { first: None, run: None }).await.window.expect("a window")
}

/// Paused before it starts anything, with so many requests in its window, of priority 10.
async fn paused(rig: &Rig, setup: &Setup, count: u16) -> Running {
    let mut worker = rig.start(setup);
    worker.active().await;
    // While the window still fills after a start no request is moved.
    let filled = worker.status.wait_for(|status| status.gate.reason.is_none());
    tokio::time::timeout(SOON, filled).await.expect("filled soon").expect("it runs");
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

/// The source servers in the order in which their tasks were created.
async fn order_of(rig: &Rig, count: usize) -> Vec<String> {
    let mut results = rig.results(count).await;
    results.sort_by_key(|result| result.data.settled_at);
    assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, count)]));
    results.into_iter().map(|result| result.data.source_server_id).collect()
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
        assert!(raised.done && raised.said == "its priority is 60000 now", "{raised:?}");
        let lowered = raise(&rig, "0", 1).await;
        assert!(lowered.done, "{lowered:?}");
        holds(&mut first, 5).await;
        let next = window(&rig).await;
        let told: Vec<_> = next.iter().map(|one| (&*one.id, one.priority, one.waits)).collect();
        let turn = |id, priority| (id, priority, Waits::Turn);
        assert_eq!(
            told,
            [turn("3", 60_000), turn("1", 10), turn("2", 10), turn("4", 10), turn("0", 1)],
            "{kind:?}"
        );
        assert_eq!(rig.lane.client().await.depth(&rig.lane.queues.requests()).await, 0);
        for (id, priority, why) in [
            ("nobody", 5, "holds no request of this id"),
            ("1", 10, "it has this priority already"),
        ] {
            let refused = raise(&rig, id, priority).await;
            assert!(!refused.done && refused.said.contains(why), "{refused:?}");
        }
        // The next worker knows it from the message alone.
        first.crash();
        let mut second = rig.start(&setup);
        second.active().await;
        assert!(gate(&rig, Command::Resume).await.done);
        let issued = order_of(&rig, 5).await;
        assert_eq!(issued, ["s3", "s1", "s2", "s4", "s0"], "{kind:?}");
        second.stop().await;
        let acts = rig.lane.client().await.stream(&rig.lane.queues.audit(), 4).await;
        let acts = acts.iter().map(|message| serde_json::from_slice::<Act>(&message.body).unwrap());
        let acts: Vec<Act> = acts.filter(|act| act.action == Action::Priority).collect();
        let told = acts[0].gate.as_ref().unwrap();
        assert_eq!(
            (&told["request_id"], &told["before"], &told["after"]),
            (&"3".into(), &10.into(), &60_000.into())
        );
        assert_eq!((acts.len(), &*acts[1].who), (2, "anna@ops"));
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_cut_at_any_moment_of_many_changes_loses_nothing_and_creates_nothing_twice() {
    let node = Node::shared();
    let real = Lane::new(&node, QueueType::Quorum);
    let proxy = Proxy::start(failover::address_of(&node.url)).await;
    let through = real.through(&failover::through(&node.url, &proxy));
    let rig = Rig::new(real).await;
    let setup = Setup::quick(&["100/s"]);
    let mut worker = rig.start_on(&through, &setup);
    worker.active().await;
    assert!(worker.order(Command::Pause).await.done);
    let bodies = (0..40).map(|n| body(&format!("s{n}"), 10));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    holds(&mut worker, 40).await;
    for round in 0..6_u64 {
        let cut = async {
            tokio::time::sleep(Duration::from_millis(round)).await;
            proxy.cut(How::Reset);
        };
        let orders = (0..40_u16).map(|n| {
            let id = n.to_string();
            let priority = 100 + n + u16::try_from(round).unwrap();
            let (pending, answer) =
                sluicegate::message::command::PendingCommand::new(order(Command::Priority {
                    id,
                    priority,
                }));
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
    // What was published and not acknowledged is there twice; nothing is there less than once.
    assert!(worker.order(Command::Resume).await.done);
    let results = rig.results(40).await;
    assert!(results.iter().all(|result| result.data.outcome == Outcome::Created), "{results:?}");
    worker.stop().await;
    rig.nothing_left_and_nothing_twice().await;
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, 40);
}

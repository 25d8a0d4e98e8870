//! Who is the active worker, when the broker says nothing? A consumer that is not the active one any more, a queue that
//! has no single active consumer, and a user who may not find that out.

use std::time::{Duration, Instant};

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use sluicegate::broker::State;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::core::Outcome;
use sluicegate::worker::source::{Settled, Source as _};

use crate::support::rabbit::{Lane, Node, SOON, arrived, ending, lost, opened};

/// Two of the default heartbeats: src/broker/session/active.rs.
const SILENCE: Duration = Duration::from_secs(10);

/// The channels that consume `queue` do nothing any more, while their connection goes on with its heartbeats; or go on.
async fn channels_of(node: &Node, queue: &str, what: &str) {
    let code = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
         [sys:{what}(element(1, C)) || C <- rabbit_amqqueue:consumers(Q)]."
    );
    node.script("ctl", &["eval", &code]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_hear_its_own_questions_any_more_ends_its_session() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    // Nothing else happens on this session: it has nothing to publish, and so waits for no confirm.
    lane.client().await.publish_requests(&lane.queues.requests(), 0, 1).await;
    let held = arrived(&mut broker).await;
    let suspended = Instant::now();
    channels_of(&node, &lane.queues.active(), "suspend").await;
    let why = lost(&mut broker).await;
    channels_of(&node, &lane.queues.active(), "resume").await;
    assert!(suspended.elapsed() > SILENCE / 2, "that was something else");
    assert!(why.contains("another worker may be the active one"), "{why}");
    assert!(matches!(broker.settle(held, ending(Outcome::Created)).await.2, Settled::SessionLost));
    opened(&mut broker).await;
    let again = arrived(&mut broker).await;
    assert!(again.redelivered);
    assert!(matches!(broker.settle(again, ending(Outcome::Created)).await.2, Settled::Done));
    broker.leave(Vec::new()).await;
}

/// A user who may consume and publish everything, but not declare what the lane shares with others.
async fn limited(node: &Node, lane: &Lane) -> Lane {
    let user = format!("limited-{}", lane.queues.prefix);
    node.script("ctl", &["add_user", &user, "limited"]).await;
    let configure = format!("^(amq\\.gen.*|{}\\.control\\..*)$", lane.queues.prefix);
    node.script("ctl", &["set_permissions", &user, &configure, ".*", ".*"]).await;
    lane.through(&lane.url.replace("guest:guest", &format!("{user}:limited")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_may_not_compare_the_queues_tries_whether_there_can_be_one_active_worker_only() {
    let node = Node::shared();
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let lane = Lane::new(&node, kind);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        let limited = limited(&node, &lane).await;
        let report = topology::check(&limited.settings, &limited.queues).await.unwrap();
        let active = format!("queue {}", lane.queues.active());
        assert!(report.mismatches.is_empty() && report.unchecked.contains(&active), "{report:?}");

        let mut first = limited.start("w1");
        opened(&mut first).await;
        assert!(first.status().borrow().unchecked.contains(&active), "the status tells it too");
        first.leave(Vec::new()).await;

        // The same queue, but without the argument that everything rests on.
        let channel = lane.client().await.channel;
        let name = lane.queues.active();
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        let mut arguments = FieldTable::default();
        arguments
            .insert("x-queue-type".into(), AMQPValue::LongString(LongString::from(kind.as_str())));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.as_str().into(), durable, arguments).await.unwrap();
        let second = limited.start("w2");
        let mut status = second.status();
        let refused = status.wait_for(|status| match &status.state {
            State::Lost { why } => why.contains("no single active consumer"),
            State::Active { .. } => panic!("two workers could be active"),
            _ => false,
        });
        tokio::time::timeout(SOON, refused).await.unwrap().unwrap();
        second.leave(Vec::new()).await;
    }
}

//! The broker as a source: what is taken, settled, requeued and lost, on a real RabbitMQ.

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::broker::{Broker, Options, State};
use sluicegate::core::Outcome;
use sluicegate::worker::source::{Delivery, Event, Settled, Source};

use crate::support::form::short_or_full;
use crate::support::rabbit::{
    Lane, Node, OwnNode, SOON, arrived, ending, lost, next, opened, request_body,
};
use crate::support::wait;

const BOTH: [QueueType; 2] = [QueueType::Quorum, QueueType::Classic];

#[tokio::test]
async fn a_request_is_taken_published_confirmed_and_only_then_acknowledged() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let mut broker = lane.start("w1");
        let session = opened(&mut broker).await;
        let client = lane.client().await;
        client.publish_requests(&lane.queues.requests(), 17, 1).await;
        let job = arrived(&mut broker).await;
        assert_eq!((&*job.request.id.get(), job.session, job.redelivered), ("17", session, false));
        assert_eq!(job.request.name, "task-17");
        assert_eq!(job.delivery.body().await.unwrap(), request_body(17));

        let (job, ..) = match broker.settle(job, ending(Outcome::Created)).await {
            (job, ending, Settled::Done) => (job, ending),
            (_, _, other) => panic!("not settled: {other:?}"),
        };
        let results = lane.results(1).await;
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].id, job.request.run.0.to_string());
        assert_eq!(results[0].kind, "sluice.request.created");
        assert_eq!(
            (results[0].data.worker.as_str(), results[0].data.request_id.as_str()),
            ("w1", "17")
        );
        broker.leave(Vec::new()).await;
        client.wait_for_depth(&lane.queues.requests(), 0).await;
        assert!(client.take(&lane.queues.dead_letters()).await.is_none());
    }
}

#[tokio::test]
async fn a_dead_letter_has_the_body_byte_for_byte_and_its_reason_in_headers() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let client = lane.client().await;
    let body = b"{ \"name\" : \"not valid\",\r\n\t\"x\":1e0, \"\xe4\xb8\xad\": null }".as_slice();
    let mut headers = FieldTable::default();
    headers.insert("x-sluice-batch".into(), AMQPValue::LongString("wave-1".into()));
    headers.insert("planners-own".into(), AMQPValue::LongInt(7));
    let properties = BasicProperties::default()
        .with_message_id("row 3".into())
        .with_headers(headers)
        .with_expiration("600000".into())
        .with_content_type("application/json".into());
    client.publish(&lane.queues.requests(), body, properties).await;
    let (job, violations) = match next(&mut broker).await {
        Event::Invalid(job, violations) => (job, violations),
        other => panic!("expected an invalid request, got {other:?}"),
    };
    assert!(!violations.is_empty());
    let mut end = ending(Outcome::Invalid);
    end.violations = violations;
    let (job, _, settled) = broker.settle(job, end).await;
    assert!(matches!(settled, Settled::Done));
    broker.leave(Vec::new()).await;

    let letter = client.take(&lane.queues.dead_letters()).await.unwrap();
    assert_eq!(letter.body, body);
    assert_eq!(letter.header("x-sluice-outcome").unwrap(), "invalid");
    assert_eq!(letter.header("x-sluice-batch").unwrap(), "wave-1");
    assert_eq!(letter.header("x-sluice-request-id").unwrap(), "row 3");
    assert_eq!(letter.header("planners-own").unwrap(), "LongInt(7)");
    assert!(letter.header("x-sluice-violations").unwrap().starts_with("[{\"pointer\""));
    assert!(letter.properties.expiration().is_none(), "it must not expire before it is reviewed");
    let results = lane.results(1).await;
    assert_eq!(letter.id(), results[0].id, "the dead letter carries the id of its result");
    assert_eq!(results[0].data.batch.as_deref(), Some("wave-1"));
    assert_eq!(letter.id(), job.request.run.0.to_string());
}

#[tokio::test]
async fn a_result_that_cannot_be_routed_ends_the_session_and_keeps_the_request() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let client = lane.client().await;
    client.publish_requests(&lane.queues.requests(), 1, 1).await;
    let job = arrived(&mut broker).await;
    client
        .channel
        .queue_delete(lane.queues.results_log().as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    let (_, _, settled) = broker.settle(job, ending(Outcome::Created)).await;
    assert!(matches!(settled, Settled::SessionLost));
    let why = lost(&mut broker).await;
    assert!(why.contains("came back: 312"), "{why}");
    // The next session has declared the stream again.
    opened(&mut broker).await;
    let job = arrived(&mut broker).await;
    assert!(job.redelivered);
    assert!(matches!(broker.settle(job, ending(Outcome::Created)).await.2, Settled::Done));
    broker.leave(Vec::new()).await;
    assert_eq!(lane.results(1).await.len(), 1);
}

#[tokio::test]
async fn a_missing_exchange_ends_the_session_and_keeps_the_request() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let client = lane.client().await;
    client.publish_requests(&lane.queues.requests(), 1, 1).await;
    let job = arrived(&mut broker).await;
    let exchange = lane.queues.results();
    client
        .channel
        .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    assert!(matches!(broker.settle(job, ending(Outcome::Created)).await.2, Settled::SessionLost));
    let why = lost(&mut broker).await;
    assert!(why.contains("NOT_FOUND"), "{why}");
    opened(&mut broker).await;
    assert!(arrived(&mut broker).await.redelivered);
}

#[tokio::test]
async fn a_deleted_queue_of_requests_ends_the_session_and_is_declared_again() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let mut broker = lane.start("w1");
        let first = opened(&mut broker).await;
        let client = lane.client().await;
        let name = lane.queues.requests();
        client
            .channel
            .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
            .await
            .unwrap();
        lost(&mut broker).await;
        assert_eq!(opened(&mut broker).await, first + 1);
        client.publish_requests(&name, 1, 1).await;
        assert_eq!(arrived(&mut broker).await.request.id, "1");
    }
}

#[tokio::test]
async fn a_session_knows_how_many_requests_waited_when_it_began() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let mut first = lane.start("w1");
        opened(&mut first).await;
        first.leave(Vec::new()).await;
        lane.client().await.publish_requests(&lane.queues.requests(), 1, 3).await;
        let mut second = lane.start("w2");
        match next(&mut second).await {
            Event::Opened { waiting, .. } => assert_eq!(waiting, 3),
            other => panic!("expected a session, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn settlements_are_pipelined_and_each_has_its_own_result() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let mut broker = lane.start("w1");
        opened(&mut broker).await;
        let client = lane.client().await;
        client.publish_requests(&lane.queues.requests(), 0, 500).await;
        let mut settling = Vec::new();
        for number in 0..500 {
            let job = arrived(&mut broker).await;
            let outcome = if number % 3 == 0 { Outcome::Rejected } else { Outcome::Created };
            settling.push(tokio::spawn(broker.settle(job, ending(outcome))));
        }
        for one in settling {
            assert!(matches!(one.await.unwrap().2, Settled::Done));
        }
        broker.leave(Vec::new()).await;
        client.wait_for_depth(&lane.queues.requests(), 0).await;
        client.wait_for_depth(&lane.queues.dead_letters(), 167).await;
        let mut ids: Vec<String> =
            lane.results(500).await.into_iter().map(|result| result.data.request_id).collect();
        ids.sort_by_key(|id| id.parse::<usize>().unwrap());
        assert_eq!(ids, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_worker_that_leaves_requeues_what_it_holds_and_loses_no_acknowledgement() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let mut broker = lane.start("w1");
        opened(&mut broker).await;
        let client = lane.client().await;
        client.publish_requests(&lane.queues.requests(), 0, 1300).await;
        let mut held = Vec::new();
        let mut settling = Vec::new();
        // As many at once as a quorum queue's client keeps back when it is closed on.
        for number in 0..1000 {
            let job = arrived(&mut broker).await;
            if number % 8 != 0 {
                settling.push(tokio::spawn(broker.settle(job, ending(Outcome::Created))));
            } else {
                held.push(job);
            }
        }
        broker.stop().await;
        for one in settling {
            assert!(matches!(one.await.unwrap().2, Settled::Done));
        }
        broker.leave(held).await;
        // The 125 that were held, and the 300 that were never looked at.
        client.wait_for_depth(&lane.queues.requests(), 425).await;
        assert_eq!(
            client.depth(&lane.queues.dead_letters()).await,
            0,
            "requeuing must not dead-letter"
        );
        // However it was requeued, the next worker is told that somebody else had it.
        let mut next_worker = lane.start("w2");
        opened(&mut next_worker).await;
        let mut told = 0;
        for _ in 0..425 {
            told += usize::from(arrived(&mut next_worker).await.redelivered);
        }
        assert!(told >= 125, "{told} of those that were held are in doubt");
        next_worker.leave(Vec::new()).await;
    }
}

/// A quorum queue's client keeps settlements back when they come faster than the queue takes them, and forgets them when
/// its channel is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_acknowledgements_reaches_the_queue_before_the_worker_is_gone() {
    const BURST: usize = 6000;
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let window = u16::try_from(BURST).unwrap();
    let mut broker = Broker::start(Options { window, ..lane.options("w1") });
    opened(&mut broker).await;
    let client = lane.client().await;
    client.publish_requests(&lane.queues.requests(), 0, BURST).await;
    let mut acknowledged = Vec::new();
    for _ in 0..BURST {
        let job = arrived(&mut broker).await;
        acknowledged.push(broker.acknowledge(job));
    }
    // As a worker leaves: no more deliveries, and then what is in flight is settled.
    broker.stop().await;
    futures_util::future::join_all(acknowledged).await;
    broker.leave(Vec::new()).await;
    // What is not acknowledged is there again when the consumer is gone.
    wait::until(SOON, async || match client.consumers(&lane.queues.requests()).await {
        0 => Ok(()),
        consumers => Err(format!("{consumers} consumers")),
    })
    .await;
    assert_eq!(client.depth(&lane.queues.requests()).await, 0);
}

#[tokio::test]
async fn what_a_leaving_worker_requeues_comes_before_what_was_never_out() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let small = |worker: &str| Broker::start(Options { window: 10, ..lane.options(worker) });
        let mut broker = small("w1");
        opened(&mut broker).await;
        let client = lane.client().await;
        client.publish_requests(&lane.queues.requests(), 0, 30).await;
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(arrived(&mut broker).await);
        }
        broker.leave(held).await;
        client.wait_for_depth(&lane.queues.requests(), 30).await;
        let mut next_worker = small("w2");
        opened(&mut next_worker).await;
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(arrived(&mut next_worker).await.request.id.get().parse::<usize>().unwrap());
        }
        assert_eq!(ids, (0..10).collect::<Vec<_>>(), "{kind:?}");
        next_worker.leave(Vec::new()).await;
    }
}

#[tokio::test]
async fn what_is_requeued_comes_again_and_never_to_the_dead_letters() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let mut broker = lane.start("w1");
        opened(&mut broker).await;
        let client = lane.client().await;
        client.publish_requests(&lane.queues.requests(), 7, 1).await;
        // More often than the default delivery limit of RabbitMQ 4.
        for round in 0..30 {
            let job = arrived(&mut broker).await;
            assert_eq!((&*job.request.id.get(), job.redelivered), ("7", round > 0));
            broker.requeue(job).await;
        }
        let job = arrived(&mut broker).await;
        broker.acknowledge(job).await;
        broker.leave(Vec::new()).await;
        client.wait_for_depth(&lane.queues.requests(), 0).await;
        assert_eq!(client.depth(&lane.queues.dead_letters()).await, 0);
    }
}

#[tokio::test]
async fn sessions_beyond_any_limit_with_a_held_window_dead_letter_nothing() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    let client = lane.client().await;
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    client.publish_requests(&lane.queues.requests(), 0, 20).await;
    // Before 4.0 there is no limit of its own.
    let rounds = if node.version == "3.10" { short_or_full(9, 36) } else { short_or_full(33, 36) };
    for round in 0..rounds {
        let mut broker = lane.start("w1");
        opened(&mut broker).await;
        let mut held = Vec::new();
        for _ in 0..20 {
            held.push(arrived(&mut broker).await);
        }
        // In good order now and then, and more than twenty times like a crash.
        if round % 3 == 0 {
            broker.leave(held).await;
        } else {
            drop(held);
            drop(broker);
        }
    }
    client.wait_for_depth(&lane.queues.requests(), 20).await;
    assert_eq!(client.depth(&lane.queues.dead_letters()).await, 0);
}

#[tokio::test]
async fn a_standby_knows_that_it_is_one_and_takes_over_within_three_seconds() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let mut active = lane.start("w1");
        opened(&mut active).await;
        let mut standby = lane.start("w2");
        let mut status = standby.status();
        tokio::time::timeout(SOON, status.wait_for(|status| status.state == State::Standby))
            .await
            .unwrap()
            .unwrap();
        let client = lane.client().await;
        client.publish_requests(&lane.queues.requests(), 0, 10).await;
        let held = arrived(&mut active).await;
        let left = Instant::now();
        active.leave(vec![held]).await;
        opened(&mut standby).await;
        let took = left.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(status.borrow_and_update().state, State::Active { session: 1 });
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(arrived(&mut standby).await.request.id.get().parse::<usize>().unwrap());
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..10).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_standby_asks_once_a_second_and_costs_the_broker_no_error() {
    let node = Node::shared();
    for kind in BOTH {
        let lane = Lane::new(&node, kind);
        let mut active = lane.start("w1");
        opened(&mut active).await;
        let standby = lane.start("w2");
        let mut status = standby.status();
        let told = status.wait_for(|status| status.state == State::Standby);
        tokio::time::timeout(SOON, told).await.unwrap().unwrap();
        let client = lane.client().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // Whoever hears a question takes it out, so that none is left for the next one to be misled by.
        client.wait_for_depth(&lane.queues.active(), 0).await;
        let log = std::fs::read_to_string(node.dir.join("log/rabbitmq.log")).unwrap();
        let complaints = log
            .lines()
            .filter(|line| line.contains(&lane.queues.active()) && line.contains("caused"));
        assert_eq!(complaints.count(), 0);
        standby.leave(Vec::new()).await;
        active.leave(Vec::new()).await;
    }
}

#[tokio::test]
async fn settling_on_a_lost_session_says_so_and_publishes_nothing() {
    let own = OwnNode::start();
    let lane = Lane::new(&own.node, QueueType::Quorum);
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    lane.client().await.publish_requests(&lane.queues.requests(), 0, 2).await;
    let (first, second) = (arrived(&mut broker).await, arrived(&mut broker).await);
    own.node.script("ctl", &["close_all_connections", "cut by a test"]).await;
    lost(&mut broker).await;
    assert!(matches!(broker.settle(first, ending(Outcome::Created)).await.2, Settled::SessionLost));
    broker.requeue(second).await;
    opened(&mut broker).await;
    for _ in 0..2 {
        let job = arrived(&mut broker).await;
        assert!(job.redelivered);
        assert!(matches!(broker.settle(job, ending(Outcome::Created)).await.2, Settled::Done));
    }
    broker.leave(Vec::new()).await;
    assert_eq!(lane.results(2).await.len(), 2);
}

#[tokio::test]
async fn a_broker_that_restarts_or_is_killed_costs_a_session_and_no_request() {
    let own = OwnNode::start();
    for kind in BOTH {
        let lane = Lane::new(&own.node, kind);
        let mut broker = lane.start("w1");
        opened(&mut broker).await;
        lane.client().await.publish_requests(&lane.queues.requests(), 0, 50).await;
        for _ in 0..10 {
            let job = arrived(&mut broker).await;
            assert!(matches!(broker.settle(job, ending(Outcome::Created)).await.2, Settled::Done));
        }
        own.node.keeps_its_queues().await;
        own.node.script(if kind == QueueType::Quorum { "kill" } else { "stop" }, &[]).await;
        lost(&mut broker).await;
        let dir = own.node.dir.clone();
        let (node, version) = (own.node.clone(), own.node.version.clone());
        let process = std::process::id().to_string();
        tokio::task::spawn_blocking(move || {
            node.script_now(
                "start",
                &["--version", &version, "--no-management", "--with", &process],
            );
        })
        .await
        .unwrap();
        assert!(dir.join("env").exists());
        opened(&mut broker).await;
        let mut settled = std::collections::BTreeSet::new();
        while settled.len() < 40 {
            let job = arrived(&mut broker).await;
            let number: usize = job.request.id.get().parse().unwrap();
            assert!(matches!(broker.settle(job, ending(Outcome::Created)).await.2, Settled::Done));
            if number >= 10 {
                settled.insert(number);
            }
        }
        broker.leave(Vec::new()).await;
        lane.client().await.wait_for_depth(&lane.queues.requests(), 0).await;
    }
}

#[tokio::test]
async fn an_alarm_blocks_results_and_not_the_session() {
    let own = OwnNode::start();
    let alarms = [
        (["set_vm_memory_high_watermark", "0.000001"], ["set_vm_memory_high_watermark", "0.4"]),
        (["set_disk_free_limit", "1000000GB"], ["set_disk_free_limit", "50MB"]),
    ];
    for (number, (on, off)) in alarms.into_iter().enumerate() {
        let lane = Lane::new(&own.node, QueueType::Quorum);
        let mut broker = lane.start("w1");
        opened(&mut broker).await;
        lane.client().await.publish_requests(&lane.queues.requests(), 0, 3).await;
        let mut jobs = Vec::new();
        for _ in 0..3 {
            jobs.push(arrived(&mut broker).await);
        }
        own.node.script("ctl", &on).await;
        lane.client().await.until_blocked(&lane.queues.requests()).await;
        let settling: Vec<_> = jobs
            .into_iter()
            .map(|job| tokio::spawn(broker.settle(job, ending(Outcome::Created))))
            .collect();
        let event = next(&mut broker).await;
        assert!(matches!(event, Event::Blocked(true)), "{on:?}: {event:?}");
        assert!(broker.status().borrow().blocked);
        // Longer than a worker that hears none of its questions may believe to be the active one; the second alarm is the
        // same to it.
        let holds = if number == 0 { 12 } else { short_or_full(1, 12) };
        tokio::time::sleep(Duration::from_secs(holds)).await;
        assert!(
            settling.iter().all(|one| !one.is_finished()),
            "nothing is acknowledged before it is confirmed"
        );
        own.node.script("ctl", &off).await;
        assert!(matches!(next(&mut broker).await, Event::Blocked(false)), "{off:?}");
        for one in settling {
            assert!(matches!(one.await.unwrap().2, Settled::Done));
        }
        broker.leave(Vec::new()).await;
        assert_eq!(lane.results(3).await.len(), 3);
    }
}

#[tokio::test]
async fn bodies_beyond_the_bound_wait_in_a_file_and_come_back_unchanged() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let mut options = lane.options("w1");
    options.max_bytes = 10_000;
    let mut broker = sluicegate::broker::Broker::start(options);
    let spill = broker.spill();
    opened(&mut broker).await;
    lane.client().await.publish_requests(&lane.queues.requests(), 0, 100).await;
    let mut jobs = Vec::new();
    for _ in 0..100 {
        jobs.push(arrived(&mut broker).await);
    }
    let (in_memory, spilled) = spill.held();
    assert!(in_memory <= 10_000 && spilled > 50_000, "{in_memory} {spilled}");
    for job in &jobs {
        assert_eq!(
            job.delivery.body().await.unwrap(),
            request_body(job.request.id.get().parse().unwrap())
        );
    }
    drop(jobs);
    assert_eq!(spill.held(), (0, 0));
}

#[tokio::test]
async fn a_different_queue_is_named_with_what_is_and_what_should_be_and_nothing_is_consumed() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    let client = lane.client().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let name = lane.queues.requests();
    client.channel.queue_declare(name.as_str().into(), durable, arguments).await.unwrap();
    client.publish_requests(&name, 0, 1).await;

    let error = topology::apply(&lane.settings, &lane.queues).await.unwrap_err().to_string();
    assert!(
        error
            .contains(&format!("queue {name}: x-single-active-consumer is absent, should be true")),
        "{error}"
    );
    assert!(
        error.contains(&format!(
            "x-dead-letter-exchange is absent, should be {}",
            lane.queues.dlx()
        ))
    );
    let limited = error.contains("x-delivery-limit is absent, should be -1");
    assert_eq!(limited, node.version != "3.10", "{error}");

    let broker = lane.start("w1");
    let mut status = broker.status();
    let told = status.wait_for(
        |status| matches!(&status.state, State::Lost { why } if why.contains("x-single-active")),
    );
    tokio::time::timeout(SOON, told).await.unwrap().unwrap();
    client.wait_for_depth(&name, 1).await;
}

#[tokio::test]
async fn a_topology_that_was_applied_is_found_right_and_applied_again() {
    for kind in BOTH {
        let mut lane = Lane::new(&Node::shared(), kind);
        let missing = topology::check(&lane.settings, &lane.queues).await.unwrap();
        assert!(missing.mismatches.iter().all(|mismatch| mismatch.is == "missing"));
        assert_eq!(missing.mismatches.len(), 17);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        // How long a stream is kept is the operator's business, by policy or by argument.
        lane.queues.results_retention = "7D".into();
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        let report = topology::check(&lane.settings, &lane.queues).await.unwrap();
        assert_eq!(report.mismatches, Vec::new());
    }
}

#[tokio::test]
async fn a_worker_that_may_not_declare_checks_and_says_what_is_missing() {
    let mut lane = Lane::new(&Node::shared(), QueueType::Quorum);
    lane.queues.declare = false;
    let mut broker = lane.start("w1");
    let mut status = broker.status();
    let told = status.wait_for(
        |status| matches!(&status.state, State::Lost { why } if why.contains("is missing")),
    );
    tokio::time::timeout(SOON, told).await.unwrap().unwrap();
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    opened(&mut broker).await;
    broker.leave(Vec::new()).await;
}

#[tokio::test]
async fn the_first_of_several_addresses_that_answers_is_used() {
    let node = Node::shared();
    let mut lane = Lane::new(&node, QueueType::Quorum);
    let nobody = "amqp://guest:guest@127.0.0.1:1/%2f";
    lane.settings.url =
        Some(sluicegate::config::values::SecretUrls::new([nobody, node.url.as_str()]));
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let version = broker.status().borrow().server.unwrap().to_string();
    assert!(version.starts_with(&node.version), "{version}");
    broker.leave(Vec::new()).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let mut lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let url = Node::shared().url.replace("guest:guest", "guest:hunter2");
    lane.settings.url = Some(sluicegate::config::values::SecretUrls::new([url.as_str()]));
    let broker = lane.start("w1");
    let mut status = broker.status();
    let told = status.wait_for(|status| matches!(status.state, State::Lost { .. }));
    let status = tokio::time::timeout(SOON, told).await.unwrap().unwrap().clone();
    let shown = format!("{status:?} {broker:?}");
    assert!(shown.contains("ACCESS_REFUSED") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn lengths_of_queues_are_known() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let client = lane.client().await;
    client.publish(&lane.queues.dead_letters(), b"{}", BasicProperties::default()).await;
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let mut status = broker.status();
    let told =
        status.wait_for(|status| status.dead_letters == Some(1) && status.requests == Some(0));
    tokio::time::timeout(SOON, told).await.unwrap().unwrap();
    broker.leave(Vec::new()).await;
}

#[tokio::test]
async fn a_hold_longer_than_the_queues_own_consumer_timeout_is_refused() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    let client = lane.client().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments
        .insert("x-dead-letter-exchange".into(), AMQPValue::LongString(lane.queues.dlx().into()));
    arguments.insert("x-consumer-timeout".into(), AMQPValue::LongLongInt(300_000));
    if node.version != "3.10" {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    }
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    client
        .channel
        .queue_declare(lane.queues.requests().as_str().into(), durable, arguments)
        .await
        .unwrap();
    let mut broker = lane.start("w1");
    if node.version == "4.3" {
        let mut status = broker.status();
        let told = status
            .wait_for(|status| matches!(&status.state, State::Lost { why } if why.contains("x-consumer-timeout")));
        tokio::time::timeout(SOON, told).await.unwrap().unwrap();
    } else {
        // Before 4.3 the argument means nothing to a quorum queue.
        opened(&mut broker).await;
        broker.leave(Vec::new()).await;
    }
}

//! Traps of the broker and of the client library that lose messages without a word; docs/assumptions.md lists all of
//! them, with their tests.

use std::collections::BTreeSet;

use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use sluicegate::broker::settings::QueueType;
use sluicegate::config::values::SecretUrls;
use sluicegate::core::{Ending, Job, Outcome};
use sluicegate::worker::source::{Settled, Source};
use tokio::net::TcpListener;

use crate::support::rabbit::{Lane, Node, SOON, arrived, ending, opened};

const COUNT: usize = 400;

/// Settles `COUNT` requests at once, every second one as rejected; the runs that were told as published.
async fn settled_at_once(lane: &Lane, prepare: impl AsyncFnOnce()) -> BTreeSet<String> {
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    lane.client().await.publish_requests(&lane.queues.requests(), 0, COUNT).await;
    let mut jobs = Vec::new();
    for _ in 0..COUNT {
        jobs.push(arrived(&mut broker).await);
    }
    prepare().await;
    let settling: Vec<_> = jobs
        .into_iter()
        .enumerate()
        .map(|(number, job)| {
            let outcome = if number % 2 == 0 { Outcome::Created } else { Outcome::Exists };
            tokio::spawn(broker.settle(job, ending(outcome)))
        })
        .collect();
    let mut told = BTreeSet::new();
    for one in settling {
        let (job, _, settled): (Job<_>, Ending, _) = one.await.unwrap();
        if matches!(settled, Settled::Done) {
            told.insert(job.request.run.0.to_string());
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_as_published_is_there_though_half_of_the_pipeline_came_back() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let lane = Lane::new(&Node::shared(), kind);
        let (log, exchange) = (lane.queues.results_log(), lane.queues.results());
        let told = settled_at_once(&lane, async || {
            // From now on half of the results have nowhere to go; their returns come in between good confirms.
            let channel = lane.client().await.channel;
            let bind = QueueBindOptions::default();
            let (queue, from) = (log.as_str(), exchange.as_str());
            channel
                .queue_bind(
                    queue.into(),
                    from.into(),
                    "created.#".into(),
                    bind,
                    FieldTable::default(),
                )
                .await
                .unwrap();
            channel
                .queue_unbind(queue.into(), from.into(), "#".into(), FieldTable::default())
                .await
                .unwrap();
        })
        .await;
        let there: BTreeSet<_> =
            lane.results(0).await.into_iter().map(|result| result.id).collect();
        let lost: Vec<_> = told.difference(&there).collect();
        assert!(lost.is_empty(), "{kind:?}: told as published, and nowhere: {lost:?}");
        assert!(told.len() < COUNT, "{} of {COUNT}", told.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_of_the_queues_refuses_is_never_told_as_published() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let name = format!("{}.full", lane.queues.prefix);
    let told = settled_at_once(&lane, async || {
        let channel = lane.client().await.channel;
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.as_str().into(), durable, arguments).await.unwrap();
        let from = lane.queues.results();
        let bind = QueueBindOptions::default();
        channel
            .queue_bind(
                name.as_str().into(),
                from.as_str().into(),
                "#".into(),
                bind,
                FieldTable::default(),
            )
            .await
            .unwrap();
    })
    .await;
    assert!(told.len() <= 6, "the queue takes 5 or 6, and {} were told as taken", told.len());
    let (client, mut taken) = (lane.client().await, BTreeSet::new());
    while let Some(result) = client.take(&name).await {
        taken.insert(result.id().to_owned());
    }
    assert!(told.is_subset(&taken), "{told:?} were told as taken, of {taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_accepts_and_stays_mute_is_given_up_and_the_next_one_is_tried() {
    let node = Node::shared();
    let mut lane = Lane::new(&node, QueueType::Quorum);
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", mute.local_addr().unwrap());
    lane.settings.url = Some(SecretUrls::new([url.as_str(), node.url.as_str()]));
    let mut broker = lane.start("w1");
    tokio::time::timeout(SOON, opened(&mut broker))
        .await
        .expect("the second one, after ten seconds");
    broker.leave(Vec::new()).await;
    drop(mute);
}

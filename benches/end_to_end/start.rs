//! How soon after its start does the worker submit, with a backlog waiting? It first takes in all that it can hold, so
//! that the most urgent goes first. What a consumer that only receives needs for as much is the limit.

use std::time::Instant;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use sluicegate::broker::settings::QueueType;

use crate::Extent;
use crate::process::{Process, Setup};
use crate::report::{Table, met, quantile};
use crate::rig::{self, Lane, Node};

const ROUNDS: usize = 3;

pub(crate) async fn measure(node: &Node, extent: Extent) -> Table {
    let mut table = Table::new(
        &[
            "waiting",
            "queue",
            "window",
            "process start to first POST",
            "goal",
            "a bare consumer has as much",
        ],
        format!(
            "Bodies of 1 KB, the median of {ROUNDS} starts. The bare consumer, of the same client library, \
             connects with the same prefetch and drops what it receives: from its connecting until it has as many."
        ),
    );
    let all = extent.of(100_000);
    for (waiting, kind, window) in [
        (1, QueueType::Quorum, u16::MAX),
        (1_000, QueueType::Quorum, u16::MAX),
        (all, QueueType::Quorum, u16::MAX),
        (all, QueueType::Classic, u16::MAX),
        (all, QueueType::Classic, 15_000),
    ] {
        let (mut times, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (worker, consumer) = start(node, kind, waiting, window).await;
            times.push(worker);
            bare.push(consumer);
        }
        let median = quantile(&mut times, 0.5);
        table.row([
            waiting.to_string(),
            kind.as_str().into(),
            window.to_string(),
            format!("{median:.2} s"),
            if waiting < all { String::new() } else { format!("under 2 s: {}", met(median < 2.0)) },
            format!("{:.2} s", quantile(&mut bare, 0.5)),
        ]);
    }
    table
}

/// Seconds: of the worker, and of the bare consumer before it.
async fn start(node: &Node, kind: QueueType, waiting: usize, window: u16) -> (f64, f64) {
    let lane = Lane::new(node, kind).await;
    let sandbox = rig::sandbox(json!({})).await;
    lane.fill(waiting, 1_000, |number| u16::try_from(number % 60_000).unwrap()).await;
    let bare = receive(&lane, waiting, window).await;
    // Requeued with the connection; a message that was delivered before would be looked up first, so others wait now.
    lane.drop().await;
    let lane = Lane::new(node, kind).await;
    lane.fill(waiting, 1_000, |number| u16::try_from(number % 60_000).unwrap()).await;
    let began = Timestamp::now();
    let setup = Setup { rates: vec!["50/s".into()], window, ..Setup::default() };
    let process = Process::worker(&lane, &sandbox.base_url, &setup);
    rig::created(&sandbox, 1).await;
    drop(process);
    let first = rig::creates(&sandbox)[0].started;
    lane.drop().await;
    (first.duration_since(began).as_secs_f64(), bare)
}

/// Seconds until a consumer has received all that waits, or as many as the window holds.
async fn receive(lane: &Lane, waiting: usize, window: u16) -> f64 {
    let began = Instant::now();
    let connection = Connection::connect(&lane.url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(window, BasicQosOptions::default()).await.unwrap();
    let queue = lane.queues.requests();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consume = channel.basic_consume(queue.as_str().into(), "".into(), options, none);
    let mut deliveries = consume.await.unwrap().take(waiting.min(usize::from(window)));
    while let Some(delivery) = deliveries.next().await {
        delivery.unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    connection.close(200, "received".into()).await.unwrap();
    took
}

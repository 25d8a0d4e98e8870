//! What if the gate stays shut for long? Deliveries are held for longer than the broker allows, on brokers of each kind.

use std::time::Duration;

use sluicegate::broker::dead_letters::{Review, ReviewAction, ReviewError};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::contract::Rules;
use sluicegate::core::Outcome;
use sluicegate::message::audit::By;
use sluicegate::message::command::Command;
use sluicegate::message::status::SessionStatus;
use sluicegate::review::Filter;

use super::failover::{address_of, through};
use super::letters::{all_replayed, servers, slow};
use crate::support::form::short_or_full;
use crate::support::proxy::Proxy;
use crate::support::rabbit::{Lane, OwnNode, SOON};
use crate::support::rig::{Rig, Setup, body, outcomes, publish};

/// How a window fared that was held behind a shut gate.
struct Fared {
    /// Sessions that the worker opened.
    sessions: u64,
    /// Deliveries in the window at the end of the hold.
    held: usize,
}

/// Holds `count` requests for `hold`, then lets them go; all of them must be created once, and none dead-lettered.
async fn hold(own: &OwnNode, kind: QueueType, max_hold: Duration, time: Duration) -> Fared {
    let count = 120;
    let proxy = Proxy::start(address_of(&own.node.url)).await;
    let rig = Rig::new(Lane::new(&own.node, kind)).await;
    let mut lane = rig.lane.clone();
    lane.settings.url =
        Some(sluicegate::config::values::SecretUrls::new(
            [through(&own.node.url, &proxy).as_str()],
        ));
    let mut setup = Setup::quick(&["100/s"]);
    setup.core.max_hold = max_hold;
    let mut worker = rig.start_on(&lane, &setup);
    worker.order(Command::Pause).await;
    worker.active().await;
    let one_session = proxy.accepted();
    publish(
        &rig.lane.client().await,
        &rig.lane.queues.requests(),
        (0..count).map(|n| body(&format!("s{n}"), 1)),
    )
    .await;
    tokio::time::sleep(time).await;
    let attached = |status: &sluicegate::message::status::Status| {
        matches!(status.session, SessionStatus::Active { .. })
            && status.window.ready + status.window.waiting == count
    };
    let all = worker.status.wait_for(attached);
    tokio::time::timeout(SOON, all).await.expect("all are held again").unwrap();
    let sessions = proxy.accepted() / one_session;
    worker.order(Command::Resume).await;
    let results = rig.results(count).await;
    worker.stop().await;
    assert!(outcomes(&results).keys().all(|outcome| *outcome == Outcome::Created));
    assert_eq!(rig.sandbox.stats(&[]).tasks.created, count as u64);
    rig.nothing_left_and_nothing_twice().await;
    rig.lane.client().await.wait_for_depth(&rig.lane.queues.dead_letters(), 0).await;
    Fared { sessions, held: count }
}

/// A review that is held open for so long, after its first dead letter; every dead letter must have moved in the end.
async fn review(own: &OwnNode, time: Duration) {
    let lane = Lane::new(&own.node, QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let client = lane.client().await;
    for (body, properties) in servers(0..200) {
        client.publish(&lane.queues.dead_letters(), &body, properties).await;
    }
    let review = Review::new(&lane.settings, &lane.queues, Rules::default());
    let (all, by) = (Filter::default(), By { who: "ada".into(), why: None });
    let held = review.act(&all, &ReviewAction::Replay, &by, slow(time)).await;
    let Err(ReviewError::Lost { progress, why }) = held else { panic!("{held:?}") };
    assert!(
        progress.moved < 200 && why.0.contains("took the dead letters back"),
        "{progress:?} {why}"
    );
    all_replayed(&lane, &review, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_window_held_for_longer_than_the_consumer_timeout_closes_no_channel_and_loses_nothing() {
    let timeout = Duration::from_secs(short_or_full(6, 60));
    let own =
        OwnNode::start_with(|_, _| vec![format!("consumer_timeout = {}", timeout.as_millis())]);
    // The node looks at its channels once a minute; for the short form, once a second.
    let look = short_or_full(Duration::from_secs(1), Duration::from_secs(60));
    let often =
        format!("application:set_env(rabbit, channel_tick_interval, {}).", look.as_millis());
    own.node.script("ctl", &["eval", &often]).await;
    let (short, never) = (timeout / 3, Duration::from_secs(3600));
    let time = 2 * timeout + look + Duration::from_secs(2);
    let (quorum, classic, too_long, ()) = tokio::join!(
        hold(&own, QueueType::Quorum, short, time),
        hold(&own, QueueType::Classic, short, time),
        hold(&own, QueueType::Quorum, never, time),
        review(&own, time),
    );
    assert_eq!((quorum.sessions, classic.sessions), (1, 1), "requeued in time, six times over");
    assert!(
        too_long.sessions > 1,
        "without requeuing the broker ends the stream; even then nothing is lost"
    );
    println!(
        "held {} requests for {time:?}: sessions {} and {}; without requeuing {}",
        quorum.held, quorum.sessions, classic.sessions, too_long.sessions
    );
}

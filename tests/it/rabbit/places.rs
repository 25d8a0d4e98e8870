//! The account's places, its queue and its clock, whole: a real RabbitMQ, the worker, a sandbox that runs migrations.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sluicegate::broker::settings::QueueType;
use sluicegate::core::running::COUNTED;
use sluicegate::core::{Outcome, gate};
use sluicegate::message::command::Command;
use sluicegate::sandbox::{Options as SandboxOptions, What};

use crate::support::form::number;
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, Setup, body, outcomes, properties, publish};

const SECOND: Duration = Duration::from_secs(1);

/// When a source server's request could have been chosen, when it was, and when its place was free again.
struct Story {
    priority: u16,
    published: Timestamp,
    called: Timestamp,
    ended: Timestamp,
}

/// What the sandbox has seen of each request, in the order of its calls.
fn stories(rig: &Rig, published: &HashMap<String, (u16, Timestamp)>) -> Vec<Story> {
    let log = rig.sandbox.log();
    let (mut called, mut ended) = (HashMap::new(), HashMap::new());
    for event in &log {
        match &event.what {
            What::Call(call) if call.task_id.is_some() => {
                called.insert(call.source_server_id.clone().unwrap(), call.started);
            }
            What::Task { source_server_id, to: Some(to), .. } if to == "MIGRATE_SUCCESS" => {
                ended.insert(source_server_id.clone(), event.at);
            }
            _ => {}
        }
    }
    let end = log.last().unwrap().at;
    let mut stories: Vec<Story> = published
        .iter()
        .map(|(source, (priority, published))| Story {
            priority: *priority,
            published: *published,
            called: called[source],
            ended: ended.get(source).copied().unwrap_or(end),
        })
        .collect();
    stories.sort_by_key(|story| story.called);
    stories
}

/// Calls for which an ideal scheduler would have taken another request: one that was more urgent, had been there for
/// `seen` (the way to the worker's window) and was not called until later.
fn differences(stories: &[Story], seen: SignedDuration) -> usize {
    let better = |n: usize, story: &Story| {
        stories[n + 1..].iter().any(|later| {
            later.priority > story.priority && later.published + seen < story.called
                // Calls that were chosen together can overtake each other on their way.
                && later.called.duration_since(story.called) > SignedDuration::from_millis(250)
        })
    };
    stories.iter().enumerate().filter(|(n, story)| better(*n, story)).count()
}

/// The longest time for which a place was free while a request waited, from `begin` on. The place that has been free for
/// longest is filled first.
fn longest_empty(
    stories: &[Story],
    places: usize,
    begin: Timestamp,
    seen: SignedDuration,
) -> SignedDuration {
    enum Moment {
        Freed,
        Came,
        Called,
    }
    let mut moments: Vec<(Timestamp, Moment)> = Vec::new();
    for story in stories {
        moments.push(((story.published + seen).max(begin), Moment::Came));
        moments.push((story.called, Moment::Called));
        moments.push((story.ended, Moment::Freed));
    }
    moments.sort_by_key(|(at, _)| *at);
    let mut free: VecDeque<Timestamp> = vec![begin; places].into();
    let mut waiting = 0;
    let mut longest = SignedDuration::ZERO;
    for (at, moment) in moments {
        match moment {
            Moment::Freed => free.push_back(at),
            Moment::Came => {
                waiting += 1;
                if waiting == 1 {
                    free.make_contiguous().fill(at);
                }
            }
            Moment::Called => {
                waiting -= 1;
                let since = free.pop_front().expect("more are called than there are places");
                longest = longest.max(at.duration_since(since));
            }
        }
    }
    longest
}

/// The longest time from the beginning of a count of the running migrations to the end of the next one.
fn longest_interval(rig: &Rig) -> SignedDuration {
    let (mut begun, mut longest): (Option<Timestamp>, _) = (None, SignedDuration::ZERO);
    let mut this = None;
    for event in rig.sandbox.log() {
        let What::Call(call) = &event.what else { continue };
        if call.query.contains(&format!("state={}", COUNTED[0])) {
            this = Some(call.started);
        }
        if call.query.contains(&format!("state={}", COUNTED[COUNTED.len() - 1])) {
            if let Some(before) = begun {
                longest = longest.max(event.at.duration_since(before));
            }
            begun = this;
        }
    }
    assert!(begun.is_some(), "nothing was counted");
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_places_are_never_exceeded_nor_left_empty_and_go_to_the_most_urgent() {
    let (count, places) = (number("SLUICE_PLACES", 250, 400), 100);
    // Half an hour of migration in six seconds; the sandbox itself would run more than a hundred, and shows it.
    let options = serde_json::json!({
        "time_scale": 300, "log_capacity": 1_000_000,
        "tasks": { "running": "30m", "jitter": 0.3, "max_running": 1000 },
    });
    let options = SandboxOptions::default().patched(&options).unwrap();
    let rig = Rig::with(Lane::new(&Node::shared(), QueueType::Quorum), options).await;
    let mut setup = Setup::quick(&["100/s"]);
    setup.core.max_running = places;
    let mut worker = rig.start(&setup);
    worker.active().await;
    let client = rig.lane.client().await;
    let queue = rig.lane.queues.requests();
    let mut published = HashMap::new();
    let shuffled = |n: u16| u16::try_from(u32::from(n) * 7919 % 30_011).unwrap();
    worker.order(Command::Pause).await;
    publish(&client, &queue, (0..count).map(|n| body(&format!("s{n}"), shuffled(n)))).await;
    for n in 0..count {
        published.insert(format!("s{n}"), (shuffled(n), Timestamp::now()));
    }
    let all = worker.status.wait_for(|status| status.window.ready == usize::from(count));
    tokio::time::timeout(SOON, all).await.expect("all are held").unwrap();
    let begin = Timestamp::now();
    worker.order(Command::Resume).await;
    // New urgent ones arrive throughout.
    let mut urgent = 0;
    while rig.sandbox.stats(&[]).tasks.created < u64::from(count) * 9 / 10 {
        let source = format!("urgent{urgent}");
        let priority = 40_000 + urgent % 7;
        client.publish(&queue, &body(&source, priority), properties(&source)).await;
        published.insert(source, (priority, Timestamp::now()));
        urgent += 1;
        tokio::time::sleep(SECOND / 2).await;
    }
    let results = rig.results(published.len()).await;
    assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, published.len())]));
    worker.stop().await;
    let stats = rig.sandbox.stats(&[]);
    let stories = stories(&rig, &published);
    let seen = SignedDuration::from_millis(500);
    let different = differences(&stories, seen);
    let empty = longest_empty(&stories, places, begin, seen);
    let interval = longest_interval(&rig);
    println!(
        "{} requests, {urgent} of them urgent and late: at most {} ran at once of {places}, {different} differences \
         from the ideal order, a place was empty for {empty:?} at most; the longest interval of counting was {interval:?}",
        stories.len(),
        stats.tasks.max_running
    );
    assert_eq!(different, 0);
    assert!(usize::try_from(stats.tasks.max_running).unwrap() <= places);
    // A hundred calls, and the counts beside them, take a second at this rate.
    let filled = SignedDuration::from_millis(1_500);
    assert!(empty < interval + filled, "{empty:?}, {interval:?}");
    assert!(interval < SignedDuration::from_secs(31), "{interval:?}");
    rig.nothing_left_and_nothing_twice().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_window_the_brokers_levels_come_first() {
    for kind in [QueueType::Quorum, QueueType::Classic] {
        let node = Node::shared();
        let rig = Rig::new(Lane::new(&node, kind)).await;
        let mut setup = Setup::quick(&[]);
        setup.window = 50;
        setup.core.gate = gate::GateSettings { max_in_flight: 1, ..setup.core.gate };
        let mut worker = rig.start(&setup);
        worker.active().await;
        worker.order(Command::Pause).await;
        let client = rig.lane.client().await;
        let queue = rig.lane.queues.requests();
        let levels = [1_u16, 30_000, 65_535];
        for (n, priority) in levels.into_iter().cycle().take(300).enumerate() {
            let id = format!("s{n}");
            let coarse = sluicegate::broker::coarse(priority, 10);
            client
                .publish(&queue, &body(&id, priority), properties(&id).with_priority(coarse))
                .await;
        }
        let full = worker.status.wait_for(|status| status.window.ready == 50);
        tokio::time::timeout(30 * SECOND, full).await.expect("a full window").unwrap();
        worker.order(Command::Resume).await;
        rig.results(300).await;
        worker.stop().await;
        let calls = rig.sandbox.calls();
        let order: Vec<u16> = calls.iter().filter_map(|call| call.priority).collect();
        let urgent_last = order.iter().rposition(|priority| *priority == 65_535).unwrap();
        println!(
            "{kind:?} on {}: the last of 100 most urgent was call {}",
            node.version,
            urgent_last + 1
        );
        // Those that were beyond the window come in the broker's order. Before 4.3 quorum queues have no levels, or two that
        // take turns.
        let before = |version: &str| node.version.starts_with(version);
        let leveled =
            kind == QueueType::Classic || !["3.", "4.0", "4.1", "4.2"].into_iter().any(before);
        let bound = if leveled { 100 + 50 } else { 300 };
        assert!(urgent_last < bound, "{kind:?}: {urgent_last}");
    }
}

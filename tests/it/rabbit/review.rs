//! The review of dead letters: every action on a real queue, while nothing is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions, BasicRejectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use sluicegate::broker::dead_letters::{MoveProgress, Review, ReviewAction, ReviewError};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::contract::{Rules, Violation};
use sluicegate::core::{Fault, Outcome};
use sluicegate::message::audit::{Action, By};
use sluicegate::message::headers;
use sluicegate::review::Filter;
use sluicegate::review::edit::{Edit, FieldChange};
use sluicegate::worker::source::{Event, Settled, Source};

use crate::support::rabbit::{
    Client, Lane, Node, SOON, arrived, door, ending, next, opened, request_body,
};
use crate::support::wait;

const BOTH: [QueueType; 2] = [QueueType::Quorum, QueueType::Classic];

fn review(lane: &Lane) -> Review {
    Review {
        max_bytes: 1 << 20,
        patience: Duration::from_secs(20),
        ..Review::new(&lane.settings, &lane.queues, Rules::default())
    }
}

fn by(who: &str) -> By {
    By { who: who.into(), why: Some("a test".into()) }
}

/// Lets it run to its end.
fn on(_: MoveProgress) -> bool {
    true
}

/// Publishes `count` requests and lets them die of `cause`s by turns.
async fn die(lane: &Lane, count: usize, causes: usize) -> Client {
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let client = lane.client().await;
    client.publish_requests(&lane.queues.requests(), 0, count).await;
    let mut settling = Vec::new();
    for _ in 0..count {
        let job = arrived(&mut broker).await;
        let number: usize = job.request.id.get().parse().unwrap();
        let mut end = ending(Outcome::Rejected);
        end.fault = Some(Fault {
            status: Some(400),
            error_code: Some(format!("SMS.{:04}", number % causes)),
            error_msg: format!("server {number} is not known"),
            ..Fault::default()
        });
        settling.push(tokio::spawn(broker.settle(job, end)));
    }
    for one in settling {
        assert!(matches!(one.await.unwrap().2, Settled::Done));
    }
    broker.leave(Vec::new()).await;
    client.wait_for_depth(&lane.queues.dead_letters(), u32::try_from(count).unwrap()).await;
    client
}

#[tokio::test]
async fn letters_are_listed_by_cause_and_all_of_them_are_there_afterwards() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let client = die(&lane, 120, 12).await;
        for _ in 0..25 {
            let snapshot = review(&lane).list().await.unwrap();
            assert_eq!((snapshot.letters.len(), snapshot.left), (120, 0));
            let groups = snapshot.groups(&Filter::default());
            assert_eq!(groups.len(), 12);
            assert!(groups.iter().all(|group| group.count == 10));
            assert!(groups.iter().all(|group| group.cause.message == "server # is not known"));
        }
        // Looked at more often than a delivery limit allows, and nothing is gone.
        assert_eq!(client.depth(&lane.queues.dead_letters()).await, 120);
    }
}

#[tokio::test]
async fn what_is_replayed_arrives_unchanged_as_a_new_run_with_its_past() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let client = die(&lane, 30, 3).await;
        let filter = Filter { cause: Some("SMS.0001".into()), ..Filter::default() };
        let (seen, told) = std::sync::mpsc::channel();
        let watch = move |progress: MoveProgress| seen.send(progress.moved).is_ok();
        let done =
            review(&lane).act(&filter, &ReviewAction::Replay, &by("ada"), watch).await.unwrap();
        assert_eq!(done, MoveProgress { moved: 10, of: 10, left: 0 });
        assert_eq!(told.into_iter().collect::<Vec<_>>(), (0..=10).collect::<Vec<_>>());
        client.wait_for_depth(&lane.queues.dead_letters(), 20).await;
        client.wait_for_depth(&lane.queues.requests(), 10).await;

        let mut broker = lane.start("w2");
        opened(&mut broker).await;
        for _ in 0..10 {
            let job = arrived(&mut broker).await;
            let number: usize = job.request.id.get().parse().unwrap();
            assert_eq!((number % 3, job.request.rare.replay), (1, 1));
            assert_eq!(
                sluicegate::worker::source::Delivery::body(&job.delivery).await.unwrap(),
                request_body(number)
            );
            // Dies again: the dead letter knows its past.
            assert!(matches!(broker.settle(job, ending(Outcome::Conflict)).await.2, Settled::Done));
        }
        broker.leave(Vec::new()).await;
        client.wait_for_depth(&lane.queues.dead_letters(), 30).await;
        let snapshot = review(&lane).list().await.unwrap();
        let again = Filter { cause: Some("conflict".into()), ..Filter::default() };
        let found: Vec<_> = snapshot.select(&again).collect();
        assert_eq!(found.len(), 10);
        for found in found {
            assert_eq!(found.letter.replay, 1);
            let past = found.parcel().unwrap().header(headers::PAST).unwrap();
            assert!(past.contains("rejected SMS.0001 (400): server # is not known"), "{past}");
        }
        let acts = review(&lane).acts(|act| act.action == Action::Replay).await.unwrap();
        assert_eq!(acts.len(), 10);
        assert!(acts.iter().all(|act| act.who == "ada" && act.why.as_deref() == Some("a test")));
    }
}

/// A copy that was given another priority is marked, and is taken as delivered before. With the mark, a replay that was
/// wanted twice would be acknowledged as what has ended already.
#[tokio::test]
async fn neither_a_dead_letter_nor_its_replay_keeps_the_mark_of_a_copy() {
    const MARK: &str = "x-sluice-moved";
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let client = lane.client().await;
    let mut headers = FieldTable::default();
    headers.insert(MARK.into(), AMQPValue::Boolean(true));
    let marked = BasicProperties::default().with_headers(headers);
    client.publish(&lane.queues.requests(), &request_body(1), marked.clone()).await;
    let job = arrived(&mut broker).await;
    assert!(matches!(broker.settle(job, ending(Outcome::Rejected)).await.2, Settled::Done));
    broker.leave(Vec::new()).await;
    client.wait_for_depth(&lane.queues.dead_letters(), 1).await;
    let letter = client.take(&lane.queues.dead_letters()).await.unwrap();
    assert_eq!(letter.header(MARK), None);
    // Older dead letters, and those that the broker itself has moved, may have it.
    client.publish(&lane.queues.dead_letters(), &request_body(1), marked).await;
    client.wait_for_depth(&lane.queues.dead_letters(), 1).await;
    let everything = Filter::default();
    let done =
        review(&lane).act(&everything, &ReviewAction::Replay, &by("ada"), |_| true).await.unwrap();
    assert_eq!(done.moved, 1);
    let mut again = client
        .channel
        .basic_consume(
            lane.queues.requests().as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let replayed = again.next().await.unwrap().unwrap();
    let headers = replayed.properties.headers().as_ref().unwrap().inner();
    assert!(headers.contains_key("x-sluice-replay") && !headers.contains_key(MARK), "{headers:?}");
}

#[tokio::test]
async fn a_group_is_fixed_in_one_step_after_all_of_it_was_tried() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let client = die(&lane, 10, 2).await;
    let filter = Filter { cause: Some("SMS.0000".into()), ..Filter::default() };
    let set = |text: &str| Edit::Fields(vec![FieldChange::parse(text).unwrap()]);

    let snapshot = review(&lane).list().await.unwrap();
    let bad = set("name=!");
    let previews = snapshot.preview(&filter, &bad, &Rules::default()).unwrap();
    assert_eq!(previews.len(), 5);
    assert!(previews.iter().all(|preview| preview.differences[0].pointer == "/name"));
    assert!(previews.iter().all(|preview| !preview.violations.is_empty()));
    let refused = review(&lane).act(&filter, &ReviewAction::Edit(bad), &by("ada"), on).await;
    assert!(
        matches!(&refused, Err(ReviewError::Invalid(previews)) if previews.len() == 5),
        "{refused:?}"
    );
    assert_eq!(client.depth(&lane.queues.dead_letters()).await, 10);
    assert_eq!(client.depth(&lane.queues.requests()).await, 0);

    let good = ReviewAction::Edit(set("name=fixed"));
    let done = review(&lane).act(&filter, &good, &by("ada"), on).await.unwrap();
    assert_eq!(done.moved, 5);
    client.wait_for_depth(&lane.queues.dead_letters(), 5).await;
    let mut broker = lane.start("w2");
    opened(&mut broker).await;
    for _ in 0..5 {
        let job = arrived(&mut broker).await;
        assert_eq!((&*job.request.name.get(), job.request.rare.replay), ("fixed", 1));
        let number: usize = job.request.id.get().parse().unwrap();
        let body = sluicegate::worker::source::Delivery::body(&job.delivery).await.unwrap();
        let expected = String::from_utf8(request_body(number).to_vec()).unwrap();
        let expected = expected.replace(&format!("\"task-{number}\""), "\"fixed\"");
        assert_eq!(body, expected.as_bytes(), "only the name's bytes changed");
        broker.acknowledge(job).await;
    }
    broker.leave(Vec::new()).await;
}

#[tokio::test]
async fn a_discard_and_an_edit_can_be_undone_once() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let client = die(&lane, 6, 6).await;
        let before = review(&lane).list().await.unwrap();
        let one = |cause: &str| Filter { cause: Some(cause.into()), ..Filter::default() };
        let discarded = before.select(&one("SMS.0003")).next().unwrap().clone();
        review(&lane).act(&one("SMS.0003"), &ReviewAction::Discard, &by("ada"), on).await.unwrap();
        let edit = ReviewAction::Edit(Edit::Fields(vec![FieldChange::parse("name=x").unwrap()]));
        review(&lane).act(&one("SMS.0004"), &edit, &by("ada"), on).await.unwrap();
        client.wait_for_depth(&lane.queues.dead_letters(), 4).await;

        let id = discarded.letter.id.to_string();
        let undone = review(&lane).restore(std::slice::from_ref(&id), &by("grace")).await.unwrap();
        assert_eq!(undone.len(), 1);
        client.wait_for_depth(&lane.queues.dead_letters(), 5).await;
        let after = review(&lane).list().await.unwrap();
        let back = after.select(&one("SMS.0003")).next().unwrap().clone();
        assert_eq!(back.parcel().unwrap(), discarded.parcel().unwrap(), "it is back as it was");
        let twice = review(&lane).restore(&[id], &by("grace")).await;
        assert!(matches!(twice, Err(ReviewError::Nothing(_))), "{twice:?}");

        let acts = review(&lane).acts(|act| act.action == Action::Edit).await.unwrap();
        let (act, name) = (&acts[0], |body: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(body).unwrap()["name"].clone()
        });
        assert_eq!(name(&act.before.as_ref().unwrap().body), "task-4");
        assert_eq!(name(&act.after.as_ref().unwrap().body), "x");
        review(&lane).restore(&[act.id.to_string()], &by("grace")).await.unwrap();
        client.wait_for_depth(&lane.queues.dead_letters(), 6).await;
    }
}

#[tokio::test]
async fn repeats_of_one_run_are_one_letter_and_move_together() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let client = die(&lane, 3, 1).await;
    let letter = client.take(&lane.queues.dead_letters()).await.unwrap();
    for _ in 0..3 {
        let properties = letter.properties.clone();
        client.publish(&lane.queues.dead_letters(), &letter.body, properties).await;
    }
    let snapshot = review(&lane).list().await.unwrap();
    let mut copies: Vec<u32> = snapshot.letters.iter().map(|found| found.letter.copies).collect();
    copies.sort_unstable();
    assert_eq!(copies, [1, 1, 3]);
    let ids = Filter::ids([letter.id().to_owned()]);
    let done = review(&lane).act(&ids, &ReviewAction::Replay, &by("ada"), on).await.unwrap();
    assert_eq!(done, MoveProgress { moved: 1, of: 1, left: 0 });
    client.wait_for_depth(&lane.queues.dead_letters(), 2).await;
    client.wait_for_depth(&lane.queues.requests(), 1).await;
}

#[tokio::test]
async fn what_the_broker_dead_lettered_is_shown_with_its_reason() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        let client = lane.client().await;
        // The second one keeps the consumer busy, or the broker could deliver it the third before that expires.
        client.publish_requests(&lane.queues.requests(), 4, 2).await;
        let mut headers = FieldTable::default();
        headers.insert("x-sluice-batch".into(), AMQPValue::LongString("wave".into()));
        let expiring = BasicProperties::default()
            .with_message_id("6".into())
            .with_headers(headers)
            .with_expiration("1".into());
        client.publish(&lane.queues.requests(), &request_body(6), expiring).await;
        // A careless consumer rejects the first and holds the second; the third then stands at the head and expires.
        let channel = client.connection.create_channel().await.unwrap();
        channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        let queue = lane.queues.requests();
        let mut careless = channel
            .basic_consume(
                queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let first = careless.next().await.unwrap().unwrap();
        first.acker.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        let second = careless.next().await.unwrap().unwrap();
        client.wait_for_depth(&lane.queues.dead_letters(), 2).await;
        second.acker.ack(BasicAckOptions::default()).await.unwrap();
        let snapshot = review(&lane).list().await.unwrap();
        let told: BTreeSet<(String, String, Option<String>)> = snapshot
            .letters
            .iter()
            .map(|found| {
                let letter = &found.letter;
                (letter.request_id.clone(), letter.cause.message.clone(), letter.batch.clone())
            })
            .collect();
        let expected = [
            ("4".to_owned(), format!("rejected in {queue}"), None),
            ("6".to_owned(), format!("expired in {queue}"), Some("wave".to_owned())),
        ];
        assert_eq!(told, BTreeSet::from(expected));
        drop(careless);
        let done = review(&lane)
            .act(&Filter::default(), &ReviewAction::Replay, &by("ada"), on)
            .await
            .unwrap();
        assert_eq!(done.moved, 2);
        client.wait_for_depth(&lane.queues.requests(), 2).await;
    }
}

#[tokio::test]
async fn what_the_broker_took_away_by_length_or_delivery_limit_is_shown_with_its_reason() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let client = lane.client().await;
    let declare = async |queue: &str, limit: &'static str| {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert(limit.into(), AMQPValue::LongInt(1));
        let exchange = lane.queues.dlx();
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(exchange.into()));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        client.channel.queue_declare(queue.into(), options, arguments).await.unwrap();
    };
    let (short, limited) =
        (format!("{}.short", lane.queues.prefix), format!("{}.limited", lane.queues.prefix));
    declare(&short, "x-max-length").await;
    declare(&limited, "x-delivery-limit").await;
    for number in 1..=2 {
        let named = BasicProperties::default().with_message_id(number.to_string().into());
        client.publish(&short, &request_body(number), named).await;
    }
    let named = BasicProperties::default().with_message_id("3".into());
    client.publish(&limited, &request_body(3), named).await;
    for _ in 0..2 {
        let get = client.channel.basic_get(limited.as_str().into(), BasicGetOptions::default());
        let got = get.await.unwrap().unwrap();
        got.delivery.acker.reject(BasicRejectOptions { requeue: true }).await.unwrap();
    }
    client.wait_for_depth(&lane.queues.dead_letters(), 2).await;
    let snapshot = review(&lane).list().await.unwrap();
    let told: BTreeSet<_> = snapshot
        .letters
        .iter()
        .map(|found| (found.letter.request_id.as_str(), found.letter.reason.as_str()))
        .collect();
    let full = format!("{short} was full (x-max-length)");
    let often = format!(
        "the broker dead-lettered it from {limited} because it was returned too often (x-delivery-limit), tried or not"
    );
    assert_eq!(told, BTreeSet::from([("1", &*full), ("3", &*often)]));
}

#[tokio::test]
async fn a_second_reviewer_waits_and_is_told_why_and_sees_the_whole_queue() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        die(&lane, 40, 4).await;
        let mut reviewing = Vec::new();
        for _ in 0..6 {
            let review = review(&lane);
            reviewing.push(tokio::spawn(async move { review.list().await.unwrap().letters.len() }));
        }
        for one in reviewing {
            assert_eq!(one.await.unwrap(), 40);
        }
        // Somebody's own consumer on the queue.
        let client = lane.client().await;
        let queue = lane.queues.dead_letters();
        let _other = client
            .channel
            .basic_consume(
                queue.as_str().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        let mut impatient = review(&lane);
        impatient.patience = Duration::from_millis(500);
        let told = impatient.list().await.unwrap_err().to_string();
        assert!(told.contains("another consumer reads"), "{told}");
    }
}

#[tokio::test]
async fn new_letters_that_arrive_during_a_review_are_not_lost() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let client = die(&lane, 50, 5).await;
    let letter = client.take(&lane.queues.dead_letters()).await.unwrap();
    let arriving = {
        let (lane, letter) = (lane.clone(), letter.clone());
        tokio::spawn(async move {
            let client = lane.client().await;
            for number in 0..100 {
                let properties = letter
                    .properties
                    .clone()
                    .with_message_id(uuid::Uuid::new_v4().to_string().into());
                client
                    .publish(&lane.queues.dead_letters(), &request_body(number), properties)
                    .await;
            }
        })
    };
    let mut moved = 0;
    let code = Filter { cause: Some("SMS.0002".into()), ..Filter::default() };
    for _ in 0..4 {
        moved +=
            review(&lane).act(&code, &ReviewAction::Discard, &by("ada"), on).await.unwrap().moved;
    }
    arriving.await.unwrap();
    moved += review(&lane).act(&code, &ReviewAction::Discard, &by("ada"), on).await.unwrap().moved;
    let left = 149 - u32::try_from(moved).unwrap();
    client.wait_for_depth(&lane.queues.dead_letters(), left).await;
}

#[tokio::test]
async fn an_order_can_be_stopped_and_says_what_has_moved() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let client = die(&lane, 300, 1).await;
        let stop_at_ten = |progress: MoveProgress| progress.moved < 10;
        let done = review(&lane)
            .act(&Filter::default(), &ReviewAction::Replay, &by("ada"), stop_at_ten)
            .await
            .unwrap();
        assert!(done.moved >= 10 && done.moved < 150 && done.of == 300, "{done:?}");
        let moved = u32::try_from(done.moved).unwrap();
        client.wait_for_depth(&lane.queues.dead_letters(), 300 - moved).await;
        client.wait_for_depth(&lane.queues.requests(), moved).await;
        assert_eq!(review(&lane).acts(|_| true).await.unwrap().len(), done.moved);
    }
}

#[tokio::test]
async fn exported_letters_can_be_imported_again() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let client = die(&lane, 5, 5).await;
    let hostile = b"\xff<script>\x00".to_vec();
    client.publish(&lane.queues.dead_letters(), &hostile, BasicProperties::default()).await;
    let snapshot = review(&lane).list().await.unwrap();
    let parcels: Vec<_> = snapshot.letters.iter().map(|found| found.parcel().unwrap()).collect();
    let lines: Vec<String> =
        parcels.iter().map(|parcel| serde_json::to_string(parcel).unwrap()).collect();
    review(&lane).act(&Filter::default(), &ReviewAction::Discard, &by("ada"), on).await.unwrap();
    client.wait_for_depth(&lane.queues.dead_letters(), 0).await;
    let read: Vec<_> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, parcels);
    assert_eq!(review(&lane).import(read, 6, &by("ada"), on).await.unwrap().moved, 6);
    let again = review(&lane).list().await.unwrap();
    let again: Vec<_> = again.letters.iter().map(|found| found.parcel().unwrap()).collect();
    assert_eq!(again, parcels);
}

#[tokio::test]
async fn notes_stand_in_the_audit() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let letter = uuid::Uuid::new_v4();
    let note = review(&lane).note(letter, &by("ada")).await.unwrap();
    assert_eq!(review(&lane).acts(|act| act.letter == Some(letter)).await.unwrap(), [note]);
}

#[tokio::test]
async fn violations_make_the_cause_of_invalid_letters() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    let client = lane.client().await;
    client.publish(&lane.queues.requests(), b"not json", BasicProperties::default()).await;
    let Event::Invalid(job, violations) = next(&mut broker).await else {
        panic!("expected an invalid request")
    };
    let mut end = ending(Outcome::Invalid);
    end.violations = violations;
    end.violations.push(Violation {
        pointer: "/disks/3/name".into(),
        found: "?".into(),
        allowed: "!".into(),
    });
    broker.settle(job, end).await;
    broker.leave(Vec::new()).await;
    let snapshot = review(&lane).list().await.unwrap();
    assert!(snapshot.letters[0].letter.cause.message.contains("/disks/*/name"));
    assert_eq!(snapshot.letters[0].body().unwrap(), b"not json".as_slice());
}

// Publishing and reading so many takes a thread of its own for the heartbeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_letters_are_listed_by_cause_with_few_of_their_bodies_in_memory() {
    // On a busy machine a heartbeat may be late; that is other tests' business.
    let lane = Lane::at(&format!("{}?heartbeat=60", Node::shared().url), QueueType::Quorum);
    let client = die(&lane, 12, 12).await;
    let mut letters = Vec::new();
    for _ in 0..12 {
        letters.push(client.take(&lane.queues.dead_letters()).await.unwrap());
    }
    let options = lapin::options::BasicPublishOptions { mandatory: true, ..Default::default() };
    let mut confirms = Vec::new();
    for number in 0..20_000 {
        let letter = &letters[number % 12];
        let properties =
            letter.properties.clone().with_message_id(uuid::Uuid::new_v4().to_string().into());
        let (exchange, key) = door(&lane.queues.dead_letters());
        let publish =
            client.channel.basic_publish(exchange, key, options, &letter.body, properties);
        confirms.push(publish.await.unwrap());
    }
    for confirm in confirms {
        confirm.await.unwrap();
    }
    let began = Instant::now();
    let snapshot = review(&lane).list().await.unwrap();
    let groups = snapshot.groups(&Filter::default());
    let took = began.elapsed();
    println!("20,000 dead letters listed in {took:?}");
    assert_eq!((snapshot.letters.len(), groups.len()), (20_000, 12));
    // An optimised build takes a tenth of it; this only catches what grows with the square of the letters.
    assert!(took < Duration::from_secs(60), "{took:?}");
    client.wait_for_depth(&lane.queues.dead_letters(), 20_000).await;
    drop(snapshot);
    let peak = peak_of_a_list(&lane).await;
    println!("the command's memory at its peak: {} MB", peak >> 20);
    assert!(peak < 200 << 20, "{peak} bytes");
}

/// The most bytes that `sluice dead-letters list` has in memory.
async fn peak_of_a_list(lane: &Lane) -> u64 {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env_clear().env("SLUICE_BROKER__URL", &lane.url);
    command.env("SLUICE_QUEUES__PREFIX", &lane.queues.prefix).args(["dead-letters", "list"]);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    let ended = wait::until(2 * SOON, async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let highest = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kilobytes) = highest.and_then(|text| text.split_whitespace().next()) {
            peak = peak.max(kilobytes.parse::<u64>().unwrap() << 10);
        }
        child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert!(ended.success() && peak > 0, "{ended}");
    peak
}

#[tokio::test]
async fn an_order_that_dies_at_any_point_loses_no_letter_and_moves_none_past_the_audit() {
    for kind in BOTH {
        let lane = Lane::new(&Node::shared(), kind);
        let client = die(&lane, 200, 4).await;
        // Its runtime is taken away in the middle, as by a kill: its sockets close, and nobody tidies up.
        for millis in [20, 60, 100, 140, 180, 220, 260, 300] {
            let review = review(&lane);
            let killed = std::thread::spawn(move || {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.spawn(async move {
                    review.act(&Filter::default(), &ReviewAction::Replay, &by("ada"), on).await
                });
                std::thread::sleep(Duration::from_millis(millis));
                runtime.shutdown_background();
            });
            tokio::task::spawn_blocking(|| killed.join().unwrap()).await.unwrap();
        }
        review(&lane).act(&Filter::default(), &ReviewAction::Replay, &by("ada"), on).await.unwrap();
        client.wait_for_depth(&lane.queues.dead_letters(), 0).await;
        let replayed = client.depth(&lane.queues.requests()).await;
        let mut broker = lane.start("w2");
        opened(&mut broker).await;
        let mut ids = BTreeSet::new();
        for _ in 0..replayed {
            ids.insert(arrived(&mut broker).await.request.id.to_string());
        }
        assert_eq!(ids.len(), 200, "each at least once");
        let acts = review(&lane).acts(|act| act.action == Action::Replay).await.unwrap();
        let letters: BTreeSet<_> = acts.iter().map(|act| act.letter).collect();
        assert_eq!(letters.len(), 200);
    }
}

//! Nothing of a dead letter is lost silently: bodies under one name, long headers, a queue with a delivery limit, a
//! connection that is cut in the middle.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use sluicegate::broker::dead_letters::{MoveProgress, Review, ReviewAction, ReviewError};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::contract::Rules;
use sluicegate::core::Outcome;
use sluicegate::message::audit::{Action, AuditEntry, By};
use sluicegate::message::result::dead_letter_headers;
use sluicegate::review::Filter;
use sluicegate::worker::source::{Settled, Source as _};

use super::failover::address_of;
use crate::support::proxy::{How, Proxy};
use crate::support::rabbit::{Client, Lane, Node, SOON, arrived, ending, opened, request_body};

fn review(lane: &Lane) -> Review {
    Review {
        patience: Duration::from_secs(20),
        ..Review::new(&lane.settings, &lane.queues, Rules::default())
    }
}

fn by() -> By {
    By { who: "ada".into(), why: None }
}

async fn lane() -> (Lane, Client) {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let client = lane.client().await;
    (lane, client)
}

fn with_headers(headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, text) in headers {
        table.insert((*name).into(), AMQPValue::LongString((*text).into()));
    }
    BasicProperties::default().with_headers(table)
}

/// As the worker would write it, but under a name of the test's.
fn letter(id: uuid::Uuid) -> BasicProperties {
    let headers = dead_letter_headers(&ending(Outcome::Rejected));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    with_headers(&headers).with_message_id(id.to_string().into())
}

/// What waits to be sent, as any client gets it.
async fn requests(client: &Client, lane: &Lane, count: usize) -> Vec<Delivery> {
    let channel = client.connection.create_channel().await.unwrap();
    let (queue, options) = (lane.queues.requests(), BasicConsumeOptions::default());
    let consume =
        channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
    let consumer = consume.await.unwrap();
    let some = consumer.take(count).map(Result::unwrap).collect();
    tokio::time::timeout(SOON, some).await.unwrap()
}

/// Somebody takes a dead letter out by another tool, fixes it, and puts it back beside the original.
#[tokio::test]
async fn two_bodies_under_one_message_id_are_two_letters_and_both_move() {
    let (lane, client) = lane().await;
    let queue = lane.queues.dead_letters();
    let id = uuid::Uuid::new_v4();
    for body in [1, 2, 2] {
        client.publish(&queue, &request_body(body), letter(id)).await;
    }
    let listed = review(&lane).list().await.unwrap();
    let copies: Vec<u32> = listed.letters.iter().map(|found| found.letter.copies).collect();
    assert_eq!(
        copies,
        [1, 2],
        "the same body twice is a repeat, another body is another dead letter"
    );
    let first = Filter::ids([listed.letters[0].letter.id.to_string()]);
    let act = |filter: Filter, order| {
        let review = review(&lane);
        async move { review.act(&filter, &order, &by(), |_: MoveProgress| true).await.unwrap().moved }
    };
    assert_eq!(act(first, ReviewAction::Discard).await, 1);
    client.wait_for_depth(&queue, 2).await;
    let left = review(&lane).list().await.unwrap();
    assert_eq!(left.letters[0].body().unwrap(), request_body(2));
    assert_eq!(left.letters[0].letter.id, listed.letters[1].letter.id, "its name is its own");
    let acts = review(&lane).acts(|act| act.action == Action::Discard).await.unwrap();
    review(&lane).restore(&[acts[0].id.to_string()], &by()).await.unwrap();
    assert_eq!(act(Filter::default(), ReviewAction::Replay).await, 2);
    client.wait_for_depth(&queue, 0).await;
    let sent = requests(&client, &lane, 2).await;
    let bodies: BTreeSet<_> = sent.into_iter().map(|sent| sent.data).collect();
    assert_eq!(bodies, BTreeSet::from([1, 2].map(|n| request_body(n).to_vec())));
}

#[tokio::test]
async fn long_headers_arrive_whole_or_are_named() {
    let (lane, client) = lane().await;
    let (long, longest) = ("x".repeat(100_000), "y".repeat(130_500));
    let mut broker = lane.start("w1");
    opened(&mut broker).await;
    for (id, text) in [("long", &long), ("longest", &longest)] {
        let request = with_headers(&[("planner", text), ("x-sluice-batch", "b")]);
        let request = request.with_message_id(id.into());
        client.publish(&lane.queues.requests(), &request_body(1), request).await;
        let job = arrived(&mut broker).await;
        assert!(matches!(broker.settle(job, ending(Outcome::Rejected)).await.2, Settled::Done));
    }
    broker.leave(Vec::new()).await;
    client.wait_for_depth(&lane.queues.dead_letters(), 2).await;
    let listed = review(&lane).list().await.unwrap();
    let header = |n: usize| listed.letters[n].parcel().unwrap().header("planner");
    assert_eq!((header(0), header(1)), (Some(long.clone()), None));
    let said = &listed.letters[1].letter.reason;
    assert!(said.ends_with("(headers left out, for the broker's frames hold no more: planner)"));
    assert_eq!(listed.letters[1].letter.batch.as_deref(), Some("b"));
    let all = Filter::default();
    review(&lane).act(&all, &ReviewAction::Replay, &by(), |_| true).await.unwrap();
    let sent = requests(&client, &lane, 2).await.remove(0);
    let headers = sent.properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers.get("planner"), Some(&AMQPValue::LongString(long.into())));
    // A dead letter that has no room for its past is refused, and nothing of the order moves.
    client
        .publish(&lane.queues.dead_letters(), &request_body(2), letter(uuid::Uuid::new_v4()))
        .await;
    let full = with_headers(&[("planner", &"z".repeat(130_990))]);
    client.publish(&lane.queues.dead_letters(), &request_body(3), full).await;
    let refused = review(&lane).act(&all, &ReviewAction::Replay, &by(), |_| true).await;
    let Err(ReviewError::Nothing(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("headers take 13") && why.contains("Nothing was moved"), "{why}");
    client.wait_for_depth(&lane.queues.dead_letters(), 2).await;
    let one = Filter { text: Some("task-3".into()), ..Filter::default() };
    review(&lane).act(&one, &ReviewAction::Discard, &by(), |_| true).await.unwrap();
    let acts = review(&lane).acts(|act| act.action == Action::Discard).await.unwrap();
    review(&lane).restore(&[acts[0].id.to_string()], &by()).await.unwrap();
    let back = review(&lane).list().await.unwrap();
    let back = back.select(&one).next().unwrap().parcel().unwrap();
    assert_eq!(back.header("planner").unwrap().len(), 130_990);
}

/// JSON has no word for what is not a number, and is read only so deep.
#[tokio::test]
async fn what_json_cannot_hold_comes_back_from_the_audit_and_what_is_no_act_is_shown_there() {
    let (lane, client) = lane().await;
    let queue = lane.queues.dead_letters();
    // What is not a number the broker does not take.
    let deep = (0..28).fold(AMQPValue::Double(0.5), |inner, level| {
        if level % 2 == 0 {
            return AMQPValue::FieldArray(vec![inner].into());
        }
        let mut table = FieldTable::default();
        table.insert("in".into(), inner);
        AMQPValue::FieldTable(table)
    });
    let properties = letter(uuid::Uuid::new_v4());
    let mut headers = properties.headers().clone().unwrap();
    headers.insert("deep".into(), deep.clone());
    headers.insert("bytes".into(), AMQPValue::LongString(b"\xff\xfe".as_slice().into()));
    client.publish(&queue, &request_body(1), properties.with_headers(headers)).await;
    client.wait_for_depth(&queue, 1).await;
    let all = Filter::default();
    review(&lane).act(&all, &ReviewAction::Discard, &by(), |_: MoveProgress| true).await.unwrap();
    client.wait_for_depth(&queue, 0).await;
    // By whoever may write there: it is shown, with its place and its size, and hides nothing behind it.
    client.publish(&lane.queues.audit(), b"no act\x1b[2J", BasicProperties::default()).await;
    let acts = review(&lane).acts(|_| true).await.unwrap();
    assert_eq!((acts.len(), acts[0].of), (1, Some(1)));
    let mut unreadable = Vec::new();
    let take = |entry| match entry {
        AuditEntry::Act(_) => {}
        AuditEntry::Unreadable(entry) => unreadable.push(entry),
    };
    review(&lane).audit(take).await.unwrap();
    assert_eq!((unreadable.len(), unreadable[0].offset, unreadable[0].bytes), (1, 1, 10));
    review(&lane).restore(&[acts[0].id.to_string()], &by()).await.unwrap();
    client.wait_for_depth(&queue, 1).await;
    let got = client.channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
    let got = got.await.unwrap().unwrap();
    let back = got.properties.headers().as_ref().unwrap().inner();
    assert_eq!(back.get("deep"), Some(&deep));
    assert_eq!(back.get("bytes"), Some(&AMQPValue::LongString(b"\xff\xfe".as_slice().into())));
    assert_eq!(got.data, request_body(1));
}

/// As 3.x has left it behind, on a broker that was upgraded since. (3.x has no limit of its own.)
#[tokio::test]
async fn reviews_do_not_use_up_the_delivery_limit_of_a_queue_that_was_declared_without_one() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let (client, queue) = (lane.client().await, lane.queues.dead_letters());
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    client.channel.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    let _refused = topology::apply(&lane.settings, &lane.queues).await;
    for body in [1, 1, 2] {
        client.publish(&queue, &request_body(body), letter(uuid::Uuid::nil())).await;
    }
    // Reviewers that are killed, and others that come to their end.
    for round in 0..24 {
        if round % 8 == 0 {
            for _ in 0..7 {
                let channel = client.connection.create_channel().await.unwrap();
                let mut held = 0;
                let options = BasicGetOptions::default();
                while channel.basic_get(queue.as_str().into(), options).await.unwrap().is_some() {
                    held += 1;
                }
                channel.close(200, "killed".into()).await.unwrap();
                client.wait_for_depth(&queue, held).await;
            }
        }
        let seen = review(&lane).list().await.unwrap();
        let mut bodies: Vec<_> = seen.letters.iter().map(|one| one.body().unwrap()).collect();
        bodies.sort();
        assert_eq!(bodies, [request_body(1), request_body(2)], "round {round}");
    }
    let moved =
        review(&lane).act(&Filter::default(), &ReviewAction::Discard, &by(), |_| true).await;
    assert_eq!(moved.unwrap().moved, 2);
    client.wait_for_depth(&queue, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_whose_connection_is_cut_says_what_is_known_and_what_is_not() {
    let (lane, client) = lane().await;
    for _ in 0..300 {
        let id = uuid::Uuid::new_v4();
        client.publish(&lane.queues.dead_letters(), &request_body(1), letter(id)).await;
    }
    let proxy = Arc::new(Proxy::start(address_of(&lane.url)).await);
    let through = lane
        .through(&lane.url.replace(&address_of(&lane.url).to_string(), &proxy.address.to_string()));
    let cutting = Arc::clone(&proxy);
    let cut = move |progress: MoveProgress| {
        if progress.moved == 100 {
            cutting.cut(How::Reset);
        }
        true
    };
    let lost = review(&through).act(&Filter::default(), &ReviewAction::Replay, &by(), cut).await;
    let Err(error @ ReviewError::Lost { progress, .. }) = &lost else { panic!("{lost:?}") };
    let told = error.to_string();
    assert!(
        told.contains(&format!("{} of 300 dead letters have moved for certain", progress.moved))
    );
    assert!(told.contains("64 more may have") && told.contains("Nothing is lost"), "{told}");
    assert!((100..236).contains(&progress.moved), "{told}");
    // What was said to have moved has moved, and nothing is gone.
    let there = client.depth(&lane.queues.requests()).await as usize;
    assert!((progress.moved..=progress.moved + 64).contains(&there), "{there}: {told}");
    let all = Filter::default();
    let rest = review(&lane).act(&all, &ReviewAction::Replay, &by(), |_| true).await.unwrap();
    let acts = review(&lane).acts(|act| act.action == Action::Replay).await.unwrap();
    let letters: BTreeSet<_> = acts.iter().map(|act| act.letter).collect();
    assert_eq!(letters.len(), 300, "every dead letter moved at least once; {rest:?}");
}

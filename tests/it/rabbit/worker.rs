//! The way of one request, whole: a real RabbitMQ, the worker, a sandbox that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use sluicegate::broker::settings::QueueType;
use sluicegate::core::{Outcome, Settings, gate};
use sluicegate::message::command::Command;
use sluicegate::message::result::{CloudEvent, ResultData};
use sluicegate::sandbox::Options as SandboxOptions;

use crate::support::form::{number, short_or_full};
use crate::support::rabbit::{Lane, Node, OwnNode};
use crate::support::rig::{Rig, Setup, body, dead_letters, outcomes, properties, publish};
use crate::support::wait::until_so;

const BOTH: [QueueType; 2] = [QueueType::Quorum, QueueType::Classic];
const SECOND: Duration = Duration::from_secs(1);

fn lane(kind: QueueType) -> Lane {
    Lane::new(&Node::shared(), kind)
}

/// The same numbers in another order, always the same one.
fn shuffled(count: u16) -> Vec<u16> {
    let mut numbers: Vec<u16> = (0..count).collect();
    // Multiplication by a number without a common divisor is a permutation.
    numbers.sort_by_key(|number| u64::from(*number) * 2_654_435_761 % 65_537);
    numbers
}

/// Declares what the lane needs by starting a worker and stopping it again, so that requests can wait in the queue.
async fn declare(rig: &Rig) {
    let mut worker = rig.start(&Setup::quick(&[]));
    worker.active().await;
    worker.stop().await;
}

fn sandbox(options: &serde_json::Value) -> SandboxOptions {
    SandboxOptions::default().patched(options).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shuffled_requests_are_created_once_each_in_order_and_at_the_rate() {
    for kind in BOTH {
        let rig = Rig::new(lane(kind)).await;
        declare(&rig).await;
        // `SLUICE_REQUESTS=10000` for the long run.
        let count: u16 = number("SLUICE_REQUESTS", 1000, 2000);
        let urgency = |n: u16| u16::try_from(u32::from(n) * 65_535 / u32::from(count)).unwrap();
        let bodies = shuffled(count).into_iter().map(|n| body(&format!("s{n}"), urgency(n)));
        publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
        let stalls = Stalls::watch();
        let worker = rig.start(&Setup::quick(&["200/s"]));
        let results = rig.all_results(count.into()).await;
        let stalled = stalls.end().await;
        worker.stop().await;
        assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, count.into())]));
        assert_eq!(results.len(), usize::from(count), "one result each");
        let stats = rig.sandbox.stats(&[SECOND]);
        assert_eq!(stats.tasks.created, u64::from(count));
        assert_eq!(
            inversions(&results),
            0,
            "none was started after the answer to a less urgent one"
        );
        let window = &stats.windows[0];
        assert!(window.max_calls <= 200, "{window:?}");
        // What was called over what could have been between the first and the last call, in the time that the machine
        // gave to this process.
        let used = |time: Duration| f64::from(count - 1) / (200.0 * time.as_secs_f64());
        let span = span(&rig);
        println!(
            "{kind:?}: {:.4} of 200/s used ({:.4} less {stalled:?} in which nothing ran), at most {} in a second, {} \
             inversions of calls that the API saw one after the other",
            used(span),
            used(span.saturating_sub(stalled)),
            window.max_calls,
            stats.order.inversions,
        );
        assert!(used(span.saturating_sub(stalled)) >= 0.98);
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_the_api_sees_no_inversion_at_all() {
    for kind in BOTH {
        let rig = Rig::new(lane(kind)).await;
        declare(&rig).await;
        let count = 1000;
        let bodies = shuffled(count).into_iter().map(|n| body(&format!("s{n}"), n * 65));
        publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
        let mut setup = Setup::quick(&[]);
        setup.core.gate.max_in_flight = 1;
        let worker = rig.start(&setup);
        rig.results(count.into()).await;
        worker.stop().await;
        let stats = rig.sandbox.stats(&[]);
        assert_eq!((stats.tasks.created, stats.order.inversions), (u64::from(count), 0));
        assert_eq!(stats.max_creates_in_flight, 1);
    }
}

/// Pairs of requests of which the more urgent was started after the other had been answered, by the worker's clock.
/// (Calls that are under way together may overtake one another on the way.)
fn inversions(results: &[CloudEvent<ResultData>]) -> usize {
    let mut started: Vec<_> = results.iter().map(|result| &result.data).collect();
    started.sort_by_key(|data| data.first_attempt_at);
    let mut inversions = 0;
    for (n, first) in started.iter().enumerate() {
        let after = |data: &&&ResultData| data.first_attempt_at > Some(first.settled_at);
        inversions +=
            started[n..].iter().filter(after).filter(|data| data.priority > first.priority).count();
    }
    inversions
}

/// The time in which the machine ran something else: how late a short sleep ends, over and over.
struct Stalls(tokio::task::JoinHandle<Duration>, tokio::sync::oneshot::Sender<()>);

impl Stalls {
    fn watch() -> Self {
        const NAP: Duration = Duration::from_millis(2);
        // What the limiter allows a timer to be late without losing a call.
        const LATE: Duration = Duration::from_millis(4);
        let (end, mut ended) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut stalled = Duration::ZERO;
            while ended.try_recv().is_err() {
                let before = Instant::now();
                tokio::time::sleep(NAP).await;
                stalled += before.elapsed().saturating_sub(NAP + LATE);
            }
            stalled
        });
        Self(task, end)
    }

    async fn end(self) -> Duration {
        let _ = self.1.send(());
        self.0.await.unwrap()
    }
}

/// From the first call to the last one.
fn span(rig: &Rig) -> Duration {
    let calls = rig.sandbox.calls();
    let first = calls.iter().map(|call| call.started).min().expect("a call");
    let last = calls.iter().map(|call| call.started).max().expect("a call");
    Duration::try_from(last.duration_since(first)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_most_urgent_request_overtakes_five_thousand_that_wait() {
    for kind in BOTH {
        let rig = Rig::new(lane(kind)).await;
        declare(&rig).await;
        let client = rig.lane.client().await;
        let queue = rig.lane.queues.requests();
        publish(&client, &queue, (0..5000).map(|n| body(&format!("s{n}"), 1))).await;
        let mut worker = rig.start(&Setup::quick(&["1/s"]));
        worker.active().await;
        rig.created(1).await;
        // A call has just gone: there is a second until the next.
        let before = rig.sandbox.calls().len();
        client.publish(&queue, &body("urgent", 65_535), properties("urgent")).await;
        until_so("called again", || rig.sandbox.calls().len() > before).await;
        let next = &rig.sandbox.calls()[before];
        assert_eq!(next.source_server_id.as_deref(), Some("urgent"), "{kind:?}");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_limits_hold_at_once_and_an_enforcing_server_never_says_429() {
    // The longer one runs out first, and then there is nothing for the rest of its time.
    let (longer, window, count) =
        short_or_full(("60/10s", 10 * SECOND, 70), ("300/min", 60 * SECOND, 320));
    let limits = serde_json::json!({ "quota": { "limits": ["20/s", longer] } });
    let rig = Rig::with(lane(QueueType::Quorum), sandbox(&limits)).await;
    declare(&rig).await;
    let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    let worker = rig.start(&Setup::quick(&["20/s", longer]));
    let results = rig.results(count).await;
    worker.stop().await;
    assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, count)]));
    let stats = rig.sandbox.stats(&[SECOND, window]);
    let most = longer.split_once('/').unwrap().0.parse::<usize>().unwrap();
    assert_eq!(stats.answers.get("429"), None, "{stats:?}");
    assert!(
        stats.max_in(SECOND).unwrap() <= 20 && stats.max_in(window).unwrap() <= most as u64,
        "{:?}",
        stats.windows
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_cannot_be_read_are_dead_lettered_with_the_reason_and_the_worker_goes_on() {
    for kind in BOTH {
        let rig = Rig::new(lane(kind)).await;
        let mut worker = rig.start(&Setup::quick(&[]));
        worker.active().await;
        let client = rig.lane.client().await;
        let queue = rig.lane.queues.requests();
        let good = String::from_utf8(body("good", 1).to_vec()).unwrap();
        let hostile: [(&str, Vec<u8>); 7] = [
            ("broken", good.as_bytes()[..good.len() / 2].to_vec()),
            (
                "utf-8",
                good.replace("migrate-good", "migrate-\u{1}").replace('\u{1}', "?").into_bytes(),
            ),
            ("empty", Vec::new()),
            ("large", format!("{}{}", good, " ".repeat(10 << 20)).into_bytes()),
            ("deep", "[".repeat(100_000).into_bytes()),
            ("duplicate", good.replacen('{', "{\"name\": \"twice\",", 1).into_bytes()),
            ("wrong", good.replace("\"MIGRATE_FILE\"", "\"MIGRATE_ALL\"").into_bytes()),
        ];
        let mut hostile = hostile.to_vec();
        hostile[1].1 = [&b"{\"name\": \"\xff\xfe\"}"[..]].concat();
        for (id, bytes) in &hostile {
            client.publish(&queue, bytes, properties(id)).await;
        }
        client.publish(&queue, good.as_bytes(), properties("good")).await;
        let results = rig.results(hostile.len() + 1).await;
        let expected = BTreeMap::from([(Outcome::Created, 1), (Outcome::Invalid, hostile.len())]);
        assert_eq!(outcomes(&results), expected);
        let letters = dead_letters(&rig.lane, hostile.len()).await;
        for (id, bytes) in &hostile {
            let run = &results.iter().find(|r| r.data.request_id == *id).expect("a result").id;
            let letter = letters.iter().find(|l| l.id() == *run).unwrap_or_else(|| panic!("{id}"));
            assert!(letter.body == *bytes, "{id}: the body is untouched");
            assert_eq!(letter.header("x-sluice-outcome").as_deref(), Some("invalid"));
            let violations = letter.header("x-sluice-violations").expect("violations");
            assert!(violations.contains("pointer"), "{id}: {violations}");
            assert!(!letter.header("x-sluice-reason").expect("a reason").is_empty(), "{id}");
        }
        worker.stop().await;
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transient_answers_are_retried_with_growing_delays_and_permanent_ones_are_dead_lettered_at_once()
 {
    let faults = serde_json::json!({ "faults": [
        { "call": "create", "source": "flaky", "times": 4,
          "do": { "answer": { "status": 400, "code": "SMS.6000", "message": "service error" } } },
        { "call": "create", "source": "bad",
          "do": { "answer": { "status": 400, "body":
            "{\"error_code\":\"SMS.6103\",\"error_msg\":\"disk not found\",\"error_param\":[\"vol-7\"]}" } } },
    ]});
    let rig = Rig::with(lane(QueueType::Quorum), sandbox(&faults)).await;
    let mut worker = rig.start(&Setup::quick(&[]));
    worker.active().await;
    let mut bodies = vec![body("flaky", 9), body("bad", 8)];
    bodies.extend((0..50).map(|n| body(&format!("s{n}"), 1)));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    let results = rig.results(52).await;
    worker.stop().await;
    assert_eq!(
        outcomes(&results),
        BTreeMap::from([(Outcome::Created, 51), (Outcome::Rejected, 1)])
    );
    let of = |source: &str| results.iter().find(|r| r.data.source_server_id == source).unwrap();
    assert_eq!(of("flaky").data.attempts, 5);
    let said = of("bad").data.error.as_ref().expect("what the API said");
    assert_eq!((of("bad").data.attempts, said.error_code.as_deref()), (1, Some("SMS.6103")));
    assert_eq!(said.error_param, ["vol-7"]);
    let letter = &dead_letters(&rig.lane, 1).await[0];
    assert_eq!(letter.header("x-sluice-error-code").as_deref(), Some("SMS.6103"));
    assert!(letter.header("x-sluice-reason").is_some_and(|reason| reason.contains("vol-7")));
    let calls = rig.sandbox.calls();
    let starts: Vec<_> = calls
        .iter()
        .filter(|call| call.method == "POST" && call.source_server_id.as_deref() == Some("flaky"))
        .map(|call| call.started)
        .collect();
    let gaps: Vec<f64> =
        starts.windows(2).map(|two| two[1].duration_since(two[0]).as_secs_f64()).collect();
    // 0.1, 0.2, 0.4, 0.8 seconds, each give or take half of it.
    assert!(gaps[0] >= 0.05 && gaps[3] >= 0.4 && gaps[3] > gaps[0], "{gaps:?}");
    let last_of_others = results.iter().filter(|r| r.data.source_server_id != "flaky");
    let latest = last_of_others.map(|r| r.data.settled_at).max().unwrap();
    assert!(latest < of("flaky").data.settled_at, "the others did not wait for it");
    rig.nothing_left_and_nothing_twice().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_planners_bytes_arrive() {
    let rig = Rig::new(lane(QueueType::Quorum)).await;
    let mut worker = rig.start(&Setup::quick(&[]));
    worker.active().await;
    let plain = String::from_utf8(body("s1", 1).to_vec()).unwrap();
    // Spaces, an unknown field, an escape, a number's own spelling, the order of the fields.
    let odd = plain.replacen('{', "{ \t\"x-unknown\" : [1.00, 1e3, \"\\u00e9\"],\n  ", 1);
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), [Bytes::from(odd.clone())])
        .await;
    rig.results(1).await;
    worker.stop().await;
    let sent = rig.sandbox.calls();
    let digest = Sha256::digest(odd.as_bytes());
    let sent = sent[0].body_sha256.as_deref().expect("the digest of what arrived");
    let sent: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&sent[at..at + 2], 16).unwrap()).collect();
    assert_eq!(sent, digest.to_vec());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_restarts_in_the_middle_and_nothing_is_lost_or_created_twice() {
    let own = OwnNode::start();
    for kind in BOTH {
        let rig = Rig::new(Lane::new(&own.node, kind)).await;
        declare(&rig).await;
        let count = 2000;
        let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
        publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
        let worker = rig.start(&Setup::quick(&["400/s"]));
        rig.created(600).await;
        let node = own.node.clone();
        tokio::task::spawn_blocking(move || {
            node.script_now("stop", &[]);
            node.script_now("start", &[]);
        })
        .await
        .unwrap();
        // The results can be read once the broker is all there again; the worker has its own patience.
        rig.created(count as u64).await;
        let results = rig.results(count).await;
        worker.stop().await;
        assert_eq!(rig.sandbox.stats(&[]).tasks.created, count as u64);
        assert_eq!(outcomes(&results).keys().collect::<Vec<_>>(), [&Outcome::Created]);
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_crashes_in_the_middle_is_followed_by_one_that_doubles_nothing() {
    for kind in BOTH {
        // Several tasks for one source server are possible, so that a double is seen.
        let doubles = sandbox(&serde_json::json!({ "tasks": { "allow_doubles": true } }));
        let rig = Rig::with(lane(kind), doubles).await;
        declare(&rig).await;
        let count = 600;
        let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
        publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
        for _ in 0..3 {
            let mut worker = rig.start(&Setup::quick(&["200/s"]));
            worker.active().await;
            let before = rig.sandbox.stats(&[]).tasks.created;
            rig.created(before + 60).await;
            worker.crash();
        }
        let worker = rig.start(&Setup::quick(&["400/s"]));
        rig.results(count).await;
        worker.stop().await;
        assert_eq!(rig.sandbox.stats(&[]).tasks.created, count as u64);
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_a_plan_that_was_published_twice_make_one_task_each() {
    for kind in BOTH {
        let rig = Rig::new(lane(kind)).await;
        declare(&rig).await;
        let client = rig.lane.client().await;
        let queue = rig.lane.queues.requests();
        let plan = || (0..100).map(|n| body(&format!("s{n}"), 1));
        publish(&client, &queue, plan()).await;
        // Another enqueue time: other runs of the same requests.
        let before = jiff::Timestamp::now().as_millisecond();
        until_so("a millisecond later", || jiff::Timestamp::now().as_millisecond() > before).await;
        publish(&client, &queue, plan()).await;
        let worker = rig.start(&Setup::quick(&[]));
        let results = rig.results(200).await;
        worker.stop().await;
        let outcomes = outcomes(&results);
        assert!(outcomes.keys().all(|outcome| !outcome.is_dead_letter()), "{outcomes:?}");
        let tasks: BTreeSet<_> = results.iter().map(|result| result.data.task_id.clone()).collect();
        assert_eq!((tasks.len(), rig.sandbox.stats(&[]).tasks.created), (100, 100));
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_that_comes_while_its_post_is_out_is_settled_by_its_verdict() {
    let slow = serde_json::json!({ "faults": [{ "call": "create", "answer_delay": { "fixed": "1500ms" } }] });
    let own = OwnNode::start();
    let rig = Rig::with(Lane::new(&own.node, QueueType::Quorum), sandbox(&slow)).await;
    let mut worker = rig.start(&Setup { timeout: 10 * SECOND, ..Setup::quick(&[]) });
    worker.active().await;
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), [body("s1", 1)]).await;
    rig.created(1).await;
    // The task is there, the answer is not: now the session goes.
    own.node.script("ctl", &["close_all_connections", "test"]).await;
    let results = rig.results(1).await;
    worker.stop().await;
    assert_eq!((results[0].data.outcome, results[0].data.attempts), (Outcome::Created, 1));
    assert_eq!(rig.sandbox.calls().iter().filter(|call| call.method == "POST").count(), 1);
    rig.nothing_left_and_nothing_twice().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_resets_and_server_errors_double_nothing_and_lose_nothing() {
    let faults = serde_json::json!({ "faults": [
        { "call": "create", "probability": 0.1, "do": { "close": { "applied": true } } },
        { "call": "create", "probability": 0.1, "do": { "answer": { "status": 503 } } },
        { "call": "create", "probability": 0.05, "do": { "reset": {} } },
        { "call": "create", "probability": 0.05, "do": { "reset": { "applied": true } } },
    ], "tasks": { "allow_doubles": true } });
    for kind in BOTH {
        let rig = Rig::with(lane(kind), sandbox(&faults)).await;
        declare(&rig).await;
        let count = 400;
        let bodies = (0..count).map(|n| body(&format!("s{n}"), 1));
        publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
        let worker = rig.start(&Setup::quick(&["200/s"]));
        let results = rig.results(count).await;
        worker.stop().await;
        assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, count)]));
        assert_eq!(rig.sandbox.stats(&[]).tasks.created, count as u64);
        rig.nothing_left_and_nothing_twice().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_too_long_is_requeued_and_comes_again_in_order() {
    tokio::join!(held_too_long(QueueType::Quorum), held_too_long(QueueType::Classic));
}

async fn held_too_long(kind: QueueType) {
    // What is out at the moment, requeued and not there again, cannot go in its turn: so the requests go when none of them
    // is due for half of the time that they may be held, and are so few that they are through by then.
    let (max_hold, count) = (5 * SECOND, 40);
    let rig = Rig::new(lane(kind)).await;
    declare(&rig).await;
    let bodies = shuffled(count).into_iter().map(|n| body(&format!("s{n}"), n));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    let mut setup = Setup::quick(&[]);
    setup.core = Settings { max_hold, ..setup.core };
    setup.core.gate = gate::GateSettings { max_in_flight: 1, ..setup.core.gate };
    let mut worker = rig.start(&setup);
    worker.order(Command::Pause).await;
    worker.active().await;
    // Long enough for all to have been requeued twice.
    tokio::time::sleep(2 * max_hold + SECOND).await;
    let all_fresh = |status: &sluicegate::message::status::Status| {
        let held = status.window.ready + status.window.waiting;
        let youngest_half = max_hold.as_secs_f64() / 2.0;
        held == usize::from(count)
            && status.oldest_held_seconds.is_some_and(|oldest| oldest < youngest_half)
    };
    let back = worker.status.wait_for(all_fresh);
    tokio::time::timeout(4 * max_hold, back).await.expect("all are back").unwrap();
    worker.order(Command::Resume).await;
    let results = rig.results(count.into()).await;
    worker.stop().await;
    assert_eq!(outcomes(&results), BTreeMap::from([(Outcome::Created, count.into())]));
    let stats = rig.sandbox.stats(&[]);
    assert_eq!((stats.order.inversions, stats.tasks.created), (0, count.into()));
    rig.nothing_left_and_nothing_twice().await;
}

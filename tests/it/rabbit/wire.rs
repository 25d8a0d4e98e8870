//! What can one message carry? Whatever the broker takes from a publisher: headers nested thousands deep, names that are no
//! text, headers of a hundred kilobytes, bodies of a hundred megabytes. It costs that message, and nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use sluicegate::broker::dead_letters::{Review, ReviewAction};
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::{Broker, ReadFrom, Reader, topology};
use sluicegate::contract::Rules;
use sluicegate::core::Outcome;
use sluicegate::message::audit::{Act, Action, By};
use sluicegate::review::Filter;
use sluicegate::sandbox::Options as SandboxOptions;
use sluicegate::worker::source::{Event, Source as _};
use tempfile::TempDir;

use super::planner::{Desk, result};
use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node, OwnNode, SOON, next, request_body};
use crate::support::raw::{self, CORRELATION_ID, MESSAGE_ID, Properties, Raw, long, nested, short};
use crate::support::rig::{Rig, Setup, body, dead_letters, outcomes};

const BOTH: [QueueType; 2] = [QueueType::Quorum, QueueType::Classic];

fn by() -> By {
    By { who: "anna@ops".into(), why: None }
}

fn text(text: &[u8]) -> Vec<u8> {
    long(b'S', text)
}

/// Properties that a client library must not be given, each with what is told of it.
fn poisons() -> Vec<(Properties, &'static str)> {
    let batch = (b"x-sluice-batch".as_slice(), text(b"wave-7"));
    let with = |entry: (&'static [u8], Vec<u8>)| vec![raw::headers(&[batch.clone(), entry])];
    vec![
        (with((b"deep", nested(1_000, b'A'))), "\"deep\" is nested deeper"),
        (with((b"deep", nested(2_000, b'A'))), "\"deep\" is nested deeper"),
        (with((b"deeper", nested(2_000, b'F'))), "\"deeper\" is nested deeper"),
        (with((b"caf\xe9", text(b"x"))), "the name of a header is not UTF-8"),
        (with((b"x-sluice-replay", nested(1_000, b'F'))), "\"x-sluice-replay\" is nested"),
        (vec![(CORRELATION_ID, short(b"caf\xe9"))], "its property correlation-id is not UTF-8"),
        (vec![(MESSAGE_ID, short(b"caf\xe9"))], "its property message-id is not UTF-8"),
    ]
}

/// Publishes on a thread of its own: there is no library, and so no future.
async fn publish_raw(
    node: &Node,
    to: (String, Vec<u8>),
    messages: impl IntoIterator<Item = (Properties, Vec<u8>), IntoIter: Send> + Send + 'static,
) {
    let url = node.url.clone();
    let publishing = tokio::task::spawn_blocking(move || {
        let mut raw = Raw::connect(&url);
        for (properties, body) in messages {
            raw.publish((&to.0, &to.1), properties, &body);
        }
    });
    publishing.await.unwrap();
}

fn queue(name: String) -> (String, Vec<u8>) {
    (String::new(), name.into_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_is_a_dead_letter_with_its_body_and_the_rest_goes_on() {
    let node = Node::shared();
    for kind in BOTH {
        let rig = Rig::new(Lane::new(&node, kind)).await;
        topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
        let requests = rig.lane.queues.requests();
        let healthy = |from: usize| {
            let bodies = (from..from + 5).map(|n| body(&format!("s{n}"), 1).to_vec());
            bodies.map(|body| (vec![], body)).collect::<Vec<_>>()
        };
        let poisons = poisons();
        let count = poisons.len();
        let of = |number: usize| request_body(100 + number).to_vec();
        let bad: Vec<_> =
            poisons.iter().enumerate().map(|(n, (bad, _))| (bad.clone(), of(n))).collect();
        publish_raw(&node, queue(requests.clone()), healthy(0)).await;
        publish_raw(&node, queue(requests.clone()), bad).await;
        publish_raw(&node, queue(requests.clone()), healthy(5)).await;

        let mut worker = rig.start(&Setup::quick(&["200/s"]));
        worker.active().await;
        let results = rig.results(10 + count).await;
        let ended = outcomes(&results);
        assert_eq!(ended, BTreeMap::from([(Outcome::Created, 10), (Outcome::Invalid, count)]));
        // In the session that the first of them came in.
        let status = worker.status.borrow().clone();
        assert!(matches!(
            status.session,
            sluicegate::message::status::SessionStatus::Active { .. }
        ));
        worker.stop().await;

        let letters = dead_letters(&rig.lane, count).await;
        for (number, (_, told)) in poisons.iter().enumerate() {
            let letter = letters.iter().find(|letter| letter.body == of(number)).unwrap();
            let reason = letter.header("x-sluice-violations").unwrap();
            assert!(reason.contains(&told.replace('"', "\\\"")), "{told}: {reason}");
            let original = letter.header("x-sluice-original-properties").unwrap();
            assert!(original.len() > 8 && original.bytes().all(|c| c.is_ascii_hexdigit()));
            let batch = letter.header("x-sluice-batch");
            assert_eq!(batch.is_some(), number < 5, "what can be read alone is kept");
        }
        rig.nothing_left_and_nothing_twice().await;
    }
}

/// The ids of the invalid requests that a session is given, and how many of them were delivered before.
async fn invalid_ids(broker: &mut Broker, count: usize) -> (BTreeSet<String>, usize) {
    let (mut ids, mut redelivered, mut held) = (BTreeSet::new(), 0, Vec::new());
    while held.len() < count {
        if let Event::Invalid(job, ..) = next(broker).await {
            ids.insert(job.request.id.to_string());
            redelivered += usize::from(job.redelivered);
            held.push(job);
        }
    }
    (ids, redelivered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_a_readable_id_is_the_same_request_at_every_delivery() {
    let node = Node::shared();
    for kind in BOTH {
        let lane = Lane::new(&node, kind);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        let poisons: Vec<_> = poisons().into_iter().map(|(bad, _)| (bad, b"{}".to_vec())).collect();
        let count = poisons.len();
        // And one that has an id, which stays its own.
        let named = vec![(MESSAGE_ID, short(b"17")), raw::headers(&[(b"caf\xe9", text(b"x"))])];
        let all: Vec<_> = poisons.into_iter().chain([(named, b"{}".to_vec())]).collect();
        publish_raw(&node, queue(lane.queues.requests()), all).await;
        let mut seen = Vec::new();
        for session in 0..3 {
            let mut broker = lane.start("w1");
            let (ids, redelivered) = invalid_ids(&mut broker, count + 1).await;
            assert!(ids.contains("17"), "{ids:?}");
            assert_eq!(redelivered, if session == 0 { 0 } else { count + 1 }, "{kind:?}");
            seen.push(ids);
            broker.leave(Vec::new()).await;
            lane.client()
                .await
                .wait_for_depth(&lane.queues.requests(), u32::try_from(count).unwrap() + 1)
                .await;
        }
        // Those whose id is not there at all share the one of their body: the same body, the same request.
        assert_eq!(seen[0].len(), 4, "{:?}", seen[0]);
        assert!(seen.iter().all(|ids| *ids == seen[0]), "{kind:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_among_the_dead_letters_ends_no_review() {
    let node = Node::shared();
    for kind in BOTH {
        let lane = Lane::new(&node, kind);
        topology::apply(&lane.settings, &lane.queues).await.unwrap();
        let bad: Vec<_> = poisons().into_iter().enumerate().collect();
        let count = bad.len();
        let told: Vec<_> = bad.iter().map(|(_, (_, told))| *told).collect();
        let messages: Vec<_> =
            bad.into_iter().map(|(n, (bad, _))| (bad, request_body(n).to_vec())).collect();
        let dead = queue(lane.queues.dead_letters());
        publish_raw(&node, dead, messages).await;
        let review = Review::new(&lane.settings, &lane.queues, Rules::default());
        let found = review.list().await.unwrap();
        assert_eq!(found.letters.len(), count);
        for (number, told) in told.into_iter().enumerate() {
            let body = request_body(number);
            let letter = found.letters.iter().find(|found| found.body().unwrap() == body).unwrap();
            assert!(letter.letter.reason.contains(told), "{}", letter.letter.reason);
            letter.parcel().unwrap();
        }
        let by = by();
        let all = Filter::default();
        let progress = review.act(&all, &ReviewAction::Replay, &by, |_| true).await.unwrap();
        assert_eq!((progress.moved, progress.of), (count, count));
        // What cannot be read stays behind, and the request is a good one again.
        let mut broker = lane.start("w1");
        let mut bodies = BTreeSet::new();
        while bodies.len() < count {
            match next(&mut broker).await {
                Event::Arrived(job) => bodies.insert(job.request.name.to_string()),
                Event::Invalid(job, ..) => panic!("{:?}", job.request),
                _ => false,
            };
        }
        broker.leave(Vec::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_in_any_other_queue_ends_no_worker() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let queues = rig.lane.queues.clone();
    topology::apply(&rig.lane.settings, &queues).await.unwrap();
    let (count, mut settled) = (poisons().len(), 0);
    for round in 0..2 {
        let mut worker = rig.start(&Setup::quick(&["200/s"]));
        worker.active().await;
        let bad = || poisons().into_iter().map(|(bad, _)| (bad, b"not for us".to_vec()));
        publish_raw(&node, (queues.control(), b"caf\xe9".to_vec()), bad().collect::<Vec<_>>())
            .await;
        publish_raw(&node, queue(queues.active()), bad().collect::<Vec<_>>()).await;
        // The next worker reads what is kept here before it starts anything.
        publish_raw(&node, queue(queues.gate()), bad().collect::<Vec<_>>()).await;
        let healthy: Vec<_> =
            (0..5).map(|n| (vec![], body(&format!("r{round}-{n}"), 1).to_vec())).collect();
        publish_raw(&node, queue(queues.requests()), healthy).await;
        settled += 5;
        rig.results(settled).await;
        assert!(count > 0 && rig.sandbox.stats(&[]).tasks.created == settled as u64);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_read_past_what_cannot_be_read() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let bad = |body: &'static [u8]| {
        poisons().into_iter().map(move |(bad, _)| (bad, body.to_vec())).collect::<Vec<_>>()
    };
    let count = poisons().len();
    // A topic key may be any bytes, and stands in each delivery.
    for key in [b"created.caf\xe9".as_slice(), b"created.-"] {
        publish_raw(&node, (lane.queues.results(), key.to_vec()), bad(b"result")).await;
    }
    let mut reader =
        Reader::open(&lane.settings, &lane.queues.results_log(), ReadFrom::First, 1 << 20)
            .await
            .unwrap();
    let mut offsets = Vec::new();
    while !reader.is_caught_up() {
        let next = reader.next(SOON).await.unwrap().expect("what is there comes");
        let (offset, read) = (next.offset, next.body);
        assert_eq!(read, b"result");
        offsets.push(offset);
    }
    reader.close().await;
    let expected: Vec<u64> = (0..2 * count as u64).collect();
    assert_eq!(offsets, expected, "each is there, at its place");

    publish_raw(&node, queue(lane.queues.audit()), bad(b"nonsense")).await;
    let review = Review::new(&lane.settings, &lane.queues, Rules::default());
    let by = by();
    let letter = uuid::Uuid::new_v4();
    review.note(letter, &by).await.unwrap();
    let acts = review.acts(|act: &Act| act.action == Action::Note).await.unwrap();
    assert_eq!(acts.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_strangers_publish_as_results_costs_a_reader_little_memory() {
    let desk = Desk::new().await;
    // 600 MB, each longer than any result.
    let long = |n: usize| (vec![], vec![b'0' + u8::try_from(n % 10).unwrap(); 3 << 20]);
    let to = (desk.lane.queues.results(), b"created.-".to_vec());
    publish_raw(&Node::shared(), to.clone(), (0..200).map(long)).await;
    let event = serde_json::to_vec(&result("ours", 1)).unwrap();
    let to = (to.0, b"created.ours".to_vec());
    publish_raw(&Node::shared(), to, [(vec![], event)]).await;
    // Nobody has told how many there are, so it goes on.
    let mut watch = desk.command(&["watch", "ours", "--until-done", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(r#""batch":"ours""#), "{line}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", watch.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{} MB at most", peak / 1_000);
    assert!(peak < 100_000, "{peak} kB");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_headers_are_not_kept_in_memory_and_come_back_in_a_dead_letter() {
    let node = Node::shared();
    let count = 250;
    let refuse = serde_json::json!({
        "faults": [{ "call": "create", "source": "s7", "do": { "answer": { "status": 400, "code": "SMS.6103", "message": "no disk" } } }],
    });
    let options = SandboxOptions::default().patched(&refuse).unwrap();
    let rig = Rig::with(Lane::new(&node, QueueType::Quorum), options).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    // Half of them long texts, half of them values that take forty times as much in memory as they take here.
    let headers = |n: usize| {
        let big =
            if n % 2 == 1 { text(&vec![b'x'; 110_000]) } else { long(b'A', &vec![b'V'; 110_000]) };
        let id = format!("id-{n}");
        let headers = raw::headers(&[(b"theirs", big), (b"x-sluice-batch", text(b"wave-1"))]);
        (
            vec![headers, (MESSAGE_ID, short(id.as_bytes()))],
            body(&format!("s{n}"), if n == 7 { 9 } else { 1 }).to_vec(),
        )
    };
    publish_raw(&node, queue(rig.lane.queues.requests()), (0..count).map(headers)).await;
    let dir = TempDir::new().unwrap();
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "1/s");
    spec.more = "[window]\nmax_bytes = \"8MiB\"\n".to_owned();
    let worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    let full = |status: &sluicegate::message::status::Status| {
        let window = &status.window;
        let held = window.ready + window.waiting + window.in_flight + window.settling;
        held + usize::try_from(status.settled).unwrap() >= count
    };
    worker.until("full", Duration::from_secs(60), full).await;
    let peak = worker.memory("VmHWM");
    println!("{count} requests with 110 kB of headers each: {} MB at most", peak / 1_000_000);
    assert!(peak < 100_000_000, "{peak} bytes");
    let letter = dead_letters(&rig.lane, 1).await.remove(0);
    assert_eq!(letter.header("x-sluice-batch").as_deref(), Some("wave-1"));
    assert_eq!(letter.header("theirs").unwrap(), "x".repeat(110_000));
    assert_eq!(worker.stop().await, Some(0));
    // The review holds no more of them.
    let dead = queue(rig.lane.queues.dead_letters());
    publish_raw(&node, dead, (0..20).map(headers)).await;
    let review = Review::new(&rig.lane.settings, &rig.lane.queues, Rules::default());
    let found = review.list().await.unwrap();
    assert_eq!(found.letters.len(), 20);
    let one = found.letters.iter().find(|found| found.letter.request_id == "id-7").unwrap();
    assert_eq!(one.parcel().unwrap().headers["theirs"], "x".repeat(110_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_headers_count_in_the_window() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let count = 3_000;
    // Below what is long for one message, and 45 MB in all; as values it would take a gigabyte.
    let headers = |n: usize| {
        let id = format!("id-{n}");
        let own = text(id.as_bytes());
        let big = if n % 2 == 1 { text(&[b'x'; 15_000]) } else { long(b'A', &[b'V'; 400]) };
        (vec![raw::headers(&[(b"theirs", big), (b"own", own)])], body(&format!("s{n}"), 1).to_vec())
    };
    publish_raw(&node, queue(rig.lane.queues.requests()), (0..count).map(headers)).await;
    let dir = TempDir::new().unwrap();
    let mut spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "1/s");
    spec.more = "[window]\nmax_bytes = \"8MiB\"\n".to_owned();
    let worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    let full = |status: &sluicegate::message::status::Status| {
        let window = &status.window;
        let held = window.ready + window.waiting + window.in_flight + window.settling;
        held + usize::try_from(status.settled).unwrap() >= count
    };
    worker.until("full", Duration::from_secs(60), full).await;
    let peak = worker.memory("VmHWM");
    println!("{count} requests with 15 kB of headers: {} MB at most", peak / 1_000_000);
    assert!(peak < 75_000_000, "{peak} bytes");
    assert_eq!(worker.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_far_too_long_cost_no_session_and_little_memory() {
    // RabbitMQ 4 takes 16 MiB unless it is told otherwise.
    let own = OwnNode::start_with(|_, _| vec!["max_message_size = 134217728".to_owned()]);
    let rig = Rig::new(Lane::new(&own.node, QueueType::Quorum)).await;
    let queues = &rig.lane.queues;
    topology::apply(&rig.lane.settings, queues).await.unwrap();
    let healthy =
        |from: usize| (from..from + 5).map(|n| (vec![], body(&format!("s{n}"), 1).to_vec()));
    let long =
        |n: u8, mib: usize| (vec![(MESSAGE_ID, short(&[b'0' + n]))], vec![b'0' + n; mib << 20]);
    let all = move || {
        healthy(0).chain((0..4).map(move |n| long(n, 120))).chain([long(4, 20)]).chain(healthy(5))
    };
    publish_raw(&own.node, queue(queues.requests()), all()).await;
    let dir = TempDir::new().unwrap();
    let spec = Spec::new(&own.node.url, queues, &rig.sandbox.base_url, "100/s");
    let worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    let results = rig.results(15).await;
    let logged = worker.logged();
    let sessions = logged.matches("\"message\":\"this worker is the active one\"").count();
    let lost: Vec<_> = logged.lines().filter(|line| line.contains("no session with")).collect();
    assert_eq!((sessions, lost.as_slice()), (1, &[][..]), "one session for all of it");
    let ended = outcomes(&results);
    assert_eq!(ended, BTreeMap::from([(Outcome::Created, 10), (Outcome::Invalid, 5)]));
    let found = |id: &str| {
        let result = results.iter().find(|result| result.data.request_id == id).unwrap();
        result.data.violations[0].found.clone()
    };
    assert_eq!(found("0"), format!("a body of {} bytes", 120 << 20));
    let peak = worker.memory("VmHWM");
    println!("four bodies of 120 MiB and one of 20: {} MB at most", peak / 1_000_000);
    assert!(peak < 200_000_000, "{peak} bytes");
    rig.lane.client().await.wait_for_depth(&queues.requests(), 0).await;
    assert_eq!(worker.stop().await, Some(0));
    rig.lane.client().await.wait_for_depth(&queues.dead_letters(), 5).await;

    // A reviewer sees all of them, holds none of the longest, and takes them out.
    let review = Review::new(&rig.lane.settings, queues, Rules::default());
    let listed = review.list().await.unwrap();
    let mut bytes: Vec<_> = listed.letters.iter().map(|found| found.letter.bytes >> 20).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, [20, 120, 120, 120, 120]);
    let held = listed.letters.iter().filter_map(|found| found.body().ok()).collect::<Vec<_>>();
    assert!(held.len() == 1 && held[0].iter().all(|byte| *byte == b'4'), "its body as it came");
    let by = by();
    let refused =
        review.act(&Filter::default(), &ReviewAction::Replay, &by, |_| true).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be sent again"), "{refused}");
    let gone = review.act(&Filter::default(), &ReviewAction::Discard, &by, |_| true).await.unwrap();
    assert_eq!((gone.moved, gone.of), (5, 5));
    rig.lane.client().await.wait_for_depth(&queues.dead_letters(), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_without_a_value_is_as_good_as_none() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let mut headers = FieldTable::default();
    let names =
        ["batch", "row", "not-before", "deadline", "priority", "replay", "again", "enqueued-at"];
    for name in names {
        headers.insert(format!("x-sluice-{name}").as_str().into(), AMQPValue::Void);
    }
    headers.insert("traceparent".into(), AMQPValue::Void);
    let properties = BasicProperties::default().with_headers(headers);
    let client = rig.lane.client().await;
    client.publish(&rig.lane.queues.requests(), &body("s1", 1), properties).await;
    let worker = rig.start(&Setup::quick(&["100/s"]));
    let result = rig.results(1).await.remove(0);
    assert_eq!((result.data.outcome, result.data.batch), (Outcome::Created, None));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_compressed_is_refused_by_the_name_of_its_encoding() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let client = rig.lane.client().await;
    let encoded = |encoding: &str, id: &str| {
        BasicProperties::default().with_content_encoding(encoding.into()).with_message_id(id.into())
    };
    let queue = rig.lane.queues.requests();
    client.publish(&queue, b"\x1f\x8b\x08\0\0\0\0\0", encoded("gzip", "1")).await;
    // Some clients name the charset; and a body that is JSON is read whatever is said of it.
    client.publish(&queue, &body("s1", 1), encoded("utf-8", "2")).await;
    client.publish(&queue, &body("s2", 1), encoded("gzip", "3")).await;
    let worker = rig.start(&Setup::quick(&["100/s"]));
    let results = rig.results(3).await;
    for result in &results {
        let expected =
            if result.data.request_id == "1" { Outcome::Invalid } else { Outcome::Created };
        assert_eq!(result.data.outcome, expected, "{result:?}");
    }
    let refused = results.iter().find(|result| result.data.request_id == "1").unwrap();
    let [violation] = refused.data.violations.as_slice() else { panic!("{refused:?}") };
    assert!(violation.found.contains("\"gzip\"") && violation.allowed.contains("content-encoding"));
    worker.stop().await;
}

//! Does a user of each role have the rights that its commands need, and no other? And what if somebody has more than that:
//! whose word is believed?

use std::collections::BTreeMap;

use jiff::Timestamp;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeBindOptions, QueueBindOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use sluicegate::broker::dead_letters::Review;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::streams::follow::Results;
use sluicegate::broker::{ReadFrom, topology};
use sluicegate::contract::Rules;
use sluicegate::message::audit::{Act, Action, By};
use sluicegate::message::result::Event;
use sluicegate::sandbox::Options;

use super::planner::{Desk, lines, text};
use crate::support::rabbit::{Lane, Node, request_body};
use crate::support::wait;

const PASSWORD: &str = "a-password";

/// The arguments of a line for a shell, all in single quotes or bare.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (nth, piece) in line.split('\'').enumerate() {
        if nth % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Makes a user with the rights that `sluice topology permissions` prints for the role, and nothing else.
async fn user(node: &Node, desk: &Desk, role: &str) -> Desk {
    let name = format!("{}-{role}", desk.lane.queues.prefix);
    node.script("ctl", &["add_user", &name, PASSWORD]).await;
    let printed = desk.sluice(&["topology", "permissions", "--role", role, "--user", &name]);
    assert_eq!(printed.status.code(), Some(0), "{}", text(&printed.stderr));
    let printed = text(&printed.stdout);
    for line in printed.lines().filter(|line| !line.starts_with('#')) {
        let words = words(line);
        let (program, arguments) = words.split_first().unwrap();
        assert_eq!(program, "rabbitmqctl");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        node.script("ctl", &arguments).await;
    }
    let url = desk.lane.url.replace("guest:guest", &format!("{name}:{PASSWORD}"));
    Desk::on(desk.lane.through(&url))
}

/// Runs commands that all must end so.
fn all_end(desk: &Desk, code: i32, commands: &[&[&str]]) {
    for command in commands {
        let output = desk.sluice(command);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{command:?}\n{out}{err}");
    }
}

async fn channel(desk: &Desk) -> (Connection, Channel) {
    let connection =
        Connection::connect(&desk.lane.url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

/// What somebody may try by hand.
#[derive(Clone, Debug)]
enum Try<'a> {
    /// To an exchange, by a key, with further keys in `CC`.
    Publish(String, &'a str, &'a [&'a str]),
    Bind(String, String),
    BindExchange(String, String),
    Unbind(String, String),
    Get(String),
    Consume(String),
    Purge(String),
    Delete(String),
}

impl Try<'_> {
    /// Whether the broker let it happen: routed, if it is a message.
    async fn is_allowed(&self, desk: &Desk) -> bool {
        let (connection, channel) = channel(desk).await;
        let none = FieldTable::default;
        let done = match self {
            Self::Publish(exchange, key, copies) => {
                let mut headers = FieldTable::default();
                let copies = copies.iter().map(|key| AMQPValue::LongString((*key).into()));
                headers
                    .insert("CC".into(), AMQPValue::FieldArray(copies.collect::<Vec<_>>().into()));
                let properties = BasicProperties::default().with_headers(headers);
                let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                let (exchange, key) = (exchange.as_str().into(), (*key).into());
                async {
                    let sent = channel.basic_publish(exchange, key, options, b"{}", properties);
                    sent.await?.await
                }
                .await
                .map(|confirm| confirm == lapin::Confirmation::Ack(None))
            }
            Self::Bind(queue, exchange) => {
                let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(queue, exchange, "#".into(), options, none())
                    .await
                    .map(|()| true)
            }
            Self::BindExchange(to, from) => {
                let (to, from) = (to.as_str().into(), from.as_str().into());
                let options = ExchangeBindOptions::default();
                channel.exchange_bind(to, from, "#".into(), options, none()).await.map(|()| true)
            }
            Self::Unbind(queue, exchange) => {
                let key = queue.as_str().into();
                let (queue, exchange) = (queue.as_str().into(), exchange.as_str().into());
                channel.queue_unbind(queue, exchange, key, none()).await.map(|()| true)
            }
            Self::Get(queue) => {
                let get = channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
                get.await.map(|_| true)
            }
            Self::Consume(queue) => {
                let options = BasicConsumeOptions::default();
                let queue = queue.as_str().into();
                channel.basic_consume(queue, "".into(), options, none()).await.map(|_| true)
            }
            Self::Purge(queue) => {
                let purge =
                    channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default());
                purge.await.map(|_| true)
            }
            Self::Delete(queue) => {
                let delete =
                    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
                delete.await.map(|_| true)
            }
        };
        let _ = connection.close(200, "tried".into()).await;
        done.unwrap_or(false)
    }
}

async fn all_refused(who: &str, desk: &Desk, tries: &[Try<'_>]) {
    for one in tries {
        assert!(!one.is_allowed(desk).await, "{who}: {one:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_each_role_can_do_its_work_and_nothing_else() {
    let node = Node::shared();
    let desk = Desk::on(Lane::new(&node, QueueType::Quorum));
    let queues = desk.lane.queues.clone();
    let worker = user(&node, &desk, "worker").await;

    // The worker declares everything by itself, and works.
    let running = worker.worker(Options::default()).await;
    all_end(&worker, 0, &[&["topology", "apply"], &["topology", "check"]]);
    // From 4.3 on rights on routing keys are those of an exchange that is there.
    let planner = user(&node, &desk, "planner").await;
    let reviewer = user(&node, &desk, "reviewer").await;
    let operator = user(&node, &desk, "operator").await;

    // The planner's work.
    let (plan, other) = (planner.plan(3), planner.plan_of("other", 5..7));
    let (plan, other) = (plan.to_str().unwrap(), other.to_str().unwrap());
    let enqueued = planner.sluice(&["enqueue", plan, "--json"]);
    assert_eq!(enqueued.status.code(), Some(0), "{}", text(&enqueued.stderr));
    let batch = lines(&enqueued)[0]["batch"].as_str().unwrap().to_owned();
    all_end(
        &planner,
        0,
        &[
            &["watch", &batch, "--until-done"],
            &["watch", "--json"],
            &["report", plan],
            &["check", other, "--queue"],
            &["gate", "status"],
            &["gate", "list"],
            &["batch", "hold", &batch],
            &["batch", "release", &batch],
            &["batch", "move", &batch, "--priority", "5"],
            &["batch", "cancel", &batch],
            &["enqueue", other, "--batch", "second"],
            &["watch", "second", "--until-done"],
        ],
    );
    // What is not valid dies, and is there to be reviewed.
    let client = worker.lane.client().await;
    for id in ["bad-0", "bad-1", "bad-2"] {
        let (_connection, channel) = channel(&planner).await;
        let properties = BasicProperties::default().with_message_id(id.into());
        let (to, key) = (queues.enqueue().as_str().into(), queues.requests().as_str().into());
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = channel.basic_publish(to, key, options, b"{}", properties).await.unwrap();
        assert_eq!(sent.await.unwrap(), lapin::Confirmation::Ack(None));
    }
    client.wait_for_depth(&queues.dead_letters(), 3).await;

    // The reviewer's.
    let file = reviewer.path("exported.jsonl");
    let file = file.to_str().unwrap();
    all_end(
        &reviewer,
        0,
        &[
            &["dead-letters", "list", "--letters"],
            &["dead-letters", "show", "bad-0"],
            &["dead-letters", "note", "bad-0", "seen"],
            &["dead-letters", "export", file],
            &["dead-letters", "replay", "bad-1", "--yes"],
            &["dead-letters", "discard", "bad-2", "--yes"],
            &["dead-letters", "restore", "--since", "1h", "--yes"],
            &["dead-letters", "import", file],
            &["dead-letters", "audit"],
        ],
    );

    // The operator's.
    all_end(
        &operator,
        0,
        &[
            &["gate", "status"],
            &["gate", "pause"],
            &["gate", "rate", "5/s"],
            &["gate", "rate", "configured"],
            &["gate", "resume"],
            &["gate", "priority", "nobody", "5"],
            &["batch", "hold", "second"],
            &["batch", "release", "second"],
            &["watch", "second", "--until-done"],
            &["dead-letters", "audit"],
        ],
    );

    refused_by_command(&planner, &reviewer, &operator);
    let others = [("planner", &planner), ("reviewer", &reviewer), ("operator", &operator)];
    every_way_round_is_refused(others).await;
    copies_go_nowhere(&planner, &operator).await;
    drop(running);
}

/// What each may not do with its own commands.
fn refused_by_command(planner: &Desk, reviewer: &Desk, operator: &Desk) {
    let refused = |desk: &Desk, command: &[&str]| {
        let output = desk.sluice(command);
        let said = text(&output.stderr);
        assert_ne!(output.status.code(), Some(0), "{command:?}: {said}");
        assert!(said.contains("ACCESS_REFUSED"), "{command:?}: {said}");
    };
    for other in [planner, reviewer] {
        refused(other, &["gate", "pause"]);
    }
    for other in [planner, operator] {
        refused(other, &["dead-letters", "list"]);
    }
    refused(planner, &["dead-letters", "audit"]);
    let third = operator.plan_of("third", 8..9);
    for other in [operator, reviewer] {
        refused(other, &["enqueue", third.to_str().unwrap(), "--again"]);
    }
    refused(reviewer, &["batch", "hold", "second", "--unannounced"]);
}

/// By hand: the forgeries, and every way round to a queue that is not one's own.
async fn every_way_round_is_refused(others: [(&str, &Desk); 3]) {
    let [(_, planner), (_, reviewer), (_, operator)] = others;
    let queues = planner.lane.queues.clone();
    let (requests, dead, gate) = (queues.requests(), queues.dead_letters(), queues.gate());
    let publish = |exchange: &str, key| Try::Publish(exchange.to_owned(), key, &[]);
    let (audit, orders) = (queues.audit(), queues.orders());
    let everything = [
        &requests,
        &dead,
        &gate,
        &audit,
        &orders,
        &queues.parked(),
        &queues.active(),
        &queues.results_log(),
    ]
    .map(Clone::clone);
    let mut by_anybody = Vec::new();
    for queue in &everything {
        by_anybody.push(publish("", queue));
        by_anybody.push(publish(&queues.worker(), queue));
        by_anybody.push(publish(&queues.dlx(), queue));
        by_anybody.push(publish(&queues.results(), "created.-"));
        for exchange in [queues.results(), queues.batches(), queues.control(), queues.answers()] {
            by_anybody.push(Try::Bind(queue.clone(), exchange));
        }
        for exchange in [queues.enqueue(), queues.worker(), queues.review()] {
            by_anybody.push(Try::Unbind(queue.clone(), exchange));
        }
        if *queue != dead {
            by_anybody.push(Try::Get(queue.clone()));
            by_anybody.push(Try::Purge(queue.clone()));
            by_anybody.push(Try::Delete(queue.clone()));
        }
    }
    by_anybody.push(Try::Consume(requests.clone()));
    by_anybody.push(Try::BindExchange(queues.enqueue(), queues.results()));
    by_anybody.push(Try::BindExchange(queues.control(), queues.results()));
    for (who, other) in others {
        all_refused(who, other, &by_anybody).await;
    }
    let dead_is_not_mine =
        [Try::Get(dead.clone()), Try::Purge(dead.clone()), Try::Delete(dead.clone())];
    for (who, other) in [("planner", planner), ("operator", operator)] {
        all_refused(who, other, &dead_is_not_mine).await;
        for queue in [&requests, &dead, &audit] {
            all_refused(who, other, &[publish(&queues.review(), queue)]).await;
        }
    }
    all_refused(
        "planner",
        planner,
        &[
            publish(&queues.control(), "gate.pause"),
            publish(&queues.batches(), "created.-"),
            publish(&queues.batches(), "rejected.wave-1"),
            publish(&queues.enqueue(), &dead),
            publish(&queues.enqueue(), "#"),
        ],
    )
    .await;
    all_refused(
        "operator",
        operator,
        &[publish(&queues.enqueue(), &requests), publish(&queues.batches(), "batch.x")],
    )
    .await;
    all_refused(
        "reviewer",
        reviewer,
        &[
            publish(&queues.enqueue(), &requests),
            publish(&queues.control(), "ask.status"),
            publish(&queues.review(), &gate),
        ],
    )
    .await;
}

/// A copy goes where its exchange leads, and no further.
async fn copies_go_nowhere(planner: &Desk, operator: &Desk) {
    let (queues, client) =
        (planner.lane.queues.clone(), Lane::new(&Node::shared(), QueueType::Quorum).client().await);
    let (requests, dead, gate) = (queues.requests(), queues.dead_letters(), queues.gate());
    let before = client.depth(&dead).await;
    let copies = Try::Publish(queues.enqueue(), &requests, &[&dead, &gate, "gate.pause"]);
    assert!(copies.is_allowed(planner).await);
    client.wait_for_depth(&dead, before + 1).await;
    assert_eq!(client.depth(&gate).await, 1, "what the operator has set last");
    // 3.10 looks at the first key alone: the copy reaches the worker, and does nothing there.
    Try::Publish(queues.control(), "batch.hold", &["gate.pause"]).is_allowed(planner).await;
    let status = operator.sluice(&["gate", "status"]);
    assert!(!text(&status.stdout).contains("paused"), "{}", text(&status.stdout));
}

fn by() -> By {
    By { who: "ada".into(), why: Some("forged".into()) }
}

/// Somebody with the right to the default exchange reaches every queue, and yet is believed nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_come_through_the_door_of_who_may_say_it_is_not_believed() {
    let desk = Desk::new().await;
    let queues = desk.lane.queues.clone();
    let client = desk.lane.client().await;
    let forge = async |queue: String, body: String, properties: BasicProperties| {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let (to, key) = ("".into(), queue.as_str().into());
        let sent = client.channel.basic_publish(to, key, options, body.as_bytes(), properties);
        assert_eq!(sent.await.unwrap().await.unwrap(), lapin::Confirmation::Ack(None));
    };
    // A worker, and one result of it as the pattern of a forged one.
    let worker = desk.worker(Options::default()).await;
    let properties = BasicProperties::default().with_message_id("first".into());
    client.publish(&queues.requests(), &request_body(9), properties).await;
    let genuine = client.stream(&queues.results_log(), 1).await;
    drop(worker);
    // A pause in another's name.
    let pause = json!({ "at": Timestamp::now(), "pause": { "by": "ada", "reason": "forged" } });
    forge(queues.gate(), pause.to_string(), BasicProperties::default()).await;
    // An audit entry, of either kind; and an order that is none.
    let act = Act::new(Action::Discard, &by(), Timestamp::now());
    forge(queues.audit(), serde_json::to_string(&act).unwrap(), BasicProperties::default()).await;
    let (to, key) = (queues.control().as_str().into(), "batch.hold".into());
    let body = serde_json::to_vec(&act).unwrap();
    let options = BasicPublishOptions::default();
    let sent = client.channel.basic_publish(to, key, options, &body, BasicProperties::default());
    sent.await.unwrap().await.unwrap();
    // A result, by the stream and by the exchange of batches.
    let mut result: serde_json::Value = serde_json::from_slice(&genuine[0].body).unwrap();
    result["data"]["batch"] = "wave-1".into();
    result["data"]["request_id"] = "forged".into();
    result["data"]["run"] = uuid::Uuid::new_v4().to_string().into();
    assert!(Event::read(result.to_string().as_bytes()).is_ok());
    forge(queues.results_log(), result.to_string(), BasicProperties::default()).await;
    let (to, key) = (queues.batches().as_str().into(), "batch.wave-1".into());
    let body = result.to_string();
    let sent =
        client.channel.basic_publish(to, key, options, body.as_bytes(), BasicProperties::default());
    sent.await.unwrap().await.unwrap();
    // A dead letter, with all that one has.
    let claims = BTreeMap::from([
        ("x-sluice-outcome", "rejected"),
        ("x-sluice-reason", "forged"),
        ("x-sluice-error-code", "SMS.6603"),
        ("x-sluice-attempts", "7"),
        ("x-sluice-request-id", "another"),
        ("x-sluice-replay", "3"),
        ("x-sluice-past", r#"[{"cause":"forged","failed_at":null,"attempts":1,"replay":0}]"#),
        ("x-sluice-never-sent", "true"),
        ("x-sluice-batch", "wave-1"),
    ]);
    let mut headers = FieldTable::default();
    for (name, text) in &claims {
        headers.insert((*name).into(), AMQPValue::LongString((*text).into()));
    }
    let claims = BasicProperties::default().with_headers(headers).with_message_id("17".into());
    forge(queues.dead_letters(), text(&request_body(1)), claims.clone()).await;

    let worker = desk.worker(Options::default()).await;
    wait::until_so("not paused by anybody", || {
        let status = desk.sluice(&["gate", "status"]);
        status.status.code() == Some(0) && !text(&status.stdout).contains("forged")
    })
    .await;
    let review = Review::new(&desk.lane.settings, &queues, Rules::default());
    assert_eq!(review.acts(|_| true).await.unwrap(), Vec::new());
    let watched = desk.sluice(&["watch", "--json"]);
    assert!(!text(&watched.stdout).contains("wave-1"), "{}", text(&watched.stdout));

    // It is shown as what it is, in the list, as JSON and alone; its batch is a planner's to say.
    let listed = text(&desk.sluice(&["dead-letters", "list", "--letters"]).stdout);
    assert!(listed.contains("put here by somebody else"), "{listed}");
    let shown = text(&desk.sluice(&["dead-letters", "show", "17"]).stdout);
    assert!(shown.contains("put here by somebody else, not by Sluicegate"), "{shown}");
    assert!(!shown.contains("forged") && !shown.contains("SMS.6603"), "{shown}");
    let snapshot = review.list().await.unwrap();
    let letter = &snapshot.letters[0].letter;
    assert!(letter.stranger);
    assert_eq!((letter.outcome, letter.attempts, letter.replay), (None, 0, 0));
    assert_eq!((letter.request_id.as_str(), letter.past.len()), ("17", 0));
    assert_eq!(letter.batch.as_deref(), Some("wave-1"));
    // Taken out and put back it is still a stranger's; and it can be sent again, as the request that it is.
    for command in ["discard", "restore"] {
        let done = desk.sluice(&["dead-letters", command, "--all", "--yes"]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    }
    assert!(review.list().await.unwrap().letters[0].letter.stranger);
    let done = desk.sluice(&["dead-letters", "replay", "--all", "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let mut results = Results::open(&desk.lane.settings, &queues, ReadFrom::First).await.unwrap();
    let mut believed = Vec::new();
    while believed.len() < 2 {
        if let Some(Event::Result(result)) = results.next().await {
            believed.push(result.data.request_id);
        }
    }
    results.close().await;
    assert_eq!(believed, ["first", "17"]);
    drop(worker);
}

/// What a planner's message says of its past is not what a dead letter shows, whether the worker ended it or the broker did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_shows_only_what_this_product_saw() {
    let desk = Desk::new().await;
    let (queues, client) = (desk.lane.queues.clone(), desk.lane.client().await);
    let mut headers = FieldTable::default();
    for name in [
        "x-sluice-outcome",
        "x-sluice-reason",
        "x-sluice-error",
        "x-sluice-error-code",
        "x-sluice-status",
        "x-sluice-history",
        "x-sluice-past",
        "x-sluice-attempts",
        "x-sluice-failed-at",
        "x-sluice-violations",
        "x-sluice-request-id",
        "x-sluice-replay",
        "x-sluice-never-sent",
        "x-sluice-moved",
        "x-sluice-stranger",
        "x-sluice-what-comes-later",
        "x-sluice-original-properties",
    ] {
        headers.insert(name.into(), AMQPValue::LongString("forged".into()));
    }
    headers.insert("planner".into(), AMQPValue::LongString("kept".into()));
    let death = FieldTable::from(BTreeMap::from([
        ("queue".into(), AMQPValue::LongString(queues.requests().into())),
        ("reason".into(), AMQPValue::LongString("expired".into())),
        ("exchange".into(), AMQPValue::LongString(queues.review().into())),
        ("count".into(), AMQPValue::LongLongInt(1)),
    ]));
    headers
        .insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()));
    let claims = BasicProperties::default().with_headers(headers);
    // One too long to be held in memory: its header waits in the file.
    let mut long = claims.headers().clone().unwrap();
    long.insert("filler".into(), AMQPValue::LongString("x".repeat(40_000).into()));
    let long = claims.clone().with_headers(long).with_message_id("long".into());
    // One that nobody takes expires in the queue; the broker dead-letters it.
    let expiring = claims.clone().with_message_id("expired".into()).with_expiration("1".into());
    client.publish(&queues.requests(), &request_body(1), expiring).await;
    client.wait_for_depth(&queues.dead_letters(), 1).await;
    let worker = desk.worker(Options::default()).await;
    client.publish(&queues.requests(), b"{}", claims.with_message_id("invalid".into())).await;
    client.publish(&queues.requests(), b"{}", long).await;
    client.wait_for_depth(&queues.dead_letters(), 3).await;
    let review = Review::new(&desk.lane.settings, &queues, Rules::default());
    let snapshot = review.list().await.unwrap();
    let mut seen: Vec<String> = Vec::new();
    for found in &snapshot.letters {
        let letter = &found.letter;
        seen.push(letter.request_id.clone());
        assert!(!letter.stranger, "{letter:?}");
        assert_eq!((letter.replay, letter.past.len()), (0, 0), "{letter:?}");
        let parcel = found.parcel().unwrap();
        let all = serde_json::to_string(&parcel.headers).unwrap() + &letter.reason;
        assert!(!all.contains("forged") && all.contains("kept"), "{all}");
    }
    seen.sort_unstable();
    assert_eq!(seen, ["expired", "invalid", "long"]);
    drop(worker);
}

#[tokio::test]
async fn a_topology_of_a_version_before_is_told_and_goes_on() {
    let lane = Lane::new(&Node::shared(), QueueType::Quorum);
    let client = lane.client().await;
    let (old, requests) = (lane.queues.dead_letters(), lane.queues.requests());
    let options = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
    let kind = lapin::ExchangeKind::Fanout;
    let none = FieldTable::default;
    client.channel.exchange_declare(old.as_str().into(), kind, options, none()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(old.clone().into()));
    if Node::shared().version != "3.10" {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    }
    let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
    let declare = client.channel.queue_declare(requests.as_str().into(), durable, arguments);
    declare.await.unwrap();
    let applied = topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let told = applied.left_over.join("\n");
    assert!(told.contains(&old) && told.contains("leave that exchange"), "{told}");
}

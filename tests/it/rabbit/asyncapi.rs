//! The AsyncAPI document before its judges: AsyncAPI's own parser, and what really goes over a broker.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sluicegate::broker::settings::QueueType;
use sluicegate::message::command;

use crate::asyncapi::document;
use crate::support::rabbit::{Client, Lane, Node, Plain};
use crate::support::rig::{Rig, Setup, body, publish};

/// Prints what the parser has to say, and the channels and operations of the document that it made of it.
const PARSE: &str = r"
const { Parser } = require('@asyncapi/parser');
const text = require('fs').readFileSync(0, 'utf8');
new Parser().parse(text).then(({ document, diagnostics }) => console.log(JSON.stringify({
  problems: diagnostics.map(({ message, path, severity }) => ({ message, path: path.join('.'), severity })),
  channels: document?.allChannels().all().length,
  operations: document?.allOperations().all().length,
})));";

#[test]
fn the_parser_of_asyncapi_finds_nothing_wrong() {
    let (document, _) = document();
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/node_modules");
    let mut parser = Command::new("node")
        .args(["-e", PARSE])
        .env("NODE_PATH", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is missing; scripts/test installs it");
    parser.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    let output = parser.wait_with_output().unwrap();
    assert!(output.status.success(), "the parser did not run; scripts/test installs it");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["problems"], json!([]));
    assert_eq!((&said["channels"], &said["operations"]), (&json!(14), &json!(10)), "{said}");
}

/// Whether a message is as the document says; with its name in what is told of it.
fn is_a(message: &str, part: &str, value: &Value) {
    let (document, _) = document();
    let schema = json!({
        "allOf": [{ "$ref": format!("#/components/messages/{message}/{part}") }],
        "components": document["components"],
    });
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "no {message}: {errors:#?}\n{value:#}");
}

fn read(message: &Plain) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

fn headers(message: &Plain) -> Value {
    let names = crate::asyncapi::document().0["components"]["messages"]["deadLetter"]["headers"]
        ["properties"]
        .clone();
    let names = names.as_object().unwrap().keys();
    let texts = names.filter_map(|name| Some((name.clone(), message.header(name)?.into())));
    Value::Object(texts.collect())
}

/// `sluice enqueue` of one request, in a batch.
fn enqueue(rig: &Rig, node: &Node) {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.jsonl");
    std::fs::write(&plan, body("s9", 1)).unwrap();
    let enqueued = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["enqueue", "--batch", "wave-1"])
        .arg(plan)
        .env("SLUICE_BROKER__URL", &node.url)
        .env("SLUICE_QUEUES__PREFIX", &rig.lane.queues.prefix)
        .output()
        .unwrap();
    assert!(enqueued.status.success(), "{}", String::from_utf8_lossy(&enqueued.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_over_a_broker_is_as_the_document_says() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let mut worker = rig.start(&Setup::quick(&[]));
    worker.active().await;
    let queues = &rig.lane.queues;
    let client: Client = rig.lane.client().await;
    publish(&client, &queues.requests(), [b"{\"name\": 7}".as_slice().into()]).await;
    enqueue(&rig, &node);
    rig.results(2).await;

    // A result, and the two announcements of a batch.
    let mut seen = std::collections::BTreeSet::new();
    for event in client.stream(&queues.results_log(), 4).await {
        let event = read(&event);
        let name = match event["type"].as_str().unwrap() {
            "sluice.batch.opened" => "batchOpened",
            "sluice.batch.enqueued" => "batchEnqueued",
            _ => "result",
        };
        is_a(name, "payload", &event);
        seen.insert(name);
    }
    assert_eq!(seen.len(), 3);
    is_a("request", "payload", &serde_json::from_slice(&body("s9", 1)).unwrap());

    client.wait_for_depth(&queues.dead_letters(), 1).await;
    let letter = client.take(&queues.dead_letters()).await.unwrap();
    let headers = headers(&letter);
    assert_eq!(headers["x-sluice-outcome"], "invalid");
    is_a("deadLetter", "headers", &headers);

    let order = crate::support::rig::order(command::Command::Pause);
    is_a("order", "payload", &serde_json::to_value(&order).unwrap());
    let answer = worker.order(command::Command::Pause).await;
    assert!(answer.done && answer.status.is_some(), "{answer:?}");
    is_a("answer", "payload", &serde_json::to_value(&answer).unwrap());
    is_a("act", "payload", &read(&client.stream(&queues.audit(), 1).await[0]));
    is_a("steering", "payload", &read(&client.take(&queues.gate()).await.unwrap()));
    worker.stop().await;
}

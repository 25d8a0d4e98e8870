//! Is the log as `docs/logging.md` says? Lines of a real worker against the page's table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sluicegate::broker::ask;
use sluicegate::broker::settings::QueueType;
use sluicegate::core::gate::Reason;
use sluicegate::message::command::Command;
use sluicegate::message::status::Status;

use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::{Rig, body, order, publish};

/// What the page says of one message.
#[derive(Debug)]
struct Documented {
    level: String,
    always: BTreeSet<String>,
    sometimes: BTreeSet<String>,
}

/// The words in backticks.
fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The rows of the page's table of lines: `| message | level | always | sometimes | meaning |`.
fn page() -> BTreeMap<String, Documented> {
    let page = include_str!("../../../docs/logging.md");
    let (_, table) = page.split_once("| message | level |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(" | ").collect();
        let documented = Documented {
            level: cells[1].to_owned(),
            always: words(cells[2]),
            sometimes: words(cells[3]),
        };
        (words(cells[0]).into_iter().next().unwrap(), documented)
    };
    rows.map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_a_worker_are_those_of_the_page() {
    const ENVELOPE: [&str; 4] = ["timestamp", "level", "target", "message"];
    let node = Node::shared();
    let lost = serde_json::json!({ "faults": [{ "call": "create", "times": 1, "do": { "reset": { "applied": true } } }] });
    let options = sluicegate::sandbox::Options::default().patched(&lost).unwrap();
    let rig = Rig::with(Lane::new(&node, QueueType::Quorum), options).await;
    let spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "50/s");
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    let bodies = [body("s1", 1), body("s2", 1), b"{}".as_slice().into()];
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    rig.results(3).await;
    ask(&rig.lane.settings, &rig.lane.queues, &order(Command::Resume)).await.unwrap();
    process.signal("HUP");
    process
        .until("heard", crate::support::rabbit::SOON, |_| {
            process.logged().contains("SIGHUP: the configuration was read again")
        })
        .await;
    let log = process.log.clone();
    assert_eq!(process.stop().await, Some(0));

    let page = page();
    let mut seen = BTreeSet::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let message = line["message"].as_str().unwrap();
        let fields: BTreeSet<String> = line.as_object().unwrap().keys().cloned().collect();
        assert!(ENVELOPE.iter().all(|name| fields.contains(*name)), "{line}");
        line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let fields: BTreeSet<String> =
            fields.into_iter().filter(|name| !ENVELOPE.contains(&name.as_str())).collect();
        let Some(documented) = page.get(message) else {
            assert_eq!(line["level"], "DEBUG", "not in docs/logging.md: {line}");
            continue;
        };
        assert_eq!(line["level"], documented.level.to_uppercase(), "{line}");
        assert!(documented.always.is_subset(&fields), "{line}\n{documented:?}");
        let allowed: BTreeSet<_> =
            documented.always.union(&documented.sometimes).cloned().collect();
        assert!(fields.is_subset(&allowed), "{line}\n{documented:?}");
        seen.insert(message.to_owned());
    }
    for message in [
        "settled",
        "attempted",
        "looked",
        "listening",
        "the worker begins",
        "an operator's command",
        "stopped",
    ] {
        assert!(seen.contains(message), "no line {message:?}; seen: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_that_shut_the_gate_is_in_the_log_once_and_in_what_is_said() {
    let node = Node::shared();
    let rig = Rig::new(Lane::new(&node, QueueType::Quorum)).await;
    let spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "50/s");
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    let client = rig.lane.client().await;
    let fails = |answer: Value| {
        let faults = serde_json::json!([{ "do": { "answer": answer } }]);
        rig.sandbox.set_faults(serde_json::from_value(faults).unwrap()).unwrap();
    };
    let shut = |reason: &str| -> Vec<Value> {
        let log = process.logged();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let shut = |line: &Value| line["message"] == "the gate is shut" && line["reason"] == reason;
        lines.filter(shut).collect()
    };
    let throttles = serde_json::json!({ "status": 429, "code": "APIGW.0308", "message": "limit:3,time:1 second" });
    let failing = serde_json::json!({ "status": 400, "code": "SMS.6000", "message": "it is busy" });
    for (n, (reason, answer, code, text)) in [
        (Reason::Throttled, throttles, "APIGW.0308", "limit:3,time:1 second"),
        (Reason::Breaker, failing, "SMS.6000", "it is busy"),
    ]
    .into_iter()
    .enumerate()
    {
        fails(answer);
        let bodies = (0..20).map(|i| body(&format!("s{n}-{i}"), 1));
        publish(&client, &rig.lane.queues.requests(), bodies).await;
        let is_said =
            |status: &Status| status.gate.reason == Some(reason) && status.why().contains(text);
        process.until(reason.as_str(), SOON, is_said).await;
        let lines = shut(reason.as_str());
        assert_eq!((&lines[0]["error_code"], lines.len()), (&code.into(), 1), "{lines:?}");
        assert!(lines[0]["said"].as_str().unwrap().contains(text), "{lines:?}");
        assert!(lines[0]["request.run"].is_string(), "{lines:?}");
        rig.sandbox.set_faults(Vec::new()).unwrap();
        rig.created(20 * (n as u64 + 1)).await;
    }
    assert!(process.logged().contains("the gate is open again"));
}

#[test]
fn every_message_of_the_page_stands_in_the_code() {
    fn sources(dir: &std::path::Path, into: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                into.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut code = String::new();
    sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    for message in page().keys() {
        assert!(code.contains(&format!("\"{message}\"")), "{message}");
    }
}

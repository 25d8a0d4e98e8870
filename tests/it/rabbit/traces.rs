//! A trace that the enqueuer began is found again wherever the request went: at the API, in what was looked up, in the
//! result and in the log.

use lapin::types::AMQPValue;
use serde_json::json;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::Options;

use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, Node};
use crate::support::rig::{Rig, body, properties};

/// The trace's id in a `traceparent`.
fn trace_id(parent: &str) -> &str {
    parent.split('-').nth(1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_found_again_in_the_look_the_post_the_result_and_the_log() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    // Answers get lost, so that there is something to look up.
    let lost = json!({ "faults": [{ "call": "create", "times": 2, "do": { "reset": { "applied": true } } }] });
    let node = Node::shared();
    let options = Options::default().patched(&lost).unwrap();
    let rig = Rig::with(Lane::new(&node, QueueType::Quorum), options).await;
    let spec = Spec::new(&node.url, &rig.lane.queues, &rig.sandbox.base_url, "50/s");
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;

    // One of any AMQP client, which brings its trace, and one of `sluice enqueue`, which begins one.
    let client = rig.lane.client().await;
    let with_trace = properties("1");
    let mut headers = with_trace.headers().clone().unwrap();
    headers.insert("traceparent".into(), AMQPValue::LongString(PARENT.into()));
    headers.insert("tracestate".into(), AMQPValue::LongString("vendor=1".into()));
    let requests = rig.lane.queues.requests();
    client.publish(&requests, &body("theirs", 1), with_trace.with_headers(headers)).await;
    let plan = dir.path().join("plan.jsonl");
    std::fs::write(&plan, body("ours", 1)).unwrap();
    let enqueued = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["enqueue", "--batch", "wave-1"])
        .arg(&plan)
        .env("SLUICE_BROKER__URL", &node.url)
        .env("SLUICE_QUEUES__PREFIX", &rig.lane.queues.prefix)
        .output()
        .unwrap();
    assert!(enqueued.status.success(), "{}", String::from_utf8_lossy(&enqueued.stderr));
    let results = rig.results(2).await;

    let calls = rig.sandbox.calls();
    for result in &results {
        let source = &result.data.source_server_id;
        let parent = result.traceparent.as_deref().expect("the result has the trace");
        let id = trace_id(parent).to_owned();
        if source == "theirs" {
            assert_eq!((parent, result.tracestate.as_deref()), (PARENT, Some("vendor=1")));
        } else {
            assert_eq!(id, result.data.request_id.replace('-', ""), "found by the message id");
        }
        for method in ["POST", "GET"] {
            let made = calls.iter().filter(|call| {
                call.method == method && call.source_server_id.as_deref() == Some(source)
            });
            let made: Vec<_> = made.collect();
            assert!(!made.is_empty(), "no {method} for {source}");
            for call in made {
                let seen = call.traceparent.as_deref().map(trace_id);
                assert_eq!(seen, Some(&*id), "{call:?}");
            }
        }
        let settled = process.logged();
        let settled = settled
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find(|line| line["message"] == "settled" && line["source_server_id"] == **source);
        assert_eq!(settled.expect("a line of the log")["trace_id"], *id);
    }
    rig.nothing_left_and_nothing_twice().await;
    assert_eq!(process.stop().await, Some(0));
}

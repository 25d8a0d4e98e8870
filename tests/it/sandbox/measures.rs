//! Quota and statistics: exact, whatever the clients do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::sandbox::{Kind, Latency, Options, QuotaOptions, What};

use super::{Rig, body, rig, seconds, told, with};

async fn limited(limits: &[&str], retry_after: bool, count_refused: bool) -> Rig {
    let limits = limits.iter().map(|limit| limit.parse().unwrap()).collect();
    let quota = QuotaOptions { limits, retry_after, count_refused, ..QuotaOptions::default() };
    rig(Options { quota, ..Options::default() }).await
}

#[tokio::test]
async fn a_full_window_is_429_with_the_documented_text() {
    let rig = limited(&["20/min", "300/h"], true, true).await;
    for n in 0..20 {
        assert_eq!(rig.post(&body(&n.to_string())).await.unwrap().status(), 200);
    }
    let response = rig.post(&body("s")).await.unwrap();
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    let (status, answer) = told(response).await;
    assert_eq!(status, 429);
    assert_eq!(answer["error_code"], "APIGW.0308");
    let text = "The throttling threshold has been reached: policy user over ratelimit,limit:20,time:1 minute";
    assert_eq!(answer["error_msg"], text);
    assert_eq!(answer["request_id"].as_str().unwrap().len(), 32);
    assert_eq!(rig.sandbox.stats(&[]).answers["429"], 1);
    let hour = &rig.sandbox.stats(&[]).windows[1];
    assert_eq!((hour.limit, hour.max_calls), (Some(300), 21));
}

#[tokio::test]
async fn every_call_but_a_login_counts_and_no_header_is_sent_unless_asked_for() {
    let rig = limited(&["3/h"], false, true).await;
    let url = rig.url("/v3/auth/tokens");
    assert_eq!(rig.client.post(url).body("{}").send().await.unwrap().status(), 400);
    assert_eq!(rig.get("/v3/tasks").await.0, 200);
    assert_eq!(rig.get("/v3/sources/s1").await.0, 200);
    assert_eq!(rig.get("/v3/tasks/none").await.0, 400);
    let response = rig.post(&body("s1")).await.unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().get("retry-after").is_none());
}

/// A client that keeps the spacing sees no refusal; one that hammers keeps a gateway shut that counts refused calls.
#[tokio::test]
async fn the_quota_slides_with_the_arrivals() {
    let rig = limited(&["5/200ms"], false, false).await;
    let start = Instant::now();
    let mut passed = 0;
    while start.elapsed() < seconds(1.0) {
        passed += u32::from(rig.get("/v3/tasks?limit=1").await.0 == 200);
    }
    let stats = rig.sandbox.stats(&[seconds(0.2)]);
    assert!((10..=30).contains(&passed), "{passed}");
    assert_eq!(stats.answers["200"], u64::from(passed));
    // What passed, recounted from the log, never had more than five in any window.
    let mut moments: Vec<_> = rig
        .sandbox
        .calls()
        .into_iter()
        .filter(|c| c.status == Some(200))
        .map(|c| c.started)
        .collect();
    moments.sort();
    for pair in moments.windows(6) {
        // The log's wall clock may be stepped by microseconds against the steady one that the quota uses.
        assert!(pair[5].duration_since(pair[0]).as_secs_f64() >= 0.1999, "{pair:?}");
    }
    let counting = limited(&["5/10s"], false, true).await;
    for n in 0..20 {
        assert_eq!(counting.get("/v3/tasks").await.0 == 200, n < 5);
    }
}

#[tokio::test]
async fn inversions_are_counted_among_creates_that_did_not_overlap() {
    let rig = rig(Options::default()).await;
    for (source, priority) in [("a", 5), ("b", 1), ("c", 65_535), ("d", 5)] {
        let posted = rig.post(&with(source, "priority", json!(priority))).await.unwrap();
        assert_eq!(posted.status(), 200);
    }
    // a before c; b before c and d.
    let order = rig.sandbox.stats(&[]).order;
    assert_eq!((order.creates, order.inversions), (4, 3));
    assert_eq!((order.made, order.inversions_among_made), (4, 3));
    // A refused one counts among all, not among those that made a task.
    rig.post(&with("a", "priority", json!(9))).await.unwrap();
    let order = rig.sandbox.stats(&[]).order;
    assert_eq!((order.inversions, order.inversions_among_made), (6, 3));

    rig.sandbox.reset(true);
    rig.sandbox.set_options(slow()).unwrap();
    let posts = [("a", 1), ("b", 9)]
        .map(|(source, priority)| (with(source, "priority", json!(priority)), source));
    let (first, second) = tokio::join!(rig.post(&posts[0].0), rig.post(&posts[1].0));
    assert_eq!(
        (first.unwrap().status(), second.unwrap().status()),
        (200.try_into().unwrap(), 200.try_into().unwrap())
    );
    let stats = rig.sandbox.stats(&[]);
    assert_eq!(stats.order.inversions, 0, "they overlapped");
    assert_eq!((stats.max_in_flight, stats.max_creates_in_flight), (2, 2));
}

fn slow() -> Options {
    Options {
        latency: Latency { fixed: seconds(0.1), jitter: Duration::ZERO },
        ..Options::default()
    }
}

#[tokio::test]
async fn the_log_tells_of_each_create_all_that_arrived() {
    use sha2::Digest as _;
    let rig = rig(Options { log_capacity: 5, ..Options::default() }).await;
    let sent = body("s1").to_string();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let post = rig.client.post(rig.url("/v3/tasks")).header("X-Auth-Token", super::TOKEN);
    let post = post.header("traceparent", trace).header("Content-Type", "application/json");
    let response = post.body(sent.clone()).send().await.unwrap();
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let call = rig.sandbox.calls().remove(0);
    assert_eq!((call.call, call.kind, call.status), (1, Kind::Create, Some(200)));
    assert_eq!((call.source_server_id.as_deref(), call.priority), (Some("s1"), Some(1)));
    assert_eq!((call.traceparent.as_deref(), call.request_id), (Some(trace), request_id));
    let digest = hex::encode(sha2::Sha256::digest(&sent));
    assert_eq!((call.body_sha256, call.body_bytes), (Some(digest), sent.len()));

    for _ in 0..10 {
        rig.get("/v3/tasks?limit=1").await;
    }
    let log = rig
        .client
        .get(rig.url("/sandbox/log?since=11"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines.len(),
        1,
        "the log keeps five of twelve events, and one is after number 11: {lines:?}"
    );
    assert_eq!((&lines[0]["number"], &lines[0]["event"]), (&json!(12), &json!("call")));
    assert_eq!(rig.sandbox.log().len(), 5);
    assert!(rig.sandbox.log().iter().all(|event| matches!(event.what, What::Call(_))));
}

#[tokio::test]
async fn statistics_are_given_over_http_for_any_window() {
    let rig = rig(Options::default()).await;
    for n in 0..3 {
        rig.create(&n.to_string()).await;
    }
    let url = rig.url("/sandbox/stats?window=1m&window=1ms");
    let (status, seen) = told(rig.client.get(url).send().await.unwrap()).await;
    assert_eq!(status, 200);
    assert_eq!(seen["windows"][0]["max_calls"], 3);
    assert_eq!(seen["calls"]["create"], 3);
    assert_eq!(seen["tasks"]["by_state"]["READY"], 3);
    assert_eq!(seen["created_twice"]["sources"], 0);
    let wrong = rig.client.get(rig.url("/sandbox/stats?window=often")).send().await.unwrap();
    assert_eq!(wrong.status(), 400);
}

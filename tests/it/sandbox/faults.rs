//! Each fault, by what a client sees of it.

use std::error::Error as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::sandbox::{
    Action, Applied, Canned, Fault, Kind, Late, Latency, Options, Sandbox, Slow, What,
};

use super::{Rig, body, code, rig, seconds, told};

use crate::support::rabbit::SOON;
use crate::support::wait::{self, until_so};

async fn faulty(faults: Vec<Fault>) -> Rig {
    rig(Options { faults, ..Options::default() }).await
}

async fn once(action: Action) -> Rig {
    faulty(vec![Fault { times: 1, ..Fault::on_create(action) }]).await
}

/// All that is known of why a call failed.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

const APPLIED: Applied = Applied { applied: true };
const DROPPED: Applied = Applied { applied: false };

#[tokio::test]
async fn a_reset_is_seen_as_a_reset_before_and_after_processing() {
    for (applied, tasks) in [(DROPPED, 0), (APPLIED, 1)] {
        let rig = once(Action::Reset(applied)).await;
        let error = rig.post(&body("s1")).await.unwrap_err();
        assert!(chain(&error).contains("reset by peer"), "{}", chain(&error));
        assert_eq!(rig.sandbox.tasks().len(), tasks);
        let call = &rig.sandbox.calls()[0];
        assert_eq!((call.status, call.fault.as_deref()), (None, Some("reset")));
        assert_eq!(call.task_id.is_some(), applied.applied);
    }
}

#[tokio::test]
async fn a_close_without_an_answer_is_seen_as_one() {
    for (applied, tasks) in [(DROPPED, 0), (APPLIED, 1)] {
        let rig = once(Action::Close(applied)).await;
        let error = chain(&rig.post(&body("s1")).await.unwrap_err());
        assert!(error.contains("connection closed before message completed"), "{error}");
        assert_eq!(rig.sandbox.tasks().len(), tasks);
    }
}

#[tokio::test]
async fn garbage_is_not_http_and_a_page_of_html_is_not_json() {
    let rig = once(Action::Garbage(APPLIED)).await;
    let error = chain(&rig.post(&body("s1")).await.unwrap_err());
    assert!(error.contains("invalid HTTP version parsed"), "{error}");
    assert_eq!(rig.sandbox.tasks().len(), 1);

    let rig = once(Action::NotJson(DROPPED)).await;
    let response = rig.post(&body("s1")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/html".parse().unwrap())
    );
    assert!(matches!(told(response).await.1, Value::String(html) if html.starts_with("<html>")));
    assert!(rig.sandbox.tasks().is_empty());
}

#[tokio::test]
async fn a_success_without_an_id_may_have_been_applied() {
    let rig = once(Action::NoId(APPLIED)).await;
    assert_eq!(told(rig.post(&body("s1")).await.unwrap()).await, (200, json!({})));
    assert_eq!(rig.sandbox.tasks().len(), 1);
}

#[tokio::test]
async fn a_canned_answer_takes_the_place_of_processing_or_follows_it() {
    let canned = Canned {
        status: 503,
        code: "APIGW.0613".to_owned(),
        message: "IAM is unavailable".to_owned(),
        headers: [("Retry-After".to_owned(), "7".to_owned())].into(),
        ..Canned::default()
    };
    let rig = faulty(vec![
        Fault { nth: vec![1], ..Fault::on_create(Action::Answer(canned.clone())) },
        Fault {
            ..Fault::on_create(Action::Answer(Canned {
                applied: true,
                body: Some("no".into()),
                ..canned
            }))
        },
    ])
    .await;
    let response = rig.post(&body("s1")).await.unwrap();
    assert_eq!(response.headers()["retry-after"], "7");
    let (status, answer) = told(response).await;
    assert_eq!((status, code(&answer)), (503, "APIGW.0613"));
    assert!(rig.sandbox.tasks().is_empty());
    assert_eq!(told(rig.post(&body("s1")).await.unwrap()).await, (503, json!("no")));
    assert_eq!(rig.sandbox.tasks().len(), 1);
}

#[tokio::test]
async fn a_late_create_is_applied_after_the_connection_broke() {
    for reset in [true, false] {
        let rig = once(Action::Late(Late { by: seconds(1.0), reset })).await;
        let start = Instant::now();
        let error = chain(&rig.post(&body("s1")).await.unwrap_err());
        assert_eq!(error.contains("reset by peer"), reset, "{error}");
        assert_eq!(rig.get("/v3/tasks?source_server_id=s1").await.1["count"], 0);
        assert!(start.elapsed() < seconds(1.0), "too slow a machine to see the difference");
        wait::until(
            SOON,
            async || match &rig.get("/v3/tasks?source_server_id=s1").await.1["count"] {
                count if count == 1 => Ok(()),
                count => Err(format!("{count} tasks")),
            },
        )
        .await;
        assert!(start.elapsed() >= seconds(1.0), "{:?}", start.elapsed());
        let applied =
            rig.sandbox.log().into_iter().any(|event| {
                matches!(&event.what, What::Applied { call: 1, task_id: Some(_), .. })
            });
        assert!(applied);
    }
}

#[tokio::test]
async fn a_late_create_breaks_the_one_task_rule_of_nobody() {
    let rig = once(Action::Late(Late { by: seconds(0.2), reset: true })).await;
    rig.post(&body("s1")).await.unwrap_err();
    rig.create("s1").await;
    until_so("refused late", || {
        rig.sandbox.log().into_iter().any(|event| {
            matches!(&event.what, What::Applied { error_code: Some(code), .. } if code == "SMS.7605")
        })
    })
    .await;
    assert_eq!(rig.sandbox.tasks().len(), 1);
}

#[tokio::test]
async fn a_delayed_call_is_processed_even_if_the_client_gives_up() {
    let delay = Latency { fixed: seconds(1.0), jitter: Duration::ZERO };
    let rig = faulty(vec![Fault { delay, ..Fault::on_create(Action::Nothing) }]).await;
    let post = rig.client.post(rig.url("/v3/tasks")).header("X-Auth-Token", super::TOKEN);
    let error = post.json(&body("s1")).timeout(seconds(0.1)).send().await.unwrap_err();
    assert!(error.is_timeout());
    assert!(rig.sandbox.tasks().is_empty());
    until_so("processed", || rig.sandbox.tasks().len() == 1).await;
    until_so("abandoned", || rig.sandbox.calls().first().is_some_and(|call| call.abandoned)).await;
}

#[tokio::test]
async fn a_hanging_call_answers_nothing_and_a_late_answer_comes() {
    let rig = once(Action::Hang(APPLIED)).await;
    let post = rig.client.post(rig.url("/v3/tasks")).header("X-Auth-Token", super::TOKEN);
    assert!(post.json(&body("s1")).timeout(seconds(0.2)).send().await.unwrap_err().is_timeout());
    assert_eq!(rig.sandbox.tasks().len(), 1);

    let answer_delay = Latency { fixed: seconds(0.2), jitter: seconds(0.1) };
    let rig = faulty(vec![Fault { answer_delay, ..Fault::on_create(Action::Nothing) }]).await;
    let start = Instant::now();
    rig.create("s1").await;
    assert!(start.elapsed() >= seconds(0.2));
    let task = &rig.sandbox.tasks()[0];
    let call = &rig.sandbox.calls()[0];
    assert!(call.ended.duration_since(task.created).as_secs_f64() >= 0.199);
}

#[tokio::test]
async fn a_body_comes_slowly_or_only_half() {
    let rig = once(Action::Slow(Slow { bytes_per_second: 100 })).await;
    let start = Instant::now();
    assert_eq!(told(rig.post(&body("s1")).await.unwrap()).await.0, 200);
    // {"id":"..."} has 41 bytes.
    assert!(start.elapsed() >= seconds(0.4), "{:?}", start.elapsed());

    let rig = once(Action::Truncated).await;
    let response = rig.post(&body("s1")).await.unwrap();
    assert_eq!(response.headers()["content-length"], "41");
    let error = chain(&response.text().await.unwrap_err());
    assert!(error.contains("end of file before message length reached"), "{error}");
    assert_eq!(rig.sandbox.tasks().len(), 1);
}

#[tokio::test]
async fn a_script_is_set_while_it_runs_and_names_who_is_struck() {
    let rig = rig(Options::default()).await;
    let script = r#"[
        {"name": "one server", "call": "create", "source": "s2", "do": {"answer": {"status": 500}}},
        {"path": "/v3/sources", "do": {"answer": {"status": 502, "code": "APIGW.0201"}}},
        {"call": "list", "every": 2, "do": {"close": {}}}
    ]"#;
    let put = rig.client.put(rig.url("/sandbox/faults")).body(script).send().await.unwrap();
    assert_eq!(put.status(), 204);
    assert_eq!(rig.post(&body("s1")).await.unwrap().status(), 200);
    assert_eq!(rig.post(&body("s2")).await.unwrap().status(), 500);
    assert_eq!(rig.get("/v3/sources/s1").await.0, 502);
    assert_eq!(rig.get("/v3/tasks").await.0, 200);
    let list = rig.client.get(rig.url("/v3/tasks")).header("X-Auth-Token", super::TOKEN);
    assert!(list.send().await.is_err());
    let struck: Vec<u64> = rig.sandbox.faults().iter().map(|count| count.struck).collect();
    assert_eq!(struck, [1, 1, 1]);
    let named: Vec<_> = rig.sandbox.calls().into_iter().filter_map(|call| call.fault).collect();
    assert_eq!(named, ["one server", "answer", "close"]);

    let wrong = rig.client.put(rig.url("/sandbox/faults")).body(r#"[{"probability": 2}]"#);
    let (status, why) = told(wrong.send().await.unwrap()).await;
    assert_eq!(status, 400);
    assert!(why.as_str().unwrap().contains("faults[0].probability"), "{why}");
}

#[tokio::test]
async fn a_call_that_the_quota_refused_does_not_use_up_a_fault() {
    let mut options = Options {
        faults: vec![Fault { nth: vec![2], ..Fault::on_create(Action::Truncated) }],
        ..Options::default()
    };
    options.quota.limits = vec!["1/h".parse().unwrap()];
    let rig = rig(options).await;
    rig.create("s1").await;
    assert_eq!(rig.post(&body("s2")).await.unwrap().status(), 429);
    assert_eq!(rig.sandbox.faults()[0].fitted, 1);
    assert_eq!(rig.calls(Kind::Create), 2);
}

#[tokio::test]
async fn a_stopped_sandbox_closes_its_connections_and_can_come_back() {
    let rig = once(Action::Hang(DROPPED)).await;
    let Rig { sandbox, client } = rig;
    let url = format!("{}/v3/tasks", sandbox.base_url);
    let listen = sandbox.base_url.strip_prefix("http://").unwrap().parse().unwrap();
    let post = client.post(&url).header("X-Auth-Token", super::TOKEN).json(&body("s1"));
    let hanging = tokio::spawn(post.send());
    until_so("called", || sandbox.stats(&[]).calls(Kind::Create) > 0).await;
    sandbox.stop().await;
    assert!(hanging.await.unwrap().is_err());
    let refused = client.get(&url).send().await.unwrap_err();
    assert!(refused.is_connect(), "{}", chain(&refused));
    let sandbox = Sandbox::start(Options { listen, ..Options::default() }).await.unwrap();
    let get = client.get(&url).header("X-Auth-Token", super::TOKEN);
    assert_eq!(get.send().await.unwrap().status(), 200);
    drop(sandbox);
}

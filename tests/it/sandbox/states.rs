//! Tasks as time goes by, and the control API.

use std::time::Instant;

use serde_json::{Value, json};
use sluicegate::sandbox::{NewTask, Options, TaskOptions, What};

use super::{Rig, body, code, rig, seconds, told, with};

use crate::support::rabbit::SOON;
use crate::support::wait;

fn tasks(ready: f64, running: f64, max_running: u32) -> Options {
    let (ready, running) = (seconds(ready), seconds(running));
    let tasks = TaskOptions { ready, running, max_running, ..TaskOptions::default() };
    Options { tasks, ..Options::default() }
}

/// Asks until the answer fits; what is asked changes with time alone.
async fn until(rig: &Rig, path: &str, fits: impl Fn(&Value) -> bool) {
    wait::until(SOON, async || match rig.get(path).await {
        (_, answer) if fits(&answer) => Ok(()),
        (_, answer) => Err(format!("{path}: {answer}")),
    })
    .await;
}

#[tokio::test]
async fn tasks_run_and_succeed_and_no_more_than_allowed_at_once() {
    let mut options = tasks(60.0, 600.0, 3);
    options.time_scale = 3000.0;
    let rig = rig(options).await;
    let sources = (0..9).map(|n| n.to_string());
    let new = |source_server_id| NewTask { source_server_id, ..NewTask::default() };
    rig.sandbox.preload(sources.map(new).collect());
    until(&rig, "/v3/tasks?state=MIGRATE_SUCCESS", |page| page["count"] == 9).await;
    let stats = rig.sandbox.stats(&[]);
    assert_eq!((stats.tasks.max_running, stats.tasks.running), (3, 0));
    let to_running = rig.sandbox.log().into_iter().filter(|event| {
        matches!(&event.what, What::Task { from: Some(from), to: Some(to), .. }
            if from == "READY" && to == "RUNNING")
    });
    let moments: Vec<_> = to_running.map(|event| event.at).collect();
    // Three places and 0.2 s a migration: the last three start 0.4 s after the first, to the log's own clock.
    let apart = moments[8].duration_since(moments[0]).as_secs_f64();
    assert!((0.399..0.401).contains(&apart), "{apart}");
}

#[tokio::test]
async fn some_migrations_fail_as_often_as_configured() {
    let mut options = tasks(0.0, 0.0, 100);
    options.tasks.fail_probability = 0.5;
    let rig = rig(options).await;
    rig.sandbox.preload(
        (0..1000)
            .map(|n| NewTask { source_server_id: n.to_string(), ..NewTask::default() })
            .collect(),
    );
    let states = rig.sandbox.stats(&[]).tasks.by_state;
    assert!((400..600).contains(&states["MIGRATE_FAIL"]), "{states:?}");
    assert_eq!(states["MIGRATE_FAIL"] + states["MIGRATE_SUCCESS"], 1000);
}

#[tokio::test]
async fn auto_start_false_waits_for_the_start_action() {
    let rig = rig(tasks(0.0, 3600.0, 100)).await;
    let waits = with("s1", "auto_start", json!(false));
    let (_, answer) = told(rig.post(&waits).await.unwrap()).await;
    let id = answer["id"].as_str().unwrap();
    rig.create("s2").await;
    until(&rig, "/v3/tasks?state=RUNNING", |page| page["count"] == 1).await;
    let path = format!("/v3/tasks/{id}");
    assert_eq!(rig.get(&path).await.1["state"], "READY");
    let act = |operation| {
        let post = rig.client.post(rig.url(&format!("{path}/action")));
        post.header("X-Auth-Token", super::TOKEN).json(&json!({"operation": operation})).send()
    };
    assert_eq!(act("start").await.unwrap().status(), 200);
    until(&rig, &path, |task| task["state"] == "RUNNING").await;
    assert_eq!(act("stop").await.unwrap().status(), 200);
    assert_eq!(rig.get(&path).await.1["state"], "ABORT");
    let delete = rig.client.delete(rig.url(&path)).header("X-Auth-Token", super::TOKEN);
    assert_eq!(delete.send().await.unwrap().status(), 200);
    assert_eq!(code(&rig.get(&path).await.1), "SMS.7703");
}

#[tokio::test]
async fn a_new_task_is_hidden_from_listings_for_the_configured_delay() {
    let mut options = tasks(1.0, 1.0, 100);
    options.tasks.listing_delay = seconds(0.3);
    let rig = rig(options).await;
    let start = Instant::now();
    let id = rig.create("s1").await;
    let (_, page) = rig.get("/v3/tasks?source_server_id=s1").await;
    assert_eq!(page["count"], 0);
    assert_eq!(code(&rig.get(&format!("/v3/tasks/{id}")).await.1), "SMS.7703");
    assert_eq!(rig.get("/v3/sources/s1").await.1["current_task"], json!(null));
    assert_eq!(rig.post(&body("s1")).await.unwrap().status(), 400, "the rule itself sees it");
    until(&rig, "/v3/tasks?source_server_id=s1", |page| page["count"] == 1).await;
    assert!(start.elapsed() >= seconds(0.3));
}

#[tokio::test]
async fn the_control_api_preloads_finishes_deletes_and_resets() {
    let rig = rig(tasks(1.0, 60.0, 100)).await;
    let url = |path: &str| rig.url(&format!("/sandbox/{path}"));
    let preload = r#"[{"source_server_id": "s1", "state": "RUNNING", "age_seconds": 86400}]"#;
    let answer = rig.client.post(url("tasks")).body(preload).send().await.unwrap();
    let (status, answer) = told(answer).await;
    assert_eq!(status, 201);
    let id = answer["ids"][0].as_str().unwrap();
    let (_, task) = rig.get(&format!("/v3/tasks/{id}")).await;
    let age = jiff::Timestamp::now().as_millisecond() - task["create_date"].as_i64().unwrap();
    assert!((86_400_000..86_460_000).contains(&age), "{age}");

    let finish = rig.client.put(url(&format!("tasks/{id}"))).body(r#"{"state": "MIGRATE_FAIL"}"#);
    assert_eq!(finish.send().await.unwrap().status(), 204);
    assert_eq!(rig.get(&format!("/v3/tasks/{id}")).await.1["state"], "MIGRATE_FAIL");
    let delete =
        async || rig.client.delete(url(&format!("tasks/{id}"))).send().await.unwrap().status();
    assert_eq!(delete().await, 204);
    assert_eq!(delete().await, 404);

    rig.create("s2").await;
    let reset = rig.client.post(url("reset?tasks=true")).send().await.unwrap();
    assert_eq!(reset.status(), 204);
    let seen = rig.sandbox.stats(&[]);
    assert_eq!((seen.tasks.total, seen.tasks.created, seen.calls.len()), (0, 0, 0));
    assert_eq!(rig.client.get(rig.url("/sandbox")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn options_are_patched_while_it_runs_and_nonsense_is_refused() {
    let rig = rig(tasks(0.0, 3600.0, 1)).await;
    for n in 0..3 {
        rig.create(&format!("s{n}")).await;
    }
    let patch = async |patch: Value| {
        let sent = rig.client.patch(rig.url("/sandbox/options")).body(patch.to_string());
        told(sent.send().await.unwrap()).await
    };
    let (status, options) = patch(json!({"tasks": {"max_running": 2}, "account": "frozen"})).await;
    assert_eq!((status, &options["tasks"]["max_running"]), (200, &json!(2)));
    assert_eq!(rig.sandbox.stats(&[]).tasks.running, 2);
    assert_eq!(code(&rig.get("/v3/tasks").await.1), "SMS.6525");
    let (status, why) = patch(json!({"tasks": {"jitter": 3}})).await;
    assert_eq!(status, 400);
    assert!(why.as_str().unwrap().contains("tasks.jitter"), "{why}");
    let thaw = rig.client.put(rig.url("/sandbox/account")).body(r#"{"state": "ok"}"#);
    assert_eq!(thaw.send().await.unwrap().status(), 204);
    assert_eq!(rig.get("/v3/tasks").await.0, 200);
}

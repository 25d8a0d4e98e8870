//! Each alert of `config/prometheus/` fires for real: a real Prometheus with the real rules, a real worker that is given
//! the reason. Only the times are shorter: ranges of five seconds, no waiting, and held too long after one second.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;
use sluicegate::sandbox::{Account, Fault, NewTask, Options, Sandbox};

use super::monitoring::{
    Process, answer, command, enqueue, free_address, prometheus, query, source_server, worker,
};
use super::peers::without_lane;
use crate::support::rabbit::{Client, Lane, Node, OwnNode};
use crate::support::wait;

/// What an alert may take from its reason to its firing.
const FIRES: Duration = Duration::from_secs(60);

/// The shipped rules with shorter times.
fn hurried_rules() -> String {
    let rules = include_str!("../../../config/prometheus/sluicegate.rules.yml");
    let mut hurried = rules.replace("_seconds > 1500", "_seconds > 1");
    // The loop turns every second, so most scrapes see it later than this.
    hurried = hurried.replace("sluice_loop_age_seconds > 30", "sluice_loop_age_seconds > 0.02");
    assert_ne!(hurried, rules, "the threshold of what is held too long");
    for range in ["1m", "2m", "5m", "10m", "15m", "30m", "1h", "6h"] {
        hurried = hurried.replace(&format!("[{range}]"), "[5s]");
    }
    let hurried: Vec<&str> =
        hurried.lines().filter(|line| !line.trim_start().starts_with("for: ")).collect();
    hurried.join("\n")
}

/// A Prometheus and which alerts have not fired yet.
struct Alerts {
    prometheus: String,
    silent: BTreeSet<String>,
}

impl Alerts {
    fn of(rules: &str, prometheus: &str) -> Self {
        let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        Self { prometheus: prometheus.to_owned(), silent: names.map(str::to_owned).collect() }
    }

    /// Waits until each of these has fired.
    async fn fire(&mut self, alerts: &[&str]) {
        wait::until(FIRES, async || {
            let fired = "count_over_time(ALERTS{alertstate=\"firing\"}[10m])";
            for alert in query(&self.prometheus, fired).await {
                self.silent.remove(alert["metric"]["alertname"].as_str().unwrap());
            }
            let silent: Vec<_> =
                alerts.iter().filter(|name| self.silent.contains(**name)).collect();
            if silent.is_empty() { Ok(()) } else { Err(format!("{silent:?} did not fire")) }
        })
        .await;
    }
}

fn fault(rule: &str) -> Vec<Fault> {
    serde_json::from_str(rule).unwrap()
}

/// A request that has been tried before, for a source server that has somebody else's task.
async fn foreign_task(lane: &Lane, node: &Node, sandbox: &Sandbox) {
    let mut task: Value = serde_json::json!({ "name": "theirs", "state": "RUNNING" });
    task["source_server_id"] = source_server(1000).into();
    let task: NewTask = serde_json::from_value(task).unwrap();
    sandbox.preload(vec![task]);
    let mut body: Value =
        serde_json::from_str(include_str!("../../data/create-task-example.json")).unwrap();
    body["source_server"]["id"] = source_server(1000).into();
    let mut headers = FieldTable::default();
    headers.insert("x-sluice-replay".into(), AMQPValue::LongString("1".into()));
    let properties = BasicProperties::default().with_headers(headers);
    let client = Client::connect(&node.url).await;
    client.publish(&lane.queues.requests(), &serde_json::to_vec(&body).unwrap(), properties).await;
}

/// A request that has waited for longer than the objective allows.
async fn late(lane: &Lane, node: &Node) {
    let mut body: Value =
        serde_json::from_str(include_str!("../../data/create-task-example.json")).unwrap();
    body["source_server"]["id"] = source_server(1001).into();
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(9);
    let mut headers = FieldTable::default();
    headers.insert("x-sluice-enqueued-at".into(), AMQPValue::LongString(at.to_string().into()));
    let properties = BasicProperties::default().with_headers(headers);
    let client = Client::connect(&node.url).await;
    client.publish(&lane.queues.requests(), &serde_json::to_vec(&body).unwrap(), properties).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_file_that_cannot_be_written_fires_its_alert() {
    let own = OwnNode::start();
    let node = &own.node;
    let lane = Lane::new(node, QueueType::Quorum);
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let (listen, web) = (free_address(), free_address());
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let keys = ["window.max_bytes=16KiB", "limits.rates=1/min"];
    let mut command = command(&lane, node, &sandbox, &listen, &keys);
    let _worker = Process::start(command.env("TMPDIR", &nowhere));
    answer(&format!("http://{listen}/readyz")).await;
    let (rules, path) = (hurried_rules(), dir.path().join("rules.yml"));
    std::fs::write(&path, &rules).unwrap();
    let _prometheus = prometheus(dir.path(), &path, &listen, &web);
    answer(&format!("http://{web}/-/ready")).await;
    let mut alerts = Alerts::of(&rules, &web);
    // Prometheus counts what increases after its first look.
    wait::until(FIRES, async || {
        let seen = query(&web, "sluice_spill_failures_total").await;
        if seen.is_empty() { Err("nothing was scraped yet".to_owned()) } else { Ok(()) }
    })
    .await;
    enqueue(&lane, node, 0, 100).await;
    alerts.fire(&["SluiceSpillFails"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_alert_fires_when_there_is_its_reason() {
    let own = OwnNode::start();
    let node = &own.node;
    let lane = Lane::new(node, QueueType::Quorum);
    let mut options = Options::default();
    // Renewed in time, and yet always close to its end.
    options.auth.token_life = Duration::from_secs(300);
    let sandbox = Sandbox::start(options).await.unwrap();
    let (listen, web) = (free_address(), free_address());
    let keys = [
        "halt.probe=1s",
        "retry.initial=100ms",
        "retry.max=1s",
        "api.timeout=2s",
        "api.connect_timeout=1s",
        "api.look_again=3s",
    ];
    // Somebody is heard as the active worker.
    topology::apply(&lane.settings, &lane.queues).await.unwrap();
    let foreign = Client::connect(&node.url).await;
    super::heals::consume(&foreign, &lane.queues.active()).await;
    // Its log cannot be written.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let worker = worker(&lane, node, &sandbox, &listen, &keys, full.into());
    let dir = tempfile::tempdir().unwrap();
    let (rules, path) = (hurried_rules(), dir.path().join("rules.yml"));
    std::fs::write(&path, &rules).unwrap();
    let _prometheus = prometheus(dir.path(), &path, &listen, &web);
    answer(&format!("http://{web}/-/ready")).await;
    let mut alerts = Alerts::of(&rules, &web);
    // Of a worker of its own: a_temporary_file_that_cannot_be_written_fires_its_alert
    alerts.silent.remove("SluiceSpillFails");
    alerts.fire(&["SluiceForeignActive"]).await;
    // Somebody is on the requests before the worker.
    let other = Client::connect(&node.url).await;
    super::heals::consume(&other, &lane.queues.requests()).await;
    foreign.connection.close(200, "done".into()).await.unwrap();
    answer(&format!("http://{listen}/readyz")).await;
    alerts.fire(&["SluiceOtherConsumer", "SluiceLoopStuck", "SluiceLogDropped"]).await;
    other.connection.close(200, "done".into()).await.unwrap();
    enqueue(&lane, node, 0, 1).await;
    alerts.fire(&["SluiceTokenExpires"]).await;
    late(&lane, node).await;
    alerts.fire(&["SluiceSettledLate", "SluiceSettledLateSlowly"]).await;

    let client = Client::connect(&node.url).await;
    client.publish(&lane.queues.requests(), b"{}", BasicProperties::default()).await;
    alerts.fire(&["SluiceDeadLettersGrow", "SluiceDeadLettersWait"]).await;
    foreign_task(&lane, node, &sandbox).await;
    alerts.fire(&["SluiceForeignTasks"]).await;
    let throttled = r#"[{ "call": "create", "times": 1, "do": { "answer":
        { "status": 429, "code": "APIGW.0308", "message": "limit:100,time:1 second" } } }]"#;
    sandbox.set_faults(fault(throttled)).unwrap();
    enqueue(&lane, node, 1, 1).await;
    alerts.fire(&["SluiceThrottled"]).await;

    let letters = lane.queues.dead_letters();
    let pattern = format!("^{}$", letters.replace('.', "\\."));
    let full = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    node.script("ctl", &["set_policy", "--apply-to", "queues", "full", &pattern, full]).await;
    // A policy takes a moment.
    wait::until(FIRES, async || {
        client.publish(&lane.queues.requests(), b"{}", BasicProperties::default()).await;
        let metrics = without_lane(&answer(&format!("http://{listen}/metrics")).await);
        let refused = metrics.contains("state=\"unpublished\"} 0");
        if refused { Err("all dead letters are taken".to_owned()) } else { Ok(()) }
    })
    .await;
    alerts.fire(&["SluiceUnpublished"]).await;
    node.script("ctl", &["clear_policy", "full"]).await;

    // Looks too: one that succeeds shows that the service works.
    let failing = r#"[{ "do": { "answer": { "status": 400, "code": "SMS.6000" } } }]"#;
    sandbox.set_faults(fault(failing)).unwrap();
    enqueue(&lane, node, 2, 400).await;
    alerts.fire(&["SluiceBreakerShut"]).await;
    sandbox.set_account(Account::Frozen);
    sandbox.set_faults(Vec::new()).unwrap();
    alerts.fire(&["SluiceGateHalted", "SluiceRateUnused", "SluiceHeldTooLong"]).await;
    // No session lives for `look_again`, and all that is held is in doubt.
    wait::until(FIRES, async || {
        node.script("ctl", &["close_all_connections", "too soon"]).await;
        let metrics = without_lane(&answer(&format!("http://{listen}/metrics")).await);
        let short = |line: &str| line.strip_prefix("sluice_short_sessions ")?.parse::<u32>().ok();
        match metrics.lines().find_map(short) {
            Some(count) if count > 2 => Ok(()),
            count => Err(format!("{count:?} short sessions")),
        }
    })
    .await;
    alerts.fire(&["SluiceShortSessions"]).await;
    // The alarm comes while the rest of them is on its way.
    sandbox.set_account(Account::Ok);
    let before = sandbox.stats(&[]).tasks.created;
    wait::until(FIRES, async || match sandbox.stats(&[]).tasks.created {
        created if created >= before + 5 => Ok(()),
        created => Err(format!("it does not go on after the halt: {before}, and {created} now")),
    })
    .await;
    node.script("ctl", &["set_vm_memory_high_watermark", "0.000001"]).await;
    alerts.fire(&["SluiceResultsBlocked"]).await;
    node.script("kill", &[]).await;
    alerts.fire(&["SluiceBrokerLost", "SluiceNoActiveWorker"]).await;
    drop(worker);
    alerts.fire(&["SluiceDown"]).await;
    assert!(alerts.silent.is_empty(), "no reason was given for {:?}", alerts.silent);
}

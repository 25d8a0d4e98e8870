//! What `sluice watch` says while nothing moves, and when it says the batch ends: as the active worker has it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use sluicegate::broker::settings::QueueType;
use sluicegate::broker::topology;

use super::leases::{plan, run};
use crate::support::process::{Process, Spec, sluice};
use crate::support::rabbit::{Lane, Node, SOON};
use crate::support::rig::Rig;
use crate::support::wait;

/// A `sluice watch` that runs. Dropped, it is killed.
struct Watching {
    child: Child,
    out: std::path::PathBuf,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    fn start(dir: &Path, name: &str, arguments: &[&str]) -> Self {
        let out = dir.join(name);
        let file = File::create(&out).unwrap();
        let mut command = sluice();
        command.arg("watch").args(arguments).arg("-c").arg(dir.join("worker.toml"));
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), out }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    async fn says(&self, what: &str) {
        wait::until(SOON, async || {
            let said = self.said();
            if said.contains(what) { Ok(()) } else { Err(format!("no {what:?} in {said}")) }
        })
        .await;
    }

    async fn ends(&mut self) -> Option<i32> {
        wait::until(SOON, async || {
            let ended = self.child.try_wait().unwrap();
            ended.map(|status| status.code()).ok_or_else(|| self.said())
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_moves_watch_says_why_once_a_reason_on_both_ways() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    topology::apply(&rig.lane.settings, &rig.lane.queues).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec::new(&rig.lane.url, &rig.lane.queues, &rig.sandbox.base_url, "5/s");
    std::fs::write(dir.path().join("worker.toml"), spec.toml()).unwrap();
    let plan = plan(dir.path(), 60);
    let enqueued = run(dir.path(), &["enqueue", plan.to_str().unwrap(), "--batch", "wave"]).await;
    assert!(enqueued.status.success(), "{}", String::from_utf8_lossy(&enqueued.stderr));

    let mut lines = Watching::start(dir.path(), "lines", &["wave", "--until-done"]);
    let mut json = Watching::start(dir.path(), "json", &["wave", "--until-done", "--json"]);
    lines.says("waiting: no worker is active").await;
    json.says(r#""reason":"no_worker""#).await;

    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    lines.says("going on").await;
    let pause = run(dir.path(), &["gate", "pause", "--by", "ada", "--reason", "lunch"]).await;
    assert!(pause.status.success());
    lines.says("waiting: paused by ada: lunch").await;
    json.says(r#""reason":"paused""#).await;
    assert!(run(dir.path(), &["gate", "resume"]).await.status.success());

    assert_eq!((lines.ends().await, json.ends().await), (Some(0), Some(0)));
    let said = lines.said();
    assert_eq!(said.matches("no worker is active").count(), 1, "{said}");
    assert_eq!(said.matches("paused by").count(), 1, "{said}");
    for line in json.said().lines().filter(|line| line.starts_with('{')) {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_that_of_the_forecast_under_the_operators_rate() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec::new(&rig.lane.url, &rig.lane.queues, &rig.sandbox.base_url, "50/s");
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    assert!(run(dir.path(), &["gate", "rate", "2/s"]).await.status.success());
    let plan = plan(dir.path(), 200);
    let begun = jiff::Timestamp::now();
    let enqueued = run(dir.path(), &["enqueue", plan.to_str().unwrap(), "--batch", "slow"]).await;
    assert!(enqueued.status.success(), "{}", String::from_utf8_lossy(&enqueued.stderr));
    rig.created(1).await;
    let once = run(dir.path(), &["watch", "slow", "--json"]).await;
    let told = String::from_utf8_lossy(&once.stdout).into_owned();
    let summary = told.lines().find(|line| line.contains("summary")).expect(&told);
    let summary: Value = serde_json::from_str(summary).unwrap();
    let end: jiff::Timestamp = summary["end"].as_str().expect(&told).parse().unwrap();
    let seconds = end.duration_since(begun).as_secs_f64();
    // 200 at 2/s, whatever the configuration says.
    assert!((95.0..120.0).contains(&seconds), "{seconds}: {told}");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_log_in_and_a_port_of_the_other_kind_are_told_apart_from_an_unreachable_broker() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    let dir = tempfile::tempdir().unwrap();
    let spec = Spec::new(&rig.lane.url, &rig.lane.queues, &rig.sandbox.base_url, "5/s");
    std::fs::write(dir.path().join("worker.toml"), spec.toml()).unwrap();
    let (scheme, rest) = rig.lane.url.split_once("://").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    assert_eq!(scheme, "amqp");
    for (url, code, told) in [
        (format!("amqp://nobody:wrong@{place}"), 2, "refuses the log-in of user \"nobody\""),
        (format!("amqps://{rest}"), 4, "speaks no TLS on this port"),
    ] {
        let url = format!("broker.url={url}");
        let watched = run(dir.path(), &["watch", "-o", &url]).await;
        let said = String::from_utf8_lossy(&watched.stderr).into_owned();
        assert!(said.contains(told) && !said.contains("wrong@"), "{said}");
        assert_eq!(watched.status.code(), Some(code), "{said}");
    }
}

/// Seconds from then until the end that is told under this name.
fn told_end(output: &std::process::Output, begun: jiff::Timestamp) -> Option<f64> {
    let said = String::from_utf8_lossy(&output.stdout);
    let whole = serde_json::from_str::<Value>(&said).ok();
    let lines = said.lines().filter_map(|line| serde_json::from_str(line).ok());
    let told = whole.into_iter().chain(lines).find(|line| line["end"].is_string())?;
    let end: jiff::Timestamp = told["end"].as_str()?.parse().ok()?;
    Some(end.duration_since(begun).as_secs_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn console_gate_status_and_watch_tell_one_end_that_knows_times_holds_and_what_is_parked() {
    let rig = Rig::new(Lane::new(&Node::shared(), QueueType::Quorum)).await;
    let dir = tempfile::tempdir().unwrap();
    let mut spec = Spec::new(&rig.lane.url, &rig.lane.queues, &rig.sandbox.base_url, "5/s");
    // Ten wait in the window, the others are parked.
    "[window]\nsize = 20\n".clone_into(&mut spec.more);
    let process = Process::start(&spec, dir.path(), "worker");
    process.active().await;
    let plan = plan(dir.path(), 60);
    let begun = jiff::Timestamp::now();
    let later = begun.saturating_add(std::time::Duration::from_secs(3_600)).unwrap().to_string();
    let arguments = ["enqueue", plan.to_str().unwrap(), "--batch", "later", "--not-before", &later];
    let enqueued = run(dir.path(), &arguments).await;
    assert!(enqueued.status.success(), "{}", String::from_utf8_lossy(&enqueued.stderr));
    // The first sixty seconds of that hour, less the time until the question.
    let is_right = |end: f64| (3_600.0..3_625.0).contains(&end);
    wait::until(SOON, async || {
        let watched = run(dir.path(), &["watch", "later", "--json"]).await;
        let status = run(dir.path(), &["gate", "status", "--json"]).await;
        let page = process.get("/batches/one?batch=later").await.unwrap_or_default().1;
        let ends = (told_end(&watched, begun), told_end(&status, begun));
        let said = String::from_utf8_lossy(&watched.stdout).into_owned();
        let same =
            matches!(ends, (Some(one), Some(other)) if is_right(one) && (one - other).abs() < 5.0);
        let told = said.contains(r#""reason":"not_before""#)
            && page.contains("all that is left waits for its time")
            && page.contains("about ");
        if same && told { Ok(()) } else { Err(format!("{ends:?}: {said}\n{page}")) }
    })
    .await;
    // Over HTTP, and for Prometheus, it is the same end.
    let url = format!("http://{}", process.address().unwrap());
    wait::until(SOON, async || {
        let status = run(dir.path(), &["gate", "status", "--json", "--url", &url]).await;
        let drains = drains(&process).await;
        let since = jiff::Timestamp::now().duration_since(begun).as_secs_f64();
        let ends = (told_end(&status, begun), drains.map(|drains| since + drains));
        match ends {
            (Some(one), Some(other)) if is_right(one) && (one - other).abs() < 5.0 => Ok(()),
            _ => Err(format!("{ends:?}: {}", String::from_utf8_lossy(&status.stdout))),
        }
    })
    .await;

    assert!(run(dir.path(), &["batch", "hold", "later"]).await.status.success());
    wait::until(SOON, async || {
        let watched = run(dir.path(), &["watch", "later", "--json"]).await;
        let status = run(dir.path(), &["gate", "status"]).await;
        let said = String::from_utf8_lossy(&watched.stdout).into_owned();
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        let page = process.get("/batches/one?batch=later").await.unwrap_or_default().1;
        let told = said.contains(r#""reason":"on_hold""#)
            && said.contains(r#""on_hold":60"#)
            && status.contains("60 of them are on hold")
            && page.contains("without 60 on hold");
        let ends =
            [told_end(&watched, begun).is_some(), status.contains("will have been submitted")];
        if told && ends == [false, false] {
            Ok(())
        } else {
            Err(format!("{said}\n{status}\n{page}"))
        }
    })
    .await;
    wait::until(SOON, async || {
        let drains = drains(&process).await;
        if drains == Some(f64::INFINITY) { Ok(()) } else { Err(format!("{drains:?}")) }
    })
    .await;
    process.stop().await;
}

/// `sluice_drain_seconds`
async fn drains(process: &Process) -> Option<f64> {
    let text = process.get("/metrics").await?.1;
    let line = text.lines().find(|line| line.starts_with("sluice_drain_seconds{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

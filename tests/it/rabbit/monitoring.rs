//! The rules and the dashboard against a real Prometheus that scrapes a real worker at work.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::{Latency, Options, Sandbox, USER};

use crate::support::rabbit::{Client, Lane, Node, SOON};
use crate::support::wait;

use super::peers::without_lane;

/// A process that ends with the test.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> Self {
        Self::start_telling(command, Stdio::null())
    }

    fn start_telling(command: &mut Command, stderr: Stdio) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.stderr(stderr).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A loopback address that is free just now.
pub(super) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

async fn get(url: &str) -> Option<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::get(url).await.ok()?.error_for_status().ok()?.text().await.ok()
}

/// Asks until it answers well.
pub(super) async fn answer(url: &str) -> String {
    wait::until(SOON, async || get(url).await.ok_or_else(|| format!("{url} does not answer well")))
        .await
}

/// A worker of this lane; `keys` are further ones of its configuration.
pub(super) fn worker(
    lane: &Lane,
    node: &Node,
    sandbox: &Sandbox,
    listen: &str,
    keys: &[&str],
    stderr: Stdio,
) -> Process {
    Process::start_telling(&mut command(lane, node, sandbox, listen, keys), stderr)
}

/// Its command line.
pub(super) fn command(
    lane: &Lane,
    node: &Node,
    sandbox: &Sandbox,
    listen: &str,
    keys: &[&str],
) -> Command {
    let (domain, user, password) = USER;
    let keys = keys.iter().flat_map(|key| ["-o", key]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.arg("run").args(keys).envs([
        ("SLUICE_BROKER__URL", &*node.url),
        ("SLUICE_QUEUES__PREFIX", &lane.queues.prefix),
        ("SLUICE_API__ENDPOINT", &sandbox.base_url),
        ("SLUICE_API__AUTH__KIND", "iam_password"),
        ("SLUICE_API__AUTH__IAM_ENDPOINT", &sandbox.base_url),
        ("SLUICE_API__AUTH__DOMAIN", domain),
        ("SLUICE_API__AUTH__USER", user),
        ("SLUICE_API__AUTH__PASSWORD", password),
        ("SLUICE_LIMITS__RATES", "20/s"),
        ("SLUICE_HTTP__LISTEN", listen),
    ]);
    command
}

pub(super) fn prometheus(dir: &Path, rules: &Path, target: &str, listen: &str) -> Process {
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\n\
         scrape_configs:\n  - job_name: sluicegate\n    static_configs: [{{ targets: [{target:?}] }}]\n",
        rules.display(),
    );
    fs::write(dir.join("prometheus.yml"), config).unwrap();
    Process::start(
        Command::new("prometheus")
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={listen}")),
    )
}

/// The id of a source server.
pub(super) fn source_server(number: usize) -> String {
    format!("5a4e0000-0000-4000-8000-{number:012}")
}

/// `count` requests for as many source servers, from the one numbered `first`, of one batch.
pub(super) async fn enqueue(lane: &Lane, node: &Node, first: usize, count: usize) {
    let client = Client::connect(&node.url).await;
    let queue = format!("{}.requests", lane.queues.prefix);
    let example = include_str!("../../data/create-task-example.json");
    for number in first..first + count {
        let mut body: Value = serde_json::from_str(example).unwrap();
        body["source_server"]["id"] = source_server(number).into();
        let mut headers = FieldTable::default();
        headers.insert("x-sluice-batch".into(), AMQPValue::LongString("plan-1".into()));
        let properties = BasicProperties::default()
            .with_message_id(number.to_string().into())
            .with_headers(headers);
        client.publish(&queue, &serde_json::to_vec(&body).unwrap(), properties).await;
    }
}

/// The results of an instant query.
pub(super) async fn query(prometheus: &str, expression: &str) -> Vec<Value> {
    let mut asked = form_urlencoded::Serializer::new(String::new());
    let asked = asked.append_pair("query", expression).finish();
    let told = get(&format!("http://{prometheus}/api/v1/query?{asked}")).await;
    let told = told.unwrap_or_else(|| panic!("Prometheus does not take {expression}"));
    let told: Value = serde_json::from_str(&told).unwrap();
    told["data"]["result"].as_array().expect("results").clone()
}

/// Every query of the dashboard by its panel's title, with Grafana's variables filled in.
fn panels() -> BTreeMap<String, String> {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../../config/grafana/sluicegate.json")).unwrap();
    let mut panels = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                .replace("$job", "sluicegate")
                .replace("$instance", ".*")
                .replace("$lane", ".*")
                .replace("$__rate_interval", "10s")
                .replace("$__range", "60s");
            panels.insert(format!("{} {}", panel["title"], target["refId"]), expression);
        }
    }
    assert!(panels.len() > 15, "{panels:?}");
    panels
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_returns_data_while_a_plan_runs() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    let latency = Latency { fixed: Duration::from_millis(20), ..Latency::default() };
    let sandbox = Sandbox::start(Options { latency, ..Options::default() }).await.unwrap();
    let (listen, web) = (free_address(), free_address());
    let _worker =
        worker(&lane, &node, &sandbox, &listen, &["limits.max_running=1000"], Stdio::null());
    answer(&format!("http://{listen}/readyz")).await;
    let dir = tempfile::tempdir().unwrap();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/*.rules.yml");
    let _prometheus = prometheus(dir.path(), &rules, &listen, &web);
    answer(&format!("http://{web}/-/ready")).await;
    enqueue(&lane, &node, 0, 400).await;

    // Each has returned something at one time; a plan that is nearly done has no open batch.
    let mut empty = panels();
    wait::until(SOON, async || {
        let mut still = BTreeMap::new();
        for (panel, expression) in std::mem::take(&mut empty) {
            if query(&web, &expression).await.is_empty() {
                still.insert(panel, expression);
            }
        }
        empty = still;
        if empty.is_empty() { Ok(()) } else { Err(format!("no data: {empty:#?}")) }
    })
    .await;

    let rules: Value =
        serde_json::from_str(&answer(&format!("http://{web}/api/v1/rules")).await).unwrap();
    let rules = rules["data"]["groups"].as_array().unwrap();
    let rules: Vec<&Value> = rules.iter().flat_map(|g| g["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 15, "{rules:#?}");
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    let alerts = query(&web, "ALERTS{alertstate=\"firing\"}").await;
    assert!(alerts.is_empty(), "a healthy worker alerts nobody: {alerts:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_under_load_passes_promtool_and_stays_under_220_series() {
    let node = Node::shared();
    let lane = Lane::new(&node, QueueType::Quorum);
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let listen = free_address();
    let _worker = worker(&lane, &node, &sandbox, &listen, &[], Stdio::null());
    answer(&format!("http://{listen}/readyz")).await;
    enqueue(&lane, &node, 0, 50).await;
    let scrape = wait::until(SOON, async || {
        let scrape = answer(&format!("http://{listen}/metrics")).await;
        let series = without_lane(&scrape);
        let created = "sluice_requests_total{outcome=\"created\"} ";
        let count = series.lines().find_map(|line| line.strip_prefix(created)).unwrap();
        if count.parse::<u32>().unwrap() >= 10 {
            Ok(scrape)
        } else {
            Err(format!("nothing was created:\n{scrape}"))
        }
    })
    .await;
    let series = scrape.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let series = series.filter(|line| !line.starts_with("sluice_batch_requests"));
    let (of_lane, of_process): (Vec<_>, Vec<_>) = series.partition(|line| line.contains("lane=\""));
    let series = of_lane.len() + of_process.len();
    assert!(series < 220, "{series} series");
    let process = ["process_", "sluice_log_lines_dropped_total"];
    let laneless = |line: &&str| !process.iter().any(|name| line.starts_with(name));
    assert_eq!(of_process.into_iter().find(laneless), None, "every series has its lane");

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), scrape.as_bytes()).unwrap();
    let told = promtool.wait_with_output().unwrap();
    let problems = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success() && problems.is_empty(), "promtool says: {problems}");
}

//! Does a secret get out? A whole run with secrets of every kind, and then a look at everything that was written.

use std::fs;
use std::process::Command;

use sluicegate::broker::settings::QueueType;
use sluicegate::sandbox::{Account, Options as SandboxOptions};
use tempfile::TempDir;

use crate::support::process::{Process, Spec};
use crate::support::rabbit::{Lane, OwnNode, SOON};
use crate::support::rig::{Rig, body, dead_letters, publish};
use crate::support::wait::until_so;

// Both halves are looked for: neither may be a word or a number that a page shows by itself.
const BROKER: &str = "SECRET-broker-kept-quiet";
const PASSWORD: &str = "SECRET-password-kept-quiet";
const OPERATOR: &str = "SECRET-operator-kept-quiet";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_a_log_a_page_a_result_a_dead_letter_or_config_show() {
    let own = OwnNode::start();
    own.node.script("ctl", &["add_user", "sluice", BROKER]).await;
    own.node.script("ctl", &["set_permissions", "sluice", ".*", ".*", ".*"]).await;
    let dir = TempDir::new().unwrap();
    let (domain, user, _) = sluicegate::sandbox::USER;
    let sandbox = serde_json::json!({
        "auth": { "users": [{ "domain": domain, "name": user, "password": PASSWORD }], "token_length": 40 },
        "faults": [{ "call": "create", "source": "bad", "do": { "answer": { "status": 400, "code": "SMS.6103",
            "message": "no disk" } } }],
    });
    let options = SandboxOptions::default().patched(&sandbox).unwrap();
    let rig = Rig::with(Lane::new(&own.node, QueueType::Quorum), options).await;
    let url = own.node.url.replace("guest:guest", &format!("sluice:{BROKER}"));
    let mut spec = Spec::new(&url, &rig.lane.queues, &rig.sandbox.base_url, "50/s");
    spec.auth = format!(
        "kind = \"iam_password\"\niam_endpoint = {:?}\ndomain = {domain:?}\nuser = {user:?}\npassword = {PASSWORD:?}",
        rig.sandbox.base_url
    );
    spec.level = "trace".to_owned();
    spec.operator_token = OPERATOR.to_owned();
    let worker = Process::start(&spec, dir.path(), "worker");
    worker.active().await;
    let bodies = (0..20).map(|n| body(&format!("s{n}"), 1)).chain([body("bad", 1)]);
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), bodies).await;
    rig.results(21).await;
    // The account refuses, the broker goes and comes back with another password: errors on every side.
    rig.sandbox.set_account(Account::TokenRevoked);
    let more = (100..103).map(|n| body(&format!("s{n}"), 1));
    publish(&rig.lane.client().await, &rig.lane.queues.requests(), more).await;
    until_so("refused", || rig.sandbox.stats(&[]).answers.contains_key("401")).await;
    rig.sandbox.set_account(Account::Ok);
    own.node.script("ctl", &["change_password", "sluice", "another"]).await;
    own.node.script("ctl", &["close_all_connections", "test"]).await;
    let detached = |status: &sluicegate::message::status::Status| matches!(&status.session, sluicegate::message::status::SessionStatus::Detached { why, .. } if why.contains("REFUSED"));
    worker.until("refused by the broker", SOON, detached).await;

    let mut shown = Vec::new();
    for path in ["/status", "/readyz", "/metrics", "/"] {
        shown.push(worker.get(path).await.map(|(_, page)| page).unwrap_or_default());
    }
    let config = dir.path().join("worker.toml");
    let env = [("SLUICE_BROKER__URL", url.as_str())];
    for arguments in
        [&["config", "show", "-c"][..], &["config", "check", "-c"], &["topology", "check", "-c"]]
    {
        for env in [&[][..], &env] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
            let command = command.env_clear().envs(env.iter().copied());
            let output = command.args(arguments).arg(&config).output().unwrap();
            shown.push(
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            );
        }
    }
    shown.push(worker.logged());
    let results = rig.lane.client().await.stream(&rig.lane.queues.results_log(), 21).await;
    let letters = dead_letters(&rig.lane, 1).await;
    assert!(letters[0].header("x-sluice-reason").is_some_and(|reason| reason.contains("no disk")));
    for message in results.iter().chain(&letters) {
        shown.push(format!("{:?} {}", message.properties, String::from_utf8_lossy(&message.body)));
    }
    assert_eq!(worker.stop().await, Some(0));
    let shown = shown.concat();
    assert!(
        shown.contains("ACCESS_REFUSED") && shown.contains("logged in at IAM"),
        "errors were seen"
    );
    assert!(fs::read_to_string(config).unwrap().contains("SECRET"), "there was something to find");
    for secret in ["SECRET", "kept-quiet"] {
        let at = shown.find(secret);
        assert_eq!(at, None, "…{}…", &shown[at.unwrap_or(0).saturating_sub(200)..][..400]);
    }
}

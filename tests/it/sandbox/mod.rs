//! Does the sandbox answer as the documents say, and does it count what it should?

mod account;
mod answers;
mod auth;
mod faults;
mod measures;
mod page;
mod states;

use std::time::Duration;

use reqwest::{Client, Response};
use serde_json::{Value, json};
use sluicegate::sandbox::{Kind, Options, Sandbox, TOKEN};

/// A sandbox and a client with a token that it accepts.
struct Rig {
    sandbox: Sandbox,
    client: Client,
}

async fn rig(options: Options) -> Rig {
    Rig { sandbox: Sandbox::start(options).await.unwrap(), client: client() }
}

fn client() -> Client {
    // Another test in this process may have been first: one provider serves them all.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(Duration::from_secs(20)).build().unwrap()
}

/// The smallest body that the contract lets through.
fn body(source: &str) -> Value {
    json!({
        "name": "MigrationTask", "type": "MIGRATE_FILE", "os_type": "LINUX",
        "source_server": {"id": source},
        "target_server": {"vm_id": format!("vm-{source}"), "name": "target"},
        "region_id": "r1", "region_name": "Region 1", "project_id": "p1", "project_name": "Project 1",
    })
}

fn with(source: &str, field: &str, value: Value) -> Value {
    let mut body = body(source);
    body[field] = value;
    body
}

impl Rig {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.sandbox.base_url)
    }

    async fn post(&self, body: &Value) -> reqwest::Result<Response> {
        let post = self.client.post(self.url("/v3/tasks")).header("X-Auth-Token", TOKEN);
        post.json(body).send().await
    }

    /// The id of the task that is made for this source server.
    async fn create(&self, source: &str) -> String {
        let (status, answer) = told(self.post(&body(source)).await.unwrap()).await;
        assert_eq!(status, 200, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let get = self.client.get(self.url(path)).header("X-Auth-Token", TOKEN);
        told(get.send().await.unwrap()).await
    }

    fn calls(&self, kind: Kind) -> u64 {
        self.sandbox.stats(&[]).calls(kind)
    }
}

/// Status and body.
async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn code(answer: &Value) -> &str {
    answer["error_code"].as_str().unwrap_or_default()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

//! The API client over real sockets: what every way of failing means, and where credentials go.

mod answers;
mod credentials;
mod failures;
mod log_in;
mod server;
mod survey;
mod tls;
mod whole;

use std::collections::BTreeMap;

use sluicegate::api::{ApiSettings, Client};
use sluicegate::lane::{self, Given};

/// `[api]` with an endpoint, further keys of it, and `[api.auth]`.
fn settings(endpoint: &str, api: &str, auth: &str) -> ApiSettings {
    let text = format!("[api]\nendpoint = \"{endpoint}\"\n{api}\n[api.auth]\n{auth}\n");
    let given = Given { file: None, env: &BTreeMap::new(), overrides: &[], needs_api: true };
    lane::load_text(Some(("test.toml", &text)), &given).unwrap().config.api
}

/// A client with a fixed token.
fn client(endpoint: &str) -> Client {
    client_with(endpoint, "")
}

fn client_with(endpoint: &str, api: &str) -> Client {
    Client::new(&settings(endpoint, api, "token = \"tok-4711\"")).unwrap()
}

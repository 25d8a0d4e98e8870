//! How is a running sandbox looked at and steered? `/sandbox/...`, for scripts and people with `curl`; it is not part of
//! the API, asks for no token and counts in no quota.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::Fault;
use super::options::Account;
use super::task::NewTask;
use super::{Hub, door};
use crate::config::values::parse_duration;

const INDEX: &str = "\
The Sluicegate sandbox. The API: POST GET /v3/tasks, GET DELETE /v3/tasks/{id}, POST /v3/tasks/{id}/action,
GET /v3/sources, GET /v3/sources/{id}; IAM: POST /v3/auth/tokens. To look at it and steer it:
  GET    /sandbox/stats?window=1s&window=1m   arrivals, rates by sliding window, order, doubles, tasks
  GET    /sandbox/log?since=N&limit=N         events as JSON lines
  POST   /sandbox/reset?tasks=true            statistics and log begin anew; with tasks=true tasks are gone too
  GET PUT    /sandbox/faults                  the fault script: a JSON array of rules
  GET PATCH  /sandbox/options                 everything else, as a JSON merge patch
  PUT    /sandbox/account                     {\"state\": \"ok|frozen|no_permission|arrears|token_revoked\"}
  GET POST   /sandbox/tasks                   all tasks; preload an array of tasks
  PUT DELETE /sandbox/tasks/{id}              {\"state\": \"MIGRATE_SUCCESS\"}; delete
";

pub(super) fn router(hub: Hub) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/sandbox", get(index))
        .route("/sandbox/stats", get(stats))
        .route("/sandbox/log", get(log))
        .route("/sandbox/reset", post(reset))
        .route("/sandbox/faults", get(show_faults).put(set_faults))
        .route("/sandbox/options", get(show_options).patch(patch_options))
        .route("/sandbox/account", put(set_account))
        .route("/sandbox/tasks", get(show_tasks).post(preload))
        .route("/sandbox/tasks/{id}", put(set_state).delete(delete))
        .fallback(door::answer)
        .with_state(hub)
}

/// What is wrong with a steering request, for a person.
struct Wrong(StatusCode, String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

fn bad(text: impl Into<String>) -> Wrong {
    Wrong(StatusCode::BAD_REQUEST, text.into())
}

/// Whatever `Content-Type` says: `curl -d` says that it sends a form.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|e| bad(format!("the body does not fit: {e}")))
}

async fn index() -> &'static str {
    INDEX
}

async fn stats(
    State(hub): State<Hub>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Wrong> {
    let asked = query.iter().filter(|(name, _)| name == "window");
    let windows: Vec<Duration> =
        asked.map(|(_, text)| parse_duration(text)).collect::<Result<_, _>>().map_err(bad)?;
    Ok(Json(hub.stats(&windows)).into_response())
}

#[derive(Deserialize)]
#[serde(default)]
struct Since {
    since: u64,
    limit: usize,
}

impl Default for Since {
    fn default() -> Self {
        Self { since: 0, limit: usize::MAX }
    }
}

async fn log(State(hub): State<Hub>, Query(Since { since, limit }): Query<Since>) -> Response {
    let mut lines = Vec::new();
    for event in hub.log(since, limit) {
        // Plain structs and enums always become JSON; a line that did not would only be missing.
        if serde_json::to_writer(&mut lines, &*event).is_ok() {
            lines.push(b'\n');
        }
    }
    ([(header::CONTENT_TYPE, "application/jsonl")], lines).into_response()
}

#[derive(Deserialize)]
struct Reset {
    #[serde(default)]
    tasks: bool,
}

async fn reset(State(hub): State<Hub>, Query(Reset { tasks }): Query<Reset>) -> StatusCode {
    hub.world().reset(tasks);
    StatusCode::NO_CONTENT
}

async fn show_faults(State(hub): State<Hub>) -> Response {
    Json(hub.world().fault_counts()).into_response()
}

async fn set_faults(State(hub): State<Hub>, body: Bytes) -> Result<StatusCode, Wrong> {
    let faults: Vec<Fault> = read(&body)?;
    hub.set_faults(faults).map_err(bad)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_options(State(hub): State<Hub>) -> Response {
    Json(hub.world().options.clone()).into_response()
}

async fn patch_options(State(hub): State<Hub>, body: Bytes) -> Result<Response, Wrong> {
    let patch: Value = read(&body)?;
    hub.patch(&patch).map_err(bad)?;
    Ok(show_options(State(hub)).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Standing {
    state: Account,
}

async fn set_account(State(hub): State<Hub>, body: Bytes) -> Result<StatusCode, Wrong> {
    let Standing { state } = read(&body)?;
    hub.set_account(state);
    Ok(StatusCode::NO_CONTENT)
}

async fn show_tasks(State(hub): State<Hub>) -> Response {
    Json(hub.tasks()).into_response()
}

async fn preload(State(hub): State<Hub>, body: Bytes) -> Result<Response, Wrong> {
    let new: Vec<NewTask> = read(&body)?;
    if let Some(row) = new.iter().position(|task| task.source_server_id.is_empty()) {
        return Err(bad(format!("task {row} (from 0) has no `source_server_id`")));
    }
    let ids = hub.world().preload(new);
    Ok((StatusCode::CREATED, Json(json!({"ids": ids}))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewState {
    state: String,
}

async fn set_state(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Wrong> {
    let NewState { state } = read(&body)?;
    found(hub.world().change_task(|tasks, now| tasks.change(&id, &state, now)), &id)
}

async fn delete(State(hub): State<Hub>, Path(id): Path<String>) -> Result<StatusCode, Wrong> {
    found(hub.world().change_task(|tasks, now| tasks.delete(&id, now)), &id)
}

fn found(done: bool, id: &str) -> Result<StatusCode, Wrong> {
    if done {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Wrong(StatusCode::NOT_FOUND, format!("there is no task {id}")))
    }
}

//! What does the worker answer over HTTP?
//!
//! - `GET /metrics`: all lanes, in Prometheus' text format
//! - `GET /healthz`: 200 while the process works
//! - `GET /readyz`: 200 while every lane is attached to its broker, as the active worker or as a standby; 503 says why not
//! - `GET /status`: every lane's [`Status`], as JSON; where other machines can ask, with a token only
//! - `GET /window?lane=NAME&first=50`: the requests that come next, as JSON; with a token like the status
//!
//! - `POST /control/pause|resume|rate|priority`: an operator's commands
//!
//! Whatever changes something needs the [`Operator`]'s token.

pub(crate) mod control;
mod server;

pub use control::CHANGES;
pub use server::{places, serve};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::config::values::Secret;
use crate::lane::sections;
use crate::message::command::PendingCommand;
use crate::message::status::{SessionStatus, Status};
use crate::observe::metrics::{self, Metrics};

/// Nobody has anything longer to say to the routes here.
const BODY_LIMIT: usize = 16 * 1024;

/// A loop that has not turned for so long does not work. It turns every second, also when there is nothing to do.
const STUCK: Duration = Duration::from_secs(30);

/// The way to a lane's loop; `None` while it is not running.
pub type Orders = watch::Receiver<Option<mpsc::Sender<PendingCommand>>>;

/// What the server needs of one lane.
#[derive(Clone, Debug)]
pub struct Lane {
    pub metrics: Arc<Metrics>,
    pub status: watch::Receiver<Status>,
    /// The way to the lane's loop; `None` while it is not running.
    pub orders: Orders,
}

/// Who may change something: whoever sends the token as `Authorization: Bearer ...`. Without a token nobody may.
/// Beside it there may be a reader's token, which opens what is not open to everybody.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    token: Option<[u8; 32]>,
    reader: Option<[u8; 32]>,
    session_key: Option<Secret>,
}

/// What a token gives its owner the right to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Read,
    Change,
}

impl Operator {
    /// # Errors
    /// Says that a token's file cannot be read.
    pub fn from_settings(http: &sections::Http) -> Result<Self, String> {
        let tokens = Self::new(http.token()?.as_ref()).with_reader(http.token_to_read()?.as_ref());
        Ok(tokens.with_session_key(http.session_key()?))
    }

    pub fn new(token: Option<&Secret>) -> Self {
        let token = token.map(|token| digest(token.expose()));
        Self { token, reader: None, session_key: None }
    }

    #[must_use]
    pub fn with_reader(self, token: Option<&Secret>) -> Self {
        Self { reader: token.map(|token| digest(token.expose())), ..self }
    }

    /// What the console's sessions are signed with, so that they are good at every worker that has it.
    #[must_use]
    pub fn with_session_key(self, session_key: Option<Secret>) -> Self {
        Self { session_key, ..self }
    }

    pub(crate) fn session_key(&self) -> Option<&Secret> {
        self.session_key.as_ref()
    }

    /// Another one for every other pair of tokens.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let both = [self.token, self.reader].map(Option::unwrap_or_default);
        Sha256::digest(both.concat()).into()
    }

    /// Whether anybody can change something at all.
    pub fn is_set(&self) -> bool {
        self.token.is_some()
    }

    /// Whether there is any token to log in with.
    pub fn can_log_in(&self) -> bool {
        self.token.is_some() || self.reader.is_some()
    }

    /// Digests are compared, so the time that it takes tells nothing about the tokens.
    pub fn right(&self, given: &str) -> Option<Right> {
        let given = Some(digest(given));
        if self.token == given {
            Some(Right::Change)
        } else {
            (self.reader == given).then_some(Right::Read)
        }
    }

    /// The right of whoever sends a token as `Authorization: Bearer ...`.
    pub fn bearer(&self, headers: &HeaderMap) -> Option<Right> {
        let authorization = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        self.right(authorization.strip_prefix("Bearer ")?.trim())
    }

    pub fn allows(&self, headers: &HeaderMap) -> bool {
        self.bearer(headers) == Some(Right::Change)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The routes that every worker has. The status names batches and people, so it is open on this machine only; what
/// probes and Prometheus ask for is numbers and the state of the session, and is open to all who can reach `listen`.
pub fn router(lanes: Vec<Lane>, operator: Operator, listen: SocketAddr) -> Router {
    let lanes: Arc<[Lane]> = lanes.into();
    let readers = (!listen.ip().is_loopback()).then(|| operator.clone());
    Router::new()
        .route("/status", get(status))
        .route("/window", get(control::window))
        .layer(middleware::from_fn_with_state(readers, may_read))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(Arc::clone(&lanes))
        .merge(control::routes(lanes, operator))
}

/// Takes the port: before the worker starts, so that a port in use is a start that fails.
///
/// # Errors
/// Names the address.
pub async fn bind(listen: SocketAddr) -> Result<TcpListener, String> {
    let hint = "set http.listen to another address, or to \"\" for none";
    TcpListener::bind(listen).await.map_err(|e| format!("cannot listen on {listen}: {e}; {hint}"))
}

/// Refuses a body that says itself that it is too long, before any of it is read.
pub(crate) async fn no_longer_than(
    State(limit): State<usize>,
    request: Request,
    next: Next,
) -> Response {
    if is_longer(request.body(), limit) {
        let why = format!("the body is longer than {limit} bytes\n");
        return (StatusCode::PAYLOAD_TOO_LARGE, why).into_response();
    }
    next.run(request).await
}

pub(crate) fn is_longer(body: &Body, limit: usize) -> bool {
    body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX)
}

/// Without `readers` everybody may.
async fn may_read(
    State(readers): State<Option<Operator>>,
    request: Request,
    next: Next,
) -> Response {
    if readers.is_some_and(|readers| readers.bearer(request.headers()).is_none()) {
        let why = "the status needs a token here: send the operator's or the reader's as `Authorization: Bearer TOKEN`\n";
        return (StatusCode::UNAUTHORIZED, why).into_response();
    }
    next.run(request).await
}

async fn metrics(State(lanes): State<Arc<[Lane]>>) -> Response {
    let text = metrics::render(lanes.iter().map(|lane| &*lane.metrics));
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}

async fn status(State(lanes): State<Arc<[Lane]>>) -> Json<Vec<Status>> {
    Json(lanes.iter().map(|lane| lane.status.borrow().clone()).collect())
}

/// For the loops, not for this server: a process of which one loop works is better than none. That one does not work is
/// what `/readyz` says, and an alert.
async fn healthy(State(lanes): State<Arc<[Lane]>>) -> Response {
    let youngest = lanes.iter().map(|lane| lane.metrics.loop_age()).min();
    match youngest {
        Some(age) if age >= STUCK => {
            let seconds = age.as_secs();
            let why =
                format!("no loop of this worker has turned for {seconds} s: restart the process\n");
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
        _ => "ok\n".into_response(),
    }
}

/// A gate that is shut does not make a worker unready: another one would do no better.
async fn ready(State(lanes): State<Arc<[Lane]>>) -> Response {
    let mut all = true;
    let mut told = Vec::new();
    for lane in lanes.iter() {
        let status = lane.status.borrow().clone();
        let age = lane.metrics.loop_age();
        let is_ready = status.is_ready() && age < STUCK;
        all &= is_ready;
        let why = match &status.session {
            _ if age >= STUCK => {
                Some(format!("the lane's loop has not turned for {} s", age.as_secs()))
            }
            _ if status.stopping => Some("stopping".to_owned()),
            SessionStatus::Detached { why, .. } => Some(why.clone()),
            SessionStatus::Active { .. } if status.is_robbed() => Some(status.why()),
            SessionStatus::Standby { .. } | SessionStatus::Active { .. } => None,
        };
        told.push(json!({
            "lane": status.lane,
            "ready": is_ready,
            "why": why,
            "next": status.why(),
            "session": status.session,
            "gate": status.gate,
        }));
    }
    let code = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": all, "lanes": told }))).into_response()
}

//! What does the worker answer over HTTP?
//!
//! - `GET /metrics`: all lanes, in Prometheus' text format; for whoever may read ([`Doors`])
//! - `GET /healthz`: 200 while the process works
//! - `GET /readyz`: 200 while every lane is attached to its broker, as the active worker or as a standby, else 503; to
//!   whoever may read it says why
//! - `GET /status`: every lane's [`Status`], as JSON; for whoever may read
//! - `GET /window?lane=NAME&first=50`: the requests that come next, as JSON; for whoever may read
//!
//! - `POST /control/pause|resume|rate|priority`: an operator's commands
//!
//! Whatever changes something needs a token of an operator's.

pub(crate) mod control;
mod doors;
mod guesses;
mod server;
mod session;
mod tokens;

pub use control::CHANGES;
pub use doors::Doors;
pub(crate) use doors::{COOKIE, Reading, cookie, is_foreign};
pub use guesses::Caller;
pub(crate) use guesses::Judged;
pub use server::{places, serve};
pub(crate) use session::LogIn;
pub use tokens::{Known, Right, Tokens};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRef, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

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

/// The routes that every worker has. Probes have no token, so they learn that and no more; see [`ready`].
pub fn router(lanes: Vec<Lane>, doors: &Arc<Doors>) -> Router {
    let lanes: Arc<[Lane]> = lanes.into();
    let readers = middleware::from_fn_with_state(Arc::clone(doors), doors::readers);
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/window", get(control::window))
        .layer(readers)
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .with_state(Readiness { lanes: Arc::clone(&lanes), doors: Arc::clone(doors) })
        .merge(control::routes(lanes, Arc::clone(doors)))
}

/// What the routes here look at.
#[derive(Clone, Debug)]
struct Readiness {
    lanes: Arc<[Lane]>,
    doors: Arc<Doors>,
}

impl FromRef<Readiness> for Arc<[Lane]> {
    fn from_ref(of: &Readiness) -> Self {
        Self::clone(&of.lanes)
    }
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

/// A gate that is shut does not make a worker unready: another one would do no better. The reasons name queues, people
/// and what the API said, so they are for those who may read.
async fn ready(State(of): State<Readiness>, request: Request) -> Response {
    let (asked, _) = request.into_parts();
    let (all, lanes): (Vec<_>, Vec<_>) = of.lanes.iter().map(of_lane).unzip();
    let all = all.into_iter().all(|is_ready| is_ready);
    let told = match of.doors.may_read(&asked) {
        Reading::Allowed => json!({ "ready": all, "lanes": lanes }),
        _ => json!({ "ready": all, "why": "send the operator's or the reader's token to read it" }),
    };
    let code = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(told)).into_response()
}

/// Whether it is ready, and what there is to say of it.
fn of_lane(lane: &Lane) -> (bool, serde_json::Value) {
    let status = lane.status.borrow().clone();
    let age = lane.metrics.loop_age();
    let is_ready = status.is_ready() && age < STUCK;
    let why = match &status.session {
        _ if age >= STUCK => {
            Some(format!("the lane's loop has not turned for {} s", age.as_secs()))
        }
        _ if status.stopping => Some("stopping".to_owned()),
        SessionStatus::Detached { why, .. } => Some(why.clone()),
        SessionStatus::Active { .. } if status.is_robbed() => Some(status.why()),
        SessionStatus::Standby { .. } | SessionStatus::Active { .. } => None,
    };
    let told = json!({
        "lane": status.lane,
        "ready": is_ready,
        "why": why,
        "next": status.why(),
        "session": status.session,
        "gate": status.gate,
    });
    (is_ready, told)
}

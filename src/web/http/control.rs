//! How does an operator steer the worker over HTTP? `POST /control/pause|resume|rate|priority` with the operator's token.
//!
//! The body is JSON, `by` and `reason` of it optional (with an own token `by` is its name): `{"by": "anna", "reason": "maintenance"}`. A rate needs `rates`, a
//! list or `"configured"`; a priority needs `id` (a message id or a run) and `priority`. With several lanes
//! `?lane=NAME` says which one is meant. The answer is an [`Answer`].

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::doors::TOO_MANY;
use super::{
    BODY_LIMIT, Caller, Doors, Judged, Known, Lane, Orders, Right, Tokens, no_longer_than,
};
use crate::message::command::{Answer, Command, IssuedCommand, PendingCommand, RECORD};
use crate::message::status::{SessionStatus, Status};

#[derive(Debug)]
struct ControlState {
    lanes: Arc<[Lane]>,
    doors: Arc<Doors>,
}

pub(super) fn routes(lanes: Arc<[Lane]>, doors: Arc<Doors>) -> Router {
    let shared = Arc::new(ControlState { lanes, doors });
    Router::new()
        .route("/control/{what}", post(control))
        .route_layer(middleware::from_fn_with_state(BODY_LIMIT, no_longer_than))
        .route_layer(DefaultBodyLimit::max(BODY_LIMIT))
        // The last one that is put around is the first one that is asked.
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), judged))
        .with_state(shared)
}

/// Nobody's body is read before their token was.
async fn judged(
    State(shared): State<Arc<ControlState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = Caller::of(request.extensions());
    match may(&shared.doors, request.headers(), caller) {
        Ok(known) => {
            request.extensions_mut().insert(known);
            next.run(request).await
        }
        Err((code, why)) => (code, Json(Answer::refused(why))).into_response(),
    }
}

fn may(doors: &Doors, headers: &HeaderMap, caller: Caller) -> Result<Known, Refused> {
    let refused = |code, why: &str| Err((code, why.trim_end().to_owned()));
    if !doors.tokens.is_set() {
        let why = "this worker has no operator token: set http.operator_token_file and restart it";
        return refused(StatusCode::FORBIDDEN, why);
    }
    match doors.bearer(headers, caller) {
        Some(Judged::Right(known)) if known.right == Right::Change => Ok(known),
        Some(Judged::Right(_)) => {
            let why = "this is the reader's token, which changes nothing: send the operator's";
            refused(StatusCode::FORBIDDEN, why)
        }
        Some(Judged::TooMany) => refused(StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
        Some(Judged::Wrong) | None => refused(
            StatusCode::UNAUTHORIZED,
            "the operator's token is missing or wrong: send it as `Authorization: Bearer TOKEN`",
        ),
    }
}

/// The name is the token's where it is somebody's own, and nobody else takes it.
fn named(tokens: &Tokens, known: Known, issued: &mut IssuedCommand) -> Result<(), Refused> {
    match known.name {
        Some(name) => issued.by = name,
        None if tokens.is_taken(&issued.by) => {
            let why = format!(
                "{} has a token of their own in http.operators: send that, or another name",
                issued.by
            );
            return Err((StatusCode::FORBIDDEN, why));
        }
        None => {}
    }
    Ok(())
}

#[derive(Debug, Default, Deserialize)]
struct Which {
    lane: Option<String>,
}

async fn control(
    State(shared): State<Arc<ControlState>>,
    Path(what): Path<String>,
    Query(which): Query<Which>,
    Extension(known): Extension<Known>,
    body: axum::body::Bytes,
) -> Response {
    let named = |(lane, mut order): (_, IssuedCommand)| {
        named(&shared.doors.tokens, known, &mut order).map(|()| (lane, order))
    };
    let (code, answer) = match issued(&shared, &what, &which, &body).and_then(named) {
        Ok((lane, issued)) => give(&lane.status, &lane.orders, issued).await,
        Err((code, why)) => (code, Answer::refused(why)),
    };
    (code, Json(answer)).into_response()
}

/// What `GET /window` may ask.
#[derive(Debug, Default, Deserialize)]
pub(super) struct OfWindow {
    lane: Option<String>,
    first: Option<usize>,
}

/// The requests that come next: changes nothing, so whoever may read the status may ask.
pub(super) async fn window(
    State(lanes): State<Arc<[Lane]>>,
    Query(of): Query<OfWindow>,
) -> Response {
    let command =
        Command::Window { first: of.first, run: None, from: None, find: None, batch: None };
    let issued = IssuedCommand { command, by: "operator".to_owned(), reason: None };
    let (code, answer) = match lane(&lanes, &Which { lane: of.lane }) {
        Ok(lane) => give(&lane.status, &lane.orders, issued).await,
        Err((code, why)) => (code, Answer::refused(why)),
    };
    (code, Json(answer)).into_response()
}

/// Everything here that changes something.
pub const CHANGES: [&str; 4] =
    ["/control/pause", "/control/resume", "/control/rate", "/control/order"];

type Refused = (StatusCode, String);

fn issued<'a>(
    shared: &'a ControlState,
    what: &str,
    which: &Which,
    body: &[u8],
) -> Result<(&'a Lane, IssuedCommand), Refused> {
    if !CHANGES.iter().any(|path| path.strip_prefix("/control/") == Some(what)) {
        let why = format!("there is no /control/{what}: pause, resume, rate or order");
        return Err((StatusCode::NOT_FOUND, why));
    }
    let issued = read(what, body).map_err(|why| {
        let fields = match what {
            "rate" => "rates, by, reason",
            "order" => "of ({batch: {id, run, row}} or {request: id}), change ({cancel, hold, not_before, deadline, priority}), by, reason",
            _ => "by, reason",
        };
        (StatusCode::BAD_REQUEST, format!("the body is not {{{fields}}}: {why}"))
    })?;
    Ok((lane(&shared.lanes, which)?, issued))
}

/// The order that the body gives, but for the word that the path says.
fn read(what: &str, body: &[u8]) -> Result<IssuedCommand, String> {
    let mut said: Map<String, Value> = match body {
        [] => Map::new(),
        body => serde_json::from_slice(body).map_err(|error| error.to_string())?,
    };
    if said.insert("do".to_owned(), what.into()).is_some() {
        return Err("the path says what to do".to_owned());
    }
    said.entry("by").or_insert_with(|| "operator".into());
    IssuedCommand::deserialize(Value::Object(said)).map_err(|error| error.to_string())?.tidy()
}

fn lane<'a>(lanes: &'a [Lane], which: &Which) -> Result<&'a Lane, Refused> {
    let name = |lane: &Lane| lane.status.borrow().lane.clone();
    let found = match (&which.lane, lanes) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(wanted), lanes) => lanes.iter().find(|lane| name(lane) == *wanted),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = lanes.iter().map(name).collect();
        (
            StatusCode::NOT_FOUND,
            format!("say which lane is meant with ?lane=: {}", names.join(", ")),
        )
    })
}

/// Hands the command to the lane's loop and waits for its answer.
pub(crate) async fn give(
    status: &watch::Receiver<Status>,
    orders: &Orders,
    issued: IssuedCommand,
) -> (StatusCode, Answer) {
    if let SessionStatus::Standby { .. } = status.borrow().session {
        let why = "this worker is a standby: ask the active one, or leave out --url to reach it through the broker";
        return (StatusCode::CONFLICT, Answer::refused(why));
    }
    let down = || {
        let why = "the lane is not running just now; GET /readyz says why";
        (StatusCode::SERVICE_UNAVAILABLE, Answer::refused(why))
    };
    let Some(orders) = orders.borrow().clone() else { return down() };
    let (pending, answer) = PendingCommand::new(issued);
    if orders.try_send(pending).is_err() {
        return down();
    }
    match tokio::time::timeout(RECORD + Duration::from_secs(2), answer).await {
        Ok(Ok(answer)) => (StatusCode::OK, answer),
        Ok(Err(_)) => down(),
        Err(_) => {
            let why = "the worker does not answer: the command may have been obeyed or not; GET /status says how it is";
            (StatusCode::GATEWAY_TIMEOUT, Answer::refused(why))
        }
    }
}

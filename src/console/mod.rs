//! What does an operator see and do in a browser? Pages of the worker itself, made on the server.
//!
//! Reading is open on loopback; changing anything needs the operator's token ([`access`]). Pages work without a script;
//! with it, what changes by itself is kept up to date by server-sent events.

mod access;
mod audit;
mod fields;
mod jobs;
mod letters;
mod now;
mod orders;
mod page;
mod text;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::watch;

use crate::broker::dead_letters::{Review, Snapshot};
use crate::http::Operator;
use crate::status::Status;
use access::Access;
use fields::Fields;

/// Bodies may have 1 MiB, and a form writes three characters for many a byte.
const FORM_LIMIT: usize = 4 * 1024 * 1024;

/// All that changes something, and needs the operator's token. Logging in is the exception that leads there.
pub const CHANGES: [&str; 6] = [
    "/log-out",
    "/dead-letters/prepare",
    "/dead-letters/act",
    "/dead-letters/note",
    "/audit/undo",
    "/jobs/stop",
];

/// What the console needs of one lane.
#[derive(Clone, Debug)]
pub struct Lane {
    pub status: watch::Receiver<Status>,
    pub review: Review,
}

/// A lane, and what the last pass over its dead letters saw.
#[derive(Debug)]
struct Place {
    name: String,
    lane: Lane,
    seen: Mutex<Option<Arc<Snapshot>>>,
    /// One pass at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Console {
    places: Vec<Place>,
    access: Access,
    orders: orders::Orders,
    jobs: jobs::Jobs,
}

type Shared = Arc<Console>;

impl Console {
    /// The lane that `?lane=` names; without it, the first.
    fn place(&self, fields: &Fields) -> Option<&Place> {
        match fields.get("lane") {
            Some(name) => self.places.iter().find(|place| place.name == name),
            None => self.places.first(),
        }
    }
}

impl Place {
    fn seen(&self) -> Option<Arc<Snapshot>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was seen is out of date: something has moved.
    fn forget(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The console's routes.
///
/// # Errors
/// `listen` can be reached from other machines, and there is no operator token.
pub fn router(lanes: Vec<Lane>, operator: Operator, listen: SocketAddr) -> Result<Router, String> {
    let places = lanes.into_iter().map(|lane| {
        let name = lane.status.borrow().lane.clone();
        Place { name, lane, seen: Mutex::default(), looking: tokio::sync::Mutex::default() }
    });
    let console: Shared = Arc::new(Console {
        places: places.collect(),
        access: Access::new(operator, listen)?,
        orders: orders::Orders::default(),
        jobs: jobs::Jobs::default(),
    });
    let changes = Router::new()
        .route("/log-out", post(access::log_out))
        .route("/dead-letters/prepare", post(orders::prepare))
        .route("/dead-letters/act", post(orders::act))
        .route("/dead-letters/note", post(letters::note))
        .route("/audit/undo", post(audit::undo))
        .route("/jobs/stop", post(jobs::stop))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), access::may_change));
    let reading = Router::new()
        .route("/", get(now::show))
        .route("/events/now", get(now::events))
        .route("/dead-letters", get(letters::list))
        .route("/dead-letters/one", get(letters::one))
        .route("/audit", get(audit::show))
        .route("/jobs", get(jobs::show))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), access::may_read));
    let open = Router::new()
        .route("/log-in", get(access::ask).post(access::log_in))
        .route("/assets/htmx.min.js", get(|| async { script(include_str!("assets/htmx.min.js")) }))
        .route("/assets/htmx-sse.js", get(|| async { script(include_str!("assets/htmx-sse.js")) }))
        .route("/assets/console.css", get(|| async { style(include_str!("assets/console.css")) }))
        .route("/assets/icon.svg", get(|| async { image(include_str!("assets/icon.svg")) }));
    Ok(changes
        .merge(reading)
        .merge(open)
        .layer(middleware::from_fn(secured))
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .with_state(console))
}

fn script(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text).into_response()
}

fn style(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], text).into_response()
}

fn image(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], text).into_response()
}

/// Only our own files run or paint, nobody frames us, and nothing is kept.
async fn secured(request: Request, next: Next) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // `no-referrer` would take the origin away from our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

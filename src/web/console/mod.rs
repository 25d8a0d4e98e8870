//! What does an operator see and do in a browser? Pages of the worker itself, made on the server.
//!
//! Who may read says [`Doors`]; changing anything needs an operator's token ([`access`]). Pages work without a script;
//! with it, what changes by itself is kept up to date by server-sent events.

mod access;
mod asked;
mod audit;
mod batches;
mod deeds;
mod ends;
mod export;
mod fields;
mod find;
mod follow;
mod gate;
mod hour;
mod jobs;
mod letter;
mod letters;
mod look;
mod members;
mod now;
mod orders;
mod page;
mod planned;
mod standby;
mod steer;
mod told;
mod undo;
mod waiting;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use tokio::sync::{Semaphore, watch};

use crate::broker::dead_letters::Review;
use crate::message::status::Status;
use crate::web::http::{self, Doors, Orders};

pub use hour::{Hour, Sample};

/// Nobody has more to say: the ids of all dead letters of a page, or the reason of a pause.
const FORM_LIMIT: usize = 64 * 1024;
/// An edit brings a whole body, which may have 1 MiB, and a form writes three characters for many a byte.
const EDIT_LIMIT: usize = 4 * 1024 * 1024;
const EDIT: &str = "/dead-letters/prepare";
/// So many edits are read at once.
const EDITS: usize = 4;
/// Anybody may send this: a name and a token.
const LOG_IN_LIMIT: usize = 4 * 1024;
/// More pages are not kept up to date at once.
const STREAMS: usize = 32;

type Routes = Vec<(&'static str, MethodRouter<SharedConsole>)>;

/// All that changes something, and needs the operator's token. Logging in is the exception that leads there.
fn changes() -> Routes {
    vec![
        (access::LOG_OUT, post(access::log_out)),
        ("/gate/pause", post(steer::pause)),
        ("/gate/resume", post(steer::resume)),
        ("/gate/rate", post(steer::rate)),
        ("/window/priority", post(waiting::reprioritise)),
        ("/batches/order", post(planned::order)),
        (EDIT, post(orders::prepare)),
        ("/dead-letters/act", post(orders::act)),
        ("/dead-letters/note", post(letter::note)),
        ("/audit/undo", post(undo::prepare)),
        ("/jobs/stop", post(jobs::stop)),
    ]
}

/// What whoever may read can see.
fn readings() -> Routes {
    vec![
        ("/", get(now::show)),
        ("/events/now", get(now::events)),
        ("/now/hour", get(now::hour)),
        ("/find", get(find::show)),
        ("/window/one", get(waiting::one)),
        ("/batches", get(batches::list)),
        ("/batches/one", get(batches::one)),
        ("/dead-letters", get(letters::list)),
        ("/dead-letters/one", get(letter::show)),
        ("/dead-letters/export", get(export::download)),
        ("/dead-letters/prepared", get(orders::prepared)),
        ("/audit", get(audit::show)),
        ("/audit/one", get(audit::one)),
        ("/jobs", get(jobs::show)),
    ]
}

/// What everybody can see.
fn open() -> Routes {
    vec![
        (LOG_IN, log_in()),
        // Whether the worker is there at all.
        ("/alive", get(|| async { "ok\n" })),
        ("/assets/htmx.min.js", get(|| async { script(include_str!("assets/htmx.min.js")) })),
        ("/assets/htmx-sse.js", get(|| async { script(include_str!("assets/htmx-sse.js")) })),
        ("/assets/live.js", get(|| async { script(include_str!("assets/live.js")) })),
        ("/assets/console.css", get(|| async { style(include_str!("assets/console.css")) })),
        ("/assets/icon.svg", get(|| async { image(include_str!("assets/icon.svg")) })),
    ]
}

fn log_in() -> MethodRouter<SharedConsole> {
    get(access::ask)
        .post(access::log_in)
        .layer::<_, Infallible>(middleware::from_fn_with_state(LOG_IN_LIMIT, http::no_longer_than))
        .layer::<_, Infallible>(DefaultBodyLimit::max(LOG_IN_LIMIT))
}

/// The one route that takes a post of anybody.
pub const LOG_IN: &str = "/log-in";

/// The paths of every route, by who may use it: changes, readings, open.
pub fn paths() -> [Vec<&'static str>; 3] {
    [changes(), readings(), open()].map(|of| of.into_iter().map(|(path, _)| path).collect())
}

fn together(routes: Routes) -> Router<SharedConsole> {
    routes.into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route))
}

/// What the console needs of one lane.
#[derive(Clone, Debug)]
pub struct Lane {
    pub status: watch::Receiver<Status>,
    pub orders: Orders,
    pub hour: Hour,
    pub review: Review,
}

/// A lane, and what the last pass over its dead letters saw.
#[derive(Debug)]
struct LaneView {
    name: String,
    lane: Lane,
    looks: look::Looks,
    /// One act at a time.
    acting: tokio::sync::Mutex<()>,
    /// What comes next, as the loop said last.
    waiting: tokio::sync::Mutex<waiting::Latest>,
    /// On a standby: how the active worker is.
    active: tokio::sync::Mutex<standby::LatestActive>,
    follower: follow::Follower,
    /// When batches end, as was worked out last.
    ends: ends::Latest,
    scan: tokio::sync::Mutex<deeds::Scan>,
}

#[derive(Debug)]
struct Console {
    places: Vec<Arc<LaneView>>,
    doors: Arc<Doors>,
    orders: orders::Orders,
    jobs: jobs::Jobs,
    tellings: told::Tellings,
    /// A permit for each of [`EDITS`] and of [`STREAMS`].
    edits: Semaphore,
    streams: Arc<Semaphore>,
}

type SharedConsole = Arc<Console>;

/// The console's routes.
pub fn router(lanes: Vec<Lane>, doors: &Arc<Doors>) -> Router {
    let places = lanes.into_iter().map(|lane| {
        let name = lane.status.borrow().lane.clone();
        Arc::new(LaneView {
            name,
            lane,
            looks: look::Looks::default(),
            acting: tokio::sync::Mutex::default(),
            waiting: tokio::sync::Mutex::default(),
            active: tokio::sync::Mutex::default(),
            follower: follow::Follower::default(),
            ends: ends::Latest::default(),
            scan: tokio::sync::Mutex::default(),
        })
    });
    let console: SharedConsole = Arc::new(Console {
        places: places.collect(),
        doors: Arc::clone(doors),
        orders: orders::Orders::default(),
        jobs: jobs::Jobs::default(),
        tellings: told::Tellings::default(),
        edits: Semaphore::new(EDITS),
        streams: Arc::new(Semaphore::new(STREAMS)),
    });
    let may_change = middleware::from_fn_with_state(Arc::clone(&console), access::may_change);
    let may_read = middleware::from_fn_with_state(Arc::clone(&console), access::may_read);
    together(changes())
        .layer(may_change)
        .merge(together(readings()).fallback(asked::nowhere).layer(may_read))
        .merge(together(open()))
        .layer(middleware::from_fn(secured))
        .with_state(console)
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

//! Who may read the console, and who may change something?
//!
//! On loopback everybody on this machine may read; anybody else needs a log-in with the reader's or the operator's
//! token, and every change one with the operator's. A change needs the session's own secret in its form too, and comes
//! from our own pages.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use maud::html;
use sha2::{Digest as _, Sha256};

use super::asked::Whence;
use super::fields::Fields;
use super::page::{self, hidden, notice};
pub(super) use super::session::LogIn;
use super::session::Sessions;
use super::{Console, EDIT, EDIT_LIMIT, FORM_LIMIT, LOG_IN, SharedConsole};
use crate::web::http::{Operator, Right, is_longer};

const COOKIE: &str = "sluice-session";
pub(super) const LOG_OUT: &str = "/log-out";
/// Log-ins a minute, right or wrong.
const TRIES: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Who looks at a page: with a session, they are logged in.
pub(super) type Viewer = Option<LogIn>;

/// The viewer's session, if they may change something.
pub(super) fn operator(viewer: &Viewer) -> Option<&LogIn> {
    viewer.as_ref().filter(|session| session.right == Right::Change)
}

/// Where to log in, and where that leads back to.
pub(super) fn log_in_link(here: &str) -> String {
    let to = ours(here).filter(|path| !path.starts_with(LOG_IN));
    format!("{LOG_IN}{}", to.map(|to| page::query(&[("to", to)])).unwrap_or_default())
}

/// A path of this console, and nothing that a browser could take for another site.
fn ours(path: &str) -> Option<&str> {
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (is_plain && path.starts_with('/') && !path.starts_with("//") && path.len() < 2048)
        .then_some(path)
}

#[derive(Debug)]
pub(super) struct Access {
    operator: Operator,
    open_reading: bool,
    sessions: Sessions,
    tries: DefaultDirectRateLimiter,
}

impl Access {
    /// # Errors
    /// Other machines can reach `listen`, and there is no operator token.
    pub(super) fn new(operator: Operator, listen: SocketAddr) -> Result<Self, String> {
        let open_reading = listen.ip().is_loopback();
        if !open_reading && !operator.is_set() {
            return Err(format!(
                "http.listen is {listen}, which other machines can reach, and there is no operator token: set http.operator_token_file, or listen on 127.0.0.1"
            ));
        }
        let tries = RateLimiter::direct(Quota::per_minute(TRIES));
        let sessions = Sessions::new(operator.session_key(), operator.digest());
        Ok(Self { operator, open_reading, sessions, tries })
    }

    pub(super) fn session(&self, headers: &HeaderMap) -> Viewer {
        self.sessions.read(cookie(headers)?, Timestamp::now())
    }

    /// Reading is open to this machine. A page of another site whose name was turned to this address sends its own name.
    pub(super) fn may_read(&self, headers: &HeaderMap) -> bool {
        self.open_reading && is_this_machine(headers)
            || self.session(headers).is_some()
            || self.operator.bearer(headers).is_some()
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, "host") else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// Browsers say where a post comes from. What says nothing is no browser that could be misled.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = text(headers, "sec-fetch-site");
    let host = text(headers, "host").unwrap_or_default();
    let foreign = |origin: &str| origin.split_once("://").is_none_or(|(_, name)| name != host);
    site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || text(headers, "origin").is_some_and(foreign)
}

/// The page of ours that led to this question.
fn from(headers: &HeaderMap) -> Option<String> {
    let (_, rest) = text(headers, "referer")?.split_once("://")?;
    let (host, _) = rest.split_once('/')?;
    let path = &rest[host.len()..];
    (host == text(headers, "host")?).then(|| ours(path).map(str::to_owned)).flatten()
}

fn refused(headers: &HeaderMap, code: StatusCode, why: &str) -> Response {
    let back = from(headers).unwrap_or_else(|| "/".to_owned());
    let content =
        html! { (notice(true, why)) p.actions #back { a.button href=(back) { "← Back" } } };
    (code, page::bare("Not allowed", &content)).into_response()
}

fn here(request: &Request) -> String {
    request.uri().path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default()
}

/// Lets those read who may.
pub(super) async fn may_read(
    State(console): State<SharedConsole>,
    mut request: Request,
    next: Next,
) -> Response {
    if !console.access.may_read(request.headers()) {
        let why = "Reading needs a log-in here.";
        let form = form(&console, why, &here(&request));
        return (StatusCode::UNAUTHORIZED, form).into_response();
    }
    let viewer: Viewer = console.access.session(request.headers());
    let fields = Fields::of_query(request.uri().query());
    let whence = Whence { here: here(&request), from: from(request.headers()) };
    request.extensions_mut().insert(whence);
    request.extensions_mut().insert(viewer);
    request.extensions_mut().insert(fields);
    next.run(request).await
}

/// Lets those through who are logged in, and only with a form of ours.
pub(super) async fn may_change(
    State(console): State<SharedConsole>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if is_cross_site(headers) {
        let why = "This came from another site; nothing was done.";
        return refused(headers, StatusCode::FORBIDDEN, why);
    }
    let here = from(headers).unwrap_or_else(|| "/".to_owned());
    let Some(session) = console.access.session(headers) else {
        let why = "Nothing was done: changing anything needs a log-in, and a session ends after twelve hours.";
        return (StatusCode::UNAUTHORIZED, form(&console, why, &here)).into_response();
    };
    if session.right != Right::Change && request.uri().path() != LOG_OUT {
        let why = "You are logged in to read; changing anything needs the operator's token.";
        return refused(headers, StatusCode::FORBIDDEN, why);
    }
    let (mut parts, body) = request.into_parts();
    let body = match form_of(&console, parts.uri.path(), body).await {
        Ok(body) => body,
        Err((code, why)) => return refused(&parts.headers, code, &why),
    };
    let fields = Fields::of_form(&body);
    let given = fields.get("csrf").map(digest);
    if given != Some(digest(&session.csrf)) {
        let why = "This form is not of this session; go back, load the page again and repeat.";
        return refused(&parts.headers, StatusCode::FORBIDDEN, why);
    }
    let whence = Whence { here: here.clone(), from: Some(here) };
    parts.extensions.insert::<Viewer>(Some(session));
    parts.extensions.insert(fields);
    parts.extensions.insert(whence);
    next.run(Request::from_parts(parts, Body::empty())).await
}

/// The form that was sent, if it is there in time and no longer than it may be. Nothing was read of it before.
async fn form_of(console: &Console, path: &str, body: Body) -> Result<Bytes, (StatusCode, String)> {
    let is_edit = path == EDIT;
    let limit = if is_edit { EDIT_LIMIT } else { FORM_LIMIT };
    let too_long = || {
        let why =
            format!("The form is longer than {} KiB, or was not there in time.", limit / 1024);
        (StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    if is_longer(&body, limit) {
        return Err(too_long());
    }
    let busy = || {
        let why = "Other edits are being read just now; send it again in a moment.".to_owned();
        (StatusCode::SERVICE_UNAVAILABLE, why)
    };
    let _place =
        if is_edit { Some(console.edits.try_acquire().map_err(|_| busy())?) } else { None };
    to_bytes(body, limit).await.map_err(|_| too_long())
}

pub(super) async fn ask(State(console): State<SharedConsole>, request: Request) -> Response {
    let fields = Fields::of_query(request.uri().query());
    // Links in the pages do not say where they stand.
    let from = from(request.headers()).filter(|from| !from.starts_with(LOG_IN));
    form(&console, "", fields.get("to").or(from.as_deref()).unwrap_or("/")).into_response()
}

/// `to`: where the log-in leads to.
fn form(console: &Console, why: &str, to: &str) -> maud::Markup {
    let (can, operator) = (console.access.operator.can_log_in(), console.access.operator.is_set());
    page::bare(
        "Log in",
        &html! {
            @if !why.is_empty() { (notice(true, why)) }
            @if can {
                form.card.narrow method="post" action="/log-in" {
                    (hidden("to", ours(to).unwrap_or("/")))
                    p { label for="who" { "Your name" } input #who type="text" name="who" autocomplete="username" required maxlength="64" autofocus; }
                    p { label for="token" { "Token" } input #token type="password" name="token" autocomplete="current-password" required; }
                    p { button type="submit" { "Log in" } }
                    p.soft { "The operator's token is what " code { "http.operator_token_file" } " of the worker names; the reader's, "
                        code { "http.reader_token_file" } ", opens the pages and changes nothing. Your name stands in the audit beside what you do." }
                }
            }
            @if !operator {
                (notice(true, "This worker has no operator's token, so nobody can change anything here: set http.operator_token_file in its configuration and restart it."))
            }
        },
    )
}

pub(super) async fn log_in(
    State(console): State<SharedConsole>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let access = &console.access;
    if is_cross_site(&headers) {
        let why = "This came from another site; nothing was done.";
        return refused(&headers, StatusCode::FORBIDDEN, why);
    }
    let fields = Fields::of_form(&body);
    let to = fields.get("to").and_then(ours).unwrap_or("/");
    if !access.operator.can_log_in() {
        return (StatusCode::FORBIDDEN, form(&console, "", to)).into_response();
    }
    if access.tries.check().is_err() {
        let why = "Too many log-ins; wait a minute and try again.";
        return refused(&headers, StatusCode::TOO_MANY_REQUESTS, why);
    }
    let Some(right) = fields.get("token").and_then(|token| access.operator.right(token)) else {
        tracing::warn!("a log-in to the console with a wrong token");
        let why = "That is not a token of this worker.";
        return (StatusCode::UNAUTHORIZED, form(&console, why, to)).into_response();
    };
    let who: String = fields.get("who").unwrap_or("operator").chars().take(64).collect();
    let cookie = access.sessions.begin(&who, right, Timestamp::now());
    // Behind a proxy that speaks TLS, the browser says so by the page's origin.
    let is_secure = text(&headers, "origin").is_some_and(|origin| origin.starts_with("https:"));
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}");
    ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response()
}

pub(super) async fn log_out(State(console): State<SharedConsole>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers) {
        console.access.sessions.end(cookie, Timestamp::now());
    }
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, gone)], Redirect::to("/")).into_response()
}

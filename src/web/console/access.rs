//! Who may read the console, and who may change something?
//!
//! On loopback everybody on this machine may read; anybody else needs a log-in with the reader's or the operator's
//! token, and every change one with the operator's. A change needs the session's own secret in its form too, and comes
//! from our own pages.

use axum::Extension;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use maud::html;
use sha2::{Digest as _, Sha256};

use super::asked::Whence;
use super::fields::Fields;
use super::page::{self, hidden, notice};
use super::{Console, EDIT, EDIT_LIMIT, FORM_LIMIT, LOG_IN, SharedConsole};
use crate::report::text::visible;
pub(super) use crate::web::http::LogIn;
use crate::web::http::{COOKIE, Caller, Judged, Reading, Right, cookie, is_foreign, is_longer};

pub(super) const LOG_OUT: &str = "/log-out";
const TOO_MANY: &str = "Too many tokens were tried from this address; wait a minute and try again.";

/// Who looks at a page: with a session, they are logged in.
pub(super) type Viewer = Option<LogIn>;

/// The viewer's session, if they may change something.
pub(super) fn operator(viewer: &Viewer) -> Option<&LogIn> {
    viewer.as_ref().filter(|session| session.right == Right::Change)
}

/// What the names in the audit are worth.
pub(super) fn whose(console: &Console) -> maud::Markup {
    let own = console.doors.tokens.names().collect::<Vec<_>>().join(", ");
    html! {
        p.soft #whose {
            "Names are typed by whoever logged in or ran a command, and nobody checks them"
            @if !own.is_empty() { ", but for those of tokens of their own, where they acted in this console: " (visible(&own)) ". Over the broker everybody says whatever name they like" }
            "."
        }
    }
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

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Browsers say where a post comes from. What says nothing is no browser that could be misled.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let host = text(headers, "host").unwrap_or_default();
    let foreign = |origin: &str| origin.split_once("://").is_none_or(|(_, name)| name != host);
    is_foreign(headers) || text(headers, "origin").is_some_and(foreign)
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

/// A link of another site leads on with one more click, which is then the viewer's own.
fn from_elsewhere(here: &str) -> Response {
    let to = ours(here).unwrap_or("/");
    let content = html! {
        (notice(false, "Another site led here, and nothing was read for it. If you followed a link, go on:"))
        p.actions #on { a.button href=(to) { "Open this page" } }
    };
    (StatusCode::FORBIDDEN, page::bare("A link of another site", &content)).into_response()
}

/// Lets those read who may.
pub(super) async fn may_read(
    State(console): State<SharedConsole>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let reading = console.doors.may_read(&parts);
    let mut request = Request::from_parts(parts, body);
    let log_in = |code, why| (code, form(&console, why, &here(&request))).into_response();
    match reading {
        Reading::Allowed => {}
        Reading::Foreign => return from_elsewhere(&here(&request)),
        Reading::Unknown => {
            return log_in(StatusCode::UNAUTHORIZED, "Reading needs a log-in here.");
        }
        Reading::TooMany => return log_in(StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
    }
    let viewer: Viewer = console.doors.session(request.headers());
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
    let Some(session) = console.doors.session(headers) else {
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
    let tokens = &console.doors.tokens;
    let (can, operator) = (tokens.can_log_in(), tokens.is_set());
    let own = tokens.names().next().is_some();
    page::bare(
        "Log in",
        &html! {
            @if !why.is_empty() { (notice(true, why)) }
            @if can {
                form.card.narrow method="post" action="/log-in" {
                    (hidden("to", ours(to).unwrap_or("/")))
                    p { label for="who" { "Your name" } input #who type="text" name="who" autocomplete="username" required[!own] maxlength="64" autofocus; }
                    p { label for="token" { "Token" } input #token type="password" name="token" autocomplete="current-password" required; }
                    p { button type="submit" { "Log in" } }
                    p.soft { "The operator's token is what " code { "http.operator_token_file" } " of the worker names; the reader's, "
                        code { "http.reader_token_file" } ", opens the pages and changes nothing. Your name stands in the audit beside what you do, as you type it here: nobody checks it"
                        @if own { ", unless your token is your own (" code { "http.operators" } "), which has its name with it" } "." }
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
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let doors = &console.doors;
    if is_cross_site(&headers) {
        let why = "This came from another site; nothing was done.";
        return refused(&headers, StatusCode::FORBIDDEN, why);
    }
    let fields = Fields::of_form(&body);
    let to = fields.get("to").and_then(ours).unwrap_or("/");
    if !doors.tokens.can_log_in() {
        return (StatusCode::FORBIDDEN, form(&console, "", to)).into_response();
    }
    let caller = caller.map_or(Caller::NOBODY, |Extension(caller)| caller);
    let again = |code, why: &str| (code, form(&console, why, to)).into_response();
    let known = match doors.log_in(caller, fields.get("token").unwrap_or_default().trim()) {
        Judged::Right(known) => known,
        Judged::Wrong => {
            return again(StatusCode::UNAUTHORIZED, "That is not a token of this worker.");
        }
        Judged::TooMany => return refused(&headers, StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
    };
    let typed = fields.get("who").map(str::trim).filter(|who| !who.is_empty());
    let typed: String = typed.unwrap_or("operator").chars().take(64).collect();
    if known.name.is_none() && doors.tokens.is_taken(&typed) {
        let why = "This name has a token of its own: log in with that, or under another name.";
        return again(StatusCode::FORBIDDEN, why);
    }
    let cookie = doors.sessions.begin(&known, &typed, Timestamp::now());
    // Behind a proxy that speaks TLS, the browser says so by the page's origin.
    let is_secure = text(&headers, "origin").is_some_and(|origin| origin.starts_with("https:"));
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}");
    ([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response()
}

pub(super) async fn log_out(State(console): State<SharedConsole>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers) {
        console.doors.sessions.end(cookie, Timestamp::now());
    }
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, gone)], Redirect::to("/")).into_response()
}

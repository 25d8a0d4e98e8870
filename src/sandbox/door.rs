//! How does one call come in and go out? Quota, faults, delays and broken connections around the plain answer.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::stream;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use tokio::time::sleep;

use super::call::{Answer, Call, Kind};
use super::errors;
use super::faults::{Action, Strike};
use super::log::CallRecord;
use super::stats::Ticket;
use super::wire::{Cut, Line};
use super::world::sha256;
use super::{GATEWAY_MAX_BODY, Hub};
use crate::contract::{self, Rules};
use crate::core::Moment;

const HTML: &str = "<html><head><title>Please log in</title></head><body>Web proxy</body></html>\n";

/// Everything under the API's own paths.
pub(super) async fn answer(
    State(hub): State<Hub>,
    Extension(line): Extension<Arc<Line>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut visit = Visit::begin(&hub, &parts);
    let Ok(body) = axum::body::to_bytes(body, GATEWAY_MAX_BODY).await else {
        let prefix = hub.world().options.quota.prefix.clone();
        let message = "Request entity too large";
        let answer = errors::gateway(413, &prefix, "0201", message, &visit.record.request_id);
        return visit.respond(answer);
    };
    let call = hub.read(parts, body);
    visit.describe(&call);
    let passed = hub.world().pass(call.kind, visit.arrived, &visit.record.request_id);
    if let Err(refused) = passed {
        return visit.respond(refused);
    }
    let strike = hub.world().draw(&call);
    visit.record.fault.clone_from(&strike.name);
    visit.suffer(call, strike, &line).await
}

/// One call from its arrival to its end. Dropped before its end, it was given up by the client.
struct Visit {
    hub: Hub,
    arrived: Moment,
    /// Taken when the call ends.
    ticket: Option<Ticket>,
    record: CallRecord,
}

impl Visit {
    fn begin(hub: &Hub, parts: &Parts) -> Self {
        let kind = Kind::of(&parts.method, parts.uri.path());
        let (call, ticket, now, request_id) = hub.world().arrived(kind);
        let record = CallRecord {
            call,
            kind,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            started: now.wall,
            ended: now.wall,
            status: None,
            error_code: None,
            task_id: None,
            source_server_id: None,
            name: None,
            priority: None,
            body_bytes: 0,
            body_sha256: None,
            traceparent: None,
            request_id,
            fault: None,
            abandoned: false,
        };
        Self { hub: hub.clone(), arrived: now.at, ticket: Some(ticket), record }
    }

    fn describe(&mut self, call: &Call) {
        let (name, priority) = call.name_and_priority();
        self.record.name = name.map(str::to_owned);
        self.record.priority = priority;
        self.record.source_server_id = call.source().map(str::to_owned);
        self.record.traceparent = call.header("traceparent").map(str::to_owned);
        self.record.body_bytes = call.body.len();
        self.record.body_sha256 = (call.kind == Kind::Create).then(|| sha256(&call.body));
    }

    async fn suffer(mut self, call: Call, strike: Strike, line: &Line) -> Response {
        let Strike { delay, answer_delay, action, .. } = strike;
        let mut answer = Answer::default();
        if action.applies() {
            answer = self.process(call, delay).await;
            self.record.error_code.clone_from(&answer.error_code);
            self.record.task_id.clone_from(&answer.task_id);
        } else {
            pause(delay).await;
            if let Action::Late(late) = &action {
                self.hub.world().put_off(self.record.call, call, late.by);
            }
        }
        pause(answer_delay).await;
        match action {
            Action::Nothing => self.respond(answer),
            Action::Answer(canned) => {
                let body =
                    serde_json::json!({"error_code": canned.code, "error_msg": canned.message});
                self.respond(Answer {
                    status: canned.status,
                    headers: canned.headers.into_iter().collect(),
                    body: canned.body.unwrap_or_else(|| body.to_string()),
                    error_code: Some(canned.code).filter(|code| !code.is_empty()),
                    task_id: answer.task_id,
                })
            }
            Action::Reset(_) => self.cut(line, Cut::Reset),
            Action::Late(late) if late.reset => self.cut(line, Cut::Reset),
            Action::Close(_) | Action::Late(_) => self.cut(line, Cut::Close),
            Action::Garbage(_) => self.cut(line, Cut::Garbage),
            Action::Hang(_) => std::future::pending().await,
            Action::NotJson(_) => {
                let html = Answer { body: HTML.to_owned(), status: 200, ..answer };
                self.respond(html.header("Content-Type", "text/html"))
            }
            Action::NoId(_) => {
                self.respond(Answer { body: "{}".to_owned(), status: 200, ..answer })
            }
            Action::Slow(slow) => {
                self.respond_with(answer, |body| trickle(body, slow.bytes_per_second))
            }
            Action::Truncated => self.respond_with(answer, half),
        }
    }

    /// Processes the call after the delay. Once it has been read, a real server works on, whether the client waits or
    /// not; so this does not end with the connection.
    async fn process(&self, call: Call, delay: Duration) -> Answer {
        let hub = self.hub.clone();
        let request_id = self.record.request_id.clone();
        if delay.is_zero() {
            return hub.world().process(&call, &request_id);
        }
        let work = tokio::spawn(async move {
            sleep(delay).await;
            hub.world().process(&call, &request_id)
        });
        // It fails only if the runtime ends.
        work.await.unwrap_or_default()
    }

    fn cut(mut self, line: &Line, how: Cut) -> Response {
        line.cut(how);
        self.end();
        // Never sent: the stream fails when the server tries to.
        Response::new(Body::empty())
    }

    fn respond(self, answer: Answer) -> Response {
        self.respond_with(answer, Body::from)
    }

    fn respond_with(mut self, answer: Answer, body: impl FnOnce(Bytes) -> Body) -> Response {
        self.record.status = Some(answer.status);
        self.record.error_code.clone_from(&answer.error_code);
        let skewed = {
            let mut world = self.hub.world();
            let now = world.now();
            world.api_time(now).wall
        };
        let headers = headers(&answer, &self.record.request_id, skewed);
        self.end();
        let length = answer.body.len();
        let mut response = Response::new(body(Bytes::from(answer.body)));
        *response.status_mut() =
            StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = headers;
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response
    }

    fn end(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.hub.world().ended(ticket, self.record.clone());
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.record.abandoned = true;
            self.end();
        }
    }
}

impl Hub {
    fn read(&self, parts: Parts, body: Bytes) -> Call {
        let kind = Kind::of(&parts.method, parts.uri.path());
        let rules = {
            let options = &self.world().options;
            Rules { strict: options.strict, max_body: options.max_body }
        };
        // Reading a large body takes a while, so the world is not held meanwhile.
        let reading = (kind == Kind::Create).then(|| contract::read(&body, &rules));
        let query = Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let id = path.trim_matches('/').split('/').nth(2).unwrap_or_default();
        Call {
            kind,
            method: parts.method,
            id: percent_decode_str(id).decode_utf8_lossy().into_owned(),
            path,
            query,
            headers: parts.headers,
            body,
            reading,
        }
    }
}

fn headers(answer: &Answer, request_id: &str, date: Timestamp) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let date =
        httpdate::fmt_http_date(SystemTime::try_from(date).unwrap_or(SystemTime::UNIX_EPOCH));
    let own = [("x-request-id", request_id), ("date", &date)];
    let given = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.into_iter().chain(given) {
        // A script may name headers that HTTP does not allow; the rest of the answer is sent all the same.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    headers
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        sleep(duration).await;
    }
}

/// The body in ten pieces a second.
fn trickle(body: Bytes, bytes_per_second: u32) -> Body {
    let piece = bytes_per_second.div_ceil(10).max(1);
    let every = Duration::from_secs_f64(f64::from(piece) / f64::from(bytes_per_second.max(1)));
    let piece = piece as usize;
    Body::from_stream(stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(every).await;
        let piece = rest.split_to(piece.min(rest.len()));
        Some((Ok::<_, Infallible>(piece), rest))
    }))
}

/// Half of the body, then an error, which makes the server close the connection.
fn half(mut body: Bytes) -> Body {
    let sent = body.split_to(body.len() / 2);
    Body::from_stream(stream::unfold(Some(sent), move |sent| async move {
        if let Some(sent) = sent {
            return Some((Ok(sent), None));
        }
        // The server sends what it has when there is nothing more for the moment.
        tokio::task::yield_now().await;
        Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
    }))
}

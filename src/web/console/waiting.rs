//! Which requests come next, what does each wait for, and how is one moved forward or back?

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use uuid::Uuid;

use super::LaneView;
use super::access::{Viewer, operator};
use super::asked::Asked;
use super::page::{self, ago, csrf, hidden, notice, query};
use crate::core::engine::{Upcoming, Waits};
use crate::core::{Change, Target};
use crate::message::command::{Command, IssuedCommand};
use crate::message::status::{SessionStatus, Status};
use crate::report::text::{grouped, visible};
use crate::web::http::control::give;

/// The loop is asked no more often, however many look.
const FRESH: Duration = Duration::from_millis(900);

/// A question for one request has the loop look at its whole window, so there is one at a time, and a pause after it.
const PAUSE: Duration = Duration::from_millis(50);

/// What the worker's loop said last, of what comes next (`None`) or of one run, and when.
#[derive(Debug, Default)]
pub(super) struct Latest {
    next: Option<(Instant, Told)>,
    one: Option<(Instant, Uuid, Told)>,
}

type Told = Result<Vec<Upcoming>, String>;

impl LaneView {
    /// The requests that come next; `Err`: why nobody can tell.
    async fn next_requests(&self) -> Told {
        let mut latest = self.waiting.lock().await;
        if let Some((at, told)) = &latest.next
            && at.elapsed() < FRESH
        {
            return told.clone();
        }
        let told = self.ask_window(None).await;
        latest.next = Some((Instant::now(), told.clone()));
        told
    }

    /// The request of this run, if it waits.
    async fn one_request(&self, run: Uuid) -> Told {
        let mut latest = self.waiting.lock().await;
        if let Some((at, of, told)) = &latest.one {
            if *of == run && at.elapsed() < FRESH {
                return told.clone();
            }
            tokio::time::sleep(PAUSE.saturating_sub(at.elapsed())).await;
        }
        let told = self.ask_window(Some(run)).await;
        latest.one = Some((Instant::now(), run, told.clone()));
        told
    }

    async fn ask_window(&self, run: Option<Uuid>) -> Told {
        if let SessionStatus::Standby { .. } = self.lane.status.borrow().session {
            return Err("this worker is a standby: the active one holds the window".to_owned());
        }
        let command = Command::Window { first: None, run };
        let issued = IssuedCommand { command, by: "console".to_owned(), reason: None };
        let (_, answer) = give(&self.lane.status, &self.lane.orders, issued).await;
        answer.window.ok_or(answer.said)
    }
}

/// The window in order, as much of it as a page shows.
pub(super) async fn table(place: &LaneView, status: &Status) -> Markup {
    let held = status.window.ready + status.window.waiting;
    match place.next_requests().await {
        Err(why) => notice(false, &format!("What comes next is not known: {why}.")),
        Ok(next) if next.is_empty() => {
            html! { p.soft { "Nothing waits. What is enqueued shows up here, the most urgent first." } }
        }
        Ok(next) => html! {
            div.scroll { table #window {
                thead { tr { th.n { "#" } th.n { "Priority" } th { "Name" } th { "Waits for" } th.wide { "Enqueued" } th.wide { "Source server" } th.wide { "Batch" } } }
                tbody { @for (place_in_line, one) in next.iter().enumerate() { (row(place, place_in_line + 1, one)) } }
            } }
            @if held > next.len() { p.soft { "The first " (next.len()) " of " (grouped(held)) "." } }
        },
    }
}

fn row(place: &LaneView, number: usize, one: &Upcoming) -> Markup {
    let run = one.run.to_string();
    html! {
        tr {
            td.n { (number) }
            td.n { (one.priority) }
            td { a id={ "run-" (run) } href={ "/window/one" (query(&[("lane", &place.name), ("run", &run)])) } { bdi { (visible(title(one))) } } }
            td { (waits(one)) }
            td.wide { @if let Some(at) = one.enqueued_at { (page::clock(at)) } }
            td.wide { bdi { (visible(&one.source_server_id)) } }
            td.wide { @if let Some(batch) = &one.batch { a id={ "batch-" (run) } href={ "/batches/one" (query(&[("lane", &place.name), ("batch", batch)])) } { (visible(batch)) } } }
        }
    }
}

fn title(one: &Upcoming) -> &str {
    if one.name.is_empty() { &one.id } else { &one.name }
}

fn waits(one: &Upcoming) -> Markup {
    let what = match (one.waits, one.until) {
        (Waits::Turn, _) => "its turn",
        (Waits::NotBefore, _) => "its time",
        (Waits::Release, _) => "its release: it is held",
        (Waits::Retry, _) => "the next try",
        (Waits::Look, None) => "a look-up: is there a task already?",
        (Waits::Look, Some(_)) => "another look-up",
        (Waits::Copy, _) => "another request for this source server",
        (Waits::Refused, _) => {
            "another try: the account refused it, or its project, where others were not"
        }
    };
    html! { (what) @if let Some(until) = one.until { ", at " (page::clock(until)) } }
}

pub(super) async fn one(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let run = fields.get("run").and_then(|run| run.parse::<Uuid>().ok());
    let Some(run) = run else {
        let why = "Which request? The links of the window lead to each.";
        return asked.trouble(StatusCode::NOT_FOUND, why);
    };
    let is_moved = fields.get("done").is_some();
    let content = match place.one_request(run).await {
        Ok(found) => html! {
            @if let Some(one) = found.first() {
                @if is_moved { (notice(false, "Done: it has its new priority, and so it will have at any other worker.")) }
                (details(place, &asked.viewer, one))
            } @else if is_moved {
                (notice(false, "Done: it has its new priority. It has gone back to the queue with it and is not taken out again yet, or is in flight already; load this page again in a moment."))
                p { a href={ "/" (query(&[("lane", &place.name)])) } { "To the window" } }
            } @else {
                (notice(false, "This request does not wait here any more: it is in flight, has ended, or was never held by this worker."))
                p { a href={ "/" (query(&[("lane", &place.name)])) } { "To the window" } }
            }
        },
        Err(why) => notice(true, &format!("The worker cannot be asked now: {why}.")),
    };
    asked.page("Request", &content)
}

fn details(place: &LaneView, viewer: &Viewer, one: &Upcoming) -> Markup {
    let run = one.run.to_string();
    html! {
        section.card {
            h2 { bdi { (visible(title(one))) } }
            dl.sheet {
                dt { "Priority" } dd #priority { (one.priority) }
                dt { "Waits for" } dd { (waits(one)) }
                dt { "Source server" } dd { bdi { (visible(&one.source_server_id)) } }
                dt { "Message id" } dd { bdi { (visible(&one.id)) } }
                @if let Some(batch) = &one.batch { dt { "Batch" } dd { a href={ "/batches/one" (query(&[("lane", &place.name), ("batch", batch)])) } { (visible(batch)) } } }
                @if let Some(at) = one.enqueued_at { dt { "Enqueued" } dd { (ago(at)) } }
                dt { "Attempts so far" } dd { (one.attempts) }
                dt { "Run" } dd { code { (run) } }
            }
        }
        section.card {
            h2 { "Another priority" }
            @if let Some(session) = operator(viewer) {
                form.line method="post" action="/window/priority" {
                    (csrf(session)) (hidden("lane", &place.name)) (hidden("run", &run))
                    label { "Priority, 0 to 65535; higher is more urgent" input type="number" name="priority" min="0" max="65535" value=(one.priority) required; }
                    label { "Why" input type="text" name="why" maxlength="500" autocomplete="off"; }
                    button type="submit" { "Set" }
                }
                p.soft { "The body stays as it is, and the request keeps its retries. Every worker obeys it. It is in the audit." }
            } @else { p { a href="/log-in" { "Log in" } " with the operator's token to move it forward or back." } }
        }
        p { a href={ "/" (query(&[("lane", &place.name)])) } { "To the window" } }
    }
}

pub(super) async fn reprioritise(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let priority = fields.get("priority").and_then(|text| text.parse::<u16>().ok());
    let (Some(run), Some(priority)) = (fields.get("run"), priority) else {
        let why = "Which request, and which priority? It is a whole number from 0 to 65535.";
        return asked.trouble(StatusCode::BAD_REQUEST, why);
    };
    let command = Command::Order {
        of: Target::Request(run.to_owned()),
        change: Change { priority: Some(priority), ..Change::default() },
    };
    let reason = fields.get("why").map(str::to_owned);
    let answer = place.order(IssuedCommand { command, by: asked.who(), reason }).await;
    if !answer.done {
        let why = format!("It keeps its priority: {}.", answer.said);
        return asked.trouble(StatusCode::CONFLICT, &why);
    }
    *place.waiting.lock().await = Latest::default();
    let back = query(&[("lane", &place.name), ("run", run), ("done", "1")]);
    Redirect::to(&format!("/window/one{back}")).into_response()
}

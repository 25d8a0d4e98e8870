//! Which requests come next, what does each wait for, and how is one moved forward or back?

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use uuid::Uuid;

use super::LaneView;
use super::access::{Viewer, operator};
use super::asked::Asked;
use super::page::{self, ago, csrf, hidden, notice, query, whole};
use crate::core::engine::{Sought, Upcoming, Waits};
use crate::core::{Change, Target};
use crate::message::command::{Command, IssuedCommand};
use crate::message::status::{SessionStatus, Status};
use crate::report::text::grouped;
use crate::web::http::control::give;

/// The loop is asked no more often, however many look.
const FRESH: Duration = Duration::from_millis(900);

/// A question for one request has the loop look at its whole window, so there is one at a time, and a pause after it.
const PAUSE: Duration = Duration::from_millis(50);

/// Rows of the window on a page.
const ROWS: usize = 20;
/// Pages that are looked at at once; more are asked for again.
const PAGES: usize = 8;

/// What the worker's loop said last, of what comes next, by where that begins, or of one run, and when.
#[derive(Debug, Default)]
pub(super) struct Latest {
    next: VecDeque<(Instant, usize, Told)>,
    one: Option<(Instant, Uuid, Told)>,
}

pub(super) type Told = Result<Vec<Upcoming>, String>;

impl LaneView {
    /// The requests that come next, without the first `from`; `Err`: why nobody can tell.
    async fn next_requests(&self, from: usize) -> Told {
        let mut latest = self.waiting.lock().await;
        latest.next.retain(|(at, ..)| at.elapsed() < FRESH);
        if let Some((_, _, told)) = latest.next.iter().find(|(_, of, _)| *of == from) {
            return told.clone();
        }
        let told = self.ask_window(Some(ROWS), None, Some(from)).await;
        latest.next.truncate(PAGES - 1);
        latest.next.push_front((Instant::now(), from, told.clone()));
        told
    }

    /// A page of the requests that are sought, without the first `from`: in flight, or in the window. A standby asks the
    /// active worker.
    pub(super) async fn find_requests(&self, sought: Sought<'_>, from: usize) -> Told {
        let _one_at_a_time = self.waiting.lock().await;
        let command = Command::Window {
            first: Some(page::ROWS),
            run: None,
            from: Some(from),
            find: Some(sought.text.to_owned()),
            batch: sought.batch.map(str::to_owned),
        };
        let issued = IssuedCommand { command, by: "console".to_owned(), reason: None };
        let answer = self.order(issued).await;
        answer.window.ok_or(answer.said)
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
        let told = self.ask_window(None, Some(run), None).await;
        latest.one = Some((Instant::now(), run, told.clone()));
        told
    }

    async fn ask_window(
        &self,
        first: Option<usize>,
        run: Option<Uuid>,
        from: Option<usize>,
    ) -> Told {
        if let SessionStatus::Standby { .. } = self.lane.status.borrow().session {
            return Err("this worker is a standby: the active one holds the window".to_owned());
        }
        let command = Command::Window { first, run, from, find: None, batch: None };
        let issued = IssuedCommand { command, by: "console".to_owned(), reason: None };
        let (_, answer) = give(&self.lane.status, &self.lane.orders, issued).await;
        answer.window.ok_or(answer.said)
    }
}

/// The window in order, a page of it.
pub(super) async fn table(place: &LaneView, status: &Status, page: usize) -> Markup {
    let held = status.window.ready + status.window.waiting;
    let pages = held.div_ceil(ROWS).max(1);
    let page = page.min(pages);
    let from = (page - 1) * ROWS;
    match place.next_requests(from).await {
        Err(why) => notice(false, &format!("What comes next is not known: {why}.")),
        Ok(next) if next.is_empty() && from == 0 => {
            html! { p.soft { "Nothing waits. What is enqueued shows up here, the most urgent first." } }
        }
        Ok(next) => html! {
            table #window.stack {
                thead { tr { th.n { "#" } th.n { "Priority" } th { "Name" } th { "Why it waits" } th { "Enqueued" } th { "Source server" } th { "Batch" } } }
                tbody { @for (n, one) in next.iter().enumerate() { (row(place, status, from + n + 1, one)) } }
            }
            @if held > next.len() { p.soft { (grouped(from + 1)) " to " (grouped(from + next.len())) " of " (grouped(held)) "." } }
            @if pages > 1 {
                (page::turn_by("Pages of the window", ["← sooner", "later →"], page, pages, |n| {
                    format!("/{}#window", query(&[("lane", &place.name), ("page", &n.to_string())]))
                }))
            }
        },
    }
}

fn row(place: &LaneView, status: &Status, number: usize, one: &Upcoming) -> Markup {
    html! {
        tr {
            td.n data-label="#" { (number) }
            td.n data-label="priority" { (one.priority) }
            td.name { (link(place, one)) }
            td.why { (why(status, number, one)) }
            td.wide.when { @if let Some(at) = one.enqueued_at { (page::clock(at)) } }
            td.wide { (whole(&one.source_server_id)) }
            td.wide { @if let Some(batch) = &one.batch { (batch_link(place, one, batch)) } }
        }
    }
}

/// To the page of a request.
pub(super) fn link(place: &LaneView, one: &Upcoming) -> Markup {
    let run = one.run.to_string();
    html! { a id={ "run-" (run) } href={ "/window/one" (query(&[("lane", &place.name), ("run", &run)])) } { (whole(title(one))) } }
}

fn batch_link(place: &LaneView, one: &Upcoming, batch: &str) -> Markup {
    html! { a id={ "batch-" (one.run) } href={ "/batches/one" (query(&[("lane", &place.name), ("batch", batch)])) } { (whole(batch)) } }
}

/// Why this one does not go now: what stands before it, what shuts the gate, or what it waits for itself.
fn why(status: &Status, number: usize, one: &Upcoming) -> Markup {
    let before = match number {
        1 => "it goes next".to_owned(),
        2 => "its turn, after the one before it".to_owned(),
        n => format!("its turn, after the {} before it", grouped(n - 1)),
    };
    match one.waits {
        Waits::Turn if status.gate.open => html! { (before) },
        Waits::Turn => html! { (before) ", when the gate opens" },
        _ => waits(one),
    }
}

pub(super) fn title(one: &Upcoming) -> &str {
    if one.name.is_empty() { &one.id } else { &one.name }
}

/// What a request waits for, whatever stands before it.
pub(super) fn waits(one: &Upcoming) -> Markup {
    html! { (one.waits_for()) @if let Some(until) = one.until { ", at " (page::clock(until)) } }
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
                (notice(false, "Done: it has its new priority. It was requeued with it and has not come again yet, or is in flight already; load this page again in a moment."))
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
            h2 { (whole(title(one))) }
            dl.sheet {
                dt { "Priority" } dd #priority { (one.priority) }
                dt { "Waits for" } dd { (waits(one)) }
                dt { "Source server" } dd { (whole(&one.source_server_id)) }
                dt { "Message id" } dd { (whole(&one.id)) }
                @if let Some(batch) = &one.batch { dt { "Batch" } dd { a href={ "/batches/one" (query(&[("lane", &place.name), ("batch", batch)])) } { (whole(batch)) } } }
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

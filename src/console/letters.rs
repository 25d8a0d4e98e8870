//! Which dead letters are there, why did they die, and what does one of them say?

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::access::{Session, Viewer};
use super::fields::{FILTER, Fields};
use super::page::{self, ago, csrf, hidden, notice, query};
use super::text::{beginning, indented, visible};
use super::{Console, Place, Shared};
use crate::broker::dead_letters::{Found, ReviewError, Snapshot};
use crate::review::audit::By;
use crate::review::{Filter, Group, Letter};

/// More rows than this nobody reads; the filter leads to the others.
const ROWS: usize = 200;

const NO_LANE: &str =
    "There is no lane of this name; the links above lead to those that are there.";

impl Place {
    /// What the last pass saw; `again`: of a pass that is made now.
    pub(super) async fn look(&self, again: bool) -> Result<Arc<Snapshot>, ReviewError> {
        let before = self.seen();
        let looking = self.looking.lock().await;
        // Somebody else may have looked while this one waited.
        let now = self.seen();
        let is_news = match (&before, &now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            _ => true,
        };
        if let Some(seen) = now
            && (!again || is_news)
        {
            return Ok(seen);
        }
        let snapshot = Arc::new(self.lane.review.list().await?);
        *self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(Arc::clone(&snapshot));
        drop(looking);
        Ok(snapshot)
    }
}

/// A page that says what went wrong, in the frame.
pub(super) fn trouble(console: &Console, viewer: &Viewer, code: StatusCode, why: &str) -> Response {
    let page = match console.places.first() {
        Some(place) => {
            page::framed(console, place, viewer, "That did not work", &notice(true, why))
        }
        None => page::bare("That did not work", &notice(true, why)),
    };
    (code, page).into_response()
}

pub(super) async fn list(
    State(console): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    RawQuery(raw): RawQuery,
) -> Response {
    let fields = Fields::of_query(raw);
    let Some(place) = console.place(&fields) else {
        return trouble(&console, &viewer, StatusCode::NOT_FOUND, NO_LANE);
    };
    let (filter, wrong) = match fields.filter() {
        Ok(filter) => (filter, None),
        Err(why) => (Filter::default(), Some(why)),
    };
    let content = match place.look(fields.get("look").is_some()).await {
        Ok(snapshot) => html! {
            @if let Some(why) = &wrong { (notice(true, why)) }
            (overview(place, &viewer, &fields, &filter, &snapshot))
        },
        Err(error) => html! {
            (notice(true, &format!("The dead letters cannot be seen now: {error}.")))
            p { a href={ "/dead-letters?look=1&" (fields.query()) } { "Try again" } }
        },
    };
    page::framed(&console, place, &viewer, "Dead letters", &content).into_response()
}

fn overview(
    place: &Place,
    viewer: &Viewer,
    fields: &Fields,
    filter: &Filter,
    snapshot: &Snapshot,
) -> Markup {
    let all = *filter == Filter::default();
    let selected: Vec<&Found> = snapshot.select(filter).collect();
    let groups = snapshot.groups(filter);
    html! {
        p { "Looked " (ago(snapshot.at)) ": " strong { (snapshot.letters.len()) } " dead letters. "
            a href={ "/dead-letters?look=1&" (fields.query()) } { "Look again" } }
        @if snapshot.left > 0 {
            (notice(false, &format!("One pass cannot hold all: {} more were not looked at. They come to light when some of these are gone.", snapshot.left)))
        }
        (filter_form(fields, all))
        @if snapshot.letters.is_empty() {
            (notice(false, "No dead letters: every request so far has ended well, or waits for its turn."))
        } @else if selected.is_empty() {
            (notice(false, "No dead letter meets these conditions; clear the filter to see all."))
        } @else {
            h2 { (groups.len()) " causes" }
            (group_table(&place.name, &groups))
            h2 { (selected.len()) @if all { " letters" } @else { " letters that meet the conditions" } }
            (letter_form(place, viewer, fields, &selected))
        }
    }
}

fn filter_form(fields: &Fields, all: bool) -> Markup {
    html! {
        details.card open[!all] {
            summary { "Filter" }
            form.line method="get" action="/dead-letters" {
                @if let Some(lane) = fields.get("lane") { (hidden("lane", lane)) }
                @for (name, label) in FILTER {
                    label { (label) input type="text" name=(name) value=(fields.get(name).unwrap_or("")); }
                }
                button type="submit" { "Show" }
                @if !all { a href="/dead-letters" { "Clear" } }
            }
        }
    }
}

fn group_table(lane: &str, groups: &[Group]) -> Markup {
    html! {
        div.scroll.card { table #causes {
            thead { tr { th.n { "Letters" } th { "Cause" } th.wide { "Newest" } th.wide { "Oldest" } } }
            tbody { @for group in groups {
                @let cause = &group.cause;
                tr {
                    td.n { (group.count) }
                    td {
                        a href={ "/dead-letters" (query(&[("lane", lane), ("cause", &cause.id)])) } {
                            (cause.outcome) @if let Some(code) = &cause.error_code { " " (visible(code)) } @if let Some(status) = cause.status { " (" (status) ")" }
                        }
                        br; bdi { (visible(&cause.message)) }
                    }
                    td.wide { @if let Some(at) = group.newest { (ago(at)) } }
                    td.wide { @if let Some(at) = group.oldest { (ago(at)) } }
                }
            } }
        } }
    }
}

fn letter_form(place: &Place, viewer: &Viewer, fields: &Fields, selected: &[&Found]) -> Markup {
    html! {
        form.card method="post" action="/dead-letters/prepare" {
            (hidden("lane", &place.name))
            @for (name, _) in FILTER { @if let Some(value) = fields.get(name) { (hidden(name, value)) } }
            @if let Some(session) = viewer {
                (csrf(session))
                fieldset {
                    legend { "Which" }
                    label { input type="radio" name="which" value="all" checked; " all " (selected.len()) }
                    label { input type="radio" name="which" value="ticked"; " those that are ticked below" }
                }
                details {
                    summary { "Edit and replay" }
                    label for="changes" { "One change a line: target_server.name=web-1 sets a field, tags! removes one" }
                    textarea #changes name="changes" {}
                    button type="submit" name="do" value="edit" { "Preview the edit" }
                }
                div.actions {
                    button type="submit" name="do" value="replay" { "Replay…" }
                    button.danger type="submit" name="do" value="discard" { "Discard…" }
                    span.soft { "You see what it will do before anything moves." }
                }
            } @else {
                p.soft { "Log in to replay, edit or discard." }
            }
            div.scroll { table #letters {
                thead { tr { @if viewer.is_some() { th { "Tick" } } th { "Name" } th { "Reason" } th.wide { "Batch" } th.wide { "Failed" } } }
                tbody { @for found in selected.iter().take(ROWS) { (row(&place.name, viewer, &found.letter)) } }
            } }
            @if selected.len() > ROWS { p.soft { "The first " (ROWS) " of " (selected.len()) "; use the filter for the others." } }
        }
    }
}

fn row(lane: &str, viewer: &Viewer, letter: &Letter) -> Markup {
    let id = letter.id.to_string();
    let name = if letter.name.is_empty() { &letter.request_id } else { &letter.name };
    let name = visible(name);
    let name = if name.is_empty() { "(no name)".into() } else { name };
    html! {
        tr {
            @if viewer.is_some() { td { input type="checkbox" name="id" value=(id) aria-label={ "tick " (name) }; } }
            td { a href={ "/dead-letters/one" (query(&[("lane", lane), ("id", &id)])) } { bdi { (name) } } @if letter.copies > 1 { " ×" (letter.copies) } }
            td { bdi { (visible(&letter.reason)) } }
            td.wide { bdi { (visible(letter.batch.as_deref().unwrap_or("-"))) } }
            td.wide { @if let Some(at) = letter.failed_at { (ago(at)) } }
        }
    }
}

pub(super) async fn one(
    State(console): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    RawQuery(raw): RawQuery,
) -> Response {
    let fields = Fields::of_query(raw);
    let (Some(place), Some(id)) = (console.place(&fields), fields.get("id")) else {
        return trouble(&console, &viewer, StatusCode::NOT_FOUND, NO_LANE);
    };
    let snapshot = match place.look(false).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let why = format!("The dead letters cannot be seen now: {error}.");
            return trouble(&console, &viewer, StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    let Some(found) = snapshot.letters.iter().find(|found| found.letter.id.to_string() == id)
    else {
        let why = "This letter is not there any more: it was replayed or discarded. The audit says by whom.";
        return trouble(&console, &viewer, StatusCode::NOT_FOUND, why);
    };
    let body = match found.body() {
        Ok(body) => body,
        Err(error) => {
            let why = format!("Its body cannot be read back from the temporary file: {error}.");
            return trouble(&console, &viewer, StatusCode::INTERNAL_SERVER_ERROR, &why);
        }
    };
    let content = html! {
        @if fields.get("noted").is_some() { (notice(false, "The note stands in the audit.")) }
        (about(&found.letter))
        (body_and_actions(place, &viewer, &found.letter, &body))
    };
    page::framed(&console, place, &viewer, "Dead letter", &content).into_response()
}

fn about(letter: &Letter) -> Markup {
    let outcome =
        letter.outcome.map_or("dead-lettered by the broker", crate::core::Outcome::as_str);
    html! {
        section.card {
            h2 { bdi { (visible(&letter.name)) } }
            p { strong { (outcome) } ": " bdi { (visible(&letter.reason)) } }
            dl.figures {
                @for (name, value) in [("message id", &letter.request_id), ("source server", &letter.source_server_id), ("region", &letter.region_id), ("project", &letter.project_id)] {
                    div { dt { (name) } dd { small { bdi { (visible(value)) } } } }
                }
                div { dt { "attempts" } dd { (letter.attempts) } }
                div { dt { "priority" } dd { (letter.priority) } }
                div { dt { "replays before" } dd { (letter.replay) } }
                @if let Some(batch) = &letter.batch { div { dt { "batch" } dd { small { bdi { (visible(batch)) } @if let Some(row) = letter.row { ", row " (row) } } } } }
            }
            @if !letter.violations.is_empty() {
                h2 { "What is wrong with the body" } (violations(&letter.violations))
            }
            @if !letter.history.is_empty() {
                h2 { "What was tried" }
                ol { @for a in &letter.history {
                    li { (a.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()) " " (visible(&a.what)) ": " (visible(&a.verdict)) @if let Some(status) = a.status { " " (status) } @if let Some(code) = &a.error_code { " " (visible(code)) } }
                } }
            }
        }
    }
}

pub(super) fn violations(violations: &[crate::contract::Violation]) -> Markup {
    html! {
        ul { @for one in violations {
            li { code { (visible(if one.pointer.is_empty() { "the whole body" } else { &one.pointer })) } ": " bdi { (visible(&one.found)) } "; allowed: " bdi { (visible(&one.allowed)) } }
        } }
    }
}

fn body_and_actions(place: &Place, viewer: &Viewer, letter: &Letter, body: &[u8]) -> Markup {
    let text = std::str::from_utf8(body);
    let shown = String::from_utf8_lossy(body);
    let (start, whole) = beginning(&shown);
    html! {
        section.card {
            h2 { "Body" }
            pre #body { (visible(&indented(start))) }
            @if !whole { p.soft { "The first " (start.len()) " of " (body.len()) " bytes." } }
            @if text.is_err() { p.soft { "It is not UTF-8: what cannot be read is shown as �." } }
        }
        @if let Some(session) = viewer {
            form.card method="post" action="/dead-letters/prepare" {
                h2 { "What to do" }
                (csrf(session)) (hidden("lane", &place.name)) (hidden("which", "ticked")) (hidden("id", &letter.id.to_string()))
                @if whole && let Ok(text) = text {
                    details { summary { "Edit and replay" }
                        label for="edited" { "The body; white space between the fields does not matter" }
                        textarea.body #edited name="body" spellcheck="false" { "\n" (indented(text)) }
                        button type="submit" name="do" value="edit" { "Preview the edit" }
                    }
                }
                div.actions {
                    button type="submit" name="do" value="replay" { "Replay…" }
                    button.danger type="submit" name="do" value="discard" { "Discard…" }
                }
            }
            form.card.line method="post" action="/dead-letters/note" {
                (csrf(session)) (hidden("lane", &place.name)) (hidden("id", &letter.id.to_string()))
                label { "Note for the audit" input type="text" name="why" required maxlength="500"; }
                button.plain type="submit" { "Note" }
            }
        } @else { p.soft { "Log in to replay, edit or discard." } }
    }
}

pub(super) async fn note(
    State(console): State<Shared>,
    Extension(session): Extension<Session>,
    body: Bytes,
) -> Response {
    let fields = Fields::of_form(&body);
    let id = fields.get("id").and_then(|id| id.parse().ok());
    let viewer = Some(session.clone());
    let (Some(place), Some(id), Some(why)) = (console.place(&fields), id, fields.get("why")) else {
        let why = "A note needs a letter and a text.";
        return trouble(&console, &viewer, StatusCode::BAD_REQUEST, why);
    };
    let by = By { who: session.who, why: Some(why.to_owned()) };
    match place.lane.review.note(id, &by).await {
        Ok(_) => {
            let id = id.to_string();
            let back = query(&[("lane", &place.name), ("id", &id), ("noted", "1")]);
            Redirect::to(&format!("/dead-letters/one{back}")).into_response()
        }
        Err(error) => {
            let why = format!("The note was not taken: {error}.");
            trouble(&console, &viewer, StatusCode::SERVICE_UNAVAILABLE, &why)
        }
    }
}

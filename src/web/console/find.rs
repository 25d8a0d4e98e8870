//! Where is this server? One box on every page: a name, a source server, a task, a batch or a message id is looked for in
//! everything that a lane knows, and in every lane.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use super::LaneView;
use super::asked::Asked;
use super::look::Look;
use super::page::{ago, badge, clock, notice, query, whole};
use super::{deeds, letters, waiting};
use crate::core::engine::{Sought, Upcoming, Waits};
use crate::message::result::ResultData;
use crate::message::status::SessionStatus;
use crate::report::text::{grouped, visible};

/// So many of each kind are shown.
const MOST: usize = 50;
/// So long each place is waited for; then the page says that it has not answered.
const PATIENCE: Duration = Duration::from_secs(6);
/// Everything is in everything: shorter texts are found nowhere.
const SHORTEST: usize = 2;

pub(super) async fn show(asked: Asked) -> Response {
    let text = asked.fields.get("q").unwrap_or_default().to_owned();
    if text.chars().count() < SHORTEST {
        let why = "Give two characters at least, of a name, a source server, a task, a batch or a message id.";
        return asked.trouble(StatusCode::BAD_REQUEST, why);
    }
    let lanes = asked.console.places.iter().map(|place| in_lane(place, &text));
    let found = futures_util::future::join_all(lanes).await;
    let count: usize = found.iter().map(|(count, _)| count).sum();
    let several = asked.console.places.len() > 1;
    let content = html! {
        p.big #found { @if count == 0 { "Nothing has " } @else { strong { (grouped(count)) } @if count == 1 { " has " } @else { " have " } } code { (visible(&text)) } " in a name, a source server, a task, a batch or a message id" @if several { ", in " (asked.console.places.len()) " lanes" } "." }
        @for ((_, shown), place) in found.iter().zip(&asked.console.places) {
            @if several { h2 { "Lane " (visible(&place.name)) } }
            (shown)
        }
    };
    if several { asked.page_of_all("Find", &content) } else { asked.page("Find", &content) }
}

/// How many were found in a lane, and where.
async fn in_lane(place: &Arc<LaneView>, text: &str) -> (usize, Markup) {
    let (held, results, dead, acts) = futures_util::join!(
        held(place, text),
        results(place, text),
        dead(place, text),
        acts(place, text),
    );
    let parts = [held, results, dead, acts];
    let count = parts.iter().map(|(count, _)| count).sum();
    (count, html! { @for (_, shown) in &parts { (shown) } (unseen(place)) })
}

fn section(id: &str, title: &str, count: usize, shown: &Markup) -> Markup {
    html! {
        section.card id={ "in-" (id) } {
            h3 { (title) ": " (grouped(count)) }
            (shown)
            @if count > MOST { p.soft { "The first " (MOST) "." } }
        }
    }
}

fn silent(what: &str, why: &str) -> (usize, Markup) {
    (0, notice(true, &format!("{what} cannot be asked now: {why}.")))
}

const LATE: &str = "it has not answered in time; try again in a moment";

/// In the window, and in flight.
async fn held(place: &LaneView, text: &str) -> (usize, Markup) {
    let told =
        tokio::time::timeout(PATIENCE, place.find_requests(Sought { text, batch: None }, 0)).await;
    let found = match told.unwrap_or_else(|_| Err(LATE.to_owned())) {
        Ok(found) => found,
        Err(why) => return silent("The window", &why),
    };
    let (out, waiting): (Vec<Upcoming>, Vec<Upcoming>) =
        found.into_iter().partition(|one| matches!(one.waits, Waits::Called | Waits::Ending));
    let table = |rows: &[Upcoming]| {
        html! { @if !rows.is_empty() { table.stack {
            thead { tr { th { "Name" } th { "Source server" } th { "Batch" } th.n { "Priority" } th { "Why it waits" } } }
            tbody { @for one in rows.iter().take(MOST) { tr {
                td { (waiting::link(place, one)) }
                td data-label="source server" { (whole(&one.source_server_id)) }
                td data-label="batch" { @if let Some(batch) = &one.batch { (batch_link(place, batch, None)) } }
                td.n data-label="priority" { (one.priority) }
                td.why { (waiting::waits(one)) }
            } } }
        } } }
    };
    let shown = html! {
        (section("window", "Waiting in the window", waiting.len(), &table(&waiting)))
        (section("flight", "In flight", out.len(), &table(&out)))
    };
    (waiting.len() + out.len(), shown)
}

fn batch_link(place: &LaneView, batch: &str, run: Option<uuid::Uuid>) -> Markup {
    let run = run.map(|run| run.to_string());
    let mut fields = vec![("lane", &*place.name), ("batch", batch)];
    fields.extend(run.as_deref().map(|run| ("run", run)));
    html! { a href={ "/batches/one" (query(&fields)) } { (whole(batch)) } }
}

fn has(whole: &str, part: &str) -> bool {
    whole.to_lowercase().contains(part)
}

fn is_meant(result: &ResultData, part: &str) -> bool {
    let texts = [&result.name, &result.source_server_id, &result.request_id];
    let more = [&result.task_id, &result.batch].into_iter().flatten();
    texts.into_iter().chain(more).any(|text| has(text, part))
}

/// What has ended.
async fn results(place: &LaneView, text: &str) -> (usize, Markup) {
    place.first_reading().await;
    let part = text.to_lowercase();
    place.results(|seen| {
        if let Some(why) = &seen.trouble {
            return silent("The results", why);
        }
        let mut found: Vec<&ResultData> =
            seen.results().filter(|result| is_meant(result, &part)).collect();
        found.sort_by_key(|result| std::cmp::Reverse(result.settled_at));
        let table = html! {
            @if seen.whole_at.is_none() { p.soft { "Not all results have been read so far; ask again in a moment." } }
            @if !found.is_empty() { table.stack {
                thead { tr { th { "Name" } th { "Ended" } th { "Task" } th { "Source server" } th { "Batch" } th { "When" } } }
                tbody { @for result in found.iter().take(MOST) { tr {
                    td { (whole(if result.name.is_empty() { &result.request_id } else { &result.name })) }
                    td { (badge(result.outcome.as_str())) }
                    td data-label="task" { @if let Some(task) = &result.task_id { (whole(task)) } }
                    td data-label="source server" { (whole(&result.source_server_id)) }
                    td data-label="batch" { @if let Some(batch) = &result.batch { (batch_link(place, batch, result.batch_run)) } }
                    td.when { (clock(result.settled_at)) }
                } } }
            } }
        };
        (found.len(), section("results", "Ended, of the results of the last 7 days", found.len(), &table))
    })
}

/// What lies among the dead letters.
async fn dead(place: &Arc<LaneView>, text: &str) -> (usize, Markup) {
    let mut look = place.glance(false).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while matches!(look, Look::UnderWay) && tokio::time::Instant::now() < end {
        look = place.glance_again().await;
    }
    let snapshot = match look {
        Look::Seen(snapshot) => snapshot,
        Look::UnderWay => return silent("The dead letters", LATE),
        Look::Failed(why) => return silent("The dead letters", &why),
    };
    let part = text.to_lowercase();
    let letters = snapshot.letters.iter().map(|found| &found.letter).filter(|letter| {
        let texts = [&letter.name, &letter.source_server_id, &letter.request_id];
        texts.into_iter().chain(&letter.batch).any(|text| has(text, &part))
    });
    let found: Vec<_> = letters.collect();
    let table = html! {
        p.soft { "As of " (ago(snapshot.at)) "." }
        @if !found.is_empty() { table.stack {
            thead { tr { th { "Name" } th { "Cause" } th { "Source server" } th { "Batch" } } }
            tbody { @for letter in found.iter().take(MOST) { tr {
                td { a href={ "/dead-letters/one" (query(&[("lane", &place.name), ("id", &letter.id.to_string())])) } { (whole(&letters::title(letter))) } }
                td.why { (letters::cause(&letter.cause)) }
                td data-label="source server" { (whole(&letter.source_server_id)) }
                td data-label="batch" { @if let Some(batch) = &letter.batch { (batch_link(place, batch, letter.batch_run)) } }
            } } }
        } }
    };
    (found.len(), section("dead", "Dead letters", found.len(), &table))
}

/// What people did to it.
async fn acts(place: &Arc<LaneView>, text: &str) -> (usize, Markup) {
    let found = tokio::time::timeout(PATIENCE, deeds::about(place, text)).await;
    let found = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return silent("The audit", &error.to_string()),
        Err(_) => return silent("The audit", LATE),
    };
    let table = html! {
        @if !found.is_empty() { table.stack {
            thead { tr { th { "Name" } th { "What" } th { "Who" } th { "When" } th { "Why" } } }
            tbody { @for (act, name) in found.iter().take(MOST) { tr {
                td { a href={ "/audit/one" (query(&[("lane", &place.name), ("id", &act.id.to_string())])) } { (whole(name)) } }
                td { (badge(act.action.as_str())) }
                td data-label="who" { (whole(&act.who)) }
                td.when { (ago(act.at)) }
                td.why { bdi { (visible(act.why.as_deref().unwrap_or_default())) } }
            } } }
        } }
    };
    (found.len(), section("audit", "Audit", found.len(), &table))
}

/// What lies in the broker's queues is not read for this; how much that is, is said.
fn unseen(place: &LaneView) -> Markup {
    const LATER: &str = "each is found once the window has it";
    let status = place.lane.status.borrow();
    let is_active = matches!(status.session, SessionStatus::Active { .. });
    let queued = status.queues.filter(|_| is_active).map(|queues| queues.requests);
    let text = match (queued, status.parked) {
        (Some(0), 0) => {
            "Nothing is parked, and nothing waits in the queue of requests: this is all there is."
                .to_owned()
        }
        (Some(queued), parked) => format!(
            "{} more wait in the queue of requests and {} are parked for later, as last looked. They lie on the broker and cannot be searched: {LATER}.",
            grouped(queued),
            grouped(parked)
        ),
        (None, _) => format!(
            "What waits in the queue of requests, or is parked for later, cannot be searched, and this worker does not know how much that is: {LATER}."
        ),
    };
    html! { p.soft #unseen { (text) } }
}

//! What is about to happen to dead letters? An act is shown with all it would do, and only then carried out.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use uuid::Uuid;

use super::LaneView;
use super::access::operator;
use super::asked::Asked;
use super::fields::Fields;
use super::letter::violations;
use super::page::{csrf, hidden, notice, query};
use crate::broker::dead_letters::{Found, Preview, ReviewAction, Snapshot};
use crate::message::audit::By;
use crate::report::text::visible;
use crate::review::Filter;
use crate::review::edit::{Edit, FieldChange};

/// Orders that were shown and not given; older ones are forgotten.
const MOST: usize = 64;
/// Up to here an act names its dead letters; beyond, it goes by the filter, and what came since goes with it.
const NAMED: usize = 1000;
/// The most dead letters whose differences are shown.
const SHOWN: usize = 50;

#[derive(Debug, Default)]
pub(super) struct Orders(Mutex<VecDeque<(Uuid, Prepared)>>);

#[derive(Clone, Debug)]
pub(super) struct Prepared {
    lane: String,
    filter: Filter,
    order: ReviewAction,
}

impl Orders {
    fn keep(&self, prepared: Prepared) -> Uuid {
        let id = Uuid::new_v4();
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.truncate(MOST - 1);
        orders.push_front((id, prepared));
        id
    }

    /// Each act is given once: a form that is sent twice does nothing the second time.
    fn take(&self, id: Uuid) -> Option<Prepared> {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = orders.iter().position(|(known, _)| *known == id)?;
        orders.remove(place).map(|(_, prepared)| prepared)
    }
}

pub(super) async fn prepare(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let bad = |why: &str| asked.trouble(StatusCode::BAD_REQUEST, why);
    let snapshot = match place.look(false).await {
        Ok(snapshot) => snapshot,
        Err(error) => return bad(&format!("The dead letters cannot be seen now: {error}.")),
    };
    let (filter, order) = match (selection(fields), order(fields)) {
        (Ok(filter), Ok(order)) => (filter, order),
        (Err(why), _) | (_, Err(why)) => return bad(&why),
    };
    let selected: Vec<&Found> = snapshot.select(&filter).collect();
    if selected.is_empty() {
        return bad("None of these dead letters is there any more; look again.");
    }
    if matches!(&order, ReviewAction::Edit(Edit::Body(_))) && selected.len() != 1 {
        return bad("A whole body is for one dead letter; use field=value for several.");
    }
    let by_name = selected.len() <= NAMED;
    let filter = if by_name {
        Filter::ids(selected.iter().map(|found| found.letter.id.to_string()))
    } else {
        filter.clone()
    };
    let (shown, may) = match preview(place, &snapshot, &filter, &order) {
        Ok(shown) => shown,
        Err(error) => return bad(&format!("A body cannot be read back: {error}.")),
    };
    let count = selected.len();
    let (what, is_discard) = (verb(&order), order == ReviewAction::Discard);
    let prepared = Prepared { lane: place.name.clone(), filter, order };
    let id = may.then(|| asked.console.orders.keep(prepared));
    let content = html! {
        p.big { "This will " strong { (what) " " (count) @if count == 1 { " dead letter" } @else { " dead letters" } } "."
            @if !by_name { " They are many, so they are chosen by the filter when it begins: what came since goes with them." } }
        @if let Some(id) = id {
            form.card method="post" action="/dead-letters/act" {
                @if let Some(session) = operator(&asked.viewer) { (csrf(session)) } (hidden("lane", &place.name)) (hidden("order", &id.to_string()))
                p { label for="why" { "Why? It stands in the audit." } input #why type="text" name="why" maxlength="500"; }
                div.actions {
                    button.danger[is_discard] type="submit" #go { "Yes, " (what) " " (count) }
                    a.button.plain href={ "/dead-letters" (query(&[("lane", &place.name)])) } { "No, go back" }
                }
            }
        } @else {
            (notice(true, "Nothing can be moved like this: an edit goes only when every body is valid after it. Go back and change it."))
        }
        (shown)
    };
    asked.page("Before anything moves", &content)
}

fn verb(order: &ReviewAction) -> &'static str {
    match order {
        ReviewAction::Replay => "replay",
        ReviewAction::Edit(_) => "edit and replay",
        ReviewAction::Discard => "discard",
    }
}

fn selection(fields: &Fields) -> Result<Filter, String> {
    let filter = fields.filter()?;
    match (fields.get("which"), filter.ids.is_empty()) {
        (Some("ticked"), true) => Err("No dead letter is ticked; tick some, or choose all.".into()),
        (Some("ticked"), false) => Ok(Filter::ids(filter.ids)),
        // Boxes that are ticked mean nothing then.
        _ => Ok(Filter { ids: Vec::new(), ..filter }),
    }
}

fn order(fields: &Fields) -> Result<ReviewAction, String> {
    match fields.get("do") {
        Some("replay") => Ok(ReviewAction::Replay),
        Some("discard") => Ok(ReviewAction::Discard),
        Some("edit") => match (fields.get("body"), fields.get("changes")) {
            // Browsers write line ends as two characters.
            (Some(body), _) => {
                Ok(ReviewAction::Edit(Edit::Body(body.replace("\r\n", "\n").into())))
            }
            (None, Some(changes)) => {
                let lines = changes.lines().map(str::trim).filter(|line| !line.is_empty());
                let changes: Result<Vec<_>, _> = lines.map(FieldChange::parse_line).collect();
                changes.map(|all| ReviewAction::Edit(Edit::Fields(all))).map_err(|e| e.to_string())
            }
            (None, None) => {
                Err("The edit changes nothing: write field=value, or header name=value.".into())
            }
        },
        _ => Err("Replay, edit or discard?".into()),
    }
}

/// What to show, and whether it may be done.
fn preview(
    place: &LaneView,
    snapshot: &Snapshot,
    filter: &Filter,
    order: &ReviewAction,
) -> std::io::Result<(Markup, bool)> {
    let ReviewAction::Edit(edit) = order else {
        let note = match order {
            ReviewAction::Discard => {
                "Discarded dead letters stay in the audit; there a discard can be undone."
            }
            _ => "Their retries start afresh; what was tried before stays in their history.",
        };
        return Ok((html! { p.soft { (note) } }, true));
    };
    let previews = snapshot.preview(filter, edit, &place.lane.review.rules)?;
    let wrong = |one: &&Preview| one.error.is_some() || !one.violations.is_empty();
    let bad = previews.iter().filter(wrong).count();
    // What is wrong comes first.
    let order = previews.iter().filter(wrong).chain(previews.iter().filter(|one| !wrong(one)));
    let shown = html! {
        @if bad > 0 { (notice(true, &format!("{bad} of {} would not be valid.", previews.len()))) }
        @else { (notice(false, &format!("All {} are valid after this edit.", previews.len()))) }
        section.card {
            table #differences.stack {
                thead { tr { th { "Dead letter" } th { "Place" } th { "Before" } th { "After" } } }
                tbody { @for one in order.take(SHOWN) { (difference(one)) } }
            }
            @if previews.len() > SHOWN { p.soft { "The first " (SHOWN) " of " (previews.len()) "; all of them were tried." } }
        }
    };
    Ok((shown, bad == 0))
}

fn difference(one: &Preview) -> Markup {
    let rows = one.differences.len().max(1);
    let name = html! { td rowspan=(rows) { bdi { (visible(&one.name)) }
    @if let Some(error) = &one.error { p.bad { (visible(error)) } }
    @if !one.violations.is_empty() { div.bad { (violations(&one.violations)) } } } };
    html! {
        @if one.differences.is_empty() { tr { (name) td colspan="3" { span.soft { "no difference" } } } }
        @for (n, d) in one.differences.iter().enumerate() {
            tr {
                @if n == 0 { (name) }
                td { code { (visible(if d.pointer.is_empty() { "the whole body" } else { &d.pointer })) } }
                td data-label="before" { @if let Some(before) = &d.before { del { (visible(before)) } } @else { span.soft { "absent" } } }
                td data-label="after" { @if let Some(after) = &d.after { ins { (visible(after)) } } @else { span.soft { "absent" } } }
            }
        }
    }
}

pub(super) async fn act(asked: Asked) -> Response {
    let fields = &asked.fields;
    let id = fields.get("order").and_then(|id| id.parse().ok());
    let Some(prepared) = id.and_then(|id| asked.console.orders.take(id)) else {
        let why = "This act was given already, or is too old. The audit says what was done.";
        return asked.trouble(StatusCode::CONFLICT, why);
    };
    let Prepared { lane, filter, order } = prepared;
    let by = By { who: asked.who(), why: fields.get("why").map(str::to_owned) };
    let what = verb(&order);
    let job = super::jobs::start(&asked.console, lane, what, filter, order, by);
    Redirect::to(&format!("/jobs{}", query(&[("id", &job.to_string())]))).into_response()
}

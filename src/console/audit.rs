//! Who did what, when and why, and can it be undone?

use axum::Extension;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::access::{Session, Viewer};
use super::fields::Fields;
use super::letters::trouble;
use super::page::{self, ago, csrf, hidden, notice, query};
use super::text::visible;
use super::{Place, Shared};
use crate::review::audit::{Act, By, undoable};

/// The latest so many are shown.
const ROWS: usize = 300;

pub(super) async fn show(
    State(console): State<Shared>,
    Extension(viewer): Extension<Viewer>,
    RawQuery(raw): RawQuery,
) -> Response {
    let fields = Fields::of_query(raw);
    let Some(place) = console.place(&fields) else {
        let why = "There is no lane of this name.";
        return trouble(&console, &viewer, StatusCode::NOT_FOUND, why);
    };
    let content = match place.lane.review.acts(|_| true).await {
        Ok(acts) => html! {
            @if fields.get("undone").is_some() { (notice(false, "Undone: the letter is back among the dead letters, as it was.")) }
            @if acts.is_empty() { (notice(false, "Nobody has done anything yet: replays, edits, discards and notes will stand here.")) }
            @else { (table(place, &viewer, &acts)) }
        },
        Err(error) => notice(true, &format!("The audit cannot be read now: {error}.")),
    };
    page::framed(&console, place, &viewer, "Audit", &content).into_response()
}

fn table(place: &Place, viewer: &Viewer, acts: &[Act]) -> Markup {
    let can_undo: std::collections::HashSet<_> =
        undoable(acts).into_iter().map(|act| act.id).collect();
    html! {
        div.scroll.card { table #acts {
            thead { tr { th { "When" } th { "Who" } th { "What" } th { "Why" } th { "Cause of the letter" } @if viewer.is_some() { th { "Undo" } } } }
            tbody { @for act in acts.iter().rev().take(ROWS) {
                tr {
                    td { (ago(act.at)) }
                    td { bdi { (visible(&act.who)) } }
                    td { (act.action.as_str()) }
                    td { bdi { (visible(act.why.as_deref().unwrap_or(""))) } }
                    td { bdi { (visible(act.cause.as_deref().unwrap_or(""))) } }
                    @if let Some(session) = viewer { td {
                        @if can_undo.contains(&act.id) {
                            form method="post" action="/audit/undo" { (csrf(session)) (hidden("lane", &place.name)) (hidden("id", &act.id.to_string())) button.plain type="submit" { "Undo" } }
                        }
                    } }
                }
            } }
        } }
        @if acts.len() > ROWS { p.soft { "The latest " (ROWS) " of " (acts.len()) "." } }
    }
}

pub(super) async fn undo(
    State(console): State<Shared>,
    Extension(session): Extension<Session>,
    body: Bytes,
) -> Response {
    let fields = Fields::of_form(&body);
    let viewer = Some(session.clone());
    let (Some(place), Some(id)) = (console.place(&fields), fields.get("id")) else {
        let why = "Which act is to be undone?";
        return trouble(&console, &viewer, StatusCode::BAD_REQUEST, why);
    };
    let by = By { who: session.who, why: fields.get("why").map(str::to_owned) };
    match place.lane.review.restore(&[id.to_owned()], &by).await {
        Ok(_) => {
            place.forget();
            let back = query(&[("lane", &place.name), ("undone", "1")]);
            Redirect::to(&format!("/audit{back}")).into_response()
        }
        Err(error) => {
            let why = format!("It was not undone: {error}.");
            trouble(&console, &viewer, StatusCode::CONFLICT, &why)
        }
    }
}

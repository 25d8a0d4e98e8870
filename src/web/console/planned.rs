//! What is wanted of the requests of a batch that wait? Cancel, hold, release, move: the same orders as `sluice batch`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use uuid::Uuid;

use super::LaneView;
use super::access::{Viewer, operator};
use super::asked::Asked;
use super::fields::Fields;
use super::page::{csrf, hidden, query};
use crate::core::{Change, Target};
use crate::message::command::{Command, IssuedCommand};

/// The form on the page of a batch.
pub(super) fn form(
    place: &LaneView,
    viewer: &Viewer,
    batch: &str,
    run: Option<Uuid>,
    said: &Markup,
) -> Markup {
    html! {
        section.card {
            h2 { "What waits of it" }
            (said)
            @if let Some(session) = operator(viewer) {
                form.line #order method="post" action="/batches/order" {
                    (csrf(session)) (hidden("lane", &place.name)) (hidden("batch", batch))
                    @if let Some(run) = run { (hidden("run", &run.to_string())) }
                    label { "Do" select name="do" {
                        option value="hold" { "hold: send nothing of it" }
                        option value="release" { "release what is held" }
                        option value="move" { "move: other times or priority" }
                        option value="cancel" { "cancel: take it back for good" }
                    } }
                    label { "Only row" input type="number" name="row" min="1"; }
                    (hidden("zone", "UTC"))
                    label { "Not before, " span data-zone { "UTC" } input type="text" name="not_before" placeholder="2026-12-05T22:00"; }
                    label { "Deadline, " span data-zone { "UTC" } input type="text" name="deadline" placeholder="2026-12-06T06:00"; }
                    label { "Priority" input type="number" name="priority" min="0" max="65535"; }
                    label { "Why" input type="text" name="why" maxlength="500" autocomplete="off"; }
                    label { input type="checkbox" name="sure" value="1"; " a cancelling cannot be taken back" }
                    button type="submit" { "Order" }
                }
                p.soft { "What is in flight ends; what is in doubt is looked up first; what is still in the queue is met by the order when it comes. It is in the audit." }
            } @else { p { a href="/log-in" { "Log in" } " with the operator's token to cancel, hold or move it." } }
        }
    }
}

pub(super) async fn order(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let read = match read(fields) {
        Ok(read) => read,
        Err(why) => return asked.trouble(StatusCode::BAD_REQUEST, &why),
    };
    let (of, change) = read;
    let Target::Batch { id, run, .. } = &of else {
        return asked.trouble(StatusCode::BAD_REQUEST, "Which batch?");
    };
    let (batch, run) = (id.clone(), run.map(|run| run.to_string()));
    let command = Command::Order { of, change };
    let reason = fields.get("why").map(str::to_owned);
    let answer = place.order(IssuedCommand { command, by: asked.who(), reason }).await;
    if !answer.done {
        return asked
            .trouble(StatusCode::CONFLICT, &format!("Nothing was ordered: {}.", answer.said));
    }
    let told = asked.console.tell(&answer.said);
    let mut back = vec![("lane", &*place.name), ("batch", &*batch), ("told", &*told)];
    back.extend(run.as_deref().map(|run| ("run", run)));
    Redirect::to(&format!("/batches/one{}", query(&back))).into_response()
}

/// # Errors
/// Which field says what it must not.
fn read(fields: &Fields) -> Result<(Target, Change), String> {
    let given = |name: &str| fields.get(name).map(str::trim).filter(|text| !text.is_empty());
    let batch = given("batch").ok_or("Which batch?")?.to_owned();
    let run = given("run")
        .map(|run| run.parse::<Uuid>().map_err(|_| format!("{run:?} is no generation.")));
    let row = given("row").map(|row| {
        row.parse::<u64>().map_err(|_| format!("{row:?} is no row: a whole number from 1."))
    });
    let of = Target::Batch { id: batch, run: run.transpose()?, row: row.transpose()? };
    let time = |name: &str| fields.time(name);
    let change = match given("do") {
        Some("hold") => Change { hold: Some(true), ..Change::default() },
        Some("release") => Change { hold: Some(false), ..Change::default() },
        Some("cancel") if given("sure").is_some() => Change { cancel: true, ..Change::default() },
        Some("cancel") => {
            return Err("A cancelling cannot be taken back: tick the box that says so.".to_owned());
        }
        Some("move") => {
            let priority = given("priority").map(|text| {
                text.parse::<u16>()
                    .map_err(|_| format!("priority {text:?} is no whole number from 0 to 65535."))
            });
            let change = Change {
                not_before: time("not_before")?,
                deadline: time("deadline")?,
                priority: priority.transpose()?,
                ..Change::default()
            };
            if change == Change::default() {
                return Err("Nothing to move: give a time, a deadline or a priority.".to_owned());
            }
            change
        }
        other => return Err(format!("Do what? Hold, release, move or cancel, not {other:?}.")),
    };
    Ok((of, change))
}

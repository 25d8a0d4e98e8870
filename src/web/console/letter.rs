//! What does one dead letter say: how it ended, what is wrong with it, what was tried before, and its body?

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::LaneView;
use super::access::{Viewer, operator};
use super::asked::Asked;
use super::deeds::{self, Notes};
use super::letters::{cause, title};
use super::page::{ago, csrf, hidden, notice, query};
use crate::contract::{ABSENT, Violation};
use crate::core::Fault;
use crate::message::audit::By;
use crate::report::text::{beginning, indented, visible};
use crate::review::DeadLetter;

pub(super) async fn show(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let Some(id) = fields.get("id") else {
        return asked.trouble(StatusCode::NOT_FOUND, "Which dead letter? The list leads to each.");
    };
    let snapshot = match place.look(false).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let why = format!("The dead letters cannot be seen now: {error}.");
            return asked.trouble(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    let Some(found) = snapshot.letters.iter().find(|found| found.letter.id.to_string() == id)
    else {
        let why = "This dead letter is not there any more: it was replayed, fixed or discarded. The audit says by whom.";
        return asked.trouble(StatusCode::NOT_FOUND, why);
    };
    let body = match found.body() {
        Ok(body) => body,
        Err(error) => {
            let why = format!("Its body cannot be read back from the temporary file: {error}.");
            return asked.trouble(StatusCode::INTERNAL_SERVER_ERROR, &why);
        }
    };
    let is_fresh = fields.get("noted").is_some();
    let notes = deeds::notes(place, is_fresh).await;
    let content = html! {
        p.soft { a href={ "/dead-letters" (query(&[("lane", &place.name)])) } { "← all dead letters" } ", as of " (ago(snapshot.at)) }
        @if is_fresh { (notice(false, "The note stands in the audit.")) }
        (noted_about(&found.letter, notes.as_ref()))
        (about(place, &found.letter))
        (body_of(place, &found.letter, &body))
        (actions(place, &asked.viewer, &found.letter, &body))
    };
    asked.page("Dead letter", &content)
}

/// What people have noted about it, above everything else.
fn noted_about(letter: &DeadLetter, notes: Option<&Notes>) -> Markup {
    html! {
        @match notes {
            None => p.soft #notes { "The notes about it cannot be read just now; the audit has them." },
            Some(notes) => @if let Some(notes) = notes.get(&letter.id) {
                section.card #notes { h2 { "Notes" }
                    ul.plain { @for note in notes.iter().rev() {
                        li { strong { bdi { (visible(note.why.as_deref().unwrap_or_default())) } } " " span.soft { bdi { (visible(&note.who)) } ", " (ago(note.at)) } }
                    } }
                }
            },
        }
    }
}

fn about(place: &LaneView, letter: &DeadLetter) -> Markup {
    let same = query(&[("lane", &place.name), ("cause", &letter.cause.id)]);
    let audit = query(&[("lane", &place.name), ("letter", &letter.id.to_string())]);
    html! {
        section.card {
            h2 { bdi { (title(letter)) } }
            p { (cause(&letter.cause)) }
            p { bdi { (visible(&letter.reason)) } }
            p { a href={ "/dead-letters" (same) } { "All of this cause" } " · " a href={ "/audit" (audit) } { "What was done to it" } }
            (facts(letter))
            @if !letter.violations.is_empty() { h3 { "What is wrong with the body" } (violations(&letter.violations)) }
            @if let Some(error) = &letter.error { (said(error)) }
            (history(letter))
        }
    }
}

fn facts(letter: &DeadLetter) -> Markup {
    let texts = [
        ("message id", &letter.request_id),
        ("source server", &letter.source_server_id),
        ("region", &letter.region_id),
        ("project", &letter.project_id),
    ];
    html! {
        dl.facts {
            @for (name, value) in texts { @if !value.is_empty() { div { dt { (name) } dd { bdi { (visible(value)) } } } } }
            @if let Some(batch) = &letter.batch { div { dt { "batch" } dd { bdi { (visible(batch)) } @if let Some(row) = letter.row { ", row " (row) } @if let Some(run) = letter.batch_run { ", generation " (run) } } } }
            div { dt { "priority" } dd { (letter.priority) } }
            div { dt { "attempts" } dd { (letter.attempts) } }
            @if letter.replay > 0 { div { dt { "replays before" } dd { (letter.replay) } } }
            @if letter.copies > 1 { div { dt { "copies in the queue" } dd { (letter.copies) } } }
            @if let Some(at) = letter.enqueued_at { div { dt { "enqueued" } dd { (ago(at)) } } }
            @if let Some(at) = letter.failed_at { div { dt { "failed" } dd { (ago(at)) } } }
        }
    }
}

/// What the API said beside its message.
fn said(error: &Fault) -> Markup {
    let Fault { error_param, details, request_id, .. } = error;
    html! {
        @if !error_param.is_empty() || !details.is_empty() || request_id.is_some() {
            h3 { "What the API said besides" }
            ul {
                @for param in error_param { li { "parameter " code { (visible(param)) } } }
                @for detail in details { li { @if let Some(code) = &detail.error_code { code { (visible(code)) } " " } bdi { (visible(&detail.error_msg)) } } }
                @if let Some(id) = request_id { li { "its request id, for the provider's support: " code { (visible(id)) } } }
            }
        }
    }
}

fn history(letter: &DeadLetter) -> Markup {
    html! {
        @if !letter.history.is_empty() {
            h3 { "What was tried" }
            ol { @for a in &letter.history {
                li { (ago(a.at)) ": " (visible(&a.what)) ", " (visible(&a.verdict)) @if let Some(status) = a.status { ", HTTP " (status) } @if let Some(code) = &a.error_code { ", " code { (visible(code)) } } }
            } }
        }
        @if !letter.past.is_empty() {
            h3 { "How it ended before it was replayed" }
            ol { @for past in &letter.past {
                li { @if let Some(at) = past.failed_at { (ago(at)) ": " } bdi { (visible(&past.cause)) } ", after " (past.attempts) " attempts" }
            } }
        }
    }
}

pub(super) fn violations(violations: &[Violation]) -> Markup {
    html! {
        ul.violations { @for one in violations {
            li {
                code { (visible(if one.pointer.is_empty() { "the whole body" } else { &one.pointer })) }
                @if one.found == ABSENT {
                    " is missing; it is " bdi { (visible(&one.allowed)) }
                } @else {
                    ": " bdi { (visible(&one.found)) } "; allowed: " bdi { (visible(&one.allowed)) }
                }
            }
        } }
    }
}

fn body_of(place: &LaneView, letter: &DeadLetter, body: &[u8]) -> Markup {
    let shown = String::from_utf8_lossy(body);
    let (start, whole) = beginning(&shown);
    let id = letter.id.to_string();
    let download = query(&[("format", "jsonl"), ("lane", &place.name), ("id", &id)]);
    html! {
        section.card {
            h2 { "Body" }
            pre #body tabindex="0" aria-label="the body" { (visible(&indented(start))) }
            p.soft {
                @if !whole { "The first " (start.len()) " of " (body.len()) " bytes. " }
                @if std::str::from_utf8(body).is_err() { "It is not UTF-8: what cannot be read is shown as �. " }
                "Indented for reading; the bytes are as they were enqueued. "
                a href={ "/dead-letters/export" (download) } { "Download the message" }
            }
        }
    }
}

fn actions(place: &LaneView, viewer: &Viewer, letter: &DeadLetter, body: &[u8]) -> Markup {
    let id = letter.id.to_string();
    let Some(session) = operator(viewer) else {
        return html! { p.soft { a href="/log-in" { "Log in as an operator" } " to replay, edit or discard." } };
    };
    let text = std::str::from_utf8(body).ok().filter(|text| beginning(text).1);
    let this = html! { (csrf(session)) (hidden("lane", &place.name)) (hidden("which", "ticked")) (hidden("id", &id)) };
    html! {
        section.card {
            h2 { "What to do" }
            form method="post" action="/dead-letters/prepare" {
                (this)
                div.actions {
                    button type="submit" name="do" value="replay" { "Replay…" }
                    button.danger type="submit" name="do" value="discard" { "Discard…" }
                }
            }
            @if let Some(text) = text {
                details { summary { "Edit the body and replay" }
                    form method="post" action="/dead-letters/prepare" {
                        (this)
                        label for="edited" { "The body as JSON" }
                        textarea.body #edited name="body" spellcheck="false" { "\n" (indented(text)) }
                        button type="submit" name="do" value="edit" { "Preview the edit…" }
                    }
                }
            }
            details { summary { "Edit single fields and replay" }
                form method="post" action="/dead-letters/prepare" {
                    (this)
                    label for="changes" { "One change a line: " code { "target_server.name=web-1" } " sets a field, " code { "tags!" } " removes one, " code { "header x-sluice-priority=3" } " sets a header" }
                    textarea #changes name="changes" spellcheck="false" {}
                    button type="submit" name="do" value="edit" { "Preview the edit…" }
                }
            }
            details { summary { "Note something in the audit" }
                form.line method="post" action="/dead-letters/note" {
                    (csrf(session)) (hidden("lane", &place.name)) (hidden("id", &id))
                    label { "Note" input type="text" name="why" required maxlength="500"; }
                    button.plain type="submit" { "Note it" }
                }
            }
        }
    }
}

pub(super) async fn note(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let id = fields.get("id").and_then(|id| id.parse().ok());
    let (Some(id), Some(why)) = (id, fields.get("why")) else {
        let why = "A note needs a dead letter and a text.";
        return asked.trouble(StatusCode::BAD_REQUEST, why);
    };
    let by = By { who: asked.who(), why: Some(why.to_owned()) };
    match place.lane.review.note(id, &by).await {
        Ok(_) => {
            let id = id.to_string();
            let back = query(&[("lane", &place.name), ("id", &id), ("noted", "1")]);
            Redirect::to(&format!("/dead-letters/one{back}")).into_response()
        }
        Err(error) => {
            let why = format!("The note was not taken: {error}.");
            asked.trouble(StatusCode::SERVICE_UNAVAILABLE, &why)
        }
    }
}

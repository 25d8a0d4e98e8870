//! How does an operator pause, resume, or set the rate from the page? The same commands as `sluice gate`, in the audit too.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::LaneView;
use super::access::{Viewer, operator};
use super::asked::Asked;
use super::page::{csrf, hidden, query};
use crate::core::Rate;
use crate::message::command::{Answer, Command, IssuedCommand};
use crate::message::status::{SessionStatus, Status};
use crate::web::http::control::give;

/// The forms. They stand outside of what is exchanged live, so nobody types in vain.
pub(super) fn forms(place: &LaneView, viewer: &Viewer, status: &Status) -> Markup {
    let paused = status.gate.reason == Some(crate::core::gate::Reason::Paused);
    let rates = status.limits.rates.join(" ");
    html! {
        details.card #steer {
            summary { "Pause, resume, set the rate" }
            @if let Some(session) = operator(viewer) {
                form.line method="post" action="/gate/pause" {
                    (csrf(session)) (hidden("lane", &place.name))
                    label { "Why pause (everybody who looks at the gate sees it)" input type="text" name="why" required maxlength="500" autocomplete="off"; }
                    button.danger type="submit" { "Pause" }
                }
                form.line method="post" action="/gate/resume" {
                    (csrf(session)) (hidden("lane", &place.name))
                    label { @if paused { "It is paused. " } "Why resume" input type="text" name="why" maxlength="500" autocomplete="off"; }
                    button.plain[!paused] type="submit" { "Resume" }
                }
                form.line method="post" action="/gate/rate" {
                    (csrf(session)) (hidden("lane", &place.name))
                    label { "Limits, such as 2/s 60/min; empty: as configured" input type="text" name="rates" value=(rates) maxlength="200" autocomplete="off"; }
                    label { "Why" input type="text" name="why" maxlength="500" autocomplete="off"; }
                    button.plain type="submit" { "Set" }
                }
                p.soft { "What is set here outlives the worker, and stands in the " a href={ "/audit" (query(&[("lane", &place.name)])) } { "audit" } "." }
            } @else {
                p { a href="/log-in" { "Log in" } " with the operator's token to pause, to resume, to set the rate, or to change priorities." }
            }
        }
    }
}

impl LaneView {
    /// Gives a command to the lane's active worker, which may be another process.
    pub(super) async fn order(&self, issued: IssuedCommand) -> Answer {
        let standby = matches!(self.lane.status.borrow().session, SessionStatus::Standby { .. });
        if standby {
            let review = &self.lane.review;
            let asked = crate::broker::ask(&review.settings, &review.queues, &issued).await;
            return asked.unwrap_or_else(|error| Answer::refused(error.to_string()));
        }
        give(&self.lane.status, &self.lane.orders, issued).await.1
    }
}

pub(super) async fn pause(asked: Asked) -> Response {
    if asked.fields.get("why").is_none() {
        let why = "A pause needs a reason: whoever looks at the gate wants to know. Go back and give one.";
        return asked.trouble(StatusCode::BAD_REQUEST, why);
    }
    obey(&asked, Command::Pause).await
}

pub(super) async fn resume(asked: Asked) -> Response {
    obey(&asked, Command::Resume).await
}

pub(super) async fn rate(asked: Asked) -> Response {
    let given = asked.fields.get("rates").unwrap_or_default();
    let separated = |c: char| c.is_whitespace() || c == ',';
    let given = given.split(separated).filter(|text| !text.is_empty() && *text != "configured");
    match given.map(str::parse::<Rate>).collect::<Result<Vec<_>, _>>() {
        Ok(rates) => {
            let rates = (!rates.is_empty()).then_some(rates);
            obey(&asked, Command::Rate { rates }).await
        }
        Err(error) => asked.trouble(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn obey(asked: &Asked, command: Command) -> Response {
    let place = &asked.place;
    let reason = asked.fields.get("why").map(str::to_owned);
    let issued = IssuedCommand { command: command.clone(), by: asked.who(), reason };
    let answer = place.order(issued).await;
    if answer.done {
        let told = asked.console.tell(&format!("Done: {}.", answer.said));
        let back = query(&[("lane", &place.name), ("told", &told)]);
        return Redirect::to(&format!("/{back}")).into_response();
    }
    asked.trouble(StatusCode::CONFLICT, &format!("It was not done: {}.", answer.said))
}

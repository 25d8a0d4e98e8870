//! Who did what, when and why, and can it be undone? What one act did to many dead letters stands in one row.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;
use uuid::Uuid;

use super::LaneView;
use super::access::{self, Viewer, operator};
use super::asked::Asked;
use super::deeds::{AuditRow, Deed, deeds, entries};
use super::fields::Fields;
use super::page::{self, ROWS, ago, badge, csrf, hidden, notice, query, whole};
use crate::message::audit::{Act, Action, UnreadableAct};
use crate::message::parcel::Parcel;
use crate::report::text::{beginning, grouped, indented, visible};
use crate::review::edit::differences;

/// The most dead letters that a row names.
const NAMED: usize = 20;
/// And before they are unfolded.
const FIRST: usize = 3;
/// The conditions, with what people call them.
const CONDITIONS: [(&str, &str); 4] = [
    ("who", "Who"),
    ("action", "What"),
    ("letter", "Dead letter"),
    ("text", "Text in why or cause"),
];

fn is_meant(fields: &Fields, act: &Act) -> bool {
    let contains = |text: Option<&str>, part: &str| {
        text.is_some_and(|text| text.to_lowercase().contains(&part.to_lowercase()))
    };
    let letter = act.letter.map(|id| id.to_string()).unwrap_or_default();
    fields.get("who").is_none_or(|who| contains(Some(&act.who), who))
        && fields.get("action").is_none_or(|action| act.action.as_str() == action)
        && fields.get("letter").is_none_or(|id| letter.starts_with(&id.to_lowercase()))
        && fields.get("text").is_none_or(|text| {
            contains(act.why.as_deref(), text) || contains(act.cause.as_deref(), text)
        })
}

pub(super) async fn show(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let content = match entries(place).await {
        Ok(entries) => html! {
            (unreadable(&entries.unreadable))
            @if entries.is_empty() && entries.unreadable.is_empty() { (notice(false, "Nobody has done anything yet: replays, edits, discards and notes will stand here, and every pause of the gate.")) }
            @else if !entries.is_empty() { (table(place, &asked.viewer, fields, &entries)) }
        },
        Err(error) => html! {
            (notice(true, &format!("The audit cannot be read now: {error}.")))
            p { a.button href={ "/audit" (query(&[("lane", &place.name)])) } { "Try again" } }
        },
    };
    let content = html! { (content) (access::whose(&asked.console)) };
    asked.page("Audit", &content)
}

/// What cannot be read is no act that anybody can undo; that it is there must not be hidden.
pub(super) fn unreadable(found: &[UnreadableAct]) -> Markup {
    html! {
        @if !found.is_empty() {
            (notice(true, &format!("{} in the audit cannot be read, and may be an act that is missing below:", grouped(found.len()))))
            ul.plain { @for one in found.iter().take(NAMED) { li { bdi { (visible(&one.to_string())) } } } }
            @if found.len() > NAMED { p.soft { "The first " (NAMED) "; all of them: sluice dead-letters audit." } }
        }
    }
}

fn table(place: &LaneView, viewer: &Viewer, fields: &Fields, entries: &[AuditRow]) -> Markup {
    // Found out before the conditions hide what was undone; an act is shown and undone whole.
    let mut deeds = deeds(entries);
    deeds.retain(|deed| deed.acts.iter().any(|act| is_meant(fields, act)));
    let (page, pages) = page::asked(fields, deeds.len());
    let all = CONDITIONS.iter().all(|(name, _)| fields.get(name).is_none());
    html! {
        details.card open[!all] {
            summary { "Filter" }
            form.line method="get" action="/audit" role="search" {
                (hidden("lane", &place.name))
                @for (name, label) in CONDITIONS { label { (label) input type="text" name=(name) value=(fields.get(name).unwrap_or("")); } }
                span.actions {
                    button type="submit" { "Show" }
                    @if !all { a.button.plain href={ "/audit" (query(&[("lane", &place.name)])) } { "Clear" } }
                }
            }
        }
        @if deeds.is_empty() { (notice(false, "Nothing in the audit meets these conditions.")) }
        @else { section.card {
            table #acts.stack {
                thead { tr { th { "When" } th { "Who" } th { "What" } th.n { "How many" } th { "Which" } th { "Why" } @if operator(viewer).is_some() { th { span.unseen { "Undo" } } } } }
                tbody { @for deed in deeds.iter().skip((page - 1) * ROWS).take(ROWS) { (row(place, viewer, deed)) } }
            }
            @if pages > 1 { (turn(fields, &place.name, page, pages)) }
        } }
    }
}

fn turn(fields: &Fields, lane: &str, page: usize, pages: usize) -> Markup {
    let to = |n: usize| {
        let n = n.to_string();
        let kept = CONDITIONS.iter().filter_map(|(name, _)| Some((*name, fields.get(name)?)));
        let pairs: Vec<_> = [("lane", lane), ("page", &n)].into_iter().chain(kept).collect();
        format!("/audit{}", query(&pairs))
    };
    page::turn("Pages of the audit", page, pages, to)
}

fn row(place: &LaneView, viewer: &Viewer, deed: &Deed) -> Markup {
    let Some((first, last)) = deed.acts.first().zip(deed.acts.last()) else { return html! {} };
    let count = deed.acts.len();
    html! {
        tr {
            td.when { (ago(last.at)) }
            td data-label="who" { (whole(&deed.who())) }
            td { (badge(first.action.as_str())) }
            td.n data-label="how many" { @if first.letter.is_some() { (grouped(count)) @if let Some(missing) = deed.missing() { br; span.soft { (missing) } } } }
            td.which {
                @if let Some(order) = &first.order { bdi { (visible(&format!("{}: {}", order.of, order.change))) } }
                @if let Some(gate) = &first.gate { (visible(&of_gate(first.action, gate))) }
                @if first.letter.is_some() { (named(place, deed)) }
            }
            td.why data-label="why" { bdi { (visible(first.why.as_deref().unwrap_or(""))) } }
            @if let Some(session) = operator(viewer) { td.do {
                @if !deed.undoable.is_empty() {
                    form method="post" action="/audit/undo" {
                        (csrf(session)) (hidden("lane", &place.name)) (hidden("id", &first.id.to_string()))
                        button.plain type="submit" { "Undo" @if deed.undoable.len() > 1 { " all " (grouped(deed.undoable.len())) } "…" }
                    }
                }
            } }
        }
    }
}

/// What an order to the gate changed.
fn of_gate(action: Action, gate: &Value) -> String {
    let rates = |when: &str| match gate[when]["rates"].as_array() {
        Some(rates) => rates.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" and "),
        None => "as configured".to_owned(),
    };
    match action {
        Action::Rate => format!("the rate: {}, before {}", rates("after"), rates("before")),
        Action::Resume => match gate["before"]["pause"]["by"].as_str() {
            Some(by) => format!("the gate, which {by} had paused"),
            None => "the gate".to_owned(),
        },
        _ => "the gate".to_owned(),
    }
}

/// The first names; folded below, each act and the causes.
fn named(place: &LaneView, deed: &Deed) -> Markup {
    let causes: BTreeSet<&str> = deed.acts.iter().filter_map(|act| act.cause.as_deref()).collect();
    let title = |act: &Act, name: &str| {
        if name.is_empty() {
            act.letter.map(|id| id.to_string()).unwrap_or_default()
        } else {
            name.to_owned()
        }
    };
    let all = || deed.acts.iter().zip(&deed.names);
    html! {
        @for (n, (act, name)) in all().take(FIRST).enumerate() { @if n > 0 { ", " } (whole(&title(act, name))) }
        @if deed.acts.len() > FIRST { " and " (grouped(deed.acts.len() - FIRST)) " more" }
        details { summary { "details" }
            ul.plain { @for cause in causes.iter().take(NAMED) { li { bdi { (visible(cause)) } } } }
            ul.plain { @for (act, name) in all().take(NAMED) {
                li { a href={ "/audit/one" (query(&[("lane", &place.name), ("id", &act.id.to_string())])) } { (whole(&title(act, name))) } }
            } }
            @if deed.acts.len() > NAMED { p.soft { "The first " (NAMED) "; the others by the filter." } }
        }
    }
}

/// One act with what was before and after.
pub(super) async fn one(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let id = fields.get("id").and_then(|id| id.parse::<Uuid>().ok());
    let Some(id) = id else {
        return asked.trouble(StatusCode::NOT_FOUND, "Which act? The audit leads to each.");
    };
    // One pass at a time, whoever asks.
    let scan = place.scan.lock().await;
    let read = place.lane.review.acts(|act| act.id == id).await;
    drop(scan);
    let act = match read {
        Ok(acts) => acts.into_iter().next(),
        Err(error) => {
            let why = format!("The audit cannot be read now: {error}.");
            return asked.trouble(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    let Some(act) = act else {
        let why = "The audit has no such act that can be read, or not any more: its retention is queues.audit_retention.";
        return asked.trouble(StatusCode::NOT_FOUND, why);
    };
    asked.page("Audit", &told(place, &act))
}

fn told(place: &LaneView, act: &Act) -> Markup {
    let letter = act.letter.map(|id| id.to_string()).unwrap_or_default();
    html! {
        p.soft { a href={ "/audit" (query(&[("lane", &place.name)])) } { "← the whole audit" } }
        section.card {
            h2 { (badge(act.action.as_str())) " by " bdi { (visible(&act.who)) } ", " (ago(act.at)) }
            @if let Some(why) = &act.why { p { "Why: " bdi { (visible(why)) } } }
            @if let Some(cause) = &act.cause { p { "The dead letter's cause: " bdi { (visible(cause)) } } }
            p { "Dead letter " code { (letter) } " · " a href={ "/audit" (query(&[("lane", &place.name), ("letter", &letter)])) } { "everything that was done to it" } }
            @if let (Some(before), Some(after)) = (&act.before, &act.after) {
                h3 { "What changed in the body" }
                ul { @for d in differences(&before.body, &after.body) {
                    li { code { (visible(&d.pointer)) } ": " @if let Some(text) = &d.before { del { (visible(text)) } " " } @if let Some(text) = &d.after { ins { (visible(text)) } } }
                } }
            }
            @if let Some(before) = &act.before { (body("The body before", before)) }
            @if let Some(after) = &act.after { (body("The body after", after)) }
        }
    }
}

fn body(title: &str, parcel: &Parcel) -> Markup {
    let text = String::from_utf8_lossy(&parcel.body);
    let (start, whole) = beginning(&text);
    html! {
        h3 { (title) }
        pre tabindex="0" { (visible(&indented(start))) }
        @if !whole { p.soft { "The first " (start.len()) " of " (parcel.body.len()) " bytes." } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gate_was_told_is_said_in_words() {
        let gate = serde_json::json!({"before": {"pause": {"by": "bo"}}, "after": {"rates": ["2/s", "60/min"]}});
        assert_eq!(of_gate(Action::Rate, &gate), "the rate: 2/s and 60/min, before as configured");
        assert_eq!(of_gate(Action::Resume, &gate), "the gate, which bo had paused");
        assert_eq!(of_gate(Action::Pause, &gate), "the gate");
    }
}

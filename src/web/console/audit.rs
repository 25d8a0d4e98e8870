//! Who did what, when and why, and can it be undone? What one act did to many dead letters stands in one row.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::SignedDuration;
use maud::{Markup, html};
use uuid::Uuid;

use super::LaneView;
use super::access::{Viewer, operator};
use super::asked::Asked;
use super::fields::Fields;
use super::page::{self, ROWS, ago, badge, csrf, hidden, notice, query};
use crate::broker::dead_letters::ReviewError;
use crate::message::audit::{Act, By};
use crate::message::parcel::Parcel;
use crate::report::text::{beginning, indented, visible};
use crate::review::edit::differences;

/// The most dead letters that a row names.
const NAMED: usize = 20;
/// What one act does to many dead letters follows faster than this.
const APART: SignedDuration = SignedDuration::from_secs(5);

/// The conditions, with what people call them.
const CONDITIONS: [(&str, &str); 4] = [
    ("who", "Who"),
    ("action", "What"),
    ("letter", "Dead letter"),
    ("text", "Text in why or cause"),
];

/// An act without its messages: there may be very many.
#[derive(Clone, Debug)]
struct AuditRow {
    act: Act,
    can_be_undone: bool,
}

/// Acts of one person that follow each other and are of one kind.
#[derive(Debug)]
struct Deed {
    acts: Vec<Act>,
    /// How many of them can still be undone.
    undoable: usize,
}

impl Deed {
    fn belongs(&self, act: &Act) -> bool {
        self.acts.last().is_some_and(|last| {
            last.letter.is_some()
                && act.letter.is_some()
                && (last.action, &last.who, &last.why) == (act.action, &act.who, &act.why)
                && act.at.duration_since(last.at).abs() < APART
        })
    }
}

/// Newest first.
fn deeds(entries: &[AuditRow]) -> Vec<Deed> {
    let undone: HashSet<Uuid> = entries.iter().filter_map(|entry| entry.act.undoes).collect();
    let mut deeds: Vec<Deed> = Vec::new();
    for AuditRow { act, can_be_undone } in entries.iter().cloned() {
        let undoable = usize::from(can_be_undone && !undone.contains(&act.id));
        match deeds.last_mut() {
            Some(deed) if deed.belongs(&act) => {
                deed.undoable += undoable;
                deed.acts.push(act);
            }
            _ => deeds.push(Deed { acts: vec![act], undoable }),
        }
    }
    deeds.reverse();
    deeds
}

/// The acts of the last pass over the stream, and when that began.
#[derive(Debug, Default)]
pub(super) struct Scan(Option<(Instant, Arc<Vec<AuditRow>>)>);

/// What was read is kept for so long for those who come at the same time, and no longer: it may be much.
const KEPT: Duration = Duration::from_secs(30);

/// All acts, of a pass that began after this was asked: whoever asks while one is under way shares the next one, so
/// however many ask, one reads the stream.
async fn entries(place: &Arc<LaneView>) -> Result<Arc<Vec<AuditRow>>, ReviewError> {
    let asked = Instant::now();
    let mut scan = place.scan.lock().await;
    if let Some((_, entries)) = scan.0.as_ref().filter(|(began, _)| *began >= asked) {
        return Ok(Arc::clone(entries));
    }
    let began = Instant::now();
    let entries = Arc::new(read(place).await?);
    scan.0 = Some((began, Arc::clone(&entries)));
    let forgetting = Arc::downgrade(place);
    tokio::spawn(async move {
        tokio::time::sleep(KEPT).await;
        if let Some(place) = forgetting.upgrade() {
            let mut scan = place.scan.lock().await;
            scan.0.take_if(|(latest, _)| *latest == began);
        }
    });
    Ok(entries)
}

async fn read(place: &LaneView) -> Result<Vec<AuditRow>, ReviewError> {
    let entries = Mutex::new(Vec::new());
    let take = |act: &Act| {
        let can_be_undone = act.can_be_undone();
        let (id, at, action, letter, undoes) = (act.id, act.at, act.action, act.letter, act.undoes);
        let light = Act {
            id,
            letter,
            undoes,
            why: act.why.clone(),
            cause: act.cause.clone(),
            gate: act.gate.clone(),
            order: act.order.clone(),
            ..Act::new(action, &By { who: act.who.clone(), why: None }, at)
        };
        let entry = AuditRow { act: light, can_be_undone };
        entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        false
    };
    place.lane.review.acts(take).await?;
    Ok(entries.into_inner().unwrap_or_else(PoisonError::into_inner))
}

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
            @if let Some(count) = fields.get("undone") { (notice(false, &format!("Undone: {count} dead letters are back among the dead letters, as they were."))) }
            @if entries.is_empty() { (notice(false, "Nobody has done anything yet: replays, edits, discards and notes will stand here, and every pause of the gate.")) }
            @else { (table(place, &asked.viewer, fields, &entries)) }
        },
        Err(error) => html! {
            (notice(true, &format!("The audit cannot be read now: {error}.")))
            p { a.button href={ "/audit" (query(&[("lane", &place.name)])) } { "Try again" } }
        },
    };
    asked.page("Audit", &content)
}

fn table(place: &LaneView, viewer: &Viewer, fields: &Fields, entries: &[AuditRow]) -> Markup {
    // Found out before the conditions hide what was undone.
    let mut deeds = deeds(entries);
    for deed in &mut deeds {
        deed.acts.retain(|act| is_meant(fields, act));
    }
    deeds.retain(|deed| !deed.acts.is_empty());
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
                thead { tr { th { "When" } th { "Who" } th { "What" } th { "Why" } @if operator(viewer).is_some() { th { span.unseen { "Undo" } } } } }
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
    let causes: BTreeSet<&str> = deed.acts.iter().filter_map(|act| act.cause.as_deref()).collect();
    let count = deed.acts.len();
    html! {
        tr {
            td.when { (ago(last.at)) }
            td data-label="who" { bdi { (visible(&first.who)) } }
            td {
                (badge(first.action.as_str())) " "
                @if let Some(order) = &first.order { bdi { (visible(&format!("{}: {}", order.of, order.change))) } }
                @if let Some(gate) = &first.gate { code { (visible(&gate.to_string())) } }
                @if first.letter.is_some() { strong { (count) @if count == 1 { " dead letter" } @else { " dead letters" } } }
                @for cause in causes.iter().take(3) { div.soft { bdi { (visible(cause)) } } }
                @if causes.len() > 3 { div.soft { "and " (causes.len() - 3) " other causes" } }
                @if first.letter.is_some() { (named(place, deed)) }
            }
            td.why data-label="why" { bdi { (visible(first.why.as_deref().unwrap_or(""))) } }
            @if let Some(session) = operator(viewer) { td.do {
                @if deed.undoable > 0 {
                    form method="post" action="/audit/undo" {
                        (csrf(session)) (hidden("lane", &place.name)) (hidden("id", &first.id.to_string()))
                        button.plain type="submit" { "Undo" @if deed.undoable > 1 { " all " (deed.undoable) } }
                    }
                }
            } }
        }
    }
}

fn named(place: &LaneView, deed: &Deed) -> Markup {
    html! {
        details { summary { "which" }
            ul.plain { @for act in deed.acts.iter().take(NAMED) {
                li { a href={ "/audit/one" (query(&[("lane", &place.name), ("id", &act.id.to_string())])) } { code { (act.letter.map(|id| id.to_string()).unwrap_or_default()) } } }
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
        let why =
            "The audit has no such act, or not any more: its retention is queues.audit_retention.";
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

pub(super) async fn undo(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let id = fields.get("id").and_then(|id| id.parse::<Uuid>().ok());
    let Some(id) = id else {
        let why = "Which act is to be undone?";
        return asked.trouble(StatusCode::BAD_REQUEST, why);
    };
    let all = match entries(place).await {
        Ok(entries) => deeds(&entries),
        Err(error) => {
            let why = format!("It was not undone, for the audit cannot be read now: {error}.");
            return asked.trouble(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    let deed = all.into_iter().find(|deed| deed.acts.iter().any(|act| act.id == id));
    let acts = deed.map(|deed| deed.acts).unwrap_or_default();
    let ids: Vec<String> = acts.iter().map(|act| act.id.to_string()).collect();
    let by = By { who: asked.who(), why: fields.get("why").map(str::to_owned) };
    match place.lane.review.restore(&ids, &by).await {
        Ok(undone) => {
            place.forget();
            let count = undone.len().to_string();
            let back = query(&[("lane", &place.name), ("undone", &count)]);
            Redirect::to(&format!("/audit{back}")).into_response()
        }
        Err(error) => {
            let why = format!("It was not undone: {error}.");
            asked.trouble(StatusCode::CONFLICT, &why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::audit::Action;
    use jiff::Timestamp;

    #[test]
    fn what_one_order_did_stands_in_one_row() {
        let act = |seconds: i64, who: &str, action, letter: Option<Uuid>| {
            let by = By { who: who.into(), why: None };
            let at = Timestamp::from_second(seconds).unwrap();
            Act { letter, ..Act::new(action, &by, at) }
        };
        let letter = || Some(Uuid::new_v4());
        let discarded = act(1, "ada", Action::Discard, letter());
        let restored =
            Act { undoes: Some(discarded.id), ..act(60, "bo", Action::Restore, letter()) };
        let acts = [
            act(0, "ada", Action::Discard, letter()),
            discarded,
            act(3, "bo", Action::Discard, letter()),
            act(4, "bo", Action::Replay, letter()),
            act(30, "bo", Action::Replay, letter()),
            act(31, "bo", Action::Pause, None),
            act(32, "bo", Action::Pause, None),
            restored,
        ];
        let can_be_undone = |act: &Act| act.action == Action::Discard;
        let entries = &acts.map(|act| AuditRow { can_be_undone: can_be_undone(&act), act });
        let deeds = deeds(entries);
        let told: Vec<_> = deeds.iter().map(|deed| (deed.acts.len(), deed.undoable)).collect();
        assert_eq!(told, [(1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (1, 1), (2, 1)]);
    }
}

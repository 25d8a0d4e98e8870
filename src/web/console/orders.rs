//! What is about to happen to dead letters? An act is shown with all it would do, and only then carried out.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use uuid::Uuid;

use super::access::{LogIn, operator};
use super::asked::Asked;
use super::fields::Fields;
use super::letter::violations;
use super::letters::{cause, title};
use super::page::{csrf, hidden, notice, query, whole};
use super::{LaneView, undo};
use crate::broker::dead_letters::{Found, Preview, ReviewAction, Snapshot};
use crate::message::audit::By;
use crate::report::text::{grouped, visible};
use crate::review::edit::{Edit, FieldChange};
use crate::review::{Filter, groups};

/// Acts that were shown and not given; older ones are forgotten.
const MOST: usize = 64;
/// And so many dead letters that all of them name.
const MOST_NAMED: usize = 200_000;
/// The most dead letters whose differences are shown.
const SHOWN: usize = 50;
/// The most names of an act.
const FIRST: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Orders(Mutex<VecDeque<(Uuid, Prepared)>>);

/// An act that waits for the word of whoever prepared it.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) lane: String,
    pub(super) deed: PreparedDeed,
}

/// What is to be done, and to which dead letters: those that were shown and no others, whatever comes meanwhile.
#[derive(Clone, Debug)]
pub(super) enum PreparedDeed {
    Act {
        ids: Vec<String>,
        action: ReviewAction,
    },
    /// These acts of the audit.
    Undo(HashSet<Uuid>),
}

impl PreparedDeed {
    fn len(&self) -> usize {
        match self {
            Self::Act { ids, .. } => ids.len(),
            Self::Undo(acts) => acts.len(),
        }
    }

    /// For people: what is done.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Act { action: ReviewAction::Replay, .. } => "replay",
            Self::Act { action: ReviewAction::Edit(_), .. } => "edit and replay",
            Self::Act { action: ReviewAction::Discard, .. } => "discard",
            Self::Undo(_) => "put back",
        }
    }
}

impl Orders {
    pub(super) fn keep(&self, prepared: Prepared) -> Uuid {
        let id = Uuid::new_v4();
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = MOST_NAMED.saturating_sub(prepared.deed.len());
        orders.truncate(MOST - 1);
        orders.retain(|(_, other)| {
            let left = room.checked_sub(other.deed.len());
            room = left.unwrap_or(0);
            left.is_some()
        });
        orders.push_front((id, prepared));
        id
    }

    fn get(&self, id: Uuid) -> Option<Prepared> {
        let orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.iter().find(|(known, _)| *known == id).map(|(_, prepared)| prepared.clone())
    }

    /// Each act is given once: a form that is sent twice does nothing the second time.
    fn take(&self, id: Uuid) -> Option<Prepared> {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = orders.iter().position(|(known, _)| *known == id)?;
        orders.remove(place).map(|(_, prepared)| prepared)
    }
}

const GONE: &str = "This act was given already, or is too old. The audit says what was done.";

/// Keeps what a form chose, and leads to the page that shows it: that one can be loaded again, and left, without harm.
pub(super) async fn prepare(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let bad = |why: &str| asked.trouble(StatusCode::BAD_REQUEST, why);
    let snapshot = match place.look(false).await {
        Ok(snapshot) => snapshot,
        Err(error) => return bad(&format!("The dead letters cannot be seen now: {error}.")),
    };
    let (filter, action) = match (selection(fields), order(fields)) {
        (Ok(filter), Ok(action)) => (filter, action),
        (Err(why), _) | (_, Err(why)) => return bad(&why),
    };
    let selected: Vec<&Found> = snapshot.select(&filter).collect();
    if selected.is_empty() {
        return bad("None of these dead letters is there any more; look again.");
    }
    if matches!(&action, ReviewAction::Edit(Edit::Body(_))) && selected.len() != 1 {
        return bad("A whole body is for one dead letter; use field=value for several.");
    }
    let ids = selected.iter().map(|found| found.letter.id.to_string()).collect();
    let lane = place.name.clone();
    let id = asked.console.orders.keep(Prepared { lane, deed: PreparedDeed::Act { ids, action } });
    to_see(place, id)
}

/// To the page that shows what was prepared.
pub(super) fn to_see(place: &LaneView, id: Uuid) -> Response {
    let of = query(&[("lane", &place.name), ("order", &id.to_string())]);
    Redirect::to(&format!("/dead-letters/prepared{of}")).into_response()
}

pub(super) async fn prepared(asked: Asked) -> Response {
    let id = asked.fields.get("order").and_then(|id| id.parse::<Uuid>().ok());
    let of_lane = |prepared: &Prepared| prepared.lane == asked.place.name;
    let Some((id, prepared)) = id.and_then(|id| Some((id, asked.console.orders.get(id)?))) else {
        return asked.trouble(StatusCode::CONFLICT, GONE);
    };
    if !of_lane(&prepared) {
        return asked.trouble(StatusCode::CONFLICT, "This act is of another lane.");
    }
    let Some(session) = operator(&asked.viewer) else {
        let why =
            "This act was prepared by an operator; log in with the operator's token to see it.";
        return asked.trouble(StatusCode::FORBIDDEN, why);
    };
    let content = match &prepared.deed {
        PreparedDeed::Act { ids, action } => dead(&asked, session, id, ids, action).await,
        PreparedDeed::Undo(acts) => undo::shown(&asked, session, id, acts).await,
    };
    match content {
        Ok(content) => asked.page("Before anything moves", &content),
        Err(why) => asked.trouble(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

/// What would be done to dead letters.
async fn dead(
    asked: &Asked,
    session: &LogIn,
    id: Uuid,
    ids: &[String],
    action: &ReviewAction,
) -> Result<Markup, String> {
    let place = &asked.place;
    let snapshot = place.look(false).await;
    let snapshot =
        snapshot.map_err(|error| format!("The dead letters cannot be seen now: {error}."))?;
    let filter = Filter::ids(ids.iter().cloned());
    let selected: Vec<&Found> = snapshot.select(&filter).collect();
    if selected.is_empty() {
        return Err("None of these dead letters is there any more; look again.".to_owned());
    }
    let (shown, may) = preview(place, &snapshot, &filter, action)
        .map_err(|error| format!("A body cannot be read back: {error}."))?;
    let (count, what) =
        (selected.len(), PreparedDeed::Act { ids: Vec::new(), action: action.clone() }.verb());
    let back = query(&[("lane", &place.name)]);
    Ok(html! {
        p.big { "This will " strong { (what) " " (grouped(count)) @if count == 1 { " dead letter" } @else { " dead letters" } } ", and no other:" }
        (which(&selected))
        @if may { (confirmation(session, place, id, what, count, *action == ReviewAction::Discard, &format!("/dead-letters{back}"))) }
        @else { (notice(true, "Nothing can be moved like this: an edit goes only when every body is valid after it. Go back and change it.")) }
        (shown)
    })
}

/// The causes with their numbers, and the first names.
fn which(selected: &[&Found]) -> Markup {
    let causes = groups(selected.iter().map(|found| &found.letter));
    html! {
        section.card #which {
            ul.plain { @for group in &causes { li { strong { (grouped(group.count)) } " × " (cause(&group.cause)) } } }
            p { @for (n, found) in selected.iter().take(FIRST).enumerate() { @if n > 0 { ", " } (whole(&title(&found.letter))) }
                @if selected.len() > FIRST { " and " (grouped(selected.len() - FIRST)) " more" } }
        }
    }
}

/// The form that gives the word.
pub(super) fn confirmation(
    session: &LogIn,
    place: &LaneView,
    id: Uuid,
    what: &str,
    count: usize,
    is_danger: bool,
    back: &str,
) -> Markup {
    html! {
        form.card method="post" action="/dead-letters/act" {
            (csrf(session)) (hidden("lane", &place.name)) (hidden("order", &id.to_string()))
            p { label for="why" { "Why? It stands in the audit." } input #why type="text" name="why" maxlength="500" autocomplete="off"; }
            div.actions {
                button.danger[is_danger] type="submit" #go { "Yes, " (what) " " (grouped(count)) }
                a.button.plain href=(back) { "No, go back" }
            }
        }
    }
}

/// # Errors
/// It is not clear which dead letters are meant.
fn selection(fields: &Fields) -> Result<Filter, String> {
    let filter = fields.filter()?;
    match (fields.get("which"), filter.ids.len()) {
        (Some("all"), 0) => Ok(filter),
        (Some("all"), ticked) => Err(format!(
            "It is not clear which are meant: {ticked} of them ticked, and \"all\" is chosen as well. Nothing was done; go back and choose one."
        )),
        (_, 0) => Err("No dead letter is ticked; tick some, or choose all.".into()),
        // The conditions have led to them, and mean nothing more.
        _ => Ok(Filter::ids(filter.ids)),
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
    let Some(Prepared { lane, deed }) = id.and_then(|id| asked.console.orders.take(id)) else {
        return asked.trouble(StatusCode::CONFLICT, GONE);
    };
    let by = By { who: asked.who(), why: fields.get("why").map(str::to_owned) };
    let of = lane.clone();
    let job = super::jobs::start(&asked.console, lane, deed, by);
    Redirect::to(&format!("/jobs{}", query(&[("lane", &of), ("id", &job.to_string())])))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: usize) -> Prepared {
        let ids = (0..count).map(|n| n.to_string()).collect();
        let deed = PreparedDeed::Act { ids, action: ReviewAction::Discard };
        Prepared { lane: "lane".into(), deed }
    }

    #[test]
    fn what_waits_for_a_word_is_bounded_and_the_latest_stays() {
        let orders = Orders::default();
        let small = orders.keep(of(2));
        let large: Vec<Uuid> = (0..3).map(|_| orders.keep(of(MOST_NAMED / 2))).collect();
        assert!(orders.get(large[2]).is_some() && orders.get(large[1]).is_some());
        assert!(orders.get(large[0]).is_none());
        for _ in 0..2 * MOST {
            orders.keep(of(1));
        }
        assert!(orders.get(small).is_none());
        assert_eq!(orders.0.lock().unwrap().len(), MOST);
    }

    #[test]
    fn what_is_ticked_is_meant_and_all_is_a_word_of_its_own() {
        let of = |form: &str| selection(&Fields::of_query(Some(form)));
        assert_eq!(of("id=1&id=2&cause=x").unwrap(), Filter::ids(["1", "2"]));
        assert_eq!(of("which=ticked&id=1").unwrap(), Filter::ids(["1"]));
        let all = of("which=all&batch=b").unwrap();
        assert!(all.ids.is_empty() && all.batch.as_deref() == Some("b"));
        assert!(of("which=ticked&batch=b").unwrap_err().contains("No dead letter is ticked"));
        assert!(of("batch=b").unwrap_err().contains("No dead letter is ticked"));
        assert!(of("which=all&id=1").unwrap_err().contains("1 of them ticked"));
    }
}

//! What would undoing an act do, and what has been sent since? Shown before anything is put back.

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use uuid::Uuid;

use super::LaneView;
use super::access::LogIn;
use super::asked::Asked;
use super::audit;
use super::deeds;
use super::orders::{Prepared, PreparedDeed, confirmation, to_see};
use super::page::{ago, notice, query, whole};
use crate::message::audit::{Act, Action, AuditEntry, UnreadableAct};
use crate::report::text::{grouped, visible};
use crate::review::Named;

/// The most dead letters that are named.
const SHOWN: usize = 50;

/// What one act took away.
struct Taken {
    id: Uuid,
    letter: Option<Uuid>,
    action: Action,
    at: Timestamp,
    who: String,
    cause: String,
    named: Named,
}

/// What has become of a source server since.
type Since = HashMap<String, Vec<(Timestamp, String)>>;

/// Prepares the undoing of a whole act, and leads to the page that shows it.
pub(super) async fn prepare(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let id = fields.get("id").and_then(|id| id.parse::<Uuid>().ok());
    let Some(id) = id else {
        let why = "Which act is to be undone?";
        return asked.trouble(StatusCode::BAD_REQUEST, why);
    };
    match deeds::undoable(place, id).await {
        Ok(acts) if acts.is_empty() => {
            let why =
                "Nothing of this act can be undone: it was undone already, or took nothing away.";
            asked.trouble(StatusCode::CONFLICT, why)
        }
        Ok(acts) => {
            let lane = place.name.clone();
            let deed = PreparedDeed::Undo(acts);
            to_see(place, asked.console.orders.keep(Prepared { lane, deed }))
        }
        Err(error) => {
            let why = format!("The audit cannot be read now: {error}. Nothing was undone.");
            asked.trouble(StatusCode::SERVICE_UNAVAILABLE, &why)
        }
    }
}

/// # Errors
/// The audit cannot be read.
pub(super) async fn shown(
    asked: &Asked,
    session: &LogIn,
    order: Uuid,
    acts: &HashSet<Uuid>,
) -> Result<Markup, String> {
    let place = &asked.place;
    let (taken, unreadable) = taken(place, acts).await?;
    let back = format!("/audit{}", query(&[("lane", &place.name)]));
    let Some(first) = taken.first() else {
        return Ok(
            html! { (notice(false, "This act was undone already; nothing is left of it to put back."))
            p { a.button.plain href=(back) { "To the audit" } } },
        );
    };
    place.first_reading().await;
    let since = since(place, &taken);
    let count = taken.len();
    Ok(html! {
        p.big { "This will " strong { "put back " (grouped(count)) @if count == 1 { " dead letter" } @else { " dead letters" } }
            ", as they were before the " (first.action.as_str()) " by " bdi { (visible(&first.who)) } ", " (ago(first.at)) ", and no other." }
        (audit::unreadable(&unreadable))
        (told(&taken, &since))
        (confirmation(session, place, order, "put back", count, false, &back))
        (table(&taken, &since))
    })
}

/// What these acts took away, but for what was put back since.
async fn taken(
    place: &LaneView,
    acts: &HashSet<Uuid>,
) -> Result<(Vec<Taken>, Vec<UnreadableAct>), String> {
    let (mut taken, mut undone) = (Vec::new(), HashSet::new());
    let mut unreadable = Vec::new();
    let read = place.lane.review.audit(|entry| match entry {
        AuditEntry::Act(act) => {
            undone.extend(act.undoes);
            if acts.contains(&act.id) {
                taken.push(Taken::of(&act));
            }
        }
        AuditEntry::Unreadable(entry) => unreadable.push(entry),
    });
    read.await.map_err(|error| format!("The audit cannot be read now: {error}."))?;
    taken.retain(|one| !undone.contains(&one.id));
    Ok((taken, unreadable))
}

impl Taken {
    fn of(act: &Act) -> Self {
        Self {
            id: act.id,
            letter: act.letter,
            action: act.action,
            at: act.at,
            who: act.who.clone(),
            cause: act.cause.clone().unwrap_or_default(),
            named: act.before.as_ref().map(Named::of).unwrap_or_default(),
        }
    }

    fn name(&self) -> String {
        let id = || self.letter.map(|id| id.to_string()).unwrap_or_default();
        if self.named.name.is_empty() { id() } else { self.named.name.clone() }
    }
}

/// What the results say of these source servers since each act.
fn since(place: &LaneView, taken: &[Taken]) -> Since {
    let wanted: HashMap<&str, Timestamp> = taken
        .iter()
        .filter(|one| !one.named.source_server_id.is_empty())
        .map(|one| (&*one.named.source_server_id, one.at))
        .collect();
    let mut since = Since::new();
    place.results(|seen| {
        for result in seen.results() {
            if wanted.get(&*result.source_server_id).is_some_and(|at| result.settled_at >= *at) {
                let task = result.task_id.as_ref().map(|id| format!(", task {id}"));
                let what = format!("{}{}", result.outcome.as_str(), task.unwrap_or_default());
                let of = since.entry(result.source_server_id.clone()).or_default();
                of.push((result.settled_at, what));
            }
        }
    });
    since
}

fn told(taken: &[Taken], since: &Since) -> Markup {
    let sent = taken.iter().filter(|one| one.action == Action::Edit).count();
    let ended = taken.iter().filter(|one| since.contains_key(&one.named.source_server_id)).count();
    let mut outcomes = BTreeMap::<&str, usize>::new();
    for one in taken.iter().filter_map(|one| since.get(&one.named.source_server_id)?.last()) {
        *outcomes.entry(one.1.split(',').next().unwrap_or_default()).or_default() += 1;
    }
    let outcomes: Vec<_> =
        outcomes.iter().map(|(what, count)| format!("{} {what}", grouped(*count))).collect();
    html! {
        @if sent > 0 {
            (notice(true, &format!(
                "The edit has sent {} again, and that cannot be called back: of these servers {} since{}. What is put back lies among the dead letters as well; if it is replayed, it is looked up first.",
                grouped(sent),
                if ended == 0 { "nothing has ended".to_owned() } else { outcomes.join(", ") },
                if ended < sent { format!(", {} not ended so far", grouped(sent - ended)) } else { String::new() },
            )))
        } @else if ended > 0 {
            (notice(true, &format!("Nothing was sent by this act. For {} of these servers another request has ended since: {}.", grouped(ended), outcomes.join(", "))))
        } @else {
            (notice(false, "Nothing was sent by this act, and nothing for these servers has ended since."))
        }
    }
}

fn table(taken: &[Taken], since: &Since) -> Markup {
    html! {
        section.card { table #taken.stack {
            thead { tr { th { "Name" } th { "Source server" } th { "Cause" } th { "Sent since" } } }
            tbody { @for one in taken.iter().take(SHOWN) { tr {
                td { (whole(&one.name())) }
                td data-label="source server" { (whole(&one.named.source_server_id)) }
                td.why { bdi { (visible(&one.cause)) } }
                td data-label="sent since" {
                    @match since.get(&one.named.source_server_id).and_then(|all| all.last()) {
                        Some((at, what)) => { (whole(what)) ", " (ago(*at)) }
                        None if one.action == Action::Edit => "sent by the edit; not ended so far",
                        None => span.soft { "nothing" },
                    }
                }
            } } }
        }
        @if taken.len() > SHOWN { p.soft { "The first " (SHOWN) " of " (grouped(taken.len())) "." } } }
    }
}

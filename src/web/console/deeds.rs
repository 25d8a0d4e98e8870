//! What have people done, and which acts belong together? As the audit stream has it, read by one pass however many ask.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use uuid::Uuid;

use super::LaneView;
use crate::broker::dead_letters::ReviewError;
use crate::message::audit::{Act, Action, AuditEntry, By, UnreadableAct, missing};
use crate::review::Named;

/// What one act does to many dead letters follows faster than this.
const APART: SignedDuration = SignedDuration::from_secs(5);

/// An act without its messages: there may be very many.
#[derive(Clone, Debug)]
pub(super) struct AuditRow {
    act: Act,
    can_be_undone: bool,
    /// Of the message that it took away or sent again.
    named: Named,
}

/// What one pass over the stream has found.
#[derive(Debug, Default)]
pub(super) struct Audit {
    rows: Vec<AuditRow>,
    pub(super) unreadable: Vec<UnreadableAct>,
}

impl Deref for Audit {
    type Target = [AuditRow];

    fn deref(&self) -> &[AuditRow] {
        &self.rows
    }
}

/// Acts of one person that follow each other and are of one kind.
#[derive(Debug)]
pub(super) struct Deed {
    pub(super) acts: Vec<Act>,
    /// What they were done to, as far as is known.
    pub(super) names: Vec<String>,
    /// Those of them that can still be undone.
    pub(super) undoable: Vec<Uuid>,
}

impl Deed {
    /// What is missing of it, in a sentence.
    pub(super) fn missing(&self) -> Option<String> {
        let of = self.acts.iter().filter_map(|act| act.of).max()?;
        missing(u64::try_from(self.acts.len()).unwrap_or(u64::MAX), of)
    }

    /// Who had a part in it.
    pub(super) fn who(&self) -> String {
        let mut who: Vec<&str> = Vec::new();
        for act in &self.acts {
            if !who.contains(&&*act.who) {
                who.push(&act.who);
            }
        }
        who.join(", ")
    }

    fn belongs(&self, act: &Act) -> bool {
        self.acts.last().is_some_and(|last| match (last.deed, act.deed) {
            (Some(deed), Some(other)) => deed == other,
            (Some(_), None) | (None, Some(_)) => false,
            // An older version did not say what belongs together.
            (None, None) => {
                last.letter.is_some()
                    && act.letter.is_some()
                    && (last.action, &last.who, &last.why) == (act.action, &act.who, &act.why)
                    && act.at.duration_since(last.at).abs() < APART
            }
        })
    }
}

/// Newest first.
pub(super) fn deeds(entries: &[AuditRow]) -> Vec<Deed> {
    let undone: HashSet<Uuid> = entries.iter().filter_map(|entry| entry.act.undoes).collect();
    let names = names(entries);
    let mut deeds: Vec<Deed> = Vec::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    for AuditRow { act, can_be_undone, .. } in entries.iter().cloned() {
        let name = act.letter.and_then(|id| names.get(&id)).copied().unwrap_or_default().to_owned();
        let undoable = (can_be_undone && !undone.contains(&act.id)).then_some(act.id);
        // What says to which deed it belongs may stand anywhere: others act at the same time.
        let known = match act.deed {
            Some(id) => places.get(&id).copied(),
            None => deeds.len().checked_sub(1).filter(|last| deeds[*last].belongs(&act)),
        };
        places.extend(act.deed.map(|id| (id, known.unwrap_or(deeds.len()))));
        match known.and_then(|place| deeds.get_mut(place)) {
            Some(deed) => {
                deed.undoable.extend(undoable);
                deed.acts.push(act);
                deed.names.push(name);
            }
            None => deeds.push(Deed {
                acts: vec![act],
                names: vec![name],
                undoable: undoable.into_iter().collect(),
            }),
        }
    }
    deeds.reverse();
    deeds
}

/// What each dead letter is called, by any act that knows: a note says nothing but its id.
fn names(entries: &[AuditRow]) -> HashMap<Uuid, &str> {
    let named = entries.iter().filter(|entry| !entry.named.name.is_empty());
    named.filter_map(|entry| Some((entry.act.letter?, &*entry.named.name))).collect()
}

/// The acts of the last pass over the stream, and when that began.
#[derive(Debug, Default)]
pub(super) struct Scan(Option<(Instant, Arc<Audit>)>);

/// So long the page of a dead letter waits for its notes.
const SOON: Duration = Duration::from_millis(2500);

/// What was read is kept for so long for those who come at the same time, and no longer: it may be much.
const KEPT: Duration = Duration::from_secs(30);

/// All acts, of a pass that began after this was asked: whoever asks while one is under way shares the next one, so
/// however many ask, one reads the stream.
pub(super) async fn entries(place: &Arc<LaneView>) -> Result<Arc<Audit>, ReviewError> {
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

async fn read(place: &LaneView) -> Result<Audit, ReviewError> {
    let mut audit = Audit::default();
    let take = |entry: AuditEntry| {
        let act = match entry {
            AuditEntry::Act(act) => act,
            AuditEntry::Unreadable(entry) => return audit.unreadable.push(entry),
        };
        let can_be_undone = act.can_be_undone();
        let (id, at, action, letter, undoes) = (act.id, act.at, act.action, act.letter, act.undoes);
        let named = act.before.as_ref().or(act.after.as_ref()).map(Named::of).unwrap_or_default();
        let light = Act {
            id,
            letter,
            undoes,
            why: act.why.clone(),
            cause: act.cause.clone(),
            gate: act.gate.clone(),
            order: act.order.clone(),
            deed: act.deed,
            of: act.of,
            ..Act::new(action, &By { who: act.who.clone(), why: None }, at)
        };
        audit.rows.push(AuditRow { act: light, can_be_undone, named });
    };
    place.lane.review.audit(take).await?;
    Ok(audit)
}

/// What of the act that this one belongs to can still be undone.
pub(super) async fn undoable(
    place: &Arc<LaneView>,
    id: Uuid,
) -> Result<HashSet<Uuid>, ReviewError> {
    let deeds = deeds(&entries(place).await?);
    let deed = deeds.into_iter().find(|deed| deed.acts.iter().any(|act| act.id == id));
    Ok(deed.map(|deed| deed.undoable.into_iter().collect()).unwrap_or_default())
}

/// The acts that were done to what has this in its name, source server, message id or batch, newest first, and what each
/// was done to.
pub(super) async fn about(
    place: &Arc<LaneView>,
    text: &str,
) -> Result<Vec<(Act, String)>, ReviewError> {
    let entries = entries(place).await?;
    let part = text.to_lowercase();
    let is_meant = |named: &Named| {
        let Named { name, source_server_id, request_id, batch } = named;
        [name, source_server_id, request_id, batch]
            .into_iter()
            .any(|text| text.to_lowercase().contains(&part))
    };
    let letters: HashSet<Uuid> = entries
        .iter()
        .filter(|entry| is_meant(&entry.named))
        .filter_map(|entry| entry.act.letter)
        .collect();
    let names = names(&entries);
    let of_order = |act: &Act| act.order.as_ref().map(|order| order.of.to_string());
    let found = entries.iter().rev().map(|entry| &entry.act).filter(|act| {
        act.letter.is_some_and(|id| letters.contains(&id))
            || of_order(act).is_some_and(|of| of.to_lowercase().contains(&part))
    });
    let name = |act: &Act| {
        let known = act.letter.and_then(|id| names.get(&id)).map(|name| (*name).to_owned());
        known.or_else(|| of_order(act)).unwrap_or_default()
    };
    Ok(found.map(|act| (act.clone(), name(act))).collect())
}

/// What people have noted about dead letters, oldest first.
pub(super) type Notes = HashMap<Uuid, Vec<Act>>;

/// The notes, where the audit is read within [`SOON`]; as of the last half minute, or `fresh`.
pub(super) async fn notes(place: &Arc<LaneView>, fresh: bool) -> Option<Notes> {
    let kept =
        || async { place.scan.lock().await.0.as_ref().map(|(_, entries)| Arc::clone(entries)) };
    let reading = async {
        match kept().await.filter(|_| !fresh) {
            Some(entries) => Ok(entries),
            None => entries(place).await,
        }
    };
    let entries = tokio::time::timeout(SOON, reading).await.ok()?.ok()?;
    let mut notes = Notes::new();
    for act in entries.iter().map(|entry| &entry.act).filter(|act| act.action == Action::Note) {
        notes.entry(act.letter?).or_default().push(act.clone());
    }
    Some(notes)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let named = Named::default;
        let entries =
            &acts.map(|act| AuditRow { can_be_undone: can_be_undone(&act), act, named: named() });
        let deeds = deeds(entries);
        let told: Vec<_> =
            deeds.iter().map(|deed| (deed.acts.len(), deed.undoable.len())).collect();
        assert_eq!(told, [(1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (1, 1), (2, 1)]);
    }

    #[test]
    fn two_orders_of_one_person_within_a_second_are_two_acts_and_undone_by_themselves() {
        let by = By { who: "ada".into(), why: None };
        let act = |deed: Uuid| Act {
            letter: Some(Uuid::new_v4()),
            deed: Some(deed),
            ..Act::new(Action::Discard, &by, Timestamp::from_second(1).unwrap())
        };
        let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
        let acts = [one, one, other].map(act);
        let names = ["web-1", "web-2", "web-3"];
        let rows: Vec<AuditRow> = acts
            .iter()
            .zip(names)
            .map(|(act, name)| AuditRow {
                act: act.clone(),
                can_be_undone: true,
                named: Named { name: name.into(), ..Named::default() },
            })
            .collect();
        let told: Vec<_> =
            deeds(&rows).into_iter().map(|deed| (deed.names, deed.undoable)).collect();
        let ids = acts.map(|act| act.id);
        assert_eq!(
            told,
            [
                (vec!["web-3".to_owned()], vec![ids[2]]),
                (vec!["web-1".to_owned(), "web-2".to_owned()], vec![ids[0], ids[1]]),
            ]
        );
    }
}

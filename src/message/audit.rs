//! Who did what to a dead letter or to the gate? Every act is an event in the audit stream, with what was before.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::parcel::Parcel;
use crate::core::{Change, Order, Target};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Sent again as it was.
    Replay,
    /// Fixed and sent again.
    Edit,
    /// Taken out of the queue.
    Discard,
    /// Put back as it was before a discard or an edit.
    Restore,
    /// Put into the queue from a file.
    Import,
    /// Something was written down about it.
    Note,
    /// The gate was shut, opened, or given other rates.
    Pause,
    Resume,
    Rate,
    /// What waits of a batch, or a request: an order about it.
    Cancel,
    Hold,
    Release,
    Move,
}

impl Action {
    pub const ALL: [Self; 13] = [
        Self::Replay,
        Self::Edit,
        Self::Discard,
        Self::Restore,
        Self::Import,
        Self::Note,
        Self::Pause,
        Self::Resume,
        Self::Rate,
        Self::Cancel,
        Self::Hold,
        Self::Release,
        Self::Move,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Edit => "edit",
            Self::Discard => "discard",
            Self::Restore => "restore",
            Self::Import => "import",
            Self::Note => "note",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Rate => "rate",
            Self::Cancel => "cancel",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Move => "move",
        }
    }
}

/// One act, as the audit stream keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Act {
    #[schemars(with = "String")]
    pub id: Uuid,
    #[schemars(with = "String")]
    pub at: Timestamp,
    pub action: Action,
    /// Who did it.
    pub who: String,
    /// The reason that they gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The dead letter that it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub letter: Option<Uuid>,
    /// The cause of that dead letter, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The act that a restore undid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub undoes: Option<Uuid>,
    /// The message before, whole: enough to put it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Parcel>,
    /// The message after, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Parcel>,
    /// What the gate was told, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<serde_json::Value>,
    /// What was ordered of requests that wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What one word of an operator did to many dead letters has the same one; acts of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deed: Option<Uuid>,
    /// To how many dead letters that word was meant: so many acts have the same `deed`, or something is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
}

/// What stands in the audit stream: an act, or what cannot be read as one and is shown as that.
#[derive(Clone, Debug, PartialEq)]
pub enum AuditEntry {
    Act(Box<Act>),
    Unreadable(UnreadableAct),
}

/// Something in the audit stream that is no act, or no longer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableAct {
    /// Its place in the stream.
    pub offset: u64,
    pub bytes: usize,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for UnreadableAct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offset, bytes, why } = self;
        write!(
            f,
            "at offset {offset} of the audit stream stand {bytes} bytes that are no act that can be read: {why}"
        )
    }
}

/// Who acts, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    pub who: String,
    pub why: Option<String>,
}

impl Act {
    /// A new act with nothing but its frame.
    pub fn new(action: Action, by: &By, at: Timestamp) -> Self {
        Self {
            id: Uuid::now_v7(),
            at,
            action,
            who: by.who.clone(),
            why: by.why.clone(),
            letter: None,
            cause: None,
            undoes: None,
            before: None,
            after: None,
            gate: None,
            order: None,
            deed: None,
            of: None,
        }
    }

    /// An order about requests that wait.
    pub fn ordered(of: Target, change: Change, by: &By, at: Timestamp) -> Self {
        let action = match change {
            Change { cancel: true, .. } => Action::Cancel,
            Change { hold: Some(true), .. } => Action::Hold,
            Change {
                hold: Some(false), not_before: None, deadline: None, priority: None, ..
            } => Action::Release,
            _ => Action::Move,
        };
        Self { order: Some(Order { at, of, change }), ..Self::new(action, by, at) }
    }

    /// Whether this act can be undone: what it took away is kept in it.
    pub fn can_be_undone(&self) -> bool {
        matches!(self.action, Action::Discard | Action::Edit) && self.before.is_some()
    }

    /// Whether one of `names` is this act's id or its dead letter's, or the beginning of one (8 characters at least).
    pub fn is_named(&self, names: &[String]) -> bool {
        const SHORTEST: usize = 8;
        let ids = [Some(self.id), self.letter].into_iter().flatten().map(|id| id.to_string());
        let names = || names.iter().filter(|name| name.len() >= SHORTEST);
        ids.into_iter().any(|id| names().any(|name| id.starts_with(&name.to_lowercase())))
    }
}

/// The acts that can be undone and were not, newest first.
pub fn undoable(acts: &[Act]) -> Vec<&Act> {
    let undone: HashSet<Uuid> = acts.iter().filter_map(|act| act.undoes).collect();
    acts.iter().rev().filter(|act| act.can_be_undone() && !undone.contains(&act.id)).collect()
}

/// Counts the acts of each deed while they go by, whoever wrote them and whatever their clocks said.
#[derive(Debug, Default)]
pub struct Deeds(BTreeMap<Uuid, (u64, u64)>);

impl Deeds {
    pub fn take(&mut self, act: &Act) {
        if let (Some(deed), Some(of)) = (act.deed, act.of) {
            let (read, announced) = self.0.entry(deed).or_default();
            *read += 1;
            *announced = of.max(*announced);
        }
    }

    /// What is missing of this deed, in a sentence.
    pub fn missing(&self, deed: Uuid) -> Option<String> {
        let (read, of) = self.0.get(&deed)?;
        missing(*read, *of)
    }
}

/// What is missing of a deed that was meant `of` dead letters and left `read` acts.
pub fn missing(read: u64, of: u64) -> Option<String> {
    (read < of).then(|| {
        format!(
            "{read} of {of} acts are in the audit: it was stopped or failed before the others, or the audit has lost them or keeps them no longer"
        )
    })
}

/// Finds what can be undone while the acts go by, oldest first, and keeps no message.
#[derive(Debug, Default)]
pub struct Undoable {
    wanted: Vec<Act>,
    undone: HashSet<Uuid>,
}

impl Undoable {
    pub fn take(&mut self, act: Act, is_wanted: bool) {
        self.undone.extend(act.undoes);
        if is_wanted && act.can_be_undone() {
            self.wanted.push(Act { before: None, after: None, ..act });
        }
    }

    /// Newest first; of each dead letter only the newest, for an older act was followed by something else.
    pub fn newest_of_each_letter(self) -> Vec<Act> {
        let Self { wanted, undone } = self;
        let mut seen = HashSet::new();
        let newest = wanted.into_iter().rev().filter(|act| !undone.contains(&act.id));
        newest.filter(|act| seen.insert(act.letter)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_undone_is_not_undone_again() {
        let by = By { who: "me".into(), why: None };
        let act = |action, undoes| Act {
            undoes,
            before: Some(Parcel::default()),
            ..Act::new(action, &by, Timestamp::UNIX_EPOCH)
        };
        let (discard, edit, replay) =
            (act(Action::Discard, None), act(Action::Edit, None), act(Action::Replay, None));
        let restore = act(Action::Restore, Some(discard.id));
        let acts = [discard, edit.clone(), replay, restore];
        assert_eq!(undoable(&acts).iter().map(|act| act.id).collect::<Vec<_>>(), [edit.id]);
    }

    #[test]
    fn of_each_letter_the_newest_act_is_undone_and_only_what_is_wanted() {
        let by = By { who: "me".into(), why: None };
        let letter = Uuid::new_v4();
        let act = |action, letter| Act {
            letter: Some(letter),
            before: Some(Parcel::default()),
            ..Act::new(action, &by, Timestamp::UNIX_EPOCH)
        };
        let (old, new) = (act(Action::Discard, letter), act(Action::Edit, letter));
        let (other, unwanted) =
            (act(Action::Discard, Uuid::new_v4()), act(Action::Edit, Uuid::new_v4()));
        let gone = act(Action::Discard, Uuid::new_v4());
        let undo =
            Act { undoes: Some(gone.id), ..Act::new(Action::Restore, &by, Timestamp::UNIX_EPOCH) };
        let ids = [new.id, other.id];
        let mut undoable = Undoable::default();
        for one in [old, other, new, gone, undo, act(Action::Replay, Uuid::new_v4())] {
            undoable.take(one, true);
        }
        undoable.take(unwanted, false);
        let found = undoable.newest_of_each_letter();
        assert_eq!(found.iter().map(|act| act.id).collect::<Vec<_>>(), ids);
        assert!(found.iter().all(|act| act.before.is_none()));
        assert!(found[0].is_named(&[letter.to_string().to_uppercase()]));
        assert!(!found[0].is_named(&[letter.to_string()[..7].to_owned(), "x".repeat(8)]));
    }

    #[test]
    fn a_deed_of_two_clocks_and_two_names_is_counted_by_its_id() {
        let deed = Uuid::new_v4();
        let act = |who: &str, seconds| Act {
            deed: Some(deed),
            of: Some(3),
            ..Act::new(
                Action::Discard,
                &By { who: who.into(), why: None },
                Timestamp::from_second(seconds).unwrap(),
            )
        };
        let mut deeds = Deeds::default();
        deeds.take(&act("ada", 1_000_000));
        deeds.take(&Act { deed: Some(Uuid::new_v4()), ..act("bo", 7) });
        deeds.take(&act("bo", 7));
        assert!(deeds.missing(deed).unwrap().starts_with("2 of 3 acts"));
        deeds.take(&act("ada", 2));
        assert_eq!(deeds.missing(deed), None);
    }

    #[test]
    fn an_act_reads_back() {
        let by = By { who: "me".into(), why: Some("because".into()) };
        let act = Act {
            before: Some(Parcel { body: b"\xff".as_slice().into(), ..Parcel::default() }),
            ..Act::new(Action::Discard, &by, "2026-01-31T12:00:00Z".parse().unwrap())
        };
        let json = serde_json::to_string(&act).unwrap();
        assert_eq!(serde_json::from_str::<Act>(&json).unwrap(), act);
    }
}

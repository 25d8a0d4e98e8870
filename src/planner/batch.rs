//! Has this plan been enqueued, and how far? `PLAN.batch`, beside the plan: written and synced before the first publish,
//! so that a crash at any point leaves the batch's id and time behind, and going on doubles nothing.
//!
//! One JSON object a line. The first is the [`Head`]; then, as confirms come, `{"confirmed": n}`: the first n valid rows
//! are in the queue; at last `{"finished": "<time>"}`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lines::{JournalError, Kind, Lines};

/// What a batch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub batch: String,
    /// Its generation: an id that is used again is another batch. A journal of before generations has none.
    #[serde(default, rename = "batch_run", skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    pub enqueued_at: Timestamp,
    /// How many valid rows it has.
    pub total: u64,
    /// SHA-256 over the valid rows: numbers, settings and bodies. Another plan is another batch.
    pub digest: String,
    /// The queue that it goes to.
    pub queue: String,
}

impl Head {
    /// What the identities of its requests are made of.
    pub fn generation(&self) -> String {
        self.run.map_or_else(|| self.batch.clone(), |run| run.to_string())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Head(Head),
    Confirmed { confirmed: u64 },
    Finished { finished: Timestamp },
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none yet, or only the beginning of a first line.
    New,
    /// It was begun: go on after this many rows.
    Begun { head: Head, confirmed: u64 },
    /// All of it is in the queue since then.
    Finished { head: Head, at: Timestamp },
}

/// The file, held under an exclusive lock.
#[derive(Debug)]
pub struct Batch(Lines);

const KIND: Kind = Kind { ending: ".batch", done: "enqueued" };

impl Batch {
    /// `plan.csv` has `plan.csv.batch`.
    pub fn path_of(plan: &Path) -> PathBuf {
        Lines::path_of(plan, KIND)
    }

    /// What the file says, without a lock or a change.
    ///
    /// # Errors
    /// It cannot be read, or is something else. That there is none is no error.
    pub fn peek(plan: &Path) -> Result<State, JournalError> {
        let mut state = State::New;
        Lines::peek(plan, KIND, |line| state.follow(line))?;
        Ok(state)
    }

    /// Opens and locks the file, and says what is in it.
    ///
    /// # Errors
    /// It cannot be opened, is in use, or is something else.
    pub fn open(plan: &Path) -> Result<(Self, State), JournalError> {
        let mut state = State::New;
        let lines = Lines::open(plan, KIND, |line| state.follow(line))?;
        Ok((Self(lines), state))
    }

    /// Begins a batch, in place of whatever stood there; on disk when this returns.
    ///
    /// # Errors
    /// Nothing may be published then.
    pub fn begin(&mut self, head: &Head) -> Result<(), JournalError> {
        self.0.begin(head)
    }

    /// The first `rows` valid rows are in the queue. Not synced: what is lost is only published again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn confirmed(&mut self, rows: u64) -> Result<(), JournalError> {
        self.0.add(&Line::Confirmed { confirmed: rows })
    }

    /// # Errors
    /// The file cannot be written; the batch is complete all the same.
    pub fn finish(&mut self, at: Timestamp) -> Result<(), JournalError> {
        self.0.add(&Line::Finished { finished: at })?;
        self.0.sync()
    }
}

impl State {
    /// What a line makes of it; `false` if none like it may stand there.
    fn follow(&mut self, line: Line) -> bool {
        *self = match (line, std::mem::replace(self, Self::New)) {
            (Line::Head(head), Self::New) => Self::Begun { head, confirmed: 0 },
            (Line::Confirmed { confirmed }, Self::Begun { head, .. }) => {
                Self::Begun { head, confirmed }
            }
            (Line::Finished { finished }, Self::Begun { head, .. }) => {
                Self::Finished { head, at: finished }
            }
            _ => return false,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            batch: "b".into(),
            run: Some(Uuid::from_u128(7)),
            enqueued_at: "2026-11-28T14:00:00.123Z".parse().unwrap(),
            total: 3,
            digest: "00".into(),
            queue: "sluice.requests".into(),
        }
    }

    #[test]
    fn a_journal_cut_at_any_byte_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        let (mut batch, state) = Batch::open(&plan).unwrap();
        assert_eq!(state, State::New);
        batch.begin(&head()).unwrap();
        batch.confirmed(2).unwrap();
        let at = "2026-11-28T15:00:00Z".parse().unwrap();
        batch.finish(at).unwrap();
        drop(batch);
        let text = std::fs::read_to_string(Batch::path_of(&plan)).unwrap();
        let mut seen = Vec::new();
        for cut in 0..=text.len() {
            std::fs::write(Batch::path_of(&plan), &text[..cut]).unwrap();
            let (mut batch, state) = Batch::open(&plan).unwrap();
            if seen.last() != Some(&state) {
                seen.push(state.clone());
            }
            // What is written next is a line of its own.
            if let State::Begun { head, confirmed } = state {
                batch.confirmed(confirmed + 1).unwrap();
                drop(batch);
                let went_on = State::Begun { head, confirmed: confirmed + 1 };
                assert_eq!(Batch::open(&plan).unwrap().1, went_on);
            }
        }
        let begun = |confirmed| State::Begun { head: head(), confirmed };
        assert_eq!(seen, [State::New, begun(0), begun(2), State::Finished { head: head(), at }]);
    }

    #[test]
    fn what_is_no_journal_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        for text in ["hello", "hello\n", "{}\n", "{\"confirmed\":1}\n", "{\"x\""] {
            std::fs::write(Batch::path_of(&plan), text).unwrap();
            assert!(Batch::open(&plan).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(Batch::path_of(&plan)).unwrap(), text);
        }
    }

    #[test]
    fn two_at_once_are_refused_and_a_new_beginning_replaces_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        let (mut first, _) = Batch::open(&plan).unwrap();
        assert!(matches!(Batch::open(&plan), Err(JournalError::Locked { .. })));
        first.begin(&head()).unwrap();
        first.begin(&Head { batch: "c".into(), ..head() }).unwrap();
        drop(first);
        let (_, state) = Batch::open(&plan).unwrap();
        assert_eq!(
            state,
            State::Begun { head: Head { batch: "c".into(), ..head() }, confirmed: 0 }
        );
    }
}

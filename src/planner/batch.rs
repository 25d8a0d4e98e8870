//! Which batches were made of this plan, and how far is each? `PLAN.batch`, beside the plan, of a workbook
//! `PLAN.SHEET.batch`: the journals of all batches of this file and sheet, one after the other. What begins is written and
//! synced before the first publish, so that a crash at any point leaves the batch's id, generation and time behind, and
//! going on doubles nothing.
//!
//! One JSON object a line. A batch begins with its [`Head`]; then, as confirms come, `{"confirmed": n, "rows": [...]}`: the
//! first n valid rows are in the queue, and these are the rows since the line before; at last `{"finished": "<time>"}`. Where
//! rows are added later an [`Addition`] follows, and the same again. `{"goes_on": "<generation>"}` says that the lines after
//! it are those of an earlier batch.

use std::collections::HashMap;
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
    /// How many valid rows it began with.
    pub total: u64,
    /// SHA-256 over the valid rows: numbers, settings and bodies.
    pub digest: String,
    /// The queue that it goes to.
    pub queue: String,
}

/// Rows that were added to a batch: those of an edited plan that are new or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addition {
    /// From 1 on.
    pub addition: u32,
    pub enqueued_at: Timestamp,
    /// How many rows are added.
    pub added: u64,
    /// How many requests the batch has with them.
    pub total: u64,
    /// Of the edited plan, as in a [`Head`].
    pub digest: String,
}

/// A row that is in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnqueuedRow {
    pub row: u64,
    /// Its message id, by which this version of it can be taken back, and no other.
    pub id: Uuid,
    pub source: Box<str>,
    pub name: Box<str>,
    /// What tells it from another version of itself: [`crate::plan::row_digest`].
    pub digest: Box<str>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Head(Head),
    Addition(Addition),
    Confirmed {
        confirmed: u64,
        #[serde(default)]
        rows: Vec<EnqueuedRow>,
    },
    Finished {
        finished: Timestamp,
    },
    GoesOn {
        goes_on: Uuid,
    },
}

/// The latest version of each row that is in the queue, by its source server.
pub type RowsOf = HashMap<Box<str>, EnqueuedRow>;

/// A batch that was made of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub head: Head,
    /// The latest, if rows were added.
    pub addition: Option<Addition>,
    /// How many rows of the head, or of the addition, are in the queue for certain.
    pub confirmed: u64,
    /// Since when all of it is in the queue.
    pub finished: Option<Timestamp>,
    /// What was in the queue before the latest addition; when all of it is, that too.
    pub rows: RowsOf,
    confirmed_rows: Vec<EnqueuedRow>,
}

impl Made {
    pub fn new(head: Head) -> Self {
        let (rows, confirmed_rows) = (RowsOf::new(), Vec::new());
        Self { head, addition: None, confirmed: 0, finished: None, rows, confirmed_rows }
    }

    /// How many requests it has in all.
    pub fn total(&self) -> u64 {
        self.addition.as_ref().map_or(self.head.total, |addition| addition.total)
    }

    /// How many rows are enqueued now: all of the head, or those that are added.
    pub fn rows_now(&self) -> u64 {
        self.addition.as_ref().map_or(self.head.total, |addition| addition.added)
    }

    /// The digest of the plan as it was enqueued last.
    pub fn digest(&self) -> &str {
        self.addition.as_ref().map_or(&self.head.digest, |addition| &addition.digest)
    }

    /// When what is enqueued now was begun.
    pub fn enqueued_at(&self) -> Timestamp {
        self.addition.as_ref().map_or(self.head.enqueued_at, |addition| addition.enqueued_at)
    }

    /// What the identities of the requests that are enqueued now are made of: the same however often it is gone on with,
    /// another one for each generation, and for each addition to it. So a row that was changed, be it back to what it was
    /// before, is a request of its own.
    pub fn generation(&self) -> String {
        let generation =
            self.head.run.map_or_else(|| self.head.batch.clone(), |run| run.to_string());
        match &self.addition {
            Some(Addition { addition, .. }) => format!("{generation}/{addition}"),
            None => generation,
        }
    }

    /// Whether a request for this source server is in the queue for certain, or was.
    pub fn has(&self, source: &str) -> bool {
        self.rows.contains_key(source)
            || self.confirmed_rows.iter().any(|row| *row.source == *source)
    }

    /// What the identities of its requests were made of: one for the head, and one for each addition.
    pub fn generations(&self) -> Vec<String> {
        let first = Self::new(self.head.clone()).generation();
        let additions = self.addition.as_ref().map_or(0, |latest| latest.addition);
        let later = (1..=additions).map(|addition| format!("{first}/{addition}"));
        std::iter::once(first.clone()).chain(later).collect()
    }

    /// Whether the journal says what its rows are: one of an earlier version does not.
    pub fn knows_its_rows(&self) -> bool {
        self.rows.len() as u64 >= self.head.total
    }

    /// The next addition to it, of so many rows of the plan with this digest.
    pub fn next_addition(&self, added: u64, digest: &str, now: Timestamp) -> Addition {
        Addition {
            addition: self.addition.as_ref().map_or(0, |latest| latest.addition) + 1,
            enqueued_at: now,
            added,
            total: self.total() + added,
            digest: digest.to_owned(),
        }
    }

    /// Rows are added to it: none of them is in the queue yet.
    pub fn add(&mut self, addition: Addition) {
        (self.addition, self.confirmed, self.finished) = (Some(addition), 0, None);
    }

    fn finish(&mut self, at: Timestamp) {
        self.finished = Some(at);
        let rows = std::mem::take(&mut self.confirmed_rows);
        self.rows.extend(rows.into_iter().map(|row| (row.source.clone(), row)));
    }
}

/// What the file says: all batches that were made of the plan, in the order in which they were begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeBatches {
    pub all: Vec<Made>,
    /// The one that the next line is about.
    current: usize,
}

impl MadeBatches {
    /// What a line makes of it; `false` if none like it may stand there.
    fn follow(&mut self, line: Line) -> bool {
        let current = self.all.get_mut(self.current);
        match (line, current) {
            (Line::Head(head), _) => {
                self.current = self.all.len();
                self.all.push(Made::new(head));
            }
            (Line::GoesOn { goes_on }, _) => {
                let found = self.all.iter().rposition(|made| made.head.run == Some(goes_on));
                let Some(found) = found else { return false };
                self.current = found;
            }
            (Line::Addition(addition), Some(made)) if made.finished.is_some() => made.add(addition),
            (Line::Confirmed { confirmed, rows }, Some(made)) if made.finished.is_none() => {
                made.confirmed = confirmed;
                made.confirmed_rows.extend(rows);
            }
            (Line::Finished { finished }, Some(made)) if made.finished.is_none() => {
                made.finish(finished);
            }
            _ => return false,
        }
        true
    }

    /// Those that the plan's servers are in now: the latest, and each before it that has none of theirs.
    pub fn current(&self) -> Vec<&Made> {
        let mut current: Vec<&Made> = Vec::new();
        for made in self.all.iter().rev() {
            let is_in = |source: &str| current.iter().any(|other| other.has(source));
            if current.is_empty() || made.knows_its_rows() && !made.rows.keys().any(|s| is_in(s)) {
                current.push(made);
            }
        }
        current.reverse();
        current
    }

    /// The latest batch with this id; without an id the latest of all.
    pub fn latest(&self, batch: Option<&str>) -> Option<&Made> {
        self.all.iter().rev().find(|made| batch.is_none_or(|batch| made.head.batch == batch))
    }
}

/// The file, held under an exclusive lock.
#[derive(Debug)]
pub struct Journal {
    lines: Lines,
    /// The batch that the latest line is about.
    current: Option<Head>,
}

const KIND: Kind = Kind { ending: ".batch", done: "enqueued" };

impl Journal {
    /// `plan.csv` has `plan.csv.batch`, and the sheet `East` of `plan.xlsx` has `plan.xlsx.East.batch`.
    pub fn path_of(plan: &Path, sheet: Option<&str>) -> PathBuf {
        Lines::path_of(plan, sheet, KIND)
    }

    /// Whether there is one for any sheet of the plan.
    pub fn is_beside(plan: &Path) -> bool {
        let begin = plan.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".";
        let parent = plan.parent().filter(|parent| !parent.as_os_str().is_empty());
        let names = std::fs::read_dir(parent.unwrap_or(Path::new("."))).into_iter().flatten();
        names.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&begin) && name.ends_with(KIND.ending)
        })
    }

    /// Opens and locks the file, and says what is in it.
    ///
    /// # Errors
    /// It cannot be opened, is in use, or is something else.
    pub fn open(plan: &Path, sheet: Option<&str>) -> Result<(Self, MadeBatches), JournalError> {
        let mut made = MadeBatches::default();
        let lines = Lines::open(plan, sheet, KIND, |line| made.follow(line))?;
        let current = made.all.get(made.current).map(|made| made.head.clone());
        Ok((Self { lines, current }, made))
    }

    /// What the file says, without a lock or a change.
    ///
    /// # Errors
    /// It cannot be read, or is something else. That there is none is no error.
    pub fn peek(plan: &Path, sheet: Option<&str>) -> Result<MadeBatches, JournalError> {
        let mut made = MadeBatches::default();
        Lines::peek(plan, sheet, KIND, |line| made.follow(line))?;
        Ok(made)
    }

    /// Begins a batch; on disk when this returns. What was made of the plan before stays.
    ///
    /// # Errors
    /// Nothing may be published then.
    pub fn begin(&mut self, head: &Head) -> Result<(), JournalError> {
        self.lines.begin(head)?;
        self.current = Some(head.clone());
        Ok(())
    }

    /// The lines that follow are about this batch.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn go_on(&mut self, head: &Head) -> Result<(), JournalError> {
        if self.current.as_ref() == Some(head) {
            return Ok(());
        }
        if let Some(run) = head.run {
            self.lines.begin(&Line::GoesOn { goes_on: run })?;
        }
        self.current = Some(head.clone());
        Ok(())
    }

    /// Begins to add rows to the batch; on disk when this returns.
    ///
    /// # Errors
    /// Nothing may be published then.
    pub fn add(&mut self, head: &Head, addition: &Addition) -> Result<(), JournalError> {
        self.go_on(head)?;
        self.lines.begin(addition)
    }

    /// The first `count` rows are in the queue, these the latest of them. Not synced: what is lost is only published again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn confirmed(&mut self, count: u64, rows: Vec<EnqueuedRow>) -> Result<(), JournalError> {
        self.lines.add(&Line::Confirmed { confirmed: count, rows })
    }

    /// # Errors
    /// The file cannot be written; the batch is complete all the same.
    pub fn finish(&mut self, at: Timestamp) -> Result<(), JournalError> {
        self.lines.add(&Line::Finished { finished: at })?;
        self.lines.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(batch: &str, run: u128) -> Head {
        Head {
            batch: batch.into(),
            run: Some(Uuid::from_u128(run)),
            enqueued_at: "2026-11-28T14:00:00.123Z".parse().unwrap(),
            total: 3,
            digest: "00".into(),
            queue: "sluice.requests".into(),
        }
    }

    fn rows(numbers: std::ops::Range<u64>, digest: &str) -> Vec<EnqueuedRow> {
        let row = |row| EnqueuedRow {
            row,
            id: Uuid::from_u128(row.into()),
            source: format!("source-{row}").into(),
            name: format!("task-{row}").into(),
            digest: digest.into(),
        };
        numbers.map(row).collect()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A journal with two generations, of which the first was added to, after the second was begun.
    fn written(plan: &Path) -> String {
        let (mut journal, made) = Journal::open(plan, None).unwrap();
        assert_eq!(made, MadeBatches::default());
        journal.begin(&head("b", 1)).unwrap();
        journal.confirmed(2, rows(1..3, "v1")).unwrap();
        journal.confirmed(3, rows(3..4, "v1")).unwrap();
        journal.finish(at("2026-11-28T15:00:00Z")).unwrap();
        journal.begin(&head("b", 2)).unwrap();
        journal.confirmed(1, rows(1..2, "v1")).unwrap();
        let first = Made { finished: Some(at("2026-11-28T15:00:00Z")), ..Made::new(head("b", 1)) };
        let addition = first.next_addition(2, "01", at("2026-11-28T16:00:00Z"));
        journal.add(&first.head, &addition).unwrap();
        journal.confirmed(2, rows(2..4, "v2")).unwrap();
        journal.finish(at("2026-11-28T17:00:00Z")).unwrap();
        drop(journal);
        std::fs::read_to_string(Journal::path_of(plan, None)).unwrap()
    }

    #[test]
    fn a_journal_cut_at_any_byte_is_read_as_far_as_it_goes_and_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        let path = Journal::path_of(&plan, None);
        let text = written(&plan);
        let mut seen = Vec::new();
        for cut in 0..=text.len() {
            std::fs::write(&path, &text[..cut]).unwrap();
            let (mut journal, made) = Journal::open(&plan, None).unwrap();
            let figures = |made: &Made| (made.confirmed, made.total(), made.finished.is_some());
            let told: Vec<_> = made.all.iter().map(figures).collect();
            if seen.last() != Some(&told) {
                seen.push(told);
            }
            // What is written next is a line of its own, about the batch that is meant.
            let Some(unfinished) = made.all.iter().find(|made| made.finished.is_none()) else {
                continue;
            };
            journal.go_on(&unfinished.head).unwrap();
            journal.confirmed(unfinished.confirmed + 1, rows(7..8, "v1")).unwrap();
            drop(journal);
            let again = Journal::peek(&plan, None).unwrap();
            let run = unfinished.head.run;
            let went_on = again.all.iter().find(|made| made.head.run == run).unwrap();
            assert_eq!(went_on.confirmed, unfinished.confirmed + 1, "cut at {cut}");
        }
        let first = (3, 3, true);
        let expected = [
            vec![],
            vec![(0, 3, false)],
            vec![(2, 3, false)],
            vec![(3, 3, false)],
            vec![first],
            vec![first, (0, 3, false)],
            vec![first, (1, 3, false)],
            vec![(0, 5, false), (1, 3, false)],
            vec![(2, 5, false), (1, 3, false)],
            vec![(2, 5, true), (1, 3, false)],
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_latest_version_of_each_row_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        written(&plan);
        let made = Journal::peek(&plan, None).unwrap();
        let first = &made.all[0];
        assert!(first.knows_its_rows());
        let digest = |row: u64| &*first.rows[&*format!("source-{row}")].digest;
        assert_eq!([digest(1), digest(2), digest(3)], ["v1", "v2", "v2"]);
        assert_eq!(first.generation(), format!("{}/1", Uuid::from_u128(1)));
        assert_eq!(made.latest(Some("b")), Some(&made.all[1]), "the generation begun last");
        assert_eq!(made.latest(Some("c")), None);
        assert_eq!(first.generations(), [Uuid::from_u128(1).to_string(), first.generation()]);
        assert!(first.has("source-3") && !first.has("source-4"));
        let current: Vec<_> = made.current().iter().map(|made| made.head.run).collect();
        assert_eq!(current, [Some(Uuid::from_u128(2))], "the second has the same servers");
    }

    #[test]
    fn a_journal_of_before_generations_is_read_and_its_ids_stay() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        let text = "{\"batch\":\"b\",\"enqueued_at\":\"2026-11-28T14:00:00.123Z\",\"total\":3,\"digest\":\"00\",\"queue\":\"q\"}\n{\"confirmed\":2}\n";
        std::fs::write(Journal::path_of(&plan, None), text).unwrap();
        let (_, made) = Journal::open(&plan, None).unwrap();
        let made = made.latest(None).unwrap();
        assert_eq!((made.confirmed, made.generation().as_str()), (2, "b"));
        assert!(!made.knows_its_rows());
    }

    #[test]
    fn what_is_no_journal_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        let path = Journal::path_of(&plan, None);
        for text in ["hello", "hello\n", "{}\n", "{\"confirmed\":1}\n", "{\"x\""] {
            std::fs::write(&path, text).unwrap();
            assert!(Journal::open(&plan, None).is_err(), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_at_once_are_refused_and_each_sheet_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.xlsx");
        let (mut first, _) = Journal::open(&plan, Some("East")).unwrap();
        let again = Journal::open(&plan, Some("East"));
        assert!(matches!(again, Err(JournalError::Locked { .. })));
        first.begin(&head("b", 1)).unwrap();
        let (_, west) = Journal::open(&plan, Some("West")).unwrap();
        assert_eq!(west, MadeBatches::default());
        drop(first);
        assert_eq!(Journal::open(&plan, Some("East")).unwrap().1.all.len(), 1);
        assert!(Journal::is_beside(&plan) && !Journal::is_beside(&dir.path().join("plan.csv")));
    }
}

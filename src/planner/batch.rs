//! Has this plan been enqueued, and how far? `PLAN.batch`, beside the plan: written and synced before the first publish,
//! so that a crash at any point leaves the batch's id and time behind, and going on doubles nothing.
//!
//! One JSON object a line. The first is the [`Head`]; then, as confirms come, `{"confirmed": n}`: the first n valid rows
//! are in the queue; at last `{"finished": "<time>"}`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a batch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub batch: String,
    pub enqueued_at: Timestamp,
    /// How many valid rows it has.
    pub total: u64,
    /// SHA-256 over the valid rows: numbers, settings and bodies. Another plan is another batch.
    pub digest: String,
    /// The queue that it goes to.
    pub queue: String,
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

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error("{}: cannot be written: {source}; the batch's id is kept there before anything is sent: put the plan into a directory that you may write to", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{}: another `sluice enqueue` of this plan is running; wait until it has ended, then run this again", file.display())]
    Locked { file: PathBuf },
    #[error("{}, line {line}: is not the journal of an enqueued plan; move it away if it is yours", file.display())]
    Unreadable { file: PathBuf, line: usize },
}

/// The file, held under an exclusive lock.
#[derive(Debug)]
pub struct Batch {
    path: PathBuf,
    file: File,
}

impl Batch {
    /// `plan.csv` has `plan.csv.batch`.
    pub fn path_of(plan: &Path) -> PathBuf {
        let mut name = plan.as_os_str().to_owned();
        name.push(".batch");
        name.into()
    }

    /// Opens and locks the file, and says what is in it.
    ///
    /// # Errors
    /// It cannot be opened, is in use, or is something else.
    pub fn open(plan: &Path) -> Result<(Self, State), BatchError> {
        let path = Self::path_of(plan);
        let failed = |source| BatchError::Io { file: path.clone(), source };
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BatchError::Locked { file: path }),
            Err(TryLockError::Error(source)) => return Err(BatchError::Io { file: path, source }),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)
            .map_err(|source| BatchError::Io { file: path.clone(), source })?;
        let state =
            read(&text).map_err(|line| BatchError::Unreadable { file: path.clone(), line })?;
        Ok((Self { path, file }, state))
    }

    /// Begins a batch, in place of whatever stood there; on disk when this returns.
    ///
    /// # Errors
    /// Nothing may be published then.
    pub fn begin(&mut self, head: &Head) -> Result<(), BatchError> {
        let line = Line::Head(head.clone());
        let begun = self.file.set_len(0).and_then(|()| self.file.rewind());
        begun.map_err(|source| self.failed(source))?;
        self.write(&line)?;
        // The name must survive a power cut as well as the content.
        let parent = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let synced = self.file.sync_all().and_then(|()| File::open(parent)?.sync_all());
        synced.map_err(|source| self.failed(source))
    }

    /// The first `rows` valid rows are in the queue. Not synced: what is lost is only published again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn confirmed(&mut self, rows: u64) -> Result<(), BatchError> {
        self.write(&Line::Confirmed { confirmed: rows })
    }

    /// # Errors
    /// The file cannot be written; the batch is complete all the same.
    pub fn finish(&mut self, at: Timestamp) -> Result<(), BatchError> {
        self.write(&Line::Finished { finished: at })?;
        self.file.sync_all().map_err(|source| self.failed(source))
    }

    fn write(&mut self, line: &Line) -> Result<(), BatchError> {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        self.file
            .seek(io::SeekFrom::End(0))
            .and_then(|_| self.file.write_all(&text))
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> BatchError {
        BatchError::Io { file: self.path.clone(), source }
    }
}

/// A last line without its end was being written when the process died: it says nothing.
fn read(text: &str) -> Result<State, usize> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let mut state = State::New;
    for (i, line) in whole.lines().enumerate() {
        let line: Line = serde_json::from_str(line).map_err(|_| i + 1)?;
        state = match (line, state) {
            (Line::Head(head), State::New) => State::Begun { head, confirmed: 0 },
            (Line::Confirmed { confirmed }, State::Begun { head, .. }) => {
                State::Begun { head, confirmed }
            }
            (Line::Finished { finished }, State::Begun { head, .. }) => {
                State::Finished { head, at: finished }
            }
            _ => return Err(i + 1),
        };
    }
    // Something else that has no line end at all is not ours to overwrite.
    let ours = whole.is_empty()
        && !text.is_empty()
        && !"{\"batch\":\"".starts_with(&text[..text.len().min(10)]);
    if ours { Err(1) } else { Ok(state) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            batch: "b".into(),
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
            let state = read(&text[..cut]).unwrap();
            if seen.last() != Some(&state) {
                seen.push(state);
            }
        }
        let begun = |confirmed| State::Begun { head: head(), confirmed };
        assert_eq!(seen, [State::New, begun(0), begun(2), State::Finished { head: head(), at }]);
    }

    #[test]
    fn what_is_no_journal_is_not_overwritten() {
        for text in ["hello", "hello\n", "{}\n", "{\"confirmed\":1}\n", "{\"x\""] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_at_once_are_refused_and_a_new_beginning_replaces_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        let (mut first, _) = Batch::open(&plan).unwrap();
        assert!(matches!(Batch::open(&plan), Err(BatchError::Locked { .. })));
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

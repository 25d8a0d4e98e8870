//! What is a journal beside a plan? A file of JSON lines, held by one process at a time. Its first line is its head; a last
//! line without its end was being written when the process died: it says nothing and is cut off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// What its name has behind the plan's.
    pub(super) ending: &'static str,
    /// What is done with the plan: `enqueued`.
    pub(super) done: &'static str,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{}: cannot be used: {source}; it is written before anything is sent: put the plan into a directory that you may write to", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{}: the plan is being {done} already{}; wait until that has ended, then run this again", file.display(), by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default())]
    Locked { file: PathBuf, done: &'static str, by: Option<String> },
    #[error("{}, line {line}: is not the journal of a plan that was {done}; move the file away if it is yours", file.display())]
    Unreadable { file: PathBuf, done: &'static str, line: usize },
}

/// The file, held under an exclusive lock.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// `plan.csv` has `plan.csv.batch`.
    pub(super) fn path_of(plan: &Path, kind: Kind) -> PathBuf {
        let mut name = plan.as_os_str().to_owned();
        name.push(kind.ending);
        name.into()
    }

    /// Opens and locks the file, and hands its lines to `take`, which says whether each may stand where it does.
    ///
    /// # Errors
    /// It cannot be used, is in use, or is something else.
    pub(super) fn open<T: DeserializeOwned>(
        plan: &Path,
        kind: Kind,
        take: impl FnMut(T) -> bool,
    ) -> Result<Self, JournalError> {
        let path = Self::path_of(plan, kind);
        let failed = |source| JournalError::Io { file: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Locked { file: path, done: kind.done, by: None });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let whole = read(&path, &file, kind, take)?;
        file.set_len(whole).map_err(failed)?;
        Ok(Self { path, file })
    }

    /// What the file says, without a lock or a change; nothing where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub(super) fn peek<T: DeserializeOwned>(
        plan: &Path,
        kind: Kind,
        take: impl FnMut(T) -> bool,
    ) -> Result<(), JournalError> {
        let path = Self::path_of(plan, kind);
        match File::open(&path) {
            Ok(file) => read(&path, &file, kind, take).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(JournalError::Io { file: path, source }),
        }
    }

    /// Writes the head, in place of whatever stood there; on the disk when this returns.
    pub(super) fn begin(&mut self, head: &impl Serialize) -> Result<(), JournalError> {
        self.file.set_len(0).map_err(|source| self.failed(source))?;
        self.add(head)?;
        // The name must survive a power cut as well as the content.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = File::open(parent.unwrap_or(Path::new(".")));
        let synced = self.file.sync_all().and_then(|()| parent?.sync_all());
        synced.map_err(|source| self.failed(source))
    }

    /// Adds a line. It is not synced.
    pub(super) fn add(&mut self, of: &impl Serialize) -> Result<(), JournalError> {
        self.file.write_all(&line(of)).map_err(|source| self.failed(source))
    }

    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_all().map_err(|source| self.failed(source))
    }

    pub(super) fn into_parts(self) -> (PathBuf, File) {
        (self.path, self.file)
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io { file: self.path.clone(), source }
    }
}

/// One line, with its end.
pub(super) fn line(of: &impl Serialize) -> Vec<u8> {
    // Plain structs with text keys cannot fail.
    let mut line = serde_json::to_vec(of).unwrap_or_default();
    line.push(b'\n');
    line
}

/// How many bytes of the file are whole lines.
fn read<T: DeserializeOwned>(
    path: &Path,
    file: &File,
    kind: Kind,
    mut take: impl FnMut(T) -> bool,
) -> Result<u64, JournalError> {
    let unreadable =
        |line| JournalError::Unreadable { file: path.to_owned(), done: kind.done, line };
    let (mut whole, mut text) = (0, Vec::new());
    let mut input = BufReader::new(file);
    for number in 1.. {
        text.clear();
        let length = input.read_until(b'\n', &mut text);
        let length =
            length.map_err(|source| JournalError::Io { file: path.to_owned(), source })? as u64;
        if !text.ends_with(b"\n") {
            // Something else that has no line end at all is not ours to cut off.
            const FIRST: &[u8] = b"{\"batch\":\"";
            let ours = number > 1 || FIRST.iter().zip(&text).all(|(wanted, found)| wanted == found);
            return if ours { Ok(whole) } else { Err(unreadable(1)) };
        }
        let line = serde_json::from_slice(&text).map_err(|_| unreadable(number))?;
        if !take(line) {
            return Err(unreadable(number));
        }
        whole += length;
    }
    Ok(whole)
}

//! What is a journal beside a plan? A file of JSON lines, held by one process at a time. Its first line is its head; a last
//! line without its end was being written when the process died: it says nothing and is cut off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

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

/// The file, held under an exclusive lock. One in which nothing was begun is removed again.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: Arc<File>,
}

impl Lines {
    /// `plan.csv` has `plan.csv.batch`, and the sheet `East` of `plan.xlsx` has `plan.xlsx.East.batch`.
    pub(super) fn path_of(plan: &Path, sheet: Option<&str>, kind: Kind) -> PathBuf {
        let mut name = plan.as_os_str().to_owned();
        if let Some(sheet) = sheet {
            name.push(".");
            name.push(file_name(sheet));
        }
        name.push(kind.ending);
        name.into()
    }

    /// Opens and locks the file, and hands its lines to `take`, which says whether each may stand where it does.
    ///
    /// # Errors
    /// It cannot be used, is in use, or is something else.
    pub(super) fn open<T: DeserializeOwned>(
        plan: &Path,
        sheet: Option<&str>,
        kind: Kind,
        take: impl FnMut(T) -> bool,
    ) -> Result<Self, JournalError> {
        let path = Self::path_of(plan, sheet, kind);
        let failed = |source| JournalError::Io { file: path.clone(), source };
        let locked = || JournalError::Locked { file: path.clone(), done: kind.done, by: None };
        let file = locked_file(&path).map_err(failed)?.ok_or_else(locked)?;
        let lines = Self { file: Arc::new(file), path: path.clone() };
        let whole = read(&path, &lines.file, kind, take)?;
        lines.file.set_len(whole).map_err(failed)?;
        Ok(lines)
    }

    /// What the file says, without a lock or a change; nothing where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub(super) fn peek<T: DeserializeOwned>(
        plan: &Path,
        sheet: Option<&str>,
        kind: Kind,
        take: impl FnMut(T) -> bool,
    ) -> Result<(), JournalError> {
        let path = Self::path_of(plan, sheet, kind);
        match File::open(&path) {
            Ok(file) => read(&path, &file, kind, take).map(drop),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(JournalError::Io { file: path, source }),
        }
    }

    /// Writes a head, after whatever stands there; on the disk when this returns.
    pub(super) fn begin(&mut self, head: &impl Serialize) -> Result<(), JournalError> {
        self.add(head)?;
        // The name must survive a power cut as well as the content.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = File::open(parent.unwrap_or(Path::new(".")));
        let synced = self.file.sync_all().and_then(|()| parent?.sync_all());
        synced.map_err(|source| self.failed(source))
    }

    /// Adds a line. It is not synced.
    pub(super) fn add(&mut self, of: &impl Serialize) -> Result<(), JournalError> {
        (&*self.file).write_all(&line(of)).map_err(|source| self.failed(source))
    }

    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_all().map_err(|source| self.failed(source))
    }

    /// The path, and the file, which stays locked until it is dropped.
    pub(super) fn into_parts(self) -> (PathBuf, Arc<File>) {
        (self.path.clone(), Arc::clone(&self.file))
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io { file: self.path.clone(), source }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Whoever waits for it finds that it has gone: `locked_file` looks.
        if self.file.metadata().is_ok_and(|file| file.len() == 0) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens the file and locks it; `None` where another process has.
fn locked_file(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(source),
        }
        // Between the two, whoever had it may have removed it: then it is no longer what is called so.
        let place = |file: std::fs::Metadata| (file.dev(), file.ino());
        let here = place(file.metadata()?);
        if std::fs::metadata(path).is_ok_and(|named| place(named) == here) {
            return Ok(Some(file));
        }
    }
}

/// A sheet's name as a part of a file's: what cannot stand there is replaced, and then a mark of the whole name follows.
fn file_name(sheet: &str) -> String {
    const LONGEST: usize = 40;
    let fits = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | ' ');
    let name: String =
        sheet.chars().take(LONGEST).map(|char| if fits(char) { char } else { '_' }).collect();
    if name == sheet {
        return name;
    }
    format!("{name}-{}", hex::encode(&Sha256::digest(sheet)[..4]))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sheet_has_a_journal_of_its_own_name() {
        for plain in ["East", "wave 2", "Welle_Süd", "第一波"] {
            assert_eq!(file_name(plain), plain);
        }
        let others =
            ["a/b", "a:b", "..", "a\u{1b}b", "\u{202e}", &"x".repeat(300), &"x".repeat(301)];
        let mut names: Vec<_> = others.iter().map(|sheet| file_name(sheet)).collect();
        assert!(
            names.iter().all(|name| !name.contains(['/', '.', '\u{1b}', '\u{202e}'])),
            "{names:?}"
        );
        assert!(names.iter().all(|name| name.len() < 60), "{names:?}");
        names.dedup();
        assert_eq!(names.len(), others.len());
    }

    #[test]
    fn a_journal_in_which_nothing_was_begun_is_not_left_behind() {
        const KIND: Kind = Kind { ending: ".batch", done: "enqueued" };
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.csv");
        let open = || Lines::open(&plan, None, KIND, |_: serde_json::Value| true);
        let path = Lines::path_of(&plan, None, KIND);
        let lines = open().unwrap();
        assert!(path.exists());
        drop(lines);
        assert!(!path.exists());
        let mut lines = open().unwrap();
        lines.begin(&serde_json::json!({ "batch": "b" })).unwrap();
        drop(lines);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{\"batch\":\"b\"}\n");
    }
}

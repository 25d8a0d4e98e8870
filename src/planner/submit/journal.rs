//! What has become of the rows of a plan so far? `PLAN.results.jsonl`, beside the plan: results and journal in one, so
//! that there is nothing that could disagree with it.
//!
//! One JSON object a line. The first is the [`Head`]; each process that goes on with the plan adds an `opened`; before
//! each `POST` comes a `started`, and at the end of a request its result, the same event that a worker publishes.
//! `started` and results are on the disk before anything follows from them. A last line without its end was being
//! written when the process died: it says nothing and is cut off.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::core::{Outcome, Run};

/// What is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub batch: String,
    /// When the plan was submitted first, in milliseconds: runs are made of it.
    pub enqueued_at: Timestamp,
    /// How many rows it has.
    pub total: u64,
    /// SHA-256 over the rows: numbers, settings and bodies. Another plan is another batch.
    pub digest: String,
    /// The API that it goes to.
    pub endpoint: String,
}

/// A process that goes on with the plan.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    opened: Timestamp,
    by: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    started: Uuid,
    row: Option<u64>,
    at: Timestamp,
}

/// What the journal needs of a result.
#[derive(Debug, Deserialize)]
struct Ended {
    run: Uuid,
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Result { data: Ended },
    Started(Begun),
    Opened(Opened),
    Head(Head),
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Absent: nothing has been begun.
    pub head: Option<Head>,
    /// Who opened it last, and when.
    pub opened: Option<String>,
    /// Runs for which a `POST` may have been sent and that have no result: they are in doubt.
    pub started: HashSet<Run>,
    pub ended: HashMap<Run, Outcome>,
}

impl Past {
    /// As if what did not end well had not ended: how many that are. What may be there all the same is in doubt.
    pub fn forget_failures(&mut self) -> usize {
        let before = self.ended.len();
        let Self { started, ended, .. } = self;
        ended.retain(|run, outcome| {
            if matches!(outcome, Outcome::Unknown | Outcome::Exhausted) {
                started.insert(*run);
            }
            !outcome.is_dead_letter()
        });
        before - self.ended.len()
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{}: cannot be used: {source}; what becomes of each request is written there before anything is sent: put the plan into a directory that you may write to", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("{}: the plan is being submitted already{}; wait until that has ended", file.display(), by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default())]
    Locked { file: PathBuf, by: Option<String> },
    #[error("{}, line {line}: is not the journal of a submitted plan; move the file away if it is yours", file.display())]
    Unreadable { file: PathBuf, line: usize },
}

/// The file, held under an exclusive lock.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// `plan.csv` has `plan.csv.results.jsonl`.
    pub fn path_of(plan: &Path) -> PathBuf {
        let mut name = plan.as_os_str().to_owned();
        name.push(".results.jsonl");
        name.into()
    }

    /// What the file says, without a lock or a change.
    ///
    /// # Errors
    /// It cannot be read, or is something else. That there is none is no error.
    pub fn peek(plan: &Path) -> Result<Past, JournalError> {
        let path = Self::path_of(plan);
        match File::open(&path) {
            Ok(file) => Ok(read(&path, &file)?.0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Past::default()),
            Err(source) => Err(JournalError::Io { file: path, source }),
        }
    }

    /// Opens, locks and mends the file, and says what is in it.
    ///
    /// # Errors
    /// It cannot be written, is in use, or is something else.
    pub fn open(plan: &Path) -> Result<(Self, Past), JournalError> {
        let path = Self::path_of(plan);
        let failed = |source| JournalError::Io { file: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let by = read(&path, &file).ok().and_then(|(past, _)| past.opened);
                return Err(JournalError::Locked { file: path, by });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let (past, whole) = read(&path, &file)?;
        file.set_len(whole).map_err(failed)?;
        Ok((Self { path, file }, past))
    }

    /// Begins a plan; on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written: nothing may be sent.
    pub fn begin(&mut self, head: &Head) -> Result<(), JournalError> {
        self.file.write_all(&line(head)).map_err(|source| self.failed(source))?;
        // The name must survive a power cut as well as the content.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = File::open(parent.unwrap_or(Path::new(".")));
        let synced = self.file.sync_all().and_then(|()| parent?.sync_all());
        synced.map_err(|source| self.failed(source))
    }

    /// Says who goes on, for whoever finds it locked.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn opened(&mut self, by: &str, now: Timestamp) -> Result<(), JournalError> {
        let opened = Opened { opened: now, by: by.to_owned() };
        self.file.write_all(&line(&opened)).map_err(|source| self.failed(source))
    }

    /// From now on lines are written by a thread of their own, the lock held until the last [`Writer`] is gone and it
    /// has ended. `trouble` hears why it cannot write any more, once.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn writer(
        self,
        trouble: impl FnOnce(String) + Send + 'static,
    ) -> Result<(Writer, JoinHandle<()>), JournalError> {
        let (entries, inbox) = mpsc::channel();
        let Self { path, file } = self;
        let shown = path.clone();
        let told = move |error: io::Error| {
            trouble(JournalError::Io { file: shown, source: error }.to_string());
        };
        let thread = thread::Builder::new().name("journal".into());
        let thread = thread.spawn(move || write_lines(&file, &inbox, told));
        let thread = thread.map_err(|source| JournalError::Io { file: path, source })?;
        Ok((Writer(entries), thread))
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io { file: self.path.clone(), source }
    }
}

/// Adds lines to the journal. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Writer(mpsc::Sender<Entry>);

#[derive(Debug)]
struct Entry {
    line: Vec<u8>,
    synced: oneshot::Sender<io::Result<()>>,
}

impl Writer {
    /// A `POST` for this run is about to be sent.
    ///
    /// # Errors
    /// It is not on the disk.
    pub fn started(
        &self,
        run: Run,
        row: Option<u64>,
        at: Timestamp,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.write(line(&Begun { started: run.0, row, at }))
    }

    /// A request has ended: its result as JSON.
    ///
    /// # Errors
    /// It is not on the disk.
    pub fn ended(
        &self,
        mut result: Vec<u8>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        result.push(b'\n');
        self.write(result)
    }

    fn write(&self, line: Vec<u8>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (synced, answer) = oneshot::channel();
        let gone = || io::Error::other("the journal is closed");
        let sent = self.0.send(Entry { line, synced });
        async move {
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        }
    }
}

/// Writes what has come in together and syncs it once: calls in flight do not wait for a sync each.
fn write_lines(mut file: &File, inbox: &mpsc::Receiver<Entry>, trouble: impl FnOnce(io::Error)) {
    let mut trouble = Some(trouble);
    while let Ok(first) = inbox.recv() {
        let group: Vec<Entry> = std::iter::once(first).chain(inbox.try_iter()).collect();
        let mut written = Ok(());
        // After a failure the file ends with half a line: more behind it could not be read back.
        if trouble.is_some() {
            let text: Vec<u8> = group.iter().flat_map(|entry| &entry.line).copied().collect();
            written = file.write_all(&text).and_then(|()| file.sync_data());
        }
        let well = trouble.is_some() && written.is_ok();
        if let Err(error) = written
            && let Some(trouble) = trouble.take()
        {
            trouble(error);
        }
        for entry in group {
            let told =
                if well { Ok(()) } else { Err(io::Error::other("the journal cannot be written")) };
            // Whoever asked may be gone; the line is written all the same.
            let _ = entry.synced.send(told);
        }
    }
}

fn line(of: &impl Serialize) -> Vec<u8> {
    // Plain structs with text keys cannot fail.
    let mut line = serde_json::to_vec(of).unwrap_or_default();
    line.push(b'\n');
    line
}

/// What the file says, and how many bytes of it are whole lines.
fn read(path: &Path, file: &File) -> Result<(Past, u64), JournalError> {
    let unreadable = |line| JournalError::Unreadable { file: path.to_owned(), line };
    let (mut past, mut whole, mut text) = (Past::default(), 0, Vec::new());
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
            return if ours { Ok((past, whole)) } else { Err(unreadable(1)) };
        }
        let line = serde_json::from_slice(&text).map_err(|_| unreadable(number))?;
        match (line, past.head.is_some()) {
            (Line::Head(head), false) => past.head = Some(head),
            (Line::Opened(Opened { opened, by }), true) => {
                past.opened = Some(format!("{by} since {opened:.0}"));
            }
            (Line::Started(Begun { started, .. }), true) => {
                past.started.insert(Run(started));
                // It had failed, and is tried again.
                past.ended.remove(&Run(started));
            }
            (Line::Result { data: Ended { run, outcome } }, true) => {
                past.started.remove(&Run(run));
                past.ended.insert(Run(run), outcome);
            }
            _ => return Err(unreadable(number)),
        }
        whole += length;
    }
    Ok((past, whole))
}

//! What has become of the rows of a plan so far? `PLAN.results.jsonl`, beside the plan, of a workbook
//! `PLAN.SHEET.results.jsonl`: results and journal in one, so that there is nothing that could disagree with it.
//!
//! One JSON object a line. The first is the [`Head`]; each process that goes on with the plan adds an `opened`; before
//! each `POST` comes a `started`, and at the end of a request its result, the same event that a worker publishes.
//! `started` and results are on the disk before anything follows from them. A last line without its end was being
//! written when the process died: it says nothing and is cut off.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::core::{Outcome, Run};
use crate::message::result::Event;
use crate::planner::lines::{JournalError, Kind, Lines, line};

/// What is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub batch: String,
    /// The generation of the batch, for the results. A journal of before generations has none.
    #[serde(default, rename = "batch_run", skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
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
    /// What a line adds; `false` if none like it may stand there.
    fn follow(&mut self, line: Line) -> bool {
        match (line, self.head.is_some()) {
            (Line::Head(head), false) => self.head = Some(head),
            (Line::Opened(Opened { opened, by }), true) => {
                self.opened = Some(format!("{by} since {opened:.0}"));
            }
            (Line::Started(Begun { started, .. }), true) => {
                self.started.insert(Run(started));
                // It had failed, and is tried again.
                self.ended.remove(&Run(started));
            }
            (Line::Result { data: Ended { run, outcome } }, true) => {
                self.started.remove(&Run(run));
                self.ended.insert(Run(run), outcome);
            }
            _ => return false,
        }
        true
    }

    /// As if what did not end well had not ended: how many that are. What may be there all the same is in doubt.
    pub fn forget_failures(&mut self) -> usize {
        let before = self.ended.len();
        let Self { started, ended, .. } = self;
        ended.retain(|run, outcome| {
            if outcome.is_in_doubt() {
                started.insert(*run);
            }
            !outcome.is_dead_letter()
        });
        before - self.ended.len()
    }
}

/// The file, held under an exclusive lock.
#[derive(Debug)]
pub struct Journal(Lines);

const KIND: Kind = Kind { ending: ".results.jsonl", done: "submitted" };

impl Journal {
    /// `plan.csv` has `plan.csv.results.jsonl`, and the sheet `East` of `plan.xlsx` has `plan.xlsx.East.results.jsonl`.
    pub fn path_of(plan: &Path, sheet: Option<&str>) -> PathBuf {
        Lines::path_of(plan, sheet, KIND)
    }

    /// What the file says, without a lock or a change.
    ///
    /// # Errors
    /// It cannot be read, or is something else. That there is none is no error.
    pub fn peek(plan: &Path, sheet: Option<&str>) -> Result<Past, JournalError> {
        let mut past = Past::default();
        Lines::peek(plan, sheet, KIND, |line| past.follow(line))?;
        Ok(past)
    }

    /// The results that the file has, in their order, without a lock or a change.
    ///
    /// # Errors
    /// It cannot be read, or is something else. That there is none is no error.
    pub fn results(plan: &Path, sheet: Option<&str>) -> Result<Vec<Event>, JournalError> {
        let mut results = Vec::new();
        let take = |line: serde_json::Value| {
            results.extend(Event::read(line.to_string().as_bytes()).ok());
            true
        };
        Lines::peek(plan, sheet, KIND, take)?;
        Ok(results)
    }

    /// Opens and locks the file, and says what is in it.
    ///
    /// # Errors
    /// It cannot be written, is in use, or is something else.
    pub fn open(plan: &Path, sheet: Option<&str>) -> Result<(Self, Past), JournalError> {
        let mut past = Past::default();
        let lines = Lines::open(plan, sheet, KIND, |line| past.follow(line));
        let lines = lines.map_err(|error| match error {
            JournalError::Locked { file, done, .. } => {
                let by = Self::peek(plan, sheet).ok().and_then(|past| past.opened);
                JournalError::Locked { file, done, by }
            }
            error => error,
        })?;
        Ok((Self(lines), past))
    }

    /// Begins a plan; on the disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written: nothing may be sent.
    pub fn begin(&mut self, head: &Head) -> Result<(), JournalError> {
        self.0.begin(head)
    }

    /// Says who goes on, for whoever finds it locked.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn opened(&mut self, by: &str, now: Timestamp) -> Result<(), JournalError> {
        self.0.add(&Opened { opened: now, by: by.to_owned() })
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
        let (path, file) = self.0.into_parts();
        let shown = path.clone();
        let told = move |error: io::Error| {
            trouble(JournalError::Io { file: shown, source: error }.to_string());
        };
        let thread = thread::Builder::new().name("journal".into());
        let thread = thread.spawn(move || write_lines(&file, &inbox, told));
        let thread = thread.map_err(|source| JournalError::Io { file: path, source })?;
        Ok((Writer(entries), thread))
    }
}

/// Adds lines to the journal. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Writer(mpsc::Sender<JournalEntry>);

#[derive(Debug)]
struct JournalEntry {
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
        let sent = self.0.send(JournalEntry { line, synced });
        async move {
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        }
    }
}

/// Writes what has come in together and syncs it once: calls in flight do not wait for a sync each.
fn write_lines(
    mut file: &File,
    inbox: &mpsc::Receiver<JournalEntry>,
    trouble: impl FnOnce(io::Error),
) {
    let mut trouble = Some(trouble);
    while let Ok(first) = inbox.recv() {
        let group: Vec<JournalEntry> = std::iter::once(first).chain(inbox.try_iter()).collect();
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

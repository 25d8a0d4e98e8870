//! Where does a recording go? Into a file, from a thread of its own: a disk that is full, slow or gone ends the recording,
//! and the worker neither waits for it nor ends.
//!
//! A recording begins with its core and cannot go on in the middle, so at its bound it stops and says so. Those of earlier
//! starts are kept beside it: `FILE.1` is the one before, and so on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::sync::oneshot;

use crate::core::record::{RecordLine, Tape};

/// Lines, and bytes of them, that wait for the disk at most: a second or two of a busy worker.
const MOST_LINES: usize = 16 * 1024;
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// So long a worker that stops waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is recorded where.
#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    /// The file takes no more than this.
    pub bytes: u64,
    /// How many recordings there are at most, this one included.
    pub keep: usize,
}

impl Options {
    /// The recording, and the earlier ones that are kept, newest first.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let earlier = (1..self.keep).map(|number| numbered(&self.file, number));
        std::iter::once(self.file.clone()).chain(earlier)
    }

    /// Whether nothing but recordings makes way for this one.
    ///
    /// # Errors
    /// The file that stands in the way, and what to do.
    pub fn check(&self) -> Result<(), String> {
        if !is_file_or_none(&self.file) {
            return may_go(&self.file);
        }
        self.files().try_for_each(|file| may_go(&file))
    }
}

/// A recording that has begun.
#[derive(Debug)]
pub struct Recording {
    ended: oneshot::Receiver<()>,
}

impl Recording {
    /// Begins one: what it is to hold goes to the tape.
    ///
    /// # Errors
    /// The file cannot be opened, or an earlier one cannot be moved out of its way.
    pub fn begin(options: &Options) -> io::Result<(Tape, Self)> {
        let Options { file, bytes, .. } = options;
        options.check().map_err(io::Error::other)?;
        let mut open = OpenOptions::new();
        open.write(true);
        if is_file_or_none(file) {
            make_way(options)?;
            // Names, ids and addresses stand in it: nobody else's business.
            open.create_new(true).mode(0o600);
        } else {
            // A pipe that nobody reads must not keep the worker from starting.
            open.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        }
        let opened = open.open(file)?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let (sender, lines) = sync_channel(MOST_LINES);
        let (end, ended) = oneshot::channel();
        let writer = Writer {
            name: file.clone(),
            file: BufWriter::new(opened),
            room: *bytes,
            lines,
            waiting: Arc::clone(&waiting),
        };
        std::thread::Builder::new().name("recording".to_owned()).spawn(move || {
            writer.run();
            let _ = end.send(());
        })?;
        tracing::info!(file = %file.display(), "recording what the worker is told and decides");
        Ok((tape(file.clone(), sender, waiting), Self { ended }))
    }

    /// Waits until all is written, but not for a disk that stalls.
    pub async fn finish(self) {
        if tokio::time::timeout(PATIENCE, self.ended).await.is_err() {
            tracing::warn!("the end of the recording is not written, for the disk takes too long");
        }
    }
}

/// What is no file (a pipe, a device) has no earlier recordings.
fn is_file_or_none(file: &Path) -> bool {
    file.symlink_metadata().map_or(true, |found| found.is_file())
}

/// Moves the recordings of earlier starts on, the oldest one out.
fn make_way(options: &Options) -> io::Result<()> {
    let files: Vec<_> = options.files().collect();
    if files[0].symlink_metadata().is_err() {
        return Ok(());
    }
    for pair in files.windows(2).rev() {
        if pair[0].symlink_metadata().is_ok() {
            std::fs::rename(&pair[0], &pair[1])?;
        }
    }
    if files.len() == 1 { std::fs::remove_file(&files[0]) } else { Ok(()) }
}

/// Whether a recording may take the place of what stands there: nothing, or an older one.
fn may_go(file: &Path) -> Result<(), String> {
    let refuse = |what: &str| {
        let file = file.display();
        Err(format!("{file} {what}; name another file with --record, or move that one away"))
    };
    let unread = |error: io::Error| refuse(&format!("cannot be read: {error}"));
    let Ok(found) = file.symlink_metadata() else { return Ok(()) };
    let kind = found.file_type();
    if kind.is_fifo() || kind.is_char_device() {
        return Ok(());
    }
    if kind.is_symlink() {
        return refuse("is a symbolic link, and a recording follows none");
    }
    if !kind.is_file() {
        return refuse("is not a file");
    }
    let mut begins = Vec::new();
    let read = File::open(file).and_then(|file| file.take(10).read_to_end(&mut begins));
    match read {
        Err(error) => unread(error),
        // A recording that was cut off at its very beginning, too.
        Ok(_) if b"{\"begin\":{".starts_with(&begins) => Ok(()),
        Ok(_) => refuse("is not a recording, and would be lost"),
    }
}

fn numbered(file: &Path, number: usize) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// What the loop calls for each line: it never waits.
fn tape(name: PathBuf, lines: SyncSender<Vec<u8>>, waiting: Arc<AtomicUsize>) -> Tape {
    Box::new(move |line| {
        let Ok(mut text) = serde_json::to_vec(line) else {
            tracing::warn!(file = %name.display(), "the recording ends: a line of it cannot be written as JSON; the worker goes on");
            return false;
        };
        text.push(b'\n');
        let length = text.len();
        let slow = waiting.fetch_add(length, Ordering::Relaxed) + length > MOST_BYTES;
        match lines.try_send(text) {
            Ok(()) if !slow => true,
            Ok(()) | Err(TrySendError::Full(_)) => {
                tracing::warn!(file = %name.display(), "the recording ends: the disk does not keep up; the worker goes on");
                false
            }
            // The writer has said why.
            Err(TrySendError::Disconnected(_)) => false,
        }
    })
}

/// The thread that writes.
struct Writer {
    name: PathBuf,
    file: BufWriter<File>,
    /// Bytes that the file may still take.
    room: u64,
    lines: Receiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    fn run(mut self) {
        if let Err(error) = self.write() {
            tracing::warn!(file = %self.name.display(), %error, "the recording ends: the file cannot be written; the worker goes on");
            // What is left in the buffer would be tried once more, and fail.
            let _ = self.file.into_parts();
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut panicked = false;
        while let Some(line) = self.next()? {
            panicked = line.starts_with(b"{\"panicked\"");
            let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
            let Some(room) = self.room.checked_sub(length) else {
                tracing::info!(file = %self.name.display(), "the recording has reached its bound and ends; the worker goes on");
                return self.end("it has reached its bound");
            };
            self.room = room;
            self.file.write_all(&line)?;
        }
        self.end(if panicked {
            "the worker panicked"
        } else {
            "the worker has stopped, or did not go on recording"
        })
    }

    /// The next line; whatever is there is written before it is waited for.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = match self.lines.try_recv() {
            Ok(line) => Some(line),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                self.file.flush()?;
                self.lines.recv().ok()
            }
        };
        if let Some(line) = &line {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        }
        Ok(line)
    }

    fn end(&mut self, why: &str) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, &RecordLine::End(why.to_owned()))?;
        self.file.write_all(b"\n")?;
        self.file.flush()
    }
}

//! When is a line written? Soon, with others: one call to the system for many. What warns is written at once, with all
//! that came before it.
//!
//! A worker that settles thousands of requests a second would spend more on writing their lines one by one than on
//! sending the requests. What a killed process has not written yet is a moment of lines that only inform.

use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for company.
const MOMENT: Duration = Duration::from_millis(20);
/// So much is written without waiting.
const MANY: usize = 16 * 1024;

/// The lines of the process, on their way to stderr.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    lines: Mutex<Vec<u8>>,
    came: Condvar,
}

impl Lines {
    /// # Errors
    /// No thread can be started.
    pub(super) fn start() -> io::Result<Self> {
        let lines = Self::default();
        let waiting = Arc::clone(&lines.0);
        thread::Builder::new().name("log".into()).spawn(move || waiting.write_for_ever())?;
        Ok(lines)
    }

    /// Writes what waits.
    pub(super) fn flush(&self) {
        write(&mut self.0.lock());
    }
}

impl Waiting {
    /// A panic while it is held leaves whole lines and perhaps a part of one: better than none.
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self) -> ! {
        loop {
            let nothing = |waiting: &mut Vec<u8>| waiting.is_empty();
            drop(
                self.came.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner),
            );
            thread::sleep(MOMENT);
            write(&mut self.lock());
        }
    }
}

/// There is nobody to tell that the log cannot be written.
fn write(waiting: &mut Vec<u8>) {
    let _ = io::stderr().write_all(waiting);
    waiting.clear();
}

/// Where one line goes.
#[derive(Debug)]
pub(super) struct Line<'a> {
    lines: &'a Lines,
    at_once: bool,
}

impl io::Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lines.0.lock();
        let first = waiting.is_empty();
        waiting.extend_from_slice(text);
        if self.at_once || waiting.len() >= MANY {
            write(&mut waiting);
        } else if first {
            self.lines.0.came.notify_one();
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush();
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, at_once: true }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, at_once: *meta.level() <= Level::WARN }
    }
}

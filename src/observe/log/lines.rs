//! When is a line written, and what if it cannot be? By a thread of its own, soon, many lines with one call to the system;
//! what warns is written at once, with all that came before it. Whoever reads stderr and stops reading holds up that
//! thread alone: what finds no place before it is dropped and counted, and so is what the system refuses.
//!
//! A worker that settles thousands of requests a second would spend more on writing their lines one by one than on
//! sending the requests. What a killed process has not written yet is a moment of lines that only inform.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use serde_json::Value;
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::LogFormat;
use crate::report::text::{LONGEST, json_line, log_line, one_line};

/// How long a line waits for company.
const MOMENT: Duration = Duration::from_millis(20);
/// So much is written without waiting.
const MANY: usize = 16 * 1024;
/// So many lines wait at most: a few megabytes, and more than a worker writes in a second.
const MOST: usize = 10_000;
/// How long the end of the process waits for the last lines.
const LAST: Duration = Duration::from_secs(1);

/// The lines of the process, on their way to stderr.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    queue: NonBlocking,
    format: LogFormat,
    writing: Arc<Writing>,
}

/// What the thread that writes shares with those that log.
#[derive(Debug, Default)]
struct Writing {
    /// Known once it has written something.
    thread: OnceLock<Thread>,
    /// Lines that the system did not take.
    refused: AtomicU64,
}

/// Keeps the thread that writes. Dropped, it waits for the last lines, but not for ever.
#[derive(Debug)]
pub(super) struct Guard(Option<WorkerGuard>);

/// How many lines nobody will read.
#[derive(Clone, Debug)]
pub(super) struct Dropped {
    no_place: ErrorCounter,
    writing: Arc<Writing>,
}

impl Dropped {
    pub(super) fn count(&self) -> u64 {
        let no_place = u64::try_from(self.no_place.dropped_lines()).unwrap_or(u64::MAX);
        no_place.saturating_add(self.writing.refused.load(Ordering::Relaxed))
    }
}

impl Lines {
    pub(super) fn start(to: impl Write + Send + 'static, format: LogFormat) -> (Self, Guard) {
        let writing = Arc::new(Writing::default());
        let writer = Together { to, waiting: Vec::new(), writing: Arc::clone(&writing) };
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MOST);
        let (queue, guard) = builder.thread_name("log").finish(writer);
        (Self { queue, format, writing }, Guard(Some(guard)))
    }

    fn safe(&self, text: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(text);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = match self.format {
            LogFormat::Text => log_line(line).into_owned(),
            LogFormat::Json => json_line(&shortened(line)),
        };
        (line + "\n").into_bytes()
    }

    pub(super) fn dropped(&self) -> Dropped {
        Dropped { no_place: self.queue.error_counter(), writing: Arc::clone(&self.writing) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        // The library waits as well, but where its thread hangs it says so on stdout, which may hang in the same way.
        let (done, ended) = sync_channel(1);
        let dropping = move || {
            drop(guard);
            let _ = done.send(());
        };
        if thread::Builder::new().spawn(dropping).is_ok() {
            let _ = ended.recv_timeout(LAST);
        }
    }
}

/// Gathers what is written until there is no more just now, writes it with one call, and gives the next lines a moment
/// to gather. Everything here happens on the thread that writes.
struct Together<W> {
    to: W,
    waiting: Vec<u8>,
    writing: Arc<Writing>,
}

impl<W: Write> Together<W> {
    /// There is nobody to tell here that the log cannot be written: it is counted.
    fn write_out(&mut self) {
        if self.to.write_all(&self.waiting).is_err() {
            let lines = self.waiting.split_inclusive(|byte| *byte == b'\n').count();
            let lines = u64::try_from(lines).unwrap_or(u64::MAX);
            self.writing.refused.fetch_add(lines, Ordering::Relaxed);
        }
        self.waiting.clear();
    }
}

impl<W: Write> Write for Together<W> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(text);
        if self.waiting.len() >= MANY {
            self.write_out();
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out();
        self.writing.thread.get_or_init(thread::current);
        // A line that warns ends the moment.
        thread::park_timeout(MOMENT);
        Ok(())
    }
}

/// An object of a log in which no text is longer than a line of text may be.
fn shortened(line: &str) -> Cow<'_, str> {
    fn shorten(value: &mut Value) {
        match value {
            Value::String(text) if text.len() > LONGEST / 8 => *text = one_line(text).into_owned(),
            Value::Array(values) => values.iter_mut().for_each(shorten),
            Value::Object(values) => values.values_mut().for_each(shorten),
            _ => {}
        }
    }
    if line.len() <= LONGEST {
        return line.into();
    }
    match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            shorten(&mut value);
            value.to_string().into()
        }
        // The library writes nothing else.
        Err(_) => line.into(),
    }
}

/// Where one line goes.
#[derive(Debug)]
pub(super) struct Line<'a> {
    lines: &'a Lines,
    at_once: bool,
}

impl Write for Line<'_> {
    /// The library writes each event at once. Whatever is in it, it stays one line that cannot steer a terminal: of the
    /// message and what is logged as it is shown, the library escapes next to nothing.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let is_plain = text.len() <= LONGEST
            && text
                .strip_suffix(b"\n")
                .is_some_and(|line| line.iter().all(|byte| (b' '..=b'~').contains(byte)));
        let safe = if is_plain { Cow::Borrowed(text) } else { Cow::Owned(self.lines.safe(text)) };
        let taken = self.lines.queue.clone().write(&safe)?.min(text.len());
        let taken = if is_plain { taken } else { text.len() };
        if self.at_once
            && let Some(thread) = self.lines.writing.thread.get()
        {
            thread.unpark();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Instant;

    use super::*;

    /// Takes nothing until it is told to.
    struct Held(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Held {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            // Told once and for all: the sender is dropped.
            let _ = self.0.recv();
            self.1.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn held() -> (Lines, Guard, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (release, told) = channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (lines, guard) = Lines::start(Held(told, Arc::clone(&written)), LogFormat::Text);
        (lines, guard, release, written)
    }

    #[test]
    fn lines_that_find_no_place_are_counted_and_nobody_waits_for_their_reader() {
        let (lines, guard, release, written) = held();
        let total = 3 * MOST;
        let start = Instant::now();
        for n in 0..total {
            lines.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let dropped = lines.dropped();
        let lost = usize::try_from(dropped.count()).unwrap();
        assert!(lost > MOST && lost < total, "{lost}");
        drop(release);
        drop(guard);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count() + lost, total);
        assert!(text.starts_with("0\n1\n2\n"), "the oldest are kept");
    }

    #[test]
    fn the_end_of_the_process_does_not_wait_for_a_reader_that_has_stopped() {
        let (lines, guard, release, _) = held();
        for _ in 0..2 * MOST {
            lines.make_writer().write_all(b"x\n").unwrap();
        }
        let start = Instant::now();
        drop(guard);
        assert!(start.elapsed() < 2 * LAST, "{:?}", start.elapsed());
        drop(release);
    }

    #[test]
    fn a_line_stays_one_and_steers_nothing_whatever_is_in_it() {
        use tracing_subscriber::layer::SubscriberExt as _;
        let evil = "id\n2026-01-31 ERROR forged\r\u{1b}[2J\u{9b}\u{202e}\u{200b}\"";
        for format in [LogFormat::Text, LogFormat::Json] {
            let (lines, guard, release, written) = {
                let (release, told) = channel();
                let written = Arc::new(Mutex::new(Vec::new()));
                let (lines, guard) = Lines::start(Held(told, Arc::clone(&written)), format);
                (lines, guard, release, written)
            };
            let layer = tracing_subscriber::fmt::layer().with_writer(lines);
            let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
                LogFormat::Text => {
                    Box::new(tracing_subscriber::registry().with(layer.with_ansi(false)))
                }
                LogFormat::Json => Box::new(tracing_subscriber::registry().with(layer.json())),
            };
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(text = evil, shown = %evil, debug = ?evil, "{evil}");
                tracing::warn!(long = %format!("{evil}{}", "x".repeat(2 * LONGEST)), "long");
            });
            drop(release);
            drop(guard);
            let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 2, "{format:?}: {text:.2000}");
            assert!(
                !text.chars().any(|c| c != '\n' && crate::report::text::is_hidden(c)),
                "{format:?}: {text:.2000}"
            );
            assert!(text.lines().all(|line| line.len() < LONGEST + 1000), "{format:?}");
            if format == LogFormat::Json {
                let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
                assert_eq!(line["fields"]["message"], evil);
            }
        }
    }

    #[test]
    fn lines_that_the_system_refuses_are_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, guard) = Lines::start(Full, LogFormat::Text);
        for _ in 0..7 {
            lines.make_writer().write_all(b"x\n").unwrap();
        }
        let dropped = lines.dropped();
        drop(guard);
        assert_eq!(dropped.count(), 7);
    }
}

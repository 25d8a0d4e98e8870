//! The bytes of a connection, on their way between the socket and the client library. What is written passes as it is;
//! what is read passes through the [`Filter`].

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead as _, AsyncWrite, ReadBuf};

use super::Wire;
use super::aside::Aside;
use super::filter::{ALIVE, Filter, Step};
use super::reach::Socket;

/// How much one read of the socket may bring.
const READ: usize = 128 * 1024;

/// How often the client library is given a sign of life while nothing else is for it: it gives up what is silent.
const LIFE: Duration = Duration::from_secs(1);

/// A connection as the client library sees it.
pub(crate) struct Stream {
    socket: Socket,
    filter: Filter,
    wire: Arc<Wire>,
    /// What was received: between `start` and `end`.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// How much of it passes as it is.
    passing: usize,
    /// What is given before anything else.
    output: Vec<u8>,
    given: usize,
    asides: HashMap<u16, Aside>,
    /// The body that has ended, and whose message is given next.
    ending: Option<u16>,
    last_given: Instant,
    /// A sign of life was given: whoever reads is to do something else before it reads on.
    has_lived: bool,
}

impl Stream {
    pub(super) fn new(socket: Socket, filter: Filter, wire: Arc<Wire>) -> Self {
        Self {
            socket,
            filter,
            wire,
            input: vec![0; READ],
            start: 0,
            end: 0,
            passing: 0,
            output: Vec::new(),
            given: 0,
            asides: HashMap::new(),
            ending: None,
            last_given: Instant::now(),
            has_lived: false,
        }
    }

    /// Gives what is ready; how much that is.
    fn give(&mut self, buf: &mut [u8]) -> usize {
        let count = if self.given < self.output.len() {
            let ready = &self.output[self.given..];
            let count = ready.len().min(buf.len());
            buf[..count].copy_from_slice(&ready[..count]);
            self.given += count;
            if self.given == self.output.len() {
                (self.output, self.given) = (Vec::new(), 0);
            }
            count
        } else {
            let count = self.passing.min(self.end - self.start).min(buf.len());
            buf[..count].copy_from_slice(&self.input[self.start..self.start + count]);
            self.start += count;
            self.passing -= count;
            count
        };
        if count > 0 && !self.asides.is_empty() {
            self.last_given = Instant::now();
        }
        count
    }

    /// Reads until there are `needed` bytes, or one more at least; false: the end.
    fn fill(&mut self, cx: &mut Context<'_>, needed: usize) -> Poll<io::Result<bool>> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + needed > self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if needed > self.input.len() {
            self.input.resize(needed, 0);
        }
        let mut buf = ReadBuf::new(&mut self.input[self.end..]);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
        let count = buf.filled().len();
        self.end += count;
        Poll::Ready(Ok(count > 0))
    }

    /// Takes one step; how many more bytes it needs, if it needs any.
    fn step(&mut self) -> io::Result<Option<usize>> {
        let broken = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let step = self.filter.step(&self.input[self.start..self.end]).map_err(broken)?;
        match step {
            Step::Need(needed) => return Ok(Some(needed)),
            Step::Pass(count) => self.passing = count,
            Step::Skip(count) => self.start += count,
            Step::Give { of, bytes, note } => {
                self.start += of;
                self.output = bytes;
                if let Some(note) = note {
                    self.wire.remember(note, None);
                }
            }
            Step::Divert { of, bytes, channel, size, note } => {
                self.start += of;
                let spill = note.place.and_then(|_| self.wire.wants(channel));
                self.asides.insert(channel, Aside::begin(bytes, note, size, spill)?);
                self.wire.receives(self.asides.len());
                self.last_given = Instant::now();
            }
            Step::Piece { of, channel } => {
                let piece = &self.input[self.start..self.start + of];
                if let Some(aside) = self.asides.get_mut(&channel) {
                    aside.put(piece);
                }
                self.start += of;
            }
            Step::Closed { of, bytes, channel } => {
                self.start += of;
                self.output = bytes;
                self.asides.remove(&channel);
                self.wire.receives(self.asides.len());
            }
            Step::Ended { .. } => {}
        }
        if let Some(version) = self.filter.version {
            self.wire.is_told(version);
        }
        if let Some(Step::Ended { channel }) = self.filter.ended() {
            self.ending = Some(channel);
        }
        Ok(None)
    }

    /// Waits for what goes aside: for room for the next piece, and for the end of what has ended.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for aside in self.asides.values_mut() {
            ready!(aside.ready(cx));
        }
        if let Some(channel) = self.ending
            && let Some(aside) = self.asides.get_mut(&channel)
        {
            let beyond = ready!(aside.finish(cx));
            if let Some(aside) = self.asides.remove(&channel) {
                self.output = aside.header;
                self.wire.remember(aside.note, beyond);
                self.wire.receives(self.asides.len());
            }
        }
        self.ending = None;
        Poll::Ready(())
    }

    /// Whether the client library is to be told that the broker lives, though nothing is for it.
    fn is_quiet(&self) -> bool {
        !self.asides.is_empty() && self.passing == 0 && self.last_given.elapsed() >= LIFE
    }

    fn read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.has_lived) {
            // The client library reads for as long as there is something to read, and writes no heartbeats meanwhile.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let count = self.give(buf);
            if count > 0 || buf.is_empty() {
                return Poll::Ready(Ok(count));
            }
            if self.is_quiet() {
                self.output = ALIVE.to_vec();
                self.has_lived = true;
                continue;
            }
            let needed = if self.passing > 0 {
                1
            } else {
                ready!(self.wait(cx));
                if !self.output.is_empty() {
                    continue;
                }
                match self.step()? {
                    Some(needed) => needed,
                    None => continue,
                }
            };
            if !ready!(self.fill(cx, needed))? {
                return Poll::Ready(Ok(0));
            }
        }
    }
}

impl futures_io::AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().read(cx, buf)
    }
}

impl futures_io::AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

//! Where do the bodies wait? In memory up to a bound, beyond it in an unlinked temporary file: the broker still holds
//! each message, so nothing depends on that file.

mod pieces;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use pieces::Pieces;

/// What is held beside a body (the request, its place in the order, what a dead letter would need: some 400 bytes, measured),
/// and room for the holes that bodies leave in the heap on their way to the file: with this, a full window of bodies of 20 kB
/// took 20 to 30 MB more than the limit.
const BESIDE: u64 = 1536;

/// What is held in memory of something that is kept aside.
const ASIDE: u64 = 256;

/// A body larger than this waits in the file though memory has room: where such blocks come and go, they leave holes in
/// the heap into which nothing fits (a full window took 100 MB more after three minutes of requeuing).
const LARGE: u64 = 64 * 1024;

/// The bytes as they were received, without the room that is left where a vector grew with its frames. A body that came in one
/// frame (RabbitMQ's are 128 KiB by default) has none, and is not copied between here and the socket to the API, unless it
/// waits in the file. Others are copied, because a vector that is shrunk leaves that room behind as a hole in the heap, too
/// small for the next body.
pub(crate) fn trimmed(data: Vec<u8>) -> Bytes {
    let slack = data.capacity() - data.len();
    if slack > data.len() / 8 { Bytes::copy_from_slice(&data) } else { data.into() }
}

/// The bodies of all held deliveries.
#[derive(Clone, Debug)]
pub struct Spill(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The bytes that bodies, and what is held beside each, may take in memory at once.
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_memory: u64,
    bodies_in_memory: u64,
    /// What is held beside the bodies, wherever those are.
    beside: u64,
    failures: u64,
    pieces: Pieces,
}

/// A body, wherever it waits. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Body {
    place: Where,
    home: Spill,
    /// What is held in memory beside it.
    beside: u64,
}

#[derive(Debug)]
enum Where {
    Memory(Bytes),
    File {
        file: Arc<File>,
        offset: u64,
        len: u64,
    },
    /// It is too long to be held: the broker alone has it.
    Nowhere {
        len: u64,
    },
}

impl Spill {
    /// `limit`: `window.max_bytes`.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { limit, state: Mutex::default() }))
    }

    /// Takes a body.
    ///
    /// # Errors
    /// As [`Spill::keep_with`].
    pub fn keep(&self, body: Bytes) -> io::Result<Body> {
        self.keep_with(body, 0)
    }

    /// Takes a body with which so many bytes are held in memory, more than every request takes.
    ///
    /// # Errors
    /// Memory is full, and the file cannot be written: the disk is full, or read-only. One body is taken even then,
    /// however big it is, so that there is always something to go on with.
    pub(crate) fn keep_with(&self, body: Bytes, more: u64) -> io::Result<Body> {
        let (len, beside) = (body.len() as u64, BESIDE + more);
        let mut state = self.state();
        if self.has_room(&state, len + beside) && len <= LARGE || len == 0 {
            return Ok(self.in_memory(state, body, beside));
        }
        // Written outside of the lock: whoever drops a body must not wait for a disk.
        let written = match state.pieces.reserve(len) {
            Ok((file, offset)) => {
                state.beside += beside;
                drop(state);
                let place = Where::File { file: Arc::clone(&file), offset, len };
                // From here on the piece is requeued when this is dropped.
                let kept = Body { place, home: self.clone(), beside };
                file.write_all_at(&body, offset).map(|()| kept)
            }
            Err(error) => {
                drop(state);
                Err(error)
            }
        };
        written.or_else(|error| {
            let mut state = self.state();
            state.failures += 1;
            if state.in_memory > 0 && !self.has_room(&state, len + beside) {
                return Err(error);
            }
            Ok(self.in_memory(state, body, beside))
        })
    }

    /// A place in the file for so many bytes, which are written bit by bit.
    ///
    /// # Errors
    /// There is no file.
    pub(crate) fn reserve(&self, len: u64) -> io::Result<Piece> {
        let mut state = self.state();
        let (file, offset) = state.pieces.reserve(len)?;
        state.beside += ASIDE;
        drop(state);
        let place = Where::File { file, offset, len };
        Ok(Piece(Body { place, home: self.clone(), beside: ASIDE }))
    }

    /// A body that is too long to be held.
    pub(crate) fn without(&self, len: u64) -> Body {
        self.state().beside += ASIDE;
        Body { place: Where::Nowhere { len }, home: self.clone(), beside: ASIDE }
    }

    /// Takes what is large and seldom asked for: it waits in the file though memory has room.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn keep_aside(&self, bytes: &[u8]) -> io::Result<Body> {
        let kept = self.reserve(bytes.len() as u64).and_then(|piece| {
            piece.write_at(bytes, 0)?;
            Ok(piece.whole())
        });
        kept.inspect_err(|_| self.state().failures += 1)
    }

    /// Counts bytes that are held in memory beside the bodies, until what comes back is dropped.
    pub(crate) fn hold(&self, bytes: u64) -> Hold {
        self.state().beside += bytes;
        Hold { bytes, home: self.clone() }
    }

    /// Whether so many bytes can be held beside another body.
    pub(crate) fn has_room_beside(&self, bytes: u64) -> bool {
        self.has_room(&self.state(), BESIDE + bytes)
    }

    fn has_room(&self, state: &State, bytes: u64) -> bool {
        state.in_memory + state.beside + bytes <= self.0.limit
    }

    fn in_memory(&self, mut state: MutexGuard<'_, State>, body: Bytes, beside: u64) -> Body {
        // Whoever has read it had a clone, and the count of clones is an allocation. By now nobody else has it: the
        // vector comes out without a copy, and, where it is full, goes in without a count.
        let body = if body.is_unique() { Bytes::from(Vec::from(body)) } else { body };
        state.beside += beside;
        state.in_memory += body.len() as u64;
        state.bodies_in_memory += 1;
        Body { place: Where::Memory(body), home: self.clone(), beside }
    }

    /// How many bodies are in memory, and how many times the file could not be written so far.
    pub fn trouble(&self) -> (u64, u64) {
        let state = self.state();
        (state.bodies_in_memory, state.failures)
    }

    /// The bytes of all bodies that are held: in memory, and in the file.
    pub fn held(&self) -> (u64, u64) {
        let state = self.state();
        (state.in_memory, state.pieces.reserved())
    }

    /// The state is whole after a panic elsewhere: each change below is one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes in memory that are no body.
#[derive(Debug)]
pub(crate) struct Hold {
    bytes: u64,
    home: Spill,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.home.state().beside -= self.bytes;
    }
}

/// A body of which not all may be written yet.
#[derive(Debug)]
pub(crate) struct Piece(Body);

impl Piece {
    /// # Errors
    /// The file cannot be written, or these bytes reach beyond what was reserved.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match &self.0.place {
            Where::File { file, offset, len } if at + bytes.len() as u64 <= *len => {
                file.write_all_at(bytes, offset + at)
            }
            _ => Err(io::Error::other("more bytes than were reserved")),
        }
    }

    /// All is written.
    pub(crate) fn whole(self) -> Body {
        self.0
    }
}

impl Body {
    /// Whether it is too long to be held: how many bytes it has.
    pub(crate) fn too_long(&self) -> Option<u64> {
        match self.place {
            Where::Nowhere { len } => Some(len),
            _ => None,
        }
    }

    /// The bytes. Waits for the disk where they are in the file: on a thread that others need, use [`Body::read`].
    ///
    /// # Errors
    /// The temporary file cannot be read, or the body is too long to be held.
    pub fn bytes(&self) -> io::Result<Bytes> {
        match &self.place {
            Where::Nowhere { len } => Err(too_long(*len)),
            Where::Memory(bytes) => Ok(bytes.clone()),
            Where::File { file, offset, len } => read_at(file, *offset, *len),
        }
    }

    /// The same on a thread of its own. What is read must be kept until then, or its place in the file may be another's.
    ///
    /// # Errors
    /// As [`Body::bytes`].
    pub fn read(&self) -> impl Future<Output = io::Result<Bytes>> + Send + 'static + use<> {
        let here = match &self.place {
            Where::Nowhere { len } => Err(too_long(*len)),
            Where::Memory(bytes) => Ok(Ok(bytes.clone())),
            Where::File { file, offset, len } => Ok(Err((Arc::clone(file), *offset, *len))),
        };
        async move {
            match here? {
                Ok(bytes) => Ok(bytes),
                Err((file, offset, len)) => {
                    let read = move || read_at(&file, offset, len);
                    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
                }
            }
        }
    }
}

fn too_long(len: u64) -> io::Error {
    io::Error::other(format!(
        "a body of {len} bytes is too long to be held: the broker alone has it"
    ))
}

fn read_at(file: &File, offset: u64, len: u64) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut state = self.home.state();
        state.beside -= self.beside;
        match &self.place {
            Where::Memory(bytes) => {
                state.in_memory -= bytes.len() as u64;
                state.bodies_in_memory -= 1;
            }
            Where::File { offset, len, .. } => {
                state.pieces.release(*offset, *len);
            }
            Where::Nowhere { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fill: u8, len: usize) -> Bytes {
        vec![fill; len].into()
    }

    /// Room for so many bodies of so many bytes, with others in the file.
    fn room(in_memory: u64, len: u64, in_file: u64) -> u64 {
        in_memory * (len + BESIDE) + in_file * BESIDE
    }

    #[test]
    fn a_body_of_one_frame_is_not_copied_on_its_way_to_the_http_client() {
        for len in [1, 20_000, LARGE] {
            let data = vec![7; usize::try_from(len).unwrap()];
            let at = data.as_ptr();
            let kept = Spill::new(room(1, len, 0)).keep(trimmed(data)).unwrap();
            let sent = reqwest::Body::from(kept.bytes().unwrap());
            assert_eq!(sent.as_bytes().map(<[u8]>::as_ptr), Some(at));
        }
    }

    #[test]
    fn memory_is_bounded_and_the_rest_comes_back_unchanged() {
        let spill = Spill::new(room(10, 100, 0));
        let bodies: Vec<Body> = (0..50).map(|i| spill.keep(body(i, 100)).unwrap()).collect();
        assert_eq!(spill.held(), (1000, 4000));
        for (fill, kept) in (0..).zip(&bodies) {
            assert_eq!(kept.bytes().unwrap(), body(fill, 100));
        }
        drop(bodies);
        assert_eq!(spill.held(), (0, 0));
        assert!(spill.state().pieces.file().is_none());
    }

    #[test]
    fn space_in_the_file_is_used_again() {
        let spill = Spill::new(0);
        let mut held: Vec<Body> = (0..100).map(|_| spill.keep(body(1, 1000)).unwrap()).collect();
        for round in 0..2000_usize {
            let at = (round * 31) % held.len();
            drop(held.swap_remove(at));
            let fill = u8::try_from(round % 251).unwrap();
            let new = spill.keep(body(fill, 500 + round % 500)).unwrap();
            assert_eq!(new.bytes().unwrap()[0], fill);
            held.push(new);
        }
        let len = spill.state().pieces.file().unwrap().metadata().unwrap().len();
        assert!(len <= 200_000, "the file grew to {len}");
    }

    #[test]
    fn no_two_bodies_share_a_piece_of_the_file() {
        let spill = Spill::new(0);
        let mut held: Vec<(u8, usize, Body)> = Vec::new();
        for round in 0..3000_usize {
            if round % 3 == 2 {
                held.swap_remove((round * 7) % held.len());
            } else {
                let (fill, len) = (u8::try_from(round % 256).unwrap(), round * 13 % 97);
                held.push((fill, len, spill.keep(body(fill, len)).unwrap()));
            }
        }
        for (fill, len, kept) in &held {
            assert_eq!(kept.bytes().unwrap(), body(*fill, *len));
        }
    }

    #[test]
    fn what_is_held_beside_a_body_counts_wherever_the_body_is() {
        let spill = Spill::new(room(10, 100, 50));
        let large: Vec<Body> = (0..60).map(|_| spill.keep(body(1, 65_537)).unwrap()).collect();
        assert_eq!(
            spill.held(),
            (0, 60 * 65_537),
            "a large one is in the file though there is room"
        );
        let _small = spill.keep(body(1, 1_000)).unwrap();
        assert_eq!(spill.held().0, 0);
        drop(large);
        let _small = spill.keep(body(1, 1_000)).unwrap();
        assert_eq!(spill.held(), (1_000, 1_000));
    }

    #[test]
    fn what_else_is_held_counts_until_the_body_is_dropped() {
        let spill = Spill::new(room(10, 100, 0));
        let with_more = spill.keep_with(body(1, 100), 8 * (100 + BESIDE)).unwrap();
        assert!(spill.has_room_beside(100) && !spill.has_room_beside(101));
        let _last = spill.keep(body(1, 100)).unwrap();
        let in_file = spill.keep_with(body(1, 100), 500).unwrap();
        assert_eq!(spill.held(), (200, 100));
        drop((with_more, in_file));
        assert!(spill.has_room_beside(8 * (100 + BESIDE) + 100));
    }

    #[test]
    fn an_empty_body_needs_no_file() {
        let spill = Spill::new(0);
        assert!(spill.keep(Bytes::new()).unwrap().bytes().unwrap().is_empty());
        assert!(spill.state().pieces.file().is_none());
    }

    #[test]
    fn a_file_that_cannot_be_written_does_not_let_memory_grow() {
        let spill = Spill::new(room(10, 100, 0));
        // Writes to what is open for reading fail, as they do on a full disk.
        let full = || File::open("/dev/null").unwrap();
        let held: Vec<Body> = (0..10).map(|_| spill.keep(body(1, 100)).unwrap()).collect();
        for _ in 0..5 {
            spill.state().pieces.write_to(full());
            assert!(spill.keep(body(2, 1)).is_err());
        }
        assert_eq!((spill.held(), spill.trouble()), ((1000, 0), (10, 5)));
        assert!(spill.state().pieces.is_empty());
        drop(held);
        spill.state().pieces.write_to(full());
        let big = spill.keep(body(3, 5000)).unwrap();
        assert_eq!((spill.held(), big.bytes().unwrap()), ((5000, 0), body(3, 5000)));
    }

    #[test]
    fn bodies_are_written_and_dropped_by_many_threads_at_once() {
        let spill = Spill::new(0);
        std::thread::scope(|scope| {
            for fill in 0..8_u8 {
                let spill = &spill;
                scope.spawn(move || {
                    for round in 1..300_usize {
                        let kept = spill.keep(body(fill, round)).unwrap();
                        let other = spill.keep(body(fill, 7)).unwrap();
                        assert_eq!(kept.bytes().unwrap(), body(fill, round));
                        drop(kept);
                        assert_eq!(other.bytes().unwrap(), body(fill, 7));
                    }
                });
            }
        });
        assert_eq!(spill.held(), (0, 0));
    }
}

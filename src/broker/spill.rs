//! Where do the bodies wait? In memory up to a bound, beyond it in an unlinked temporary file: the broker still holds
//! each message, so nothing depends on that file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The bodies of all held deliveries.
#[derive(Clone, Debug)]
pub struct Spill(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The bytes of bodies that may be in memory at once.
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_memory: u64,
    spilled: u64,
    file: Option<Arc<File>>,
    /// Free pieces of the file before `end`: offset to length, never adjacent to each other or to `end`.
    free: BTreeMap<u64, u64>,
    end: u64,
}

/// A body, wherever it waits. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Body {
    place: Place,
    home: Spill,
}

#[derive(Debug)]
enum Place {
    Memory(Bytes),
    File { file: Arc<File>, offset: u64, len: u64 },
}

impl Spill {
    /// `limit`: `window.max_bytes`.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Shared { limit, state: Mutex::default() }))
    }

    /// Takes a body. Where the file cannot be written the body stays in memory: too much memory is better than no
    /// work at all, and the log says so.
    pub fn keep(&self, body: Bytes) -> Body {
        let len = body.len() as u64;
        let mut state = self.state();
        if state.in_memory + len > self.0.limit && len > 0 {
            match state.write(&body) {
                Ok((file, offset)) => {
                    state.spilled += len;
                    return Body { place: Place::File { file, offset, len }, home: self.clone() };
                }
                Err(error) => {
                    tracing::warn!(%error, "a body cannot be spilled to a temporary file and stays in memory");
                }
            }
        }
        state.in_memory += len;
        Body { place: Place::Memory(body), home: self.clone() }
    }

    /// The bytes of all bodies that are held: in memory, and in the file.
    pub fn held(&self) -> (u64, u64) {
        let state = self.state();
        (state.in_memory, state.spilled)
    }

    /// The state is whole after a panic elsewhere: each change below is one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body {
    /// The bytes.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn bytes(&self) -> io::Result<Bytes> {
        match &self.place {
            Place::Memory(bytes) => Ok(bytes.clone()),
            Place::File { file, offset, len } => {
                let len = usize::try_from(*len).map_err(io::Error::other)?;
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, *offset)?;
                Ok(bytes.into())
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut state = self.home.state();
        match &self.place {
            Place::Memory(bytes) => state.in_memory -= bytes.len() as u64,
            Place::File { offset, len, .. } => {
                state.spilled -= len;
                state.release(*offset, *len);
            }
        }
    }
}

impl State {
    fn write(&mut self, body: &[u8]) -> io::Result<(Arc<File>, u64)> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(tempfile::tempfile()?))),
        };
        let len = body.len() as u64;
        let fit =
            self.free.iter().find(|(_, free)| **free >= len).map(|(offset, free)| (*offset, *free));
        let offset = fit.map_or(self.end, |(offset, _)| offset);
        file.write_all_at(body, offset)?;
        match fit {
            Some((offset, free)) => {
                self.free.remove(&offset);
                if free > len {
                    self.free.insert(offset + len, free - len);
                }
            }
            None => self.end += len,
        }
        Ok((file, offset))
    }

    fn release(&mut self, mut offset: u64, mut len: u64) {
        if let Some((&before, &free)) = self.free.range(..offset).next_back()
            && before + free == offset
        {
            self.free.remove(&before);
            offset = before;
            len += free;
        }
        if let Some(free) = self.free.remove(&(offset + len)) {
            len += free;
        }
        if offset + len < self.end {
            self.free.insert(offset, len);
            return;
        }
        self.end = offset;
        if self.end == 0 {
            // Gives the disk its space back after a big backlog.
            self.file = None;
        } else if let Some(file) = &self.file {
            let _ = file.set_len(self.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(fill: u8, len: usize) -> Bytes {
        vec![fill; len].into()
    }

    #[test]
    fn memory_is_bounded_and_the_rest_comes_back_unchanged() {
        let spill = Spill::new(1000);
        let bodies: Vec<Body> = (0..50).map(|i| spill.keep(body(i, 100))).collect();
        assert_eq!(spill.held(), (1000, 4000));
        for (fill, kept) in (0..).zip(&bodies) {
            assert_eq!(kept.bytes().unwrap(), body(fill, 100));
        }
        drop(bodies);
        assert_eq!(spill.held(), (0, 0));
        assert!(spill.state().file.is_none());
    }

    #[test]
    fn space_in_the_file_is_used_again() {
        let spill = Spill::new(0);
        let mut held: Vec<Body> = (0..100).map(|_| spill.keep(body(1, 1000))).collect();
        for round in 0..2000_usize {
            let at = (round * 31) % held.len();
            drop(held.swap_remove(at));
            let fill = u8::try_from(round % 251).unwrap();
            let new = spill.keep(body(fill, 500 + round % 500));
            assert_eq!(new.bytes().unwrap()[0], fill);
            held.push(new);
        }
        assert!(spill.state().end <= 200_000, "the file grew to {}", spill.state().end);
        let len = spill.state().file.as_ref().unwrap().metadata().unwrap().len();
        assert!(len <= 200_000);
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
                held.push((fill, len, spill.keep(body(fill, len))));
            }
        }
        for (fill, len, kept) in &held {
            assert_eq!(kept.bytes().unwrap(), body(*fill, *len));
        }
    }

    #[test]
    fn an_empty_body_needs_no_file() {
        let spill = Spill::new(0);
        assert!(spill.keep(Bytes::new()).bytes().unwrap().is_empty());
        assert!(spill.state().file.is_none());
    }
}

//! Which pieces of the temporary file are free? What is reserved never overlaps, what is released is used again, and the file
//! is gone when nothing is left in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Pieces {
    file: Option<Arc<File>>,
    /// Free pieces before `end`: offset to length, never adjacent to each other or to `end`.
    free: BTreeMap<u64, u64>,
    end: u64,
    /// Bytes that are reserved, written or not.
    reserved: u64,
}

impl Pieces {
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    #[cfg(test)]
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_deref()
    }

    /// Another file than a temporary one.
    #[cfg(test)]
    pub(super) fn write_to(&mut self, file: File) {
        self.file = Some(Arc::new(file));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.end == 0
    }

    /// A piece of the file, for its owner to write.
    ///
    /// # Errors
    /// There is no file yet, and none can be made.
    pub(super) fn reserve(&mut self, len: u64) -> io::Result<(Arc<File>, u64)> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(tempfile::tempfile()?))),
        };
        let fit =
            self.free.iter().find(|(_, free)| **free >= len).map(|(offset, free)| (*offset, *free));
        let offset = fit.map_or(self.end, |(offset, _)| offset);
        match fit {
            Some((offset, free)) => {
                self.free.remove(&offset);
                if free > len {
                    self.free.insert(offset + len, free - len);
                }
            }
            None => self.end += len,
        }
        self.reserved += len;
        Ok((file, offset))
    }

    /// The piece is free again.
    pub(super) fn release(&mut self, mut offset: u64, mut len: u64) {
        self.reserved -= len;
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
            // The disk has its space again after a big backlog.
            self.file = None;
        } else if let Some(file) = &self.file {
            let _ = file.set_len(self.end);
        }
    }
}

//! How much may a packed file grow to? A reader that ends when more comes out of an archive, or when one piece of XML is
//! longer, than any workbook has: a few kilobytes can hold gigabytes.

use std::io::{self, Read};

/// The longest piece of XML between two `<`: a cell has 32,767 characters, a list of validations some thousand.
const LONGEST: usize = 4 << 20;

/// Passes on what it reads, up to its bounds.
pub(in super::super) struct Tame<R> {
    inner: R,
    left: u64,
    since: usize,
}

impl<R> Tame<R> {
    pub(in super::super) fn new(inner: R, most: u64) -> Self {
        Self { inner, left: most, since: 0 }
    }

    /// What the bound still leaves.
    pub(in super::super) fn left(&self) -> u64 {
        self.left
    }
}

impl<R: Read> Read for Tame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other("it unpacks to more than any workbook holds: is it a zip bomb?")
        })?;
        let piece = &buffer[..read];
        let mut last = 0;
        for at in memchr(piece) {
            self.check(at - last)?;
            self.since = 0;
            last = at;
        }
        self.check(read - last)?;
        self.since += read - last;
        Ok(read)
    }
}

impl<R> Tame<R> {
    fn check(&self, more: usize) -> io::Result<()> {
        if self.since + more > LONGEST {
            return Err(io::Error::other("a piece of its XML is longer than any cell can be"));
        }
        Ok(())
    }
}

fn memchr(piece: &[u8]) -> impl Iterator<Item = usize> + '_ {
    piece.iter().enumerate().filter(|(_, byte)| **byte == b'<').map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_too_large_ends_with_a_word() {
        let read = |bytes: &[u8], most| {
            let mut sink = Vec::new();
            Tame::new(bytes, most).read_to_end(&mut sink).map(|_| sink.len())
        };
        assert_eq!(read(b"<a><b/></a>", 11).unwrap(), 11);
        assert!(read(b"<a><b/></a>", 10).unwrap_err().to_string().contains("zip bomb"));
        let long = [b"<a>".as_slice(), &vec![b'x'; LONGEST + 1]].concat();
        assert!(read(&long, u64::MAX).unwrap_err().to_string().contains("longer than any cell"));
    }
}

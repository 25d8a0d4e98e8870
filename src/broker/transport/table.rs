//! May the client library be given this table? It reads tables by recursion, an array in an array in an array, until its
//! stack ends and the process with it; and it ends the connection over a name that is not UTF-8. So each table is walked
//! here first, without recursion.

use std::fmt;

/// As many arrays and tables may stand in each other. What the broker writes itself (`x-death`) takes two.
pub(super) const DEEPEST: usize = 32;

/// What a table costs in memory beside its entries, counted in values: each has a node with room for eleven.
const TABLE: usize = 9;

/// What the client library cannot bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A text that AMQP says is UTF-8.
    NotUtf8,
    /// Arrays or tables that stand in more than [`DEEPEST`] others.
    TooDeep,
    /// A value of a type that neither the protocol nor RabbitMQ has.
    Type(u8),
    /// A length that reaches beyond the end, or an end before the end.
    Length,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("is not UTF-8"),
            Self::TooDeep => write!(f, "is nested deeper than {DEEPEST}"),
            Self::Type(code) => write!(f, "has a value of the unknown type {code:#04x}"),
            Self::Length => f.write_str("is cut short"),
        }
    }
}

/// One entry of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// With its type octet.
    pub(super) value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The whole entry, as it stands in the table.
    pub(super) fn bytes(&self) -> usize {
        1 + self.name.len() + self.value.len()
    }

    /// The name, where it is text.
    pub(super) fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.name).ok()
    }

    /// A single value: no array, no table.
    pub(super) fn is_flat(&self) -> bool {
        !matches!(self.value.first(), Some(b'A' | b'F'))
    }

    /// What it costs in memory, counted in values.
    ///
    /// # Errors
    /// The client library could not read it.
    pub(super) fn check(&self) -> Result<usize, Flaw> {
        if std::str::from_utf8(self.name).is_err() {
            return Err(Flaw::NotUtf8);
        }
        match self.value {
            [kind @ (b'A' | b'F'), _, _, _, _, content @ ..] => {
                check(content, *kind == b'F').map(|cost| cost + 1)
            }
            _ => Ok(1),
        }
    }
}

/// The entries of a table, one after another; after an error there are no more, for nothing says where the next one is.
#[derive(Clone, Debug)]
pub(super) struct Entries<'a> {
    /// What is not read yet.
    pub(super) rest: &'a [u8],
    is_over: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn of(content: &'a [u8]) -> Self {
        Self { rest: content, is_over: false }
    }

    fn entry(&self) -> Result<(Entry<'a>, &'a [u8]), Flaw> {
        let (name, rest) = short(self.rest)?;
        let size = size(rest)?;
        let (value, rest) = rest.split_at_checked(size).ok_or(Flaw::Length)?;
        Ok((Entry { name, value }, rest))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over || self.rest.is_empty() {
            return None;
        }
        match self.entry() {
            Ok((entry, rest)) => {
                self.rest = rest;
                Some(Ok(entry))
            }
            Err(flaw) => {
                self.is_over = true;
                Some(Err(flaw))
            }
        }
    }
}

/// A short string and what comes after it.
pub(super) fn short(bytes: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let (&len, rest) = bytes.split_first().ok_or(Flaw::Length)?;
    rest.split_at_checked(usize::from(len)).ok_or(Flaw::Length)
}

/// What has its length before it (a long string, a table), and what comes after it.
pub(super) fn long(bytes: &[u8]) -> Result<(&[u8], &[u8]), Flaw> {
    let (len, rest) = bytes.split_first_chunk().ok_or(Flaw::Length)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| Flaw::Length)?;
    rest.split_at_checked(len).ok_or(Flaw::Length)
}

/// How many bytes the value at the start of `bytes` takes, its type octet among them.
fn size(bytes: &[u8]) -> Result<usize, Flaw> {
    let (&kind, rest) = bytes.split_first().ok_or(Flaw::Length)?;
    Ok(1 + match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' | b'A' | b'F' => 4 + long(rest)?.0.len(),
        unknown => return Err(Flaw::Type(unknown)),
    })
}

/// Walks all that stands in a table or an array, however deep: what that costs in memory, counted in values.
///
/// # Errors
/// The client library could not read it.
pub(super) fn check(content: &[u8], is_table: bool) -> Result<usize, Flaw> {
    // Where each of those that are open ends, and which kind it is.
    let mut open = [(0, false); DEEPEST];
    open[0] = (content.len(), is_table);
    let (mut depth, mut at) = (1, 0);
    let mut cost = if is_table { TABLE } else { 0 };
    while depth > 0 {
        let (end, is_table) = open[depth - 1];
        if at == end {
            depth -= 1;
            continue;
        }
        let mut rest = &content[at..end];
        if is_table {
            let (name, value) = short(rest)?;
            if std::str::from_utf8(name).is_err() {
                return Err(Flaw::NotUtf8);
            }
            at += 1 + name.len();
            rest = value;
        }
        let size = size(rest)?;
        if size > rest.len() {
            return Err(Flaw::Length);
        }
        cost += 1;
        if let kind @ (b'A' | b'F') = rest[0] {
            let Some(inner) = open.get_mut(depth) else { return Err(Flaw::TooDeep) };
            *inner = (at + size, kind == b'F');
            depth += 1;
            cost += if kind == b'F' { TABLE } else { 0 };
            // Into it, past the type and the length.
            at += 5;
        } else {
            at += size;
        }
    }
    Ok(cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An array in an array, so many times.
    fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(Vec::new(), |inner, _| {
            let len = u32::try_from(inner.len()).unwrap().to_be_bytes();
            [b"A", &len[..], &inner].concat()
        })
    }

    #[test]
    fn what_is_nested_too_deep_is_found_at_any_depth() {
        for (depth, told) in [
            (1, Ok(1)),
            (DEEPEST - 1, Ok(DEEPEST - 1)),
            (DEEPEST, Err(Flaw::TooDeep)),
            (20_000, Err(Flaw::TooDeep)),
        ] {
            assert_eq!(check(&nested(depth), false), told, "{depth}");
        }
    }

    #[test]
    fn a_table_is_read_entry_by_entry_up_to_what_cannot_be_read() {
        let table = [&b"\x01aV"[..], b"\x01bt\x01", b"\x01cS\0\0\0\x02hi", b"\x01d?"].concat();
        let entries: Vec<_> = Entries::of(&table).collect();
        let names: Vec<_> = entries.iter().flatten().map(Entry::text).collect();
        assert_eq!(names, [Some("a"), Some("b"), Some("c")]);
        assert_eq!(entries[3].unwrap_err(), Flaw::Type(b'?'));
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn what_reaches_beyond_its_end_is_found_wherever_it_stands() {
        let whole = [&b"\x01aA\0\0\0\x0d"[..], b"F\0\0\0\x08", b"\x01bS\0\0\0\x01!"].concat();
        for cut in 1..whole.len() {
            let cut = &whole[..whole.len() - cut];
            assert!(Entries::of(cut).any(|entry| entry.is_err()), "{cut:?}");
        }
        let inner = [&b"\x01aF\0\0\0\x06"[..], b"\x01bS\0\0\0"].concat();
        let entry = Entries::of(&inner).next().unwrap();
        assert_eq!(entry.and_then(|entry| entry.check().map(drop)), Err(Flaw::Length));
    }
}

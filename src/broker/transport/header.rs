//! May the client library be given these properties? If not, or if they are too large to be kept in memory, what is given
//! to it in their place: another header of the same message, with all of it that matters to us and can be read alone.

use std::io;

use bytes::Bytes;
use lapin::BasicProperties;
use sha2::{Digest as _, Sha256};

use super::table::{self, Entries, Entry, Flaw};
use crate::message::headers;

/// Properties of more bytes are not kept in memory.
pub(super) const LARGE: usize = 16 * 1024;

/// How many bytes a value takes in memory beside those that it has here: an empty one has one here.
const VALUE: usize = 64;

/// Nor are those that would take so much more in memory than they have bytes here.
const HEAP: usize = 2 * LARGE;

/// As much as this any message may take: `sluice enqueue` writes half of it.
const USUAL: usize = 1024;

/// The longest header of the broker's own that is kept where others are left out.
const DEATH: usize = 4096;

/// Class, weight and length of the body come before the flags.
const BEFORE: usize = 12;

/// The properties in the order of their flags, with a kind as in the methods.
const PROPERTIES: [(&str, u8); 14] = [
    ("content-type", b's'),
    ("content-encoding", b's'),
    ("headers", b'T'),
    ("delivery-mode", b'1'),
    ("priority", b'1'),
    ("correlation-id", b's'),
    ("reply-to", b's'),
    ("expiration", b's'),
    (MESSAGE_ID, b's'),
    ("timestamp", b'8'),
    ("type", b's'),
    ("user-id", b's'),
    ("app-id", b's'),
    ("cluster-id", b's'),
];

const MESSAGE_ID: &str = "message-id";

/// What a run is told by, beside the message id and the body.
const OF_THE_RUN: [&str; 2] = [headers::ENQUEUED_AT, headers::REPLAY];

/// What the broker counts and writes into each delivery anew.
const COUNTS: [&str; 3] = ["x-delivery-count", "x-acquired-count", "x-stream-offset"];

/// Why the broker dead-lettered a message.
const X_DEATH: &str = "x-death";

/// A header in place of another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replaced {
    pub(super) payload: Vec<u8>,
    /// What the client library could not have read, in words; none: it was only too large.
    pub(super) flaw: Option<String>,
    /// Where the message id, or a header of the run, cannot be read: what is the same whenever this message is delivered,
    /// and of no other header.
    pub(super) identity: Option<[u8; 32]>,
}

/// How long the body is, as the header says.
pub(super) fn body_size(payload: &[u8]) -> Option<u64> {
    payload.get(4..BEFORE)?.try_into().ok().map(u64::from_be_bytes)
}

/// The same header, of an empty body.
pub(super) fn without_body(payload: &mut [u8]) {
    if let Some(size) = payload.get_mut(4..BEFORE) {
        size.fill(0);
    }
}

/// The flags and the properties: what a header has after the length of the body.
pub(super) fn properties(payload: &Bytes) -> Bytes {
    payload.slice(BEFORE.min(payload.len())..)
}

/// The properties of a header that was checked: tables are read by recursion here.
pub(super) fn read(payload: &[u8]) -> io::Result<BasicProperties> {
    let properties = payload.get(BEFORE..).unwrap_or_default();
    match lapin::protocol::basic::parse_properties(properties) {
        Ok((_, properties)) => Ok(properties),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

/// What is given to the client library in place of this header; none: it can have it as it is. `has_room` says whether so
/// many bytes can be held in memory until the message is settled.
///
/// # Errors
/// It is too short to be a header at all.
pub(super) fn check(
    payload: &[u8],
    has_room: impl FnOnce(usize) -> bool,
) -> Result<Option<Replaced>, String> {
    let fields = payload.get(BEFORE + 2..).ok_or("a content header without properties")?;
    let flags = u16::from_be_bytes([payload[BEFORE], payload[BEFORE + 1]]);
    let mut walk = Walk::default();
    let mut rest = fields;
    let mut is_cut = false;
    for (number, (name, kind)) in PROPERTIES.into_iter().enumerate() {
        if flags & (1 << (15 - number)) == 0 {
            continue;
        }
        let Some(after) = walk.property(name, kind, rest) else {
            // Where it ends nobody knows, so nothing after it can be read either.
            is_cut = true;
            break;
        };
        let bytes = &rest[..rest.len() - after.len()];
        walk.fields[number] = Some(Field { number, name, kind, bytes });
        rest = after;
    }
    if is_cut || !rest.is_empty() {
        walk.flaw(|| "the list of its properties is cut short".to_owned());
        walk.tail = rest;
        walk.lose(
            flags & ID_FLAG != 0 && !walk.has_id || flags & HEADERS_FLAG != 0 && !walk.has_headers,
        );
    }
    let heap = payload.len() + VALUE * walk.cost;
    let is_small = payload.len() <= LARGE && heap <= HEAP && (heap <= USUAL || has_room(heap));
    if walk.flaw.is_none() && is_small {
        return Ok(None);
    }
    Ok(Some(walk.replaced(payload)))
}

const ID_FLAG: u16 = 1 << (15 - 8);
const HEADERS_FLAG: u16 = 1 << (15 - 2);

#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    number: usize,
    name: &'static str,
    kind: u8,
    /// As it stands there, with its length.
    bytes: &'a [u8],
}

impl Field<'_> {
    fn is_readable(&self) -> bool {
        self.kind != b's' || std::str::from_utf8(&self.bytes[1..]).is_ok()
    }
}

/// What was seen of a header.
#[derive(Debug, Default)]
struct Walk<'a> {
    fields: [Option<Field<'a>>; PROPERTIES.len()],
    /// What cannot be read after the last field.
    tail: &'a [u8],
    has_id: bool,
    has_headers: bool,
    cost: usize,
    flaw: Option<String>,
    /// Whether the identity cannot be read.
    lost: bool,
}

impl<'a> Walk<'a> {
    /// Reads one property; what comes after it.
    fn property(&mut self, name: &'static str, kind: u8, rest: &'a [u8]) -> Option<&'a [u8]> {
        match kind {
            b's' => {
                let (text, rest) = table::short(rest).ok()?;
                let is_readable = std::str::from_utf8(text).is_ok();
                if !is_readable {
                    self.flaw(|| {
                        format!("its property {name} {} ({})", Flaw::NotUtf8, shown(text))
                    });
                }
                if name == MESSAGE_ID {
                    self.has_id = true;
                    self.lose(!is_readable);
                }
                Some(rest)
            }
            b'T' => {
                let (content, rest) = table::long(rest).ok()?;
                self.has_headers = true;
                self.headers(content);
                Some(rest)
            }
            octets => rest.get(usize::from(octets - b'0')..),
        }
    }

    fn headers(&mut self, content: &'a [u8]) {
        for entry in Entries::of(content) {
            match entry {
                Ok(entry) => match entry.check() {
                    Ok(cost) => self.cost += cost,
                    Err(flaw) => {
                        self.lose(entry.text().is_some_and(|name| OF_THE_RUN.contains(&name)));
                        self.flaw(|| told(&entry, flaw));
                    }
                },
                Err(flaw) => {
                    // What comes after it may be a header of the run.
                    self.lose(true);
                    self.flaw(|| format!("its table of headers {flaw}"));
                }
            }
        }
    }

    /// The first one is told.
    fn flaw(&mut self, told: impl FnOnce() -> String) {
        if self.flaw.is_none() {
            self.flaw = Some(told());
        }
    }

    fn lose(&mut self, lost: bool) {
        self.lost |= lost;
    }

    fn replaced(self, original: &[u8]) -> Replaced {
        let identity = self.lost.then(|| self.identity());
        let mut payload = original[..BEFORE].to_vec();
        payload.extend([0; 2]);
        let mut flags = 0_u16;
        for field in self.fields.iter().flatten().filter(|field| field.is_readable()) {
            flags |= 1 << (15 - field.number);
            if field.kind == b'T' {
                let kept = kept(&field.bytes[4..]);
                // No longer than the table that it is a part of.
                payload.extend(u32::try_from(kept.len()).unwrap_or(u32::MAX).to_be_bytes());
                payload.extend(kept);
            } else {
                payload.extend(field.bytes);
            }
        }
        payload[BEFORE..BEFORE + 2].copy_from_slice(&flags.to_be_bytes());
        Replaced { payload, flaw: self.flaw, identity }
    }

    /// Over everything but what the broker writes anew at each delivery. It may put headers into another order, too.
    fn identity(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for field in self.fields.iter().flatten() {
            if field.kind != b'T' {
                digest.update(field.name);
                digest.update(field.bytes);
                continue;
            }
            // Its name says nothing: where there were no headers, there are some once the broker has counted.
            let mut entries = Entries::of(&field.bytes[4..]);
            let mut read: Vec<_> = entries.by_ref().flatten().collect();
            read.retain(|entry| !entry.text().is_some_and(is_the_brokers));
            read.sort_by_key(|entry| (entry.name, entry.value));
            for entry in read {
                digest.update([u8::try_from(entry.name.len()).unwrap_or(u8::MAX)]);
                digest.update(entry.name);
                digest.update(entry.value);
            }
            digest.update(entries.rest);
        }
        digest.update(self.tail);
        digest.finalize().into()
    }
}

fn is_the_brokers(name: &str) -> bool {
    COUNTS.contains(&name)
        || name == X_DEATH
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// What of a table of headers stays: what is ours and the broker's counts, each a single value that can be read.
fn kept(content: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut from = content;
    for entry in Entries::of(content).flatten() {
        let (whole, rest) = from.split_at(entry.bytes());
        from = rest;
        if is_kept(&entry) {
            kept.extend(whole);
        }
    }
    kept
}

fn is_kept(entry: &Entry<'_>) -> bool {
    let Some(name) = entry.text() else { return false };
    let is_one = name.starts_with(headers::PREFIX)
        || [headers::TRACEPARENT, headers::TRACESTATE].contains(&name)
        || COUNTS.contains(&name);
    let is_death = name == X_DEATH && entry.bytes() <= DEATH && entry.check().is_ok();
    is_one && entry.is_flat() || is_death
}

fn told(entry: &Entry<'_>, flaw: Flaw) -> String {
    match entry.text() {
        None => format!("the name of a header {flaw} ({})", shown(entry.name)),
        Some(_) => format!("its header {} {flaw}", shown(entry.name)),
    }
}

/// What a person can read of it, in short.
fn shown(bytes: &[u8]) -> String {
    let short = &bytes[..bytes.len().min(60)];
    let more = if short.len() < bytes.len() { "…" } else { "" };
    format!("\"{}\"{more}", short.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &[u8]) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()], text].concat()
    }

    fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
        [text(name), value.to_vec()].concat()
    }

    fn string(value: &[u8]) -> Vec<u8> {
        [b"S", &u32::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
    }

    /// A header with a message id, headers, and a delivery mode.
    fn header(id: &[u8], headers: &[Vec<u8>]) -> Vec<u8> {
        let headers = headers.concat();
        let len = u32::try_from(headers.len()).unwrap().to_be_bytes();
        let flags = (HEADERS_FLAG | ID_FLAG | 1 << 12).to_be_bytes();
        [&b"\0\x3c\0\0\0\0\0\0\0\0\0\x05"[..], &flags, &len, &headers, b"\x02", &text(id)].concat()
    }

    fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(b"V".to_vec(), |inner, _| {
            let len = u32::try_from(inner.len()).unwrap().to_be_bytes();
            [b"A", &len[..], &inner].concat()
        })
    }

    #[test]
    fn what_can_be_read_passes() {
        let usual = header(b"1", &[entry(b"theirs", &nested(5)), entry(b"x", b"V")]);
        assert_eq!(check(&usual, |_| true), Ok(None));
        assert_eq!(check(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0", |_| true), Ok(None));
        assert!(check(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\0", |_| true).is_err());
    }

    #[test]
    fn what_is_ours_and_can_be_read_alone_is_kept() {
        let keep = [
            entry(b"x-sluice-batch", &string(b"wave-1")),
            entry(b"x-delivery-count", b"l\0\0\0\0\0\0\0\x02"),
            entry(b"traceparent", &string(b"00")),
        ];
        for (bad, told) in [
            (entry(b"deep", &nested(2_000)), "its header \"deep\" is nested deeper than 32"),
            (entry(b"caf\xe9", &string(b"x")), "the name of a header is not UTF-8 (\"caf\\xe9\")"),
        ] {
            let mut all = keep.to_vec();
            all.insert(1, bad);
            all.push(entry(b"theirs", b"V"));
            let replaced = check(&header(b"17", &all), |_| true).unwrap().unwrap();
            assert_eq!(replaced.payload, header(b"17", &keep));
            assert_eq!((replaced.flaw.as_deref(), replaced.identity), (Some(told), None));
        }
    }

    #[test]
    fn a_message_id_that_cannot_be_read_leaves_an_identity_that_stays_when_the_broker_counts() {
        let bad = |count: u8, swap: bool| {
            let count = entry(b"x-delivery-count", &[&b"l\0\0\0\0\0\0\0"[..], &[count]].concat());
            let mut entries = vec![entry(b"a", b"V"), entry(b"b", b"t\x01"), count];
            entries[..2].rotate_left(usize::from(swap));
            check(&header(b"caf\xe9", &entries), |_| true).unwrap().unwrap()
        };
        let first = bad(0, false);
        assert!(first.identity.is_some() && first.flaw.as_ref().unwrap().contains("message-id"));
        assert_eq!(first.identity, bad(1, true).identity);
        let other = check(&header(b"caf\xe8", &[]), |_| true).unwrap().unwrap();
        assert_ne!(first.identity, other.identity);
    }

    #[test]
    fn a_header_of_the_run_that_cannot_be_read_loses_the_identity() {
        for (name, is_lost) in [("x-sluice-replay", true), ("x-sluice-row", false)] {
            let deep = header(b"1", &[entry(name.as_bytes(), &nested(100))]);
            assert_eq!(
                check(&deep, |_| true).unwrap().unwrap().identity.is_some(),
                is_lost,
                "{name}"
            );
        }
        let unknown = header(b"1", &[entry(b"a", b"?"), entry(b"x-sluice-replay", &string(b"1"))]);
        let replaced = check(&unknown, |_| true).unwrap().unwrap();
        assert!(replaced.identity.is_some() && replaced.flaw.unwrap().contains("unknown type"));
    }

    #[test]
    fn what_is_large_is_no_flaw_and_leaves_what_is_ours() {
        let ours = entry(b"x-sluice-batch", &string(b"wave-1"));
        let voids = [&b"A\0\0\x02\x58"[..], &[b'V'; 600]].concat();
        for big in [string(&[b'x'; LARGE]), voids] {
            let whole = header(b"1", &[entry(b"theirs", &big), ours.clone()]);
            let replaced = check(&whole, |_| true).unwrap().unwrap();
            assert_eq!((replaced.flaw, replaced.identity), (None, None));
            assert_eq!(replaced.payload, header(b"1", std::slice::from_ref(&ours)));
        }
    }

    #[test]
    fn a_list_of_properties_that_is_cut_keeps_what_comes_before() {
        let whole = header(b"17", &[entry(b"x-sluice-row", &string(b"3"))]);
        for cut in BEFORE + 2..whole.len() {
            let replaced = check(&whole[..cut], |_| true).unwrap().unwrap();
            assert!(replaced.flaw.is_some() && replaced.identity.is_some(), "{cut}");
            assert_eq!(check(&replaced.payload, |_| true), Ok(None), "{cut}");
        }
        let longer = check(&[&whole[..], b"!"].concat(), |_| true).unwrap().unwrap();
        assert_eq!((longer.payload, longer.identity), (whole, None));
    }
}

//! What of the bytes that a broker sends may the client library see? Frame by frame, without I/O: what it can read passes
//! as it is, the rest is replaced, and bodies that are too long to be gathered go another way.

use std::collections::HashMap;

use super::header;
use super::methods::{self, Checked};
use crate::broker::version::Version;

/// A frame's type, channel and length.
const HEAD: usize = 7;

/// The octet at the end of a frame.
const END: u8 = 0xce;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// Before anything is negotiated: RabbitMQ's greeting takes some 500 bytes.
const GREETING: usize = 16 * 1024;

/// A frame that says nothing, and counts as a sign of life.
pub(super) const ALIVE: [u8; 8] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, END];

/// A delivery: the channel, and its tag there.
pub(super) type DeliveryKey = (u16, u64);

/// What comes next in the bytes that were received.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many are needed to say more.
    Need(usize),
    /// So many pass as they are.
    Pass(usize),
    /// So many are replaced by these.
    Give { of: usize, bytes: Vec<u8>, note: Option<Note> },
    /// So many are the header of a body that goes another way. These are to be given when it has ended.
    Divert { of: usize, bytes: Vec<u8>, channel: u16, size: u64, note: Note },
    /// So many are a piece of a body that goes another way.
    Piece { of: usize, channel: u16 },
    /// So many are left out.
    Skip(usize),
    /// The body of this channel that went another way has ended.
    Ended { channel: u16 },
    /// So many are replaced by these, which close the channel: of the body under way on it no more comes.
    Closed { of: usize, bytes: Vec<u8>, channel: u16 },
}

/// What is to be remembered of a message, where it is a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// None: a message that came back, or one that belongs to no delivery.
    pub(super) place: Option<DeliveryKey>,
    pub(super) flaw: Option<String>,
    pub(super) identity: Option<[u8; 32]>,
    /// The payload of the header as it came, where it was replaced.
    pub(super) original: Option<Vec<u8>>,
}

/// Says whether so many bytes can be held in memory.
pub(super) type HasRoom = Box<dyn Fn(usize) -> bool + Send>;

/// How a record of TLS begins that says what is wrong.
const TLS_ALERT: [u8; 2] = [21, 3];

/// The bytes of one connection, in their order.
pub(super) struct Filter {
    has_room: HasRoom,
    /// The longest payload that may come.
    longest: usize,
    /// The longest body that the client library gathers.
    gathered: u64,
    /// What the server has said that it is.
    pub(super) version: Option<Version>,
    has_started: bool,
    /// The deliveries whose headers come next, one a channel at most.
    expected: Vec<DeliveryKey>,
    /// How much is to come of bodies that go another way.
    diverted: HashMap<u16, u64>,
    inside: Option<Inside>,
}

/// Inside a body frame: what is left of it before its last octet.
#[derive(Clone, Copy, Debug)]
struct Inside {
    channel: u16,
    left: usize,
    is_diverted: bool,
}

impl Filter {
    /// `frame_max` bounds what is negotiated.
    pub(super) fn new(frame_max: u32, gathered: u64, has_room: HasRoom) -> Self {
        Self {
            has_room,
            longest: usize::try_from(frame_max).unwrap_or(usize::MAX),
            gathered,
            version: None,
            has_started: false,
            expected: Vec::new(),
            diverted: HashMap::new(),
            inside: None,
        }
    }

    /// What comes next in `input`, from its start.
    ///
    /// # Errors
    /// These are no frames of AMQP 0-9-1, in words.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<Step, String> {
        if let Some(inside) = self.inside {
            return self.body(inside, input);
        }
        let Some((head, _)) = input.split_first_chunk::<HEAD>() else {
            return self.early(input).map(|()| Step::Need(HEAD));
        };
        self.early(input)?;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let longest = if self.has_started { self.longest } else { GREETING };
        if length.saturating_add(HEAD + 1) > longest {
            return Err(format!("a frame of {length} bytes, where {longest} were agreed on"));
        }
        if head[0] == BODY {
            let is_diverted = self.diverted.contains_key(&channel);
            self.inside = Some(Inside { channel, left: length, is_diverted });
            return Ok(if is_diverted { Step::Skip(HEAD) } else { Step::Pass(HEAD) });
        }
        let whole = HEAD + length + 1;
        let Some(frame) = input.get(..whole) else { return Ok(Step::Need(whole)) };
        if frame[whole - 1] != END {
            return Err("a frame without its end".to_owned());
        }
        let payload = &frame[HEAD..whole - 1];
        match head[0] {
            METHOD => self.method(channel, payload, whole),
            HEADER => self.header(channel, payload, whole),
            HEARTBEAT => Ok(Step::Pass(whole)),
            kind => Err(format!("a frame of the unknown type {kind}")),
        }
    }

    /// What answers first has to be an AMQP 0-9-1 server's greeting, and says so with its first octets.
    fn early(&self, input: &[u8]) -> Result<(), String> {
        const FIRST: [u8; 3] = [METHOD, 0, 0];
        let is_greeting = input.iter().zip(FIRST).all(|(byte, first)| *byte == first);
        if self.has_started || is_greeting {
            return Ok(());
        }
        // An alert: it takes our first octets for a handshake that has gone wrong.
        if input.starts_with(&TLS_ALERT[..input.len().min(TLS_ALERT.len())]) {
            return if input.len() < TLS_ALERT.len() {
                Ok(())
            } else {
                Err("it speaks TLS on this port: write amqps:// in broker.url, or the port without TLS, usually 5672".to_owned())
            };
        }
        let said = &input[..input.len().min(40)];
        Err(format!("this is not an AMQP 0-9-1 server: it says \"{}\"", said.escape_ascii()))
    }

    fn body(&mut self, inside: Inside, input: &[u8]) -> Result<Step, String> {
        let Inside { channel, left, is_diverted } = inside;
        let Some(last) = input.first() else { return Ok(Step::Need(1)) };
        if left == 0 {
            if *last != END {
                return Err("a frame without its end".to_owned());
            }
            self.inside = None;
            return Ok(if is_diverted { Step::Skip(1) } else { Step::Pass(1) });
        }
        let of = left.min(input.len());
        self.inside = Some(Inside { left: left - of, ..inside });
        if !is_diverted {
            return Ok(Step::Pass(of));
        }
        let size = self.diverted.get_mut(&channel).ok_or("a body without a header")?;
        *size = size
            .checked_sub(of as u64)
            .ok_or_else(|| "a body that is longer than its header says".to_owned())?;
        Ok(Step::Piece { of, channel })
    }

    /// What has ended without more bytes: to be asked after each step.
    pub(super) fn ended(&mut self) -> Option<Step> {
        if self.diverted.is_empty() || self.inside.is_some() {
            return None;
        }
        let channel =
            self.diverted.iter().find(|(_, left)| **left == 0).map(|(channel, _)| *channel)?;
        self.diverted.remove(&channel);
        Some(Step::Ended { channel })
    }

    fn method(&mut self, channel: u16, payload: &[u8], whole: usize) -> Result<Step, String> {
        let checked = methods::check(payload)?;
        if let Some((id, arguments)) = methods::split(payload) {
            match id {
                methods::START => self.version = version_in(arguments),
                methods::TUNE => self.tune(arguments),
                methods::DELIVER | methods::GET_OK => {
                    let tag = methods::delivery_tag(id, arguments);
                    self.expect(channel, tag);
                }
                methods::RETURN => self.expect(channel, None),
                methods::CHANNEL_CLOSE | methods::CHANNEL_CLOSE_OK => {
                    self.expect(channel, None);
                    if self.diverted.remove(&channel).is_some() {
                        let payload = match &checked {
                            Checked::Good => payload,
                            Checked::Replaced(payload) => payload,
                        };
                        let bytes = frame(METHOD, channel, payload);
                        return Ok(Step::Closed { of: whole, bytes, channel });
                    }
                }
                _ => {}
            }
            self.has_started = true;
        }
        Ok(match checked {
            Checked::Good => Step::Pass(whole),
            Checked::Replaced(payload) => {
                Step::Give { of: whole, bytes: frame(METHOD, channel, &payload), note: None }
            }
        })
    }

    /// What comes next on a channel is the header of this delivery, or of none.
    fn expect(&mut self, channel: u16, tag: Option<u64>) {
        self.expected.retain(|(expected, _)| *expected != channel);
        self.expected.extend(tag.map(|tag| (channel, tag)));
    }

    /// The server proposes a length of frames, and the client library takes the lower one of its own and this.
    fn tune(&mut self, arguments: &[u8]) {
        if let Some(frame_max) = arguments.get(2..6).and_then(|octets| octets.try_into().ok()) {
            let frame_max = usize::try_from(u32::from_be_bytes(frame_max)).unwrap_or(usize::MAX);
            if frame_max != 0 {
                // Never less than the protocol's least, whatever is proposed.
                self.longest = self.longest.min(frame_max.max(4096));
            }
        }
    }

    fn header(&mut self, channel: u16, payload: &[u8], whole: usize) -> Result<Step, String> {
        let at = self.expected.iter().position(|(expected, _)| *expected == channel);
        let place = at.map(|at| self.expected.swap_remove(at));
        let replaced = header::check(payload, &self.has_room)?;
        let size = header::body_size(payload).unwrap_or(0);
        if replaced.is_none() && size <= self.gathered {
            return Ok(Step::Pass(whole));
        }
        let original = replaced.is_some().then(|| payload.to_vec());
        let (mut bytes, flaw, identity) = match replaced {
            Some(header::Replaced { payload, flaw, identity }) => (payload, flaw, identity),
            None => (payload.to_vec(), None, None),
        };
        let note = Note { place, flaw, identity, original };
        if size <= self.gathered {
            let bytes = frame(HEADER, channel, &bytes);
            return Ok(Step::Give { of: whole, bytes, note: Some(note) });
        }
        header::without_body(&mut bytes);
        self.diverted.insert(channel, size);
        let bytes = frame(HEADER, channel, &bytes);
        Ok(Step::Divert { of: whole, bytes, channel, size, note })
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    // It is shorter than the frame that it takes the place of.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[kind], &channel.to_be_bytes()[..], &length, payload, &[END]].concat()
}

/// The field `version` (a long string) of the server's properties, which stand after the protocol's version.
fn version_in(arguments: &[u8]) -> Option<Version> {
    let (properties, _) = super::table::long(arguments.get(2..)?).ok()?;
    let mut entries = super::table::Entries::of(properties).flatten();
    let version = entries.find(|entry| entry.name == b"version")?;
    let (text, _) = super::table::long(version.value.strip_prefix(b"S")?).ok()?;
    Version::parse(std::str::from_utf8(text).ok()?)
}

/// What comes of the bytes of a broker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// What the client library is given.
    pub given: Vec<u8>,
    /// The pieces of bodies that were not gathered.
    pub aside: Vec<u8>,
    /// Why the connection would have ended.
    pub broken: Option<String>,
    notes: Vec<Note>,
}

/// What comes of all bytes that a broker has sent, received in pieces of so many. For fuzzers and benchmarks: a worker's
/// connections take what comes as it comes. Bodies of more than `gathered` bytes go aside.
pub fn filtered(received: &[u8], piece: usize, gathered: u64) -> Filtered {
    let mut filter = Filter::new(super::FRAME, gathered, Box::new(|_| true));
    let mut seen = Filtered::default();
    seen.broken = take_all(&mut filter, received, piece.max(1), &mut seen).err();
    seen
}

fn take_all(
    filter: &mut Filter,
    received: &[u8],
    piece: usize,
    seen: &mut Filtered,
) -> Result<(), String> {
    let mut waiting: HashMap<u16, Vec<u8>> = HashMap::new();
    let (mut start, mut end) = (0, 0);
    loop {
        let step = filter.step(&received[start..end])?;
        let of = match step {
            Step::Need(_) if end == received.len() => return Ok(()),
            Step::Need(_) => {
                end = (end + piece).min(received.len());
                0
            }
            Step::Pass(of) => {
                seen.given.extend(&received[start..start + of]);
                of
            }
            Step::Skip(of) => of,
            Step::Give { of, bytes, note } => {
                seen.given.extend(bytes);
                seen.notes.extend(note);
                of
            }
            Step::Divert { of, bytes, channel, note, .. } => {
                waiting.insert(channel, bytes);
                seen.notes.push(note);
                of
            }
            Step::Piece { of, .. } => {
                seen.aside.extend(&received[start..start + of]);
                of
            }
            Step::Closed { of, bytes, channel } => {
                waiting.remove(&channel);
                seen.given.extend(bytes);
                of
            }
            Step::Ended { .. } => 0,
        };
        start += of;
        while let Some(Step::Ended { channel }) = filter.ended() {
            seen.given.extend(waiting.remove(&channel).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_speaks_tls_is_told_as_that() {
        let alert = [21, 3, 3, 0, 2, 2, 10];
        let mut filter = Filter::new(4_096, 1_000, Box::new(|_| true));
        assert!(matches!(filter.step(&alert[..1]), Ok(Step::Need(_))));
        let told = filter.step(&alert).err().unwrap();
        assert!(told.contains("amqps://") && told.contains("5672"), "{told}");
    }

    /// What comes of bytes that follow the first frame.
    fn run(input: &[u8], size: usize) -> Filtered {
        let first = frame(METHOD, 0, &[0, 10, 0, 51]);
        let mut seen = filtered(&[&first, input].concat(), size, 1_000);
        assert_eq!(seen.given.drain(..first.len()).collect::<Vec<_>>(), first);
        seen
    }

    fn deliver(channel: u16, tag: u64, key: &[u8]) -> Vec<u8> {
        let short = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()], text].concat();
        let id = [0, 60, 0, 60];
        let payload =
            [&id[..], &short(b"t"), &tag.to_be_bytes(), &[0], &short(b""), &short(key)].concat();
        frame(METHOD, channel, &payload)
    }

    fn header(channel: u16, size: u64, headers: &[u8]) -> Vec<u8> {
        let length = u32::try_from(headers.len()).unwrap().to_be_bytes();
        let payload =
            [b"\0\x3c\0\0", &size.to_be_bytes()[..], &[0x20, 0], &length, headers].concat();
        frame(HEADER, channel, &payload)
    }

    #[test]
    fn what_the_library_can_read_passes_unchanged_in_pieces_of_any_size() {
        let message = |channel, tag| {
            [
                deliver(channel, tag, b"k"),
                header(channel, 5, b"\x01aV"),
                frame(BODY, channel, b"hello"),
            ]
            .concat()
        };
        let all = [message(1, 1), ALIVE.to_vec(), message(2, 1), message(1, 2)].concat();
        for size in [1, 2, 7, 13, 1_000] {
            let seen = run(&all, size);
            assert_eq!(seen, Filtered { given: all.clone(), ..Filtered::default() }, "{size}");
        }
    }

    #[test]
    fn a_body_that_is_too_long_goes_aside_and_its_message_comes_after_it_without_one() {
        let body = [b'x'; 2_000];
        let all = [
            deliver(1, 7, b"k"),
            header(1, 2_000, b""),
            frame(BODY, 1, &body[..1_500]),
            // Another channel's comes between.
            deliver(2, 1, b"k"),
            header(2, 0, b""),
            frame(BODY, 1, &body[1_500..]),
            ALIVE.to_vec(),
        ]
        .concat();
        let given = [
            deliver(1, 7, b"k"),
            deliver(2, 1, b"k"),
            header(2, 0, b""),
            header(1, 0, b""),
            ALIVE.to_vec(),
        ];
        for size in [1, 100, 10_000] {
            let seen = run(&all, size);
            assert_eq!(seen.given, given.concat(), "{size}");
            assert_eq!(seen.aside, body);
            assert_eq!(seen.notes[0].place, Some((1, 7)));
        }
    }

    #[test]
    fn what_cannot_be_read_is_replaced_and_noted_at_its_delivery() {
        let all = [deliver(3, 9, b"\xff"), header(3, 0, b"\x01\xffV")].concat();
        let seen = run(&all, 1_000);
        assert_eq!(seen.given, [deliver(3, 9, b"not UTF-8"), header(3, 0, b"")].concat());
        let note = &seen.notes[0];
        assert!(note.place == Some((3, 9)) && note.flaw.is_some() && note.original.is_some());
    }

    #[test]
    fn frames_that_are_none_end_the_connection_in_words() {
        for (bytes, told) in [
            (&b"\x07\0\0\0\0\0\0\xce"[..], "unknown type 7"),
            (b"\x08\0\0\0\0\0\0!", "without its end"),
            (b"\x03\0\x01\0\0\0\0!", "without its end"),
            (b"\x01\0\0\xff\xff\xff\xff", "4294967295 bytes"),
        ] {
            let error = run(bytes, 1_000).broken.unwrap();
            assert!(error.contains(told), "{error}");
        }
        let fresh = filtered(b"HTTP/1.1 400", 4, 0).broken.unwrap();
        assert!(fresh.contains("it says \"HTTP\""), "{fresh}");
    }
}

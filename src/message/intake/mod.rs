//! What does a message ask for? Reads a message of any origin (properties, headers, body) into a [`Request`], or into
//! everything that is wrong with it and as much of the request as could be read.

mod body;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::contract::{Rules, Violation};
use crate::core::{Rare, Request, RowNumber, Run, Shared, Sparse, Text, Trace};
use crate::message::{bug, headers};

use body::Body;

/// A message without its protocol. Its texts are borrowed where they stand in one piece in what was received.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    pub message_id: Option<Cow<'a, str>>,
    /// When it was published, as the publisher says.
    pub timestamp: Option<Timestamp>,
    /// The protocol's coarse priority; never trusted, so never read here.
    pub priority: Option<u8>,
    /// The headers `x-sluice-*`, `traceparent` and `tracestate`, as text.
    pub headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    pub body: Bytes,
    /// The property of that name.
    pub content_encoding: Option<Cow<'a, str>>,
    /// What cannot be read of the message at all, in words: such a message is invalid, whatever else it says.
    pub flaw: Option<Cow<'a, str>>,
    /// Where its id or a header of its run cannot be read: what is the same whenever this message comes.
    pub identity: Option<[u8; 32]>,
    /// Its body is longer than any that may be sent, and was not gathered.
    pub beyond: Option<Beyond>,
}

/// What is known of a body that was not gathered.
#[derive(Clone, Copy, Debug)]
pub struct Beyond {
    /// How many bytes it has.
    pub len: u64,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

impl Message<'_> {
    fn digest(&self) -> [u8; 32] {
        self.beyond.map_or_else(|| Sha256::digest(&self.body).into(), |beyond| beyond.digest)
    }
}

/// What was read of a message.
#[derive(Clone, Debug)]
pub struct Intake {
    /// All that could be read; unknown texts are empty where there are violations.
    pub request: Request,
    /// Empty: the request may be sent. Those of the headers first, then those of the body.
    pub violations: Vec<Violation>,
    /// Rules of the page that real use breaks without harm.
    pub warnings: Vec<Violation>,
    /// What a panic said while it was read: a bug in this program, and nobody knows what the message asks for.
    pub bug: Option<String>,
}

/// Any fixed UUID serves as a name space; changing it would give messages without an id another one.
const ID_SPACE: Uuid = Uuid::from_u128(0x9d6a_11f2_5c0e_4b5d_8f0f_2f77_6c1b_30aa);

/// The longest piece of a header that a violation quotes, in characters.
const QUOTED: usize = 80;

/// Reads a message. Never panics, and looks at the body once for its digest and once for its contents.
pub fn read(message: &Message<'_>, rules: &Rules) -> Intake {
    let digest = message.digest();
    caught(|| read_all(message, digest, rules))
        .unwrap_or_else(|text| unreadable(message, &digest, text))
}

/// Reads with `read` what may know more of the message than `bare` does.
///
/// # Errors
/// It panicked: what is known without it.
pub(crate) fn guarded<'a, T>(
    bare: impl FnOnce() -> Message<'a>,
    read: impl FnOnce() -> T,
) -> Result<T, Box<Intake>> {
    caught(read).map_err(|text| {
        let message = bare();
        let digest = message.digest();
        Box::new(unreadable(&message, &digest, text))
    })
}

/// The one place where a panic of reading is caught: it belongs to the message, not to the lane that it came on.
fn caught<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(read)).map_err(|panic| bug::text(&*panic))
}

/// What is known without the body: the headers are read once more, each for itself, as far as they can be. The batch
/// and the number of the replay are what a reviewer, a planner and the result go by.
fn unreadable(message: &Message<'_>, digest: &[u8; 32], text: String) -> Intake {
    let id = id_of(message, digest);
    tracing::error!(request.id = &*id.get(), panic = %text, "reading a message panicked: this is a bug in sluice");
    let mut headers = Headers { texts: &message.headers, violations: Vec::new() };
    let batch = caught(|| headers.batch()).ok().flatten();
    let batch_run = caught(|| headers.parsed(headers::BATCH_RUN, "")).ok().flatten();
    let row = caught(|| headers.parsed(headers::ROW, "")).ok().flatten();
    let replay = caught(|| headers.parsed(headers::REPLAY, "")).ok().flatten().unwrap_or(0);
    let enqueued_at = caught(|| headers.parsed(headers::ENQUEUED_AT, "")).ok().flatten();
    let enqueued_at = enqueued_at.or(message.timestamp);
    let request = Request {
        run: Run::of(&id.get(), digest, enqueued_at, replay),
        id,
        name: Text::default(),
        source_server_id: Text::default(),
        target_vm_id: None,
        shared: Arc::new(Shared { batch, batch_run, ..Shared::default() }),
        row: RowNumber::from(row),
        priority: 1,
        enqueued_at: enqueued_at.into(),
        rare: Sparse::new(Rare { replay, ..Rare::default() }),
        starts: true,
        bytes: length(message),
        ..Request::default()
    };
    let violation = Violation {
        pointer: String::new(),
        found: format!("a panic: {text}"),
        allowed: "a message that this version of sluice can read; report the bug".into(),
    };
    Intake { request, violations: vec![violation], warnings: Vec::new(), bug: Some(text) }
}

fn id_of(message: &Message<'_>, digest: &[u8; 32]) -> Text {
    if let Some(identity) = &message.identity {
        return Uuid::new_v5(&ID_SPACE, &[*identity, *digest].concat()).to_string().into();
    }
    match message.message_id.as_deref() {
        Some(id) if !id.is_empty() => id.into(),
        _ => derived_id(digest),
    }
}

fn length(message: &Message<'_>) -> u32 {
    let gathered = message.body.len() as u64;
    let len = message.beyond.map_or(gathered, |beyond| beyond.len);
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn read_all(message: &Message<'_>, digest: [u8; 32], rules: &Rules) -> Intake {
    let mut headers = Headers { texts: &message.headers, violations: Vec::new() };
    let batch = headers.batch();
    let batch_run = headers.parsed(headers::BATCH_RUN, "a UUID");
    let enqueued_at = headers.parsed(headers::ENQUEUED_AT, RFC_3339);
    let row = headers.parsed(headers::ROW, "a whole number from 0");
    let not_before = headers.parsed(headers::NOT_BEFORE, RFC_3339);
    let deadline = headers.parsed(headers::DEADLINE, RFC_3339);
    let priority: Option<u16> = headers.parsed(headers::PRIORITY, "a whole number from 0 to 65535");
    let replay =
        headers.parsed(headers::REPLAY, "a whole number from 0 to 4294967295").unwrap_or(0);
    let again = headers.parsed(headers::AGAIN, "true or false").unwrap_or(false);
    let never_sent = headers.parsed(headers::NEVER_SENT, "true or false").unwrap_or(false);
    let trace = headers.trace();
    let mut violations: Vec<_> = message.flaw.as_deref().map(flawed).into_iter().collect();
    violations.append(&mut headers.violations);
    let body = Body::of(message, rules);
    violations.extend(body.violations);

    let id = id_of(message, &digest);
    let enqueued_at = enqueued_at.or(message.timestamp);
    let request = Request {
        run: Run::of(&id.get(), &digest, enqueued_at, replay),
        id,
        name: body.name,
        source_server_id: body.source_server_id,
        target_vm_id: body.target_vm_id,
        shared: Arc::new(Shared {
            project_id: body.project_id,
            region_id: body.region_id,
            batch,
            batch_run,
        }),
        row: RowNumber::from(row),
        priority: priority.unwrap_or(body.priority),
        enqueued_at: enqueued_at.into(),
        rare: Sparse::new(Rare {
            not_before,
            deadline,
            replay,
            again,
            // It waives the doubt of a replay, and means nothing without one.
            never_sent: never_sent && replay > 0,
            ..Rare::default()
        }),
        starts: body.starts,
        bytes: length(message),
        ..Request::default()
    }
    .with_trace(trace);
    Intake { request, violations, warnings: body.warnings, bug: None }
}

/// A message that the broker's protocol does not allow, or that nests without end. Its body may be as good as any.
fn flawed(flaw: &str) -> Violation {
    Violation {
        pointer: "headers".to_owned(),
        found: format!("a message that cannot be read: {flaw}"),
        allowed: "properties and headers whose names and texts are UTF-8, with arrays and tables in each other 32 deep at most; a replay sends it without what cannot be read".to_owned(),
    }
}

/// The message id of a message that has none: the same for the same body.
fn derived_id(body_sha256: &[u8; 32]) -> Text {
    Uuid::new_v5(&ID_SPACE, body_sha256).to_string().into()
}

/// Whether this may be the id of a batch: it stands in routing keys, metric labels and paths.
pub fn is_batch_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

const RFC_3339: &str = "a time as RFC 3339, such as 2026-01-31T12:00:00.000Z";

struct Headers<'a> {
    texts: &'a BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    violations: Vec<Violation>,
}

impl Headers<'_> {
    fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, allowed: &str) -> Option<T> {
        let text = self.texts.get(name)?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            self.violate(name, allowed);
        }
        parsed
    }

    fn batch(&mut self) -> Option<Box<str>> {
        let text = self.texts.get(headers::BATCH)?;
        if is_batch_id(text) {
            return Some((&**text).into());
        }
        self.violate(headers::BATCH, "1 to 64 of the characters A-Z a-z 0-9 _ -");
        None
    }

    /// A broken trace context is ignored, as W3C asks of whoever reads one: it must not cost a request its life.
    fn trace(&self) -> Option<Trace> {
        let parent = self.texts.get(headers::TRACEPARENT)?;
        Trace::parse(parent, self.texts.get(headers::TRACESTATE).map(|text| &**text))
    }

    fn violate(&mut self, name: &str, allowed: &str) {
        let text = self.texts.get(name).map_or("", |text| &**text);
        let found = text.chars().take(QUOTED).collect::<String>();
        let more = if text.chars().nth(QUOTED).is_some() { "…" } else { "" };
        self.violations.push(Violation {
            pointer: format!("header {name}"),
            found: format!("{found:?}{more}"),
            allowed: allowed.into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(headers: &[(&'a str, &'a str)]) -> Message<'a> {
        Message {
            headers: headers.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
            body: Bytes::from_static(b"{}"),
            ..Message::default()
        }
    }

    fn of_headers(intake: &Intake) -> Vec<&str> {
        let pointers = intake.violations.iter().map(|violation| violation.pointer.as_str());
        pointers.filter(|pointer| pointer.starts_with("header ")).collect()
    }

    #[test]
    fn every_header_is_read() {
        let intake = read(
            &message(&[
                (headers::BATCH, "wave-7_A"),
                (headers::BATCH_RUN, "6a6f2f4e-8c55-4a0e-9d5b-51c1ce6a7e00"),
                (headers::ENQUEUED_AT, "2026-01-31T12:00:00.123+08:00"),
                (headers::ROW, "17"),
                (headers::NOT_BEFORE, "2026-02-01T00:00:00Z"),
                (headers::DEADLINE, "2026-02-02T00:00:00Z"),
                (headers::PRIORITY, "65535"),
                (headers::REPLAY, "2"),
                (headers::AGAIN, "true"),
                (headers::TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                (headers::TRACESTATE, "a=b"),
            ]),
            &Rules::default(),
        );
        assert_eq!(of_headers(&intake), Vec::<&str>::new());
        let request = intake.request;
        assert_eq!(request.batch(), Some("wave-7_A"));
        let generation = request.batch_run().unwrap().to_string();
        assert_eq!(generation, "6a6f2f4e-8c55-4a0e-9d5b-51c1ce6a7e00");
        assert_eq!(request.enqueued_at.get().unwrap().to_string(), "2026-01-31T04:00:00.123Z");
        assert_eq!(
            (request.row.get(), request.priority, request.rare.replay, request.rare.again),
            (Some(17), 65535, 2, true)
        );
        assert_eq!(request.rare.not_before.unwrap().to_string(), "2026-02-01T00:00:00Z");
        assert_eq!(request.rare.deadline.unwrap().to_string(), "2026-02-02T00:00:00Z");
        let trace = request.trace().unwrap();
        assert_eq!((trace.parent().len(), trace.state()), (55, Some("a=b")));
    }

    #[test]
    fn each_bad_header_is_a_violation_that_names_it_and_what_is_allowed() {
        let long = "x".repeat(65);
        for (name, text) in [
            (headers::BATCH, ""),
            (headers::BATCH, "with space"),
            (headers::BATCH, "ümlaut"),
            (headers::BATCH, long.as_str()),
            (headers::BATCH_RUN, "second"),
            (headers::ENQUEUED_AT, "yesterday"),
            (headers::ENQUEUED_AT, "2026-13-01T00:00:00Z"),
            (headers::ROW, "-1"),
            (headers::ROW, "1.5"),
            (headers::NOT_BEFORE, "12:00"),
            (headers::DEADLINE, "soon"),
            (headers::PRIORITY, "65536"),
            (headers::PRIORITY, "high"),
            (headers::REPLAY, "two"),
            (headers::REPLAY, "4294967296"),
            (headers::AGAIN, "perhaps"),
        ] {
            let intake = read(&message(&[(name, text)]), &Rules::default());
            assert_eq!(of_headers(&intake), [format!("header {name}")], "{name}: {text}");
            assert!(!intake.violations[0].allowed.is_empty());
        }
    }

    #[test]
    fn all_bad_headers_are_told_at_once() {
        let bad = [
            (headers::BATCH, "?"),
            (headers::ROW, "?"),
            (headers::PRIORITY, "?"),
            (headers::DEADLINE, "?"),
        ];
        assert_eq!(of_headers(&read(&message(&bad), &Rules::default())).len(), 4);
    }

    #[test]
    fn a_long_header_is_quoted_in_short() {
        let intake = read(&message(&[(headers::ROW, &"9".repeat(10_000))]), &Rules::default());
        assert!(intake.violations[0].found.len() < 100);
    }

    #[test]
    fn a_message_without_an_id_gets_one_from_its_body() {
        let (first, again) =
            (read(&message(&[]), &Rules::default()), read(&message(&[]), &Rules::default()));
        assert_eq!(first.request.id, again.request.id);
        let other = Message {
            body: Bytes::from_static(b"{ }"),
            message_id: Some("".into()),
            ..Message::default()
        };
        assert_ne!(first.request.id, read(&other, &Rules::default()).request.id);
        let named = Message { message_id: Some("17".into()), ..message(&[]) };
        assert_eq!(read(&named, &Rules::default()).request.id, "17");
    }

    #[test]
    fn a_run_is_another_for_another_body_time_or_replay() {
        let run = |headers: &[(&str, &str)], body: &'static [u8]| {
            let message = Message {
                message_id: Some("1".into()),
                body: Bytes::from_static(body),
                ..message(headers)
            };
            read(&message, &Rules::default()).request.run
        };
        let first = run(&[], b"{}");
        assert_eq!(first, run(&[], b"{}"));
        assert_ne!(first, run(&[], b"{ }"));
        assert_ne!(first, run(&[(headers::REPLAY, "1")], b"{}"));
        assert_ne!(first, run(&[(headers::ENQUEUED_AT, "2026-01-31T12:00:00Z")], b"{}"));
    }

    #[test]
    fn the_time_of_enqueueing_is_the_header_else_the_timestamp() {
        let stamped =
            Message { timestamp: Timestamp::from_second(1_700_000_000).ok(), ..message(&[]) };
        assert_eq!(read(&stamped, &Rules::default()).request.enqueued_at.get(), stamped.timestamp);
        let both = Message {
            timestamp: stamped.timestamp,
            ..message(&[(headers::ENQUEUED_AT, "2026-01-31T12:00:00Z")])
        };
        assert_eq!(
            read(&both, &Rules::default()).request.enqueued_at.get().unwrap().to_string(),
            "2026-01-31T12:00:00Z"
        );
    }

    #[test]
    fn a_panic_while_reading_is_this_messages_alone_and_keeps_its_identity() {
        let headers = [
            (headers::REPLAY, "1"),
            (headers::BATCH, "wave-7"),
            (headers::ROW, "3"),
            (headers::PRIORITY, "?"),
        ];
        let message = Message {
            message_id: Some("17".into()),
            timestamp: Timestamp::from_second(1_700_000_000).ok(),
            ..message(&headers)
        };
        let panicked = || -> Intake { panic!("at byte {}", 3) };
        let intake = guarded(|| message.clone(), panicked).unwrap_err();
        assert_eq!(intake.bug.as_deref(), Some("at byte 3"));
        assert!(intake.violations[0].found.contains("at byte 3"), "a reviewer is told too");
        let read = read(&message, &Rules::default());
        assert!(read.bug.is_none());
        let known = |intake: &Intake| {
            let Request { run, id, shared, row, rare, enqueued_at, bytes, .. } = &intake.request;
            (*run, id.clone(), shared.batch.clone(), *row, rare.replay, *enqueued_at, *bytes)
        };
        assert_eq!(
            known(&intake),
            known(&read),
            "the same run, batch and replay as if it had been read"
        );
        assert_eq!((intake.request.batch(), intake.request.rare.replay), (Some("wave-7"), 1));
    }

    #[test]
    fn a_broken_trace_context_is_ignored() {
        for text in
            ["", "00-0-0-0", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "nonsense"]
        {
            let intake = read(&message(&[(headers::TRACEPARENT, text)]), &Rules::default());
            assert!(intake.request.trace().is_none() && of_headers(&intake).is_empty(), "{text}");
        }
    }
}

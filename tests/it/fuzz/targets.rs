//! What no input may do: panic, or get something past the rules. One function a target, of any bytes; they serve
//! `cargo fuzz` (in `fuzz/`) and the bounded run of the tests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use amq_protocol::frame::parse_frame;
use bytes::Bytes;
use jiff::tz::TimeZone;
use sluicegate::api::verdict_of;
use sluicegate::broker::{Filtered, filtered};
use sluicegate::contract::{self, Rules};
use sluicegate::core::Verdict;
use sluicegate::lane::{self, Given};
use sluicegate::message::headers;
use sluicegate::message::intake::{self, Message};
use sluicegate::plan;

/// A body: what is accepted is accepted again, and what is refused is refused with a reason.
pub(crate) fn body(data: &[u8]) {
    let message = Message { body: Bytes::copy_from_slice(data), ..Message::default() };
    let read = intake::read(&message, &Rules::default());
    assert_eq!(read.violations.is_empty(), contract::read(data, &Rules::default()).is_ok());
    let again = intake::read(&message, &Rules::default());
    assert_eq!(read.request.run, again.request.run, "a body has one identity");
    for violation in &read.violations {
        assert!(
            violation.pointer.is_empty() || violation.pointer.starts_with('/'),
            "{violation:?}"
        );
    }
}

/// Headers, a line each, `name: value`; what could not be read is a violation and never a guess.
pub(crate) fn headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let headers: BTreeMap<Cow<'_, str>, Cow<'_, str>> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let message = Message {
        message_id: headers.get("id").cloned(),
        headers,
        body: Bytes::from_static(BODY),
        ..Message::default()
    };
    let read = intake::read(&message, &Rules::default());
    if let (Some(text), Some(priority)) =
        (message.headers.get(headers::PRIORITY), text.lines().next())
        && read.violations.is_empty()
    {
        let asked = text.trim().parse::<u16>();
        assert_eq!(asked.ok(), Some(read.request.priority), "{priority}");
    }
}

const BODY: &[u8] = include_bytes!("../../data/create-task-example.json");

/// A plan: the first byte says in which format. A row that is valid is a body that the contract takes.
pub(crate) fn plan(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let format = match kind % 6 {
        0 => plan::Format::Csv,
        1 => plan::Format::Jsonl,
        2 => plan::Format::Json,
        3 => plan::Format::Xlsx,
        4 => plan::Format::Xls,
        _ => plan::Format::Ods,
    };
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), data).expect("it can be written");
    let options =
        plan::Options { format: Some(format), zone: TimeZone::UTC, ..plan::Options::default() };
    let plan = match plan::open(file.path(), &options) {
        Ok(plan) => plan,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for row in plan {
        match row {
            Ok(row) if row.read.is_ok() => {
                contract::read(&row.body, &Rules::default()).expect("what is sent is valid");
            }
            Ok(row) => assert!(!row.set_aside().is_empty()),
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
}

/// A sheet: the first byte says of what. Packed formats get the bytes as a part, so that what is tried is the reading of
/// sheets, not the unpacking. The rows add up, and marking the plan breaks nothing either.
pub(crate) fn sheet(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    let (format, bytes) = match kind % 6 {
        0 => (plan::Format::Csv, data.to_vec()),
        1 => (plan::Format::Xlsx, xlsx("xl/worksheets/sheet1.xml", data)),
        2 => (plan::Format::Xlsx, xlsx("xl/sharedStrings.xml", data)),
        3 => (plan::Format::Xlsx, xlsx("xl/styles.xml", data)),
        4 => (plan::Format::Xls, data.to_vec()),
        _ => (plan::Format::Ods, ods(data)),
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (file, marked) = (dir.path().join("plan"), dir.path().join("marked.xlsx"));
    std::fs::write(&file, bytes).expect("it can be written");
    let options = plan::Options {
        format: Some(format),
        zone: TimeZone::UTC,
        hidden: Some(plan::Hidden::SkipRows),
        ..plan::Options::default()
    };
    let mut plan = match plan::open(&file, &options) {
        Ok(plan) => plan,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let (mut check, mut last) = (plan::Check::new(), 0);
    for row in plan.by_ref() {
        let mut row = match row {
            Ok(row) => row,
            Err(error) => return assert!(!error.to_string().is_empty()),
        };
        if row.read.is_ok() {
            contract::read(&row.body, &Rules::default()).expect("what is sent is valid");
        }
        assert!(row.number > last, "rows come in their order");
        last = row.number;
        check.add(&mut row);
    }
    let report = check.finish(plan.ending());
    assert!(report.rows + report.other.rows() >= last, "the rows add up");
    for finding in report.findings.iter().chain(&report.warnings) {
        assert!(!finding.to_string().contains('\u{1b}'), "{finding:?}");
    }
    let mut out = tempfile::tempfile().unwrap();
    if let Err(error) = plan::mark(&file, &options, &report, &marked, &mut out) {
        assert!(!error.to_string().is_empty());
    }
}

const SHEET: &[u8] = include_bytes!("../../data/sheet/parts/sheet1.xml");
const STRINGS: &[u8] = include_bytes!("../../data/sheet/parts/sharedStrings.xml");
const STYLES: &[u8] = include_bytes!("../../data/sheet/parts/styles.xml");

fn packed(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let plain =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in parts {
        zip.start_file(*name, plain).expect("a part");
        std::io::Write::write_all(&mut zip, bytes).expect("a part");
    }
    zip.finish().expect("an archive").into_inner()
}

/// A workbook with these bytes as one of its parts.
fn xlsx(part: &str, data: &[u8]) -> Vec<u8> {
    const TYPES: &[u8] = b"<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"><Default Extension=\"xml\" ContentType=\"application/xml\"/></Types>";
    const ROOT: &[u8] = b"<Relationships><Relationship Id=\"r\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>";
    const BOOK: &[u8] = b"<workbook xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets><sheet name=\"Plan\" sheetId=\"1\" r:id=\"a\"/></sheets><calcPr fullCalcOnLoad=\"1\"/></workbook>";
    const RELATIONS: &[u8] = b"<Relationships><Relationship Id=\"a\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet1.xml\"/><Relationship Id=\"b\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings\" Target=\"sharedStrings.xml\"/><Relationship Id=\"c\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles\" Target=\"styles.xml\"/></Relationships>";
    let parts = [
        ("[Content_Types].xml", TYPES),
        ("_rels/.rels", ROOT),
        ("xl/workbook.xml", BOOK),
        ("xl/_rels/workbook.xml.rels", RELATIONS),
        ("xl/worksheets/sheet1.xml", SHEET),
        ("xl/sharedStrings.xml", STRINGS),
        ("xl/styles.xml", STYLES),
    ];
    packed(&parts.map(|(name, bytes)| (name, if name == part { data } else { bytes })))
}

fn ods(content: &[u8]) -> Vec<u8> {
    packed(&[
        ("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", b"<manifest:manifest/>"),
        ("content.xml", content),
    ])
}

/// An answer of the API: two bytes of status, one line of `Retry-After`, the body. Only a success creates, no wait is
/// longer than an hour, and no text of a server can move a cursor or fill a log.
pub(crate) fn answer(data: &[u8]) {
    let Some((status, rest)) = data.split_first_chunk() else { return };
    let status = 100 + u16::from_be_bytes(*status) % 500;
    let (retry_after, body) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => (std::str::from_utf8(&rest[..end]).ok(), &rest[end + 1..]),
        None => (None, rest),
    };
    let verdict = verdict_of(status, retry_after, Bytes::copy_from_slice(body));
    match &verdict {
        Verdict::Created { task_id } => {
            assert!((200..300).contains(&status) && !task_id.is_empty(), "{status} {verdict:?}");
        }
        Verdict::Throttled { wait, .. } => {
            assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(3600)), "{verdict:?}");
        }
        _ => {}
    }
    if let Some(fault) = verdict.fault() {
        let mut told = String::new();
        let _ = write!(told, "{fault}");
        for detail in &fault.details {
            told.push_str(&detail.error_msg);
        }
        assert!(told.len() < 500_000 && !told.contains('\u{1b}'), "{} bytes", told.len());
    }
}

/// A configuration file: loaded, or refused in words.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let given = Given { file: None, env: &BTreeMap::new(), overrides: &[], needs_api: true };
    match lane::load_text(Some(("fuzz.toml", text)), &given) {
        Ok(loaded) => assert!(loaded.show().contains("[broker]")),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

/// What a broker sends: two bytes say how it comes, the rest is what comes, as it is or as the payloads of frames. Whatever
/// is given to the client library it can parse, and what it could have parsed by itself is given to it as it was.
pub(crate) fn wire(data: &[u8]) {
    let Some((&[how, piece], rest)) = data.split_first_chunk() else { return };
    let received = if how & 1 == 0 { rest.to_vec() } else { frames(rest) };
    let gathered = if how & 2 == 0 { 64 } else { 1 << 20 };
    let seen = filtered(&received, usize::from(piece) + 1, gathered);
    let mut given = seen.given.as_slice();
    while !given.is_empty() {
        match parse_frame(given) {
            Ok((rest, _)) => given = rest,
            Err(error) => {
                assert!(
                    error.is_incomplete(),
                    "the client library was given what it cannot parse: {error:?}"
                );
                break;
            }
        }
    }
    let again = filtered(&seen.given, 1 << 20, 1 << 20);
    assert_eq!(again.given, seen.given, "what is given needs nothing more");
    let whole = filtered(&received, 1 << 20, gathered);
    // A body that is longer than it says is told of where that shows.
    let told = |seen: &Filtered| match seen.broken {
        None => (seen.given.clone(), seen.aside.clone(), false),
        Some(_) => (seen.given.clone(), Vec::new(), true),
    };
    assert_eq!(told(&whole), told(&seen), "it is the same in pieces of any size");
    alone(rest);
}

/// Frames of these payloads: a byte for its type, one for its channel, two for its length.
fn frames(mut payloads: &[u8]) -> Vec<u8> {
    let mut frames = frame(1, 0, FIRST);
    while let Some((&[kind, channel, high, low], rest)) = payloads.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        frames.extend(frame(1 + kind % 3, channel % 4, &rest[..length]));
        payloads = &rest[length..];
    }
    frames
}

/// `connection.close-ok`: any method serves as a beginning.
const FIRST: &[u8] = &[0, 10, 0, 51];

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&[kind, 0, channel], &length[..], payload, &[0xce]].concat()
}

/// A method and a content header of this payload. What is so short cannot nest as deep as to be refused for that.
fn alone(payload: &[u8]) {
    if payload.len() > 150 {
        return;
    }
    for kind in [1, 2] {
        let (first, one) = (frame(1, 0, FIRST), frame(kind, 1, payload));
        let both = [first, one.clone()].concat();
        let seen = filtered(&both, 1 << 20, u64::MAX);
        if parse_frame(one.as_slice()).is_ok() {
            assert_eq!(seen.given, both, "what can be parsed is given as it is: {:?}", seen.broken);
        }
    }
}

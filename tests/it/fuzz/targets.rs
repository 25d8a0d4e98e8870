//! What no input may do: panic, or get something past the rules. One function a target, of any bytes; they serve
//! `cargo fuzz` (in `fuzz/`) and the bounded run of the tests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use jiff::tz::TimeZone;
use sluicegate::api::verdict_of;
use sluicegate::config::{self, Given};
use sluicegate::contract::{self, Rules};
use sluicegate::core::Verdict;
use sluicegate::intake::{self, Message};
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
        (message.headers.get(intake::header::PRIORITY), text.lines().next())
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
    match config::load_text(Some(("fuzz.toml", text)), &given) {
        Ok(loaded) => assert!(loaded.show().contains("[broker]")),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

//! What is a body like that its page allows and the API is known to refuse, or that cannot be meant? Ids that nobody can
//! see are refused; the rest is worth a warning.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::cell::Refused;
use super::clean;
use crate::contract::shown;

/// What is looked at, where it is there and of its type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names, reason = "the names of the contract")]
struct Task<'a> {
    #[serde(borrow, rename = "type")]
    task_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    os_type: Option<Cow<'a, str>>,
    exist_server: Option<bool>,
    #[serde(borrow)]
    vm_template_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target_server: Target<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Target<'a> {
    #[serde(borrow)]
    vm_id: Option<Cow<'a, str>>,
    disks: Option<Vec<Disk>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Disk {
    size: Option<serde_json::Number>,
}

/// What there is to say of a body, each with its place.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    pub refused: Vec<(String, Refused)>,
    pub doubted: Vec<(String, Refused)>,
}

/// A disk of fewer bytes is one whose size was given in gigabytes.
const LEAST_BYTES: u64 = 1 << 20;

/// Looks at a body that the contract accepts.
pub(super) fn of(body: &[u8]) -> Doubts {
    let mut doubts = Doubts::default();
    // one that cannot be read like this has been judged by the contract already
    let Ok(task) = serde_json::from_slice::<Task<'_>>(body) else { return doubts };
    if let Ok(all) = serde_json::from_slice(body) {
        ids(&all, &mut String::new(), &mut doubts);
    }
    let mut doubt = |pointer: &str, found: &str, allowed: &str, advice: &'static str| {
        let refused =
            Refused { found: found.to_owned(), allowed: allowed.to_owned(), advice: advice.into() };
        doubts.doubted.push((pointer.to_owned(), refused));
    };
    let os = task.os_type.as_deref().unwrap_or_default();
    if os.is_empty() {
        doubt(
            "/os_type",
            "no operating system",
            "WINDOWS or LINUX",
            "the API refuses a task without it (SMS.6601): add it",
        );
    }
    if os == "WINDOWS" && task.task_type.as_deref() == Some("MIGRATE_FILE") {
        doubt(
            "/type",
            "MIGRATE_FILE for a Windows server",
            "MIGRATE_BLOCK for Windows",
            "the API refuses it (SMS.6610): use MIGRATE_BLOCK",
        );
    }
    let seen = |id: &Option<Cow<'_, str>>| id.as_deref().is_some_and(clean::is_visible);
    let existing = seen(&task.target_server.vm_id);
    if existing && task.target_server.disks.as_ref().is_none_or(Vec::is_empty) {
        doubt(
            "/target_server/disks",
            "no disks of an existing target server",
            "the disks that it has",
            "the API refuses it (SMS.6033, SMS.6103): name each disk and its disk_id",
        );
    }
    if !existing && !seen(&task.vm_template_id) && task.exist_server != Some(true) {
        doubt(
            "/target_server/vm_id",
            "neither a target server nor a template",
            "target_server.vm_id of an existing server, or vm_template_id for a new one",
            "without one of them there is nothing to migrate to",
        );
    }
    for (at, disk) in task.target_server.disks.iter().flatten().enumerate() {
        let Some(size) = disk.size.as_ref().and_then(serde_json::Number::as_u64) else { continue };
        if (1..LEAST_BYTES).contains(&size) {
            doubt(
                &format!("/target_server/disks/{at}/size"),
                &size.to_string(),
                "the size in bytes",
                "it looks like gigabytes: 40 GB are 42949672960",
            );
        }
    }
    doubts
}

/// Looks at every id, wherever it stands; `at`: the place of the value.
fn ids(value: &Value, at: &mut String, doubts: &mut Doubts) {
    let length = at.len();
    let mut below = |step: &dyn std::fmt::Display, value: &Value, id: bool| {
        let _ = write!(at, "/{step}");
        match value {
            Value::String(text) if id => judge(at, text, doubts),
            Value::Object(_) | Value::Array(_) => ids(value, at, doubts),
            _ => {}
        }
        at.truncate(length);
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| below(name, value, clean::is_id(name)));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| below(&index, item, false));
        }
        _ => {}
    }
}

/// The ids that every request has; the others may be empty, which is as if they were absent.
const NEEDED: [&str; 3] = ["/source_server/id", "/project_id", "/region_id"];

/// An id has at least one character that can be seen, and none that cannot.
fn judge(pointer: &str, id: &str, doubts: &mut Doubts) {
    if id.is_empty() && !NEEDED.contains(&pointer) {
        return;
    }
    let (found, advice) = if id.is_empty() {
        ("an empty id".to_owned(), "fill it in".into())
    } else if !clean::is_visible(id) {
        (format!("{}, an id of blanks", shown(id)), "fill it in".into())
    } else if clean::trim(id) != id {
        (format!("{} with blanks around it", shown(id)), "remove them".into())
    } else {
        match clean::clean(id, true) {
            Ok(clean) => {
                let marked = id.starts_with('#') || id.contains(['"', ';']);
                let marks = marked.then_some("marks that ids do not have");
                if let Some(marks) = clean.taken.or(marks) {
                    let doubt = Refused {
                        found: format!("{} ({marks})", shown(id)),
                        allowed: "an id".to_owned(),
                        advice: "it is sent as it is: remove it if it does not belong to the id"
                            .into(),
                    };
                    doubts.doubted.push((pointer.to_owned(), doubt));
                }
                return;
            }
            Err(unclear) => (format!("{} ({})", shown(id), unclear.found), unclear.advice),
        }
    };
    let allowed =
        "an id with at least one character that can be seen, and none that cannot".to_owned();
    doubts.refused.push((pointer.to_owned(), Refused { found, allowed, advice }));
}

/// Whether a row is what a tool of the vendor's takes: the request inside `body`.
pub(super) fn is_wrapped(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        body: &'a serde_json::value::RawValue,
        name: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Wrapped<'_>>(body)
        .is_ok_and(|wrapped| wrapped.name.is_none() && wrapped.body.get().starts_with('{'))
}

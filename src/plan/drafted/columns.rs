//! Which columns has a drafted table? What a person decides on first, then what is known of the server, then what the API
//! wants of its disks, which nobody reads.

use std::collections::{BTreeMap, BTreeSet};

use super::{Draft, Known, cells, used};
use crate::contract::{self, Part, parts};
use crate::message::headers::NOT_BEFORE;
use crate::plan::columns::by_page;
use crate::plan::settings::SKIP;

/// A note that no person has to write, of the server.
pub(super) const NOTES: [&str; 6] =
    ["# server", "# address", "# os version", "# GiB to copy", "# state", "# checks"];
/// A note for the planner's own use: `--batch-by wave`.
const WAVE: &str = "# wave";

/// What a person decides on, in this order, whether or not it is known.
const DECIDED: [&str; 10] = [
    "priority",
    NOT_BEFORE,
    "type",
    "os_type",
    "region_id",
    "region_name",
    "project_id",
    "project_name",
    "vm_template_id",
    "target_server.name",
];
const VM_ID: &str = "target_server.vm_id";

/// The lists whose elements have columns of their own.
const LISTS: [&str; 3] =
    ["target_server.disks", "target_server.volume_groups", "target_server.btrfs_list"];
/// With more columns than that a list stands in one cell each, as JSON: a spreadsheet ends at 16,384.
const MOST_COLUMNS: usize = 1_000;
/// As many UTF-16 units fit into a cell.
const LONGEST_CELL: usize = 32_767;
const TOO_LONG: &str = "its disks do not fit into the cells of a table: draft it as .jsonl";

/// The headers, and the cells of all rows.
pub(super) struct Columns {
    headers: Vec<String>,
    rows: Vec<BTreeMap<String, String>>,
    /// Headers of which rows lack what they need.
    open: BTreeSet<String>,
}

impl Columns {
    pub(super) fn of(drafts: &[Draft<'_>], open: &BTreeMap<String, usize>) -> Self {
        let mut rows: Vec<_> = drafts.iter().map(cells).collect();
        if used(&rows).len() > MOST_COLUMNS {
            for (row, draft) in rows.iter_mut().zip(drafts) {
                in_one_cell(row, draft);
            }
        }
        let open = open.keys().cloned().collect();
        let headers = headers(&rows, &open);
        Self { headers, rows, open }
    }

    pub(super) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// The texts of each row, in the order of the headers.
    pub(super) fn rows(&self, drafts: &[Draft<'_>]) -> Vec<Vec<String>> {
        let texts = |(row, draft): (&BTreeMap<String, String>, &Draft<'_>)| {
            let notes = notes(draft.server);
            let text = |header: &String| match NOTES.iter().position(|note| note == header) {
                Some(at) => notes[at].clone(),
                None => row.get(header).cloned().unwrap_or_default(),
            };
            self.headers.iter().map(text).collect()
        };
        self.rows.iter().zip(drafts).map(texts).collect()
    }

    /// Whether rows need it and do not have it.
    pub(super) fn is_open(&self, header: &str) -> bool {
        self.open.contains(header)
    }
}

fn headers(rows: &[BTreeMap<String, String>], open: &BTreeSet<String>) -> Vec<String> {
    let used = used(rows);
    let mut headers = vec![SKIP.to_owned(), "name".to_owned()];
    headers.extend(NOTES.map(str::to_owned));
    headers.push(WAVE.to_owned());
    headers.extend(DECIDED.map(str::to_owned));
    headers.push(VM_ID.to_owned());
    let first: BTreeSet<String> = headers.iter().cloned().collect();
    let mut rest: Vec<String> =
        used.into_iter().chain(open).filter(|name| !first.contains(*name)).cloned().collect();
    rest.sort_by(|a, b| is_folded(a).cmp(&is_folded(b)).then_with(|| by_page(a, b)));
    rest.dedup();
    headers.extend(rest);
    headers
}

/// Whether a column is one that nobody reads: ids and disks.
pub(super) fn is_folded(header: &str) -> bool {
    header == "source_server.id" || LISTS.iter().any(|list| header.starts_with(list))
}

/// The page's words for a header.
pub(super) fn about(header: &str) -> (String, String) {
    if let Some(setting) = crate::plan::SETTINGS.iter().find(|setting| setting.name == header) {
        return (setting.about.to_owned(), setting.allowed.to_owned());
    }
    match contract::find(header) {
        Some(rule) => (rule.about.to_owned(), rule.allowed()),
        None if header == WAVE => (
            "For yourself: enqueue --batch-by wave makes a batch of each.".to_owned(),
            "anything".to_owned(),
        ),
        None => (
            "What the account knows of the server: for reading, not sent.".to_owned(),
            String::new(),
        ),
    }
}

/// A list whole, in one cell.
fn in_one_cell(row: &mut BTreeMap<String, String>, draft: &Draft<'_>) {
    let body: serde_json::Value = serde_json::from_slice(&draft.body).unwrap_or_default();
    for list in LISTS {
        let before = row.len();
        row.retain(|name, _| !name.starts_with(list));
        if row.len() == before {
            continue;
        }
        let value = parts(list).try_fold(&body, |value, part| match part {
            Part::Key(name) => value.get(name),
            Part::Index(_) | Part::Each => None,
        });
        let text = value.map(ToString::to_string).unwrap_or_default();
        if text.encode_utf16().count() < LONGEST_CELL {
            row.insert(list.to_owned(), text);
        } else {
            let why = row.entry(SKIP.to_owned()).or_default();
            *why = if why.is_empty() { TOO_LONG.to_owned() } else { format!("{why}; {TOO_LONG}") };
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn notes(server: &Known) -> [String; 6] {
    let size = server.total_size.map(|bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 30)));
    [
        server.name.clone(),
        server.ip.clone(),
        server.os_version.clone(),
        size.unwrap_or_default(),
        server.state.clone(),
        server.checks.clone(),
    ]
}

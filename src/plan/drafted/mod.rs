//! Which plan do an account's source servers make? A row each, with everything that the account knows of it, in the format
//! that was asked for; what only a person knows comes from `--set` and a defaults file, or stays open and is named.
//!
//! A server for which no task can be created now is in the plan all the same: its `x-sluice-skip` says why, and leaves it
//! out until somebody takes that away.

mod book;
mod columns;
mod name;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rust_xlsxwriter::XlsxError;
use serde_json::{Map, Value, json};

use super::again::{self, Returned, Written};
use super::draft::needed_objects;
use super::settings::{RowSettings, SKIP};
use super::shared::SharedFields;
use super::tree::Node;
use super::{Options, PlanError};
use crate::contract::{self, ABSENT, Part, Rules, find, parts};
use columns::Columns;

/// What the account knows of a source server.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub id: String,
    pub name: String,
    pub ip: String,
    pub os_type: String,
    pub os_version: String,
    pub state: String,
    /// Bytes to copy.
    pub total_size: Option<u64>,
    /// In the shapes that `target_server` takes; what it does not know of them is left away.
    pub disks: Vec<Value>,
    pub volume_groups: Vec<Value>,
    pub btrfs_list: Vec<Value>,
    /// What its checks found, for people.
    pub checks: String,
    /// Why no task can be created for it now; empty: nothing stands in the way.
    pub why_not: Vec<String>,
}

/// A plan as it was drafted.
#[derive(Clone, Debug, Default)]
pub struct Drafted {
    pub bytes: Vec<u8>,
    pub rows: usize,
    /// Rows that say themselves that they are left out.
    pub skipped: usize,
    /// The fields that rows need and do not have yet, with the number of those rows.
    pub open: BTreeMap<String, usize>,
}

/// Why no plan was drafted.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    #[error(transparent)]
    Shared(#[from] PlanError),
    #[error("the workbook cannot be written: {0}")]
    Book(#[from] XlsxError),
}

/// A row under way.
struct Draft<'a> {
    server: &'a Known,
    body: Vec<u8>,
    settings: BTreeMap<&'static str, String>,
    /// The fields that it needs and does not have, as pointers.
    open: Vec<String>,
}

/// Whether `--set` and the defaults file can be used: to be asked before the account is.
///
/// # Errors
/// All that is wrong with them.
pub fn can_share(options: &Options) -> Result<(), PlanError> {
    SharedFields::read(options).map(|_| ())
}

/// Drafts the rows in the order of their names. `options` has what they share; `task_type` is that of all of them, else it
/// follows the operating system.
///
/// # Errors
/// What they share cannot be used, or a workbook cannot hold them.
pub fn drafted(
    mut servers: Vec<Known>,
    options: &Options,
    task_type: Option<&str>,
    format: Written,
) -> Result<Drafted, DraftError> {
    let shared = SharedFields::read(options)?;
    // Whatever the order of the list was, the same account gives the same file.
    servers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let names = name::names(servers.iter().map(|server| (&*server.name, &*server.id)));
    let drafts: Vec<Draft<'_>> = servers
        .iter()
        .zip(names)
        .map(|(server, name)| Draft::of(server, &name, task_type, &shared, options))
        .collect();
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for field in drafts.iter().flat_map(|draft| &draft.open) {
        let path = field.trim_start_matches('/').replace('/', ".");
        *open.entry(path).or_default() += 1;
    }
    let skipped = drafts.iter().filter(|draft| draft.settings.contains_key(SKIP)).count();
    let rows = drafts.len();
    let bytes = match format {
        Written::Jsonl => lines(&drafts, &open),
        Written::Csv => {
            let columns = Columns::of(&drafts, &open);
            again::table(columns.headers(), &columns.rows(&drafts))
        }
        Written::Xlsx => book::book(&Columns::of(&drafts, &open), &drafts)?,
    };
    Ok(Drafted { bytes, rows, skipped, open })
}

impl<'a> Draft<'a> {
    fn of(
        server: &'a Known,
        name: &str,
        task_type: Option<&str>,
        shared: &SharedFields,
        options: &Options,
    ) -> Self {
        let mut body = own(server, name, task_type);
        if let Some(defaults) = &shared.defaults {
            body.fill(defaults);
        }
        for (path, value) in &shared.set {
            // Of an element that the server does not have: it is told when the plan is checked.
            let _ = body.set(&parts(path).collect::<Vec<Part<'_>>>(), value.clone());
        }
        if template_of(&body) {
            body.fill(&of_new_target(name));
        }
        body.fill(&needed_objects());
        let body = body.to_bytes();
        let mut why_not = server.why_not.clone();
        let open = judge(&body, &options.rules, &mut why_not);
        let mut settings = settings(shared, options);
        if !why_not.is_empty() {
            settings.insert(SKIP, why_not.join("; "));
        }
        Self { server, body, settings, open }
    }
}

/// What the account knows, as a body.
fn own(server: &Known, name: &str, task_type: Option<&str>) -> Node {
    let os_type = server.os_type.to_ascii_uppercase();
    let by_system = if os_type == "WINDOWS" { "MIGRATE_BLOCK" } else { "MIGRATE_FILE" };
    let mut body = json!({
        "name": name,
        "type": task_type.unwrap_or(by_system),
        "os_type": os_type,
        "source_server": {"id": server.id},
        "target_server": {
            "btrfs_list": server.btrfs_list,
            "disks": server.disks,
            "volume_groups": server.volume_groups,
        },
    });
    if os_type.is_empty() {
        body["os_type"].take();
    }
    let body = known_only(body, "").unwrap_or_default();
    // It was JSON a moment ago.
    Node::parse(&body.to_string()).unwrap_or_else(|_| Node::object())
}

/// What the account knows of a server, to fill the row of one that is there.
pub(super) fn of_known(server: &Known) -> Node {
    let name = name::names(std::iter::once((&*server.name, &*server.id))).remove(0);
    own(server, &name, None)
}

/// What the page knows of a value, without what is null or empty: the agent reports more than a task is told.
fn known_only(value: Value, path: &str) -> Option<Value> {
    match value {
        Value::Object(fields) => {
            let known = |(name, value): (String, Value)| {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                find(&inner)?;
                Some((name, known_only(value, &inner)?))
            };
            let fields: Map<_, _> = fields.into_iter().filter_map(known).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        Value::Array(items) => {
            let items: Vec<_> = items
                .into_iter()
                .filter_map(|item| known_only(item, &format!("{path}.0")))
                .collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Null => None,
        value => Some(value),
    }
}

/// Whether the target server is made by a template.
fn template_of(body: &Node) -> bool {
    let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    body["vm_template_id"].as_str().is_some_and(|template| !template.is_empty())
}

/// A target server that is made by the migration has the source server's name, and no id yet.
fn of_new_target(name: &str) -> Node {
    let target = json!({"target_server": {"name": name, "vm_id": ""}}).to_string();
    let mut target = Node::parse(&target).unwrap_or_else(|_| Node::object());
    target.open_all();
    target
}

/// The fields that are missing; what else the page has against the body is a reason to leave the row out.
fn judge(body: &[u8], rules: &Rules, why_not: &mut Vec<String>) -> Vec<String> {
    let Err(invalid) = contract::read(body, rules) else { return Vec::new() };
    let (open, wrong): (Vec<_>, Vec<_>) =
        invalid.violations.into_iter().partition(|violation| violation.found == ABSENT);
    if let Some(first) = wrong.first() {
        let more = if wrong.len() > 1 {
            format!(" (and {} more)", wrong.len() - 1)
        } else {
            String::new()
        };
        let said = contract::says(&first.found, &first.allowed);
        why_not.push(format!("the API would refuse {}: {said}{more}", first.pointer));
    }
    open.into_iter().map(|violation| violation.pointer).collect()
}

/// What `--set` and the defaults file say beside the requests.
fn settings(shared: &SharedFields, options: &Options) -> BTreeMap<&'static str, String> {
    let mut settings: RowSettings = shared.default_settings;
    for (name, cell) in &shared.set_settings {
        // It was taken when the options were read.
        let _ = settings.put(name, cell, &options.zone);
    }
    settings.texts()
}

/// Lines of JSON, with what is known of each server in a comment before it.
fn lines(drafts: &[Draft<'_>], open: &BTreeMap<String, usize>) -> Vec<u8> {
    let mut text = "# One request a line; lines that begin with # are left out, and so are those with x-sluice-skip.\n".to_owned();
    if !open.is_empty() {
        let fields: Vec<&str> = open.keys().map(String::as_str).collect();
        let _ = writeln!(text, "# To be filled in: {}", fields.join(", "));
    }
    for draft in drafts {
        let Known { name, ip, os_version, state, .. } = draft.server;
        let said = format!("# {name}, {ip}, {os_version}, {state}");
        let _ = writeln!(text, "{}", contract_line(&said));
        text.push_str(&again::json_line(&draft.settings, &draft.body).unwrap_or_default());
        text.push('\n');
    }
    text.into_bytes()
}

/// On one line, whatever the account says.
fn contract_line(text: &str) -> String {
    text.replace(|char: char| char.is_control(), " ")
}

/// The cells of each row by their headers.
fn cells(draft: &Draft<'_>) -> BTreeMap<String, String> {
    let returned = Returned {
        body: draft.body.clone(),
        settings: draft.settings.clone(),
        ..Returned::default()
    };
    // Everything that the page does not know was taken away before.
    again::flattened(&returned).unwrap_or_default()
}

/// The headers that any of them has.
fn used(cells: &[BTreeMap<String, String>]) -> BTreeSet<&String> {
    cells.iter().flat_map(BTreeMap::keys).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_does_not_know_is_left_away() {
        let body = json!({
            "target_server": {"disks": [{"name": "a", "later": 1, "physical_volumes": [
                {"name": "p", "inode_nums": 7, "uuid": null}, {"later": 1}]}], "volume_groups": []},
        });
        let kept = json!({"target_server": {"disks": [{"name": "a", "physical_volumes": [{"name": "p"}]}]}});
        assert_eq!(known_only(body, ""), Some(kept));
    }
}

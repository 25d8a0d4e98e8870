//! What has changed in a plan since it was enqueued? Rows are told by their source server, which a plan has once: one that
//! was only moved has not changed.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use serde::Serialize;
use uuid::Uuid;

use super::batch::{EnqueuedRow, RowsOf};
use crate::contract::{View, shown};
use crate::plan::{self, Plan, PlanError, Row};

/// So many rows of each kind are kept; the rest is counted.
pub const KEPT: usize = 1_000;
/// So many are told to people.
const TOLD: usize = 20;

/// The rows of a plan against those that are in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub new: Changed,
    pub changed: Changed,
    /// In the queue, or already out of it, and not in the plan any more.
    pub removed: Changed,
    pub unchanged: u64,
}

/// Rows of one kind: how many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub count: u64,
    pub rows: Vec<NamedRow>,
}

/// A row as people know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NamedRow {
    pub row: u64,
    pub name: String,
    pub source_server_id: String,
    /// The row that it was enqueued as, where that was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was_row: Option<u64>,
    /// The message id of what is in the queue: of a changed row its old version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was_id: Option<Uuid>,
}

/// Whether a row of the plan is in the queue as it is now.
pub fn is_enqueued(row: &Row, view: &View, enqueued: &RowsOf) -> bool {
    let known = enqueued.get(&*view.source_server_id);
    known.is_some_and(|known| *known.digest == plan::row_digest(row))
}

/// Reads the plan and compares its valid rows with those that are in the queue.
///
/// # Errors
/// The plan cannot be read.
pub fn changes(plan: Plan, enqueued: &RowsOf) -> Result<Changes, PlanError> {
    let mut changes = Changes::default();
    let mut seen = HashSet::new();
    for row in plan::valid(plan) {
        let (row, view) = row?;
        let known = enqueued.get_key_value(&*view.source_server_id);
        if let Some((source, _)) = known {
            seen.insert(source);
        }
        match known {
            None => changes.new.add(named(&row, &view, None)),
            Some(_) if is_enqueued(&row, &view, enqueued) => changes.unchanged += 1,
            Some((_, was)) => changes.changed.add(named(&row, &view, Some(was))),
        }
    }
    let gone = enqueued.iter().filter(|(source, _)| !seen.contains(source));
    let mut gone: Vec<_> = gone.map(|(_, row)| row).collect();
    gone.sort_by_key(|row| row.row);
    for row in gone {
        changes.removed.add(NamedRow {
            row: row.row,
            name: row.name.to_string(),
            source_server_id: row.source.to_string(),
            was_row: None,
            was_id: Some(row.id),
        });
    }
    Ok(changes)
}

fn named(row: &Row, view: &View, was: Option<&EnqueuedRow>) -> NamedRow {
    NamedRow {
        row: row.number,
        name: view.name.clone(),
        source_server_id: view.source_server_id.clone(),
        was_row: was.map(|was| was.row).filter(|was| *was != row.number),
        was_id: was.map(|was| was.id),
    }
}

impl Changes {
    /// How many rows are to be enqueued.
    pub fn to_enqueue(&self) -> u64 {
        self.new.count + self.changed.count
    }

    /// Whether no server of the plan is in the queue.
    pub fn is_another_plan(&self) -> bool {
        self.changed.count + self.unchanged == 0
    }

    /// The rows, a line each, as tools that plan and apply tell them: `+`, `~` and `-`.
    pub fn in_lines(&self) -> String {
        let mut text = String::new();
        for (sign, kind) in [('+', &self.new), ('~', &self.changed), ('-', &self.removed)] {
            for NamedRow { row, name, source_server_id, was_row, .. } in kind.rows.iter().take(TOLD)
            {
                let (name, source) = (shown(name), shown(source_server_id));
                let _ = write!(text, "  {sign} row {row}: {name}, source server {source}");
                let _ = match was_row {
                    Some(was) => writeln!(text, " (was row {was})"),
                    None => writeln!(text),
                };
            }
            let more = kind.count.saturating_sub(TOLD as u64);
            if more > 0 {
                let _ = writeln!(text, "  {sign} ... and {more} more");
            }
        }
        text
    }
}

impl Changed {
    fn add(&mut self, row: NamedRow) {
        self.count += 1;
        if self.rows.len() < KEPT {
            self.rows.push(row);
        }
    }
}

/// `3 new, 2 changed, 1 removed (already enqueued, not taken back), 244 unchanged`
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { new, changed, removed, unchanged } = self;
        write!(f, "{} new, {} changed, {} removed", new.count, changed.count, removed.count)?;
        if removed.count > 0 {
            f.write_str(" (already enqueued, not taken back)")?;
        }
        write!(f, ", {unchanged} unchanged")
    }
}

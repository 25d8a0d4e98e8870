//! Which findings are one and the same, in how many rows? Four missing columns are four lines, not a thousand.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::finding::quoted;
use super::{Finding, Rows};

/// As many findings are kept one by one, and as many groups; the rest is counted.
const MOST: usize = 10_000;

/// What is said of one row or of several: the same place but for the row, and the same words.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// As it stands in the first of them.
    #[serde(flatten)]
    pub finding: Finding,
    /// All of them; none where it is about the file as a whole.
    pub rows: Rows,
}

impl Group {
    /// As [`Finding`] is shown, with all its rows; `all`: how many requests the plan has.
    pub fn in_words(&self, all: u64) -> String {
        let Self { finding, rows } = self;
        if rows.count < 2 {
            return finding.to_string();
        }
        let mut text = if rows.count == all {
            format!("in all {all} rows")
        } else {
            format!("in rows {rows} ({} rows)", rows.count)
        };
        if let Some(sheet) = &finding.sheet {
            text.push_str(" of ");
            text.push_str(&quoted(sheet));
        }
        if let Some(column) = &finding.column {
            text.push_str(", column ");
            text.push_str(column);
        }
        if !finding.pointer.is_empty() {
            text.push_str(", ");
            text.push_str(&finding.pointer);
        }
        format!("{text}: {}", finding.said())
    }
}

/// Findings as they come: one by one, and in groups.
#[derive(Default)]
pub(super) struct Kept {
    pub all: Vec<Finding>,
    /// Those that are not in `all`.
    pub more: u64,
    pub groups: Vec<Group>,
    /// Those that are in no group.
    pub ungrouped: u64,
    /// The group of a finding, whatever its row, and the last row that it has.
    places: HashMap<Finding, (usize, u64)>,
}

impl Kept {
    pub(super) fn extend(&mut self, findings: &[Finding]) {
        for finding in findings {
            self.add(finding);
        }
    }

    pub(super) fn add(&mut self, finding: &Finding) {
        if self.all.len() < MOST {
            self.all.push(finding.clone());
        } else {
            self.more += 1;
        }
        let key = Finding { row: 0, ..finding.clone() };
        match self.places.get_mut(&key) {
            // the same words twice of one row
            Some((_, last)) if *last == finding.row => {}
            Some((place, last)) => {
                *last = finding.row;
                self.groups[*place].rows.add(finding.row);
            }
            None if self.groups.len() < MOST => {
                self.places.insert(key, (self.groups.len(), finding.row));
                let mut rows = Rows::default();
                if finding.row > 0 {
                    rows.add(finding.row);
                }
                self.groups.push(Group { finding: finding.clone(), rows });
            }
            None => self.ungrouped += 1,
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("groups", &self.groups).finish_non_exhaustive()
    }
}

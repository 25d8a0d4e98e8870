//! What is wrong with a plan, and where does the planner find it?

use std::fmt;

use serde::Serialize;

use crate::contract::Violation;

/// One thing that is wrong, or questionable, in one row of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The row as a spreadsheet shows it (the header is row 1), the line of a `.jsonl` file, or the element of a
    /// `.json` array, from 1. 0: the file as a whole.
    pub row: u64,
    /// The column of a CSV or Excel plan: `C`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// JSON pointer to the place in the request; the name of a setting; empty for the whole row.
    pub pointer: String,
    pub found: String,
    pub allowed: String,
    /// What to do, where that is not plain from what is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub(super) fn of(row: u64, violation: Violation) -> Self {
        let Violation { pointer, found, allowed } = violation;
        Self { row, column: None, pointer, found, allowed, advice: None }
    }
}

/// `row 17, column C, /source_server/id: found null; allowed: text of ...; add it`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.row)?;
        if let Some(column) = &self.column {
            write!(f, ", column {column}")?;
        }
        if !self.pointer.is_empty() {
            write!(f, ", {}", self.pointer)?;
        }
        write!(f, ": found {}; allowed: {}", self.found, self.allowed)?;
        if let Some(advice) = &self.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

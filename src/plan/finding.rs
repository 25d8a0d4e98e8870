//! What is wrong with a plan, and where does the planner find it?

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::cell::Refused;
use crate::contract::{Violation, says, shown};

/// One thing that is wrong, or questionable, in one row of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// The row as a spreadsheet shows it (the header is row 1), the line of a `.jsonl` file, or the element of a
    /// `.json` array, from 1. 0: the file as a whole.
    pub row: u64,
    /// The sheet of a workbook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<Arc<str>>,
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
    /// The rule of plausibility ([`super::PLAUSIBILITY`]) that says so: `--allow` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
}

impl Finding {
    pub(super) fn of(row: u64, violation: Violation) -> Self {
        let Violation { pointer, found, allowed } = violation;
        Self { row, sheet: None, column: None, pointer, found, allowed, advice: None, rule: None }
    }

    /// What is wrong with a row, a place of it (a JSON pointer or a setting) or the file as a whole (row 0).
    pub(super) fn new(row: u64, pointer: impl Into<String>, refused: Refused) -> Self {
        let Refused { found, allowed, advice } = refused;
        let advice = (!advice.is_empty()).then(|| advice.into_owned());
        Self {
            row,
            sheet: None,
            column: None,
            pointer: pointer.into(),
            found,
            allowed,
            advice,
            rule: None,
        }
    }

    /// Where it stands, as the spreadsheet calls it: `Sheet1!J7`, `row 7, column J` of a CSV file, `row 7`.
    pub fn place(&self) -> String {
        let Self { row, sheet, column, .. } = self;
        match (sheet, column, row) {
            (Some(sheet), Some(column), 0) => format!("{}!{column}:{column}", quoted(sheet)),
            (Some(sheet), Some(column), row) => format!("{}!{column}{row}", quoted(sheet)),
            (Some(sheet), None, 0) => format!("sheet {}", quoted(sheet)),
            (Some(sheet), None, row) => format!("{}!{row}:{row}", quoted(sheet)),
            (None, Some(column), row) => format!("row {row}, column {column}"),
            (None, None, 0) => "the file".to_owned(),
            (None, None, row) => format!("row {row}"),
        }
    }
}

/// A sheet's name as formulas have it: in apostrophes, where it is not of letters and digits.
pub(super) fn quoted(sheet: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || char == '_';
    if sheet.chars().all(plain) && !sheet.starts_with(|char: char| char.is_numeric()) {
        return sheet.to_owned();
    }
    // what could move a cursor is escaped, as everywhere
    let shown = shown(sheet);
    format!("'{}'", shown.trim_matches('"').replace('\'', "''"))
}

impl Finding {
    /// What is wrong and what to do, without the place: `found null; allowed: text of ...; add it`.
    pub fn said(&self) -> String {
        let mut said = says(&self.found, &self.allowed);
        if let Some(advice) = &self.advice {
            said.push_str("; ");
            said.push_str(advice);
        }
        if let Some(rule) = self.rule {
            said.push_str(" [");
            said.push_str(rule);
            said.push(']');
        }
        said
    }
}

/// `Sheet1!C17, /source_server/id: found null; allowed: text of ...; add it`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())?;
        if !self.pointer.is_empty() {
            write!(f, ", {}", self.pointer)?;
        }
        write!(f, ": {}", self.said())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_as_the_spreadsheet_does() {
        let place = |sheet: Option<&str>, column: Option<&str>, row| {
            let refused =
                Refused { found: String::new(), allowed: String::new(), advice: "".into() };
            let finding = Finding::new(row, "", refused);
            Finding { sheet: sheet.map(Arc::from), column: column.map(str::to_owned), ..finding }
                .place()
        };
        assert_eq!(place(Some("Sheet1"), Some("J"), 7), "Sheet1!J7");
        assert_eq!(place(Some("Wave 1's"), Some("J"), 7), "'Wave 1''s'!J7");
        assert_eq!(place(Some("\u{1b}[2J"), Some("J"), 0), "'\\u{1b}[2J'!J:J");
        assert_eq!(place(Some("a"), None, 7), "a!7:7");
        assert_eq!(place(None, Some("J"), 7), "row 7, column J");
        assert_eq!(place(None, None, 7), "row 7");
    }
}

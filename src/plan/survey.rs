//! What does a whole plan amount to, before anything of it is sent? One pass over its rows.

use std::io;

use sha2::{Digest as _, Sha256};

use super::{Aside, Check, CheckReport, Plan, PlanError, Row};
use crate::contract::View;

/// A plan as one pass found it.
#[derive(Clone, Debug)]
pub struct Survey {
    pub report: CheckReport,
    /// SHA-256, in hex, over the valid rows: numbers, settings and bodies.
    pub digest: String,
    /// Of each valid row: row and source server.
    pub sources: Vec<(u64, String)>,
    /// The rows that are invalid.
    pub invalid: Vec<u64>,
}

impl Survey {
    /// The sheet of a workbook.
    pub fn sheet(&self) -> Option<&str> {
        self.report.sheet.as_deref()
    }
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the rows set aside cannot be written: {0}")]
    SetAside(#[from] io::Error),
}

/// Reads a plan to its end. Invalid rows of a plan in JSON go to `aside`; those of a table: [`super::set_aside`].
///
/// # Errors
/// The plan cannot be read on. Bad rows are no error: they stand in the report.
pub fn survey(mut plan: Plan, mut aside: Option<&mut Aside<'_>>) -> Result<Survey, SurveyError> {
    let (mut check, mut digest) = (Check::new(), Fingerprint::default());
    let (mut sources, mut invalid) = (Vec::new(), Vec::new());
    for row in plan.by_ref() {
        let mut row = row?;
        check.add(&mut row);
        match &row.read {
            Ok(view) => {
                digest.add(&row);
                sources.push((row.number, view.source_server_id.clone()));
            }
            Err(findings) if !findings.is_empty() => {
                invalid.push(row.number);
                if let Some(aside) = &mut aside {
                    aside.put(&row)?;
                }
            }
            // hidden, and nobody has said whether it is meant
            Err(_) => {}
        }
    }
    if let Some(aside) = aside {
        aside.finish()?;
    }
    let report = check.finish(plan.ending());
    Ok(Survey { report, digest: digest.finish(), sources, invalid })
}

/// The valid rows of a plan, as [`survey`] counts them.
pub struct Valid {
    plan: Plan,
    check: Check,
}

/// The valid rows of a plan: those that a survey of the same file counts.
pub fn valid(plan: Plan) -> Valid {
    Valid { plan, check: Check::new() }
}

impl Iterator for Valid {
    type Item = Result<(Row, View), PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut row = match self.plan.next()? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            self.check.add(&mut row);
            if let Ok(view) = &row.read {
                let view = view.clone();
                return Some(Ok((row, view)));
            }
        }
    }
}

/// What tells a row from another version of itself, wherever in the plan it stands: its settings and its body. The first
/// half of a SHA-256, in hex.
pub fn row_digest(row: &Row) -> String {
    let mut digest = Sha256::new();
    add(&mut digest, row);
    hex::encode(&digest.finalize()[..16])
}

fn add(digest: &mut Sha256, row: &Row) {
    let settings = serde_json::to_vec(&row.settings).unwrap_or_default();
    for part in [&settings[..], &row.body] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
}

/// What makes two readings of a plan the same.
#[derive(Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    pub fn add(&mut self, row: &Row) {
        self.0.update(row.number.to_be_bytes());
        add(&mut self.0, row);
    }

    pub fn finish(self) -> String {
        hex::encode(self.0.finalize())
    }
}

//! Is the plan good as a whole? Everything wrong with any row, servers that come twice, and what the plan amounts to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::cell::Refused;
use super::clean::same;
use super::{Ending, Finding, Load, Plan, PlanError, Row, Rows, Tally};
use crate::contract::shown;

/// As many findings, and as many warnings, are kept; the rest is counted.
const MAX_FINDINGS: usize = 10_000;

/// What a plan amounts to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// Requests: valid ones, invalid ones, and hidden ones that nobody has decided on.
    pub rows: u64,
    pub valid: u64,
    /// Hidden in the workbook, without a word whether they are meant: not valid.
    pub undecided: Rows,
    /// Hidden in the workbook, and sent all the same (`--hidden include`).
    pub included: Rows,
    /// The rows that are no requests.
    pub other: Tally,
    /// The sheet of a workbook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<Arc<str>>,
    /// Whether somebody has said what becomes of all that the workbook hides.
    pub decided: bool,
    /// The bodies of the valid rows together.
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// Those beyond the first 10,000.
    pub more_findings: u64,
    pub warnings: Vec<Finding>,
    pub more_warnings: u64,
    /// Valid rows by `region_id`, `type` and priority (`x-sluice-priority`, else the body's).
    pub by_region: BTreeMap<String, u64>,
    pub by_type: BTreeMap<String, u64>,
    pub by_priority: BTreeMap<u16, u64>,
    /// Of each valid row.
    #[serde(skip)]
    loads: Vec<Load>,
}

impl CheckReport {
    pub fn is_valid(&self) -> bool {
        self.findings.is_empty() && self.rows > 0
    }

    /// The report of a plan that is not read beyond its headers.
    pub fn of_headers(problems: &[Finding]) -> Self {
        let sheet = problems.first().and_then(|problem| problem.sheet.clone());
        Self { findings: problems.to_vec(), sheet, ..Self::default() }
    }

    /// The valid rows as a forecast needs them.
    pub fn loads(&self) -> &[Load] {
        &self.loads
    }
}

/// Judges a plan row by row.
#[derive(Default)]
pub struct Check {
    report: CheckReport,
    /// The row in which each server came first, and as what.
    sources: HashMap<Box<str>, (u64, Box<str>)>,
    targets: HashMap<Box<str>, (u64, Box<str>)>,
}

impl Check {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a row. One whose source or target server came before becomes invalid.
    pub fn add(&mut self, row: &mut Row) {
        if row.undecided {
            self.report.rows += 1;
            self.report.undecided.add(row.number);
            // told once, for all of them
            row.read = Err(Vec::new());
            return;
        }
        self.look_for_copies(row);
        let report = &mut self.report;
        if row.hidden {
            report.included.add(row.number);
        }
        report.rows += 1;
        match &row.read {
            Ok(view) => {
                report.valid += 1;
                let starts = view.auto_start != Some(false);
                report.loads.push(Load { not_before: row.settings.not_before, starts });
                report.bytes += row.body.len() as u64;
                *report.by_region.entry(view.region_id.clone()).or_default() += 1;
                *report.by_type.entry(view.task_type.clone()).or_default() += 1;
                *report
                    .by_priority
                    .entry(row.settings.priority.unwrap_or(view.priority))
                    .or_default() += 1;
            }
            Err(findings) => keep(findings, &mut report.findings, &mut report.more_findings),
        }
        keep(&row.warnings, &mut report.warnings, &mut report.more_warnings);
    }

    /// What a plan amounts to that ended like this.
    pub fn finish(mut self, ending: Ending) -> CheckReport {
        let Ending { tally, findings, warnings, sheet } = ending;
        let report = &mut self.report;
        report.other = tally;
        report.sheet.clone_from(&sheet);
        // hidden columns are findings of the file
        report.decided = report.undecided.count == 0 && findings.is_empty();
        if let Some(first) = report.included.first() {
            let told = Refused {
                advice: "they are sent, as --hidden include says".into(),
                ..hidden(format!("{} hidden ({})", report.included.count, report.included))
            };
            let warning = Finding { sheet: sheet.clone(), ..Finding::new(first, "", told) };
            keep(&[warning], &mut report.warnings, &mut report.more_warnings);
        }
        if let Some(first) = report.undecided.first() {
            let (count, all) = (report.undecided.count, &report.undecided);
            let found = if count == 1 {
                format!("a hidden row ({all})")
            } else {
                format!("{count} hidden rows ({all})")
            };
            let finding = Finding::new(first, "", hidden(found));
            keep(&[Finding { sheet, ..finding }], &mut report.findings, &mut report.more_findings);
        }
        keep(&findings, &mut report.findings, &mut report.more_findings);
        keep(&warnings, &mut report.warnings, &mut report.more_warnings);
        self.report
    }

    /// A server that came before makes the row invalid; one that only people would take for the same is a question.
    fn look_for_copies(&mut self, row: &mut Row) {
        let target = row.read.as_ref().ok().and_then(|view| view.target_vm_id.clone());
        let source = row.source_server_id.clone();
        let mut copies = Vec::new();
        for (seen, id, pointer, what) in [
            (&mut self.sources, source, "/source_server/id", "source"),
            (&mut self.targets, target, "/target_server/vm_id", "target"),
        ] {
            let Some(id) = id.filter(|id| !id.is_empty()) else { continue };
            let Some((first, other)) = seen.get(&*same(&id)) else {
                seen.insert(same(&id).into(), (row.number, id.into()));
                continue;
            };
            let written = if **other == *id {
                String::new()
            } else {
                format!(", there written {}", shown(other))
            };
            let finding = Finding {
                row: row.number,
                sheet: row.sheet(),
                column: row.columns.as_deref().and_then(|columns| columns.letters(pointer)),
                pointer: pointer.to_owned(),
                found: format!("the {what} server of row {first}{written}"),
                allowed: format!("each {what} server once in a plan"),
                advice: Some("remove one of the two rows".to_owned()),
            };
            if **other == *id || uuid::Uuid::try_parse(&id).is_ok() {
                copies.push(finding);
            } else {
                let advice = Some("remove one of the two rows if they are one server".to_owned());
                row.warnings.push(Finding { advice, ..finding });
            }
        }
        if !copies.is_empty() {
            match &mut row.read {
                Err(findings) => findings.append(&mut copies),
                read @ Ok(_) => *read = Err(copies),
            }
        }
    }
}

/// What is to be said where something is hidden and nobody has said what is meant.
pub(super) fn hidden(found: String) -> Refused {
    Refused {
        found,
        allowed: "--hidden skip or --hidden include".to_owned(),
        advice: "say whether what the workbook hides is left out or sent (skip-rows: hidden rows are left out, hidden columns sent)".into(),
    }
}

fn keep(new: &[Finding], kept: &mut Vec<Finding>, more: &mut u64) {
    let room = MAX_FINDINGS.saturating_sub(kept.len()).min(new.len());
    kept.extend_from_slice(&new[..room]);
    *more += (new.len() - room) as u64;
}

/// Checks a whole plan. A file that becomes unreadable at some row is an error; bad rows are findings.
pub fn check(mut plan: Plan) -> Result<CheckReport, PlanError> {
    let mut check = Check::new();
    for row in plan.by_ref() {
        check.add(&mut row?);
    }
    Ok(check.finish(plan.ending()))
}

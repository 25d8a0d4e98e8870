//! Is the plan good as a whole? Everything wrong with any row, servers that come twice, and what the plan amounts to.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Finding, Load, Plan, PlanError, Row};

/// As many findings, and as many warnings, are kept; the rest is counted.
const MAX_FINDINGS: usize = 10_000;

/// What a plan amounts to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub rows: u64,
    pub valid: u64,
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

impl Report {
    pub fn is_valid(&self) -> bool {
        self.findings.is_empty() && self.rows > 0
    }

    /// The valid rows as a forecast needs them.
    pub fn loads(&self) -> &[Load] {
        &self.loads
    }
}

/// Judges a plan row by row.
#[derive(Default)]
pub struct Check {
    report: Report,
    /// The row in which each server came first.
    sources: HashMap<Box<str>, u64>,
    targets: HashMap<Box<str>, u64>,
}

impl Check {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a row. One whose source or target server came before becomes invalid.
    pub fn add(&mut self, row: &mut Row) {
        self.refuse_copies(row);
        let report = &mut self.report;
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

    pub fn finish(self) -> Report {
        self.report
    }

    fn refuse_copies(&mut self, row: &mut Row) {
        let (number, columns) = (row.number, row.columns.as_deref());
        let mut copies = Vec::new();
        let mut look =
            |seen: &mut HashMap<Box<str>, u64>, id: Option<&str>, pointer: &str, what: &str| {
                let Some(id) = id.filter(|id| !id.is_empty()) else { return };
                if let Some(first) = seen.get(id) {
                    copies.push(Finding {
                        row: number,
                        column: columns.and_then(|columns| columns.letters(pointer)),
                        pointer: pointer.to_owned(),
                        found: format!("the {what} server of row {first}"),
                        allowed: format!("each {what} server once in a plan"),
                        advice: Some("remove one of the two rows".to_owned()),
                    });
                } else {
                    seen.insert(id.into(), number);
                }
            };
        look(&mut self.sources, row.source_server_id.as_deref(), "/source_server/id", "source");
        let target = row.read.as_ref().ok().and_then(|view| view.target_vm_id.as_deref());
        look(&mut self.targets, target, "/target_server/vm_id", "target");
        if !copies.is_empty() {
            match &mut row.read {
                Err(findings) => findings.append(&mut copies),
                read @ Ok(_) => *read = Err(copies),
            }
        }
    }
}

fn keep(new: &[Finding], kept: &mut Vec<Finding>, more: &mut u64) {
    let room = MAX_FINDINGS.saturating_sub(kept.len()).min(new.len());
    kept.extend_from_slice(&new[..room]);
    *more += (new.len() - room) as u64;
}

/// Checks a whole plan. A file that becomes unreadable at some row is an error; bad rows are findings.
pub fn check(plan: Plan) -> Result<Report, PlanError> {
    let mut check = Check::new();
    for row in plan {
        check.add(&mut row?);
    }
    Ok(check.finish())
}

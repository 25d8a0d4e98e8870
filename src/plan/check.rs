//! Is the plan good as a whole? Everything wrong with any row, servers that come twice, and what the plan amounts to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::cell::Refused;
use super::clean::same;
use super::groups::Kept;
use super::plausible::{self, DISK_TWICE, PROJECT_REGIONS};
use super::{Ending, Finding, Group, Load, Plan, PlanError, Row, Rows, Tally};
use crate::contract::shown;

/// What a plan amounts to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// Requests: valid ones, invalid ones, and hidden ones that nobody has decided on.
    pub rows: u64,
    pub valid: u64,
    pub invalid: u64,
    /// Hidden in the workbook, without a word whether they are meant: not valid.
    pub undecided: Rows,
    /// Hidden in the workbook, and sent all the same (`--hidden include`).
    pub included: Rows,
    /// The rows that are no requests.
    pub other: Tally,
    /// The sheet of a workbook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<Arc<str>>,
    /// Headers of the file, and the fields that they stand for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mapped: Vec<(String, String)>,
    /// Whether somebody has said what becomes of all that the workbook hides.
    pub decided: bool,
    /// The bodies of the valid rows together.
    pub bytes: u64,
    pub findings: Vec<Finding>,
    /// Those beyond the first 10,000.
    pub more_findings: u64,
    pub warnings: Vec<Finding>,
    pub more_warnings: u64,
    /// The same findings and warnings, each once with all its rows; the first 10,000 of them.
    pub finding_groups: Vec<Group>,
    pub warning_groups: Vec<Group>,
    /// Findings and warnings that are in no group.
    pub ungrouped_findings: u64,
    pub ungrouped_warnings: u64,
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
        let mut kept = Kept::default();
        kept.extend(problems);
        let mut report = Self { sheet, ..Self::default() };
        report.take(kept, Kept::default());
        report
    }

    fn take(&mut self, findings: Kept, warnings: Kept) {
        (self.findings, self.more_findings) = (findings.all, findings.more);
        (self.finding_groups, self.ungrouped_findings) = (findings.groups, findings.ungrouped);
        (self.warnings, self.more_warnings) = (warnings.all, warnings.more);
        (self.warning_groups, self.ungrouped_warnings) = (warnings.groups, warnings.ungrouped);
    }

    /// How much is wrong, and how much is questionable.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.findings.len() as u64 + self.more_findings,
            self.warnings.len() as u64 + self.more_warnings,
        )
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
    findings: Kept,
    warnings: Kept,
    /// The row in which each server came first, and as what.
    sources: HashMap<Box<str>, (u64, Box<str>)>,
    targets: HashMap<Box<str>, (u64, Box<str>)>,
    /// The row in which each disk came first.
    disks: HashMap<Box<str>, u64>,
    /// The row in which each project came first, and its region.
    projects: HashMap<Box<str>, (u64, Box<str>)>,
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
        self.look_across(row);
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
            Err(findings) => {
                report.invalid += 1;
                self.findings.extend(findings);
            }
        }
        self.warnings.extend(&row.warnings);
    }

    /// What a plan amounts to that ended like this.
    pub fn finish(mut self, ending: Ending) -> CheckReport {
        let Ending { tally, findings, warnings, sheet, mapped } = ending;
        let report = &mut self.report;
        report.other = tally;
        report.mapped = mapped;
        report.sheet.clone_from(&sheet);
        // hidden columns are findings of the file
        report.decided = report.undecided.count == 0 && findings.is_empty();
        if let Some(first) = report.included.first() {
            let told = Refused {
                advice: "they are sent, as --hidden include says".into(),
                ..hidden(format!("{} hidden ({})", report.included.count, report.included))
            };
            let warning = Finding { sheet: sheet.clone(), ..Finding::new(first, "", told) };
            self.warnings.add(&warning);
        }
        if let Some(first) = report.undecided.first() {
            let (count, all) = (report.undecided.count, &report.undecided);
            let found = if count == 1 {
                format!("a hidden row ({all})")
            } else {
                format!("{count} hidden rows ({all})")
            };
            let finding = Finding::new(first, "", hidden(found));
            self.findings.add(&Finding { sheet, ..finding });
        }
        self.findings.extend(&findings);
        self.warnings.extend(&warnings);
        report.take(self.findings, self.warnings);
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
                rule: None,
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

impl Check {
    /// What is surely not meant, as only several rows show it: warnings.
    fn look_across(&mut self, row: &mut Row) {
        let mut seen: Vec<(&'static str, String, String)> = Vec::new();
        for (at, id) in &row.disks {
            let first = *self.disks.entry(same(id).into()).or_insert(row.number);
            // within a row, too
            let twice = first != row.number
                || row.disks.iter().any(|(other, twin)| other < at && same(twin) == same(id));
            if twice {
                let pointer = format!("/target_server/disks/{at}/disk_id");
                seen.push((DISK_TWICE, pointer, format!("a disk of row {first}")));
            }
        }
        if let Ok(view) = &row.read
            && !view.project_id.is_empty()
        {
            let project = self.projects.entry(same(&view.project_id).into());
            let (first, region) =
                project.or_insert_with(|| (row.number, view.region_id.as_str().into()));
            if **region != *view.region_id {
                let found = format!("another region than in row {first}, {}", shown(region));
                seen.push((PROJECT_REGIONS, "/region_id".to_owned(), found));
            }
        }
        for (rule, pointer, found) in seen {
            if row.allow.contains(&rule) {
                continue;
            }
            let Some(said) = plausible::said_of(rule, found) else { continue };
            let column = row.columns.as_deref().and_then(|columns| columns.letters(&pointer));
            row.warnings.push(Finding {
                sheet: row.sheet(),
                column,
                rule: Some(rule),
                ..Finding::new(row.number, pointer, said)
            });
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

/// Checks a whole plan. A file that becomes unreadable at some row is an error; bad rows are findings.
pub fn check(mut plan: Plan) -> Result<CheckReport, PlanError> {
    let mut check = Check::new();
    for row in plan.by_ref() {
        check.add(&mut row?);
    }
    Ok(check.finish(plan.ending()))
}

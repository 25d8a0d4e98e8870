//! Where in the sheet is what was found? Writes a plan down again as a workbook, with each finding as a comment on its
//! cell and a colour: an `.xlsx` as it was but for that, any other table as a sheet of texts.

mod fresh;
mod notes;
mod package;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Broken, CheckReport, Finding, Format, Options, PlanError, format_of, kind};

/// Why there is no marked workbook.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error("{}: a marked plan is a workbook: give it a name that ends in .xlsx", .0.display())]
    Ending(PathBuf),
    #[error("{}: only tables can be marked; {} is JSON: read the findings", to.display(), plan.display())]
    NoTable { plan: PathBuf, to: PathBuf },
    #[error("{}: cannot be written: {source}; is there room for it?", file.display())]
    Write { file: PathBuf, source: io::Error },
    #[error("{}: cannot be marked: {what}", plan.display())]
    Book { plan: PathBuf, what: String },
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// A cell: row and column from 0.
type CellAt = (u32, u16);

/// What is said of a cell, and whether any of it is wrong (else it is only questionable).
#[derive(Debug, Default)]
struct Mark {
    text: String,
    wrong: bool,
}

type Marks = BTreeMap<CellAt, Mark>;

/// The longest text of a comment.
const LONGEST: usize = 30_000;

/// Writes the plan down again into `out`, the file that is to be `to`, marked with what a report found.
///
/// # Errors
/// What stands in `out` is of no use then.
pub fn mark(
    plan: &Path,
    options: &Options,
    report: &CheckReport,
    to: &Path,
    out: &mut File,
) -> Result<(), MarkError> {
    if !to.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("xlsx")) {
        return Err(MarkError::Ending(to.to_owned()));
    }
    let name = options.name.as_deref().unwrap_or(plan);
    let format = options.format.map_or_else(|| format_of(name), Ok)?;
    if matches!(format, Format::Json | Format::Jsonl) {
        return Err(MarkError::NoTable { plan: name.to_owned(), to: to.to_owned() });
    }
    let marks = marks(report);
    let book = |what: String| MarkError::Book { plan: name.to_owned(), what };
    let packed = format.is_book() && matches!(kind::of(plan), Ok(kind::Kind::Xlsx));
    if let Some(sheet) = report.sheet.as_deref().filter(|_| packed) {
        package::write(plan, sheet, &marks, out).map_err(|Broken { what, .. }| book(what))?;
    } else {
        let bytes = fresh::book(plan, format, options, &marks).map_err(|error| match error {
            fresh::Failed::Read(broken) => MarkError::Plan(broken.in_file(name)),
            fresh::Failed::Write(error) => book(error.to_string()),
        })?;
        io::Write::write_all(out, &bytes)
            .map_err(|source| MarkError::Write { file: to.to_owned(), source })?;
    }
    Ok(())
}

/// What there is to say of each cell. What is said of a row stands in its first cell, what is said of the file in A1.
fn marks(report: &CheckReport) -> Marks {
    let mut marks = Marks::new();
    let all = report.findings.iter().map(|finding| (finding, true));
    for (finding, wrong) in all.chain(report.warnings.iter().map(|warning| (warning, false))) {
        let row = u32::try_from(finding.row.saturating_sub(1)).unwrap_or(u32::MAX);
        let column = finding.column.as_deref().map_or(0, column_of);
        if row >= 1 << 20 || column >= 1 << 14 {
            continue;
        }
        let mark = marks.entry((row, column)).or_default();
        mark.wrong |= wrong;
        let text = said(finding, wrong);
        if mark.text.len() + text.len() < LONGEST {
            mark.text.push_str(if mark.text.is_empty() { "" } else { "\n" });
            mark.text.push_str(&text);
        }
    }
    marks
}

fn said(finding: &Finding, wrong: bool) -> String {
    let pointer = &finding.pointer;
    let place = if pointer.is_empty() { String::new() } else { format!("{pointer}: ") };
    let what = if wrong { "" } else { "warning: " };
    format!("{what}{place}{}", finding.said())
}

/// The place of a column, from its letters.
fn column_of(letters: &str) -> u16 {
    let place = letters.bytes().fold(0_u32, |place, letter| {
        place.saturating_mul(26).saturating_add(u32::from(letter.wrapping_sub(b'A') % 26) + 1)
    });
    u16::try_from(place.saturating_sub(1)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_their_letters() {
        for at in [0_u16, 1, 25, 26, 701, 702, 16_383] {
            assert_eq!(column_of(&super::super::column_name(at.into())), at);
        }
    }
}

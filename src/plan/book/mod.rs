//! What are the cells of a workbook? Opens any kind that a library reads, takes the sheet with the plan, and gives its
//! rows one by one, with what the sheet hides.

mod facts;
mod ods;
mod package;
mod scan;
mod tame;
mod values;
mod whole;
mod xls;
mod xlsx;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::cell::Cell;
use super::rows::{Line, is_comment};
use super::{Broken, kind};
pub(super) use facts::Spans;
use kind::Kind;

pub(super) use package::{MOST_OF_A_SHEET, Package, attribute, relations, relations_path};
pub(super) use scan::position;
pub(super) use tame::Tame;

/// Rows read ahead.
const AHEAD: usize = 64;
/// Excel's own last column is 16,384; a plan with all indices of everything needs a few thousand.
const MAX_COLUMNS: usize = 16_384;

/// What the thread that reads a workbook says.
enum Told {
    Row(Line),
    Broken(Broken),
    /// Nothing follows. Without this word the thread has died, and the rest is missing.
    End,
}

/// The sheet of a workbook that holds the plan.
pub(super) struct Sheet {
    rows: Receiver<Told>,
    ended: bool,
    pub name: Arc<str>,
    pub hidden_columns: Spans,
    pub folded_columns: Spans,
    /// Other visible sheets with the headers that were looked for.
    pub others: Vec<String>,
    /// What is worth a word about the workbook: what was found, what is expected, what to do.
    pub notes: Vec<[String; 3]>,
}

impl Sheet {
    /// Opens the workbook; `sheet`: the name, else the visible one whose first row has such a header.
    pub(super) fn open(
        file: &Path,
        sheet: Option<&str>,
        header: fn(&Cell) -> bool,
    ) -> Result<Self, Broken> {
        let sheet = Wanted { sheet, header };
        match kind::of(file).map_err(|error| Broken::io(0, &error))? {
            Kind::Xlsx => xlsx::open(file, sheet),
            Kind::Xls => whole::open(file, sheet, whole::Which::Xls),
            Kind::Ods => whole::open(file, sheet, whole::Which::Ods),
            Kind::Text => Err(Broken::new(
                0,
                "text, not a workbook",
                "name it .csv, or say --format csv; or save it as a workbook (.xlsx)",
            )),
            Kind::Other { what, cure } => Err(Broken::new(0, what, cure)),
        }
    }

    /// The next row that has cells: its number as a spreadsheet shows it, and its cells from column A on.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Broken> {
        if self.ended {
            return Ok(None);
        }
        match self.rows.recv() {
            Ok(Told::Row(line)) => return Ok(Some(line)),
            Ok(Told::End) => self.ended = true,
            Ok(Told::Broken(broken)) => {
                self.ended = true;
                return Err(broken);
            }
            Err(_) => {
                self.ended = true;
                let what = "a workbook that the reader stumbled over";
                return Err(Broken::new(0, what, "save it again, or export it as CSV UTF-8"));
            }
        }
        Ok(None)
    }
}

/// Runs what reads the rows of a sheet in a thread of its own: readers borrow their workbook, and only some rows are held
/// at a time.
fn reading(
    read: impl FnOnce(&SyncSender<Told>) -> Result<(), Broken> + Send + 'static,
) -> Receiver<Told> {
    let (sender, rows) = sync_channel(AHEAD);
    std::thread::spawn(move || {
        let last = match read(&sender) {
            Ok(()) => Told::End,
            Err(broken) => Told::Broken(broken),
        };
        // nobody listens any more if this fails
        let _ = sender.send(last);
    });
    rows
}

/// What tells the sheet that is read.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    sheet: Option<&'a str>,
    header: fn(&Cell) -> bool,
}

/// A sheet to choose from.
struct Candidate {
    name: String,
    visible: bool,
    /// No chart, no macro sheet.
    cells: bool,
}

/// Which sheet is read: its place, and the others that could be meant as well. `plan` says whether one has the headers.
fn choose(
    sheets: &[Candidate],
    wanted: Wanted<'_>,
    mut plan: impl FnMut(usize) -> Result<bool, Broken>,
) -> Result<(usize, Vec<String>), Broken> {
    let names =
        || sheets.iter().map(|sheet| format!("{:?}", sheet.name)).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = wanted.sheet {
        let found = sheets.iter().position(|sheet| sheet.name == wanted);
        let Some(found) = found else {
            let what = format!("no sheet {wanted:?}");
            return Err(Broken::new(0, what, &format!("its sheets are: {}", names())));
        };
        if !sheets[found].cells {
            let what = format!("sheet {wanted:?} is a chart, or holds macros");
            return Err(Broken::new(
                0,
                what,
                &format!("name one with cells; its sheets are: {}", names()),
            ));
        }
        return Ok((found, Vec::new()));
    }
    let mut seen: Vec<usize> =
        (0..sheets.len()).filter(|at| sheets[*at].visible && sheets[*at].cells).collect();
    // A table beside the plans, which has headers of theirs.
    if seen.len() > 1 {
        seen.retain(|at| sheets[*at].name != super::WAVES_SHEET);
    }
    if let [only] = seen[..] {
        return Ok((only, Vec::new()));
    }
    let mut plans = Vec::new();
    for at in seen {
        if plan(at)? {
            plans.push(at);
        }
    }
    if let Some((first, others)) = plans.split_first() {
        Ok((*first, others.iter().map(|at| sheets[*at].name.clone()).collect()))
    } else {
        let what = "no visible sheet whose first row has the headers that are looked for";
        let cure = format!(
            "name the sheet with --sheet, or write them (sluice plan template shows those of a plan); its sheets are: {}",
            names()
        );
        Err(Broken::new(0, what, &cure))
    }
}

/// A word about further sheets that look like plans.
fn other_plans(name: &str, others: &[String]) -> Option<[String; 3]> {
    let all: Vec<String> = others.iter().map(|name| format!("{name:?}")).collect();
    (!others.is_empty()).then(|| {
        [
            format!(
                "headers of a plan in the sheet{} {} too",
                if all.len() == 1 { "" } else { "s" },
                all.join(", ")
            ),
            "one plan at a time".to_owned(),
            format!("{name:?} is read; name another with --sheet"),
        ]
    })
}

/// Runs a reader over anybody's file. One that stumbles takes nothing else down.
fn caught<T>(read: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    read.unwrap_or_else(|_| {
        let what = "a workbook that the reader stumbled over";
        Err(Broken::new(0, what, "save it again, or export it as CSV UTF-8"))
    })
}

/// Readers do not share the place where they stand in a file: each opens its own.
fn opened(file: &Path) -> Result<File, Broken> {
    File::open(file).map_err(|error| Broken::io(0, &error))
}

/// Whether the first of these rows that is no comment has headers of a plan.
fn has_headers(rows: &[Vec<Cell>], wanted: Wanted<'_>) -> bool {
    let mut rows = rows.iter();
    let first = rows.find(|row| !row.iter().all(Cell::is_empty) && !is_comment(row));
    first.is_some_and(|row| row.iter().any(wanted.header))
}

//! What are the cells of an old `.xls` or an `.ods` workbook? Their reader takes them whole, so it is asked first how much
//! there is; then rows are given one by one like those of any other.

use std::io::BufReader;
use std::path::Path;

use calamine::{Data, Ods, Range, Reader, SheetType, SheetVisible, Xls};

use super::super::Broken;
use super::super::cell::Cell;
use super::super::rows::Line;
use super::super::shown::Formats;
use super::facts::{Active, Facts, Shown};
use super::{
    Candidate, MAX_COLUMNS, Sheet, Told, Wanted, caught, choose, has_headers, ods, opened,
    other_plans, reading, values, xls,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Xls,
    Ods,
}

/// The largest file: these are held in memory, and an .xls file has 65,536 rows at most.
const MOST_BYTES: u64 = 256 << 20;
/// As many cells, from the first row and column on, all sheets together: twelve columns of a million rows.
pub(super) const MOST_CELLS: u64 = 12 << 20;

pub(super) fn too_large() -> Broken {
    Broken::new(0, "more cells than are read from a file of this kind", "save it as .xlsx")
}

pub(super) fn open(file: &Path, wanted: Wanted<'_>, which: Which) -> Result<Sheet, Broken> {
    let length = opened(file)?.metadata().map_or(0, |file| file.len());
    if length > MOST_BYTES {
        return Err(too_large());
    }
    match which {
        Which::Xls => {
            let facts = xls::facts(file)?;
            let book: Xls<_> = book(file)?;
            sheet(book, wanted, facts)
        }
        Which::Ods => {
            let facts = ods::facts(file)?;
            let book: Ods<_> = book(file)?;
            sheet(book, wanted, facts)
        }
    }
}

fn broken(error: &dyn std::fmt::Display) -> Broken {
    Broken::new(
        0,
        format!("no readable workbook: {error}"),
        "save it as .xlsx, or export it as CSV UTF-8",
    )
}

/// Opens a workbook.
fn book<B>(file: &Path) -> Result<B, Broken>
where
    B: Reader<BufReader<std::fs::File>, Error: std::fmt::Display>,
{
    let input = BufReader::new(opened(file)?);
    caught(|| B::new(input).map_err(|error| broken(&error)))
}

/// `facts`: of each sheet, in the workbook's order.
fn sheet<B>(mut book: B, wanted: Wanted<'_>, mut facts: Vec<Facts>) -> Result<Sheet, Broken>
where
    B: Reader<BufReader<std::fs::File>, Error: std::fmt::Display>,
{
    let candidates: Vec<Candidate> = book
        .sheets_metadata()
        .iter()
        .map(|sheet| Candidate {
            name: sheet.name.clone(),
            visible: sheet.visible == SheetVisible::Visible,
            cells: sheet.typ == SheetType::WorkSheet,
        })
        .collect();
    let mut range = |name: &str| book.worksheet_range(name).map_err(|error| broken(&error));
    let nothing = Facts::default();
    let (chosen, others) = choose(&candidates, wanted, |at| {
        let range = range(&candidates[at].name)?;
        let facts = facts.get(at).unwrap_or(&nothing);
        let filled = rows(&range, facts).filter(|(_, row)| !row.iter().all(Cell::is_empty));
        let first: Vec<Vec<Cell>> = filled.take(20).map(|(_, row)| row).collect();
        Ok(has_headers(&first, wanted))
    })?;
    let name = candidates[chosen].name.clone();
    let range = range(&name)?;
    let facts = if chosen < facts.len() { facts.swap_remove(chosen) } else { Facts::default() };
    let hidden_columns = facts.hidden_columns.clone();
    let folded_columns = facts.folded_columns.clone();
    Ok(Sheet {
        rows: reading(move |rows| {
            stream(&range, &facts, rows);
            Ok(())
        }),
        ended: false,
        notes: other_plans(&name, &others).into_iter().collect(),
        others,
        name: name.into(),
        hidden_columns,
        folded_columns,
    })
}

/// Every row, from the first one of the sheet on: its number and its cells. Some stand where the reader sees none.
fn rows<'a>(
    range: &'a Range<Data>,
    facts: &'a Facts,
) -> impl Iterator<Item = (u32, Vec<Cell>)> + 'a {
    let (mut rows, mut columns) = facts.special.extent();
    if let Some((bottom, right)) = range.end() {
        (rows, columns) =
            (rows.max(bottom.saturating_add(1)), columns.max(right.saturating_add(1)));
    }
    let columns = columns.min(u32::try_from(MAX_COLUMNS).unwrap_or(u32::MAX));
    let mut formats = Formats::default();
    (0..rows).map(move |row| {
        let cells = (0..columns).map(|column| {
            facts.special(row, column).unwrap_or_else(|| {
                let value = range.get_value((row, column)).map_or(Cell::Empty, values::whole);
                shown(value, facts, &mut formats, (row, column))
            })
        });
        (row, cells.collect())
    })
}

/// Sends every row that has cells. Ends early when nobody listens.
fn stream(range: &Range<Data>, facts: &Facts, to: &std::sync::mpsc::SyncSender<Told>) {
    let mut active = Active::default();
    for (number, mut cells) in rows(range, facts) {
        if cells.iter().all(Cell::is_empty) {
            continue;
        }
        let width = cells.len();
        facts.mark_merged(&mut active, number, &mut cells, width);
        let hidden = facts.hidden_rows.contains(number);
        if to.send(Told::Row(Line { number: u64::from(number) + 1, cells, hidden })).is_err() {
            return;
        }
    }
}

fn shown(cell: Cell, facts: &Facts, formats: &mut Formats, (row, column): (u32, u32)) -> Cell {
    match facts.shown.get(row, column) {
        None => cell,
        Some(Shown::As(seen)) => values::seen_as(cell, seen),
        Some(Shown::By(code)) => values::formatted(cell, code, formats),
    }
}

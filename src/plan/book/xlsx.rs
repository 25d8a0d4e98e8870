//! What are the cells of an `.xlsx` workbook? Streams a sheet row by row: values and formats from calamine, what it does
//! not tell from [`super::facts`].

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::mpsc::SyncSender;

use calamine::{Xlsx, XlsxError};

use super::super::Broken;
use super::super::cell::Cell;
use super::super::rows::Line;
use super::super::shown::Formats;
use super::facts::{Active, Facts};
use super::package::Package;
use super::scan;
use super::{
    Candidate, MAX_COLUMNS, Sheet, Told, Wanted, caught, choose, has_headers, opened, other_plans,
    reading, values,
};

type Book = Xlsx<BufReader<File>>;

/// Rows that are looked at for headers, at most.
const LOOKED_AT: usize = 20;

pub(super) fn open(file: &Path, wanted: Wanted<'_>) -> Result<Sheet, Broken> {
    let mut package = Package::open(opened(file)?)?;
    let candidates: Vec<Candidate> = package
        .sheets
        .iter()
        .map(|part| Candidate { name: part.name.clone(), visible: part.visible, cells: part.cells })
        .collect();
    let mut book: Option<Book> = None;
    let mut known: Vec<Option<Facts>> = candidates.iter().map(|_| None).collect();
    let (chosen, others) = choose(&candidates, wanted, |at| {
        // read to its end first: nothing of it is too large for the reader that follows
        let path = package.sheets[at].path.clone();
        known[at] = Some(scan::read(&mut package, &path)?);
        let book = match &mut book {
            Some(book) => book,
            none => none.insert(caught(|| calamine_of(opened(file)?))?),
        };
        let facts = known[at].as_ref();
        caught(|| first_rows(book, &candidates[at].name, facts))
            .map(|rows| has_headers(&rows, wanted))
    })?;
    let facts = if let Some(facts) = known.swap_remove(chosen) {
        facts
    } else {
        let path = package.sheets[chosen].path.clone();
        scan::read(&mut package, &path)?
    };
    drop(package);
    let book = match book {
        Some(book) => book,
        None => caught(|| calamine_of(opened(file)?))?,
    };
    let name = candidates[chosen].name.clone();
    let sheet = name.clone();
    let hidden_columns = facts.hidden_columns.clone();
    let folded_columns = facts.folded_columns.clone();
    Ok(Sheet {
        rows: reading(move |rows| stream(book, &sheet, &facts, rows)),
        ended: false,
        notes: other_plans(&name, &others).into_iter().collect(),
        others,
        name: name.into(),
        hidden_columns,
        folded_columns,
    })
}

fn calamine_of(file: File) -> Result<Book, Broken> {
    use calamine::Reader as _;
    Xlsx::new(BufReader::new(file)).map_err(|error| broken(0, &error))
}

fn broken(row: u64, error: &XlsxError) -> Broken {
    Broken::new(
        row,
        format!("no readable workbook: {error}"),
        "save the workbook again, or export it as CSV UTF-8",
    )
}

/// Whether the reader can go on behind a cell of which it says this.
fn is_one_cells(error: &XlsxError) -> bool {
    matches!(
        error,
        XlsxError::CellError(_)
            | XlsxError::CellTAttribute(_)
            | XlsxError::ParseFloat(_)
            | XlsxError::Unexpected(_)
            | XlsxError::Unrecognized { .. }
    )
}

/// The first rows of a sheet, without formats.
fn first_rows(
    book: &mut Book,
    name: &str,
    facts: Option<&Facts>,
) -> Result<Vec<Vec<Cell>>, Broken> {
    let unreadable = facts.map_or(0, |facts| facts.unreadable.len());
    let mut cells = book.worksheet_cells_reader(name).map_err(|error| broken(0, &error))?;
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let (mut number, mut passed) = (None, 0);
    loop {
        let cell = match cells.next_cell() {
            Ok(Some(cell)) => cell,
            Ok(None) => break,
            Err(error) if is_one_cells(&error) && passed < unreadable => {
                passed += 1;
                continue;
            }
            Err(error) => return Err(broken(0, &error)),
        };
        let (at, column) = cell.get_position();
        if number != Some(at) {
            if rows.len() == LOOKED_AT {
                break;
            }
            rows.push(Vec::new());
            number = Some(at);
        }
        let column = (column as usize).min(MAX_COLUMNS);
        if let Some(row) = rows.last_mut() {
            row.resize(row.len().max(column + 1), Cell::Empty);
            row[column] = values::cell(cell.get_value());
        }
    }
    Ok(rows)
}

/// Sends every row. Ends early, without an error, when nobody listens.
fn stream(
    mut book: Book,
    name: &str,
    facts: &Facts,
    rows: &SyncSender<Told>,
) -> Result<(), Broken> {
    let mut cells = book.worksheet_cells_reader(name).map_err(|error| broken(0, &error))?;
    let (mut formats, mut active) = (Formats::default(), Active::default());
    let (mut number, mut row, mut width) = (0_u32, Vec::new(), 0);
    let mut send = |number: u32, mut row: Vec<Cell>| {
        width = width.max(row.len());
        facts.mark_merged(&mut active, number, &mut row, width);
        let hidden = facts.hidden_rows.contains(number);
        rows.send(Told::Row(Line { number: u64::from(number) + 1, cells: row, hidden })).is_ok()
    };
    let mut unreadable = facts.unreadable.iter().copied().peekable();
    loop {
        let (at, column, cell, style) = match cells.next_cell_with_style_id() {
            Ok(Some((cell, style))) => {
                let (at, column) = cell.get_position();
                // It has read this one all the same.
                unreadable.next_if_eq(&(at, column));
                (at, column, values::cell(cell.get_value()), Some(style))
            }
            Ok(None) => break,
            Err(error) => {
                let place = unreadable.next().filter(|_| is_one_cells(&error));
                let (at, column) = place.ok_or_else(|| broken(u64::from(number) + 1, &error))?;
                (at, column, Cell::Empty, None)
            }
        };
        if at < number {
            let what = format!("row {} stands behind row {}", at + 1, number + 1);
            return Err(Broken::new(u64::from(at) + 1, what, "save the workbook again"));
        }
        if at != number && !row.is_empty() && !send(number, std::mem::take(&mut row)) {
            return Ok(());
        }
        number = at;
        let mut value = facts.special(at, column).unwrap_or(cell);
        let style = style.and_then(|style| cells.styles().get(style));
        if let Some(format) = style.and_then(|style| style.number_format.as_ref()) {
            value = values::formatted(value, &format.format_code, &mut formats);
        }
        let column = column as usize;
        if column < MAX_COLUMNS && !value.is_empty() {
            if row.len() <= column {
                row.resize(column + 1, Cell::Empty);
            }
            row[column] = value;
        }
    }
    if !row.is_empty() {
        send(number, row);
    }
    Ok(())
}

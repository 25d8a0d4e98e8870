//! What are the cells of an Excel workbook? Streams the first sheet (or the named one), row by row, from a thread: the
//! reader of cells borrows the workbook, and only one row at a time is held.

use std::fs::File;
use std::io::BufReader;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use calamine::{DataRef, Reader as _, Xlsx};

use super::Broken;
use super::cell::Cell;

type Item = Result<(u64, Vec<Cell>), Broken>;

/// Rows read ahead.
const AHEAD: usize = 64;
/// Excel's own last column is 16,384; a plan with all indices of everything needs a few thousand.
const MAX_COLUMNS: usize = 16_384;

pub(super) struct Sheet {
    rows: Receiver<Item>,
}

impl Sheet {
    /// Opens the workbook; `sheet`: the name, else the first.
    pub(super) fn open(file: File, sheet: Option<&str>) -> Result<Self, Broken> {
        let cure = "is it an .xlsx workbook, complete and without a password? Save it again, or export it as CSV UTF-8";
        if file.metadata().is_ok_and(|file| file.len() == 0) {
            let cure =
                "save the workbook again, or begin with: sluice plan template --output FILE.xlsx";
            return Err(Broken::new(0, "an empty file (0 bytes)", cure));
        }
        let book = Xlsx::new(BufReader::new(file))
            .map_err(|error| Broken::new(0, format!("no readable workbook: {error}"), cure))?;
        let names = book.sheet_names();
        let found = match sheet {
            Some(wanted) => names.iter().find(|name| **name == wanted),
            None => names.first(),
        };
        let Some(name) = found.cloned() else {
            let what = format!("no sheet {:?}", sheet.unwrap_or_default());
            return Err(Broken::new(0, what, &format!("its sheets are: {}", names.join(", "))));
        };
        let (sender, rows) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            if let Err(broken) = stream(book, &name, &sender) {
                // nobody listens any more if this fails
                let _ = sender.send(Err(broken));
            }
        });
        Ok(Self { rows })
    }

    /// The next row that has cells: its number as Excel shows it, and its cells from column A on.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Vec<Cell>)>, Broken> {
        self.rows.recv().map_or(Ok(None), |row| row.map(Some))
    }
}

/// Sends every row. Ends early, without an error, when nobody listens.
fn stream(
    mut book: Xlsx<BufReader<File>>,
    name: &str,
    rows: &SyncSender<Item>,
) -> Result<(), Broken> {
    let broken = |row: u64| {
        move |error: calamine::XlsxError| {
            Broken::new(row, format!("{error}"), "save the workbook again")
        }
    };
    let mut cells = book.worksheet_cells_reader(name).map_err(broken(0))?;
    let (mut number, mut row) = (0, Vec::new());
    while let Some(cell) = cells.next_cell().map_err(broken(number))? {
        let (at, column) = cell.get_position();
        let (at, column) = (u64::from(at) + 1, usize::try_from(column).unwrap_or(usize::MAX));
        if at != number
            && !row.is_empty()
            && rows.send(Ok((number, std::mem::take(&mut row)))).is_err()
        {
            return Ok(());
        }
        number = at;
        let value = read(cell.get_value());
        if column < MAX_COLUMNS && !value.is_empty() {
            if row.len() <= column {
                row.resize(column + 1, Cell::Empty);
            }
            row[column] = value;
        }
    }
    if !row.is_empty() {
        let _ = rows.send(Ok((number, row)));
    }
    Ok(())
}

fn read(value: &DataRef<'_>) -> Cell {
    match value {
        DataRef::Empty => Cell::Empty,
        DataRef::SharedString(text) => Cell::typed(text),
        #[allow(clippy::cast_precision_loss)] // Excel itself has floats only
        DataRef::Int(number) => Cell::Number(*number as f64),
        DataRef::Float(number) => Cell::Number(*number),
        DataRef::Bool(value) => Cell::Boolean(*value),
        DataRef::DateTime(date) if date.is_duration() => Cell::Number(date.as_f64()),
        DataRef::DateTime(date) => {
            let (year, month, day, hour, minute, second, _) = date.to_ymd_hms_milli();
            Cell::Date(year, month, day, hour, minute, second)
        }
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            Cell::typed(text)
        }
        DataRef::Error(error) => Cell::Error(error.to_string()),
    }
}

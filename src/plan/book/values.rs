//! What does a value of a workbook mean, as its reader gives it? A cell of a plan.

use calamine::{Data, DataRef, ExcelDateTime};
use jiff::civil::DateTime;

use super::super::cell::{AS_TEXT, Cell};
use super::super::clean;
use super::super::shown::{self, Dated, Formats};

/// A value, whatever reader gave it.
pub(super) fn cell(value: &DataRef<'_>) -> Cell {
    match value {
        DataRef::Empty => Cell::Empty,
        DataRef::SharedString(text) => Cell::typed(text),
        DataRef::String(text) => text_or_error(text),
        #[allow(clippy::cast_precision_loss)] // spreadsheets have floats only
        DataRef::Int(number) => Cell::Number(*number as f64),
        DataRef::Float(number) if number.is_finite() => Cell::Number(*number),
        DataRef::Float(number) => {
            Cell::bad(format!("the number {number}"), "put the value in its place")
        }
        DataRef::Bool(value) => Cell::Boolean(*value),
        DataRef::DateTime(date) => date_of(date),
        DataRef::DateTimeIso(text) => day(text),
        DataRef::DurationIso(text) => dayless(text),
        DataRef::Error(error) => Cell::bad(format!("the error {error}"), clean::FIX),
    }
}

/// A value of a reader that gives whole sheets.
pub(super) fn whole(value: &Data) -> Cell {
    match value {
        Data::Empty => Cell::Empty,
        Data::String(text) => text_or_error(text),
        #[allow(clippy::cast_precision_loss)]
        Data::Int(number) => Cell::Number(*number as f64),
        Data::Float(number) => cell(&DataRef::Float(*number)),
        Data::Bool(value) => Cell::Boolean(*value),
        Data::DateTime(date) => date_of(date),
        Data::DateTimeIso(text) => day(text),
        Data::DurationIso(text) => dayless(text),
        Data::Error(error) => cell(&DataRef::Error(error.clone())),
    }
}

/// Results of formulas, and the cells of `LibreOffice`, hold an error as its text.
pub(super) fn text_or_error(text: &str) -> Cell {
    match clean::office_error_of(text.trim()) {
        Some(error) => Cell::bad(format!("the error {error}"), clean::FIX),
        None => Cell::typed(text),
    }
}

const WITH_DAY: &str = "write the day too, as in 2026-11-28 22:30";

const WITH_OFFSET: &str =
    "format the cell as Text, and write the time with its offset, as in 2026-11-28T22:00:00+08:00";

/// A cell that has a format: as the format shows it, where that is something else than its value.
pub(super) fn formatted(cell: Cell, code: &str, formats: &mut Formats) -> Cell {
    match cell {
        Cell::Number(value) => match formats.show(value, code) {
            Some(shown) => Cell::Shown { value, shown },
            None => cell,
        },
        Cell::Date { at, .. } => dated(cell, formats.date(at, code)),
        Cell::Text(text) => match shown::text(&text, code) {
            Some(seen) => {
                let found = format!("{seen} (stored as {})", crate::contract::shown(&text));
                Cell::bad(found, AS_TEXT)
            }
            None => Cell::Text(text),
        },
        _ => cell,
    }
}

/// A cell that shows this text.
pub(super) fn seen_as(cell: Cell, seen: &str) -> Cell {
    match cell {
        Cell::Number(value) => Cell::Shown { value, shown: shown::or_nothing(seen).into() },
        Cell::Date { at, .. } => dated(cell, shown::date_in(at, seen)),
        _ => cell,
    }
}

fn dated(cell: Cell, seen: Dated) -> Cell {
    match (cell, seen) {
        (cell, Dated::Zone(zone)) => {
            let found =
                format!("the date {}, beside which {zone:?} is shown and not stored", cell.shown());
            Cell::bad(found, WITH_OFFSET)
        }
        (Cell::Date { at, stored, .. }, Dated::Without(part)) => {
            Cell::Date { at, stored, unseen: Some(part) }
        }
        (cell, _) => cell,
    }
}

/// A number that its format shows as a day or a time.
fn date_of(date: &ExcelDateTime) -> Cell {
    let stored = date.as_f64();
    if date.is_duration() {
        let minutes = (stored * 1440.0).round();
        let found = format!(
            "{:.0}:{:02.0}, a length of time (stored as {stored})",
            (minutes / 60.0).trunc(),
            (minutes % 60.0).abs()
        );
        return Cell::bad(found, WITH_DAY);
    }
    let (year, month, day, hour, minute, second, milli) = date.to_ymd_hms_milli();
    if (0.0..1.0).contains(&stored) {
        let found =
            format!("{hour:02}:{minute:02}:{second:02}, a time without a day (stored as {stored})");
        return Cell::bad(found, WITH_DAY);
    }
    let small = |number: u8| i8::try_from(number).ok();
    let at = (|| {
        let (month, day, hour) = (small(month)?, small(day)?, small(hour)?);
        let nanos = i32::from(milli) * 1_000_000;
        let (minute, second) = (small(minute)?, small(second)?);
        DateTime::new(i16::try_from(year).ok()?, month, day, hour, minute, second, nanos).ok()
    })();
    match at.filter(|_| (1.0..2_958_466.0).contains(&stored)) {
        Some(at) => Cell::Date { at, stored: Some(stored), unseen: None },
        None => Cell::bad(format!("a date that is none (stored as {stored})"), WITH_DAY),
    }
}

/// A day as ISO 8601 has it. No cell shows an offset, and spreadsheets pass over it.
pub(super) fn day(text: &str) -> Cell {
    let text = text.trim();
    if text.parse::<jiff::Timestamp>().is_ok() {
        return Cell::bad(
            format!("the time {text}, of which a cell does not show the offset"),
            WITH_OFFSET,
        );
    }
    let at = text.parse::<DateTime>().ok();
    let at = at.or_else(|| {
        Some(text.parse::<jiff::civil::Date>().ok()?.to_datetime(jiff::civil::Time::midnight()))
    });
    at.map_or_else(|| Cell::typed(text), |at| Cell::Date { at, stored: None, unseen: None })
}

fn dayless(text: &str) -> Cell {
    let span = text.parse::<jiff::SignedDuration>().ok();
    let shown = span.map_or_else(
        || text.to_owned(),
        |span| {
            format!("{:02}:{:02}:{:02}", span.as_hours(), span.as_mins() % 60, span.as_secs() % 60)
        },
    );
    Cell::bad(format!("{shown}, a time without a day (stored as {text})"), WITH_DAY)
}

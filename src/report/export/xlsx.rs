//! What is a report as an Excel workbook? Numbers are numbers and times are dates (Excel knows no time zones: they are
//! UTC, and the header says so); a second sheet has the totals.

use jiff::Timestamp;
use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};

use super::{COLUMNS, Cell, cells};
use crate::message::result::ResultData;
use crate::plan::export::harmless;
use crate::report::progress::BatchProgress;

/// How wide each of [`COLUMNS`] is, in characters.
const WIDTHS: [f64; 14] =
    [7.0, 38.0, 24.0, 9.0, 18.0, 11.0, 38.0, 60.0, 10.0, 11.0, 24.0, 24.0, 24.0, 16.0];
/// Excel's limit for the text of a cell, in UTF-16 units.
const LONGEST: usize = 32_767;
const TIME: &str = "yyyy-mm-dd hh:mm:ss.000";
/// Excel's number of the day 1970-01-01.
const UNIX_DAY: f64 = 25_569.0;

struct Styles {
    head: Format,
    count: Format,
    seconds: Format,
    time: Format,
    text: Format,
}

pub(super) fn report(
    progress: &BatchProgress,
    results: &[&ResultData],
    now: Timestamp,
) -> Result<Vec<u8>, XlsxError> {
    let styles = Styles {
        head: Format::new().set_bold(),
        count: Format::new().set_num_format("0"),
        seconds: Format::new().set_num_format("0.000"),
        time: Format::new().set_num_format(TIME),
        text: Format::new().set_num_format("@"),
    };
    let mut book = Workbook::new();
    rows(book.add_worksheet().set_name("results")?, results, &styles)?;
    totals(book.add_worksheet().set_name("batch")?, progress, now, &styles)?;
    book.save_to_buffer()
}

fn rows(sheet: &mut Worksheet, results: &[&ResultData], styles: &Styles) -> Result<(), XlsxError> {
    for ((column, name), width) in (0_u16..).zip(COLUMNS).zip(WIDTHS) {
        let zone = if name.ends_with("_at") { " (UTC)" } else { "" };
        sheet.write_string_with_format(0, column, format!("{name}{zone}"), &styles.head)?;
        sheet.set_column_width(column, width)?;
    }
    let mut last = 0;
    for (row, result) in (1_u32..).zip(results) {
        for (column, cell) in (0_u16..).zip(cells(result)) {
            write(sheet, row, column, &cell, styles)?;
        }
        last = row;
    }
    sheet.set_freeze_panes(1, 0)?;
    let columns = u16::try_from(COLUMNS.len()).unwrap_or(u16::MAX);
    sheet.autofilter(0, 0, last, columns - 1)?;
    Ok(())
}

fn totals(
    sheet: &mut Worksheet,
    progress: &BatchProgress,
    now: Timestamp,
    styles: &Styles,
) -> Result<(), XlsxError> {
    let summary = progress.summary();
    let text = |text: Option<String>| text.map_or(Cell::Empty, |text| Cell::Text(text.into()));
    let time = |at: Option<Timestamp>| at.map_or(Cell::Empty, Cell::Time);
    let mut lines = vec![
        ("batch", Cell::Text(summary.batch.into())),
        ("plan", text(summary.plan)),
        ("by", text(summary.by)),
        ("opened_at (UTC)", time(summary.opened_at)),
        ("last_settled_at (UTC)", time(summary.last_settled_at)),
        ("as_of (UTC)", Cell::Time(now)),
        ("total", summary.total.map_or(Cell::Empty, Cell::Count)),
        ("settled", Cell::Count(summary.settled)),
        ("failed", Cell::Count(summary.failed)),
    ];
    let outcomes = summary.outcomes.iter();
    lines.extend(outcomes.map(|(outcome, count)| (outcome.as_str(), Cell::Count(*count))));
    for (row, (name, cell)) in (0_u32..).zip(&lines) {
        sheet.write_string_with_format(row, 0, *name, &styles.head)?;
        write(sheet, row, 1, cell, styles)?;
    }
    sheet.set_column_width(0, 22)?;
    sheet.set_column_width(1, 40)?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "Excel itself has floats only")]
fn write(
    sheet: &mut Worksheet,
    row: u32,
    column: u16,
    cell: &Cell<'_>,
    styles: &Styles,
) -> Result<(), XlsxError> {
    match cell {
        Cell::Empty => {}
        Cell::Text(text) => {
            // Excel takes no text for a formula; whoever saves the sheet as CSV may open that again.
            let text = harmless(text);
            sheet.write_string_with_format(row, column, fitting(&text), &styles.text)?;
        }
        Cell::Count(number) => {
            sheet.write_number_with_format(row, column, *number as f64, &styles.count)?;
        }
        Cell::Seconds(seconds) => {
            sheet.write_number_with_format(row, column, *seconds, &styles.seconds)?;
        }
        Cell::Time(at) => {
            let days = at.as_millisecond() as f64 / 86_400_000.0 + UNIX_DAY;
            sheet.write_number_with_format(row, column, days, &styles.time)?;
        }
    }
    Ok(())
}

/// As much of a text as a cell can hold.
fn fitting(text: &str) -> &str {
    let mut units = 0;
    let over = text.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > LONGEST
    });
    over.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_excel_cuts_it_and_between_characters() {
        assert_eq!(fitting("short"), "short");
        assert_eq!(fitting(&"x".repeat(LONGEST + 5)).len(), LONGEST);
        let faces = "😀".repeat(LONGEST);
        assert_eq!(fitting(&faces).chars().count(), LONGEST / 2);
    }
}

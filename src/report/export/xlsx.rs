//! What is a report as an Excel workbook? Numbers are numbers and times are dates (Excel knows no time zones: they are
//! UTC, and the header says so); a second sheet has the totals.

use jiff::Timestamp;
use rust_xlsxwriter::{Format, Workbook, Worksheet, XlsxError};

use super::report::{Cell, Report};
use crate::plan::export::harmless;

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

pub(super) fn report(report: &Report<'_>, now: Timestamp) -> Result<Vec<u8>, XlsxError> {
    let styles = Styles {
        head: Format::new().set_bold(),
        count: Format::new().set_num_format("0"),
        seconds: Format::new().set_num_format("0.000"),
        time: Format::new().set_num_format(TIME),
        text: Format::new().set_num_format("@"),
    };
    let mut book = Workbook::new();
    rows(book.add_worksheet().set_name("results")?, report, &styles)?;
    totals(book.add_worksheet().set_name("batch")?, report, now, &styles)?;
    book.save_to_buffer()
}

fn rows(sheet: &mut Worksheet, report: &Report<'_>, styles: &Styles) -> Result<(), XlsxError> {
    let mut columns = 0;
    for (at, column) in (0_u16..).zip(&report.columns) {
        let zone = if column.is_time { " (UTC)" } else { "" };
        sheet.write_string_with_format(0, at, format!("{}{zone}", column.name), &styles.head)?;
        sheet.set_column_width(at, column.width)?;
        columns = at;
    }
    let mut last = 0;
    for (at, row) in (1_u32..).zip(&report.rows) {
        for (column, cell) in (0_u16..).zip(&row.cells) {
            write(sheet, at, column, cell, styles)?;
        }
        last = at;
    }
    sheet.set_freeze_panes(1, 0)?;
    sheet.autofilter(0, 0, last, columns)?;
    Ok(())
}

fn totals(
    sheet: &mut Worksheet,
    report: &Report<'_>,
    now: Timestamp,
    styles: &Styles,
) -> Result<(), XlsxError> {
    for (row, (name, cell)) in (0_u32..).zip(&report.totals(now)) {
        sheet.write_string_with_format(row, 0, name.as_ref(), &styles.head)?;
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

//! How does a drafted plan look in Excel? What is open is marked, what is for reading is grey, what nobody reads can be folded
//! away, and a second sheet says what each column is.

use rust_xlsxwriter::{
    Color, DataValidation, DocProperties, ExcelDateTime, Format as Style, FormatAlign, Workbook,
    Worksheet, XlsxError,
};

use super::Draft;
use super::columns::{Columns, NOTES, about, is_folded};
use crate::contract::{Kind, find};
use crate::plan::export::harmless;
use crate::plan::settings::SKIP;

/// Numbers beyond it are not exact in a spreadsheet.
const EXACT: u64 = 1_000_000_000_000_000;
/// The longest message beside a cell.
const LONGEST_MESSAGE: usize = 255;

struct Styles {
    head: Style,
    text: Style,
    whole: Style,
    note: Style,
    open: Style,
    skip: Style,
}

impl Styles {
    fn new() -> Self {
        let text = Style::new().set_num_format("@");
        Self {
            head: Style::new().set_bold().set_background_color(Color::RGB(0x00E8_EEF4)),
            whole: Style::new().set_num_format("0"),
            note: Style::new().set_font_color(Color::Gray).set_num_format("@"),
            open: text.clone().set_background_color(Color::RGB(0x00FF_F2CC)),
            skip: text.clone().set_font_color(Color::RGB(0x009C_0006)),
            text,
        }
    }
}

pub(super) fn book(columns: &Columns, drafts: &[Draft<'_>]) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    // Fixed, so that the same account gives the same file.
    let made = ExcelDateTime::from_ymd(2026, 1, 1)?;
    book.set_properties(&DocProperties::new().set_creation_datetime(&made));
    let styles = Styles::new();
    let sheet = book.add_worksheet().set_name("plan")?;
    let last = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
    for (at, header) in (0_u16..).zip(columns.headers()) {
        sheet.write_string_with_format(0, at, header, &styles.head)?;
        dress(sheet, at, header, last)?;
    }
    for (number, row) in (1_u32..).zip(columns.rows(drafts)) {
        for ((at, header), cell) in (0_u16..).zip(columns.headers()).zip(&row) {
            write(sheet, (number, at), header, cell, columns, &styles)?;
        }
    }
    fold(sheet, columns)?;
    sheet.set_freeze_panes(1, 2)?;
    sheet.autofilter(0, 0, last, u16::try_from(columns.headers().len() - 1).unwrap_or(u16::MAX))?;
    explain(book.add_worksheet().set_name("columns")?, columns, &styles)?;
    book.save_to_buffer()
}

fn write(
    sheet: &mut Worksheet,
    (row, at): (u32, u16),
    header: &str,
    cell: &str,
    columns: &Columns,
    styles: &Styles,
) -> Result<(), XlsxError> {
    if cell.is_empty() {
        if columns.is_open(header) {
            sheet.write_blank(row, at, &styles.open)?;
        }
        return Ok(());
    }
    let style = match header {
        SKIP => &styles.skip,
        note if NOTES.contains(&note) => &styles.note,
        _ => &styles.text,
    };
    if matches!(find(header).map(|rule| rule.kind), Some(Kind::Integer { .. }))
        && let Some(number) = cell.parse::<u64>().ok().filter(|number| *number < EXACT)
    {
        #[expect(clippy::cast_precision_loss, reason = "it is exact below that")]
        sheet.write_number_with_format(row, at, number as f64, &styles.whole)?;
    } else {
        sheet.write_string_with_format(row, at, harmless(cell), style)?;
    }
    Ok(())
}

/// Width, format, and what may stand in a column.
fn dress(sheet: &mut Worksheet, at: u16, header: &str, last: u32) -> Result<(), XlsxError> {
    let width = match header {
        SKIP => 40.0,
        note if NOTES.contains(&note) => 16.0,
        _ => 20.0,
    };
    sheet.set_column_width(at, width)?;
    let kind = find(header).map(|rule| rule.kind);
    let values: &[&str] = match kind {
        Some(Kind::Boolean) => &["true", "false"],
        Some(Kind::Choice { values, .. }) => values,
        _ => &[],
    };
    if !matches!(kind, Some(Kind::Integer { .. } | Kind::Number { .. })) {
        // as text, so that Excel turns no id into a number or a date
        sheet.set_column_format(at, &Style::new().set_num_format("@"))?;
    }
    if is_folded(header) || NOTES.contains(&header) || last == 0 {
        return Ok(());
    }
    let (what, allowed) = about(header);
    let message: String = format!("{what}\n{allowed}").chars().take(LONGEST_MESSAGE).collect();
    let rule = match values {
        [] => DataValidation::new().allow_any_value(),
        values => DataValidation::new().allow_list_strings(values)?,
    };
    sheet.add_data_validation(1, at, last, at, &rule.set_input_message(message)?)?;
    Ok(())
}

/// What nobody reads stands last, and can be folded away.
fn fold(sheet: &mut Worksheet, columns: &Columns) -> Result<(), XlsxError> {
    let headers = columns.headers();
    let Some(first) = headers.iter().position(|header| is_folded(header)) else { return Ok(()) };
    let place = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    sheet.group_columns(place(first), place(headers.len() - 1))?;
    Ok(())
}

fn explain(sheet: &mut Worksheet, columns: &Columns, styles: &Styles) -> Result<(), XlsxError> {
    let wrapped = Style::new().set_text_wrap().set_align(FormatAlign::Top);
    for (at, (head, width)) in (0_u16..).zip([
        ("column", 36),
        ("what it is", 70),
        ("allowed", 50),
        ("to be filled in", 16),
    ]) {
        sheet.write_string_with_format(0, at, head, &styles.head)?;
        sheet.set_column_width(at, width)?;
    }
    for (row, header) in (1_u32..).zip(columns.headers()) {
        let (what, allowed) = about(header);
        let open = if columns.is_open(header) { "yes" } else { "" };
        for (at, text) in (0_u16..).zip([header.as_str(), &what, &allowed, open]) {
            sheet.write_string_with_format(row, at, text, &wrapped)?;
        }
    }
    sheet.set_freeze_panes(1, 0)?;
    Ok(())
}

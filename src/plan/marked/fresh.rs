//! What does a table look like as a new workbook? A sheet of its cells as texts, as they are seen, with marks.

use std::path::Path;

use rust_xlsxwriter::{Color, Format as Style, Note, Workbook, XlsxError};

use super::super::rows::Source;
use super::super::{Broken, Format, Options, source};
use super::{Mark, Marks};

/// The colours of what is wrong and of what is questionable.
pub(super) const WRONG: u32 = 0xFF_C7CE;
pub(super) const QUESTIONABLE: u32 = 0xFF_EB9C;

pub(super) enum Failed {
    Read(Broken),
    Write(XlsxError),
}

impl From<XlsxError> for Failed {
    fn from(error: XlsxError) -> Self {
        Self::Write(error)
    }
}

pub(super) fn book(
    plan: &Path,
    format: Format,
    options: &Options,
    marks: &Marks,
) -> Result<Vec<u8>, Failed> {
    let (mut source, _) = source(plan, format, options).map_err(Failed::Read)?;
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    let unmarked = Style::new().set_num_format("@");
    let coloured = |mark: &Mark| {
        let colour = if mark.wrong { WRONG } else { QUESTIONABLE };
        Style::new().set_num_format("@").set_background_color(Color::RGB(colour))
    };
    loop {
        let line = match &mut source {
            Source::Csv(csv) => csv.next(),
            Source::Book(sheet) => sheet.next(),
            Source::Lines(_) | Source::Elements(_) => Ok(None),
        };
        let Some(line) = line.map_err(Failed::Read)? else { break };
        let Some(row) = u32::try_from(line.number).ok().and_then(|row| row.checked_sub(1)) else {
            continue;
        };
        for (column, cell) in (0_u16..).zip(&line.cells) {
            if let Some(text) = cell.as_seen() {
                sheet.write_string_with_format(row, column, text, &unmarked)?;
            }
        }
        if line.hidden {
            sheet.set_row_hidden(row)?;
        }
    }
    for ((row, column), mark) in marks {
        sheet.insert_note(*row, *column, &Note::new(&mark.text).set_author("sluice"))?;
        sheet.set_cell_format(*row, *column, &coloured(mark))?;
    }
    Ok(book.save_to_buffer()?)
}

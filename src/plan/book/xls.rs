//! What does an old `.xls` file hide, and how large is it? Walks its records for hidden rows and columns, merged cells,
//! number formats and results that nobody calculated; the values are left to their reader.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::super::Broken;
use super::facts::{Facts, Shown, Special};
use super::opened;
use super::whole::{MOST_CELLS, too_large};

/// Of each sheet, in the workbook's order.
pub(super) fn facts(file: &Path) -> Result<Vec<Facts>, Broken> {
    let stream = workbook(file)?;
    let mut globals = Globals::default();
    for (kind, data) in Records::of(&stream) {
        globals.take(kind, data);
    }
    let mut cells = 0_u64;
    let mut all = Vec::new();
    for start in &globals.sheets {
        let mut sheet = Sheet::of(&globals);
        let from = usize::try_from(*start).unwrap_or(usize::MAX);
        for (kind, data) in Records::of(stream.get(from..).unwrap_or_default()) {
            sheet.take(kind, data)?;
        }
        cells = cells.saturating_add(sheet.height * sheet.width);
        if cells > MOST_CELLS {
            return Err(too_large());
        }
        sheet.facts.set_merged(sheet.merged)?;
        all.push(sheet.facts);
    }
    Ok(all)
}

/// The stream that holds everything.
fn workbook(file: &Path) -> Result<Vec<u8>, Broken> {
    let damaged = |error: std::io::Error| {
        Broken::new(0, format!("no readable workbook: {error}"), "save it as .xlsx")
    };
    let mut compound = cfb::CompoundFile::open(opened(file)?).map_err(damaged)?;
    let names = ["Workbook", "Book", "WORKBOOK", "BOOK", "workbook", "book"];
    let name = names.into_iter().find(|name| compound.is_stream(name));
    let Some(name) = name else {
        return Err(Broken::new(0, "no workbook in this file", "save the workbook as .xlsx"));
    };
    let mut stream = Vec::new();
    compound
        .open_stream(name)
        .and_then(|mut open| open.read_to_end(&mut stream))
        .map_err(damaged)?;
    Ok(stream)
}

/// The records of a stream up to the end of its first substream: (kind, data). A chart that stands in a sheet is a substream
/// within it, and passed over.
struct Records<'a> {
    left: &'a [u8],
    depth: usize,
}

impl<'a> Records<'a> {
    fn of(stream: &'a [u8]) -> Self {
        Self { left: stream, depth: 0 }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const BEGIN: u16 = 0x0809;
        const END: u16 = 0x000a;
        loop {
            let (head, rest) = self.left.split_first_chunk::<4>()?;
            let (kind, length) =
                (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
            let (data, rest) = rest.split_at_checked(usize::from(length))?;
            let within = self.depth.max(1);
            match kind {
                BEGIN => self.depth += 1,
                END => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.left = if kind == END && self.depth == 0 { &[] } else { rest };
            if within == 1 && self.depth <= 1 {
                return Some((kind, data));
            }
        }
    }
}

fn number(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

/// What holds for all sheets.
#[derive(Default)]
struct Globals {
    /// Where each sheet begins in the stream.
    sheets: Vec<u32>,
    formats: Vec<(u16, Arc<str>)>,
    /// The number of the format of each cell style.
    styles: Vec<u16>,
    /// Of the kind since Excel 97.
    modern: bool,
    /// By a program that says to be the first Excel 97, as writers that do not calculate do.
    uncalculated: bool,
}

impl Globals {
    fn take(&mut self, kind: u16, data: &[u8]) {
        match kind {
            0x0809 => {
                self.modern = number(data, 0) == Some(0x0600);
                let (build, year) = (number(data, 4), number(data, 6));
                self.uncalculated = build == Some(0x0dbb) && year == Some(1996);
            }
            0x0085 => {
                let start = data.first_chunk::<4>().map(|start| u32::from_le_bytes(*start));
                self.sheets.extend(start);
            }
            0x041e => {
                let code = if self.modern {
                    format_code(data)
                } else {
                    data.get(3..).map(String::from_utf8_lossy).map(Into::into)
                };
                if let (Some(id), Some(code)) = (number(data, 0), code) {
                    self.formats.push((id, code.into()));
                }
            }
            0x00e0 => self.styles.extend(number(data, 2)),
            _ => {}
        }
    }

    /// How a style shows numbers, if not as they are; dates are the reader's own business.
    fn code(&self, style: u16) -> Option<Arc<str>> {
        let id = *self.styles.get(usize::from(style))?;
        let own = self.formats.iter().find(|(own, _)| *own == id).map(|(_, code)| Arc::clone(code));
        own.or_else(|| ssfmt::format_code_from_id(id.into()).map(Arc::from))
            .filter(|code| !code.eq_ignore_ascii_case("general") && &**code != "@")
    }
}

/// A text of Excel 97: a count of characters, of one byte or of two each.
fn format_code(data: &[u8]) -> Option<String> {
    let (count, wide) = (usize::from(number(data, 2)?), data.get(4)? & 1 == 1);
    let text = data.get(5..)?;
    if wide {
        let units: Vec<u16> = text
            .chunks_exact(2)
            .take(count)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
            .collect();
        return String::from_utf16(&units).ok();
    }
    Some(text.iter().take(count).map(|byte| char::from(*byte)).collect())
}

struct Sheet {
    /// By style.
    codes: Vec<Option<Arc<str>>>,
    facts: Facts,
    merged: Vec<(u32, u32, u32, u32)>,
    height: u64,
    width: u64,
    uncalculated: bool,
}

impl Sheet {
    fn of(globals: &Globals) -> Self {
        let styles = u16::try_from(globals.styles.len()).unwrap_or(u16::MAX);
        let codes = (0..styles).map(|style| globals.code(style)).collect();
        Self {
            codes,
            facts: Facts::default(),
            merged: Vec::new(),
            height: 0,
            width: 0,
            uncalculated: globals.uncalculated,
        }
    }

    fn take(&mut self, kind: u16, data: &[u8]) -> Result<(), Broken> {
        match kind {
            // a row: its number, its height, its flags
            0x0208 => {
                if let (Some(row), Some(flags)) = (number(data, 0), number(data, 12))
                    && (flags & 0x20 != 0 || number(data, 6) == Some(0))
                {
                    self.facts.hidden_rows.add(row.into(), row.into());
                }
            }
            0x007d => {
                if let (Some(first), Some(last), Some(flags)) =
                    (number(data, 0), number(data, 2), number(data, 8))
                    && (flags & 1 != 0 || number(data, 4) == Some(0))
                {
                    self.facts.hidden_columns.add(first.into(), last.max(first).into());
                }
            }
            0x00e5 => {
                let areas = data.get(2..).unwrap_or_default().chunks_exact(8);
                self.merged.extend(areas.filter_map(|area| {
                    let at = |place| number(area, place).map(u32::from);
                    Some((at(0)?, at(4)?, at(2)?, at(6)?))
                }));
            }
            0x0006 => {
                self.cell(data);
                // a result of 0 that nobody asked for, or an empty text by a writer that puts it everywhere
                let unasked = number(data, 14).is_some_and(|flags| flags & 3 != 0);
                let special = match data.get(6..14) {
                    Some([0, 0, 0, 0, 0, 0, 0, 0]) if unasked => Special::Uncalculated,
                    Some([3, .., 0xff, 0xff]) if self.uncalculated => Special::NoResult,
                    _ => return Ok(()),
                };
                if let (Some(row), Some(column)) = (number(data, 0), number(data, 2)) {
                    self.facts.set_special(row.into(), column.into(), special)?;
                }
            }
            0x0203 | 0x027e | 0x0204 | 0x0205 | 0x00fd | 0x00d6 => self.cell(data),
            // numbers of several columns
            0x00bd => {
                let styles =
                    data.get(4..data.len().saturating_sub(2)).unwrap_or_default().chunks_exact(6);
                let (Some(row), Some(first)) = (number(data, 0), number(data, 2)) else {
                    return Ok(());
                };
                for (column, style) in (first..).zip(styles) {
                    self.cell_at(row, column, number(style, 0));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn cell(&mut self, data: &[u8]) {
        if let (Some(row), Some(column)) = (number(data, 0), number(data, 2)) {
            self.cell_at(row, column, number(data, 4));
        }
    }

    fn cell_at(&mut self, row: u16, column: u16, style: Option<u16>) {
        self.height = self.height.max(u64::from(row) + 1);
        self.width = self.width.max(u64::from(column) + 1);
        let code = style.and_then(|style| self.codes.get(usize::from(style)).cloned().flatten());
        if let Some(code) = code {
            self.facts.shown.set(row.into(), column.into(), Shown::By(code));
        }
    }
}

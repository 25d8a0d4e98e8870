//! How does a workbook keep comments? The parts that hold them, as the writer of workbooks makes them; and what there is
//! of them in a sheet already.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _};

use quick_xml::Reader;
use quick_xml::events::Event;
use rust_xlsxwriter::{Note, Workbook, XlsxError};
use zip::ZipArchive;

use super::super::Broken;
use super::super::book::{attribute, position};
use super::{CellAt, Marks};

/// The two parts of a sheet's comments: texts, and the boxes that show them.
pub(super) struct Notes {
    pub texts: String,
    pub boxes: String,
}

/// The parts for these marks and for the comments that were there.
pub(super) fn parts(marks: &Marks, there: &BTreeMap<CellAt, String>) -> Result<Notes, Broken> {
    let failed = |error: &dyn std::fmt::Display| Broken::new(0, error.to_string(), "");
    let bytes = written(marks, there).map_err(|error| failed(&error))?;
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| failed(&error))?;
    let mut part = |name: &str| {
        let mut text = String::new();
        let read = zip.by_name(name).map_err(|error| failed(&error))?.read_to_string(&mut text);
        read.map(|_| text).map_err(|error| failed(&error))
    };
    Ok(Notes { texts: part("xl/comments1.xml")?, boxes: part("xl/drawings/vmlDrawing1.vml")? })
}

fn written(marks: &Marks, there: &BTreeMap<CellAt, String>) -> Result<Vec<u8>, XlsxError> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    let mut all: BTreeMap<CellAt, String> = there.clone();
    for (place, mark) in marks {
        let text = all.entry(*place).or_default();
        text.push_str(if text.is_empty() { "" } else { "\n" });
        text.push_str(&mark.text);
    }
    for ((row, column), text) in &all {
        let note = Note::new(text).set_author("sluice").set_width(320).set_height(120);
        sheet.insert_note(*row, *column, &note)?;
    }
    book.save_to_buffer()
}

/// The comments that a part holds, by their cells; their looks are not kept.
pub(super) fn there(part: &str) -> Result<BTreeMap<CellAt, String>, Broken> {
    let mut xml = Reader::from_str(part);
    let (mut all, mut at, mut in_text) = (BTreeMap::new(), None, false);
    loop {
        let event = xml.read_event();
        match event.map_err(|error| Broken::new(0, format!("its comments: {error}"), ""))? {
            Event::Start(element) => match element.local_name().as_ref() {
                "comment" => {
                    let cell = attribute(&element, "ref").and_then(|cell| position(&cell));
                    at = cell.and_then(|(row, column)| Some((row, u16::try_from(column).ok()?)));
                }
                "t" => in_text = true,
                _ => {}
            },
            Event::Text(text) if in_text => {
                if let Some(at) = at {
                    all.entry(at).or_insert_with(String::new).push_str(&text.xml10_content());
                }
            }
            Event::GeneralRef(name) if in_text => {
                if let (Some(at), Some(text)) = (at, entity(&name)) {
                    all.entry(at).or_insert_with(String::new).push_str(&text);
                }
            }
            Event::End(element) if element.local_name().as_ref() == "t" => in_text = false,
            Event::Eof => return Ok(all),
            _ => {}
        }
    }
}

fn entity(name: &str) -> Option<String> {
    quick_xml::escape::unescape(&format!("&{name};")).ok().map(std::borrow::Cow::into_owned)
}

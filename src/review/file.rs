//! How are dead letters kept in a file? As JSON lines, each a whole message, or as CSV for a spreadsheet: what people ask
//! for first, then the message. Both come back byte for byte.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;

use super::dead_letter::DeadLetter;
use crate::message::parcel::Parcel;
use crate::plan::export::{MARK, csv_row};
use crate::plan::table::{Table, Text};
use crate::plan::{self, Broken};

/// The longest line of JSON: no message comes near it.
const LONGEST: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Jsonl,
    Csv,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("row {row}: {what}")]
    Row { row: u64, what: String },
    #[error("{0}")]
    File(String),
    #[error("it has no column `body`: is it an export of dead letters?")]
    NoBody,
}

/// For people; an import does not read them.
const TOLD: [&str; 9] =
    ["letter", "cause", "why", "name", "source_server_id", "batch", "row", "failed_at", "attempts"];

/// The message.
const KEPT: [&str; 11] = [
    "message_id",
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "kind",
    "app_id",
    "timestamp",
    "headers",
    "body",
    "body_hex",
];

/// Writes dead letters one by one.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    format: Format,
}

impl<W: Write> Writer<W> {
    /// # Errors
    /// The file cannot be written; so of all below.
    pub fn new(mut out: W, format: Format) -> io::Result<Self> {
        if format == Format::Csv {
            out.write_all(MARK.as_bytes())?;
            out.write_all(&csv_row(TOLD.iter().chain(&KEPT)))?;
        }
        Ok(Self { out, format })
    }

    pub fn put(&mut self, letter: &DeadLetter, parcel: &Parcel) -> io::Result<()> {
        match self.format {
            Format::Jsonl => {
                serde_json::to_writer(&mut self.out, parcel)?;
                self.out.write_all(b"\n")
            }
            Format::Csv => {
                let cells = told(letter).into_iter().chain(kept(parcel));
                self.out.write_all(&csv_row(cells.map(marked)))
            }
        }
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn told(letter: &DeadLetter) -> [Option<String>; 9] {
    [
        Some(letter.id.to_string()),
        Some(letter.cause.id.clone()),
        Some(letter.cause.in_a_line()),
        Some(letter.name.clone()),
        Some(letter.source_server_id.clone()),
        letter.batch.clone(),
        letter.row.map(|row| row.to_string()),
        letter.failed_at.map(|at| at.to_string()),
        Some(letter.attempts.to_string()),
    ]
}

fn kept(parcel: &Parcel) -> [Option<String>; 11] {
    let text = String::from_utf8(parcel.body.to_vec()).ok();
    let hex = text.is_none().then(|| hex::encode(&parcel.body));
    [
        parcel.message_id.clone(),
        parcel.content_type.clone(),
        parcel.content_encoding.clone(),
        parcel.correlation_id.clone(),
        parcel.reply_to.clone(),
        parcel.kind.clone(),
        parcel.app_id.clone(),
        parcel.timestamp.map(|seconds| seconds.to_string()),
        // Plain JSON: it has nothing that could not be written.
        Some(serde_json::to_string(&parcel.headers).unwrap_or_default()),
        text,
        hex,
    ]
}

/// What is there begins with no apostrophe of its own, and is not empty: so all of it comes back, see [`unmarked`].
fn marked(cell: Option<String>) -> String {
    match cell {
        None => String::new(),
        Some(text) if text.is_empty() || text.starts_with('\'') => format!("'{text}"),
        Some(text) => text,
    }
}

/// Without the apostrophe of [`marked`] or of the guard against formulas.
fn unmarked(text: &str) -> String {
    text.strip_prefix('\'').unwrap_or(text).to_owned()
}

/// Reads the dead letters of a file, one at a time, as plans are read: any encoding, any workbook.
///
/// # Errors
/// It is no export; further on each row has its own.
pub fn read(
    file: &Path,
    options: &plan::Options,
) -> Result<Box<dyn Iterator<Item = Result<Parcel, FileError>> + Send>, FileError> {
    match Table::open(file, options)? {
        Some(table) => Ok(Box::new(Rows::open(table)?)),
        None => Ok(Box::new(Lines { input: plan::text_of(file, false, None)?.0, row: 0 })),
    }
}

struct Lines<R> {
    input: R,
    row: u64,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Parcel, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.row += 1;
            let wrong = |what: String| Some(Err(FileError::Row { row: self.row, what }));
            let mut line = Vec::new();
            match (&mut self.input).take(LONGEST).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return wrong(format!("it cannot be read on: {error}")),
            }
            let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&line);
            if line.trim_ascii().is_empty() {
                continue;
            }
            let parcel = serde_json::from_slice(line);
            return parcel.map_or_else(
                |error| wrong(format!("no dead letter as an export writes it: {error}")),
                |parcel| Some(Ok(parcel)),
            );
        }
    }
}

struct Rows {
    table: Table,
    /// Where each column of the message stands.
    places: HashMap<&'static str, usize>,
}

impl Rows {
    fn open(mut table: Table) -> Result<Self, FileError> {
        let (_, head) = table.next()?.ok_or(FileError::NoBody)?;
        let is = |cell: &Text, name: &str| cell.as_ref().is_ok_and(|cell| cell.trim() == name);
        let place =
            |name: &&'static str| Some((*name, head.iter().position(|cell| is(cell, name))?));
        let places: HashMap<_, _> = KEPT.iter().filter_map(place).collect();
        if places.contains_key("body") {
            Ok(Self { table, places })
        } else {
            Err(FileError::NoBody)
        }
    }

    fn parcel(&self, row: u64, cells: &[Text]) -> Result<Parcel, FileError> {
        for (name, at) in &self.places {
            if let Some(Err(found)) = cells.get(*at) {
                let what = format!("{name}: found {found}; put the text of the export there");
                return Err(FileError::Row { row, what });
            }
        }
        let cell = |name: &str| {
            let cell = self.places.get(name).and_then(|at| cells.get(*at));
            let cell = cell.and_then(|cell| cell.as_ref().ok());
            cell.filter(|cell| !cell.is_empty()).map(|cell| unmarked(cell))
        };
        let wrong = |what: String| FileError::Row { row, what };
        let headers = cell("headers").map_or_else(
            || Ok(BTreeMap::new()),
            |text| {
                serde_json::from_str::<BTreeMap<String, Value>>(&text)
                    .map_err(|error| wrong(format!("headers: no JSON object: {error}")))
            },
        )?;
        let timestamp = cell("timestamp").map(|text| {
            let seconds = text.parse::<u64>();
            seconds.map_err(|_| wrong(format!("timestamp: {text:?} is no number of seconds")))
        });
        let body = match (cell("body"), cell("body_hex")) {
            (Some(text), None) => Bytes::from(text),
            (None, Some(hex)) => {
                let body = hex::decode(hex);
                body.map_err(|_| wrong("body_hex: broken hex digits".into()))?.into()
            }
            _ => return Err(wrong("it needs a body, or a body_hex, not both".into())),
        };
        Ok(Parcel {
            message_id: cell("message_id"),
            content_type: cell("content_type"),
            content_encoding: cell("content_encoding"),
            correlation_id: cell("correlation_id"),
            reply_to: cell("reply_to"),
            kind: cell("kind"),
            app_id: cell("app_id"),
            timestamp: timestamp.transpose()?,
            headers,
            body,
        })
    }
}

impl Iterator for Rows {
    type Item = Result<Parcel, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.table.next() {
                Ok(None) => return None,
                Ok(Some((_, cells)))
                    if cells.iter().all(|cell| cell.as_ref().is_ok_and(String::is_empty)) => {}
                Ok(Some((row, cells))) => return Some(self.parcel(row, &cells)),
                Err(broken) => return Some(Err(broken.into())),
            }
        }
    }
}

impl From<Broken> for FileError {
    fn from(broken: Broken) -> Self {
        let Broken { row, what, cure } = broken;
        match row {
            0 => Self::File(format!("{what}; {cure}")),
            row => Self::Row { row, what: format!("{what}; {cure}") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Rules;

    fn parcels() -> Vec<Parcel> {
        let full = Parcel {
            message_id: Some("=cmd|' /C calc'!A0".into()),
            content_type: Some(String::new()),
            correlation_id: Some("'quoted'".into()),
            kind: Some("a,b;c\td".into()),
            timestamp: Some(u64::MAX),
            headers: BTreeMap::from([
                ("text".to_owned(), Value::from("\"ü\"\r\n")),
                ("amqp".to_owned(), serde_json::json!({ "amqp": { "LongInt": 7 } })),
            ]),
            ..Parcel::default()
        };
        let bodies: [&[u8]; 8] = [
            b"{ \"name\" : \"a,b\"\r\n}\n",
            b"",
            b"\xff\xfe\x00",
            "中\u{202e}\u{feff}\0".as_bytes(),
            b"-1",
            b"'",
            b" leading and trailing ",
            b"\"\"",
        ];
        bodies.map(|body| Parcel { body: Bytes::copy_from_slice(body), ..full.clone() }).into()
    }

    fn written(format: Format) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), format).unwrap();
        for parcel in parcels() {
            let letter = DeadLetter::read(&parcel, None, &Rules::default());
            writer.put(&letter, &parcel).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read_all(bytes: Vec<u8>, format: Format) -> Result<Vec<Parcel>, FileError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let format = match format {
            Format::Csv => plan::Format::Csv,
            Format::Jsonl => plan::Format::Jsonl,
        };
        let options = plan::Options { format: Some(format), ..plan::Options::default() };
        read(file.path(), &options)?.collect()
    }

    #[test]
    fn both_formats_come_back_byte_for_byte() {
        for format in [Format::Jsonl, Format::Csv] {
            assert_eq!(read_all(written(format), format).unwrap(), parcels(), "{format:?}");
        }
    }

    #[test]
    fn no_cell_of_the_csv_is_a_formula() {
        let text = String::from_utf8(written(Format::Csv)).unwrap();
        for start in ["=", "+", "-", "@"] {
            for quote in ["", "\""] {
                assert!(!text.contains(&format!(",{quote}{start}")), "{text}");
            }
        }
    }

    #[test]
    fn a_sheet_that_was_saved_by_a_spreadsheet_is_read() {
        let text = "body;letter;batch\n\"{\"\"a\"\":1}\";x;y\n;;\n";
        let read = read_all(text.into(), Format::Csv).unwrap();
        assert_eq!(read, [Parcel { body: "{\"a\":1}".into(), ..Parcel::default() }]);
    }

    #[test]
    fn a_workbook_or_another_encoding_is_read_and_what_a_spreadsheet_has_cut_is_told() {
        let book = |body: &str| {
            let mut book = rust_xlsxwriter::Workbook::new();
            let sheet = book.add_worksheet();
            sheet.write_row(0, 0, ["letter", "body", "timestamp"]).unwrap();
            sheet.write(1, 1, body).unwrap();
            sheet.write(1, 2, 1_764_000_000).unwrap();
            book.save_to_buffer().unwrap()
        };
        let read_book = |bytes: Vec<u8>| {
            let file = tempfile::Builder::new().suffix(".xlsx").tempfile().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            read(file.path(), &plan::Options::default())?.collect::<Result<Vec<_>, _>>()
        };
        let parcel = Parcel {
            body: "{\"a\":1}".into(),
            timestamp: Some(1_764_000_000),
            ..Parcel::default()
        };
        assert_eq!(read_book(book("{\"a\":1}")).unwrap(), [parcel]);
        let cut = read_book(book(&"x".repeat(32_767))).unwrap_err().to_string();
        assert!(cut.starts_with("row 2: body: found a text of 32767 characters"), "{cut}");
        let wide: Vec<u8> =
            "body\n\"{\"\"a\"\":\"\"ü\"\"}\"\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read_all(wide, Format::Csv).unwrap()[0].body, "{\"a\":\"ü\"}".as_bytes());
    }

    #[test]
    fn what_is_no_export_is_told_with_its_row() {
        for (text, format, told) in [
            ("{\"body\":\"\"}\n\n{}\n", Format::Jsonl, "row 3: no dead letter"),
            ("{\"body\":\"\"}\nnonsense", Format::Jsonl, "row 2: "),
            ("a,b\n1,2\n", Format::Csv, "no column `body`"),
            ("", Format::Csv, "no column `body`"),
            ("body,body_hex\nx,00\n", Format::Csv, "row 2: it needs a body, or a body_hex"),
            ("body,headers\nx,[]\n", Format::Csv, "row 2: headers"),
            ("body,timestamp\nx,soon\n", Format::Csv, "row 2: timestamp"),
            ("body,body_hex\n,zz\n", Format::Csv, "row 2: body_hex"),
            ("body\n\"x\n", Format::Csv, "row 2: "),
        ] {
            let error = read_all(text.into(), format).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}

//! What are the cells of a CSV file? RFC 4180 as spreadsheets really write it: any line end, `,` `;` or tab between
//! cells, a byte order mark; and, as no library tells, whether an empty cell was quoted.

use std::io::{self, BufRead};

use super::Broken;
use super::cell::Cell;
use super::rows::Line;

/// The longest record: a quote that is never closed must not swallow memory.
const MAX_RECORD: usize = 32 << 20;
/// As many columns as a spreadsheet has.
const MAX_CELLS: usize = 16_384;

pub(crate) struct Csv<R> {
    input: R,
    separator: u8,
    /// The rows read so far: blank ones count, as in a spreadsheet.
    row: u64,
    /// Whether the file quotes its header, so that quotes around nothing mean nothing; unknown before the header.
    quotes_all: Option<bool>,
}

/// One cell of the file: its text, and whether it stood in quotes.
struct Piece {
    text: Vec<u8>,
    quoted: bool,
}

impl<R: BufRead> Csv<R> {
    /// Finds the separator in the first line.
    pub(crate) fn open(mut input: R) -> Result<Self, Broken> {
        let start = input.fill_buf().map_err(|error| Broken::io(1, &error))?;
        let mark = if start.starts_with("\u{feff}".as_bytes()) { 3 } else { 0 };
        let named = separator_line(&start[mark..]);
        let separator =
            named.map_or_else(|| separator_of(&start[mark..]), |(separator, _)| separator);
        input.consume(mark + named.map_or(0, |(_, length)| length));
        Ok(Self { input, separator, row: u64::from(named.is_some()), quotes_all: None })
    }

    pub(super) fn separator(&self) -> u8 {
        self.separator
    }

    /// Whether decimal commas are to be expected.
    pub(super) fn comma(&self) -> bool {
        self.separator == b';'
    }

    /// The next row, blank ones too.
    pub(super) fn next(&mut self) -> Result<Option<Line>, Broken> {
        let Some(pieces) = self.record()? else { return Ok(None) };
        if self.quotes_all.is_none() {
            self.quotes_all = Some(pieces.iter().all(|piece| piece.quoted));
        }
        let number = self.row;
        let cells: Result<Vec<Cell>, Broken> =
            pieces.into_iter().enumerate().map(|(at, piece)| self.cell(at, piece)).collect();
        Ok(Some(Line { number, cells: cells?, hidden: false }))
    }

    /// The next row's texts, whatever they look like.
    pub(super) fn texts(&mut self) -> Result<Option<(u64, Vec<String>)>, Broken> {
        let Some(pieces) = self.record()? else { return Ok(None) };
        let texts = pieces.into_iter().enumerate().map(|(at, piece)| self.text(at, piece.text));
        Ok(Some((self.row, texts.collect::<Result<_, _>>()?)))
    }

    fn text(&self, at: usize, bytes: Vec<u8>) -> Result<String, Broken> {
        String::from_utf8(bytes).map_err(|_| {
            let what = format!("bytes that are not UTF-8 in column {}", super::column_name(at));
            Broken::new(self.row, what, "save the file as \"CSV UTF-8\" and try again")
        })
    }

    fn cell(&self, at: usize, piece: Piece) -> Result<Cell, Broken> {
        let text = self.text(at, piece.text)?;
        let meant = piece.quoted && self.quotes_all == Some(false);
        Ok(if meant && text.is_empty() { Cell::Blank } else { Cell::typed(&text) })
    }

    /// Reads up to the end of a line that is not in quotes.
    fn record(&mut self) -> Result<Option<Vec<Piece>>, Broken> {
        let row = self.row + 1;
        if self.peek(row)?.is_none() {
            return Ok(None);
        }
        self.row = row;
        let (mut pieces, mut size) = (Vec::new(), 0);
        loop {
            let (piece, end) = self.piece(row, pieces.len(), &mut size)?;
            pieces.push(piece);
            if end {
                return Ok(Some(pieces));
            }
            if pieces.len() == MAX_CELLS {
                let what = format!("a row of more than {MAX_CELLS} cells");
                return Err(Broken::new(row, what, "look at what stands between them"));
            }
        }
    }

    /// Reads one cell and what ends it; `true`: that was the end of the line.
    fn piece(&mut self, row: u64, at: usize, size: &mut usize) -> Result<(Piece, bool), Broken> {
        let mut piece = Piece { text: Vec::new(), quoted: false };
        if self.peek(row)? == Some(b'"') {
            self.input.consume(1);
            piece.quoted = true;
            self.quoted(row, at, &mut piece.text, size)?;
        }
        loop {
            let byte = self.peek(row)?;
            if byte.is_some() {
                self.input.consume(1);
            }
            match byte {
                None | Some(b'\n') => return Ok((piece, true)),
                Some(b'\r') => {
                    if self.peek(row)? == Some(b'\n') {
                        self.input.consume(1);
                    }
                    return Ok((piece, true));
                }
                Some(byte) if byte == self.separator => return Ok((piece, false)),
                Some(b' ') if piece.quoted => {}
                Some(_) if piece.quoted => {
                    let what = format!(
                        "text after the closing quote in column {}",
                        super::column_name(at)
                    );
                    return Err(Broken::new(row, what, "write a quote within quotes twice: \"\""));
                }
                Some(byte) => {
                    piece.text.push(byte);
                    grow(size, row)?;
                }
            }
        }
    }

    /// Reads to the closing quote.
    fn quoted(
        &mut self,
        row: u64,
        at: usize,
        text: &mut Vec<u8>,
        size: &mut usize,
    ) -> Result<(), Broken> {
        loop {
            let Some(byte) = self.peek(row)? else {
                let what = format!(
                    "the quote that opens column {} is never closed",
                    super::column_name(at)
                );
                return Err(Broken::new(row, what, "close it, or remove it"));
            };
            self.input.consume(1);
            if byte == b'"' {
                if self.peek(row)? != Some(b'"') {
                    return Ok(());
                }
                self.input.consume(1);
            }
            text.push(byte);
            grow(size, row)?;
        }
    }

    fn peek(&mut self, row: u64) -> Result<Option<u8>, Broken> {
        loop {
            match self.input.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::io(row, &error)),
            }
        }
    }
}

fn grow(size: &mut usize, row: u64) -> Result<(), Broken> {
    *size += 1;
    if *size > MAX_RECORD {
        return Err(Broken::new(
            row,
            "a row of more than 32 MiB",
            "look for a quote that is never closed",
        ));
    }
    Ok(())
}

/// Excel's own way to name the separator in a first line, `sep=;`: the separator and the length of the line.
fn separator_line(start: &[u8]) -> Option<(u8, usize)> {
    match start.strip_prefix(b"sep=")? {
        [separator, b'\r', b'\n', ..] => Some((*separator, 7)),
        [separator, b'\r' | b'\n', ..] => Some((*separator, 6)),
        _ => None,
    }
}

/// The separator that the first line has most of, outside of quotes.
fn separator_of(start: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for &byte in start {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            _ if quoted => {}
            _ => counts
                .iter_mut()
                .filter(|(separator, _)| *separator == byte)
                .for_each(|(_, count)| *count += 1),
        }
    }
    // the first of equals
    counts.iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(separator, _)| *separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Result<Vec<Line>, Broken> {
        // a small buffer, so that everything is split once
        let mut csv = Csv::open(io::BufReader::with_capacity(64, text.as_bytes()))?;
        let mut rows = vec![];
        while let Some(row) = csv.next()? {
            rows.push(row);
        }
        Ok(rows)
    }

    fn texts(text: &str) -> Vec<String> {
        let show = |Line { number: row, cells, .. }: Line| {
            let cells: Vec<String> = cells
                .iter()
                .map(|cell| if cell.is_empty() { "-".into() } else { cell.shown() })
                .collect();
            format!("{row}: {}", cells.join(" "))
        };
        rows(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn any_separator_line_end_and_mark_is_read() {
        let expected = [r#"1: "a" "b""#, r#"2: "1" "2""#];
        for text in [
            "a,b\n1,2",
            "\u{feff}a;b\r\n1;2\r\n",
            "a\tb\r1\t2\r",
            "\"a\",\"b\"\n1,2\n",
            " a , b \n 1, 2 \n",
        ] {
            assert_eq!(texts(text), expected, "{text:?}");
        }
        assert_eq!(texts("sep=|\r\na|b"), [r#"2: "a" "b""#]);
        assert_eq!(texts(""), Vec::<String>::new());
    }

    #[test]
    fn quotes_hold_separators_lines_and_quotes() {
        assert_eq!(
            texts("a,b\n\"x,\"\"y\r\nz\",\"\" \n\n,"),
            [r#"1: "a" "b""#, r#"2: "x,\"y\r\nz" """#, "3: -", "4: - -",]
        );
        assert_eq!(texts("a,b\n\"\"\"\"\"\",x"), [r#"1: "a" "b""#, r#"2: "" "x""#]);
        assert_eq!(
            texts("\"a\",\"b\"\n\"\",\"x\""),
            [r#"1: "a" "b""#, r#"2: - "x""#],
            "a file that quotes everything"
        );
    }

    #[test]
    fn broken_files_name_the_row_and_what_to_do() {
        let broken = rows("a,b\n1,2\n3,\"4\n5,6\n").unwrap_err();
        assert_eq!(
            (broken.row, broken.what.as_str()),
            (3, "the quote that opens column B is never closed")
        );
        assert_eq!(rows("a\n\"b\"c").unwrap_err().row, 2);
        let mut csv = Csv::open(&b"a\nM\xfcller\n"[..]).unwrap();
        csv.next().unwrap();
        assert!(csv.next().unwrap_err().what.contains("not UTF-8 in column A"));
    }
}

//! How is a table written for a spreadsheet? As RFC 4180 has it, with the mark by which Excel knows UTF-8, and no text that
//! it could take for a formula.

use std::borrow::Cow;

/// What a file begins with.
pub(crate) const MARK: &str = "\u{feff}";

/// Spreadsheets begin a formula with these; some take the wide forms and the cells after a tab or an end of line too.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A text as a cell: an apostrophe in front of what a spreadsheet could take for a formula.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if text.starts_with(FORMULA) { format!("'{text}").into() } else { text.into() }
}

/// One row of a CSV file with the end of its line. All cells are made [`harmless`]; numbers of ours are never negative, so
/// they stay as they are.
pub(crate) fn csv_row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut row = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .buffer_capacity(256)
        .from_writer(Vec::new());
    let cells = cells.into_iter().map(|cell| harmless(cell.as_ref()).into_owned());
    // Into memory, and of one row: neither can fail.
    let _ = row.write_record(cells);
    row.into_inner().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> String {
        String::from_utf8(csv_row(cells)).unwrap()
    }

    #[test]
    fn a_text_is_never_a_formula_and_stays_one_cell() {
        for begin in FORMULA {
            let made = row(&[&format!("{begin}cmd|' /C calc'!A0")]);
            assert!(made.trim_start_matches('"').starts_with('\''), "{made:?}");
        }
        assert_eq!(row(&["web-1 = x", "", "12"]), "web-1 = x,,12\r\n");
        assert_eq!(row(&["a,\"b\"\r\nc"]), "\"a,\"\"b\"\"\r\nc\"\r\n");
        assert_eq!(row(&["=HYPERLINK(\"http://x\",1)"]), "\"'=HYPERLINK(\"\"http://x\"\",1)\"\r\n");
    }
}

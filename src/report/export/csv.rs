//! What is a report as CSV? As a spreadsheet opens it and RFC 4180 has it: UTF-8 with a mark, CRLF. A text that a
//! spreadsheet could take for a formula has an apostrophe in front.

use std::borrow::Cow;

use super::{COLUMNS, Cell, Times, cells};
use crate::message::result::Outcomes;
use crate::plan::csv_cell;

/// Spreadsheets begin a formula with these; some take the wide forms and the cells after a tab or an end of line too.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

pub(super) fn report(results: &[&Outcomes], times: Times) -> String {
    let name = |name: &&str| match times {
        Times::Excel if name.ends_with("_at") => format!("{name} (UTC)"),
        _ => (*name).to_owned(),
    };
    let head: Vec<String> = COLUMNS.iter().map(name).collect();
    let mut text = format!("\u{feff}{}\r\n", head.join(","));
    for result in results {
        let row: Vec<String> = cells(result).iter().map(|found| cell(found, times)).collect();
        text.push_str(&row.join(","));
        text.push_str("\r\n");
    }
    text
}

fn cell(cell: &Cell<'_>, times: Times) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) => csv_cell(&harmless(text)).into_owned(),
        Cell::Count(number) => number.to_string(),
        Cell::Seconds(seconds) => format!("{seconds:.3}"),
        Cell::Time(at) => match times {
            Times::Iso => format!("{at:.3}"),
            // with a fraction it is no time where the decimal mark is a comma
            Times::Excel => at.strftime("%F %T").to_string(),
        },
    }
}

fn harmless(text: &str) -> Cow<'_, str> {
    if text.starts_with(FORMULA) { format!("'{text}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_never_a_formula_and_stays_one_cell() {
        for begin in FORMULA {
            let made = cell(&Cell::Text(format!("{begin}cmd|' /C calc'!A0").into()), Times::Iso);
            assert!(made.trim_start_matches('"').starts_with('\''), "{made:?}");
        }
        let told = |text: &'static str| cell(&Cell::Text(text.into()), Times::Iso);
        assert_eq!(told("web-1 = x"), "web-1 = x");
        assert_eq!(told("a,\"b\"\r\nc"), "\"a,\"\"b\"\"\r\nc\"");
        assert_eq!(told("=HYPERLINK(\"http://x\",1)"), "\"'=HYPERLINK(\"\"http://x\"\",1)\"");
        assert_eq!(cell(&Cell::Seconds(2.5), Times::Iso), "2.500");
        let at = "2026-11-23T10:00:00.5Z".parse().unwrap();
        assert_eq!(cell(&Cell::Time(at), Times::Iso), "2026-11-23T10:00:00.500Z");
        assert_eq!(cell(&Cell::Time(at), Times::Excel), "2026-11-23 10:00:00");
        assert!(report(&[], Times::Excel).contains(",settled_at (UTC),"), "the zone is said");
        assert!(report(&[], Times::Iso).contains(",settled_at,"));
    }
}

//! What is a report as CSV? The cells of its rows as texts.

use super::Times;
use super::report::{Cell, Column, Report};
use crate::plan::export::{MARK, csv_row};

pub(super) fn report(report: &Report<'_>, times: Times) -> Vec<u8> {
    let name = |column: &Column| match times {
        Times::Excel if column.is_time => format!("{} (UTC)", column.name),
        _ => column.name.clone().into_owned(),
    };
    let mut text = MARK.as_bytes().to_vec();
    text.extend(csv_row(report.columns.iter().map(name)));
    for row in &report.rows {
        text.extend(csv_row(row.cells.iter().map(|found| cell(found, times))));
    }
    text
}

fn cell(cell: &Cell<'_>, times: Times) -> String {
    match cell {
        Cell::Empty => String::new(),
        Cell::Text(text) => text.to_string(),
        Cell::Count(number) => number.to_string(),
        Cell::Seconds(seconds) => format!("{seconds:.3}"),
        Cell::Time(at) => match times {
            Times::Iso => format!("{at:.3}"),
            // with a fraction it is no time where the decimal mark is a comma
            Times::Excel => at.strftime("%F %T").to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_as_spreadsheets_or_programs_read_them() {
        assert_eq!(cell(&Cell::Seconds(2.5), Times::Iso), "2.500");
        let at = "2026-11-23T10:00:00.5Z".parse().unwrap();
        assert_eq!(cell(&Cell::Time(at), Times::Iso), "2026-11-23T10:00:00.500Z");
        assert_eq!(cell(&Cell::Time(at), Times::Excel), "2026-11-23 10:00:00");
        let none = Report::of_results(String::new(), Vec::new());
        let head = |times| String::from_utf8(report(&none, times)).unwrap();
        assert!(head(Times::Excel).contains(",settled_at (UTC),"), "the zone is said");
        assert!(head(Times::Iso).contains(",settled_at,"));
    }
}

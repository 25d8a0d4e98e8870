//! What became of each row of the file? Counts that add up to all of them.

use std::fmt;

use serde::Serialize;

/// As many runs of rows are named; the rest is counted.
const MOST_NAMED: usize = 12;

/// The rows that are no requests; with the requests they are all rows of the file up to the last one with cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// 1 where a table has one.
    pub header: u64,
    pub comments: Rows,
    pub empty: u64,
    /// Hidden in the workbook, and left out (`--hidden skip`).
    pub hidden: Rows,
    /// Left out by their own `x-sluice-skip`.
    pub skipped: Rows,
}

impl Tally {
    pub fn rows(&self) -> u64 {
        self.header + self.comments.count + self.empty + self.hidden.count + self.skipped.count
    }
}

/// Some rows: how many, and the first of them by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    pub count: u64,
    /// First and last of each run.
    runs: Vec<(u64, u64)>,
}

impl Rows {
    pub(super) fn add(&mut self, row: u64) {
        self.count += 1;
        let room = self.runs.len() <= MOST_NAMED;
        match self.runs.last_mut() {
            Some((_, last)) if *last + 1 == row => *last = row,
            _ if room => self.runs.push((row, row)),
            _ => {}
        }
    }

    pub fn first(&self) -> Option<u64> {
        self.runs.first().map(|(first, _)| *first)
    }
}

/// `3, 7-9`
impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.runs.iter().take(MOST_NAMED).enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        f.write_str(if self.runs.len() > MOST_NAMED { ", ..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_in_runs() {
        let mut rows = Rows::default();
        for row in [3, 7, 8, 9] {
            rows.add(row);
        }
        assert_eq!((rows.count, rows.to_string().as_str()), (4, "3, 7-9"));
        (0..100).for_each(|n| rows.add(20 + 2 * n));
        assert_eq!(rows.count, 104);
        assert!(rows.to_string().ends_with(", ..."), "{rows}");
    }
}

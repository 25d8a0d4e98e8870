//! What is known of a sheet beside its cells: hidden rows and columns, merged cells, formulas without a result.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::cell::Cell;
use super::super::{Broken, column_name};
use super::values;

/// As many special cells, and as many merged ones, are kept in mind; no sheet that people made has so many.
const MOST: usize = 1_000_000;
pub(super) const MOST_MERGED: usize = 65_536;
/// Excel's own last row.
pub(super) const MOST_ROWS: u32 = 1 << 20;
pub(super) const MOST_COLUMNS: u32 = 1 << 14;
const CALCULATE: &str = "open the workbook in a spreadsheet, let it calculate, and save it; or put the value in its place";

/// Numbers from 0 that come in runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Spans(pub(super) Vec<(u32, u32)>);

impl Spans {
    /// Adds a run that begins behind the others, or anywhere if they are few.
    pub(in super::super) fn add(&mut self, first: u32, last: u32) {
        match self.0.last_mut() {
            Some((_, end)) if first == end.saturating_add(1) => *end = last,
            _ => self.0.push((first, last)),
        }
    }

    pub(in super::super) fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }
}

/// A rectangle of cells, from 0, ends included: (first row, first column, last row, last column).
pub(in super::super) type Area = (u32, u32, u32, u32);

/// What is to be known of a sheet beside its cells.
#[derive(Debug, Default)]
pub(in super::super) struct Facts {
    pub hidden_rows: Spans,
    pub hidden_columns: Spans,
    /// Columns of a group that is folded: the sheet shows where, and that it can be unfolded.
    pub folded_columns: Spans,
    /// By first row.
    merged: Vec<Area>,
    /// What stands there in place of a value.
    pub special: Places<Special>,
    /// Of those, the cells at which the reader stumbles, as they come.
    pub unreadable: Vec<(u32, u32)>,
    /// Values that are shown as something else.
    pub shown: Places<Shown>,
}

/// What is known of some cells: of single ones, and of areas that come in the sheet's order, as a file has them that
/// repeats rows and columns.
#[derive(Debug)]
pub(in super::super) struct Places<T> {
    single: HashMap<(u32, u32), T>,
    areas: Vec<(Area, T)>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { single: HashMap::new(), areas: Vec::new() }
    }
}

impl<T> Places<T> {
    pub(in super::super) fn get(&self, row: u32, column: u32) -> Option<&T> {
        self.single.get(&(row, column)).or_else(|| self.area(row, column))
    }

    /// The areas of one row of the file begin and end in the same rows.
    fn area(&self, row: u32, column: u32) -> Option<&T> {
        let before = self.areas.partition_point(|(area, _)| area.0 <= row);
        let top = self.areas[..before].last()?.0.0;
        let before = self.areas.partition_point(|(area, _)| (area.0, area.1) <= (top, column));
        let (area, what) = self.areas[..before].last()?;
        (area.0 == top && area.2 >= row && area.3 >= column).then_some(what)
    }

    pub(in super::super) fn set(&mut self, row: u32, column: u32, what: T) {
        self.single.insert((row, column), what);
    }

    pub(in super::super) fn set_area(&mut self, area: Area, what: T) {
        self.areas.push((area, what));
    }

    /// How many rows and columns the areas reach over.
    pub(in super::super) fn extent(&self) -> (u32, u32) {
        self.areas.iter().fold((0, 0), |(rows, columns), (area, _)| {
            (rows.max(area.2.saturating_add(1)), columns.max(area.3.saturating_add(1)))
        })
    }
}

/// How a value is shown, where its reader does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Shown {
    As(Arc<str>),
    By(Arc<str>),
}

/// Cells that are not what their value says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Special {
    NoResult,
    Uncalculated,
    /// A text that its reader passes over.
    Text(Arc<str>),
    /// What is found there, and what to do.
    Bad(Arc<str>, &'static str),
}

impl Special {
    pub(super) fn bad(found: impl Into<Arc<str>>, advice: &'static str) -> Self {
        Self::Bad(found.into(), advice)
    }

    fn cell(&self) -> Cell {
        let found = match self {
            Self::Text(text) => return values::text_or_error(text),
            Self::Bad(found, advice) => return Cell::bad(Arc::clone(found), *advice),
            Self::NoResult => "a formula without a result",
            Self::Uncalculated => {
                "a formula with the result 0, put there by a program that does not calculate"
            }
        };
        Cell::bad(found, CALCULATE)
    }
}

impl Facts {
    pub(in super::super) fn special(&self, row: u32, column: u32) -> Option<Cell> {
        self.special.get(row, column).map(Special::cell)
    }

    pub(in super::super) fn set_special(
        &mut self,
        row: u32,
        column: u32,
        special: Special,
    ) -> Result<(), Broken> {
        self.special.set(row, column, special);
        if self.special.single.len() > MOST {
            let what = format!(
                "more than {MOST} cells without a value, such as formulas without a result"
            );
            return Err(Broken::new(u64::from(row) + 1, what, CALCULATE));
        }
        Ok(())
    }

    pub(in super::super) fn set_merged(&mut self, mut merged: Vec<Area>) -> Result<(), Broken> {
        if merged.len() > MOST_MERGED {
            let what = format!("more than {MOST_MERGED} merged cells");
            return Err(Broken::new(0, what, "unmerge them, and fill each cell"));
        }
        merged.sort_unstable();
        merged.dedup();
        if let Some(area) = overlapping(&merged) {
            let what = format!("the merged cell {}, which overlaps another one", named(area));
            return Err(Broken::new(0, what, "unmerge them, and fill each cell"));
        }
        self.merged = merged;
        Ok(())
    }

    /// Puts what they are into the cells of a row that only look filled; `active`: the merged areas that reach it,
    /// kept from row to row.
    pub(in super::super) fn mark_merged(
        &self,
        active: &mut Active,
        row: u32,
        cells: &mut Vec<Cell>,
        width: usize,
    ) {
        if self.merged.is_empty() || cells.iter().all(Cell::is_empty) {
            return;
        }
        while let Some(area) = self.merged.get(active.next).filter(|area| area.0 <= row) {
            let found = format!("a part of the merged cell {}", named(*area));
            active.areas.push((*area, found.into()));
            active.next += 1;
        }
        active.areas.retain(|(area, _)| area.2 >= row);
        for ((top, left, _, right), found) in &active.areas {
            let (left, right) = (*left as usize, *right as usize);
            let first = left + usize::from(row == *top);
            let end = (right + 1).min(width);
            if cells.len() < end {
                cells.resize(end, Cell::Empty);
            }
            for cell in cells.get_mut(first..end).into_iter().flatten() {
                *cell = Cell::bad(Arc::clone(found), "unmerge it, and fill each of its cells");
            }
        }
    }
}

/// The merged areas that reach a row, and what is said of their cells.
#[derive(Debug, Default)]
pub(in super::super) struct Active {
    next: usize,
    areas: Vec<(Area, Arc<str>)>,
}

/// `F2:G4`
fn named((top, left, bottom, right): Area) -> String {
    let (from, to) = (column_name(left as usize), column_name(right as usize));
    format!("{from}{}:{to}{}", top + 1, bottom + 1)
}

/// One of these areas, by their first rows, that shares a cell with one before it.
fn overlapping(areas: &[Area]) -> Option<Area> {
    // by first column: (last column, last row) of what no later area has come to stand on; they share no column
    let mut open = BTreeMap::new();
    for &(top, left, bottom, right) in areas {
        while let Some((&first, &(last, end))) = open.range(..=right).next_back()
            && last >= left
        {
            if end >= top {
                return Some((top, left, bottom, right));
            }
            open.remove(&first);
        }
        open.insert(left, (right, bottom));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::scan::area_of;
    use super::*;

    #[test]
    fn areas_that_share_a_cell_are_found() {
        let all = |areas: &[&str]| {
            let mut areas: Vec<Area> = areas.iter().map(|area| area_of(area).unwrap()).collect();
            areas.sort_unstable();
            overlapping(&areas).map(named)
        };
        assert_eq!(all(&["A1:B2", "C1:D9", "A3:B4", "A5:D9"]), Some("A5:D9".to_owned()));
        assert_eq!(all(&["A1:B2", "C1:D4", "A3:B4", "A5:D9", "B10:C10"]), None);
        assert_eq!(all(&["A1:B9", "C1:D9", "B9:C9"]), Some("B9:C9".to_owned()));
    }

    #[test]
    fn what_is_known_of_areas_is_found_in_them() {
        let mut places = Places::default();
        for (area, what) in [((1, 0, 3, 1), 'a'), ((1, 4, 3, 4), 'b'), ((7, 2, 7, 9), 'c')] {
            places.set_area(area, what);
        }
        places.set(2, 0, 'd');
        let at = |row, column| places.get(row, column).copied();
        assert_eq!(
            [at(1, 1), at(3, 4), at(2, 0), at(7, 9)].map(Option::unwrap),
            ['a', 'b', 'd', 'c']
        );
        assert_eq!([at(0, 0), at(1, 2), at(4, 0), at(7, 1), at(8, 2)], [None; 5]);
        assert_eq!(places.extent(), (8, 10));
    }

    #[test]
    fn runs_are_kept_as_runs() {
        let mut spans = Spans::default();
        for row in [2, 3, 4, 9] {
            spans.add(row, row);
        }
        assert_eq!(spans.0, [(2, 4), (9, 9)]);
        assert!(spans.contains(3) && spans.contains(9) && !spans.contains(5) && !spans.contains(0));
    }
}

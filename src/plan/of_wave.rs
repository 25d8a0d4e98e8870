//! Which wave is a row of? What stands in a column of the plan, be it one that is not sent.

use serde_json::Value;

use super::cell::{Cell, Refused};
use super::clean::trim;
use super::columns::pointer;
use super::finding::Finding;
use super::rows::{Plan, Record};
use super::waves::WavesError;
use super::{PlanError, RowSettings, json, table};
use crate::contract::shown;
use crate::message::headers;

/// Only the rows of one wave, and what they share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfWave {
    /// The column that says the wave of a row; else all rows are of this wave.
    pub column: Option<String>,
    /// The wave; without one, all rows.
    pub wave: Option<String>,
    pub settings: RowSettings,
}

impl OfWave {
    /// What the wave says, where there is nothing of a row's own.
    pub(super) fn over(&self, defaults: RowSettings) -> RowSettings {
        let RowSettings { not_before, deadline, priority, again } = self.settings;
        RowSettings {
            not_before: not_before.or(defaults.not_before),
            deadline: deadline.or(defaults.deadline),
            priority: priority.or(defaults.priority),
            again: again.or(defaults.again),
        }
    }

    /// A row may wait longer than its wave, and not go before it.
    pub(super) fn check(&self, row: &RowSettings) -> Result<(), Refused> {
        match (self.settings.not_before, row.not_before) {
            (Some(wave), Some(row)) if row < wave => Err(Refused {
                found: format!("{row:.0}"),
                allowed: format!("a time from {wave:.0} on, the not before of its wave"),
                advice: "give a later time, or leave it to the wave".into(),
            }),
            _ => Ok(()),
        }
    }
}

/// Where the column of the waves is, in a header.
pub(super) fn column(cells: &[Cell], wanted: &str) -> Option<usize> {
    cells.iter().position(|cell| {
        let Cell::Text(name) = cell else { return false };
        let name = trim(name);
        name == wanted || name.strip_prefix('#').is_some_and(|name| trim(name) == wanted)
    })
}

pub(super) fn no_column(wanted: &str) -> (String, String) {
    let what = format!("no column {}", shown(wanted));
    let cure = "name one of its headers with --batch-by, such as #wave, or say --batch-by sheet";
    (what, cure.to_owned())
}

impl Plan {
    /// The wave that a row says, else what stands there instead.
    pub(super) fn wave_of(&self, record: &Record) -> Result<String, String> {
        let wave = match record {
            Record::Cells(line) => {
                let cell = self.wave_column.and_then(|at| line.cells.get(at));
                table::text_of_cell(cell.unwrap_or(&Cell::Empty))?
            }
            Record::Json(_, json::Line::Json(body)) => {
                let column = self.options.of.as_ref().and_then(|of| of.column.as_deref());
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                match column.and_then(|column| body.pointer(&pointer(column))) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                }
            }
            Record::Json(..) => String::new(),
        };
        Ok(trim(&wave).to_owned())
    }

    /// Whether the row belongs to another wave than the one that is read.
    pub(super) fn is_left_out(&self, record: &Record) -> bool {
        let Some(of) = self.options.of.as_ref().filter(|of| of.column.is_some()) else {
            return false;
        };
        of.wave.as_ref().is_some_and(|wave| self.wave_of(record).as_ref() != Ok(wave))
    }

    /// The waves that its column says, in the order in which they come.
    ///
    /// # Errors
    /// The plan cannot be read, or rows say no wave.
    pub fn waves(mut self) -> Result<Vec<String>, WavesError> {
        let (mut waves, mut findings) = (Vec::new(), Vec::new());
        let column = self.options.of.as_ref().and_then(|of| of.column.clone()).unwrap_or_default();
        while let Some(record) = self.next_record().map_err(|broken| broken.in_file(self.file()))? {
            let Some(record) = self.counted(record) else { continue };
            let found = match self.wave_of(&record) {
                Ok(wave) if wave.is_empty() => "no wave".to_owned(),
                Ok(wave) => {
                    if !waves.contains(&wave) {
                        waves.push(wave);
                    }
                    continue;
                }
                Err(found) => found,
            };
            let allowed = format!("the name of its wave, in {}", shown(&column));
            let refused = Refused { found, allowed, advice: "fill it".into() };
            let finding = Finding::new(self.last, "", refused);
            findings.push(Finding { sheet: self.end.sheet.clone(), ..finding });
        }
        if findings.is_empty() && waves.len() <= MOST {
            return Ok(waves);
        }
        if findings.is_empty() {
            let (file, count) = (self.file().to_owned(), waves.len());
            let what = format!("{count} different waves in {}", shown(&column));
            let cure = format!("{MOST} at most: is it the column that says the wave?");
            return Err(PlanError::Unknown { file, what, cure }.into());
        }
        findings.truncate(MOST);
        Err(WavesError::Findings { file: self.file().display().to_string(), findings })
    }
}

/// More waves than that are a column that means something else.
const MOST: usize = 100;

/// The setting that a wave holds its rows back by.
pub(super) const HELD_BY: &str = headers::NOT_BEFORE;

//! What stands in a report? A row a request with a cell for each column, and the figures over all of its batches.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;

use crate::core::Outcome;
use crate::message::generation::short;
use crate::message::result::ResultData;
use crate::report::batches::Together;
use crate::report::planned::{Accounted, RowState};
use crate::report::progress::BatchProgress;

/// A report before it is written down.
#[derive(Debug)]
pub struct Report<'a> {
    /// `Batch 019a…`, `Batches weekend-*`
    pub(super) title: String,
    pub(super) batches: Vec<&'a BatchProgress>,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<ReportRow<'a>>,
    /// It has every row of a plan, not only those that have ended.
    pub(super) is_whole: bool,
}

/// A column: what it is called, and how wide it is in a workbook, in characters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) name: Cow<'static, str>,
    pub(super) width: f64,
    /// Its times are UTC where the file knows no zones.
    pub(super) is_time: bool,
}

#[derive(Debug)]
pub(super) struct ReportRow<'a> {
    pub(super) cells: Vec<Cell<'a>>,
    /// Absent: it has not ended.
    pub(super) result: Option<&'a ResultData>,
    /// Of one that has not ended: its place in the plan, what it is, where it is and why.
    pub(super) open: Option<OpenRow>,
}

#[derive(Debug)]
pub(super) struct OpenRow {
    pub(super) row: u64,
    pub(super) name: String,
    pub(super) source_server_id: String,
    pub(super) state: RowState,
    pub(super) why: String,
}

/// What stands in a place of a report.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Empty,
    /// A word of ours, or a text of anybody.
    Text(Cow<'a, str>),
    Count(u64),
    /// With milliseconds.
    Seconds(f64),
    Time(Timestamp),
}

/// The columns of a result, in their order, with their widths.
const COLUMNS: [(&str, f64); 14] = [
    ("row", 7.0),
    ("source_server_id", 38.0),
    ("name", 24.0),
    ("priority", 9.0),
    ("region_id", 18.0),
    ("outcome", 11.0),
    ("task_id", 38.0),
    ("reason", 60.0),
    ("attempts", 10.0),
    ("looked_up", 11.0),
    ("enqueued_at", 24.0),
    ("first_attempt_at", 24.0),
    ("settled_at", 24.0),
    ("seconds_waited", 16.0),
];

/// The columns of a row of a plan, before the planner's own.
const PLANNED: [(&str, f64); 20] = [
    ("row", 7.0),
    ("batch", 38.0),
    ("source_server_id", 38.0),
    ("name", 24.0),
    ("target_server", 38.0),
    ("priority", 9.0),
    ("region_id", 18.0),
    ("state", 11.0),
    ("outcome", 11.0),
    ("task_id", 38.0),
    ("reason", 60.0),
    ("not_before", 24.0),
    ("deadline", 24.0),
    ("attempts", 10.0),
    ("looked_up", 11.0),
    ("replays", 9.0),
    ("enqueued_at", 24.0),
    ("first_attempt_at", 24.0),
    ("settled_at", 24.0),
    ("seconds_waited", 16.0),
];

impl Column {
    pub(super) fn new(name: impl Into<Cow<'static, str>>, width: f64) -> Self {
        let name = name.into();
        let is_time = name.ends_with("_at") || ["not_before", "deadline"].contains(&&*name);
        Self { name, width, is_time }
    }
}

impl<'a> Report<'a> {
    /// What has ended of these batches, in the order of their plans.
    pub fn of_results(title: String, batches: Vec<&'a BatchProgress>) -> Self {
        let several = batches.len() > 1;
        let names = several.then(|| Column::new("batch", 38.0));
        let columns = COLUMNS.map(|(name, width)| Column::new(name, width));
        let columns = names.into_iter().chain(columns).collect();
        let rows = batches.iter().flat_map(|batch| {
            let name = several.then(|| Cell::Text(called(batch, &batches).into()));
            batch.results().into_iter().map(move |result| {
                let cells = name.clone().into_iter().chain(of_result(result)).collect();
                ReportRow { cells, result: Some(result), open: None }
            })
        });
        let rows = rows.collect();
        Self { title, batches, columns, rows, is_whole: false }
    }

    /// Every row of a plan, with the planner's own columns (`notes`) at the end.
    pub fn of_plan(
        title: String,
        batches: Vec<&'a BatchProgress>,
        all: Vec<Accounted<'a>>,
        notes: &[String],
    ) -> Self {
        let columns = PLANNED.map(|(name, width)| Column::new(name, width)).into_iter();
        let notes = notes.iter().map(|name| Column::new(name.clone(), 24.0));
        let columns = columns.chain(notes).collect();
        let rows = all.into_iter().map(|one| of_row(one, &batches)).collect();
        Self { title, batches, columns, rows, is_whole: true }
    }

    /// Those that have not ended.
    pub(super) fn open(&self) -> Vec<&OpenRow> {
        self.rows.iter().filter_map(|row| row.open.as_ref()).collect()
    }

    pub(super) fn together(&self) -> Together {
        Together::of(self.batches.iter().copied())
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The figures of all batches: their name and what stands behind it.
    pub(super) fn totals(&self, now: Timestamp) -> Vec<(Cow<'static, str>, Cell<'a>)> {
        let time = |at: Option<Timestamp>| at.map_or(Cell::Empty, Cell::Time);
        let text = |text: &'a Option<String>| {
            text.as_deref().map_or(Cell::Empty, |text| Cell::Text(text.into()))
        };
        let mut lines: Vec<(Cow<'static, str>, Cell<'a>)> = Vec::new();
        for batch in &self.batches {
            lines.push(("batch".into(), Cell::Text(called(batch, &self.batches).into())));
            lines.push(("plan".into(), text(&batch.plan)));
            lines.push(("by".into(), text(&batch.by)));
            lines.push(("opened_at (UTC)".into(), time(batch.opened_at)));
            lines.push(("last_settled_at (UTC)".into(), time(batch.summary().last_settled_at)));
        }
        let all = self.together();
        lines.push(("as_of (UTC)".into(), Cell::Time(now)));
        lines.push(("total".into(), all.total.map_or(Cell::Empty, Cell::Count)));
        if self.is_whole {
            lines.push(("rows".into(), Cell::Count(self.rows.len() as u64)));
            lines.push(("not_ended".into(), Cell::Count(self.open().len() as u64)));
        }
        lines.push(("settled".into(), Cell::Count(all.settled)));
        lines.push(("failed".into(), Cell::Count(all.failed)));
        let outcomes: BTreeMap<Outcome, u64> = all.outcomes;
        let outcome =
            |(outcome, count): (Outcome, u64)| (outcome.as_str().into(), Cell::Count(count));
        lines.extend(outcomes.into_iter().map(outcome));
        lines
    }
}

/// The batch's id, and its generation where another one of that id stands beside it.
pub(super) fn called(one: &BatchProgress, all: &[&BatchProgress]) -> String {
    if all.iter().filter(|other| other.batch == one.batch).count() > 1 {
        format!("{} ({})", one.batch, short(one.run))
    } else {
        one.batch.clone()
    }
}

/// The cells of a result, one for each of [`COLUMNS`].
fn of_result(result: &ResultData) -> [Cell<'_>; 14] {
    let text = |text: &'_ str| match text {
        "" => Cell::Empty,
        text => Cell::Text(text.to_owned().into()),
    };
    let time = |at: Option<Timestamp>| at.map_or(Cell::Empty, Cell::Time);
    [
        result.row.map_or(Cell::Empty, Cell::Count),
        text(&result.source_server_id),
        text(&result.name),
        Cell::Count(result.priority.into()),
        text(&result.region_id),
        Cell::Text(result.outcome.as_str().into()),
        text(result.task_id.as_deref().unwrap_or_default()),
        text(&reason(result)),
        Cell::Count(result.attempts.into()),
        Cell::Count(result.looked_up.into()),
        time(result.enqueued_at),
        time(result.first_attempt_at),
        Cell::Time(result.settled_at),
        seconds_waited(result).map_or(Cell::Empty, Cell::Seconds),
    ]
}

/// The cells of a row of a plan, one for each of [`PLANNED`], and its notes.
fn of_row<'a>(one: Accounted<'a>, batches: &[&BatchProgress]) -> ReportRow<'a> {
    let Accounted { row, batch, result } = one;
    let text = |text: String| if text.is_empty() { Cell::Empty } else { Cell::Text(text.into()) };
    let time = |at: Option<Timestamp>| at.map_or(Cell::Empty, Cell::Time);
    let count = |count: Option<u64>| count.map_or(Cell::Empty, Cell::Count);
    let mut cells = vec![
        if row.row == 0 { Cell::Empty } else { Cell::Count(row.row) },
        text(batch.map(|batch| called(batch, batches)).unwrap_or_default()),
        text(row.source_server_id.clone()),
        text(row.name.clone()),
        text(row.target_server),
        count(result.map(|result| result.priority).or(row.priority).map(u64::from)),
        text(row.region_id),
        Cell::Text(row.state.as_str().into()),
        text(result.map(|result| result.outcome.as_str().to_owned()).unwrap_or_default()),
        text(result.and_then(|result| result.task_id.clone()).unwrap_or_default()),
        text(result.map_or_else(|| row.why.clone(), reason)),
        time(row.settings.not_before),
        time(row.settings.deadline),
        count(result.map(|result| result.attempts.into())),
        count(result.map(|result| result.looked_up.into())),
        count(result.map(|result| result.replay.into())),
        time(result.and_then(|result| result.enqueued_at)),
        time(result.and_then(|result| result.first_attempt_at)),
        time(result.map(|result| result.settled_at)),
        result.and_then(seconds_waited).map_or(Cell::Empty, Cell::Seconds),
    ];
    cells.extend(row.notes.into_iter().map(text));
    let open = result.is_none().then_some(OpenRow {
        row: row.row,
        name: row.name,
        source_server_id: row.source_server_id,
        state: row.state,
        why: row.why,
    });
    ReportRow { cells, result, open }
}

/// From the moment it was enqueued until it was settled, in whole milliseconds.
fn seconds_waited(result: &ResultData) -> Option<f64> {
    let waited = result.settled_at.duration_since(result.enqueued_at?);
    Some(std::time::Duration::try_from(waited).ok()?.as_millis())
        .and_then(|ms| u32::try_from(ms / 1000).ok().zip(u16::try_from(ms % 1000).ok()))
        .map(|(seconds, ms)| f64::from(seconds) + f64::from(ms) / 1000.0)
}

/// All that is known of why it ended so: our sentence, the API's answer, every rule that it breaks.
pub(super) fn reason(result: &ResultData) -> String {
    let mut said = result.reason.clone();
    let mut add = |text: std::fmt::Arguments<'_>| {
        let between = if said.is_empty() { "" } else { "; " };
        // Writing to a text cannot fail.
        let _ = write!(said, "{between}{text}");
    };
    if let Some(fault) = &result.error
        && !result.reason.contains(&fault.error_msg)
    {
        add(format_args!("{fault}"));
    }
    for violation in &result.violations {
        let crate::contract::Violation { pointer, found, allowed, .. } = violation;
        add(format_args!("{pointer}: found {found}, allowed: {allowed}"));
    }
    said
}

//! What has become of every row of a plan, ended or not? Rows and results are put together by the identity that a row's
//! request has in each generation that the plan was sent as; where the plan was edited since, by its row and source server.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::core::Outcome;
use crate::message::result::ResultData;
use crate::plan::{Notes, Row, RowSettings};
use crate::report::progress::BatchProgress;

/// A row of the plan, before it is known what became of it.
#[derive(Clone, Debug, Default)]
pub struct PlanRow {
    pub row: u64,
    pub name: String,
    pub source_server_id: String,
    /// `web-1-new (6dac…)`, `template 9f…`
    pub target_server: String,
    pub region_id: String,
    pub priority: Option<u16>,
    pub settings: RowSettings,
    /// The planner's own columns.
    pub notes: Vec<String>,
    /// Its message ids, one for each generation.
    pub ids: Vec<String>,
    /// Why it is in no batch, or what it waits for.
    pub state: RowState,
    pub why: String,
}

/// Where a row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// Enqueued, or handed to `submit`: it waits, or is in flight.
    #[default]
    Waiting,
    /// Begun, and its end is not known.
    Begun,
    /// Valid, and not sent.
    NotSent,
    /// Not sent, for it is wrong.
    Invalid,
    /// See the outcome.
    Ended,
}

impl RowState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Begun => "begun",
            Self::NotSent => "not sent",
            Self::Invalid => "invalid",
            Self::Ended => "ended",
        }
    }
}

impl PlanRow {
    /// What a row says, valid or not; `ids` and what it waits for are the caller's.
    pub fn of(row: &Row, notes: &Notes) -> Self {
        let body: Value = serde_json::from_slice(&row.body).unwrap_or_default();
        let text = |pointer: &str| {
            body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let source_server_id = match &row.source_server_id {
            Some(id) => id.clone(),
            None => text("/source_server/id"),
        };
        let own = notes.of(row.number, &source_server_id).unwrap_or_default().to_vec();
        let target = [text("/target_server/name"), text("/target_server/vm_id")];
        let target_server = match (target[0].as_str(), target[1].as_str(), text("/vm_template_id"))
        {
            ("", "", template) if template.is_empty() => String::new(),
            ("", "", template) => format!("template {template}"),
            (name, "", _) => name.to_owned(),
            ("", id, _) => id.to_owned(),
            (name, id, _) => format!("{name} ({id})"),
        };
        let wrong = row.read.as_ref().err().into_iter().flatten();
        let wrong: Vec<String> = wrong.map(ToString::to_string).collect();
        let state = if wrong.is_empty() { RowState::Waiting } else { RowState::Invalid };
        Self {
            row: row.number,
            name: text("/name"),
            source_server_id,
            target_server,
            region_id: text("/region_id"),
            priority: row.priority(),
            settings: row.settings,
            notes: own,
            ids: Vec::new(),
            state,
            why: wrong.join("; "),
        }
    }

    /// What it waits for by itself, where it says so: a time that has not come, or one that has passed.
    pub fn own_wait(&self, now: Timestamp) -> Option<String> {
        let RowSettings { not_before, deadline, .. } = self.settings;
        match (not_before.filter(|at| *at > now), deadline.filter(|at| *at <= now)) {
            (Some(at), _) => Some(format!("its time, at {at:.0}")),
            (None, Some(at)) => {
                Some(format!("its deadline {at:.0} has passed: it ends as expired in its turn"))
            }
            (None, None) => None,
        }
    }
}

/// A row, and the result if it has ended.
#[derive(Debug)]
pub struct Accounted<'a> {
    pub row: PlanRow,
    /// The batch that it ended in, or the only one that it can be in.
    pub batch: Option<&'a BatchProgress>,
    pub result: Option<&'a ResultData>,
}

/// Every row of the plan; and what ended in its batches and stands in no row of it any more.
pub fn account<'a>(rows: Vec<PlanRow>, batches: &[&'a BatchProgress]) -> Vec<Accounted<'a>> {
    let mut by_id: HashMap<&str, (&BatchProgress, &ResultData)> = HashMap::new();
    let mut by_row: HashMap<(u64, &str), (&BatchProgress, &ResultData)> = HashMap::new();
    let mut results = Vec::new();
    for batch in batches.iter().copied() {
        for result in batch.results() {
            by_id.insert(&result.request_id, (batch, result));
            if let Some(row) = result.row {
                by_row.insert((row, &result.source_server_id), (batch, result));
            }
            results.push((batch, result));
        }
    }
    let only = match batches {
        [one] => Some(*one),
        _ => None,
    };
    let mut told: HashSet<&str> = HashSet::new();
    let mut all: Vec<Accounted<'a>> = Vec::new();
    for mut row in rows {
        // A plan that was sent again has a result of each time: the latest says where it is now.
        let own = row.ids.iter().rev().find_map(|id| by_id.get(id.as_str()));
        let found = own.or_else(|| by_row.get(&(row.row, row.source_server_id.as_str())));
        let found = found.copied().filter(|(_, result)| told.insert(&result.request_id));
        let (batch, result) = found.unzip();
        if result.is_some() {
            row.state = RowState::Ended;
            row.why = String::new();
        }
        let sent = matches!(row.state, RowState::Waiting | RowState::Begun);
        all.push(Accounted { row, batch: batch.or(only.filter(|_| sent)), result });
    }
    let gone = results.into_iter().filter(|(_, result)| !told.contains(result.request_id.as_str()));
    all.extend(gone.map(|(batch, result)| Accounted {
        row: PlanRow {
            row: result.row.unwrap_or_default(),
            name: result.name.clone(),
            source_server_id: result.source_server_id.clone(),
            region_id: result.region_id.clone(),
            priority: Some(result.priority),
            state: RowState::Ended,
            ..PlanRow::default()
        },
        batch: Some(batch),
        result: Some(result),
    }));
    all
}

/// How many rows are in each state, those that have ended by their outcome.
pub fn counts(all: &[Accounted<'_>]) -> Vec<(&'static str, usize)> {
    let word =
        |one: &Accounted<'_>| one.result.map_or(one.row.state.as_str(), |r| r.outcome.as_str());
    let states = [RowState::Waiting, RowState::Begun, RowState::NotSent, RowState::Invalid];
    let words = Outcome::ALL.map(Outcome::as_str).into_iter().chain(states.map(RowState::as_str));
    let mut told: Vec<(&'static str, usize)> = Vec::new();
    for name in words {
        let count = all.iter().filter(|one| word(one) == name).count();
        // `invalid` is an outcome and a state: a request may be refused by the worker, or not be sent at all.
        if count > 0 && told.iter().all(|(known, _)| *known != name) {
            told.push((name, count));
        }
    }
    told
}

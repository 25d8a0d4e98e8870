//! How far has one generation of a batch come? What the results stream says of it, put together. Pure: events go in,
//! figures come out. Which generations there are is [`super::batches`]'s.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::core::Outcome;
use crate::message::result::{Event, ResultData};

/// The rate is taken over the latest so many settlements ...
const LATEST: usize = 200;
/// ... of this time.
const SPAN: Duration = Duration::from_secs(300);

/// One generation of a batch, as the stream tells of it.
#[derive(Clone, Debug, Default)]
pub struct BatchProgress {
    pub batch: String,
    /// The generation; absent where whoever enqueued it named none.
    pub run: Option<Uuid>,
    /// Of the announcement before its first request: absent for batches of other clients.
    pub plan: Option<String>,
    pub by: Option<String>,
    pub opened_at: Option<Timestamp>,
    announced: Option<u64>,
    /// All of its requests are in the queue.
    pub enqueued: bool,
    /// By the request's message id: a request that was sent again by a reviewer stays one request.
    requests: HashMap<Box<str>, Box<ResultData>>,
    counts: BTreeMap<Outcome, u64>,
    /// Of the earliest of its requests that has ended.
    enqueued_at: Option<Timestamp>,
    first_settled: Option<Timestamp>,
    last_settled: Option<Timestamp>,
    latest: VecDeque<Timestamp>,
    /// About what its results take in memory.
    bytes: usize,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchChange {
    /// Not of this batch, or nothing new.
    Nothing,
    Announced,
    /// A request has ended, or ended otherwise than before.
    Settled,
}

/// The figures of one batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub batch: String,
    /// The generation: an id that is used again is another batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_run: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<Timestamp>,
    /// How many requests it has, where it was announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    pub settled: u64,
    pub failed: u64,
    pub outcomes: BTreeMap<Outcome, u64>,
    pub done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_settled_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_settled_at: Option<Timestamp>,
}

impl BatchProgress {
    pub fn new(batch: &str, run: Option<Uuid>) -> Self {
        Self { batch: batch.to_owned(), run, ..Self::default() }
    }

    /// Takes an event of the stream, of whatever batch.
    pub fn take(&mut self, event: &Event) -> BatchChange {
        if event.batch() != Some((&*self.batch, self.run)) {
            return BatchChange::Nothing;
        }
        match event {
            Event::Opened(event) => {
                self.announced = Some(event.data.total);
                self.plan = Some(event.data.plan.clone());
                self.by = Some(event.data.by.clone());
                self.opened_at.get_or_insert(event.time);
                BatchChange::Announced
            }
            Event::Enqueued(event) => {
                self.announced = Some(event.data.total);
                self.enqueued = true;
                BatchChange::Announced
            }
            Event::Result(event) => self.settle(&event.data),
        }
    }

    /// A reader keeps one result a request: `created` or `exists` stands, else the latest.
    fn settle(&mut self, result: &ResultData) -> BatchChange {
        let known = self.requests.get(&*result.request_id);
        if let Some(known) = known {
            let later = (result.replay, result.settled_at) > (known.replay, known.settled_at);
            let stands = known.outcome.is_success();
            if stands || !later && !result.outcome.is_success() {
                return BatchChange::Nothing;
            }
            let counted = self.counts.entry(known.outcome).or_default();
            *counted = counted.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(weight(known));
        } else {
            self.first_settled =
                Some(self.first_settled.map_or(result.settled_at, |at| at.min(result.settled_at)));
            self.note(result.settled_at);
        }
        self.enqueued_at = match (self.enqueued_at, result.enqueued_at) {
            (Some(known), Some(at)) => Some(known.min(at)),
            (known, at) => known.or(at),
        };
        self.last_settled = self.last_settled.max(Some(result.settled_at));
        *self.counts.entry(result.outcome).or_default() += 1;
        self.bytes += weight(result);
        self.requests.insert(result.request_id.as_str().into(), Box::new(result.clone()));
        BatchChange::Settled
    }

    fn note(&mut self, at: Timestamp) {
        self.latest.push_back(at);
        if self.latest.len() > LATEST {
            self.latest.pop_front();
        }
    }

    /// How many requests it has, where it was announced.
    pub fn total(&self) -> Option<u64> {
        self.announced
    }

    pub fn settled(&self) -> u64 {
        self.counts.values().sum()
    }

    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts.get(&outcome).copied().unwrap_or_default()
    }

    /// Those that are dead letters now.
    pub fn failed(&self) -> u64 {
        self.counts
            .iter()
            .filter(|(outcome, _)| outcome.is_dead_letter())
            .map(|(_, count)| count)
            .sum()
    }

    /// Those for which there is a task as it was asked for.
    pub fn succeeded(&self) -> u64 {
        self.counts.iter().filter(|(outcome, _)| outcome.is_success()).map(|(_, count)| count).sum()
    }

    /// When it was announced, else when the first of it was enqueued or ended, as far as is known.
    pub fn begun_at(&self) -> Option<Timestamp> {
        self.opened_at.or(self.enqueued_at).or(self.first_settled)
    }

    /// When something was heard of it last.
    pub fn heard_at(&self) -> Option<Timestamp> {
        self.last_settled.or(self.opened_at)
    }

    /// About what its results take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether every request that was announced has ended.
    pub fn is_done(&self) -> bool {
        self.announced.is_some_and(|total| self.settled() >= total)
    }

    /// Whether the stream has told of this batch at all.
    pub fn is_known(&self) -> bool {
        self.announced.is_some() || !self.requests.is_empty()
    }

    /// Settlements a second, lately; `None` until there are some.
    pub fn per_second(&self, now: Timestamp) -> Option<f64> {
        let span = jiff::SignedDuration::try_from(SPAN).unwrap_or_default();
        let from = now.checked_sub(span).unwrap_or(now);
        let mut latest: Vec<_> = self.latest.iter().filter(|at| **at >= from).collect();
        latest.sort();
        let (first, last) = (latest.first()?, latest.last()?);
        let seconds = last.duration_since(**first).as_secs_f64();
        let between = u32::try_from(latest.len() - 1).unwrap_or(u32::MAX);
        (between > 0 && seconds > 0.0).then(|| f64::from(between) / seconds)
    }

    /// The result of each request that has ended, in the order of the plan.
    pub fn results(&self) -> Vec<&ResultData> {
        let mut results: Vec<&ResultData> =
            self.requests.values().map(|result| &**result).collect();
        results.sort_by_key(|result| (result.row.unwrap_or(u64::MAX), result.settled_at));
        results
    }

    /// The same in no order: nothing is sorted.
    pub fn each(&self) -> impl Iterator<Item = &ResultData> {
        self.requests.values().map(|result| &**result)
    }

    /// The first `most` of those that are dead letters now, in the order of the plan. Looks at all, and sorts no more
    /// than it tells.
    pub fn failures(&self, most: usize) -> Vec<&ResultData> {
        let mut first = BTreeMap::new();
        for (id, result) in self.requests.iter().filter(|(_, r)| r.outcome.is_dead_letter()) {
            let place = (result.row.unwrap_or(u64::MAX), result.settled_at, id);
            first.insert(place, &**result);
            if first.len() > most {
                first.pop_last();
            }
        }
        first.into_values().collect()
    }

    pub fn summary(&self) -> Summary {
        Summary {
            batch: self.batch.clone(),
            batch_run: self.run,
            plan: self.plan.clone(),
            by: self.by.clone(),
            opened_at: self.opened_at,
            total: self.total(),
            settled: self.settled(),
            failed: self.failed(),
            outcomes: self
                .counts
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(k, v)| (*k, *v))
                .collect(),
            done: self.is_done(),
            first_settled_at: self.first_settled,
            last_settled_at: self.last_settled,
        }
    }
}

/// About how many bytes a result takes in memory.
fn weight(result: &ResultData) -> usize {
    let ResultData { request_id, name, source_server_id, project_id, region_id, reason, .. } =
        result;
    let texts = [request_id, request_id, name, source_server_id, project_id, region_id, reason];
    let error = result.error.iter().flat_map(|error| {
        let params = error.error_param.iter().map(String::len);
        let details = error.details.iter().map(|detail| detail.error_msg.len() + 64);
        params.chain(details).chain([error.error_msg.len()])
    });
    let of = |v: &crate::contract::Violation| v.pointer.len() + v.found.len() + v.allowed.len();
    let violations = result.violations.iter().map(|violation| of(violation) + 72);
    let texts = texts.into_iter().map(String::len);
    size_of::<ResultData>() + texts.chain(error).chain(violations).sum::<usize>()
}

/// What to say of a failure in one line: what, which, why.
pub fn failure_line(result: &ResultData) -> String {
    let row = result.row.map(|row| format!("row {row}: ")).unwrap_or_default();
    let what = if result.name.is_empty() { &result.request_id } else { &result.name };
    let code = result.error.as_ref().and_then(|error| error.error_code.as_deref());
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    let why = match (&result.reason[..], &result.error, result.violations.first()) {
        (_, _, Some(first)) => format!(
            "{}: found {}, allowed: {}{}",
            first.pointer,
            first.found,
            first.allowed,
            if result.violations.len() > 1 {
                format!(" (and {} more)", result.violations.len() - 1)
            } else {
                String::new()
            }
        ),
        ("", Some(error), _) => error.error_msg.clone(),
        (reason, _, _) => reason.to_owned(),
    };
    format!("{row}{what} ({}): {}{code}: {why}", result.source_server_id, result.outcome.as_str())
}

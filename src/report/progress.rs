//! How far has a batch come? What the results stream says of it, put together. Pure: events go in, figures come out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::core::Outcome;
use crate::message::result::{Event, ResultData};

/// The rate is taken over the latest so many settlements ...
const LATEST: usize = 200;
/// ... of this time.
const SPAN: Duration = Duration::from_secs(300);

/// One batch, as the stream tells of it.
#[derive(Clone, Debug, Default)]
pub struct BatchProgress {
    pub batch: String,
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
    pub fn new(batch: &str) -> Self {
        Self { batch: batch.to_owned(), ..Self::default() }
    }

    /// Takes an event of the stream, of whatever batch.
    pub fn take(&mut self, event: &Event) -> BatchChange {
        match event {
            Event::Opened(event) if event.data.batch == self.batch => {
                self.announced = Some(event.data.total);
                self.plan = Some(event.data.plan.clone());
                self.by = Some(event.data.by.clone());
                self.opened_at.get_or_insert(event.time);
                BatchChange::Announced
            }
            Event::Enqueued(event) if event.data.batch == self.batch => {
                self.announced = Some(event.data.total);
                self.enqueued = true;
                BatchChange::Announced
            }
            Event::Result(event) if event.data.batch.as_deref() == Some(&*self.batch) => {
                self.settle(&event.data)
            }
            _ => BatchChange::Nothing,
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

    /// How long the rest takes at the latest rate.
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        let left = u32::try_from(self.total()?.saturating_sub(self.settled())).unwrap_or(u32::MAX);
        let seconds = f64::from(left) / self.per_second(now)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// The result of each request that has ended, in the order of the plan.
    pub fn results(&self) -> Vec<&ResultData> {
        let mut results: Vec<&ResultData> =
            self.requests.values().map(|result| &**result).collect();
        results.sort_by_key(|result| (result.row.unwrap_or(u64::MAX), result.settled_at));
        results
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

/// Every batch that the stream tells of.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    all: HashMap<String, BatchProgress>,
    bytes: usize,
}

impl Batches {
    pub fn take(&mut self, event: &Event) {
        let batch = match event {
            Event::Opened(event) => &event.data.batch,
            Event::Enqueued(event) => &event.data.batch,
            Event::Result(event) => match &event.data.batch {
                Some(batch) => batch,
                None => return,
            },
        };
        let known = self.all.entry(batch.clone()).or_insert_with(|| BatchProgress::new(batch));
        let before = known.bytes;
        known.take(event);
        self.bytes = self.bytes + known.bytes - before;
    }

    pub fn get(&self, batch: &str) -> Option<&BatchProgress> {
        self.all.get(batch)
    }

    pub fn iter(&self) -> impl Iterator<Item = &BatchProgress> {
        self.all.values()
    }

    /// About what all results take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets whole batches, those first of which nothing was heard for longest, until no more results than this are
    /// remembered, and no more bytes of them; says which. A batch counts as one result more than it has.
    pub fn shrink(&mut self, most: usize, most_bytes: usize) -> Vec<String> {
        let size = |progress: &BatchProgress| progress.requests.len() + 1;
        let mut held: usize = self.all.values().map(size).sum();
        let mut gone = Vec::new();
        while held > most || self.bytes > most_bytes {
            let heard = |progress: &BatchProgress| progress.last_settled.or(progress.opened_at);
            let oldest = self.all.values().min_by_key(|progress| heard(progress));
            let Some(oldest) = oldest.map(|progress| progress.batch.clone()) else { break };
            if let Some(progress) = self.all.remove(&oldest) {
                held -= size(&progress);
                self.bytes -= progress.bytes;
            }
            gone.push(oldest);
        }
        gone
    }

    /// The latest first.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut summaries: Vec<_> = self.all.values().map(BatchProgress::summary).collect();
        summaries.sort_by_key(|summary| {
            std::cmp::Reverse(summary.opened_at.or(summary.first_settled_at))
        });
        summaries
    }
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

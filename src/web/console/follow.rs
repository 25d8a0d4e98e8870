//! What does the results stream say of the batches of the last days? A reader of its own, on a connection of its own: it
//! never meets the worker's loop, runs only while somebody looks, and holds a bounded number of results.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::broker::ReadFrom;
use crate::broker::settings::{Broker as Settings, Queues};
use crate::broker::streams::follow::Results;
use crate::message::result::{Event, ResultData};
use crate::report::batches::{Batches, Generation};
use crate::report::progress::BatchProgress;

/// Batches of the last so many days.
pub(super) const DAYS: i64 = 7;
/// Results that are held at once, over all batches.
const MOST: usize = 100_000;
/// Bytes that these may take, whatever stands in them.
const MOST_BYTES: usize = 256 << 20;
/// Generations of batches that were left out; more are not told apart.
const MOST_LEFT_OUT: usize = 10_000;
/// So many results without a batch, and so much of what they say.
const MOST_LOOSE: usize = 10_000;
const LONGEST_REASON: usize = 512;
/// Nobody has looked for so long: the reader ends, and what it held is forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// Before another try to reach the stream.
const PAUSE: Duration = Duration::from_secs(2);
/// How often a look at the bound is taken, in events.
const OFTEN: u64 = 1_000;

/// What has been read so far.
#[derive(Debug)]
pub(super) struct Seen {
    /// [`MOST`]
    most: usize,
    /// [`MOST_BYTES`]
    most_bytes: usize,
    pub(super) batches: Batches,
    pub(super) events: u64,
    /// When all that there was had been read the last time.
    pub(super) whole_at: Option<Timestamp>,
    /// Why the stream cannot be read.
    pub(super) trouble: Option<String>,
    pub(super) left_out: HashSet<Generation>,
    /// The latest results of requests that belong to no batch.
    loose: VecDeque<Box<ResultData>>,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            most: MOST,
            most_bytes: MOST_BYTES,
            batches: Batches::default(),
            events: 0,
            whole_at: None,
            trouble: None,
            left_out: HashSet::new(),
            loose: VecDeque::new(),
        }
    }
}

impl Seen {
    fn take(&mut self, event: &Event) {
        self.events += 1;
        let is_left_out = |(batch, run): (&str, _)| {
            !self.left_out.is_empty() && self.left_out.contains(&(batch.to_owned(), run))
        };
        if let (None, Event::Result(result)) = (event.batch(), event) {
            return self.keep_loose(&result.data);
        }
        if event.batch().is_none_or(is_left_out) {
            return;
        }
        self.batches.take(event);
        if self.events.is_multiple_of(OFTEN) || self.batches.bytes() > self.most_bytes {
            let room = MOST_LEFT_OUT.saturating_sub(self.left_out.len());
            let gone = self.batches.shrink(self.most, self.most_bytes);
            self.left_out.extend(gone.into_iter().take(room));
        }
    }

    fn keep_loose(&mut self, result: &ResultData) {
        if self.loose.len() >= MOST_LOOSE {
            self.loose.pop_front();
        }
        // However long its texts are: who looks wants the beginning.
        let mut result = result.clone();
        result.reason = result.reason.chars().take(LONGEST_REASON).collect();
        (result.error, result.violations) = (None, Vec::new());
        self.loose.push_back(Box::new(result));
    }

    /// Every result that is held, in no order.
    pub(super) fn results(&self) -> impl Iterator<Item = &ResultData> {
        let loose = self.loose.iter().map(|result| &**result);
        self.batches.iter().flat_map(BatchProgress::each).chain(loose)
    }
}

#[derive(Debug, Default)]
struct State {
    seen: Mutex<Seen>,
    /// When somebody last looked; `None`: nobody reads.
    wanted: Mutex<Option<Instant>>,
}

/// The reader of one lane's results.
#[derive(Debug, Default)]
pub(super) struct Follower(Arc<State>);

impl Follower {
    /// Asks what has been read; the first one who asks starts the reader.
    pub(super) fn look<T>(
        &self,
        settings: &Settings,
        queues: &Queues,
        tell: impl FnOnce(&Seen) -> T,
    ) -> T {
        let mut wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.replace(Instant::now()).is_none() {
            tokio::spawn(follow(Arc::clone(&self.0), settings.clone(), queues.clone()));
        }
        drop(wanted);
        tell(&self.0.seen())
    }
}

impl State {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody wants it any more; whoever comes next starts anew.
    fn is_over(&self) -> bool {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let over = wanted.is_none_or(|at| at.elapsed() > IDLE);
        if over {
            *wanted = None;
            *self.seen() = Seen::default();
        }
        over
    }
}

async fn follow(state: Arc<State>, settings: Settings, queues: Queues) {
    let since = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * DAYS));
    let from = since.map_or(ReadFrom::First, ReadFrom::Time);
    let mut results = loop {
        match Results::open(&settings, &queues, from).await {
            Ok(results) => break results,
            Err(error) => state.seen().trouble = Some(error.to_string()),
        }
        if state.is_over() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    };
    state.seen().trouble = None;
    while !state.is_over() {
        // A lost connection is opened again in there; the page tells how old its figures are.
        let event = results.next().await;
        let mut seen = state.seen();
        if let Some(event) = event {
            seen.take(&event);
        }
        if results.is_caught_up() {
            seen.whole_at = Some(Timestamp::now());
        }
    }
    results.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(batch: &str, n: u32, at: Timestamp) -> Event {
        let event = serde_json::json!({
            "specversion": "1.0", "id": uuid::Uuid::from_u128(n.into()), "source": "s",
            "type": "sluice.request.created", "subject": "s1", "time": at,
            "datacontenttype": "application/json",
            "data": {
                "request_id": format!("{batch}-{n}"), "run": uuid::Uuid::from_u128(n.into()),
                "batch": batch, "name": "n", "source_server_id": "s", "project_id": "p",
                "region_id": "r", "priority": 1, "outcome": "created", "attempts": 1,
                "looked_up": 0, "settled_at": at, "worker": "w",
            },
        });
        Event::read(event.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_oldest_batches_are_left_out_whole_when_there_is_too_much() {
        let mut seen = Seen { most: 2_000, ..Seen::default() };
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let per_batch = 1_000;
        for (b, batch) in ["old", "middle", "new"].into_iter().enumerate() {
            for n in 0..per_batch {
                let at = start + SignedDuration::from_secs(i64::try_from(b).unwrap());
                seen.take(&result(batch, n, at));
            }
        }
        assert!(
            seen.left_out.contains(&("old".to_owned(), None))
                && seen.batches.latest("old").is_none()
        );
        assert_eq!(seen.batches.latest("new").unwrap().settled(), u64::from(per_batch));
        // What comes late of a batch that was left out does not come back as a small one.
        seen.take(&result("old", 1, start));
        assert!(seen.batches.latest("old").is_none());
    }

    #[test]
    fn long_results_are_bounded_by_their_bytes() {
        let mut seen = Seen { most_bytes: 1 << 20, ..Seen::default() };
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        for n in 0..200 {
            let Event::Result(mut event) = result(&format!("b{}", n / 20), n, start) else {
                unreachable!()
            };
            event.data.settled_at = start + SignedDuration::from_secs(n.into());
            event.data.reason = "x".repeat(20_000);
            seen.take(&Event::Result(event));
            assert!(seen.batches.bytes() <= 1 << 20);
        }
        assert!(seen.batches.latest("b0").is_none() && seen.batches.latest("b9").is_some());
    }

    #[test]
    fn results_without_a_batch_are_found_too_and_no_more_than_the_latest() {
        let mut seen = Seen::default();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        for n in 0..u32::try_from(MOST_LOOSE).unwrap() + 5 {
            let Event::Result(mut event) = result("b", n, at) else { unreachable!() };
            event.data.batch = None;
            event.data.reason = "ü".repeat(2 * LONGEST_REASON);
            seen.take(&Event::Result(event));
        }
        seen.take(&result("b", 1, at));
        assert_eq!(seen.results().count(), MOST_LOOSE + 1);
        assert!(seen.results().all(|one| one.reason.chars().count() <= LONGEST_REASON));
        assert!(!seen.results().any(|one| one.request_id == "b-0"));
    }
}

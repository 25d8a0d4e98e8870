//! How far have the open batches come, as the worker sees them? It counts what it holds and what it has settled; how
//! much of a batch is still in the queue only the batch's own announcement tells.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::core::{Moment, Request};
use crate::message::status::BatchCounts;

/// The latest so many are told apart: there may be one for each request.
const MOST: usize = 20;
/// A batch of which nothing is held is kept for so long: its next requests may be under way.
const QUIET: Duration = Duration::from_secs(60);

/// The batches that requests are held of, or were until just now. An id that is used again is another batch: each
/// generation is counted by itself, and the latest is told of.
#[derive(Debug, Default)]
pub struct Batches {
    batches: HashMap<(Box<str>, Option<Uuid>), Batch>,
    /// What was held of another session is void: it is not counted, so it does not count when it ends.
    session: u32,
}

#[derive(Debug, Default)]
struct Batch {
    held: u64,
    done: u64,
    failed: u64,
    latest: Moment,
    /// When the latest of its requests was enqueued, where they say so: of generations the later one.
    enqueued_at: Option<Timestamp>,
}

impl Batches {
    /// Deliveries of this session follow.
    pub fn session_opened(&mut self, session: u32) {
        self.session = session;
    }

    /// Everything held is void; what comes again is counted again.
    pub fn session_lost(&mut self) {
        for batch in self.batches.values_mut() {
            batch.held = 0;
        }
    }

    /// A request was delivered.
    pub fn arrived(&mut self, now: Moment, request: &Request) {
        if let Some(batch) = self.batch(request, now) {
            batch.held += 1;
        }
    }

    /// A request, delivered in this session, was settled; `well`: it is no dead letter.
    pub fn settled(&mut self, now: Moment, request: &Request, session: u32, well: bool) {
        self.left(request, session);
        let Some(batch) = self.batch(request, now) else { return };
        if well {
            batch.done += 1;
        } else {
            batch.failed += 1;
        }
    }

    /// A delivery of this session is held no more, and nothing has become of it by this: it was requeued, or published
    /// anew, or had been settled before.
    pub fn left(&mut self, request: &Request, session: u32) {
        if session == self.session
            && let Some(generation) = generation(request)
            && let Some(batch) = self.batches.get_mut(&generation)
        {
            batch.held = batch.held.saturating_sub(1);
        }
    }

    /// The open batches, the one that something happened to last first; of each its latest generation. Those that are over
    /// are forgotten.
    pub fn counts(&mut self, now: Moment) -> Vec<BatchCounts> {
        self.batches.retain(|_, batch| batch.held > 0 || now - batch.latest < QUIET);
        let mut open: Vec<_> = self.batches.iter().collect();
        open.sort_by(|((a, run), x), ((b, other), y)| {
            a.cmp(b).then((y.enqueued_at, other).cmp(&(x.enqueued_at, run)))
        });
        let mut told = HashSet::new();
        open.retain(|((name, _), _)| told.insert(name));
        open.sort_by(|((a, _), x), ((b, _), y)| y.latest.cmp(&x.latest).then_with(|| a.cmp(b)));
        open.into_iter()
            .take(MOST)
            .map(|((name, run), batch)| BatchCounts {
                batch: name.to_string(),
                batch_run: *run,
                open: batch.held,
                done: batch.done,
                failed: batch.failed,
            })
            .collect()
    }

    fn batch(&mut self, request: &Request, now: Moment) -> Option<&mut Batch> {
        let batch = self.batches.entry(generation(request)?).or_default();
        batch.latest = batch.latest.max(now);
        batch.enqueued_at = batch.enqueued_at.max(request.enqueued_at.get());
        Some(batch)
    }
}

/// The batch of a request, and its generation.
fn generation(request: &Request) -> Option<(Box<str>, Option<Uuid>)> {
    Some((request.batch()?.into(), request.batch_run()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::Shared;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn counts(batch: &str, open: u64, done: u64, failed: u64) -> BatchCounts {
        BatchCounts { batch: batch.to_owned(), batch_run: None, open, done, failed }
    }

    fn of(batch: &str) -> Request {
        generation(batch, None, None)
    }

    fn generation(batch: &str, run: Option<u128>, enqueued: Option<i64>) -> Request {
        let enqueued_at = enqueued.and_then(|second| Timestamp::from_second(second).ok());
        Request {
            shared: Arc::new(Shared {
                batch: Some(batch.into()),
                batch_run: run.map(Uuid::from_u128),
                ..Shared::default()
            }),
            enqueued_at: enqueued_at.into(),
            ..Request::default()
        }
    }

    fn of_a_session() -> Batches {
        let mut batches = Batches::default();
        batches.session_opened(1);
        batches
    }

    #[test]
    fn a_batch_is_counted_from_its_first_delivery_to_its_last_settlement() {
        let mut batches = of_a_session();
        for _ in 0..3 {
            batches.arrived(at(0), &of("a"));
        }
        assert_eq!(batches.counts(at(0)), [counts("a", 3, 0, 0)]);
        batches.settled(at(1), &of("a"), 1, true);
        batches.settled(at(1), &of("a"), 1, false);
        assert_eq!(batches.counts(at(1)), [counts("a", 1, 1, 1)]);
        batches.settled(at(2), &of("a"), 1, true);
        assert_eq!(batches.counts(at(2)), [counts("a", 0, 2, 1)]);
    }

    #[test]
    fn what_was_requeued_and_comes_again_counts_once() {
        let mut batches = of_a_session();
        batches.arrived(at(0), &of("a"));
        batches.left(&of("a"), 1);
        batches.arrived(at(5), &of("a"));
        assert_eq!(batches.counts(at(5)), [counts("a", 1, 0, 0)]);
    }

    #[test]
    fn what_a_lost_session_delivered_does_not_count_when_it_ends() {
        let mut batches = of_a_session();
        for _ in 0..2 {
            batches.arrived(at(0), &of("a"));
        }
        batches.session_lost();
        assert_eq!(batches.counts(at(1)), [counts("a", 0, 0, 0)]);
        batches.session_opened(2);
        for _ in 0..2 {
            batches.arrived(at(2), &of("a"));
        }
        batches.settled(at(3), &of("a"), 1, true);
        batches.left(&of("a"), 1);
        assert_eq!(batches.counts(at(3)), [counts("a", 2, 1, 0)]);
    }

    #[test]
    fn a_batch_is_forgotten_when_nothing_of_it_is_held_for_a_minute() {
        let mut batches = of_a_session();
        batches.arrived(at(0), &of("held"));
        batches.arrived(at(0), &of("over"));
        batches.settled(at(0), &of("over"), 1, true);
        assert_eq!(batches.counts(at(59)).len(), 2);
        assert_eq!(batches.counts(at(60)), [counts("held", 1, 0, 0)]);
    }

    #[test]
    fn what_comes_again_after_it_was_settled_does_not_keep_its_batch_open() {
        let mut batches = of_a_session();
        batches.arrived(at(0), &of("a"));
        batches.settled(at(0), &of("a"), 1, true);
        batches.arrived(at(1), &of("a"));
        batches.left(&of("a"), 1);
        assert_eq!(batches.counts(at(1)), [counts("a", 0, 1, 0)]);
        assert_eq!(batches.counts(at(61)), []);
    }

    #[test]
    fn the_latest_batch_comes_first() {
        let mut batches = of_a_session();
        batches.arrived(at(0), &of("old"));
        batches.arrived(at(1), &of("new"));
        let names = |batches: &mut Batches| -> Vec<String> {
            batches.counts(at(2)).into_iter().map(|counts| counts.batch).collect()
        };
        assert_eq!(names(&mut batches), ["new", "old"]);
        batches.settled(at(2), &of("old"), 1, true);
        assert_eq!(names(&mut batches), ["old", "new"]);
    }

    #[test]
    fn of_an_id_that_is_used_again_the_latest_generation_is_told() {
        let mut batches = of_a_session();
        let (old, new) = (generation("a", Some(9), Some(100)), generation("a", Some(7), Some(200)));
        batches.arrived(at(0), &new);
        for _ in 0..2 {
            batches.arrived(at(0), &old);
        }
        batches.settled(at(1), &old, 1, false);
        let told = |run, open, failed| BatchCounts {
            batch_run: Some(Uuid::from_u128(run)),
            ..counts("a", open, 0, failed)
        };
        assert_eq!(batches.counts(at(1)), [told(7, 1, 0)], "nothing of the one before is in it");
        batches.left(&new, 1);
        batches.arrived(at(61), &old);
        assert_eq!(batches.counts(at(61)), [told(9, 2, 1)], "the latest of those that are open");
    }
}

//! How far have the open batches come, as the worker sees them? It counts what it holds and what it has settled; how
//! much of a batch is still in the queue only the batch's own announcement tells.

use std::collections::HashMap;
use std::time::Duration;

use crate::core::Moment;
use crate::message::status::BatchCounts;

/// The latest so many are told apart: there may be one for each request.
const MOST: usize = 20;
/// A batch of which nothing is held is kept for so long: its next requests may be under way.
const QUIET: Duration = Duration::from_secs(60);

/// The batches that requests are held of, or were until just now.
#[derive(Debug, Default)]
pub struct Batches {
    batches: HashMap<Box<str>, Batch>,
    /// What was held of another session is void: it is not counted, so it does not count when it ends.
    session: u32,
}

#[derive(Debug, Default)]
struct Batch {
    held: u64,
    done: u64,
    failed: u64,
    latest: Moment,
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

    /// A request of this batch was delivered.
    pub fn arrived(&mut self, now: Moment, batch: &str) {
        self.batch(batch, now).held += 1;
    }

    /// A request of this batch, delivered in this session, was settled; `well`: it is no dead letter.
    pub fn settled(&mut self, now: Moment, batch: &str, session: u32, well: bool) {
        self.left(batch, session);
        let batch = self.batch(batch, now);
        if well {
            batch.done += 1;
        } else {
            batch.failed += 1;
        }
    }

    /// A delivery of this session is held no more, and nothing has become of it by this: it was requeued, or published
    /// anew, or had been settled before.
    pub fn left(&mut self, batch: &str, session: u32) {
        if session == self.session
            && let Some(batch) = self.batches.get_mut(batch)
        {
            batch.held = batch.held.saturating_sub(1);
        }
    }

    /// The open batches, the one that something happened to last first. Those that are over are forgotten.
    pub fn counts(&mut self, now: Moment) -> Vec<BatchCounts> {
        self.batches.retain(|_, batch| batch.held > 0 || now - batch.latest < QUIET);
        let mut open: Vec<_> = self.batches.iter().collect();
        open.sort_by(|(a, x), (b, y)| y.latest.cmp(&x.latest).then_with(|| a.cmp(b)));
        open.into_iter()
            .take(MOST)
            .map(|(name, batch)| BatchCounts {
                batch: name.to_string(),
                open: batch.held,
                done: batch.done,
                failed: batch.failed,
            })
            .collect()
    }

    fn batch(&mut self, name: &str, now: Moment) -> &mut Batch {
        let batch = self.batches.entry(name.into()).or_default();
        batch.latest = batch.latest.max(now);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn counts(batch: &str, open: u64, done: u64, failed: u64) -> BatchCounts {
        BatchCounts { batch: batch.to_owned(), open, done, failed }
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
            batches.arrived(at(0), "a");
        }
        assert_eq!(batches.counts(at(0)), [counts("a", 3, 0, 0)]);
        batches.settled(at(1), "a", 1, true);
        batches.settled(at(1), "a", 1, false);
        assert_eq!(batches.counts(at(1)), [counts("a", 1, 1, 1)]);
        batches.settled(at(2), "a", 1, true);
        assert_eq!(batches.counts(at(2)), [counts("a", 0, 2, 1)]);
    }

    #[test]
    fn what_was_given_back_and_comes_again_counts_once() {
        let mut batches = of_a_session();
        batches.arrived(at(0), "a");
        batches.left("a", 1);
        batches.arrived(at(5), "a");
        assert_eq!(batches.counts(at(5)), [counts("a", 1, 0, 0)]);
    }

    #[test]
    fn what_a_lost_session_delivered_does_not_count_when_it_ends() {
        let mut batches = of_a_session();
        for _ in 0..2 {
            batches.arrived(at(0), "a");
        }
        batches.session_lost();
        assert_eq!(batches.counts(at(1)), [counts("a", 0, 0, 0)]);
        batches.session_opened(2);
        for _ in 0..2 {
            batches.arrived(at(2), "a");
        }
        batches.settled(at(3), "a", 1, true);
        batches.left("a", 1);
        assert_eq!(batches.counts(at(3)), [counts("a", 2, 1, 0)]);
    }

    #[test]
    fn a_batch_is_forgotten_when_nothing_of_it_is_held_for_a_minute() {
        let mut batches = of_a_session();
        batches.arrived(at(0), "held");
        batches.arrived(at(0), "over");
        batches.settled(at(0), "over", 1, true);
        assert_eq!(batches.counts(at(59)).len(), 2);
        assert_eq!(batches.counts(at(60)), [counts("held", 1, 0, 0)]);
    }

    #[test]
    fn what_comes_again_after_it_was_settled_does_not_keep_its_batch_open() {
        let mut batches = of_a_session();
        batches.arrived(at(0), "a");
        batches.settled(at(0), "a", 1, true);
        batches.arrived(at(1), "a");
        batches.left("a", 1);
        assert_eq!(batches.counts(at(1)), [counts("a", 0, 1, 0)]);
        assert_eq!(batches.counts(at(61)), []);
    }

    #[test]
    fn the_latest_batch_comes_first() {
        let mut batches = of_a_session();
        batches.arrived(at(0), "old");
        batches.arrived(at(1), "new");
        let names = |batches: &mut Batches| -> Vec<String> {
            batches.counts(at(2)).into_iter().map(|counts| counts.batch).collect()
        };
        assert_eq!(names(&mut batches), ["new", "old"]);
        batches.settled(at(2), "old", 1, true);
        assert_eq!(names(&mut batches), ["old", "new"]);
    }
}

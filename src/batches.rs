//! How far have the open batches come, as the worker sees them? It counts what it holds and what it has settled; how
//! much of a batch is still in the queue only the batch's own announcement tells.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::core::Moment;
use crate::core::request::Run;
use crate::metrics::BatchCounts;

/// The latest so many are told apart: there may be one for each request.
const MOST: usize = 20;
/// A batch of which nothing is held is kept for so long: its next requests may be under way.
const QUIET: Duration = Duration::from_secs(60);

/// The batches that requests are held of, or were until just now.
#[derive(Debug, Default)]
pub struct Batches {
    batches: HashMap<Arc<str>, Batch>,
}

#[derive(Debug, Default)]
struct Batch {
    /// By run, because a delivery that was given back comes again.
    held: HashSet<Run>,
    done: u64,
    failed: u64,
    latest: Moment,
}

impl Batches {
    /// A request of this batch was delivered.
    pub fn arrived(&mut self, now: Moment, batch: &Arc<str>, run: Run) {
        let batch = self.batch(batch, now);
        batch.held.insert(run);
    }

    /// A request of this batch was settled; `well`: it is no dead letter.
    pub fn settled(&mut self, now: Moment, batch: &Arc<str>, run: Run, well: bool) {
        let batch = self.batch(batch, now);
        batch.held.remove(&run);
        if well {
            batch.done += 1;
        } else {
            batch.failed += 1;
        }
    }

    /// A delivery came again whose request was settled before: it is held no more, and counted already.
    pub fn acknowledged(&mut self, batch: &str, run: Run) {
        if let Some(batch) = self.batches.get_mut(batch) {
            batch.held.remove(&run);
        }
    }

    /// Everything held is void; what comes again is counted again.
    pub fn session_lost(&mut self) {
        for batch in self.batches.values_mut() {
            batch.held.clear();
        }
    }

    /// The open batches, the one that something happened to last first. Those that are over are forgotten.
    pub fn counts(&mut self, now: Moment) -> Vec<BatchCounts> {
        self.batches.retain(|_, batch| !batch.held.is_empty() || now - batch.latest < QUIET);
        let mut open: Vec<_> = self.batches.iter().collect();
        open.sort_by(|(a, x), (b, y)| y.latest.cmp(&x.latest).then_with(|| a.cmp(b)));
        open.into_iter()
            .take(MOST)
            .map(|(name, batch)| BatchCounts {
                batch: name.to_string(),
                open: batch.held.len() as u64,
                done: batch.done,
                failed: batch.failed,
            })
            .collect()
    }

    fn batch(&mut self, name: &Arc<str>, now: Moment) -> &mut Batch {
        let batch = self.batches.entry(Arc::clone(name)).or_default();
        batch.latest = batch.latest.max(now);
        batch
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn run(number: u128) -> Run {
        Run(Uuid::from_u128(number))
    }

    fn at(seconds: u64) -> Moment {
        Moment::START + Duration::from_secs(seconds)
    }

    fn counts(batch: &str, open: u64, done: u64, failed: u64) -> BatchCounts {
        BatchCounts { batch: batch.to_owned(), open, done, failed }
    }

    #[test]
    fn a_batch_is_counted_from_its_first_delivery_to_its_last_settlement() {
        let mut batches = Batches::default();
        for number in 1..=3 {
            batches.arrived(at(0), &"a".into(), run(number));
        }
        assert_eq!(batches.counts(at(0)), [counts("a", 3, 0, 0)]);
        batches.settled(at(1), &"a".into(), run(1), true);
        batches.settled(at(1), &"a".into(), run(2), false);
        assert_eq!(batches.counts(at(1)), [counts("a", 1, 1, 1)]);
        batches.settled(at(2), &"a".into(), run(3), true);
        assert_eq!(batches.counts(at(2)), [counts("a", 0, 2, 1)]);
    }

    #[test]
    fn what_was_given_back_and_comes_again_counts_once() {
        let mut batches = Batches::default();
        batches.arrived(at(0), &"a".into(), run(1));
        batches.arrived(at(5), &"a".into(), run(1));
        assert_eq!(batches.counts(at(5)), [counts("a", 1, 0, 0)]);
        batches.session_lost();
        assert_eq!(batches.counts(at(6)), [counts("a", 0, 0, 0)]);
        batches.arrived(at(7), &"a".into(), run(1));
        assert_eq!(batches.counts(at(7)), [counts("a", 1, 0, 0)]);
    }

    #[test]
    fn a_batch_is_forgotten_when_nothing_of_it_is_held_for_a_minute() {
        let mut batches = Batches::default();
        batches.arrived(at(0), &"held".into(), run(1));
        batches.arrived(at(0), &"over".into(), run(2));
        batches.settled(at(0), &"over".into(), run(2), true);
        assert_eq!(batches.counts(at(59)).len(), 2);
        assert_eq!(batches.counts(at(60)), [counts("held", 1, 0, 0)]);
    }

    #[test]
    fn what_comes_again_after_it_was_settled_does_not_keep_its_batch_open() {
        let mut batches = Batches::default();
        batches.arrived(at(0), &"a".into(), run(1));
        batches.settled(at(0), &"a".into(), run(1), true);
        batches.arrived(at(1), &"a".into(), run(1));
        batches.acknowledged("a", run(1));
        assert_eq!(batches.counts(at(1)), [counts("a", 0, 1, 0)]);
        assert_eq!(batches.counts(at(61)), []);
    }

    #[test]
    fn the_latest_batch_comes_first() {
        let mut batches = Batches::default();
        batches.arrived(at(0), &"old".into(), run(1));
        batches.arrived(at(1), &"new".into(), run(2));
        let names = |batches: &mut Batches| -> Vec<String> {
            batches.counts(at(2)).into_iter().map(|counts| counts.batch).collect()
        };
        assert_eq!(names(&mut batches), ["new", "old"]);
        batches.settled(at(2), &"old".into(), run(1), true);
        assert_eq!(names(&mut batches), ["old", "new"]);
    }
}

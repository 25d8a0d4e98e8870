//! What was requeued and is not here again yet? Order is kept over it: nothing less urgent starts in the moment that a
//! message takes to the broker and back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::request::Run;
use super::time::Moment;
use super::window::Rank;

/// So many are away at once, however many are due: the rest of the window stays in sight.
pub const AT_MOST: usize = 256;
/// Whatever is not back by then went to somebody else.
const PATIENCE: Duration = Duration::from_millis(500);

/// The jobs that are on their way to the broker and back.
#[derive(Debug, Default)]
pub struct Away {
    runs: BTreeMap<Run, (Rank, Moment)>,
    ranks: BTreeSet<(Rank, Run)>,
    since: BTreeSet<(Moment, Run)>,
}

impl Away {
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn insert(&mut self, now: Moment, run: Run, rank: Rank) {
        self.remove(run);
        self.runs.insert(run, (rank, now));
        self.ranks.insert((rank, run));
        self.since.insert((now, run));
    }

    /// It is here again.
    pub fn remove(&mut self, run: Run) {
        if let Some((rank, since)) = self.runs.remove(&run) {
            self.ranks.remove(&(rank, run));
            self.since.remove(&(since, run));
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Gives up on those that have been away for too long; says when the next one will have been.
    pub fn expire(&mut self, now: Moment) -> Option<Moment> {
        while let Some(&(since, run)) = self.since.first() {
            if since + PATIENCE > now {
                return Some(since + PATIENCE);
            }
            self.remove(run);
        }
        None
    }

    /// Whether something more urgent than this is away.
    pub fn precedes(&self, rank: Rank) -> bool {
        self.ranks.first().is_some_and(|(first, _)| *first < rank)
    }
}

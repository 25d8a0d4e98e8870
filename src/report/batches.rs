//! Which batches does the results stream tell of, and which generations has each? An id that is used again is another
//! batch: a generation has a UUID of its own, and the latest one is what people mean by the id alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::message::intake::is_batch_id;
use crate::message::result::Event;
use crate::report::progress::{BatchChange, BatchProgress, Summary};

/// The name of a generation: the batch's id, and the UUID that its requests carry.
pub type Generation = (String, Option<Uuid>);

/// Every batch that the stream tells of.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    all: HashMap<String, BTreeMap<Option<Uuid>, BatchProgress>>,
    bytes: usize,
}

impl Batches {
    pub fn take(&mut self, event: &Event) -> BatchChange {
        let Some((batch, run)) = event.batch() else { return BatchChange::Nothing };
        let generations = match self.all.get_mut(batch) {
            Some(known) => known,
            None => self.all.entry(batch.to_owned()).or_default(),
        };
        let known = generations.entry(run).or_insert_with(|| BatchProgress::new(batch, run));
        let before = known.bytes();
        let change = known.take(event);
        self.bytes = self.bytes + known.bytes() - before;
        change
    }

    /// The latest generation of a batch.
    pub fn latest(&self, batch: &str) -> Option<&BatchProgress> {
        self.all.get(batch)?.values().max_by_key(|one| age(one))
    }

    /// This generation of a batch.
    pub fn get(&self, batch: &str, run: Option<Uuid>) -> Option<&BatchProgress> {
        self.all.get(batch)?.get(&run)
    }

    /// All generations of a batch, the latest first.
    pub fn generations(&self, batch: &str) -> Vec<&BatchProgress> {
        let mut all: Vec<_> = self.all.get(batch).into_iter().flat_map(BTreeMap::values).collect();
        all.sort_by_key(|one| Reverse(age(one)));
        all
    }

    /// Every generation of every batch.
    pub fn iter(&self) -> impl Iterator<Item = &BatchProgress> {
        self.all.values().flat_map(BTreeMap::values)
    }

    /// The ids, in order.
    pub fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<_> = self.all.keys().map(String::as_str).collect();
        ids.sort_unstable();
        ids
    }

    /// About what all results take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets whole generations, those first of which nothing was heard for longest, until no more results than this are
    /// remembered, and no more bytes of them; says which. A generation counts as one result more than it has.
    pub fn shrink(&mut self, most: usize, most_bytes: usize) -> Vec<Generation> {
        let size = |one: &BatchProgress| usize::try_from(one.settled()).unwrap_or(usize::MAX) + 1;
        let mut held: usize = self.iter().map(size).sum();
        let mut gone = Vec::new();
        while held > most || self.bytes > most_bytes {
            let oldest = self.iter().min_by_key(|one| one.heard_at());
            let Some((batch, run)) = oldest.map(|one| (one.batch.clone(), one.run)) else { break };
            if let Some(generations) = self.all.get_mut(&batch) {
                if let Some(one) = generations.remove(&run) {
                    held -= size(&one);
                    self.bytes -= one.bytes();
                }
                if generations.is_empty() {
                    self.all.remove(&batch);
                }
            }
            gone.push((batch, run));
        }
        gone
    }

    /// Each generation, the latest first.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by_key(|one| (Reverse(one.begun_at()), one.batch.clone(), Reverse(one.run)));
        all.into_iter().map(BatchProgress::summary).collect()
    }
}

/// Of two generations the one that was begun later is the later one; the UUID only decides between those of one instant.
fn age(one: &BatchProgress) -> (Option<jiff::Timestamp>, Option<Uuid>) {
    (one.begun_at(), one.run)
}

/// One batch by its id, or all whose ids begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchPattern {
    One(String),
    /// `PREFIX-*`
    Beginning(String),
}

impl BatchPattern {
    pub fn matches(&self, batch: &str) -> bool {
        match self {
            Self::One(id) => id == batch,
            Self::Beginning(prefix) => batch.starts_with(prefix),
        }
    }
}

impl FromStr for BatchPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = "a batch's id has 1 to 64 letters, digits, _ and -; a * at the end means all that begin so";
        match text.strip_suffix('*') {
            Some(prefix) if prefix.is_empty() || is_batch_id(prefix) => {
                Ok(Self::Beginning(prefix.to_owned()))
            }
            None if is_batch_id(text) => Ok(Self::One(text.to_owned())),
            _ => Err(format!("`{text}` names no batch: {allowed}")),
        }
    }
}

impl fmt::Display for BatchPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(id) => f.write_str(id),
            Self::Beginning(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Several batches, counted together.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Together {
    pub batches: usize,
    /// How many requests they have; absent if one of them was not announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    pub settled: u64,
    pub failed: u64,
    pub outcomes: BTreeMap<crate::core::Outcome, u64>,
    pub done: bool,
}

impl Together {
    pub fn of<'a>(all: impl IntoIterator<Item = &'a BatchProgress>) -> Self {
        let mut sum = Self { total: Some(0), done: true, ..Self::default() };
        for one in all {
            sum.batches += 1;
            sum.total = sum.total.zip(one.total()).map(|(sum, total)| sum + total);
            sum.settled += one.settled();
            sum.failed += one.failed();
            for (outcome, count) in one.summary().outcomes {
                *sum.outcomes.entry(outcome).or_default() += count;
            }
            sum.done &= one.is_done();
        }
        sum.done &= sum.batches > 0;
        sum
    }
}

/// What batches that belong together share: the longest beginning up to a `-` that others have too. `None` for those that
/// stand alone, and for ids that nobody chose.
pub fn common_beginnings<'a>(ids: &[&'a str]) -> HashMap<&'a str, &'a str> {
    let chosen: Vec<&str> = ids.iter().copied().filter(|id| Uuid::parse_str(id).is_err()).collect();
    let beginnings =
        |id: &'a str| id.match_indices('-').map(move |(at, _)| &id[..=at]).filter(|b| b.len() > 1);
    let mut shared: HashMap<&str, usize> = HashMap::new();
    for id in &chosen {
        for beginning in beginnings(id) {
            *shared.entry(beginning).or_default() += 1;
        }
    }
    let longest = |id: &'a str| beginnings(id).rfind(|b| shared[b] > 1);
    let of: HashMap<&str, &str> =
        chosen.iter().filter_map(|id| Some((*id, longest(id)?))).collect();
    let mut members: HashMap<&str, usize> = HashMap::new();
    for beginning in of.values() {
        *members.entry(beginning).or_default() += 1;
    }
    of.into_iter().filter(|(_, beginning)| members[beginning] > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_begin_alike_belong_together_and_ids_that_nobody_chose_do_not() {
        let ids = [
            "weekend-1",
            "weekend-2",
            "weekend-3",
            "night-a-1",
            "night-a-2",
            "night-b",
            "alone",
            "019ab0d0-0000-7000-8000-000000000000",
            "019ab0d0-0000-7000-8000-000000000001",
        ];
        let of = common_beginnings(&ids);
        let told = |id: &str| of.get(id).copied();
        assert_eq!([told("weekend-1"), told("weekend-3")], [Some("weekend-"); 2]);
        assert_eq!([told("night-a-1"), told("night-a-2")], [Some("night-a-"); 2]);
        assert_eq!([told("night-b"), told("alone"), told(ids[7])], [None; 3]);
    }

    #[test]
    fn a_pattern_is_an_id_or_the_beginning_of_ids() {
        let one: BatchPattern = "weekend-1".parse().unwrap();
        assert!(one.matches("weekend-1") && !one.matches("weekend-12"));
        let some: BatchPattern = "weekend-*".parse().unwrap();
        assert!(some.matches("weekend-12") && !some.matches("weekday-1"));
        for wrong in ["", "a*b", "**", "a b", "*a"] {
            assert!(wrong.parse::<BatchPattern>().is_err(), "{wrong}");
        }
    }
}

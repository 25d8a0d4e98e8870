//! How many requests of which batch wait for which time? Counts, of a bounded size whatever waits.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::request::Request;

/// More times than these are told as the latest of them.
const TIMES: usize = 64;
/// Of more generations of batches than these nothing is known.
const BATCHES: usize = 256;

/// Requests that wait for the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Due {
    /// Not before this; absent: as soon as their turn comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
    pub requests: u64,
    /// Those of them whose migrations start by themselves.
    pub starts: u64,
}

/// What requests wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// By time, each once.
    pub(super) due: Vec<Due>,
    /// An order holds them.
    pub(super) on_hold: u64,
}

impl Times {
    pub(super) fn note(&mut self, request: &Request, at: Option<Timestamp>) {
        if request.rare.held {
            self.on_hold += 1;
        } else {
            self.add(&Due { at, requests: 1, starts: u64::from(request.starts) });
        }
    }

    fn add(&mut self, more: &Due) {
        let place = match self.due.binary_search_by_key(&more.at, |due| due.at) {
            Ok(place) => place,
            Err(place) if self.due.len() < TIMES => {
                self.due.insert(place, Due { at: more.at, requests: 0, starts: 0 });
                place
            }
            // Too late rather than too early: it is the end that is asked for.
            Err(place) => place.min(self.due.len() - 1),
        };
        let due = &mut self.due[place];
        due.at = due.at.max(more.at);
        due.requests += more.requests;
        due.starts += more.starts;
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        others.due.iter().for_each(|due| self.add(due));
        self.on_hold += others.on_hold;
    }
}

/// What a generation of a batch waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BatchTimes {
    batch: Box<str>,
    run: Option<Uuid>,
    times: Times,
}

/// What waits outside of the window, by batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timetable(Vec<BatchTimes>);

impl Timetable {
    /// One more, with what orders have made of it. One of no batch is nobody's.
    pub fn note(&mut self, request: &Request) {
        if let Some(batch) = request.batch()
            && let Some(times) = self.times(batch, request.batch_run())
        {
            times.note(request, request.rare.not_before);
        }
    }

    pub(super) fn add_all(&mut self, others: &Self) {
        for one in &others.0 {
            if let Some(times) = self.times(&one.batch, one.run) {
                times.add_all(&one.times);
            }
        }
    }

    /// Of this batch, or of all; of this generation of it, or of all.
    pub(super) fn of(&self, batch: Option<&str>, run: Option<Uuid>) -> Times {
        let mut all = Times::default();
        let meant = |one: &&BatchTimes| {
            batch.is_none_or(|batch| *one.batch == *batch) && (run.is_none() || one.run == run)
        };
        self.0.iter().filter(meant).for_each(|one| all.add_all(&one.times));
        all
    }

    fn times(&mut self, batch: &str, run: Option<Uuid>) -> Option<&mut Times> {
        let place = match self.0.binary_search_by_key(&(batch, run), |one| (&*one.batch, one.run)) {
            Ok(place) => place,
            Err(_) if self.0.len() >= BATCHES => return None,
            Err(place) => {
                let one = BatchTimes { batch: batch.into(), run, times: Times::default() };
                self.0.insert(place, one);
                place
            }
        };
        Some(&mut self.0[place].times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::request::{Rare, Shared};
    use crate::core::sparse::Sparse;

    fn request(batch: &str, minute: u64, held: bool) -> Request {
        let at = Timestamp::UNIX_EPOCH + std::time::Duration::from_secs(60 * minute);
        let rare = Rare { not_before: Some(at), held, ..Rare::default() };
        let shared = Shared { batch: Some(batch.into()), ..Shared::default() };
        Request { rare: Sparse::new(rare), shared: shared.into(), ..Request::default() }
    }

    #[test]
    fn however_many_times_and_batches_there_are_it_stays_small_and_keeps_the_end() {
        let mut table = Timetable::default();
        for minute in (0..500).chain((500..1_000).rev()) {
            table.note(&request("wave", minute, false));
        }
        let wave = table.of(Some("wave"), None);
        assert_eq!(wave.due.len(), TIMES);
        assert_eq!(wave.due.iter().map(|due| due.requests).sum::<u64>(), 1_000);
        assert_eq!(wave.due.last().unwrap().at.unwrap().as_second(), 60 * 999);
        for batch in 0..1_000 {
            table.note(&request(&format!("b{batch}"), 1, false));
        }
        assert_eq!(table.0.len(), BATCHES);
        assert_eq!(table.of(Some("wave"), None), wave);
    }

    #[test]
    fn what_an_order_holds_has_no_time_and_a_batch_is_told_apart_from_others() {
        let mut table = Timetable::default();
        table.note(&request("a", 1, true));
        table.note(&request("a", 1, false));
        table.note(&request("b", 2, false));
        let a = table.of(Some("a"), None);
        assert_eq!((a.on_hold, a.due.len()), (1, 1));
        assert_eq!(table.of(None, None).due.len(), 2);
        assert_eq!(table.of(Some("a"), Some(Uuid::nil())), Times::default());
    }
}

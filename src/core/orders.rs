//! What do planners want of requests that wait? Orders, in the order in which the broker has kept them, and what they make
//! of a request: the latest word on each of its times, its priority, a hold and a cancelling.
//!
//! An order holds for every copy of a request: whoever admits one lays the orders over it, so no copy goes at a time, or
//! at all, that an order has changed (PROTOCOL.md 8).

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::request::{Rare, Request};

/// What an order is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A generation of a batch, or one row of it.
    Batch {
        id: String,
        /// `x-sluice-batch-run`; absent: the requests that have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<String>")]
        run: Option<Uuid>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
    },
    /// By its message id, or by its run.
    Request(String),
}

/// What an order changes; what it does not name stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Change {
    /// Never to be sent. Nothing takes this back but another generation.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// `true`: not to be sent until an order says `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
}

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// When it was given. Where only the id of a request or of a batch tells which is meant, it is not about what was
    /// enqueued later.
    #[schemars(with = "String")]
    pub at: Timestamp,
    pub of: Target,
    pub change: Change,
}

/// A word of an order, and how late it was among all.
#[derive(Clone, Copy, Debug)]
struct Word<T> {
    revision: u64,
    at: Timestamp,
    said: T,
}

/// The latest words on one target.
#[derive(Clone, Debug, Default)]
struct Words {
    cancel: Option<Word<bool>>,
    hold: Option<Word<bool>>,
    not_before: Option<Word<Timestamp>>,
    deadline: Option<Word<Timestamp>>,
    priority: Option<Word<u16>>,
}

/// All orders that hold.
#[derive(Clone, Debug)]
pub struct Orders {
    words: BTreeMap<Target, Words>,
    revision: u64,
    /// Clocks of planners differ by no more than this.
    slack: SignedDuration,
}

impl Orders {
    /// None yet. `slack`: `api.clock_slack`.
    pub fn none(slack: std::time::Duration) -> Self {
        let slack = SignedDuration::try_from(slack).unwrap_or(SignedDuration::MAX);
        Self { words: BTreeMap::new(), revision: 0, slack }
    }

    /// How many targets have orders.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Takes an order that is later than all before.
    pub fn take(&mut self, order: Order) {
        self.revision += 1;
        let Order { at, of, change } = order;
        let words = self.words.entry(of).or_default();
        let revision = self.revision;
        let Change { cancel, hold, not_before, deadline, priority } = change;
        if cancel {
            words.cancel = Some(Word { revision, at, said: true });
        }
        let said = |said| Word { revision, at, said };
        words.hold = hold.map(said).or(words.hold);
        let said = |said| Word { revision, at, said };
        words.not_before = not_before.map(said).or(words.not_before);
        words.deadline = deadline.map(said).or(words.deadline);
        words.priority = priority.map(|said| Word { revision, at, said }).or(words.priority);
    }

    /// What the orders make of a request: its times, its priority and its hold. Whether it is cancelled.
    pub fn lay_over(&self, request: &mut Request) -> bool {
        if self.words.is_empty() {
            return false;
        }
        let about: Vec<&Words> =
            targets(request).into_iter().filter_map(|of| self.words.get(&of)).collect();
        if about.is_empty() {
            return false;
        }
        // Which generation is meant a batch's run tells; else only the time does.
        let named = request.batch_run().is_some();
        let latest_at = |at: Timestamp| {
            let slack = if request.rare.again { SignedDuration::ZERO } else { self.slack };
            at.saturating_add(slack).unwrap_or(at)
        };
        let enqueued = request.enqueued_at.get();
        let meant = |at: Timestamp| named || enqueued.is_none_or(|then| then <= latest_at(at));
        let cancelled = latest(&about, meant, |words| words.cancel).unwrap_or(false);
        let held = latest(&about, meant, |words| words.hold).unwrap_or(false);
        let not_before = latest(&about, meant, |words| words.not_before);
        let deadline = latest(&about, meant, |words| words.deadline);
        let priority = latest(&about, meant, |words| words.priority);
        let Rare { held: was, not_before: from, deadline: until, .. } = *request.rare;
        if was != held {
            request.rare.held = held;
        }
        if not_before.is_some() && from != not_before {
            request.rare.not_before = not_before;
        }
        if deadline.is_some() && until != deadline {
            request.rare.deadline = deadline;
        }
        request.priority = priority.unwrap_or(request.priority);
        cancelled
    }

    /// When a request has to be in the window: when it may be sent, or its deadline passes; `None`: not before another
    /// order says so. The earliest time of all where it is cancelled.
    pub fn due(&self, request: &Request) -> Option<Timestamp> {
        let mut request = request.clone();
        if self.lay_over(&mut request) {
            return Some(Timestamp::MIN);
        }
        let from = request.rare.not_before.unwrap_or(Timestamp::MIN);
        let starts = (!request.rare.held).then_some(from);
        starts.into_iter().chain(request.rare.deadline).min()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(id) => write!(f, "request {id}"),
            Self::Batch { id, run, row } => {
                write!(f, "batch {id}")?;
                row.map_or(Ok(()), |row| write!(f, ", row {row}"))?;
                run.map_or(Ok(()), |run| write!(f, " (generation {run})"))
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cancel, hold, not_before, deadline, priority } = self;
        let said = [
            cancel.then(|| "cancel".to_owned()),
            hold.map(|hold| if hold { "hold" } else { "release" }.to_owned()),
            not_before.map(|at| format!("not before {at}")),
            deadline.map(|at| format!("deadline {at}")),
            priority.map(|priority| format!("priority {priority}")),
        ];
        f.write_str(&said.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// All targets that can be about a request.
pub(super) fn targets(request: &Request) -> Vec<Target> {
    let mut targets =
        vec![Target::Request(request.id.to_string()), Target::Request(request.run.0.to_string())];
    if let Some(batch) = request.batch() {
        let run = request.batch_run();
        targets.push(Target::Batch { id: batch.to_owned(), run, row: None });
        let row = request.row.get();
        if row.is_some() {
            targets.push(Target::Batch { id: batch.to_owned(), run, row });
        }
    }
    targets
}

/// The latest word of those that mean this request.
fn latest<T: Copy>(
    about: &[&Words],
    meant: impl Fn(Timestamp) -> bool,
    word: impl Fn(&Words) -> Option<Word<T>>,
) -> Option<T> {
    let words = about.iter().filter_map(|words| word(words)).filter(|word| meant(word.at));
    words.max_by_key(|word| word.revision).map(|word| word.said)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::request::Shared;
    use crate::core::sparse::Sparse;

    const GENERATION: Uuid = Uuid::from_u128(7);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn request(run: Option<Uuid>, row: u64, enqueued: i64) -> Request {
        let shared = Shared { batch: Some("wave".into()), batch_run: run, ..Shared::default() };
        Request {
            id: format!("m{row}").into(),
            shared: shared.into(),
            row: Some(row).into(),
            priority: 5,
            enqueued_at: Some(at(enqueued)).into(),
            ..Request::default()
        }
    }

    fn orders(given: &[(i64, Target, Change)]) -> Orders {
        let mut orders = Orders::none(Duration::from_secs(300));
        for (second, of, change) in given {
            orders.take(Order { at: at(*second), of: of.clone(), change: change.clone() });
        }
        orders
    }

    fn batch(run: Option<Uuid>, row: Option<u64>) -> Target {
        Target::Batch { id: "wave".into(), run, row }
    }

    fn hold(hold: bool) -> Change {
        Change { hold: Some(hold), ..Change::default() }
    }

    fn cancel() -> Change {
        Change { cancel: true, ..Change::default() }
    }

    #[test]
    fn the_latest_word_holds_whether_it_names_the_batch_the_row_or_the_request() {
        let run = Some(GENERATION);
        let given = [
            (10, batch(run, None), hold(true)),
            (11, batch(run, Some(3)), hold(false)),
            (12, Target::Request("m4".into()), Change { priority: Some(9), ..hold(false) }),
        ];
        let orders = orders(&given);
        let laid = |row| {
            let mut request = request(run, row, 1);
            assert!(!orders.lay_over(&mut request));
            (request.rare.held, request.priority)
        };
        assert_eq!((laid(2), laid(3), laid(4)), ((true, 5), (false, 5), (false, 9)));
        let mut all = orders.clone();
        all.take(Order { at: at(13), of: batch(run, None), change: hold(true) });
        let mut third = request(run, 3, 1);
        all.lay_over(&mut third);
        assert!(third.rare.held, "a later word on the whole batch is one on its rows");
    }

    #[test]
    fn another_generation_is_another_batch_and_one_without_goes_by_time() {
        let named = orders(&[(10, batch(Some(GENERATION), None), cancel())]);
        assert!(named.lay_over(&mut request(Some(GENERATION), 1, 1)));
        assert!(!named.lay_over(&mut request(Some(Uuid::from_u128(8)), 1, 1)));
        assert!(!named.lay_over(&mut request(None, 1, 1)));
        let unnamed = orders(&[(1_000, batch(None, None), cancel())]);
        assert!(unnamed.lay_over(&mut request(None, 1, 1_000)));
        assert!(unnamed.lay_over(&mut request(None, 1, 1_300)), "another clock");
        assert!(!unnamed.lay_over(&mut request(None, 1, 1_301)), "enqueued after it was given");
        let mut again = request(None, 1, 1_001);
        again.rare = Sparse::new(Rare { again: true, ..Rare::default() });
        assert!(!unnamed.lay_over(&mut again), "wanted again on purpose");
    }

    #[test]
    fn it_is_due_at_the_first_time_that_something_happens_to_it() {
        let run = Some(GENERATION);
        let mut waits = request(run, 1, 1);
        waits.rare = Sparse::new(Rare { not_before: Some(at(50)), ..Rare::default() });
        let of = || batch(run, None);
        assert_eq!(orders(&[]).due(&waits), Some(at(50)));
        assert_eq!(orders(&[(2, of(), hold(true))]).due(&waits), None);
        let late = Change { deadline: Some(at(40)), ..hold(true) };
        assert_eq!(orders(&[(2, of(), late)]).due(&waits), Some(at(40)));
        let moved = Change { not_before: Some(at(90)), ..Change::default() };
        assert_eq!(orders(&[(2, of(), moved)]).due(&waits), Some(at(90)));
        assert_eq!(orders(&[(2, of(), cancel())]).due(&waits), Some(Timestamp::MIN));
        waits.rare = Sparse::default();
        assert_eq!(orders(&[]).due(&waits), Some(Timestamp::MIN));
    }
}

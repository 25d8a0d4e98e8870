//! Has the account room for another migration? SMS runs at most so many at once; the worker counts them and keeps its
//! own submissions in mind until a count shows them.
//!
//! A migration may end before any count has shown it: in a full account our own tasks that no count shows are read one by
//! one. So are those that it has shown, while counts fail.
//!
//! The rows of a count carry ids, so that what is ours and listed is counted once.
//!
//! Whoever becomes the active worker knows nothing of what its predecessor sent last: until the API must show it, as many
//! places are reserved as calls can be under way.

mod count;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

pub use count::COUNTED;

use count::Count;

use super::judge;
use super::text::Text;
use super::time::{Moment, Now};
use super::verdict::{Listing, Query, Task};

/// A READY task that this worker did not start takes a place for so long: after that nobody is about to run it.
const FOREIGN_READY: SignedDuration = SignedDuration::from_mins(10);
/// The shortest and the longest time between two counts while requests wait.
const OFTEN: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(30);
/// A count that was begun longer ago than this says nothing any more, unless the rate allows no newer one.
const STALE: Duration = Duration::from_secs(120);
/// While there is room, a count waits for so many calls' time: so counts, of three calls and more, take a fifth of the
/// rate at most.
const CALLS_BETWEEN: u32 = 12;
/// A count is stale when so many calls' time has passed: two intervals with the counts in them.
const CALLS_STALE: u32 = 36;
/// So many tasks of our own are read after a count.
const READS: usize = 8;

/// A submission of this worker.
#[derive(Clone, Debug)]
struct Own {
    /// When its `POST` was begun.
    since: Moment,
    /// `auto_start` lets it run by itself.
    starts: bool,
    /// A count has shown it.
    seen: bool,
    /// Its task, where that is known, and when it was read last.
    task: Option<Box<str>>,
    read: Moment,
}

/// What is being asked for.
#[derive(Debug)]
enum Out {
    Page,
    /// The task of this source server.
    Task(Box<str>),
}

/// How many migrations run, and whether another one may.
#[derive(Debug)]
pub struct Running {
    /// `limits.max_running`; 0: not watched.
    most: usize,
    look_again: Duration,
    own: BTreeMap<Box<str>, Own>,
    /// How many of `own` start by themselves and are not in `listed`.
    unseen: usize,
    /// Our own that wait for somebody to start them, by age: after [`FOREIGN_READY`] they need not be known any more.
    still: VecDeque<(Moment, Box<str>)>,
    /// Places for what a predecessor may have sent, until a count that was begun then.
    reserved: Option<(Moment, usize)>,
    /// The time that the rate gives to a call.
    pace: Duration,
    /// Source servers whose task the latest count has shown.
    listed: BTreeSet<Box<str>>,
    unlisted: usize,
    /// When the latest complete count was begun.
    counted: Option<Moment>,
    count: Option<Count>,
    out: Option<Out>,
    /// Source servers whose task is to be read.
    reads: VecDeque<Box<str>>,
    next: Moment,
    interval: Duration,
}

impl Running {
    pub fn new(most: usize, look_again: Duration) -> Self {
        Self {
            most,
            look_again,
            own: BTreeMap::new(),
            unseen: 0,
            still: VecDeque::new(),
            reserved: None,
            pace: Duration::ZERO,
            listed: BTreeSet::new(),
            unlisted: 0,
            counted: None,
            count: None,
            out: None,
            reads: VecDeque::new(),
            next: Moment::START,
            interval: OFTEN,
        }
    }

    pub fn is_watched(&self) -> bool {
        self.most > 0
    }

    /// Another cap from now on. Where migrations were not watched, nothing is known of what was sent just now: the first
    /// count is begun only when the API must show it.
    pub fn set_most(&mut self, most: usize, now: Moment) {
        if most == 0 {
            self.own.clear();
            self.listed.clear();
            self.still.clear();
            self.reads.clear();
            (self.unseen, self.unlisted, self.counted, self.count) = (0, 0, None, None);
        } else if self.most == 0 {
            self.next = now + self.look_again;
        }
        self.most = most;
    }

    /// This worker is the active one from now on: others may have filled places until now, and up to `in_flight` calls of
    /// theirs may show only when [`Settings::look_again`](super::Settings::look_again) has passed.
    pub fn take_over(&mut self, now: Moment, in_flight: usize) {
        (self.counted, self.count) = (None, None);
        self.next = now;
        self.reserved = Some((now + self.look_again, in_flight));
    }

    /// The time that the rate gives to a call, from now on.
    pub fn set_pace(&mut self, pace: Duration) {
        self.pace = pace;
    }

    pub fn most(&self) -> usize {
        self.most
    }

    /// Places taken, as far as is known; `None` before the first count.
    pub fn known(&self) -> Option<usize> {
        self.counted.map(|_| self.taken())
    }

    fn taken(&self) -> usize {
        self.listed.len() + self.unlisted + self.unseen
    }

    /// Places that others may have taken without its being seen yet.
    fn reserved(&self) -> usize {
        self.reserved.map_or(0, |(_, places)| places)
    }

    /// Whether a request that starts a migration may be sent; `Err`: when to ask again, if that is known.
    pub fn admits(&self, now: Moment) -> Result<(), Option<Moment>> {
        if self.most == 0 {
            return Ok(());
        }
        let stale = STALE.max(self.pace.saturating_mul(CALLS_STALE));
        let fresh = self.counted.is_some_and(|counted| now - counted <= stale);
        if fresh && self.taken() + self.reserved() < self.most {
            Ok(())
        } else {
            Err(self.out.is_none().then_some(self.next))
        }
    }

    /// Whether something is to be asked now: requests wait for the answer.
    pub fn wants(&self, now: Moment) -> bool {
        self.most > 0 && self.out.is_none() && (!self.reads.is_empty() || self.next <= now)
    }

    /// What is to be asked, which is out from now on: a task of our own, else a page of the count.
    pub fn ask(&mut self, now: Moment) -> Query {
        while let Some(source) = self.reads.pop_front() {
            if let Some(own) = self.own.get_mut(&source)
                && let Some(task) = &own.task
            {
                own.read = now;
                let query = Query::Task(task.to_string());
                self.out = Some(Out::Task(source));
                return query;
            }
        }
        self.out = Some(Out::Page);
        let (state, offset) = self.count.get_or_insert_with(|| Count::begin(now)).page();
        Query::State { state, offset }
    }

    /// An answer; `skew`: the API's clock minus ours.
    pub fn answered(&mut self, now: Now, listing: &Listing, skew: SignedDuration) {
        if let Some(Out::Task(source)) = self.out.take() {
            return self.read(&source, listing);
        }
        let Some(mut count) = self.count.take() else { return };
        let fresh_since = now.wall.saturating_add(skew - FOREIGN_READY).unwrap_or(Timestamp::MIN);
        let starts = |source: &str| self.own.get(source).map(|own| own.starts);
        if count.read(listing, starts, fresh_since) {
            self.complete(now.at, count);
        } else {
            self.count = Some(count);
        }
    }

    /// A call failed. A count is begun again; what is known of our own is asked one by one meanwhile.
    pub fn failed(&mut self, now: Moment) {
        if let Some(Out::Task(_)) = self.out.take() {
            return;
        }
        self.count = None;
        self.next = now + self.interval;
        self.read_some(|_| true);
    }

    /// One of our own stands so; one that is not found may not be there yet.
    fn read(&mut self, source: &str, listing: &Listing) {
        let own = self.own.get(source).and_then(|own| own.task.as_deref());
        let ended = |task: &&Task| Some(&*task.id) == own && judge::is_ended(&task.state);
        if listing.tasks.iter().any(|task| ended(&task)) {
            self.own.remove(source);
            if !self.listed.remove(source) {
                self.unseen = self.unseen.saturating_sub(1);
            }
        }
    }

    /// In a full account, has some of our own tasks read that take a place, those first that were not read for longest.
    fn read_some(&mut self, which: impl Fn(&Own) -> bool) {
        self.reads.clear();
        if self.taken() + self.reserved() < self.most {
            return;
        }
        let reads =
            self.own.iter().filter(|(_, own)| own.starts && own.task.is_some() && which(own));
        let mut reads: Vec<_> =
            reads.map(|(source, own)| (own.read, own.since, source.clone())).collect();
        reads.sort_unstable();
        self.reads = reads.into_iter().take(READS).map(|(_, _, source)| source).collect();
    }

    /// A request for this source server was created as this task.
    pub fn created(&mut self, source: &Text, task: &str) {
        if let Some(own) = self.own.get_mut(&*source.get())
            && !task.is_empty()
        {
            own.task = Some(task.into());
        }
    }

    fn complete(&mut self, now: Moment, count: Count) {
        let before = self.taken();
        let Count { begun, sources, idle, unlisted, .. } = count;
        let look_again = self.look_again;
        self.own.retain(|source, own| {
            // Forgotten, an idle one would count as a foreign one that is about to run.
            let listed = sources.contains(source) || idle.contains(source);
            let ended = own.seen && !listed;
            let never_came = !listed && begun >= own.since + look_again;
            own.seen |= listed;
            !ended && !never_came
        });
        let unseen =
            self.own.iter().filter(|(source, own)| own.starts && !sources.contains(*source));
        self.unseen = unseen.count();
        self.listed = sources;
        self.unlisted = unlisted;
        self.counted = Some(begun);
        self.reserved = self.reserved.filter(|(until, _)| begun < *until);
        let taken = self.taken();
        self.read_some(|own| !own.seen && own.since <= begun);
        // Full, and places come free: look more often. Far from full: others would have to fill it first.
        self.interval = if taken >= self.most && taken >= before {
            (self.interval * 3 / 2).min(SELDOM)
        } else if taken < before {
            (self.interval / 2).max(OFTEN)
        } else {
            self.interval
        };
        let room = self.most.saturating_sub(taken);
        let wait = if room > self.most / 4 { SELDOM } else { self.interval };
        let paced = if room > self.reserved() {
            self.pace.saturating_mul(CALLS_BETWEEN)
        } else {
            Duration::ZERO
        };
        self.next = now + wait.max(paced);
        if let Some((until, _)) = self.reserved {
            self.next = self.next.min(until.max(now));
        }
    }

    /// A `POST` begins: it takes a place if the migration starts by itself.
    pub fn started(&mut self, at: Moment, source: &Text, starts: bool) {
        if self.most == 0 {
            return;
        }
        self.gave_up(source, at);
        let source = &*source.get();
        self.own.insert(
            source.into(),
            Own { since: at, starts, seen: false, task: None, read: Moment::START },
        );
        if starts {
            self.unseen += usize::from(!self.listed.contains(source));
        } else {
            self.still.push_back((at, source.into()));
            self.forget_still(at);
        }
        // The room may be used up sooner than the next count would come.
        if self.taken() + self.reserved() >= self.most {
            self.next = self.next.min(at + self.interval);
        }
    }

    /// Surely nothing was created by a `POST` for this source server that was begun by then.
    pub fn gave_up(&mut self, source: &Text, begun_by: Moment) {
        if self.own.is_empty() {
            return;
        }
        let source = &*source.get();
        if self.own.get(source).is_some_and(|own| own.since > begun_by) {
            return;
        }
        if self.own.remove(source).is_some_and(|own| own.starts) {
            self.unseen -= usize::from(!self.listed.contains(source));
        }
    }

    /// What was sent so long ago counts for nothing, whoever sent it: without this, work that starts nothing would be
    /// remembered for ever, for nobody counts.
    fn forget_still(&mut self, now: Moment) {
        let old = FOREIGN_READY.unsigned_abs() + self.look_again;
        while let Some((since, source)) = self.still.front().filter(|(since, _)| now - *since > old)
        {
            if self.own.get(source).is_some_and(|own| !own.starts && own.since == *since) {
                self.own.remove(source);
            }
            self.still.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;

//! Has the account room for another migration? SMS runs at most so many at once; the worker counts them and keeps its
//! own submissions in mind until a count shows them.
//!
//! A count is one list for each state in [`COUNTED`], in that order: a task that moves on between two of the calls is
//! seen twice, never missed. Rows carry ids, so that what is ours and listed is counted once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::time::{Moment, Now};
use super::verdict::Listing;

/// The states that take a place, in the order in which a task goes through them.
pub const COUNTED: [&str; 3] = ["READY", "RUNNING", "SYNCING"];
/// A READY task that this worker did not start takes a place for so long: after that nobody is about to run it.
const FOREIGN_READY: SignedDuration = SignedDuration::from_mins(10);
/// The shortest and the longest time between two counts while requests wait.
const OFTEN: Duration = Duration::from_secs(2);
const SELDOM: Duration = Duration::from_secs(30);
/// A count that was begun longer ago than this says nothing any more.
pub const STALE: Duration = Duration::from_secs(120);

/// A submission of this worker.
#[derive(Clone, Debug)]
struct Own {
    /// When its `POST` was begun.
    since: Moment,
    /// `auto_start` lets it run by itself.
    starts: bool,
    /// A count has shown it.
    seen: bool,
}

/// A count under way.
#[derive(Debug)]
struct Count {
    begun: Moment,
    /// The next of [`COUNTED`] to ask for.
    next: usize,
    /// Source servers of the rows so far, and tasks that were counted but not listed.
    sources: HashSet<Box<str>>,
    /// Our own that are there and wait for somebody to start them.
    idle: HashSet<Box<str>>,
    unlisted: usize,
}

/// How many migrations run, and whether another one may.
#[derive(Debug)]
pub struct Running {
    /// `limits.max_running`; 0: not watched.
    most: usize,
    look_again: Duration,
    own: HashMap<Box<str>, Own>,
    /// Source servers whose task the latest count has shown.
    listed: HashSet<Box<str>>,
    unlisted: usize,
    /// When the latest complete count was begun.
    counted: Option<Moment>,
    count: Option<Count>,
    out: bool,
    next: Moment,
    interval: Duration,
}

impl Running {
    pub fn new(most: usize, look_again: Duration) -> Self {
        Self {
            most,
            look_again,
            own: HashMap::new(),
            listed: HashSet::new(),
            unlisted: 0,
            counted: None,
            count: None,
            out: false,
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
            (self.unlisted, self.counted, self.count) = (0, None, None);
        } else if self.most == 0 {
            self.next = now + self.look_again;
        }
        self.most = most;
    }

    pub fn most(&self) -> usize {
        self.most
    }

    /// Places taken, as far as is known.
    pub fn taken(&self) -> usize {
        let ours =
            self.own.iter().filter(|(source, own)| own.starts && !self.listed.contains(*source));
        self.listed.len() + self.unlisted + ours.count()
    }

    /// Whether a request that starts a migration may be sent; `Err`: when to ask again, if that is known.
    pub fn admits(&self, now: Moment) -> Result<(), Option<Moment>> {
        if self.most == 0 {
            return Ok(());
        }
        let fresh = self.counted.is_some_and(|counted| now - counted <= STALE);
        if fresh && self.taken() < self.most {
            Ok(())
        } else {
            Err((!self.out).then_some(self.next))
        }
    }

    /// The state to ask for now, if a count is due: requests wait for the answer.
    pub fn wants(&self, now: Moment) -> Option<&'static str> {
        if self.most == 0 || self.out || self.next > now {
            return None;
        }
        Some(COUNTED[self.count.as_ref().map_or(0, |count| count.next)])
    }

    /// The state that [`Running::wants`] named is being asked for.
    pub fn asked(&mut self, now: Moment) {
        self.out = true;
        self.count.get_or_insert_with(|| Count {
            begun: now,
            next: 0,
            sources: HashSet::new(),
            idle: HashSet::new(),
            unlisted: 0,
        });
    }

    /// An answer; `skew`: the API's clock minus ours.
    pub fn answered(&mut self, now: Now, listing: &Listing, skew: SignedDuration) {
        self.out = false;
        let Some(mut count) = self.count.take() else { return };
        let ready = count.next == 0;
        let fresh_since = now.wall.saturating_add(skew - FOREIGN_READY).unwrap_or(Timestamp::MIN);
        for task in &listing.tasks {
            let own = self.own.get(task.source_server_id.as_str());
            let takes = match own {
                _ if !ready => true,
                Some(own) => own.starts,
                None => task.create_date.is_none_or(|at| at >= fresh_since),
            };
            if takes {
                count.sources.insert(task.source_server_id.as_str().into());
            } else if own.is_some() {
                count.idle.insert(task.source_server_id.as_str().into());
            }
        }
        // More than a page: those not listed count, whatever they are.
        let listed = listing.tasks.len();
        count.unlisted +=
            usize::try_from(listing.count).unwrap_or(usize::MAX).saturating_sub(listed);
        count.next += 1;
        if count.next < COUNTED.len() {
            self.count = Some(count);
        } else {
            self.complete(now.at, count);
        }
    }

    /// A call of the count failed: the count is begun again.
    pub fn failed(&mut self, now: Moment) {
        self.out = false;
        self.count = None;
        self.next = now + self.interval;
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
        self.listed = sources;
        self.unlisted = unlisted;
        self.counted = Some(begun);
        let taken = self.taken();
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
        self.next = now + wait;
    }

    /// A `POST` begins: it takes a place if the migration starts by itself.
    pub fn started(&mut self, at: Moment, source: &str, starts: bool) {
        if self.most > 0 {
            self.own.insert(source.into(), Own { since: at, starts, seen: false });
            // The room may be used up sooner than the next count would come.
            if self.taken() >= self.most {
                self.next = self.next.min(at + self.interval);
            }
        }
    }

    /// Surely nothing was created by the `POST` for this source server.
    pub fn gave_up(&mut self, source: &str) {
        self.own.remove(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Task;

    fn now(seconds: u64) -> Now {
        Now { at: Moment::START + Duration::from_secs(seconds), wall: wall(seconds) }
    }

    fn wall(seconds: u64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
    }

    fn task(source: &str, created: u64) -> Task {
        Task {
            id: format!("t-{source}"),
            name: "n".into(),
            state: "RUNNING".into(),
            source_server_id: source.into(),
            target_vm_id: None,
            create_date: Some(wall(created)),
        }
    }

    /// A whole count: the tasks that are READY, RUNNING and SYNCING.
    fn count(running: &mut Running, at: u64, states: [Vec<Task>; 3]) {
        for (tasks, state) in states.into_iter().zip(COUNTED) {
            running.next = Moment::START;
            assert_eq!(running.wants(now(at).at), Some(state));
            running.asked(now(at).at);
            let count = u32::try_from(tasks.len()).unwrap();
            running.answered(now(at), &Listing { tasks, count, date: None }, SignedDuration::ZERO);
        }
    }

    fn watched(most: usize) -> Running {
        Running::new(most, Duration::from_secs(45))
    }

    #[test]
    fn without_a_count_nothing_is_let_through() {
        let running = watched(2);
        assert!(running.admits(now(0).at).is_err());
        assert_eq!(running.wants(now(0).at), Some("READY"));
    }

    #[test]
    fn a_stale_count_lets_nothing_through() {
        let mut running = watched(2);
        count(&mut running, 10, [vec![], vec![], vec![]]);
        assert!(running.admits(now(130).at).is_ok());
        assert!(running.admits(now(131).at).is_err());
    }

    #[test]
    fn an_own_submission_takes_a_place_at_once_and_is_counted_once() {
        let mut running = watched(2);
        count(&mut running, 10, [vec![], vec![], vec![]]);
        running.started(now(11).at, "a", true);
        running.started(now(11).at, "b", true);
        assert!(running.admits(now(12).at).is_err());
        count(&mut running, 20, [vec![task("a", 11)], vec![], vec![]]);
        assert_eq!(running.taken(), 2, "b has not been seen and may still come");
        count(&mut running, 57, [vec![], vec![task("a", 11)], vec![]]);
        assert_eq!(running.taken(), 1, "a count begun look_again after its POST does not show b");
    }

    #[test]
    fn a_place_is_free_as_soon_as_a_task_that_was_seen_is_gone() {
        let mut running = watched(1);
        running.started(now(1).at, "a", true);
        count(&mut running, 2, [vec![], vec![task("a", 1)], vec![]]);
        count(&mut running, 4, [vec![], vec![], vec![]]);
        assert!(running.admits(now(4).at).is_ok());
    }

    #[test]
    fn a_cap_that_is_changed_holds_at_once_and_a_new_one_waits_until_the_api_shows_what_was_sent() {
        let mut running = watched(1);
        running.started(now(1).at, "a", true);
        count(&mut running, 2, [vec![], vec![task("a", 1)], vec![]]);
        assert!(running.admits(now(3).at).is_err());
        running.set_most(2, now(3).at);
        assert!(running.admits(now(3).at).is_ok(), "a second place, without a count");
        running.set_most(0, now(4).at);
        assert!(running.admits(now(4).at).is_ok() && running.wants(now(4).at).is_none());
        running.set_most(1, now(5).at);
        assert!(running.admits(now(5).at).is_err());
        assert!(
            running.wants(now(49).at).is_none(),
            "what was sent just now may not be listed yet"
        );
        count(&mut running, 51, [vec![], vec![], vec![]]);
        assert!(running.admits(now(51).at).is_ok());
    }

    #[test]
    fn a_foreign_ready_task_takes_a_place_for_ten_minutes() {
        let mut running = watched(9);
        count(&mut running, 700, [vec![task("new", 200), task("old", 50)], vec![], vec![]]);
        assert_eq!(running.taken(), 1);
    }

    #[test]
    fn a_task_that_does_not_start_by_itself_takes_no_place_until_it_runs() {
        let mut running = watched(9);
        running.started(now(1).at, "a", false);
        assert_eq!(running.taken(), 0);
        count(&mut running, 2, [vec![task("a", 1)], vec![], vec![]]);
        assert_eq!(running.taken(), 0);
        count(&mut running, 4, [vec![], vec![task("a", 1)], vec![]]);
        assert_eq!(running.taken(), 1);
    }

    #[test]
    fn a_task_that_waits_to_be_started_stays_our_own_however_long() {
        let mut running = watched(9);
        running.started(now(1).at, "a", false);
        for at in [50, 100, 500] {
            count(&mut running, at, [vec![task("a", 1)], vec![], vec![]]);
            assert_eq!(running.taken(), 0, "after {at} s");
        }
        count(&mut running, 510, [vec![], vec![], vec![]]);
        assert!(running.own.is_empty());
    }

    #[test]
    fn a_task_that_moves_on_while_it_is_counted_is_counted_once() {
        let mut running = watched(9);
        count(&mut running, 2, [vec![task("a", 1)], vec![task("a", 1)], vec![]]);
        assert_eq!(running.taken(), 1);
    }

    #[test]
    fn more_than_a_page_counts_in_full() {
        let mut running = watched(300);
        for (count, state) in [(0, "READY"), (250, "RUNNING"), (0, "SYNCING")] {
            running.next = Moment::START;
            assert_eq!(running.wants(now(1).at), Some(state));
            running.asked(now(1).at);
            let tasks = (0..count.min(200)).map(|n| task(&n.to_string(), 1)).collect();
            running.answered(now(1), &Listing { tasks, count, date: None }, SignedDuration::ZERO);
        }
        assert_eq!(running.taken(), 250);
    }
}

//! Which held job is the most urgent, and which may not start yet? The deliveries held, ordered by (priority, age).
//!
//! A job in the window stands in one [`Place`]. Everything costs O(log n) a move, whatever the backlog.

mod places;
mod rank;
mod shelf;

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use super::Hashes;
use super::breaker::Group;
use super::request::{Job, Rare};
use super::text::Text;
use super::time::{Moment, Now};
use places::Places;
use rank::Scale;
use shelf::Shelf;

pub use places::{Line, Place};
pub use rank::Rank;

/// A job's name: its arrival number.
pub type Key = u64;

/// The deliveries held, ordered.
#[derive(Debug)]
pub struct Window<D> {
    scale: Scale,
    /// The scale's wall clock is set.
    began: bool,
    /// By arrival, so the first is the one held longest.
    jobs: Shelf<Job<D>>,
    places: Places,
    deadlines: BTreeSet<(Moment, Key)>,
    /// Source servers with a job out of the window: in a call, or being settled.
    busy: HashSet<Text, Hashes>,
    arrivals: u64,
}

impl<D> Window<D> {
    pub fn new(aging: f64, hashes: Hashes) -> Self {
        #[allow(clippy::cast_possible_truncation)] // bounded by the configuration
        let aging = (aging * 100.0).round() as i64;
        Self {
            scale: Scale { aging, start_ms: 0 },
            began: false,
            jobs: Shelf::default(),
            places: Places::default(),
            deadlines: BTreeSet::new(),
            busy: HashSet::with_hasher(hashes),
            arrivals: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// How many jobs wait for their turn, and how many for something else.
    pub fn counts(&self) -> (usize, usize) {
        let ready = self.places.posts.len() + self.places.look_ups.len();
        (ready, self.jobs.len() - ready)
    }

    pub fn look_ups_len(&self) -> usize {
        self.places.look_ups.len()
    }

    /// Numbers a delivery, in the order of arrival: its name from now on, wherever it is.
    pub fn number(&mut self, job: &mut Job<D>) {
        self.arrivals = self.next_number();
        job.arrival = self.arrivals;
    }

    /// The number of the next delivery.
    pub fn next_number(&self) -> Key {
        self.arrivals % Rank::LAST_ARRIVAL + 1
    }

    /// Puts a job in. A job whose turn has come but whose source server is busy waits as a copy.
    /// A source receives in the order of arrival: the job that arrived first is the one that is held longest.
    pub fn put(&mut self, now: Now, mut job: Job<D>, place: Place) -> Key {
        if !std::mem::replace(&mut self.began, true) {
            self.scale.start_ms = (now.wall - (now.at - Moment::START)).as_millisecond();
        }
        let key = job.arrival;
        let busy = self.busy.contains(&job.request.source_server_id);
        job.place = match place {
            Place::Post | Place::LookUp if busy => Place::Copy,
            place => place,
        };
        Self::look_at_the_clock(&mut job, now);
        if job.request.rare.deadline.is_some() {
            self.deadlines.insert((job.request.rare.due, key));
        }
        self.places.enter(&job, self.scale);
        self.jobs.insert(key, job);
        key
    }

    /// Where the times of the wall clock lie on the monotonic one, as the two stand to each other now.
    fn look_at_the_clock(job: &mut Job<D>, now: Now) {
        let on =
            |at: Timestamp| now.at + at.duration_since(now.wall).try_into().unwrap_or_default();
        let Rare { not_before, deadline, .. } = *job.request.rare;
        if let Some(deadline) = deadline {
            job.request.rare.due = on(deadline);
        }
        if let Some(not_before) = not_before {
            job.request.rare.from = on(not_before);
        }
    }

    /// The two clocks have moved against each other: whatever waits for the wall clock is sorted anew.
    pub fn clocks_moved(&mut self, now: Now) {
        for key in self.keys_where(|job| job.request.rare.is_timed()) {
            let Some(job) = self.jobs.get_mut(key) else { continue };
            self.places.exit(job, self.scale);
            let due = job.request.rare.due;
            Self::look_at_the_clock(job, now);
            self.places.enter(job, self.scale);
            // One that has been dealt with does not come up again.
            if self.deadlines.remove(&(due, key)) {
                self.deadlines.insert((job.request.rare.due, key));
            } else if job.request.rare.deadline.is_some() {
                job.request.rare.due = Moment::START;
            }
        }
    }

    /// Moves a job that is in the window to another place.
    pub fn move_to(&mut self, key: Key, place: Place) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        self.places.exit(job, self.scale);
        job.place = place;
        self.places.enter(job, self.scale);
    }

    /// Lets every wait that is over end: those jobs are taken out, to be admitted anew.
    pub fn due(&mut self, now: Moment) -> Vec<Job<D>> {
        let mut due = Vec::new();
        while let Some((at, key)) = self.first_wait() {
            if at > now {
                break;
            }
            due.extend(self.take(key));
        }
        due
    }

    fn first_wait(&self) -> Option<(Moment, Key)> {
        self.places.until.first().into_iter().chain(self.places.planned.first()).min().copied()
    }

    /// How many wait for what their planners say: a time, or the end of a hold.
    pub fn planned_len(&self) -> usize {
        self.places.planned.len() + self.places.held.len()
    }

    /// Of these the one that is wanted last, for what is known.
    pub fn last_planned(&self) -> Option<Key> {
        let held = self.places.held.last().map(|rank| rank.arrival());
        held.or_else(|| self.places.planned.last().map(|(_, key)| *key))
    }

    /// At most so many whose turn has come, the most urgent first.
    pub fn first_ready(&self, most: usize) -> Vec<(&Job<D>, Place)> {
        let lines =
            [&self.places.posts.starting, &self.places.posts.create_only, &self.places.look_ups];
        let mut ranks: Vec<_> = lines.into_iter().flat_map(|line| line.iter().take(most)).collect();
        ranks.sort_unstable();
        self.jobs_of(ranks.into_iter().map(|rank| rank.arrival()).take(most))
    }

    /// At most so many that wait for something else: for the list of all tasks, for a copy, or for a time, the earliest
    /// first.
    pub fn first_waiting(&self, most: usize) -> Vec<(&Job<D>, Place)> {
        let copies = self.places.copies.values();
        let copies = copies.flat_map(|of| of.starting.iter().chain(&of.create_only));
        let untimed = self.places.swept.iter().chain(copies).map(|rank| rank.arrival());
        let held = self.places.held.iter().map(|rank| rank.arrival());
        let refused = self.places.groups.values().flatten().map(|rank| rank.arrival());
        let planned = self.places.until.iter().chain(&self.places.planned);
        let timed = planned.chain(&self.places.aside).map(|(_, key)| *key);
        self.jobs_of(untimed.chain(timed).chain(refused).chain(held).take(most))
    }

    fn jobs_of(&self, keys: impl Iterator<Item = Key>) -> Vec<(&Job<D>, Place)> {
        keys.filter_map(|key| self.jobs.get(key)).map(|job| (job, job.place)).collect()
    }

    /// The first job of this line whose source server is free.
    pub fn first_post(&mut self, line: Line) -> Option<(Rank, Key)> {
        self.first_free(|window| window.places.posts.of(line))
    }

    /// The first job whose turn is a look-up and whose source server is free.
    pub fn first_look_up(&mut self) -> Option<(Rank, Key)> {
        self.first_free(|window| &window.places.look_ups)
    }

    /// The most urgent of the jobs that wait for a list.
    pub fn first_swept(&self) -> Option<Rank> {
        self.places.swept.first().copied()
    }

    /// The jobs that wait for a list.
    pub fn swept_keys(&self) -> impl Iterator<Item = Key> {
        self.places.swept.iter().map(|rank| rank.arrival())
    }

    /// Takes a job out that waits for a list; `None` if it is gone or waits for something else by now.
    pub fn take_swept(&mut self, key: Key) -> Option<Job<D>> {
        self.jobs.get(key).filter(|job| job.place == Place::Swept)?;
        self.take(key)
    }

    /// How many jobs are set aside, alone or with their group.
    pub fn aside_len(&self) -> usize {
        self.places.aside.len() + self.places.groups.values().map(BTreeSet::len).sum::<usize>()
    }

    /// When the first of those set aside alone, whose time is still to come, may be tried again.
    pub fn next_aside(&self, now: Moment) -> Option<Moment> {
        self.places.aside.range((now, Key::MAX)..).map(|(at, _)| *at).find(|at| *at > now)
    }

    /// The most urgent of those set aside alone of which this is true, whose time has come and whose source server is free.
    pub fn first_aside(&self, now: Moment, may: impl Fn(&Job<D>) -> bool) -> Option<(Rank, Key)> {
        let due = self.places.aside.range(..=(now, Key::MAX)).map(|(_, key)| *key);
        let free = |key: &Key| {
            let job = self.jobs.get(*key);
            job.is_some_and(|job| !self.busy.contains(&job.request.source_server_id) && may(job))
        };
        due.filter(free).filter_map(|key| Some((self.rank(key)?, key))).min()
    }

    /// The groups that wait, and the job of each that is tried next: one that was not refused itself, the most urgent.
    pub fn first_of_group(&self, group: &Group) -> Option<(Rank, Key)> {
        let members = self.places.groups.get(group)?;
        let free = members.iter().filter(|rank| {
            let job = self.jobs.get(rank.arrival());
            job.is_some_and(|job| !self.busy.contains(&job.request.source_server_id))
        });
        let tried = |rank: &&Rank| {
            let job = self.jobs.get(rank.arrival());
            job.map_or(Moment::START, |job| job.progress.troubled)
        };
        free.min_by_key(|rank| (tried(rank), **rank)).map(|rank| (*rank, rank.arrival()))
    }

    /// How many wait in each group that is set aside.
    pub fn groups(&self) -> impl Iterator<Item = (&Group, usize)> {
        self.places.groups.iter().map(|(group, members)| (group, members.len()))
    }

    /// Takes out every job of this group, to be admitted anew.
    pub fn take_group(&mut self, group: &Group) -> Vec<Job<D>> {
        let members = self.places.groups.get(group);
        let keys: Vec<Key> = members.into_iter().flatten().map(|rank| rank.arrival()).collect();
        keys.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// Whether a job of another group than this one has its turn.
    pub fn others_may_go(&self, group: &Group) -> bool {
        let lines =
            [&self.places.posts.starting, &self.places.posts.create_only, &self.places.look_ups];
        let mut jobs = lines.into_iter().flatten().filter_map(|rank| self.jobs.get(rank.arrival()));
        jobs.any(|job| !group.has(&job.request))
    }

    /// Moves every job whose turn is a look-up to the list.
    pub fn sweep_look_ups(&mut self) {
        let keys: Vec<Key> = self.places.look_ups.iter().map(|rank| rank.arrival()).collect();
        for key in keys {
            self.move_to(key, Place::Swept);
        }
    }

    pub fn rank(&self, key: Key) -> Option<Rank> {
        self.jobs.get(key).map(|job| Rank::of(job, job.request.priority, self.scale))
    }

    pub fn get(&self, key: Key) -> Option<&Job<D>> {
        self.jobs.get(key)
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Job<D>> {
        self.jobs.get_mut(key)
    }

    /// Takes a job out.
    pub fn take(&mut self, key: Key) -> Option<Job<D>> {
        let job = self.jobs.remove(key)?;
        self.places.exit(&job, self.scale);
        self.deadlines.remove(&(job.request.rare.due, key));
        Some(job)
    }

    /// From now on no other job for this source server starts.
    pub fn occupy(&mut self, source: &Text) {
        self.busy.insert(source.clone());
    }

    /// Whether a call is under way for the source server of this job.
    pub fn is_busy_for(&self, key: Key) -> bool {
        self.get(key).is_some_and(|job| self.is_busy(&job.request.source_server_id))
    }

    pub fn is_busy(&self, source: &Text) -> bool {
        self.busy.contains(source)
    }

    /// The source server is free again.
    pub fn vacate(&mut self, source: &Text) {
        self.busy.remove(source);
    }

    /// Takes out the most urgent copy of this source server, to be admitted anew.
    pub fn take_copy(&mut self, source: &Text, line: Line) -> Option<Job<D>> {
        let rank = self.places.copies.get(source)?.of(line).first()?;
        self.take(rank.arrival())
    }

    /// A free source server with copies, of which a job has left its line.
    pub fn take_left(&mut self) -> Option<Text> {
        while let Some(source) = self.places.left.pop() {
            if !self.busy.contains(&source) && self.places.copies.contains_key(&source) {
                return Some(source);
            }
        }
        None
    }

    /// The job held longest.
    pub fn oldest_held(&self) -> Option<(Moment, Key)> {
        self.jobs.first().map(|(key, job)| (job.received, key))
    }

    pub fn next_wait(&self) -> Option<Moment> {
        self.first_wait().map(|(at, _)| at)
    }

    pub fn next_deadline(&self) -> Option<(Moment, Key)> {
        self.deadlines.first().copied()
    }

    /// A deadline that has been dealt with: it must not come up again.
    pub fn forget_deadline(&mut self, key: Key) {
        if let Some(job) = self.jobs.get_mut(key) {
            self.deadlines.remove(&(job.request.rare.due, key));
            if job.request.rare.due != Moment::START {
                job.request.rare.due = Moment::START;
            }
        }
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> Vec<Job<D>> {
        self.places = Places::default();
        self.deadlines.clear();
        std::mem::take(&mut self.jobs).into_values().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Job<D>, Place)> {
        self.jobs.iter().map(|(_, job)| (job, job.place))
    }

    /// The jobs that this is true of. Looks at every one.
    pub fn keys_where(&self, is: impl Fn(&Job<D>) -> bool) -> Vec<Key> {
        let found = self.jobs.iter().filter(|(_, job)| is(job));
        found.map(|(key, _)| key).collect()
    }

    fn first_free(&mut self, line: impl Fn(&Self) -> &BTreeSet<Rank>) -> Option<(Rank, Key)> {
        loop {
            let rank = *line(self).first()?;
            let key = rank.arrival();
            let source = &self.jobs.get(key)?.request.source_server_id;
            if !self.busy.contains(source) {
                return Some((rank, key));
            }
            self.move_to(key, Place::Copy);
        }
    }
}

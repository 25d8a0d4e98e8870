//! Which held job is the most urgent, and which may not start yet? The deliveries held, ordered by (priority, age).
//!
//! A job in the window stands in one [`Place`]. Everything costs O(log n) a move, whatever the backlog.

mod shelf;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use foldhash::quality::RandomState;
use jiff::Timestamp;

use super::breaker::Group;
use super::request::{Job, Rare, Request};
use super::text::Text;
use super::time::{Moment, Now};
use shelf::Shelf;

/// The order in which jobs start: most urgent first, then the oldest (enqueued-at, row, arrival).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    score: Reverse<i64>,
    since_ms: i64,
    /// The row of the plan above, the arrival number below: one number, for every request that is held has one.
    row_and_arrival: u64,
}

impl Rank {
    /// Where aging is measured from: keeps scores small.
    const AGING_EPOCH_MS: i64 = 1_577_836_800_000; // 2020-01-01
    /// Aging is kept to a hundredth of a point.
    const SCALE: i64 = 100 * 3_600_000;
    /// A trillion deliveries can arrive, three years at ten thousand a second, before their numbers begin again.
    const ARRIVAL_BITS: u32 = 40;
    const LAST_ARRIVAL: u64 = u64::MAX >> (u64::BITS - Self::ARRIVAL_BITS);
    /// Rows above this one, of equal time, go by arrival alone.
    const LAST_ROW: u64 = u64::MAX >> Self::ARRIVAL_BITS;

    /// `aging`: priority points gained per hour of waiting. All requests age alike, so the order between two of them
    /// never changes.
    fn of<D>(job: &Job<D>, priority: u16, scale: Scale) -> Self {
        let since_ms = scale.since_ms(job);
        let aged = scale.aging.saturating_mul(since_ms.saturating_sub(Self::AGING_EPOCH_MS));
        let score = (i64::from(priority) * Self::SCALE).saturating_sub(aged);
        let row = job.request.row.get().unwrap_or(0).min(Self::LAST_ROW);
        let row_and_arrival = row << Self::ARRIVAL_BITS | job.arrival;
        Self { score: Reverse(score), since_ms, row_and_arrival }
    }

    fn arrival(self) -> Key {
        self.row_and_arrival & Self::LAST_ARRIVAL
    }
}

/// What ranks are measured by: the same for all jobs of a window, for as long as there is one.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Hundredths of a point an hour.
    aging: i64,
    /// The wall clock where the monotonic one begins, as it was when the first job came.
    start_ms: i64,
}

impl Scale {
    /// When the job was enqueued, or, where it does not say so, first received.
    fn since_ms<D>(self, job: &Job<D>) -> i64 {
        let received = || {
            let after = (job.first_received() - Moment::START).as_millis();
            self.start_ms.saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
        };
        job.request.enqueued_at.millisecond().unwrap_or_else(received)
    }
}

/// What a job in the window waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its turn: the next call for it is a `POST`.
    Post,
    /// Its turn: the next call for it is a look.
    Look,
    /// Its time: a retry's, or its planner's.
    Until,
    /// The verdict of another job for the same source server.
    Copy,
    /// The list of all tasks.
    Swept,
    /// It was refused where others were not, and is tried again at its time, if then.
    Aside,
    /// Its project is refused where others are not, and is probed with one request at a time.
    Group,
}

/// Requests whose turn is a `POST` stand in one of two lines, because the running cap holds only one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The migration starts by itself.
    Starting,
    /// `auto_start` is `false`: it takes no place in the account.
    Still,
}

impl Line {
    pub const BOTH: [Self; 2] = [Self::Starting, Self::Still];

    fn of(request: &Request) -> Self {
        if request.starts { Self::Starting } else { Self::Still }
    }
}

/// Both lines, each in order.
#[derive(Debug, Default)]
struct Lines {
    starting: BTreeSet<Rank>,
    still: BTreeSet<Rank>,
}

impl Lines {
    fn of(&self, line: Line) -> &BTreeSet<Rank> {
        match line {
            Line::Starting => &self.starting,
            Line::Still => &self.still,
        }
    }

    fn of_mut(&mut self, line: Line) -> &mut BTreeSet<Rank> {
        match line {
            Line::Starting => &mut self.starting,
            Line::Still => &mut self.still,
        }
    }

    fn len(&self) -> usize {
        self.starting.len() + self.still.len()
    }
}

/// Where the jobs stand, each in one of these by its place. A rank ends with the job's key, and is found again from what
/// does not change while the job is held.
#[derive(Debug, Default)]
struct Places {
    posts: Lines,
    looks: BTreeSet<Rank>,
    swept: BTreeSet<Rank>,
    until: BTreeSet<(Moment, Key)>,
    aside: BTreeSet<(Moment, Key)>,
    groups: BTreeMap<Group, BTreeSet<Rank>>,
    /// By source server. One of each line stands among the others when its source server is free; so an ending costs the
    /// same beside any number of copies.
    copies: HashMap<Text, Lines, RandomState>,
    /// Source servers of which a job has left its line: the next copy's turn may have come.
    left: Vec<Text>,
}

/// A job's name within the window: its arrival number.
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
    busy: HashSet<Text, RandomState>,
    arrivals: u64,
}

impl<D> Window<D> {
    pub fn new(aging: f64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // bounded by the configuration
        let aging = (aging * 100.0).round() as i64;
        Self {
            scale: Scale { aging, start_ms: 0 },
            began: false,
            jobs: Shelf::default(),
            places: Places::default(),
            deadlines: BTreeSet::new(),
            busy: HashSet::default(),
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
        let ready = self.places.posts.len() + self.places.looks.len();
        (ready, self.jobs.len() - ready)
    }

    pub fn looks_len(&self) -> usize {
        self.places.looks.len()
    }

    /// Puts a job in. A job whose turn has come but whose source server is busy waits as a copy.
    /// A source receives in the order of arrival: the job that arrived first is the one that is held longest.
    pub fn put(&mut self, now: Now, mut job: Job<D>, place: Place) -> Key {
        if job.arrival == 0 {
            self.arrivals = self.arrivals % Rank::LAST_ARRIVAL + 1;
            job.arrival = self.arrivals;
        }
        if !std::mem::replace(&mut self.began, true) {
            self.scale.start_ms = (now.wall - (now.at - Moment::START)).as_millisecond();
        }
        let key = job.arrival;
        let busy = self.busy.contains(&job.request.source_server_id);
        job.place = match place {
            Place::Post | Place::Look if busy => Place::Copy,
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
        while let Some(&(at, key)) = self.places.until.first() {
            if at > now {
                break;
            }
            due.extend(self.take(key));
        }
        due
    }

    /// The rank that a job of this window would have with another priority.
    pub fn rank_with(&self, key: Key, priority: u16) -> Option<Rank> {
        self.jobs.get(key).map(|job| Rank::of(job, priority, self.scale))
    }

    /// At most so many whose turn has come, the most urgent first.
    pub fn first_ready(&self, most: usize) -> Vec<(&Job<D>, Place)> {
        let lines = [&self.places.posts.starting, &self.places.posts.still, &self.places.looks];
        let mut ranks: Vec<_> = lines.into_iter().flat_map(|line| line.iter().take(most)).collect();
        ranks.sort_unstable();
        self.jobs_of(ranks.into_iter().map(|rank| rank.arrival()).take(most))
    }

    /// At most so many that wait for something else: for the list of all tasks, for a copy, or for a time, the earliest
    /// first.
    pub fn first_waiting(&self, most: usize) -> Vec<(&Job<D>, Place)> {
        let copies = self.places.copies.values();
        let copies = copies.flat_map(|of| of.starting.iter().chain(&of.still));
        let untimed = self.places.swept.iter().chain(copies).map(|rank| rank.arrival());
        let refused = self.places.groups.values().flatten().map(|rank| rank.arrival());
        let timed = self.places.until.iter().chain(&self.places.aside).map(|(_, key)| *key);
        self.jobs_of(untimed.chain(timed).chain(refused).take(most))
    }

    fn jobs_of(&self, keys: impl Iterator<Item = Key>) -> Vec<(&Job<D>, Place)> {
        keys.filter_map(|key| self.jobs.get(key)).map(|job| (job, job.place)).collect()
    }

    /// The first job of this line whose source server is free.
    pub fn first_post(&mut self, line: Line) -> Option<(Rank, Key)> {
        self.first_free(|window| window.places.posts.of(line))
    }

    /// The first job whose turn is a look and whose source server is free.
    pub fn first_look(&mut self) -> Option<(Rank, Key)> {
        self.first_free(|window| &window.places.looks)
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
        let lines = [&self.places.posts.starting, &self.places.posts.still, &self.places.looks];
        let mut jobs = lines.into_iter().flatten().filter_map(|rank| self.jobs.get(rank.arrival()));
        jobs.any(|job| !group.has(&job.request))
    }

    /// Moves every job whose turn is a look to the list.
    pub fn sweep_looks(&mut self) {
        let keys: Vec<Key> = self.places.looks.iter().map(|rank| rank.arrival()).collect();
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
        self.places.until.first().map(|(at, _)| *at)
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

impl Places {
    fn enter<D>(&mut self, job: &Job<D>, scale: Scale) {
        let (request, key) = (&job.request, job.arrival);
        let rank = Rank::of(job, request.priority, scale);
        match job.place {
            Place::Post => {
                self.posts.of_mut(Line::of(request)).insert(rank);
            }
            Place::Look => {
                self.looks.insert(rank);
            }
            Place::Swept => {
                self.swept.insert(rank);
            }
            Place::Until => {
                self.until.insert((job.wakes(), key));
            }
            Place::Aside => {
                self.aside.insert((job.progress.until, key));
            }
            Place::Group => {
                self.groups.entry(Group::of(request)).or_default().insert(rank);
            }
            Place::Copy => {
                let copies = self.copies.entry(request.source_server_id.clone()).or_default();
                copies.of_mut(Line::of(request)).insert(rank);
            }
        }
    }

    fn exit<D>(&mut self, job: &Job<D>, scale: Scale) {
        let (request, key) = (&job.request, job.arrival);
        let rank = Rank::of(job, request.priority, scale);
        let source = &request.source_server_id;
        if matches!(job.place, Place::Post | Place::Look) && self.copies.contains_key(source) {
            self.left.push(source.clone());
        }
        match job.place {
            Place::Post => {
                self.posts.of_mut(Line::of(request)).remove(&rank);
            }
            Place::Look => {
                self.looks.remove(&rank);
            }
            Place::Swept => {
                self.swept.remove(&rank);
            }
            Place::Until => {
                self.until.remove(&(job.wakes(), key));
            }
            Place::Aside => {
                self.aside.remove(&(job.progress.until, key));
            }
            Place::Group => {
                let group = Group::of(request);
                if let Some(members) = self.groups.get_mut(&group) {
                    members.remove(&rank);
                    if members.is_empty() {
                        self.groups.remove(&group);
                    }
                }
            }
            Place::Copy => {
                if let Some(copies) = self.copies.get_mut(source) {
                    copies.of_mut(Line::of(request)).remove(&rank);
                    if copies.len() == 0 {
                        self.copies.remove(source);
                    }
                }
            }
        }
    }
}

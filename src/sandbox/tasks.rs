//! What state is each migration task in? A state machine that is told the time: what became due since it was last asked
//! happens in order, each at its own moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::options::TaskOptions;
use super::task::{FAIL, NewTask, READY, RUNNING, SUCCESS, Task, has_ended};
use crate::core::{Moment, Now};

/// A state changed (or the task came, or went).
#[derive(Clone, Debug)]
pub(super) struct Transition {
    pub(super) at: Moment,
    pub(super) task: String,
    pub(super) source: String,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

#[derive(Debug)]
pub(super) struct Tasks {
    options: TaskOptions,
    scale: f64,
    dice: fastrand::Rng,
    last: u64,
    by_number: BTreeMap<u64, Task>,
    numbers: HashMap<String, u64>,
    by_source: BTreeMap<String, Vec<u64>>,
    live_targets: HashMap<String, u64>,
    due: BinaryHeap<Reverse<(Moment, u64)>>,
    /// Those that could run if there were a place, by their turn.
    queue: BTreeMap<u64, u64>,
    last_turn: u64,
    ended: VecDeque<u64>,
    running: u32,
    max_running: u32,
    changes: Vec<Transition>,
}

impl Tasks {
    pub(super) fn new(options: &TaskOptions, scale: f64, seed: u64) -> Self {
        Self {
            options: options.clone(),
            scale,
            dice: fastrand::Rng::with_seed(seed),
            last: 0,
            by_number: BTreeMap::new(),
            numbers: HashMap::new(),
            by_source: BTreeMap::new(),
            live_targets: HashMap::new(),
            due: BinaryHeap::new(),
            queue: BTreeMap::new(),
            last_turn: 0,
            ended: VecDeque::new(),
            running: 0,
            max_running: 0,
            changes: Vec::new(),
        }
    }

    /// Takes effect for what starts from now on; a larger `max_running` fills up at once.
    pub(super) fn set_options(&mut self, options: &TaskOptions, now: Now) {
        self.options = options.clone();
        self.settle(now);
    }

    pub(super) fn options(&self) -> &TaskOptions {
        &self.options
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Carries out the one step that is due first; `now` is its own moment.
    pub(super) fn step(&mut self, now: Now) {
        let Some(Reverse((at, number))) = self.due.pop() else { return };
        let Some(task) = self.by_number.get_mut(&number).filter(|t| t.due == Some(at)) else {
            return;
        };
        task.due = None;
        match task.state() {
            READY => {
                self.last_turn += 1;
                task.turn = Some(self.last_turn);
                self.queue.insert(self.last_turn, number);
            }
            RUNNING => {
                let failed = self.dice.f64() < self.options.fail_probability;
                self.enter(number, if failed { FAIL } else { SUCCESS }, now);
            }
            _ => {}
        }
        self.settle(now);
    }

    /// Makes a task and returns its id.
    pub(super) fn create(&mut self, new: NewTask, now: Now) -> String {
        self.last += 1;
        let number = self.last;
        let id = format!("{:016x}{:016x}", self.dice.u64(..), number);
        let age =
            jiff::SignedDuration::from_secs(i64::try_from(new.age_seconds).unwrap_or(i64::MAX));
        let created = now.wall.checked_sub(age).unwrap_or(Timestamp::MIN);
        let state = new.state.clone();
        let source = new.source_server_id.clone();
        self.numbers.insert(id.clone(), number);
        self.by_source.entry(source).or_default().push(number);
        let task = Task {
            id: id.clone(),
            number,
            made: NewTask { state: String::new(), ..new },
            created,
            started: None,
            ended: None,
            visible: now.at + self.options.listing_delay,
            due: None,
            turn: None,
        };
        self.by_number.insert(number, task);
        self.enter(number, &state, now);
        self.settle(now);
        id
    }

    /// Lets a task that stands in `READY` go (`auto_start` was false).
    pub(super) fn start(&mut self, id: &str, now: Now) -> bool {
        let Some(task) = self.number(id).and_then(|n| self.by_number.get_mut(&n)) else {
            return false;
        };
        task.made.auto_start = true;
        let number = task.number;
        if task.state() == READY && task.due.is_none() && task.turn.is_none() {
            self.plan(number, self.options.ready, now);
        }
        true
    }

    /// Lets a task begin anew that was stopped or failed; whether there is such a task.
    pub(super) fn restart(&mut self, id: &str, now: Now) -> bool {
        if self.get(id).is_some_and(Task::is_live) {
            return self.start(id, now);
        }
        if let Some(task) = self.number(id).and_then(|n| self.by_number.get_mut(&n)) {
            task.made.auto_start = true;
        }
        self.change(id, READY, now)
    }

    /// Whether there is such a task.
    pub(super) fn change(&mut self, id: &str, state: &str, now: Now) -> bool {
        let number = self.number(id);
        if let Some(number) = number {
            self.enter(number, state, now);
            self.settle(now);
        }
        number.is_some()
    }

    pub(super) fn delete(&mut self, id: &str, now: Now) -> bool {
        let Some(number) = self.number(id) else { return false };
        if let Some(task) = self.by_number.get(&number) {
            let (task_id, source, from) =
                (id.to_owned(), task.source().to_owned(), task.state().to_owned());
            self.changes.push(Transition {
                at: now.at,
                task: task_id,
                source,
                from: Some(from),
                to: None,
            });
        }
        self.forget(number);
        self.settle(now);
        true
    }

    pub(super) fn get(&self, id: &str) -> Option<&Task> {
        self.by_number.get(&self.number(id)?)
    }

    /// The newest first, as the console shows them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Task> {
        self.by_number.values().rev()
    }

    pub(super) fn of_source(&self, source: &str) -> impl Iterator<Item = &Task> {
        let numbers = self.by_source.get(source).map_or(&[][..], Vec::as_slice);
        numbers.iter().rev().filter_map(|n| self.by_number.get(n))
    }

    /// The source servers that have tasks, by id.
    pub(super) fn sources(&self) -> impl Iterator<Item = &str> {
        self.by_source.keys().map(String::as_str)
    }

    pub(super) fn live_on_target(&self, vm_id: &str) -> bool {
        self.live_targets.contains_key(vm_id)
    }

    pub(super) fn running(&self) -> u32 {
        self.running
    }

    /// How many could run if there were a place.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The most that ever ran at once, since [`Tasks::reset_max`].
    pub(super) fn max_running(&self) -> u32 {
        self.max_running
    }

    pub(super) fn reset_max(&mut self) {
        self.max_running = self.running;
    }

    pub(super) fn take_changes(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.changes)
    }

    fn number(&self, id: &str) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    /// The one place where a state changes: counts, steps and the log hang on it.
    fn enter(&mut self, number: u64, state: &str, now: Now) {
        let Some(task) = self.by_number.get_mut(&number) else { return };
        let from = std::mem::replace(&mut task.made.state, state.to_owned());
        let (was_running, runs, ended) = (from == RUNNING, state == RUNNING, has_ended(state));
        task.due = None;
        if let Some(turn) = task.turn.take() {
            self.queue.remove(&turn);
        }
        if runs {
            task.started = Some(now.wall);
        }
        task.ended = ended.then_some(now.wall);
        let goes = task.made.auto_start && state == READY;
        self.changes.push(Transition {
            at: now.at,
            task: task.id.clone(),
            source: task.source().to_owned(),
            from: Some(from).filter(|state| !state.is_empty()),
            to: Some(state.to_owned()),
        });
        let vm_id = task.made.vm_id.clone();
        self.hold_target(&vm_id, number, !ended);
        if ended {
            self.ended.push_back(number);
        }
        self.running = self.running + u32::from(runs) - u32::from(was_running);
        self.max_running = self.max_running.max(self.running);
        if runs {
            let share = 1.0 + self.options.jitter * (2.0 * self.dice.f64() - 1.0);
            self.plan(number, self.options.running.mul_f64(share), now);
        } else if goes {
            self.plan(number, self.options.ready, now);
        }
    }

    fn hold_target(&mut self, vm_id: &str, number: u64, hold: bool) {
        if hold && !vm_id.is_empty() {
            self.live_targets.insert(vm_id.to_owned(), number);
        } else if self.live_targets.get(vm_id) == Some(&number) {
            self.live_targets.remove(vm_id);
        }
    }

    fn plan(&mut self, number: u64, wait: Duration, now: Now) {
        // A wait that overflows once it is scaled never ends.
        let wait =
            Duration::try_from_secs_f64(wait.as_secs_f64() / self.scale).unwrap_or(Duration::MAX);
        let at = now.at + wait;
        if let Some(task) = self.by_number.get_mut(&number) {
            task.due = Some(at);
            self.due.push(Reverse((at, number)));
        }
    }

    /// Fills free places, and forgets the oldest ended tasks beyond what is kept.
    fn settle(&mut self, now: Now) {
        while self.running < self.options.max_running
            && let Some((_, number)) = self.queue.pop_first()
        {
            self.enter(number, RUNNING, now);
        }
        while self.ended.len() > self.options.keep_ended.max(1)
            && let Some(number) = self.ended.pop_front()
        {
            if self.by_number.get(&number).is_some_and(|task| !task.is_live()) {
                self.forget(number);
            }
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(task) = self.by_number.remove(&number) else { return };
        self.numbers.remove(&task.id);
        if let Some(turn) = task.turn {
            self.queue.remove(&turn);
        }
        self.hold_target(&task.made.vm_id, number, false);
        self.running -= u32::from(task.state() == RUNNING);
        if let Some(numbers) = self.by_source.get_mut(task.source()) {
            numbers.retain(|n| *n != number);
            if numbers.is_empty() {
                self.by_source.remove(task.source());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(seconds: u64) -> Now {
        Now { at: Moment::from_nanos(seconds * 1_000_000_000), wall: Timestamp::UNIX_EPOCH }
    }

    fn until(tasks: &mut Tasks, seconds: u64) {
        while tasks.next_due().is_some_and(|due| due <= now(seconds).at) {
            let at = tasks.next_due().unwrap();
            tasks.step(Now { at, ..now(0) });
        }
    }

    fn options() -> TaskOptions {
        let (ready, running) = (Duration::from_secs(2), Duration::from_secs(10));
        TaskOptions { ready, running, max_running: 2, ..TaskOptions::default() }
    }

    fn new(source: &str) -> NewTask {
        NewTask { source_server_id: source.to_owned(), ..NewTask::default() }
    }

    fn states(tasks: &Tasks) -> Vec<&str> {
        tasks.by_number.values().map(Task::state).collect()
    }

    #[test]
    fn a_task_is_ready_runs_and_succeeds_and_the_next_takes_its_place_at_that_moment() {
        let mut tasks = Tasks::new(&options(), 1.0, 1);
        for source in ["a", "b", "c"] {
            tasks.create(new(source), now(0));
        }
        until(&mut tasks, 1);
        assert_eq!(states(&tasks), [READY; 3]);
        until(&mut tasks, 11);
        assert_eq!(states(&tasks), [RUNNING, RUNNING, READY]);
        until(&mut tasks, 12);
        assert_eq!(states(&tasks), [SUCCESS, SUCCESS, RUNNING]);
        until(&mut tasks, 22);
        assert_eq!(states(&tasks), [SUCCESS; 3]);
        assert_eq!(tasks.max_running(), 2);
        let last = tasks.take_changes().pop().unwrap();
        assert_eq!((last.at, last.from.as_deref()), (now(22).at, Some(RUNNING)));
    }

    #[test]
    fn the_time_scale_shortens_the_steps() {
        let mut tasks = Tasks::new(&options(), 12.0, 1);
        tasks.create(new("a"), now(0));
        until(&mut tasks, 1);
        assert_eq!(states(&tasks), [SUCCESS]);
    }

    #[test]
    fn without_auto_start_it_stays_ready_until_it_is_started() {
        let mut tasks = Tasks::new(&options(), 1.0, 1);
        let id = tasks.create(NewTask { auto_start: false, ..new("a") }, now(0));
        until(&mut tasks, 1000);
        assert_eq!(states(&tasks), [READY]);
        assert!(tasks.start(&id, now(1000)));
        until(&mut tasks, 1002);
        assert_eq!(states(&tasks), [RUNNING]);
    }

    #[test]
    fn a_deleted_or_finished_task_frees_its_place_and_its_target() {
        let mut tasks = Tasks::new(&TaskOptions { max_running: 1, ..options() }, 1.0, 1);
        let first = tasks.create(NewTask { vm_id: "vm".into(), ..new("a") }, now(0));
        let second = tasks.create(new("b"), now(0));
        tasks.create(new("c"), now(0));
        until(&mut tasks, 2);
        assert_eq!(states(&tasks), [RUNNING, READY, READY]);
        assert!(tasks.live_on_target("vm"));
        assert!(tasks.delete(&first, now(3)));
        assert_eq!(states(&tasks), [RUNNING, READY]);
        assert!(!tasks.live_on_target("vm"));
        assert!(tasks.change(&second, FAIL, now(4)));
        assert_eq!(states(&tasks), [FAIL, RUNNING]);
        assert_eq!((tasks.running(), tasks.queued()), (1, 0));
        assert_eq!(tasks.of_source("a").count(), 0);
    }

    #[test]
    fn ended_tasks_beyond_the_kept_ones_are_forgotten_oldest_first() {
        let mut tasks = Tasks::new(&TaskOptions { keep_ended: 2, ..options() }, 1.0, 1);
        let ids: Vec<_> = (0..5)
            .map(|n| tasks.create(NewTask { state: SUCCESS.into(), ..new(&n.to_string()) }, now(n)))
            .collect();
        assert_eq!(ids.iter().filter(|id| tasks.get(id).is_some()).count(), 2);
        assert!(tasks.get(&ids[4]).is_some());
    }
}

//! Can a list of all tasks miss one that was there all the time? Rows come and go while the pages are read.

use stateright::{Checker, HasDiscoveries, Model, Property};

const MISSED: &str = "a complete list holds every task that was there all along";
/// Rows a page; the API's is 200.
const PAGE: usize = 3;

/// When a list that was read page by page counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Always,
    /// Each page must say the `count` that the first one said.
    SameCount,
    /// Each page starts with the last row of the one before.
    Overlap,
}

#[derive(Clone, Debug)]
struct Paging {
    trust: Trust,
    newest_first: bool,
    created: u8,
    deleted: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reading {
    /// The ids of the tasks in the API's order.
    rows: Vec<u8>,
    /// The tasks (a bit each) that were there when this list was begun, and still are.
    all_along: u16,
    seen: u16,
    offset: usize,
    last: Option<u8>,
    count: Option<usize>,
    complete: bool,
    created: u8,
    deleted: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Read,
    Create,
    Delete(usize),
}

impl Reading {
    fn begin(&mut self) {
        self.all_along = self.rows.iter().fold(0, |set, id| set | 1 << id);
        (self.seen, self.offset, self.last, self.count) = (0, 0, None, None);
    }
}

impl Model for Paging {
    type State = Reading;
    type Action = Step;

    fn init_states(&self) -> Vec<Reading> {
        let mut rows: Vec<u8> = (0..7).collect();
        if self.newest_first {
            rows.reverse();
        }
        let mut reading = Reading {
            rows,
            all_along: 0,
            seen: 0,
            offset: 0,
            last: None,
            count: None,
            complete: false,
            created: 0,
            deleted: 0,
        };
        reading.begin();
        vec![reading]
    }

    fn actions(&self, state: &Reading, actions: &mut Vec<Step>) {
        if state.complete {
            return;
        }
        actions.push(Step::Read);
        actions.extend((state.created < self.created).then_some(Step::Create));
        if state.deleted < self.deleted {
            actions.extend((0..state.rows.len()).map(Step::Delete));
        }
    }

    fn next_state(&self, last: &Reading, step: Step) -> Option<Reading> {
        let mut state = last.clone();
        match step {
            Step::Create => {
                let at = if self.newest_first { 0 } else { state.rows.len() };
                state.rows.insert(at, 7 + state.created);
                state.created += 1;
            }
            Step::Delete(at) => {
                let id = state.rows.remove(at);
                state.all_along &= !(1 << id);
                state.deleted += 1;
            }
            Step::Read => self.read(&mut state),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(MISSED, |_, state: &Reading| {
                !state.complete || state.all_along & !state.seen == 0
            }),
            Property::sometimes("a list is completed", |_, state: &Reading| state.complete),
        ]
    }
}

impl Paging {
    fn read(&self, state: &mut Reading) {
        let page: Vec<u8> = state.rows.iter().skip(state.offset).take(PAGE).copied().collect();
        let count = state.rows.len();
        let trusted = match self.trust {
            Trust::Always => true,
            Trust::SameCount => *state.count.get_or_insert(count) == count,
            Trust::Overlap => state.last.is_none() || state.last == page.first().copied(),
        };
        if !trusted {
            state.begin();
            return;
        }
        state.seen = page.iter().fold(state.seen, |set, id| set | 1 << id);
        state.last = page.last().copied();
        state.complete = state.offset + page.len() >= count;
        state.offset += page.len() - usize::from(self.trust == Trust::Overlap && !page.is_empty());
    }
}

fn misses(trust: Trust, newest_first: bool, created: u8, deleted: u8) -> bool {
    let paging = Paging { trust, newest_first, created, deleted };
    let checker =
        paging.checker().finish_when(HasDiscoveries::AnyOf([MISSED].into())).spawn_bfs().join();
    checker.discovery(MISSED).is_some()
}

#[test]
fn a_list_that_is_not_checked_misses_a_task_when_another_is_deleted() {
    assert!(misses(Trust::Always, false, 0, 1));
    assert!(misses(Trust::Always, true, 0, 1));
}

#[test]
fn the_count_tells_when_tasks_are_only_created_or_only_deleted() {
    for newest_first in [false, true] {
        assert!(!misses(Trust::SameCount, newest_first, 2, 0));
        assert!(!misses(Trust::SameCount, newest_first, 0, 2));
    }
}

#[test]
fn the_count_does_not_tell_when_one_is_deleted_and_one_is_created() {
    assert!(misses(Trust::SameCount, false, 1, 1), "the oldest first");
}

#[test]
fn pages_that_overlap_by_a_row_never_miss_a_task_in_any_fixed_order() {
    for newest_first in [false, true] {
        assert!(!misses(Trust::Overlap, newest_first, 2, 2));
    }
}

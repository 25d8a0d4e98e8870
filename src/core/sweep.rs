//! Is there a task for any of many jobs in doubt? A list of all tasks of the account, page by page, answers for all of
//! them at once.
//!
//! Pages are read by offset while tasks come and go. Each page begins with the last row of the one before: if that
//! place holds a task not seen yet, rows have moved towards the beginning and one may have been missed, so the list is
//! begun again. At the end at least `count` different tasks must have been seen. Both hold as long as the API keeps the
//! relative order of its rows; tasks that are created meanwhile do not disturb it.

use std::collections::BTreeSet;

use super::text::Text;
use super::time::Moment;
use super::verdict::{Listing, Task};
use super::window::Key;

/// The longest page that the API gives.
pub const PAGE: u32 = 200;
/// The highest offset that the API takes.
const MAX_OFFSET: u32 = 65_535;
/// A list that has to be begun again so often is given up: the jobs are looked up one by one.
const MAX_RESTARTS: u32 = 5;

/// How many pages a list of so many tasks has: all but the first begin with a row that was read.
pub fn pages(tasks: u32) -> usize {
    tasks.saturating_sub(1).div_ceil(PAGE - 1).max(1) as usize
}

/// What a page meant for the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    More,
    Done,
    /// It cannot be read whole.
    GivenUp,
}

/// A list of all tasks under way.
#[derive(Debug, Default)]
pub struct Sweep {
    /// The jobs that wait for it.
    pub keys: Vec<Key>,
    /// When the first page was asked for: what the list shows is true from then on.
    pub begun: Option<Moment>,
    /// A page has been asked for and has not answered.
    pub out: bool,
    /// Not before this moment, after a page that failed.
    pub until: Moment,
    pub failures: u32,
    /// The tasks at the source and target servers of the jobs that wait.
    pub rows: Vec<Task>,
    /// Source servers of rows that cannot be read: the list says nothing about them.
    pub unread: BTreeSet<Text>,
    sources: BTreeSet<Text>,
    targets: BTreeSet<Text>,
    seen: BTreeSet<String>,
    /// Tasks of this worker's own making since the list began.
    own: BTreeSet<String>,
    offset: u32,
    restarts: u32,
}

impl Sweep {
    /// `servers`: source and target server of each job that waits.
    pub fn new<'a>(
        keys: Vec<Key>,
        servers: impl Iterator<Item = (&'a Text, Option<&'a Text>)>,
    ) -> Self {
        let mut sweep = Self { keys, ..Self::default() };
        for (source, target) in servers {
            sweep.sources.insert(source.clone());
            sweep.targets.extend(target.cloned());
        }
        sweep
    }

    /// The offset of the next page. The first call says when the list began.
    pub fn next(&mut self, now: Moment) -> u32 {
        if self.offset == 0 {
            self.begun = Some(now);
        }
        self.out = true;
        self.offset
    }

    /// A task that this worker created meanwhile: it may or may not be among the rows, and need not be.
    pub fn created(&mut self, task_id: &str) {
        self.own.insert(task_id.to_owned());
    }

    /// A page has answered.
    pub fn page(&mut self, listing: Listing) -> Page {
        self.out = false;
        self.failures = 0;
        if listing.unread.iter().any(Option::is_none) {
            return Page::GivenUp;
        }
        let unread = listing.unread.iter().flatten().map(|source| Text::from(source.as_str()));
        self.unread.extend(unread);
        let read = listing.tasks.len() + listing.unread.len();
        let rows = u32::try_from(read).unwrap_or(u32::MAX);
        let end = self.offset.saturating_add(rows);
        let overlaps = self.offset == 0
            || listing.tasks.first().is_some_and(|task| self.seen.contains(&task.id))
            // One that cannot be read may be the one.
            || listing.begins_unread;
        for task in listing.tasks {
            self.seen.insert(task.id.clone());
            let wanted = self.sources.contains(&Text::from(task.source_server_id.as_str()))
                || task.target_vm_id.as_deref().is_some_and(|id| self.targets.contains(&id.into()));
            if wanted {
                self.rows.push(task);
            }
        }
        let complete = end >= listing.count;
        let seen = self.seen.union(&self.own).count() + self.unread.len();
        let all_seen = seen >= usize::try_from(listing.count).unwrap_or(usize::MAX);
        if overlaps && complete && all_seen {
            return Page::Done;
        }
        if overlaps && !complete && rows > 1 && end <= MAX_OFFSET {
            self.offset = end - 1;
            return Page::More;
        }
        self.begin_again(end)
    }

    fn begin_again(&mut self, end: u32) -> Page {
        self.restarts += 1;
        if self.restarts > MAX_RESTARTS || end > MAX_OFFSET {
            return Page::GivenUp;
        }
        self.offset = 0;
        self.rows.clear();
        self.seen.clear();
        self.unread.clear();
        self.own.clear();
        Page::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: usize) -> Task {
        Task {
            id: id.to_string(),
            name: "n".into(),
            state: "RUNNING".into(),
            source_server_id: format!("s{id}"),
            target_vm_id: None,
            create_date: None,
        }
    }

    fn page(all: &[Task], offset: u32) -> Listing {
        let tasks = all.iter().skip(offset as usize).take(PAGE as usize).cloned().collect();
        let count = u32::try_from(all.len()).unwrap();
        Listing { tasks, count, ..Listing::default() }
    }

    /// Reads all pages, `change` being done to the tasks before each but the first.
    fn read(
        mut all: Vec<Task>,
        mut change: impl FnMut(usize, &mut Vec<Task>),
    ) -> (Sweep, Page, usize) {
        let sources: Vec<Text> = all.iter().map(|t| t.source_server_id.as_str().into()).collect();
        let mut sweep = Sweep::new(Vec::new(), sources.iter().map(|id| (id, None)));
        for number in 0..1000 {
            if number > 0 {
                change(number, &mut all);
            }
            let offset = sweep.next(Moment::START);
            match sweep.page(page(&all, offset)) {
                Page::More => {}
                end => return (sweep, end, number + 1),
            }
        }
        unreachable!("the list ends")
    }

    #[test]
    fn every_task_is_seen_on_pages_that_overlap_by_a_row() {
        let (sweep, end, pages) = read((0..1000).map(task).collect(), |_, _| {});
        assert_eq!((end, pages, sweep.seen.len()), (Page::Done, 6, 1000));
        for (tasks, read) in [(0, 1), (1, 1), (200, 1), (201, 2), (399, 2), (400, 3), (1000, 6)] {
            assert_eq!(super::pages(tasks), read, "{tasks}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_hides_no_row_that_was_missed() {
        for begins_unread in [true, false] {
            let mut sweep = Sweep::new(Vec::new(), std::iter::empty());
            let all: Vec<Task> = (0..200).map(task).collect();
            sweep.next(Moment::START);
            assert_eq!(sweep.page(Listing { count: 202, ..page(&all, 0) }), Page::More);
            sweep.next(Moment::START);
            // Where it stands first it may be the row that both pages have. Elsewhere that one is gone, and others may be.
            let unread = vec![Some("odd".into())];
            let tasks = (200..202).map(task).collect();
            let second = Listing { tasks, count: 202, unread, begins_unread, date: None };
            let goes_on = if begins_unread { Page::Done } else { Page::More };
            assert_eq!(sweep.page(second), goes_on);
            assert_eq!(sweep.offset == 0 && sweep.unread.is_empty(), !begins_unread);
        }
    }

    #[test]
    fn an_empty_account_is_one_page() {
        let (_, end, pages) = read(Vec::new(), |_, _| {});
        assert_eq!((end, pages), (Page::Done, 1));
    }

    #[test]
    fn a_task_deleted_before_the_offset_makes_the_list_begin_again() {
        let (sweep, end, pages) = read((0..500).map(task).collect(), |number, all| {
            if number == 1 {
                all.remove(3);
            }
        });
        assert_eq!(end, Page::Done);
        assert_eq!(
            pages,
            2 + 3,
            "one page is thrown away, one shows the shift, and three are read anew"
        );
        assert!((4..500).all(|id| sweep.seen.contains(&id.to_string())));
    }

    #[test]
    fn tasks_created_at_the_front_hide_nothing() {
        let (sweep, end, _) = read((0..500).map(task).collect(), |number, all| {
            if number <= 2 {
                all.insert(0, task(1000 + number));
            }
        });
        assert_eq!(end, Page::Done);
        assert!((0..500).all(|id| sweep.seen.contains(&id.to_string())));
    }

    #[test]
    fn a_list_that_never_holds_still_is_given_up() {
        let (_, end, _) = read((0..5000).map(task).collect(), |_, all| {
            all.drain(0..2);
        });
        assert_eq!(end, Page::GivenUp);
    }
}

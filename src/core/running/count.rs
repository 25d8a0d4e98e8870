//! What does a count of the running migrations ask next, and what has it seen so far?
//!
//! It is one list for each state in [`COUNTED`], in that order: a task that moves on between two of the calls is seen
//! twice, never missed. READY tasks are read to the last page, for it depends on each of them whether it takes a place;
//! of those that run the number is enough.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::core::time::Moment;
use crate::core::verdict::Listing;

/// The states that take a place, in the order in which a task goes through them.
pub const COUNTED: [&str; 3] = ["READY", "RUNNING", "SYNCING"];
/// A page begins so many rows before the end of the last one: tasks that left the state in between have moved the others
/// forward.
const OVERLAP: u32 = 20;

/// A count under way.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) begun: Moment,
    /// The next of [`COUNTED`] to ask for, and from which row on.
    state: usize,
    offset: u32,
    /// Source servers of the rows so far that take a place, and tasks that were counted but not listed.
    pub(super) sources: BTreeSet<Box<str>>,
    pub(super) unlisted: usize,
    /// Our own that are there and wait for somebody to start them.
    pub(super) idle: BTreeSet<Box<str>>,
    /// The tasks of the rows so far that take a place.
    tasks: BTreeSet<Box<str>>,
}

impl Count {
    pub(super) fn begin(now: Moment) -> Self {
        let (sources, idle, tasks) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { begun: now, state: 0, offset: 0, sources, unlisted: 0, idle, tasks }
    }

    /// The state to ask for, and from which row on.
    pub(super) fn page(&self) -> (&'static str, u32) {
        (COUNTED[self.state], self.offset)
    }

    /// Takes the answer in; `true`: it was the last one. `starts`: whether a task of ours starts by itself, `None` of
    /// somebody else's, which takes a place while READY if it was created since `fresh_since`.
    pub(super) fn read(
        &mut self,
        listing: &Listing,
        starts: impl Fn(&str) -> Option<bool>,
        fresh_since: Timestamp,
    ) -> bool {
        let ready = self.state == 0;
        // What cannot be read takes a place, whoever it is.
        self.unlisted += listing.unread.len();
        for task in &listing.tasks {
            let source = task.source_server_id.as_str();
            let own = starts(source);
            let fresh = || task.create_date.is_none_or(|at| at >= fresh_since);
            if !ready || own.unwrap_or_else(fresh) {
                // A page overlaps the one before, and a task may move on between two states: counted once. A second task for
                // a source server takes a place of its own.
                if self.tasks.insert(task.id.as_str().into()) {
                    self.unlisted += usize::from(!self.sources.insert(source.into()));
                }
            } else if own.is_some() {
                self.idle.insert(source.into());
            }
        }
        let listed = listing.tasks.len() + listing.unread.len();
        let listed = u32::try_from(listed).unwrap_or(u32::MAX);
        let read = self.offset.saturating_add(listed);
        if ready && listed > 0 && read < listing.count {
            self.offset = read.saturating_sub(OVERLAP).max(self.offset + 1);
            return false;
        }
        // More of those that run than a page has: they count, whoever they are.
        self.unlisted += usize::try_from(listing.count.saturating_sub(read)).unwrap_or(usize::MAX);
        self.state += 1;
        self.offset = 0;
        self.state == COUNTED.len()
    }
}

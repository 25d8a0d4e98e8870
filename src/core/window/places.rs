//! What does each job in the window wait for, and in which order do those that wait for the same stand?

use std::collections::{BTreeMap, BTreeSet};

use super::Key;
use super::rank::{Rank, Scale};
use crate::core::breaker::Group;
use crate::core::request::{Job, Request};
use crate::core::text::Text;
use crate::core::time::Moment;

/// What a job in the window waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its turn: the next call for it is a `POST`.
    Post,
    /// Its turn: the next call for it is a look-up.
    LookUp,
    /// The time of its retry.
    Until,
    /// The time that its planner set.
    Planned,
    /// An order that releases it.
    Held,
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
    CreateOnly,
}

impl Line {
    pub const BOTH: [Self; 2] = [Self::Starting, Self::CreateOnly];

    fn of(request: &Request) -> Self {
        if request.starts { Self::Starting } else { Self::CreateOnly }
    }
}

/// Both lines, each in order.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) starting: BTreeSet<Rank>,
    pub(super) create_only: BTreeSet<Rank>,
}

impl Lines {
    pub(super) fn of(&self, line: Line) -> &BTreeSet<Rank> {
        match line {
            Line::Starting => &self.starting,
            Line::CreateOnly => &self.create_only,
        }
    }

    fn of_mut(&mut self, line: Line) -> &mut BTreeSet<Rank> {
        match line {
            Line::Starting => &mut self.starting,
            Line::CreateOnly => &mut self.create_only,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starting.len() + self.create_only.len()
    }
}

/// Where the jobs stand, each in one of these by its place. A rank ends with the job's key, and is found again from what
/// does not change while the job is held.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) posts: Lines,
    pub(super) look_ups: BTreeSet<Rank>,
    pub(super) swept: BTreeSet<Rank>,
    pub(super) until: BTreeSet<(Moment, Key)>,
    pub(super) planned: BTreeSet<(Moment, Key)>,
    pub(super) held: BTreeSet<Rank>,
    pub(super) aside: BTreeSet<(Moment, Key)>,
    pub(super) groups: BTreeMap<Group, BTreeSet<Rank>>,
    /// By source server. One of each line stands among the others when its source server is free; so an ending costs the
    /// same beside any number of copies.
    pub(super) copies: BTreeMap<Text, Lines>,
    /// Source servers of which a job has left its line: the next copy's turn may have come.
    pub(super) left: Vec<Text>,
}

impl Places {
    pub(super) fn enter<D>(&mut self, job: &Job<D>, scale: Scale) {
        let (request, key) = (&job.request, job.arrival);
        let rank = Rank::of(job, request.priority, scale);
        match job.place {
            Place::Post => {
                self.posts.of_mut(Line::of(request)).insert(rank);
            }
            Place::LookUp => {
                self.look_ups.insert(rank);
            }
            Place::Swept => {
                self.swept.insert(rank);
            }
            Place::Until => {
                self.until.insert((job.wakes(), key));
            }
            Place::Planned => {
                self.planned.insert((job.wakes(), key));
            }
            Place::Held => {
                self.held.insert(rank);
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

    pub(super) fn exit<D>(&mut self, job: &Job<D>, scale: Scale) {
        let (request, key) = (&job.request, job.arrival);
        let rank = Rank::of(job, request.priority, scale);
        let source = &request.source_server_id;
        if matches!(job.place, Place::Post | Place::LookUp) && self.copies.contains_key(source) {
            self.left.push(source.clone());
        }
        match job.place {
            Place::Post => {
                self.posts.of_mut(Line::of(request)).remove(&rank);
            }
            Place::LookUp => {
                self.look_ups.remove(&rank);
            }
            Place::Swept => {
                self.swept.remove(&rank);
            }
            Place::Until => {
                self.until.remove(&(job.wakes(), key));
            }
            Place::Planned => {
                self.planned.remove(&(job.wakes(), key));
            }
            Place::Held => {
                self.held.remove(&rank);
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

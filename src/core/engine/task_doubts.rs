//! Which source servers may have a task already, and what is asked to find out?

use std::time::Duration;

use super::hash_of;
use super::look_ups::LookUps;
use crate::core::Hashes;
use crate::core::memory::Memory;
use crate::core::request::{Doubt, Job, Run};
use crate::core::sweep::Sweep;
use crate::core::text::Text;
use crate::core::time::Moment;

/// So many tasks of one source server are remembered as somebody's.
const TASKS: usize = 8;

/// What the worker knows of a source server: since when, and whether one look-up is enough to end the doubt.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) at: Moment,
    pub(super) once: bool,
    /// A request for it is in doubt, or was when it went out of sight: there may be a task that only this knows of.
    doubted: bool,
    /// The latest few tasks of it that are known to be a run's, each by a hash of its id.
    made: Vec<(u64, Run)>,
}

impl Known {
    /// The task is known to be the run's of another request.
    pub(super) fn is_of_another(&self, run: Run, task_id: &str) -> bool {
        let id = hash_of(task_id);
        self.made.iter().any(|(made, of)| *made == id && *of != run)
    }
}

/// What is known of source servers, the list of all tasks, and what is known of look-ups.
#[derive(Debug)]
pub(super) struct TaskDoubts {
    /// Source servers that there is, or may be, a task of.
    known: Memory<Text, Known>,
    /// How long one in doubt is remembered whatever else comes.
    stays: Duration,
    look_again: Duration,
    pub(super) list: Option<Sweep>,
    /// No list before this moment, after one that could not be read whole.
    pub(super) no_list_until: Moment,
    /// How many tasks the account had when a page of the list was last read; 0 before the first.
    pub(super) tasks_listed: u32,
    /// Lists that were given up in a row.
    pub(super) lists_given_up: u32,
    pub(super) look_ups: LookUps,
}

impl TaskDoubts {
    pub(super) fn new(
        capacity: usize,
        hashes: Hashes,
        stays: Duration,
        look_again: Duration,
    ) -> Self {
        Self {
            known: Memory::new(capacity, hashes),
            stays,
            look_again,
            list: None,
            no_list_until: Moment::START,
            tasks_listed: 0,
            lists_given_up: 0,
            look_ups: LookUps::default(),
        }
    }

    /// How many source servers are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn of(&self, source: &Text) -> Option<&Known> {
        self.known.get(source)
    }

    /// There is no task for this source server.
    pub(super) fn forget(&mut self, source: &Text) {
        self.known.remove(source);
    }

    /// There is a task for this source server. `seen`: what time it is.
    pub(super) fn learn(&mut self, seen: Moment, at: Moment, source: &Text) {
        self.remember(seen, source, Known { at, once: true, doubted: false, made: Vec::new() });
    }

    /// There may be a task for this source server. `once`: no `POST` for it can still be on its way.
    pub(super) fn doubt(&mut self, seen: Moment, at: Moment, source: &Text, once: bool) {
        self.remember(seen, source, Known { at, once, doubted: true, made: Vec::new() });
    }

    fn remember(&mut self, seen: Moment, source: &Text, mut known: Known) {
        if let Some(before) = self.known.get_mut(source) {
            known.made = std::mem::take(&mut before.made);
        }
        let stays = self.stays;
        let must_stay = |known: &Known| known.doubted && seen < known.at + stays;
        self.known.insert_beside(source.clone(), known, must_stay);
    }

    /// The task is known to be this run's.
    pub(super) fn learn_whose<D>(&mut self, job: &Job<D>, task_id: &str) {
        let Some(known) = self.known.get_mut(&job.request.source_server_id) else { return };
        let made = (hash_of(task_id), job.request.run);
        if !known.made.contains(&made) {
            known.made.push(made);
            let older = known.made.len().saturating_sub(TASKS);
            known.made.drain(..older);
        }
    }

    /// A listed task: one is known now, unless more than that was known already.
    pub(super) fn learn_listed(&mut self, seen: Moment, source: &str) {
        let source = Text::from(source);
        if self.known.get(&source).is_none() {
            // Known since ever: a job that is cleared later than this list is not put in doubt by it.
            self.learn(seen, Moment::from_nanos(1), &source);
        }
    }

    /// A task that a look-up, begun at `started`, has found. Unless it is of this job's `own` making, it need not be that of
    /// a `POST` which may still be on its way.
    pub(super) fn learn_found(
        &mut self,
        (seen, at): (Moment, Moment),
        started: Moment,
        source: &Text,
        own: bool,
    ) {
        let open = self
            .known
            .get(source)
            .is_some_and(|known| !known.once && started < known.at + self.look_again);
        if own || !open {
            self.learn(seen, at, source);
        }
    }

    /// What is known of its source server may put a job in doubt, or for longer.
    pub(super) fn raise<D>(&self, job: &mut Job<D>) {
        let Some(known) = self.known.get(&job.request.source_server_id) else { return };
        if known.at <= job.progress.cleared {
            return;
        }
        match &mut job.progress.doubt {
            doubt @ Doubt::None => {
                *doubt = Doubt::LookUp { once: known.once, first: None, conflict: None };
            }
            Doubt::LookUp { once, first, .. } if !known.once => {
                *once = false;
                // A POST may have begun since that look-up.
                *first = first.filter(|first| *first >= known.at);
            }
            Doubt::LookUp { .. } | Doubt::Target(_) => {}
        }
    }
}

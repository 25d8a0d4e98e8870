//! How is a request that waits given another priority, for good? It is published anew, and only then acknowledged.
//!
//! To the broker and to every other worker the copy is what a delivery requeued is: the same run, delivered before. So
//! whatever happens in between, a worker that does not know better looks it up before it sends. To this one it is no new
//! doubt: what was known of the request, its retries too, is known of its copy.

use super::{Core, Step};
use crate::core::request::{Doubt, Job, Run};
use crate::core::text::Text;
use crate::core::time::Now;

/// How many may be on their way at once: each has its body in memory until the broker has confirmed it.
const MOST: usize = 64;

/// Why a request keeps its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    #[error(
        "the worker holds no request of this id that waits: it may be in flight, settled by now, or still in the queue"
    )]
    NotHeld,
    #[error("several requests that wait have this message id; name the run instead")]
    Several,
    #[error(
        "it may have been created already, and is looked up first: its turn cannot be changed before that is known"
    )]
    InDoubt,
    #[error("it has this priority already")]
    Same,
    #[error(
        "the window is full: published anew, the request would come back behind what is still in the queue; enlarge window.size, or wait until the queue is shorter"
    )]
    Full,
    #[error(
        "the window still fills after a start, and the request would come back behind what is still in the queue; try again in half a minute"
    )]
    Filling,
    #[error("{MOST} requests are being moved already; try again in a moment")]
    Busy,
    #[error("there is no session with the broker")]
    NoSession,
    #[error(
        "the broker has raised a resource alarm and takes no messages; try again when that has ended"
    )]
    Blocked,
    #[error("the worker is stopping")]
    Stopping,
}

/// What is under way to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reprioritised {
    pub run: Run,
    pub id: Text,
    /// The priority that it had.
    pub before: u16,
}

impl<D> Core<D> {
    /// Gives the request of this run, or of this message id, another priority. It must wait: what is in flight is not
    /// touched, and what is in doubt is looked up first.
    ///
    /// # Errors
    /// Says why it keeps its priority.
    pub(super) fn reprioritise(
        &mut self,
        now: Now,
        wanted: &str,
        priority: u16,
    ) -> Result<Reprioritised, Kept> {
        if self.session.stopping {
            return Err(Kept::Stopping);
        }
        let Some(session) = self.session.number() else { return Err(Kept::NoSession) };
        if self.gate.is_blocked() {
            return Err(Kept::Blocked);
        }
        if self.out.moving >= MOST {
            return Err(Kept::Busy);
        }
        let run = wanted.parse().ok().map(Run);
        let is = |job: &Job<D>| Some(job.request.run) == run || job.request.id == *wanted;
        let key = match self.window.keys_where(is)[..] {
            [] => return Err(Kept::NotHeld),
            [key] => key,
            [_, _, ..] => return Err(Kept::Several),
        };
        let Some(job) = self.window.get_mut(key) else { return Err(Kept::NotHeld) };
        self.doubts.raise(job);
        if job.session != session {
            return Err(Kept::NotHeld);
        }
        if job.progress.doubt != Doubt::None {
            return Err(Kept::InDoubt);
        }
        let before = job.request.priority;
        let waits = job.progress.until > now.at;
        if before == priority {
            return Err(Kept::Same);
        }
        let out = self.out.calling + self.out.settling + self.counts().unpublished;
        if self.window.len() + out >= self.settings.window {
            return Err(Kept::Full);
        }
        if self.session.is_starting() && self.lingers(now.at).is_some() {
            return Err(Kept::Filling);
        }
        let rank = self.window.rank_with(key, priority);
        let Some(job) = self.window.take(key) else { return Err(Kept::NotHeld) };
        let run = job.request.run;
        let moved = Reprioritised { run, id: job.request.id.clone(), before };
        if let Some(rank) = rank.filter(|_| !waits) {
            self.out.away.insert(now.at, run, rank);
        }
        self.ledger.carry(&job, true);
        self.out.settling += 1;
        self.out.moving += 1;
        self.out.steps.push_back(Step::Republish(job, priority));
        Ok(moved)
    }

    /// What was to be published anew was, or was not.
    pub(super) fn move_ended(&mut self) {
        self.out.settling -= 1;
        self.out.moving -= 1;
    }
}

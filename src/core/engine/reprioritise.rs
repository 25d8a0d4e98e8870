//! How is a request that waits given another priority, for good? It is published anew, and only then acknowledged.
//!
//! To the broker and to every other worker the copy is what a delivery given back is: the same run, delivered before. So
//! whatever happens in between, a worker that does not know better looks before it sends. To this one it is no new
//! doubt: what was known of the request, its retries too, is known of its copy.

use super::{Core, Linger, Step};
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
    #[error("the broker is in an alarm and takes no messages; try again when that has ended")]
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
    pub fn reprioritise(
        &mut self,
        now: Now,
        wanted: &str,
        priority: u16,
    ) -> Result<Reprioritised, Kept> {
        if self.stopping {
            return Err(Kept::Stopping);
        }
        let Some(session) = self.session else { return Err(Kept::NoSession) };
        if self.gate.is_blocked() {
            return Err(Kept::Blocked);
        }
        if self.moving >= MOST {
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
        super::doubt::raise(&self.known, job);
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
        let out = self.calling + self.settling + self.counts().unpublished;
        if self.window.len() + out >= self.settings.window {
            return Err(Kept::Full);
        }
        if matches!(self.linger, Linger::Start { .. }) && self.lingers(now.at).is_some() {
            return Err(Kept::Filling);
        }
        let rank = self.window.rank_with(key, priority);
        let Some(job) = self.window.take(key) else { return Err(Kept::NotHeld) };
        let run = job.request.run;
        let moved = Reprioritised { run, id: job.request.id.clone(), before };
        if let Some(rank) = rank.filter(|_| !waits) {
            self.away.insert(now.at, run, rank);
        }
        self.carried.insert(run, (job.carried(), true));
        self.settling += 1;
        self.moving += 1;
        self.steps.push_back(Step::Republish(job, priority));
        Ok(moved)
    }

    /// A request was published anew and acknowledged, or its session was lost under it. Its delivery is gone either way.
    #[allow(clippy::needless_pass_by_value)]
    pub fn republished(&mut self, _job: Job<D>) {
        self.move_ended();
    }

    /// Nothing came of it: the request was given back as it is.
    pub fn move_ended(&mut self) {
        self.settling -= 1;
        self.moving -= 1;
    }
}

//! Are look-ups answered, and is this identity allowed to look up at all?

use crate::core::time::{Moment, Now};
use crate::core::verdict::Verdict;

/// Where the question stands whether look-ups are answered at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    No,
    Wanted,
    Out,
}

/// What calls have shown of look-ups in general.
#[derive(Debug)]
pub(super) struct LookUps {
    /// When a look-up, a list or a count last succeeded.
    pub(super) well: Moment,
    /// Whether look-ups of others succeed is to be found out; the question is out.
    pub(super) asks: Asks,
    /// Since when look-ups have been refused, and when a `POST` that was begun after that was answered as by a healthy
    /// account.
    refused_since: Option<Moment>,
    posts_allowed: Option<Moment>,
}

impl Default for LookUps {
    fn default() -> Self {
        Self { well: Moment::START, asks: Asks::No, refused_since: None, posts_allowed: None }
    }
}

impl LookUps {
    /// A `POST` that was begun at `started` has ended. One that was under way when a look-up was refused shows nothing: the
    /// account may have been frozen in between.
    pub(super) fn note_post(&mut self, now: Now, started: Now, verdict: &Verdict) {
        let is_well = matches!(
            verdict,
            Verdict::Created { .. }
                | Verdict::Rejected(_)
                | Verdict::Ambiguous { conflict: true, .. }
        );
        if is_well && self.refused_since.is_some_and(|refused| refused <= started.at) {
            self.posts_allowed.get_or_insert(now.at);
        }
    }

    /// One was refused.
    pub(super) fn refused(&mut self, now: Moment) {
        self.refused_since.get_or_insert(now);
    }

    /// One was answered: whatever was refused before is over.
    pub(super) fn allowed(&mut self, now: Moment) {
        self.well = now;
        self.forget_refused();
    }

    pub(super) fn forget_refused(&mut self) {
        self.refused_since = None;
        self.posts_allowed = None;
    }

    /// The identity may create but not list: a look-up was refused, a `POST` begun after that was answered well, and a
    /// look-up begun after that, at `started`, is refused again.
    pub(super) fn are_forbidden(&self, started: Now) -> bool {
        self.posts_allowed.is_some_and(|allowed| allowed <= started.at)
    }
}

//! What is out of the window: handed to the shell, or about to be?

use std::collections::VecDeque;

use super::Step;
use super::parking::Parking;
use super::unpublished::Unpublished;
use crate::core::away::Away;
use crate::core::outcome::Outcome;
use crate::core::request::Job;

/// What is under way.
#[derive(Debug)]
pub(super) struct UnderWay<D> {
    /// Decided, and not handed out yet.
    pub(super) steps: VecDeque<Step<D>>,
    /// Calls to the API.
    pub(super) calling: usize,
    pub(super) settling: usize,
    /// What is parked, or on its way there: of those that settle.
    pub(super) parking: Parking,
    /// What has ended and the broker refuses: results, and dead letters.
    pub(super) unpublished: [Unpublished<D>; 2],
    /// Requeued, and not here again yet.
    pub(super) away: Away,
}

impl<D> Default for UnderWay<D> {
    fn default() -> Self {
        Self {
            steps: VecDeque::new(),
            calling: 0,
            settling: 0,
            parking: Parking::new(),
            unpublished: Default::default(),
            away: Away::default(),
        }
    }
}

impl<D> UnderWay<D> {
    /// Whether nothing is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.calling == 0 && self.settling == 0 && self.steps.is_empty()
    }

    /// How many wait that the broker refuses.
    pub(super) fn unpublished_len(&self) -> usize {
        self.unpublished.iter().map(Unpublished::len).sum()
    }

    pub(super) fn unpublished_jobs(&self) -> impl Iterator<Item = &Job<D>> {
        self.unpublished.iter().flat_map(Unpublished::jobs)
    }

    /// Those that wait with this one if the broker refuses it.
    pub(super) fn unpublished_of(&mut self, outcome: Outcome) -> &mut Unpublished<D> {
        &mut self.unpublished[usize::from(outcome.is_dead_letter())]
    }
}

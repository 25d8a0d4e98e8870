//! When is a fresh token wanted, and what does a refused one mean?

use std::time::Duration;

use super::{Gate, Of};
use crate::core::time::{Moment, Now};
use crate::core::verdict::Fault;

/// Where the token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    Good,
    /// This generation was refused: a fresh token is wanted.
    Wanted(u64),
    Fetching,
    /// This generation is fresh: if it is refused too, it is not the token's age.
    Fresh(u64),
}

/// Another log-in in place of a fresh token that was refused is tried once in so long at most: it may have been revoked
/// between the two.
const ONCE_IN: Duration = Duration::from_secs(60);

impl Gate {
    /// The next probe begins with another token.
    pub(super) fn doubt_the_token(&mut self) {
        if let Refresh::Fresh(_) = self.refresh {
            self.refresh = Refresh::Good;
        }
    }

    /// Says whether it is refused with the freshest token that can be had.
    pub(super) fn unauthorized(&mut self, now: Now, fault: &Fault, of: Of) -> bool {
        let generation = of.generation;
        match self.refresh {
            // A fresh token has changed nothing for this one, whatever it did for others.
            Refresh::Good if of.renewed && self.breaker.opened().is_none() => true,
            // The token that was refused is not the one in use any more.
            Refresh::Fresh(fresh) if generation < fresh => false,
            Refresh::Wanted(_) | Refresh::Fetching => false,
            Refresh::Good if self.breaker.opened().is_none() => {
                self.refresh = Refresh::Wanted(generation);
                false
            }
            Refresh::Good => {
                self.breaker.no_token(now, fault);
                true
            }
            Refresh::Fresh(_) => {
                let again = self.breaker.opened().is_none() && self.may_log_in_again(now.at);
                if again {
                    self.refresh = Refresh::Wanted(generation);
                }
                !again
            }
        }
    }

    /// Whether a fresh token that is refused may be replaced at once; takes that for used.
    fn may_log_in_again(&mut self, now: Moment) -> bool {
        let interval = self.settings.probe.max(ONCE_IN);
        let may = self.logged_in_again.is_none_or(|at| now - at >= interval);
        if may {
            self.logged_in_again = Some(now);
        }
        may
    }

    /// Somebody has renewed the credential: a halted account is asked at once whether it takes it, but for that once in
    /// `halt.probe` only, however often it is renewed.
    pub fn renewed(&mut self, now: Moment) {
        let next = self.asked_renewed.map(|at| at + self.settings.probe);
        let at = next.map_or(now, |next| next.max(now));
        if self.breaker.ask_by(at) {
            self.asked_renewed = Some(at);
            self.doubt_the_token();
        }
    }

    /// The generation of the token to replace (`None`: whichever is in use), if a fresh one is wanted now. The caller fetches it and says
    /// [`Gate::refreshed`].
    pub fn wants_token(&mut self, now: Moment) -> Option<Option<u64>> {
        let open = self.breaker.opened();
        let probe = open.is_some_and(|open| open.token && open.probe_at <= now && self.calls == 0);
        let wanted = match self.refresh {
            Refresh::Wanted(generation) => Some(generation),
            // The probe of a refused token begins with a fresh one.
            Refresh::Good if probe => None,
            _ => return None,
        };
        self.refresh = Refresh::Fetching;
        Some(wanted)
    }

    /// The token has been fetched (its generation), or could not be.
    pub fn refreshed(&mut self, now: Now, result: Result<u64, &Fault>) {
        match result {
            Ok(generation) => self.refresh = Refresh::Fresh(generation),
            Err(fault) => {
                self.refresh = Refresh::Good;
                self.breaker.no_token(now, fault);
            }
        }
    }
}

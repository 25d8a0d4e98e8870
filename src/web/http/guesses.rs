//! How often may somebody try tokens? Ten times a minute from one address, for log-ins and bearer tokens together.
//!
//! Nobody's guessing stops anybody else: the count is of one address, sessions are not asked for their token, and a token
//! that was right once from an address stays right there, however many wrong ones follow.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use sha2::{Digest as _, Sha256};

use super::tokens::{Known, Tokens};

/// Tokens a minute from one address, right or wrong, but for those that were right before.
const TRIES: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// So many addresses are told apart; those beyond share one count.
const ADDRESSES: usize = 4096;
/// A token that was right is taken without a count for so long.
const PROVEN: Duration = Duration::from_secs(24 * 3600);
/// Of those whose tries are used up, one line of the log says it in this time.
const SAY: Duration = Duration::from_secs(60);

/// Where a request comes from; of an IPv6 address the network, of which one machine has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller(IpAddr);

impl Caller {
    /// Where no server noted it.
    pub(crate) const NOBODY: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    pub fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(six) if !six.is_loopback() => {
                Self(Ipv6Addr::from(u128::from(six) >> 64 << 64).into())
            }
            other => Self(other),
        }
    }

    /// As the server noted it.
    pub(crate) fn of(extensions: &axum::http::Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::NOBODY)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What came of a token that somebody sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Right(Known),
    Wrong,
    /// Nobody looked at it.
    TooMany,
}

pub(crate) struct Guesses {
    tries: RateLimiter<Caller, HashMapStateStore<Caller>, DefaultClock>,
    /// The digests of tokens that were right, and when.
    proven: Mutex<HashMap<(Caller, [u8; 32]), Instant>>,
    said: Mutex<Option<Instant>>,
}

impl Default for Guesses {
    fn default() -> Self {
        let tries = RateLimiter::hashmap(Quota::per_minute(TRIES));
        Self { tries, proven: Mutex::default(), said: Mutex::default() }
    }
}

impl fmt::Debug for Guesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guesses").finish_non_exhaustive()
    }
}

impl Guesses {
    /// `way`: how the token came, for the log.
    pub(super) fn judge(
        &self,
        tokens: &Tokens,
        caller: Caller,
        given: &str,
        way: &'static str,
    ) -> Judged {
        let key = (caller, Sha256::digest(given.as_bytes()).into());
        let now = Instant::now();
        let is_proven = self.proven().get(&key).is_some_and(|at| now - *at < PROVEN);
        if !is_proven && !self.may_try(caller) {
            self.say(caller, way, now);
            return Judged::TooMany;
        }
        let Some(known) = tokens.known(given) else {
            tracing::warn!(%caller, way, "a token that is none of this worker's");
            return Judged::Wrong;
        };
        let mut proven = self.proven();
        if proven.len() >= ADDRESSES {
            proven.retain(|_, at| now - *at < PROVEN);
        }
        if proven.len() < ADDRESSES || is_proven {
            proven.insert(key, now);
        }
        Judged::Right(known)
    }

    fn may_try(&self, caller: Caller) -> bool {
        if self.tries.len() >= ADDRESSES {
            self.tries.retain_recent();
        }
        let counted = if self.tries.len() < ADDRESSES { caller } else { Caller::NOBODY };
        self.tries.check_key(&counted).is_ok()
    }

    fn say(&self, caller: Caller, way: &'static str, now: Instant) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| now - at >= SAY) {
            *said = Some(now);
            tracing::warn!(%caller, way, "too many tokens were tried from one address: more of them are refused unread");
        }
    }

    fn proven(&self) -> MutexGuard<'_, HashMap<(Caller, [u8; 32]), Instant>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values::Secret;

    const RIGHT: &str = "the right token, long";

    fn caller(last: u8) -> Caller {
        Caller::at(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn who_guesses_is_refused_and_nobody_else_is() {
        let tokens = Tokens::new(Some(&Secret::new(RIGHT)));
        let guesses = Guesses::default();
        let judge = |of, given: &str| guesses.judge(&tokens, of, given, "bearer");
        // Whoever was known before goes on being known, though somebody guesses from the same address.
        assert!(matches!(judge(caller(1), RIGHT), Judged::Right(_)));
        let tried: Vec<_> = (0..12).map(|n| judge(caller(1), &format!("guess {n}"))).collect();
        assert_eq!(tried[..9], [const { Judged::Wrong }; 9]);
        assert_eq!(tried[9..], [const { Judged::TooMany }; 3]);
        assert!(matches!(judge(caller(1), RIGHT), Judged::Right(_)));
        assert!(matches!(judge(caller(2), RIGHT), Judged::Right(_)), "another address");
        // A right guess is not looked at where too many were wrong.
        for n in 0..10 {
            judge(caller(3), &format!("guess {n}"));
        }
        assert_eq!(judge(caller(3), RIGHT), Judged::TooMany);
    }

    #[test]
    fn addresses_without_end_take_no_memory_without_end_and_one_network_is_one_caller() {
        let tokens = Tokens::new(Some(&Secret::new(RIGHT)));
        let guesses = Guesses::default();
        for n in 0..3 * u32::try_from(ADDRESSES).unwrap() {
            guesses.judge(&tokens, Caller::at(Ipv4Addr::from(n + 1).into()), "guess", "bearer");
        }
        assert!(guesses.tries.len() <= ADDRESSES + 1, "{}", guesses.tries.len());
        let of = |text: &str| Caller::at(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}

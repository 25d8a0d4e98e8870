//! Who is logged in? A session is a text that this worker, or another one with the same `http.session_key`, has signed:
//! so one that was begun at a worker is good at its standby too, and nothing is kept of it but what was ended early.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::tokens::{Known, Right};
use crate::config::values::Secret;

/// Nobody works longer than this in one go.
const LASTS: Duration = Duration::from_secs(12 * 3600);
/// Sessions that were ended early are remembered until they would have ended; more people than this do not log out.
const MOST: usize = 4096;
/// No cookie of ours is longer.
const LONGEST: usize = 1024;

/// Who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct LogIn {
    pub(crate) who: String,
    /// The name is that of the token that was shown, and nobody typed it.
    pub(crate) own: bool,
    /// Stands in every form of this session.
    pub(crate) csrf: String,
    pub(crate) right: Right,
}

/// What a session says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    who: String,
    own: bool,
    change: bool,
    /// Seconds of Unix' time.
    until: i64,
    nonce: Uuid,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    key: Secret,
    /// What ends every session when it changes: the tokens.
    tokens: [u8; 32],
    ended: Mutex<HashMap<Uuid, i64>>,
}

impl Sessions {
    /// With no key, sessions end with the process.
    pub(crate) fn new(key: Option<&Secret>, tokens: [u8; 32]) -> Self {
        let random = || Secret::new(format!("{}{}", Uuid::new_v4(), Uuid::new_v4()));
        let key = key.cloned().unwrap_or_else(random);
        Self { key, tokens, ended: Mutex::default() }
    }

    /// The cookie of a new session: `typed` is the name where the token shown is nobody's own.
    pub(crate) fn begin(&self, known: &Known, typed: &str, now: Timestamp) -> String {
        let until = now.as_second().saturating_add_unsigned(LASTS.as_secs());
        let claim = Claim {
            who: known.name.clone().unwrap_or_else(|| typed.to_owned()),
            own: known.name.is_some(),
            change: known.right == Right::Change,
            until,
            nonce: Uuid::new_v4(),
        };
        // A plain struct: nothing of it can fail to be written.
        let claim = hex::encode(serde_json::to_vec(&claim).unwrap_or_default());
        let mac = hex::encode(self.mac("session", &claim).finalize().into_bytes());
        format!("{claim}.{mac}")
    }

    /// The session of a cookie that is ours, and neither over nor ended.
    pub(crate) fn read(&self, cookie: &str, now: Timestamp) -> Option<LogIn> {
        let claim = self.claim(cookie)?;
        if claim.until <= now.as_second() || self.ended().contains_key(&claim.nonce) {
            return None;
        }
        let csrf = hex::encode(self.mac("form", cookie).finalize().into_bytes());
        let right = if claim.change { Right::Change } else { Right::Read };
        Some(LogIn { who: claim.who, own: claim.own, csrf, right })
    }

    /// Ends a session here; another worker has the cookie's end to go by.
    pub(crate) fn end(&self, cookie: &str, now: Timestamp) {
        let Some(claim) = self.claim(cookie) else { return };
        let mut ended = self.ended();
        ended.retain(|_, until| *until > now.as_second());
        if ended.len() < MOST {
            ended.insert(claim.nonce, claim.until);
        }
    }

    fn claim(&self, cookie: &str) -> Option<Claim> {
        let (claim, mac) = cookie.split_once('.').filter(|_| cookie.len() <= LONGEST)?;
        self.mac("session", claim).verify_slice(&hex::decode(mac).ok()?).ok()?;
        serde_json::from_slice(&hex::decode(claim).ok()?).ok()
    }

    fn mac(&self, of: &str, text: &str) -> Hmac<Sha256> {
        // As long as HMAC's block, so that nothing can fail.
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(self.key.expose().as_bytes()));
        let mut mac = Hmac::<Sha256>::new(&key.into());
        for part in [of.as_bytes(), b"\0", &self.tokens, text.as_bytes()] {
            mac.update(part);
        }
        mac
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, i64>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(right: Right) -> Known {
        Known { right, name: None }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 3600 * hours).unwrap()
    }

    #[test]
    fn a_session_is_good_at_every_worker_with_the_same_key_and_tokens_and_at_no_other() {
        let key = Secret::new("one");
        let (one, other) = (Sessions::new(Some(&key), [1; 32]), Sessions::new(Some(&key), [1; 32]));
        let cookie = one.begin(&shared(Right::Change), "ada", at(0));
        let seen = other.read(&cookie, at(11)).unwrap();
        assert_eq!((&*seen.who, seen.right), ("ada", Right::Change));
        assert_eq!(seen.csrf, one.read(&cookie, at(1)).unwrap().csrf);
        assert!(other.read(&cookie, at(12)).is_none(), "it lasts twelve hours");
        let strangers = [
            Sessions::new(Some(&Secret::new("two")), [1; 32]),
            Sessions::new(Some(&key), [2; 32]),
            Sessions::new(None, [1; 32]),
        ];
        assert!(strangers.iter().all(|stranger| stranger.read(&cookie, at(1)).is_none()));
    }

    #[test]
    fn a_session_has_the_name_of_the_token_and_not_the_one_that_was_typed() {
        let sessions = Sessions::new(None, [0; 32]);
        let ada = Known { right: Right::Change, name: Some("ada".into()) };
        let seen = sessions.read(&sessions.begin(&ada, "bo", at(0)), at(1)).unwrap();
        assert_eq!((&*seen.who, seen.own), ("ada", true));
        let cookie = sessions.begin(&shared(Right::Change), "bo", at(0));
        let seen = sessions.read(&cookie, at(1)).unwrap();
        assert_eq!((&*seen.who, seen.own), ("bo", false));
    }

    #[test]
    fn what_was_changed_or_ended_is_no_session() {
        let sessions = Sessions::new(None, [0; 32]);
        let cookie = sessions.begin(&shared(Right::Read), "bo", at(0));
        let (claim, mac) = cookie.split_once('.').unwrap();
        let text = String::from_utf8(hex::decode(claim).unwrap()).unwrap();
        let more = hex::encode(text.replace("\"change\":false", "\"change\":true"));
        for forged in [format!("{more}.{mac}"), format!("{claim}."), claim.to_owned(), "0".into()] {
            assert!(sessions.read(&forged, at(0)).is_none(), "{forged}");
        }
        assert_eq!(sessions.read(&cookie, at(0)).unwrap().right, Right::Read);
        sessions.end(&cookie, at(0));
        assert!(sessions.read(&cookie, at(0)).is_none());
    }
}

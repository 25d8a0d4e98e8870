//! Whose token is it, and what does it open?

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use crate::config::values::Secret;
use crate::lane::sections::{self, is_same_name};

/// What a token gives its owner the right to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Read,
    Change,
}

/// Who shows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub right: Right,
    /// Of an operator with a token of their own; the others say their names themselves.
    pub name: Option<String>,
}

/// The tokens of this worker, as digests: the shared ones, which a whole team may have, and those of single people.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    shared: Option<[u8; 32]>,
    reader: Option<[u8; 32]>,
    people: Vec<(String, [u8; 32])>,
    session_key: Option<Secret>,
}

impl Tokens {
    /// # Errors
    /// Says that a token's file cannot be read.
    pub fn from_settings(http: &sections::Http) -> Result<Self, String> {
        let tokens = Self::new(http.token()?.as_ref()).with_reader(http.token_to_read()?.as_ref());
        let tokens = http.operators.iter().try_fold(tokens, |tokens, person| {
            Secret::from_file(&person.token_file).map(|token| tokens.with(&person.name, &token))
        })?;
        Ok(tokens.with_session_key(http.session_key()?))
    }

    /// `token`: the operators' shared one.
    pub fn new(token: Option<&Secret>) -> Self {
        Self { shared: token.map(digest), ..Self::default() }
    }

    #[must_use]
    pub fn with_reader(self, token: Option<&Secret>) -> Self {
        Self { reader: token.map(digest), ..self }
    }

    /// An operator whose name is known by the token.
    #[must_use]
    pub fn with(mut self, name: &str, token: &Secret) -> Self {
        self.people.push((name.to_owned(), digest(token)));
        self
    }

    /// What the console's sessions are signed with, so that they are good at every worker that has it.
    #[must_use]
    pub fn with_session_key(self, session_key: Option<Secret>) -> Self {
        Self { session_key, ..self }
    }

    pub(super) fn session_key(&self) -> Option<&Secret> {
        self.session_key.as_ref()
    }

    /// Another one for every other set of tokens and names.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        for shared in [self.shared, self.reader] {
            all.update(shared.unwrap_or_default());
        }
        for (name, token) in &self.people {
            all.update(Sha256::digest(name));
            all.update(token);
        }
        all.finalize().into()
    }

    /// Whether anybody can change something at all.
    pub fn is_set(&self) -> bool {
        self.shared.is_some() || !self.people.is_empty()
    }

    /// Whether there is any token to log in with.
    pub fn can_log_in(&self) -> bool {
        self.is_set() || self.reader.is_some()
    }

    /// The operators that have tokens of their own.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.people.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a name that somebody typed is that of an operator with a token of their own.
    pub(crate) fn is_taken(&self, typed: &str) -> bool {
        self.names().any(|name| is_same_name(name, typed))
    }

    /// Digests are compared, so the time that it takes tells nothing about the tokens.
    pub fn known(&self, given: &str) -> Option<Known> {
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        if let Some((name, _)) = self.people.iter().find(|(_, token)| *token == given) {
            return Some(Known { right: Right::Change, name: Some(name.clone()) });
        }
        let right = if self.shared == Some(given) {
            Right::Change
        } else {
            (self.reader == Some(given)).then_some(Right::Read)?
        };
        Some(Known { right, name: None })
    }
}

/// What was sent as `Authorization: Bearer ...`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn digest(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.expose().as_bytes()).into()
}

//! Which credential does a call carry, and where does the next one come from? Fixed and file secrets are there at
//! once; a token made with a password is made ahead of its need, by one log-in at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::iam::{Failure, LogIn};
use super::lockout::Lockout;
use super::secret::{Fingerprint, SecretError, SecretSource, Stamp};
use super::settings::{ApiConfigError, ApiSettings, Auth, Kind};
use super::sign::Keys;
use crate::config::values::Secret;
use crate::core::Fault;

/// What proves to the API who calls.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    Token(Secret),
    Keys(Arc<Keys>),
}

/// A proof, and the number by which a refusal of it is told from a refusal of an older one.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    pub(super) proof: Proof,
    pub(super) generation: u64,
}

/// The credential of one account.
#[derive(Debug)]
pub(super) struct Credentials {
    origin: Origin,
    /// Never held across an await.
    held: Mutex<Held>,
    /// One log-in at a time; whoever waited for it takes its token.
    log_ins: tokio::sync::Mutex<Lockout>,
    /// Counts what was renewed from outside, and ahead of its need: not for a call that was refused, nor for a probe.
    renewals: watch::Sender<u64>,
}

#[derive(Debug)]
enum Origin {
    /// A token, or its file.
    Token(SecretSource),
    Keys(KeySources),
    LogIn(LogIn),
}

#[derive(Debug)]
struct KeySources {
    access: SecretSource,
    secret: SecretSource,
    security_token: Option<SecretSource>,
    project_id: Option<String>,
}

#[derive(Debug, Default)]
struct Held {
    proof: Option<Proof>,
    /// Counts the proofs; 0 is none yet.
    generation: u64,
    /// Of the files that the proof was read from.
    stamps: Vec<Option<Stamp>>,
    made: Option<Times>,
}

/// A token, and whether this very log-in has made it.
#[derive(Clone, Copy, Debug)]
struct Had {
    generation: u64,
    made: bool,
}

/// When a token was made and when it ends.
#[derive(Clone, Copy, Debug)]
struct Times {
    at: Instant,
    lifetime: Duration,
    /// By the wall clock, for people.
    expires: Timestamp,
}

/// A token is replaced when this part of its life is left, at most half an hour.
const AHEAD: u32 = 10;
const LONGEST_AHEAD: Duration = Duration::from_secs(30 * 60);
/// A token that is refused while younger than this is not cured by another one.
const YOUNG: Duration = Duration::from_secs(60);
/// How often a log-in that must wait looks whether its password was fixed.
const LOOK: Duration = Duration::from_secs(5);

impl Credentials {
    pub(super) fn new(settings: &ApiSettings) -> Result<Self, ApiConfigError> {
        let origin = origin(&settings.auth)?;
        let credentials = Self {
            origin,
            held: Mutex::new(Held::default()),
            log_ins: tokio::sync::Mutex::new(Lockout::default()),
            renewals: watch::Sender::new(0),
        };
        // A secret that cannot be read now is a mistake of the configuration; later it may be on its way.
        let unreadable = |error: SecretError| ApiConfigError::one("auth", error);
        credentials.read().map_err(unreadable)?;
        if let Origin::LogIn(log_in) = &credentials.origin {
            log_in.password.read().map_err(unreadable)?;
        }
        Ok(credentials)
    }

    /// The credential to use now. Never waits: without one it is the caller's turn to ask for a fresh one.
    pub(super) fn current(&self) -> Result<Credential, (Fault, u64)> {
        if let Err(error) = self.read() {
            // Files are replaced in more than one step; what was read last serves until it is refused.
            tracing::debug!(%error, "a credential's file cannot be read");
        }
        let held = self.held();
        match (&held.proof, held.made) {
            (Some(_), Some(made)) if made.left().is_zero() => {
                Err((fault(format!("the token expired at {:.0}", made.expires)), held.generation))
            }
            (Some(proof), _) => {
                Ok(Credential { proof: proof.clone(), generation: held.generation })
            }
            (None, _) => Err((fault("there is no token yet"), held.generation)),
        }
    }

    /// How often it was renewed by somebody else than a call that was refused.
    pub(super) fn renewals(&self) -> watch::Receiver<u64> {
        self.renewals.subscribe()
    }

    /// When the token ends, where that is known.
    pub(super) fn expiry(&self) -> Option<Timestamp> {
        self.held().made.map(|made| made.expires)
    }

    /// Sees to a credential that is newer than the one of generation `used`, which was refused. `Err` says why there
    /// is none: the account is to be halted. Any number of callers may ask, as often as they like.
    ///
    /// `None` asks for the probe of a halted account: a newer one if it can be had, else the one that there is, because
    /// what was wrong with it may have been fixed elsewhere (a permission, a clock).
    pub(super) async fn refresh(
        &self,
        http: &reqwest::Client,
        used: Option<u64>,
    ) -> Result<u64, Fault> {
        if let Some(used) = used {
            return self.newer(http, used).await;
        }
        let used = self.held().generation;
        let newer = self.newer(http, used).await;
        newer.or_else(|fault| {
            self.current().map(|credential| credential.generation).map_err(|_| fault)
        })
    }

    async fn newer(&self, http: &reqwest::Client, used: u64) -> Result<u64, Fault> {
        match &self.origin {
            Origin::LogIn(log_in) => {
                self.log_in(log_in, http, used).await.map(|had| had.generation)
            }
            Origin::Token(_) | Origin::Keys(_) => {
                self.read().map_err(|error| fault(error.to_string()))?;
                let generation = self.held().generation;
                let unchanged =
                    "the credential was refused, and there is no other one: see [api.auth]";
                if generation > used { Ok(generation) } else { Err(fault(unchanged)) }
            }
        }
    }

    /// Makes tokens ahead of their need, and looks whether files were renewed, for ever.
    pub(super) async fn keep_fresh(&self, http: &reqwest::Client) {
        let Origin::LogIn(log_in) = &self.origin else { return self.keep_read().await };
        loop {
            let (used, due) = {
                let held = self.held();
                (held.generation, held.made.map_or(Duration::ZERO, Times::left_until_due))
            };
            tokio::time::sleep(due).await;
            // Somebody may have made one in the meantime; then this returns at once and the next due time is looked up.
            match self.log_in(log_in, http, used).await {
                // One that a probe has made is tried by that probe.
                Ok(had) if had.made => self.renewals.send_modify(|renewals| *renewals += 1),
                Ok(_) => {}
                Err(fault) => {
                    tracing::debug!(error = fault.error_msg, "no token yet");
                    tokio::time::sleep(self.until_next_log_in(log_in).await).await;
                }
            }
        }
    }

    /// A halted gate makes no call that would read a file again, so it is looked at here.
    async fn keep_read(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.read() {
                tracing::debug!(%error, "a credential's file cannot be read");
            }
        }
    }

    async fn log_in(
        &self,
        log_in: &LogIn,
        http: &reqwest::Client,
        used: u64,
    ) -> Result<Had, Fault> {
        let mut lockout = self.log_ins.lock().await;
        if let Some(known) = self.settled_without_log_in(used) {
            return known.map(|generation| Had { generation, made: false });
        }
        let password = log_in.password.read().map_err(|error| fault(error.to_string()))?;
        let print = Fingerprint::of(&password);
        let now = Instant::now();
        let wait = lockout.earliest(print, now).saturating_duration_since(now);
        if !wait.is_zero() {
            return Err(fault(format!(
                "no log-in for {wait:.0?} yet, since wrong ones lock the account; the last one: {}",
                lockout.said
            )));
        }
        lockout.started(print, now);
        match log_in.send(http, &password).await {
            Ok(made) => {
                lockout.succeeded(print);
                let generation = self.hold_token(made.token, now, made.lifetime);
                Ok(Had { generation, made: true })
            }
            Err(failure) => Err(note_failure(&mut lockout, print, failure)),
        }
    }

    /// What is known without a log-in: somebody else made a token, or a new token would be refused like the last one.
    fn settled_without_log_in(&self, used: u64) -> Option<Result<u64, Fault>> {
        let held = self.held();
        let made = held.made?;
        if made.left().is_zero() {
            return None;
        }
        if held.generation > used {
            return Some(Ok(held.generation));
        }
        let young = made.at.elapsed() < YOUNG.min(made.lifetime / 2);
        young.then(|| {
            Err(fault(
                "a token that was made just now is refused: it is of no use here, see [api.auth]",
            ))
        })
    }

    fn hold_token(&self, token: Secret, asked_at: Instant, lifetime: Duration) -> u64 {
        let expires = Timestamp::now().saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        let mut held = self.held();
        held.proof = Some(Proof::Token(token));
        held.generation += 1;
        held.made = Some(Times { at: asked_at, lifetime, expires });
        tracing::info!(expires = %format!("{expires:.0}"), "logged in at IAM");
        held.generation
    }

    async fn until_next_log_in(&self, log_in: &LogIn) -> Duration {
        let lockout = self.log_ins.lock().await;
        let Ok(password) = log_in.password.read() else { return LOOK };
        let now = Instant::now();
        let wait = lockout.earliest(Fingerprint::of(&password), now).saturating_duration_since(now);
        // Not less than the timer can tell, not longer than somebody who fixed the password wants to wait.
        wait.clamp(Duration::from_millis(10), LOOK)
    }

    /// Reads fixed secrets once and files again when they were written.
    fn read(&self) -> Result<(), SecretError> {
        let stamps = self.origin.stamps();
        let mut held = self.held();
        if held.proof.is_some() && held.stamps == stamps {
            return Ok(());
        }
        let Some(proof) = self.origin.proof()? else { return Ok(()) };
        if !held.proof.as_ref().is_some_and(|old| old.is_same(&proof)) {
            if held.generation > 0 {
                tracing::info!("a credential's file has changed: it was read again");
                self.renewals.send_modify(|renewals| *renewals += 1);
            }
            held.generation += 1;
            held.proof = Some(proof);
        }
        held.stamps = stamps;
        Ok(())
    }

    /// A panic elsewhere does not make a credential wrong.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note_failure(lockout: &mut Lockout, print: Fingerprint, failure: Failure) -> Fault {
    let now = Instant::now();
    let fault = match failure {
        Failure::NotSent(fault) => {
            lockout.not_sent(print, now);
            fault
        }
        Failure::Unclear(fault) => {
            lockout.failed(now);
            fault
        }
        Failure::Refused(fault) => {
            lockout.refused(print, now);
            fault
        }
    };
    lockout.said.clone_from(&fault.error_msg);
    tracing::warn!(status = fault.status, error = fault.error_msg, "the log-in failed");
    fault
}

impl Origin {
    /// Of the files that the credential itself is read from; a log-in has none.
    fn stamps(&self) -> Vec<Option<Stamp>> {
        match self {
            Self::Token(token) => vec![token.stamp()],
            Self::Keys(keys) => {
                [Some(&keys.access), Some(&keys.secret), keys.security_token.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(SecretSource::stamp)
                    .collect()
            }
            Self::LogIn(_) => Vec::new(),
        }
    }

    /// What stands in the configuration or its files; a log-in's token has to be made.
    fn proof(&self) -> Result<Option<Proof>, SecretError> {
        Ok(match self {
            Self::Token(token) => Some(Proof::Token(token.read()?)),
            Self::Keys(keys) => Some(Proof::Keys(Arc::new(Keys {
                access: keys.access.read()?,
                secret: keys.secret.read()?,
                security_token: keys.security_token.as_ref().map(SecretSource::read).transpose()?,
                project_id: keys.project_id.clone(),
            }))),
            Self::LogIn(_) => None,
        })
    }
}

impl Proof {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(old), Self::Token(new)) => old.expose() == new.expose(),
            (Self::Keys(old), Self::Keys(new)) => {
                old.access.expose() == new.access.expose()
                    && old.secret.expose() == new.secret.expose()
                    && old.security_token.as_ref().map(Secret::expose)
                        == new.security_token.as_ref().map(Secret::expose)
            }
            _ => false,
        }
    }
}

impl Times {
    fn left(self) -> Duration {
        self.lifetime.saturating_sub(self.at.elapsed())
    }

    fn left_until_due(self) -> Duration {
        self.left().saturating_sub((self.lifetime / AHEAD).min(LONGEST_AHEAD))
    }
}

/// The settings have been checked, so nothing is missing any more.
fn origin(auth: &Auth) -> Result<Origin, ApiConfigError> {
    let origin = match auth.kind {
        Kind::Token | Kind::TokenFile => auth.token().map(Origin::Token),
        Kind::IamPassword => LogIn::from(auth).map(Origin::LogIn),
        Kind::Aksk => auth.access_key().zip(auth.secret_key()).map(|(access, secret)| {
            let security_token = auth.security_token();
            Origin::Keys(KeySources {
                access,
                secret,
                security_token,
                project_id: auth.project_id.clone(),
            })
        }),
    };
    origin.ok_or_else(|| ApiConfigError::one("auth", "incomplete"))
}

fn fault(why: impl Into<String>) -> Fault {
    Fault { error_msg: why.into(), ..Fault::default() }
}

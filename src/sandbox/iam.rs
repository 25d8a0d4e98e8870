//! Who is calling? Tokens with their expiry, passwords and signatures with their lock-outs.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::call::{Answer, Call};
use super::errors;
use super::options::{Account, AuthOptions};
use super::signing::{Claim, Signed};
use crate::core::Now;

/// Issued tokens that are remembered, so that an expired one is told from an invented one.
const REMEMBERED: usize = 10_000;
/// How far a signature's date may be off.
const SIGNATURE_AGE: i64 = 15 * 60;

#[derive(Debug)]
pub(super) struct Iam {
    options: AuthOptions,
    scale: f64,
    dice: fastrand::Rng,
    issued: HashMap<String, Token>,
    order: VecDeque<String>,
    /// Of users (`domain/name`) and access keys.
    locks: HashMap<String, Lock>,
    pub(super) logins: Logins,
}

#[derive(Debug)]
struct Token {
    expires: Timestamp,
    revoked: bool,
}

#[derive(Debug, Default)]
struct Lock {
    wrong: u32,
    until: Option<Timestamp>,
}

/// Calls for a token, by how they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Logins {
    pub issued: u64,
    pub wrong: u64,
    pub locked: u64,
    pub malformed: u64,
}

/// Why a caller is not let in, in the gateway's words.
pub(super) struct Refused {
    pub(super) number: &'static str,
    pub(super) message: String,
}

impl Refused {
    fn because(text: impl std::fmt::Display) -> Self {
        Self {
            number: "0301",
            message: format!("Incorrect IAM authentication information: {text}"),
        }
    }

    fn renew() -> Self {
        Self { number: "0307", message: "The token must be updated.".to_owned() }
    }
}

impl Iam {
    pub(super) fn new(options: &AuthOptions, scale: f64, seed: u64) -> Self {
        Self {
            options: options.clone(),
            scale,
            dice: fastrand::Rng::with_seed(seed),
            issued: HashMap::new(),
            order: VecDeque::new(),
            locks: HashMap::new(),
            logins: Logins::default(),
        }
    }

    pub(super) fn set_options(&mut self, options: &AuthOptions) {
        self.options = options.clone();
    }

    /// All tokens issued so far are void.
    pub(super) fn revoke(&mut self) {
        self.issued.values_mut().for_each(|token| token.revoked = true);
    }

    /// `POST /v3/auth/tokens`. `now` is the API's clock.
    pub(super) fn log_in(&mut self, call: &Call, now: Now) -> Answer {
        let Some(login) = Login::read(&call.body) else {
            self.logins.malformed += 1;
            return errors::iam(400, "Request parameter is invalid.");
        };
        let user = format!("{}/{}", login.domain, login.name);
        if self.is_locked(&user, now) {
            self.logins.locked += 1;
            return errors::iam(401, "The account is locked.");
        }
        let known =
            self.options.users.iter().find(|u| u.domain == login.domain && u.name == login.name);
        match known.map(|u| u.password == login.password) {
            Some(true) => {
                self.locks.remove(&user);
                self.logins.issued += 1;
                self.issue(&login, now)
            }
            known => {
                self.logins.wrong += 1;
                if known.is_some() {
                    self.count_wrong(user, self.options.lock_user, now);
                }
                errors::iam(401, "The username or password is wrong.")
            }
        }
    }

    fn issue(&mut self, login: &Login, now: Now) -> Answer {
        let expires =
            now.wall.checked_add(self.scaled(self.options.token_life)).unwrap_or(Timestamp::MAX);
        let dice = &mut self.dice;
        let token: String =
            (0..self.options.token_length.clamp(16, 16_384)).map(|_| dice.alphanumeric()).collect();
        self.issued.insert(token.clone(), Token { expires, revoked: false });
        self.order.push_back(token.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.issued.remove(&oldest);
        }
        let body = json!({"token": {
            "expires_at": iam_time(expires),
            "issued_at": iam_time(now.wall),
            "methods": ["password"],
            "user": {"name": login.name, "domain": {"name": login.domain}},
            "roles": [],
            "catalog": [],
            login.scope.0.as_str(): login.scope.1,
        }});
        Answer::json(201, &body).header("X-Subject-Token", token)
    }

    /// Token or signature, whichever the call carries.
    pub(super) fn check(&mut self, call: &Call, account: Account, now: Now) -> Result<(), Refused> {
        match (call.header("x-auth-token"), call.header("authorization")) {
            (Some(token), _) if !token.is_empty() => self.check_token(token, account, now.wall),
            (_, Some(authorization)) => self.check_signature(authorization, call, now),
            _ => Err(Refused::because("x-auth-token not found")),
        }
    }

    fn check_token(&self, token: &str, account: Account, now: Timestamp) -> Result<(), Refused> {
        if let Some(issued) = self.issued.get(token) {
            return match issued {
                token if token.revoked => Err(Refused::renew()),
                token if token.expires <= now => Err(Refused::because(format_args!(
                    "token expires, expires_at:{}",
                    iam_time(token.expires)
                ))),
                _ => Ok(()),
            };
        }
        let fixed = self.options.any_token || self.options.tokens.iter().any(|t| t == token);
        match (fixed, account) {
            (true, Account::TokenRevoked) => Err(Refused::renew()),
            (true, _) => Ok(()),
            (false, _) => Err(Refused::because("decrypt token fail")),
        }
    }

    fn check_signature(
        &mut self,
        authorization: &str,
        call: &Call,
        now: Now,
    ) -> Result<(), Refused> {
        let wrong = || Refused::because("verify aksk signature fail");
        let claim = Claim::read(authorization).ok_or_else(wrong)?;
        let key = claim.access_key;
        let Some(secret) = self.options.access_keys.get(key).cloned() else {
            return Err(Refused::because(format_args!("ak {key} not exist")));
        };
        if self.is_locked(key, now) {
            return Err(Refused::because("AK access failed to reach the limit, forbidden"));
        }
        let date = call.header("x-sdk-date").and_then(signature_date);
        let age = date.map(|date| now.wall.duration_since(date).as_secs().abs());
        if age.is_none_or(|seconds| seconds > SIGNATURE_AGE) {
            return Err(Refused::because("signature time is more than 15 minutes off"));
        }
        let request = Signed {
            method: call.method.as_str(),
            path: &call.path,
            query: &call.query,
            headers: &call.headers,
            body: &call.body,
        };
        if claim.holds(&secret, &request) {
            self.locks.remove(key);
            return Ok(());
        }
        self.count_wrong(key.to_owned(), self.options.lock_key, now);
        Err(wrong())
    }

    fn is_locked(&mut self, who: &str, now: Now) -> bool {
        match self.locks.get(who).and_then(|lock| lock.until) {
            Some(until) if until > now.wall => true,
            Some(_) => {
                self.locks.remove(who);
                false
            }
            None => false,
        }
    }

    fn count_wrong(&mut self, who: String, lock_for: Duration, now: Now) {
        let until = now.wall.checked_add(self.scaled(lock_for)).unwrap_or(Timestamp::MAX);
        let lock = self.locks.entry(who).or_default();
        lock.wrong += 1;
        if lock.wrong >= self.options.lock_after {
            lock.until = Some(until);
        }
    }

    fn scaled(&self, span: Duration) -> Duration {
        Duration::try_from_secs_f64(span.as_secs_f64() / self.scale).unwrap_or(Duration::MAX)
    }
}

struct Login {
    domain: String,
    name: String,
    password: String,
    /// `project` or `domain`, and what was asked of it.
    scope: (String, Value),
}

impl Login {
    fn read(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let methods = body.pointer("/auth/identity/methods")?.as_array()?;
        let text = |pointer: &str| body.pointer(pointer)?.as_str().map(str::to_owned);
        let user = "/auth/identity/password/user";
        let scope = ["project", "domain"].into_iter().find_map(|kind| {
            Some((kind.to_owned(), body.pointer(&format!("/auth/scope/{kind}"))?.clone()))
        });
        let domain = text(&format!("{user}/domain/name"))?;
        if !methods.contains(&json!("password")) {
            return None;
        }
        Some(Self {
            scope: scope.unwrap_or_else(|| ("domain".to_owned(), json!({"name": domain}))),
            domain,
            name: text(&format!("{user}/name"))?,
            password: text(&format!("{user}/password"))?,
        })
    }
}

/// `2020-01-04T09:05:22.701000Z`
fn iam_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// `20240416T095341Z`
fn signature_date(text: &str) -> Option<Timestamp> {
    let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(date).ok()
}

//! Which endpoint, with what patience, as whom? `[api]` and `[api.auth]` of the configuration; what each key means is
//! said in `config/sluice.toml`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::values::{self, Secret};

#[derive(Clone, Debug, Deserialize)]
pub struct Settings {
    pub endpoint: String,
    #[serde(deserialize_with = "values::duration")]
    pub timeout: Duration,
    pub look_up: bool,
    #[serde(default, deserialize_with = "values::optional_duration")]
    pub look_again: Option<Duration>,
    #[serde(deserialize_with = "values::duration")]
    pub clock_slack: Duration,
    pub allow_http: bool,
    /// An authority beyond the system's, for an endpoint behind a private one.
    pub ca_file: Option<PathBuf>,
    pub auth: Auth,
}

impl Settings {
    /// How long after its start the API may still apply a call that seemed to fail.
    pub fn look_again(&self) -> Duration {
        self.look_again.unwrap_or(self.timeout + Duration::from_secs(15))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Token,
    TokenFile,
    IamPassword,
    Aksk,
}

/// The keys of all kinds; [`Auth::check`] says which one needs what.
#[derive(Clone, Debug, Deserialize)]
pub struct Auth {
    pub kind: Kind,
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
    /// `POST {iam_endpoint}/v3/auth/tokens`
    pub iam_endpoint: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    /// The account (domain) that the user belongs to.
    pub domain: Option<String>,
    /// The project (region) that the token is for; without it the token is for the whole domain.
    pub project: Option<String>,
    pub access_key: Option<Secret>,
    pub access_key_file: Option<PathBuf>,
    pub secret_key: Option<Secret>,
    pub secret_key_file: Option<PathBuf>,
}

/// A problem of one key: its name within the section, and what to do.
pub type Problem = (&'static str, String);

impl Settings {
    /// What no single value shows; keys are relative to `[api]`.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(message) = endpoint(&self.endpoint, self.allow_http) {
            problems.push(("endpoint", message));
        }
        if self.timeout < Duration::from_millis(100) {
            problems.push(("timeout", "too short for any answer: at least 100ms".to_owned()));
        }
        if self.look_again.is_some_and(|again| again < self.timeout) {
            let timeout = values::show_duration(self.timeout);
            let message = format!(
                "shorter than api.timeout, {timeout}: a call that is still running could be sent a second time; write \
                 more than {timeout}, or leave it out for timeout + 15s"
            );
            problems.push(("look_again", message));
        }
        if let Some(Err(message)) =
            self.auth.iam_endpoint.as_deref().map(|url| endpoint(url, self.allow_http))
        {
            problems.push(("auth.iam_endpoint", message));
        }
        problems
    }
}

impl Auth {
    /// What the kind of credential needs and has not; keys are relative to `[api]`.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut need = |key, there: bool, what: &str| {
            if !there {
                problems.push((key, what.to_owned()));
            }
        };
        match self.kind {
            Kind::Token => need(
                "auth.token",
                self.token.is_some() || self.token_file.is_some(),
                "kind = \"token\" needs api.auth.token or token_file",
            ),
            Kind::TokenFile => {
                need(
                    "auth.token_file",
                    self.token_file.is_some(),
                    "kind = \"token_file\" needs api.auth.token_file",
                );
            }
            Kind::IamPassword => {
                need(
                    "auth.iam_endpoint",
                    self.iam_endpoint.is_some(),
                    "kind = \"iam_password\" needs api.auth.iam_endpoint",
                );
                need(
                    "auth.user",
                    self.user.is_some(),
                    "kind = \"iam_password\" needs api.auth.user",
                );
                need(
                    "auth.domain",
                    self.domain.is_some(),
                    "kind = \"iam_password\" needs api.auth.domain",
                );
                let password = self.password.is_some() || self.password_file.is_some();
                need(
                    "auth.password",
                    password,
                    "kind = \"iam_password\" needs api.auth.password or password_file",
                );
            }
            Kind::Aksk => {
                let access = self.access_key.is_some() || self.access_key_file.is_some();
                need(
                    "auth.access_key",
                    access,
                    "kind = \"aksk\" needs api.auth.access_key or access_key_file",
                );
                let secret = self.secret_key.is_some() || self.secret_key_file.is_some();
                need(
                    "auth.secret_key",
                    secret,
                    "kind = \"aksk\" needs api.auth.secret_key or secret_key_file",
                );
            }
        }
        problems
    }
}

/// A url that may be given a credential: https, or http where that is allowed or stays on this machine.
fn endpoint(text: &str, allow_http: bool) -> Result<(), String> {
    let wrong = "not a url of the API, such as https://sms.ap-southeast-3.myhuaweicloud.com";
    let url: reqwest::Url = text.parse().map_err(|e| format!("`{text}` is {wrong}: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials stand in [api.auth], not in the url".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` is {wrong}: no ? and no #"));
    }
    let host = url.host_str().ok_or_else(|| format!("`{text}` is {wrong}"))?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback || allow_http => Ok(()),
        "http" => Err(format!(
            "`{text}` would send credentials in the clear: use https, or set api.allow_http = true"
        )),
        _ => Err(format!("`{text}` is {wrong}")),
    }
}

//! Which endpoint, with what patience, as whom? `[api]` and `[api.auth]` of the configuration; what each key means is
//! said in `config/sluice.toml`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::secret::SecretSource;
use crate::config::values::{self, Secret, SecretUrl};

#[derive(Clone, Debug, Deserialize)]
pub struct ApiSettings {
    pub endpoint: String,
    #[serde(deserialize_with = "values::duration")]
    pub timeout: Duration,
    /// Shorter than `timeout`: what ends while connecting was surely not sent, and only this limit can tell.
    #[serde(deserialize_with = "values::duration")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "values::duration")]
    pub idle_timeout: Duration,
    pub look_up: bool,
    #[serde(default, deserialize_with = "values::optional_duration")]
    pub look_again: Option<Duration>,
    #[serde(deserialize_with = "values::duration")]
    pub clock_slack: Duration,
    pub allow_http: bool,
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub proxy: Option<SecretUrl>,
    pub proxy_file: Option<PathBuf>,
    pub auth: Auth,
}

impl ApiSettings {
    /// How long after its start the API may still apply a call that seemed to fail.
    pub fn look_again(&self) -> Duration {
        self.look_again.unwrap_or(self.timeout.saturating_add(Duration::from_secs(15)))
    }

    /// Whether anything is reached with TLS.
    pub(super) fn uses_tls(&self) -> bool {
        let plain = |url: &str| url.to_ascii_lowercase().starts_with("http:");
        let iam = self.auth.iam_endpoint.as_deref();
        !plain(&self.endpoint) || iam.is_some_and(|iam| !plain(iam)) || self.has_proxy()
    }

    fn has_proxy(&self) -> bool {
        self.proxy.is_some() || self.proxy_file.is_some()
    }

    /// The proxy's url; its user and password may be part of it.
    pub(super) fn proxy(&self) -> Result<Option<SecretUrl>, String> {
        match (&self.proxy, &self.proxy_file) {
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(file)) => {
                Secret::from_file(file).map(|url| Some(SecretUrl::new(url.expose())))
            }
            (None, None) => Ok(None),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Token,
    TokenFile,
    IamPassword,
    Aksk,
}

/// The keys of all kinds; [`Auth::check`] says which one needs what.
#[derive(Clone, Debug, Default, Deserialize)]
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
    /// The project (region) that the token is for, by name or by id; without either the token is for the whole domain.
    /// With `aksk` the id is sent and signed as `X-Project-Id`.
    pub project: Option<String>,
    pub project_id: Option<String>,
    pub access_key: Option<Secret>,
    pub access_key_file: Option<PathBuf>,
    pub secret_key: Option<Secret>,
    pub secret_key_file: Option<PathBuf>,
    /// Of temporary keys.
    pub security_token: Option<Secret>,
    pub security_token_file: Option<PathBuf>,
}

/// A problem of one key: its name within the section, and what to do.
pub type Problem = (&'static str, String);

impl ApiSettings {
    /// What no single value shows; keys are relative to `[api]`.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(message) = endpoint(&self.endpoint, self.http_to()) {
            problems.push(("endpoint", message));
        }
        if self.timeout < Duration::from_millis(100) {
            problems.push(("timeout", "too short for any answer: at least 100ms".to_owned()));
        }
        if self.connect_timeout.is_zero() || self.connect_timeout >= self.timeout {
            let timeout = values::show_duration(self.timeout);
            let message = format!(
                "0, or not shorter than api.timeout, {timeout}: whether a call was sent could not be told; write less"
            );
            problems.push(("connect_timeout", message));
        }
        if self.idle_timeout.is_zero() {
            problems.push((
                "idle_timeout",
                "0 keeps no connection: write a time such as 4s".to_owned(),
            ));
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
            self.auth.iam_endpoint.as_deref().map(|url| endpoint(url, self.http_to()))
        {
            problems.push(("auth.iam_endpoint", message));
        }
        problems.extend(self.check_files());
        problems
    }

    fn check_files(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, file) in [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
            ("proxy_file", &self.proxy_file),
        ] {
            if let Some(file) = file
                && let Err(why) = values::readable(file)
            {
                problems.push((key, why));
            }
        }
        let (cert, key) = (self.cert_file.as_deref(), self.key_file.as_deref());
        problems.extend(values::certificate_pair("api", cert, key).err());
        if let Some(proxy) = &self.proxy
            && let Err(message) = proxy_url(proxy)
        {
            problems.push(("proxy", message));
        }
        problems
    }

    /// Through a proxy not even a call to a loopback address stays on this machine.
    fn http_to(&self) -> Http {
        match (self.allow_http, self.has_proxy()) {
            (true, _) => Http::Anywhere,
            (false, false) => Http::Loopback,
            (false, true) => Http::Nowhere,
        }
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

/// Where a credential may go without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    Anywhere,
    Loopback,
    Nowhere,
}

impl Auth {
    pub(super) fn token(&self) -> Option<SecretSource> {
        SecretSource::of(self.token.as_ref(), self.token_file.as_ref())
    }

    pub(super) fn password(&self) -> Option<SecretSource> {
        SecretSource::of(self.password.as_ref(), self.password_file.as_ref())
    }

    pub(super) fn access_key(&self) -> Option<SecretSource> {
        SecretSource::of(self.access_key.as_ref(), self.access_key_file.as_ref())
    }

    pub(super) fn secret_key(&self) -> Option<SecretSource> {
        SecretSource::of(self.secret_key.as_ref(), self.secret_key_file.as_ref())
    }

    pub(super) fn security_token(&self) -> Option<SecretSource> {
        SecretSource::of(self.security_token.as_ref(), self.security_token_file.as_ref())
    }
}

fn proxy_url(proxy: &SecretUrl) -> Result<(), String> {
    let url: Option<reqwest::Url> = proxy.expose().parse().ok();
    if url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        return Ok(());
    }
    Err(format!(
        "`{}` is not the url of a proxy, such as http://proxy.example:3128",
        proxy.masked()
    ))
}

/// A url that may be given a credential: https, or http where that is allowed or stays on this machine.
fn endpoint(text: &str, http: Http) -> Result<(), String> {
    let wrong = "not a url of the API, such as https://sms.ap-southeast-3.myhuaweicloud.com";
    let shown = values::mask_url(text);
    let url: reqwest::Url = text.parse().map_err(|e| format!("`{shown}` is {wrong}: {e}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials stand in [api.auth], not in the url".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{shown}` is {wrong}: no ? and no #"));
    }
    let host = url.host_str().ok_or_else(|| format!("`{shown}` is {wrong}"))?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    match (url.scheme(), http) {
        ("https", _) | ("http", Http::Anywhere) => Ok(()),
        ("http", Http::Loopback) if loopback => Ok(()),
        ("http", _) => Err(format!(
            "`{shown}` would send credentials in the clear: use https, or set api.allow_http = true"
        )),
        _ => Err(format!("`{shown}` is {wrong}")),
    }
}

/// The client cannot be made: everything that is wrong, a line each, never a secret.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ApiConfigError(Vec<String>);

impl ApiConfigError {
    /// `key` is relative to `[api]`.
    pub(super) fn one(key: &str, message: impl std::fmt::Display) -> Self {
        Self(vec![format!("api.{key}: {message}")])
    }

    pub(super) fn of(problems: &[Problem]) -> Result<(), Self> {
        let lines: Vec<_> =
            problems.iter().map(|(key, message)| format!("api.{key}: {message}")).collect();
        if lines.is_empty() { Ok(()) } else { Err(Self(lines)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> ApiSettings {
        let mut table: toml::Table =
            toml::from_str(include_str!("../../config/sluice.toml")).unwrap();
        let api = table["api"].as_table_mut().unwrap();
        let mut given: toml::Table = toml::from_str(toml).unwrap();
        api["auth"].as_table_mut().unwrap().extend(match given.remove("auth") {
            Some(toml::Value::Table(auth)) => auth,
            _ => toml::Table::new(),
        });
        api.extend(given);
        table.remove("api").unwrap().try_into().unwrap()
    }

    fn wrong(toml: &str) -> Vec<&'static str> {
        let settings = settings(toml);
        settings.check().into_iter().chain(settings.auth.check()).map(|(key, _)| key).collect()
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn a_credential_leaves_this_machine_with_tls_only() {
        let auth = "\n[auth]\ntoken = 'x'";
        for fine in [
            "https://sms.example",
            "http://127.0.0.1:8080",
            "http://[::1]:80/base",
            "http://localhost:1",
        ] {
            assert_eq!(wrong(&format!("endpoint = '{fine}'{auth}")), NOTHING, "{fine}");
        }
        for bad in [
            "http://sms.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "ftp://sms.example",
            "sms",
        ] {
            assert_eq!(wrong(&format!("endpoint = '{bad}'{auth}")), ["endpoint"], "{bad}");
        }
        assert_eq!(
            wrong(&format!("endpoint = 'http://sms.example'\nallow_http = true{auth}")),
            NOTHING
        );
        let proxied =
            format!("endpoint = 'http://127.0.0.1:1'\nproxy = 'http://proxy.example:3128'{auth}");
        assert_eq!(wrong(&proxied), ["endpoint"], "through a proxy it leaves this machine");
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        let settings =
            settings("endpoint = 'https://me:SECRET@sms.example'\nproxy = 'socks://me:SECRET@p'");
        let problems = settings.check();
        assert_eq!(problems.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["endpoint", "proxy"]);
        assert!(!format!("{problems:?}").contains("SECRET"), "{problems:?}");
    }

    #[test]
    fn the_time_to_connect_is_shorter_than_the_whole() {
        let auth = "\n[auth]\ntoken = 'x'";
        assert_eq!(
            wrong(&format!("timeout = '5s'\nconnect_timeout = '5s'{auth}")),
            ["connect_timeout"]
        );
        assert_eq!(
            wrong(&format!("connect_timeout = '0s'\nidle_timeout = '0s'{auth}")),
            ["connect_timeout", "idle_timeout"]
        );
        assert_eq!(wrong(&format!("timeout = '10s'\nlook_again = '9s'{auth}")), ["look_again"]);
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let auth = "\n[auth]\ntoken = 'x'";
        assert_eq!(wrong(&format!("cert_file = '{path}'{auth}")), ["cert_file"]);
        assert_eq!(wrong(&format!("key_file = '{path}'{auth}")), ["key_file"]);
        assert_eq!(wrong(&format!("cert_file = '{path}'\nkey_file = '{path}'{auth}")), NOTHING);
        assert_eq!(wrong(&format!("ca_file = '/nowhere/ca.pem'{auth}")), ["ca_file"]);
    }

    #[test]
    fn each_kind_names_what_it_needs() {
        assert_eq!(wrong("[auth]\nkind = 'token'"), ["auth.token"]);
        assert_eq!(wrong("[auth]\nkind = 'token_file'"), ["auth.token_file"]);
        assert_eq!(
            wrong("[auth]\nkind = 'iam_password'"),
            ["auth.iam_endpoint", "auth.user", "auth.domain", "auth.password"]
        );
        assert_eq!(wrong("[auth]\nkind = 'aksk'"), ["auth.access_key", "auth.secret_key"]);
    }
}

//! Who may read, and who may change something? The one rule for the status, the metrics, the pages and the downloads.
//!
//! On loopback everybody on this machine may read, unless `http.open_on_loopback` is off. Anybody else needs a session or a
//! token: a request that came under another name (somebody else's DNS) or through a proxy is not this machine's. What a
//! browser sends from another site does nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header, request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use super::guesses::{Caller, Guesses, Judged};
use super::session::{LogIn, Sessions};
use super::tokens::{self, Tokens};

pub(crate) const COOKIE: &str = "sluice-session";

/// The tokens, the sessions, and who may go without either.
#[derive(Debug)]
pub struct Doors {
    pub(crate) tokens: Tokens,
    pub(crate) sessions: Sessions,
    guesses: Guesses,
    open: bool,
}

/// Whether somebody may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Allowed,
    /// Sent by a page of another site, whoever looks at that.
    Foreign,
    /// Neither this machine, nor a session, nor a token.
    Unknown,
    /// A token that nobody looked at, because of many wrong ones.
    TooMany,
}

impl Doors {
    /// # Errors
    /// Other machines can reach `listen`, and there is no operator token.
    pub fn new(tokens: Tokens, listen: SocketAddr) -> Result<Self, String> {
        let open = listen.ip().is_loopback();
        if !open && !tokens.is_set() {
            return Err(format!(
                "http.listen is {listen}, which other machines can reach, and there is no operator token: set http.operator_token_file, or listen on 127.0.0.1"
            ));
        }
        let sessions = Sessions::new(tokens.session_key(), tokens.digest());
        Ok(Self { tokens, sessions, guesses: Guesses::default(), open })
    }

    /// On loopback too, reading needs a session or a token, unless it is `open`.
    #[must_use]
    pub fn open_on_loopback(self, open: bool) -> Self {
        Self { open: self.open && open, ..self }
    }

    pub(crate) fn session(&self, headers: &HeaderMap) -> Option<LogIn> {
        self.sessions.read(cookie(headers)?, Timestamp::now())
    }

    pub(crate) fn may_read(&self, asked: &request::Parts) -> Reading {
        let headers = &asked.headers;
        if is_foreign(headers) {
            return Reading::Foreign;
        }
        if self.open && is_this_machine(headers, &asked.uri) || self.session(headers).is_some() {
            return Reading::Allowed;
        }
        match self.bearer(headers, Caller::of(&asked.extensions)) {
            Some(Judged::Right(_)) => Reading::Allowed,
            Some(Judged::TooMany) => Reading::TooMany,
            Some(Judged::Wrong) | None => Reading::Unknown,
        }
    }

    /// What came of the token that was sent as `Authorization: Bearer ...`, if there was one.
    pub(crate) fn bearer(&self, headers: &HeaderMap, caller: Caller) -> Option<Judged> {
        let token = tokens::bearer(headers)?;
        Some(self.guesses.judge(&self.tokens, caller, token, "bearer"))
    }

    pub(crate) fn log_in(&self, caller: Caller, token: &str) -> Judged {
        self.guesses.judge(&self.tokens, caller, token, "log-in")
    }
}

/// Lets programs read that may.
pub(super) async fn readers(
    State(doors): State<Arc<Doors>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let (code, why) = match doors.may_read(&parts) {
        Reading::Allowed => return next.run(Request::from_parts(parts, body)).await,
        Reading::Foreign => {
            (StatusCode::FORBIDDEN, "this came from a page of another site; nothing was done\n")
        }
        Reading::Unknown => (
            StatusCode::UNAUTHORIZED,
            "reading needs a token here: send the operator's or the reader's as `Authorization: Bearer TOKEN`\n",
        ),
        Reading::TooMany => (StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
    };
    (code, [(header::WWW_AUTHENTICATE, "Bearer")], why).into_response()
}

pub(super) const TOO_MANY: &str =
    "too many tokens were tried from this address: wait a minute and try again\n";

pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

/// Browsers say which site's page they send something for. What says nothing is no browser that could be misled.
pub(crate) fn is_foreign(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

/// Under a name of this machine, and not through a proxy, which would make everybody behind it somebody on this machine.
fn is_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = Authority::try_from(host.as_bytes()) else { return false };
    let is_proxied = headers.keys().any(|name| {
        matches!(
            name.as_str(),
            "forwarded" | "via" | "x-real-ip" | "x-client-ip" | "true-client-ip"
        ) || name.as_str().starts_with("x-forwarded")
    });
    // A request to a proxy names the whole address.
    !is_proxied && is_loopback(&host) && uri.authority().is_none_or(is_loopback)
}

fn is_loopback(name: &Authority) -> bool {
    let host = name.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_ip = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !name.as_str().contains('@') && (is_ip || host.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = axum::http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        is_this_machine(&parts.headers, &parts.uri)
    }

    #[test]
    fn this_machine_has_few_names_and_no_proxy() {
        for host in
            ["localhost", "LocalHost:9464", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:9464"]
        {
            assert!(asked("/", &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.1.evil.example",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "0.0.0.0",
            "[::]",
            "[::ffff:127.0.0.1]",
            "::1",
            "localhost@evil.example",
            "evil@localhost",
            "[localhost]",
            "[127.0.0.1",
            "",
            " ",
            "127.0.0.1/x",
            "worker",
        ] {
            assert!(!asked("/", &[("host", host)]), "{host:?}");
        }
        assert!(!asked("/", &[]), "HTTP/1.0 names no host");
        assert!(!asked("/", &[("host", "localhost"), ("host", "evil.example")]));
        assert!(asked("http://localhost/", &[("host", "localhost")]));
        assert!(!asked("http://evil.example/", &[("host", "localhost")]));
        for name in [
            "forwarded",
            "x-forwarded-for",
            "X-Forwarded-Host",
            "x-forwarded-anything",
            "Via",
            "x-real-ip",
        ] {
            assert!(!asked("/", &[("host", "localhost"), (name, "")]), "{name}");
        }
    }
}

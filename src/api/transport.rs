//! How does a call go out, and what came of it below HTTP? One request, one connection at a time, no redirect, no
//! retry, no proxy that nobody configured, and no more of an answer than we have room for.

use std::error::Error;
use std::path::Path;
use std::sync::Once;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Identity, Proxy, RequestBuilder, Response, redirect, retry};

use super::answer::{Answer, Body, text};
use super::settings::{ApiConfigError, ApiSettings};
use crate::config::values::Secret;
use crate::core::Fault;

/// No answer came, or none that has a status.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Not connected: the request surely never left.
    NotSent(Fault),
    /// It may have arrived.
    Unclear(Fault),
}

/// Builds the one HTTP client of an account.
pub(super) fn client(settings: &ApiSettings) -> Result<reqwest::Client, ApiConfigError> {
    install_crypto();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .timeout(settings.timeout)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(settings.idle_timeout);
    if let Some(path) = &settings.ca_file {
        builder = builder.tls_certs_only(authorities(path)?);
    } else if !settings.uses_tls() {
        // Nothing to verify, so a machine without any certificates will do.
        builder = builder.tls_certs_only([]);
    }
    if let (Some(cert), Some(key)) = (&settings.cert_file, &settings.key_file) {
        builder = builder.identity(identity(cert, key)?);
    }
    if let Some(proxy) = proxy(settings)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| ApiConfigError::one("endpoint", describe(&error)))
}

/// Both TLS users of the process, this client and the broker's, take the installed provider.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody installed one already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, ApiConfigError> {
    let pem = read("ca_file", path)?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(ApiConfigError::one(
            "ca_file",
            format!("{}: no PEM certificates in it", path.display()),
        )),
    }
}

fn identity(cert: &Path, key: &Path) -> Result<Identity, ApiConfigError> {
    let mut pem = secrecy::zeroize::Zeroizing::new(read("cert_file", cert)?);
    pem.push(b'\n');
    let key_pem = secrecy::zeroize::Zeroizing::new(read("key_file", key)?);
    pem.extend_from_slice(&key_pem);
    Identity::from_pem(&pem).map_err(|_| {
        let (cert, key) = (cert.display(), key.display());
        ApiConfigError::one(
            "cert_file",
            format!("{cert} and {key}: not a PEM certificate and its PEM key"),
        )
    })
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, ApiConfigError> {
    std::fs::read(path).map_err(|error| {
        ApiConfigError::one(key, format!("{}: cannot be read: {error}", path.display()))
    })
}

/// The proxy's user and password, if any, are part of its url.
fn proxy(settings: &ApiSettings) -> Result<Option<Proxy>, ApiConfigError> {
    let url = settings.proxy().map_err(|message| ApiConfigError::one("proxy_file", message))?;
    let proxy = url.map(|url| Proxy::all(url.expose())).transpose();
    proxy.map_err(|_| {
        ApiConfigError::one("proxy", "not the url of a proxy, such as http://proxy.example:3128")
    })
}

/// Sends one request and reads at most `room` bytes of its answer.
pub(super) async fn send(request: RequestBuilder, room: usize) -> Result<Answer, Unanswered> {
    let response = request.send().await.map_err(|error| unanswered(&error))?;
    let headers = response.headers();
    let mut answer = Answer {
        request_id: header(headers, "x-request-id"),
        retry_after: header(headers, RETRY_AFTER.as_str()),
        date: header(headers, DATE.as_str()).and_then(|date| http_date(&date)),
        subject_token: headers.get("x-subject-token").and_then(subject_token),
        ..Answer::new(response.status().as_u16(), Body::Whole(Bytes::new()))
    };
    answer.body = read_body(response, room).await;
    Ok(answer)
}

async fn read_body(mut response: Response, room: usize) -> Body {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Body::Whole(body.freeze()),
            Ok(Some(chunk)) if body.len() + chunk.len() > room => {
                return Body::Broken(format!("the answer is longer than {room} bytes"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) => {
                return Body::Broken(format!("the answer broke off: {}", describe(&error)));
            }
        }
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(text)
}

fn subject_token(header: &HeaderValue) -> Option<Secret> {
    let token = header.to_str().ok()?.trim();
    (!token.is_empty()).then(|| Secret::new(token))
}

fn http_date(header: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(header).ok()?).ok()
}

/// `is_connect` is the only sign that nothing was sent, apart from a TLS handshake that the other side ended. It is
/// right about time-outs too, as long as `connect_timeout` is shorter than the total.
fn unanswered(error: &reqwest::Error) -> Unanswered {
    let fault = Fault { error_msg: describe(error), ..Fault::default() };
    if error.is_connect() || error.is_builder() || refused_by_tls(error) {
        Unanswered::NotSent(fault)
    } else {
        Unanswered::Unclear(fault)
    }
}

/// With TLS 1.3 a refused client certificate is heard of only after the handshake looked done to us; a server that
/// refuses the handshake has read no request.
fn refused_by_tls(error: &reqwest::Error) -> bool {
    use rustls::AlertDescription as Alert;
    causes(error).any(|cause| {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        matches!(
            inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()),
            Some(rustls::Error::AlertReceived(
                Alert::AccessDenied
                    | Alert::BadCertificate
                    | Alert::CertificateExpired
                    | Alert::CertificateRequired
                    | Alert::CertificateRevoked
                    | Alert::CertificateUnknown
                    | Alert::DecryptError
                    | Alert::HandshakeFailure
                    | Alert::UnknownCA
                    | Alert::UnsupportedCertificate
            ))
        )
    })
}

/// The chain of causes in one line, without the address, which stands in the configuration.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() && error.is_connect() {
        "no connection in time"
    } else if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_builder() {
        "the request could not be built"
    } else {
        "the connection failed"
    };
    let mut told = vec![kind.to_owned()];
    for cause in causes(error) {
        let cause = cause.to_string();
        // Each layer of the client tends to repeat the one below it.
        if !told.iter().any(|said| said.contains(&cause)) {
            told.push(cause);
        }
    }
    text(&told.join(": "))
}

/// What lies below the outermost error, which is reqwest's own and names the address.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

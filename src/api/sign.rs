//! How is a call signed with an access key? SDK-HMAC-SHA256, as the vendor's gateway checks it.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use sha2::{Digest, Sha256};

use crate::config::values::Secret;

const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// All but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An access key with its secret; temporary ones come with a security token.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) access: Secret,
    pub(super) secret: Secret,
    pub(super) security_token: Option<Secret>,
    pub(super) project_id: Option<String>,
}

/// The headers that a signed call carries, `Content-Type` and `Host` among them: they are signed too.
pub(super) fn headers(
    keys: &Keys,
    method: &str,
    url: &Url,
    body: &[u8],
    now: Timestamp,
) -> Result<HeaderMap, InvalidHeaderValue> {
    let date = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HOST, HeaderValue::from_str(&authority(url))?);
    headers.insert(HeaderName::from_static("x-sdk-date"), HeaderValue::from_str(&date)?);
    if let Some(project) = &keys.project_id {
        headers.insert(HeaderName::from_static("x-project-id"), HeaderValue::from_str(project)?);
    }
    if let Some(token) = &keys.security_token {
        let mut token = HeaderValue::from_str(token.expose())?;
        token.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-security-token"), token);
    }
    let (signed, canonical) = canonical(method, url, &headers, body);
    let to_sign = format!("{ALGORITHM}\n{date}\n{}", hex::encode(Sha256::digest(canonical)));
    let signature = hex::encode(hmac_sha256(keys.secret.expose().as_bytes(), to_sign.as_bytes()));
    let access = keys.access.expose();
    let line =
        format!("{ALGORITHM} Access={access}, SignedHeaders={signed}, Signature={signature}");
    let mut line = HeaderValue::from_str(&line)?;
    line.set_sensitive(true);
    headers.insert(reqwest::header::AUTHORIZATION, line);
    Ok(headers)
}

/// The names of the signed headers, and the text that stands for the whole call.
fn canonical(method: &str, url: &Url, headers: &HeaderMap, body: &[u8]) -> (String, String) {
    let mut lines: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default().trim()))
        .collect();
    lines.sort_unstable();
    let signed = lines.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut listed: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    // Each header ends its line, the last one too.
    listed.push(String::new());
    let listed = listed.join("\n");
    // The gateway signs every path with a slash at its end, whatever the request line says.
    let slash = if url.path().ends_with('/') { "" } else { "/" };
    let mut query: Vec<&str> =
        url.query().unwrap_or_default().split('&').filter(|part| !part.is_empty()).collect();
    query.sort_unstable();
    let (path, query, hash) =
        (path(url.path()), query.join("&"), hex::encode(Sha256::digest(body)));
    let canonical = format!("{method}\n{path}{slash}\n{query}\n{listed}\n{signed}\n{hash}");
    (signed, canonical)
}

/// The vendor's signer decodes the whole path, and then encodes what stands between its slashes: so an encoded slash is a
/// slash in the signature.
fn path(url: &str) -> String {
    let decoded = percent_decode_str(url).decode_utf8_lossy();
    decoded.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// What HTTP puts into `Host`.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes a key of any length; without this one the signature is empty and the gateway says no.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Percent-encodes all but the unreserved characters: what the signature and the request line must agree on.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            access: Secret::new("QTWAOYTTINDUT2QVKYUC"),
            secret: Secret::new("MFyfvK41ba2giqM7**********KGpownRZlmVmHc"),
            security_token: None,
            project_id: None,
        }
    }

    fn at() -> Timestamp {
        "2024-04-16T09:53:41Z".parse().unwrap()
    }

    #[test]
    fn the_vector_of_the_vendors_sdk_is_signed_the_same() {
        let url: Url = "https://sms.ap-southeast-3.myhuaweicloud.com/v3/tasks".parse().unwrap();
        let headers =
            headers(&keys(), "POST", &url, br#"{"name": "MigrationTask"}"#, at()).unwrap();
        assert_eq!(
            headers["authorization"],
            "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders=content-type;host;x-sdk-date, \
             Signature=8de7a951fde0a9feb8c36dc2bb1d8f102381ca3a122df203a823ab0fe0b6135a"
        );
        assert_eq!(headers["x-sdk-date"], "20240416T095341Z");
    }

    /// The vendor's own signer made this signature, too.
    #[test]
    fn an_id_with_a_slash_and_a_query_that_is_encoded_are_signed_as_the_vendors_sdk_does() {
        let url =
            "https://sms.ap-southeast-3.myhuaweicloud.com/v3/sources/a%2Fb%20c?name=%C3%A4%20b";
        let headers = headers(&keys(), "GET", &url.parse().unwrap(), b"", at()).unwrap();
        let line = headers["authorization"].to_str().unwrap();
        let signature = "fbe11ce8501365392945637e3eabad15d6cd4c28f209bba6d3896d3e1c82b5f0";
        assert!(line.ends_with(signature), "{line}");
    }

    #[test]
    fn the_canonical_call_has_the_hash_that_was_computed_independently() {
        let url: Url = "https://sms.ap-southeast-3.myhuaweicloud.com/v3/tasks".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HOST, HeaderValue::from_static("sms.ap-southeast-3.myhuaweicloud.com"));
        headers.insert("x-sdk-date", HeaderValue::from_static("20240416T095341Z"));
        let (_, canonical) = canonical("POST", &url, &headers, br#"{"name": "MigrationTask"}"#);
        assert_eq!(
            hex::encode(Sha256::digest(canonical)),
            "9544dbac00840ac365f710f2b1337908c1fd52d722215e61506598e2ce3dd56d"
        );
    }

    #[test]
    fn project_and_security_token_are_signed_and_the_query_is_sorted() {
        let keys = Keys {
            security_token: Some(Secret::new("temporary")),
            project_id: Some("p1".to_owned()),
            ..keys()
        };
        let url: Url =
            "http://127.0.0.1:8080/v3/tasks?source_server_id=s&limit=200".parse().unwrap();
        let headers = headers(&keys, "GET", &url, b"", at()).unwrap();
        let signed = headers["authorization"].to_str().unwrap();
        assert!(
            signed.contains(
                "SignedHeaders=content-type;host;x-project-id;x-sdk-date;x-security-token,"
            ),
            "{signed}"
        );
        assert_eq!(headers["host"], "127.0.0.1:8080");
        let (_, text) = canonical("GET", &url, &headers, b"");
        assert!(text.starts_with("GET\n/v3/tasks/\nlimit=200&source_server_id=s\n"), "{text}");
    }

    #[test]
    fn nothing_that_shows_a_credential_is_shown_by_debug() {
        let keys = Keys { security_token: Some(Secret::new("TEMPORARY")), ..keys() };
        let url: Url = "https://sms.example/v3/tasks".parse().unwrap();
        let shown = format!("{keys:?} {:?}", headers(&keys, "GET", &url, b"", at()).unwrap());
        assert!(
            !shown.contains("TEMPORARY")
                && !shown.contains("MFyfv")
                && !shown.contains("Signature"),
            "{shown}"
        );
    }

    #[test]
    fn all_but_unreserved_characters_are_encoded() {
        assert_eq!(encode("aZ0-._~"), "aZ0-._~");
        assert_eq!(encode("a b/c?&=+é"), "a%20b%2Fc%3F%26%3D%2B%C3%A9");
    }
}

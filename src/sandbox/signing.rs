//! Is this request signed by the key that it names? Written from the algorithm's description, on purpose without the
//! client's code: a shared mistake would go unseen.

use std::fmt::Write as _;

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

/// What stands in `Authorization: SDK-HMAC-SHA256 Access=..., SignedHeaders=..., Signature=...`.
pub(super) struct Claim<'a> {
    pub(super) access_key: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    pub(super) fn read(authorization: &'a str) -> Option<Self> {
        let fields = authorization.strip_prefix("SDK-HMAC-SHA256 ")?;
        let field = |name: &str| fields.split(',').find_map(|f| f.trim().strip_prefix(name));
        Some(Self {
            access_key: field("Access=")?,
            signed_headers: field("SignedHeaders=")?,
            signature: field("Signature=")?,
        })
    }

    /// Whether the signature is that of this request under this secret key. The date header must be among the signed
    /// ones.
    pub(super) fn holds(&self, secret: &str, request: &Signed<'_>) -> bool {
        let Some(expected) = self.signature_of(secret, request) else { return false };
        let signs_date = self.signed_headers.split(';').any(|name| name == "x-sdk-date");
        signs_date && expected.eq_ignore_ascii_case(self.signature)
    }

    fn signature_of(&self, secret: &str, request: &Signed<'_>) -> Option<String> {
        let date = request.headers.get("x-sdk-date")?.to_str().ok()?;
        let canonical = self.canonical(request)?;
        let to_sign =
            format!("SDK-HMAC-SHA256\n{date}\n{}", hex::encode(Sha256::digest(canonical)));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
        mac.update(to_sign.as_bytes());
        Some(hex::encode(mac.finalize().into_bytes()))
    }

    fn canonical(&self, request: &Signed<'_>) -> Option<String> {
        // The vendor's signer takes the path apart after decoding it whole: `%2F` separates like `/`.
        let path = percent_decode_str(request.path).decode_utf8().ok()?;
        let mut path: String = path.split('/').map(encode).collect::<Vec<_>>().join("/");
        if !path.ends_with('/') {
            path.push('/');
        }
        let mut pairs: Vec<_> =
            request.query.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
        pairs.sort();
        let mut headers = String::new();
        for name in self.signed_headers.split(';') {
            let value = request.headers.get(name)?.to_str().ok()?;
            let _ = writeln!(headers, "{name}:{}", value.trim());
        }
        let unsigned = request.headers.get("x-sdk-content-sha256").and_then(|v| v.to_str().ok());
        let body =
            unsigned.map_or_else(|| hex::encode(Sha256::digest(request.body)), str::to_owned);
        let query = pairs.join("&");
        let signed = self.signed_headers;
        Some(format!("{}\n{path}\n{query}\n{headers}\n{signed}\n{body}", request.method))
    }
}

/// The parts of a request that a signature covers.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a [(String, String)],
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// What is encoded: all but letters, digits and these four.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "MFyfvK41ba2giqM7**********KGpownRZlmVmHc";

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("host", "sms.ap-southeast-3.myhuaweicloud.com"),
            ("x-sdk-date", "20240416T095341Z"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    fn holds(body: &[u8], secret: &str, signed: &str) -> bool {
        let authorization = format!(
            "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders={signed}, \
             Signature=8de7a951fde0a9feb8c36dc2bb1d8f102381ca3a122df203a823ab0fe0b6135a"
        );
        let claim = Claim::read(&authorization).unwrap();
        let headers = headers();
        let request =
            Signed { method: "POST", path: "/v3/tasks", query: &[], headers: &headers, body };
        claim.access_key == "QTWAOYTTINDUT2QVKYUC" && claim.holds(secret, &request)
    }

    /// The vendor's own signer made this signature.
    #[test]
    fn the_vendors_signature_holds_and_any_change_breaks_it() {
        let (body, signed) = (br#"{"name": "MigrationTask"}"#, "content-type;host;x-sdk-date");
        assert!(holds(body, SECRET, signed));
        assert!(!holds(br#"{"name": "MigrationTasc"}"#, SECRET, signed));
        assert!(!holds(body, "another", signed));
        assert!(!holds(body, SECRET, "content-type;host"));
        assert!(!holds(body, SECRET, "content-type;host;x-absent;x-sdk-date"));
        assert!(Claim::read("Basic abc").is_none());
    }
    /// The vendor's own signer made this signature, too.
    #[test]
    fn a_path_and_a_query_that_are_encoded_are_not_encoded_again() {
        let headers = headers();
        let claim = Claim::read(
            "SDK-HMAC-SHA256 Access=A, SignedHeaders=content-type;host;x-sdk-date, \
             Signature=fbe11ce8501365392945637e3eabad15d6cd4c28f209bba6d3896d3e1c82b5f0",
        );
        let query = [("name".to_owned(), "ä b".to_owned())];
        let path = "/v3/sources/a%2Fb%20c";
        let request = Signed { method: "GET", path, query: &query, headers: &headers, body: b"" };
        assert!(claim.unwrap().holds(SECRET, &request));
    }
}

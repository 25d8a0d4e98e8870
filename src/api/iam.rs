//! How is a token made with a password? `POST /v3/auth/tokens` at IAM.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::secret::SecretSource;
use super::settings::Auth;
use super::transport::{self, Unanswered};
use crate::config::values::Secret;
use crate::core::Fault;

/// Who logs in, and for what.
#[derive(Clone, Debug)]
pub(super) struct LogIn {
    pub(super) address: Url,
    pub(super) domain: String,
    pub(super) user: String,
    pub(super) password: SecretSource,
    /// The `scope` of the request.
    pub(super) scope: Value,
}

/// A token that IAM made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) token: Secret,
    /// By IAM's clock: from now on.
    pub(super) lifetime: Duration,
}

/// Why there is no token.
#[derive(Debug)]
pub(super) enum Failure {
    NotSent(Fault),
    /// IAM refused: the password, the user, the scope, or a wrong address.
    Refused(Fault),
    /// No answer, or one that does not tell.
    Unclear(Fault),
}

/// An answer with a whole catalogue in it still fits.
const ROOM: usize = 1024 * 1024;
/// Of a token whose answer does not say how long it lives.
const SHORTEST: Duration = Duration::from_secs(600);

impl LogIn {
    /// `None` unless the settings have everything; see [`Auth::check`].
    pub(super) fn from(auth: &Auth) -> Option<Self> {
        let base = auth.iam_endpoint.as_deref()?.trim_end_matches('/');
        let scope = match (&auth.project_id, &auth.project) {
            (Some(id), _) => json!({"project": {"id": id}}),
            (None, Some(name)) => json!({"project": {"name": name}}),
            (None, None) => json!({"domain": {"name": auth.domain}}),
        };
        Some(Self {
            address: Url::parse(&format!("{base}/v3/auth/tokens?nocatalog=true")).ok()?,
            domain: auth.domain.clone()?,
            user: auth.user.clone()?,
            password: auth.password()?,
            scope,
        })
    }

    /// Logs in once.
    pub(super) async fn send(
        &self,
        http: &reqwest::Client,
        password: &Secret,
    ) -> Result<Made, Failure> {
        let request = http
            .post(self.address.clone())
            .header(CONTENT_TYPE, "application/json;charset=utf8")
            .body(self.body(password));
        match transport::send(request, ROOM).await {
            Ok(answer) => read(answer.without(password)),
            Err(Unanswered::NotSent(fault)) => Err(Failure::NotSent(named(fault))),
            Err(Unanswered::Unclear(fault)) => Err(Failure::Unclear(named(fault))),
        }
    }

    /// Zeroed when it has been sent.
    fn body(&self, password: &Secret) -> Bytes {
        let user = json!({"domain": {"name": self.domain}, "name": self.user}).to_string();
        // The password is written by hand: a `Value` that held it would leave a copy behind, and so would a buffer
        // that has to grow.
        let mut body =
            Zeroizing::new(Vec::with_capacity(1024 + user.len() + 6 * password.expose().len()));
        body.extend_from_slice(
            br#"{"auth":{"identity":{"methods":["password"],"password":{"user":"#,
        );
        body.extend_from_slice(user.trim_end_matches('}').as_bytes());
        body.extend_from_slice(br#","password":"#);
        // Writing a string into a vector does not fail.
        let _ = serde_json::to_writer(&mut *body, password.expose());
        body.extend_from_slice(format!(r#"}}}}}},"scope":{}}}}}"#, self.scope).as_bytes());
        Bytes::from_owner(body)
    }
}

fn read(mut answer: Answer) -> Result<Made, Failure> {
    if !answer.is_success() {
        let fault = named(answer.fault());
        // A throttled log-in was not looked at; of a failing server one cannot know.
        let refused = (300..500).contains(&answer.status) && !matches!(answer.status, 408 | 429);
        return Err(if refused { Failure::Refused(fault) } else { Failure::Unclear(fault) });
    }
    let Some(token) = answer.subject_token.take() else {
        let mut fault = named(answer.fault());
        "IAM's answer has no X-Subject-Token".clone_into(&mut fault.error_msg);
        return Err(Failure::Unclear(fault));
    };
    Ok(Made { lifetime: lifetime(&answer).unwrap_or(SHORTEST), token })
}

/// From IAM's own times, so that it does not matter if its clock and ours differ.
fn lifetime(answer: &Answer) -> Option<Duration> {
    let answer::Body::Whole(bytes) = &answer.body else { return None };
    let Created { token } = serde_json::from_slice(bytes).ok()?;
    let now =
        token.issued_at.or(answer.date).or_else(|| Timestamp::try_from(SystemTime::now()).ok())?;
    Duration::try_from(token.expires_at.duration_since(now)).ok()
}

#[derive(Deserialize)]
struct Created {
    token: Times,
}

#[derive(Deserialize)]
struct Times {
    expires_at: Timestamp,
    issued_at: Option<Timestamp>,
}

/// The reader of a halt's reason has to know which of the two servers said it.
fn named(mut fault: Fault) -> Fault {
    fault.error_msg = format!("log-in at IAM: {}", fault.error_msg);
    fault
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Fault;

    fn log_in(scope: &str) -> LogIn {
        let auth: Auth = toml::from_str(&format!(
            "kind = 'iam_password'\niam_endpoint = 'https://iam.example/'\ndomain = 'd\"1'\nuser = 'u'\npassword = 'p'\n{scope}"
        ))
        .unwrap();
        LogIn::from(&auth).unwrap()
    }

    fn sent(log_in: &LogIn, password: &str) -> Value {
        serde_json::from_slice(&log_in.body(&Secret::new(password))).unwrap()
    }

    #[test]
    fn the_log_in_is_the_documented_one() {
        let log_in = log_in("project = 'cn-north-4'");
        assert_eq!(log_in.address.as_str(), "https://iam.example/v3/auth/tokens?nocatalog=true");
        let expected = json!({"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"domain": {"name": "d\"1"}, "name": "u", "password": "p\"\\é}"}}},
            "scope": {"project": {"name": "cn-north-4"}}}});
        assert_eq!(sent(&log_in, "p\"\\é}"), expected);
    }

    #[test]
    fn the_scope_is_a_project_or_the_domain() {
        assert_eq!(
            sent(&log_in("project_id = '1'"), "p")["auth"]["scope"],
            json!({"project": {"id": "1"}})
        );
        assert_eq!(sent(&log_in(""), "p")["auth"]["scope"], json!({"domain": {"name": "d\"1"}}));
    }

    fn answer(status: u16, body: &str, token: Option<&str>) -> Answer {
        let body = answer::Body::Whole(Bytes::copy_from_slice(body.as_bytes()));
        Answer { subject_token: token.map(Secret::new), ..Answer::new(status, body) }
    }

    #[test]
    fn the_lifetime_goes_by_iams_own_times() {
        let body = r#"{"token": {"expires_at": "2020-01-04T09:05:22.701000Z", "issued_at": "2020-01-03T09:05:22.701000Z"}}"#;
        let made = read(answer(201, body, Some("t"))).unwrap();
        assert_eq!(made.lifetime, Duration::from_secs(86_400));
        let made = read(answer(201, "{}", Some("t"))).unwrap();
        assert_eq!(made.lifetime, SHORTEST, "it does not say");
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let refused =
            r#"{"error":{"code":401,"message":"The account is locked.","title":"Unauthorized"}}"#;
        for status in [307, 400, 401, 403, 404] {
            let failure = read(answer(status, refused, None)).unwrap_err();
            let Failure::Refused(Fault { error_msg, .. }) = failure else {
                panic!("{status}: {failure:?}")
            };
            assert_eq!(error_msg, "log-in at IAM: The account is locked.");
        }
        for status in [201, 408, 429, 500, 503] {
            let failure = read(answer(status, "{}", None)).unwrap_err();
            assert!(matches!(failure, Failure::Unclear(_)), "{status}: {failure:?}");
        }
    }
}

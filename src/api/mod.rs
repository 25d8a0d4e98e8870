//! How does a request reach the SMS API, and what did it answer? The client that the worker, `sluice submit` and
//! `sluice check --online` share.
//!
//! A call never waits for anything but its own answer: it takes the credential that is there, goes out once and comes
//! back as a [`Verdict`]. Without a usable credential it comes back at once as [`Verdict::Unauthorized`], unsent, and
//! the caller asks for a [`Client::refresh`]; calls that waited for a log-in would all go out together behind it and
//! break the rate. What an answer means stands in one table, [`codes`].

mod answer;
mod asking;
mod auth;
pub mod codes;
pub mod explain;
mod iam;
pub mod inventory;
mod listing;
mod lockout;
mod secret;
pub mod settings;
mod sign;
mod submit;
pub mod survey;
mod throttle;
mod transport;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use tokio::sync::watch;

use answer::{Answer, Body};
use auth::{Credential, Credentials, Proof};
pub use listing::{CurrentTask, SourcePage, SourceServer};
pub use settings::{ApiConfigError, ApiSettings};
use transport::Unanswered;

use crate::core::Trace;
use crate::core::sweep::PAGE;
use crate::core::{Fault, Listing, Query, Verdict};

/// The API as one account sees it. Clones share connections and credential.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    /// The endpoint without a slash at its end.
    base: String,
    tasks: Url,
    credentials: Credentials,
}

/// What one attempt showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    pub verdict: Verdict,
    /// The credential that it went out with: what [`Client::refresh`] wants to know.
    pub generation: u64,
    /// The API's clock.
    pub date: Option<Timestamp>,
    pub elapsed: Duration,
}

/// What one `GET` showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Got<T> {
    pub result: Result<T, Verdict>,
    /// The credential that it went out with.
    pub generation: u64,
    pub elapsed: Duration,
}

/// The most of an answer that is read, in bytes.
const ROOM: usize = 256 * 1024;
/// 200 tasks, each with its servers and disks.
const LIST_ROOM: usize = 32 * 1024 * 1024;

/// What an answer to `POST /v3/tasks` means: the client's reading of it, without a client.
pub fn verdict_of(status: u16, retry_after: Option<&str>, body: Bytes) -> Verdict {
    let answer = Answer {
        retry_after: retry_after.map(str::to_owned),
        ..Answer::new(status, Body::Whole(body))
    };
    answer.verdict()
}

impl Client {
    /// Reads certificates and secrets, connects to nothing.
    pub fn new(settings: &ApiSettings) -> Result<Self, ApiConfigError> {
        ApiConfigError::of(&settings.check())?;
        ApiConfigError::of(&settings.auth.check())?;
        let base = settings.endpoint.trim_end_matches('/').to_owned();
        let tasks = Url::parse(&format!("{base}/v3/tasks"))
            .map_err(|error| ApiConfigError::one("endpoint", error))?;
        let http = transport::client(settings)?;
        let credentials = Credentials::new(settings)?;
        Ok(Self(Arc::new(Inner { http, base, tasks, credentials })))
    }

    /// One attempt: `POST /v3/tasks` with these bytes.
    pub async fn post(&self, body: Bytes, trace: Option<&Trace>) -> Posted {
        let started = Instant::now();
        let (generation, answer) =
            self.call(&Method::POST, &self.0.tasks, Some(body), trace, ROOM).await;
        let date = answer.as_ref().ok().and_then(|answer| answer.date);
        let verdict = answer.map_or_else(|verdict| verdict, |answer| answer.verdict());
        Posted { verdict, generation, date, elapsed: started.elapsed() }
    }

    /// One page of `GET /v3/tasks`, or the one task of `GET /v3/tasks/{id}`.
    pub async fn list(&self, query: &Query, trace: Option<&Trace>) -> Got<Listing> {
        if let Query::Task(id) = query {
            return self.task(id).await;
        }
        let mut url = self.0.tasks.clone();
        url.set_query(Some(&list_query(query)));
        self.get(url, trace, LIST_ROOM, |answer, bytes| {
            listing::tasks(bytes, query).map(|listing| Listing { date: answer.date, ..listing })
        })
        .await
    }

    async fn task(&self, id: &str) -> Got<Listing> {
        let Some(url) = self.below("tasks", id) else {
            return Got { result: Ok(Listing::default()), generation: 0, elapsed: Duration::ZERO };
        };
        let read = |answer: &Answer, bytes: &[u8]| {
            listing::task(bytes).map(|listing| Listing { date: answer.date, ..listing })
        };
        let mut got = self.get(url, None, LIST_ROOM, read).await;
        if got.result.as_ref().err().and_then(Verdict::fault).is_some_and(is_unknown_task) {
            got.result = Ok(Listing::default());
        }
        got
    }

    /// None where an id of dots would be read as a path of its own.
    fn below(&self, what: &str, id: &str) -> Option<Url> {
        let url = Url::parse(&format!("{}/v3/{what}/{}", self.0.base, sign::encode(id))).ok()?;
        (!id.bytes().all(|byte| byte == b'.')).then_some(url)
    }

    /// A page of `GET /v3/sources`: as many rows as the API gives at once, of those that the filter lets through.
    pub async fn sources(&self, offset: u32, filter: &SourceFilter) -> Got<SourcePage> {
        let query = format!("limit={PAGE}&offset={offset}{}", filter.query());
        let Ok(url) = Url::parse(&format!("{}/v3/sources?{query}", self.0.base)) else {
            return Got {
                result: Ok(SourcePage::default()),
                generation: 0,
                elapsed: Duration::ZERO,
            };
        };
        self.get(url, None, LIST_ROOM, |_, bytes| listing::sources(bytes)).await
    }

    /// `GET /v3/sources/{id}`: `None` is a source server that the API does not know.
    pub async fn source(&self, id: &str) -> Got<Option<SourceServer>> {
        let Some(url) = self.below("sources", id) else {
            return Got { result: Ok(None), generation: 0, elapsed: Duration::ZERO };
        };
        let mut got =
            self.get(url, None, LIST_ROOM, |_, bytes| listing::source(bytes).map(Some)).await;
        if got.result.as_ref().err().and_then(Verdict::fault).is_some_and(is_unknown_source) {
            got.result = Ok(None);
        }
        got
    }

    /// Sees to a credential that is newer than the one of generation `used`, which was refused, and says its
    /// generation; one log-in at a time, and no sooner than the account's lock allows. `Err` says why there is none:
    /// the account is to be halted. `None` asks for the probe of a halted account: a newer one if it can be had, else
    /// the one that there is.
    pub async fn refresh(&self, used: Option<u64>) -> Result<u64, Fault> {
        self.0.credentials.refresh(&self.0.http, used).await
    }

    /// Makes tokens ahead of their need, for ever: to be run beside the worker. Without it the first call after the
    /// end of a token is refused and asks for a [`Client::refresh`].
    pub async fn keep_fresh(&self) {
        self.0.credentials.keep_fresh(&self.0.http).await;
    }

    /// How often the credential has been renewed by somebody else than a call that was refused, or a probe.
    pub fn renewals(&self) -> watch::Receiver<u64> {
        self.0.credentials.renewals()
    }

    /// When the token ends, where that is known: `sluice_token_expiry_timestamp_seconds`.
    pub fn token_expiry(&self) -> Option<Timestamp> {
        self.0.credentials.expiry()
    }

    async fn get<T>(
        &self,
        url: Url,
        trace: Option<&Trace>,
        room: usize,
        read: impl FnOnce(&Answer, &[u8]) -> Result<T, String>,
    ) -> Got<T> {
        let started = Instant::now();
        let (generation, answer) = self.call(&Method::GET, &url, None, trace, room).await;
        let result = answer.and_then(|answer| match &answer.body {
            _ if !answer.is_success() => Err(answer.failure()),
            Body::Broken(_) => Err(answer.unreadable("an answer that did not arrive whole")),
            Body::Whole(bytes) => read(&answer, bytes).map_err(|why| answer.unreadable(&why)),
        });
        Got { result, generation, elapsed: started.elapsed() }
    }

    /// One call with the credential that is there.
    async fn call(
        &self,
        method: &Method,
        url: &Url,
        body: Option<Bytes>,
        trace: Option<&Trace>,
        room: usize,
    ) -> (u64, Result<Answer, Verdict>) {
        let credential = match self.0.credentials.current() {
            Ok(credential) => credential,
            Err((fault, generation)) => return (generation, Err(Verdict::Unauthorized(fault))),
        };
        let generation = credential.generation;
        let Some(request) = self.request(method, url, body.unwrap_or_default(), trace, &credential)
        else {
            let error_msg = "the credential does not fit into a header: see [api.auth]".to_owned();
            return (
                generation,
                Err(Verdict::Unauthorized(Fault { error_msg, ..Fault::default() })),
            );
        };
        let answer = transport::send(request, room).await.map_err(|unanswered| match unanswered {
            Unanswered::NotSent(fault) => Verdict::Transient { fault, answered: false },
            Unanswered::Unclear(fault) => Verdict::Ambiguous { fault, conflict: false },
        });
        (generation, answer.map(|answer| without_secrets(answer, &credential)))
    }

    /// `None` if the credential cannot be put into headers.
    fn request(
        &self,
        method: &Method,
        url: &Url,
        body: Bytes,
        trace: Option<&Trace>,
        credential: &Credential,
    ) -> Option<reqwest::RequestBuilder> {
        let request = self.0.http.request(method.clone(), url.clone());
        let request = match &credential.proof {
            Proof::Token(token) => {
                let mut token = HeaderValue::from_str(token.expose()).ok()?;
                token.set_sensitive(true);
                // A GET without a content type was refused by the gateway (APIGW.0106).
                request.header(CONTENT_TYPE, "application/json").header("x-auth-token", token)
            }
            Proof::Keys(keys) => request
                .headers(sign::headers(keys, method.as_str(), url, &body, Timestamp::now()).ok()?),
        };
        let request = with_trace(request, trace);
        Some(if *method == Method::POST { request.body(body) } else { request })
    }
}

/// What is not a header value was not written by a tracing system; it is left out.
fn with_trace(
    mut request: reqwest::RequestBuilder,
    trace: Option<&Trace>,
) -> reqwest::RequestBuilder {
    let Some(trace) = trace else { return request };
    if let Ok(parent) = HeaderValue::try_from(trace.parent()) {
        request = request.header("traceparent", parent);
    }
    match trace.state().map(HeaderValue::from_str) {
        Some(Ok(state)) => request.header("tracestate", state),
        _ => request,
    }
}

/// Which source servers a list is to have, as far as the API can tell them apart and its rows do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFilter {
    /// The id of a migration project.
    pub migration_project: Option<String>,
    /// The id of an enterprise project.
    pub enterprise_project: Option<String>,
}

impl SourceFilter {
    fn query(&self) -> String {
        let parts = [
            ("migproject", &self.migration_project),
            ("enterprise_project_id", &self.enterprise_project),
        ];
        let given = parts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        given.fold(String::new(), |query, (name, value)| {
            query + "&" + name + "=" + &sign::encode(value)
        })
    }
}

fn list_query(query: &Query) -> String {
    match query {
        Query::Source(id) => {
            format!("limit={PAGE}&source_server_id={}", sign::encode(id))
        }
        Query::Any | Query::Task(_) => "limit=1".to_owned(),
        Query::All { offset } => format!("limit={PAGE}&offset={offset}"),
        Query::State { state, offset } => {
            format!("limit={PAGE}&offset={offset}&state={}", sign::encode(state))
        }
    }
}

fn is_unknown_task(fault: &Fault) -> bool {
    fault.error_code.as_deref() == Some("SMS.7703")
}

/// SMS says 400 with one of these, or 404 with a code of its own.
fn is_unknown_source(fault: &Fault) -> bool {
    let code = fault.error_code.as_deref().unwrap_or_default();
    matches!(code, "SMS.7602" | "SMS.6030" | "SMS.8109")
        || (fault.status == Some(404) && code.starts_with("SMS."))
}

/// Some servers repeat what they refuse.
fn without_secrets(answer: Answer, credential: &Credential) -> Answer {
    match &credential.proof {
        Proof::Token(token) => answer.without(token),
        Proof::Keys(keys) => match &keys.security_token {
            Some(token) => answer.without(&keys.secret).without(token),
            None => answer.without(&keys.secret),
        },
    }
}

//! What does the world learn of a request? A result as a CloudEvent (structured JSON), and the two announcements of a
//! batch: written here, and read back here by `watch` and the tests. What a dead letter says is [`super::dead_letter`]'s.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use super::dead_letter::dead_letter_headers;
use crate::contract::Violation;
use crate::core::verdict::Fault;
use crate::core::{Ending, Outcome, Request};

/// The content type of a structured CloudEvent.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

const RESULT_TYPE: &str = "sluice.request.";
pub const OPENED_TYPE: &str = "sluice.batch.opened";
pub const ENQUEUED_TYPE: &str = "sluice.batch.enqueued";

/// The most violations that a result or a dead letter lists. A body can break thousands of rules, and headers must
/// fit one frame.
pub const MOST_VIOLATIONS: usize = 100;

/// A CloudEvent of version 1.0 with JSON data.
// `S`, here and below, is the type of its texts: an event that is only written borrows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CloudEvent_for_{T}")]
pub struct CloudEvent<T, S = String> {
    /// Always `1.0`.
    pub specversion: S,
    /// Results: the run's UUID, the same for every repeat. Also the message id.
    pub id: S,
    /// `/sluicegate/{prefix}`
    pub source: S,
    #[serde(rename = "type")]
    pub kind: S,
    /// Results: the source server's id; batches: the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<S>,
    #[schemars(with = "String")]
    pub time: Timestamp,
    pub datacontenttype: S,
    /// The trace context of the request, as CloudEvents' extension for distributed tracing has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<S>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<S>,
    pub data: T,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(serialize = "S: Serialize + AsRef<str>"))]
#[schemars(rename = "Outcomes", bound = "S: JsonSchema + Default + AsRef<str>")]
pub struct ResultData<S = String> {
    /// The request's message id.
    pub request_id: S,
    #[schemars(with = "String")]
    pub run: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<S>,
    /// The generation of the batch: an id that is used again is another batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub batch_run: Option<Uuid>,
    /// The row of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// The task's name; empty if the body could not be read so far. So are the other texts.
    pub name: S,
    pub source_server_id: S,
    pub project_id: S,
    pub region_id: S,
    pub priority: u16,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<S>,
    /// The state of a task that a look-up found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_state: Option<S>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
    /// Of an invalid request: the rules that it breaks, [`MOST_VIOLATIONS`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
    /// What happened, in a sentence; empty where the outcome says it all.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub reason: S,
    /// How many `POST`s were sent.
    pub attempts: u32,
    /// How many look-ups were made.
    pub looked_up: u32,
    /// How often a reviewer had sent this request again.
    #[serde(default)]
    pub replay: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub enqueued_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub first_attempt_at: Option<Timestamp>,
    #[schemars(with = "String")]
    pub settled_at: Timestamp,
    /// The worker that settled it.
    pub worker: S,
}

fn is_empty(text: &impl AsRef<str>) -> bool {
    text.as_ref().is_empty()
}

/// `sluice.batch.opened`: published before the first request of a plan, and before those that are added to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    pub batch: String,
    /// The generation of the batch, as its requests carry it: an id that is used again is another batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub batch_run: Option<Uuid>,
    /// How many requests it has in all. A generation that rows are added to is announced again, with a greater total.
    pub total: u64,
    /// The plan's file name.
    pub plan: String,
    /// Who enqueued it.
    pub by: String,
}

/// `sluice.batch.enqueued`: published after the last request of a plan, and after the last of those that were added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enqueued {
    pub batch: String,
    /// The generation of the batch, as its requests carry it: an id that is used again is another batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub batch_run: Option<Uuid>,
    /// How many requests were published in all.
    pub total: u64,
}

/// What stands in the results stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Result(Box<CloudEvent<ResultData>>),
    Opened(CloudEvent<Opened>),
    Enqueued(CloudEvent<Enqueued>),
}

/// Why a message of the results stream is none of ours.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("not a CloudEvent: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "an event of the unknown type {0:?}; this version knows sluice.request.* and sluice.batch.*"
    )]
    Type(String),
}

impl Event {
    /// The batch that it is about, and its generation; `None` for a request of no batch.
    pub fn batch(&self) -> Option<(&str, Option<Uuid>)> {
        match self {
            Self::Opened(event) => Some((&event.data.batch, event.data.batch_run)),
            Self::Enqueued(event) => Some((&event.data.batch, event.data.batch_run)),
            Self::Result(event) => Some((event.data.batch.as_deref()?, event.data.batch_run)),
        }
    }

    /// Reads an event back.
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: String,
        }
        let Kind { kind } = serde_json::from_slice(body)?;
        match kind.as_str() {
            OPENED_TYPE => Ok(Self::Opened(serde_json::from_slice(body)?)),
            ENQUEUED_TYPE => Ok(Self::Enqueued(serde_json::from_slice(body)?)),
            other if other.starts_with(RESULT_TYPE) => {
                Ok(Self::Result(serde_json::from_slice(body)?))
            }
            _ => Err(Unreadable::Type(kind)),
        }
    }
}

impl<'a, T: Serialize, S: Serialize + From<&'a str>> CloudEvent<T, S> {
    fn new(id: S, source: S, kind: S, subject: Option<S>, time: Timestamp, data: T) -> Self {
        Self {
            specversion: "1.0".into(),
            id,
            source,
            kind,
            subject,
            time,
            datacontenttype: "application/json".into(),
            traceparent: None,
            tracestate: None,
            data,
        }
    }

    /// The event as it is published.
    pub fn to_json(&self) -> Vec<u8> {
        // Room for a usual one: grown from nothing it would be copied four times.
        let mut json = Vec::with_capacity(1024);
        // Only a map with keys that are no strings, or a failing `Serialize`, could make this fail: there are none.
        match serde_json::to_writer(&mut json, self) {
            Ok(()) => json,
            Err(_) => Vec::new(),
        }
    }
}

/// The result of a request. `prefix` is `queues.prefix`, `worker` the name of this worker.
pub fn result<'a>(
    request: &'a Request,
    ending: &'a Ending,
    prefix: &str,
    worker: &'a str,
) -> CloudEvent<ResultData<Cow<'a, str>>, Cow<'a, str>> {
    let source_server = &request.source_server_id;
    let mut event = CloudEvent::new(
        request.run.0.to_string().into(),
        source(prefix).into(),
        kind(ending.outcome).into(),
        (!source_server.is_empty()).then(|| source_server.to_string().into()),
        ending.settled_at,
        outcomes(request, ending, worker),
    );
    if let Some(trace) = request.trace() {
        event.traceparent = Some(trace.parent().into());
        event.tracestate = trace.state().map(|state| state.to_owned().into());
    }
    event
}

/// What a result says of a request.
pub fn outcomes<'a, S: From<&'a str> + From<String>>(
    request: &'a Request,
    ending: &'a Ending,
    worker: &'a str,
) -> ResultData<S> {
    ResultData {
        request_id: request.id.to_string().into(),
        run: request.run.0,
        batch: request.batch().map(Into::into),
        batch_run: request.batch_run(),
        row: request.row.get(),
        name: request.name.to_string().into(),
        source_server_id: request.source_server_id.to_string().into(),
        project_id: (&*request.shared.project_id).into(),
        region_id: (&*request.shared.region_id).into(),
        priority: request.priority,
        outcome: ending.outcome,
        task_id: ending.task_id.as_deref().map(Into::into),
        task_state: ending.task_state.as_deref().map(Into::into),
        error: ending.fault.clone(),
        violations: ending.violations.iter().take(MOST_VIOLATIONS).cloned().collect(),
        reason: ending.reason.as_str().into(),
        attempts: ending.attempts,
        looked_up: ending.look_ups,
        replay: request.rare.replay,
        enqueued_at: request.enqueued_at.get(),
        first_attempt_at: ending.first_attempt_at,
        settled_at: ending.settled_at,
        worker: worker.into(),
    }
}

/// The CloudEvents source of everything on the queues of this prefix.
fn source(prefix: &str) -> String {
    ["/sluicegate/", prefix].concat()
}

/// The CloudEvents type of a result.
pub fn kind(outcome: Outcome) -> String {
    [RESULT_TYPE, outcome.as_str()].concat()
}

/// The same however often an announcement is repeated, and another one where it says something else.
fn announcement_id(batch: &str, run: Option<Uuid>, total: u64) -> String {
    run.map_or_else(|| batch.to_owned(), |run| format!("{batch}.{run}.{total}"))
}

/// The announcement of a batch before its first request.
pub fn opened(opened: Opened, prefix: &str, at: Timestamp) -> CloudEvent<Opened> {
    let subject = Some(opened.batch.clone());
    let id = announcement_id(&opened.batch, opened.batch_run, opened.total);
    CloudEvent::new(format!("{id}.opened"), source(prefix), OPENED_TYPE.into(), subject, at, opened)
}

/// The announcement of a batch after its last request.
pub fn enqueued(enqueued: Enqueued, prefix: &str, at: Timestamp) -> CloudEvent<Enqueued> {
    let subject = Some(enqueued.batch.clone());
    let id = announcement_id(&enqueued.batch, enqueued.batch_run, enqueued.total);
    CloudEvent::new(
        format!("{id}.enqueued"),
        source(prefix),
        ENQUEUED_TYPE.into(),
        subject,
        at,
        enqueued,
    )
}

/// The key with which a result is published to the topic exchange: `<outcome>.<batch or ->`.
pub fn routing_key(outcome: Outcome, batch: Option<&str>) -> String {
    [outcome.as_str(), ".", batch.unwrap_or("-")].concat()
}

/// The key of a batch's announcements.
pub fn batch_routing_key(batch: &str) -> String {
    format!("batch.{batch}")
}

/// The JSON Schema of a result.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(CloudEvent<ResultData>).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert(
            "title".into(),
            "A result of Sluicegate: a CloudEvent sluice.request.<outcome>".into(),
        );
    }
    if let Some(kind) =
        schema.pointer_mut("/properties/type").and_then(serde_json::Value::as_object_mut)
    {
        let words: Vec<String> = Outcome::ALL.iter().map(|outcome| self::kind(*outcome)).collect();
        kind.insert("enum".into(), words.into());
    }
    schema
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::{Run, Shared, Trace};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn request() -> Request {
        Request {
            id: "17".into(),
            run: Run::of("17", &[7; 32], None, 0),
            name: "task".into(),
            source_server_id: "0d6c3a5e".into(),
            shared: Arc::new(Shared {
                project_id: "p".into(),
                region_id: "r".into(),
                batch: Some("wave-1".into()),
                batch_run: Some(Uuid::from_u128(7)),
            }),
            row: Some(3).into(),
            priority: 9,
            starts: true,
            bytes: 2,
            ..Request::default()
        }
        .with_trace(Trace::parse(PARENT, None))
    }

    pub(in crate::message) fn ending(outcome: Outcome) -> Ending {
        Ending {
            outcome,
            task_id: None,
            task_state: None,
            fault: None,
            violations: Vec::new(),
            reason: String::new(),
            attempts: 1,
            look_ups: 2,
            dead_lettered: false,
            never_sent: false,
            first_attempt_at: None,
            settled_at: "2026-01-31T12:00:00.5Z".parse().unwrap(),
            history: Vec::new(),
        }
    }

    pub(in crate::message) fn violation(text: &str) -> Violation {
        Violation { pointer: "/name".into(), found: text.into(), allowed: "a name".into() }
    }

    #[test]
    fn a_result_is_a_cloud_event_of_its_outcome_and_reads_back() {
        for outcome in Outcome::ALL {
            let (request, ending) = (request(), ending(outcome));
            let written = result(&request, &ending, "sluice", "w1");
            assert_eq!(written.kind, format!("sluice.request.{}", outcome.as_str()));
            assert_eq!((&*written.specversion, &*written.source), ("1.0", "/sluicegate/sluice"));
            assert_eq!(written.id, request.run.0.to_string());
            assert_eq!(written.subject.as_deref(), Some("0d6c3a5e"));
            assert_eq!(written.traceparent.as_deref(), Some(PARENT));
            let Event::Result(read) = Event::read(&written.to_json()).unwrap() else { panic!() };
            assert_eq!(read.data, outcomes(&request, &ending, "w1"));
            assert_eq!(read.to_json(), written.to_json());
        }
    }

    #[test]
    fn announcements_of_a_batch_read_back() {
        let at = Timestamp::UNIX_EPOCH;
        let mut ids = Vec::new();
        for (batch_run, total) in
            [(None, 3), (Some(Uuid::from_u128(7)), 3), (Some(Uuid::from_u128(7)), 5)]
        {
            let (batch, plan, by) = ("b".to_owned(), "p.csv".to_owned(), "me".to_owned());
            let data = Opened { batch, batch_run, total, plan, by };
            let open = opened(data, "s", at);
            ids.push(open.id.clone());
            assert_eq!(Event::read(&open.to_json()).unwrap(), Event::Opened(open));
            let done = enqueued(Enqueued { batch: "b".into(), batch_run, total }, "s", at);
            assert_eq!(Event::read(&done.to_json()).unwrap(), Event::Enqueued(done));
        }
        ids.dedup();
        assert_eq!(ids.len(), 3, "what says something else is another event: {ids:?}");
    }

    #[test]
    fn what_is_no_event_of_ours_is_told_from_what_is_no_event() {
        assert!(
            matches!(Event::read(br#"{"type":"other.thing"}"#), Err(Unreadable::Type(kind)) if kind == "other.thing")
        );
        assert!(matches!(Event::read(b"nonsense"), Err(Unreadable::Json(_))));
    }

    #[test]
    fn every_result_keeps_to_the_published_schema() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let mut full = ending(Outcome::Invalid);
        full.violations = vec![violation("?")];
        full.fault = Some(Fault { status: Some(400), error_msg: "no".into(), ..Fault::default() });
        full.first_attempt_at = Some(full.settled_at);
        for ending in Outcome::ALL.map(ending).into_iter().chain([full]) {
            let request = request();
            let json = serde_json::to_value(result(&request, &ending, "sluice", "w1")).unwrap();
            assert!(schema.is_valid(&json), "{json}");
        }
        assert!(!schema.is_valid(&serde_json::json!({"specversion": "1.0"})));
    }

    #[test]
    fn the_routing_key_is_the_outcome_and_the_batch() {
        assert_eq!(routing_key(Outcome::Created, Some("b")), "created.b");
        assert_eq!(routing_key(Outcome::Conflict, None), "conflict.-");
    }
}

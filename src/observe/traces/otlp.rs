//! Spans by OTLP over HTTP, configured by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_*`, `OTEL_SERVICE_NAME`,
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use uuid::Uuid;

use crate::core::Trace;
use crate::core::{Ending, Job, Now, Request};
use crate::worker::Call;

/// Makes spans and sends them, in batches, from a thread of its own.
#[derive(Clone, Debug)]
pub struct Traces {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    /// Makes the spans of this process its own: after a crash the same run has spans of another worker.
    process: Uuid,
}

impl Traces {
    /// `None`: no endpoint is named, or OpenTelemetry is turned off.
    ///
    /// # Errors
    /// Says what is wrong with the variables.
    pub fn from_env(env: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let set = |name: &str| env.get(name).is_some_and(|value| !value.is_empty());
        let named = set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let disabled =
            env.get("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"));
        if !named || disabled {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .build()
            .map_err(|e| format!("OTEL_EXPORTER_OTLP_*: {e}"))?;
        let resource = Resource::builder();
        let resource = if set("OTEL_SERVICE_NAME") {
            resource
        } else {
            resource.with_service_name("sluicegate")
        };
        Ok(Some(Self::with(exporter, &resource.build())))
    }

    fn with(exporter: SpanExporter, resource: &Resource) -> Self {
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(resource);
        let scope = InstrumentationScope::builder("sluicegate")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Self { processor: Arc::new(processor), scope, process: Uuid::new_v4() }
    }

    /// The trace context that a call carries to the API: its own span is the parent of what happens there.
    pub fn context<D>(&self, job: &Job<D>, call: Call) -> Option<Trace> {
        let origin = Origin::of(&job.request);
        let parent = format!(
            "00-{}-{}-{:02x}",
            origin.trace,
            self.id_of_call(job, call),
            origin.flags.to_u8()
        );
        Trace::parse(&parent, job.request.trace().as_ref().and_then(Trace::state))
    }

    /// A call has ended after `took`; `showed` is the word of its verdict or finding.
    pub fn called<D>(&self, job: &Job<D>, call: Call, showed: &str, now: Now, took: Duration) {
        let (name, attempt) = match call {
            Call::Post => ("POST /v3/tasks", job.progress.attempts),
            Call::Look => ("GET /v3/tasks", job.progress.look_ups),
        };
        let attributes = vec![
            KeyValue::new("sluice.verdict", showed.to_owned()),
            KeyValue::new("sluice.number", i64::from(attempt)),
        ];
        let well = matches!(showed, "created" | "answered");
        let status = if well { Status::Unset } else { Status::error(showed.to_owned()) };
        let parent = self.id_of_request(&job.request);
        let id = self.id_of_call(job, call);
        self.end(
            &job.request,
            id,
            (parent, false),
            SpanKind::Client,
            name,
            (now, took),
            attributes,
            status,
        );
    }

    /// A request has ended, and its result is stored.
    pub fn settled<D>(&self, job: &Job<D>, ending: &Ending, now: Now) {
        let request = &job.request;
        let mut attributes = vec![
            KeyValue::new("sluice.outcome", ending.outcome.as_str()),
            KeyValue::new("sluice.request_id", request.id.to_string()),
            KeyValue::new("sluice.run", request.run.0.to_string()),
            KeyValue::new("sluice.source_server_id", request.source_server_id.to_string()),
            KeyValue::new("sluice.priority", i64::from(request.priority)),
            KeyValue::new("sluice.attempts", i64::from(ending.attempts)),
            KeyValue::new("sluice.looks", i64::from(ending.look_ups)),
        ];
        let batch = request.batch().map(|batch| KeyValue::new("sluice.batch", batch.to_owned()));
        let task = ending.task_id.clone().map(|id| KeyValue::new("sluice.task_id", id));
        attributes.extend(batch.into_iter().chain(task));
        let status = if ending.outcome.is_dead_letter() {
            Status::error(ending.reason.clone())
        } else {
            Status::Unset
        };
        let parent = (Origin::of(request).parent, true);
        let id = self.id_of_request(request);
        let took = now.at - job.received;
        self.end(
            request,
            id,
            parent,
            SpanKind::Consumer,
            "request",
            (now, took),
            attributes,
            status,
        );
    }

    /// Sends what has not been sent yet: at the end of the process.
    pub fn finish(&self) {
        if let Err(error) = self.processor.shutdown() {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a span has so many parts")]
    fn end(
        &self,
        request: &Request,
        id: SpanId,
        (parent, remote): (SpanId, bool),
        kind: SpanKind,
        name: &'static str,
        (now, took): (Now, Duration),
        attributes: Vec<KeyValue>,
        status: Status,
    ) {
        let Origin { trace, flags, .. } = Origin::of(request);
        // Whoever began the trace decides whether it is recorded.
        if !flags.is_sampled() {
            return;
        }
        let end_time = SystemTime::try_from(now.wall).unwrap_or(SystemTime::UNIX_EPOCH);
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, id, flags, false, TraceState::default()),
            parent_span_id: parent,
            parent_span_is_remote: remote,
            span_kind: kind,
            name: name.into(),
            start_time: end_time - took,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }

    fn id_of_request(&self, request: &Request) -> SpanId {
        self.id(request, "request", 0)
    }

    /// The same at the beginning of a call and at its end.
    fn id_of_call<D>(&self, job: &Job<D>, call: Call) -> SpanId {
        match call {
            Call::Post => self.id(&job.request, "post", job.progress.attempts),
            Call::Look => self.id(&job.request, "look", job.progress.look_ups),
        }
    }

    fn id(&self, request: &Request, kind: &str, number: u32) -> SpanId {
        let run = Uuid::new_v5(&self.process, request.run.0.as_bytes());
        let id = Uuid::new_v5(&run, format!("{kind} {number}").as_bytes());
        SpanId::from_bytes(id.as_u64_pair().0.to_be_bytes())
    }
}

/// Where a request comes from: what its `traceparent` says; without one its run is the trace.
struct Origin {
    trace: TraceId,
    parent: SpanId,
    flags: TraceFlags,
}

impl Origin {
    fn of(request: &Request) -> Self {
        match &request.trace() {
            Some(trace) => Self {
                trace: TraceId::from_bytes(trace.id().0.to_be_bytes()),
                parent: SpanId::from_bytes(trace.parent_id().to_be_bytes()),
                flags: TraceFlags::new(trace.flags()),
            },
            None => Self {
                trace: TraceId::from_bytes(*request.run.0.as_bytes()),
                parent: SpanId::INVALID,
                flags: TraceFlags::SAMPLED,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use opentelemetry_otlp::WithExportConfig as _;

    use super::*;
    use crate::core::Moment;
    use crate::message::headers;
    use crate::message::intake::{Message, read};

    /// Takes one export and says what was in it.
    fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let head = got.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(head) = head {
                let text = String::from_utf8_lossy(&got[..head]).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.expect("a length").trim().parse().unwrap();
                if got.len() >= head + 4 + length {
                    let body = got.split_off(head + 4);
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    return (text, body);
                }
            }
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "cut off: {}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&buffer[..n]);
        }
    }

    fn job(traceparent: Option<&str>) -> Job<()> {
        let headers = traceparent.map(|text| (headers::TRACEPARENT.into(), text.into()));
        let message = Message { headers: headers.into_iter().collect(), ..Message::default() };
        let request = read(&message, &crate::contract::Rules::default()).request;
        Job::new(request, (), 1, false, Moment::START)
    }

    fn has(haystack: &[u8], needle: &[u8]) -> bool {
        haystack.windows(needle.len()).any(|window| window == needle)
    }

    #[test]
    fn a_request_its_look_and_its_post_reach_a_collector_in_the_trace_of_the_enqueuer() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build().unwrap();
        let resource = Resource::builder().with_service_name("sluicegate").build();
        let traces = Traces::with(exporter, &resource);
        let job = job(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let now = Now { at: Moment::START + Duration::from_secs(9), wall: jiff::Timestamp::now() };
        let carried = traces.context(&job, Call::Post).unwrap().parent();
        traces.called(&job, Call::Look, "answered", now, Duration::from_millis(20));
        traces.called(&job, Call::Post, "created", now, Duration::from_millis(80));
        let ending = crate::core::Ending {
            outcome: crate::core::Outcome::Created,
            task_id: Some("task-1".into()),
            task_state: None,
            fault: None,
            violations: Vec::new(),
            reason: String::new(),
            attempts: 1,
            look_ups: 1,
            dead_lettered: false,
            never_sent: false,
            first_attempt_at: None,
            settled_at: now.wall,
            history: Vec::new(),
        };
        traces.settled(&job, &ending, now);
        let collector = std::thread::spawn(move || receive(&listener));
        traces.finish();
        let (head, body) = collector.join().unwrap();
        assert!(head.starts_with("post /v1/traces ") && head.contains("application/x-protobuf"));
        let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
        let spans = body.windows(trace.len()).filter(|window| *window == trace).count();
        assert_eq!(spans, 3, "each span in the trace that the enqueuer began");
        assert!(has(&body, &0x00f0_67aa_0ba9_02b7_u64.to_be_bytes()), "under the enqueuer's span");
        for text in ["POST /v3/tasks", "GET /v3/tasks", "request", "sluicegate", "task-1"] {
            assert!(has(&body, text.as_bytes()), "{text}");
        }
        // What the API is told is the span of the call, which is among those exported.
        let span = u64::from_str_radix(carried.split('-').nth(2).unwrap(), 16).unwrap();
        assert!(has(&body, &span.to_be_bytes()), "{carried}");
    }

    #[test]
    fn a_request_without_a_trace_has_its_run_as_the_trace_and_unsampled_ones_are_left_alone() {
        let origin = Origin::of(&job(None).request);
        assert_eq!(origin.trace.to_string(), job(None).request.run.0.simple().to_string());
        assert!(origin.flags.is_sampled() && origin.parent == SpanId::INVALID);
        let unsampled = job(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"));
        assert!(!Origin::of(&unsampled.request).flags.is_sampled());
    }

    #[test]
    fn without_an_endpoint_there_is_nothing() {
        let env = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        assert!(Traces::from_env(&env(&[])).unwrap().is_none());
        let off = env(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
            ("OTEL_SDK_DISABLED", "true"),
        ]);
        assert!(Traces::from_env(&off).unwrap().is_none());
    }
}

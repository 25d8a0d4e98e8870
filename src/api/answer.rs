//! What did the API say? From an answer's status, headers and bytes to a [`Verdict`] and its [`Fault`].

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::codes::{self, Class};
use super::throttle;
use crate::config::values::Secret;
use crate::core::{Fault, FaultDetail, Verdict};

/// An answer as far as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Body,
    pub(super) request_id: Option<String>,
    pub(super) retry_after: Option<String>,
    /// The API's own clock.
    pub(super) date: Option<Timestamp>,
    /// The token that IAM made.
    pub(super) subject_token: Option<Secret>,
    /// Secrets that must not get into a fault.
    pub(super) hidden: Vec<Secret>,
}

/// The body of an answer: all of it, or why there is not all of it.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Bytes),
    Broken(String),
}

/// Texts of an answer are for people: cut here, so that no answer fills a log, a header or a page.
const TEXT: usize = 2000;
const ENTRIES: usize = 20;
/// A secret that is worth masking, in bytes.
const SHORTEST: usize = 8;

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Keeps a secret that the server repeats out of the fault.
    pub(super) fn without(mut self, secret: &Secret) -> Self {
        self.hidden.push(secret.clone());
        self
    }

    /// The verdict on a `POST`.
    pub(super) fn verdict(&self) -> Verdict {
        if !self.is_success() {
            return self.failure();
        }
        match self.created_id() {
            Some(task_id) => Verdict::Created { task_id },
            None => self.unreadable("a success without a task id"),
        }
    }

    /// The verdict on an answer that is no success.
    pub(super) fn failure(&self) -> Verdict {
        let fault = self.fault();
        // A body that did not arrive may have had a code: that is not the same as an answer without one.
        let code = if matches!(self.body, Body::Broken(_)) {
            Some("lost")
        } else {
            fault.error_code.as_deref()
        };
        match (&self.body, codes::find(code, self.status).class) {
            // Code first, and the code did not arrive: only these go by their status alone.
            (Body::Broken(_), Class::Rejected | Class::Conflict | Class::Transient) => {
                Verdict::Ambiguous { fault, conflict: false }
            }
            (_, Class::Rejected) => Verdict::Rejected(fault),
            (_, Class::Conflict) => Verdict::Ambiguous { fault, conflict: true },
            (_, Class::Transient) => Verdict::Transient { fault, answered: true },
            (_, Class::Throttled) => self.throttled(fault),
            (_, Class::Unauthorized) => Verdict::Unauthorized(fault),
            (_, Class::Account) => Verdict::Account { fault, one_resource: false },
            (_, Class::OneResource) => Verdict::Account { fault, one_resource: true },
            (_, Class::Ambiguous) => Verdict::Ambiguous { fault, conflict: false },
        }
    }

    /// The verdict on a success that does not say what it should.
    pub(super) fn unreadable(&self, what: &str) -> Verdict {
        let mut fault = self.fault();
        fault.error_msg = text(&format!("{what}: {}", fault.error_msg));
        Verdict::Ambiguous { fault, conflict: false }
    }

    fn throttled(&self, fault: Fault) -> Verdict {
        let limit = throttle::quota(&fault.error_msg);
        let server_now = self.date.unwrap_or_else(Timestamp::now);
        let header = self
            .retry_after
            .as_deref()
            .and_then(|header| throttle::retry_after(header, server_now));
        Verdict::Throttled { wait: header.or(throttle::wait_for(limit)), limit, fault }
    }

    fn created_id(&self) -> Option<String> {
        let Body::Whole(bytes) = &self.body else { return None };
        let Value::Object(body) = serde_json::from_slice(bytes).ok()? else { return None };
        let id = body.get("id")?.as_str()?.trim();
        (!id.is_empty()).then(|| text(id))
    }

    /// Reads the body shapes that SMS, the gateway, IAM and other backends send; anything else is quoted.
    pub(super) fn fault(&self) -> Fault {
        let mut fault = Fault {
            status: Some(self.status),
            request_id: self.request_id.clone(),
            ..Fault::default()
        };
        match &self.body {
            Body::Broken(why) => fault.error_msg.clone_from(why),
            Body::Whole(bytes) => match serde_json::from_str(&self.masked(bytes)) {
                Ok(Value::Object(body)) => read_fault(&body, &mut fault),
                _ => fault.error_msg = quote(&self.masked(bytes)),
            },
        }
        fault
    }

    fn masked<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        // Of a short one there is not much to hide, and masking it would tear words apart.
        let hidden =
            self.hidden.iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST);
        hidden.fold(String::from_utf8_lossy(bytes), |text, secret| {
            if text.contains(secret) { Cow::Owned(text.replace(secret, "***")) } else { text }
        })
    }
}

fn read_fault(body: &Map<String, Value>, fault: &mut Fault) {
    let nested = body.get("error").and_then(Value::as_object);
    let named = [
        (body, "error_code", "error_msg"),
        (body, "errorCode", "errorMsg"),
        (body, "code", "message"),
    ];
    let inner = nested.map(|inner| {
        [
            (inner, "error_code", "error_msg"),
            (inner, "errorCode", "errorMsg"),
            (inner, "code", "message"),
        ]
    });
    let shape =
        named.into_iter().chain(inner.into_iter().flatten()).find(|(body, code, message)| {
            body.get(*code).is_some_and(|code| !code.is_null())
                || body.get(*message).is_some_and(Value::is_string)
        });
    let Some((shape, code, message)) = shape else {
        fault.error_msg = text(&Value::Object(body.clone()).to_string());
        return;
    };
    // IAM's code is a number, and is the status again: no code to go by.
    fault.error_code =
        shape.get(code).and_then(Value::as_str).map(str::trim).filter(|c| !c.is_empty()).map(text);
    fault.error_msg = shape.get(message).and_then(Value::as_str).map(text).unwrap_or_default();
    if fault.request_id.is_none() {
        fault.request_id = body.get("request_id").and_then(Value::as_str).map(text);
    }
    fault.error_param =
        list(shape, "error_param").filter_map(|param| param.as_str().map(text)).collect();
    fault.details = list(shape, "details").filter_map(Value::as_object).map(detail).collect();
}

fn detail(entry: &Map<String, Value>) -> FaultDetail {
    let field = |name| entry.get(name).and_then(Value::as_str).map(text);
    FaultDetail {
        error_code: field("error_code"),
        error_msg: field("error_msg").unwrap_or_default(),
    }
}

fn list<'a>(body: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a Value> {
    body.get(name).and_then(Value::as_array).into_iter().flatten().take(ENTRIES)
}

fn quote(body: &str) -> String {
    if body.is_empty() { "an answer without a body".to_owned() } else { text(body) }
}

/// Cuts a text and takes out what would move a terminal's cursor or break a log line.
pub(super) fn text(text: &str) -> String {
    let mut cut: String =
        text.chars().take(TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(TEXT).is_some() {
        cut.push('…');
    }
    cut
}

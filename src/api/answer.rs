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
    pub(super) fn new(status: u16, body: Body) -> Self {
        Self {
            status,
            body,
            request_id: None,
            retry_after: None,
            date: None,
            subject_token: None,
            hidden: Vec::new(),
        }
    }

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
            Body::Whole(bytes) => match serde_json::from_slice(bytes) {
                // Masked as parsed: JSON has many ways to write one text.
                Ok(Value::Object(mut body)) => {
                    body.values_mut().for_each(|value| self.mask(value));
                    read_fault(&body, &mut fault);
                }
                _ => fault.error_msg = quote(&self.masked(bytes)),
            },
        }
        fault
    }

    fn mask(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.masked(text.as_bytes()).into_owned(),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.mask(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn masked<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        // Of a short one there is not much to hide, and masking it would tear words apart.
        let hidden =
            self.hidden.iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST);
        hidden.fold(String::from_utf8_lossy(bytes), |text, secret| {
            ways_to_write(secret).iter().fold(text, |text, way| {
                if text.contains(way) { Cow::Owned(text.replace(way, "***")) } else { text }
            })
        })
    }
}

/// A secret as servers repeat it: as it is, and as JSON writes it, with `/` plain or escaped.
fn ways_to_write(secret: &str) -> [String; 3] {
    let quoted = Value::from(secret).to_string();
    let escaped = quoted[1..quoted.len() - 1].to_owned();
    [escaped.replace('/', "\\/"), escaped, secret.to_owned()]
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
    // Most are, and then nothing has to be looked at character by character.
    if text.len() <= TEXT && text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return text.to_owned();
    }
    let mut cut: String =
        text.chars().take(TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(TEXT).is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, body: &[u8]) -> Answer {
        Answer::new(status, Body::Whole(Bytes::copy_from_slice(body)))
            .without(&Secret::new("a-secret-token"))
    }

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Ambiguous { conflict: true, .. } => "conflict",
            Verdict::Account { one_resource: true, .. } => "one_resource",
            Verdict::Transient { answered: false, .. } => "never from an answer",
            verdict => verdict.as_str(),
        }
    }

    #[test]
    fn a_secret_is_masked_however_json_writes_it() {
        for (secret, body) in [
            ("pass\"word/9", r#"{"error_msg": "no pass\"word/9 here"}"#),
            ("pass\"word/9", r#"{"error_msg": "no p\u0061ss\u0022word\/9 here"}"#),
            ("pass\"word/9", r#"{"error": {"message": "no pass\"word\/9 here"}}"#),
            ("pass\"word/9", r#"["no pass\"word\/9 here"]"#),
            ("pass\"word/9", "<p>no pass\"word/9 here"),
        ] {
            let answer = Answer::new(400, Body::Whole(Bytes::from_static(body.as_bytes())));
            let fault = answer.without(&Secret::new(secret)).fault();
            assert!(fault.error_msg.contains("***"), "{body}: {fault:?}");
            assert!(!format!("{fault:?}").contains("word"), "{body}: {fault:?}");
        }
    }

    #[test]
    fn every_row_of_the_table_becomes_its_verdict() {
        let lines = include_str!("codes.tsv").lines().filter(|line| !line.starts_with('#'));
        let mut rows = 0;
        for line in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            let [code, status, class, _] = columns[..] else { panic!("{line}") };
            let status = match status {
                "*" if code == "*" => 700,
                "*" => 400,
                class => class.replace("xx", "99").parse().unwrap(),
            };
            let body = match code {
                "-" => "{}".to_owned(),
                "*" => r#"{"error_code": "UNHEARD.1"}"#.to_owned(),
                code => format!(
                    r#"{{"error_code": "{}", "error_msg": "m"}}"#,
                    code.replace('*', "0042")
                ),
            };
            assert_eq!(word(&answer(status, body.as_bytes()).verdict()), class, "{line}");
            rows += 1;
        }
        assert!(rows > 400, "{rows}");
    }

    /// What the API's documents say of the codes that a create can answer, apart from the table.
    #[test]
    fn the_codes_that_matter_have_their_documented_class() {
        let cases: [(&str, &[u16]); 4] = [
            ("account", &[204, 6407, 6522, 6523, 6524, 6525, 6526, 6528, 6529, 6542, 6560, 9003]),
            ("transient", &[6000, 6301, 6304, 6404, 6502, 6604, 6618, 7705, 8104, 8105]),
            ("conflict", &[6005, 6615, 7605]),
            (
                "rejected",
                &[
                    6010, 6011, 6012, 6013, 6014, 6030, 6031, 6032, 6033, 6034, 6102, 6103, 6104,
                    6105, 6303, 6504, 6505, 6508, 6509, 6516, 6517, 6520, 6535, 6537, 6541, 6561,
                    6562, 6601, 6602, 6603, 6605, 6610, 6617, 7101, 7602, 7711, 7712, 7724, 7725,
                    8103, 8106, 8109, 9001, 9005,
                ],
            ),
        ];
        for (class, codes) in cases {
            for code in codes {
                let body = format!(r#"{{"error_code": "SMS.{code:04}", "error_msg": "m"}}"#);
                assert_eq!(word(&answer(400, body.as_bytes()).verdict()), class, "SMS.{code:04}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic_or_says_created_without_an_id(status in 100u16..1000, body: Vec<u8>) {
            let verdict = answer(status, &body).verdict();
            prop_assert!(verdict.as_str() != "created");
        }

        #[test]
        fn a_secret_is_never_in_a_fault(
            status in 400u16..600,
            before in ".{0,20}",
            quoted: bool,
        ) {
            let text = format!("{before}a-secret-token{before}");
            let body = if quoted {
                serde_json::json!({"error_code": text, "error_msg": text, "error_param": [text]}).to_string()
            } else {
                text
            };
            let shown = format!("{:?}", answer(status, body.as_bytes()).verdict());
            prop_assert!(!shown.contains("a-secret-token"), "{}", shown);
        }
    }
}

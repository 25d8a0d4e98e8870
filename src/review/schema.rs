//! How do other programs read a dead letter and an act of the audit? Their JSON Schemas, from the types that write them.

use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value, json};

use super::dead_letter::Past;
use crate::contract::Violation;
use crate::core::verdict::Fault;
use crate::core::{Outcome, Try};
use crate::message::audit::Act;
use crate::message::headers;
use crate::message::parcel::Parcel;

/// A dead letter as `sluice dead-letters export` writes it, one a line. On the queue it is a message with these
/// properties and headers, and the body as it is.
pub fn dead_letter() -> Value {
    let mut schema = schema_for!(Parcel).to_value();
    set(&mut schema, "", "title", "A dead letter of Sluicegate, whole: a line of an export".into());
    set(&mut schema, "/properties", "headers", headers());
    schema
}

/// The headers of a dead letter on the queue. Those that say how it ended are texts, whatever they hold.
pub fn headers() -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    let any = |what: &str| json!({ "description": what });
    let outcomes: Vec<&str> =
        Outcome::ALL.iter().filter(|o| o.is_dead_letter()).map(|o| o.as_str()).collect();
    let mut schema = json!({
        "type": "object",
        "description": "The headers of the request, and those that say how it ended; the broker's own dead letters (delivery limit, expiry, length) have only the former. What JSON has no word for is {\"amqp\": ...}.",
        "properties": {
            headers::OUTCOME: { "type": "string", "enum": outcomes, "description": "How it ended" },
            headers::REASON: text("Why, in a sentence"),
            headers::ERROR_CODE: text("The API's error code, such as SMS.6603"),
            headers::STATUS: { "type": "string", "pattern": "^[1-5][0-9]{2}$", "description": "The API's HTTP status" },
            headers::ATTEMPTS: { "type": "string", "pattern": "^[0-9]+$", "description": "How many POSTs were sent" },
            headers::FAILED_AT: { "type": "string", "format": "date-time" },
            headers::VIOLATIONS: holding::<Vec<Violation>>("The rules that an invalid request breaks; a long list is cut"),
            headers::HISTORY: holding::<Vec<Try>>("What was tried, the latest last; a long list is cut"),
            headers::ORIGINAL: {
                "type": "string", "pattern": "^([0-9a-f]{2})*$",
                "description": "Of a message that cannot be read: its properties as AMQP has them, the first 8 KiB, as hexadecimal digits",
            },
            headers::ERROR: holding::<Fault>("The API's whole answer"),
            headers::REQUEST_ID: text("The request's own message id; the dead letter's is that of its result"),
            headers::PAST: holding::<Vec<Past>>("How it ended before it was replayed, the latest last"),
            headers::BATCH: text("The plan that it came with"),
            headers::REPLAY: any("How often it was replayed"),
            headers::ENQUEUED_AT: any("When the planner enqueued it"),
            headers::ROW: any("The row of the plan"),
            headers::NOT_BEFORE: any("Not submitted before this time"),
            headers::DEADLINE: any("Not submitted after this time"),
            headers::PRIORITY: any("Orders it in place of the body's priority"),
            headers::AGAIN: any("A finished migration is wanted again"),
            headers::MOVED: any("A worker has published it anew with another priority"),
            headers::TRACEPARENT: any("W3C trace context"),
            headers::TRACESTATE: any("W3C trace context"),
        },
    });
    schema["properties"][headers::STRANGER] = any(
        "true: somebody else had put it into the queue, says the reviewer who put it there again",
    );
    // More than the macro takes.
    let generation =
        any("The generation of the batch (UUID): an id that is used again is another batch");
    set(&mut schema, "/properties", headers::BATCH_RUN, generation);
    let never_sent = any("No POST of it was ever begun: a replay goes without a look-up");
    set(&mut schema, "/properties", headers::NEVER_SENT, never_sent);
    schema
}

/// An event of the audit stream.
pub fn act() -> Value {
    let mut schema = schema_for!(Act).to_value();
    set(
        &mut schema,
        "",
        "title",
        "An act on a dead letter or the gate: an event of {prefix}.audit".into(),
    );
    set(&mut schema, "/$defs/Parcel/properties", "headers", headers());
    schema
}

/// A text that holds JSON.
fn holding<T: JsonSchema>(what: &str) -> Value {
    let mut inner = schema_for!(T).to_value();
    if let Some(inner) = inner.as_object_mut() {
        inner.remove("$schema");
    }
    json!({
        "type": "string", "description": what,
        "contentMediaType": "application/json", "contentSchema": inner,
    })
}

fn set(schema: &mut Value, at: &str, name: &str, value: Value) {
    if let Some(place) = schema.pointer_mut(at).and_then(Value::as_object_mut) {
        place.insert(name.to_owned(), value);
    } else if let Some((parent, last)) = at.rsplit_once('/') {
        set(schema, parent, last, Value::Object(Map::from_iter([(name.to_owned(), value)])));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::contract::Rules;
    use crate::core::Ending;
    use crate::message::audit::{Action, By};
    use crate::message::result::dead_letter_headers;
    use crate::review::DeadLetter;

    fn valid(schema: &Value, value: &Value) -> bool {
        jsonschema::meta::validate(schema).unwrap();
        jsonschema::options().should_validate_formats(true).build(schema).unwrap().is_valid(value)
    }

    /// A dead letter that says all that one can say.
    fn parcel(outcome: Outcome) -> Parcel {
        let at: Timestamp = "2026-01-31T12:00:00.5Z".parse().unwrap();
        let ending = Ending {
            outcome,
            task_id: None,
            task_state: None,
            fault: Some(Fault {
                status: Some(400),
                error_code: Some("SMS.6603".into()),
                error_msg: "no".into(),
                ..Fault::default()
            }),
            violations: vec![Violation {
                pointer: "/name".into(),
                found: "?".into(),
                allowed: "!".into(),
            }],
            reason: "the API refused it".into(),
            attempts: 3,
            look_ups: 2,
            dead_lettered: false,
            never_sent: false,
            first_attempt_at: Some(at),
            settled_at: at,
            history: vec![Try {
                at,
                what: "post".into(),
                verdict: "rejected".into(),
                status: Some(400),
                error_code: None,
            }],
        };
        let mut parcel = Parcel {
            message_id: Some("0d6c3a5e-55aa-4b7e-9d5b-51c1ce6a7e00".into()),
            content_type: Some("application/json".into()),
            timestamp: Some(7),
            body: "{}".into(),
            ..Parcel::default()
        };
        for (name, text) in dead_letter_headers(&ending) {
            parcel.headers.insert(name.to_owned(), text.into());
        }
        let letter = DeadLetter::read(&parcel, None, &Rules::default());
        let past = serde_json::to_string(&[Past::of(&letter)]).unwrap();
        parcel.headers.insert(headers::PAST.to_owned(), past.into());
        parcel.headers.insert(headers::REQUEST_ID.to_owned(), "17".into());
        parcel
    }

    #[test]
    fn every_dead_letter_keeps_to_the_published_schema() {
        let schema = dead_letter();
        for outcome in Outcome::ALL.into_iter().filter(|o| o.is_dead_letter()) {
            let json = serde_json::to_value(parcel(outcome)).unwrap();
            assert!(valid(&schema, &json), "{json}");
        }
        let binary = Parcel { body: Bytes::from_static(b"\xff"), ..Parcel::default() };
        assert!(valid(&schema, &serde_json::to_value(&binary).unwrap()));
        for wrong in [
            json!({}),
            json!({ "body": 1 }),
            json!({ "body": "", "headers": { headers::OUTCOME: "created" } }),
            json!({ "body": "", "headers": { headers::STATUS: 400 } }),
        ] {
            assert!(!valid(&schema, &wrong), "{wrong}");
        }
    }

    #[test]
    fn every_header_of_ours_stands_in_the_schema_and_what_it_holds_keeps_to_it() {
        let schema = headers();
        for name in headers::OF_A_DEAD_LETTER {
            assert!(schema["properties"][name].is_object(), "{name}");
        }
        let parcel = parcel(Outcome::Invalid);
        let mut held = 0;
        for name in parcel.headers.keys() {
            let described = &schema["properties"][name];
            assert!(described.is_object(), "{name}");
            if described["contentSchema"].is_object() {
                let inner: Value = serde_json::from_str(&parcel.header(name).unwrap()).unwrap();
                assert!(valid(&described["contentSchema"], &inner), "{name}: {inner}");
                held += 1;
            }
        }
        assert_eq!(held, 4);
    }

    #[test]
    fn every_act_keeps_to_the_published_schema() {
        let schema = act();
        let by = By { who: "ada".into(), why: Some("storage was full".into()) };
        for action in Action::ALL {
            let full = Act {
                letter: Some(uuid::Uuid::nil()),
                cause: Some("rejected".into()),
                undoes: Some(uuid::Uuid::nil()),
                before: Some(parcel(Outcome::Rejected)),
                after: Some(parcel(Outcome::Rejected)),
                gate: Some(json!({ "rates": ["2/s"] })),
                ..Act::new(action, &by, Timestamp::UNIX_EPOCH)
            };
            for act in [full, Act::new(action, &by, Timestamp::UNIX_EPOCH)] {
                let json = serde_json::to_value(&act).unwrap();
                assert!(valid(&schema, &json), "{json}");
            }
        }
        assert!(!valid(&schema, &json!({ "action": "replay" })));
        let mut wrong =
            serde_json::to_value(Act::new(Action::Note, &by, Timestamp::UNIX_EPOCH)).unwrap();
        wrong["action"] = "frobnicate".into();
        assert!(!valid(&schema, &wrong));
    }
}

//! How does another program talk with Sluicegate over the broker? An AsyncAPI 3 document of the queues, exchanges,
//! streams, headers and payloads; the payloads' schemas are made from the types that are sent and read.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::headers;
use crate::broker::settings::Queues;
use crate::core::Outcome;
use crate::message::audit::Act;
use crate::message::command::{Answer, IssuedCommand, Steering};
use crate::message::result::{self, CloudEvent, Enqueued, Opened, ResultData};

/// The document for a lane with these names.
pub fn document(queues: &Queues) -> Value {
    let mut schemas = request_schemas();
    let messages = messages(&mut schemas);
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "Sluicegate",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
            "description": ABOUT,
        },
        "defaultContentType": "application/json",
        "servers": { "rabbitmq": {
            "host": "127.0.0.1:5672",
            "pathname": "/%2f",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "description": "RabbitMQ 3.10 or newer; `broker.url` of the configuration",
        } },
        "channels": channels(queues),
        "operations": operations(),
        "components": { "messages": messages, "schemas": schemas },
    })
}

const ABOUT: &str = "\
Requests to create migration tasks go in, results come out. What is here is seen from the worker: it *receives* requests \
and orders, and *sends* results, dead letters and acts. Every name begins with `queues.prefix`.";

/// What can be published to or read from.
fn channels(queues: &Queues) -> Value {
    let outcomes = Outcome::ALL.map(Outcome::as_str);
    let batch = json!({ "description": "The batch, `-` without one", "examples": ["wave-1", "-"] });
    let exchange = |name: String, kind: &str| json!({ "name": name, "type": kind, "durable": true, "autoDelete": false });
    let (results, batches) =
        (exchange(queues.results(), "topic"), exchange(queues.batches(), "topic"));
    let (control, enqueue) =
        (exchange(queues.control(), "topic"), exchange(queues.enqueue(), "direct"));
    let mut channels = json!({
        "requests": {
            "address": queues.requests(),
            "title": "Requests",
            "description": "Publish to this exchange, with the name of the queue as the routing key; it leads to that queue alone. What a request says in headers of ours that are not listed here is dropped.",
            "messages": one_of(&["request"]),
            "bindings": { "amqp": { "is": "routingKey", "exchange": enqueue } },
        },
        "requestsQueue": {
            "address": queues.requests(),
            "title": "Where requests wait",
            "description": "For workers to read. The default exchange leads here too, for whoever may write to it, and so to every queue.",
            "messages": one_of(&["request"]),
            "bindings": queue(&queues.requests()),
        },
        "results": {
            "address": "{outcome}.{batch}",
            "title": "Results, as they come",
            "description": "Bind a queue of your own to the exchange: the worker alone writes to it. What was published before is in the results' stream.",
            "parameters": {
                "outcome": { "enum": outcomes, "description": "How the request ended" },
                "batch": batch,
            },
            "messages": one_of(&["result"]),
            "bindings": { "amqp": { "is": "routingKey", "exchange": results } },
        },
        "batches": {
            "address": "batch.{batch}",
            "title": "Announcements of batches",
            "description": "An exchange of their own, for planners write to it: nothing that came through it is a result. The stream of results has both.",
            "parameters": { "batch": batch },
            "messages": one_of(&["batchOpened", "batchEnqueued"]),
            "bindings": { "amqp": { "is": "routingKey", "exchange": batches } },
        },
        "resultsLog": {
            "address": queues.results_log(),
            "title": "All results, again and again",
            "description": "A stream: any number of readers, each from wherever it wants (`x-stream-offset`). Kept for `queues.results_retention`. Believe a result only if its delivery's exchange is that of results: the broker itself writes that.",
            "messages": one_of(&["result", "batchOpened", "batchEnqueued"]),
            "bindings": queue(&queues.results_log()),
        },
        "deadLetters": {
            "address": queues.dead_letters(),
            "title": "Requests that did not end well",
            "description": "The body as it came, and why, in headers. Believe those only of a delivery whose exchange is that of the worker or of reviewers.",
            "messages": one_of(&["deadLetter"]),
            "bindings": queue(&queues.dead_letters()),
        },
        "audit": {
            "address": queues.audit(),
            "title": "Who did what to a dead letter or to the gate",
            "description": "A stream, kept for `queues.audit_retention`.",
            "messages": one_of(&["act"]),
            "bindings": queue(&queues.audit()),
        },
        "control": {
            "address": queues.control(),
            "title": "Commands to the active worker, and orders about requests that wait",
            "description": "A topic exchange. The active worker has a queue of its own there for `gate.*` (what changes the gate) and `ask.*` (questions); `batch.*` is kept in the streams of orders and of the audit, whether or not there is a worker. A body that says another command than its routing key does nothing: rights go by the key.",
            "messages": one_of(&["order", "act"]),
            "bindings": { "amqp": { "is": "routingKey", "exchange": control } },
        },
    });
    if let (Value::Object(channels), Value::Object(inside)) = (&mut channels, inside(queues)) {
        channels.extend(inside);
    }
    channels
}

/// What workers and those who steer them have among themselves.
fn inside(queues: &Queues) -> Value {
    json!({
        "orders": {
            "address": queues.orders(),
            "title": "What planners have ordered of requests that wait",
            "description": "A stream, read whole by each worker before it starts anything. Orders go to the control exchange with the key `batch.cancel`, `batch.hold`, `batch.release` or `batch.move`.",
            "messages": one_of(&["act"]),
            "bindings": queue(&queues.orders()),
        },
        "parked": {
            "address": queues.parked(),
            "title": "Requests that wait for a time or for a planner's word, beyond half of the window",
            "description": "The worker puts them there and fetches them back. Not to be published to, or read from.",
            "messages": one_of(&["request"]),
            "bindings": queue(&queues.parked()),
        },
        "answers": {
            "address": null,
            "title": "What the worker says to a command",
            "description": "Bind a queue of your own to this exchange by its name, and name it as `reply_to`.",
            "messages": one_of(&["answer"]),
            "bindings": { "amqp": { "is": "routingKey", "exchange": { "name": queues.answers(), "type": "direct", "durable": true, "autoDelete": false } } },
        },
        "gate": {
            "address": queues.gate(),
            "title": "What operators have set last",
            "description": "Its one message is read by each worker that becomes the active one. Not to be published to.",
            "messages": one_of(&["steering"]),
            "bindings": queue(&queues.gate()),
        },
        "active": {
            "address": queues.active(),
            "title": "Which worker is the active one",
            "description": "Its single active consumer: workers ask themselves into it. Not to be published to, or read from.",
            "bindings": queue(&queues.active()),
        },
        "reviewing": {
            "address": queues.reviewing(),
            "title": "Who reviews the dead letters",
            "description": "Its single active consumer: reviewers ask themselves into it. Not to be published to, or read from.",
            "bindings": queue(&queues.reviewing()),
        },
    })
}

/// The messages of a channel, by reference.
fn one_of(names: &[&str]) -> Value {
    let each = |name: &&str| {
        ((*name).to_owned(), json!({ "$ref": format!("#/components/messages/{name}") }))
    };
    Value::Object(names.iter().map(each).collect())
}

fn queue(name: &str) -> Value {
    json!({ "amqp": {
        "is": "queue",
        "queue": { "name": name, "durable": true, "exclusive": false, "autoDelete": false },
    } })
}

/// What the worker does on each channel.
fn operations() -> Value {
    let operation = |action: &str, channel: &str, summary: &str| {
        json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "summary": summary,
        })
    };
    let mut obey = operation("receive", "control", "Do what an operator wants");
    obey["reply"] = json!({
        "address": { "location": "$message.header#/reply_to", "description": "The property `reply_to`" },
        "channel": { "$ref": "#/channels/answers" },
    });
    json!({
        "submit": operation("receive", "requests", "Submit it: most urgent first, never over the quota"),
        "tell": operation("send", "results", "Publish what became of a request, before it is acknowledged"),
        "announce": operation("send", "batches", "`sluice enqueue` says how many requests are to come"),
        "keepResults": operation("send", "resultsLog", "The stream is bound to the exchange of results with `#`"),
        "deadLetter": operation("send", "deadLetters", "Keep for review what did not end well"),
        "writeDown": operation("send", "audit", "Keep who did what"),
        "obey": obey,
        "obeyOrders": operation("receive", "orders", "Cancel, hold, release or move what waits"),
        "park": operation("send", "parked", "Keep outside of the window what waits for long"),
        "keepSteering": operation("send", "gate", "Keep what operators have set, for the next active worker"),
    })
}

/// All messages; the schemas that they refer to are added to `schemas`.
fn messages(schemas: &mut Map<String, Value>) -> Value {
    let settings = SchemaSettings::draft07()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut types = settings.into_generator();
    let outcomes: Vec<_> = Outcome::ALL.iter().map(|outcome| result::kind(*outcome)).collect();
    let task = json!({ "$ref": "#/components/schemas/Task" });
    let result = event::<ResultData>(&mut types, &outcomes);
    let opened = event::<Opened>(&mut types, &[result::OPENED_TYPE.to_owned()]);
    let enqueued = event::<Enqueued>(&mut types, &[result::ENQUEUED_TYPE.to_owned()]);
    let mut answer = json(&types.subschema_for::<Answer>(), "What the worker says to a command");
    answer["correlationId"] = json!({ "location": "$message.header#/correlation_id" });
    let mut order = json(&types.subschema_for::<IssuedCommand>(), "An operator's command");
    order["correlationId"] = answer["correlationId"].clone();
    let messages = json!({
        "request": {
            "title": "A request",
            "description": "The body is the body of `POST /v3/tasks` and arrives there byte for byte. Everything else is optional. \
                Properties: `message_id` identifies the request (absent: derived from the body), `timestamp` counts as the time of \
                enqueueing where the header is absent, `priority` is the broker's coarse order only.",
            "contentType": "application/json",
            "headers": headers::request(),
            "payload": task,
        },
        "result": cloud_event("What became of a request; `message_id` is the run", &result),
        "batchOpened": cloud_event("Before the first request of a plan", &opened),
        "batchEnqueued": cloud_event("After the last request of a plan", &enqueued),
        "deadLetter": {
            "title": "A dead letter",
            "description": "The request as it came: whatever it was, so it need not be valid, or JSON.",
            "headers": headers::dead_letter(),
            "payload": {},
        },
        "act": json(&types.subschema_for::<Act>(), "What somebody did"),
        "order": order,
        "answer": answer,
        "steering": json(&types.subschema_for::<Steering>(), "What operators have set"),
    });
    schemas.extend(types.take_definitions(true));
    messages
}

fn json(payload: &schemars::Schema, title: &str) -> Value {
    json!({ "title": title, "contentType": "application/json", "payload": payload })
}

fn cloud_event(title: &str, payload: &Value) -> Value {
    json!({ "title": title, "contentType": result::CONTENT_TYPE, "payload": payload })
}

/// A CloudEvent with this data, of one of these types.
fn event<T: schemars::JsonSchema>(types: &mut SchemaGenerator, kinds: &[String]) -> Value
where
    CloudEvent<T>: schemars::JsonSchema,
{
    json!({ "allOf": [
        types.subschema_for::<CloudEvent<T>>(),
        { "properties": { "specversion": { "const": "1.0" }, "type": { "enum": kinds } } },
    ] })
}

/// The schema of a body and its parts, as `Task` and `Task.part`: within this document they are found there, not in
/// `$defs`.
fn request_schemas() -> Map<String, Value> {
    let mut root = crate::contract::schema(false);
    let mut schemas = Map::new();
    if let Some(object) = root.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(parts)) = object.remove("$defs") {
            schemas.extend(parts.into_iter().map(|(name, part)| (format!("Task.{name}"), part)));
        }
    }
    schemas.insert("Task".to_owned(), root);
    schemas.values_mut().for_each(moved);
    schemas
}

/// Lets every reference lead to where its target stands in this document.
fn moved(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(target)) = object.get_mut("$ref") {
                *target = target.replace("#/$defs/", "#/components/schemas/Task.");
            }
            object.values_mut().for_each(moved);
        }
        Value::Array(items) => items.iter_mut().for_each(moved),
        _ => {}
    }
}

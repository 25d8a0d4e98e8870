//! Is the AsyncAPI document that is shipped the one of this code, and does it leave nothing out? (What the parser of
//! AsyncAPI and a real broker say of it: [`crate::rabbit`].)

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sluicegate::broker::Version;
use sluicegate::broker::topology::{self, Object};
use sluicegate::lane::{self, Given};
use sluicegate::message::headers;

/// The document for the names of the default configuration.
pub(crate) fn document() -> (Value, sluicegate::broker::settings::Queues) {
    let given = Given { file: None, env: &BTreeMap::new(), overrides: &[], needs_api: false };
    let queues = lane::load(&given).unwrap().config.queues;
    (sluicegate::commands::schema::asyncapi::document(&queues), queues)
}

#[test]
fn the_asyncapi_document_is_of_this_code() {
    let text = format!("{:#}\n", document().0);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/asyncapi.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == text,
        "docs/asyncapi.json is of other code: run the tests with UPDATE_DOCS=1"
    );
}

#[test]
fn every_queue_exchange_and_stream_that_is_declared_is_described_as_it_is() {
    let (document, queues) = document();
    let amqp: Vec<&Value> = document["channels"]
        .as_object()
        .unwrap()
        .values()
        .map(|channel| &channel["bindings"]["amqp"])
        .collect();
    for object in topology::objects(&queues, Version::parse("4.1.0").unwrap()) {
        match object {
            Object::Queue { name, .. } => {
                assert!(amqp.iter().any(|amqp| amqp["queue"]["name"] == *name), "{name}");
            }
            Object::Exchange { name, routes } => {
                let routes = serde_json::to_value(routes).unwrap();
                let is = |amqp: &&&Value| amqp["exchange"]["name"] == *name;
                let described = amqp.iter().find(is).map(|amqp| amqp["exchange"]["type"].clone());
                // These are inner matters: nobody but the broker, the worker and reviewers publishes there.
                let inner = [queues.dlx(), queues.worker(), queues.review()];
                assert!(described == Some(routes) || inner.contains(&name), "{name}");
            }
            Object::Binding { .. } => {}
        }
    }
}

/// The texts of the constants of a module, read from its source: a list of them could be forgotten.
fn constants(source: &str) -> Vec<&str> {
    let constants = source.lines().filter(|line| line.contains("pub const "));
    let texts = constants.filter_map(|line| line.split('"').nth(1));
    texts.filter(|text| text.starts_with("x-sluice-") || text.starts_with("trace")).collect()
}

#[test]
fn every_header_is_described() {
    let (document, _) = document();
    let headers = |message: &str| {
        document["components"]["messages"][message]["headers"]["properties"].clone()
    };
    let (of_request, of_letter) = (headers("request"), headers("deadLetter"));
    let source = include_str!("../../src/message/headers.rs");
    let (request, letter) = source.split_once("// Of a dead letter").unwrap();
    let (request, letter) = (constants(request), constants(letter));
    assert!(request.contains(&headers::AGAIN) && letter.contains(&headers::HISTORY));
    assert_eq!(
        letter.len(),
        headers::OF_A_DEAD_LETTER.len() + 1,
        "and the request's id: {letter:?}"
    );
    for name in request.iter().filter(|name| **name != headers::PREFIX) {
        assert!(of_request[*name].is_object() && of_letter[*name].is_object(), "{name}");
    }
    for name in &letter {
        assert!(of_letter[*name].is_object(), "{name}");
    }
}

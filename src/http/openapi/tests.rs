//! The document against the table of routes, and its bodies against their readers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::schema::Object;
use super::{anthropic, document, ollama, openai, own};
use crate::http::ROUTES;
use crate::http::wire::fields::taken;
use crate::http::wire::{ChatAsk, CompletionAsk, EmbeddingAsk, Fields};

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            described.insert((method.to_uppercase(), path.clone()));
            assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()));
            let named = path.matches('{').count();
            let parameters = operation["parameters"].as_array().unwrap();
            let paths = parameters.iter().filter(|p| p["in"] == "path").count();
            assert_eq!(paths, named, "{path}");
        }
    }
    let routes = ROUTES.map(|(method, path, _)| (method.to_owned(), path.to_owned()));
    assert_eq!(described, BTreeSet::from(routes));
}

#[test]
fn every_name_that_is_referred_to_is_defined_and_used() {
    let document = document();
    let mut named = BTreeSet::new();
    references(&document, &mut named);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let defined: BTreeSet<String> = schemas.keys().cloned().collect();
    assert_eq!(named, defined, "used, and defined");
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get("$ref") {
                found.insert(to.rsplit('/').next().unwrap().to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The names that a reader of a body looks for, without those that it only refuses.
fn read_names(body: Value, read: impl FnOnce(Fields) -> bool) -> BTreeSet<String> {
    let Value::Object(map) = body else {
        panic!("an object");
    };
    let (good, names) = taken(|| read(Fields::of(map)));
    assert!(good, "the body is read to its end");
    names
}

#[test]
fn the_fields_of_bodies_are_those_that_are_read() {
    // Some fields are looked for only where they, or what they are about, is said.
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let chat = json!({"messages": [{"role": "user", "content": "a"}], "tools": tools, "parallel_tool_calls": true,
        "stream": true});
    let anthropic_body = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "a"}]});
    let nested = |of: &str| json!({ of: {} });
    let bodies: Vec<(&str, Object, BTreeSet<String>)> = vec![
        (
            "chat",
            openai::chat(),
            read_names(chat.clone(), |f| ChatAsk::read(f).is_ok()),
        ),
        (
            "completion",
            openai::completion(),
            read_names(json!({"prompt": "a"}), |f| CompletionAsk::read(f).is_ok()),
        ),
        (
            "embedding",
            openai::embedding(),
            read_names(json!({"input": "a", "normalize": true}), |f| {
                EmbeddingAsk::read(f).is_ok()
            }),
        ),
        (
            "response",
            openai::response(),
            read_names(
                json!({"input": "a", "store": true, "tools": [{"type": "function", "name": "f"}], "parallel_tool_calls": true}),
                crate::http::responses::reads,
            ),
        ),
        (
            "message",
            anthropic::create(),
            read_names(anthropic_body.clone(), crate::http::anthropic::reads),
        ),
        (
            "generate",
            ollama::generate(),
            read_names(
                json!({"prompt": "a", "stream": true}),
                crate::http::ollama::read::generate,
            ),
        ),
        (
            "ollama chat",
            ollama::chat(),
            read_names(chat, crate::http::ollama::read::chat),
        ),
        (
            "options",
            ollama::options(),
            read_names(nested("options"), crate::http::ollama::read::options),
        ),
    ];
    for (name, described, read) in bodies {
        let schema = described.schema();
        let mut properties: BTreeSet<String> = schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        if name == "options" {
            properties.insert("options".to_owned());
        }
        assert_eq!(properties, read, "{name}: described, and read");
    }
    assert_eq!(own::start()["additionalProperties"], json!(false));
}

//! `/openapi.json`: the routes as OpenAPI 3.1 describes them (<https://spec.openapis.org/oas/v3.1.1>), made from the
//! table that they are registered from. The fields of bodies are held against the readers by tests.

mod anthropic;
mod common;
mod ollama;
mod openai;
mod operations;
mod own;
mod schema;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentType};
use actix_web::web::Bytes;
use serde_json::{Map, Value, json};

use self::operations::{Operation, Told, operation, segment};
use self::schema::{Object, named};
use super::routes::{Needs, ROUTES};
use super::wire::Dialect;
use super::wire::fields::set;

/// The document, written once.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));

/// `GET /openapi.json`.
pub(super) async fn show() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(ContentType::json())
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(DOCUMENT.clone())
}

/// The whole of it.
fn document() -> Value {
    let mut paths = Map::new();
    for (method, path, needs) in ROUTES {
        let Some(found) = operation(method, path) else {
            continue;
        };
        let entry = paths
            .entry(path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(entry) = entry {
            entry.insert(method.to_lowercase(), described(path, needs, found));
        }
    }
    let groups = [
        common::schemas(),
        openai::schemas(),
        anthropic::schemas(),
        ollama::schemas(),
        own::schemas(),
    ];
    let schemas: Map<String, Value> = groups
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "llamahome",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A home for language models: OpenAI's, Anthropic's and Ollama's APIs on one port, and what an operator \
                asks of a daemon. docs/api.md says more of each field.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "header": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
        },
    })
}

fn described(path: &str, needs: Needs, found: Operation) -> Value {
    let dialect = Dialect::of(path);
    let mut parameters: Vec<Value> = Vec::new();
    for name in path.split('/') {
        let name = name.strip_prefix('{').and_then(|n| n.strip_suffix('}'));
        if let Some(name) = name {
            let (schema, about) = segment(name);
            parameters.push(
                json!({ "name": name, "in": "path", "required": true, "schema": schema,
                "description": about }),
            );
        }
    }
    for (name, schema, about) in found.query {
        parameters
            .push(json!({ "name": name, "in": "query", "schema": schema, "description": about }));
    }
    let error = match dialect {
        Dialect::OpenAi => "Error",
        Dialect::Anthropic => "AnthropicError",
        Dialect::Ollama => "OllamaError",
    };
    let failed = |about: &str| json!({ "description": about, "content": { "application/json": { "schema": named(error) } } });
    let mut responses = Map::new();
    let mut told = json!({ "description": found.summary });
    if let Some(content) = content(found.told) {
        set(&mut told, "content", content);
    }
    responses.insert(found.status.to_owned(), told);
    if !matches!(found.told, Told::Nothing) || found.body.is_some() {
        responses.insert(
            "4XX".to_owned(),
            failed("The request is at fault, or too many are made."),
        );
        let about = "The server is: it is busy, stops, or lost the work.";
        responses.insert("5XX".to_owned(), failed(about));
    }
    let mut described = json!({
        "summary": found.summary,
        "tags": [found.group],
        "parameters": parameters,
        "responses": responses,
        "security": security(needs),
    });
    if needs == Needs::Manage {
        let about = "Needs a key of the scope `manage`.";
        set(&mut described, "description", about);
    }
    if let Some(body) = found.body {
        let body = json!({
            "required": true,
            "content": { "application/json": { "schema": named(body) } },
        });
        set(&mut described, "requestBody", body);
    }
    described
}

fn security(needs: Needs) -> Value {
    match needs {
        Needs::Open => json!([]),
        Needs::Use | Needs::Manage => json!([{ "bearer": [] }, { "header": [] }]),
    }
}

fn content(told: Told) -> Option<Value> {
    let json = |name: &str| json!({ "application/json": { "schema": named(name) } });
    let text = json!({ "schema": { "type": "string" } });
    let event = Object::new()
        .must("data", schema::text(), "a line of JSON, or [DONE]")
        .may("event", schema::text(), "its kind");
    let events = json!({ "schema": event.schema() });
    let with = |name: &str, kind: &str, each: &Value| {
        let mut content = json(name);
        set(&mut content, kind, each.clone());
        content
    };
    Some(match told {
        Told::Json(name) => json(name),
        Told::JsonOrEvents(name) => with(name, "text/event-stream", &events),
        Told::JsonOrLines(name) => with(name, "application/x-ndjson", &text),
        Told::Events => json!({ "text/event-stream": events }),
        Told::Text => json!({ "text/plain": text }),
        Told::File => {
            json!({ "text/html": text, "text/plain": text, "text/javascript": text, "text/css": text,
            "image/svg+xml": text })
        }
        Told::Nothing => return None,
    })
}

#[cfg(test)]
mod tests;

//! What is ours alone: models' states, sessions, runs, evaluations, the monitor.

use serde_json::{Value, json};

use super::common::listing;
use super::openai::deleted;
use super::schema::{Object, all, count, flag, map, measure, named, one_of, or_null, text};

/// The shapes, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Model", model()),
        ("Models", listing(named("Model"))),
        ("ModelState", state()),
        ("ModelStates", listing(named("ModelState"))),
        ("Session", session()),
        ("Sessions", listing(map())),
        ("SessionDeleted", deleted("session.deleted", "name")),
        ("SessionKv", picture()),
        ("ForkRequest", fork()),
        ("Run", run()),
        ("Runs", listing(map())),
        ("RunLog", log()),
        ("RunRequest", start()),
        ("Evaluations", listing(map())),
        (
            "Config",
            Object::new()
                .must("object", one_of(&["config"]), "")
                .must("settings", map(), "by section.key: value, origin, live")
                .must("waiting_for_restart", all(map()), "key, old, new")
                .schema(),
        ),
        (
            "Trace",
            Object::new().must("traceEvents", all(map()), "").schema(),
        ),
        ("Monitor", monitor()),
        ("Health", Object::new().must("status", text(), "").schema()),
    ]
}

fn model() -> Value {
    Object::new()
        .must("id", text(), "")
        .must("object", one_of(&["model"]), "")
        .must("created", count(), "")
        .must("owned_by", text(), "")
        .must(
            "state",
            text(),
            "unloaded, loading, loaded, sleeping or failed",
        )
        .may("max_model_len", count(), "its context, once it is loaded")
        .may("fraction", measure(), "how much of it was read")
        .must("replicas", count(), "")
        .schema()
}

fn state() -> Value {
    Object::new()
        .must("name", text(), "")
        .must("state", text(), "")
        .schema()
}

fn session() -> Value {
    Object::new()
        .must("name", text(), "")
        .must("object", text(), "")
        .must("place", text(), "memory, disk or saved")
        .must("bytes", count(), "")
        .schema()
}

fn picture() -> Value {
    Object::new()
        .must("object", text(), "")
        .must("name", text(), "")
        .must("policy", text(), "")
        .must("tokens_seen", count(), "")
        .must("tokens_kept", measure(), "")
        .must("ids", all(count()), "")
        .must("kept", all(measure()), "")
        .may("scores", all(measure()), "")
        .schema()
}

fn fork() -> Value {
    Object::new()
        .must("to", super::common::session(), "the name of the copy")
        .schema()
}

fn run() -> Value {
    Object::new()
        .must("id", text(), "")
        .must("name", text(), "")
        .must("stage", text(), "")
        .must("status", text(), "")
        .must("here", flag(), "whether this process is at it")
        .schema()
}

fn log() -> Value {
    Object::new()
        .must("data", all(map()), "")
        .must("has_more", flag(), "")
        .schema()
}

/// The body of `POST /v1/runs`.
pub(super) fn start() -> Value {
    let value = json!({ "type": ["string", "number", "boolean", "array", "null"] });
    let set = json!({ "type": "object", "additionalProperties": value });
    Object::new()
        .must("recipe", text(), "the name of a recipe, or one as TOML")
        .may("set", set, "keys that override it")
        .rule("additionalProperties", false.into())
        .schema()
}

fn monitor() -> Value {
    Object::new()
        .must("machine", or_null(map()), "")
        .must("kv", map(), "")
        .must("models", all(map()), "")
        .schema()
}

//! Ollama's API.

use serde_json::{Value, json};

use super::common::{
    chat_logprobs, drawing, keep_alive, kept, stops, texts, tools, top_k, turn, urgency,
};
use super::schema::{
    Object, above_zero, all, any_of, at_least, count, flag, list, map, measure, named, number,
    one_of, text, unsaid, unsaid_or, whole,
};
use crate::http::wire::limits::{MAX_INPUTS, MAX_MESSAGES};

/// The shapes, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let models = Object::new().must("models", all(map()), "");
    vec![
        ("OllamaOptions", options().schema()),
        ("OllamaMessage", message()),
        ("GenerateRequest", generate().schema()),
        ("OllamaChatRequest", chat().schema()),
        ("EmbedRequest", embed().schema()),
        ("EmbedOneRequest", embed_one().schema()),
        (
            "ShowRequest",
            named_model().may("verbose", flag(), "").schema(),
        ),
        (
            "PullRequest",
            named_model()
                .may(
                    "stream",
                    flag(),
                    "progress as lines of JSON (it is if left out)",
                )
                .schema(),
        ),
        ("DeleteRequest", named_model().schema()),
        ("CopyRequest", copy()),
        ("Generated", answer().must("response", text(), "").schema()),
        ("OllamaAnswer", answer().must("message", map(), "").schema()),
        ("Embedded", embedded()),
        (
            "EmbeddedOne",
            Object::new().must("embedding", all(measure()), "").schema(),
        ),
        ("OllamaModels", models.schema()),
        ("Shown", shown()),
        ("Status", Object::new().must("status", text(), "").schema()),
        (
            "Version",
            Object::new().must("version", text(), "").schema(),
        ),
    ]
}

/// `model`, or `name`, as it was called before; one of them.
fn named_model() -> Object {
    let either = |name: &str| json!({ "required": [name], "properties": { name: { "type": "string", "minLength": 1 } } });
    either_model().rule("anyOf", json!([either("model"), either("name")]))
}

fn either_model() -> Object {
    Object::new()
        .may("model", text(), "a name of GET /api/tags")
        .may("name", text(), "the same, as it was called before")
}

/// What `options` may say.
pub(super) fn options() -> Object {
    drawing()
        .may("top_k", top_k(), "")
        .may("min_p", number(0.0, 1.0), "")
        .may("repeat_penalty", above_zero(2.0), "")
        .may("presence_penalty", number(-2.0, 2.0), "")
        .may("frequency_penalty", number(-2.0, 2.0), "")
        .may(
            "repeat_last_n",
            whole(-1, 1 << 16),
            "how many tokens a penalty looks back; -1 for all",
        )
        .may(
            "stop",
            any_of([text(), stops()]),
            "texts that end an answer",
        )
        .may(
            "num_predict",
            any_of([at_least(1), whole(-2, -1)]),
            "the longest answer; -1 for what the context leaves",
        )
        .may(
            "num_ctx",
            at_least(1),
            "tokens that prompt and answer may have",
        )
}

fn message() -> Value {
    Object::new()
        .must(
            "role",
            one_of(&["system", "developer", "user", "assistant", "tool"]),
            "",
        )
        .may("content", text(), "")
        .may("thinking", text(), "")
        .may("tool_name", text(), "")
        .may("tool_calls", all(map()), "calls that were made")
        .schema()
}

fn shared() -> Object {
    let format = any_of([map(), json!({ "type": "string", "enum": ["json", ""] })]);
    either_model()
        .and(kept())
        .and(urgency())
        .and(turn())
        .and(chat_logprobs())
        .may(
            "stream",
            flag(),
            "lines of JSON as they come (they do if left out)",
        )
        .may(
            "options",
            named("OllamaOptions"),
            "how tokens are drawn, and how many",
        )
        .may("think", flag(), "whether it thinks before it answers")
        .may(
            "format",
            format,
            "what the answer keeps to: \"json\" or a schema",
        )
        .either(
            unsaid("session"),
            json!({ "properties": { "options": unsaid("num_ctx") } }),
        )
}

/// The body of `/api/generate`.
pub(super) fn generate() -> Object {
    shared()
        .may("prompt", text(), "none loads the model")
        .may("system", text(), "not with raw")
        .may("raw", flag(), "the prompt as it is, without the template")
        .either(unsaid_or("raw", false), unsaid_or("system", ""))
}

/// The body of `/api/chat`.
pub(super) fn chat() -> Object {
    shared().and(tools()).may(
        "messages",
        list(named("OllamaMessage"), 0, MAX_MESSAGES),
        "none loads the model",
    )
}

fn embedding() -> Object {
    either_model()
        .may(
            "dimensions",
            at_least(0),
            "refused unless it is what the model has",
        )
        .may("keep_alive", keep_alive(), "")
}

/// The body of `/api/embed`.
pub(super) fn embed() -> Object {
    embedding().must("input", texts(MAX_INPUTS), "a text, or several")
}

/// The body of `/api/embeddings`.
pub(super) fn embed_one() -> Object {
    embedding().must("prompt", json!({ "type": "string", "minLength": 1 }), "")
}

fn copy() -> Value {
    let name = json!({ "type": "string", "minLength": 1 });
    Object::new()
        .must("source", name.clone(), "")
        .must("destination", name, "")
        .schema()
}

fn answer() -> Object {
    Object::new()
        .must("model", text(), "")
        .must("created_at", text(), "")
        .must("done", flag(), "")
        .may("done_reason", text(), "")
}

fn embedded() -> Value {
    Object::new()
        .must("model", text(), "")
        .must("embeddings", all(all(measure())), "")
        .must("prompt_eval_count", count(), "")
        .schema()
}

fn shown() -> Value {
    Object::new()
        .must("details", map(), "")
        .must("model_info", map(), "")
        .schema()
}

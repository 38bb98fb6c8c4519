//! What several APIs read and tell alike.

use serde_json::{Value, json};

use super::schema::{
    Object, above_zero, all, any_of, at_least, count, flag, integer, list, map, measure, named,
    number, one_of, or_null, text, whole,
};
use crate::http::wire::fields::set;
use crate::http::wire::limits::{MAX_CHOICES, MAX_TOOLS, MAX_TOP};
use crate::kv::PolicyKind;
use crate::sample::MAX_STOPS;

/// The largest number that all readers of JSON agree on.
pub(super) const MOST: i64 = (1 << 53) - 1;
/// The largest token id.
const MAX_ID: i64 = u32::MAX as i64;

/// Token ids.
pub(super) fn ids() -> Value {
    list(whole(0, MAX_ID), 1, MOST as usize)
}

/// A text, ids, or several of either.
pub(super) fn prompts(most: usize) -> Value {
    any_of([text(), ids(), list(text(), 1, most), list(ids(), 1, most)])
}

/// Texts that are not empty, or their ids.
pub(super) fn texts(most: usize) -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    any_of([
        text.clone(),
        ids(),
        list(text, 1, most),
        list(ids(), 1, most),
    ])
}

/// How a cache is bounded.
pub(super) fn kv() -> Value {
    let policies: Vec<&str> = PolicyKind::ALL.iter().map(|kind| kind.name()).collect();
    let span = list(whole(0, MAX_ID), 2, 2);
    let budget = any_of([
        whole(1, MAX_ID),
        json!({ "type": "string", "pattern": "^([1-9][0-9]?|100)%$" }),
        json!({ "type": "string", "pattern": "^[1-9][0-9]{0,3}(KiB|MiB|GiB)$" }),
    ]);
    let fields = Object::new()
        .may("policy", one_of(&policies), "which positions are kept")
        .may(
            "budget",
            budget,
            "how many: tokens, a share of the context, or bytes",
        )
        .may(
            "heavy",
            whole(0, MAX_ID),
            "of those, how many by score or from the start",
        )
        .may(
            "recent",
            whole(0, MAX_ID),
            "of those, how many of the newest",
        )
        .may(
            "prefill",
            one_of(&["exact", "streaming"]),
            "how the prompt is read",
        )
        .may(
            "beyond_context",
            flag(),
            "whether the text may run past the model's context",
        )
        .may(
            "spill",
            one_of(&["off", "memory", "disk"]),
            "what becomes of evicted tokens",
        )
        .may(
            "recall",
            whole(0, MAX_ID),
            "how many of them a new turn may recall",
        );
    let mut schema = fields.rule("additionalProperties", false.into()).schema();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        // The one field of it that is a list when it is left out, and so is never null.
        let mut pins = all(span);
        let about = "spans [start, end) of positions that are never evicted";
        set(&mut pins, "description", about);
        properties.insert("pins".to_owned(), pins);
    }
    schema
}

/// `keep_alive`: seconds, or a length of time such as "5m".
pub(super) fn keep_alive() -> Value {
    any_of([measure(), text()])
}

/// The class of a request, and how soon it is wanted.
pub(super) fn urgency() -> Object {
    Object::new()
        .may(
            "priority",
            whole(i32::MIN.into(), i32::MAX.into()),
            "lower runs first",
        )
        .may(
            "deadline_ms",
            at_least(1),
            "how soon the first token is wanted",
        )
}

/// The cache of a request, and how long its model is kept.
pub(super) fn kept() -> Object {
    Object::new()
        .may(
            "kv",
            named("KvChoice"),
            "how this request's cache is bounded",
        )
        .may(
            "keep_alive",
            keep_alive(),
            "how long the model is kept after the answer",
        )
}

/// The same, and which model.
pub(super) fn model_and_kept() -> Object {
    kept().may(
        "model",
        text(),
        "a name of GET /v1/models; the default one if left out",
    )
}

/// A text, or parts of text.
pub(super) fn words() -> Value {
    let part = Object::new()
        .must("type", one_of(&["text"]), "")
        .must("text", text(), "");
    any_of([text(), all(part.schema())])
}

/// Texts that end an answer.
pub(super) fn stops() -> Value {
    list(text(), 0, MAX_STOPS)
}

/// How many tokens are drawn from.
pub(super) fn top_k() -> Value {
    whole(-1, u32::MAX.into())
}

/// The name of a function.
pub(super) fn function_name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:/-]{1,64}$" })
}

/// `name` is about tools, of which there has to be one.
pub(super) fn needs_tools(fields: Object, name: &str) -> Object {
    let some = json!({ "type": "array", "minItems": 1 });
    fields.needs(name, "tools", some)
}

/// Functions that a chat may call, as OpenAI and Ollama say it.
pub(super) fn tools() -> Object {
    let fields = Object::new()
        .may(
            "tools",
            list(named("Tool"), 0, MAX_TOOLS),
            "functions that may be called",
        )
        .may(
            "tool_choice",
            named("ToolChoice"),
            "which of them; needs tools",
        )
        .may(
            "parallel_tool_calls",
            flag(),
            "whether several may be called at once; needs tools",
        );
    needs_tools(needs_tools(fields, "tool_choice"), "parallel_tool_calls")
}

/// Log-probabilities of a chat's tokens.
pub(super) fn chat_logprobs() -> Object {
    Object::new()
        .may("logprobs", flag(), "whether log-probabilities are told")
        .may(
            "top_logprobs",
            alternatives(),
            "of how many alternatives; needs logprobs",
        )
        .needs("top_logprobs", "logprobs", json!({ "const": true }))
}

/// The conversation that a request is a turn of.
pub(super) fn turn() -> Object {
    Object::new().may(
        "session",
        session(),
        "the conversation that this is a turn of",
    )
}

/// The name of a session.
pub(super) fn session() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
}

/// What all of OpenAI's ways of drawing have.
pub(super) fn drawing() -> Object {
    Object::new()
        .may(
            "temperature",
            number(0.0, 2.0),
            "0 takes the most probable token",
        )
        .may(
            "top_p",
            above_zero(1.0),
            "the share of probability that is drawn from",
        )
        .may("seed", integer(), "fixes the draws")
}

/// Bounds of `n`.
pub(super) fn choices() -> Value {
    whole(1, MAX_CHOICES as i64)
}

/// Bounds of the number of alternatives.
pub(super) fn alternatives() -> Value {
    whole(0, MAX_TOP as i64)
}

/// What became of a cache.
pub(super) fn kv_report() -> Value {
    let counts = [
        "tokens_seen",
        "evicted",
        "pinned",
        "recalled",
        "rebased",
        "bytes",
        "peak_bytes",
        "shared_bytes",
        "spilled_bytes",
    ];
    let fields = Object::new().must("policy", text(), "").must(
        "tokens_kept",
        measure(),
        "positions that a head holds",
    );
    let fields = counts
        .iter()
        .fold(fields, |fields, name| fields.must(name, count(), ""));
    fields.may("budget", count(), "").schema()
}

/// How long it took.
pub(super) fn timings() -> Value {
    ["queue_ms", "first_token_ms", "total_ms"]
        .iter()
        .fold(Object::new(), |fields, name| {
            fields.may(name, measure(), "")
        })
        .schema()
}

/// A list of things, as OpenAI has it.
pub(super) fn listing(items: Value) -> Value {
    Object::new()
        .must("object", one_of(&["list"]), "")
        .must("data", all(items), "")
        .schema()
}

/// What is shared, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let error = Object::new()
        .must("message", text(), "what, where, and what to do next")
        .must("type", text(), "")
        .must("param", or_null(text()), "the field at fault")
        .must("code", text(), "a stable name: docs/api.md lists them");
    let openai = Object::new().must("error", error.schema(), "");
    let ollama = Object::new()
        .must("error", text(), "what, where, and what to do next")
        .must("code", text(), "")
        .must("param", or_null(text()), "");
    let inside = Object::new()
        .must("type", text(), "")
        .must("message", text(), "");
    let anthropic =
        Object::new()
            .must("type", one_of(&["error"]), "")
            .must("error", inside.schema(), "");
    vec![
        ("Error", openai.schema()),
        ("OllamaError", ollama.schema()),
        ("AnthropicError", anthropic.schema()),
        ("KvChoice", kv()),
        ("KvReport", kv_report()),
        ("Timings", timings()),
        ("Anything", map()),
    ]
}

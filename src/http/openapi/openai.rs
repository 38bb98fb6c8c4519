//! OpenAI's APIs.

use serde_json::{Value, json};

use super::common::{
    alternatives, chat_logprobs, choices, drawing, function_name, ids, model_and_kept, needs_tools,
    prompts, stops, texts, tools, top_k, turn, urgency, words,
};
use super::schema::{
    Object, above_zero, all, any_of, at_least, count, flag, list, map, named, number, one_of,
    or_null, text, unsaid, unsaid_or,
};
use crate::http::wire::fields::set;
use crate::http::wire::limits::{MAX_CHOICES, MAX_INPUTS, MAX_MESSAGES, MAX_TOOLS};

/// The shapes, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("ChatMessage", message()),
        ("ResponseFormat", response_format()),
        ("StructuredOutputs", structured_outputs()),
        ("Tool", tool()),
        ("ToolChoice", tool_choice()),
        ("ChatRequest", chat().schema()),
        ("CompletionRequest", completion().schema()),
        ("EmbeddingRequest", embedding().schema()),
        ("ResponseRequest", response().schema()),
        ("TokenizeRequest", tokenize()),
        ("DetokenizeRequest", detokenize()),
        ("Usage", usage()),
        (
            "ChatCompletion",
            answer("chat.completion", "message", map()),
        ),
        ("TextCompletion", answer("text_completion", "text", text())),
        ("Embeddings", embeddings()),
        ("Response", response_told()),
        ("ResponseDeleted", deleted("response", "id")),
        ("Tokens", tokens()),
        ("Text", told_text()),
    ]
}

fn name() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" })
}

fn message() -> Value {
    let roles = ["system", "developer", "user", "assistant", "tool"];
    // Arguments that are null are no object.
    let arguments = any_of([map(), json!({ "type": "string", "pattern": "^\\{\\}$" })]);
    let function = Object::new()
        .must("name", text(), "")
        .can("arguments", arguments, "an object, or one in a string")
        .schema();
    let call = Object::new().must("function", function, "");
    Object::new()
        .must("role", one_of(&roles), "")
        .may("content", words(), "")
        .may("name", text(), "")
        .may(
            "tool_call_id",
            text(),
            "the call that this is the outcome of",
        )
        .may("tool_calls", all(call.schema()), "calls that were made")
        .may("reasoning_content", text(), "thoughts of an answer")
        .schema()
}

fn response_format() -> Value {
    let only = |object: Object| object.rule("additionalProperties", false.into()).schema();
    let schema = Object::new()
        .must("name", name(), "")
        .may("description", text(), "")
        .may("strict", flag(), "a schema is kept to in any case")
        .must(
            "schema",
            map(),
            "what the answer keeps to; what cannot be kept to is refused",
        );
    any_of([
        only(Object::new().must("type", one_of(&["text", "json_object"]), "")),
        only(
            Object::new()
                .must("type", one_of(&["json_schema"]), "")
                .must("json_schema", only(schema), ""),
        ),
    ])
}

fn structured_outputs() -> Value {
    Object::new()
        .may("json", any_of([map(), text()]), "a schema")
        .may("json_object", flag(), "any object")
        .may("regex", text(), "a pattern")
        .may(
            "choice",
            list(text(), 1, crate::sample::MAX_CHOICES),
            "one of these texts",
        )
        .may("grammar", text(), "in Lark's notation")
        .rule("additionalProperties", false.into())
        .schema()
}

fn tool() -> Value {
    let function = Object::new()
        .must("name", function_name(), "")
        .may("description", text(), "")
        .may("parameters", map(), "the schema of its arguments")
        .may("strict", flag(), "")
        .rule("additionalProperties", false.into());
    Object::new()
        .must("type", one_of(&["function"]), "")
        .must("function", function.schema(), "")
        .schema()
}

fn tool_choice() -> Value {
    let function = Object::new().must("name", text(), "");
    any_of([
        one_of(&["auto", "none", "required"]),
        Object::new()
            .must("type", one_of(&["function"]), "")
            .must("function", function.schema(), "one of the tools")
            .schema(),
    ])
}

/// What chats and completions read alike.
fn shared() -> Object {
    let stream = Object::new().may(
        "include_usage",
        flag(),
        "whether a last chunk has the counts",
    );
    model_and_kept()
        .and(drawing())
        .and(urgency())
        .and(turn())
        .may("max_tokens", at_least(0), "the longest answer")
        .may(
            "max_completion_tokens",
            at_least(0),
            "the same by its newer name",
        )
        .may("user", text(), "taken and not used")
        .may("n", choices(), "choices of each prompt; 1 in a session")
        .may(
            "stop",
            any_of([text(), stops()]),
            "texts that end an answer",
        )
        .may(
            "top_k",
            top_k(),
            "how many tokens are drawn from; 0 or -1 for all",
        )
        .may(
            "min_p",
            number(0.0, 1.0),
            "the least probability, as a share of the best token's",
        )
        .may("repetition_penalty", above_zero(2.0), "")
        .may("presence_penalty", number(-2.0, 2.0), "")
        .may("frequency_penalty", number(-2.0, 2.0), "")
        .may(
            "logit_bias",
            biases(),
            "token ids, and what is added to their logits",
        )
        .may("ignore_eos", flag(), "go on after an end-of-text token")
        .may(
            "stream",
            flag(),
            "the answer in pieces, as server-sent events",
        )
        .may("stream_options", stream.schema(), "of streams only")
        .may(
            "return_token_ids",
            flag(),
            "whether ids are told beside text",
        )
        .may(
            "response_format",
            named("ResponseFormat"),
            "what the answer keeps to",
        )
        .may(
            "structured_outputs",
            named("StructuredOutputs"),
            "the same, as vLLM says it",
        )
        .may("guided_json", any_of([map(), text()]), "an older name")
        .may("guided_regex", text(), "an older name")
        .may(
            "guided_choice",
            list(text(), 1, crate::sample::MAX_CHOICES),
            "an older name",
        )
        .may("guided_grammar", text(), "an older name")
        .needs("stream_options", "stream", json!({ "const": true }))
        .either(unsaid("session"), unsaid_or("n", 1))
}

fn biases() -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": "^(0|[1-9][0-9]{0,8})$" },
        "additionalProperties": { "type": "number", "minimum": -100, "maximum": 100 }, "maxProperties": 300 })
}

/// The body of `/v1/chat/completions`.
pub(super) fn chat() -> Object {
    shared()
        .must(
            "messages",
            list(named("ChatMessage"), 1, MAX_MESSAGES),
            "what was said, the newest last",
        )
        .and(chat_logprobs())
        .may(
            "chat_template_kwargs",
            map(),
            "what the template is told beside",
        )
        .and(tools())
}

/// The body of `/v1/completions`.
pub(super) fn completion() -> Object {
    // One text: several, and choices of each, may be 8 together.
    let one = json!({ "properties": { "prompt": any_of([text(), ids()]) } });
    shared()
        .must(
            "prompt",
            prompts(MAX_CHOICES),
            "texts to go on with, or their ids",
        )
        .may(
            "logprobs",
            alternatives(),
            "of how many alternatives log-probabilities are told",
        )
        .may(
            "echo",
            flag(),
            "whether the prompt is told before its answer",
        )
        .either(unsaid("session"), unsaid_or("echo", false))
        .either(one.clone(), unsaid_or("n", 1))
        .either(one, unsaid("session"))
}

/// The body of `/v1/embeddings`.
pub(super) fn embedding() -> Object {
    Object::new()
        .may("model", text(), "the default one if left out")
        .must("input", texts(MAX_INPUTS), "texts, or their ids")
        .may("encoding_format", one_of(&["float", "base64"]), "")
        .may(
            "dimensions",
            at_least(0),
            "refused unless it is what the model has",
        )
        .may("pooling", one_of(&["mean", "last"]), "")
        .may(
            "normalize",
            flag(),
            "whether vectors have length 1 (they do if left out)",
        )
        .may("user", text(), "taken and not used")
}

/// The body of `/v1/responses`.
pub(super) fn response() -> Object {
    let item = map();
    let input = any_of([text(), list(item, 1, MAX_MESSAGES)]);
    let format = any_of([
        Object::new()
            .must("type", one_of(&["text", "json_object"]), "")
            .schema(),
        Object::new()
            .must("type", one_of(&["json_schema"]), "")
            .must("name", name(), "")
            .must("schema", map(), "")
            .schema(),
    ]);
    let text_of = Object::new()
        .may("format", format, "")
        .rule("additionalProperties", false.into());
    let fields = model_and_kept()
        .and(drawing())
        .and(urgency())
        .must("input", input, "a text of the user, or items")
        .may("instructions", text(), "what the operator says")
        .may(
            "previous_response_id",
            text(),
            "the response that it goes on from",
        )
        .may(
            "store",
            flag(),
            "whether others may go on from it (they may if left out)",
        )
        .may("max_output_tokens", at_least(1), "the longest answer")
        .may(
            "stream",
            flag(),
            "the answer in pieces, as server-sent events",
        )
        .may("stream_options", map(), "")
        .may("text", text_of.schema(), "what the answer keeps to")
        .may(
            "tools",
            list(map(), 0, MAX_TOOLS),
            "functions that may be called",
        )
        .may("tool_choice", any_of([text(), map()]), "which of them")
        .may("parallel_tool_calls", flag(), "")
        .may("metadata", map(), "repeated in the answer")
        .may("user", text(), "taken and not used")
        .may("safety_identifier", text(), "taken and not used")
        .may("prompt_cache_key", text(), "taken and not used");
    needs_tools(needs_tools(fields, "tool_choice"), "parallel_tool_calls")
}

fn tokenize() -> Value {
    Object::new()
        .may("model", text(), "")
        .may("prompt", text(), "the text")
        .may("content", text(), "the same by another name")
        .rule(
            "anyOf",
            json!([
            {"required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
            {"required": ["content"], "properties": {"content": {"type": "string"}}}]),
        )
        .schema()
}

fn detokenize() -> Value {
    let mut ids = ids();
    set(&mut ids, "minItems", 0);
    Object::new()
        .may("model", text(), "")
        .must("tokens", ids, "ids, below the size of the vocabulary")
        .schema()
}

fn usage() -> Value {
    Object::new()
        .must("prompt_tokens", count(), "")
        .must("completion_tokens", count(), "")
        .must("total_tokens", count(), "")
        .schema()
}

fn answer(object: &str, said: &str, kind: Value) -> Value {
    let choice = Object::new()
        .must("index", count(), "")
        .must(
            "finish_reason",
            or_null(one_of(&["stop", "length", "tool_calls"])),
            "",
        )
        .must(said, kind, "");
    Object::new()
        .must("id", text(), "")
        .must("object", one_of(&[object]), "")
        .must("created", count(), "seconds since 1970")
        .must("model", text(), "")
        .must("choices", all(choice.schema()), "")
        .must("usage", named("Usage"), "")
        .may("kv", named("KvReport"), "what was kept of the cache")
        .may("timings", named("Timings"), "")
        .schema()
}

fn embeddings() -> Value {
    let vector = Object::new()
        .must("object", one_of(&["embedding"]), "")
        .must("index", count(), "")
        .must(
            "embedding",
            any_of([all(json!({"type": "number"})), text()]),
            "",
        );
    Object::new()
        .must("object", one_of(&["list"]), "")
        .must("data", all(vector.schema()), "")
        .must("model", text(), "")
        .must("usage", map(), "")
        .schema()
}

fn response_told() -> Value {
    Object::new()
        .must("id", text(), "")
        .must("object", one_of(&["response"]), "")
        .must(
            "status",
            one_of(&["completed", "incomplete", "failed", "in_progress"]),
            "",
        )
        .must("model", text(), "")
        .must("output", all(map()), "")
        .schema()
}

/// What a deletion is answered with.
pub(super) fn deleted(object: &str, name: &str) -> Value {
    Object::new()
        .must(name, text(), "")
        .must("object", one_of(&[object]), "")
        .must("deleted", flag(), "")
        .schema()
}

fn tokens() -> Value {
    Object::new()
        .must("count", count(), "")
        .must("max_model_len", count(), "")
        .must("tokens", all(count()), "")
        .schema()
}

fn told_text() -> Value {
    Object::new()
        .must("prompt", text(), "")
        .must("content", text(), "")
        .schema()
}

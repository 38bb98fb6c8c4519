//! Anthropic's API.

use serde_json::Value;

use super::common::{
    drawing, function_name, model_and_kept, needs_tools, stops, top_k, turn, urgency, words,
};
use super::schema::{Object, all, at_least, count, flag, list, map, named, one_of, or_null, text};
use crate::http::wire::limits::{MAX_MESSAGES, MAX_TOOLS};

/// The shapes, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let counted = Object::new().must("input_tokens", count(), "");
    vec![
        ("AnthropicTool", tool()),
        ("AnthropicMessage", message()),
        ("MessagesRequest", create().schema()),
        ("CountRequest", talk().schema()),
        ("Message", told()),
        ("Counted", counted.schema()),
    ]
}

fn message() -> Value {
    Object::new()
        .must(
            "role",
            one_of(&["user", "assistant"]),
            "the last one is the user's",
        )
        .must(
            "content",
            words(),
            "a text, or blocks: text, thinking, tool_use and tool_result",
        )
        .schema()
}

fn tool() -> Value {
    Object::new()
        .may("type", one_of(&["custom"]), "")
        .must("name", function_name(), "")
        .may("description", text(), "")
        .must("input_schema", map(), "")
        .schema()
}

/// What both routes read.
pub(super) fn talk() -> Object {
    let choice = Object::new()
        .must("type", one_of(&["auto", "any", "none", "tool"]), "")
        .may("name", text(), "of the tool")
        .may("disable_parallel_tool_use", flag(), "");
    let thinking = Object::new().must("type", one_of(&["adaptive", "disabled"]), "");
    let fields = Object::new()
        .may(
            "model",
            text(),
            "a name of GET /v1/models; the default one if left out",
        )
        .must(
            "messages",
            list(named("AnthropicMessage"), 1, MAX_MESSAGES),
            "what was said",
        )
        .may("system", words(), "what the operator says")
        .may(
            "tools",
            list(named("AnthropicTool"), 0, MAX_TOOLS),
            "functions that may be called",
        )
        .may(
            "tool_choice",
            choice.schema(),
            "whether and which of them; needs tools",
        )
        .may(
            "thinking",
            thinking.schema(),
            "whether it thinks before it answers",
        );
    needs_tools(fields, "tool_choice")
}

/// The body of `/v1/messages`.
pub(super) fn create() -> Object {
    let format = Object::new()
        .must("type", one_of(&["json_schema"]), "")
        .must("schema", map(), "");
    let config = Object::new()
        .may("format", format.schema(), "")
        .rule("additionalProperties", false.into());
    talk()
        .and(model_and_kept())
        .and(drawing())
        .and(urgency())
        .and(turn())
        .must("max_tokens", at_least(1), "the longest answer")
        .may("stop_sequences", stops(), "texts that end an answer")
        .may(
            "stream",
            flag(),
            "the answer in pieces, as server-sent events",
        )
        .may("top_k", top_k(), "")
        .may("output_config", config.schema(), "what the answer keeps to")
        .may("metadata", map(), "taken and not used")
}

fn told() -> Value {
    let ends = ["end_turn", "max_tokens", "stop_sequence", "tool_use"];
    Object::new()
        .must("id", text(), "")
        .must("type", one_of(&["message"]), "")
        .must("role", one_of(&["assistant"]), "")
        .must("model", text(), "")
        .must("content", all(map()), "")
        .must("stop_reason", or_null(one_of(&ends)), "")
        .must("usage", map(), "")
        .schema()
}

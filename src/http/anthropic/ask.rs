//! The bodies of `/v1/messages` and `/v1/messages/count_tokens`.

use serde_json::Value;

use super::{talk, tools};
use crate::http::wire::common::{
    deadline, keep_alive, kv, priority, refuse_template, seed, session,
};
use crate::http::wire::fields::{strings, wrong};
use crate::http::wire::{ApiError, Fields, Format, Shared};
use crate::sample::RawSampling;
use crate::text::Message;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An answer.
    Answer,
    /// How many tokens the prompt has.
    Count,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) messages: Vec<Message>,
    /// Whether it is to think before it answers; as the model does by itself if absent.
    pub(super) think: Option<bool>,
    /// What has the same meaning in the other APIs.
    pub(super) shared: Shared,
}

impl Ask {
    /// Reads a body; also says which fields nobody knows.
    pub(super) fn read(
        purpose: Purpose,
        mut fields: Fields,
    ) -> Result<(Self, Vec<String>), ApiError> {
        refuse_template(&mut fields)?;
        let hint = "use /v1/chat/completions";
        fields.refuse("chat_template_kwargs", hint, |_| false)?;
        let mut shared = Shared {
            model: fields.string("model")?,
            n: 1,
            tools: tools::read(&mut fields)?,
            ..Shared::default()
        };
        let think = thinking(&mut fields)?;
        let messages = talk::read(&mut fields)?;
        if purpose == Purpose::Answer {
            let wanted = fields.count("max_tokens")?;
            shared.max_tokens = match wanted {
                Some(0) | None => {
                    let reason = "is missing: say how many tokens the answer may have, 1 or more";
                    return Err(ApiError::bad("max_tokens", reason));
                }
                tokens => tokens,
            };
            shared.stop = stops(&mut fields)?;
            shared.stream = fields.flag("stream")?;
            shared.sampling = RawSampling {
                temperature: fields.number("temperature")?,
                top_k: fields.integer("top_k")?,
                top_p: fields.number("top_p")?,
                seed: seed(&mut fields)?,
                ..RawSampling::default()
            };
            shared.kv = kv(&mut fields)?;
            shared.session = session(&mut fields)?;
            shared.keep_alive = keep_alive(&mut fields)?;
            shared.priority = priority(&mut fields)?;
            shared.deadline = deadline(&mut fields)?;
            shared.format = format(&mut fields)?;
            // Who the caller says they are is taken and used for nothing.
            fields.object("metadata")?;
            let hint = "there are no tiers here: leave it out";
            let any = |value: &Value| matches!(value.as_str(), Some("auto" | "standard_only"));
            fields.refuse("service_tier", hint, any)?;
        }
        let none = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        fields.refuse("mcp_servers", "tools are called by the client", none)?;
        fields.refuse("container", "there are no containers", |_| false)?;
        let ask = Ask {
            messages,
            think,
            shared,
        };
        Ok((ask, fields.left()))
    }
}

/// An error about a parameter of ours, by the name that it has here.
pub(super) fn rename(error: ApiError) -> ApiError {
    let Some(param) = error.param.clone() else {
        return error;
    };
    let name = match param.as_str() {
        "prompt" => "messages".to_owned(),
        "stop" => "stop_sequences".to_owned(),
        "think" => "thinking".to_owned(),
        _ if param.starts_with("tools#/") => param
            .replacen("/function/parameters", "/input_schema", 1)
            .replacen("/function/", "/", 1),
        _ => return error,
    };
    error.renamed(&param, &name)
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let wanted = "a list of strings";
    match fields.take("stop_sequences") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => strings("stop_sequences", list, wanted),
        Some(other) => Err(wrong("stop_sequences", &other, wanted)),
    }
}

/// What the answer is to be, under `output_config`.
fn format(fields: &mut Fields) -> Result<Option<Format>, ApiError> {
    let Some(mut config) = fields.object("output_config")? else {
        return Ok(None);
    };
    let format = config.shift_remove("format").filter(|v| !v.is_null());
    if let Some((name, _)) = config.iter().find(|(_, value)| !value.is_null()) {
        let hint = "a model thinks as it was taught";
        return Err(ApiError::unsupported(format!("output_config.{name}"), hint));
    }
    let mut map = match format {
        None => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("output_config.format", &other, "an object")),
    };
    if map.get("type").and_then(Value::as_str) != Some("json_schema") {
        let reason = "is not known, use json_schema";
        return Err(ApiError::bad("output_config.format.type", reason));
    }
    let schema = map.shift_remove("schema");
    Format::schema("output_config.format.schema", schema).map(Some)
}

fn thinking(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    let Some(map) = fields.object("thinking")? else {
        return Ok(None);
    };
    match map.get("type").and_then(Value::as_str) {
        Some("disabled") => Ok(Some(false)),
        Some("adaptive") => Ok(Some(true)),
        Some("enabled") => Err(ApiError::unsupported(
            "thinking.type",
            "thoughts cannot be kept to budget_tokens, use adaptive: max_tokens bounds them and the answer",
        )),
        _ => Err(ApiError::bad(
            "thinking.type",
            "is not known, use adaptive or disabled",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::wire::ToolChoice;
    use crate::text::Role;

    fn read(body: &str) -> Result<(Ask, Vec<String>), ApiError> {
        Ask::read(Purpose::Answer, Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn a_talk_with_tools_is_read() {
        let body = r#"{"model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "be brief",
            "cache_control": {"type": "ephemeral"}}], "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": true,
                    "content": [{"type": "text", "text": "gone"}]},
                {"type": "text", "text": "and now?"}]}],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
            "stop_sequences": ["x"], "top_k": 5, "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}, "y": 1}"#;
        let (ask, left) = read(body).unwrap();
        assert_eq!(left, ["y"]);
        let roles: Vec<Role> = ask.messages.iter().map(|message| message.role).collect();
        let expected = [
            Role::System,
            Role::User,
            Role::Assistant,
            Role::Tool,
            Role::Tool,
            Role::User,
        ];
        assert_eq!(roles, expected);
        let said = &ask.messages[2];
        assert_eq!(said.content, "I look.");
        assert_eq!(said.reasoning_content.as_deref(), Some("hm"));
        let calls = said.tool_calls.as_ref().unwrap();
        assert_eq!(
            calls[0]["function"],
            json!({"name": "f", "arguments": {"a": 1}})
        );
        assert_eq!(ask.messages[3].tool_call_id.as_deref(), Some("t1"));
        assert_eq!(ask.messages[4].content, "error: gone");
        assert_eq!(ask.messages[5].content, "and now?");
        assert_eq!(ask.think, Some(false));
        let shared = ask.shared;
        assert_eq!(
            (shared.max_tokens, shared.stop),
            (Some(9), vec!["x".to_owned()])
        );
        assert_eq!(shared.sampling.top_k, Some(5));
        let tools = shared.tools.unwrap();
        assert_eq!(
            (tools.choice, tools.parallel),
            (ToolChoice::Named("f".to_owned()), false)
        );
        assert_eq!(tools.described[0]["function"]["description"], "d");
    }

    #[test]
    fn what_is_wrong_or_not_offered_is_named() {
        let user = r#""messages": [{"role": "user", "content": "a"}]"#;
        let with = |more: &str| format!(r#"{{"max_tokens": 5, {user}, {more}}}"#);
        let said = |message: &str| format!(r#"{{"max_tokens": 5, "messages": [{message}]}}"#);
        let tool = r#""tools": [{"name": "f", "input_schema": {}}]"#;
        for (body, code, param) in [
            (format!("{{{user}}}"), "invalid_value", "max_tokens"),
            (
                r#"{"max_tokens": 5}"#.to_owned(),
                "invalid_value",
                "messages",
            ),
            (
                r#"{"max_tokens": 5, "messages": []}"#.to_owned(),
                "invalid_value",
                "messages",
            ),
            (
                said(r#"{"role": "system", "content": "a"}"#),
                "invalid_value",
                "messages[0].role",
            ),
            (
                said(r#"{"role": "user"}"#),
                "invalid_value",
                "messages[0].content",
            ),
            (
                said(r#"{"role": "assistant", "content": "a"}"#),
                "invalid_value",
                "messages",
            ),
            (
                said(r#"{"role": "user", "content": [{"type": "image"}]}"#),
                "unsupported_parameter",
                "messages[0].content[0].type",
            ),
            (
                said(r#"{"role": "user", "content": [{"type": "tool_result"}]}"#),
                "invalid_value",
                "messages[0].content[0].tool_use_id",
            ),
            (
                said(r#"{"role": "user", "content": [{"type": "text"}]}"#),
                "invalid_value",
                "messages[0].content[0].text",
            ),
            (with(r#""system": 5"#), "invalid_value", "system"),
            (
                with(r#""stop_sequences": "x""#),
                "invalid_value",
                "stop_sequences",
            ),
            (
                with(r#""thinking": {"type": "enabled"}"#),
                "unsupported_parameter",
                "thinking.type",
            ),
            (with(r#""thinking": {}"#), "invalid_value", "thinking.type"),
            (
                with(r#""output_config": {"effort": "low"}"#),
                "unsupported_parameter",
                "output_config.effort",
            ),
            (
                with(r#""output_config": {"format": {"type": "x"}}"#),
                "invalid_value",
                "output_config.format.type",
            ),
            (
                with(r#""service_tier": "priority""#),
                "unsupported_parameter",
                "service_tier",
            ),
            (
                with(r#""mcp_servers": [{}]"#),
                "unsupported_parameter",
                "mcp_servers",
            ),
            (
                with(r#""tools": [{"type": "bash_20250124", "name": "bash"}]"#),
                "unsupported_parameter",
                "tools[0].type",
            ),
            (
                with(r#""tools": [{"name": "f"}]"#),
                "invalid_value",
                "tools[0].input_schema",
            ),
            (
                with(r#""tool_choice": {"type": "any"}"#),
                "invalid_value",
                "tool_choice",
            ),
            (
                with(&format!(r#"{tool}, "tool_choice": {{"type": "all"}}"#)),
                "invalid_value",
                "tool_choice.type",
            ),
            (
                with(&format!(
                    r#"{tool}, "tool_choice": {{"type": "tool", "name": "g"}}"#
                )),
                "invalid_value",
                "tool_choice.name",
            ),
        ] {
            let error = read(&body).unwrap_err();
            assert_eq!(
                (error.code, error.param.as_deref()),
                (code, Some(param)),
                "{body}"
            );
        }
    }

    #[test]
    fn errors_go_by_the_names_of_this_api() {
        for (ours, theirs) in [
            ("prompt", "messages"),
            ("stop", "stop_sequences"),
            (
                "tools#/0/function/parameters/type",
                "tools#/0/input_schema/type",
            ),
            ("tools#/1/function/name", "tools#/1/name"),
            ("top_p", "top_p"),
        ] {
            let error = rename(ApiError::bad(ours, "is wrong"));
            assert_eq!(error.param.as_deref(), Some(theirs));
            assert_eq!(error.message, format!("{theirs} is wrong"));
        }
    }
}

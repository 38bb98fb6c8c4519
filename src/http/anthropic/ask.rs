//! The bodies of `/v1/messages` and `/v1/messages/count_tokens`.

use serde_json::{Map, Value, json};

use crate::http::wire::common::{
    deadline, keep_alive, kv, priority, refuse_template, seed, session,
};
use crate::http::wire::fields::{set, wrong};
use crate::http::wire::{ApiError, Fields, Format, Shared, ToolChoice, Tools};
use crate::sample::{Callable, RawSampling, Shape};
use crate::text::{Message, Role};

/// Most messages and most tools of a request.
const MAX_MESSAGES: usize = 4096;
const MAX_TOOLS: usize = 128;

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
            tools: tools(&mut fields)?,
            ..Shared::default()
        };
        let think = thinking(&mut fields)?;
        let mut messages = system(&mut fields)?;
        messages.extend(talk(&mut fields)?);
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
pub(super) fn rename(mut error: ApiError) -> ApiError {
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
    error.message = error.message.replacen(&param, &name, 1);
    error.about(name)
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let wanted = "a list of strings";
    match fields.take("stop_sequences") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            let text = |value: Value| match value {
                Value::String(text) => Ok(text),
                other => Err(wrong("stop_sequences", &other, wanted)),
            };
            list.into_iter().map(text).collect()
        }
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
    let param = "output_config.format.schema";
    match map.shift_remove("schema") {
        Some(schema @ Value::Object(_)) => Ok(Some(Format {
            shape: Shape::JsonSchema(schema),
            param,
        })),
        Some(other) => Err(wrong(param, &other, "a schema")),
        None => Err(ApiError::bad(param, "is missing")),
    }
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

fn system(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let text = match fields.take("system") {
        None => return Ok(Vec::new()),
        Some(value) => texts("system", value)?,
    };
    Ok(vec![Message::new(Role::System, text)])
}

/// A text, or blocks of text.
fn texts(at: &str, value: Value) -> Result<String, ApiError> {
    let blocks = match value {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(at, &other, "a string or a list of text blocks")),
    };
    let text = |(place, block): (usize, Value)| {
        let at = format!("{at}[{place}]");
        let mut block = Block::of(&at, block)?;
        match block.kind.as_str() {
            "text" => block.text("text"),
            _ => Err(ApiError::unsupported(
                format!("{at}.type"),
                "only text is offered",
            )),
        }
    };
    blocks.into_iter().enumerate().map(text).collect()
}

/// A part of a message.
struct Block<'a> {
    at: &'a str,
    kind: String,
    map: Map<String, Value>,
}

impl<'a> Block<'a> {
    fn of(at: &'a str, value: Value) -> Result<Self, ApiError> {
        let Value::Object(mut map) = value else {
            return Err(wrong(at, &value, "an object"));
        };
        match map.shift_remove("type") {
            Some(Value::String(kind)) => Ok(Block { at, kind, map }),
            Some(other) => Err(wrong(&format!("{at}.type"), &other, "a string")),
            None => Err(ApiError::bad(format!("{at}.type"), "is missing")),
        }
    }

    fn text(&mut self, field: &str) -> Result<String, ApiError> {
        let at = format!("{}.{field}", self.at);
        match self.map.shift_remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong(&at, &other, "a string")),
            None => Err(ApiError::bad(at, "is missing")),
        }
    }
}

fn talk(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let list = match fields.take("messages") {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("messages", &other, "a list of messages")),
        None => return Err(ApiError::bad("messages", "is missing: give at least one")),
    };
    if list.is_empty() || list.len() > MAX_MESSAGES {
        let reason = format!("has {} entries, use 1 to {MAX_MESSAGES}", list.len());
        return Err(ApiError::bad("messages", reason));
    }
    let mut messages = Vec::new();
    for (place, value) in list.into_iter().enumerate() {
        message(&format!("messages[{place}]"), value, &mut messages)?;
    }
    if messages
        .last()
        .is_some_and(|last| last.role == Role::Assistant)
    {
        let reason = "ends with the assistant: an answer that was begun is not gone on with, end with the user";
        return Err(ApiError::bad("messages", reason));
    }
    Ok(messages)
}

fn message(at: &str, value: Value, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    let Value::Object(mut map) = value else {
        return Err(wrong(at, &value, "an object"));
    };
    let role = match map.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            let reason =
                "is not known, use user or assistant: what the operator says goes into system";
            return Err(ApiError::bad(format!("{at}.role"), reason));
        }
    };
    let at = format!("{at}.content");
    let mut said = Message::new(role, "");
    let blocks = match map.shift_remove("content") {
        Some(Value::String(text)) => {
            said.content = text;
            messages.push(said);
            return Ok(());
        }
        Some(Value::Array(blocks)) => blocks,
        Some(other) => return Err(wrong(&at, &other, "a string or a list of blocks")),
        None => return Err(ApiError::bad(at, "is missing")),
    };
    let mut calls = Vec::new();
    for (place, block) in blocks.into_iter().enumerate() {
        let at = format!("{at}[{place}]");
        let mut block = Block::of(&at, block)?;
        match (role, block.kind.as_str()) {
            (_, "text") => said.content += &block.text("text")?,
            (Role::Assistant, "thinking") => {
                *said.reasoning_content.get_or_insert_default() += &block.text("thinking")?;
            }
            (Role::Assistant, "tool_use") => calls.push(call(block)?),
            (Role::User, "tool_result") => {
                if !said.content.is_empty() {
                    messages.push(std::mem::replace(&mut said, Message::new(role, "")));
                }
                messages.push(result(block)?);
            }
            _ => {
                let hint = match role {
                    Role::Assistant => "an assistant's blocks are text, thinking and tool_use",
                    _ => "a user's blocks are text and tool_result",
                };
                return Err(ApiError::unsupported(format!("{at}.type"), hint));
            }
        }
    }
    let empty = said.content.is_empty() && calls.is_empty() && said.reasoning_content.is_none();
    if !calls.is_empty() {
        said.tool_calls = Some(Value::Array(calls));
    }
    // Of a user's message that had results only nothing is left.
    if !empty || !matches!(messages.last(), Some(last) if last.role == Role::Tool) {
        messages.push(said);
    }
    Ok(())
}

/// A call, as templates are told of it.
fn call(mut block: Block<'_>) -> Result<Value, ApiError> {
    let (id, name) = (block.text("id")?, block.text("name")?);
    let input = match block.map.shift_remove("input") {
        Some(input @ Value::Object(_)) => input,
        Some(other) => return Err(wrong(&format!("{}.input", block.at), &other, "an object")),
        None => json!({}),
    };
    Ok(json!({"id": id, "type": "function", "function": {"name": name, "arguments": input}}))
}

/// What came of a call. One that failed says so in its text.
fn result(mut block: Block<'_>) -> Result<Message, ApiError> {
    let id = block.text("tool_use_id")?;
    let text = match block.map.shift_remove("content") {
        None | Some(Value::Null) => String::new(),
        Some(content) => texts(&format!("{}.content", block.at), content)?,
    };
    let failed = block.map.get("is_error").and_then(Value::as_bool);
    let text = match failed {
        Some(true) => format!("error: {text}"),
        _ => text,
    };
    Ok(Message {
        tool_call_id: Some(id),
        ..Message::new(Role::Tool, text)
    })
}

fn tools(fields: &mut Fields) -> Result<Option<Tools>, ApiError> {
    let list = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(list)) if list.len() <= MAX_TOOLS => list,
        Some(Value::Array(list)) => {
            let reason = format!(
                "has {} entries, at most {MAX_TOOLS} are allowed",
                list.len()
            );
            return Err(ApiError::bad("tools", reason));
        }
        Some(other) => return Err(wrong("tools", &other, "a list of tools")),
    };
    let chosen = fields.object("tool_choice")?;
    if list.is_empty() {
        return match chosen {
            Some(map) if map.get("type").and_then(Value::as_str) != Some("none") => {
                let reason = "chooses among tools, and there are none: leave it out";
                Err(ApiError::bad("tool_choice", reason))
            }
            _ => Ok(None),
        };
    }
    let (mut described, mut functions) = (Vec::new(), Vec::new());
    for (place, tool) in list.into_iter().enumerate() {
        let (told, function) = tool_of(&format!("tools[{place}]"), tool)?;
        described.push(told);
        functions.push(function);
    }
    let chosen = chosen.unwrap_or_default();
    let choice = match chosen.get("type").and_then(Value::as_str) {
        None if chosen.is_empty() => ToolChoice::Auto,
        Some("auto") => ToolChoice::Auto,
        Some("any") => ToolChoice::Required,
        Some("none") => ToolChoice::None,
        Some("tool") => match chosen.get("name").and_then(Value::as_str) {
            Some(name) if functions.iter().any(|f| f.name == name) => {
                ToolChoice::Named(name.to_owned())
            }
            Some(_) => return Err(ApiError::bad("tool_choice.name", "is none of the tools")),
            None => return Err(ApiError::bad("tool_choice.name", "is missing")),
        },
        _ => {
            let reason = "is not known, use auto, any, tool or none";
            return Err(ApiError::bad("tool_choice.type", reason));
        }
    };
    let alone = match chosen.get("disable_parallel_tool_use") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(alone)) => *alone,
        Some(other) => {
            let at = "tool_choice.disable_parallel_tool_use";
            return Err(wrong(at, other, "true or false"));
        }
    };
    Ok(Some(Tools {
        described: Value::Array(described),
        functions,
        choice,
        parallel: !alone,
    }))
}

/// A tool as templates are told of it, and as it is called.
fn tool_of(at: &str, tool: Value) -> Result<(Value, Callable), ApiError> {
    let Value::Object(mut map) = tool else {
        return Err(wrong(at, &tool, "an object"));
    };
    let mut take = |field: &str| map.shift_remove(field).filter(|value| !value.is_null());
    match take("type") {
        None => {}
        Some(Value::String(kind)) if kind == "custom" => {}
        Some(_) => {
            let hint = "only tools of the client are, of type custom";
            return Err(ApiError::unsupported(format!("{at}.type"), hint));
        }
    }
    let name = match take("name") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(wrong(&format!("{at}.name"), &other, "a string")),
        None => return Err(ApiError::bad(format!("{at}.name"), "is missing")),
    };
    let description = match take("description") {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => return Err(wrong(&format!("{at}.description"), &other, "a string")),
    };
    let schema = match take("input_schema") {
        Some(schema @ Value::Object(_)) => schema,
        Some(other) => return Err(wrong(&format!("{at}.input_schema"), &other, "a schema")),
        None => return Err(ApiError::bad(format!("{at}.input_schema"), "is missing")),
    };
    let mut function = json!({"name": name});
    if let Some(text) = description {
        set(&mut function, "description", json!(text));
    }
    set(&mut function, "parameters", schema.clone());
    let callable = Callable {
        name,
        parameters: Some(schema),
    };
    Ok((json!({"type": "function", "function": function}), callable))
}

#[cfg(test)]
mod tests {
    use super::*;

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

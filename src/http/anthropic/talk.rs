//! Messages and their blocks, as templates are given them.

use serde_json::{Map, Value, json};

use crate::http::wire::fields::wrong;
use crate::http::wire::limits::MAX_MESSAGES;
use crate::http::wire::{ApiError, Fields};
use crate::text::{Message, Role};

/// What was said so far: `system`, then `messages`.
pub(super) fn read(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let mut messages = system(fields)?;
    messages.extend(talk(fields)?);
    Ok(messages)
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

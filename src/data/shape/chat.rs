//! Chats of records: who speaks under which name, and what a message needs.

use serde_json::{Map, Value};

use crate::text::{Message, Role};

use crate::data::Record;
use crate::data::json::{FieldError, Fields, kind, object};

/// The chat under `key`.
pub(super) fn messages(fields: Fields<'_>, key: &str) -> Result<Record, FieldError> {
    let mut messages = Vec::new();
    if let Some(Value::String(system)) = fields.map.get("system").filter(|_| key == "conversations")
    {
        messages.extend((!system.trim().is_empty()).then(|| Message::new(Role::System, system)));
    }
    for (at, item) in fields.list(key)?.iter().enumerate() {
        let path = format!("{key}[{at}]");
        let map = object(item, &path)?;
        let path = path + ".";
        messages.push(message(Fields { map, path: &path })?);
    }
    if !messages.iter().any(|m| m.role == Role::Assistant) {
        return Err(FieldError::of(
            key,
            "has no message of the assistant, so there is nothing to learn; add one",
        ));
    }
    let tools = match fields.map.get("tools") {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(_) => Some(Value::Array(fields.list("tools")?)),
    };
    Ok(Record::Chat { messages, tools })
}

fn message(fields: Fields<'_>) -> Result<Message, FieldError> {
    let (role_key, text_key) = match fields.has("from") {
        true => ("from", "value"),
        false => ("role", "content"),
    };
    let known = [role_key, text_key, "name", "tool_calls", "tool_call_id"];
    let unknown = |key: &&String| !known.contains(&key.as_str());
    // A message's own switches (weights, masks, thoughts) change what is trained, so they are not passed over.
    if let Some(key) = fields.map.iter().find(|(k, v)| unknown(k) && !v.is_null()) {
        let reason = format!("is not known in a message; known are {}", known.join(", "));
        return Err(FieldError::of(fields.name(key.0), reason));
    }
    let name = fields.text(role_key)?;
    let role = role(name).ok_or_else(|| {
        let reason = format!("is {name:?}; known are system, user, assistant and tool");
        FieldError::of(fields.name(role_key), reason)
    })?;
    let tool_calls = match fields.map.get("tool_calls") {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(_) => Some(Value::Array(fields.list("tool_calls")?)),
    };
    let calls = role == Role::Assistant && tool_calls.is_some();
    Ok(Message {
        role,
        content: content(fields, text_key, calls || role == Role::Tool)?,
        name: optional(fields.map, "name", fields)?,
        tool_calls,
        tool_call_id: optional(fields.map, "tool_call_id", fields)?,
        reasoning_content: None,
    })
}

fn role(name: &str) -> Option<Role> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "system" | "developer" => Role::System,
        "user" | "human" => Role::User,
        "assistant" | "gpt" | "model" | "bot" => Role::Assistant,
        "tool" | "function" | "observation" => Role::Tool,
        _ => return None,
    })
}

/// The text of a message; a list of text parts is joined.
fn content(fields: Fields<'_>, key: &str, may_be_empty: bool) -> Result<String, FieldError> {
    let name = fields.name(key);
    let text = match fields.map.get(key) {
        None | Some(Value::Null) if may_be_empty => String::new(),
        Some(Value::Array(parts)) => {
            let mut text = String::new();
            for (at, part) in parts.iter().enumerate() {
                let path = format!("{name}[{at}]");
                let map = object(part, &path)?;
                match map.get("type").and_then(Value::as_str) {
                    Some("text") => {}
                    found => {
                        let found = found.unwrap_or("without a type");
                        let reason = format!("is a part {found:?}; only text can be trained on");
                        return Err(FieldError::of(path, reason));
                    }
                }
                let path = path + ".";
                text.push_str(Fields { map, path: &path }.any_text("text")?);
            }
            text
        }
        _ => fields.any_text(key)?.to_owned(),
    };
    match text.trim().is_empty() && !may_be_empty {
        true => Err(FieldError::of(
            name,
            "is empty; fill it or remove the record",
        )),
        false => Ok(text),
    }
}

fn optional(
    map: &Map<String, Value>,
    key: &str,
    fields: Fields<'_>,
) -> Result<Option<String>, FieldError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(FieldError::of(
            fields.name(key),
            format!("is {}, a text is needed", kind(other)),
        )),
    }
}

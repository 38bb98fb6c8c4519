//! The tools of a request, and which of them may be used.

use serde_json::{Value, json};

use crate::http::wire::fields::{set, wrong};
use crate::http::wire::limits::MAX_TOOLS;
use crate::http::wire::{ApiError, Fields, ToolChoice, Tools};
use crate::sample::{Callable, NO_NAME, is_name};

/// The tools of a request, as the other API has them.
pub(super) fn read(fields: &mut Fields) -> Result<Option<Tools>, ApiError> {
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
        Some(Value::String(name)) if is_name(&name) => name,
        Some(Value::String(_)) => return Err(ApiError::bad(format!("{at}.name"), NO_NAME)),
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

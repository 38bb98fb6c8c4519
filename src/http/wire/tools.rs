//! Functions that a chat may call.

use serde_json::{Map, Value};

use super::fields::wrong;
use super::limits::MAX_TOOLS;
use super::{ApiError, Fields};
use crate::sample::{Callable, NO_NAME, is_name};

/// Functions that may be called, at least one.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct Tools {
    /// As the request describes them, for templates.
    pub(in crate::http) described: Value,
    /// Their names and the schemas of their arguments.
    pub(in crate::http) functions: Vec<Callable>,
    /// Which may be called.
    pub(in crate::http) choice: ToolChoice,
    /// Whether several may be called at once.
    pub(in crate::http) parallel: bool,
}

/// Which functions may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum ToolChoice {
    /// Any, or none.
    Auto,
    /// None.
    None,
    /// Any, at least one.
    Required,
    /// This one.
    Named(String),
}

impl Tools {
    pub(in crate::http) fn read(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        let said = fields.has("tools");
        let list = match fields.take("tools") {
            None => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(wrong("tools", &other, "a list of tools")),
        };
        let choice = choice(fields)?;
        let parallel = match fields.has("parallel_tool_calls") {
            true => Some(fields.flag("parallel_tool_calls")?),
            false => None,
        };
        if list.is_empty() {
            let needs = |param, set: bool| match set {
                true => Err(ApiError::bad(
                    param,
                    "is about tools, and there are none: leave it out",
                )),
                false => Ok(()),
            };
            let asks = match &choice {
                None => false,
                Some(ToolChoice::Auto | ToolChoice::None) => !said,
                Some(ToolChoice::Required | ToolChoice::Named(_)) => true,
            };
            needs("tool_choice", asks)?;
            needs("parallel_tool_calls", parallel.is_some())?;
            return Ok(None);
        }
        if list.len() > MAX_TOOLS {
            let reason = format!(
                "has {} entries, at most {MAX_TOOLS} are allowed",
                list.len()
            );
            return Err(ApiError::bad("tools", reason));
        }
        let functions = list
            .iter()
            .enumerate()
            .map(|(place, tool)| function(place, tool));
        let functions = functions.collect::<Result<Vec<_>, _>>()?;
        if let Some(ToolChoice::Named(name)) = &choice
            && !functions.iter().any(|function| function.name == *name)
        {
            return Err(ApiError::bad(
                "tool_choice.function.name",
                "is none of the tools",
            ));
        }
        Ok(Some(Tools {
            described: Value::Array(list),
            functions,
            choice: choice.unwrap_or(ToolChoice::Auto),
            parallel: parallel.unwrap_or(true),
        }))
    }
}

fn function(place: usize, tool: &Value) -> Result<Callable, ApiError> {
    let at = |field: &str| format!("tools[{place}].{field}");
    let tool = tool
        .as_object()
        .ok_or_else(|| wrong(&format!("tools[{place}]"), tool, "an object"))?;
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Err(ApiError::unsupported(
            at("type"),
            "only tools of type function are",
        ));
    }
    let empty = Map::new();
    let function = match tool.get("function") {
        Some(Value::Object(function)) => function,
        Some(other) => return Err(wrong(&at("function"), other, "an object")),
        None => &empty,
    };
    let name = match function.get("name") {
        Some(Value::String(name)) if is_name(name) => name.clone(),
        Some(Value::String(_)) => return Err(ApiError::bad(at("function.name"), NO_NAME)),
        Some(other) => return Err(wrong(&at("function.name"), other, "a string")),
        None => return Err(ApiError::bad(at("function.name"), "is missing")),
    };
    for (field, value) in function.iter().filter(|(_, value)| !value.is_null()) {
        let place = at(&format!("function.{field}"));
        match (field.as_str(), value) {
            ("name", _) | ("parameters", Value::Object(_)) | ("description", Value::String(_)) => {}
            ("parameters", other) => return Err(wrong(&place, other, "a schema")),
            // Arguments are kept to their schema in any case.
            ("strict", Value::Bool(_)) => {}
            ("description", other) => return Err(wrong(&place, other, "a string")),
            ("strict", other) => return Err(wrong(&place, other, "true or false")),
            _ => return Err(ApiError::unsupported(place, "leave it out")),
        }
    }
    let parameters = function.get("parameters").filter(|value| !value.is_null());
    Ok(Callable {
        name,
        parameters: parameters.cloned(),
    })
}

fn choice(fields: &mut Fields) -> Result<Option<ToolChoice>, ApiError> {
    let wanted = "auto, none, required, or {\"type\": \"function\", \"function\": {\"name\": ...}}";
    match fields.take("tool_choice") {
        None => Ok(None),
        Some(Value::String(text)) => match text.as_str() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" => Ok(Some(ToolChoice::Required)),
            _ => Err(ApiError::bad(
                "tool_choice",
                format!("is not known, use {wanted}"),
            )),
        },
        Some(Value::Object(map)) => {
            if map.get("type").and_then(Value::as_str) != Some("function") {
                let hint = "only tools of type function are";
                return Err(ApiError::unsupported("tool_choice.type", hint));
            }
            match map.get("function").and_then(|f| f.get("name")) {
                Some(Value::String(name)) => Ok(Some(ToolChoice::Named(name.clone()))),
                _ => Err(ApiError::bad("tool_choice.function.name", "is missing")),
            }
        }
        Some(other) => Err(wrong("tool_choice", &other, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Option<Tools>, ApiError> {
        Tools::read(&mut Fields::parse(body.as_bytes())?)
    }

    const F: &str = r#"{"type": "function", "function": {"name": "f", "description": "x", "strict": true,
        "parameters": {"type": "object"}}}"#;

    #[test]
    fn tools_and_choices_are_read() {
        for (rest, choice, parallel) in [
            ("", ToolChoice::Auto, true),
            (r#", "tool_choice": "none""#, ToolChoice::None, true),
            (
                r#", "tool_choice": "required", "parallel_tool_calls": false"#,
                ToolChoice::Required,
                false,
            ),
            (
                r#", "tool_choice": {"type": "function", "function": {"name": "f"}}"#,
                ToolChoice::Named("f".to_owned()),
                true,
            ),
        ] {
            let tools = read(&format!(r#"{{"tools": [{F}]{rest}}}"#))
                .unwrap()
                .unwrap();
            assert_eq!((tools.choice, tools.parallel), (choice, parallel), "{rest}");
            assert_eq!(tools.functions[0].name, "f");
            assert!(tools.functions[0].parameters.is_some());
        }
        for none in ["none", "auto"] {
            let body = format!(r#"{{"tools": [], "tool_choice": "{none}"}}"#);
            assert_eq!(read(&body).unwrap(), None, "{none}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let named =
            |name: &str| format!(r#"{{"tools": [{{"type": "function", "function": {name}}}]}}"#);
        let chosen = |choice: &str| format!(r#"{{"tools": [{F}], "tool_choice": {choice}}}"#);
        for (body, param) in [
            (r#"{"tools": 5}"#.to_owned(), "tools"),
            (r#"{"tools": [5]}"#.to_owned(), "tools[0]"),
            (
                r#"{"tools": [{"type": "code_interpreter"}]}"#.to_owned(),
                "tools[0].type",
            ),
            (named("5"), "tools[0].function"),
            (named("{}"), "tools[0].function.name"),
            (named(r#"{"name": "a b"}"#), "tools[0].function.name"),
            (
                named(r#"{"name": "f", "parameters": 5}"#),
                "tools[0].function.parameters",
            ),
            (named(r#"{"name": 5}"#), "tools[0].function.name"),
            (
                named(r#"{"name": "f", "description": 5}"#),
                "tools[0].function.description",
            ),
            (
                named(r#"{"name": "f", "strict": 5}"#),
                "tools[0].function.strict",
            ),
            (
                named(r#"{"name": "f", "returns": {}}"#),
                "tools[0].function.returns",
            ),
            (chosen("5"), "tool_choice"),
            (chosen(r#""maybe""#), "tool_choice"),
            (chosen(r#"{"type": "allowed_tools"}"#), "tool_choice.type"),
            (
                chosen(r#"{"type": "function"}"#),
                "tool_choice.function.name",
            ),
            (
                chosen(r#"{"type": "function", "function": {"name": "g"}}"#),
                "tool_choice.function.name",
            ),
            (r#"{"tool_choice": "auto"}"#.to_owned(), "tool_choice"),
            (
                r#"{"tools": [], "tool_choice": "required"}"#.to_owned(),
                "tool_choice",
            ),
            (
                r#"{"parallel_tool_calls": true}"#.to_owned(),
                "parallel_tool_calls",
            ),
        ] {
            let error = read(&body).unwrap_err();
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, Some(param)),
                "{body}"
            );
        }
    }
}

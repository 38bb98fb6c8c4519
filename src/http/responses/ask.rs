//! The body of `POST /v1/responses`.

use serde_json::{Map, Value, json};

use super::items::messages;
use crate::http::wire::common::{deadline, keep_alive, kv, priority, refuse_template, seed};
use crate::http::wire::fields::wrong;
use crate::http::wire::{ApiError, Fields, Format, Shared, ToolChoice, Tools};
use crate::sample::{RawSampling, Shape};
use crate::text::{Message, Role};

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    /// What the operator says; of a response that goes on it was said before.
    pub(super) instructions: Option<String>,
    /// What is new.
    pub(super) messages: Vec<Message>,
    /// The response that it goes on from.
    pub(super) previous: Option<String>,
    /// Whether others may go on from this one.
    pub(super) store: bool,
    /// What the response tells of its request, as it came.
    pub(super) told: Map<String, Value>,
    /// What has the same meaning in the other APIs.
    pub(super) shared: Shared,
}

/// Fields that a response repeats, with what they are when a request leaves them out.
fn repeated() -> [(&'static str, Value); 12] {
    [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("store", json!(true)),
        ("temperature", Value::Null),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", Value::Null),
    ]
}

impl Ask {
    /// Reads a body; also says which fields nobody knows.
    pub(super) fn read(mut fields: Fields) -> Result<(Self, Vec<String>), ApiError> {
        let whole = fields.whole();
        let repeat = |(name, or): (&str, Value)| {
            let said = whole.get(name).filter(|value| !value.is_null());
            (name.to_owned(), said.cloned().unwrap_or(or))
        };
        let told = repeated().map(repeat).into_iter().collect();
        refuse_template(&mut fields)?;
        let hint = "use /v1/chat/completions";
        fields.refuse("chat_template_kwargs", hint, |_| false)?;
        refuse(&mut fields)?;
        for name in ["user", "safety_identifier", "prompt_cache_key"] {
            // Who the caller says they are is taken and used for nothing; what was read before is kept in any case.
            fields.string(name)?;
        }
        fields.object("metadata")?;
        let store = !fields.has("store") || fields.flag("store")?;
        let ask = Ask {
            instructions: fields.string("instructions")?,
            messages: messages(fields.take("input"))?,
            previous: fields.string("previous_response_id")?,
            store,
            told,
            shared: Shared {
                model: fields.string("model")?,
                max_tokens: match fields.count("max_output_tokens")? {
                    Some(0) => {
                        return Err(ApiError::bad("max_output_tokens", "is 0, use 1 or more"));
                    }
                    tokens => tokens,
                },
                sampling: RawSampling {
                    temperature: fields.number("temperature")?,
                    top_p: fields.number("top_p")?,
                    seed: seed(&mut fields)?,
                    ..RawSampling::default()
                },
                n: 1,
                stream: fields.flag("stream")?,
                kv: kv(&mut fields)?,
                keep_alive: keep_alive(&mut fields)?,
                priority: priority(&mut fields)?,
                deadline: deadline(&mut fields)?,
                format: format(&mut fields)?,
                tools: tools(&mut fields)?,
                ..Shared::default()
            },
        };
        fields.object("stream_options")?;
        if ask.previous.is_some() && !ask.store {
            let reason = "is false, and what goes on from another response is kept beside it: leave one of them out";
            return Err(ApiError::bad("store", reason));
        }
        Ok((ask, fields.left()))
    }

    /// All messages of a talk that begins with this request.
    pub(super) fn opening(&self) -> Vec<Message> {
        let instructions = self.instructions.clone();
        let system = instructions.map(|text| Message::new(Role::System, text));
        system.into_iter().chain(self.messages.clone()).collect()
    }
}

/// An error about a parameter of ours, by the name that it has here.
pub(super) fn rename(error: ApiError) -> ApiError {
    let Some(param) = error.param.clone() else {
        return error;
    };
    let name = match param.as_str() {
        "prompt" | "messages" => "input".to_owned(),
        "max_tokens" => "max_output_tokens".to_owned(),
        "session" => "previous_response_id".to_owned(),
        _ if param.starts_with("tools") => {
            param
                .replacen("/function/", "/", 1)
                .replacen(".function.", ".", 1)
        }
        _ => return error,
    };
    error.renamed(&param, &name)
}

/// Refuses what is known and not offered, unless it asks for nothing.
fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    let off = |value: &Value| value == &Value::Bool(false);
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let zero = |value: &Value| value.as_u64() == Some(0);
    let cut = "nothing is cut in silence: a talk that does not fit is refused, or bounded by kv";
    fields.refuse("truncation", cut, |v| v.as_str() == Some("disabled"))?;
    fields.refuse("background", "ask for a stream", off)?;
    fields.refuse(
        "include",
        "ask for what is told beside an output another way",
        empty,
    )?;
    fields.refuse("conversation", "use previous_response_id", |_| false)?;
    fields.refuse("prompt", "write it into instructions and input", |_| false)?;
    fields.refuse("max_tool_calls", "use parallel_tool_calls", |_| false)?;
    fields.refuse("top_logprobs", "use /v1/chat/completions", zero)?;
    let tier = |value: &Value| matches!(value.as_str(), Some("auto" | "default"));
    fields.refuse("service_tier", "there are no tiers here", tier)?;
    let unsaid = |value: &Value| {
        let map = value.as_object();
        map.is_some_and(|map| map.values().all(Value::is_null))
    };
    fields.refuse("reasoning", "a model thinks as it was taught", unsaid)
}

fn format(fields: &mut Fields) -> Result<Option<Format>, ApiError> {
    let Some(mut text) = fields.object("text")? else {
        return Ok(None);
    };
    let format = text.shift_remove("format").filter(|v| !v.is_null());
    if let Some((name, _)) = text.iter().find(|(_, value)| !value.is_null()) {
        return Err(ApiError::unsupported(
            format!("text.{name}"),
            "leave it out",
        ));
    }
    let mut map = match format {
        None => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong("text.format", &other, "an object")),
    };
    match map.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Format {
            shape: Shape::JsonObject,
            param: "text.format",
        })),
        Some("json_schema") => {
            Format::schema("text.format.schema", map.shift_remove("schema")).map(Some)
        }
        _ => Err(ApiError::bad(
            "text.format.type",
            "is not known, use text, json_object or json_schema",
        )),
    }
}

/// Tools as `/v1/chat/completions` has them: there a function is an object of its own.
fn tools(fields: &mut Fields) -> Result<Option<Tools>, ApiError> {
    let mut theirs = Map::new();
    if let Some(value) = fields.take("tools") {
        let Value::Array(list) = value else {
            return Err(wrong("tools", &value, "a list of tools"));
        };
        let mut tools = Vec::with_capacity(list.len());
        for (place, tool) in list.into_iter().enumerate() {
            let Value::Object(mut tool) = tool else {
                return Err(wrong(&format!("tools[{place}]"), &tool, "an object"));
            };
            let kind = tool.shift_remove("type").unwrap_or(Value::Null);
            tools.push(json!({"type": kind, "function": tool}));
        }
        theirs.insert("tools".to_owned(), Value::Array(tools));
    }
    if let Some(choice) = fields.take("tool_choice") {
        let choice = match choice {
            Value::Object(mut map) if map.contains_key("name") => {
                let name = map.shift_remove("name");
                map.insert("function".to_owned(), json!({ "name": name }));
                Value::Object(map)
            }
            other => other,
        };
        theirs.insert("tool_choice".to_owned(), choice);
    }
    if let Some(parallel) = fields.take("parallel_tool_calls")
        && (theirs.contains_key("tools") || parallel != Value::Bool(true))
    {
        theirs.insert("parallel_tool_calls".to_owned(), parallel);
    }
    let mut inside = Fields::of(theirs);
    let tools = Tools::read(&mut inside).map_err(rename)?;
    Ok(tools.filter(|tools| tools.choice != ToolChoice::None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(Ask, Vec<String>), ApiError> {
        Ask::read(Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn what_is_said_is_read() {
        let (ask, left) = read(
            r#"{"model": "m", "input": "a", "instructions": "i", "max_output_tokens": 7, "stream": true, "metadata": {"k": "v"},
                "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
                "tool_choice": {"type": "function", "name": "f"}, "text": {"format": {"type": "json_schema", "name": "n",
                "schema": {"type": "object"}}}, "truncation": "disabled", "include": [], "background": false, "y": 1}"#,
        )
        .unwrap();
        assert_eq!(left, ["y"]);
        assert_eq!(ask.opening()[0], Message::new(Role::System, "i"));
        assert_eq!(ask.opening()[1], Message::new(Role::User, "a"));
        assert!(ask.store && ask.previous.is_none());
        assert_eq!(ask.told["metadata"], json!({"k": "v"}));
        assert_eq!(ask.told["parallel_tool_calls"], json!(true));
        let shared = ask.shared;
        assert_eq!((shared.max_tokens, shared.stream), (Some(7), true));
        assert_eq!(shared.format.unwrap().param, "text.format.schema");
        assert_eq!(
            shared.tools.unwrap().choice,
            ToolChoice::Named("f".to_owned())
        );
    }

    #[test]
    fn what_is_wrong_or_not_offered_is_named() {
        let with = |more: &str| format!(r#"{{"input": "a", {more}}}"#);
        for (more, code, param) in [
            (
                r#""max_output_tokens": 0"#,
                "invalid_value",
                "max_output_tokens",
            ),
            (
                r#""truncation": "auto""#,
                "unsupported_parameter",
                "truncation",
            ),
            (
                r#""background": true"#,
                "unsupported_parameter",
                "background",
            ),
            (
                r#""reasoning": {"effort": "high"}"#,
                "unsupported_parameter",
                "reasoning",
            ),
            (
                r#""conversation": "c""#,
                "unsupported_parameter",
                "conversation",
            ),
            (r#""include": ["x"]"#, "unsupported_parameter", "include"),
            (
                r#""store": false, "previous_response_id": "r""#,
                "invalid_value",
                "store",
            ),
            (
                r#""text": {"verbosity": "low"}"#,
                "unsupported_parameter",
                "text.verbosity",
            ),
            (
                r#""text": {"format": {"type": "xml"}}"#,
                "invalid_value",
                "text.format.type",
            ),
            (
                r#""text": {"format": {"type": "json_schema"}}"#,
                "invalid_value",
                "text.format.schema",
            ),
            (
                r#""tools": [{"type": "web_search"}]"#,
                "unsupported_parameter",
                "tools[0].type",
            ),
            (
                r#""tools": [{"type": "function"}]"#,
                "invalid_value",
                "tools[0].name",
            ),
            (
                r#""tool_choice": "required""#,
                "invalid_value",
                "tool_choice",
            ),
        ] {
            let error = read(&with(more)).unwrap_err();
            assert_eq!(
                (error.code, error.param.as_deref()),
                (code, Some(param)),
                "{more}"
            );
        }
    }
}

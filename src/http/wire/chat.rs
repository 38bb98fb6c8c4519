//! The body of `/v1/chat/completions`.

use serde_json::{Map, Value};

use crate::text::{EXTRA_ALLOWED, Message, Role};

use super::common::{Shared, refuse_unsupported};
use super::fields::wrong;
use super::limits::{MAX_MESSAGES, MAX_TOP};
use super::{ApiError, Fields, Tools};

/// A chat to go on with.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct ChatAsk {
    /// What was said.
    pub(in crate::http) messages: Vec<Message>,
    /// What the template is told beside.
    pub(in crate::http) told: Map<String, Value>,
    /// The rest.
    pub(in crate::http) shared: Shared,
}

impl ChatAsk {
    /// Reads a body; also says which fields nobody knows.
    pub(in crate::http) fn read(mut fields: Fields) -> Result<(Self, Vec<String>), ApiError> {
        refuse_unsupported(&mut fields)?;
        let mut shared = Shared::read(&mut fields)?;
        shared.sampling.logprobs = logprobs(&mut fields)?;
        shared.tools = Tools::read(&mut fields)?;
        let messages = messages(&mut fields)?;
        let told = fields.object("chat_template_kwargs")?.unwrap_or_default();
        if let Some(name) = told
            .keys()
            .find(|name| !EXTRA_ALLOWED.contains(&name.as_str()))
        {
            let at = format!("chat_template_kwargs.{name}");
            let hint = format!("templates are told of {}", EXTRA_ALLOWED.join(", "));
            return Err(ApiError::unsupported(at, &hint));
        }
        let ask = ChatAsk {
            messages,
            told,
            shared,
        };
        Ok((ask, fields.left()))
    }
}

/// How many alternatives are told with each token; `None` tells no log-probabilities.
pub(in crate::http) fn logprobs(fields: &mut Fields) -> Result<Option<u8>, ApiError> {
    let wanted = fields.flag("logprobs")?;
    let top = fields.count("top_logprobs")?;
    match top {
        Some(_) if !wanted => Err(ApiError::bad("top_logprobs", "needs logprobs to be true")),
        Some(top) if top > MAX_TOP => Err(ApiError::bad(
            "top_logprobs",
            format!("is {top}, at most {MAX_TOP} is allowed"),
        )),
        top => Ok(wanted.then_some(top.unwrap_or(0) as u8)),
    }
}

fn messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let list = match fields.take("messages") {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("messages", &other, "a list of messages")),
        None => {
            return Err(ApiError::bad(
                "messages",
                "is missing: give at least one message",
            ));
        }
    };
    if list.is_empty() || list.len() > MAX_MESSAGES {
        let reason = format!("has {} entries, use 1 to {MAX_MESSAGES}", list.len());
        return Err(ApiError::bad("messages", reason));
    }
    list.into_iter()
        .enumerate()
        .map(|(place, value)| message(place, value))
        .collect()
}

fn message(place: usize, value: Value) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{place}].{field}");
    let mut map = match value {
        Value::Object(map) => map,
        other => return Err(wrong(&format!("messages[{place}]"), &other, "an object")),
    };
    let mut take = |field: &str| map.shift_remove(field).filter(|value| !value.is_null());
    let role = match take("role") {
        Some(role) => serde_json::from_value::<Role>(role).map_err(|_| {
            ApiError::bad(
                at("role"),
                "is not known, use system, developer, user, assistant or tool",
            )
        })?,
        None => return Err(ApiError::bad(at("role"), "is missing")),
    };
    let content = match take("content") {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(part, value)| text_part(&at(&format!("content[{part}]")), value))
            .collect::<Result<_, _>>()?,
        Some(other) => {
            return Err(wrong(
                &at("content"),
                &other,
                "a string or a list of text parts",
            ));
        }
    };
    if take("function_call").is_some() {
        return Err(ApiError::unsupported(at("function_call"), "use tool_calls"));
    }
    let name = optional_text(&at("name"), take("name"))?;
    let tool_call_id = optional_text(&at("tool_call_id"), take("tool_call_id"))?;
    let thought = optional_text(&at("reasoning_content"), take("reasoning_content"))?;
    Ok(Message {
        tool_calls: calls(&at("tool_calls"), take("tool_calls"))?,
        name,
        tool_call_id,
        reasoning_content: thought,
        ..Message::new(role, content)
    })
}

/// Calls that were made, with their arguments as the object that templates write.
pub(in crate::http) fn calls(at: &str, value: Option<Value>) -> Result<Option<Value>, ApiError> {
    let mut list = match value {
        None => return Ok(None),
        Some(Value::Array(list)) if list.is_empty() => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong(at, &other, "a list of calls")),
    };
    for (place, call) in list.iter_mut().enumerate() {
        let at = format!("{at}[{place}].function");
        let Some(function) = call.get_mut("function").and_then(Value::as_object_mut) else {
            return Err(ApiError::bad(at, "is missing: only functions are called"));
        };
        if !function.get("name").is_some_and(Value::is_string) {
            return Err(ApiError::bad(format!("{at}.name"), "is not a string"));
        }
        let at = format!("{at}.arguments");
        let object = match function.get("arguments") {
            Some(Value::Object(_)) => continue,
            Some(Value::String(text)) => serde_json::from_str::<Map<String, Value>>(text),
            None => Ok(Map::new()),
            Some(other) => return Err(wrong(&at, other, "a string of json")),
        };
        let object = object.map_err(|error| {
            ApiError::bad(at, format!("is not a json object in a string: {error}"))
        })?;
        function.insert("arguments".to_owned(), Value::Object(object));
    }
    Ok(Some(Value::Array(list)))
}

fn optional_text(at: &str, value: Option<Value>) -> Result<Option<String>, ApiError> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(at, &other, "a string")),
    }
}

fn text_part(at: &str, value: Value) -> Result<String, ApiError> {
    let part: Map<String, Value> = match value {
        Value::Object(part) => part,
        other => return Err(wrong(at, &other, "an object")),
    };
    if part.get("type").and_then(Value::as_str) != Some("text") {
        return Err(ApiError::unsupported(
            format!("{at}.type"),
            "only parts of type text are",
        ));
    }
    match part.get("text") {
        Some(Value::String(text)) => Ok(text.clone()),
        other => Err(wrong(
            &format!("{at}.text"),
            other.unwrap_or(&Value::Null),
            "a string",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(ChatAsk, Vec<String>), ApiError> {
        ChatAsk::read(Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn messages_come_as_text_or_parts() {
        let body = r#"{"messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "x": 1},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
                "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "content": "4", "tool_call_id": "1"}], "store": true, "metadata": null}"#;
        let (ask, left) = read(body).unwrap();
        assert_eq!(ask.messages[0], Message::new(Role::System, "be brief"));
        assert_eq!(ask.messages[1], Message::new(Role::User, "ab"));
        let calls = ask.messages[2].tool_calls.as_ref().unwrap();
        assert_eq!(calls[0]["function"]["arguments"]["a"], 1);
        assert_eq!(ask.messages[3].tool_call_id.as_deref(), Some("1"));
        assert_eq!(left, ["store"]);
    }

    #[test]
    fn logprobs_are_a_flag_and_a_number() {
        let of = |rest: &str| {
            let body = format!(r#"{{"messages": [{{"role": "user", "content": ""}}] {rest}}}"#);
            read(&body).map(|(ask, _)| ask.shared.sampling.logprobs)
        };
        assert_eq!(of("").unwrap(), None);
        assert_eq!(of(r#", "logprobs": true"#).unwrap(), Some(0));
        assert_eq!(
            of(r#", "logprobs": true, "top_logprobs": 20"#).unwrap(),
            Some(20)
        );
        for bad in [
            r#", "top_logprobs": 2"#,
            r#", "logprobs": true, "top_logprobs": 21"#,
        ] {
            assert_eq!(of(bad).unwrap_err().param.as_deref(), Some("top_logprobs"));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |messages: &str| format!(r#"{{"messages": {messages}}}"#);
        for (body, param) in [
            ("{}".to_owned(), "messages"),
            (with("[]"), "messages"),
            (with("5"), "messages"),
            (with("[5]"), "messages[0]"),
            (with(r#"[{"content": "x"}]"#), "messages[0].role"),
            (
                with(r#"[{"role": "root", "content": "x"}]"#),
                "messages[0].role",
            ),
            (
                with(r#"[{"role": "user", "content": 5}]"#),
                "messages[0].content",
            ),
            (
                with(r#"[{"role": "user", "content": [{"type": "image_url"}]}]"#),
                "messages[0].content[0].type",
            ),
            (
                with(r#"[{"role": "user", "content": [{"type": "text"}]}]"#),
                "messages[0].content[0].text",
            ),
            (
                with(r#"[{"role": "user", "content": "x", "name": 5}]"#),
                "messages[0].name",
            ),
            (
                with(r#"[{"role": "assistant", "tool_calls": [{"id": "1"}]}]"#),
                "messages[0].tool_calls[0].function",
            ),
            (
                with(
                    r#"[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]"#,
                ),
                "messages[0].tool_calls[0].function.arguments",
            ),
        ] {
            assert_eq!(
                read(&body).unwrap_err().param.as_deref(),
                Some(param),
                "{body}"
            );
        }
    }
}

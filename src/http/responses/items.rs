//! The items of an input as messages.

use serde_json::{Map, Value, json};

use crate::http::wire::ApiError;
use crate::http::wire::fields::wrong;
use crate::http::wire::limits::MAX_MESSAGES;
use crate::text::{Message, Role};

/// What `input` says: a text of the user, or a list of items.
pub(super) fn messages(input: Option<Value>) -> Result<Vec<Message>, ApiError> {
    let list = match input {
        Some(Value::String(text)) => return Ok(vec![Message::new(Role::User, text)]),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("input", &other, "a string or a list of items")),
        None => return Err(ApiError::bad("input", "is missing")),
    };
    if list.is_empty() || list.len() > MAX_MESSAGES {
        let reason = format!("has {} entries, use 1 to {MAX_MESSAGES}", list.len());
        return Err(ApiError::bad("input", reason));
    }
    let mut talk = Talk::default();
    for (place, value) in list.into_iter().enumerate() {
        talk.add(&format!("input[{place}]"), value)?;
    }
    Ok(talk.messages)
}

/// Messages that are put together: the thoughts, words and calls of one answer are items of their own.
#[derive(Default)]
struct Talk {
    messages: Vec<Message>,
    thought: Option<String>,
}

impl Talk {
    fn add(&mut self, at: &str, value: Value) -> Result<(), ApiError> {
        let Value::Object(map) = value else {
            return Err(wrong(at, &value, "an object"));
        };
        let item = Item { at, map };
        match item.map.get("type").and_then(Value::as_str) {
            None | Some("message") => self.message(item),
            Some("function_call") => self.call(item),
            Some("function_call_output") => self.output(item),
            Some("reasoning") => self.reason(item),
            Some(_) => Err(ApiError::unsupported(
                format!("{at}.type"),
                "use message, function_call, function_call_output or reasoning",
            )),
        }
    }

    fn message(&mut self, mut item: Item<'_>) -> Result<(), ApiError> {
        let role = match item.map.get("role").and_then(Value::as_str) {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system" | "developer") => Role::System,
            _ => {
                let reason = "is not known, use system, developer, user or assistant";
                return Err(ApiError::bad(item.place("role"), reason));
            }
        };
        let text = item.text_of("content")?;
        let message = Message {
            reasoning_content: self.thought.take().filter(|_| role == Role::Assistant),
            ..Message::new(role, text)
        };
        self.messages.push(message);
        Ok(())
    }

    fn call(&mut self, mut item: Item<'_>) -> Result<(), ApiError> {
        let (id, name) = (item.string("call_id")?, item.string("name")?);
        let text = item.string("arguments")?;
        let arguments: Map<String, Value> = serde_json::from_str(&text).map_err(|error| {
            let reason = format!("is not a json object in a string: {error}");
            ApiError::bad(item.place("arguments"), reason)
        })?;
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        if self
            .messages
            .last()
            .is_none_or(|last| last.role != Role::Assistant)
        {
            self.messages.push(Message {
                reasoning_content: self.thought.take(),
                ..Message::new(Role::Assistant, "")
            });
        }
        let Some(said) = self.messages.last_mut() else {
            return Ok(());
        };
        match &mut said.tool_calls {
            Some(Value::Array(calls)) => calls.push(call),
            other => *other = Some(json!([call])),
        }
        Ok(())
    }

    fn output(&mut self, mut item: Item<'_>) -> Result<(), ApiError> {
        let id = item.string("call_id")?;
        let text = item.text_of("output")?;
        self.messages.push(Message {
            tool_call_id: Some(id),
            ..Message::new(Role::Tool, text)
        });
        Ok(())
    }

    fn reason(&mut self, mut item: Item<'_>) -> Result<(), ApiError> {
        if item.map.contains_key("content") {
            self.thought = Some(item.text_of("content")?).filter(|text| !text.is_empty());
        }
        Ok(())
    }
}

/// An item that is read field by field.
struct Item<'a> {
    at: &'a str,
    map: Map<String, Value>,
}

impl Item<'_> {
    fn place(&self, field: &str) -> String {
        format!("{}.{field}", self.at)
    }

    fn string(&mut self, field: &str) -> Result<String, ApiError> {
        match self.map.shift_remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong(&self.place(field), &other, "a string")),
            None => Err(ApiError::bad(self.place(field), "is missing")),
        }
    }

    /// A text, or parts of text.
    fn text_of(&mut self, field: &str) -> Result<String, ApiError> {
        let parts = match self.map.shift_remove(field) {
            None | Some(Value::Null) => return Ok(String::new()),
            Some(Value::String(text)) => return Ok(text),
            Some(Value::Array(parts)) => parts,
            Some(other) => {
                return Err(wrong(
                    &self.place(field),
                    &other,
                    "a string or a list of parts",
                ));
            }
        };
        let part = |(index, part): (usize, Value)| {
            let at = format!("{}[{index}]", self.place(field));
            let kind = part.get("type").and_then(Value::as_str);
            let name = match kind {
                Some("input_text" | "output_text" | "text" | "reasoning_text") => "text",
                Some("refusal") => "refusal",
                _ => {
                    let hint = "only text is offered";
                    return Err(ApiError::unsupported(format!("{at}.type"), hint));
                }
            };
            match part.get(name) {
                Some(Value::String(text)) => Ok(text.clone()),
                Some(other) => Err(wrong(&format!("{at}.{name}"), other, "a string")),
                None => Err(ApiError::bad(format!("{at}.{name}"), "is missing")),
            }
        };
        parts.into_iter().enumerate().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_messages() {
        assert_eq!(
            messages(Some(json!("hi"))).unwrap(),
            [Message::new(Role::User, "hi")]
        );
        let input = json!([
            {"role": "developer", "content": "be brief"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text",
                "text": "b"}]},
            {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{\"x\": 1}"},
            {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "4"},
            {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "5"}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "9", "annotations": []}]},
        ]);
        let told = messages(Some(input)).unwrap();
        let roles: Vec<Role> = told.iter().map(|message| message.role).collect();
        let expected = [
            Role::System,
            Role::User,
            Role::Assistant,
            Role::Tool,
            Role::Tool,
            Role::Assistant,
        ];
        assert_eq!(roles, expected);
        assert_eq!(told[1].content, "ab");
        assert_eq!(told[2].reasoning_content.as_deref(), Some("hm"));
        let calls = told[2].tool_calls.as_ref().unwrap();
        assert_eq!(calls[1]["function"]["name"], "g");
        assert_eq!(calls[0]["function"]["arguments"]["x"], 1);
        assert_eq!(
            (told[4].tool_call_id.as_deref(), told[4].content.as_str()),
            (Some("2"), "5")
        );
        assert_eq!(told[5].content, "9");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (input, param) in [
            (json!(5), "input"),
            (json!([]), "input"),
            (json!([5]), "input[0]"),
            (json!([{"role": "x"}]), "input[0].role"),
            (json!([{"type": "item_reference"}]), "input[0].type"),
            (json!([{"type": "function_call"}]), "input[0].call_id"),
            (
                json!([{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{"}]),
                "input[0].arguments",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_image"}]}]),
                "input[0].content[0].type",
            ),
            (
                json!([{"role": "user", "content": [{"type": "input_text"}]}]),
                "input[0].content[0].text",
            ),
        ] {
            let error = messages(Some(input.clone())).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{input}");
        }
        assert_eq!(messages(None).unwrap_err().param.as_deref(), Some("input"));
    }
}

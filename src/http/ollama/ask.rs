//! The bodies of `/api/generate` and `/api/chat`.

use serde_json::{Map, Value};

use super::name;
use super::options::Options;
use crate::http::wire::chat::{calls, logprobs};
use crate::http::wire::common::{deadline, keep_alive, kv, priority, refuse_template, session};
use crate::http::wire::fields::wrong;
use crate::http::wire::limits::MAX_MESSAGES;
use crate::http::wire::{ApiError, Fields, Format, Shared, Tools};
use crate::sample::Shape;
use crate::text::{Message, Role};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `/api/generate`.
    Generate,
    /// `/api/chat`.
    Chat,
}

/// What is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// Nothing: the model is loaded, or let go of.
    Nothing,
    /// A chat.
    Chat(Vec<Message>),
    /// A text as it is; control tokens in it are read as such.
    Raw(String),
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) said: Said,
    pub(super) options: Options,
    /// Whether it is to think before it answers; as the model does by itself if absent.
    pub(super) think: Option<bool>,
    /// What has the same meaning in the other APIs.
    pub(super) shared: Shared,
}

impl Ask {
    /// Reads a body; also says which fields nobody knows.
    pub(super) fn read(route: Route, mut fields: Fields) -> Result<(Self, Vec<String>), ApiError> {
        refuse(route, &mut fields)?;
        refuse_template(&mut fields)?;
        let stream = !fields.has("stream") || fields.flag("stream")?;
        let (mut options, mut unknown) = Options::read(&mut fields)?;
        options.sampling.logprobs = logprobs(&mut fields)?;
        let said = match route {
            Route::Generate => prompt(&mut fields)?,
            Route::Chat => messages(&mut fields)?,
        };
        let think = think(&mut fields)?;
        let shared = Shared {
            model: name::of(&mut fields)?,
            stop: std::mem::take(&mut options.stop),
            sampling: std::mem::take(&mut options.sampling),
            n: 1,
            stream,
            kv: kv(&mut fields)?,
            session: session(&mut fields)?,
            keep_alive: keep_alive(&mut fields)?,
            priority: priority(&mut fields)?,
            deadline: deadline(&mut fields)?,
            format: format(&mut fields)?,
            tools: match route {
                Route::Generate => None,
                Route::Chat => Tools::read(&mut fields)?,
            },
            ..Shared::default()
        };
        if shared.session.is_some() && options.context.is_some() {
            let reason = "is for a request without a session, which the model's context bounds";
            return Err(ApiError::bad("options.num_ctx", reason));
        }
        unknown.extend(fields.left());
        let ask = Ask {
            said,
            options,
            think,
            shared,
        };
        Ok((ask, unknown))
    }
}

/// Refuses what is known and cannot be honoured, unless its value asks for nothing.
fn refuse(route: Route, fields: &mut Fields) -> Result<(), ApiError> {
    let off = |value: &Value| value == &Value::Bool(false);
    let empty = |value: &Value| value.as_str() == Some("");
    let none = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    let cut = "nothing is cut in silence: a prompt that does not fit is refused";
    fields.refuse("truncate", cut, off)?;
    fields.refuse(
        "shift",
        "nothing is shifted out of the context: kv says what is kept",
        off,
    )?;
    if route == Route::Generate {
        fields.refuse("tools", "use /api/chat", none)?;
        for name in ["tool_choice", "parallel_tool_calls"] {
            fields.refuse(name, "use /api/chat", |_| false)?;
        }
    }
    fields.refuse("images", "only text is offered", none)?;
    fields.refuse("suffix", "write it into the prompt", empty)?;
    fields.refuse(
        "template",
        "the model's own is used, or none with raw",
        empty,
    )?;
    fields.refuse("context", "use /api/chat, or a session", none)
}

/// What the answer is to be: any JSON, or what a schema allows.
fn format(fields: &mut Fields) -> Result<Option<Format>, ApiError> {
    let shape = match fields.take("format") {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) if text == "json" => Shape::JsonObject,
        Some(schema @ Value::Object(_)) => Shape::JsonSchema(schema),
        Some(other) => return Err(wrong("format", &other, "\"json\" or a schema")),
    };
    let param = "format";
    Ok(Some(Format { shape, param }))
}

fn think(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    match fields.take("think") {
        None => Ok(None),
        Some(Value::Bool(think)) => Ok(Some(think)),
        Some(Value::String(level)) => {
            let hint = format!("there are no levels such as {level:?}: use true or false");
            Err(ApiError::unsupported("think", &hint))
        }
        Some(other) => Err(wrong("think", &other, "true or false")),
    }
}

fn prompt(fields: &mut Fields) -> Result<Said, ApiError> {
    let text = fields.string("prompt")?.unwrap_or_default();
    let system = fields.string("system")?.filter(|text| !text.is_empty());
    let raw = fields.flag("raw")?;
    if raw && system.is_some() {
        let reason = "is for the template, which raw leaves out: write it into the prompt";
        return Err(ApiError::bad("system", reason));
    }
    Ok(match (text.is_empty(), raw) {
        (true, _) => Said::Nothing,
        (false, true) => Said::Raw(text),
        (false, false) => {
            let system = system.map(|text| Message::new(Role::System, text));
            let user = Message::new(Role::User, text);
            Said::Chat(system.into_iter().chain([user]).collect())
        }
    })
}

fn messages(fields: &mut Fields) -> Result<Said, ApiError> {
    let list = match fields.take("messages") {
        None => return Ok(Said::Nothing),
        Some(Value::Array(list)) if list.is_empty() => return Ok(Said::Nothing),
        Some(Value::Array(list)) if list.len() <= MAX_MESSAGES => list,
        Some(Value::Array(list)) => {
            let reason = format!("has {} entries, use up to {MAX_MESSAGES}", list.len());
            return Err(ApiError::bad("messages", reason));
        }
        Some(other) => return Err(wrong("messages", &other, "a list of messages")),
    };
    let messages = list.into_iter().enumerate();
    let messages = messages.map(|(place, value)| message(place, value));
    Ok(Said::Chat(messages.collect::<Result<_, _>>()?))
}

fn message(place: usize, value: Value) -> Result<Message, ApiError> {
    let at = |field: &str| format!("messages[{place}].{field}");
    let mut map: Map<String, Value> = match value {
        Value::Object(map) => map,
        other => return Err(wrong(&format!("messages[{place}]"), &other, "an object")),
    };
    let mut take = |field: &str| map.shift_remove(field).filter(|value| !value.is_null());
    let role = take("role").ok_or_else(|| ApiError::bad(at("role"), "is missing"))?;
    let role = serde_json::from_value::<Role>(role).map_err(|_| {
        ApiError::bad(
            at("role"),
            "is not known, use system, user, assistant or tool",
        )
    })?;
    let text = |field: &str, value: Option<Value>| match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(&at(field), &other, "a string")),
    };
    let content = text("content", take("content"))?.unwrap_or_default();
    if take("images").is_some_and(|images| images.as_array().is_none_or(|list| !list.is_empty())) {
        return Err(ApiError::unsupported(at("images"), "only text is offered"));
    }
    let thought = text("thinking", take("thinking"))?.filter(|text| !text.is_empty());
    Ok(Message {
        tool_calls: calls(&at("tool_calls"), take("tool_calls"))?,
        reasoning_content: thought,
        name: text("tool_name", take("tool_name"))?,
        ..Message::new(role, content)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::KeepAlive;

    fn read(route: Route, body: &str) -> Result<(Ask, Vec<String>), ApiError> {
        Ask::read(route, Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn prompts_become_chats_unless_they_are_raw() {
        let said = |body| read(Route::Generate, body).unwrap().0.said;
        let user = Message::new(Role::User, "a");
        assert_eq!(said(r#"{"prompt": "a"}"#), Said::Chat(vec![user.clone()]));
        let system = Message::new(Role::System, "s");
        let both = said(r#"{"prompt": "a", "system": "s"}"#);
        assert_eq!(both, Said::Chat(vec![system, user]));
        assert_eq!(
            said(r#"{"prompt": "a", "raw": true}"#),
            Said::Raw("a".to_owned())
        );
        for nothing in [
            "{}",
            r#"{"prompt": ""}"#,
            r#"{"prompt": "", "keep_alive": 0}"#,
        ] {
            assert_eq!(said(nothing), Said::Nothing, "{nothing}");
        }
    }

    #[test]
    fn what_is_said_is_read() {
        let (ask, left) = read(
            Route::Chat,
            r#"{"model": "m:latest", "messages": [{"role": "user", "content": "a", "images": []},
                {"role": "tool", "content": "4", "tool_name": "sum"}], "keep_alive": "5m", "logprobs": true,
                "top_logprobs": 2, "options": {"seed": 3, "stop": ["x"]}, "think": false, "format": "", "y": 1}"#,
        )
        .unwrap();
        let shared = &ask.shared;
        assert!(shared.stream, "a stream unless it says otherwise");
        assert_eq!(shared.model.as_deref(), Some("m"));
        assert_eq!(
            (shared.sampling.seed, shared.sampling.logprobs),
            (Some(3), Some(2))
        );
        assert_eq!(shared.stop, ["x"]);
        assert_eq!(shared.keep_alive, "5m".parse::<KeepAlive>().ok());
        assert_eq!(left, ["y"]);
        let Said::Chat(messages) = ask.said else {
            panic!("a chat");
        };
        assert_eq!(messages[1].name.as_deref(), Some("sum"));
        let whole = read(Route::Chat, r#"{"stream": false}"#).unwrap().0;
        assert!(!whole.shared.stream && whole.said == Said::Nothing);
    }

    #[test]
    fn forms_tools_and_thoughts_are_read() {
        let body = r#"{"messages": [{"role": "assistant", "thinking": "hm", "tool_calls": [{"function": {"name": "f",
            "arguments": {"a": 1}}}]}], "tools": [{"type": "function", "function": {"name": "f"}}], "think": true}"#;
        let (ask, left) = read(Route::Chat, body).unwrap();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(ask.think, Some(true));
        assert_eq!(ask.shared.tools.unwrap().functions[0].name, "f");
        let Said::Chat(messages) = ask.said else {
            panic!("a chat");
        };
        assert_eq!(messages[0].reasoning_content.as_deref(), Some("hm"));
        for (body, shape) in [
            (r#"{"format": "json"}"#, Some(Shape::JsonObject)),
            (
                r#"{"format": {"type": "null"}}"#,
                Some(Shape::JsonSchema(json!({"type": "null"}))),
            ),
            (r#"{"format": ""}"#, None),
        ] {
            for route in [Route::Chat, Route::Generate] {
                let (ask, _) = read(route, body).unwrap();
                assert_eq!(
                    ask.shared.format.map(|format| format.shape),
                    shape,
                    "{body}"
                );
            }
        }
    }

    #[test]
    fn what_is_wrong_or_not_offered_is_named() {
        for (route, body, code, param) in [
            (
                Route::Generate,
                r#"{"prompt": 1}"#,
                "invalid_value",
                "prompt",
            ),
            (
                Route::Generate,
                r#"{"prompt": "a", "raw": true, "system": "s"}"#,
                "invalid_value",
                "system",
            ),
            (
                Route::Generate,
                r#"{"suffix": "a"}"#,
                "unsupported_parameter",
                "suffix",
            ),
            (
                Route::Generate,
                r#"{"template": "a"}"#,
                "unsupported_parameter",
                "template",
            ),
            (
                Route::Generate,
                r#"{"context": [1]}"#,
                "unsupported_parameter",
                "context",
            ),
            (
                Route::Generate,
                r#"{"images": ["x"]}"#,
                "unsupported_parameter",
                "images",
            ),
            (
                Route::Generate,
                r#"{"truncate": true}"#,
                "unsupported_parameter",
                "truncate",
            ),
            (
                Route::Generate,
                r#"{"stream": 1}"#,
                "invalid_value",
                "stream",
            ),
            (
                Route::Generate,
                r#"{"keep_alive": "soon"}"#,
                "invalid_value",
                "keep_alive",
            ),
            (
                Route::Generate,
                r#"{"session": "a", "options": {"num_ctx": 9}}"#,
                "invalid_value",
                "options.num_ctx",
            ),
            (Route::Chat, r#"{"think": 1}"#, "invalid_value", "think"),
            (
                Route::Chat,
                r#"{"think": "low"}"#,
                "unsupported_parameter",
                "think",
            ),
            (
                Route::Chat,
                r#"{"format": "yaml"}"#,
                "invalid_value",
                "format",
            ),
            (
                Route::Chat,
                r#"{"tools": [{}]}"#,
                "unsupported_parameter",
                "tools[0].type",
            ),
            (
                Route::Generate,
                r#"{"tools": [{}]}"#,
                "unsupported_parameter",
                "tools",
            ),
            (
                Route::Chat,
                r#"{"top_logprobs": 2}"#,
                "invalid_value",
                "top_logprobs",
            ),
            (
                Route::Chat,
                r#"{"messages": 1}"#,
                "invalid_value",
                "messages",
            ),
            (
                Route::Chat,
                r#"{"messages": [1]}"#,
                "invalid_value",
                "messages[0]",
            ),
            (
                Route::Chat,
                r#"{"messages": [{}]}"#,
                "invalid_value",
                "messages[0].role",
            ),
            (
                Route::Chat,
                r#"{"messages": [{"role": "user", "content": []}]}"#,
                "invalid_value",
                "messages[0].content",
            ),
            (
                Route::Chat,
                r#"{"messages": [{"role": "user", "images": ["x"]}]}"#,
                "unsupported_parameter",
                "messages[0].images",
            ),
            (
                Route::Chat,
                r#"{"messages": [{"role": "assistant", "thinking": 1}]}"#,
                "invalid_value",
                "messages[0].thinking",
            ),
            (
                Route::Chat,
                r#"{"messages": [{"role": "assistant", "tool_calls": [{}]}]}"#,
                "invalid_value",
                "messages[0].tool_calls[0].function",
            ),
        ] {
            let error = read(route, body).unwrap_err();
            assert_eq!(
                (error.code, error.param.as_deref()),
                (code, Some(param)),
                "{body}"
            );
        }
    }
}

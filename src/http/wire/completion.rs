//! The body of `/v1/completions`.

use serde_json::Value;

use crate::ids::TokenId;

use super::common::{Shared, refuse_unsupported};
use super::fields::{ids, wrong};
use super::limits::{MAX_CHOICES, MAX_TOP};
use super::{ApiError, Fields};

/// Tokens that are generated when a request does not say, as OpenAI's endpoint does.
const MAX_TOKENS: usize = 16;

/// A text to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) enum Prompt {
    /// As text; control tokens in it are read as such.
    Text(String),
    /// As ids, with nothing put around them.
    Ids(Vec<TokenId>),
}

/// Texts to go on with.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct CompletionAsk {
    /// The texts, at least one.
    pub(in crate::http) prompts: Vec<Prompt>,
    /// The rest.
    pub(in crate::http) shared: Shared,
}

impl CompletionAsk {
    /// Reads a body; also says which fields nobody knows.
    pub(in crate::http) fn read(mut fields: Fields) -> Result<(Self, Vec<String>), ApiError> {
        refuse_unsupported(&mut fields)?;
        for field in ["tools", "tool_choice", "parallel_tool_calls"] {
            fields.refuse(field, "use /v1/chat/completions", |_| false)?;
        }
        fields.refuse("suffix", "write it into the prompt", |value| {
            value.as_str() == Some("")
        })?;
        fields.refuse("best_of", "ask for n choices", |value| {
            value.as_u64() == Some(1)
        })?;
        let mut shared = Shared::read(&mut fields)?;
        shared.max_tokens = shared.max_tokens.or(Some(MAX_TOKENS));
        shared.sampling.logprobs = logprobs(&mut fields)?;
        shared.echo = fields.flag("echo")?;
        if shared.echo && shared.session.is_some() {
            let reason = "tells the prompt from its beginning, and a session has begun before: leave out one of them";
            return Err(ApiError::bad("echo", reason));
        }
        let prompts = prompts(&mut fields, "prompt")?;
        let choices = prompts.len() * shared.n;
        if choices > MAX_CHOICES {
            let reason =
                format!("asks with n for {choices} choices, at most {MAX_CHOICES} are allowed");
            return Err(ApiError::bad("prompt", reason));
        }
        if shared.session.is_some() && prompts.len() > 1 {
            let reason = "has several texts, a session goes on with one";
            return Err(ApiError::bad("prompt", reason));
        }
        Ok((CompletionAsk { prompts, shared }, fields.left()))
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<u8>, ApiError> {
    match fields.count("logprobs")? {
        Some(top) if top > MAX_TOP => Err(ApiError::bad(
            "logprobs",
            format!("is {top}, at most {MAX_TOP} is allowed"),
        )),
        top => Ok(top.map(|top| top as u8)),
    }
}

/// Texts under `name`.
pub(super) fn prompts(fields: &mut Fields, name: &'static str) -> Result<Vec<Prompt>, ApiError> {
    let wanted = "a string, a list of token ids, or a list of either";
    match fields.take(name) {
        None => Err(ApiError::bad(name, "is missing")),
        Some(Value::String(text)) => Ok(vec![Prompt::Text(text)]),
        Some(Value::Array(list)) if list.is_empty() => Err(ApiError::bad(
            name,
            "is an empty list: give at least one token or text",
        )),
        Some(Value::Array(list)) if list.iter().all(Value::is_number) => {
            Ok(vec![Prompt::Ids(ids(name, &list)?)])
        }
        Some(Value::Array(list)) => {
            let prompt = |value: Value| match value {
                Value::String(text) => Ok(Prompt::Text(text)),
                Value::Array(list) => ids(name, &list).map(Prompt::Ids),
                other => Err(wrong(name, &other, wanted)),
            };
            list.into_iter().map(prompt).collect()
        }
        Some(other) => Err(wrong(name, &other, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<CompletionAsk, ApiError> {
        CompletionAsk::read(Fields::parse(body.as_bytes())?).map(|(ask, _)| ask)
    }

    #[test]
    fn prompts_come_in_four_shapes() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (body, prompts) in [
            (r#"{"prompt": "a"}"#, vec![text("a")]),
            (r#"{"prompt": ["a", "b"]}"#, vec![text("a"), text("b")]),
            (r#"{"prompt": [1, 2]}"#, vec![Prompt::Ids(vec![1, 2])]),
            (
                r#"{"prompt": [[1], [2]]}"#,
                vec![Prompt::Ids(vec![1]), Prompt::Ids(vec![2])],
            ),
        ] {
            let ask = read(body).unwrap();
            assert_eq!(ask.prompts, prompts, "{body}");
            assert_eq!(ask.shared.max_tokens, Some(16));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, code, param) in [
            ("{}", "invalid_value", "prompt"),
            (r#"{"prompt": []}"#, "invalid_value", "prompt"),
            (r#"{"prompt": 5}"#, "invalid_value", "prompt"),
            (r#"{"prompt": ["a", 5]}"#, "invalid_value", "prompt"),
            (r#"{"prompt": [1, -5]}"#, "invalid_value", "prompt[1]"),
            (
                r#"{"prompt": ["a", "b", "c"], "n": 3}"#,
                "invalid_value",
                "prompt",
            ),
            (
                r#"{"prompt": ["a", "b"], "session": "s"}"#,
                "invalid_value",
                "prompt",
            ),
            (
                r#"{"prompt": "a", "logprobs": true}"#,
                "invalid_value",
                "logprobs",
            ),
            (
                r#"{"prompt": "a", "logprobs": 300}"#,
                "invalid_value",
                "logprobs",
            ),
            (r#"{"prompt": "a", "echo": 1}"#, "invalid_value", "echo"),
            (
                r#"{"prompt": "a", "echo": true, "session": "s"}"#,
                "invalid_value",
                "echo",
            ),
            (
                r#"{"prompt": "a", "suffix": "b"}"#,
                "unsupported_parameter",
                "suffix",
            ),
            (
                r#"{"prompt": "a", "best_of": 2}"#,
                "unsupported_parameter",
                "best_of",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(
                (error.code, error.param.as_deref()),
                (code, Some(param)),
                "{body}"
            );
        }
        read(r#"{"prompt": "a", "echo": false, "suffix": "", "best_of": 1}"#).unwrap();
    }
}

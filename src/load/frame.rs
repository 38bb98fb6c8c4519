//! What the server says: events of a stream, and bodies of errors.

use serde_json::Value;

use super::record::Counted;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// `[DONE]`.
    Done,
    /// An error in place of the rest.
    Error(Complaint),
    /// A part of the answer.
    Part {
        /// Its text; empty where only a role, an end or usage is told.
        text: String,
        /// Why the answer ended.
        finish_reason: Option<String>,
        /// Token counts.
        counted: Option<Counted>,
    },
}

/// An error as the server tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complaint {
    /// Its name for programs: `code`, or `type` where there is none.
    pub code: Option<String>,
    /// In words.
    pub message: Option<String>,
}

/// Reads the data of an event.
///
/// # Errors
/// Data that is not JSON, or no object of the API.
pub fn read_frame(data: &str) -> Result<Frame, String> {
    if data.trim() == "[DONE]" {
        return Ok(Frame::Done);
    }
    let value: Value =
        serde_json::from_str(data).map_err(|error| format!("an event is not JSON: {error}"))?;
    if let Some(complaint) = complaint(&value) {
        return Ok(Frame::Error(complaint));
    }
    let choices = value.get("choices").and_then(Value::as_array);
    let choices = choices.ok_or("an event has no choices")?;
    let mut text = String::new();
    let mut finish_reason = None;
    for choice in choices {
        let delta = choice.get("delta");
        let of_delta = |name| delta.and_then(|delta| delta.get(name));
        let texts = [
            of_delta("reasoning_content"),
            of_delta("content"),
            choice.get("text"),
        ];
        text.extend(texts.into_iter().flatten().filter_map(Value::as_str));
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        finish_reason = finish_reason.or(reason.map(str::to_owned));
    }
    Ok(Frame::Part {
        text,
        finish_reason,
        counted: value.get("usage").and_then(counted),
    })
}

fn counted(usage: &Value) -> Option<Counted> {
    let count = |name: &str| usage.get(name).and_then(Value::as_u64);
    let details = usage.get("prompt_tokens_details");
    let cached = details.and_then(|details| details.get("cached_tokens"));
    Some(Counted {
        prompt: count("prompt_tokens")?,
        cached: cached.and_then(Value::as_u64).unwrap_or(0),
        output: count("completion_tokens").unwrap_or(0),
    })
}

/// The error in a body, if it is one.
pub fn complaint(body: &Value) -> Option<Complaint> {
    let error = body.get("error").filter(|error| !error.is_null())?;
    if let Some(message) = error.as_str() {
        return Some(Complaint {
            code: None,
            message: Some(message.to_owned()),
        });
    }
    let field = |name: &str| match error.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Some(Complaint {
        code: field("code").or_else(|| field("type")),
        message: field("message"),
    })
}

/// Seconds of a `Retry-After` header; a date is not read.
pub fn retry_after(value: &str) -> Option<f64> {
    let seconds: f64 = value.trim().parse().ok()?;
    (0.0..1e9).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(text: &str, finish_reason: Option<&str>, counted: Option<Counted>) -> Frame {
        Frame::Part {
            text: text.to_owned(),
            finish_reason: finish_reason.map(str::to_owned),
            counted,
        }
    }

    #[test]
    fn events_are_read() {
        let counted = Counted {
            prompt: 9,
            cached: 4,
            output: 3,
        };
        for (data, frame) in [
            ("[DONE]", Frame::Done),
            (
                r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
                part("", None, None),
            ),
            (
                r#"{"choices":[{"delta":{"content":"é"}}]}"#,
                part("é", None, None),
            ),
            (
                r#"{"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
                part("hm", None, None),
            ),
            (
                r#"{"choices":[{"text":"a","finish_reason":"length"}]}"#,
                part("a", Some("length"), None),
            ),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#,
                part("", None, Some(counted)),
            ),
            (
                r#"{"error":{"message":"gone","type":"server_error","code":"worker_lost"}}"#,
                Frame::Error(Complaint {
                    code: Some("worker_lost".to_owned()),
                    message: Some("gone".to_owned()),
                }),
            ),
            (
                r#"{"error":"Unauthorized"}"#,
                Frame::Error(Complaint {
                    code: None,
                    message: Some("Unauthorized".to_owned()),
                }),
            ),
        ] {
            assert_eq!(read_frame(data), Ok(frame), "{data}");
        }
        for bad in ["", "{", "[]", "3", r#"{"choices":3}"#] {
            assert!(read_frame(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn retries_are_told_in_seconds() {
        assert_eq!(retry_after(" 2 "), Some(2.0));
        for other in ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "nan", ""] {
            assert_eq!(retry_after(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(data in ".{0,80}") {
            let _ = read_frame(&data);
        }

        #[test]
        fn any_event_is_read_or_refused(text in ".{0,9}", number: i64, nest in 0_usize..4) {
            for shape in ["choices", "usage", "error", "delta"] {
                let mut value = serde_json::json!({ shape: [{ "delta": { "content": text }, "text": number }] });
                for _ in 0..nest {
                    value = serde_json::json!({ "choices": [{ shape: value, "finish_reason": number }], "usage": text });
                }
                let _ = read_frame(&value.to_string());
            }
        }
    }
}

//! Every refusal and failure in one JSON shape, with stable codes.

use serde_json::{Value, json};

use crate::runtime::{BadAsk, BadTurn, ModelError, SessionError};
use crate::sample::BadParam;
use crate::sched::{Busy, Failure};
use crate::text::TextError;

/// How many seconds a client is told to wait when the server is busy.
const RETRY_BUSY: u32 = 1;
/// The same when the server stops: another one may be up by then.
const RETRY_STOPPING: u32 = 5;

/// What a client is told instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct ApiError {
    /// The HTTP status.
    pub(in crate::http) status: u16,
    /// What, where, and what to do next.
    pub(in crate::http) message: String,
    /// The parameter that is at fault.
    pub(in crate::http) param: Option<String>,
    /// A stable name for programs.
    pub(in crate::http) code: &'static str,
    /// Seconds after which another try makes sense.
    pub(in crate::http) retry_after: Option<u32>,
    /// Tokens of the prompt and of the context, when they do not fit.
    pub(in crate::http) counts: Option<(usize, usize)>,
}

impl ApiError {
    pub(in crate::http) fn new(
        status: u16,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        ApiError {
            status,
            message: message.into(),
            param: None,
            code,
            retry_after: None,
            counts: None,
        }
    }

    /// A parameter that is not what it should be.
    pub(in crate::http) fn bad(param: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        let param = param.into();
        ApiError::new(400, "invalid_value", format!("{param} {reason}")).about(param)
    }

    /// A parameter that is known and not offered.
    pub(in crate::http) fn unsupported(param: impl Into<String>, hint: &str) -> Self {
        let param = param.into();
        let message = format!("{param} is not supported: {hint}");
        ApiError::new(400, "unsupported_parameter", message).about(param)
    }

    /// A server that stops.
    pub(in crate::http) fn stopping() -> Self {
        let text = "the server is shutting down: try again later";
        ApiError::new(503, "shutting_down", text).retry(RETRY_STOPPING)
    }

    /// A request that took longer than it may.
    pub(in crate::http) fn timeout() -> Self {
        let text =
            "the request took longer than http.request_timeout: ask for fewer tokens, or raise it";
        ApiError::new(504, "request_timeout", text)
    }

    pub(in crate::http) fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(in crate::http) fn retry(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Whether the fault is on this side.
    pub(in crate::http) fn is_ours(&self) -> bool {
        self.status >= 500 && self.code != "shutting_down"
    }

    /// OpenAI's name for the kind of error.
    fn kind(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// The body.
    pub(in crate::http) fn body(&self) -> Value {
        let mut error = json!({
            "message": self.message,
            "type": self.kind(),
            "param": self.param,
            "code": self.code,
        });
        if let (Some((prompt, context)), Some(error)) = (self.counts, error.as_object_mut()) {
            error.insert("prompt_tokens".to_owned(), json!(prompt));
            error.insert("context_length".to_owned(), json!(context));
        }
        json!({ "error": error })
    }
}

impl From<BadParam> for ApiError {
    fn from(bad: BadParam) -> Self {
        ApiError::bad(bad.param, bad.reason)
    }
}

impl From<BadAsk> for ApiError {
    fn from(bad: BadAsk) -> Self {
        let text = bad.to_string();
        let invalid = |param| ApiError::new(400, "invalid_value", text.clone()).about(param);
        match bad {
            BadAsk::EmptyPrompt | BadAsk::BadToken { .. } => invalid("prompt"),
            BadAsk::NothingAsked => invalid("max_tokens"),
            BadAsk::Policy(_) | BadAsk::OtherPolicy { .. } => invalid("kv"),
            BadAsk::TooLong {
                prompt_tokens,
                context,
                ..
            } => ApiError {
                counts: Some((prompt_tokens, context)),
                ..ApiError::new(400, "context_length_exceeded", text).about("prompt")
            },
        }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        ApiError::new(400, "invalid_prompt", error.to_string())
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let text = error.to_string();
        let error = match error {
            ModelError::NotFound(_) => ApiError::new(404, "model_not_found", text),
            ModelError::LoadFailed { .. } => ApiError::new(500, "model_load_failed", text),
            ModelError::NoMemory { .. } => ApiError::new(503, "no_memory", text).retry(RETRY_BUSY),
            ModelError::Busy(_) => ApiError::new(409, "model_busy", text).retry(RETRY_BUSY),
            ModelError::ShuttingDown => return ApiError::stopping(),
        };
        error.about("model")
    }
}

impl From<Busy> for ApiError {
    fn from(busy: Busy) -> Self {
        let text = busy.to_string();
        match busy {
            Busy::QueueFull { .. } | Busy::TokensFull { .. } => {
                ApiError::new(429, "queue_full", text).retry(RETRY_BUSY)
            }
            Busy::TooLarge { .. } => ApiError::new(400, "kv_too_large", text).about("max_tokens"),
            Busy::Draining => ApiError::stopping(),
            Busy::SessionLost(session) => SessionError::Unknown(session).into(),
        }
    }
}

impl From<BadTurn> for ApiError {
    fn from(bad: BadTurn) -> Self {
        let text = bad.to_string();
        let invalid = |param| ApiError::new(400, "invalid_value", text.clone()).about(param);
        match bad {
            BadTurn::NothingNew(_) => invalid("messages"),
            BadTurn::OtherKind { .. } => invalid("session"),
            BadTurn::Text(error) => ApiError::from(error).about("prompt"),
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let text = error.to_string();
        match error {
            SessionError::Busy(_) => ApiError::new(409, "session_busy", text)
                .retry(RETRY_BUSY)
                .about("session"),
            SessionError::Unknown(_) => {
                ApiError::new(404, "session_not_found", text).about("session")
            }
            SessionError::Taken(_) => ApiError::new(409, "session_exists", text).about("to"),
            SessionError::Failed(_) => ApiError::new(500, "session_failed", text),
            SessionError::Lost(_) => ApiError::new(500, "worker_lost", text),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::QueueTimeout(_) => ApiError::new(429, "queue_timeout", text).retry(RETRY_BUSY),
            Failure::Forward(_) => ApiError::new(500, "computation_failed", text),
            Failure::WorkerLost(_) => ApiError::new(500, "worker_lost", text),
            Failure::SessionLost(session) => SessionError::Unknown(session).into(),
            Failure::ShutDown => ApiError::new(503, "shutting_down", text).retry(RETRY_STOPPING),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status_type_code_and_param() {
        let long = BadAsk::TooLong {
            model: "m".to_owned(),
            prompt_tokens: 300,
            context: 256,
        };
        let full = Busy::QueueFull {
            waiting: 1,
            limit: 1,
        };
        let lost = Failure::WorkerLost("x".to_owned());
        let session: crate::ids::SessionId = "s".parse().unwrap();
        let table: [(ApiError, u16, &str, &str, Option<&str>); 10] = [
            (
                ApiError::bad("top_p", "is 2"),
                400,
                "invalid_request_error",
                "invalid_value",
                Some("top_p"),
            ),
            (
                ApiError::unsupported("tools", "x"),
                400,
                "invalid_request_error",
                "unsupported_parameter",
                Some("tools"),
            ),
            (
                long.into(),
                400,
                "invalid_request_error",
                "context_length_exceeded",
                Some("prompt"),
            ),
            (
                ModelError::NotFound("x".to_owned()).into(),
                404,
                "not_found_error",
                "model_not_found",
                Some("model"),
            ),
            (full.into(), 429, "rate_limit_error", "queue_full", None),
            (
                Busy::Draining.into(),
                503,
                "server_error",
                "shutting_down",
                None,
            ),
            (lost.into(), 500, "server_error", "worker_lost", None),
            (
                Failure::SessionLost(session.clone()).into(),
                404,
                "not_found_error",
                "session_not_found",
                Some("session"),
            ),
            (
                SessionError::Busy(session).into(),
                409,
                "invalid_request_error",
                "session_busy",
                Some("session"),
            ),
            (
                ApiError::timeout(),
                504,
                "server_error",
                "request_timeout",
                None,
            ),
        ];
        for (error, status, kind, code, param) in table {
            let body = error.body();
            let got = &body["error"];
            assert_eq!(error.status, status, "{body}");
            assert_eq!(got["type"], kind, "{body}");
            assert_eq!(got["code"], code, "{body}");
            assert_eq!(got["param"].as_str(), param, "{body}");
            assert!(!got["message"].as_str().unwrap().is_empty(), "{body}");
            assert_eq!(
                error.retry_after.is_some(),
                matches!(status, 409 | 429 | 503),
                "{body}"
            );
        }
    }

    #[test]
    fn an_overlong_prompt_says_both_counts() {
        let error = ApiError::from(BadAsk::TooLong {
            model: "m".to_owned(),
            prompt_tokens: 300,
            context: 256,
        });
        let body = error.body();
        assert_eq!(body["error"]["prompt_tokens"], 300);
        assert_eq!(body["error"]["context_length"], 256);
        let text = body["error"]["message"].as_str().unwrap();
        assert!(text.contains("300") && text.contains("256"), "{text}");
    }
}

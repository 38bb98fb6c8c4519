//! Every refusal and failure in one JSON shape, with stable codes.

use std::time::Duration;

use serde_json::{Value, json};

use super::Dialect;
use crate::runtime::{BadAsk, BadTurn, ModelError, RunsError, SessionError};
use crate::sample::{BadParam, Unmet};
use crate::sched::{Busy, Failure};
use crate::store::StoreError;
use crate::text::TextError;
use crate::train::runs::RunError;

/// How many seconds a client is told to wait when the server is busy and nothing better is known.
const RETRY_BUSY: u32 = 1;
/// The same when the server stops: another one may be up by then.
const RETRY_STOPPING: u32 = 5;

/// The longest that a client is told to wait for a queue: what was measured is not the future.
const RETRY_MOST: u32 = 120;

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
    /// What programs are told beside.
    detail: Option<Detail>,
}

/// Numbers of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Tokens of a prompt that does not fit.
    Prompt { tokens: usize, context: usize },
    /// The place in the queue that there was none of, and about how long it would have waited there.
    Queue {
        position: usize,
        wait: Option<Duration>,
    },
}

impl Detail {
    fn add_to(self, error: &mut Value) {
        match self {
            Detail::Prompt { tokens, context } => {
                error["prompt_tokens"] = json!(tokens);
                error["context_length"] = json!(context);
            }
            Detail::Queue { position, wait } => {
                let wait = wait.map(|wait| wait.as_millis() as u64);
                error["queue_position"] = json!(position);
                error["estimated_wait_ms"] = json!(wait);
            }
        }
    }
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
            detail: None,
        }
    }

    /// A queue that has no place left.
    fn full(text: String, position: usize, wait: Option<Duration>) -> Self {
        let seconds = wait.map(|wait| wait.as_secs_f64().ceil() as u32);
        let retry = seconds.map_or(RETRY_BUSY, |seconds| seconds.clamp(RETRY_BUSY, RETRY_MOST));
        ApiError {
            detail: Some(Detail::Queue { position, wait }),
            ..ApiError::new(429, "queue_full", text).retry(retry)
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

    /// The same about a parameter that goes by another name in the API that was asked.
    pub(in crate::http) fn renamed(mut self, from: &str, to: &str) -> Self {
        self.message = self.message.replacen(from, to, 1);
        self.about(to)
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

    /// Anthropic's name for it, where it has another.
    fn kind_there(&self) -> &'static str {
        match self.status {
            413 => "request_too_large",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => self.kind(),
        }
    }

    /// The body, in OpenAI's shape.
    pub(in crate::http) fn body(&self) -> Value {
        self.body_in(Dialect::OpenAi)
    }

    /// The body in the shape of an API. Ollama's has the message alone, Anthropic's the kind with it; code, parameter and
    /// numbers stand beside them.
    pub(in crate::http) fn body_in(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::OpenAi => {
                let mut error = json!({
                    "message": self.message,
                    "type": self.kind(),
                    "param": self.param,
                    "code": self.code,
                });
                self.add_detail(&mut error);
                json!({ "error": error })
            }
            Dialect::Anthropic => {
                let mut error = json!({
                    "type": self.kind_there(),
                    "message": self.message,
                    "code": self.code,
                    "param": self.param,
                });
                self.add_detail(&mut error);
                json!({ "type": "error", "error": error })
            }
            Dialect::Ollama => {
                let mut error = json!({
                    "error": self.message,
                    "code": self.code,
                    "param": self.param,
                });
                self.add_detail(&mut error);
                error
            }
        }
    }

    fn add_detail(&self, error: &mut Value) {
        if let Some(detail) = self.detail {
            detail.add_to(error);
        }
    }
}

impl From<BadParam> for ApiError {
    fn from(bad: BadParam) -> Self {
        ApiError::bad(bad.param, bad.reason)
    }
}

impl From<Unmet> for ApiError {
    fn from(unmet: Unmet) -> Self {
        ApiError::new(500, "invalid_output", unmet.to_string())
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
                detail: Some(Detail::Prompt {
                    tokens: prompt_tokens,
                    context,
                }),
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
            ModelError::WrongState { .. } => ApiError::new(409, "wrong_model_state", text),
            ModelError::ShuttingDown => return ApiError::stopping(),
        };
        error.about("model")
    }
}

impl From<Busy> for ApiError {
    fn from(busy: Busy) -> Self {
        let text = busy.to_string();
        match busy {
            Busy::QueueFull { position, wait, .. }
            | Busy::ShareFull { position, wait, .. }
            | Busy::TokensFull { position, wait, .. } => ApiError::full(text, position, wait),
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

impl From<RunsError> for ApiError {
    fn from(error: RunsError) -> Self {
        let text = error.to_string();
        match error {
            RunsError::Off => ApiError::new(404, "no_training", text),
            RunsError::Run(RunError::Unknown { .. }) => ApiError::new(404, "run_not_found", text),
            RunsError::Busy(_) => ApiError::new(409, "run_busy", text).retry(RETRY_BUSY),
            RunsError::Run(RunError::Locked { .. }) => {
                ApiError::new(409, "run_busy", text).retry(RETRY_BUSY)
            }
            RunsError::WrongState { .. } => ApiError::new(409, "wrong_run_state", text),
            RunsError::Recipe(_) | RunsError::NoRecipe { .. } => {
                ApiError::new(400, "invalid_recipe", text).about("recipe")
            }
            RunsError::NoMemory { .. } => ApiError::new(503, "no_memory", text).retry(RETRY_BUSY),
            RunsError::ShuttingDown => ApiError::stopping(),
            RunsError::Run(_) | RunsError::Failed(_) => ApiError::new(500, "run_failed", text),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::UnknownModel { .. } => {
                ApiError::new(404, "model_not_found", text).about("model")
            }
            StoreError::BadSource { .. } => {
                ApiError::new(400, "invalid_value", text).about("model")
            }
            StoreError::Exists { .. } => ApiError::new(409, "model_exists", text).about("model"),
            StoreError::Busy { .. } => ApiError::new(409, "model_busy", text)
                .retry(RETRY_BUSY)
                .about("model"),
            StoreError::Fetch { .. } | StoreError::Mismatch { .. } => {
                ApiError::new(502, "pull_failed", text)
            }
            StoreError::NoRoom { .. } => ApiError::new(507, "no_room", text),
            _ => ApiError::new(500, "store_failed", text),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::QueueTimeout(_) => ApiError::new(429, "queue_timeout", text).retry(RETRY_BUSY),
            Failure::FirstTokenTimeout(_) => {
                ApiError::new(503, "first_token_timeout", text).retry(RETRY_BUSY)
            }
            Failure::TotalTimeout(_) => ApiError::new(504, "request_timeout", text),
            Failure::Forward(_) => ApiError::new(500, "computation_failed", text),
            Failure::WorkerLost(_) => ApiError::new(500, "worker_lost", text),
            Failure::SessionLost(session) => SessionError::Unknown(session).into(),
            Failure::Stuck(_) => ApiError::new(400, "constraint_too_complex", text),
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
            position: 2,
            wait: None,
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
    fn ollama_is_told_the_message_alone_and_the_rest_beside_it() {
        let error = ApiError::bad("options.seed", "is odd");
        let told = json!({"error": "options.seed is odd", "code": "invalid_value", "param": "options.seed"});
        assert_eq!(error.body_in(Dialect::Ollama), told);
        let full = ApiError::full("full".to_owned(), 7, None).body_in(Dialect::Ollama);
        assert_eq!(full["queue_position"], 7);
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
    #[test]
    fn a_full_queue_says_where_one_would_stand_and_for_how_long() {
        for (wait, retry, told) in [
            (None, 1, Value::Null),
            (Some(Duration::from_millis(2_300)), 3, json!(2_300)),
            (Some(Duration::from_millis(20)), 1, json!(20)),
            (Some(Duration::from_secs(4_000)), 120, json!(4_000_000)),
        ] {
            let error = ApiError::from(Busy::TokensFull {
                waiting: 900,
                limit: 1000,
                position: 7,
                wait,
            });
            let body = error.body();
            assert_eq!(error.retry_after, Some(retry), "{body}");
            assert_eq!(body["error"]["queue_position"], 7, "{body}");
            assert_eq!(body["error"]["estimated_wait_ms"], told, "{body}");
        }
    }
}

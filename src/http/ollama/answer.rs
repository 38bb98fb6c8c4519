//! The lines of an answer of `/api/generate` and `/api/chat`.

use std::time::{Duration, Instant, SystemTime};

use actix_web::web::Bytes;
use serde::Serialize;

use super::ask::Route;
use crate::http::logprobs::Teller;
use crate::http::narration::Narrator;
use crate::http::respond::line;
use crate::http::wire::{ApiError, ChatLogprob, Dialect};
use crate::kv::KvReport;
use crate::runtime::{Finish, TokenPiece};
use crate::sched::FinishReason;

/// What all lines of an answer share.
pub(super) struct Lines {
    pub(super) route: Route,
    /// The model, by the name that it was asked by.
    pub(super) model: String,
    /// When the request came.
    pub(super) began: Instant,
    /// How long it took until the model was there.
    pub(super) load: Duration,
    /// Tells log-probabilities, when they are asked for.
    pub(super) teller: Option<Teller>,
}

/// A line, or a whole answer.
#[derive(Debug, Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Spoken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<ChatLogprob>>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(flatten)]
    took: Option<Took>,
}

#[derive(Debug, Serialize)]
struct Spoken {
    role: &'static str,
    content: String,
}

/// Counts of tokens, and times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Took {
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
    prompt_eval_duration: u64,
    eval_count: usize,
    eval_duration: u64,
    kv: KvReport,
}

/// A time as these answers have it.
pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Lines {
    fn line(&self, text: String) -> Line<'_> {
        let (response, message) = match self.route {
            Route::Generate => (Some(text), None),
            Route::Chat => (
                None,
                Some(Spoken {
                    role: "assistant",
                    content: text,
                }),
            ),
        };
        Line {
            model: &self.model,
            created_at: rfc3339(SystemTime::now()),
            response,
            message,
            logprobs: None,
            done: false,
            done_reason: None,
            took: None,
        }
    }

    fn last(&self, text: String, finish: &Finish) -> Line<'_> {
        let usage = &finish.usage;
        let reason = match finish.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        Line {
            done: true,
            done_reason: Some(reason),
            took: Some(Took {
                total_duration: nanoseconds(self.began.elapsed()),
                load_duration: nanoseconds(self.load),
                prompt_eval_count: usage.prompt_tokens,
                prompt_eval_duration: nanoseconds(usage.first_token.saturating_sub(usage.queue)),
                eval_count: usage.completion_tokens,
                eval_duration: nanoseconds(usage.total.saturating_sub(usage.first_token)),
                kv: finish.kv.clone(),
            }),
            ..self.line(text)
        }
    }

    /// An answer at once.
    pub(super) fn whole(
        &self,
        text: String,
        tokens: &[TokenPiece],
        finish: &Finish,
    ) -> impl Serialize {
        let logprobs = self.teller.as_ref().map(|teller| teller.entries(tokens));
        Line {
            logprobs,
            ..self.last(text, finish)
        }
    }

    /// The answer to a request that says nothing: the model was loaded, or let go of.
    pub(super) fn nothing(&self, reason: &'static str) -> impl Serialize {
        Line {
            done: true,
            done_reason: Some(reason),
            ..self.line(String::new())
        }
    }
}

impl Narrator for Lines {
    fn piece(&mut self, text: String, tokens: &[TokenPiece]) -> Vec<Bytes> {
        let told = self.teller.as_ref().filter(|_| !tokens.is_empty());
        let logprobs = told.map(|teller| teller.entries(tokens));
        if text.is_empty() && logprobs.is_none() {
            return Vec::new();
        }
        vec![line(&Line {
            logprobs,
            ..self.line(text)
        })]
    }

    fn done(&mut self, finish: &Finish) -> Vec<Bytes> {
        vec![line(&self.last(String::new(), finish))]
    }

    fn failed(&mut self, error: &ApiError) -> Vec<Bytes> {
        vec![line(&error.body_in(Dialect::Ollama))]
    }
}

//! What a caller asks of an engine, and what it is told back.

use std::time::Duration;

use serde::Serialize;

use crate::ids::{RequestId, SessionId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::sample::{SamplingParams, Stuck, TokenLogprob};

use super::plan::ForwardError;

/// One generation: a prompt as ids and how to continue it. Checked before it is made; an engine trusts it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The name in logs and answers.
    pub id: RequestId,
    /// The prompt, at least one token.
    pub prompt: Vec<TokenId>,
    /// Tokens to generate at most; none only where something is told of the prompt.
    pub max_tokens: usize,
    /// Ids that end the answer; empty when the end of text is to be ignored.
    pub stop_ids: Vec<TokenId>,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// How the KV cache is bounded.
    pub policy: Policy,
    /// Who may share its prompt's beginning; `None` when nobody may.
    pub tenant: Option<String>,
    /// The conversation that it continues.
    pub session: Option<Continue>,
    /// Its place among others.
    pub standing: Standing,
    /// What is told of the prompt. Its beginning is not shared then, nor does it continue a session: what a cache holds
    /// is not computed.
    pub of_prompt: OfPrompt,
}

/// What is told of a prompt, beside the answer to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OfPrompt {
    /// Nothing.
    #[default]
    Nothing,
    /// The log-probability of each token but the first, with as many of the best in its place as
    /// [`SamplingParams::logprobs`] says.
    Logprobs,
    /// What the model's head is given for each token: the hidden state behind the last block and norm.
    States,
}

/// What a request's place among others is decided by. Which of it counts is the prioritizer's affair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its class: lower runs first; 0 is the usual.
    pub priority: i32,
    /// Who asks: shares are between keys.
    pub key: String,
    /// How soon after submission its first token is wanted; `None` leaves it to the engine.
    pub deadline: Option<Duration>,
}

/// A conversation whose cache outlives the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continue {
    /// Its name.
    pub session: SessionId,
    /// Tokens that its parked cache has seen: the prompt goes on from there. 0 starts a new one.
    pub seen: usize,
}

/// Why a request was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// The queue holds as many requests as it may.
    #[error("the queue is full: {waiting} requests wait, {limit} are allowed; {}", later(*.wait))]
    QueueFull {
        /// Requests waiting.
        waiting: usize,
        /// The limit.
        limit: usize,
        /// The place in the queue that it would have had; 1 is next.
        position: usize,
        /// How long what is before it takes, at the pace of late; `None` before anything was measured.
        wait: Option<Duration>,
    },
    /// Under `fair`, the key holds as many of the queue's places as are left for others.
    #[error(
        "the queue has no more places for this key: {waiting} of its requests wait, and {free} places are left for others; {}",
        later(*.wait)
    )]
    ShareFull {
        /// Requests of the key that wait.
        waiting: usize,
        /// Places that nobody has.
        free: usize,
        /// The place in the queue that it would have had; 1 is next.
        position: usize,
        /// How long what is before it takes, at the pace of late; `None` before anything was measured.
        wait: Option<Duration>,
    },
    /// The queue holds as many prompt tokens as it may.
    #[error(
        "the queue is full: {waiting} prompt tokens wait, {limit} are allowed; {}",
        later(*.wait)
    )]
    TokensFull {
        /// Prompt tokens waiting.
        waiting: usize,
        /// The limit.
        limit: usize,
        /// The place in the queue that it would have had; 1 is next.
        position: usize,
        /// How long what is before it takes, at the pace of late; `None` before anything was measured.
        wait: Option<Duration>,
    },
    /// The request can never fit.
    #[error(
        "the request needs {needed} bytes of kv cache and all of it is {total}: shorten the prompt, lower max_tokens, \
         or bound it with a kv policy"
    )]
    TooLarge {
        /// Bytes in the worst case.
        needed: usize,
        /// Bytes that there are.
        total: usize,
    },
    /// The engine takes in nothing more.
    #[error("the server is shutting down")]
    Draining,
    /// The cache that it would continue is gone.
    #[error("{}", ForwardError::UnknownSession(.0.clone()))]
    SessionLost(SessionId),
}

/// When to try again, for people.
fn later(wait: Option<Duration>) -> String {
    match wait {
        Some(wait) => format!(
            "try again in about {} s",
            wait.as_secs_f64().ceil().max(1.0)
        ),
        None => "try again later".to_owned(),
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its text, or a stop string was met.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
}

/// Why an admitted request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It waited too long.
    #[error(
        "the request waited {0:?} and was not started: the server is overloaded, try again later"
    )]
    QueueTimeout(Duration),
    /// It was started and had no token in time.
    #[error(
        "the first token did not come within {0:?} (scheduler.first_token_timeout): try again later, or shorten the \
         prompt"
    )]
    FirstTokenTimeout(Duration),
    /// It took longer than a request may.
    #[error(
        "the answer was not complete within {0:?} (scheduler.total_timeout): ask for fewer tokens, or try again later"
    )]
    TotalTimeout(Duration),
    /// The step failed.
    #[error("the computation failed: {0}")]
    Forward(String),
    /// The worker panicked; a fresh one serves the next request.
    #[error("the compute worker failed and was replaced, this request is lost: {0}; try it again")]
    WorkerLost(String),
    /// The cache that it would continue went with its device.
    #[error("{}", ForwardError::UnknownSession(.0.clone()))]
    SessionLost(SessionId),
    /// No token keeps to what the answer was asked to be.
    #[error(transparent)]
    Stuck(Stuck),
    /// The drain deadline passed.
    #[error("the server shut down before the answer was complete")]
    ShutDown,
}

/// Token counts and times of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens that a cache already held.
    pub cached_tokens: usize,
    /// Tokens generated, the end-of-text token included.
    pub completion_tokens: usize,
    /// Guesses of the next tokens that the model checked.
    pub drafted_tokens: usize,
    /// Of them, those that were right.
    pub accepted_tokens: usize,
    /// From submission to the first row.
    pub queue: Duration,
    /// From submission to the first token; zero when there was none.
    pub first_token: Duration,
    /// From submission to the end.
    pub total: Duration,
    /// How often it was paused for others.
    pub preemptions: usize,
    /// How long it was paused for, in all.
    pub paused: Duration,
}

/// What an engine tells the caller, in order. `Finished` or `Failed` is the last.
#[derive(Debug, Clone)]
pub enum Event {
    /// Log-probabilities of the next tokens of the prompt, from the second on.
    Prompt(Vec<TokenLogprob>),
    /// Hidden states of the next tokens of the prompt, so many of them, `[tokens, hidden]`.
    States(usize, Vec<f32>),
    /// A generated token. The token that ends the text is not sent.
    Token {
        /// Its id.
        token: TokenId,
        /// Its log-probability, when asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The answer is complete.
    Finished {
        /// Why.
        reason: FinishReason,
        /// What it took.
        usage: Usage,
        /// What was kept.
        kv: KvReport,
    },
    /// There will be no more.
    Failed(Failure),
}

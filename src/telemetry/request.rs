//! The one log line of a request.

use crate::ids::RequestId;

/// What happened to one request, without a word of its prompt or answer.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestLine {
    /// The request.
    pub id: RequestId,
    /// The model that answered.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of those, tokens whose keys and values were already there.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub output_tokens: usize,
    /// Milliseconds between arrival and the first step.
    pub queue_ms: u64,
    /// Milliseconds between arrival and the first token; `None` when there was none.
    pub first_token_ms: Option<u64>,
    /// Milliseconds between arrival and end.
    pub total_ms: u64,
    /// Why the prefix cache did not hold more of the prompt; `None` when it held all that it could.
    pub prefix_missed: Option<String>,
    /// Why it ended: `stop`, `length`, `cancelled`, `failed`, ...
    pub finish: &'static str,
}

impl RequestLine {
    /// Logs the line at info level under the target `llamahome::request`.
    pub fn emit(&self) {
        tracing::info!(
            target: "llamahome::request",
            request = self.id.as_str(),
            model = self.model.as_str(),
            prompt_tokens = self.prompt_tokens,
            cached_tokens = self.cached_tokens,
            output_tokens = self.output_tokens,
            queue_ms = self.queue_ms,
            first_token_ms = self.first_token_ms,
            total_ms = self.total_ms,
            prefix_missed = self.prefix_missed.as_deref(),
            finish = self.finish,
            "request finished"
        );
    }
}

//! From what a caller asks to a checked [`Request`]: past this point nothing is validated again.

use crate::ids::{RequestId, TokenId};
use crate::kv::{BadPolicy, KvChoice};
use crate::sample::SamplingParams;
use crate::sched::Request;

use super::routes::ServedModel;

/// What a caller asks of a model, prompt already as ids.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The name in logs and answers.
    pub id: RequestId,
    /// The prompt.
    pub prompt: Vec<TokenId>,
    /// Tokens to generate at most; what the context leaves if `None`.
    pub max_tokens: Option<usize>,
    /// Go on after an end-of-text token.
    pub ignore_eos: bool,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// How the KV cache is bounded.
    pub kv: KvChoice,
}

/// Why an ask is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAsk {
    /// Nothing to continue.
    #[error("the prompt is empty: give at least one token")]
    EmptyPrompt,
    /// Nothing to generate.
    #[error("max_tokens is 0: ask for at least one token")]
    NothingAsked,
    /// More than the context holds. Never cut in silence.
    #[error(
        "the prompt has {prompt_tokens} tokens and the context of {model} holds {context}, of which at least one is \
         for the answer: shorten the prompt"
    )]
    TooLong {
        /// The model.
        model: String,
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// An id that the model does not have.
    #[error("token id {token} is outside of the model's vocabulary of {vocab}")]
    BadToken {
        /// The id.
        token: TokenId,
        /// The size.
        vocab: usize,
    },
    /// The KV numbers make no policy.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
}

impl ServedModel {
    /// Checks `ask` against this model.
    pub fn request(&self, ask: Ask) -> Result<Request, BadAsk> {
        if ask.prompt.is_empty() {
            return Err(BadAsk::EmptyPrompt);
        }
        if ask.max_tokens == Some(0) {
            return Err(BadAsk::NothingAsked);
        }
        let vocab = self.tokenizer.vocab_size();
        if let Some(&token) = ask.prompt.iter().find(|&&t| t as usize >= vocab) {
            return Err(BadAsk::BadToken { token, vocab });
        }
        let room = self.context.saturating_sub(ask.prompt.len());
        if room == 0 {
            return Err(BadAsk::TooLong {
                model: self.id.to_string(),
                prompt_tokens: ask.prompt.len(),
                context: self.context,
            });
        }
        let stop_ids = if ask.ignore_eos {
            Vec::new()
        } else {
            self.eos.clone()
        };
        Ok(Request {
            id: ask.id,
            // The answer says finish reason "length" when the context ends it.
            max_tokens: ask.max_tokens.unwrap_or(room).min(room),
            stop_ids,
            sampling: ask.sampling,
            policy: ask.kv.resolve(&self.kv, self.context, self.shape)?,
            prompt: ask.prompt,
        })
    }
}

//! The model as an evaluation sees it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::Message;

/// How well a text was predicted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// The sum of negative log-likelihoods, natural logarithm.
    pub nats: f64,
    /// Bytes of text that the counted tokens stand for; special and ignored tokens stand for none.
    pub bytes: u64,
    /// Tokens predicted.
    pub tokens: u64,
}

/// How probable a continuation is after its context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// The sum of log probabilities of its tokens, natural logarithm.
    pub log_probability: f64,
    /// Its tokens, at least 1.
    pub tokens: u64,
    /// Whether each token is the most probable one at its place.
    pub greedy: bool,
}

/// What a reply is asked for with.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Text to continue.
    Text(String),
    /// Messages to answer, through the model's chat template.
    Chat(Vec<Message>),
}

/// How replies are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateOptions {
    /// Tokens of a reply at most.
    pub max_new: usize,
    /// 0 takes the most probable token.
    pub temperature: f32,
    /// Replies to each prompt, at least 1.
    pub samples: usize,
    /// Texts at which a reply ends; they are not part of it.
    pub stop: Vec<String>,
}

impl Default for GenerateOptions {
    /// One greedy reply of at most 256 tokens.
    fn default() -> Self {
        GenerateOptions {
            max_new: 256,
            temperature: 0.0,
            samples: 1,
            stop: Vec::new(),
        }
    }
}

/// Why a model gave no measurement.
#[derive(Debug, Error)]
pub enum JudgeError {
    /// A text is longer than the model's context.
    #[error(
        "text {index} has {tokens} tokens, the model's context {context}; shorten the text, its few-shot examples or max_new"
    )]
    TooLong {
        /// Which of the texts, from 0.
        index: usize,
        /// Its tokens.
        tokens: usize,
        /// The context's.
        context: usize,
    },
    /// A continuation has no token of its own.
    #[error("continuation {index} has no tokens; give each choice some text")]
    Empty {
        /// Which of the pairs, from 0.
        index: usize,
    },
    /// A chat prompt for a model without a template.
    #[error(
        "the model has no chat template; name one, or evaluate the model with tasks of kind generation"
    )]
    NoTemplate,
    /// The model was interrupted, ran out of memory, or broke.
    #[error("the model failed: {0}")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A model under evaluation. Answers come in the order of the questions, as many as there were.
pub trait Judge {
    /// The loss of each text, from its first token on.
    ///
    /// # Errors
    /// A text beyond the context, or a failure of the model.
    fn losses(&mut self, texts: &[String]) -> Result<Vec<Loss>, JudgeError>;

    /// The likelihood of each `(context, continuation)`; the border of the two is that of the tokens of the whole text.
    ///
    /// # Errors
    /// A pair beyond the context or with an empty continuation, or a failure of the model.
    fn likelihoods(&mut self, pairs: &[(String, String)]) -> Result<Vec<Likelihood>, JudgeError>;

    /// `options.samples` replies to each prompt.
    ///
    /// # Errors
    /// A prompt beyond the context, messages for a model without template, or a failure of the model.
    fn generate(
        &mut self,
        prompts: &[Prompt],
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<String>>, JudgeError>;
}

//! What a sampler needs to know, in types that it cannot misread.

use std::num::NonZeroU32;

use super::grammar::Constraint;
use crate::ids::TokenId;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most probable token; of equals the one with the lower id.
    Greedy,
    /// A draw from the distribution, cut down in this order: temperature, top-k, top-p
    /// (<https://arxiv.org/abs/1904.09751>), min-p (<https://arxiv.org/abs/2407.01082>).
    Random {
        /// Divides the logits; in (0, 2].
        temperature: f32,
        /// How many of the most probable tokens stay; `None` keeps all.
        top_k: Option<NonZeroU32>,
        /// Share of probability that the most probable tokens must reach to stay; 1 keeps all.
        top_p: f32,
        /// Least probability as a share of the largest; 0 keeps all.
        min_p: f32,
    },
}

/// What makes tokens of the recent text less probable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalties {
    /// Divides positive logits and multiplies negative ones (<https://arxiv.org/abs/1909.05858>);
    /// 1 is off.
    pub repetition: f32,
    /// Taken from the logit of each token that occurs; 0 is off.
    pub presence: f32,
    /// Taken from the logit once for each time the token occurs; 0 is off.
    pub frequency: f32,
    /// How many of the last tokens, of prompt and answer, are counted.
    pub window: usize,
}

impl Default for Penalties {
    fn default() -> Self {
        Penalties {
            repetition: 1.0,
            presence: 0.0,
            frequency: 0.0,
            window: 64,
        }
    }
}

impl Penalties {
    /// Whether any of them changes a logit.
    pub fn are_on(&self) -> bool {
        let changes = self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0;
        changes && self.window > 0
    }
}

/// All that a sampler needs to know. The default is greedy, with nothing else on.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// How the token is chosen.
    pub sampling: Sampling,
    /// What recent tokens lose.
    pub penalties: Penalties,
    /// How many alternatives are told with each token's log-probability (0 to 20); `None` tells
    /// nothing.
    pub logprobs: Option<u8>,
    /// Seed of the draws.
    pub seed: u64,
    /// Added to logits; ids outside the vocabulary are without effect.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// What the answer is kept to.
    pub constraint: Option<Constraint>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        SamplingParams {
            sampling: Sampling::Greedy,
            penalties: Penalties::default(),
            logprobs: None,
            seed: 0,
            logit_bias: Vec::new(),
            constraint: None,
        }
    }
}

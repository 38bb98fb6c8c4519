//! The same number of tokens each step, running answers' included. Rows go to the line as long as one fits: which rows
//! a prompt is read in then depends on nothing but itself.

use std::time::Duration;

use super::{Batcher, Claim, Predictor, StepCost, in_order};
use crate::sched::settings::Config;

/// See the module.
#[derive(Debug)]
pub(super) struct FixedChunk {
    tokens: usize,
}

impl FixedChunk {
    pub(super) fn new(config: &Config) -> Self {
        FixedChunk {
            tokens: config.step_tokens,
        }
    }
}

impl Batcher for FixedChunk {
    fn budget(&self, decodes: &StepCost, _: Option<&Claim>, _: &Predictor) -> usize {
        self.tokens.saturating_sub(decodes.decodes)
    }

    fn slice(&self, _: &StepCost, _: &Predictor) -> Option<Duration> {
        None
    }

    fn least(&self) -> usize {
        usize::MAX
    }

    fn share(&self, budget: usize, claims: &[Claim]) -> Vec<usize> {
        in_order(budget, usize::MAX, claims)
    }
}

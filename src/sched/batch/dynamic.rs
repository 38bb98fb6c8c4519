//! As many prompt tokens as keep the step within a target time, by what this engine's own steps have taken: running
//! answers get their next token in time whatever is read beside them. With no answer running, nobody is kept waiting
//! and a step takes all it may.

use std::time::Duration;

use super::{Batcher, Claim, Predictor, StepCost, in_order};
use crate::sched::settings::Config;

/// Prompt tokens of a step before the predictor has learnt anything.
const FIRST_GUESS: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct DynamicChunk {
    target: Duration,
    least: usize,
    most: usize,
}

impl DynamicChunk {
    pub(super) fn new(config: &Config) -> Self {
        DynamicChunk {
            target: config.target_step.get(),
            least: config.min_chunk,
            most: config.max_chunk.max(config.min_chunk),
        }
    }
}

impl Batcher for DynamicChunk {
    fn budget(&self, decodes: &StepCost, first: Option<&Claim>, predictor: &Predictor) -> usize {
        if decodes.decodes == 0 {
            return self.most;
        }
        if !predictor.knows_prompts() {
            return FIRST_GUESS.clamp(self.least, self.most);
        }
        let context = first.map_or(0, |claim| claim.context);
        let within = |chunk: usize| {
            let step = decodes.with_prompt(chunk, context);
            predictor
                .step(&step)
                .is_some_and(|took| took <= self.target)
        };
        // The largest that is within the target: time grows with the chunk.
        let (mut fits, mut over) = (self.least, self.most + 1);
        while fits + 1 < over {
            let middle = fits + (over - fits) / 2;
            match within(middle) {
                true => fits = middle,
                false => over = middle,
            }
        }
        fits
    }

    fn least(&self) -> usize {
        self.least
    }

    fn share(&self, budget: usize, claims: &[Claim]) -> Vec<usize> {
        in_order(budget, self.least, claims)
    }
}

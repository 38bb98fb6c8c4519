//! As many prompt tokens as keep the step within a target time, by what this engine's own steps have taken: running
//! answers get their next token in time whatever is read beside them. With no answer running, nobody is kept waiting
//! and a step takes all it may.
//!
//! Where the device can put a prompt off in the middle of its blocks, it is a share of the prompt's time that must fit:
//! pieces can be long, which is many times cheaper a token than short ones, and answers go on between the blocks.

use std::time::Duration;

use super::{Batcher, Claim, Predictor, StepCost, in_order};
use crate::sched::settings::Config;

/// Prompt tokens of a step before the predictor has learnt anything.
const FIRST_GUESS: usize = 128;

/// A step beside which a prompt is read takes at most this share more than what the answers alone take, even within the
/// target; where more prompts are to be read than half as many as there are answers, more in proportion: a burst is
/// read first and answered together, instead of its first answer holding up all others.
const MOST_MORE: f64 = 0.7;
/// and this many times is always allowed: prompts are read on, however slow answers are.
const LEAST_TIMES: f64 = 1.4;

/// The share of a slice that a block of a prompt may be expected to take: some take longer than others.
const FILLED: f64 = 0.35;

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
        let slices = predictor.slices();
        let alone = predictor.step(decodes);
        let most = match self.slice(decodes, predictor).zip(alone) {
            Some((slice, alone)) if slices > 1 => alone + slice.mul_f64(slices as f64 * FILLED),
            _ => self.target,
        };
        let within = |chunk: usize| {
            let step = decodes.with_prompt(chunk, context);
            predictor.step(&step).is_some_and(|took| took <= most)
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

    fn slice(&self, decodes: &StepCost, predictor: &Predictor) -> Option<Duration> {
        if decodes.decodes == 0 {
            return None;
        }
        let alone = predictor.step(decodes)?;
        let crowd = 2.0 * decodes.prompts as f64 / decodes.decodes as f64;
        let whole = self
            .target
            .min(alone.mul_f64(1.0 + MOST_MORE * crowd.max(1.0)));
        Some(whole.max(alone.mul_f64(LEAST_TIMES)) - alone)
    }

    fn least(&self) -> usize {
        self.least
    }

    fn share(&self, budget: usize, claims: &[Claim]) -> Vec<usize> {
        in_order(budget, self.least, claims)
    }
}

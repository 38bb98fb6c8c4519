//! Long prompts share the space of a step with short ones: everyone gets an equal part, and what a short prompt leaves
//! goes to the others. The step itself is as long as under the dynamic chunk.

use std::time::Duration;

use super::{Batcher, Claim, DynamicChunk, Predictor, StepCost, even_piece};
use crate::sched::settings::Config;

/// See the module.
#[derive(Debug)]
pub(super) struct SpaceSharing {
    steps: DynamicChunk,
}

impl SpaceSharing {
    pub(super) fn new(config: &Config) -> Self {
        SpaceSharing {
            steps: DynamicChunk::new(config),
        }
    }
}

impl Batcher for SpaceSharing {
    fn budget(&self, decodes: &StepCost, first: Option<&Claim>, predictor: &Predictor) -> usize {
        self.steps.budget(decodes, first, predictor)
    }

    fn slice(&self, decodes: &StepCost, predictor: &Predictor) -> Option<Duration> {
        self.steps.slice(decodes, predictor)
    }

    fn least(&self) -> usize {
        self.steps.least()
    }

    fn share(&self, budget: usize, claims: &[Claim]) -> Vec<usize> {
        let mut shares = vec![0; claims.len()];
        let mut left = budget;
        // The shortest first: what it does not need, the longer ones get.
        let mut order: Vec<usize> = (0..claims.len()).collect();
        order.sort_by_key(|&place| (claims[place].to_line, place));
        // As many as get a piece worth a row; those of the first ranks.
        let rows = (budget / self.least().max(1)).max(1);
        order.retain(|&place| place < rows);
        let mut waiting = order.len();
        for place in order {
            let claim = claims[place];
            let part = left / waiting.max(1);
            waiting -= 1;
            let first = place == 0 && budget > 0;
            shares[place] = if claim.to_line <= part || (claim.whole && first) {
                claim.to_line
            } else if claim.whole {
                0
            } else {
                even_piece(claim.to_line, part)
            };
            left = left.saturating_sub(shares[place]);
        }
        shares
    }
}

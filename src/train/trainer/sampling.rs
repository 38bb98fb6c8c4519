//! What the model writes after fixed prompts, at each evaluation.

use super::{TrainError, Trainer, seconds};
use crate::ids::TokenId;
use crate::text::{Controls, Specials};
use crate::train::network::{Objective, Pass};
use crate::train::record::Sampled;

impl Trainer {
    /// Greedy continuations of the recipe's prompts. The whole text is computed for each token: they are short.
    pub(super) fn samples(&mut self) -> Result<Vec<Sampled>, TrainError> {
        let tokenizer = self.origin.words.tokenizer.clone();
        let most = self.recipe.evaluation.sample_tokens as usize;
        let mut samples = Vec::new();
        for prompt in self.recipe.evaluation.samples.clone() {
            let mut ids = tokenizer.encode(&prompt, Specials::Literal)?;
            if let Some(bos) = tokenizer.bos() {
                ids.insert(0, bos);
            }
            let given = ids.len();
            while ids.len() < (given + most).min(self.network.context()) {
                let next = self.greedy(&ids)?;
                if self.origin.words.eos.contains(&next) {
                    break;
                }
                ids.push(next);
            }
            let new = ids.get(given..).unwrap_or_default();
            samples.push(Sampled {
                step: self.state.step,
                time: seconds(),
                prompt,
                text: tokenizer.decode(new, Controls::Keep),
            });
        }
        Ok(samples)
    }

    fn greedy(&mut self, ids: &[TokenId]) -> Result<TokenId, TrainError> {
        let last = ids.len().saturating_sub(1);
        let pass = Pass {
            ids: ids.to_vec(),
            positions: (0..ids.len()).collect(),
            spans: vec![(0, ids.len())],
            objective: Objective {
                rows: vec![last],
                targets: vec![0],
                weights: vec![1.0],
            },
        };
        let logits = self.network.logits(&pass)?;
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        Ok(best.map_or(0, |(id, _)| id as TokenId))
    }
}

//! The tokens that may be drawn, and the draw.

use std::num::NonZeroU32;

use crate::ids::TokenId;

use super::logits::top_n;

/// How many candidates are sorted first when top-k is off; eight times as many when they do not
/// reach top-p.
const FIRST_SORTED: usize = 256;

/// A row of logits as weights `exp((logit - most) / temperature)`, the largest of which is 1.
pub(super) struct Weights<'a> {
    pub(super) logits: &'a [f32],
    pub(super) most: f32,
    pub(super) temperature: f32,
}

impl Weights<'_> {
    fn weight(&self, logit: f32) -> f32 {
        ((logit - self.most) / self.temperature).exp()
    }

    /// The tokens that may be drawn, with their weights.
    pub(super) fn candidates(
        &self,
        top_k: Option<NonZeroU32>,
        top_p: f32,
        min_p: f32,
    ) -> Vec<(TokenId, f32)> {
        let mut kept = match top_k {
            Some(k) => {
                let kept = self.best(k.get() as usize);
                let total = kept.iter().map(|(_, weight)| f64::from(*weight)).sum();
                reach(kept, f64::from(top_p), total)
            }
            None if top_p < 1.0 => self.reaching(f64::from(top_p)),
            None => (0..)
                .zip(self.logits.iter().map(|logit| self.weight(*logit)))
                .collect(),
        };
        kept.retain(|(_, weight)| *weight >= min_p);
        kept
    }

    fn best(&self, n: usize) -> Vec<(TokenId, f32)> {
        let mut kept = top_n(self.logits, n);
        for (_, value) in &mut kept {
            *value = self.weight(*value);
        }
        kept
    }

    /// The best tokens that reach a share of all weight. Most rows need a few hundred sorted.
    fn reaching(&self, share: f64) -> Vec<(TokenId, f32)> {
        let total: f64 = self
            .logits
            .iter()
            .map(|logit| f64::from(self.weight(*logit)))
            .sum();
        let mut sorted = FIRST_SORTED;
        loop {
            let kept = self.best(sorted);
            let mass: f64 = kept.iter().map(|(_, weight)| f64::from(*weight)).sum();
            if mass >= share * total || kept.len() == self.logits.len() {
                return reach(kept, share, total);
            }
            sorted = sorted.saturating_mul(8);
        }
    }
}

/// The shortest head of `kept` (best first) that reaches a share of `total`; at least one token.
fn reach(mut kept: Vec<(TokenId, f32)>, share: f64, total: f64) -> Vec<(TokenId, f32)> {
    if share >= 1.0 {
        return kept;
    }
    let mut mass = 0.0;
    let enough = kept.iter().position(|(_, weight)| {
        mass += f64::from(*weight);
        mass >= share * total
    });
    if let Some(last) = enough {
        kept.truncate(last + 1);
    }
    kept
}

/// The token at `unit` (in [0, 1)) of the summed weights.
pub(super) fn draw(candidates: &[(TokenId, f32)], unit: f64) -> TokenId {
    let total: f64 = candidates
        .iter()
        .map(|(_, weight)| f64::from(*weight))
        .sum();
    let mut left = unit * total;
    let mut last = 0;
    for (token, weight) in candidates.iter().filter(|(_, weight)| *weight > 0.0) {
        last = *token;
        left -= f64::from(*weight);
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_leave_what_they_should() {
        let probabilities = [0.5f32, 0.25, 0.125, 0.0625, 0.0625];
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let weights = Weights {
            logits: &logits,
            most: logits[0],
            temperature: 1.0,
        };
        let left = |top_k, top_p, min_p| {
            let kept = weights.candidates(NonZeroU32::new(top_k), top_p, min_p);
            kept.into_iter().map(|(token, _)| token).collect::<Vec<_>>()
        };
        assert_eq!(left(0, 1.0, 0.0), [0, 1, 2, 3, 4]);
        assert_eq!(left(2, 1.0, 0.0), [0, 1]);
        assert_eq!(left(0, 0.7, 0.0), [0, 1]);
        assert_eq!(left(0, 0.01, 0.0), [0]);
        assert_eq!(left(0, 1.0, 0.24), [0, 1, 2]);
        assert_eq!(left(2, 0.6, 0.0), [0], "top-p counts what top-k left");
    }

    #[test]
    fn a_flat_row_reaches_top_p_beyond_the_first_sorted() {
        let row = vec![1.0; 5000];
        let weights = Weights {
            logits: &row,
            most: 1.0,
            temperature: 1.0,
        };
        assert_eq!(weights.candidates(None, 0.5, 0.0).len(), 2500);
    }

    #[test]
    fn a_draw_never_lands_on_no_weight() {
        let row = [(3, 0.0), (4, 1.0), (5, 0.0), (6, 1.0), (7, 0.0)];
        for (unit, token) in [(0.0, 4), (0.49, 4), (0.5, 6), (0.999_999, 6), (1.0, 6)] {
            assert_eq!(draw(&row, unit), token, "{unit}");
        }
    }
}

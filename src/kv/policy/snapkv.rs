//! What the end of the prompt looks at: <https://arxiv.org/abs/2404.14469>, with the budget spread uniformly
//! (`snapkv`), by layer (`pyramid`, <https://arxiv.org/abs/2406.02069>) or by head (`adasnap`,
//! <https://arxiv.org/abs/2407.11550>).
//!
//! Pooling keeps the neighbours of what is attended to: without it only the first token of a number survives.

use super::{BadPolicy, Policy, Protect, Score, Spread, When};
use crate::kv::PolicyKind;

/// Smallest over mean budget of a layer, as published.
const PYRAMID_BETA: f32 = 20.0;

/// The share of the budget that each head is sure of, as in the reference implementation of AdaKV in kvpress.
const ADAPTIVE_FLOOR: f32 = 0.2;

impl Policy {
    /// The last `queries` positions and those that they attend to most, pooled over `pool` neighbours; chosen once,
    /// when the prompt ends. What is generated is kept.
    pub fn snapkv(capacity: usize, queries: usize, pool: usize) -> Result<Self, BadPolicy> {
        let queries = queries.min(capacity).max(1);
        let mut policy = Policy::bounded(
            PolicyKind::Snapkv,
            capacity,
            Score::Window { queries, pool },
            Protect::ends(0, queries),
        );
        policy.when = When::PromptEnd;
        policy.checked()
    }

    /// `snapkv` with more for the first layers.
    pub fn pyramid(capacity: usize, queries: usize, pool: usize) -> Result<Self, BadPolicy> {
        Ok(Policy {
            kind: PolicyKind::Pyramid,
            spread: Spread::Pyramid { beta: PYRAMID_BETA },
            ..Policy::snapkv(capacity, queries, pool)?
        })
    }

    /// `snapkv` with more for the heads that look far and wide.
    pub fn adasnap(capacity: usize, queries: usize, pool: usize) -> Result<Self, BadPolicy> {
        Ok(Policy {
            kind: PolicyKind::Adasnap,
            spread: Spread::Adaptive {
                floor: ADAPTIVE_FLOOR,
            },
            ..Policy::snapkv(capacity, queries, pool)?
        })
    }
}

/// The maximum of `scores` over the `pool` nearest held positions of each slot, itself in the middle.
pub fn max_pool(positions: &[u32], scores: &[f32], pool: usize) -> Vec<f32> {
    let reach = pool / 2;
    if reach == 0 {
        return scores.to_vec();
    }
    let mut order: Vec<usize> = (0..positions.len()).collect();
    order.sort_unstable_by_key(|&slot| positions[slot]);
    let mut pooled = vec![0.0; scores.len()];
    for (place, &slot) in order.iter().enumerate() {
        let near = &order[place.saturating_sub(reach)..order.len().min(place + reach + 1)];
        pooled[slot] = near.iter().map(|&s| scores[s]).fold(f32::MIN, f32::max);
    }
    pooled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_the_peak() {
        assert_eq!(
            max_pool(&[4, 0, 2, 1, 3], &[0.0, 0.0, 9.0, 1.0, 0.0], 3),
            [0.0, 1.0, 9.0, 9.0, 9.0]
        );
        assert_eq!(max_pool(&[1, 0], &[3.0, 2.0], 1), [3.0, 2.0]);
    }

    #[test]
    fn a_window_wider_than_the_budget_is_cut_to_it() {
        let policy = Policy::snapkv(8, 32, 7).unwrap();
        assert_eq!(policy.protect.recent, 8);
    }
}

//! The attention that queries to come are expected to pay: <https://arxiv.org/abs/2510.00636>.
//!
//! Queries are taken as normal with the mean and covariance seen so far; the rotations of the positions to come are
//! averaged into both by the caller. The expected weight of a key is `exp(k.mu / sqrt(d) + k' Sigma k / 2d)`, times
//! the length of its value.

use super::{BadPolicy, HeadView, Policy, Protect, Score, When};
use crate::kv::PolicyKind;

/// Tokens that gather before keys are weighed again.
const BURST: usize = 64;

impl Policy {
    /// The `capacity` positions that are expected to matter most; `sinks` and `recent` protected.
    pub fn expected(capacity: usize, sinks: usize, recent: usize) -> Result<Self, BadPolicy> {
        let protect = Protect::ends(sinks, recent);
        let mut policy = Policy::bounded(PolicyKind::Expected, capacity, Score::Expected, protect);
        policy.when = When::Burst(BURST);
        policy.checked()
    }
}

/// Expected attention times value length, normalised over the head.
pub(super) fn importance(head: &HeadView<'_>) -> Vec<f32> {
    let slots = head.positions.len();
    let Some(queries) = head.queries.filter(|q| q.count > 0.0 && slots > 0) else {
        return vec![0.0; slots];
    };
    let dim = queries.sum.len();
    let count = queries.count as f32;
    let mean: Vec<f32> = queries.sum.iter().map(|s| s / count).collect();
    let scale = 1.0 / (dim as f32).sqrt();
    let mut logits: Vec<f32> = Vec::with_capacity(slots);
    for key in head.keys.chunks_exact(dim) {
        let linear: f32 = key.iter().zip(&mean).map(|(k, m)| k * m).sum();
        let mut second = 0.0f32;
        for (row, &k) in queries.outer.chunks_exact(dim).zip(key) {
            let dot: f32 = row.iter().zip(key).map(|(o, k)| o * k).sum();
            second += k * dot;
        }
        // k' Cov k = k' E[qq'] k - (k.mu)^2.
        let variance = (second / count - linear * linear).max(0.0);
        logits.push(linear * scale + variance * scale * scale / 2.0);
    }
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<f32> = logits.iter().map(|l| (l - top).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights
        .iter()
        .zip(head.norms)
        .map(|(w, norm)| w / sum * norm)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::policy::QueryStats;

    #[test]
    fn keys_along_the_mean_query_or_its_spread_matter() {
        // Queries (1, 2) and (1, -2): mean (1, 0), variance 4 along the second axis.
        let queries = QueryStats {
            count: 2.0,
            sum: vec![2.0, 0.0],
            outer: vec![2.0, 0.0, 0.0, 8.0],
        };
        let head = HeadView {
            positions: &[0, 1, 2],
            norms: &[1.0, 1.0, 1.0],
            keys: &[1.0, 0.0, -1.0, 0.0, 0.0, 2.0],
            queries: Some(&queries),
            seen: 3,
            ..HeadView::default()
        };
        let scores = importance(&head);
        // Logits: 1/sqrt2, -1/sqrt2, 0 + (4 * 4) / 4 = 4.
        let expected: Vec<f32> = [0.5f32.sqrt(), -0.5f32.sqrt(), 4.0]
            .iter()
            .map(|l: &f32| l.exp())
            .collect();
        let sum: f32 = expected.iter().sum();
        for (found, expected) in scores.iter().zip(expected) {
            assert!((found - expected / sum).abs() < 1e-6, "{scores:?}");
        }
        let blind = HeadView {
            queries: None,
            ..head
        };
        assert_eq!(importance(&blind), [0.0; 3]);
    }
}

//! Keys that differ from the mean key: <https://arxiv.org/abs/2504.15364>. Needs no attention weights.

use super::{BadPolicy, Policy, Protect, Score, When};
use crate::kv::PolicyKind;

/// Tokens that gather before keys are compared again: a comparison reads all of them.
const BURST: usize = 64;

impl Policy {
    /// The `capacity` positions whose keys are least like the mean of all held; `sinks` and `recent` protected.
    pub fn keydiff(capacity: usize, sinks: usize, recent: usize) -> Result<Self, BadPolicy> {
        let protect = Protect::ends(sinks, recent);
        let mut policy = Policy::bounded(PolicyKind::Keydiff, capacity, Score::KeyDiff, protect);
        policy.when = When::Burst(BURST);
        policy.checked()
    }
}

/// Minus the cosine between each of `slots` keys and the mean of the normalised keys.
pub(super) fn importance(keys: &[f32], slots: usize) -> Vec<f32> {
    if slots == 0 {
        return Vec::new();
    }
    let dim = keys.len() / slots;
    let norm = |key: &[f32]| key.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    let mut mean = vec![0.0f32; dim];
    for key in keys.chunks_exact(dim.max(1)) {
        let scale = 1.0 / norm(key);
        for (sum, x) in mean.iter_mut().zip(key) {
            *sum += x * scale;
        }
    }
    let length = norm(&mean);
    keys.chunks_exact(dim.max(1))
        .map(|key| {
            let dot: f32 = key.iter().zip(&mean).map(|(k, m)| k * m).sum();
            -dot / (norm(key) * length)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odd_key_out_is_most_important() {
        let scores = importance(&[1.0, 0.0, 2.0, 0.1, 0.0, 3.0], 3);
        assert!(scores[2] > scores[0] && scores[0] > scores[1], "{scores:?}");
        assert!(importance(&[], 0).is_empty());
    }
}

//! Heavy hitters and recent positions: <https://arxiv.org/abs/2306.14048>.
//!
//! The score of a key is the attention it has received since it was inserted, its own row included, summed over
//! the queries that share its KV head. Summed, early keys have had more queries; the mean divides by that number.

use super::{BadPolicy, HeadView, Policy, Protect, Score};
use crate::kv::PolicyKind;

impl Policy {
    /// The `heavy` most attended and the last `recent` positions; either may be 0, at least one in all.
    pub fn h2o(heavy: usize, recent: usize) -> Result<Self, BadPolicy> {
        let protect = Protect::ends(0, recent);
        Policy::bounded(PolicyKind::H2o, heavy + recent, Score::Sum, protect).checked()
    }

    /// The same policy with another score.
    #[must_use]
    pub fn scored(mut self, score: Score) -> Self {
        self.score = score;
        self
    }
}

/// Attention received per query that could attend.
pub(super) fn mean(head: &HeadView<'_>) -> Vec<f32> {
    let sums = head.sums.iter().zip(head.positions);
    sums.map(|(sum, &position)| sum / head.age(position))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_has_no_bias_to_old_positions() {
        let head = HeadView {
            positions: &[0, 8],
            sums: &[2.0, 1.0],
            seen: 10,
            ..HeadView::default()
        };
        let sum = Policy::h2o(1, 0).unwrap();
        assert_eq!(sum.keep(&head, 1), [0]);
        assert_eq!(sum.scored(Score::Mean).keep(&head, 1), [1]);
    }
}

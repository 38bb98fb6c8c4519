//! How much better an answer is than the others to its prompt.

/// The rewards of a group, less their mean; `None` when all are equal, and there is nothing to learn from the group.
pub fn advantages(rewards: &[f64]) -> Option<Vec<f64>> {
    let first = rewards.first()?;
    if rewards.iter().all(|reward| reward == first) {
        return None;
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    Some(rewards.iter().map(|reward| reward - mean).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rewards_less_their_mean() {
        for (rewards, expected) in [
            (&[][..], None),
            (&[0.7], None),
            (&[0.1, 0.1, 0.1], None),
            (&[1.0, 0.0], Some(vec![0.5, -0.5])),
            (&[1.0, 0.0, 0.0, 0.0], Some(vec![0.75, -0.25, -0.25, -0.25])),
            (&[0.25, 1.0, 0.25, 0.5], Some(vec![-0.25, 0.5, -0.25, 0.0])),
        ] {
            assert_eq!(advantages(rewards), expected, "{rewards:?}");
        }
    }

    proptest! {
        #[test]
        fn they_sum_to_nothing_and_keep_differences(rewards in prop::collection::vec(0.0f64..1.0, 2..40)) {
            if let Some(found) = advantages(&rewards) {
                prop_assert!(found.iter().sum::<f64>().abs() < 1e-9);
                for (pair, raw) in found.windows(2).zip(rewards.windows(2)) {
                    prop_assert!(((pair[0] - pair[1]) - (raw[0] - raw[1])).abs() < 1e-9);
                }
            }
        }
    }
}

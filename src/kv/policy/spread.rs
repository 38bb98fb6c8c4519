//! How a budget is spread over layers and KV heads. The total is the same under every spread.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How much of the budget each KV head gets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Spread {
    /// The same everywhere.
    #[default]
    Uniform,
    /// Less with every layer, linearly ([PyramidKV](https://arxiv.org/abs/2406.02069)): the last layer gets
    /// `1/beta` of the mean, the first what that leaves.
    Pyramid {
        /// The mean over the smallest.
        beta: f32,
    },
    /// Within a layer, each head is sure of `floor` of the budget and the rest goes where importance is highest
    /// ([AdaKV](https://arxiv.org/abs/2407.11550)). Decided once, when the prompt ends.
    Adaptive {
        /// The sure share, 0 to 1.
        floor: f32,
    },
    /// In proportion to weights found by calibration.
    Classes(Arc<HeadClasses>),
}

/// What calibration found for a model: how much of the budget each KV head deserves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadClasses {
    /// By layer and KV head; only their ratios count.
    pub weights: Vec<Vec<f32>>,
}

impl Spread {
    /// Positions that each KV head of each layer keeps at most, `[layers][kv_heads]`, where the mean is `capacity`
    /// and nobody gets fewer than `floor`. [`Spread::Adaptive`] starts uniform.
    pub fn capacities(
        &self,
        capacity: usize,
        floor: usize,
        layers: usize,
        heads: usize,
    ) -> Vec<Vec<usize>> {
        match self {
            Spread::Uniform | Spread::Adaptive { .. } => vec![vec![capacity; heads]; layers],
            Spread::Pyramid { beta } => {
                let shares: Vec<f64> = (0..layers)
                    .flat_map(|layer| vec![pyramid(layer, layers, f64::from(*beta)); heads])
                    .collect();
                split(
                    capacity * layers * heads,
                    floor.min(capacity),
                    &shares,
                    heads,
                )
            }
            Spread::Classes(classes) => {
                let shares: Vec<f64> = (0..layers * heads)
                    .map(|index| {
                        let row = classes.weights.get(index / heads);
                        let weight = row.and_then(|row| row.get(index % heads));
                        f64::from(weight.copied().unwrap_or(1.0)).max(0.0)
                    })
                    .collect();
                split(
                    capacity * layers * heads,
                    floor.min(capacity),
                    &shares,
                    heads,
                )
            }
        }
    }
}

/// The share of layer `layer`, 1 on average.
fn pyramid(layer: usize, layers: usize, beta: f64) -> f64 {
    let smallest = 1.0 / beta.max(1.0);
    let largest = 2.0 - smallest;
    let step = (largest - smallest) / (layers.max(2) - 1) as f64;
    largest - step * layer as f64
}

/// Splits `total` in proportion to `shares`, `floor` at least each, to the last unit.
fn split(total: usize, floor: usize, shares: &[f64], heads: usize) -> Vec<Vec<usize>> {
    let free = total - floor * shares.len();
    let sum: f64 = shares.iter().sum();
    let part = |share: f64| {
        if sum > 0.0 {
            free as f64 * share / sum
        } else {
            free as f64 / shares.len() as f64
        }
    };
    let mut parts: Vec<usize> = shares.iter().map(|&s| floor + part(s) as usize).collect();
    // What rounding down left goes to the first, one each.
    let left = total - parts.iter().sum::<usize>();
    let count = parts.len();
    for index in 0..left {
        parts[index % count] += 1;
    }
    parts.chunks(heads).map(<[usize]>::to_vec).collect()
}

/// Splits `capacity` times the number of heads of one layer by importance: `floor` of it is each head's own, the
/// rest goes to the most important of what is left. `importance` is by head and slot, and `sure` slots of each head
/// are protected and counted first.
pub fn adaptive(
    capacity: usize,
    floor: f32,
    sure: &[usize],
    importance: &[Vec<f32>],
) -> Vec<usize> {
    let heads = importance.len();
    let total = capacity * heads;
    let own = (capacity as f32 * floor.clamp(0.0, 1.0)) as usize;
    let mut capacities: Vec<usize> = (0..heads)
        .map(|head| own.max(sure[head]).min(importance[head].len()))
        .collect();
    let mut candidates: Vec<(f32, usize)> = Vec::new();
    for (head, scores) in importance.iter().enumerate() {
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let beyond = sorted.into_iter().skip(capacities[head]);
        candidates.extend(beyond.map(|score| (score, head)));
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = total.saturating_sub(capacities.iter().sum());
    for &(_, head) in candidates.iter().take(left) {
        capacities[head] += 1;
    }
    capacities
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pyramid_falls_to_a_twentieth() {
        let capacities = Spread::Pyramid { beta: 20.0 }.capacities(100, 4, 5, 2);
        let first: Vec<usize> = capacities.iter().map(|layer| layer[0]).collect();
        assert!(first.windows(2).all(|w| w[0] > w[1]), "{first:?}");
        assert!(first[4] < 12 && first[0] > 180, "{first:?}");
    }

    #[test]
    fn an_adaptive_layer_gives_to_the_head_that_needs() {
        let spread = vec![
            vec![0.3; 10],
            vec![0.9, 0.8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ];
        assert_eq!(adaptive(4, 0.5, &[1, 1], &spread), [6, 2]);
        assert_eq!(adaptive(4, 1.0, &[1, 1], &spread), [4, 4]);
    }

    proptest! {
        #[test]
        fn the_total_is_kept(capacity in 1usize..50, floor in 0usize..60, layers in 1usize..6, heads in 1usize..4,
                             beta in 1.0f32..30.0, seed in prop::collection::vec(0.0f32..5.0, 24)) {
            let weights = (0..layers).map(|l| (0..heads).map(|h| seed[l * heads + h]).collect()).collect();
            for spread in [Spread::Uniform, Spread::Pyramid { beta }, Spread::Classes(Arc::new(HeadClasses { weights }))] {
                let capacities = spread.capacities(capacity, floor, layers, heads);
                let total: usize = capacities.iter().flatten().sum();
                prop_assert_eq!(total, capacity * layers * heads);
                prop_assert!(capacities.iter().flatten().all(|&c| c >= floor.min(capacity)));
            }
        }
    }
}

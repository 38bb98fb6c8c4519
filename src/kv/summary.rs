//! What is left of evicted tokens: means of their keys and values over stretches of positions, each attended to as
//! if it were as many tokens as it stands for.
//!
//! Heads that spread their attention thinly over everything lose most when tokens are dropped, and least when the
//! dropped ones are averaged. Stretches are aligned and all of one width, which doubles whenever there are too many
//! of them; so the memory is bounded and the result does not depend on the order of evictions. Compare the merging
//! of D2O (<https://arxiv.org/abs/2406.13035>), which averages similar keys instead of neighbouring ones.

use serde::{Deserialize, Serialize};

/// Means over stretches of positions, of one KV head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    limit: usize,
    dim: usize,
    width: u32,
    counts: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Summary {
    /// Nothing evicted yet; at most `limit` means, at least 1, of `dim` values.
    pub fn new(limit: usize, dim: usize) -> Self {
        Summary {
            limit: limit.max(1),
            dim,
            width: 1,
            counts: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Positions of a stretch.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The same means again, as a file has them; `None` when they do not fit each other or the limit.
    pub fn restored(
        mut self,
        width: u32,
        counts: Vec<f32>,
        keys: Vec<f32>,
        values: Vec<f32>,
    ) -> Option<Self> {
        let floats = counts.len() * self.dim;
        let fits = keys.len() == floats && values.len() == floats && counts.len() <= self.limit;
        let sound = width.is_power_of_two() && counts.iter().all(|c| c.is_finite() && *c >= 0.0);
        (fits && sound).then(|| {
            (self.width, self.counts, self.keys, self.values) = (width, counts, keys, values);
            self
        })
    }

    /// Means there are, empty stretches included.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether nothing was evicted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Means of keys, `[len, dim]`.
    pub fn keys(&self) -> &[f32] {
        &self.keys
    }

    /// Means of values, `[len, dim]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Tokens that each mean stands for.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }

    /// What is added to each mean's logit: the logarithm of its count, minus infinity for none.
    pub fn bias(&self) -> impl Iterator<Item = f32> {
        self.counts.iter().map(|count| count.ln())
    }

    /// The middle position of stretch `index`.
    pub fn middle(&self, index: usize) -> u32 {
        index as u32 * self.width + self.width / 2
    }

    /// The key of stretch `index`, to be rotated anew.
    pub fn key_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.keys[index * self.dim..(index + 1) * self.dim]
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        (self.counts.capacity() + self.keys.capacity() + self.values.capacity()) * size_of::<f32>()
    }

    /// Takes in an evicted token.
    pub fn add(&mut self, position: u32, key: &[f32], value: &[f32]) {
        while (position / self.width) as usize >= self.limit {
            self.halve();
        }
        let index = (position / self.width) as usize;
        if index >= self.len() {
            self.grow(index + 1);
        }
        self.counts[index] += 1.0;
        let share = 1.0 / self.counts[index];
        let span = index * self.dim..(index + 1) * self.dim;
        towards(&mut self.keys[span.clone()], key, share);
        towards(&mut self.values[span], value, share);
    }

    fn grow(&mut self, len: usize) {
        if self.counts.capacity() < self.limit {
            self.counts.reserve_exact(self.limit - self.counts.len());
            let floats = self.limit * self.dim;
            self.keys.reserve_exact(floats - self.keys.len());
            self.values.reserve_exact(floats - self.values.len());
        }
        self.counts.resize(len, 0.0);
        self.keys.resize(len * self.dim, 0.0);
        self.values.resize(len * self.dim, 0.0);
    }

    /// Joins neighbours.
    fn halve(&mut self) {
        let half = self.len().div_ceil(2);
        for index in 0..half {
            let (left, right) = (2 * index, 2 * index + 1);
            let a = self.counts[left];
            let b = self.counts.get(right).copied().unwrap_or(0.0);
            let share = if a + b > 0.0 { b / (a + b) } else { 0.0 };
            for rows in [&mut self.keys, &mut self.values] {
                for d in 0..self.dim {
                    let x = rows[left * self.dim + d];
                    let y = rows.get(right * self.dim + d).copied().unwrap_or(x);
                    rows[index * self.dim + d] = x + (y - x) * share;
                }
            }
            self.counts[index] = a + b;
        }
        self.counts.truncate(half);
        self.keys.truncate(half * self.dim);
        self.values.truncate(half * self.dim);
        self.width *= 2;
    }
}

fn towards(mean: &mut [f32], row: &[f32], share: f32) {
    for (mean, x) in mean.iter_mut().zip(row) {
        *mean += (x - *mean) * share;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn means_are_means_whatever_the_order(
            order in Just((0u32..50).collect::<Vec<_>>()).prop_shuffle(),
            count in 1usize..50,
            limit in 1usize..9,
        ) {
            let mut summary = Summary::new(limit, 1);
            for &position in &order[..count] {
                summary.add(position, &[position as f32], &[-(position as f32)]);
            }
            prop_assert!(summary.len() <= limit);
            let total: f32 = summary.counts().iter().sum();
            prop_assert_eq!(total, count as f32);
            let width = summary.width;
            for index in 0..summary.len() {
                let inside: Vec<f32> = order[..count]
                    .iter()
                    .filter(|&&p| (p / width) as usize == index)
                    .map(|&p| p as f32)
                    .collect();
                prop_assert_eq!(summary.counts()[index], inside.len() as f32);
                if !inside.is_empty() {
                    let mean = inside.iter().sum::<f32>() / inside.len() as f32;
                    prop_assert!((summary.keys()[index] - mean).abs() < 1e-3);
                    prop_assert!((summary.values()[index] + mean).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    fn means_survive_a_file_and_wrong_ones_do_not() {
        let mut summary = Summary::new(2, 1);
        (0..9).for_each(|p| summary.add(p, &[p as f32], &[1.0]));
        let parts = |counts: usize, width| {
            Summary::new(2, 1).restored(
                width,
                summary.counts()[..counts].to_vec(),
                summary.keys().to_vec(),
                summary.values().to_vec(),
            )
        };
        let again = parts(2, summary.width()).unwrap();
        assert_eq!(
            (again.keys(), again.middle(1)),
            (summary.keys(), summary.middle(1))
        );
        assert!(parts(1, summary.width()).is_none());
        assert!(parts(2, 3).is_none());
    }

    #[test]
    fn an_empty_stretch_is_not_attended_to() {
        let mut summary = Summary::new(4, 1);
        summary.add(2, &[1.0], &[1.0]);
        let bias: Vec<f32> = summary.bias().collect();
        assert_eq!(bias, [f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0]);
        let room = summary.bytes();
        summary.add(3, &[1.0], &[1.0]);
        assert_eq!(summary.bytes(), room, "all is allocated at once");
    }
}

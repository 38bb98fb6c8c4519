//! The hidden states of a prompt's tokens as one vector.

use serde::{Deserialize, Serialize};

/// How the states of tokens become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// That of the last token, which alone has seen all others.
    Last,
}

/// States that are being put together.
#[derive(Debug)]
pub(super) struct Pool {
    pooling: Pooling,
    tokens: usize,
    sum: Vec<f64>,
}

impl Pool {
    pub(super) fn new(pooling: Pooling) -> Self {
        Pool {
            pooling,
            tokens: 0,
            sum: Vec::new(),
        }
    }

    /// Adds `states`, `[tokens, hidden]`.
    pub(super) fn add(&mut self, tokens: usize, states: &[f32]) {
        let width = states.len() / tokens.max(1);
        for row in states.chunks_exact(width.max(1)) {
            self.sum.resize(width, 0.0);
            if self.pooling == Pooling::Last {
                self.sum.fill(0.0);
                self.tokens = 0;
            }
            for (sum, &value) in self.sum.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
            self.tokens += 1;
        }
    }

    /// The vector, `[hidden]`.
    pub(super) fn finish(self) -> Vec<f32> {
        let count = self.tokens.max(1) as f64;
        self.sum.iter().map(|sum| (sum / count) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_their_mean_or_the_last() {
        let pooled = |pooling| {
            let mut pool = Pool::new(pooling);
            pool.add(2, &[1.0, 2.0, 3.0, 6.0]);
            pool.add(1, &[8.0, 1.0]);
            pool.finish()
        };
        assert_eq!(pooled(Pooling::Mean), [4.0, 3.0]);
        assert_eq!(pooled(Pooling::Last), [8.0, 1.0]);
        assert_eq!(Pool::new(Pooling::Mean).finish(), [0.0; 0]);
    }
}

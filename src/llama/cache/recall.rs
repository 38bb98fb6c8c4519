//! Which evicted rows a sequence attends to again.

use std::sync::{Mutex, PoisonError};

use tch::TchError;

use super::super::attention::BUFFERS;
use super::super::rope::Rope;
use super::SequenceCache;
use crate::kernels::Pool;

/// Tokens of a row whose queries say what is recalled; of a longer one they are evenly spread, the last among them.
const ASKING: usize = 64;

impl SequenceCache {
    /// Attends again, in one layer, to what the queries of each KV head, `[tokens * group, head_dim]`, may have use
    /// for; heads side by side on `pool`.
    pub(in crate::llama) fn recall(
        &mut self,
        layer: usize,
        queries: &[Vec<f32>],
        group: usize,
        rope: &Rope,
        pool: Option<&Pool>,
    ) -> Result<(), TchError> {
        let tokens = self.policy.recall;
        let epoch = self.rebased;
        let turn = |key: &mut [f32], delta: i64| rope.turn(key, delta);
        let dim = self.shape.head_dim;
        let scale = 1.0 / (dim as f32).sqrt();
        let shared = &self.shared;
        let heads = self.layers[layer].iter_mut().zip(queries).enumerate();
        let jobs: Vec<_> = heads
            .map(|(index, (head, queries))| Mutex::new((index, head, queries, Ok(()))))
            .collect();
        let work = |number: usize| {
            let mut job = jobs[number].lock().unwrap_or_else(PoisonError::into_inner);
            let (index, head, queries, outcome) = &mut *job;
            let mut asking = asking(queries, queries.len() / (group * dim), group * dim);
            asking.iter_mut().for_each(|x| *x *= scale);
            *outcome = BUFFERS.with_borrow_mut(|buffers| {
                head.recall(
                    (shared, (layer, *index)),
                    &asking,
                    tokens,
                    epoch,
                    &turn,
                    &mut buffers.kernel,
                )
            });
        };
        match pool {
            Some(pool) => pool.run(jobs.len(), work),
            None => (0..jobs.len()).for_each(work),
        }
        for job in jobs {
            job.into_inner().unwrap_or_else(PoisonError::into_inner).3?;
        }
        Ok(())
    }

    /// Whether anything was spilled that could be recalled.
    pub(in crate::llama) fn recalls(&self) -> bool {
        self.policy.recall > 0 && self.evicted_once
    }
}

/// The queries of at most [`ASKING`] of `tokens` tokens, of `width` floats each.
fn asking(queries: &[f32], tokens: usize, width: usize) -> Vec<f32> {
    let count = tokens.min(ASKING);
    let token = |n: usize| (n + 1) * tokens / count.max(1) - 1;
    (0..count)
        .flat_map(|n| &queries[token(n) * width..(token(n) + 1) * width])
        .copied()
        .collect()
}

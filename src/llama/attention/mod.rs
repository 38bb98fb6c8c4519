//! Grouped-query attention over a sequence's segments, and the attention that every slot received.
//!
//! On a CPU the kernels take single queries over rows where they lie, in any type, or many queries at once; elsewhere,
//! and for weights that the kernels do not read, libtorch's products take whole chunks. All compute the same. One softmax
//! spans all segments, so scores are always the global ones. On a CPU exact scores cost little on top of an eager
//! softmax; they are never approximated.

mod chunk;
mod drafted;
mod long;
mod steps;

use tch::{TchError, Tensor};

use super::ModelConfig;
use super::cache::SequenceCache;
use super::head::HeadCache;
use super::reading::Reading;
use crate::kv::{Fast, Policy, Select};

pub(super) use steps::{BUFFERS, Buffers, Projected};

/// Rows of up to this many tokens go through the kernels, where those can read the cache.
const KERNEL_TOKENS: usize = 8;

/// The constant part of a model's attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) layer: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Attention sees only this many last positions.
    pub(super) sliding_window: Option<usize>,
    /// Queries that are computed together: bounds the memory of a long prompt.
    pub(super) tile: usize,
}

/// The queries of one row: `[tokens, heads, head_dim]`, rotated, as a tensor and, on the host, as floats.
pub(super) struct Queries<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) floats: &'a [f32],
    /// The same before rotation.
    pub(super) plain: &'a Tensor,
}

impl Attention {
    /// Layer `layer` of a model.
    pub(super) fn of(config: &ModelConfig, layer: usize, tile: usize) -> Self {
        Attention {
            layer,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            sliding_window: config.sliding_window,
            tile,
        }
    }

    /// `[tokens, heads, head_dim]` -> per KV head `[tokens * group, head_dim]`.
    pub(super) fn by_kv_head(&self, queries: &[f32]) -> Vec<Vec<f32>> {
        let part = self.group() * self.head_dim;
        let own = |head: usize| Strided {
            floats: &queries[head * part..],
            stride: self.kv_heads * part,
            len: part,
        };
        let tokens = queries.len() / (self.kv_heads * part);
        (0..self.kv_heads)
            .map(|head| own(head).gather(tokens))
            .collect()
    }

    /// How pages are chosen for a row of `tokens`, if they are: single queries choose, past the first layers.
    fn select(&self, policy: &Policy, tokens: usize) -> Option<Select> {
        let select = policy.select?;
        (tokens == 1 && self.layer >= select.full_layers).then_some(select)
    }

    pub(in crate::llama) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Attends queries of tokens that were just written to `cache`. Returns `[tokens, heads * head_dim]`, row-major,
    /// and records what each slot received.
    pub(super) fn forward(
        &self,
        queries: &Queries<'_>,
        cache: &mut SequenceCache,
        reading: &Reading,
        scratch: &mut Buffers,
    ) -> Result<Attended, TchError> {
        let tokens = queries.tensor.size()[0] as usize;
        let need = cache.policy().need();
        let select = self.select(cache.policy(), tokens);
        let (shared, heads) = cache.layer(self.layer);
        let host = heads.first().is_none_or(|h| h.arena.keys.host().is_some());
        let output = if host && tokens <= KERNEL_TOKENS {
            let part = self.group() * self.head_dim;
            let mut output = vec![0.0; tokens * self.heads * self.head_dim];
            let how = (need, reading, select);
            let places = output.chunks_exact_mut(tokens * part);
            for ((index, head), output) in heads.iter_mut().enumerate().zip(places) {
                let own = Strided {
                    floats: &queries.floats[index * part..],
                    stride: self.kv_heads * part,
                    len: part,
                };
                self.steps(index, own, shared, head, how, scratch, output)?;
            }
            by_token(&mut output, part, self.kv_heads, &mut Vec::new());
            Attended::Host(output)
        } else {
            let mut outputs = Vec::with_capacity(heads.len());
            for (index, head) in heads.iter_mut().enumerate() {
                outputs.push(self.chunk(index, queries.tensor, shared, head, need, reading)?);
            }
            // `[kv_heads][tokens, group * head_dim]` side by side.
            Attended::Device(Tensor::f_cat(&outputs, 1)?)
        };
        if need.fast == Fast::LastRow {
            average(heads);
        }
        if need.queries {
            for (index, head) in heads.iter_mut().enumerate() {
                self.observe(head, queries.plain, index)?;
            }
        }
        Ok(output)
    }
}

/// Rows of `len` floats that lie `stride` apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strided<'a> {
    floats: &'a [f32],
    stride: usize,
    len: usize,
}

impl<'a> Strided<'a> {
    fn row(&self, index: usize) -> &'a [f32] {
        &self.floats[index * self.stride..][..self.len]
    }

    /// The first `rows` one behind the other.
    fn gather(&self, rows: usize) -> Vec<f32> {
        let mut gathered = Vec::with_capacity(rows * self.len);
        (0..rows).for_each(|index| gathered.extend_from_slice(self.row(index)));
        gathered
    }
}

/// `[heads, tokens, part]` -> `[tokens, heads, part]`, in place by way of `buffer`.
fn by_token(rows: &mut [f32], part: usize, heads: usize, buffer: &mut Vec<f32>) {
    let tokens = rows.len() / (part * heads);
    if tokens <= 1 {
        return;
    }
    buffer.clear();
    buffer.extend_from_slice(rows);
    for (token, row) in rows.chunks_exact_mut(part * heads).enumerate() {
        for (head, own) in row.chunks_exact_mut(part).enumerate() {
            own.copy_from_slice(&buffer[(head * tokens + token) * part..][..part]);
        }
    }
}

/// An empty vector in the memory of another, whose elements may have borrowed from what is gone by now.
fn emptied<T, U>(mut from: Vec<T>) -> Vec<U> {
    from.clear();
    // Where both are of one layout this collects in place, and where it did not, it would only allocate.
    from.into_iter()
        .map(|_| unreachable!("it was emptied"))
        .collect()
}

/// What one row's attention computed.
pub(super) enum Attended {
    /// `[tokens, heads * head_dim]`, row-major.
    Host(Vec<f32>),
    /// Likewise.
    Device(Tensor),
}

/// TOVA keeps one set for all heads of a layer: their scores are averaged.
fn average(heads: &mut [HeadCache]) {
    let count = heads.len() as f32;
    let Some(len) = heads.iter().map(|head| head.slots.len()).min() else {
        return;
    };
    let mut mean = vec![0.0; len];
    for head in heads.iter() {
        for (mean, fast) in mean.iter_mut().zip(head.slots.fast()) {
            *mean += fast / count;
        }
    }
    for head in heads.iter_mut().filter(|head| head.slots.len() == len) {
        head.slots.set_fast(mean.clone());
    }
}

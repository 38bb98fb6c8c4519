//! Causal attention of whole sequences, forward and backward, block by block so that no row of probabilities ever is
//! whole (FlashAttention-2, <https://arxiv.org/abs/2307.08691>).
#![allow(unsafe_code, reason = "tasks write rows and heads of their own")]

mod backward;
mod forward;
#[cfg(test)]
mod tests;

use super::strided::Strided;

pub use backward::causal_attention_backward;
pub use forward::causal_attention;

/// Queries that are computed together.
const QUERIES: usize = 64;

/// Keys that they are multiplied with at a time, at most: a multiple of every width of panels, so that a block of them
/// is whole panels.
const KEYS: usize = 480;

/// Floats from row to row of a block of scores: a power of two would put all rows into the same part of a cache.
const SCORES: usize = KEYS + 16;

/// What attends to what in packed rows.
#[derive(Debug, Clone, Copy)]
pub struct Causal<'a> {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values, each of which `heads / kv_heads` heads of queries share.
    pub kv_heads: usize,
    /// The width of a head.
    pub dim: usize,
    /// What the products of queries and keys are multiplied with, `1 / sqrt(dim)`.
    pub scale: f32,
    /// The first row and the number of rows of each sequence, which follow each other without gaps: a row sees those of its
    /// sequence up to itself.
    pub spans: &'a [(usize, usize)],
}

impl Causal<'_> {
    /// Floats of a row of queries, keys and values.
    fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.dim
    }

    /// How many rows there are.
    ///
    /// # Panics
    ///
    /// When a part of the shape is 0, heads cannot be shared evenly, or the spans do not tile the rows of `qkv`.
    fn check(&self, qkv: &[f32]) -> usize {
        assert!(self.dim > 0, "heads of no width");
        assert!(
            self.kv_heads > 0 && self.heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            "{} heads on {}",
            self.heads,
            self.kv_heads
        );
        let mut rows = 0;
        for (start, len) in self.spans {
            assert_eq!(*start, rows, "spans follow each other");
            rows += len;
        }
        assert_eq!(
            Some(qkv.len()),
            rows.checked_mul(self.width()),
            "qkv: {rows} rows"
        );
        rows
    }

    /// A task for each head of each span, long ones first: the last to be finished should be short.
    fn tasks<'b>(&'b self, qkv: &'b [f32]) -> Vec<Task<'b>> {
        let mut spans: Vec<(usize, usize)> = self.spans.to_vec();
        spans.retain(|(_, len)| *len > 0);
        spans.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
        let heads = move |span| {
            (0..self.heads).map(move |head| Task {
                shape: self,
                qkv,
                span,
                head,
            })
        };
        spans.into_iter().flat_map(heads).collect()
    }
}

/// One head of one span.
#[derive(Clone, Copy)]
struct Task<'a> {
    shape: &'a Causal<'a>,
    qkv: &'a [f32],
    span: (usize, usize),
    head: usize,
}

impl<'a> Task<'a> {
    /// The head of keys that it reads.
    fn kv_head(&self) -> usize {
        self.head / (self.shape.heads / self.shape.kv_heads)
    }

    fn queries(&self) -> Strided<'a> {
        self.part(self.head)
    }

    fn keys(&self) -> Strided<'a> {
        self.part(self.shape.heads + self.kv_head())
    }

    fn values(&self) -> Strided<'a> {
        self.part(self.shape.heads + self.shape.kv_heads + self.kv_head())
    }

    /// Head `at` of a row of all.
    fn part(&self, at: usize) -> Strided<'a> {
        let (dim, width) = (self.shape.dim, self.shape.width());
        let (start, len) = self.span;
        let data = &self.qkv[start * width + at * dim..];
        Strided::with_step(data, len, dim, width)
    }

    /// The rows of the head in a matrix of `heads * dim` columns.
    fn rows(&self, all: &'a [f32]) -> Strided<'a> {
        let (dim, width) = (self.shape.dim, self.shape.heads * self.shape.dim);
        let (start, len) = self.span;
        let data = &all[start * width + self.head * dim..];
        Strided::with_step(data, len, dim, width)
    }
}

/// Which keys a block of queries sees.
#[derive(Clone, Copy)]
struct Block {
    /// The first query and how many there are.
    queries: (usize, usize),
    /// Likewise the keys.
    keys: (usize, usize),
}

impl Block {
    /// Those of `count` queries from `first` on, which together see all keys up to the last of them.
    fn of(first: usize, count: usize) -> impl Iterator<Item = Block> {
        let end = first + count;
        (0..end).step_by(KEYS).map(move |key| Block {
            queries: (first, count),
            keys: (key, KEYS.min(end - key)),
        })
    }

    /// How many of the keys query `i` of the block sees.
    fn visible(&self, i: usize) -> usize {
        let seen = (self.queries.0 + i + 1).saturating_sub(self.keys.0);
        seen.min(self.keys.1)
    }
}

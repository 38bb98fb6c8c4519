//! Causal attention.

use std::cell::RefCell;

use super::super::arithmetic::Arithmetic;
use super::super::gemm::{self, Multiplier, Out, Pack, Product, packed_len};
use super::super::math::{Math, Work};
use super::super::strided::Strided;
use super::{Block, Causal, KEYS, QUERIES, SCORES, Task};
use crate::kernels::aligned::Aligned;
use crate::kernels::lanes::Lanes;
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

const _: () = assert!(KEYS.is_multiple_of(48) && KEYS.is_multiple_of(16));

#[derive(Default)]
struct Buffers {
    keys: Aligned,
    values: Aligned,
    rows: Aligned,
    scores: Aligned,
}

thread_local! {
    /// Those of the task that this thread computes.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// Sets `out`, `[rows, heads * dim]`, to the attention of `qkv`, `[rows, (heads + 2 * kv_heads) * dim]`, whose rows are all
/// heads of the query, of the key and of the value, rotated already; and `lse`, `[rows, heads]`, to the logarithm of the
/// sum of the exponentials of the scaled scores. The products are computed in `arithmetic`, of which the probabilities are
/// inputs too before they are divided by their sum.
///
/// # Panics
///
/// When the shape is none, or a length differs from it.
pub fn causal_attention(
    level: Level,
    pool: &Pool,
    arithmetic: Arithmetic,
    shape: &Causal<'_>,
    qkv: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let rows = shape.check(qkv);
    let heads = rows * shape.heads;
    assert_eq!(out.len(), heads * shape.dim, "out: {rows} rows");
    assert_eq!(lse.len(), heads, "lse: {rows} rows");
    let forward = Forward {
        pool,
        tasks: shape.tasks(qkv),
        out: Shared::new(out),
        lse: Shared::new(lse),
    };
    gemm::run(level, arithmetic, forward);
}

struct Forward<'a> {
    pool: &'a Pool,
    tasks: Vec<Task<'a>>,
    out: Shared<'a, f32>,
    lse: Shared<'a, f32>,
}

impl gemm::Job for Forward<'_> {
    fn run<P: Multiplier>(self, multiplier: P) {
        self.pool.run(self.tasks.len(), |task| {
            BUFFERS.with_borrow_mut(|buffers| self.task(multiplier, self.tasks[task], buffers));
        });
    }
}

impl Forward<'_> {
    fn task<P: Multiplier>(&self, multiplier: P, task: Task<'_>, buffers: &mut Buffers) {
        let (shape, dim) = (task.shape, task.shape.dim);
        let (start, len) = task.span;
        let words = dim.div_ceil(P::DEEP);
        let (queries, values) = (task.queries(), task.values());
        let key_panels = buffers.keys.take(packed_len::<P>(len, P::COLUMNS, dim));
        multiplier.run(Pack::<true> {
            from: task.keys(),
            to: key_panels,
        });
        let value_panels = buffers.values.take(packed_len::<P>(dim, P::COLUMNS, len));
        multiplier.run(Pack::<true> {
            from: values.transposed(),
            to: value_panels,
        });
        let value_panel = packed_len::<P>(P::COLUMNS, P::COLUMNS, len);
        let scores = buffers.scores.take(QUERIES * SCORES);

        for first in (0..len).step_by(QUERIES) {
            let count = QUERIES.min(len - first);
            let mut sums = Sums::default();
            for block in Block::of(first, count) {
                let (key, keys) = block.keys;
                let rows = buffers.rows.take(packed_len::<P>(count, P::ROWS, dim));
                multiplier.run(Pack::<false> {
                    from: queries.cut((first, count), (0, dim)),
                    to: rows,
                });
                multiplier.run(Product {
                    rows,
                    columns: &key_panels[key * words..],
                    panel: packed_len::<P>(P::COLUMNS, P::COLUMNS, dim),
                    size: (count, keys),
                    depth: words,
                    // SAFETY: there are as many scores.
                    out: unsafe { Out::new(scores.as_mut_ptr(), SCORES, false) },
                });
                let head = (start + first) * shape.heads + task.head;
                multiplier.run(Softmax {
                    scores,
                    block,
                    scale: shape.scale,
                    sums: &mut sums,
                });
                if key > 0 {
                    for i in 0..count {
                        let at = (head + i * shape.heads) * dim;
                        // SAFETY: every task has rows and a head of its own.
                        let out = unsafe { self.out.part(at..at + dim) };
                        multiplier.run(ScaleRow(out, sums.kept[i]));
                    }
                }
                let rows = buffers.rows.take(packed_len::<P>(count, P::ROWS, keys));
                multiplier.run(Pack::<false> {
                    from: Strided::with_step(scores, count, keys, SCORES),
                    to: rows,
                });
                multiplier.run(Product {
                    rows,
                    columns: &value_panels[key / P::DEEP * P::COLUMNS..],
                    panel: value_panel,
                    size: (count, dim),
                    depth: keys.div_ceil(P::DEEP),
                    // SAFETY: every task has rows and a head of its own.
                    out: unsafe { Out::new(self.out.at(head * dim), shape.heads * dim, key > 0) },
                });
            }
            for i in 0..count {
                let head = (start + first + i) * shape.heads + task.head;
                // SAFETY: every task has rows and a head of its own.
                unsafe {
                    let out = self.out.part(head * dim..(head + 1) * dim);
                    multiplier.run(ScaleRow(out, 1.0 / sums.totals[i]));
                    self.lse.part(head..head + 1)[0] = sums.maxima[i] + sums.totals[i].ln();
                }
            }
        }
    }
}

/// Of each query, over the keys so far.
struct Sums {
    /// The largest scaled score.
    maxima: [f32; QUERIES],
    /// The sum of the exponentials of scaled scores less the largest.
    totals: [f32; QUERIES],
    /// What the last block left of what was summed before.
    kept: [f32; QUERIES],
}

impl Default for Sums {
    fn default() -> Self {
        Sums {
            maxima: [f32::MIN; QUERIES],
            totals: [0.0; QUERIES],
            kept: [0.0; QUERIES],
        }
    }
}

/// Replaces scores by their exponentials, and hidden ones by 0.
struct Softmax<'a> {
    scores: &'a mut [f32],
    block: Block,
    scale: f32,
    sums: &'a mut Sums,
}

impl<P: Multiplier> Work<P> for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, multiplier: P) {
        let math = multiplier.vectors();
        let lanes = P::Vectors::LANES;
        let scale = math.splat(self.scale);
        let rows = self.scores.chunks_exact_mut(SCORES);
        for (i, row) in rows.take(self.block.queries.1).enumerate() {
            let keys = self.block.keys.1;
            let visible = self.block.visible(i);
            row[visible..keys.next_multiple_of(lanes)].fill(f32::NEG_INFINITY);
            let row = row[..keys.next_multiple_of(lanes)].as_mut_ptr();
            let end = visible.next_multiple_of(lanes);
            let mut max = math.splat(f32::NEG_INFINITY);
            for at in (0..end).step_by(lanes) {
                // SAFETY: the row has whole vectors up to `end`.
                unsafe {
                    let scaled = math.mul(math.load(row.add(at)), scale);
                    math.store(row.add(at), scaled);
                    max = math.max(max, scaled);
                }
            }
            let before = self.sums.maxima[i];
            let most = math.largest(max).max(before);
            let shift = math.splat(-most);
            let mut sum = math.splat(0.0);
            for at in (0..end).step_by(lanes) {
                // SAFETY: as above.
                unsafe {
                    let power = math.exp(math.add(math.load(row.add(at)), shift));
                    math.store(row.add(at), power);
                    sum = math.add(sum, power);
                }
            }
            // What is hidden counts as nothing, which an exponential may not be.
            for at in visible..keys {
                // SAFETY: within the row.
                unsafe { *row.add(at) = 0.0 };
            }
            self.sums.kept[i] = (before - most).exp();
            self.sums.totals[i] = self.sums.totals[i] * self.sums.kept[i] + math.sum(sum);
            self.sums.maxima[i] = most;
        }
    }
}

/// Multiplies all of a row.
pub(super) struct ScaleRow<'a>(pub(super) &'a mut [f32], pub(super) f32);

impl<P: Multiplier> Work<P> for ScaleRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, multiplier: P) {
        let math = multiplier.vectors();
        let (row, len) = (self.0.as_mut_ptr(), self.0.len());
        let by = math.splat(self.1);
        for at in (0..len).step_by(P::Vectors::LANES) {
            // SAFETY: there are `len - at` floats from there on.
            unsafe {
                let x = math.load_first(row.add(at), len - at);
                math.store_first(row.add(at), math.mul(x, by), len - at);
            }
        }
    }
}

//! Causal attention, backward.

use std::cell::RefCell;

use super::super::arithmetic::Arithmetic;
use super::super::gemm::{self, Multiplier, Out, Pack, Product, packed_len};
use super::super::math::{Math, Work};
use super::super::strided::Strided;
use super::{Block, Causal, QUERIES, SCORES, Task};
use crate::kernels::aligned::Aligned;
use crate::kernels::lanes::Lanes;
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

/// Rows whose gradients of keys and values are summed over the heads of a group in one part.
const ROWS: usize = 64;

#[derive(Default)]
struct Buffers {
    keys: Aligned,
    keys_turned: Aligned,
    values: Aligned,
    queries: Aligned,
    queries_turned: Aligned,
    dout: Aligned,
    dout_turned: Aligned,
    rows: Aligned,
    probabilities: Aligned,
    slopes: Aligned,
}

thread_local! {
    /// Those of the task that this thread computes.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
    /// What each head of queries passes to its keys and values, of what this thread calls.
    static GRADIENTS: RefCell<Aligned> = RefCell::default();
}

/// Sets `dqkv` to what [`causal_attention`](super::causal_attention), which has set `out` and `lse`, passes back of `dout`.
/// Probabilities are computed again from `lse`, so it must be in the same arithmetic.
///
/// # Panics
///
/// When the shape is none, or a length differs from it.
#[allow(
    clippy::too_many_arguments,
    reason = "what goes in and out of attention, and where it runs"
)]
pub fn causal_attention_backward(
    level: Level,
    pool: &Pool,
    arithmetic: Arithmetic,
    shape: &Causal<'_>,
    qkv: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    let rows = shape.check(qkv);
    let heads = rows * shape.heads;
    assert_eq!(out.len(), heads * shape.dim, "out: {rows} rows");
    assert_eq!(dout.len(), heads * shape.dim, "dout: {rows} rows");
    assert_eq!(lse.len(), heads, "lse: {rows} rows");
    assert_eq!(dqkv.len(), qkv.len(), "dqkv: {rows} rows");
    GRADIENTS.with_borrow_mut(|gradients| {
        let (dkeys, dvalues) = gradients.take(2 * out.len()).split_at_mut(out.len());
        let backward = Backward {
            pool,
            shape,
            rows,
            tasks: shape.tasks(qkv),
            out,
            lse,
            dout,
            dqkv: Shared::new(dqkv),
            dkeys: Shared::new(dkeys),
            dvalues: Shared::new(dvalues),
        };
        gemm::run(level, arithmetic, backward);
    });
}

struct Backward<'a> {
    pool: &'a Pool,
    shape: &'a Causal<'a>,
    rows: usize,
    tasks: Vec<Task<'a>>,
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    dqkv: Shared<'a, f32>,
    /// Those of each head of queries, head by head.
    dkeys: Shared<'a, f32>,
    dvalues: Shared<'a, f32>,
}

impl gemm::Job for Backward<'_> {
    fn run<P: Multiplier>(self, multiplier: P) {
        self.pool.run(self.tasks.len(), |task| {
            BUFFERS.with_borrow_mut(|buffers| self.task(multiplier, self.tasks[task], buffers));
        });
        self.pool.run(self.rows.div_ceil(ROWS), |part| {
            let rows = part * ROWS..((part + 1) * ROWS).min(self.rows);
            let Causal {
                heads,
                kv_heads,
                dim,
                ..
            } = *self.shape;
            let width = self.shape.width();
            for (which, from) in [&self.dkeys, &self.dvalues].into_iter().enumerate() {
                for row in rows.clone() {
                    for kv_head in 0..kv_heads {
                        let group = heads / kv_heads;
                        let at = row * width + (heads + which * kv_heads + kv_head) * dim;
                        // SAFETY: every part has rows of its own, and what is read is written no more.
                        let (from, to) = unsafe {
                            let from = from.at(0).cast_const();
                            let len = self.rows * heads * dim;
                            (
                                std::slice::from_raw_parts(from, len),
                                self.dqkv.part(at..at + dim),
                            )
                        };
                        multiplier.run(SumHeads {
                            from: &from[(kv_head * group * self.rows + row) * dim..],
                            step: self.rows * dim,
                            heads: group,
                            to,
                        });
                    }
                }
            }
        });
    }
}

impl Backward<'_> {
    fn task<P: Multiplier>(&self, multiplier: P, task: Task<'_>, buffers: &mut Buffers) {
        let (shape, dim) = (self.shape, self.shape.dim);
        let (start, len) = task.span;
        let words = dim.div_ceil(P::DEEP);
        let (queries, keys, values) = (task.queries(), task.keys(), task.values());
        let dout = task.rows(self.dout);
        let deep_panel = packed_len::<P>(P::COLUMNS, P::COLUMNS, dim);
        let long_panel = packed_len::<P>(P::COLUMNS, P::COLUMNS, len);
        let key_panels = pack::<P, true>(multiplier, keys, &mut buffers.keys);
        let turned = keys.transposed();
        let keys_turned = pack::<P, true>(multiplier, turned, &mut buffers.keys_turned);
        let value_panels = pack::<P, true>(multiplier, values, &mut buffers.values);
        let probabilities = buffers.probabilities.take(QUERIES * SCORES);
        let slopes = buffers.slopes.take(QUERIES * SCORES);
        let own = (task.head * self.rows + start) * dim;
        // SAFETY: every task has rows and a head of its own.
        unsafe {
            self.dkeys.part(own..own + len * dim).fill(0.0);
            self.dvalues.part(own..own + len * dim).fill(0.0);
        }

        for first in (0..len).step_by(QUERIES) {
            let count = QUERIES.min(len - first);
            let query = queries.cut((first, count), (0, dim));
            let dout = dout.cut((first, count), (0, dim));
            let query_rows = pack::<P, false>(multiplier, query, &mut buffers.queries);
            let dout_rows = pack::<P, false>(multiplier, dout, &mut buffers.dout);
            let query_turned =
                pack::<P, true>(multiplier, query.transposed(), &mut buffers.queries_turned);
            let dout_turned =
                pack::<P, true>(multiplier, dout.transposed(), &mut buffers.dout_turned);
            let short_panel = packed_len::<P>(P::COLUMNS, P::COLUMNS, count);
            let mut lse = [0.0; QUERIES];
            let mut means = [0.0; QUERIES];
            for i in 0..count {
                lse[i] = self.lse[(start + first + i) * shape.heads + task.head];
                let row = ((start + first + i) * shape.heads + task.head) * dim;
                means[i] =
                    multiplier.run(Dot(&self.out[row..row + dim], &self.dout[row..row + dim]));
            }
            for block in Block::of(first, count) {
                let (key, keys) = block.keys;
                for (rows, columns, to) in [
                    (query_rows, key_panels, &mut *probabilities),
                    (dout_rows, value_panels, &mut *slopes),
                ] {
                    multiplier.run(Product {
                        rows,
                        columns: &columns[key * words..],
                        panel: deep_panel,
                        size: (count, keys),
                        depth: words,
                        // SAFETY: there are as many scores.
                        out: unsafe { Out::new(to.as_mut_ptr(), SCORES, false) },
                    });
                }
                multiplier.run(Slopes {
                    probabilities,
                    slopes,
                    block,
                    scale: shape.scale,
                    lse: &lse,
                    means: &means,
                });
                let at = own + key * dim;
                for (scores, columns, to) in [
                    (&*probabilities, dout_turned, &self.dvalues),
                    (&*slopes, query_turned, &self.dkeys),
                ] {
                    let scores = Strided::with_step(scores, count, keys, SCORES);
                    let rows = pack::<P, false>(multiplier, scores.transposed(), &mut buffers.rows);
                    multiplier.run(Product {
                        rows,
                        columns,
                        panel: short_panel,
                        size: (keys, dim),
                        depth: count.div_ceil(P::DEEP),
                        // SAFETY: every task has rows and a head of its own.
                        out: unsafe { Out::new(to.at(at), dim, true) },
                    });
                }
                let scores = Strided::with_step(slopes, count, keys, SCORES);
                let rows = pack::<P, false>(multiplier, scores, &mut buffers.rows);
                let row = (start + first) * shape.width() + task.head * dim;
                multiplier.run(Product {
                    rows,
                    columns: &keys_turned[key / P::DEEP * P::COLUMNS..],
                    panel: long_panel,
                    size: (count, dim),
                    depth: keys.div_ceil(P::DEEP),
                    // SAFETY: every task has rows and a head of its own.
                    out: unsafe { Out::new(self.dqkv.at(row), shape.width(), key > 0) },
                });
            }
        }
    }
}

/// Packs all of a matrix.
fn pack<'a, P: Multiplier, const COLUMNS: bool>(
    multiplier: P,
    from: Strided<'_>,
    to: &'a mut Aligned,
) -> &'a [f32] {
    let width = if COLUMNS { P::COLUMNS } else { P::ROWS };
    let to = to.take(packed_len::<P>(from.rows(), width, from.cols()));
    multiplier.run(Pack::<COLUMNS> { from, to: &mut *to });
    to
}

/// Replaces scores by probabilities, `p = exp(scale * score - lse)`, and what they should change by by what the scores
/// should, `scale * p * (slope - mean)`. What is hidden becomes 0.
struct Slopes<'a> {
    probabilities: &'a mut [f32],
    slopes: &'a mut [f32],
    block: Block,
    scale: f32,
    lse: &'a [f32; QUERIES],
    /// Of each query the sum of `p * slope` over all keys, which is that of `out * dout`.
    means: &'a [f32; QUERIES],
}

impl<P: Multiplier> Work<P> for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, multiplier: P) {
        let math = multiplier.vectors();
        let lanes = P::Vectors::LANES;
        let scale = math.splat(self.scale);
        let rows = self.probabilities.chunks_exact_mut(SCORES);
        let rows = rows.zip(self.slopes.chunks_exact_mut(SCORES));
        for (i, (row, slopes)) in rows.take(self.block.queries.1).enumerate() {
            let keys = self.block.keys.1;
            let visible = self.block.visible(i);
            let shift = math.splat(-self.lse[i]);
            let mean = math.splat(self.means[i]);
            let (from, to) = (row.as_mut_ptr(), slopes.as_mut_ptr());
            for at in (0..visible).step_by(lanes) {
                let left = visible - at;
                // SAFETY: the rows have `left` floats from there on.
                unsafe {
                    let score = math.load_first(from.add(at), left);
                    let p = math.exp(math.fma(score, scale, shift));
                    let slope = math.sub(math.load_first(to.add(at), left), mean);
                    let slope = math.mul(math.mul(p, scale), slope);
                    math.store_first(from.add(at), p, left);
                    math.store_first(to.add(at), slope, left);
                }
            }
            row[visible..keys].fill(0.0);
            slopes[visible..keys].fill(0.0);
        }
    }
}

/// The sum of products.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl<P: Multiplier> Work<P> for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self, multiplier: P) -> f32 {
        let math = multiplier.vectors();
        let len = self.0.len().min(self.1.len());
        let mut sum = math.splat(0.0);
        for at in (0..len).step_by(P::Vectors::LANES) {
            // SAFETY: both have `len - at` floats from there on.
            unsafe {
                let a = math.load_first(self.0.as_ptr().add(at), len - at);
                let b = math.load_first(self.1.as_ptr().add(at), len - at);
                sum = math.fma(a, b, sum);
            }
        }
        math.sum(sum)
    }
}

/// Sets `to` to the sum of as many floats of each head, `step` apart.
struct SumHeads<'a> {
    from: &'a [f32],
    step: usize,
    heads: usize,
    to: &'a mut [f32],
}

impl<P: Multiplier> Work<P> for SumHeads<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, multiplier: P) {
        let math = multiplier.vectors();
        let len = self.to.len();
        assert!(self.heads > 0 && (self.heads - 1) * self.step + len <= self.from.len());
        for at in (0..len).step_by(P::Vectors::LANES) {
            let left = len - at;
            let mut sum = math.splat(0.0);
            for head in 0..self.heads {
                // SAFETY: by the assertion each head has `len` floats.
                let x = unsafe {
                    let from = self.from.as_ptr().add(head * self.step + at);
                    math.load_first(from, left)
                };
                sum = math.add(sum, x);
            }
            // SAFETY: there are `left` floats from there on.
            unsafe { math.store_first(self.to.as_mut_ptr().add(at), sum, left) };
        }
    }
}

//! Products of matrices of floats.
#![allow(unsafe_code, reason = "parts write blocks of their own of one matrix")]

mod multiplier;
mod panels;
#[cfg(test)]
pub(super) mod tests;
mod tile;

use std::cell::RefCell;

use super::arithmetic::Arithmetic;
use super::strided::Strided;
use crate::kernels::aligned::Aligned;
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

pub(super) use multiplier::{Job, Multiplier, run};
pub(super) use panels::{Pack, packed_len};
pub(super) use tile::{Out, Product};

/// Words of the depth that are multiplied at a time: a panel of columns of as many stays in the nearest caches while
/// panels of rows pass it.
const DEPTH: usize = 320;

/// Rows of a part, at most: as many of [`DEPTH`] words stay in the second cache while panels of columns pass them.
const ROWS: usize = 160;

/// Words of columns that are packed at a time: a share of the last cache.
const PACKED: usize = 1 << 21;

thread_local! {
    /// The columns of the product that this thread calls.
    static COLUMNS: RefCell<Aligned> = RefCell::default();
    /// The rows of the part that this thread computes.
    static PART: RefCell<Aligned> = RefCell::default();
}

/// Sets `c` to `a` times `b`, or adds the product to it: `[a.rows(), b.cols()]`, each row `c_step` floats after the one
/// before, and what lies between the rows stays. The error is that of sums in `f32`, and of rounding the inputs as
/// `arithmetic` says.
///
/// # Panics
///
/// When `a` has not as many columns as `b` has rows, or `c` is too short or its rows overlap.
#[allow(
    clippy::too_many_arguments,
    reason = "the operands of the field's GEMM, and where it runs"
)]
pub fn gemm(
    level: Level,
    pool: &Pool,
    arithmetic: Arithmetic,
    a: Strided<'_>,
    b: Strided<'_>,
    c: &mut [f32],
    c_step: usize,
    add: bool,
) {
    assert_eq!(a.cols(), b.rows(), "b: a row for each column of a");
    let (rows, cols) = (a.rows(), b.cols());
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(
        rows == 1 || c_step >= cols,
        "c_step: rows of {cols} overlap"
    );
    let end = (rows - 1).checked_mul(c_step);
    let end = end.and_then(|start| start.checked_add(cols));
    assert!(
        end.is_some_and(|end| end <= c.len()),
        "c: {rows} rows of {cols}, {c_step} apart"
    );
    if a.cols() == 0 {
        if !add {
            c.chunks_mut(c_step.max(1))
                .take(rows)
                .for_each(|row| row[..cols].fill(0.0));
        }
        return;
    }
    let gemm = Gemm {
        pool,
        a,
        b,
        c: Shared::new(c),
        c_step,
        add,
    };
    run(level, arithmetic, gemm);
}

struct Gemm<'a> {
    pool: &'a Pool,
    a: Strided<'a>,
    b: Strided<'a>,
    c: Shared<'a, f32>,
    c_step: usize,
    add: bool,
}

impl Job for Gemm<'_> {
    fn run<P: Multiplier>(self, multiplier: P) {
        let words = self.a.cols().div_ceil(P::DEEP);
        // Cuts of the depth that are as even as can be.
        let cuts = words.div_ceil(DEPTH);
        let cut = words.div_ceil(cuts) * P::DEEP;
        let width = (PACKED / words).max(P::COLUMNS) / P::COLUMNS * P::COLUMNS;
        COLUMNS.with_borrow_mut(|columns| {
            for left in (0..self.b.cols()).step_by(width) {
                let width = width.min(self.b.cols() - left);
                let b = self.b.cut((0, self.b.rows()), (left, width));
                self.columns(multiplier, b, left, cut, columns);
            }
        });
    }
}

impl Gemm<'_> {
    /// Multiplies with columns `b` of the right side, the first of which is `left`, in cuts of the depth.
    fn columns<P: Multiplier>(
        &self,
        multiplier: P,
        b: Strided<'_>,
        left: usize,
        cut: usize,
        columns: &mut Aligned,
    ) {
        let (depth, width) = (b.rows(), b.cols());
        let panels = width.div_ceil(P::COLUMNS);
        let cuts = depth.div_ceil(cut);
        let packed = columns.take(packed_len::<P>(width, P::COLUMNS, depth));
        let cut_at = |i: usize| (i * cut, cut.min(depth - i * cut));
        // The cuts follow each other, and in each of them its panels.
        let before = |i: usize| packed_len::<P>(width, P::COLUMNS, i * cut);
        let shared = Shared::new(packed);
        self.pool.run(panels * cuts, |part| {
            let (i, j) = (part / panels, part % panels);
            let at = cut_at(i);
            let panel = packed_len::<P>(P::COLUMNS, P::COLUMNS, at.1);
            let first = j * P::COLUMNS;
            let from = b.cut(at, (first, P::COLUMNS.min(width - first)));
            let start = before(i) + j * panel;
            // SAFETY: every part has a panel of its own.
            let to = unsafe { shared.part(start..start + panel) };
            multiplier.run(Pack::<true> {
                from: from.transposed(),
                to,
            });
        });
        let packed = &*packed;

        let threads = self.pool.threads();
        let rows = self.a.rows();
        let down = rows.div_ceil(ROWS * threads) * threads;
        let height = rows.div_ceil(down).next_multiple_of(P::ROWS);
        let down = rows.div_ceil(height);
        // Few rows are too few parts for the threads.
        let across = (2 * threads).div_ceil(down).min(panels);
        let across = if down >= threads { 1 } else { across };
        self.pool.run(down * across, |part| {
            let (top, group) = (part / across * height, part % across);
            let height = height.min(rows - top);
            let (first, end) = (group * panels / across, (group + 1) * panels / across);
            let first_column = first * P::COLUMNS;
            let part_width = width.min(end * P::COLUMNS) - first_column;
            PART.with_borrow_mut(|buffer| {
                for i in 0..cuts {
                    let at = cut_at(i);
                    let packed_rows = buffer.take(packed_len::<P>(height, P::ROWS, at.1));
                    multiplier.run(Pack::<false> {
                        from: self.a.cut((top, height), at),
                        to: packed_rows,
                    });
                    let panel = packed_len::<P>(P::COLUMNS, P::COLUMNS, at.1);
                    let start = before(i) + first * panel;
                    let to = self.c.at(top * self.c_step + left + first_column);
                    multiplier.run(Product {
                        rows: packed_rows,
                        columns: &packed[start..start + (end - first) * panel],
                        panel,
                        size: (height, part_width),
                        depth: at.1.div_ceil(P::DEEP),
                        // SAFETY: the length of `c` was checked, and every part has a block of its own.
                        out: unsafe { Out::new(to, self.c_step, self.add || i > 0) },
                    });
                }
            });
        });
    }
}

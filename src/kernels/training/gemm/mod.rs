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

/// Words of the depth that are packed at a time, at most, so that there are many columns beside each other.
const LONG: usize = 2048;

/// Panels of columns that are packed by one part: what it reads of a row of the matrix should be long.
const PANELS: usize = 4;

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
        let depth = self.a.cols();
        let words = depth.div_ceil(P::DEEP);
        // Cuts of the depth that are as even as can be.
        let cut = words.div_ceil(words.div_ceil(DEPTH));
        let long = words.min(LONG / cut * cut);
        let width = (PACKED / long / P::COLUMNS * P::COLUMNS).max(P::COLUMNS);
        COLUMNS.with_borrow_mut(|columns| {
            for left in (0..self.b.cols()).step_by(width) {
                for top in (0..depth).step_by(long * P::DEEP) {
                    let long = (long * P::DEEP).min(depth - top);
                    let width = width.min(self.b.cols() - left);
                    let turn = Turn {
                        gemm: &self,
                        a: self.a.cut((0, self.a.rows()), (top, long)),
                        b: self.b.cut((top, long), (left, width)),
                        left,
                        cut: cut * P::DEEP,
                        add: self.add || top > 0,
                    };
                    turn.run(multiplier, columns);
                }
            }
        });
    }
}

/// Some of the depth of both sides, and some columns of the right one, the first of which is `left`.
struct Turn<'a> {
    gemm: &'a Gemm<'a>,
    a: Strided<'a>,
    b: Strided<'a>,
    left: usize,
    /// Numbers of the depth that are multiplied at a time.
    cut: usize,
    add: bool,
}

impl Turn<'_> {
    fn run<P: Multiplier>(&self, multiplier: P, columns: &mut Aligned) {
        let packed = columns.take(packed_len::<P>(self.b.cols(), P::COLUMNS, self.b.rows()));
        self.pack(multiplier, packed);
        let packed = &*packed;

        let threads = self.gemm.pool.threads();
        let rows = self.a.rows();
        let panels = self.b.cols().div_ceil(P::COLUMNS);
        let down = rows.div_ceil(ROWS * threads) * threads;
        let height = rows.div_ceil(down).next_multiple_of(P::ROWS);
        let down = rows.div_ceil(height);
        // Few rows are too few parts for the threads.
        let across = if down >= threads { 1 } else { 2 * threads };
        let across = across.min(panels);
        self.gemm.pool.run(down * across, |part| {
            let (top, group) = (part / across * height, part % across);
            let panels = (group * panels / across, (group + 1) * panels / across);
            self.part(multiplier, (top, height.min(rows - top)), panels, packed);
        });
    }

    /// The first number of a cut of the depth, and how many it has.
    fn at(&self, cut: usize) -> (usize, usize) {
        let first = cut * self.cut;
        (first, self.cut.min(self.b.rows() - first))
    }

    /// Words of panels of columns before those of a cut: the cuts follow each other, and in each of them its panels.
    fn before<P: Multiplier>(&self, cut: usize) -> usize {
        packed_len::<P>(self.b.cols(), P::COLUMNS, cut * self.cut)
    }

    fn pack<P: Multiplier>(&self, multiplier: P, packed: &mut [f32]) {
        let cuts = self.b.rows().div_ceil(self.cut);
        let width = self.b.cols();
        let groups = width.div_ceil(PANELS * P::COLUMNS);
        let shared = Shared::new(packed);
        self.gemm.pool.run(groups * cuts, |part| {
            let (cut, group) = (part % cuts, part / cuts);
            let at = self.at(cut);
            let first = group * PANELS * P::COLUMNS;
            let from = self
                .b
                .cut(at, (first, (PANELS * P::COLUMNS).min(width - first)));
            let start = self.before::<P>(cut) + packed_len::<P>(first, P::COLUMNS, at.1);
            let len = packed_len::<P>(from.cols(), P::COLUMNS, at.1);
            multiplier.run(Pack::<true> {
                from: from.transposed(),
                // SAFETY: every part has panels of its own.
                to: unsafe { shared.part(start..start + len) },
            });
        });
    }

    /// Multiplies rows `top` to `top + height` with panels `first` to `end` of columns.
    fn part<P: Multiplier>(
        &self,
        multiplier: P,
        (top, height): (usize, usize),
        (first, end): (usize, usize),
        packed: &[f32],
    ) {
        let cuts = self.b.rows().div_ceil(self.cut);
        let column = first * P::COLUMNS;
        let width = self.b.cols().min(end * P::COLUMNS) - column;
        let step = self.gemm.c_step;
        let to = self.gemm.c.at(top * step + self.left + column);
        PART.with_borrow_mut(|buffer| {
            for cut in 0..cuts {
                let at = self.at(cut);
                let rows = buffer.take(packed_len::<P>(height, P::ROWS, at.1));
                multiplier.run(Pack::<false> {
                    from: self.a.cut((top, height), at),
                    to: rows,
                });
                let panel = packed_len::<P>(P::COLUMNS, P::COLUMNS, at.1);
                let start = self.before::<P>(cut) + first * panel;
                multiplier.run(Product {
                    rows,
                    columns: &packed[start..start + (end - first) * panel],
                    panel,
                    size: (height, width),
                    depth: at.1.div_ceil(P::DEEP),
                    // SAFETY: the length of `c` was checked, and every part has a block of its own.
                    out: unsafe { Out::new(to, step, self.add || cut > 0) },
                });
            }
        });
    }
}

//! Products of weights at their own width with a few rows of floats.
#![allow(
    unsafe_code,
    reason = "the parts of a product write to places of the same slice that are not contiguous"
)]

mod format;
mod inputs;
mod matrix;
mod packing;
mod panels;
mod tile;

pub use format::Format;
pub use matrix::{Matrix, MatrixError};

use std::marker::PhantomData;
use std::ops::Range;

use super::lanes::Lanes;
use super::level::Level;
use super::pool::Pool;
use super::steps::{self, Job, Steps};
use inputs::Packed;
use packing::ROWS;
use panels::Panels;
use tile::WIDEST;

#[cfg(test)]
mod tests;

/// Vector operations of the smallest parts, some microseconds: enough to hide that threads claim parts one by one, and
/// little enough to wait for.
const LEAST: usize = 6_000;

/// Panels that stay in the nearest caches while all groups of inputs are multiplied with them.
const BLOCK: usize = 4;

/// Sets `out[i, r]` to the dot product of row `i` of `x` and row `r` of `weights`.
///
/// - `level`: the instructions; the best of the CPU when it lacks this one. The levels agree up to `f32` rounding.
/// - `x`: `[n, weights.cols()]`. However many rows, the weights are read from memory once; 16 rows share their conversion
///   to floats, 8 with AVX2 and 4 without either.
/// - `out`: `[n, weights.rows()]`, overwritten.
///
/// Weights are converted to `f32` without loss, up to the rounding of `d * q + m`, and sums are in `f32`: for every
/// output, the error is at most `2^-24` times the number of columns times the sum of the magnitudes of what is added,
/// and usually far below that. What is added are products of `x` with elements or, of quantised weights, with the parts
/// `d * q` and `m` of elements.
///
/// # Panics
///
/// When `x` or `out` has another length than its shape.
pub fn multiply(level: Level, pool: &Pool, weights: &Matrix, x: &[f32], n: usize, out: &mut [f32]) {
    let shape = |cols: usize| n.checked_mul(cols);
    assert_eq!(Some(x.len()), shape(weights.cols()), "x: {n} rows");
    assert_eq!(Some(out.len()), shape(weights.rows()), "out: {n} rows");
    if n > 0 {
        let multiply = Multiply {
            pool,
            weights,
            x,
            n,
            out,
        };
        steps::run(level, multiply);
    }
}

struct Multiply<'a> {
    pool: &'a Pool,
    weights: &'a Matrix,
    x: &'a [f32],
    n: usize,
    out: &'a mut [f32],
}

impl Job for Multiply<'_> {
    fn run<S: Steps>(self, steps: S) {
        let lanes = steps.vectors();
        let inputs = Packed::new(self.x, self.n, S::Vectors::SUMS);
        let panels: usize = self.weights.parts().iter().map(Panels::len).sum();
        let cost = self.weights.cols() * (ROWS / S::Vectors::LANES) * (self.n + 3) / 2;
        let parts = parts(panels, (LEAST / cost).max(1), self.pool.threads());
        let out = Output::new(self.out, self.weights.rows());
        self.pool.run(parts.len(), |part| {
            let mut sums = [[0.0; ROWS]; WIDEST];
            let Range { start, end } = parts[part].clone();
            for start in (start..end).step_by(BLOCK) {
                for (rows, inputs) in inputs.groups() {
                    let block = start..(start + BLOCK).min(end);
                    for panel in block.filter_map(|i| Panel::of(self.weights, i)) {
                        tile::multiply(lanes, panel.format, panel.bytes, inputs, &mut sums);
                        for (i, sums) in rows.clone().zip(&sums) {
                            // SAFETY: each panel has rows of its own, and each part panels of its own.
                            unsafe { out.write(i, panel.first, &sums[..panel.rows]) };
                        }
                    }
                }
            }
        });
    }
}

/// Splits `panels` for `threads` that claim parts one by one: long stretches of memory first, which are read fastest,
/// then ever shorter ones down to `least`, so that all threads end together
/// (guided self-scheduling, <https://doi.org/10.1109/TC.1987.5009495>).
fn parts(panels: usize, least: usize, threads: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    while start < panels {
        let left = panels - start;
        let end = start + (left / (2 * threads)).max(least).min(left);
        parts.push(start..end);
        start = end;
    }
    parts
}

/// Up to [`ROWS`] rows of weights, `first` and those after it.
struct Panel<'a> {
    format: Format,
    bytes: &'a [u8],
    first: usize,
    rows: usize,
}

impl<'a> Panel<'a> {
    /// The `index`-th panel of all parts of `weights`.
    fn of(weights: &'a Matrix, mut index: usize) -> Option<Panel<'a>> {
        let mut first = 0;
        for part in weights.parts() {
            if index < part.len() {
                return Some(Panel {
                    format: part.format,
                    bytes: part.panel(index),
                    first: first + index * ROWS,
                    rows: (part.rows - index * ROWS).min(ROWS),
                });
            }
            index -= part.len();
            first += part.rows;
        }
        None
    }
}

/// Rows of results, to which several threads write.
struct Output<'a> {
    start: *mut f32,
    len: usize,
    width: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may go to other threads; that they do not write to the same place, the
// callers of `write` vouch for.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    fn new(out: &'a mut [f32], width: usize) -> Output<'a> {
        Output {
            start: out.as_mut_ptr(),
            len: out.len(),
            width,
            borrowed: PhantomData,
        }
    }

    /// Writes `values` to row `i` from column `first` on.
    ///
    /// # Safety
    ///
    /// No other thread writes to any of these places.
    unsafe fn write(&self, i: usize, first: usize, values: &[f32]) {
        let at = i * self.width + first;
        assert!(at + values.len() <= self.len);
        // SAFETY: in bounds of the slice, which is borrowed mutably for as long as this lives, and by the caller nobody
        // else writes here. `values` is a shared borrow, so it is not a part of it.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(at), values.len());
        }
    }
}

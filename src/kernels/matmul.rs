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
#[cfg(target_arch = "x86_64")]
mod wide;

pub use format::Format;
pub use matrix::{Matrix, MatrixError};

use std::marker::PhantomData;
use std::ops::Range;

use super::lanes::Lanes;
use super::level::Level;
use super::pool::Pool;
use super::precision::Precision;
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

/// Rows that are multiplied in single precision whatever may be, each as if it were alone: reading the weights takes
/// longer.
pub const FEW: usize = 16;

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
    check(weights, x, n, out);
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

/// Likewise for long inputs, which may be computed in another precision: from 17 rows on and at [`Level::Amx`], in tiles
/// of `bf16`; else as [`multiply`] does.
///
/// With [`Precision::Bfloat16`] weights and `x` are rounded to 8 bits of a mantissa, with [`Precision::Split`] to 16, in
/// two parts whose smallest product is left out. The error of an output is at most `2^-7`, or `2^-14`, of the sum of the
/// magnitudes of what is added, beside that of sums in `f32`; usually, as roundings are as often up as down, it is that
/// over the root of the number of columns. Magnitudes below `2^-126` count as 0.
///
/// # Panics
///
/// As [`multiply`].
pub fn multiply_as(
    precision: Precision,
    level: Level,
    pool: &Pool,
    weights: &Matrix,
    x: &[f32],
    n: usize,
    out: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if let (Level::Amx, Some(amx), true) = (level, super::x86::Amx::detect(), n > FEW) {
        check(weights, x, n, out);
        match precision {
            Precision::Float32 => {}
            Precision::Split => return wide::multiply::<true>(amx, pool, weights, x, n, out),
            Precision::Bfloat16 => return wide::multiply::<false>(amx, pool, weights, x, n, out),
        }
    }
    let _ = precision;
    multiply(level, pool, weights, x, n, out);
}

/// # Panics
///
/// When `x` or `out` has another length than its shape.
fn check(weights: &Matrix, x: &[f32], n: usize, out: &[f32]) {
    let shape = |cols: usize| n.checked_mul(cols);
    assert_eq!(Some(x.len()), shape(weights.cols()), "x: {n} rows");
    assert_eq!(Some(out.len()), shape(weights.rows()), "out: {n} rows");
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

    /// Where `rows` rows of `columns` begin, row `i` and column `first`.
    #[cfg(target_arch = "x86_64")]
    fn place(&self, i: usize, first: usize, rows: usize, columns: usize) -> *mut f32 {
        let at = i * self.width + first;
        assert!(
            first + columns <= self.width && at + (rows - 1) * self.width + columns <= self.len
        );
        // SAFETY: in bounds of the slice.
        unsafe { self.start.add(at) }
    }

    /// Writes `values` to row `i` from column `first` on, or adds them.
    ///
    /// # Safety
    ///
    /// As [`Output::write`].
    #[cfg(target_arch = "x86_64")]
    unsafe fn put(&self, i: usize, first: usize, values: &[f32], add: bool) {
        let at = self.place(i, first, 1, values.len());
        for (j, value) in values.iter().enumerate() {
            // SAFETY: by `place` in bounds of the slice, and by the caller nobody else writes here.
            unsafe {
                let at = at.add(j);
                *at = if add { *at + value } else { *value };
            }
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

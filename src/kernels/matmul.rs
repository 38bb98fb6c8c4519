//! Products of weights at their own width with a few rows of floats.
#![allow(
    unsafe_code,
    reason = "the parts of a product write to places of the same slice that are not contiguous"
)]

mod bytes;
mod format;
mod inputs;
mod matrix;
mod packing;
mod panels;
mod tile;
mod whole;
#[cfg(target_arch = "x86_64")]
mod wide;

pub use format::Format;
pub use matrix::{Matrix, MatrixError};

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::lanes::Lanes;
use super::level::Level;
use super::pool::Pool;
use super::precision::Precision;
use super::steps::{self, Job, Steps};
use bytes::Bytes;
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
    check(weights, x, n, out);
    if n > 0 {
        let product = Product {
            pool,
            weights,
            x,
            n,
            out,
        };
        steps::run(level, Multiply(product));
    }
}

/// Likewise in another precision: from [`Level::Bf16`] on in `bf16`, or with bytes; else as [`multiply`] does. A row of
/// the result is the same whatever the other rows are, but for single precision, where the last bits may differ.
///
/// With [`Precision::Bfloat16`] weights and `x` are rounded to 8 bits of a mantissa, with [`Precision::Split`] to 16, in
/// two parts whose smallest product is left out. The error of an output is at most `2^-7`, or `2^-14`, of the sum of the
/// magnitudes of what is added, beside that of sums in `f32`; usually, as roundings are as often up as down, it is that
/// over the root of the number of columns. Magnitudes below `2^-126` count as 0.
///
/// With [`Precision::Int8`] each group of 32 columns of `x` is rounded to 255 steps of its largest magnitude, an error of at
/// most 1 in 254 of that; magnitudes below `1e-30` count as 0. Products inside a group are exact, and levels differ in the
/// rounding of `f32` sums between groups only.
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
    if let (Some(cpu), true) = (super::x86::Halves::detect(level), n > 0) {
        check(weights, x, n, out);
        match precision {
            Precision::Float32 | Precision::Int8 => {}
            Precision::Split => return wide::multiply::<true>(cpu, pool, weights, x, n, out),
            Precision::Bfloat16 => return wide::multiply::<false>(cpu, pool, weights, x, n, out),
        }
    }
    if precision == Precision::Int8 && n > 0 && weights.is_quantised() {
        check(weights, x, n, out);
        let product = Product {
            pool,
            weights,
            x,
            n,
            out,
        };
        return steps::run(level, Whole(product));
    }
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

/// What is multiplied, of lengths that have been checked.
struct Product<'a> {
    pool: &'a Pool,
    weights: &'a Matrix,
    x: &'a [f32],
    n: usize,
    out: &'a mut [f32],
}

/// A product with floats.
struct Multiply<'a>(Product<'a>);

impl Job for Multiply<'_> {
    fn run<S: Steps>(self, steps: S) {
        let Multiply(Product {
            pool,
            weights,
            x,
            n,
            out,
        }) = self;
        let lanes = steps.vectors();
        PACKED.with_borrow_mut(|inputs| {
            inputs.pack(x, n, S::Vectors::SUMS);
            let inputs = &*inputs;
            let cost = weights.cols() * (ROWS / S::Vectors::LANES) * (n + 3) / 2;
            let out = Output::new(out, weights.rows());
            by_panel(pool, weights, (cost, BLOCK), |panels, sums| {
                for (rows, inputs) in inputs.groups() {
                    for panel in panels.clone().filter_map(|i| Panel::of(weights, i)) {
                        tile::multiply(lanes, panel.format, panel.bytes, inputs, sums);
                        // SAFETY: each panel has rows of its own.
                        unsafe { panel.write(&out, rows.clone(), sums) };
                    }
                }
            });
        });
    }
}

thread_local! {
    /// The inputs of the product that this thread calls.
    static PACKED: RefCell<Packed> = RefCell::default();
    /// Likewise, in bytes.
    static BYTES: RefCell<Bytes> = RefCell::default();
}

/// A product with bytes.
struct Whole<'a>(Product<'a>);

impl Job for Whole<'_> {
    fn run<S: Steps>(self, steps: S) {
        let Whole(Product {
            pool,
            weights,
            x,
            n,
            out,
        }) = self;
        let lanes = steps.vectors();
        BYTES.with_borrow_mut(|inputs| {
            inputs.round(lanes, pool, x, n);
            let inputs = &*inputs;
            // Four columns at a time, and a few operations more for each group of 32.
            let cost = weights.cols() * (ROWS / S::Vectors::LANES) * (3 * n + 2) / 8;
            let out = Output::new(out, weights.rows());
            // A single set need not come back to a panel.
            let block = if n > WIDEST { BLOCK } else { usize::MAX };
            by_panel(pool, weights, (cost, block), |panels, sums| {
                for (rows, inputs) in inputs.sets(WIDEST) {
                    for panel in panels.clone().filter_map(|i| Panel::of(weights, i)) {
                        whole::multiply(lanes, panel.format, panel.bytes, inputs, sums);
                        // SAFETY: each panel has rows of its own.
                        unsafe { panel.write(&out, rows.clone(), sums) };
                    }
                }
            });
        });
    }
}

/// The results of a panel, by input.
type Sums = [[f32; ROWS]; WIDEST];

/// Calls `work` for all panels of `weights`, up to `block` neighbours at a time; each costs `cost` vector operations.
fn by_panel(
    pool: &Pool,
    weights: &Matrix,
    (cost, block): (usize, usize),
    work: impl Fn(Range<usize>, &mut Sums) + Sync,
) {
    let parts = Parts {
        panels: weights.panels(),
        least: (LEAST / cost).max(1),
        threads: pool.threads(),
    };
    pool.run(parts.len(), |part| {
        let mut sums = [[0.0; ROWS]; WIDEST];
        let Range { start, end } = parts.get(part);
        for start in (start..end).step_by(block) {
            work(start..start.saturating_add(block).min(end), &mut sums);
        }
    });
}

/// Panels split for threads that claim parts one by one: long stretches of memory first, which are read fastest, then ever
/// shorter ones down to `least`, so that all threads end together
/// (guided self-scheduling, <https://doi.org/10.1109/TC.1987.5009495>).
#[derive(Clone, Copy)]
struct Parts {
    panels: usize,
    least: usize,
    threads: usize,
}

impl Parts {
    fn len(self) -> usize {
        self.iter().count()
    }

    /// Empty where there is none.
    fn get(self, part: usize) -> Range<usize> {
        self.iter().nth(part).unwrap_or_default()
    }

    fn iter(self) -> impl Iterator<Item = Range<usize>> {
        let next = move |start: usize| {
            let left = self.panels - start;
            let end = start + (left / (2 * self.threads)).max(self.least).min(left);
            (left > 0).then_some(start..end)
        };
        std::iter::successors(next(0), move |part| next(part.end))
    }
}

/// Lets the threads of `pool` fetch what they will read of `weights`, to be multiplied with one row after what runs next,
/// while they wait for it.
pub fn expect(pool: &Pool, weights: &Matrix) {
    let parts = Parts {
        panels: weights.panels(),
        least: 1,
        threads: pool.threads(),
    };
    pool.expect(|thread| weights.stretch(parts.get(thread)));
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

    /// Writes the results of `rows` of the inputs.
    ///
    /// # Safety
    ///
    /// No other thread writes to the rows of this panel.
    unsafe fn write(&self, out: &Output<'_>, rows: Range<usize>, sums: &Sums) {
        for (i, sums) in rows.zip(sums) {
            // SAFETY: the caller's.
            unsafe { out.write(i, self.first, &sums[..self.rows]) };
        }
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
            let to = self.start.add(at);
            match <&[f32; ROWS]>::try_from(values) {
                // Of a known length, it is no call.
                Ok(values) => to.cast::<[f32; ROWS]>().write_unaligned(*values),
                Err(_) => std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len()),
            }
        }
    }
}

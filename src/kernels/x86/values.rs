//! Weighted sums of the values of a segment.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use super::element::{Element, prefetch};
use super::simd::{Simd, Work};
use super::{BLOCK, parts};
use crate::kernels::steps::{LANES, Weights};

/// The most queries of a part, over all instruction sets.
const GROUP: usize = 4;

/// Adds the weighted sums of the value rows, times their scales, to `out`, `[group, head_dim]`.
///
/// Each block is summed by itself, which also keeps the rounding error of long segments down.
pub(super) fn values<S: Simd, E: Element>(
    simd: S,
    weights: Weights<'_>,
    values: &[E],
    scales: Option<&[f32]>,
    head_dim: usize,
    out: &mut [f32],
) {
    let mut start = 0;
    for rows in values.chunks(BLOCK * head_dim) {
        let len = rows.len() / head_dim;
        for part in parts(out.len() / head_dim, S::GROUP) {
            let mut scaled = [0.0; GROUP * BLOCK];
            let first = part.start * weights.stride + start;
            let weights = Weights {
                rows: &weights.rows[first..],
                bias: weights.bias.map(|bias| &bias[start..start + len]),
                ..weights
            };
            let weights = match scales {
                None => weights,
                Some(scales) => {
                    for g in 0..part.len() {
                        let products = scaled[g * BLOCK..][..len].iter_mut();
                        let row = &weights.rows[g * weights.stride..];
                        for ((product, weight), scale) in products.zip(row).zip(&scales[start..]) {
                            *product = weight * scale;
                        }
                    }
                    Weights {
                        rows: &scaled,
                        stride: BLOCK,
                        ..weights
                    }
                }
            };
            let out = &mut out[part.start * head_dim..part.end * head_dim];
            match part.len() {
                1 => columns::<S, E, 1>(simd, weights, rows, head_dim, out),
                2 => columns::<S, E, 2>(simd, weights, rows, head_dim, out),
                3 => columns::<S, E, 3>(simd, weights, rows, head_dim, out),
                _ => columns::<S, E, 4>(simd, weights, rows, head_dim, out),
            }
        }
        start += len;
    }
}

/// Covers the columns by the widest tiles whose sums fit into registers.
fn columns<S: Simd, E: Element, const G: usize>(
    simd: S,
    weights: Weights<'_>,
    rows: &[E],
    head_dim: usize,
    out: &mut [f32],
) {
    let mut column = 0;
    while column < head_dim {
        let left = (head_dim - column) / S::LANES;
        let fits = |vectors: usize| vectors <= left && vectors * G <= S::TILE;
        let shape = Shape {
            weights,
            rows,
            head_dim,
            column,
        };
        column += if fits(8) {
            simd.run(Tile::<E, G, 8>(shape, out))
        } else if fits(4) {
            simd.run(Tile::<E, G, 4>(shape, out))
        } else if fits(2) {
            simd.run(Tile::<E, G, 2>(shape, out))
        } else if fits(1) {
            simd.run(Tile::<E, G, 1>(shape, out))
        } else {
            simd.run(LastColumns::<E, G>(shape, out))
        };
    }
}

struct Shape<'a, E> {
    weights: Weights<'a>,
    rows: &'a [E],
    head_dim: usize,
    column: usize,
}

impl<E> Shape<'_, E> {
    /// Rows, after a check that the reads and writes of `G` queries and `width` columns are in bounds.
    #[inline(always)]
    fn checked_len(&self, group: usize, width: usize, out: &[f32]) -> usize {
        let len = self.rows.len() / self.head_dim;
        assert!(len > 0 && self.column + width <= self.head_dim);
        assert!((group - 1) * self.weights.stride + len <= self.weights.rows.len());
        assert_eq!(out.len(), group * self.head_dim);
        assert!(self.weights.bias.is_none_or(|bias| bias.len() == len));
        len
    }
}

/// Adds `T` whole vectors of columns for `G` queries; returns the columns done.
struct Tile<'a, E, const G: usize, const T: usize>(Shape<'a, E>, &'a mut [f32]);

impl<S: Simd, E: Element, const G: usize, const T: usize> Work<S> for Tile<'_, E, G, T> {
    type Output = usize;

    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "iterators over arrays keep the sums out of registers"
    )]
    fn run(self, simd: S) -> usize {
        let Tile(shape, out) = self;
        let len = shape.checked_len(G, T * S::LANES, out);
        let mut sums = [[simd.splat(0.0); T]; G];
        let weights = shape.weights.rows.as_ptr();
        let rows = shape.rows.as_ptr();
        for j in 0..len {
            if shape.weights.hides(j) {
                continue;
            }
            // SAFETY: by `checked_len`, `j` is a row of `rows` and a slot of each of `G` rows of weights, and T vectors
            // from `column` on end within `head_dim`.
            unsafe {
                let mut w = [simd.splat(0.0); G];
                for g in 0..G {
                    w[g] = simd.splat(*weights.add(g * shape.weights.stride + j));
                }
                let row = rows.add(j * shape.head_dim + shape.column);
                for t in 0..T {
                    let from = row.add(t * S::LANES);
                    prefetch(from, shape.head_dim);
                    let v = E::load(simd, from);
                    for g in 0..G {
                        sums[g][t] = simd.fma(w[g], v, sums[g][t]);
                    }
                }
            }
        }
        for g in 0..G {
            for t in 0..T {
                // SAFETY: by `checked_len`, row `g` of `out` is whole and its T vectors from `column` on are within it.
                unsafe {
                    let start = g * shape.head_dim + shape.column + t * S::LANES;
                    let to = out.as_mut_ptr().add(start);
                    simd.store(to, simd.add(simd.load(to), sums[g][t]));
                }
            }
        }
        T * S::LANES
    }
}

/// Adds the columns that fill no vector; returns how many.
struct LastColumns<'a, E, const G: usize>(Shape<'a, E>, &'a mut [f32]);

impl<S: Simd, E: Element, const G: usize> Work<S> for LastColumns<'_, E, G> {
    type Output = usize;

    #[inline(always)]
    fn run(self, _: S) -> usize {
        let LastColumns(shape, out) = self;
        let width = shape.head_dim - shape.column;
        let mut sums = [[0.0; LANES]; G];
        for (j, row) in shape.rows.chunks_exact(shape.head_dim).enumerate() {
            if shape.weights.hides(j) {
                continue;
            }
            for (g, sums) in sums.iter_mut().enumerate() {
                let weight = shape.weights.rows[g * shape.weights.stride + j];
                for (sum, x) in sums.iter_mut().zip(&row[shape.column..]) {
                    *sum += weight * x.widen();
                }
            }
        }
        for (row, sums) in out.chunks_exact_mut(shape.head_dim).zip(sums) {
            for (out, sum) in row[shape.column..].iter_mut().zip(sums) {
                *out += sum;
            }
        }
        width
    }
}

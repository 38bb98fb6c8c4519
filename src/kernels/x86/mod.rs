//! The steps in explicit instructions of x86-64: the loops once, over the vectors of AVX2 or of AVX-512.

mod amx;
mod avx2;
mod avx512;
mod bfloat16;
mod element;
mod halves;
mod logits;
mod pairs;
mod simd;
mod softmax;
mod tiled;
mod values;

pub(super) use avx2::Avx2;
pub(super) use avx512::Avx512;
pub(super) use bfloat16::Bfloat16;
pub(super) use halves::{BLOCK as TILES_BLOCK, Blocks, Halves, HalvesWork, Operands, STEP, TILE};
pub(super) use simd::Simd;
pub(super) use softmax::exp;
pub(super) use tiled::{PackRows, Tiled, halves_of, lines};

use std::ops::Range;

use super::rows::RowsRef;
use super::steps::{self, Packed, Steps, Weights};
use simd::Work;

/// Rows that stay in the nearest caches while several parts of a group, or several tiles of columns, read them.
const BLOCK: usize = 128;

impl<S: Simd> Steps for S {
    type Vectors = S;

    fn vectors(self) -> S {
        self
    }

    fn logits(self, queries: Packed<'_>, keys: RowsRef<'_>, out: &mut [f32], out_stride: usize) {
        match keys {
            RowsRef::F32(rows) => logits::logits(self, queries, rows, None, out, out_stride),
            RowsRef::Bf16(rows) => logits::logits(self, queries, rows, None, out, out_stride),
            RowsRef::Int8 { values, scales } => {
                logits::logits(self, queries, values, Some(scales), out, out_stride);
            }
        }
    }

    fn exponentials(self, row: &mut [f32], bias: Option<&[f32]>, least: f32) -> (f32, f64) {
        self.run(softmax::Exponentials { row, bias, least })
    }

    fn values(self, weights: Weights<'_>, values: RowsRef<'_>, head_dim: usize, out: &mut [f32]) {
        match values {
            RowsRef::F32(rows) => values::values(self, weights, rows, None, head_dim, out),
            RowsRef::Bf16(rows) => values::values(self, weights, rows, None, head_dim, out),
            RowsRef::Int8 { values, scales } => {
                values::values(self, weights, values, Some(scales), head_dim, out);
            }
        }
    }

    fn add_scaled(self, row: &[f32], factor: f32, out: &mut [f32]) {
        self.run(AddScaled { row, factor, out });
    }
}

struct AddScaled<'a> {
    row: &'a [f32],
    factor: f32,
    out: &'a mut [f32],
}

impl<S: Simd> Work<S> for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: S) {
        steps::add_scaled(self.row, self.factor, self.out);
    }
}

/// Splits the queries of a group into the fewest parts of at most `most`, as even as can be.
fn parts(group: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = group.div_ceil(most);
    (0..count).map(move |i| i * group / count..(i + 1) * group / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_group_evenly() {
        for (group, most, sizes) in [
            (1, 4, &[1][..]),
            (4, 4, &[4]),
            (4, 3, &[2, 2]),
            (5, 4, &[2, 3]),
            (7, 3, &[2, 2, 3]),
        ] {
            let parts: Vec<_> = parts(group, most).collect();
            assert!(parts.iter().map(Range::len).eq(sizes.iter().copied()));
            assert!(parts.into_iter().flatten().eq(0..group));
        }
    }
}

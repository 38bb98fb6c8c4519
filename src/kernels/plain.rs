//! The steps as plain loops, written so that the compiler can vectorise them for any target.

use half::bf16;

use super::lanes::Arrays;
use super::rows::RowsRef;
use super::steps::{self, LANES, Packed, Steps, Weights};

/// Slots whose exponentials are summed in `f32` before the sum goes on in `f64`.
const BLOCK: usize = 4096;

/// No explicit instructions.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Steps for Plain {
    type Vectors = Arrays<8>;

    fn vectors(self) -> Arrays<8> {
        Arrays
    }

    fn logits(self, queries: Packed<'_>, keys: RowsRef<'_>, out: &mut [f32], out_stride: usize) {
        match keys {
            RowsRef::F32(rows) => dots(queries, rows, out, out_stride),
            RowsRef::Bf16(rows) => dots(queries, rows, out, out_stride),
            RowsRef::Int8 { values, scales } => {
                dots(queries, values, out, out_stride);
                for out in out.chunks_mut(out_stride).take(queries.group()) {
                    out.iter_mut()
                        .zip(scales)
                        .for_each(|(out, scale)| *out *= scale);
                }
            }
        }
    }

    fn exponentials(self, row: &mut [f32], bias: Option<&[f32]>, least: f32) -> (f32, f64) {
        if let Some(bias) = bias {
            steps::add_bias(row, bias);
        }
        let max = row.iter().copied().fold(least, f32::max);
        if max == f32::NEG_INFINITY {
            row.fill(0.0);
            return (max, 0.0);
        }
        let mut total = 0.0;
        for block in row.chunks_mut(BLOCK) {
            let mut sum = 0.0;
            for x in block {
                *x = (*x - max).exp();
                sum += *x;
            }
            total += f64::from(sum);
        }
        (max, total)
    }

    fn values(self, weights: Weights<'_>, values: RowsRef<'_>, head_dim: usize, out: &mut [f32]) {
        match values {
            RowsRef::F32(rows) => add_rows(weights, rows, |_| 1.0, head_dim, out),
            RowsRef::Bf16(rows) => add_rows(weights, rows, |_| 1.0, head_dim, out),
            RowsRef::Int8 { values, scales } => {
                add_rows(weights, values, |j| scales[j], head_dim, out);
            }
        }
    }

    fn add_scaled(self, row: &[f32], factor: f32, out: &mut [f32]) {
        steps::add_scaled(row, factor, out);
    }
}

/// A stored element.
pub(super) trait Widen: Copy {
    fn widen(self) -> f32;
}

impl Widen for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Widen for bf16 {
    /// Without the care for signalling NaNs of `bf16::to_f32`, whose branch would prevent vectorisation.
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Widen for i8 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }
}

fn dots<E: Widen>(queries: Packed<'_>, rows: &[E], out: &mut [f32], out_stride: usize) {
    let mut wide = vec![0.0; queries.head_dim];
    for (j, row) in rows.chunks_exact(queries.head_dim).enumerate() {
        widen(row, 1.0, &mut wide);
        for (g, query) in queries.rows.chunks_exact(queries.stride).enumerate() {
            out[g * out_stride + j] = dot(&query[..queries.head_dim], &wide);
        }
    }
}

/// Once for all queries of a group.
fn widen<E: Widen>(row: &[E], scale: f32, wide: &mut [f32]) {
    for (wide, x) in wide.iter_mut().zip(row) {
        *wide = x.widen() * scale;
    }
}

/// One sum per lane: `f32` addition is not associative, so the compiler would not split a single sum. What fills no
/// chunk has a sum of its own, because a second loop over the lanes would take them out of vector registers.
pub(super) fn dot<E: Widen>(query: &[f32], row: &[E]) -> f32 {
    let mut sums = [0.0; LANES];
    let (queries, queries_rest) = query.as_chunks::<LANES>();
    let (rows, rows_rest) = row.as_chunks::<LANES>();
    for (query, row) in queries.iter().zip(rows) {
        for i in 0..LANES {
            sums[i] += query[i] * row[i].widen();
        }
    }
    let mut fours = [0.0; 4];
    for i in 0..4 {
        fours[i] = (sums[i] + sums[i + 4]) + (sums[i + 8] + sums[i + 12]);
    }
    let rest = queries_rest.iter().zip(rows_rest);
    let rest: f32 = rest.map(|(q, x)| q * x.widen()).sum();
    (fours[0] + fours[2]) + (fours[1] + fours[3]) + rest
}

fn add_rows<E: Widen>(
    weights: Weights<'_>,
    rows: &[E],
    scale: impl Fn(usize) -> f32,
    head_dim: usize,
    out: &mut [f32],
) {
    let mut wide = vec![0.0; head_dim];
    for (j, row) in rows.chunks_exact(head_dim).enumerate() {
        if weights.hides(j) {
            continue;
        }
        widen(row, scale(j), &mut wide);
        for (g, out) in out.chunks_exact_mut(head_dim).enumerate() {
            steps::add_scaled(&wide, weights.rows[g * weights.stride + j], out);
        }
    }
}

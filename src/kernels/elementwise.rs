//! What is computed element by element between the products of a block.

use super::lanes::{Lanes, Work};
use super::level::Level;
use super::line::Shared;
use super::pool::Pool;
use super::rotate::rotate;
use super::steps::{self, Job, Steps};

/// Rows of a part.
const ROWS: usize = 8;

/// Sums of squares that go on beside each other: as many as the widest vector has floats.
const SUMS: usize = 16;

/// Sets `out` to the root-mean-square norm (<https://arxiv.org/abs/1910.07467>) of each row of `x`, `[n, width]`, times
/// `weight`, `[width]`. The error is that of sums in `f32`.
///
/// # Panics
///
/// When `x` or `out` is not whole rows, or not as long as the other, or `weight` is empty.
pub fn rms_norm(level: Level, pool: &Pool, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(
        !weight.is_empty() && x.len().is_multiple_of(weight.len()),
        "x: whole rows"
    );
    assert_eq!(x.len(), out.len(), "out: the shape of x");
    by_rows(
        level,
        pool,
        (x, weight.len()),
        (out, weight.len()),
        Norm { weight, eps },
    );
}

/// Adds `x` to `hidden`, both `[n, width]`, and sets `out` to the norm of the result as [`rms_norm`] does.
///
/// # Panics
///
/// As [`rms_norm`].
#[allow(unsafe_code, reason = "parts write rows of their own")]
pub fn add_and_norm(
    level: Level,
    pool: &Pool,
    x: &[f32],
    hidden: &mut [f32],
    (weight, eps): (&[f32], f32),
    out: &mut [f32],
) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "x: whole rows");
    assert_eq!(x.len(), hidden.len(), "hidden: the shape of x");
    assert_eq!(x.len(), out.len(), "out: the shape of x");
    let (hidden, out) = (Shared::new(hidden), Shared::new(out));
    let norm = Norm { weight, eps };
    pool.run(x.len().div_ceil(ROWS * width), |part| {
        let range = part * ROWS * width..((part + 1) * ROWS * width).min(x.len());
        // SAFETY: every part has rows of its own.
        let (hidden, out) = unsafe { (hidden.part(range.clone()), out.part(range.clone())) };
        let add = AddAndNorm {
            x: &x[range],
            hidden,
            out,
            norm,
        };
        steps::run(level, add);
    });
}

struct AddAndNorm<'a> {
    x: &'a [f32],
    hidden: &'a mut [f32],
    out: &'a mut [f32],
    norm: Norm<'a>,
}

impl Job for AddAndNorm<'_> {
    fn run<S: Steps>(self, steps: S) {
        steps.vectors().run(self);
    }
}

impl<L: Lanes> Work<L> for AddAndNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: L) {
        let width = self.norm.weight.len();
        let rows = self.x.chunks_exact(width);
        let outputs = self.hidden.chunks_exact_mut(width);
        let outputs = outputs.zip(self.out.chunks_exact_mut(width));
        for (x, (hidden, out)) in rows.zip(outputs) {
            hidden.iter_mut().zip(x).for_each(|(h, x)| *h += x);
            self.norm.row(hidden, out);
        }
    }
}

/// Rotates the first `heads` heads of every row of `rows`, `[n, width]`, as [`rotate`] does, by the cosines and sines of
/// the row.
///
/// # Panics
///
/// When there are not as many `angles` as rows, or `heads` do not fit into `width`.
pub fn rotate_rows(
    level: Level,
    pool: &Pool,
    rows: &mut [f32],
    (width, heads, head_dim): (usize, usize, usize),
    angles: &[(Vec<f32>, Vec<f32>)],
) {
    assert!(heads * head_dim <= width, "heads of {head_dim} in {width}");
    assert_eq!(rows.len(), angles.len() * width, "rows: one per angle");
    let parts = rows
        .chunks_mut((ROWS * width).max(1))
        .zip(angles.chunks(ROWS));
    let parts = parts.map(|(rows, angles)| Rotate {
        rows,
        width,
        heads,
        head_dim,
        angles,
    });
    pool.each(parts, |part| steps::run(level, part));
}

struct Rotate<'a> {
    rows: &'a mut [f32],
    width: usize,
    heads: usize,
    head_dim: usize,
    angles: &'a [(Vec<f32>, Vec<f32>)],
}

impl Job for &mut Rotate<'_> {
    fn run<S: Steps>(self, steps: S) {
        steps.vectors().run(self);
    }
}

impl<L: Lanes> Work<L> for &mut Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: L) {
        let rows = self.rows.chunks_exact_mut(self.width);
        for (row, (cos, sin)) in rows.zip(self.angles) {
            for head in row[..self.heads * self.head_dim].chunks_exact_mut(self.head_dim) {
                rotate(head, cos, sin);
            }
        }
    }
}

/// Sets `out`, `[n, inner]`, to `silu(gate) * up` (SwiGLU, <https://arxiv.org/abs/2002.05202>) of `both`, whose rows are
/// `inner` of `gate` and as many of `up`. The relative error is at most `2^-20`.
///
/// # Panics
///
/// When `inner` is 0, or a length is not that of whole rows.
pub fn gate(level: Level, pool: &Pool, both: &[f32], inner: usize, out: &mut [f32]) {
    assert!(
        inner > 0 && both.len().is_multiple_of(2 * inner),
        "both: whole rows"
    );
    assert_eq!(both.len(), 2 * out.len(), "out: half of both");
    by_rows(level, pool, (both, 2 * inner), (out, inner), Gate);
}

/// Computes one row.
trait Row: Copy + Sync {
    fn row(self, from: &[f32], to: &mut [f32]);
}

fn by_rows(
    level: Level,
    pool: &Pool,
    (from, from_width): (&[f32], usize),
    (to, to_width): (&mut [f32], usize),
    row: impl Row,
) {
    steps::run(
        level,
        ByRows {
            pool,
            from,
            from_width,
            to,
            to_width,
            row,
        },
    );
}

struct ByRows<'a, R> {
    pool: &'a Pool,
    from: &'a [f32],
    from_width: usize,
    to: &'a mut [f32],
    to_width: usize,
    row: R,
}

impl<R: Row> Job for ByRows<'_, R> {
    #[allow(unsafe_code, reason = "parts write rows of their own")]
    fn run<S: Steps>(self, steps: S) {
        let lanes = steps.vectors();
        let shared = Shared::new(self.to);
        let most = ROWS * self.from_width;
        self.pool.run(self.from.len().div_ceil(most), |part| {
            let from = &self.from[part * most..((part + 1) * most).min(self.from.len())];
            let start = part * ROWS * self.to_width;
            let rows = from.len() / self.from_width;
            // SAFETY: every part has rows of its own.
            let to = unsafe { shared.part(start..start + rows * self.to_width) };
            lanes.run(Rows {
                from,
                from_width: self.from_width,
                to,
                to_width: self.to_width,
                row: self.row,
            });
        });
    }
}

struct Rows<'a, R> {
    from: &'a [f32],
    from_width: usize,
    to: &'a mut [f32],
    to_width: usize,
    row: R,
}

impl<L: Lanes, R: Row> Work<L> for Rows<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: L) {
        let rows = self.from.chunks_exact(self.from_width);
        for (from, to) in rows.zip(self.to.chunks_exact_mut(self.to_width)) {
            self.row.row(from, to);
        }
    }
}

#[derive(Clone, Copy)]
struct Norm<'a> {
    weight: &'a [f32],
    eps: f32,
}

impl Row for Norm<'_> {
    #[inline(always)]
    fn row(self, from: &[f32], to: &mut [f32]) {
        let mut sums = [0.0; SUMS];
        let (chunks, rest) = from.as_chunks::<SUMS>();
        for chunk in chunks {
            for i in 0..SUMS {
                sums[i] += chunk[i] * chunk[i];
            }
        }
        let sum: f32 = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
        let scale = 1.0 / (sum / from.len() as f32 + self.eps).sqrt();
        for ((to, x), weight) in to.iter_mut().zip(from).zip(self.weight) {
            *to = x * scale * weight;
        }
    }
}

#[derive(Clone, Copy)]
struct Gate;

impl Row for Gate {
    #[inline(always)]
    fn row(self, from: &[f32], to: &mut [f32]) {
        let (gate, up) = from.split_at(to.len());
        for ((to, gate), up) in to.iter_mut().zip(gate).zip(up) {
            // Of the two forms of the sigmoid the one whose exponential is at most 1.
            let power = exp(-gate.abs());
            let top = if *gate < 0.0 { power } else { 1.0 };
            *to = gate * top / (1.0 + power) * up;
        }
    }
}

/// `e^x` for `x <= 0`, with a relative error of at most `2^-21`; below -87 what it is at -87.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial in `r` (Cephes' `expf`, <https://www.netlib.org/cephes/>),
/// without branches and calls, so that the compiler can vectorise it.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Its last bit is worth 1, so adding it rounds to the nearest integer and leaves that in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let mut y = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
        1.0,
        1.0,
    ] {
        y = y * r + coefficient;
    }
    // The low bits of the rounded number, moved to the exponent.
    y * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::amount;

    #[test]
    fn exponentials_are_within_their_bound() {
        for i in (0..1 << 20).step_by(amount(1, 9973)) {
            let x = i as f32 * -8e-5;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) / expected - 1.0).abs();
            assert!(error <= 2f64.powi(-21), "{x} is off by {error}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
    }

    #[test]
    fn every_level_gates_and_norms_as_plain_doubles_do() {
        let pool = Pool::new(2).unwrap();
        for (n, width) in [(1, 1), (3, 7), (20, 33), (9, 64)] {
            let x: Vec<f32> = (0..n * 2 * width)
                .map(|i| ((i * 7919) % 401) as f32 / 10.0 - 20.0)
                .collect();
            let weight: Vec<f32> = (0..2 * width).map(|i| 1.0 + i as f32 / 50.0).collect();
            for level in Level::available() {
                let mut gated = vec![f32::NAN; n * width];
                gate(level, &pool, &x, width, &mut gated);
                let mut normed = vec![f32::NAN; x.len()];
                rms_norm(level, &pool, &x, &weight, 1e-5, &mut normed);
                for (row, found) in x.chunks(2 * width).zip(gated.chunks(width)) {
                    for i in 0..width {
                        let (g, u) = (f64::from(row[i]), f64::from(row[width + i]));
                        let expected = g / (1.0 + (-g).exp()) * u;
                        let error = (f64::from(found[i]) - expected).abs();
                        assert!(
                            error <= 2f64.powi(-20) * expected.abs(),
                            "{level:?}: {g} {u}"
                        );
                    }
                }
                let mut hidden: Vec<f32> = x.iter().map(|x| x / 2.0).collect();
                let mut again = vec![f32::NAN; x.len()];
                let half = hidden.clone();
                let norm = (&weight[..], 1e-5);
                add_and_norm(level, &pool, &half, &mut hidden, norm, &mut again);
                assert_eq!((&hidden, &again), (&x, &normed));
                for (row, found) in x.chunks(2 * width).zip(normed.chunks(2 * width)) {
                    let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
                    let scale = 1.0 / (squares / row.len() as f64 + 1e-5).sqrt();
                    for ((x, w), found) in row.iter().zip(&weight).zip(found) {
                        let expected = f64::from(*x) * scale * f64::from(*w);
                        assert!((f64::from(*found) - expected).abs() <= 1e-5 * expected.abs());
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_rotated_head_by_head_and_the_rest_stays() {
        let pool = Pool::new(2).unwrap();
        let (n, width, heads, dim) = (19, 50, 3, 14);
        let rows: Vec<f32> = (0..n * width).map(|i| (i % 97) as f32).collect();
        let angle = |row: usize, i: usize| (row * 7 + i) as f32;
        let angles: Vec<(Vec<f32>, Vec<f32>)> = (0..n)
            .map(|row| {
                (0..dim / 2)
                    .map(|i| (angle(row, i).cos(), angle(row, i).sin()))
                    .unzip()
            })
            .collect();
        let mut expected = rows.clone();
        for (row, (cos, sin)) in expected.chunks_mut(width).zip(&angles) {
            row[..heads * dim]
                .chunks_mut(dim)
                .for_each(|head| rotate(head, cos, sin));
        }
        for level in Level::available() {
            let mut found = rows.clone();
            rotate_rows(level, &pool, &mut found, (width, heads, dim), &angles);
            assert_eq!(found, expected, "{level:?}");
        }
    }
}

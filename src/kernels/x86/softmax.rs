//! Exponentials and their sum.
#![allow(
    unsafe_code,
    reason = "vector loads and stores of chunks whose length is known"
)]

use super::simd::{Simd, Work};
use crate::kernels::steps;

/// Slots whose exponentials are summed in `f32` before the sum goes on in `f64`.
const BLOCK: usize = 4096;

/// Replaces logits by `exp(logit + bias - max)`, and returns the maximum, at least `least`, and the sum.
pub(super) struct Exponentials<'a> {
    pub(super) row: &'a mut [f32],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) least: f32,
}

impl<S: Simd> Work<S> for Exponentials<'_> {
    type Output = (f32, f64);

    #[inline(always)]
    fn run(self, simd: S) -> (f32, f64) {
        let row = self.row;
        assert_eq!(row.len() % S::LANES, 0);
        if let Some(bias) = self.bias {
            steps::add_bias(row, bias);
        }
        let mut max = simd.splat(self.least);
        for chunk in row.chunks_exact(S::LANES) {
            // SAFETY: the chunk has LANES elements.
            max = simd.max(max, unsafe { simd.load(chunk.as_ptr()) });
        }
        let largest = simd.largest(max);
        if largest == f32::NEG_INFINITY {
            row.fill(0.0);
            return (largest, 0.0);
        }
        let max = simd.splat(-largest);
        let mut total = 0.0;
        for block in row.chunks_mut(BLOCK) {
            let mut sum = simd.splat(0.0);
            for chunk in block.chunks_exact_mut(S::LANES) {
                // SAFETY: the chunk has LANES elements.
                let x = unsafe { simd.load(chunk.as_ptr()) };
                let y = exp(simd, simd.add(x, max));
                // SAFETY: the chunk has LANES elements.
                unsafe { simd.store(chunk.as_mut_ptr(), y) };
                sum = simd.add(sum, y);
            }
            total += f64::from(simd.sum(sum));
        }
        (largest, total)
    }
}

/// `e^x` for `x <= 0`, with a relative error of at most 1e-6; 0 below `ln(f32::MIN_POSITIVE)`.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and a polynomial in `r` (Cephes' `expf`, <https://www.netlib.org/cephes/>).
#[inline(always)]
pub(in crate::kernels) fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    /// `ln 2` in two parts, of which the first has so few digits that its product with `n` is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const SMALLEST: f32 = -87.336_54;
    const POLYNOMIAL: [f32; 7] = [
        1.987_569_1e-4,
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
        1.0,
    ];
    let n = simd.fma(x, simd.splat(std::f32::consts::LOG2_E), simd.splat(0.0));
    let n = simd.round(n);
    let r = simd.fma(n, simd.splat(-LN_2[0]), x);
    let r = simd.fma(n, simd.splat(-LN_2[1]), r);
    let mut y = simd.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        y = simd.fma(y, r, simd.splat(*coefficient));
    }
    let y = simd.fma(y, r, simd.splat(1.0));
    simd.zero_below(simd.times_power(y, n), x, simd.splat(SMALLEST))
}

#[cfg(test)]
mod tests {
    use super::super::{Avx2, Avx512};
    use super::*;

    struct Exp<'a>(&'a mut [f32]);

    impl<S: Simd> Work<S> for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self, simd: S) {
            for chunk in self.0.chunks_exact_mut(S::LANES) {
                // SAFETY: the chunk has LANES elements.
                unsafe {
                    let x = simd.load(chunk.as_ptr());
                    simd.store(chunk.as_mut_ptr(), exp(simd, x));
                }
            }
        }
    }

    fn check(simd: impl Simd) {
        let xs: Vec<f32> = (0..1 << 20).map(|i| i as f32 * -1e-4).collect();
        let mut ys = xs.clone();
        ys[1] = f32::NEG_INFINITY;
        ys[2] = f32::MIN;
        simd.run(Exp(&mut ys));
        assert_eq!(ys[..3], [1.0, 0.0, 0.0]);
        for (x, y) in xs.iter().zip(&ys).skip(3) {
            let expected = f64::from(*x).exp();
            if expected < f64::from(f32::MIN_POSITIVE) {
                assert_eq!(*y, 0.0, "{x}");
            } else if *x > -87.336 {
                let error = (f64::from(*y) / expected - 1.0).abs();
                assert!(error <= 1e-6, "{x}: {y} is off by {error}");
            }
        }
    }

    #[test]
    fn exponentials_are_within_a_millionth() {
        Avx2::detect().into_iter().for_each(check);
        Avx512::detect().into_iter().for_each(check);
    }
}

//! Probabilities as bytes.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use std::f32::consts::LOG2_E;

use super::{BLOCK, LANES};
use crate::kernels::lanes::{Lanes, Work};
use crate::kernels::quantize::ROUNDER;

/// What the largest weight of a span becomes.
pub(super) const MOST: f32 = 255.0;

/// The logarithm to base 2 below which weights are all the same: nothing, even times the inverse of a value that is 0.
const LEAST: f32 = -125.0;

/// What is added to a weight before it is rounded: steps of a sixteenth, in an order in which neighbours differ much. A weight
/// below a half would else be 0 in every column, and a thousand of them would be nothing beside a large one; so as many
/// of 16 equal ones are rounded up as makes their sum right (Roberts' dither, <https://doi.org/10.1109/TIT.1962.1057702>).
const DITHER: [f32; LANES] = {
    let mut steps = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        let reversed = (i & 1) << 3 | (i & 2) << 1 | (i & 4) >> 1 | (i & 8) >> 3;
        steps[i] = (reversed as f32 + 0.5) / LANES as f32 - 0.5;
        i += 1;
    }
    steps
};

/// Sets `out` to the exponentials of `logits`, divided by the largest and times [`MOST`], rounded: four of each [`BLOCK`] a word, [`LANES`] columns apart.
/// Returns the largest logit, and the sum of the exponentials before they are rounded, each times its inverse; `-inf` when
/// all are hidden.
pub(super) struct Weigh<'a> {
    /// Whole [`BLOCK`]s.
    pub(super) logits: &'a [f32],
    pub(super) inverses: &'a [f32],
    pub(super) out: &'a mut [u32],
}

impl<L: Lanes> Work<L> for Weigh<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run(self, lanes: L) -> (f32, f32) {
        let Weigh {
            logits,
            inverses,
            out,
        } = self;
        let len = logits.len();
        assert!(len.is_multiple_of(BLOCK) && inverses.len() == len && out.len() == len / 4);
        assert!(LANES.is_multiple_of(L::LANES));
        let mut most = lanes.splat(f32::NEG_INFINITY);
        for column in (0..len).step_by(L::LANES) {
            // SAFETY: vectors of floats are whole parts of the logits.
            most = lanes.max(unsafe { lanes.load(logits.as_ptr().add(column)) }, most);
        }
        let most = largest(lanes, most);
        if most == f32::NEG_INFINITY {
            out.fill(0);
            let bad = logits.iter().find(|logit| logit.is_nan());
            return bad.map_or((most, 0.0), |bad| (*bad, *bad));
        }
        let shift = lanes.splat(MOST.log2() - most * LOG2_E);
        let low = lanes.splat_word(0xff);
        let mut sums = lanes.splat(0.0);
        for block in (0..len).step_by(BLOCK) {
            for lane in (0..LANES).step_by(L::LANES) {
                // SAFETY: a block has four times LANES floats of each, and LANES words of `out`; so has DITHER floats.
                unsafe {
                    let dither = lanes.load(DITHER.as_ptr().add(lane));
                    let mut bytes = [low; 4];
                    for (byte, bits) in bytes.iter_mut().enumerate() {
                        let column = block + byte * LANES + lane;
                        let logit = lanes.load(logits.as_ptr().add(column));
                        let weight = power(lanes, lanes.fma(logit, lanes.splat(LOG2_E), shift));
                        let inverse = lanes.load(inverses.as_ptr().add(column));
                        sums = lanes.fma(weight, inverse, sums);
                        let rounded = lanes.add(lanes.add(weight, dither), lanes.splat(ROUNDER));
                        *bits = lanes.bits(rounded);
                    }
                    let [a, b, c, d] = bytes;
                    let first =
                        lanes.or(lanes.and(a, low), lanes.shift_left::<8>(lanes.and(b, low)));
                    let last = lanes.or(
                        lanes.shift_left::<16>(lanes.and(c, low)),
                        lanes.shift_left::<24>(d),
                    );
                    let to = out.as_mut_ptr().add(block / 4 + lane);
                    lanes.store_words(to, lanes.or(first, last));
                }
            }
        }
        (most, total(lanes, sums))
    }
}

#[inline(always)]
fn floats<L: Lanes>(lanes: L, a: L::Vector) -> [f32; LANES] {
    let mut floats = [f32::NEG_INFINITY; LANES];
    assert!(L::LANES <= LANES);
    // SAFETY: a vector has no more floats than that.
    unsafe { lanes.store(floats.as_mut_ptr(), a) };
    floats
}

#[inline(always)]
fn largest<L: Lanes>(lanes: L, a: L::Vector) -> f32 {
    floats(lanes, a)
        .into_iter()
        .fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn total<L: Lanes>(lanes: L, a: L::Vector) -> f32 {
    floats(lanes, a).iter().take(L::LANES).sum()
}

/// `2^x` for `x` of at most 10, with a relative error of at most 5e-6. 2 to the
/// power of [`LEAST`] below that.
#[inline(always)]
fn power<L: Lanes>(lanes: L, x: L::Vector) -> L::Vector {
    /// Within a half of 0, highest first: fitted so that the largest relative error is smallest, 2.6e-6.
    const POLYNOMIAL: [f32; 5] = [
        0.009_570_08,
        0.055_917_84,
        0.240_247_45,
        0.693_121_8,
        0.999_999_3,
    ];
    let x = lanes.max(lanes.splat(LEAST), x);
    let rounded = lanes.add(x, lanes.splat(ROUNDER));
    let whole = lanes.add(rounded, lanes.splat(-ROUNDER));
    let rest = lanes.fma(whole, lanes.splat(-1.0), x);
    let mut y = lanes.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        y = lanes.fma(y, rest, lanes.splat(*coefficient));
    }
    // The low bits of the rounded number, added to the exponent.
    let exponent = lanes.shift_left::<23>(lanes.bits(rounded));
    lanes.floats(lanes.add_words(lanes.bits(y), exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::amount;
    use crate::kernels::lanes::Arrays;

    #[test]
    fn powers_are_within_their_bound() {
        let power = |x: f32| power(Arrays::<1>, [x])[0];
        for i in (0..1 << 20).step_by(amount(1, 9973)) {
            let x = 10.0 - i as f32 * 1.2e-4;
            let expected = f64::from(x).exp2();
            let error = (f64::from(power(x)) / expected - 1.0).abs();
            assert!(error <= 5e-6, "{x} is off by {error}");
        }
        assert!((power(LEAST) / LEAST.exp2() - 1.0).abs() <= 5e-6);
        assert_eq!(power(f32::NEG_INFINITY), power(LEAST));
        assert!(power(f32::NAN).is_nan());
    }

    fn weigh(logits: &[f32]) -> ((f32, f32), Vec<u8>) {
        let mut out = vec![u32::MAX; logits.len() / 4];
        let inverses = vec![2.0; logits.len()];
        let result = Arrays::<8>.run(Weigh {
            logits,
            inverses: &inverses,
            out: &mut out,
        });
        let byte = |column: usize| {
            let (quad, byte) = (column % BLOCK % LANES, column % BLOCK / LANES);
            out[column / BLOCK * LANES + quad].to_le_bytes()[byte]
        };
        (result, (0..logits.len()).map(byte).collect())
    }

    #[test]
    fn many_small_weights_count_as_their_sum_does() {
        let mut logits = [-6.5; 256];
        logits[17] = 3.0;
        let ((most, sum), bytes) = weigh(&logits);
        assert_eq!((most, bytes[17]), (3.0, 255));
        let exact = (-9.5f32).exp() * 255.0 * 255.0;
        let rest: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>() - 255;
        assert!((rest as f32 - exact).abs() <= 16.0, "{rest} of {exact}");
        assert!((sum / 2.0 - 255.0 - exact).abs() <= 0.1, "{sum}");
    }

    #[test]
    fn what_is_hidden_weighs_nothing_and_what_is_no_number_stays_so() {
        let hidden = f32::NEG_INFINITY;
        assert_eq!(weigh(&[hidden; 64]), ((hidden, 0.0), vec![0; 64]));
        let mut logits = [hidden; 64];
        logits[3] = f32::NAN;
        assert!(weigh(&logits).0.1.is_nan());
        logits[5] = -200.0;
        let ((most, sum), bytes) = weigh(&logits);
        assert!(most == -200.0 && sum.is_nan() && bytes[5] == 255 && bytes[0] == 0);
    }
}

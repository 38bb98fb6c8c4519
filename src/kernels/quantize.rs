//! Symmetric 8-bit quantisation of rows.

/// Its last bit is worth 1, so adding it rounds to the nearest integer, ties to even, and leaves the integer in the low
/// bits. Unlike `round_ties_even` and a cast, that stays in vector registers on every target.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// Writes `row` as multiples of the returned scale, `max |x| / 127`, rounded to nearest, ties to even.
///
/// What [`dequantize_row`] gives back differs by at most half the scale (and `f32` rounding). A row whose largest
/// magnitude is below 127 times the smallest normal `f32` (about 1.5e-36) counts as zero: scale 0. The scale of a
/// row that is not finite is not finite either.
///
/// # Panics
///
/// When `out` is not as long as `row`.
pub fn quantize_row(row: &[f32], out: &mut [i8]) -> f32 {
    assert_eq!(row.len(), out.len(), "one integer per element");
    // Without signs, floats compare like their bits, and a maximum of integers may be taken in any order. NaN is larger
    // than all.
    let largest = row.iter().map(|x| x.abs().to_bits().cast_signed()).max();
    let largest = f32::from_bits(largest.unwrap_or(0).cast_unsigned());
    let scale = largest / 127.0;
    if scale < f32::MIN_POSITIVE {
        out.fill(0);
        return 0.0;
    }
    for (x, out) in row.iter().zip(out) {
        *out = (x / scale + ROUNDER).to_bits() as i8;
    }
    scale
}

/// Writes `values * scale` to `out`.
///
/// # Panics
///
/// When `out` is not as long as `values`.
pub fn dequantize_row(values: &[i8], scale: f32, out: &mut [f32]) {
    assert_eq!(values.len(), out.len(), "one float per integer");
    for (value, out) in values.iter().zip(out) {
        *out = f32::from(*value) * scale;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ties_go_to_even_and_the_largest_to_127() {
        let mut out = [1; 7];
        let scale = quantize_row(&[0.5, 1.5, 2.5, -0.5, -1.5, 127.0, -127.0], &mut out);
        assert_eq!(scale, 1.0);
        assert_eq!(out, [0, 2, 2, 0, -2, 127, -127]);
    }

    #[test]
    fn a_zero_row_has_scale_zero() {
        for tiny in [0.0, -0.0, 1e-40, 1.4e-36] {
            let mut out = [1; 3];
            assert_eq!(quantize_row(&[0.0, tiny, -tiny], &mut out), 0.0);
            assert_eq!(out, [0; 3]);
        }
        assert_eq!(quantize_row(&[], &mut []), 0.0);
    }

    #[test]
    fn what_is_not_finite_shows_in_the_scale() {
        for odd in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            assert!(!quantize_row(&[1.0, odd, 2.0], &mut [0; 3]).is_finite());
        }
    }

    proptest! {
        #[test]
        fn the_error_is_at_most_half_the_scale(
            row in vec(-1.0f32..1.0, 1..200), exponent in -30i32..30,
        ) {
            let row: Vec<f32> = row.iter().map(|x| x * 10f32.powi(exponent)).collect();
            let mut values = vec![0; row.len()];
            let scale = quantize_row(&row, &mut values);
            let mut back = vec![0.0; row.len()];
            dequantize_row(&values, scale, &mut back);
            for (a, b) in row.iter().zip(&back) {
                // Up to 127 steps, each of them rounded, add 127 * 2^-23 of a step.
                prop_assert!((a - b).abs() <= scale * (0.5 + 2e-5), "{a} {b} {scale}");
            }
        }
    }
}

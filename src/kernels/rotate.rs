//! Rotary position embedding.

/// Rotates the pairs `(row[i], row[i + head_dim / 2])` by the angles whose cosines and sines are given, in place
/// (RoPE, <https://arxiv.org/abs/2104.09864>, with the halves paired as in GPT-NeoX and Hugging Face's Llama).
///
/// # Panics
///
/// When `row` is not twice as long as `cos` and `sin`.
#[inline]
pub fn rotate(row: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert_eq!(row.len(), 2 * cos.len(), "one cosine per pair");
    assert_eq!(cos.len(), sin.len(), "one sine per cosine");
    let (first, second) = row.split_at_mut(cos.len());
    for (((x1, x2), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*x1, *x2) = (*x1 * cos - *x2 * sin, *x2 * cos + *x1 * sin);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn halves_are_paired() {
        let mut row = [1.0, 2.0, 3.0, 4.0];
        rotate(&mut row, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(row, [-3.0, 2.0, 1.0, 4.0]);
    }

    #[test]
    #[should_panic(expected = "one cosine per pair")]
    fn an_odd_row_panics() {
        rotate(&mut [1.0, 2.0, 3.0], &[1.0], &[0.0]);
    }

    proptest! {
        #[test]
        fn only_the_difference_of_two_angles_matters(
            pairs in vec((-2.0f32..2.0, -2.0f32..2.0, -2.0f32..2.0, -2.0f32..2.0), 1..70),
            at in -3.0f32..3.0, from in -3.0f32..3.0, shift in -3.0f32..3.0,
        ) {
            let half = pairs.len();
            let flat = |pick: fn(&(f32, f32, f32, f32)) -> [f32; 2]| -> Vec<f32> {
                let picked = pairs.iter().map(pick);
                let (first, second): (Vec<f32>, Vec<f32>) = picked.map(|[a, b]| (a, b)).unzip();
                [first, second].concat()
            };
            let (query, key) = (flat(|p| [p.0, p.1]), flat(|p| [p.2, p.3]));
            let turned = |row: &[f32], angle: f32| {
                let mut row = row.to_vec();
                rotate(&mut row, &vec![angle.cos(); half], &vec![angle.sin(); half]);
                row
            };
            let dot = |a: f32, b: f32| -> f32 {
                turned(&query, a).iter().zip(turned(&key, b)).map(|(x, y)| x * y).sum()
            };
            let difference = dot(at, from) - dot(at + shift, from + shift);
            prop_assert!(difference.abs() <= 1e-3, "{difference}");
        }
    }
}

//! How far a share of a few samples can be trusted.

/// The standard normal's 97.5 % quantile: two-sided 95 %.
pub const Z: f64 = 1.959_963_984_540_054;

/// The 95 % Wilson score interval `(low, high)` of a share, given `hits` of `samples`, both ends in 0..=1.
///
/// Unlike the normal approximation it is neither empty at 0 or all hits nor leaves 0..=1 (Wilson 1927,
/// <https://doi.org/10.1080/01621459.1927.10502953>; Newcombe 1998, method 3,
/// <https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C857::AID-SIM777%3E3.0.CO;2-E>).
/// Hits may be fractions, as the mean of shares per sample gives: shares vary no more than hits and misses of the same
/// mean, so the interval is then wide rather than narrow. Without samples nothing is known: `(0, 1)`.
pub fn wilson(hits: f64, samples: usize) -> (f64, f64) {
    if samples == 0 {
        return (0.0, 1.0);
    }
    let n = samples as f64;
    let share = (hits / n).clamp(0.0, 1.0);
    let z2 = Z * Z;
    let centre = share + z2 / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // At no and at all hits one end is the share itself; rounding would leave it 1e-17 away.
    let low = if share == 0.0 {
        0.0
    } else {
        (centre - spread) / scale
    };
    let high = if share == 1.0 {
        1.0
    } else {
        (centre + spread) / scale
    };
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published_intervals() {
        // Newcombe 1998, table I, method 3.
        for (hits, samples, low, high) in [
            (81.0, 263, 0.2553, 0.3662),
            (15.0, 148, 0.0624, 0.1605),
            (0.0, 20, 0.0, 0.1611),
            (1.0, 29, 0.0061, 0.1718),
        ] {
            let (l, h) = wilson(hits, samples);
            assert!(
                (l - low).abs() < 5e-5,
                "{hits}/{samples}: low {l}, not {low}"
            );
            assert!(
                (h - high).abs() < 5e-5,
                "{hits}/{samples}: high {h}, not {high}"
            );
        }
        assert_eq!(wilson(0.0, 0), (0.0, 1.0));
    }

    proptest! {
        #[test]
        fn holds_the_share_and_mirrors(samples in 1_usize..500, share in 0.0_f64..=1.0) {
            let n = samples as f64;
            let (low, high) = wilson(share * n, samples);
            prop_assert!(0.0 <= low && low <= share + 1e-12 && share <= high + 1e-12 && high <= 1.0);
            let (mirrored_low, mirrored_high) = wilson((1.0 - share) * n, samples);
            prop_assert!((mirrored_low - (1.0 - high)).abs() < 1e-9);
            prop_assert!((mirrored_high - (1.0 - low)).abs() < 1e-9);
            let (more_low, more_high) = wilson(share * n * 4.0, samples * 4);
            prop_assert!(more_high - more_low < high - low);
        }
    }
}

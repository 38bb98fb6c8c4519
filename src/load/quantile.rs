//! Quantiles of what was measured.

use serde::Serialize;

/// A measure over many requests. All but the count are absent where nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many values.
    pub count: usize,
    /// Their mean.
    pub mean: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// The 90 % quantile.
    pub p90: Option<f64>,
    /// The 95 % quantile.
    pub p95: Option<f64>,
    /// The 99 % quantile.
    pub p99: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

/// Finite values in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sorted(Vec<f64>);

impl FromIterator<f64> for Sorted {
    /// Values that are not finite are left out.
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        Sorted(values)
    }
}

impl Sorted {
    /// The values.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The quantile of `share` (0 to 1), between the two nearest values in proportion (Hyndman and Fan's type 7,
    /// <https://doi.org/10.1080/00031305.1996.10473566>, as numpy has it). `None` of no values.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let place = share.clamp(0.0, 1.0) * last as f64;
        let below = place.floor() as usize;
        let low = *self.0.get(below)?;
        let high = *self.0.get((below + 1).min(last))?;
        Some(low + (high - low) * (place - below as f64))
    }

    /// The mean. `None` of no values.
    pub fn mean(&self) -> Option<f64> {
        let count = self.0.len();
        (count > 0).then(|| self.0.iter().sum::<f64>() / count as f64)
    }

    /// Count, mean and quantiles.
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.0.len(),
            mean: self.mean(),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            max: self.quantile(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_lie_between_values() {
        let sorted: Sorted = [4.0, 1.0, f64::NAN, 3.0, 2.0, 5.0].into_iter().collect();
        for (share, value) in [
            (0.0, 1.0),
            (0.25, 2.0),
            (0.5, 3.0),
            (0.9, 4.6),
            (1.0, 5.0),
            (2.0, 5.0),
        ] {
            let quantile = sorted.quantile(share).unwrap();
            assert!((quantile - value).abs() < 1e-12, "{share}: {quantile}");
        }
        assert_eq!(sorted.summary().count, 5);
        assert_eq!(sorted.summary().mean, Some(3.0));
        assert_eq!(Sorted::default().summary(), Summary::default());
    }

    proptest! {
        #[test]
        fn quantiles_rise_and_stay_inside(values in prop::collection::vec(-1e6_f64..1e6, 1..300), a in 0.0_f64..1.0, b in 0.0_f64..1.0) {
            let sorted: Sorted = values.iter().copied().collect();
            let (low, high) = (a.min(b), a.max(b));
            let (at_low, at_high) = (sorted.quantile(low).unwrap(), sorted.quantile(high).unwrap());
            prop_assert!(at_low <= at_high + 1e-6);
            prop_assert!(sorted.values()[0] <= at_low && at_high <= sorted.values()[values.len() - 1]);
            // At least the share of the values is at or below its quantile, up to the value that it interpolates to.
            let below = values.iter().filter(|&&value| value <= at_high).count() as f64;
            prop_assert!(below + 1.0 >= high * (values.len() - 1) as f64);
        }
    }
}

//! Means of a stream of values, and how far they can be trusted.

use serde::Serialize;

use super::interval::Z;

/// A mean over tokens and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error, as if tokens were independent; 0 below two tokens.
    pub error: f64,
}

impl Estimate {
    /// The 95 % interval `(low, high)` of the mean.
    pub fn interval(&self) -> (f64, f64) {
        (self.mean - Z * self.error, self.mean + Z * self.error)
    }
}

/// Mean and variance in one pass (Welford 1962, <https://doi.org/10.1080/00401706.1962.10490022>).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Running {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Running {
    /// Takes in one value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// Values so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean so far; 0 of no values.
    pub fn estimate(&self) -> Estimate {
        let n = self.count as f64;
        let error = match self.count {
            0 | 1 => 0.0,
            _ => (self.squares / (n - 1.0) / n).sqrt(),
        };
        Estimate {
            mean: self.mean,
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Estimate {
        let mut running = Running::default();
        values.iter().for_each(|&value| running.add(value));
        assert_eq!(running.count(), values.len() as u64);
        running.estimate()
    }

    #[test]
    fn few_values() {
        assert_eq!(
            of(&[]),
            Estimate {
                mean: 0.0,
                error: 0.0
            }
        );
        assert_eq!(
            of(&[2.5]),
            Estimate {
                mean: 2.5,
                error: 0.0
            }
        );
        assert_eq!(
            of(&[1.0, 3.0]),
            Estimate {
                mean: 2.0,
                error: 1.0
            }
        );
        let (low, high) = of(&[1.0, 3.0]).interval();
        assert!((low - 0.040_036).abs() < 1e-6 && (high - 3.959_964).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn as_in_two_passes(values in prop::collection::vec(-1e3_f64..1e3, 2..200), offset in -1e6_f64..1e6) {
            let values: Vec<f64> = values.into_iter().map(|value| value + offset).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let estimate = of(&values);
            prop_assert!((estimate.mean - mean).abs() < 1e-6);
            prop_assert!((estimate.error - (variance / n).sqrt()).abs() < 1e-6);
        }
    }
}

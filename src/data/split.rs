//! Which part of the data is kept for validation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::DataError;

/// How the validation part is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SplitBy {
    /// The end of each text file, and the last records of all other files taken together.
    #[default]
    Tail,
    /// Records and whole text documents whose hash under the seed falls below the fraction: the share is only about the
    /// fraction, equal records stay on one side, and adding records moves none.
    Hash,
}

/// Part of the data kept for validation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    fraction: f64,
    by: SplitBy,
    seed: u64,
}

/// Which side of a split is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Everything.
    Whole,
    /// What is trained on.
    Train,
    /// What is kept for validation.
    Validation,
}

impl Split {
    /// Keeps `fraction` of the data, from 0 to below 1; 0 keeps nothing.
    ///
    /// # Errors
    /// [`DataError::Option`] for another fraction.
    pub fn new(fraction: f64, by: SplitBy, seed: u64) -> Result<Self, DataError> {
        match (0.0..1.0).contains(&fraction) {
            true => Ok(Split { fraction, by, seed }),
            false => Err(DataError::Option {
                option: "validation fraction",
                found: fraction.to_string(),
                allowed: "choose from 0 to below 1",
            }),
        }
    }

    /// Nothing is kept for validation.
    pub fn none() -> Self {
        Split {
            fraction: 0.0,
            by: SplitBy::Tail,
            seed: 0,
        }
    }

    /// How the part is chosen.
    pub fn by(&self) -> SplitBy {
        self.by
    }

    /// The share that is trained on.
    pub(super) fn train_share(&self) -> f64 {
        1.0 - self.fraction
    }

    /// How many of `count` records are trained on when the last ones are kept. At least one is kept, unless the fraction
    /// is 0 or there is only one.
    pub(super) fn train_count(&self, count: u64) -> u64 {
        let kept = (count as f64 * self.fraction).round() as u64;
        let least = u64::from(self.fraction > 0.0 && count > 1);
        count - kept.clamp(least, count)
    }

    /// Whether a record with these bytes is kept for validation by its hash.
    pub(super) fn keeps(&self, bytes: &[u8]) -> bool {
        let digest = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(bytes)
            .finalize();
        let first = digest
            .iter()
            .take(8)
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        (first as f64) < self.fraction * 2f64.powi(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_a_share_of_the_records() {
        for (fraction, count, train) in [
            (0.1, 175, 157),
            (0.1, 3, 2),
            (0.1, 1, 1),
            (0.0, 9, 9),
            (0.5, 4, 2),
            (0.1, 0, 0),
        ] {
            let split = Split::new(fraction, SplitBy::Tail, 0).unwrap();
            assert_eq!(split.train_count(count), train, "{fraction} of {count}");
        }
        for fraction in [-0.1, 1.0, f64::NAN] {
            assert!(Split::new(fraction, SplitBy::Tail, 0).is_err());
        }
    }

    #[test]
    fn the_hash_keeps_about_the_share_and_follows_the_seed() {
        let kept = |seed: u64| -> Vec<u32> {
            let split = Split::new(0.2, SplitBy::Hash, seed).unwrap();
            (0u32..2000)
                .filter(|n| split.keeps(&n.to_le_bytes()))
                .collect()
        };
        assert!((340..460).contains(&kept(1).len()), "{}", kept(1).len());
        assert_eq!(kept(1), kept(1));
        assert_ne!(kept(1), kept(2));
        assert!(!Split::none().keeps(b"x"));
    }
}

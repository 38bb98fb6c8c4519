//! How far a model with an evicted cache is from the same model with all of it, token by token.

use serde::Serialize;

use crate::ids::TokenId;

use super::interval::wilson;
use super::mean::{Estimate, Running};

/// Why a pair of rows cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DivergenceError {
    /// Rows of two vocabularies.
    #[error(
        "the rows of logits have {full} and {other} entries: both runs must use the same model"
    )]
    Lengths {
        /// Entries of the row with full attention.
        full: usize,
        /// Entries of the other.
        other: usize,
    },
    /// The next token has no logit.
    #[error(
        "token {target} is outside of a vocabulary of {vocabulary}: the text was tokenized for another model"
    )]
    Target {
        /// The token.
        target: TokenId,
        /// Entries of a row.
        vocabulary: usize,
    },
    /// A row is not a distribution.
    #[error(
        "the logits hold no finite maximum (nan, inf or nothing); the model's weights or its input are broken"
    )]
    NotFinite,
}

/// Compares two runs over the same tokens: KL divergence, agreement of the best token, and negative log-likelihoods.
///
/// KL divergence against the unchanged model shows damage that perplexity averages away, which is why llama.cpp
/// reports it for quantized models (<https://github.com/ggml-org/llama.cpp/tree/master/tools/perplexity>).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Divergence {
    kl: Running,
    max_kl: f64,
    agreed: u64,
    full: Running,
    other: Running,
    delta: Running,
}

/// What a [`Divergence`] has seen. Nats throughout; `full` is full attention, `other` the run compared with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DivergenceSummary {
    /// Tokens compared.
    pub tokens: u64,
    /// KL(full || other) per token.
    pub kl: Estimate,
    /// The largest of one token.
    pub max_kl: f64,
    /// The share of tokens at which both runs rank the same token first.
    pub top1_agreement: f64,
    /// Its 95 % Wilson interval.
    pub top1_interval: (f64, f64),
    /// Negative log-likelihood of the text under full attention.
    pub nll_full: Estimate,
    /// And under the other run.
    pub nll_other: Estimate,
    /// The change, `nll_other - nll_full`, of the same tokens: its error is that of the paired difference.
    pub delta_nll: Estimate,
}

impl Divergence {
    /// Takes in the logits `(vocabulary)` of both runs before `target`, the token that follows.
    ///
    /// # Errors
    /// Rows of different lengths, a target outside of them, or logits without a finite maximum. Nothing is taken in then.
    pub fn add(
        &mut self,
        full: &[f32],
        other: &[f32],
        target: TokenId,
    ) -> Result<(), DivergenceError> {
        if full.len() != other.len() {
            return Err(DivergenceError::Lengths {
                full: full.len(),
                other: other.len(),
            });
        }
        let (best_full, norm_full) = normalizer(full)?;
        let (best_other, norm_other) = normalizer(other)?;
        let at = target as usize;
        let (Some(&logit_full), Some(&logit_other)) = (full.get(at), other.get(at)) else {
            return Err(DivergenceError::Target {
                target,
                vocabulary: full.len(),
            });
        };
        let kl: f64 = full
            .iter()
            .zip(other)
            .map(|(&f, &o)| {
                let log_p = f64::from(f) - norm_full;
                let p = log_p.exp();
                // A token that full attention rules out adds nothing, whatever the other run says.
                if p == 0.0 {
                    0.0
                } else {
                    p * (log_p - (f64::from(o) - norm_other))
                }
            })
            .sum();
        // KL is not negative; of nearly equal rows rounding may say -1e-17.
        let kl = kl.max(0.0);
        let nll_full = norm_full - f64::from(logit_full);
        let nll_other = norm_other - f64::from(logit_other);
        self.kl.add(kl);
        self.max_kl = self.max_kl.max(kl);
        self.agreed += u64::from(best_full == best_other);
        self.full.add(nll_full);
        self.other.add(nll_other);
        self.delta.add(nll_other - nll_full);
        Ok(())
    }

    /// The means so far.
    pub fn summary(&self) -> DivergenceSummary {
        let tokens = self.kl.count();
        DivergenceSummary {
            tokens,
            kl: self.kl.estimate(),
            max_kl: self.max_kl,
            top1_agreement: self.agreed as f64 / (tokens.max(1)) as f64,
            top1_interval: wilson(self.agreed as f64, tokens as usize),
            nll_full: self.full.estimate(),
            nll_other: self.other.estimate(),
            delta_nll: self.delta.estimate(),
        }
    }
}

/// `(argmax, log of the sum of exponentials)` of a row; of equal logits the lower id is first, as in sampling.
fn normalizer(logits: &[f32]) -> Result<(usize, f64), DivergenceError> {
    let mut best = None;
    for (at, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return Err(DivergenceError::NotFinite);
        }
        if best.is_none_or(|(_, largest)| logit > largest) {
            best = Some((at, logit));
        }
    }
    match best {
        Some((at, largest)) if largest.is_finite() => {
            let largest = f64::from(largest);
            let sum: f64 = logits
                .iter()
                .map(|&logit| (f64::from(logit) - largest).exp())
                .sum();
            Ok((at, largest + sum.ln()))
        }
        _ => Err(DivergenceError::NotFinite),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(rows: &[(&[f32], &[f32], TokenId)]) -> DivergenceSummary {
        let mut divergence = Divergence::default();
        for (full, other, target) in rows {
            divergence.add(full, other, *target).unwrap();
        }
        divergence.summary()
    }

    #[test]
    fn by_hand() {
        // p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 / 2 + ln(2/3) / 2 = ln(4/3) / 2.
        let p = [0.0, 0.0];
        let q = [0.0, 3.0_f32.ln()];
        let summary = of(&[(&p, &q, 0)]);
        assert!((summary.kl.mean - (4.0_f64 / 3.0).ln() / 2.0).abs() < 1e-7);
        assert!((summary.nll_full.mean - 2.0_f64.ln()).abs() < 1e-12);
        assert!((summary.nll_other.mean - 4.0_f64.ln()).abs() < 1e-7);
        assert!((summary.delta_nll.mean - 2.0_f64.ln()).abs() < 1e-7);
        assert_eq!(summary.top1_agreement, 0.0);
        // The other way round it is another number.
        let back = of(&[(&q, &p, 0)]);
        let expected = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((back.kl.mean - expected).abs() < 1e-7);
    }

    #[test]
    fn means_and_errors_over_tokens() {
        let p = [0.0, 0.0];
        let q = [0.0, 3.0_f32.ln()];
        let summary = of(&[(&p, &q, 0), (&p, &p, 0), (&p, &q, 1), (&p, &p, 1)]);
        let (up, down) = (2.0_f64.ln(), (2.0_f64 / 3.0).ln());
        let mean = (up + down) / 4.0;
        let variance = [up, 0.0, down, 0.0]
            .iter()
            .map(|d| (d - mean).powi(2))
            .sum::<f64>()
            / 3.0;
        assert_eq!(summary.tokens, 4);
        assert_eq!(summary.top1_agreement, 0.5);
        assert!((summary.delta_nll.mean - mean).abs() < 1e-7);
        assert!((summary.delta_nll.error - (variance / 4.0).sqrt()).abs() < 1e-7);
        assert!((summary.max_kl - 2.0 * summary.kl.mean).abs() < 1e-7);
        let (low, high) = summary.kl.interval();
        assert!(low < summary.kl.mean && summary.kl.mean < high);
    }

    #[test]
    fn large_and_excluded_logits_stay_finite() {
        let full = [1e4, 0.0, f32::NEG_INFINITY];
        let other = [1e4, 5e3, 0.0];
        let summary = of(&[(&full, &other, 0)]);
        assert!(summary.kl.mean.abs() < 1e-12 && summary.nll_full.mean.abs() < 1e-12);
    }

    #[test]
    fn bad_rows_are_refused_and_change_nothing() {
        let mut divergence = Divergence::default();
        let empty = divergence.clone();
        let cases = [
            (
                vec![0.0],
                vec![0.0, 0.0],
                0,
                DivergenceError::Lengths { full: 1, other: 2 },
            ),
            (
                vec![0.0],
                vec![0.0],
                1,
                DivergenceError::Target {
                    target: 1,
                    vocabulary: 1,
                },
            ),
            (vec![f32::NAN], vec![0.0], 0, DivergenceError::NotFinite),
            (
                vec![0.0],
                vec![f32::INFINITY],
                0,
                DivergenceError::NotFinite,
            ),
            (vec![], vec![], 0, DivergenceError::NotFinite),
        ];
        for (full, other, target, expected) in cases {
            assert_eq!(divergence.add(&full, &other, target), Err(expected));
        }
        assert_eq!(divergence, empty);
    }

    proptest! {
        #[test]
        fn shifts_change_nothing_and_equal_rows_agree(
            row in prop::collection::vec((-30.0_f32..30.0, -30.0_f32..30.0), 2..50),
            shift in -50_i8..50,
        ) {
            let (full, other): (Vec<f32>, Vec<f32>) = row.into_iter().unzip();
            let moved: Vec<f32> = other.iter().map(|&l| l + f32::from(shift)).collect();
            let (plain, shifted) = (of(&[(&full, &other, 1)]), of(&[(&full, &moved, 1)]));
            prop_assert!(plain.kl.mean >= 0.0);
            prop_assert!((plain.kl.mean - shifted.kl.mean).abs() < 1e-4);
            let same = of(&[(&full, &full, 1)]);
            prop_assert!(same.kl.mean == 0.0 && same.delta_nll.mean == 0.0 && same.top1_agreement == 1.0);
        }
    }
}

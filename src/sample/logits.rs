//! Arithmetic on one row of logits (`[vocabulary]`, float32).

use std::cmp::Ordering;

use crate::ids::TokenId;

use super::params::Penalties;

/// Lanes of the scans: wide enough for the compiler to use whole vector registers.
const LANES: usize = 16;

/// The largest logit, or `None` when one is not a number or is +inf, or when none is above -inf.
pub(super) fn largest(logits: &[f32]) -> Option<f32> {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut bad = [0u32; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for ((best, bad), logit) in best.iter_mut().zip(&mut bad).zip(chunk) {
            *best = if *logit > *best { *logit } else { *best };
            *bad |= u32::from(logit.is_nan());
        }
    }
    for ((best, bad), logit) in best.iter_mut().zip(&mut bad).zip(rest) {
        *best = best.max(*logit);
        *bad |= u32::from(logit.is_nan());
    }
    let most = best.into_iter().fold(f32::NEG_INFINITY, f32::max);
    (bad.iter().all(|bad| *bad == 0) && most.is_finite()).then_some(most)
}

/// The lowest token whose logit is `value`, which is in the row.
pub(super) fn first_of(logits: &[f32], value: f32) -> TokenId {
    let holds = |chunk: &[f32]| {
        chunk
            .iter()
            .fold(false, |any, logit| any | (*logit == value))
    };
    let chunk = logits.chunks(LANES).position(holds).unwrap_or(0);
    let start = chunk * LANES;
    let rest = logits.get(start..).unwrap_or_default();
    let at = rest.iter().position(|logit| *logit == value);
    (start + at.unwrap_or(0)) as TokenId
}

/// The natural logarithm of the sum of `exp(logit)`; terms in float32, their sum in float64.
pub fn logsumexp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !most.is_finite() {
        return f64::from(most);
    }
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from((logit - most).exp()))
        .sum();
    f64::from(most) + sum.ln()
}

/// Log-probabilities of all tokens.
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let sum = logsumexp(logits);
    logits
        .iter()
        .map(|logit| (f64::from(*logit) - sum) as f32)
        .collect()
}

/// The `n` most probable tokens with their log-probabilities, best first; of equals the lower id.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<(TokenId, f32)> {
    let sum = logsumexp(logits);
    let mut top = top_n(logits, n);
    for (_, value) in &mut top {
        *value = (f64::from(*value) - sum) as f32;
    }
    top
}

/// The `n` largest logits with their tokens, best first; of equals the lower id.
///
/// One pass keeps those above the n-th best so far; ids come in order, so that an equal one that
/// comes later is rightly left out.
pub fn top_n(logits: &[f32], n: usize) -> Vec<(TokenId, f32)> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let full = n.saturating_mul(2).max(n + 64);
    let mut kept: Vec<(TokenId, f32)> = Vec::with_capacity(full.min(logits.len()) + LANES);
    let mut floor = None;
    for (chunk, first) in logits.chunks(LANES).zip((0u32..).step_by(LANES)) {
        if floor.is_some_and(|floor| !any_above(chunk, floor)) {
            continue;
        }
        let above = |logit: f32| floor.is_none_or(|floor| logit > floor);
        kept.extend(
            (first..)
                .zip(chunk.iter().copied())
                .filter(|(_, logit)| above(*logit)),
        );
        if kept.len() >= full {
            kept.select_nth_unstable_by(n - 1, best_first);
            kept.truncate(n);
            floor = kept.last().map(|(_, logit)| *logit);
        }
    }
    if kept.len() > n {
        kept.select_nth_unstable_by(n - 1, best_first);
        kept.truncate(n);
    }
    kept.sort_unstable_by(best_first);
    kept
}

fn any_above(chunk: &[f32], floor: f32) -> bool {
    chunk
        .iter()
        .fold(false, |any, logit| any | (*logit > floor))
}

fn best_first(a: &(TokenId, f32), b: &(TokenId, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Adds each bias to its token; an id outside the row is without effect.
pub(super) fn add_biases(logits: &mut [f32], biases: &[(TokenId, f32)]) {
    for (token, bias) in biases {
        if let Some(logit) = logits.get_mut(*token as usize) {
            *logit += bias;
        }
    }
}

/// Takes from each token of `counts` (token, how often it occurs) what the penalties say.
pub(super) fn penalize(
    logits: &mut [f32],
    counts: impl Iterator<Item = (TokenId, u32)>,
    penalties: &Penalties,
) {
    for (token, count) in counts {
        if let Some(logit) = logits.get_mut(token as usize) {
            let factor = penalties.repetition;
            *logit = if *logit > 0.0 {
                *logit / factor
            } else {
                *logit * factor
            };
            *logit -= penalties.presence + penalties.frequency * count as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_is_found_and_what_is_not_a_number_is_refused() {
        let mut row: Vec<f32> = (0..100).map(|i| ((i * 37) % 91) as f32 - 45.0).collect();
        assert_eq!(largest(&row), Some(45.0));
        row[99] = 50.0;
        assert_eq!(largest(&row), Some(50.0));
        for (at, bad) in [(3, f32::NAN), (98, f32::NAN), (40, f32::INFINITY)] {
            let mut row = row.clone();
            row[at] = bad;
            assert_eq!(largest(&row), None, "{bad} at {at}");
        }
        assert_eq!(largest(&[]), None);
        assert_eq!(largest(&[f32::NEG_INFINITY; 40]), None);
    }

    #[test]
    fn log_probabilities_are_exact_to_a_ten_thousandth() {
        let row: Vec<f32> = (0..49_152)
            .map(|i| ((i * 7919) % 2003) as f32 / 60.0)
            .collect();
        let most = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        let exact = |x: f32| f64::from(x - most) - sum.ln();
        for (x, logprob) in row.iter().zip(log_softmax(&row)) {
            assert!((f64::from(logprob) - exact(*x)).abs() < 1e-4);
        }
        assert_eq!(logsumexp(&[f32::NEG_INFINITY; 2]), f64::NEG_INFINITY);
    }

    #[test]
    fn penalties_and_biases_change_only_their_tokens() {
        let mut row = [2.0, -2.0, 1.0, 0.5];
        let penalties = Penalties {
            repetition: 2.0,
            presence: 0.5,
            frequency: 0.25,
            window: 8,
        };
        penalize(&mut row, [(0, 1), (1, 2), (9, 1)].into_iter(), &penalties);
        assert_eq!(row, [0.25, -5.0, 1.0, 0.5]);
        add_biases(&mut row, &[(3, -100.0), (9, 1.0)]);
        assert_eq!(row, [0.25, -5.0, 1.0, -99.5]);
    }

    proptest! {
        #[test]
        fn the_top_is_the_head_of_a_full_sort(
            row in prop::collection::vec((-8i32..8).prop_map(|x| x as f32 / 2.0), 0..700),
            n in 0usize..90,
        ) {
            let mut all: Vec<(TokenId, f32)> = (0..).zip(row.iter().copied()).collect();
            all.sort_by(best_first);
            all.truncate(n);
            prop_assert_eq!(top_n(&row, n), all);
        }
    }
}

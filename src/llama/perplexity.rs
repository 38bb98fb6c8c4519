//! How well a model predicts a text, with the KV cache that a policy leaves it.

use std::time::Instant;

use serde::Serialize;

use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::sample::{SamplingParams, logsumexp};
use crate::sched::{Forward, ForwardError, Open, Origin, Outputs, Phase, Plan, Row, Want};

/// How to measure.
#[derive(Debug, Clone)]
pub struct PerplexityOptions {
    /// How the cache is bounded.
    pub policy: Policy,
    /// Feed one token at a time, as decoding does. Needed for a policy that evicts.
    pub stepwise: bool,
    /// Tokens of one forward pass otherwise.
    pub chunk: usize,
    /// Only the last so many predictions count; all if `None`.
    pub tail: Option<usize>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Nll {
    /// Tokens fed; one fewer is predicted.
    pub tokens: usize,
    /// Mean negative log-likelihood of a token given those before it, in nats.
    pub mean_nll: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// The cache at the end.
    pub kv: KvReport,
    /// How long steps took, when they were taken one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<StepTimes>,
}

/// Whether a step takes longer as a sequence grows: medians of a thousand steps, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepTimes {
    /// After the budget was filled, or from the first on without one.
    pub first_ms: f64,
    /// At the end.
    pub last_ms: f64,
    /// The second over the first.
    pub ratio: f64,
}

/// Why nothing was measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PerplexityError {
    /// Nothing to predict.
    #[error("the text has {0} tokens: at least 2 are needed, the first to predict the second from")]
    TooShort(usize),
    /// Evicting only after whole chunks is another algorithm.
    #[error(
        "the kv policy {0} evicts while it decodes, so it is measured token by token: add --stepwise"
    )]
    NeedsStepwise(&'static str),
    /// The model failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Teacher-forces `tokens` through `model` from an empty cache. `progress` is told the tokens fed so far.
pub fn perplexity(
    model: &mut dyn Forward,
    tokens: &[TokenId],
    options: &PerplexityOptions,
    progress: &mut dyn FnMut(usize),
) -> Result<Nll, PerplexityError> {
    if tokens.len() < 2 {
        return Err(PerplexityError::TooShort(tokens.len()));
    }
    if options.policy != Policy::full() && !options.stepwise {
        return Err(PerplexityError::NeedsStepwise(options.policy.name()));
    }
    let seq = SeqId(u64::MAX);
    let size = if options.stepwise {
        1
    } else {
        options.chunk.max(1)
    };
    let counted = options.tail.unwrap_or(usize::MAX).min(tokens.len() - 1);
    let first = tokens.len() - 1 - counted;
    let mut sum = 0.0;
    let mut times: Vec<f32> = Vec::new();
    let mut kv = None;
    let mut start = 0;
    for chunk in tokens.chunks(size) {
        let row = Row {
            seq,
            open: (start == 0).then(|| Open {
                policy: options.policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: chunk.to_vec(),
            start,
            // A stream has logits at every step: without them the first steps would be faster than the last.
            want: match options.stepwise || start + chunk.len() > first {
                true => Want::All,
                false => Want::Nothing,
            },
            phase: match options.stepwise {
                true => Phase::Decode,
                false => Phase::Prompt {
                    left: tokens.len() - start - chunk.len(),
                },
            },
        };
        let begun = Instant::now();
        let outputs = model.forward(&Plan {
            rows: vec![row],
            paused: Vec::new(),
            ended: Vec::new(),
        })?;
        if options.stepwise {
            times.push(begun.elapsed().as_secs_f32());
        }
        if start + chunk.len() > first {
            let next = tokens.get(start + 1..).unwrap_or_default();
            sum += chunk_nll(
                &outputs,
                chunk.len(),
                next,
                seq,
                first.saturating_sub(start),
            )?;
        }
        kv = outputs.rows.into_iter().next().map(|row| row.kv);
        start += chunk.len();
        progress(start);
    }
    model.forward(&Plan {
        rows: Vec::new(),
        paused: Vec::new(),
        ended: vec![seq.into()],
    })?;
    let mean_nll = sum / counted as f64;
    Ok(Nll {
        tokens: tokens.len(),
        mean_nll,
        perplexity: mean_nll.exp(),
        kv: kv.ok_or(ForwardError::UnknownSequence(seq))?,
        steps: step_times(&times, options.policy.budget().unwrap_or(0)),
    })
}

/// The summed negative log-likelihood of `next`, each under the logits of the row before it.
fn chunk_nll(
    outputs: &Outputs,
    rows: usize,
    next: &[TokenId],
    seq: SeqId,
    skip: usize,
) -> Result<f64, ForwardError> {
    let logits = outputs.rows.first().map_or(&[][..], |row| &row.logits);
    let vocab = logits.len() / rows;
    let mut sum = 0.0;
    for (row, &target) in logits.chunks_exact(vocab.max(1)).zip(next).skip(skip) {
        let found = row.get(target as usize).ok_or(ForwardError::BadToken {
            seq,
            token: target,
            vocab,
        })?;
        sum += logsumexp(row) - f64::from(*found);
    }
    Ok(sum)
}

/// `None` when there were too few steps to compare two thousand.
fn step_times(times: &[f32], filled: usize) -> Option<StepTimes> {
    const RUN: usize = 1000;
    let after = times.get(filled.min(times.len())..)?;
    if after.len() < 2 * RUN {
        return None;
    }
    let median = |run: &[f32]| {
        let mut sorted = run.to_vec();
        sorted.sort_by(f32::total_cmp);
        f64::from(sorted.get(sorted.len() / 2).copied().unwrap_or_default()) * 1e3
    };
    let (first, last) = (median(&after[..RUN]), median(&after[after.len() - RUN..]));
    Some(StepTimes {
        first_ms: first,
        last_ms: last,
        ratio: last / first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::FakeModel;

    fn run(
        tokens: &[TokenId],
        policy: Policy,
        stepwise: bool,
        chunk: usize,
    ) -> Result<Nll, PerplexityError> {
        let options = PerplexityOptions {
            policy,
            stepwise,
            chunk,
            tail: None,
        };
        perplexity(&mut FakeModel::new(16), tokens, &options, &mut |_| {})
    }

    #[test]
    fn a_text_that_counts_up_is_nearly_certain_and_one_that_does_not_is_not() {
        // The fake gives logit 10 to the next number and 0 to the 15 others.
        let sure = (1.0 + 15.0 * (-10.0f64).exp()).ln();
        let up = run(&[1, 2, 3, 4, 5], Policy::full(), false, 2).unwrap();
        assert!((up.mean_nll - sure).abs() < 1e-5 && up.tokens == 5);
        let down = run(&[5, 4, 3], Policy::full(), false, 2).unwrap();
        assert!((down.mean_nll - (sure + 10.0)).abs() < 1e-4);
    }

    #[test]
    fn chunks_and_steps_agree() {
        let text: Vec<TokenId> = (0..23).map(|i| i * 7 % 16).collect();
        let whole = run(&text, Policy::full(), false, 100).unwrap().mean_nll;
        for chunk in [1, 2, 5, 22, 23] {
            assert!(
                (run(&text, Policy::full(), false, chunk).unwrap().mean_nll - whole).abs() < 1e-9
            );
        }
        let evicting = run(&text, Policy::h2o(2, 2).unwrap(), true, 1).unwrap();
        assert_eq!((evicting.kv.tokens_kept, evicting.kv.evicted), (4, 19));
    }

    #[test]
    fn only_the_tail_counts() {
        let text = [9, 3, 5, 6, 7];
        for (stepwise, chunk) in [(true, 1), (false, 2), (false, 9)] {
            let options = PerplexityOptions {
                policy: Policy::full(),
                stepwise,
                chunk,
                tail: Some(2),
            };
            let tail = perplexity(&mut FakeModel::new(16), &text, &options, &mut |_| {}).unwrap();
            let sure = (1.0 + 15.0 * (-10.0f64).exp()).ln();
            assert!((tail.mean_nll - sure).abs() < 1e-5, "{}", tail.mean_nll);
        }
    }

    #[test]
    fn times_are_compared_after_the_budget_was_filled() {
        let times: Vec<f32> = (0..2500)
            .map(|i| if i < 500 { 9.0 } else { 0.002 })
            .collect();
        let steps = step_times(&times, 500).unwrap();
        assert!((steps.ratio - 1.0).abs() < 1e-6 && (steps.first_ms - 2.0).abs() < 1e-3);
        assert_eq!(step_times(&times, 501), None);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let short = run(&[1], Policy::full(), false, 1).unwrap_err();
        assert_eq!(short, PerplexityError::TooShort(1));
        let policy = Policy::window(2).unwrap();
        assert!(matches!(
            run(&[1, 2], policy, false, 1),
            Err(PerplexityError::NeedsStepwise(_))
        ));
    }
}

//! How well a model predicts a text, with the KV cache that a policy leaves it.

use serde::Serialize;

use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::sample::{SamplingParams, logsumexp};
use crate::sched::{Forward, ForwardError, Open, Outputs, Plan, Row, Want};

/// How to measure.
#[derive(Debug, Clone)]
pub struct PerplexityOptions {
    /// How the cache is bounded.
    pub policy: Policy,
    /// Feed one token at a time, as decoding does. Needed for a policy that evicts.
    pub stepwise: bool,
    /// Tokens of one forward pass otherwise.
    pub chunk: usize,
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
    if options.policy != Policy::Full && !options.stepwise {
        return Err(PerplexityError::NeedsStepwise(options.policy.name()));
    }
    let seq = SeqId(u64::MAX);
    let size = if options.stepwise {
        1
    } else {
        options.chunk.max(1)
    };
    let mut sum = 0.0;
    let mut kv = None;
    let mut start = 0;
    for chunk in tokens.chunks(size) {
        let row = Row {
            seq,
            open: (start == 0).then(|| Open {
                policy: options.policy,
                sampling: SamplingParams::default(),
            }),
            tokens: chunk.to_vec(),
            start,
            want: Want::All,
            evict: options.stepwise,
        };
        let outputs = model.forward(&Plan {
            rows: vec![row],
            ended: Vec::new(),
        })?;
        let next = tokens.get(start + 1..).unwrap_or_default();
        sum += chunk_nll(&outputs, chunk.len(), next, seq)?;
        kv = outputs.rows.into_iter().next().map(|row| row.kv);
        start += chunk.len();
        progress(start);
    }
    model.forward(&Plan {
        rows: Vec::new(),
        ended: vec![seq],
    })?;
    let mean_nll = sum / (tokens.len() - 1) as f64;
    Ok(Nll {
        tokens: tokens.len(),
        mean_nll,
        perplexity: mean_nll.exp(),
        kv: kv.ok_or(ForwardError::UnknownSequence(seq))?,
    })
}

/// The summed negative log-likelihood of `next`, each under the logits of the row before it.
fn chunk_nll(
    outputs: &Outputs,
    rows: usize,
    next: &[TokenId],
    seq: SeqId,
) -> Result<f64, ForwardError> {
    let logits = outputs.rows.first().map_or(&[][..], |row| &row.logits);
    let vocab = logits.len() / rows;
    let mut sum = 0.0;
    for (row, &target) in logits.chunks_exact(vocab.max(1)).zip(next) {
        let found = row.get(target as usize).ok_or(ForwardError::BadToken {
            seq,
            token: target,
            vocab,
        })?;
        sum += logsumexp(row) - f64::from(*found);
    }
    Ok(sum)
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
        };
        perplexity(&mut FakeModel::new(16), tokens, &options, &mut |_| {})
    }

    #[test]
    fn a_text_that_counts_up_is_nearly_certain_and_one_that_does_not_is_not() {
        // The fake gives logit 10 to the next number and 0 to the 15 others.
        let sure = (1.0 + 15.0 * (-10.0f64).exp()).ln();
        let up = run(&[1, 2, 3, 4, 5], Policy::Full, false, 2).unwrap();
        assert!((up.mean_nll - sure).abs() < 1e-5 && up.tokens == 5);
        let down = run(&[5, 4, 3], Policy::Full, false, 2).unwrap();
        assert!((down.mean_nll - (sure + 10.0)).abs() < 1e-4);
    }

    #[test]
    fn chunks_and_steps_agree() {
        let text: Vec<TokenId> = (0..23).map(|i| i * 7 % 16).collect();
        let whole = run(&text, Policy::Full, false, 100).unwrap().mean_nll;
        for chunk in [1, 2, 5, 22, 23] {
            assert!(
                (run(&text, Policy::Full, false, chunk).unwrap().mean_nll - whole).abs() < 1e-9
            );
        }
        let evicting = run(&text, Policy::h2o(2, 2).unwrap(), true, 1).unwrap();
        assert_eq!((evicting.kv.tokens_kept, evicting.kv.evicted), (4, 19));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let short = run(&[1], Policy::Full, false, 1).unwrap_err();
        assert_eq!(short, PerplexityError::TooShort(1));
        let policy = Policy::window(2).unwrap();
        assert!(matches!(
            run(&[1, 2], policy, false, 1),
            Err(PerplexityError::NeedsStepwise(_))
        ));
    }
}

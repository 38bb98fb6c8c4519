//! Perplexity, and divergence from full attention, of several policies over one text in one pass.
//!
//! Every policy is a sequence of the same batch, fed the same tokens one at a time as decoding does, so that weights
//! are read once for all and each row is compared with full attention at the very position.

use crate::eval::Divergence;
use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::sample::SamplingParams;
use crate::sched::{Forward, ForwardError, Open, Origin, Phase, Plan, Row, Want};

/// A policy under a name, and the share of the text that its budget is.
#[derive(Debug, Clone)]
pub struct Variant {
    /// As asked for.
    pub name: String,
    /// The share asked for; `None` for full attention.
    pub share: Option<f64>,
    /// The policy.
    pub policy: Policy,
    /// Whether a question about a context is read before anything of the context is evicted.
    pub query_aware: bool,
}

/// How a text is read.
#[derive(Debug, Clone, Copy)]
pub struct Curve {
    /// Only the last so many predictions count; `None` counts all.
    pub tail: Option<usize>,
    /// Whether each row is compared with the first one.
    pub divergence: bool,
}

/// What one variant came to.
#[derive(Debug, Clone)]
pub struct CurveRow {
    /// Which.
    pub variant: Variant,
    /// Predictions that count.
    pub predictions: usize,
    /// Their mean negative log-likelihood, in nats.
    pub mean_nll: f64,
    /// Its standard error over tokens, of the difference to the first row.
    pub standard_error: f64,
    /// Divergence from the first row.
    pub divergence: Divergence,
    /// The cache at the end.
    pub kv: KvReport,
}

struct Tally {
    sum: f64,
    /// Of the difference to the first row.
    difference: f64,
    squared: f64,
    divergence: Divergence,
    kv: Option<KvReport>,
}

/// Feeds `tokens` to all `variants` at once. The first variant is the base of comparison. `progress` is told the
/// tokens fed so far.
pub fn curve(
    model: &mut dyn Forward,
    tokens: &[TokenId],
    variants: &[Variant],
    how: Curve,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<CurveRow>, ForwardError> {
    let seq = |index: usize| SeqId(u64::MAX - index as u64);
    let mut tallies: Vec<Tally> = variants
        .iter()
        .map(|_| Tally {
            sum: 0.0,
            difference: 0.0,
            squared: 0.0,
            divergence: Divergence::default(),
            kv: None,
        })
        .collect();
    let first = how
        .tail
        .map_or(0, |tail| tokens.len().saturating_sub(1 + tail));
    for position in 0..tokens.len().saturating_sub(1) {
        let rows = variants.iter().enumerate().map(|(index, variant)| Row {
            seq: seq(index),
            open: (position == 0).then(|| Open {
                policy: variant.policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: vec![tokens[position]],
            start: position,
            want: if position >= first {
                Want::All
            } else {
                Want::Nothing
            },
            phase: Phase::Decode,
        });
        let outputs = model.forward(&Plan {
            rows: rows.collect(),
            paused: Vec::new(),
            ended: Vec::new(),
        })?;
        let target = tokens[position + 1];
        let mut base = 0.0;
        for (index, (row, tally)) in outputs.rows.iter().zip(&mut tallies).enumerate() {
            if position >= first {
                let nll = nll(&row.logits, target, row.seq)?;
                if index == 0 {
                    base = nll;
                }
                tally.sum += nll;
                tally.difference += nll - base;
                tally.squared += (nll - base) * (nll - base);
                if how.divergence {
                    let compared =
                        tally
                            .divergence
                            .add(&outputs.rows[0].logits, &row.logits, target);
                    compared.map_err(|error| ForwardError::Tensor(error.to_string()))?;
                }
            }
            if position + 2 == tokens.len() {
                tally.kv = Some(row.kv.clone());
            }
        }
        progress(position + 1);
    }
    model.forward(&Plan {
        rows: Vec::new(),
        paused: Vec::new(),
        ended: (0..variants.len()).map(|index| seq(index).into()).collect(),
    })?;
    let predictions = tokens.len().saturating_sub(1 + first);
    let count = predictions.max(1) as f64;
    let row = |(variant, tally): (&Variant, Tally)| {
        let mean = tally.difference / count;
        let variance = (tally.squared / count - mean * mean).max(0.0);
        CurveRow {
            variant: variant.clone(),
            predictions,
            mean_nll: tally.sum / count,
            standard_error: (variance / count).sqrt(),
            divergence: tally.divergence,
            kv: tally.kv.unwrap_or_default(),
        }
    };
    Ok(variants.iter().zip(tallies).map(row).collect())
}

fn nll(logits: &[f32], target: TokenId, seq: SeqId) -> Result<f64, ForwardError> {
    let found = logits.get(target as usize).ok_or(ForwardError::BadToken {
        seq,
        token: target,
        vocab: logits.len(),
    })?;
    Ok(crate::sample::logsumexp(logits) - f64::from(*found))
}

//! Questions about a context that was compressed first: every policy starts from one prefill of the context, and all
//! of them answer side by side in one batch.

use super::best;
use super::curve::Variant;
use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::sample::{SamplingParams, logsumexp};
use crate::sched::{Forward, ForwardError, Open, Origin, Phase, Plan, Row, Want};

/// One context and one question about it, as ids.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// What is compressed, at least 2 tokens.
    pub context: &'a [TokenId],
    /// What comes after it, at least 1 token.
    pub question: &'a [TokenId],
    /// The answer whose likelihood is measured; may be empty.
    pub answer: &'a [TokenId],
    /// Tokens to generate at most.
    pub max_new_tokens: usize,
    /// Ids that end a reply.
    pub stop: &'a [TokenId],
}

/// What one policy came to on one question.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The greedy continuation.
    pub tokens: Vec<TokenId>,
    /// Mean negative log-likelihood of the answer's tokens, and their mean rank; `None` without an answer.
    pub likelihood: Option<(f64, f64)>,
    /// The cache when the context had been compressed.
    pub compressed: KvReport,
}

/// A compressed or whole context that questions can start from.
const BASE: u64 = u64::MAX;
/// The first of the sequences that answer.
const FIRST: u64 = u64::MAX / 2;

/// Reads a context once: all but its last token, which each policy reads for itself.
pub fn read_context(
    model: &mut dyn Forward,
    context: &[TokenId],
    window: usize,
    chunk: usize,
) -> Result<(), ForwardError> {
    let last = context.len().saturating_sub(1);
    let mut at = 0;
    while at < last {
        // Chunks end at multiples of their size, as a served prompt's do.
        let end = ((at / chunk + 1) * chunk).min(last);
        let row = Row {
            seq: SeqId(BASE),
            open: (at == 0).then(|| Open {
                policy: Policy::observer(window),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: context[at..end].to_vec(),
            start: at,
            want: Want::Nothing,
            phase: Phase::Prompt {
                left: context.len() - end,
            },
        };
        run(model, vec![row])?;
        at = end;
    }
    Ok(())
}

/// Forgets what [`read_context`] read.
pub fn forget_context(model: &mut dyn Forward) -> Result<(), ForwardError> {
    model
        .forward(&Plan {
            rows: Vec::new(),
            paused: Vec::new(),
            ended: vec![SeqId(BASE).into()],
        })
        .map(drop)
}

/// Answers under every variant, from the context that was read.
pub fn ask(
    model: &mut dyn Forward,
    asked: &Asked<'_>,
    variants: &[Variant],
) -> Result<Vec<Reply>, ForwardError> {
    let seq = |index: usize| SeqId(FIRST + index as u64);
    let mut compressed = Vec::with_capacity(variants.len());
    let mut next = Vec::with_capacity(variants.len());
    for (index, variant) in variants.iter().enumerate() {
        let (logits, kv) = question(model, seq(index), asked, variant)?;
        next.push(logits);
        compressed.push(kv);
    }
    let position = asked.context.len() + asked.question.len();
    let mut replies = Vec::with_capacity(variants.len());
    for (index, kv) in compressed.into_iter().enumerate() {
        replies.push(Reply {
            tokens: Vec::new(),
            likelihood: likelihood(
                model,
                (seq(index), &variants[index].policy),
                &next[index],
                asked.answer,
                position,
            )?,
            compressed: kv,
        });
    }
    greedy(model, &mut replies, next, asked, position, &seq)?;
    model.forward(&Plan {
        rows: Vec::new(),
        paused: Vec::new(),
        ended: (0..variants.len()).map(|index| seq(index).into()).collect(),
    })?;
    Ok(replies)
}

/// Reads the end of the context and the question under a variant, in one row when the question is to be known before
/// anything is evicted. Returns the logits after it, and the cache as it was compressed.
fn question(
    model: &mut dyn Forward,
    seq: SeqId,
    asked: &Asked<'_>,
    variant: &Variant,
) -> Result<(Vec<f32>, KvReport), ForwardError> {
    let mut open = Some(Open {
        policy: variant.policy.clone(),
        sampling: SamplingParams::default(),
        origin: Origin::Fork(SeqId(BASE)),
    });
    let last = asked.context.len() - 1;
    let mut read = |tokens: Vec<TokenId>, start: usize, want: Want| {
        let row = Row {
            seq,
            open: open.take(),
            tokens,
            start,
            want,
            phase: Phase::Prompt { left: 0 },
        };
        let mut rows = run(model, vec![row])?;
        rows.pop().ok_or(ForwardError::UnknownSequence(seq))
    };
    let ending = asked.context[last..].to_vec();
    if variant.query_aware {
        return read([&ending, asked.question].concat(), last, Want::Last);
    }
    let (_, compressed) = read(ending, last, Want::Nothing)?;
    let (logits, _) = read(asked.question.to_vec(), last + 1, Want::Last)?;
    Ok((logits, compressed))
}

/// Generates for all replies in one batch until each has ended.
fn greedy(
    model: &mut dyn Forward,
    replies: &mut [Reply],
    mut next: Vec<Vec<f32>>,
    asked: &Asked<'_>,
    position: usize,
    seq: &dyn Fn(usize) -> SeqId,
) -> Result<(), ForwardError> {
    let mut running: Vec<usize> = (0..replies.len()).collect();
    for step in 0..asked.max_new_tokens {
        running.retain(|&index| {
            let token = best(&next[index]);
            let goes_on = !asked.stop.contains(&token);
            if goes_on {
                replies[index].tokens.push(token);
            }
            goes_on
        });
        if running.is_empty() || step + 1 == asked.max_new_tokens {
            break;
        }
        let rows = running.iter().map(|&index| Row {
            seq: seq(index),
            open: None,
            tokens: replies[index].tokens.last().copied().into_iter().collect(),
            start: position + step,
            want: Want::Last,
            phase: Phase::Decode,
        });
        let outputs = run(model, rows.collect())?;
        for (&index, (logits, _)) in running.iter().zip(outputs) {
            next[index] = logits;
        }
    }
    Ok(())
}

/// The answer's likelihood after the question, from a copy of the sequence.
fn likelihood(
    model: &mut dyn Forward,
    (from, policy): (SeqId, &Policy),
    first: &[f32],
    answer: &[TokenId],
    position: usize,
) -> Result<Option<(f64, f64)>, ForwardError> {
    let Some((_, fed)) = answer.split_last() else {
        return Ok(None);
    };
    let mut rows = first.to_vec();
    let copy = SeqId(FIRST - 1);
    if !fed.is_empty() {
        let row = Row {
            seq: copy,
            open: Some(Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Fork(from),
            }),
            tokens: fed.to_vec(),
            start: position,
            want: Want::All,
            // Nothing is evicted for a measurement.
            phase: Phase::Prompt {
                left: usize::MAX / 2,
            },
        };
        for (logits, _) in run(model, vec![row])? {
            rows.extend(logits);
        }
        model.forward(&Plan {
            rows: Vec::new(),
            paused: Vec::new(),
            ended: vec![copy.into()],
        })?;
    }
    let (mut nll, mut rank) = (0.0, 0.0);
    for (logits, &target) in rows.chunks_exact(first.len()).zip(answer) {
        let found = logits.get(target as usize).ok_or(ForwardError::BadToken {
            seq: from,
            token: target,
            vocab: first.len(),
        })?;
        nll += logsumexp(logits) - f64::from(*found);
        rank += 1.0 + logits.iter().filter(|&logit| logit > found).count() as f64;
    }
    let count = answer.len() as f64;
    Ok(Some((nll / count, rank / count)))
}

fn run(model: &mut dyn Forward, rows: Vec<Row>) -> Result<Vec<(Vec<f32>, KvReport)>, ForwardError> {
    let outputs = model.forward(&Plan {
        rows,
        paused: Vec::new(),
        ended: Vec::new(),
    })?;
    Ok(outputs
        .rows
        .into_iter()
        .map(|row| (row.logits, row.kv))
        .collect())
}

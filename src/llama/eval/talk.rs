//! A conversation of many turns under several policies, in lockstep: each speaks its own replies.

use super::best;
use super::curve::Variant;
use crate::ids::{SeqId, TokenId};
use crate::kv::KvReport;
use crate::sample::SamplingParams;
use crate::sched::{Forward, ForwardError, Open, Origin, Phase, Plan, Row, Want};

/// What the user says.
#[derive(Debug, Clone)]
pub struct Turn {
    /// With all that the template puts around it.
    pub tokens: Vec<TokenId>,
    /// Tokens of the reply at most.
    pub max_new_tokens: usize,
    /// Tokens of the system prompt, in the first turn.
    pub system: usize,
}

/// One policy's replies, and its cache at the end.
pub type Spoken = (Vec<Vec<TokenId>>, KvReport);

const FIRST: u64 = u64::MAX / 4;

/// Speaks all turns under every variant, greedily.
pub fn converse(
    model: &mut dyn Forward,
    turns: &[Turn],
    stop: &[TokenId],
    variants: &[Variant],
) -> Result<Vec<Spoken>, ForwardError> {
    let seq = |index: usize| SeqId(FIRST + index as u64);
    let mut spoken: Vec<Spoken> = vec![(Vec::new(), KvReport::default()); variants.len()];
    let mut fed = vec![0usize; variants.len()];
    // The token that ended a reply is not fed: the next turn's text has it.
    let mut next: Vec<TokenId> = vec![0; variants.len()];
    for (number, turn) in turns.iter().enumerate() {
        for (index, variant) in variants.iter().enumerate() {
            let row = Row {
                seq: seq(index),
                open: (number == 0).then(|| Open {
                    policy: variant.policy.clone(),
                    sampling: SamplingParams::default(),
                    origin: Origin::Empty,
                }),
                tokens: turn.tokens.clone(),
                start: fed[index],
                want: Want::Last,
                phase: Phase::Prompt { left: 0 },
            };
            let outputs = model.forward(&plan(vec![row]))?;
            fed[index] += turn.tokens.len();
            for output in outputs.rows {
                next[index] = best(&output.logits);
                spoken[index].1 = output.kv;
            }
            spoken[index].0.push(Vec::new());
        }
        let mut running: Vec<usize> = (0..variants.len()).collect();
        for _ in 0..turn.max_new_tokens {
            running.retain(|&index| !stop.contains(&next[index]));
            if running.is_empty() {
                break;
            }
            let mut rows = Vec::with_capacity(running.len());
            for &index in &running {
                if let Some(reply) = spoken[index].0.last_mut() {
                    reply.push(next[index]);
                }
                rows.push(Row {
                    seq: seq(index),
                    open: None,
                    tokens: vec![next[index]],
                    start: fed[index],
                    want: Want::Last,
                    phase: Phase::Decode,
                });
                fed[index] += 1;
            }
            let outputs = model.forward(&plan(rows))?;
            for (&index, output) in running.iter().zip(outputs.rows) {
                next[index] = best(&output.logits);
                spoken[index].1 = output.kv;
            }
        }
    }
    model.forward(&Plan {
        rows: Vec::new(),
        paused: Vec::new(),
        ended: (0..variants.len()).map(|index| seq(index).into()).collect(),
    })?;
    Ok(spoken)
}

fn plan(rows: Vec<Row>) -> Plan {
    Plan {
        rows,
        paused: Vec::new(),
        ended: Vec::new(),
    }
}

//! A model and the samplers of its sequences: one call takes a plan to tokens. What the compute thread runs.

use std::collections::HashMap;

use crate::ids::SeqId;
use crate::kv::{KvReport, KvShape};
use crate::sample::{Choice, Sampler};

use super::{Forward, ForwardError, MemoryReport, Plan, SessionOrder, SessionReply, Want};

/// What one row came to.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The sequence.
    pub seq: SeqId,
    /// The next token, when the row wanted one.
    pub choice: Option<Choice>,
    /// The cache after the row.
    pub kv: KvReport,
    /// Tokens of the row that a cache held.
    pub cached: usize,
}

/// A [`Forward`] with one [`Sampler`] a sequence.
///
/// Samplers live beside the model, so that a step hands back tokens and not rows of logits.
pub struct Stepper {
    model: Box<dyn Forward>,
    samplers: HashMap<SeqId, Sampler>,
}

impl Stepper {
    /// A stepper without sequences.
    pub fn new(model: Box<dyn Forward>) -> Self {
        Stepper {
            model,
            samplers: HashMap::new(),
        }
    }

    /// What a token costs in KV cache.
    pub fn kv_shape(&self) -> KvShape {
        self.model.kv_shape()
    }

    /// Bytes of the weights in memory.
    pub fn weight_bytes(&self) -> usize {
        self.model.weight_bytes()
    }

    /// Does something with parked sessions.
    pub fn session(&mut self, order: SessionOrder) -> Result<SessionReply, ForwardError> {
        self.model.session(order)
    }

    /// What is kept beyond open sequences.
    pub fn memory(&self) -> MemoryReport {
        self.model.memory()
    }

    /// Computes a step and draws a token for each row that wants one.
    pub fn step(&mut self, plan: &Plan) -> Result<Vec<Drawn>, ForwardError> {
        for ended in &plan.ended {
            self.samplers.remove(&ended.seq);
        }
        for row in &plan.rows {
            if let Some(open) = &row.open {
                self.samplers
                    .insert(row.seq, Sampler::new(open.sampling.clone()));
            }
            if let Some(sampler) = self.samplers.get_mut(&row.seq) {
                for &token in &row.tokens {
                    sampler.observe(token);
                }
            }
        }
        let outputs = self.model.forward(plan)?;
        let mut drawn = Vec::with_capacity(outputs.rows.len());
        for (row, mut output) in plan.rows.iter().zip(outputs.rows) {
            let choice = match row.want {
                Want::Last => {
                    let sampler = self
                        .samplers
                        .get_mut(&row.seq)
                        .ok_or(ForwardError::UnknownSequence(row.seq))?;
                    let choice = sampler
                        .choose(&mut output.logits)
                        .map_err(|_| ForwardError::NotFinite(row.seq))?;
                    Some(choice)
                }
                Want::Nothing | Want::All => None,
            };
            drawn.push(Drawn {
                seq: row.seq,
                choice,
                kv: output.kv,
                cached: output.cached,
            });
        }
        Ok(drawn)
    }
}

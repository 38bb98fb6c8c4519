//! A model without tensors, for tests and examples of everything above the tensors.

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::{SeqId, TokenId};
use crate::kv::{HeadSlots, KvReport, KvShape, Policy};

use super::{Forward, ForwardError, Outputs, Plan, Row, RowOutput, Want};

/// Its vocabulary is small, its next token is always the last one plus one (modulo the vocabulary), and it keeps
/// real slots under the real policy, with attention spread evenly.
pub struct FakeModel {
    vocab: usize,
    delay: Duration,
    panic_on: Option<TokenId>,
    sequences: HashMap<SeqId, (Policy, HeadSlots, usize)>,
}

impl FakeModel {
    /// A model with `vocab` tokens that answers at once.
    pub fn new(vocab: usize) -> Self {
        FakeModel {
            vocab,
            delay: Duration::ZERO,
            panic_on: None,
            sequences: HashMap::new(),
        }
    }

    /// Takes this long for a step.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Panics when it is fed this token.
    #[must_use]
    pub fn panicking_on(mut self, token: TokenId) -> Self {
        self.panic_on = Some(token);
        self
    }

    fn row(&mut self, row: &Row) -> Result<RowOutput, ForwardError> {
        if let Some(open) = &row.open {
            self.sequences
                .insert(row.seq, (open.policy, HeadSlots::default(), 0));
        }
        let shape = self.kv_shape();
        let (policy, head, seen) = self
            .sequences
            .get_mut(&row.seq)
            .ok_or(ForwardError::UnknownSequence(row.seq))?;
        let mut logits = Vec::new();
        for (index, &token) in row.tokens.iter().enumerate() {
            assert!(
                Some(token) != self.panic_on,
                "injected panic on token {token}"
            );
            if token as usize >= self.vocab {
                return Err(ForwardError::BadToken {
                    seq: row.seq,
                    token,
                    vocab: self.vocab,
                });
            }
            let wanted = match row.want {
                Want::Nothing => false,
                Want::Last => index + 1 == row.tokens.len(),
                Want::All => true,
            };
            if wanted {
                let next = (token as usize + 1) % self.vocab;
                logits.extend((0..self.vocab).map(|id| if id == next { 10.0 } else { 0.0 }));
            }
        }
        head.place(row.start as u32, row.tokens.len());
        let even = vec![1.0 / head.len() as f32; head.len()];
        head.add(&even);
        if row.evict {
            if row.tokens.len() == 1 {
                head.recycle(*policy);
            } else {
                head.cut(*policy);
            }
        }
        *seen += row.tokens.len();
        Ok(RowOutput {
            seq: row.seq,
            logits,
            kv: KvReport {
                policy: policy.name().to_owned(),
                budget: policy.capacity(),
                tokens_seen: *seen,
                tokens_kept: head.kept(),
                evicted: *seen - head.kept(),
                bytes: head.len() * shape.slot_bytes(),
            },
        })
    }
}

impl Forward for FakeModel {
    fn forward(&mut self, plan: &Plan) -> Result<Outputs, ForwardError> {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        for seq in &plan.ended {
            self.sequences.remove(seq);
        }
        let rows = plan.rows.iter().map(|row| self.row(row));
        Ok(Outputs {
            rows: rows.collect::<Result<_, _>>()?,
        })
    }

    fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: 1,
            kv_heads: 1,
            head_dim: 8,
            value_bytes: 4,
        }
    }

    fn weight_bytes(&self) -> usize {
        1 << 20
    }
}

//! [`Forward`] for a model of the family: one pass over all rows of a plan.

use std::collections::HashMap;

use tch::{TchError, Tensor};

use super::block::Span;
use super::cache::SequenceCache;
use super::model::Llama;
use crate::ids::SeqId;
use crate::kv::KvShape;
use crate::sched::{Forward, ForwardError, Outputs, Plan, Row, RowOutput, Want};

/// A model and the caches of its open sequences.
#[derive(Debug)]
pub struct LlamaForward {
    model: Llama,
    shape: KvShape,
    sequences: HashMap<SeqId, SequenceCache>,
}

impl LlamaForward {
    /// A model without sequences.
    pub fn new(model: Llama) -> Self {
        let shape = model.config().kv_shape(model.compute().value_bytes());
        LlamaForward {
            model,
            shape,
            sequences: HashMap::new(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Llama {
        &self.model
    }

    fn open(&mut self, row: &Row) -> Result<(), ForwardError> {
        let vocab = self.model.config().vocab;
        if let Some(&token) = row.tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(ForwardError::BadToken {
                seq: row.seq,
                token,
                vocab,
            });
        }
        if row.start + row.tokens.len() > self.model.context() {
            return Err(ForwardError::Tensor(format!(
                "{} reaches position {}, the context has {}",
                row.seq,
                row.start + row.tokens.len(),
                self.model.context()
            )));
        }
        if let Some(open) = &row.open {
            let compute = self.model.compute();
            let cache = SequenceCache::new(open.policy, self.shape, compute.kind, compute.device)?;
            self.sequences.insert(row.seq, cache);
        }
        Ok(())
    }

    /// The hidden states of all rows, `[tokens, hidden]`. Caches of `rows` are taken out and put back, so that an
    /// error leaves none of them half-written.
    fn run(&mut self, rows: &[Row]) -> Result<Tensor, ForwardError> {
        let mut caches = Vec::with_capacity(rows.len());
        for row in rows {
            let cache = self.sequences.remove(&row.seq);
            caches.push(cache.ok_or(ForwardError::UnknownSequence(row.seq))?);
        }
        let mut tokens: Vec<i64> = Vec::new();
        let mut positions: Vec<i64> = Vec::new();
        let mut spans = Vec::with_capacity(rows.len());
        for (row, cache) in rows.iter().zip(&mut caches) {
            spans.push(Span {
                offset: tokens.len(),
                tokens: row.tokens.len(),
                start: row.start,
                cache,
            });
            tokens.extend(row.tokens.iter().map(|&t| i64::from(t)));
            positions.extend((row.start..row.start + row.tokens.len()).map(|p| p as i64));
        }
        let device = self.model.compute().device;
        let tokens = Tensor::f_from_slice(&tokens)?.f_to_device(device)?;
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(device)?;
        let hidden = self.model.hidden(&tokens, &positions, &mut spans)?;
        for (row, mut cache) in rows.iter().zip(caches) {
            cache.finish_row(row.tokens.len(), row.evict)?;
            self.sequences.insert(row.seq, cache);
        }
        Ok(hidden)
    }

    /// The logits that rows want, in their order.
    fn logits(&self, rows: &[Row], hidden: &Tensor) -> Result<Vec<Vec<f32>>, TchError> {
        let mut picked: Vec<i64> = Vec::new();
        let mut offset = 0;
        let mut counts = Vec::with_capacity(rows.len());
        for row in rows {
            let end = offset + row.tokens.len();
            let from = match row.want {
                Want::Nothing => end,
                Want::Last => end - 1,
                Want::All => offset,
            };
            picked.extend((from..end).map(|i| i as i64));
            counts.push(end - from);
            offset = end;
        }
        if picked.is_empty() {
            return Ok(vec![Vec::new(); rows.len()]);
        }
        let index = Tensor::f_from_slice(&picked)?.f_to_device(hidden.device())?;
        let logits = self
            .model
            .logits(&hidden.f_index_select(0, &index)?)?
            .f_contiguous()?;
        let vocab = self.model.config().vocab;
        let mut at = 0;
        let mut split = Vec::with_capacity(rows.len());
        for count in counts {
            let mut values = vec![0.0f32; count * vocab];
            if count > 0 {
                let rows = logits.f_narrow(0, at, count as i64)?;
                rows.f_copy_data(&mut values, count * vocab)?;
            }
            at += count as i64;
            split.push(values);
        }
        Ok(split)
    }
}

impl Forward for LlamaForward {
    fn forward(&mut self, plan: &Plan) -> Result<Outputs, ForwardError> {
        // Gradients are per thread in libtorch, so the guard is taken on the thread that computes.
        let _guard = tch::no_grad_guard();
        for seq in &plan.ended {
            self.sequences.remove(seq);
        }
        if plan.rows.is_empty() {
            return Ok(Outputs::default());
        }
        for row in &plan.rows {
            self.open(row)?;
        }
        let hidden = self.run(&plan.rows)?;
        let logits = self.logits(&plan.rows, &hidden)?;
        let mut rows = Vec::with_capacity(plan.rows.len());
        for (row, logits) in plan.rows.iter().zip(logits) {
            let cache = self
                .sequences
                .get(&row.seq)
                .ok_or(ForwardError::UnknownSequence(row.seq))?;
            debug_assert_eq!(cache.seen(), row.start + row.tokens.len());
            rows.push(RowOutput {
                seq: row.seq,
                logits,
                kv: cache.report(self.shape),
            });
        }
        Ok(Outputs { rows })
    }

    fn kv_shape(&self) -> KvShape {
        self.shape
    }

    fn weight_bytes(&self) -> usize {
        self.model.bytes()
    }
}

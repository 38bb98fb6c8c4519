//! One transformer block: attention and feed-forward, each behind a norm and added to the residual stream.

use tch::{Kind, TchError, Tensor};

use super::attention::{Attended, Attention, Buffers, Queries};
use super::cache::SequenceCache;
use super::kv_rows::Fresh;
use super::linear::Linear;
use super::names::Part;
use super::reading::Reading;
use super::rope::{Rope, Rotation};
use super::weights::{self, Weights};
use super::{LlamaError, ModelConfig};
use crate::sched::Phase;

/// The tokens of one sequence inside a batch.
pub(super) struct Span<'a> {
    /// Rows of the batch: `offset..offset + tokens`.
    pub(super) offset: usize,
    pub(super) tokens: usize,
    pub(super) phase: Phase,
    pub(super) reading: Reading,
    /// All tokens but the first are guesses: they are taken in one by one, and can be taken back.
    pub(super) drafted: bool,
    pub(super) cache: &'a mut SequenceCache,
}

/// What all blocks of a step share.
pub(super) struct Step<'a> {
    pub(super) rope: &'a Rope,
    pub(super) rotation: Rotation,
    pub(super) scratch: &'a mut Buffers,
}

/// The weights of one block.
#[derive(Debug)]
pub(super) struct Block {
    index: usize,
    attention: Attention,
    norm_eps: f64,
    attention_norm: Tensor,
    query_key_value: Linear,
    attention_out: Linear,
    feed_forward_norm: Tensor,
    gate_up: Linear,
    down: Linear,
}

impl Block {
    pub(super) fn load(
        weights: &Weights<'_>,
        config: &ModelConfig,
        index: usize,
        tile: usize,
    ) -> Result<Self, LlamaError> {
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let (hidden, inner) = (config.hidden, config.intermediate);
        Ok(Block {
            index,
            attention: Attention::of(config, index, tile),
            norm_eps: config.norm_eps,
            attention_norm: weights.norm(Part::AttentionNorm(index))?,
            query_key_value: Linear::stacked(
                weights,
                &[
                    (Part::Query(index), queries),
                    (Part::Key(index), keys),
                    (Part::Value(index), keys),
                ],
                hidden,
            )?,
            attention_out: Linear::stacked(
                weights,
                &[(Part::AttentionOut(index), hidden)],
                queries,
            )?,
            feed_forward_norm: weights.norm(Part::FeedForwardNorm(index))?,
            gate_up: Linear::stacked(
                weights,
                &[(Part::Gate(index), inner), (Part::Up(index), inner)],
                hidden,
            )?,
            down: Linear::stacked(weights, &[(Part::Down(index), hidden)], inner)?,
        })
    }

    /// `hidden` `[tokens of all spans, hidden]`, float32 -> likewise.
    pub(super) fn forward(
        &self,
        hidden: Tensor,
        step: &mut Step<'_>,
        spans: &mut [Span<'_>],
    ) -> Result<Tensor, TchError> {
        let normed = rms_norm(&hidden, &self.attention_norm, self.norm_eps)?;
        let attended = self.attend(&normed, step, spans)?;
        let hidden = hidden.f_add(&self.attention_out.forward(&attended)?)?;
        let normed = rms_norm(&hidden, &self.feed_forward_norm, self.norm_eps)?;
        let both = self.gate_up.forward(&normed)?.f_chunk(2, 1)?;
        let inner = both[0].f_silu()?.f_mul(&both[1])?;
        hidden.f_add(&self.down.forward(&inner)?)
    }

    fn attend(
        &self,
        normed: &Tensor,
        step: &mut Step<'_>,
        spans: &mut [Span<'_>],
    ) -> Result<Tensor, TchError> {
        let (heads, kv_heads) = (self.attention.heads, self.attention.kv_heads);
        let dim = self.attention.head_dim;
        let all = self.query_key_value.forward(normed)?;
        let all = all.f_view([-1, (heads + 2 * kv_heads) as i64, dim as i64])?;
        let rotated = step
            .rotation
            .apply(&all.f_narrow(1, 0, (heads + kv_heads) as i64)?)?;
        let plain = all.f_narrow(1, 0, heads as i64)?;
        let queries = rotated.f_narrow(1, 0, heads as i64)?;
        let keys = rotated.f_narrow(1, heads as i64, kv_heads as i64)?;
        let values = all.f_narrow(1, (heads + kv_heads) as i64, kv_heads as i64)?;
        // Caches on the host take rows as floats; one copy a layer and step serves all sequences.
        let query_floats = floats(&queries)?;
        let key_floats = floats(&keys)?;
        let value_floats = floats(&values)?;
        let (query_stride, key_stride) = (heads * dim, kv_heads * dim);
        let mut outputs: Vec<Attended> = Vec::with_capacity(spans.len());
        for span in spans {
            let rows = |t: &Tensor| t.f_narrow(0, span.offset as i64, span.tokens as i64);
            let part = |floats: &[f32], stride: usize| {
                let from = span.offset * stride;
                from..(from + span.tokens * stride).min(floats.len())
            };
            let (own_keys, own_values) = (rows(&keys)?, rows(&values)?);
            let span_keys = &key_floats[part(&key_floats, key_stride)];
            let span_values = &value_floats[part(&value_floats, key_stride)];
            let span_queries = &query_floats[part(&query_floats, query_stride)];
            if span.cache.recalls() {
                let by_head = self.attention.by_kv_head(span_queries);
                span.cache.recall(
                    self.index,
                    &by_head,
                    self.attention.group(),
                    step.rope,
                    None,
                )?;
            }
            let fresh = |floats, tensor| Fresh {
                floats,
                stride: key_stride,
                tokens: span.tokens,
                tensor: Some(tensor),
                dim,
            };
            let keys = fresh(span_keys, &own_keys);
            let values = fresh(span_values, &own_values);
            span.cache.write(self.index, &keys, &values)?;
            let queries = Queries {
                tensor: &rows(&queries)?,
                floats: span_queries,
                plain: &rows(&plain)?,
            };
            outputs.push(self.attention.forward(
                &queries,
                span.cache,
                &span.reading,
                step.scratch,
            )?);
        }
        together(outputs, query_stride, normed)
    }

    pub(super) fn bytes(&self) -> usize {
        let linears = [
            &self.query_key_value,
            &self.attention_out,
            &self.gate_up,
            &self.down,
        ];
        let norms = weights::bytes(&self.attention_norm) + weights::bytes(&self.feed_forward_norm);
        linears.iter().map(|linear| linear.bytes()).sum::<usize>() + norms
    }
}

/// A tensor's values on the host, as float32.
fn floats(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let plain = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut floats = vec![0.0; plain.numel()];
    let len = floats.len();
    plain.f_copy_data(&mut floats, len)?;
    Ok(floats)
}

/// What all spans computed, `[tokens, width]`, where and in the type that `like` has.
fn together(mut outputs: Vec<Attended>, width: usize, like: &Tensor) -> Result<Tensor, TchError> {
    let mut tensors = Vec::new();
    let mut run: Vec<f32> = Vec::new();
    let flush = |run: &mut Vec<f32>, tensors: &mut Vec<Tensor>| -> Result<(), TchError> {
        if !run.is_empty() {
            let fresh = Tensor::f_from_slice(run)?.f_view([-1, width as i64])?;
            tensors.push(fresh.f_to_device(like.device())?);
            run.clear();
        }
        Ok(())
    };
    for output in outputs.drain(..) {
        match output {
            Attended::Host(floats) => run.extend(floats),
            Attended::Device(tensor) => {
                flush(&mut run, &mut tensors)?;
                tensors.push(tensor.f_to_kind(Kind::Float)?);
            }
        }
    }
    flush(&mut run, &mut tensors)?;
    match tensors.len() {
        1 => Ok(tensors.swap_remove(0)),
        _ => Tensor::f_cat(&tensors, 0),
    }
}

/// Root-mean-square norm (<https://arxiv.org/abs/1910.07467>) over the last dimension, in float32.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    x.f_rms_norm(weight.size(), Some(weight), eps)
}

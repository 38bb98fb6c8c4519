//! One transformer block: attention and feed-forward, each behind a norm and added to the residual stream.

use tch::{TchError, Tensor};

use super::attention::Attention;
use super::cache::SequenceCache;
use super::linear::Linear;
use super::names::Part;
use super::rope::Rotation;
use super::weights::{self, Weights};
use super::{LlamaError, ModelConfig};

/// The tokens of one sequence inside a batch.
pub(super) struct Span<'a> {
    /// Rows of the batch: `offset..offset + tokens`.
    pub(super) offset: usize,
    pub(super) tokens: usize,
    /// The position of the first.
    pub(super) start: usize,
    pub(super) cache: &'a mut SequenceCache,
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
            attention: Attention {
                heads: config.heads,
                kv_heads: config.kv_heads,
                head_dim: config.head_dim,
                sliding_window: config.sliding_window,
                tile,
            },
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
        rotation: &Rotation,
        spans: &mut [Span<'_>],
    ) -> Result<Tensor, TchError> {
        let normed = rms_norm(&hidden, &self.attention_norm, self.norm_eps)?;
        let attended = self.attend(&normed, rotation, spans)?;
        let hidden = hidden.f_add(&self.attention_out.forward(&attended)?)?;
        let normed = rms_norm(&hidden, &self.feed_forward_norm, self.norm_eps)?;
        let both = self.gate_up.forward(&normed)?.f_chunk(2, 1)?;
        let inner = both[0].f_silu()?.f_mul(&both[1])?;
        hidden.f_add(&self.down.forward(&inner)?)
    }

    fn attend(
        &self,
        normed: &Tensor,
        rotation: &Rotation,
        spans: &mut [Span<'_>],
    ) -> Result<Tensor, TchError> {
        let (heads, kv_heads) = (self.attention.heads as i64, self.attention.kv_heads as i64);
        let all = self.query_key_value.forward(normed)?;
        let all = all.f_view([-1, heads + 2 * kv_heads, self.attention.head_dim as i64])?;
        let rotated = rotation.apply(&all.f_narrow(1, 0, heads + kv_heads)?)?;
        let queries = rotated.f_narrow(1, 0, heads)?;
        let keys = rotated.f_narrow(1, heads, kv_heads)?;
        let values = all.f_narrow(1, heads + kv_heads, kv_heads)?;
        let mut outputs = Vec::with_capacity(spans.len());
        for span in spans {
            let rows = |t: &Tensor| t.f_narrow(0, span.offset as i64, span.tokens as i64);
            let policy = span.cache.policy();
            let layer = span.cache.layer(self.index);
            let written = layer.write(span.start, &rows(&keys)?, &rows(&values)?, policy)?;
            outputs.push(self.attention.forward(
                &rows(&queries)?,
                layer,
                written,
                span.start,
                policy.need(),
            )?);
        }
        match outputs.len() {
            1 => Ok(outputs.swap_remove(0)),
            _ => Tensor::f_cat(&outputs, 0),
        }
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

/// Root-mean-square norm (<https://arxiv.org/abs/1910.07467>) over the last dimension, in float32.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    x.f_rms_norm(weight.size(), Some(weight), eps)
}

//! One transformer block, forward and backward.

use super::linear::{Compute, Linear, Scratch as LinearScratch};
use super::tensor::Tensor;
use crate::kernels::training::{
    Causal, causal_attention, causal_attention_backward, gate_backward, rms_norm_backward,
    rotate_back,
};
use crate::kernels::{Aligned, gate, rms_norm, rotate_rows};
use crate::llama::ModelConfig;

/// The weights of one block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) attention_norm: Tensor,
    pub(super) query_key_value: Linear,
    pub(super) attention_out: Linear,
    pub(super) feed_forward_norm: Tensor,
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
}

/// What all blocks of a pass share.
pub(super) struct Step<'a> {
    pub(super) compute: Compute<'a>,
    pub(super) config: &'a ModelConfig,
    pub(super) spans: &'a [(usize, usize)],
    /// Cosines and sines of the rows' positions.
    pub(super) angles: &'a [(Vec<f32>, Vec<f32>)],
}

/// What a block's forward pass leaves for its backward pass, with its input. The normed inputs and the gated product
/// are computed again: they take a hundredth of the time of a product and would double the memory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Queries, keys (both rotated) and values.
    query_key_value: Aligned,
    attended: Aligned,
    log_sums: Aligned,
    /// The residual stream between attention and feed-forward.
    middle: Aligned,
    /// Gate and up.
    both: Aligned,
}

/// Memory that blocks take turns in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    normed: Aligned,
    dnormed: Aligned,
    inner: Aligned,
    dinner: Aligned,
    dboth: Aligned,
    dattended: Aligned,
    dquery_key_value: Aligned,
    linear: LinearScratch,
}

impl Step<'_> {
    fn rows(&self) -> usize {
        self.angles.len()
    }

    fn query_width(&self) -> usize {
        self.config.heads * self.config.head_dim
    }

    fn width(&self) -> usize {
        (self.config.heads + 2 * self.config.kv_heads) * self.config.head_dim
    }

    fn eps(&self) -> f32 {
        self.config.norm_eps as f32
    }

    fn attention(&self) -> Causal<'_> {
        Causal {
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            dim: self.config.head_dim,
            scale: 1.0 / (self.config.head_dim as f32).sqrt(),
            spans: self.spans,
        }
    }

    /// The heads that rotate.
    fn rotated(&self) -> (usize, usize, usize) {
        let heads = self.config.heads + self.config.kv_heads;
        (self.width(), heads, self.config.head_dim)
    }
}

impl Block {
    pub(super) fn linears(&self) -> [&Linear; 4] {
        [
            &self.query_key_value,
            &self.attention_out,
            &self.gate_up,
            &self.down,
        ]
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.attention_norm]
            .into_iter()
            .chain(self.query_key_value.tensors())
            .chain(self.attention_out.tensors())
            .chain([&self.feed_forward_norm])
            .chain(self.gate_up.tensors())
            .chain(self.down.tensors())
    }

    pub(super) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        [&mut self.attention_norm]
            .into_iter()
            .chain(self.query_key_value.tensors_mut())
            .chain(self.attention_out.tensors_mut())
            .chain([&mut self.feed_forward_norm])
            .chain(self.gate_up.tensors_mut())
            .chain(self.down.tensors_mut())
    }

    pub(super) fn is_trained(&self) -> bool {
        self.tensors().any(Tensor::is_trained)
    }

    /// The residual stream `x`, `[n, hidden]`, -> `out`, likewise.
    pub(super) fn forward(
        &mut self,
        step: &Step<'_>,
        x: &[f32],
        kept: &mut Kept,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let compute = step.compute;
        let (level, pool) = (compute.processor.level, &*compute.processor.pool);
        let (n, eps) = (step.rows(), step.eps());
        let normed = scratch.normed.take(x.len());
        rms_norm(level, pool, x, self.attention_norm.floats(), eps, normed);
        let all = kept.query_key_value.take(n * step.width());
        let linear = &mut scratch.linear;
        self.query_key_value
            .forward(compute, normed, all, false, linear);
        rotate_rows(level, pool, all, step.rotated(), step.angles);
        let attended = kept.attended.take(n * step.query_width());
        let log_sums = kept.log_sums.take(n * step.config.heads);
        let attention = step.attention();
        causal_attention(
            level,
            pool,
            compute.arithmetic,
            &attention,
            all,
            attended,
            log_sums,
        );
        let middle = kept.middle.take(x.len());
        middle.copy_from_slice(x);
        self.attention_out
            .forward(compute, attended, middle, true, linear);
        rms_norm(
            level,
            pool,
            middle,
            self.feed_forward_norm.floats(),
            eps,
            normed,
        );
        let inner = step.config.intermediate;
        let both = kept.both.take(n * 2 * inner);
        self.gate_up.forward(compute, normed, both, false, linear);
        let joined = scratch.inner.take(n * inner);
        gate(level, pool, both, inner, joined);
        out.copy_from_slice(middle);
        self.down.forward(compute, joined, out, true, linear);
    }

    /// Adds to the gradients of what is trained. `dx` is the gradient of what [`Block::forward`] made of `x`, and becomes
    /// that of `x` if `onward`; if not, it is left unspecified.
    pub(super) fn back(
        &mut self,
        step: &Step<'_>,
        x: &[f32],
        kept: &mut Kept,
        dx: &mut [f32],
        onward: bool,
        scratch: &mut Scratch,
    ) {
        // What lies before each part, in order of the forward pass, decides whether its input's gradient is needed.
        let before_attention = onward || self.attention_norm.is_trained();
        let before_out = before_attention || self.query_key_value.is_trained();
        let before_norm = before_out || self.attention_out.is_trained();
        let before_gate = before_norm || self.feed_forward_norm.is_trained();
        let before_down = before_gate || self.gate_up.is_trained();
        self.back_feed_forward(
            step,
            kept,
            dx,
            (before_norm, before_gate, before_down),
            scratch,
        );
        if before_norm {
            self.back_attention(
                step,
                x,
                kept,
                dx,
                (onward, before_attention, before_out),
                scratch,
            );
        }
    }

    fn back_feed_forward(
        &mut self,
        step: &Step<'_>,
        kept: &mut Kept,
        dx: &mut [f32],
        (before_norm, before_gate, before_down): (bool, bool, bool),
        scratch: &mut Scratch,
    ) {
        let compute = step.compute;
        let (level, pool) = (compute.processor.level, &*compute.processor.pool);
        let (n, eps, inner) = (step.rows(), step.eps(), step.config.intermediate);
        let linear = &mut scratch.linear;
        let both = kept.both.take(n * 2 * inner);
        let joined = scratch.inner.take(n * inner);
        if self.down.is_trained() {
            gate(level, pool, both, inner, joined);
        }
        let dinner = scratch.dinner.take(n * inner);
        let wanted = before_down.then_some(&mut *dinner);
        self.down.back(compute, joined, dx, wanted, linear);
        if !before_down {
            return;
        }
        let dboth = scratch.dboth.take(n * 2 * inner);
        gate_backward(level, pool, both, inner, dinner, dboth);
        let middle = kept.middle.take(dx.len());
        let normed = scratch.normed.take(dx.len());
        if self.gate_up.is_trained() {
            rms_norm(
                level,
                pool,
                middle,
                self.feed_forward_norm.floats(),
                eps,
                normed,
            );
        }
        let dnormed = scratch.dnormed.take(dx.len());
        let wanted = before_gate.then_some(&mut *dnormed);
        self.gate_up.back(compute, normed, dboth, wanted, linear);
        if before_gate || before_norm {
            let (weight, gradient) = self.feed_forward_norm.floats_and_gradient();
            rms_norm_backward(level, pool, middle, weight, eps, dnormed, dx, gradient);
        }
    }

    fn back_attention(
        &mut self,
        step: &Step<'_>,
        x: &[f32],
        kept: &mut Kept,
        dx: &mut [f32],
        (onward, before_attention, before_out): (bool, bool, bool),
        scratch: &mut Scratch,
    ) {
        let compute = step.compute;
        let (level, pool) = (compute.processor.level, &*compute.processor.pool);
        let (n, eps) = (step.rows(), step.eps());
        let linear = &mut scratch.linear;
        let attended = kept.attended.take(n * step.query_width());
        let dattended = scratch.dattended.take(attended.len());
        let wanted = before_out.then_some(&mut *dattended);
        self.attention_out
            .back(compute, attended, dx, wanted, linear);
        if !before_out {
            return;
        }
        let all = kept.query_key_value.take(n * step.width());
        let dall = scratch.dquery_key_value.take(all.len());
        let log_sums = kept.log_sums.take(n * step.config.heads);
        let (arithmetic, attention) = (compute.arithmetic, step.attention());
        causal_attention_backward(
            level, pool, arithmetic, &attention, all, attended, log_sums, dattended, dall,
        );
        rotate_back(level, pool, dall, step.rotated(), step.angles);
        let normed = scratch.normed.take(x.len());
        if self.query_key_value.is_trained() {
            rms_norm(level, pool, x, self.attention_norm.floats(), eps, normed);
        }
        let dnormed = scratch.dnormed.take(x.len());
        let wanted = before_attention.then_some(&mut *dnormed);
        self.query_key_value
            .back(compute, normed, dall, wanted, linear);
        if before_attention || onward {
            let (weight, gradient) = self.attention_norm.floats_and_gradient();
            rms_norm_backward(level, pool, x, weight, eps, dnormed, dx, gradient);
        }
    }
}

//! A whole model: embedding, blocks, head.

use tch::{Kind, TchError, Tensor};

use super::block::{Block, Span, Step, rms_norm};
use super::linear::Linear;
use super::names::Part;
use super::packed::{self, Packed};
use super::rope::Rope;
use super::weights::{self, Weights};
use super::{Compute, LlamaError, ModelConfig};
use crate::kernels::Scratch;
use crate::store::Checkpoint;

/// The weights of a model on a device. A forward pass reads it only.
#[derive(Debug)]
pub struct Llama {
    config: ModelConfig,
    compute: Compute,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    head: Linear,
    rope: Rope,
    context: usize,
    /// The same weights for steps of few tokens on the host.
    packed: Option<Packed>,
}

impl Llama {
    /// Reads all weights. `tile` queries attend together; `context` positions at most, the model's own if `None`.
    pub fn load(
        checkpoint: &Checkpoint,
        compute: Compute,
        tile: usize,
        context: Option<usize>,
    ) -> Result<Self, LlamaError> {
        let _guard = tch::no_grad_guard();
        let config = ModelConfig::read(checkpoint)?;
        let weights = Weights::new(checkpoint, &config, compute);
        let (vocab, hidden) = (config.vocab, config.hidden);
        let embedding = weights.weight(Part::Embedding, &[vocab, hidden])?;
        let head = if weights.has(Part::Head) {
            Linear::stacked(&weights, &[(Part::Head, vocab)], hidden)?
        } else {
            Linear::shared(&embedding)
        };
        let packed = match compute.device.is_cuda() {
            true => None,
            false => Packed::load(&weights, &config, tile, super::device::threads())?,
        };
        let blocks = (0..config.layers).map(|index| Block::load(&weights, &config, index, tile));
        let context = context.map_or(config.context, |cap| cap.min(config.context));
        let factors = weights.rope_factors()?;
        Ok(Llama {
            embedding,
            head,
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: weights.norm(Part::FinalNorm)?,
            rope: Rope::new(&config, context, factors.as_deref(), compute.device)?,
            compute,
            context,
            packed,
            config,
        })
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Device and type.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// What computes a step of `tokens` tokens, if it is not libtorch.
    pub(super) fn packed(&self, tokens: usize) -> Option<&Packed> {
        self.packed
            .as_ref()
            .filter(|_| tokens <= packed::MOST_TOKENS)
    }

    pub(super) fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Positions that there are.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Bytes of all weights; a tied head counts once.
    pub fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        let head = if self.tied() { 0 } else { self.head.bytes() };
        let packed = self.packed.as_ref().map_or(0, Packed::bytes);
        weights::bytes(&self.embedding) + blocks + weights::bytes(&self.norm) + head + packed
    }

    fn tied(&self) -> bool {
        self.head.shares(&self.embedding)
    }

    /// Runs the spans' `tokens`, one after the other in `[n]`, at `positions` `[n]`. Returns the normed hidden state
    /// `[n, hidden]`.
    pub(super) fn hidden(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        spans: &mut [Span<'_>],
        scratch: &mut Scratch,
    ) -> Result<Tensor, TchError> {
        let mut step = Step {
            rope: &self.rope,
            rotation: self.rope.at(positions)?,
            scratch,
        };
        let mut hidden = self
            .embedding
            .f_index_select(0, tokens)?
            .f_to_kind(Kind::Float)?;
        for block in &self.blocks {
            hidden = block.forward(hidden, &mut step, spans)?;
        }
        rms_norm(&hidden, &self.norm, self.config.norm_eps)
    }

    /// `hidden` `[n, hidden]` -> logits `[n, vocabulary]`, float32.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, TchError> {
        self.head.forward(hidden)?.f_to_kind(Kind::Float)
    }
}

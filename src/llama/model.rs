//! A whole model: embedding, blocks, head.

use tch::{Kind, TchError, Tensor};

use super::attention::Buffers;
use super::block::{Block, Span, Step, rms_norm};
use super::linear::Linear;
use super::names::Part;
use super::packed::Packed;
use super::rope::{Rope, Tables};
use super::weights::{self, Weights};
use super::{Compute, LlamaError, ModelConfig};
use crate::store::{Checkpoint, TensorInfo};

/// The weights of a model on a device. A forward pass reads it only.
#[derive(Debug)]
pub struct Llama {
    config: ModelConfig,
    compute: Compute,
    rope: Rope,
    context: usize,
    held: Held,
}

/// The weights in one form: what computes with them decides which.
#[derive(Debug)]
pub(super) enum Held {
    /// For the kernels, on a CPU.
    Packed(Box<Packed>),
    /// For libtorch: on a device, or because the kernels do not read a format of the file.
    Tensors(Tensors),
}

/// The weights as tensors of the compute type.
#[derive(Debug)]
pub(super) struct Tensors {
    norm_eps: f64,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    head: Linear,
    tables: Tables,
}

impl Llama {
    /// Reads all weights. `tile` queries attend together; `context` positions at most, the model's own if `None`.
    pub fn load(
        checkpoint: &Checkpoint,
        compute: Compute,
        tile: usize,
        context: Option<usize>,
    ) -> Result<Self, LlamaError> {
        Llama::load_on(super::device::threads(), checkpoint, compute, tile, context)
    }

    /// Likewise, to compute on `threads` threads of its own where the kernels read the weights.
    pub fn load_on(
        threads: usize,
        checkpoint: &Checkpoint,
        compute: Compute,
        tile: usize,
        context: Option<usize>,
    ) -> Result<Self, LlamaError> {
        let _guard = tch::no_grad_guard();
        let config = ModelConfig::read(checkpoint)?;
        let weights = Weights::new(checkpoint, &config, compute);
        let context = context.map_or(config.context, |cap| cap.min(config.context));
        let factors = weights.rope_factors()?;
        let rope = Rope::new(&config, factors.as_deref());
        let packed = match compute.device.is_cuda() {
            true => None,
            false => Packed::load(&weights, &config, tile, threads)?,
        };
        let held = match packed {
            Some(packed) => Held::Packed(Box::new(packed)),
            None => {
                let tables = rope.tables(context, compute.device)?;
                Held::Tensors(Tensors::load(&weights, &config, tile, tables)?)
            }
        };
        if let (Held::Tensors(tensors), false) = (&held, compute.device.is_cuda()) {
            tracing::warn!(
                bytes = tensors.bytes(),
                dtype = compute.dtype_name(),
                "the file has a format or a bias that the kernels do not read: its weights are widened, for libtorch"
            );
        }
        // All weights were copied; what the file has beside them is read again when it is needed.
        checkpoint.let_go();
        Ok(Llama {
            rope,
            compute,
            context,
            held,
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

    /// The weights.
    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Positions that there are.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Bytes that [`Llama::bytes`] will be after a load, by the file's head alone. A bias that the kernels do not read
    /// makes it more.
    pub fn estimated_bytes(checkpoint: &Checkpoint, compute: Compute) -> usize {
        let tensors = || checkpoint.tensors();
        let packed = !compute.device.is_cuda()
            && tensors()
                .filter(|tensor| tensor.shape.len() > 1)
                .all(|tensor| super::packed::format(tensor.dtype).is_some());
        let bytes = |tensor: &TensorInfo| match packed {
            true => tensor.dtype.bytes_for_shape(&tensor.shape),
            false => tensor.elements().checked_mul(compute.value_bytes()),
        };
        tensors().fold(0, |sum: usize, tensor| {
            sum.saturating_add(bytes(tensor).unwrap_or(usize::MAX))
        })
    }

    /// Bytes of all weights; a tied head counts once.
    pub fn bytes(&self) -> usize {
        match &self.held {
            Held::Packed(packed) => packed.bytes(),
            Held::Tensors(tensors) => tensors.bytes(),
        }
    }
}

impl Tensors {
    fn load(
        weights: &Weights<'_>,
        config: &ModelConfig,
        tile: usize,
        tables: Tables,
    ) -> Result<Self, LlamaError> {
        let (vocab, hidden) = (config.vocab, config.hidden);
        let embedding = weights.weight(Part::Embedding, &[vocab, hidden])?;
        let head = if weights.has(Part::Head) {
            Linear::stacked(weights, &[(Part::Head, vocab)], hidden)?
        } else {
            Linear::shared(&embedding)
        };
        let blocks = (0..config.layers).map(|index| Block::load(weights, config, index, tile));
        Ok(Tensors {
            norm_eps: config.norm_eps,
            embedding,
            head,
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: weights.norm(Part::FinalNorm)?,
            tables,
        })
    }

    fn bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        let tied = self.head.shares(&self.embedding);
        let head = if tied { 0 } else { self.head.bytes() };
        weights::bytes(&self.embedding) + blocks + weights::bytes(&self.norm) + head
    }

    /// Runs the spans' `tokens`, one after the other in `[n]`, at `positions` `[n]`. Returns the normed hidden state
    /// `[n, hidden]`.
    pub(super) fn hidden(
        &self,
        tokens: &Tensor,
        positions: &Tensor,
        spans: &mut [Span<'_>],
        rope: &Rope,
        scratch: &mut Buffers,
    ) -> Result<Tensor, TchError> {
        let mut step = Step {
            rope,
            rotation: self.tables.at(positions)?,
            scratch,
        };
        let mut hidden = self
            .embedding
            .f_index_select(0, tokens)?
            .f_to_kind(Kind::Float)?;
        for block in &self.blocks {
            hidden = block.forward(hidden, &mut step, spans)?;
        }
        rms_norm(&hidden, &self.norm, self.norm_eps)
    }

    /// `hidden` `[n, hidden]` -> logits `[n, vocabulary]`, float32.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, TchError> {
        self.head.forward(hidden)?.f_to_kind(Kind::Float)
    }
}

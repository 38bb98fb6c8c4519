//! A model of the Llama family with gradients, on the host.
//!
//! No graph is recorded: a block's backward pass is written beside its forward pass, so what is kept between the two is
//! chosen by hand and all memory is reused from pass to pass. What the same input goes through, queries, keys and values or
//! gate and up, is one product. Everything is deterministic: the same passes leave the same bits.

mod assembly;
mod block;
mod dropout;
mod error;
mod head;
mod linear;
mod lora;
mod options;
mod parameter;
mod pass;
mod processor;
mod source;
mod tensor;
#[cfg(test)]
pub(crate) mod tests;

pub use crate::data::Objective;
pub use error::NetworkError;
pub(super) use head::LOGITS;
pub use lora::LoraSpec;
pub use options::{Freeze, NetworkOptions, Precision};
pub use parameter::{Parameter, ParameterMut, Role};
pub use pass::{Cost, Moment, Pass};
pub use processor::Processor;
pub use source::SpecialTokens;
pub(super) use source::has_head;

use assembly::{Assembly, Origin};
use block::{Block, Kept, Step};
use linear::Compute;
use tensor::Tensor;

use crate::ids::TokenId;
use crate::kernels::training::rms_norm_backward;
use crate::kernels::{Aligned, rms_norm};
use crate::llama::{ModelConfig, Part, Rope};
use crate::store::Checkpoint;

/// What dropout is drawn from.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    seed: u64,
    moment: Moment,
}

/// A model and the gradients of what is trained of it.
pub struct Network {
    config: ModelConfig,
    options: NetworkOptions,
    context: usize,
    special: SpecialTokens,
    processor: Processor,
    rope: Rope,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    /// `None` when it is tied to the embedding.
    head: Option<Tensor>,
    memory: Memory,
}

/// What passes use one after the other.
#[derive(Debug, Default)]
struct Memory {
    /// The positions that `angles` are of.
    positions: Vec<usize>,
    angles: Vec<(Vec<f32>, Vec<f32>)>,
    /// The residual stream before each block, and after the last.
    streams: Vec<Aligned>,
    kept: Vec<Kept>,
    /// The gradient of the residual stream.
    dstream: Aligned,
    picked: Aligned,
    normed: Aligned,
    dpicked: Aligned,
    dnormed: Aligned,
    block: block::Scratch,
    head: head::Scratch,
}

/// The rows of an objective that count.
struct Counted {
    rows: Vec<usize>,
    targets: Vec<TokenId>,
    weights: Vec<f32>,
}

impl Network {
    /// Reads a model: a GGUF file, or a folder of Hugging Face's.
    ///
    /// # Errors
    /// If the model is not of the family, has a part that cannot be trained here, or does not fit the options.
    pub fn open(checkpoint: &Checkpoint, options: NetworkOptions) -> Result<Self, NetworkError> {
        let (config, special) = source::read(checkpoint)?;
        let head = source::has_head(checkpoint);
        Self::assemble(Origin::File(checkpoint), config, special, head, options)
    }

    /// Draws a model: normal with a deviation of 0.02, outputs to the residual stream by `√(2 · layers)` less
    /// ([GPT-2](https://openai.com/index/better-language-models/)), norms 1.
    ///
    /// # Errors
    /// If the options do not fit.
    pub fn random(
        config: &ModelConfig,
        tied: bool,
        options: NetworkOptions,
    ) -> Result<Self, NetworkError> {
        if config.architecture == "qwen2" {
            let reason = "its biases are not drawn: set the architecture to llama";
            return Err(NetworkError::unsupported("a new qwen2 model", reason));
        }
        let origin = Origin::seeded(options.seed);
        let mut config = config.clone();
        // Rows as Hugging Face orders them: there is no file to say otherwise.
        config.interleaved_rope = false;
        Self::assemble(origin, config, SpecialTokens::default(), !tied, options)
    }

    fn assemble(
        origin: Origin<'_>,
        config: ModelConfig,
        special: SpecialTokens,
        head: bool,
        options: NetworkOptions,
    ) -> Result<Self, NetworkError> {
        let context = options.check(&config)?;
        let processor = Processor::new(options.threads)?;
        let mut assembly = Assembly {
            origin,
            config: &config,
            options: &options,
            linears: 0,
            names: Vec::new(),
        };
        let embedding = assembly.embedding()?;
        let blocks: Result<Vec<_>, _> = (0..config.layers).map(|n| assembly.block(n)).collect();
        let (blocks, norm) = (blocks?, assembly.norm(Part::FinalNorm, None)?);
        let head = head.then(|| assembly.head()).transpose()?;
        let names: Vec<&str> = assembly.names.iter().map(String::as_str).collect();
        if let Some(idle) = options.lora.as_ref().and_then(|lora| lora.idle(&names)) {
            let reason = format!(
                "{idle:?} takes no linear; they are called like {}",
                names.iter().take(7).copied().collect::<Vec<_>>().join(", ")
            );
            return Err(NetworkError::option("lora.targets", reason));
        }
        Ok(Network {
            rope: Rope::new(&config, None),
            config: ModelConfig {
                interleaved_rope: false,
                ..config
            },
            options,
            context,
            special,
            processor,
            embedding,
            blocks,
            norm,
            head,
            memory: Memory::default(),
        })
    }

    /// The shape of the model; its rows lie as Hugging Face orders them, whatever the file's order was.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How it is trained.
    pub fn options(&self) -> &NetworkOptions {
        &self.options
    }

    /// The tokens that begin and end texts, as far as the model's file says.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.special
    }

    /// Sets the tokens that begin and end texts, for a model that was drawn.
    pub fn set_special_tokens(&mut self, special: SpecialTokens) {
        self.special = special;
    }

    /// Whether the head is the embedding.
    pub fn is_tied(&self) -> bool {
        self.head.is_none()
    }

    /// What it computes on.
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// The longest span in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Adds the gradients of a pass to those of earlier ones and says what it cost. The gradient is of the weighted sum
    /// of losses: whoever wants the mean divides by the weights of all passes of a step
    /// ([`crate::train::optimizer::Optimizer::clip`]).
    ///
    /// # Errors
    /// If the pass does not fit the model.
    pub fn learn(&mut self, pass: &Pass, moment: Moment) -> Result<Cost, NetworkError> {
        pass.check(self.config.vocab, self.context)?;
        let drawn = Drawn {
            seed: self.options.seed,
            moment,
        };
        let counted = Counted::of(&pass.objective);
        let mut losses = vec![0.0; counted.rows.len()];
        let floor = self.floor();
        self.forward(pass, Some(drawn), floor);
        self.head_losses(&counted, &mut losses, true);
        self.back(pass, drawn, floor);
        let weighted = losses.iter().zip(&counted.weights);
        Ok(Cost {
            loss_sum: weighted.map(|(l, w)| f64::from(*l) * f64::from(*w)).sum(),
            weight: counted.weights.iter().map(|w| f64::from(*w)).sum(),
            tokens: pass.ids.len(),
        })
    }

    /// The loss of each row of the objective in nats, unweighted, without dropout; 0 for rows of weight 0.
    ///
    /// # Errors
    /// If the pass does not fit the model.
    pub fn evaluate(&mut self, pass: &Pass) -> Result<Vec<f32>, NetworkError> {
        pass.check(self.config.vocab, self.context)?;
        let counted = Counted::of(&pass.objective);
        let mut losses = vec![0.0; counted.rows.len()];
        self.forward(pass, None, usize::MAX);
        self.head_losses(&counted, &mut losses, false);
        let mut found = losses.into_iter();
        let weights = pass.objective.weights.iter();
        let loss = |weight: &f32| match *weight {
            0.0 => 0.0,
            _ => found.next().unwrap_or_default(),
        };
        Ok(weights.map(loss).collect())
    }

    /// The logits of each row of the objective, `[rows, vocab]`, whatever its weight, without dropout.
    ///
    /// # Errors
    /// If the pass does not fit the model.
    pub fn logits(&mut self, pass: &Pass) -> Result<Vec<f32>, NetworkError> {
        pass.check(self.config.vocab, self.context)?;
        self.forward(pass, None, usize::MAX);
        self.pick(&pass.objective.rows);
        let Self {
            memory,
            processor,
            options,
            head,
            embedding,
            ..
        } = self;
        let compute = Compute {
            processor,
            arithmetic: options.precision.arithmetic(),
            learning: None,
        };
        let normed = memory
            .normed
            .take(pass.objective.rows.len() * embedding.cols());
        let head = head.as_ref().unwrap_or(embedding);
        Ok(head::logits(head, compute, normed, &mut memory.head))
    }

    /// The lowest block whose own weights are trained or that hands gradients on; as many as there are blocks when only
    /// what follows them is trained.
    fn floor(&self) -> usize {
        if self.embedding.is_trained() {
            return 0;
        }
        let trained = self.blocks.iter().position(Block::is_trained);
        trained.unwrap_or(self.blocks.len())
    }

    /// Where block `index` keeps its activations: what no backward pass reads shares one place.
    fn place(&self, index: usize, floor: usize) -> usize {
        match self.options.recompute || index < floor {
            true => 0,
            false => 1 + index,
        }
    }

    /// Fills the streams, and what blocks from `floor` on keep.
    fn forward(&mut self, pass: &Pass, learning: Option<Drawn>, floor: usize) {
        let places: Vec<usize> = (0..self.blocks.len())
            .map(|index| self.place(index, floor))
            .collect();
        let Self {
            memory,
            blocks,
            config,
            processor,
            options,
            embedding,
            rope,
            ..
        } = self;
        if memory.positions != pass.positions {
            memory.angles = pass.positions.iter().map(|&p| rope.position(p)).collect();
            memory.positions.clone_from(&pass.positions);
        }
        memory
            .streams
            .resize_with(blocks.len() + 1, Aligned::default);
        memory.kept.resize_with(blocks.len() + 1, Kept::default);
        let size = pass.ids.len() * config.hidden;
        if let Some(first) = memory.streams.first_mut() {
            let rows = first.take(size).chunks_exact_mut(config.hidden);
            for (row, &id) in rows.zip(&pass.ids) {
                embedding.row(id as usize, row);
            }
        }
        let step = Step {
            compute: Compute {
                processor,
                arithmetic: options.precision.arithmetic(),
                learning,
            },
            config,
            spans: &pass.spans,
            angles: &memory.angles,
        };
        for (index, (block, place)) in blocks.iter_mut().zip(places).enumerate() {
            if let [x, out, ..] = &mut memory.streams[index..] {
                let (x, out) = (x.take(size), out.take(size));
                block.forward(&step, x, &mut memory.kept[place], out, &mut memory.block);
            }
        }
    }

    /// The normed last states of `rows`, into `memory.picked` and `memory.normed`.
    fn pick(&mut self, rows: &[usize]) {
        let hidden = self.config.hidden;
        let memory = &mut self.memory;
        let total = memory.positions.len() * hidden;
        let picked = memory.picked.take(rows.len() * hidden);
        if let Some(last) = memory.streams.last_mut() {
            let last = last.take(total);
            for (out, &row) in picked.chunks_exact_mut(hidden).zip(rows) {
                out.copy_from_slice(&last[row * hidden..][..hidden]);
            }
        }
        let normed = memory.normed.take(rows.len() * hidden);
        let (level, pool) = (self.processor.level, &self.processor.pool);
        let eps = self.config.norm_eps as f32;
        rms_norm(level, pool, picked, self.norm.floats(), eps, normed);
    }

    /// Losses of the counted rows; with `gradient`, also the gradients of the head and the last norm, and that of the
    /// last stream into `memory.dstream`.
    fn head_losses(&mut self, counted: &Counted, losses: &mut [f32], gradient: bool) {
        self.pick(&counted.rows);
        let Self {
            memory,
            processor,
            config,
            options,
            head,
            embedding,
            norm,
            ..
        } = self;
        let compute = Compute {
            processor,
            arithmetic: options.precision.arithmetic(),
            learning: None,
        };
        let hidden = config.hidden;
        let size = counted.rows.len() * hidden;
        let normed = memory.normed.take(size);
        let dnormed = memory.dnormed.take(size);
        head::losses(
            head.as_mut().unwrap_or(embedding),
            compute,
            normed,
            (&counted.targets, &counted.weights),
            losses,
            gradient.then_some(&mut *dnormed),
            &mut memory.head,
        );
        if !gradient {
            return;
        }
        let (picked, dpicked) = (memory.picked.take(size), memory.dpicked.take(size));
        dpicked.fill(0.0);
        let (level, pool) = (processor.level, &*processor.pool);
        let eps = config.norm_eps as f32;
        let (weight, of_weight) = norm.floats_and_gradient();
        rms_norm_backward(
            level, pool, picked, weight, eps, dnormed, dpicked, of_weight,
        );
        let dstream = memory.dstream.take(memory.positions.len() * hidden);
        dstream.fill(0.0);
        for (from, &row) in dpicked.chunks_exact(hidden).zip(&counted.rows) {
            let into = &mut dstream[row * hidden..][..hidden];
            into.iter_mut().zip(from).for_each(|(x, d)| *x += d);
        }
    }

    /// The gradients of the blocks from `floor` on, and of the embedding.
    fn back(&mut self, pass: &Pass, drawn: Drawn, floor: usize) {
        let places: Vec<usize> = (0..self.blocks.len())
            .map(|index| self.place(index, floor))
            .collect();
        let Self {
            memory,
            blocks,
            config,
            processor,
            options,
            embedding,
            ..
        } = self;
        let size = pass.ids.len() * config.hidden;
        let step = Step {
            compute: Compute {
                processor,
                arithmetic: options.precision.arithmetic(),
                learning: Some(drawn),
            },
            config,
            spans: &pass.spans,
            angles: &memory.angles,
        };
        let dstream = memory.dstream.take(size);
        let below = embedding.is_trained();
        for (index, block) in blocks.iter_mut().enumerate().skip(floor).rev() {
            let kept = &mut memory.kept[places[index]];
            if let [x, out, ..] = &mut memory.streams[index..] {
                let x = x.take(size);
                if options.recompute {
                    // What it makes is there already, and equal.
                    block.forward(&step, x, kept, out.take(size), &mut memory.block);
                }
                let onward = below || index > floor;
                block.back(&step, x, kept, dstream, onward, &mut memory.block);
            }
        }
        if let (_, Some(gradient)) = embedding.floats_and_gradient() {
            for (row, &id) in dstream.chunks_exact(config.hidden).zip(&pass.ids) {
                let into = &mut gradient[id as usize * config.hidden..][..config.hidden];
                into.iter_mut().zip(row).for_each(|(g, d)| *g += d);
            }
        }
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.embedding]
            .into_iter()
            .chain(self.blocks.iter().flat_map(Block::tensors))
            .chain([&self.norm])
            .chain(&self.head)
    }

    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        [&mut self.embedding]
            .into_iter()
            .chain(self.blocks.iter_mut().flat_map(Block::tensors_mut))
            .chain([&mut self.norm])
            .chain(&mut self.head)
    }

    /// All tensors that are held as floats, in a fixed order: those of a base that LoRA leaves in narrower types are not
    /// among them.
    pub fn parameters(&self) -> Vec<Parameter<'_>> {
        self.tensors().flat_map(Tensor::parameters).collect()
    }

    /// As [`Network::parameters`].
    pub fn parameters_mut(&mut self) -> Vec<ParameterMut<'_>> {
        self.tensors_mut()
            .flat_map(Tensor::parameters_mut)
            .collect()
    }

    /// Sets all gradients to 0.
    pub fn zero_gradients(&mut self) {
        self.tensors_mut().for_each(Tensor::zero_gradient);
    }

    /// Bytes of all weights as they are held, without gradients.
    pub fn weight_bytes(&self) -> usize {
        self.tensors().map(Tensor::bytes).sum()
    }

    /// Elements of all weights, adapters with them.
    pub fn elements(&self) -> usize {
        self.tensors().map(|t| t.rows() * t.cols()).sum()
    }

    /// Elements of those that are trained.
    pub fn trained(&self) -> usize {
        let parameters = self.parameters().into_iter();
        let trained = parameters.filter(|parameter| parameter.trainable);
        trained.map(|parameter| parameter.values.len()).sum()
    }

    /// A copy of every tensor of the model, adapters folded into their linears, under Hugging Face's names: one block at a
    /// time, as floats.
    pub fn merged(&self) -> impl Iterator<Item = (String, Vec<usize>, Vec<f32>)> {
        let plain = |tensor: &Tensor| {
            let copies = tensor.copies().into_iter();
            let named = copies.map(|(piece, shape, values)| (piece.name.clone(), shape, values));
            named.collect::<Vec<_>>()
        };
        let block = move |block: &Block| {
            let mut all = plain(&block.attention_norm);
            all.extend(plain(&block.feed_forward_norm));
            for linear in block.linears() {
                all.extend(linear.merged(&self.processor));
            }
            all
        };
        let outer = [&self.embedding, &self.norm].into_iter().chain(&self.head);
        let outer = outer.flat_map(plain);
        outer.chain(self.blocks.iter().flat_map(block))
    }
}

impl Counted {
    fn of(objective: &Objective) -> Counted {
        let all = objective.rows.iter().zip(&objective.targets);
        let all = all.zip(&objective.weights).filter(|(_, w)| **w != 0.0);
        let mut counted = Counted {
            rows: Vec::new(),
            targets: Vec::new(),
            weights: Vec::new(),
        };
        for ((&row, &target), &weight) in all {
            counted.rows.push(row);
            counted.targets.push(target);
            counted.weights.push(weight);
        }
        counted
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("config", &self.config)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

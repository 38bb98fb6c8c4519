//! Where a network's weights come from: a checkpoint's tensors, or draws.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::block::Block;
use super::linear::Linear;
use super::lora::Adapter;
use super::options::NetworkOptions;
use super::parameter::Role;
use super::tensor::{Held, Piece, Tensor};
use super::{NetworkError, Precision};
use crate::llama::{LlamaError, ModelConfig, Part, straight_rows};
use crate::store::Checkpoint;
use crate::store::quant::{self, DType};

/// The deviation of drawn weights, as Llama's and GPT-2's.
const DEVIATION: f32 = 0.02;

/// Where the elements of tensors come from.
pub(super) enum Origin<'a> {
    File(&'a Checkpoint),
    Draws(Box<ChaCha8Rng>),
}

impl Origin<'_> {
    pub(super) fn seeded(seed: u64) -> Self {
        Origin::Draws(Box::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

/// Makes tensors in order, and counts linears.
pub(super) struct Assembly<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) config: &'a ModelConfig,
    pub(super) options: &'a NetworkOptions,
    pub(super) linears: u64,
    /// Names of all linears above the frozen layers, for the patterns of adapters.
    pub(super) names: Vec<String>,
}

/// The name without `.weight` that Hugging Face gives `part`.
fn linear_name(part: Part) -> String {
    part.name(false)
}

impl Assembly<'_> {
    /// Whether `part` is trained itself; `layer` is `None` outside of the blocks.
    fn is_trained(&self, part: Part, layer: Option<usize>) -> bool {
        let freeze = self.options.freeze;
        self.options.lora.is_none()
            && layer.is_none_or(|layer| layer >= freeze.layers)
            && !(freeze.embeddings && part == Part::Embedding)
    }

    /// Values of `part`; only matrices are held as blocks.
    fn values(
        &mut self,
        part: Part,
        suffix: &str,
        rows: usize,
        cols: Option<usize>,
    ) -> Result<Held, NetworkError> {
        let count = rows * cols.unwrap_or(1);
        let checkpoint = match &mut self.origin {
            Origin::File(checkpoint) => *checkpoint,
            Origin::Draws(rng) => {
                let residual = matches!(part, Part::AttentionOut(_) | Part::Down(_));
                let scale = match residual {
                    // As GPT-2: each block adds twice to the residual stream.
                    true => DEVIATION / (2.0 * self.config.layers as f32).sqrt(),
                    false => DEVIATION,
                };
                let draw = |_| {
                    let normal: f32 = StandardNormal.sample(rng);
                    normal * scale
                };
                let drawn = match cols {
                    None => return Ok(Held::Float(vec![1.0; count])),
                    Some(_) => (0..count).map(draw).collect(),
                };
                return Ok(self.held(drawn, cols));
            }
        };
        let name = format!("{}.{suffix}", part.name(checkpoint.metadata().is_some()));
        let expected: Vec<usize> = [Some(rows), cols].into_iter().flatten().collect();
        if let Some(info) = checkpoint.get(&name) {
            if info.shape != expected {
                let found = info.shape.clone();
                return Err(LlamaError::Shape {
                    name,
                    found,
                    expected,
                }
                .into());
            }
            let blocks =
                self.options.quantised && cols.is_some() && info.dtype.block_elements() > 1;
            if blocks {
                let bytes = checkpoint.bytes(&name)?;
                let order = straight_rows(self.config, part, rows);
                return Ok(Held::Blocks(info.dtype, ordered(bytes, rows, order)));
            }
        }
        let mut values = Vec::new();
        checkpoint.read_f32(&name, &mut values)?;
        if let Some(order) = straight_rows(self.config, part, rows) {
            values = ordered(&values, rows, Some(order));
        }
        Ok(match cols {
            None => Held::Float(values),
            Some(_) => self.held(values, cols),
        })
    }

    /// A matrix of floats in the form that this run holds it in.
    fn held(&self, values: Vec<f32>, cols: Option<usize>) -> Held {
        let narrow = match (&self.options.lora, self.options.quantised) {
            (None, _) => None,
            (Some(_), true) if cols.is_some_and(|cols| cols.is_multiple_of(32)) => {
                Some(DType::Q8_0)
            }
            (Some(_), _) if self.options.precision == Precision::Bfloat16 => Some(DType::BF16),
            _ => None,
        };
        let stored = narrow.and_then(|dtype| Some((dtype, quant::encode(dtype, &values)?)));
        match stored {
            Some((dtype, bytes)) => Held::Blocks(dtype, bytes),
            None => Held::Float(values),
        }
    }

    fn tensor(
        &mut self,
        parts: &[(Part, usize)],
        suffix: &str,
        cols: Option<usize>,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Tensor, NetworkError> {
        let mut pieces = Vec::with_capacity(parts.len());
        for &(part, rows) in parts {
            let name = format!("{}.{suffix}", linear_name(part));
            let held = self.values(part, suffix, rows, cols)?;
            pieces.push((Piece { name, rows }, held));
        }
        let trained = parts.iter().all(|&(part, _)| self.is_trained(part, layer));
        Ok(Tensor::new(pieces, cols, role, trained))
    }

    pub(super) fn embedding(&mut self) -> Result<Tensor, NetworkError> {
        let (rows, cols) = (self.config.vocab, Some(self.config.hidden));
        self.tensor(
            &[(Part::Embedding, rows)],
            "weight",
            cols,
            Role::Embedding,
            None,
        )
    }

    pub(super) fn head(&mut self) -> Result<Tensor, NetworkError> {
        let (rows, cols) = (self.config.vocab, Some(self.config.hidden));
        self.tensor(&[(Part::Head, rows)], "weight", cols, Role::Head, None)
    }

    pub(super) fn norm(
        &mut self,
        part: Part,
        layer: Option<usize>,
    ) -> Result<Tensor, NetworkError> {
        self.tensor(
            &[(part, self.config.hidden)],
            "weight",
            None,
            Role::Norm,
            layer,
        )
    }

    fn linear(
        &mut self,
        parts: &[(Part, usize)],
        cols: usize,
        layer: usize,
    ) -> Result<Linear, NetworkError> {
        let weight = self.tensor(parts, "weight", Some(cols), Role::Matrix, Some(layer))?;
        let bias = match self.biases(parts)? {
            true => Some(self.tensor(parts, "bias", None, Role::Bias, Some(layer))?),
            false => None,
        };
        let mut adapters = Vec::new();
        let mut at = 0;
        for &(part, rows) in parts {
            let name = linear_name(part);
            let number = self.linears;
            self.linears += 1;
            if layer >= self.options.freeze.layers {
                if let Some(lora) = self.options.lora.as_ref().filter(|l| l.selects(&name)) {
                    let drawn = (self.options.seed, number);
                    adapters.push(Adapter::new(lora, &name, (at, rows, cols), drawn));
                }
                self.names.push(name);
            }
            at += rows;
        }
        Ok(Linear {
            weight,
            bias,
            adapters,
        })
    }

    /// Whether a stack has biases: all of it or nothing, and only the attention's inputs.
    fn biases(&self, parts: &[(Part, usize)]) -> Result<bool, NetworkError> {
        let Origin::File(checkpoint) = &self.origin else {
            return Ok(false);
        };
        let gguf = checkpoint.metadata().is_some();
        let named = |part: &Part| format!("{}.bias", part.name(gguf));
        let mut there = parts
            .iter()
            .filter(|(part, _)| checkpoint.get(&named(part)).is_some())
            .map(|(part, _)| *part);
        let Some(first) = there.next() else {
            return Ok(false);
        };
        let inputs = matches!(first, Part::Query(_) | Part::Key(_) | Part::Value(_));
        let inputs = inputs && self.config.architecture == "qwen2";
        match inputs && there.count() + 1 == parts.len() {
            true => Ok(true),
            false => Err(NetworkError::unsupported(
                named(&first),
                "only query, key and value of qwen2 models have biases, all three or none",
            )),
        }
    }

    pub(super) fn block(&mut self, layer: usize) -> Result<Block, NetworkError> {
        let config = self.config;
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let (hidden, inner) = (config.hidden, config.intermediate);
        let attended = [
            (Part::Query(layer), queries),
            (Part::Key(layer), keys),
            (Part::Value(layer), keys),
        ];
        let gate_up = [(Part::Gate(layer), inner), (Part::Up(layer), inner)];
        Ok(Block {
            attention_norm: self.norm(Part::AttentionNorm(layer), Some(layer))?,
            query_key_value: self.linear(&attended, hidden, layer)?,
            attention_out: self.linear(&[(Part::AttentionOut(layer), hidden)], queries, layer)?,
            feed_forward_norm: self.norm(Part::FeedForwardNorm(layer), Some(layer))?,
            gate_up: self.linear(&gate_up, hidden, layer)?,
            down: self.linear(&[(Part::Down(layer), hidden)], inner, layer)?,
        })
    }
}

/// Copies rows, in `order` if there is one.
fn ordered<T: Copy>(values: &[T], rows: usize, order: Option<Vec<usize>>) -> Vec<T> {
    let width = values.len() / rows.max(1);
    match order {
        None => values.to_vec(),
        Some(order) => order
            .into_iter()
            .flat_map(|row| values.iter().skip(row * width).take(width).copied())
            .collect(),
    }
}

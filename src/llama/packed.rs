//! The weights at their own width, and a step of few tokens on the host: no tensor, no copy between libraries.
//!
//! Decoding reads every weight once a step, so its speed is that of memory: quantised weights are read as they lie in
//! the file, repacked once for the processor. Long rows go through libtorch's products instead.

use super::attention::HostQueries;
use super::block::Span;
use super::names::Part;
use super::rope::Rope;
use super::weights::Weights;
use super::{LlamaError, ModelConfig};
use crate::ids::TokenId;
use crate::kernels::{Level, Matrix, Pool, multiply, rotate};
use crate::store::DType;

/// Tokens of one step up to which the host's own products are used.
pub(super) const MOST_TOKENS: usize = 16;

/// See the module.
pub(super) struct Packed {
    config: ModelConfig,
    embedding: Matrix,
    /// `None` when it is tied to the embedding.
    head: Option<Matrix>,
    norm: Vec<f32>,
    blocks: Vec<Block>,
    pool: Pool,
    level: Level,
}

struct Block {
    attention: super::attention::Attention,
    attention_norm: Vec<f32>,
    query_key_value: Matrix,
    bias: Option<Vec<f32>>,
    attention_out: Matrix,
    feed_forward_norm: Vec<f32>,
    gate_up: Matrix,
    down: Matrix,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed").finish_non_exhaustive()
    }
}

impl Packed {
    /// Packs all weights; `None` when the file has a format that the kernels do not read.
    pub(super) fn load(
        weights: &Weights<'_>,
        config: &ModelConfig,
        tile: usize,
        threads: usize,
    ) -> Result<Option<Self>, LlamaError> {
        let Some(embedding) = weights.packed(Part::Embedding, config.vocab, config.hidden)? else {
            return Ok(None);
        };
        let head = match weights.has(Part::Head) {
            false => None,
            true => match weights.packed(Part::Head, config.vocab, config.hidden)? {
                None => return Ok(None),
                found => found,
            },
        };
        let mut blocks = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            match Block::load(weights, config, index, tile)? {
                Some(block) => blocks.push(block),
                None => return Ok(None),
            }
        }
        let pool = Pool::new(threads).map_err(|error| LlamaError::Threads(error.to_string()))?;
        Ok(Some(Packed {
            config: config.clone(),
            embedding,
            head,
            norm: weights.norm_floats(Part::FinalNorm)?,
            blocks,
            pool,
            level: Level::best(),
        }))
    }

    /// Bytes of all weights.
    pub(super) fn bytes(&self) -> usize {
        let block = |block: &Block| {
            let matrices = [
                &block.query_key_value,
                &block.attention_out,
                &block.gate_up,
                &block.down,
            ];
            matrices.iter().map(|matrix| matrix.bytes()).sum::<usize>()
        };
        self.embedding.bytes()
            + self.head.as_ref().map_or(0, Matrix::bytes)
            + self.blocks.iter().map(block).sum::<usize>()
    }

    /// The normed hidden states of the spans' `tokens`, `[n, hidden]`, which stand at rotations `positions`.
    pub(super) fn hidden(
        &self,
        tokens: &[TokenId],
        positions: &[usize],
        spans: &mut [Span<'_>],
        rope: &Rope,
    ) -> Result<Vec<f32>, tch::TchError> {
        let width = self.config.hidden;
        let mut hidden = vec![0.0; tokens.len() * width];
        for (row, &token) in hidden.chunks_exact_mut(width).zip(tokens) {
            self.embedding.row(token as usize, row);
        }
        let angles: Vec<_> = positions.iter().map(|&p| rope.position(p)).collect();
        for block in &self.blocks {
            self.attend(block, &mut hidden, &angles, spans, rope)?;
            self.feed_forward(block, &mut hidden);
        }
        let mut normed = vec![0.0; hidden.len()];
        self.rms_norm(&hidden, &self.norm, &mut normed);
        Ok(normed)
    }

    /// `hidden` `[n, hidden]` -> logits `[n, vocabulary]`.
    pub(super) fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        self.product(head, hidden)
    }

    fn attend(
        &self,
        block: &Block,
        hidden: &mut [f32],
        angles: &[(Vec<f32>, Vec<f32>)],
        spans: &mut [Span<'_>],
        rope: &Rope,
    ) -> Result<(), tch::TchError> {
        let (heads, kv_heads) = (self.config.heads, self.config.kv_heads);
        let dim = self.config.head_dim;
        let mut normed = vec![0.0; hidden.len()];
        self.rms_norm(hidden, &block.attention_norm, &mut normed);
        let mut all = self.product(&block.query_key_value, &normed);
        let width = (heads + 2 * kv_heads) * dim;
        if let Some(bias) = &block.bias {
            for row in all.chunks_exact_mut(width) {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        }
        let count = angles.len();
        let part = |from: usize, len: usize| -> Vec<f32> {
            let rows = all.chunks_exact(width);
            rows.flat_map(|row| &row[from * dim..(from + len) * dim])
                .copied()
                .collect()
        };
        let plain = part(0, heads);
        let mut queries = plain.clone();
        let mut keys = part(heads, kv_heads);
        let values = part(heads + kv_heads, kv_heads);
        for (index, (cos, sin)) in angles.iter().enumerate() {
            let own = |heads: usize| index * heads * dim..(index + 1) * heads * dim;
            for head in queries[own(heads)].chunks_exact_mut(dim) {
                rotate(head, cos, sin);
            }
            for head in keys[own(kv_heads)].chunks_exact_mut(dim) {
                rotate(head, cos, sin);
            }
        }
        let layer = block.attention.layer;
        for span in spans.iter_mut() {
            let own = |width: usize| span.offset * width..(span.offset + span.tokens) * width;
            if span.cache.recalls() {
                let by_head = block.attention.by_kv_head(&queries[own(heads * dim)]);
                span.cache.recall(layer, &by_head, rope)?;
            }
            let (own_keys, own_values) = (&keys[own(kv_heads * dim)], &values[own(kv_heads * dim)]);
            span.cache.write(layer, own_keys, own_values, None)?;
        }
        let host = HostQueries {
            rotated: &queries,
            plain: &plain,
        };
        let attended = block.attention.on_host(&host, spans, count, &self.pool)?;
        let out = self.product(&block.attention_out, &attended);
        hidden.iter_mut().zip(out).for_each(|(h, o)| *h += o);
        Ok(())
    }

    fn feed_forward(&self, block: &Block, hidden: &mut [f32]) {
        let mut normed = vec![0.0; hidden.len()];
        self.rms_norm(hidden, &block.feed_forward_norm, &mut normed);
        let both = self.product(&block.gate_up, &normed);
        let inner = self.config.intermediate;
        let mut joined = Vec::with_capacity(both.len() / 2);
        for row in both.chunks_exact(2 * inner) {
            let (gate, up) = row.split_at(inner);
            joined.extend(gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u));
        }
        let out = self.product(&block.down, &joined);
        hidden.iter_mut().zip(out).for_each(|(h, o)| *h += o);
    }

    fn product(&self, weights: &Matrix, x: &[f32]) -> Vec<f32> {
        let n = x.len() / weights.cols();
        let mut out = vec![0.0; n * weights.rows()];
        multiply(self.level, &self.pool, weights, x, n, &mut out);
        out
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], out: &mut [f32]) {
        let width = weight.len();
        for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mean = row.iter().map(|v| v * v).sum::<f32>() / width as f32;
            let scale = 1.0 / (mean + self.config.norm_eps as f32).sqrt();
            for ((o, x), w) in out.iter_mut().zip(row).zip(weight) {
                *o = x * scale * w;
            }
        }
    }
}

impl Block {
    fn load(
        weights: &Weights<'_>,
        config: &ModelConfig,
        index: usize,
        tile: usize,
    ) -> Result<Option<Self>, LlamaError> {
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let (hidden, inner) = (config.hidden, config.intermediate);
        let stack =
            |parts: &[(Part, usize)], inputs: usize| -> Result<Option<Matrix>, LlamaError> {
                let mut matrices = Vec::with_capacity(parts.len());
                for &(part, rows) in parts {
                    match weights.packed(part, rows, inputs)? {
                        Some(matrix) => matrices.push(matrix),
                        None => return Ok(None),
                    }
                }
                Matrix::stacked(matrices)
                    .map(Some)
                    .map_err(|error| LlamaError::Packing(error.to_string()))
            };
        let attended = [
            (Part::Query(index), queries),
            (Part::Key(index), keys),
            (Part::Value(index), keys),
        ];
        let (Some(query_key_value), Some(attention_out), Some(gate_up), Some(down)) = (
            stack(&attended, hidden)?,
            stack(&[(Part::AttentionOut(index), hidden)], queries)?,
            stack(
                &[(Part::Gate(index), inner), (Part::Up(index), inner)],
                hidden,
            )?,
            stack(&[(Part::Down(index), hidden)], inner)?,
        ) else {
            return Ok(None);
        };
        // Only the attention's inputs have biases in the family.
        for (part, size) in [
            (Part::AttentionOut(index), hidden),
            (Part::Gate(index), inner),
            (Part::Down(index), hidden),
        ] {
            if weights.bias_floats(part, size)?.is_some() {
                return Ok(None);
            }
        }
        let mut bias = Vec::new();
        for (part, size) in attended {
            bias.extend(weights.bias_floats(part, size)?.unwrap_or_default());
        }
        Ok(Some(Block {
            attention: super::attention::Attention::of(config, index, tile),
            attention_norm: weights.norm_floats(Part::AttentionNorm(index))?,
            bias: (!bias.is_empty()).then_some(bias),
            query_key_value,
            attention_out,
            feed_forward_norm: weights.norm_floats(Part::FeedForwardNorm(index))?,
            gate_up,
            down,
        }))
    }
}

/// The kernels' format of a file's type, if they read it.
pub(super) fn format(dtype: DType) -> Option<crate::kernels::Format> {
    use crate::kernels::Format;
    Some(match dtype {
        DType::F32 => Format::F32,
        DType::F16 => Format::F16,
        DType::BF16 => Format::Bf16,
        DType::Q4_0 => Format::Q4_0,
        DType::Q4_1 => Format::Q4_1,
        DType::Q8_0 => Format::Q8_0,
        DType::Q4_K => Format::Q4K,
        DType::Q6_K => Format::Q6K,
        _ => return None,
    })
}

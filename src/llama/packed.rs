//! The weights at their own width, and a step on the host: no tensor, no copy between libraries.
//!
//! Decoding reads every weight once a step, so its speed is that of memory: quantised weights are read as they lie in
//! the file, repacked once for the processor. Long rows widen the same weights panel by panel, in the caches.

use std::ops::Range;

use super::attention::HostQueries;
use super::block::Span;
use super::names::Part;
use super::rope::Rope;
use super::weights::Weights;
use super::{Compute, LlamaError, ModelConfig};
use crate::ids::TokenId;
use crate::kernels::{Level, Matrix, Pool, Precision, gate, multiply_as, rms_norm, rotate};
use crate::sched::Phase;
use crate::store::DType;

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
    compute: Compute,
}

/// What is known of all rows of a step.
struct Inputs {
    /// Cosines and sines of their positions.
    angles: Vec<(Vec<f32>, Vec<f32>)>,
    runs: Vec<Run>,
}

/// Neighbouring rows that are computed in one precision.
struct Run {
    rows: Range<usize>,
    precision: Precision,
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

/// What a step's blocks compute one after the other in the same memory: for a long row that is megabytes, which would
/// be cleared for every block.
#[derive(Default)]
struct Buffers {
    normed: Vec<f32>,
    /// Queries, keys and values of every token.
    all: Vec<f32>,
    /// The inputs of the gate.
    both: Vec<f32>,
    joined: Vec<f32>,
    out: Vec<f32>,
    queries: Vec<f32>,
    /// Queries before rotation.
    plain: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
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
            compute: weights.compute(),
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
        let inputs = Inputs {
            angles: positions.iter().map(|&p| rope.position(p)).collect(),
            runs: self.runs(spans.iter().map(|span| (span.phase, span.tokens))),
        };
        let mut buffers = Buffers::default();
        for block in &self.blocks {
            self.attend(block, &mut hidden, &inputs, (spans, rope), &mut buffers)?;
            self.feed_forward(block, &mut hidden, &inputs.runs, &mut buffers);
        }
        self.rms_norm(&hidden, &self.norm, &mut buffers.normed);
        Ok(buffers.normed)
    }

    /// `hidden` `[n, hidden]` -> logits `[n, vocabulary]`; `parts` are the phases of so many rows each.
    pub(super) fn logits(
        &self,
        hidden: &[f32],
        parts: impl Iterator<Item = (Phase, usize)>,
    ) -> Vec<f32> {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let mut logits = Vec::new();
        self.product(head, hidden, &self.runs(parts), &mut logits);
        logits
    }

    /// What a row is computed in depends on its phase and never on its neighbours: a prompt's rows are the same however
    /// it is cut, and an answer's however many run beside it.
    fn runs(&self, parts: impl Iterator<Item = (Phase, usize)>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut end = 0;
        for (phase, count) in parts {
            let precision = match phase {
                Phase::Prompt { .. } => self.compute.prompts,
                Phase::Decode => self.compute.decoding,
            };
            let rows = end..end + count;
            end = rows.end;
            match runs.last_mut() {
                Some(last) if last.precision == precision => last.rows.end = end,
                _ => runs.push(Run { rows, precision }),
            }
        }
        runs
    }

    fn attend(
        &self,
        block: &Block,
        hidden: &mut [f32],
        Inputs { angles, runs }: &Inputs,
        (spans, rope): (&mut [Span<'_>], &Rope),
        buffers: &mut Buffers,
    ) -> Result<(), tch::TchError> {
        let (heads, kv_heads) = (self.config.heads, self.config.kv_heads);
        let dim = self.config.head_dim;
        let Buffers {
            normed,
            all,
            out,
            queries,
            plain,
            keys,
            values,
            ..
        } = buffers;
        self.rms_norm(hidden, &block.attention_norm, normed);
        self.product(&block.query_key_value, normed, runs, all);
        let width = (heads + 2 * kv_heads) * dim;
        if let Some(bias) = &block.bias {
            for row in all.chunks_exact_mut(width) {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        }
        let count = angles.len();
        for part in [&mut *plain, &mut *queries, &mut *keys, &mut *values] {
            part.clear();
        }
        for row in all.chunks_exact(width) {
            let (own, rest) = row.split_at(heads * dim);
            let (key, value) = rest.split_at(kv_heads * dim);
            plain.extend_from_slice(own);
            keys.extend_from_slice(key);
            values.extend_from_slice(value);
        }
        queries.extend_from_slice(plain);
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
                let group = block.attention.group();
                span.cache
                    .recall(layer, &by_head, group, rope, Some(&self.pool))?;
            }
            if span.drafted {
                continue;
            }
            let (own_keys, own_values) = (&keys[own(kv_heads * dim)], &values[own(kv_heads * dim)]);
            span.cache.write(layer, own_keys, own_values, None)?;
        }
        let host = HostQueries {
            rotated: queries,
            plain,
            keys,
            values,
        };
        let attended =
            (block.attention).on_host(&host, spans, count, &self.pool, self.compute.prompts)?;
        self.product(&block.attention_out, &attended, runs, out);
        hidden.iter_mut().zip(out).for_each(|(h, o)| *h += *o);
        Ok(())
    }

    fn feed_forward(&self, block: &Block, hidden: &mut [f32], runs: &[Run], buffers: &mut Buffers) {
        let Buffers {
            normed,
            both,
            out,
            joined,
            ..
        } = buffers;
        self.rms_norm(hidden, &block.feed_forward_norm, normed);
        self.product(&block.gate_up, normed, runs, both);
        joined.resize(both.len() / 2, 0.0);
        let inner = self.config.intermediate;
        gate(self.level, &self.pool, both, inner, joined);
        self.product(&block.down, joined, runs, out);
        hidden.iter_mut().zip(out).for_each(|(h, o)| *h += *o);
    }

    fn product(&self, weights: &Matrix, x: &[f32], runs: &[Run], out: &mut Vec<f32>) {
        let (cols, rows) = (weights.cols(), weights.rows());
        out.resize(x.len() / cols * rows, 0.0);
        for Run {
            rows: run,
            precision,
        } in runs
        {
            let x = &x[run.start * cols..run.end * cols];
            let out = &mut out[run.start * rows..run.end * rows];
            multiply_as(
                *precision,
                self.level,
                &self.pool,
                weights,
                x,
                run.len(),
                out,
            );
        }
    }

    fn rms_norm(&self, x: &[f32], weight: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len(), 0.0);
        let eps = self.config.norm_eps as f32;
        rms_norm(self.level, &self.pool, x, weight, eps, out);
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

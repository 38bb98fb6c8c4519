//! The weights at their own width, and a step on the host: no tensor, no copy between libraries.
//!
//! Decoding reads every weight once a step, so its speed is that of memory: quantised weights are read as they lie in
//! the file, repacked once for the processor. Long rows widen the same weights panel by panel, in the caches.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::attention::Projected;
use super::block::Span;
use super::names::Part;
use super::rope::Rope;
use super::weights::Weights;
use super::{Compute, LlamaError, ModelConfig};
use crate::ids::TokenId;
use crate::kernels::{
    Aligned, Level, Matrix, Pool, add_and_norm, expect, gate, multiply_as, rms_norm, rotate_rows,
};
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
    /// Held by the step that computes.
    rows: Mutex<Rows>,
}

/// Rows on their way through the blocks.
#[derive(Debug)]
pub(super) struct Pass {
    inputs: Inputs,
    /// The residual stream, `[n, hidden]`.
    hidden: Vec<f32>,
    /// Halves of blocks that are done,
    halves: usize,
    /// and what the last of each kind, attention and feed-forward, took.
    took: [Duration; 2],
}

/// What is known of all rows of a step.
#[derive(Debug)]
struct Inputs {
    /// Cosines and sines of their positions.
    angles: Vec<(Vec<f32>, Vec<f32>)>,
    runs: Vec<Run>,
}

/// Neighbouring rows of a kind.
#[derive(Debug)]
struct Run {
    rows: Range<usize>,
    /// Of a prompt, or of an answer.
    prompt: bool,
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

/// What one thread packs while others pack others.
enum Unit {
    Table(Matrix),
    Block(Box<Block>),
}

/// Calls `load` for so many units on all `threads`, each of which packs into memory of its own: memory that is touched for
/// the first time is cleared by the thread that touches it, which takes as long as packing. Returns what was loaded in
/// order, `None` when one is `None`.
fn together<T: Send>(
    weights: &Weights<'_>,
    threads: usize,
    units: usize,
    load: impl Fn(&Weights<'_>, usize) -> Result<Option<T>, LlamaError> + Sync,
) -> Result<Option<Vec<T>>, LlamaError> {
    let next = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    let source = weights.source();
    let work = || {
        let weights = source.weights();
        let mut loaded = Vec::new();
        while !ended.load(Ordering::Relaxed) {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                break;
            }
            let result = load(&weights, unit).transpose();
            if !matches!(result, Some(Ok(_))) {
                ended.store(true, Ordering::Relaxed);
            }
            loaded.push((unit, result));
        }
        loaded
    };
    let mut loaded = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(units))
            .map(|_| std::thread::Builder::new().spawn_scoped(scope, work))
            .collect();
        let mut loaded = work();
        for other in others {
            // A thread that did not start leaves its share to the others.
            match other.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(more)) => loaded.extend(more),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => {}
            }
        }
        loaded
    });
    loaded.sort_unstable_by_key(|(unit, _)| *unit);
    loaded
        .into_iter()
        .map(|(_, result)| result.transpose())
        .collect()
}

/// What blocks compute one after the other in the same memory, from step to step: for a prompt that is megabytes, which
/// the system would clear for every step.
#[derive(Default)]
struct Rows {
    normed: Aligned,
    /// Queries, keys and values of every token.
    all: Aligned,
    /// The inputs of the gate.
    both: Aligned,
    joined: Aligned,
    attended: Aligned,
    out: Aligned,
    logits: Aligned,
    /// Queries before rotation, where they are asked for.
    plain: Vec<f32>,
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
        let tables: &[Part] = match weights.has(Part::Head) {
            true => &[Part::Embedding, Part::Head],
            false => &[Part::Embedding],
        };
        let load = |weights: &Weights<'_>, unit: usize| match tables.get(unit) {
            Some(&part) => {
                let table = weights.packed(part, config.vocab, config.hidden)?;
                Ok(table.map(Unit::Table))
            }
            None => {
                let block = Block::load(weights, config, unit - tables.len(), tile)?;
                Ok(block.map(|block| Unit::Block(Box::new(block))))
            }
        };
        let Some(units) = together(weights, threads, tables.len() + config.layers, load)? else {
            return Ok(None);
        };
        let mut found = Vec::with_capacity(tables.len());
        let mut blocks = Vec::with_capacity(config.layers);
        for unit in units {
            match unit {
                Unit::Table(table) => found.push(table),
                Unit::Block(block) => blocks.push(*block),
            }
        }
        let mut found = found.into_iter();
        let embedding = found.next().ok_or(LlamaError::Missing("an embedding"))?;
        let head = found.next();
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
            rows: Mutex::default(),
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

    /// Begins the pass of `tokens`, which stand at rotations `positions`; `parts` are the phases of so many rows each.
    pub(super) fn begin(
        &self,
        tokens: &[TokenId],
        positions: &[usize],
        parts: impl Iterator<Item = (Phase, usize)>,
        rope: &Rope,
    ) -> Pass {
        let width = self.config.hidden;
        let mut hidden = vec![0.0; tokens.len() * width];
        for (row, &token) in hidden.chunks_exact_mut(width).zip(tokens) {
            self.embedding.row(token as usize, row);
        }
        Pass {
            inputs: Inputs {
                angles: positions.iter().map(|&p| rope.position(p)).collect(),
                runs: self.runs(parts),
            },
            hidden,
            halves: 0,
            took: [Duration::ZERO; 2],
        }
    }

    /// Computes further halves of blocks (attention, feed-forward) of a pass with its spans, at least one, and no more
    /// once `until` is past or would be after another. Returns the normed hidden states, `[n, hidden]`, when all are
    /// done.
    pub(super) fn go_on(
        &self,
        pass: &mut Pass,
        spans: &mut [Span<'_>],
        rope: &Rope,
        until: Option<Instant>,
    ) -> Result<Option<Vec<f32>>, tch::TchError> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let Pass {
            inputs,
            hidden,
            halves,
            took,
        } = pass;
        let eps = self.config.norm_eps as f32;
        let normed = rows.normed.take(hidden.len());
        let norm = self.norm_before(*halves);
        rms_norm(self.level, &self.pool, hidden, norm, eps, normed);
        let mut last = Instant::now();
        while let Some(block) = self.blocks.get(*halves / 2) {
            let next = self.blocks.get(*halves / 2 + 1);
            match *halves % 2 {
                0 => self.attend(block, inputs, (spans, rope), &mut rows)?,
                _ => self.feed_forward(block, next, inputs, &mut rows),
            }
            let half = *halves % 2;
            *halves += 1;
            self.add_and_norm(hidden, self.norm_before(*halves), &mut rows);
            let now = Instant::now();
            took[half] = now - last;
            last = now;
            // What follows the last block takes time, too.
            if until.is_some_and(|until| now + took[1 - half] > until) {
                return Ok(None);
            }
        }
        Ok(Some(rows.normed.take(hidden.len()).to_vec()))
    }

    /// What the residual stream is normed with before a half of a block, or after all of them.
    fn norm_before(&self, half: usize) -> &[f32] {
        let block = self.blocks.get(half / 2);
        block.map_or(&self.norm, |block| match half % 2 {
            0 => &block.attention_norm,
            _ => &block.feed_forward_norm,
        })
    }

    /// Parts of a pass between which it can be put off.
    pub(super) fn halves(&self) -> usize {
        2 * self.blocks.len()
    }

    /// Hands `hidden` `[n, hidden]` as logits `[n, vocabulary]` to `take`; `parts` are the phases of so many rows each.
    pub(super) fn logits<T>(
        &self,
        hidden: &[f32],
        parts: impl Iterator<Item = (Phase, usize)>,
        take: impl FnOnce(&[f32]) -> T,
    ) -> T {
        let head = self.head();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = self.blocks.first() {
            expect(&self.pool, &first.query_key_value);
        }
        let n = hidden.len() / self.config.hidden;
        let logits = rows.logits.take(n * self.config.vocab);
        self.product(head, hidden, &self.runs(parts), logits);
        take(logits)
    }

    fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// The rows of `parts`, so many of each phase.
    fn runs(&self, parts: impl Iterator<Item = (Phase, usize)>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut end = 0;
        for (phase, count) in parts {
            let prompt = matches!(phase, Phase::Prompt { .. });
            let rows = end..end + count;
            end = rows.end;
            match runs.last_mut() {
                Some(last) if last.prompt == prompt => last.rows.end = end,
                _ => runs.push(Run { rows, prompt }),
            }
        }
        runs
    }

    /// `rows.normed` -> `rows.out`.
    fn attend(
        &self,
        block: &Block,
        Inputs { angles, runs }: &Inputs,
        (spans, rope): (&mut [Span<'_>], &Rope),
        rows: &mut Rows,
    ) -> Result<(), tch::TchError> {
        let (n, hidden) = (angles.len(), self.config.hidden);
        let (heads, kv_heads) = (self.config.heads, self.config.kv_heads);
        let dim = self.config.head_dim;
        let width = (heads + 2 * kv_heads) * dim;
        let all = rows.all.take(n * width);
        let normed = rows.normed.take(n * hidden);
        expect(&self.pool, &block.attention_out);
        self.product(&block.query_key_value, normed, runs, all);
        if let Some(bias) = &block.bias {
            for row in all.chunks_exact_mut(width) {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        }
        let plain = &mut rows.plain;
        plain.clear();
        if spans.iter().any(|span| span.cache.policy().need().queries) {
            for row in all.chunks_exact(width) {
                plain.extend_from_slice(&row[..heads * dim]);
            }
        }
        let shape = (width, heads + kv_heads, dim);
        rotate_rows(self.level, &self.pool, all, shape, angles);
        let projected = Projected {
            rows: all,
            width,
            plain,
        };
        let attended = rows.attended.take(n * heads * dim);
        let precision = self.compute.attention;
        (block.attention).on_host(&projected, spans, rope, &self.pool, precision, attended)?;
        expect(&self.pool, &block.gate_up);
        self.product(
            &block.attention_out,
            attended,
            runs,
            rows.out.take(n * hidden),
        );
        Ok(())
    }

    /// `rows.normed` -> `rows.out`.
    fn feed_forward(
        &self,
        block: &Block,
        next: Option<&Block>,
        Inputs { angles, runs }: &Inputs,
        rows: &mut Rows,
    ) {
        let (n, hidden, inner) = (angles.len(), self.config.hidden, self.config.intermediate);
        let both = rows.both.take(n * 2 * inner);
        expect(&self.pool, &block.down);
        self.product(&block.gate_up, rows.normed.take(n * hidden), runs, both);
        let joined = rows.joined.take(n * inner);
        gate(self.level, &self.pool, both, inner, joined);
        let next = next.map_or_else(|| self.head(), |next| &next.query_key_value);
        expect(&self.pool, next);
        self.product(&block.down, joined, runs, rows.out.take(n * hidden));
    }

    /// Adds what a half of a block computed, `rows.out`, to the residual stream, and norms that into `rows.normed`.
    fn add_and_norm(&self, hidden: &mut [f32], weight: &[f32], rows: &mut Rows) {
        let norm = (weight, self.config.norm_eps as f32);
        let (out, normed) = (rows.out.take(hidden.len()), rows.normed.take(hidden.len()));
        add_and_norm(self.level, &self.pool, out, hidden, norm, normed);
    }

    /// What a row is computed in depends on the weights and on whether it is of a prompt, and never on its neighbours: a
    /// prompt's rows are the same however it is cut, and an answer's however many run beside it.
    fn product(&self, weights: &Matrix, x: &[f32], runs: &[Run], out: &mut [f32]) {
        let (cols, rows) = (weights.cols(), weights.rows());
        let (level, pool) = (self.level, &self.pool);
        let quantised = weights.is_quantised();
        for run in runs {
            let precision = self.compute.precision(quantised, run.prompt);
            let x = &x[run.rows.start * cols..run.rows.end * cols];
            let out = &mut out[run.rows.start * rows..run.rows.end * rows];
            multiply_as(precision, level, pool, weights, x, run.rows.len(), out);
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

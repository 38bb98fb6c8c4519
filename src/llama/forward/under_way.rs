//! Rows on their way through the blocks, at once or over several steps.

use std::sync::Arc;
use std::time::Instant;

use tch::{Kind, TchError, Tensor};

use super::super::block::Span;
use super::super::cache::SequenceCache;
use super::super::model::Held;
use super::super::node::Node;
use super::super::packed::Pass;
use super::super::reading::Reading;
use super::{LlamaForward, Sequence, guesses};
use crate::ids::{SeqId, TokenId};
use crate::sched::{ForwardError, Phase, Plan, Row, RowOutput, Want};

/// Rows that are being computed.
#[derive(Debug)]
pub(super) struct UnderWay {
    rows: Vec<Row>,
    /// Of each row, how many of its first tokens are not computed, since a shared prefix held them.
    skipped: Vec<usize>,
    parts: Vec<Part>,
    /// Those of all parts.
    tokens: Vec<TokenId>,
    positions: Vec<usize>,
    pass: Option<Pass>,
}

/// What of a row is computed.
#[derive(Debug)]
struct Part {
    /// Its place among the rows.
    row: usize,
    /// Where its tokens begin among those of all.
    offset: usize,
    tokens: usize,
    reading: Reading,
}

/// Hidden states, `[tokens, hidden]`, where they were computed.
enum Hidden {
    Host(Vec<f32>),
    Device(Tensor),
}

impl LlamaForward {
    /// Makes room for the tokens of `rows` in their caches.
    pub(super) fn begin(&mut self, rows: Vec<Row>) -> Result<UnderWay, ForwardError> {
        let context = self.model.context();
        let mut under_way = UnderWay {
            rows: Vec::with_capacity(rows.len()),
            skipped: Vec::with_capacity(rows.len()),
            parts: Vec::with_capacity(rows.len()),
            tokens: Vec::new(),
            positions: Vec::new(),
            pass: None,
        };
        for row in rows {
            let sequence = self.sequences.get_mut(&row.seq);
            let cache = &mut sequence
                .ok_or(ForwardError::UnknownSequence(row.seq))?
                .cache;
            // Nobody has said which guesses stay: all do.
            if let Some(all) = cache.undecided() {
                cache.keep(all)?;
            }
            if cache.seen() < row.start {
                return Err(ForwardError::UnknownSequence(row.seq));
            }
            let skip = (cache.seen() - row.start).min(row.tokens.len());
            let count = row.tokens.len() - skip;
            if count > 0 {
                if !cache.make_room(count, context, self.model.rope())? {
                    return Err(ForwardError::ContextFull {
                        seq: row.seq,
                        reached: cache.next() + count,
                        context,
                    });
                }
                under_way.parts.push(Part {
                    row: under_way.rows.len(),
                    offset: under_way.tokens.len(),
                    tokens: count,
                    reading: cache.reading(count, row.phase),
                });
                under_way.tokens.extend_from_slice(&row.tokens[skip..]);
                under_way
                    .positions
                    .extend(cache.next()..cache.next() + count);
            }
            under_way.skipped.push(skip);
            under_way.rows.push(row);
        }
        Ok(under_way)
    }

    /// Computes rows to their end, or, where the weights are the kernels', as far as `until`. Returns what they came to,
    /// when they are done. Their caches are taken out and put back, so that an error leaves none of them half-written.
    pub(super) fn go_on(
        &mut self,
        under_way: &mut UnderWay,
        until: Option<Instant>,
    ) -> Result<Option<Vec<RowOutput>>, ForwardError> {
        let rows = &under_way.rows;
        let mut open = Vec::with_capacity(rows.len());
        for row in rows {
            let sequence = self.sequences.remove(&row.seq);
            open.push(sequence.ok_or(ForwardError::UnknownSequence(row.seq))?);
        }
        let mut caches: Vec<Option<&mut SequenceCache>> =
            open.iter_mut().map(|s| Some(&mut s.cache)).collect();
        let mut spans = Vec::with_capacity(under_way.parts.len());
        for part in &under_way.parts {
            let cache = caches[part.row].take();
            let cache = cache.ok_or(ForwardError::UnknownSequence(rows[part.row].seq))?;
            spans.push(Span {
                offset: part.offset,
                tokens: part.tokens,
                phase: rows[part.row].phase,
                reading: part.reading.clone(),
                drafted: guesses(&rows[part.row]) > 0,
                cache,
            });
        }
        let rope = self.model.rope();
        let hidden = match self.model.held() {
            _ if spans.is_empty() => Some(None),
            Held::Packed(packed) => {
                let pass = under_way.pass.get_or_insert_with(|| {
                    let parts = spans.iter().map(|span| (span.phase, span.tokens));
                    packed.begin(&under_way.tokens, &under_way.positions, parts, rope)
                });
                let hidden = packed.go_on(pass, &mut spans, rope, until)?;
                hidden.map(|hidden| Some(Hidden::Host(hidden)))
            }
            Held::Tensors(tensors) => {
                let device = self.model.compute().device;
                let wide = |ids: Vec<i64>| Tensor::f_from_slice(&ids)?.f_to_device(device);
                let tokens = wide(under_way.tokens.iter().map(|&t| i64::from(t)).collect())?;
                let positions = wide(under_way.positions.iter().map(|&p| p as i64).collect())?;
                let scratch = &mut self.scratch;
                let hidden = tensors.hidden(&tokens, &positions, &mut spans, rope, scratch)?;
                Some(Some(Hidden::Device(hidden)))
            }
        };
        let mut ended = Vec::with_capacity(spans.len());
        if hidden.is_some() {
            for span in spans {
                let (tokens, phase) = (span.tokens, span.phase);
                ended.push(
                    span.cache
                        .finish_row(tokens, phase, rope, self.memory.grid)?,
                );
            }
            self.publish(rows, &mut open, &under_way.skipped, ended);
        }
        for (row, sequence) in rows.iter().zip(open) {
            self.sequences.insert(row.seq, sequence);
        }
        let Some(hidden) = hidden else {
            return Ok(None);
        };
        let logits = self.logits(rows, &under_way.skipped, hidden.as_ref())?;
        let mut states = self.states(rows, &under_way.skipped, hidden.as_ref())?;
        let mut outputs = Vec::with_capacity(rows.len());
        let each = rows.iter().zip(logits).zip(&under_way.skipped).enumerate();
        for (place, ((row, logits), &cached)) in each {
            let sequence = self.sequences.get_mut(&row.seq);
            let sequence = sequence.ok_or(ForwardError::UnknownSequence(row.seq))?;
            outputs.push(RowOutput {
                seq: row.seq,
                logits,
                states: states
                    .get_mut(place)
                    .map(std::mem::take)
                    .unwrap_or_default(),
                kv: sequence.cache.report(),
                cached,
                drafted: guesses(row),
                missed: sequence.missed.take(),
            });
        }
        Ok(Some(outputs))
    }

    /// Computes what is under way to its end when one of its sequences is to leave in a state that must be whole, or
    /// others would lose it with the one that leaves; drops it when it is only for one that ends.
    pub(super) fn settle(&mut self, plan: &Plan) -> Result<Vec<RowOutput>, ForwardError> {
        let Some(mut under_way) = self.under_way.take() else {
            return Ok(Vec::new());
        };
        let here = |seq: &SeqId| under_way.rows.iter().any(|row| row.seq == *seq);
        let leaving = plan.paused.iter().any(here);
        let mut ended = plan
            .ended
            .iter()
            .filter(|ended| here(&ended.seq))
            .peekable();
        if !leaving && ended.peek().is_none() {
            self.under_way = Some(under_way);
            return Ok(Vec::new());
        }
        if !leaving && under_way.rows.len() == 1 && ended.all(|ended| ended.park.is_none()) {
            return Ok(Vec::new());
        }
        Ok(self.go_on(&mut under_way, None)?.unwrap_or_default())
    }

    fn publish(
        &mut self,
        rows: &[Row],
        open: &mut [Sequence],
        skipped: &[usize],
        ended: Vec<Vec<Arc<Node>>>,
    ) {
        let Some(prefixes) = &mut self.prefixes else {
            return;
        };
        let computed = rows
            .iter()
            .zip(open)
            .zip(skipped)
            .filter(|((row, _), skip)| **skip < row.tokens.len());
        for (((row, sequence), _), blocks) in computed.zip(ended) {
            let Some(share) = &mut sequence.share else {
                continue;
            };
            match row.phase {
                Phase::Prompt { left: 0 } => {
                    if let Some(share) = sequence.share.take() {
                        prefixes.publish(share, &blocks);
                    }
                }
                Phase::Prompt { .. } => {
                    prefixes.pass(share, &sequence.cache, row.start + row.tokens.len());
                }
                Phase::Decode => sequence.share = None,
            }
        }
    }

    /// The hidden states that rows want, in their order.
    fn states(
        &self,
        rows: &[Row],
        skipped: &[usize],
        hidden: Option<&Hidden>,
    ) -> Result<Vec<Vec<f32>>, TchError> {
        let mut states = vec![Vec::new(); rows.len()];
        let Some(hidden) = hidden.filter(|_| rows.iter().any(|row| row.want == Want::States))
        else {
            return Ok(states);
        };
        let width = self.model.config().hidden;
        let mut offset = 0;
        for ((row, skip), states) in rows.iter().zip(skipped).zip(&mut states) {
            let tokens = row.tokens.len() - skip;
            if row.want == Want::States {
                *states = match hidden {
                    Hidden::Host(hidden) => hidden[offset * width..][..tokens * width].to_vec(),
                    Hidden::Device(hidden) => {
                        let own = hidden.f_narrow(0, offset as i64, tokens as i64)?;
                        let own = own.f_to_kind(Kind::Float)?.f_contiguous()?;
                        let mut floats = vec![0.0f32; tokens * width];
                        own.f_copy_data(&mut floats, tokens * width)?;
                        floats
                    }
                };
            }
            offset += tokens;
        }
        Ok(states)
    }

    /// The logits that rows want, in their order.
    fn logits(
        &self,
        rows: &[Row],
        skipped: &[usize],
        hidden: Option<&Hidden>,
    ) -> Result<Vec<Vec<f32>>, TchError> {
        let mut picked: Vec<usize> = Vec::new();
        let mut offset = 0;
        let mut counts = Vec::with_capacity(rows.len());
        for (row, skip) in rows.iter().zip(skipped) {
            let end = offset + row.tokens.len() - skip;
            let from = match row.want {
                Want::Nothing | Want::States => end,
                Want::Last => end.saturating_sub(1).max(offset),
                Want::All | Want::Drafts => offset,
            };
            picked.extend(from..end);
            counts.push(end - from);
            offset = end;
        }
        let Some(hidden) = hidden.filter(|_| !picked.is_empty()) else {
            return Ok(vec![Vec::new(); rows.len()]);
        };
        let vocab = self.model.config().vocab;
        let split = |all: &[f32]| {
            let mut rest = all;
            let mut split = Vec::with_capacity(rows.len());
            for count in &counts {
                let (own, others) = rest.split_at((count * vocab).min(rest.len()));
                split.push(own.to_vec());
                rest = others;
            }
            split
        };
        match (hidden, self.model.held()) {
            (Hidden::Host(hidden), Held::Packed(packed)) => {
                let width = self.model.config().hidden;
                let mut wanted = Vec::with_capacity(picked.len() * width);
                for &row in &picked {
                    wanted.extend_from_slice(&hidden[row * width..(row + 1) * width]);
                }
                let phases = rows.iter().zip(&counts).map(|(row, &n)| (row.phase, n));
                Ok(packed.logits(&wanted, phases, split))
            }
            (Hidden::Device(hidden), Held::Tensors(tensors)) => {
                let picked: Vec<i64> = picked.iter().map(|&i| i as i64).collect();
                let index = Tensor::f_from_slice(&picked)?.f_to_device(hidden.device())?;
                let logits = tensors.logits(&hidden.f_index_select(0, &index)?)?;
                let mut all = vec![0.0f32; logits.numel()];
                let len = all.len();
                logits.f_contiguous()?.f_copy_data(&mut all, len)?;
                Ok(split(&all))
            }
            _ => Ok(vec![Vec::new(); rows.len()]),
        }
    }
}

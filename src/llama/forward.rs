//! [`Forward`] for a model of the family: one pass over all rows of a plan.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{TchError, Tensor};

use super::attention::Buffers;
use super::block::Span;
use super::cache::SequenceCache;
use super::kv_rows::Place;
use super::memory::{KvMemory, Prefixes, Share};
use super::model::{Held, Llama};
use super::packed::Pass;
use super::reading::Reading;
use super::session::Sessions;
use crate::ids::{SeqId, TokenId};
use crate::kv::tree::Miss;
use crate::kv::{KvReport, KvShape, Policy, Spill};
use crate::sched::{
    Ended, Forward, ForwardError, Kept, MemoryReport, Origin, Outputs, Phase, Plan, Row, RowOutput,
    SessionOrder, SessionReply, Want,
};
use crate::store::SpillFile;

/// Rows of a step up to which guesses are among them: from there on, one that is wrong costs as much as a step's row.
const GUESSED: usize = 16;

/// Tokens of a prompt's row up to which it is computed whole whatever time it may take: about as many cost what the
/// reading of the weights does.
const SLICED: usize = 32;

/// A model and the caches of its open sequences.
#[derive(Debug)]
pub struct LlamaForward {
    /// Shared by replicas, which all live on the thread of its device.
    model: Rc<Llama>,
    shape: KvShape,
    place: Place,
    memory: KvMemory,
    sequences: HashMap<SeqId, Sequence>,
    /// Sequences that gave way, and what they share once their prompts have been read; their caches are parked.
    paused: HashMap<SeqId, Option<Share>>,
    prefixes: Option<Prefixes>,
    sessions: Sessions,
    spill: Option<Arc<SpillFile>>,
    scratch: Buffers,
    /// Prompts that the last step has not computed to their end.
    under_way: Option<UnderWay>,
    /// Why guesses were left out, as far as it was said.
    said: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct Sequence {
    cache: SequenceCache,
    /// What it shares when its prompt has been read.
    share: Option<Share>,
    /// Why the prefix cache held no more of it, until that was told.
    missed: Option<Miss>,
}

/// What of it is worth more than the weights, which can be read again.
struct Outliving {
    prefixes: Option<Prefixes>,
    sessions: Sessions,
}

/// Rows that are being computed.
#[derive(Debug)]
struct UnderWay {
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
    /// A model without sequences, that keeps nothing beyond them.
    pub fn new(model: Llama) -> Self {
        LlamaForward::with_memory(model, KvMemory::default())
    }

    /// A model without sequences, with memory for what outlives them.
    pub fn with_memory(model: Llama, memory: KvMemory) -> Self {
        LlamaForward::over(Rc::new(model), memory)
    }

    fn over(model: Rc<Llama>, memory: KvMemory) -> Self {
        let place = memory.place(model.compute());
        let shape = memory.kv_shape(model.config(), model.compute());
        LlamaForward {
            prefixes: Prefixes::new(&memory),
            sessions: Sessions::new(&memory, shape, place),
            model,
            shape,
            place,
            memory,
            sequences: HashMap::new(),
            paused: HashMap::new(),
            spill: None,
            scratch: Buffers::default(),
            under_way: None,
            said: BTreeSet::new(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Llama {
        &self.model
    }

    /// Positions and scores of one head of an open sequence, `(position, sum)` in time order: for pictures.
    pub fn held(&self, seq: SeqId, layer: usize, head: usize) -> Option<Vec<(u32, f32)>> {
        let sequence = self.sequences.get(&seq)?;
        Some(sequence.cache.head(layer, head).slots.held())
    }

    /// Positions of one head that a turn attends to again.
    pub fn recalled(&self, seq: SeqId, layer: usize, head: usize) -> Option<Vec<u32>> {
        let sequence = self.sequences.get(&seq)?;
        let pages = sequence.cache.head(layer, head).recalled.iter();
        Some(
            pages
                .flat_map(|page| page.entries.iter().map(|entry| entry.position))
                .collect(),
        )
    }

    /// What the keys of one head are rotated to, in time order.
    pub fn rotations(&self, seq: SeqId, layer: usize, head: usize) -> Option<Vec<u32>> {
        let slots = &self.sequences.get(&seq)?.cache.head(layer, head).slots;
        let pairs = slots.positions().iter().zip(slots.rotated());
        let mut order: Vec<(u32, u32)> = pairs.map(|(&p, &r)| (p, r)).collect();
        order.sort_unstable();
        Some(order.into_iter().map(|(_, rotated)| rotated).collect())
    }

    /// Rows of the scratch file for a policy that spills to disk.
    fn spill_file(&mut self, policy: &Policy) -> Result<Option<Arc<SpillFile>>, ForwardError> {
        if policy.spill != Spill::Disk {
            return Ok(None);
        }
        if self.spill.is_none() {
            let folder = match &self.memory.folder {
                Some(folder) => folder.join("spill"),
                None => std::env::temp_dir(),
            };
            let file = SpillFile::create(&folder).map_err(|error| {
                ForwardError::Tensor(format!(
                    "cannot make a spill file in {}: {error}; set kv.spill to memory or off",
                    folder.display()
                ))
            })?;
            self.spill = Some(Arc::new(file));
        }
        Ok(self.spill.clone())
    }

    fn open(&mut self, row: &Row) -> Result<(), ForwardError> {
        let vocab = self.model.config().vocab;
        if let Some(&token) = row.tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(ForwardError::BadToken {
                seq: row.seq,
                token,
                vocab,
            });
        }
        let Some(open) = &row.open else {
            return self.resume(row.seq);
        };
        let spill = self.spill_file(&open.policy)?;
        let fresh =
            || SequenceCache::new(open.policy.clone(), self.shape, self.place, spill.clone());
        let sequence = match &open.origin {
            Origin::Empty => Sequence {
                cache: fresh()?,
                share: None,
                missed: None,
            },
            Origin::Prefix { prompt, tenant } => {
                let mut cache = fresh()?;
                let (share, missed) = match &mut self.prefixes {
                    Some(prefixes) => {
                        let (share, missed) = prefixes.enter(&mut cache, prompt, tenant);
                        (Some(share), missed)
                    }
                    None => (None, Some(Miss::Off)),
                };
                Sequence {
                    cache,
                    share,
                    missed,
                }
            }
            Origin::Fork(from) => {
                let from = self
                    .sequences
                    .get(from)
                    .ok_or(ForwardError::UnknownSequence(*from))?;
                Sequence {
                    cache: from.cache.fork(open.policy.clone(), spill)?,
                    share: None,
                    missed: None,
                }
            }
            Origin::Session(session) => Sequence {
                cache: self.sessions.resume(session)?,
                share: None,
                missed: None,
            },
        };
        self.sequences.insert(row.seq, sequence);
        Ok(())
    }

    /// The rows with only those guesses that can be computed beside the rest and taken back. Says once why there are
    /// sequences for which none can.
    fn without_excess<'a>(&mut self, rows: &'a [Row]) -> Cow<'a, [Row]> {
        if rows.iter().all(|row| guesses(row) == 0) {
            return Cow::Borrowed(rows);
        }
        let mut tokens: usize = rows.iter().map(|row| row.tokens.len() - guesses(row)).sum();
        let context = self.model.context();
        let most = match self.model.held() {
            Held::Packed(_) => GUESSED,
            Held::Tensors(_) => 0,
        };
        let mut rows = rows.to_vec();
        for row in rows.iter_mut().filter(|row| row.want == Want::Drafts) {
            let wanted = guesses(row);
            let undoable = match self.sequences.get(&row.seq) {
                Some(open) if open.cache.seen() == row.start => {
                    open.cache.undoable(wanted, context)
                }
                // What is skipped is no guess.
                _ => Ok(0),
            };
            let undoable = undoable.unwrap_or_else(|reason| {
                if self.said.insert(reason) {
                    tracing::info!(reason, "sequences are not sped up by guesses");
                }
                0
            });
            let taken = undoable.min(most.saturating_sub(tokens));
            tokens += taken;
            row.tokens.truncate(1 + taken);
            if taken == 0 {
                row.want = Want::Last;
            }
        }
        Cow::Owned(rows)
    }

    /// Parks a sequence that gives way.
    fn pause(&mut self, seq: SeqId) -> Result<(), ForwardError> {
        let sequence = self.sequences.remove(&seq);
        let sequence = sequence.ok_or(ForwardError::UnknownSequence(seq))?;
        self.paused.insert(seq, sequence.share);
        self.sessions.pause(seq, sequence.cache);
        Ok(())
    }

    /// Takes a sequence up again, if it was paused.
    fn resume(&mut self, seq: SeqId) -> Result<(), ForwardError> {
        let Some(share) = self.paused.remove(&seq) else {
            return Ok(());
        };
        let cache = self.sessions.unpause(seq)?;
        let sequence = Sequence {
            cache,
            share,
            missed: None,
        };
        self.sequences.insert(seq, sequence);
        Ok(())
    }

    /// Frees or parks a sequence that is over.
    fn end(&mut self, ended: &Ended) -> Result<(), ForwardError> {
        if ended.park.is_some() {
            self.resume(ended.seq)?;
        } else if self.paused.remove(&ended.seq).is_some() {
            self.sessions.drop_paused(ended.seq);
        }
        let sequence = self.sequences.remove(&ended.seq);
        if let (Some(session), Some(sequence)) = (&ended.park, sequence) {
            self.sessions.park(session, sequence.cache)?;
        }
        Ok(())
    }

    /// Makes room for the tokens of `rows` in their caches.
    fn begin(&mut self, rows: Vec<Row>) -> Result<UnderWay, ForwardError> {
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
    fn go_on(
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
        let mut outputs = Vec::with_capacity(rows.len());
        for ((row, logits), &cached) in rows.iter().zip(logits).zip(&under_way.skipped) {
            let sequence = self.sequences.get_mut(&row.seq);
            let sequence = sequence.ok_or(ForwardError::UnknownSequence(row.seq))?;
            outputs.push(RowOutput {
                seq: row.seq,
                logits,
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
    fn settle(&mut self, plan: &Plan) -> Result<Vec<RowOutput>, ForwardError> {
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
        ended: Vec<Vec<Arc<super::node::Node>>>,
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
                Want::Nothing => end,
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

/// Tokens of a row that are guesses.
fn guesses(row: &Row) -> usize {
    match row.want {
        Want::Drafts => row.tokens.len().saturating_sub(1),
        Want::Nothing | Want::Last | Want::All => 0,
    }
}

impl Forward for LlamaForward {
    fn forward_within(
        &mut self,
        plan: &Plan,
        slice: Option<Duration>,
    ) -> Result<Outputs, ForwardError> {
        // Gradients are per thread in libtorch, so the guard is taken on the thread that computes.
        let _guard = tch::no_grad_guard();
        let mut rows = self.settle(plan)?;
        for &seq in &plan.paused {
            self.pause(seq)?;
        }
        for ended in &plan.ended {
            self.end(ended)?;
        }
        if let Some(prefixes) = self.prefixes.as_mut().filter(|_| !plan.ended.is_empty()) {
            prefixes.trim();
        }
        for row in &plan.rows {
            self.open(row)?;
        }
        let (mut now, mut prompts) = (self.without_excess(&plan.rows).into_owned(), Vec::new());
        if slice.is_some() && self.slices() > 1 && self.under_way.is_none() {
            (prompts, now) = now.into_iter().partition(|row| {
                matches!(row.phase, Phase::Prompt { .. }) && row.tokens.len() > SLICED
            });
        }
        if !now.is_empty() {
            let mut now = self.begin(now)?;
            rows.extend(self.go_on(&mut now, None)?.unwrap_or_default());
        }
        if !prompts.is_empty() {
            self.under_way = Some(self.begin(prompts)?);
        }
        if let Some(mut under_way) = self.under_way.take() {
            let until = slice.map(|slice| Instant::now() + slice);
            match self.go_on(&mut under_way, until)? {
                Some(done) => rows.extend(done),
                None => self.under_way = Some(under_way),
            }
        }
        Ok(Outputs { rows })
    }

    fn slices(&self) -> usize {
        match self.model.held() {
            Held::Packed(packed) => packed.blocks(),
            Held::Tensors(_) => 1,
        }
    }

    fn keep(&mut self, seq: SeqId, tokens: usize) -> Result<KvReport, ForwardError> {
        let sequence = self.sequences.get_mut(&seq);
        let cache = &mut sequence.ok_or(ForwardError::UnknownSequence(seq))?.cache;
        if cache
            .undecided()
            .is_none_or(|fed| tokens == 0 || tokens > fed)
        {
            return Err(ForwardError::UnknownSequence(seq));
        }
        cache.keep(tokens)?;
        Ok(cache.report())
    }

    fn kv_shape(&self) -> KvShape {
        self.shape
    }

    fn weight_bytes(&self) -> usize {
        self.model.bytes()
    }

    fn session(&mut self, order: SessionOrder) -> Result<SessionReply, ForwardError> {
        self.sessions.obey(order)
    }

    fn memory(&self) -> MemoryReport {
        let prefixes = self.prefixes.as_ref();
        MemoryReport {
            prefix_bytes: prefixes.map_or(0, Prefixes::bytes),
            prefix_blocks: prefixes.map_or(0, Prefixes::blocks),
            prefix_in_use: prefixes.map_or(0, Prefixes::in_use),
            parked_bytes: self.sessions.resident_bytes(),
            spilled_session_bytes: self.sessions.spilled_bytes(),
            open_sequences: self.sequences.len(),
            open_bytes: self
                .sequences
                .values()
                .map(|sequence| sequence.cache.report().bytes)
                .sum(),
        }
    }

    fn twin(&self) -> Option<Box<dyn Forward>> {
        let twin = LlamaForward::over(Rc::clone(&self.model), self.memory.clone());
        Some(Box::new(twin))
    }

    fn take_kept(&mut self) -> Option<Kept> {
        let memory = self.memory();
        let nothing = Sessions::new(&self.memory, self.shape, self.place);
        let parts = Outliving {
            prefixes: self.prefixes.take(),
            sessions: std::mem::replace(&mut self.sessions, nothing),
        };
        Some(Kept {
            parts: Box::new(parts),
            memory,
        })
    }

    fn put_kept(&mut self, kept: Kept) -> bool {
        let Ok(parts) = kept.parts.downcast::<Outliving>() else {
            return false;
        };
        self.prefixes = parts.prefixes;
        self.sessions = parts.sessions;
        true
    }
}

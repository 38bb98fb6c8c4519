//! [`Forward`] for a model of the family: one pass over all rows of a plan.

mod under_way;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attention::Buffers;
use super::cache::SequenceCache;
use super::kv_rows::Place;
use super::memory::{KvMemory, Prefixes, Share};
use super::model::{Held, Llama};
use super::session::Sessions;
use crate::ids::SeqId;
use crate::kv::tree::Miss;
use crate::kv::{KvReport, KvShape, Policy, Spill};
use crate::sched::{
    Ended, Forward, ForwardError, Kept, MemoryReport, Origin, Outputs, Phase, Plan, Row,
    SessionOrder, SessionReply, Want,
};
use crate::store::SpillFile;
use under_way::UnderWay;

/// Rows of a step up to which guesses are among them: from there on, one that is wrong costs as much as a step's row.
const GUESSED: usize = 16;

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
}

/// Tokens of a row that are guesses.
fn guesses(row: &Row) -> usize {
    match row.want {
        Want::Drafts => row.tokens.len().saturating_sub(1),
        Want::Nothing | Want::Last | Want::All | Want::States => 0,
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
            let prompt = |row: &Row| matches!(row.phase, Phase::Prompt { .. });
            (prompts, now) = now.into_iter().partition(prompt);
        }
        if !now.is_empty() {
            let mut now = self.begin(now)?;
            rows.extend(self.go_on(&mut now, None)?.unwrap_or_default());
        }
        if !prompts.is_empty() {
            self.under_way = Some(self.begin(prompts)?);
        }
        let mut took = None;
        if let Some(mut under_way) = self.under_way.take() {
            let begun = Instant::now();
            let until = slice.map(|slice| begun + slice);
            match self.go_on(&mut under_way, until)? {
                Some(done) => rows.extend(done),
                None => self.under_way = Some(under_way),
            }
            took = Some(begun.elapsed());
        }
        Ok(Outputs {
            rows,
            prompts: took,
        })
    }

    fn slices(&self) -> usize {
        match self.model.held() {
            Held::Packed(packed) => packed.halves(),
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
        // What runs is here and not parked.
        if let SessionOrder::Picture {
            open: Some(seq),
            which,
            ..
        } = &order
            && let Some(sequence) = self.sequences.get(seq)
        {
            return Ok(SessionReply::Picture {
                picture: sequence.cache.picture(*which),
                live: None,
            });
        }
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

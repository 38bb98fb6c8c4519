//! The KV cache of one sequence: what each KV head of each layer holds, which blocks of it are shared, and how it is
//! brought down to its budget. Keys lie rotated at their original positions until those run out.

mod recall;

use std::sync::Arc;

use tch::TchError;

use super::cold::Cold;
use super::head::{HeadCache, shared_len};
use super::journal::Journal;
use super::kv_rows::{Fresh, Place};
use super::node::Node;
use super::reading::Reading;
use super::rope::Rope;
use crate::kv::policy::adaptive;
use crate::kv::{
    Fast, HeadChoice, HeadSlots, KvReport, KvShape, Picture, Policy, QueryStats, Spread, Summary,
    When,
};
use crate::sched::Phase;
use crate::store::SpillFile;

/// Positions to come over which `expected` averages the rotation, as published.
const HORIZON: i64 = 512;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct SequenceCache {
    policy: Policy,
    shape: KvShape,
    place: Place,
    /// Immutable blocks in front of what is this sequence's own.
    shared: Vec<Arc<Node>>,
    /// `[layers][kv_heads]`.
    layers: Vec<Vec<HeadCache>>,
    seen: usize,
    /// The rotation of the next token.
    next: usize,
    rebased: u32,
    evicted_once: bool,
    /// Queries of the current prompt that were observed on their own.
    observed: usize,
    /// Whether the last row was part of a prompt that goes on.
    mid_prompt: bool,
    peak_bytes: usize,
}

/// One layer of a sequence, and what all of them go by.
pub(super) struct LayerParts<'a> {
    pub(super) policy: &'a Policy,
    /// Tokens that the sequence has seen, and the rotation of the next.
    pub(super) at: (usize, usize),
    pub(super) shared: &'a [Arc<Node>],
    pub(super) heads: &'a mut [HeadCache],
}

impl SequenceCache {
    pub(super) fn new(
        policy: Policy,
        shape: KvShape,
        place: Place,
        spill: Option<Arc<SpillFile>>,
    ) -> Result<Self, TchError> {
        let capacities = policy.capacity().map(|capacity| {
            let floor = policy.protect.len() + 1;
            let spread = &policy.spread;
            spread.capacities(capacity, floor, shape.layers, shape.kv_heads)
        });
        let head = |layer: usize, head: usize| {
            let capacity = capacities.as_ref().map(|c| c[layer][head]);
            let cold = (policy.spill != crate::kv::Spill::Off)
                .then(|| Cold::new(shape.head_dim, place.float, spill.clone()));
            HeadCache::new(place, shape.head_dim, capacity, cold, &policy)
        };
        let layers = (0..shape.layers)
            .map(|l| (0..shape.kv_heads).map(|h| head(l, h)).collect())
            .collect::<Result<_, _>>()?;
        Ok(SequenceCache {
            policy,
            shape,
            place,
            shared: Vec::new(),
            layers,
            seen: 0,
            next: 0,
            rebased: 0,
            evicted_once: false,
            observed: 0,
            mid_prompt: false,
            peak_bytes: 0,
        })
    }

    /// The same state under another policy that reads prompts alike. Shared blocks stay shared.
    pub(super) fn fork(
        &self,
        policy: Policy,
        spill: Option<Arc<SpillFile>>,
    ) -> Result<Self, TchError> {
        if policy == self.policy {
            return Ok(self.clone());
        }
        let norms = policy.need().norms;
        let mut fork = SequenceCache::new(policy, self.shape, self.place, spill)?;
        for (to, from) in fork.layers.iter_mut().zip(&self.layers) {
            for (to, from) in to.iter_mut().zip(from) {
                to.slots = from.slots.clone();
                if !norms {
                    to.slots.forget_norms();
                }
                to.arena = from.arena.clone();
                to.hot = from.hot.clone();
                to.stats = from.stats.clone();
                if from.cold.is_some() {
                    to.cold = from.cold.clone();
                }
                if from.summary.is_some() {
                    to.summary = from.summary.clone();
                }
            }
        }
        fork.shared = self.shared.clone();
        fork.seen = self.seen;
        fork.next = self.next;
        fork.rebased = self.rebased;
        fork.evicted_once = self.evicted_once;
        fork.observed = self.observed;
        fork.mid_prompt = self.mid_prompt;
        fork.peak_bytes = self.peak_bytes;
        Ok(fork)
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// The rotation of the next token.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// How many of `guesses` behind one token can be computed and taken back again; or why none of any can.
    pub(super) fn undoable(&self, guesses: usize, context: usize) -> Result<usize, &'static str> {
        let need = self.policy.need();
        if self.place.device.is_cuda() {
            return Err("the cache lies on a gpu");
        }
        if self.policy.select.is_some() {
            return Err("its policy selects pages");
        }
        if need.queries || need.keys || need.fast == Fast::LastRow {
            return Err("its policy ranks by more than one head's own scores");
        }
        if self.recalls() {
            return Err("evicted tokens are recalled");
        }
        let heads = self.layers.iter().flatten();
        let heads = heads.filter_map(|head| head.undoable(&self.policy, &self.shared));
        let tokens = heads.min().unwrap_or(usize::MAX);
        let tokens = tokens.min(context.saturating_sub(self.next));
        Ok(guesses.min(tokens.saturating_sub(1)))
    }

    /// Of a row with guesses, keeps the first `tokens`; the others were never fed.
    pub(super) fn keep(&mut self, tokens: usize) -> Result<(), TchError> {
        let (mut fed, mut evicted) = (tokens, false);
        for head in self.layers.iter_mut().flatten() {
            if let Some(journal) = head.journal.take() {
                fed = journal.len();
                evicted |= journal.undo(head, tokens)?;
            }
        }
        let back = fed.saturating_sub(tokens);
        self.seen -= back;
        self.next -= back;
        self.evicted_once |= evicted;
        Ok(())
    }

    /// Tokens of the last row, when it had guesses and nobody has said which of them stay.
    pub(super) fn undecided(&self) -> Option<usize> {
        let journal = self.layers.first()?.first()?.journal.as_ref();
        journal.map(Journal::len)
    }

    /// What the heads of a layer need to take in tokens one by one.
    pub(super) fn parts(&mut self, layer: usize) -> LayerParts<'_> {
        LayerParts {
            policy: &self.policy,
            at: (self.seen, self.next),
            shared: &self.shared,
            heads: &mut self.layers[layer],
        }
    }

    /// Shared blocks and one layer's heads.
    pub(super) fn layer(&mut self, layer: usize) -> (&[Arc<Node>], &mut [HeadCache]) {
        (&self.shared, &mut self.layers[layer])
    }

    pub(super) fn head(&self, layer: usize, head: usize) -> &HeadCache {
        &self.layers[layer][head]
    }

    /// Starts from blocks that another sequence computed, with their score history.
    pub(super) fn adopt(&mut self, nodes: Vec<Arc<Node>>) {
        let Some(last) = nodes.last() else {
            return;
        };
        for (heads, history) in self.layers.iter_mut().zip(&last.history) {
            for (head, (slots, stats)) in heads.iter_mut().zip(history) {
                head.slots = slots.clone();
                head.stats = stats.clone();
            }
        }
        self.seen = shared_len(&nodes);
        self.next = self.seen;
        self.mid_prompt = true;
        self.shared = nodes;
    }

    /// How the queries of a row weigh for the second score.
    pub(super) fn reading(&mut self, tokens: usize, phase: Phase) -> Reading {
        let reading = Reading::of(&self.policy, tokens, phase, self.mid_prompt);
        if let Phase::Prompt { .. } = phase {
            // A window that keeps nothing of before begins here.
            if reading.keep_row == 0.0 {
                self.observed = 0;
            }
            self.observed += reading.weights.iter().filter(|&&w| w > 0.0).count();
        }
        reading
    }

    /// Counts `tokens` as fed and brings every head down to its budget, if it is time to. Returns the whole blocks of
    /// a prompt that has ended, of `grid` positions each, for others to share.
    pub(super) fn finish_row(
        &mut self,
        tokens: usize,
        phase: Phase,
        rope: &Rope,
        grid: usize,
    ) -> Result<Vec<Arc<Node>>, TchError> {
        self.seen += tokens;
        self.next += tokens;
        match phase {
            Phase::Decode => {
                self.mid_prompt = false;
                self.step(rope)?;
                Ok(Vec::new())
            }
            Phase::Prompt { left } => {
                self.peak_bytes = self.peak_bytes.max(self.report().bytes);
                self.mid_prompt = left > 0;
                let streaming = self.policy.reading == crate::kv::Reading::Streaming;
                if !streaming {
                    self.freeze(grid)?;
                    if left > 0 {
                        return Ok(Vec::new());
                    }
                }
                let blocks = self.shared.clone();
                let observed = self.observed;
                for head in self.layers.iter_mut().flatten() {
                    head.slots.settle(&self.policy, observed);
                }
                self.end_prompt(rope)?;
                Ok(blocks)
            }
        }
    }

    /// Moves whole blocks of `grid` positions out of the arenas, where other sequences can share them. Only what no
    /// eviction has touched is a block.
    fn freeze(&mut self, grid: usize) -> Result<(), TchError> {
        let whole = |cache: &Self| {
            let start = shared_len(&cache.shared);
            !cache.evicted_once && cache.rebased == 0 && cache.seen >= start + grid
        };
        while whole(self) {
            let start = shared_len(&self.shared);
            let mut pairs = Vec::with_capacity(self.layers.len());
            for heads in &mut self.layers {
                let mut row = Vec::with_capacity(heads.len());
                for head in heads {
                    let pair = match self.place.int8 {
                        true => &mut head.hot,
                        false => &mut head.arena,
                    };
                    row.push(pair.split_front(grid)?);
                }
                pairs.push(row);
            }
            // Bookkeeping is of this moment: only the block that ends here can carry it.
            let history = match start + grid == self.seen {
                true => self.history(),
                false => Vec::new(),
            };
            self.shared.push(Arc::new(Node {
                start,
                len: grid,
                pairs,
                history,
            }));
        }
        Ok(())
    }

    /// What every head knows now.
    fn history(&self) -> Vec<Vec<(HeadSlots, QueryStats)>> {
        let of = |head: &HeadCache| (head.slots.clone(), head.stats.clone());
        self.layers
            .iter()
            .map(|heads| heads.iter().map(of).collect())
            .collect()
    }

    /// The cut when a prompt, or a chunk in bounded memory, has been read.
    fn end_prompt(&mut self, rope: &Rope) -> Result<(), TchError> {
        if self.policy.capacity().is_none() {
            return self.settle_int8();
        }
        let queries = self.future_queries(rope);
        self.adapt(&queries)?;
        let over = |head: &HeadCache| head.capacity.is_some_and(|c| head.slots.len() > c);
        if !self.layers.iter().flatten().any(over) {
            return self.settle_int8();
        }
        self.cut(&queries)?;
        if self.policy.when == When::PromptEnd {
            // What is generated from here on is kept.
            for head in self.layers.iter_mut().flatten() {
                head.capacity = None;
            }
        }
        Ok(())
    }

    /// Int8 rows are made when the prompt has ended, from its blocks too.
    fn settle_int8(&mut self) -> Result<(), TchError> {
        if !self.place.int8 {
            return Ok(());
        }
        if self.shared.is_empty() {
            return self.cool();
        }
        self.own_all()
    }

    fn cool(&mut self) -> Result<(), TchError> {
        let shared = shared_len(&self.shared);
        for head in self.layers.iter_mut().flatten() {
            head.cool(shared)?;
        }
        Ok(())
    }

    /// One token more than the budget: one slot is recycled in place.
    fn step(&mut self, rope: &Rope) -> Result<(), TchError> {
        if self.policy.capacity().is_none() {
            return self.cool();
        }
        let most = |head: &HeadCache| {
            head.slots
                .len()
                .saturating_sub(head.capacity.unwrap_or(usize::MAX))
        };
        let over = self.layers.iter().flatten().map(most).max().unwrap_or(0);
        let allowed = match self.policy.when {
            When::Burst(burst) => burst.max(1) - 1,
            When::EachStep | When::PromptEnd => 0,
        };
        if over <= allowed {
            return self.cool();
        }
        if self.policy.when != When::EachStep || over > 1 || !self.shared.is_empty() {
            let queries = self.future_queries(rope);
            return self.cut(&queries);
        }
        let epoch = self.rebased;
        self.evicted_once = true;
        for head in self.layers.iter_mut().flatten() {
            if let Some(slot) = head.victim(&self.policy, self.seen) {
                head.evict(slot, 0, epoch)?;
            }
        }
        self.cool()
    }

    /// Cuts every head to its capacity. `queries` by layer and head, where the policy needs them.
    fn cut(&mut self, queries: &[Vec<QueryStats>]) -> Result<(), TchError> {
        self.evicted_once = true;
        let need = self.policy.need();
        let (epoch, seen) = (self.rebased, self.seen);
        let shared = std::mem::take(&mut self.shared);
        for (layer, heads) in self.layers.iter_mut().enumerate() {
            for (index, head) in heads.iter_mut().enumerate() {
                let at = (layer, index);
                let keys = match need.keys {
                    true => head.keys(&shared, at)?,
                    false => Vec::new(),
                };
                let stats = queries.get(layer).and_then(|row| row.get(index));
                let capacity = head.capacity.unwrap_or(usize::MAX);
                let kept = self
                    .policy
                    .keep(&head.slots.view(seen, &keys, stats), capacity);
                if kept.len() < head.slots.len() || !shared.is_empty() {
                    head.absorb(&shared, at, &kept, epoch)?;
                }
            }
        }
        Ok(())
    }

    fn absorb(&mut self, kept: impl Fn(&HeadCache) -> Vec<usize>) -> Result<(), TchError> {
        let shared = std::mem::take(&mut self.shared);
        for (layer, heads) in self.layers.iter_mut().enumerate() {
            for (index, head) in heads.iter_mut().enumerate() {
                let slots = kept(head);
                head.absorb(&shared, (layer, index), &slots, self.rebased)?;
            }
        }
        Ok(())
    }

    /// The statistics of queries as the next positions will rotate them, where the policy needs them.
    fn future_queries(&self, rope: &Rope) -> Vec<Vec<QueryStats>> {
        if !self.policy.need().queries {
            return Vec::new();
        }
        let (cos, sin) = rope.mean(self.next as i64, HORIZON);
        let future = |head: &HeadCache| turned(&head.stats, &cos, &sin);
        self.layers
            .iter()
            .map(|heads| heads.iter().map(future).collect())
            .collect()
    }

    /// Spreads each layer's budget over its heads by importance, where the policy says so.
    fn adapt(&mut self, queries: &[Vec<QueryStats>]) -> Result<(), TchError> {
        let (Spread::Adaptive { floor }, Some(capacity)) =
            (&self.policy.spread, self.policy.capacity())
        else {
            return Ok(());
        };
        let need = self.policy.need();
        for (layer, heads) in self.layers.iter_mut().enumerate() {
            if heads.iter().any(|head| head.slots.len() <= capacity) {
                continue;
            }
            let mut importance = Vec::with_capacity(heads.len());
            let mut sure = Vec::with_capacity(heads.len());
            for (index, head) in heads.iter().enumerate() {
                let keys = match need.keys {
                    true => head.keys(&self.shared, (layer, index))?,
                    false => Vec::new(),
                };
                let stats = queries.get(layer).and_then(|row| row.get(index));
                importance.push(
                    self.policy
                        .importance(&head.slots.view(self.seen, &keys, stats)),
                );
                sure.push(self.policy.protect.len().min(capacity));
            }
            let capacities = adaptive(capacity, *floor, &sure, &importance);
            for (head, capacity) in heads.iter_mut().zip(capacities) {
                head.capacity = Some(capacity);
            }
        }
        Ok(())
    }

    /// Rotates all kept keys to the first positions, in their order, when fewer than `tokens` are left of `context`.
    /// Gaps that eviction left are closed, so the relative distance of what is kept shrinks.
    pub(super) fn make_room(
        &mut self,
        tokens: usize,
        context: usize,
        rope: &Rope,
    ) -> Result<bool, TchError> {
        if self.next + tokens <= context {
            return Ok(true);
        }
        let longest = self
            .layers
            .iter()
            .flatten()
            .map(|head| head.slots.len())
            .max();
        let next = longest.unwrap_or(0);
        if !self.policy.beyond_context || next + tokens > context {
            return Ok(false);
        }
        self.own_all()?;
        let turn = |key: &mut [f32], delta: i64| rope.turn(key, delta);
        for head in self.layers.iter_mut().flatten() {
            let mut order: Vec<usize> = (0..head.slots.len()).collect();
            order.sort_unstable_by_key(|&slot| head.slots.positions()[slot]);
            let mut targets = vec![0u32; order.len()];
            // The newest of every head is next to the token that comes.
            let first = next - order.len();
            for (rank, &slot) in order.iter().enumerate() {
                targets[slot] = (first + rank) as u32;
            }
            head.rebase(targets, &turn)?;
        }
        self.next = next;
        self.rebased += 1;
        Ok(true)
    }

    /// Stores a layer's fresh rows.
    pub(super) fn write(
        &mut self,
        layer: usize,
        keys: &Fresh<'_>,
        values: &Fresh<'_>,
    ) -> Result<(), TchError> {
        let start = (self.seen as u32, self.next as u32);
        for (index, head) in self.layers[layer].iter_mut().enumerate() {
            head.write(start, keys, values, index, &self.policy)?;
        }
        Ok(())
    }

    /// Makes all rows this sequence's own.
    pub(super) fn own_all(&mut self) -> Result<(), TchError> {
        if self.shared.is_empty() {
            return Ok(());
        }
        self.absorb(|head| {
            let mut all: Vec<usize> = (0..head.slots.len()).collect();
            all.sort_unstable_by_key(|&slot| head.slots.positions()[slot]);
            all
        })
    }

    /// Heads, layer by layer.
    pub(super) fn heads(&self) -> impl Iterator<Item = &HeadCache> {
        self.layers.iter().flatten()
    }

    /// Likewise.
    pub(super) fn heads_mut(&mut self) -> impl Iterator<Item = &mut HeadCache> {
        self.layers.iter_mut().flatten()
    }

    /// Tokens seen, the next rotation, re-bases, 1 if anything was ever evicted, queries of the current prompt that
    /// were observed, and 1 in the middle of a prompt: for a file.
    pub(super) fn progress(&self) -> [u32; 6] {
        let narrow = |n: usize| n as u32;
        [
            narrow(self.seen),
            narrow(self.next),
            self.rebased,
            u32::from(self.evicted_once),
            narrow(self.observed),
            u32::from(self.mid_prompt),
        ]
    }

    /// Likewise, back from a file.
    pub(super) fn set_progress(
        &mut self,
        [seen, next, rebased, evicted, observed, mid_prompt]: [u32; 6],
    ) {
        self.seen = seen as usize;
        self.next = next as usize;
        self.rebased = rebased;
        self.evicted_once = evicted != 0;
        self.observed = observed as usize;
        self.mid_prompt = mid_prompt != 0;
    }

    /// Gives back what only a running request has use for.
    pub(super) fn shrink(&mut self) {
        self.layers.iter_mut().flatten().for_each(HeadCache::shrink);
    }

    /// What the heads of `which` hold.
    pub(super) fn picture(&self, which: HeadChoice) -> Picture {
        let heads = self.layers.iter().enumerate().flat_map(|(layer, heads)| {
            let heads = heads.iter().enumerate();
            heads.filter_map(move |(head, cache)| which.has(layer, head).then_some(&cache.slots))
        });
        let shape = (self.shape.layers, self.shape.kv_heads);
        Picture::draw(&self.policy, shape, self.seen, heads)
    }

    pub(super) fn report(&self) -> KvReport {
        let heads = (self.shape.layers * self.shape.kv_heads).max(1);
        let all = || self.layers.iter().flatten();
        let mean = |sum: usize| (sum + heads / 2) / heads;
        let kept = mean(all().map(|head| head.slots.len()).sum());
        let shared = shared_len(&self.shared);
        let shared_bytes: usize = self.shared.iter().map(|node| node.row_bytes()).sum();
        let own: usize = all()
            .map(|head| {
                let recalled: usize = head
                    .recalled
                    .as_ref()
                    .map_or(0, |recalled| recalled.rows.bytes());
                let slots = (head.room() + shared) * HeadSlots::SLOT_BYTES;
                let summary = head.summary.as_ref().map_or(0, Summary::bytes);
                head.arena.bytes() + head.hot.bytes() + recalled + slots + summary
            })
            .sum();
        let protected = |head: &HeadCache| {
            let positions = head.slots.positions().iter();
            positions.filter(|&&p| self.policy.protect.holds(p)).count()
        };
        let pinned = match self.policy.capacity() {
            None => 0,
            // Before the first eviction all heads hold the same.
            Some(_) if !self.evicted_once => all().next().map_or(0, protected),
            Some(_) => mean(all().map(protected).sum()),
        };
        KvReport {
            policy: self.policy.name().to_owned(),
            budget: self.policy.budget(),
            tokens_seen: self.seen,
            tokens_kept: kept,
            evicted: self.seen - kept.min(self.seen),
            pinned,
            recalled: mean(all().map(HeadCache::recalled_len).sum()),
            rebased: self.rebased as usize,
            bytes: own + shared_bytes,
            peak_bytes: self.peak_bytes.max(own + shared_bytes),
            shared_bytes,
            spilled_bytes: all().filter_map(|h| h.cold.as_ref()).map(Cold::bytes).sum(),
        }
    }
}

/// `R q` and `R q q' R'` for an averaged rotation `R`.
fn turned(stats: &QueryStats, cos: &[f32], sin: &[f32]) -> QueryStats {
    let dim = stats.sum.len();
    let mut turned = stats.clone();
    if dim == 0 {
        return turned;
    }
    crate::kernels::rotate(&mut turned.sum, cos, sin);
    for row in turned.outer.chunks_exact_mut(dim) {
        crate::kernels::rotate(row, cos, sin);
    }
    let mut column = vec![0.0; dim];
    for index in 0..dim {
        for (row, value) in column.iter_mut().enumerate() {
            *value = turned.outer[row * dim + index];
        }
        crate::kernels::rotate(&mut column, cos, sin);
        for (row, value) in column.iter().enumerate() {
            turned.outer[row * dim + index] = *value;
        }
    }
    turned
}

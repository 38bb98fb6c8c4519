//! One KV head of one layer of one sequence: its slots, and the rows behind them.
//!
//! Slots are numbered over three stretches in order: blocks shared with other sequences, the arena, and, when rows
//! are stored as int8, the rows still at full precision (sinks and the newest). All are dense: an evicted row's place
//! is taken by the arena's last, so attention never skips and nothing is moved but one row.

use std::sync::Arc;

use tch::TchError;

use super::cold::{Cold, Evicted, Recalled};
use super::journal::Journal;
use super::kv_rows::{Fresh, KvRows, Pair, Place};
use super::node::Node;
use crate::kernels::{Keys, RowsRef, Scratch};
use crate::kv::{HeadSlots, Policy, QueryStats, Summary, When};

/// Slots that an arena starts with.
const FIRST_SLOTS: usize = 64;

/// Newest rows that stay at full precision when the rest is int8 (as KIVI keeps a residual,
/// <https://arxiv.org/abs/2402.02750>), and how many more gather before they are stored.
const HOT: usize = 32;
const HOT_BATCH: usize = 16;

/// First rows that stay at full precision.
const HOT_SINKS: usize = 4;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct HeadCache {
    pub(super) slots: HeadSlots,
    pub(super) arena: Pair,
    /// Rows at full precision in front of an int8 arena: sinks, then the newest in order of time. Else empty.
    pub(super) hot: Pair,
    /// Positions kept at most.
    pub(super) capacity: Option<usize>,
    pub(super) stats: QueryStats,
    pub(super) cold: Option<Cold>,
    pub(super) recalled: Option<Recalled>,
    /// Means of evicted rows.
    pub(super) summary: Option<Summary>,
    /// Bounds of whole pages of slots, where pages are selected.
    pub(super) mins: Vec<f32>,
    pub(super) maxs: Vec<f32>,
    /// What a row with guesses has changed, until it is known which of them stay.
    pub(super) journal: Option<Journal>,
    pub(super) place: Place,
    pub(super) dim: usize,
}

/// Positions of blocks shared in front of a head's own rows.
pub(super) fn shared_len(shared: &[Arc<Node>]) -> usize {
    shared.last().map_or(0, |node| node.start + node.len)
}

impl HeadCache {
    pub(super) fn new(
        place: Place,
        dim: usize,
        capacity: Option<usize>,
        cold: Option<Cold>,
        policy: &Policy,
    ) -> Result<Self, TchError> {
        Ok(HeadCache {
            summary: (policy.summaries > 0).then(|| Summary::new(policy.summaries, dim)),
            slots: HeadSlots::default(),
            arena: Pair::arena(place, dim)?,
            hot: Pair::float(place, dim)?,
            capacity,
            stats: QueryStats::default(),
            cold,
            recalled: None,
            mins: Vec::new(),
            maxs: Vec::new(),
            journal: None,
            place,
            dim,
        })
    }

    /// Slots allocated for own rows.
    pub(super) fn room(&self) -> usize {
        self.arena.keys.room() + self.hot.keys.room()
    }

    /// Stores head `head` of tokens whose first has this position and rotation.
    pub(super) fn write(
        &mut self,
        (position, rotation): (u32, u32),
        keys: &Fresh<'_>,
        values: &Fresh<'_>,
        head: usize,
        policy: &Policy,
    ) -> Result<(), TchError> {
        let tokens = keys.tokens;
        self.slots.place(position, rotation, tokens);
        if policy.need().norms {
            let norm = |value: &[f32]| value.iter().map(|x| x * x).sum::<f32>().sqrt();
            self.slots.measure(values.rows(head).map(norm));
        }
        let extra = match policy.when {
            When::EachStep => Some(1),
            When::Burst(burst) => Some(burst.max(1)),
            When::PromptEnd => None,
        };
        let bound = self.capacity.zip(extra).map(|(c, extra)| c + extra);
        let pair = match self.place.int8 {
            true => &mut self.hot,
            false => &mut self.arena,
        };
        let len = pair.len() + tokens;
        if len > pair.keys.room() {
            let roomy = (pair.keys.room() * 3 / 2).max(FIRST_SLOTS);
            let roomy = bound.map_or(roomy, |bound| roomy.min(bound));
            pair.reserve(roomy.max(len))?;
        }
        pair.keys.extend(keys, head)?;
        pair.values.extend(values, head)
    }

    /// The pair and the row in it of flat slot `slot`.
    fn locate<'a>(
        &'a self,
        shared: &'a [Arc<Node>],
        at: (usize, usize),
        slot: usize,
    ) -> (&'a Pair, usize) {
        let from = shared_len(shared);
        if slot < from {
            // Blocks are of one length, except where a test makes them otherwise.
            let index = shared.partition_point(|node| node.start + node.len <= slot);
            let node = &shared[index];
            return (&node.pairs[at.0][at.1], slot - node.start);
        }
        let own = slot - from;
        match own.checked_sub(self.arena.len()) {
            None => (&self.arena, own),
            Some(hot) => (&self.hot, hot),
        }
    }

    /// All keys by slot, as floats.
    pub(super) fn keys(
        &self,
        shared: &[Arc<Node>],
        at: (usize, usize),
    ) -> Result<Vec<f32>, TchError> {
        let mut floats = Vec::with_capacity(self.slots.len() * self.dim);
        for segment in self.segments(shared, at) {
            segment.keys.read_all(&mut floats)?;
        }
        Ok(floats)
    }

    /// The stretches of slots in order; empty ones left out.
    pub(super) fn segments<'a>(
        &'a self,
        shared: &'a [Arc<Node>],
        at: (usize, usize),
    ) -> impl Iterator<Item = &'a Pair> {
        let nodes = shared.iter().map(move |node| &node.pairs[at.0][at.1]);
        nodes
            .chain([&self.arena, &self.hot])
            .filter(|pair| pair.len() > 0)
    }

    /// Keeps the given flat slots, in order of time, as own rows; what was shared is copied.
    pub(super) fn absorb(
        &mut self,
        shared: &[Arc<Node>],
        at: (usize, usize),
        kept: &[usize],
        epoch: u32,
    ) -> Result<(), TchError> {
        if self.remembers() && kept.len() < self.slots.len() {
            self.spill_all_but(shared, at, kept, epoch)?;
        }
        let mut order = Vec::with_capacity(kept.len());
        let mut hot = Vec::new();
        if self.place.int8 {
            let newest = kept.len().saturating_sub(HOT);
            for (index, &slot) in kept.iter().enumerate() {
                let sink = (self.slots.positions()[slot] as usize) < HOT_SINKS;
                match sink || index >= newest {
                    true => hot.push(slot),
                    false => order.push(slot),
                }
            }
        } else {
            order.extend_from_slice(kept);
        }
        let mut arena = Pair::arena(self.place, self.dim)?;
        let mut front = Pair::float(self.place, self.dim)?;
        match self.place.int8 {
            true => {
                let room = self.capacity.map_or(order.len(), |c| {
                    (c + HOT_BATCH).saturating_sub(hot.len()).max(order.len())
                });
                arena.reserve(room)?;
                front.reserve(HOT_SINKS + HOT + HOT_BATCH + 1)?;
            }
            false => arena.reserve(self.capacity.map_or(order.len(), |c| c + 1))?,
        }
        for &slot in &order {
            let (pair, row) = self.locate(shared, at, slot);
            arena.push_from(pair, row)?;
        }
        for &slot in &hot {
            let (pair, row) = self.locate(shared, at, slot);
            front.push_from(pair, row)?;
        }
        order.extend(hot);
        self.slots.gather(&order);
        self.arena = arena;
        self.hot = front;
        self.mins.clear();
        self.maxs.clear();
        Ok(())
    }

    /// The slot to give up, now that `seen` tokens were seen and there is one too many.
    pub(super) fn victim(&self, policy: &Policy, seen: usize) -> Option<usize> {
        policy.victim(&self.slots.view(seen, &[], None), self.capacity?)
    }

    /// Gives up one slot of its own rows.
    pub(super) fn evict(&mut self, slot: usize, shared: usize, epoch: u32) -> Result<(), TchError> {
        let own = slot - shared;
        if self.remembers() {
            let (mut key, mut value) = (vec![0.0; self.dim], vec![0.0; self.dim]);
            let (pair, row) = match own.checked_sub(self.arena.len()) {
                None => (&self.arena, own),
                Some(hot) => (&self.hot, hot),
            };
            pair.keys.read(row, &mut key)?;
            pair.values.read(row, &mut value)?;
            self.push_cold(slot, &key, &value, epoch)?;
        }
        match own.checked_sub(self.arena.len()) {
            None => {
                let end = shared + self.arena.len();
                self.arena.swap_remove(own)?;
                self.slots.recycle(slot, end);
            }
            Some(hot) => {
                self.hot.remove(hot..hot + 1)?;
                self.slots.recycle(slot, slot + 1);
            }
        }
        Ok(())
    }

    /// How many tokens can be fed one by one and taken back again, with all that happens to the cache meanwhile;
    /// `None` for any number. What is cut at once, cooled, or looked at again when evicted cannot be taken back.
    pub(super) fn undoable(&self, policy: &Policy, shared: &[Arc<Node>]) -> Option<usize> {
        let until = |most: usize| most.saturating_sub(self.slots.len());
        let before_cut = self.capacity.and_then(|capacity| match policy.when {
            When::EachStep if shared.is_empty() && !self.place.int8 && !self.remembers() => None,
            When::EachStep | When::PromptEnd => Some(until(capacity)),
            When::Burst(burst) => Some(until(capacity + burst.max(1) - 1)),
        });
        let before_cooling = self
            .place
            .int8
            .then(|| (HOT_BATCH - 1).saturating_sub(self.lukewarm(shared_len(shared)).1));
        match (before_cut, before_cooling) {
            (Some(cut), Some(cooling)) => Some(cut.min(cooling)),
            (cut, cooling) => cut.or(cooling),
        }
    }

    /// Undoes the writing of the last token.
    pub(super) fn drop_last(&mut self) -> Result<(), TchError> {
        let pair = match self.place.int8 {
            true => &mut self.hot,
            false => &mut self.arena,
        };
        let last = pair.len().saturating_sub(1);
        pair.remove(last..pair.len())?;
        self.slots.drop_last();
        Ok(())
    }

    /// Of the rows at full precision, the sinks, and how many others are more than the newest.
    fn lukewarm(&self, shared: usize) -> (usize, usize) {
        let base = shared + self.arena.len();
        let sinks = self.slots.positions()[base..]
            .iter()
            .take(HOT_SINKS)
            .take_while(|&&position| (position as usize) < HOT_SINKS)
            .count();
        (sinks, self.hot.len().saturating_sub(sinks + HOT))
    }

    /// Stores rows that are no longer among the newest as int8.
    pub(super) fn cool(&mut self, shared: usize) -> Result<(), TchError> {
        if !self.place.int8 {
            return Ok(());
        }
        let base = shared + self.arena.len();
        let (sinks, over) = self.lukewarm(shared);
        if over < HOT_BATCH {
            return Ok(());
        }
        let len = self.arena.len() + over;
        if len > self.arena.keys.room() {
            self.arena
                .reserve((self.arena.keys.room() * 3 / 2).max(len))?;
        }
        for row in sinks..sinks + over {
            self.arena.push_from(&self.hot, row)?;
        }
        self.hot.remove(sinks..sinks + over)?;
        self.slots.rotate(base, sinks, over);
        Ok(())
    }

    fn spill_all_but(
        &mut self,
        shared: &[Arc<Node>],
        at: (usize, usize),
        kept: &[usize],
        epoch: u32,
    ) -> Result<(), TchError> {
        let mut stays = vec![false; self.slots.len()];
        kept.iter().for_each(|&slot| stays[slot] = true);
        let mut gone: Vec<usize> = (0..stays.len()).filter(|&slot| !stays[slot]).collect();
        // In order of time, so that a page is a passage.
        gone.sort_unstable_by_key(|&slot| self.slots.positions()[slot]);
        let (mut key, mut value) = (vec![0.0; self.dim], vec![0.0; self.dim]);
        for slot in gone {
            let (pair, row) = self.locate(shared, at, slot);
            pair.keys.read(row, &mut key)?;
            pair.values.read(row, &mut value)?;
            self.push_cold(slot, &key, &value, epoch)?;
        }
        Ok(())
    }

    fn push_cold(
        &mut self,
        slot: usize,
        key: &[f32],
        value: &[f32],
        epoch: u32,
    ) -> Result<(), TchError> {
        let entry = Evicted {
            position: self.slots.positions()[slot],
            rotated: self.slots.rotated()[slot],
            epoch,
        };
        if let Some(summary) = &mut self.summary {
            summary.add(entry.position, key, value);
        }
        match &mut self.cold {
            Some(cold) => cold.push(entry, key, value),
            None => Ok(()),
        }
    }

    /// Whether evicted rows are looked at once more.
    fn remembers(&self) -> bool {
        self.cold.is_some() || self.summary.is_some()
    }

    /// Attends again to the spilled rows, at most `tokens`, that promise most to `queries` `[n, head_dim]`, already
    /// scaled. `turn` rotates a key by a number of positions.
    pub(super) fn recall(
        &mut self,
        (shared, at): (&[Arc<Node>], (usize, usize)),
        queries: &[f32],
        tokens: usize,
        epoch: u32,
        turn: &dyn Fn(&mut [f32], i64),
        scratch: &mut Scratch,
    ) -> Result<(), TchError> {
        let Some(cold) = self.cold.as_ref().filter(|cold| cold.len() > 0) else {
            return Ok(());
        };
        let segments: Vec<&Pair> = self.segments(shared, at).collect();
        let mut copies = Vec::new();
        for segment in segments.iter().filter(|s| s.keys.host().is_none()) {
            // Keys on a device are weighed on the host.
            segment.keys.read_all(&mut copies)?;
        }
        let mut kept: Vec<Keys<'_>> = Vec::with_capacity(segments.len() + 1);
        kept.push(Keys {
            len: copies.len() / self.dim,
            rows: RowsRef::F32(&copies),
        });
        kept.extend(segments.iter().filter_map(|segment| {
            let len = segment.len();
            let rows = segment.keys.view(0..len)?;
            Some(Keys { rows, len })
        }));
        let mut recalled = cold.recall(queries, &kept, tokens, scratch)?;
        for (row, entry) in recalled.entries.iter().enumerate() {
            if entry.epoch == epoch {
                continue;
            }
            // Kept keys were rotated anew since: this one goes where its nearest kept elder is.
            let target = self.elder(entry.position);
            let mut key = vec![0.0; self.dim];
            recalled.rows.keys.read(row, &mut key)?;
            turn(&mut key, i64::from(target) - i64::from(entry.rotated));
            recalled.rows.keys.write(row, &key)?;
        }
        self.recalled = Some(recalled);
        Ok(())
    }

    /// Means move with the kept position that is next before them.
    fn rebase_summary(&mut self, targets: &[u32], turn: &dyn Fn(&mut [f32], i64)) {
        let Some(mut summary) = self.summary.take() else {
            return;
        };
        for index in 0..summary.len() {
            let middle = summary.middle(index);
            let slots = self.slots.positions().iter().enumerate();
            let elder = slots
                .filter(|&(_, &p)| p <= middle)
                .max_by_key(|&(_, &p)| p);
            if let Some((slot, _)) = elder {
                let delta = i64::from(targets[slot]) - i64::from(self.slots.rotated()[slot]);
                turn(summary.key_mut(index), delta);
            }
        }
        self.summary = Some(summary);
    }

    /// The rotation of the newest kept position before `position`.
    fn elder(&self, position: u32) -> u32 {
        let kept = self.slots.positions().iter().zip(self.slots.rotated());
        kept.filter(|&(&p, _)| p < position)
            .max_by_key(|&(&p, _)| p)
            .map_or(0, |(_, &rotated)| rotated)
    }

    /// Gives back what only a running request has use for: room to grow, and copies of recalled rows.
    pub(super) fn shrink(&mut self) {
        self.arena.shrink();
        self.hot.shrink();
        self.recalled = None;
    }

    /// Positions attended to again.
    pub(super) fn recalled_len(&self) -> usize {
        self.recalled.as_ref().map_or(0, |r| r.entries.len())
    }

    /// Rotates every own key to `targets`, by slot. All rows must be own.
    pub(super) fn rebase(
        &mut self,
        targets: Vec<u32>,
        turn: &dyn Fn(&mut [f32], i64),
    ) -> Result<(), TchError> {
        self.rebase_summary(&targets, turn);
        let mut key = vec![0.0; self.dim];
        for (slot, &target) in targets.iter().enumerate() {
            let delta = i64::from(target) - i64::from(self.slots.rotated()[slot]);
            if delta == 0 {
                continue;
            }
            let (rows, row): (&mut KvRows, usize) = match slot.checked_sub(self.arena.len()) {
                None => (&mut self.arena.keys, slot),
                Some(hot) => (&mut self.hot.keys, hot),
            };
            rows.read(row, &mut key)?;
            turn(&mut key, delta);
            rows.write(row, &key)?;
        }
        self.slots.rebase(targets);
        self.recalled = None;
        Ok(())
    }
}

//! Who runs in the next step: running answers first, then prompts that are half read, then those that are let in, all
//! inside of one budget of tokens. When memory is short, the last in order give way.

use std::time::{Duration, Instant};

use crate::ids::SeqId;

use super::batch::{Claim, StepCost};
use super::scheduler::Scheduler;
use super::sequence::Sequence;
use super::{Phase, Plan, Row};

/// Steps that a sequence stays in the batch before it has to give way to one that is let in: pausing costs a copy,
/// and orders that change with time shall not swap two sequences at every step.
const LEAST_STAY: u64 = 16;
/// Steps that a lease is waited for before others have to give way.
const LEASE_STEPS: u64 = 2;

/// A place in the order: the rank, then the age.
type Place = (i64, SeqId);

impl Scheduler {
    /// The next step's work, or `None` when there is none.
    pub fn plan(&mut self, now: Instant) -> Option<Plan> {
        let mut left = self.fit_running(now);
        if self.reading.is_empty() {
            left.extend(self.make_way(now));
        }
        let paused: Vec<SeqId> = left.iter().map(|sequence| sequence.id).collect();
        let mut cost = StepCost::default();
        self.paused.extend(left);
        let mut rows = self.decode_rows(&mut cost, now);
        cost.prompts = self.prompts();
        self.slice = match self.predictor.slices() {
            1 => None,
            _ => self.batcher.slice(&cost, &self.predictor),
        };
        if self.reading.is_empty() {
            self.read(&paused, &mut rows, &mut cost, now);
        }
        if rows.is_empty() && paused.is_empty() && self.ended.is_empty() && self.reading.is_empty()
        {
            return None;
        }
        if self.reading.is_empty() {
            self.draft(&mut rows, &mut cost);
        }
        self.steps += 1;
        self.under_way = Some((cost, now));
        Some(Plan {
            rows,
            paused,
            ended: std::mem::take(&mut self.ended),
        })
    }

    /// Adds rows of prompts. When they may be put off in the middle, no others are begun until they are done.
    fn read(&mut self, paused: &[SeqId], rows: &mut Vec<Row>, cost: &mut StepCost, now: Instant) {
        let begun = self.prompt_rows(paused, cost, now);
        if self.slice.is_some() && cost.prefill > 0 {
            let prompts = begun
                .iter()
                .filter(|row| matches!(row.phase, Phase::Prompt { .. }));
            self.reading = prompts.map(|row| row.seq).collect();
            self.read = (cost.take_prompts(), Duration::ZERO);
        }
        rows.extend(begun);
    }

    fn place(&self, sequence: &Sequence, now: Instant) -> Place {
        let rank = self.prioritizer.rank(&sequence.candidate(), now);
        (rank, sequence.id)
    }

    /// The running sequences that pass `test`, in order.
    fn in_order(&self, now: Instant, test: impl Fn(&Sequence) -> bool) -> Vec<Place> {
        let running = self.running.iter().filter(|s| test(s));
        let mut places: Vec<Place> = running.map(|s| self.place(s, now)).collect();
        places.sort_unstable();
        places
    }

    /// Whether its prompt was read, and it generates.
    fn answers(&self, sequence: &Sequence) -> bool {
        sequence.decoding() && !self.reading.contains(&sequence.id)
    }

    fn running_mut(&mut self, seq: SeqId) -> Option<&mut Sequence> {
        self.running.iter_mut().find(|s| s.id == seq)
    }

    /// Blocks that one which waits or is paused needs to be in the batch.
    pub(super) fn blocks_to_join(&self, sequence: &Sequence) -> usize {
        match sequence.has_started() && sequence.decoding() {
            true => self.memory.again(&sequence.request, sequence.kept()),
            false => self.memory.first(&sequence.request),
        }
    }

    /// Who is let in next: the first in order of those that wait or were paused.
    pub(super) fn next_in(&self, now: Instant) -> Option<&Sequence> {
        let outside = self.waiting.iter().chain(&self.paused);
        outside.min_by_key(|sequence| self.place(sequence, now))
    }

    /// Brings the blocks of running answers to what they need for their next token. When none is free, the last in
    /// order is paused, and so on; the one that asks may be that. Returns who was.
    fn fit_running(&mut self, now: Instant) -> Vec<Sequence> {
        let mut left = Vec::new();
        for (_, seq) in self.in_order(now, |s| self.answers(s)) {
            while let Some(sequence) = self.running.iter().find(|s| s.id == seq) {
                if self.memory.fit(seq, sequence.kept()).is_ok() {
                    break;
                }
                let last = self.in_order(now, |s| !self.reading.contains(&s.id)).pop();
                match last.and_then(|(_, last)| self.leave_batch(last, now)) {
                    Some(sequence) => left.push(sequence),
                    None => break,
                }
            }
        }
        left
    }

    /// Pauses who comes after the first of those outside, if that makes room for it and nothing else does.
    fn make_way(&mut self, now: Instant) -> Vec<Sequence> {
        let next = self.next_in(now);
        let next = next.map(|next| (self.place(next, now), self.blocks_to_join(next)));
        let full = self.running.len() >= self.config.max_batch;
        let Some((place, blocks)) = next.filter(|_| !full) else {
            self.short_since = None;
            return Vec::new();
        };
        if self.memory.fits(blocks, 0) {
            self.short_since = None;
            return Vec::new();
        }
        if self.memory.could_lease(blocks) {
            let since = *self.short_since.get_or_insert(self.steps);
            if self.steps < since + LEASE_STEPS {
                return Vec::new();
            }
        }
        let steps = self.steps;
        let mut after = self.in_order(now, |s| steps >= s.joined + LEAST_STAY);
        after.retain(|other| *other > place);
        let mut freed = 0;
        let mut going = Vec::new();
        while let Some((_, seq)) = after.pop() {
            freed += self.memory.accounts().table(seq);
            going.push(seq);
            if self.memory.fits_after(blocks, freed) {
                return going
                    .into_iter()
                    .filter_map(|seq| self.leave_batch(seq, now))
                    .collect();
            }
        }
        Vec::new()
    }

    fn leave_batch(&mut self, seq: SeqId, now: Instant) -> Option<Sequence> {
        let place = self.running.iter().position(|s| s.id == seq)?;
        let mut sequence = self.running.remove(place);
        sequence.pause(now);
        self.memory.free(seq);
        Some(sequence)
    }

    /// One row for each running answer.
    fn decode_rows(&mut self, cost: &mut StepCost, now: Instant) -> Vec<Row> {
        let reading = &self.reading;
        let running = self.running.iter_mut();
        let running = running.filter(|s| s.decoding() && !reading.contains(&s.id));
        let mut rows = Vec::new();
        for sequence in running {
            let context = sequence.kept();
            let row = sequence.row(0, now);
            cost.add_decode(row.tokens.len(), context);
            rows.push(row);
        }
        rows
    }

    /// Prompts that are being read, and those for which the batch has a place.
    fn prompts(&self) -> usize {
        let reading = self.running.iter().filter(|s| !self.answers(s)).count();
        let places = self.config.max_batch.saturating_sub(self.running.len());
        reading + places.min(self.waiting.len())
    }

    /// Rows of prompts: half read ones, then those that are let in, in order. Nobody is overtaken by one that is let
    /// in after it, nor by one that comes after somebody who was `paused` for this step.
    fn prompt_rows(&mut self, paused: &[SeqId], cost: &mut StepCost, now: Instant) -> Vec<Row> {
        let grid = self.config.prefill_tokens;
        let reading = self.in_order(now, |s| !s.decoding());
        let mut claims: Vec<(SeqId, Claim)> = Vec::new();
        for (_, seq) in reading {
            if let Some(sequence) = self.running.iter().find(|s| s.id == seq) {
                claims.push((seq, sequence.claim(grid)));
            }
        }
        let inside = claims.len();
        let (resumed, entering) = self.entering(&claims, paused, cost, now);
        let mut rows = Vec::new();
        for seq in resumed {
            rows.extend(self.enter(seq, 0, cost, now));
        }
        claims.extend(entering);
        let first = claims.first().map(|(_, claim)| claim);
        let budget = self.batcher.budget(cost, first, &self.predictor);
        let all: Vec<Claim> = claims.iter().map(|(_, claim)| *claim).collect();
        let shares = self.batcher.share(budget, &all);
        for (place, ((seq, claim), share)) in claims.into_iter().zip(shares).enumerate() {
            if share > 0 && place < inside {
                if let Some(sequence) = self.running_mut(seq) {
                    rows.push(sequence.row(share, now));
                    cost.add_prompt(share, claim.context);
                }
            } else if share > 0 {
                rows.extend(self.enter(seq, share, cost, now));
            } else if place >= inside {
                break;
            }
        }
        self.running.sort_by_key(|s| s.id);
        rows
    }

    /// Who could be let in now, in order, as far as places, memory and the step's budget go: paused answers, which
    /// only need their place, and prompts with what they claim.
    fn entering(
        &self,
        reading: &[(SeqId, Claim)],
        paused: &[SeqId],
        cost: &StepCost,
        now: Instant,
    ) -> (Vec<SeqId>, Vec<(SeqId, Claim)>) {
        let grid = self.config.prefill_tokens;
        let outside = self.waiting.iter().chain(&self.paused);
        let mut order: Vec<(Place, &Sequence)> = outside.map(|s| (self.place(s, now), s)).collect();
        order.sort_unstable_by_key(|(place, _)| *place);
        let piece = |claim: &Claim| claim.to_line.min(self.batcher.least());
        let mut claimed: usize = reading.iter().map(|(_, claim)| piece(claim)).sum();
        let mut first = reading.first().map(|(_, claim)| *claim);
        let (mut resumed, mut entering) = (Vec::new(), Vec::new());
        let (mut places, mut blocks) = (self.running.len(), 0);
        for (_, sequence) in order {
            let needed = self.blocks_to_join(sequence);
            let full = places >= self.config.max_batch || !self.memory.fits(needed, blocks);
            if full || paused.contains(&sequence.id) {
                break;
            }
            if sequence.has_started() && sequence.decoding() {
                resumed.push(sequence.id);
            } else {
                let claim = sequence.claim(grid);
                let first = *first.get_or_insert(claim);
                if claimed >= self.batcher.budget(cost, Some(&first), &self.predictor) {
                    break;
                }
                claimed += piece(&claim);
                entering.push((sequence.id, claim));
            }
            places += 1;
            blocks += needed;
        }
        (resumed, entering)
    }

    /// Lets one in, for the first time or again. Returns its row.
    fn enter(
        &mut self,
        seq: SeqId,
        chunk: usize,
        cost: &mut StepCost,
        now: Instant,
    ) -> Option<Row> {
        let queue = match self.waiting.iter().any(|s| s.id == seq) {
            true => &mut self.waiting,
            false => &mut self.paused,
        };
        let place = queue.iter().position(|s| s.id == seq)?;
        let mut sequence = queue.remove(place);
        let blocks = self.blocks_to_join(&sequence);
        if let Err(error) = self.memory.admit(seq, blocks) {
            // `entering` has counted them: a defect, and the sequence waits on.
            debug_assert!(false, "{error}");
            let queue = match sequence.has_started() {
                true => &mut self.paused,
                false => &mut self.waiting,
            };
            queue.insert(place, sequence);
            return None;
        }
        if !sequence.has_started() {
            self.prioritizer.started(&sequence.candidate());
        }
        let context = sequence.kept();
        sequence.join(self.steps, now);
        let row = sequence.row(chunk, now);
        match chunk {
            0 => cost.add_decode(row.tokens.len(), context),
            _ => cost.add_prompt(chunk, context),
        }
        self.running.push(sequence);
        Some(row)
    }
}

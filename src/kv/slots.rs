//! The slots of one KV head of one layer: which position lies where, and what it scored.

use super::policy::{HeadView, Need, QueryStats};
use super::{Policy, Score};

/// Positions and scores by slot. Slots are a set: their order says nothing about time, and all are in use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeadSlots {
    positions: Vec<u32>,
    /// The position that each key was rotated to; differs from `positions` after a re-base.
    rotated: Vec<u32>,
    sums: Vec<f32>,
    fast: Vec<f32>,
    norms: Vec<f32>,
}

/// What is known of one slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    position: u32,
    rotated: u32,
    sum: f32,
    fast: f32,
    norm: Option<f32>,
}

/// What a run of queries paid to each slot.
#[derive(Debug, Clone, Copy)]
pub struct Paid<'a> {
    /// Summed over all of them; empty when sums are not needed.
    pub sums: &'a [f32],
    /// Weighed as the second score has it; empty when there is none.
    pub fast: &'a [f32],
    /// What the second score keeps of what it was before.
    pub keep: f32,
}

impl HeadSlots {
    /// Positions by slot.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Rotations by slot.
    pub fn rotated(&self) -> &[u32] {
        &self.rotated
    }

    /// Attention received, by slot.
    pub fn sums(&self) -> &[f32] {
        &self.sums
    }

    /// The second score, by slot.
    pub fn fast(&self) -> &[f32] {
        &self.fast
    }

    /// Lengths of values, by slot; empty when no policy asked.
    pub fn norms(&self) -> &[f32] {
        &self.norms
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// A head with these slots; `None` when the parts are not of one length or a position appears twice.
    pub fn from_parts(
        positions: Vec<u32>,
        rotated: Vec<u32>,
        sums: Vec<f32>,
        fast: Vec<f32>,
        norms: Vec<f32>,
    ) -> Option<Self> {
        let n = positions.len();
        let lengths = [rotated.len(), sums.len(), fast.len()];
        let mut sorted = positions.clone();
        sorted.sort_unstable();
        let distinct = sorted.windows(2).all(|w| w[0] != w[1]);
        let fits = lengths.iter().all(|&l| l == n) && (norms.is_empty() || norms.len() == n);
        (fits && distinct).then_some(HeadSlots {
            positions,
            rotated,
            sums,
            fast,
            norms,
        })
    }

    /// Takes in `count` tokens at positions `start..`, whose keys are rotated to `rotated..`, in new slots at the end.
    pub fn place(&mut self, start: u32, rotated: u32, count: usize) {
        let count = count as u32;
        self.positions.extend(start..start + count);
        self.rotated.extend(rotated..rotated + count);
        self.sums.resize(self.positions.len(), 0.0);
        self.fast.resize(self.positions.len(), 0.0);
    }

    /// The lengths of the values placed last.
    pub fn measure(&mut self, norms: impl IntoIterator<Item = f32>) {
        self.norms.extend(norms);
        debug_assert_eq!(self.norms.len(), self.positions.len());
    }

    /// Forgets the lengths of values: the policy from here on does not measure.
    pub fn forget_norms(&mut self) {
        self.norms.clear();
    }

    /// Adds the attention that each of the first slots received from a run of queries.
    pub fn pay(&mut self, paid: &Paid<'_>) {
        for (sum, paid) in self.sums.iter_mut().zip(paid.sums) {
            *sum += paid;
        }
        if !paid.fast.is_empty() {
            if paid.keep != 1.0 {
                self.fast.iter_mut().for_each(|fast| *fast *= paid.keep);
            }
            for (fast, paid) in self.fast.iter_mut().zip(paid.fast) {
                *fast += paid;
            }
        }
    }

    /// Adds what one decode query paid. `mass` is by slot.
    pub fn step(&mut self, need: &Need, mass: &[f32]) {
        let (fast, keep) = match need.fast.step() {
            None => (&[][..], 1.0),
            Some(keep) => (mass, keep),
        };
        let sums = if need.sums { mass } else { &[] };
        self.pay(&Paid { sums, fast, keep });
    }

    /// Replaces the sums.
    pub fn set_sums(&mut self, sums: Vec<f32>) {
        debug_assert_eq!(sums.len(), self.sums.len());
        self.sums = sums;
    }

    /// Replaces the second score.
    pub fn set_fast(&mut self, fast: Vec<f32>) {
        debug_assert_eq!(fast.len(), self.fast.len());
        self.fast = fast;
    }

    /// Brings the second score of a prompt, in which `queries` were observed, to the scale of decoding.
    pub fn settle(&mut self, policy: &Policy, queries: usize) {
        if let Score::Hybrid(hybrid) = policy.score {
            self.fast = hybrid.settle(&self.positions, &self.fast, queries);
        }
    }

    /// As a policy sees it.
    pub fn view<'a>(
        &'a self,
        seen: usize,
        keys: &'a [f32],
        queries: Option<&'a QueryStats>,
    ) -> HeadView<'a> {
        HeadView {
            positions: &self.positions,
            sums: &self.sums,
            fast: &self.fast,
            norms: &self.norms,
            keys,
            queries,
            seen: seen as u32,
        }
    }

    /// Keeps the given slots, in their order.
    pub fn gather(&mut self, kept: &[usize]) {
        self.positions = pick(&self.positions, kept);
        self.rotated = pick(&self.rotated, kept);
        self.sums = pick(&self.sums, kept);
        self.fast = pick(&self.fast, kept);
        if !self.norms.is_empty() {
            self.norms = pick(&self.norms, kept);
        }
    }

    /// Gives up `slot`; the last of the slots before `end` takes its place, and those from `end` on move down by one.
    pub fn recycle(&mut self, slot: usize, end: usize) {
        fn out<T>(values: &mut Vec<T>, slot: usize, end: usize) {
            if !values.is_empty() {
                values.swap(slot, end - 1);
                values.remove(end - 1);
            }
        }
        out(&mut self.positions, slot, end);
        out(&mut self.rotated, slot, end);
        out(&mut self.sums, slot, end);
        out(&mut self.fast, slot, end);
        out(&mut self.norms, slot, end);
    }

    /// All of one slot, to bring it back with [`HeadSlots::restore`].
    pub fn slot(&self, slot: usize) -> Option<Slot> {
        Some(Slot {
            position: *self.positions.get(slot)?,
            rotated: *self.rotated.get(slot)?,
            sum: *self.sums.get(slot)?,
            fast: *self.fast.get(slot)?,
            norm: self.norms.get(slot).copied(),
        })
    }

    /// Undoes [`HeadSlots::recycle`] of `slot`, which was `was`, when the end was that of all slots.
    pub fn restore(&mut self, slot: usize, was: Slot) {
        fn back<T>(values: &mut Vec<T>, slot: usize, was: T) {
            values.push(was);
            let last = values.len() - 1;
            values.swap(slot, last);
        }
        back(&mut self.positions, slot, was.position);
        back(&mut self.rotated, slot, was.rotated);
        back(&mut self.sums, slot, was.sum);
        back(&mut self.fast, slot, was.fast);
        if let Some(norm) = was.norm {
            back(&mut self.norms, slot, norm);
        }
    }

    /// Undoes [`HeadSlots::place`] of the last token.
    pub fn drop_last(&mut self) {
        self.positions.pop();
        self.rotated.pop();
        self.sums.pop();
        self.fast.pop();
        self.norms.pop();
    }

    /// Moves the `count` slots from `from` on behind the `over` slots that follow them.
    pub fn rotate(&mut self, from: usize, count: usize, over: usize) {
        let range = from..from + count + over;
        self.positions[range.clone()].rotate_left(count);
        self.rotated[range.clone()].rotate_left(count);
        self.sums[range.clone()].rotate_left(count);
        self.fast[range.clone()].rotate_left(count);
        if !self.norms.is_empty() {
            self.norms[range].rotate_left(count);
        }
    }

    /// Names new rotations, after a re-base; by slot.
    pub fn rebase(&mut self, rotated: Vec<u32>) {
        debug_assert_eq!(rotated.len(), self.rotated.len());
        self.rotated = rotated;
    }

    /// `(position, sum)` of what is held, in time order: for pictures and tests.
    pub fn held(&self) -> Vec<(u32, f32)> {
        let mut held: Vec<(u32, f32)> = self
            .positions
            .iter()
            .copied()
            .zip(self.sums.iter().copied())
            .collect();
        held.sort_by_key(|&(position, _)| position);
        held
    }

    /// Bytes of the bookkeeping of one slot.
    pub const SLOT_BYTES: usize = 2 * size_of::<u32>() + 2 * size_of::<f32>();
}

fn pick<T: Copy>(values: &[T], slots: &[usize]) -> Vec<T> {
    slots.iter().map(|&slot| values[slot]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(held: &[(u32, f32)], positions: &[u32], scores: &[f32]) {
        let (at, mass): (Vec<u32>, Vec<f32>) = held.iter().copied().unzip();
        assert_eq!(at, positions);
        for (found, expected) in mass.iter().zip(scores) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{mass:?} is not {scores:?}"
            );
        }
    }

    /// Column sums of the lower-triangular rows of a prompt.
    fn columns(rows: &[&[f32]]) -> Vec<f32> {
        (0..rows.len())
            .map(|column| rows.iter().filter_map(|row| row.get(column)).sum())
            .collect()
    }

    const PROMPT: [&[f32]; 4] = [&[1.0], &[0.7, 0.3], &[0.2, 0.5, 0.3], &[0.1, 0.6, 0.1, 0.2]];

    fn read(head: &mut HeadSlots, sums: &[f32]) {
        head.pay(&Paid {
            sums,
            fast: &[],
            keep: 1.0,
        });
    }

    fn cut(head: &mut HeadSlots, policy: &Policy) {
        let kept = policy.keep(&head.view(head.len(), &[], None), 3);
        head.gather(&kept);
    }

    /// One decode step whose attention is given in time order.
    fn step(head: &mut HeadSlots, policy: &Policy, position: u32, attention: &[f32]) {
        head.place(position, position, 1);
        let mut order: Vec<usize> = (0..head.len()).collect();
        order.sort_by_key(|&slot| head.positions()[slot]);
        let mut mass = vec![0.0; head.len()];
        for (&slot, &p) in order.iter().zip(attention) {
            mass[slot] = p;
        }
        head.step(&policy.need(), &mass);
        let seen = position as usize + 1;
        let victim = policy.victim(&head.view(seen, &[], None), 3);
        if let Some(slot) = victim {
            head.recycle(slot, head.len());
        }
    }

    #[test]
    fn one_heavy_and_two_recent_as_worked_out_by_hand() {
        let policy = Policy::h2o(1, 2).unwrap();
        let mut head = HeadSlots::default();
        head.place(0, 0, 4);
        read(&mut head, &columns(&PROMPT));
        cut(&mut head, &policy);
        close(&head.held(), &[0, 2, 3], &[2.0, 0.4, 0.2]);
        step(&mut head, &policy, 4, &[0.1, 0.5, 0.2, 0.2]);
        close(&head.held(), &[0, 3, 4], &[2.1, 0.4, 0.2]);
        step(&mut head, &policy, 5, &[0.05, 0.8, 0.1, 0.05]);
        close(&head.held(), &[0, 4, 5], &[2.15, 0.3, 0.05]);
        assert_eq!(head.len(), 3, "never more than the capacity between steps");
    }

    #[test]
    fn a_query_group_is_summed() {
        let policy = Policy::h2o(1, 2).unwrap();
        let second: [&[f32]; 4] = [&[1.0], &[0.1, 0.9], &[0.1, 0.8, 0.1], &[0.1, 0.7, 0.1, 0.1]];
        let group: Vec<f32> = columns(&PROMPT)
            .iter()
            .zip(columns(&second))
            .map(|(a, b)| a + b)
            .collect();
        let mut head = HeadSlots::default();
        head.place(0, 0, 4);
        read(&mut head, &group);
        close(&head.held(), &[0, 1, 2, 3], &[3.3, 3.8, 0.6, 0.3]);
        cut(&mut head, &policy);
        close(&head.held(), &[1, 2, 3], &[3.8, 0.6, 0.3]);
    }

    #[test]
    fn slots_move_together() {
        let mut head = HeadSlots::default();
        head.place(10, 0, 5);
        head.measure([1.0, 2.0, 3.0, 4.0, 5.0]);
        head.recycle(0, 3);
        assert_eq!(head.positions(), [12, 11, 13, 14]);
        assert_eq!(head.rotated(), [2, 1, 3, 4]);
        assert_eq!(head.norms(), [3.0, 2.0, 4.0, 5.0]);
        head.rotate(1, 1, 2);
        assert_eq!(head.positions(), [12, 13, 14, 11]);
        assert_eq!(head.norms(), [3.0, 4.0, 5.0, 2.0]);
    }

    #[test]
    fn what_was_recycled_comes_back() {
        let mut head = HeadSlots::default();
        head.place(10, 0, 4);
        head.measure([1.0, 2.0, 3.0, 4.0]);
        for slot in 0..4 {
            let before = head.clone();
            let was = head.slot(slot).unwrap();
            head.recycle(slot, 4);
            assert_ne!(head, before);
            head.restore(slot, was);
            assert_eq!(head, before);
        }
        head.drop_last();
        assert_eq!(
            (head.positions(), head.norms().len()),
            (&[10, 11, 12][..], 3)
        );
    }

    #[test]
    fn a_decaying_score_forgets() {
        let need = Policy::h2o(1, 1).unwrap().scored(Score::Decay(0.5)).need();
        let mut head = HeadSlots::default();
        head.place(0, 0, 2);
        head.step(&need, &[1.0, 0.0]);
        head.step(&need, &[0.25, 0.75]);
        assert_eq!(head.fast(), [0.75, 0.75]);
        assert_eq!(head.sums(), [0.0, 0.0], "what is not needed is not kept");
    }

    #[test]
    fn parts_are_checked() {
        let make = |positions: Vec<u32>, sums: usize| {
            let n = positions.len();
            HeadSlots::from_parts(positions, vec![0; n], vec![0.0; sums], vec![0.0; n], vec![])
        };
        assert!(make(vec![1, 2], 2).is_some());
        assert!(make(vec![1, 1], 2).is_none());
        assert!(make(vec![1, 2], 3).is_none());
    }

    #[test]
    fn ten_thousand_small_increments_do_not_stall() {
        let need = Policy::h2o(1, 1).unwrap().need();
        let mut head = HeadSlots::default();
        head.place(0, 0, 1);
        for _ in 0..10_000 {
            head.step(&need, &[0.001]);
        }
        let error = (head.sums()[0] / 10.0 - 1.0).abs();
        assert!(error < 1e-3, "{}", head.sums()[0]);
    }
}

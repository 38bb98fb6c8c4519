//! The slots of one KV head of one layer: which position lies where, and what it scored.

use super::Policy;

/// Where the tokens of a step go: the first into `reused` if there is one, the rest behind `appended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The recycled slot that takes the first token.
    pub reused: Option<usize>,
    /// The first slot of those added at the end.
    pub appended: usize,
}

/// Positions and scores by slot. Slots are a set: their order says nothing about time.
///
/// Between steps at most one slot is vacant (its token was evicted); the next token takes it, so every slot is in
/// use whenever attention is computed and a full head never moves its rows.
#[derive(Debug, Clone, Default)]
pub struct HeadSlots {
    positions: Vec<u32>,
    scores: Vec<f32>,
    vacant: Option<usize>,
}

impl HeadSlots {
    /// Positions by slot. Includes the vacant slot's old one between an eviction and the next step.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Accumulated attention by slot.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// Slots allocated so far, the vacant one included.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether no token was ever placed.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Positions held.
    pub fn kept(&self) -> usize {
        self.positions.len() - usize::from(self.vacant.is_some())
    }

    /// Takes in `count` tokens at positions `start..`, and says where their keys and values belong.
    pub fn place(&mut self, start: u32, count: usize) -> Placement {
        let mut next = start..start + count as u32;
        let reused = if count > 0 { self.vacant.take() } else { None };
        if let (Some(slot), Some(position)) = (reused, reused.and_then(|_| next.next())) {
            self.positions[slot] = position;
            self.scores[slot] = 0.0;
        }
        let appended = self.positions.len();
        self.positions.extend(next);
        self.scores.resize(self.positions.len(), 0.0);
        Placement { reused, appended }
    }

    /// Adds the attention that each slot received in a step. `mass` is by slot.
    pub fn add(&mut self, mass: &[f32]) {
        for (score, mass) in self.scores.iter_mut().zip(mass) {
            *score += mass;
        }
    }

    /// Evicts at most one position, by recycling its slot in place: the decode step's rule.
    pub fn recycle(&mut self, policy: Policy) {
        debug_assert!(self.vacant.is_none());
        self.vacant = policy.victim(&self.positions, &self.scores);
    }

    /// Evicts down to the policy's capacity at once: the rule after a prompt. Returns the slots to keep, in time
    /// order, which become slots `0..`; `None` when nothing goes.
    pub fn cut(&mut self, policy: Policy) -> Option<Vec<usize>> {
        debug_assert!(self.vacant.is_none());
        if self.positions.len() <= policy.capacity()? {
            return None;
        }
        let kept = policy.keep(&self.positions, &self.scores);
        self.positions = kept.iter().map(|&slot| self.positions[slot]).collect();
        self.scores = kept.iter().map(|&slot| self.scores[slot]).collect();
        Some(kept)
    }

    /// `(position, score)` of what is held, in time order: for pictures and tests.
    pub fn held(&self) -> Vec<(u32, f32)> {
        let mut held: Vec<(u32, f32)> = (0..self.len())
            .filter(|&slot| Some(slot) != self.vacant)
            .map(|slot| (self.positions[slot], self.scores[slot]))
            .collect();
        held.sort_by_key(|&(position, _)| position);
        held
    }
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

    /// A step of decoding: `attention` is given by held position in time order, the new token last.
    fn step(head: &mut HeadSlots, policy: Policy, position: u32, attention: &[f32]) {
        head.place(position, 1);
        let mut order: Vec<usize> = (0..head.len()).collect();
        order.sort_by_key(|&slot| head.positions()[slot]);
        let mut mass = vec![0.0; head.len()];
        for (&slot, &p) in order.iter().zip(attention) {
            mass[slot] = p;
        }
        head.add(&mass);
        head.recycle(policy);
    }

    #[test]
    fn one_heavy_and_two_recent_as_worked_out_by_hand() {
        let policy = Policy::h2o(1, 2).unwrap();
        let mut head = HeadSlots::default();
        head.place(0, 4);
        head.add(&columns(&PROMPT));
        head.cut(policy);
        close(&head.held(), &[0, 2, 3], &[2.0, 0.4, 0.2]);
        step(&mut head, policy, 4, &[0.1, 0.5, 0.2, 0.2]);
        close(&head.held(), &[0, 3, 4], &[2.1, 0.4, 0.2]);
        step(&mut head, policy, 5, &[0.05, 0.8, 0.1, 0.05]);
        close(&head.held(), &[0, 4, 5], &[2.15, 0.3, 0.05]);
        assert_eq!(head.len(), 4, "one slot more than the capacity, for ever");
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
        head.place(0, 4);
        head.add(&group);
        close(&head.held(), &[0, 1, 2, 3], &[3.3, 3.8, 0.6, 0.3]);
        head.cut(policy);
        close(&head.held(), &[1, 2, 3], &[3.8, 0.6, 0.3]);
    }

    #[test]
    fn a_chunk_after_an_eviction_fills_the_vacant_slot_first() {
        let policy = Policy::window(2).unwrap();
        let mut head = HeadSlots::default();
        head.place(0, 2);
        head.place(2, 1);
        head.recycle(policy);
        assert_eq!(head.kept(), 2);
        let placement = head.place(3, 3);
        assert_eq!(
            placement,
            Placement {
                reused: Some(0),
                appended: 3
            }
        );
        assert_eq!(head.positions(), [3, 1, 2, 4, 5]);
        head.cut(policy);
        close(&head.held(), &[4, 5], &[0.0, 0.0]);
    }

    #[test]
    fn ten_thousand_small_increments_do_not_stall() {
        let mut head = HeadSlots::default();
        head.place(0, 1);
        for _ in 0..10_000 {
            head.add(&[0.001]);
        }
        assert!(
            (head.scores()[0] - 10.0).abs() < 0.01,
            "{}",
            head.scores()[0]
        );
    }
}

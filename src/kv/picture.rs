//! What a cache holds at one moment: how many heads keep each position, and how much attention it received.

use super::{Fast, HeadSlots, Policy};

/// The heads that a picture is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadChoice {
    /// One layer; all when absent.
    pub layer: Option<usize>,
    /// One KV head; all when absent.
    pub head: Option<usize>,
}

impl HeadChoice {
    /// Whether a head of a layer is one of them.
    pub fn has(self, layer: usize, head: usize) -> bool {
        self.layer.is_none_or(|only| only == layer) && self.head.is_none_or(|only| only == head)
    }
}

/// What the scores of a picture are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scored {
    /// The attention that a position received from all queries since it was fed: the heavy-hitter score of H2O
    /// (<https://arxiv.org/abs/2306.14048>).
    AttentionSum,
    /// The attention that it received from the newest queries.
    RecentAttention,
}

impl Scored {
    /// The name in an answer.
    pub fn name(self) -> &'static str {
        match self {
            Scored::AttentionSum => "attention_sum",
            Scored::RecentAttention => "recent_attention",
        }
    }
}

/// One sequence's cache over some of its heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The policy's name.
    pub policy: &'static str,
    /// Positions that a head keeps when it is full, where heads are alike; absent when nothing is ever evicted.
    pub budget: Option<usize>,
    /// Layers that there are, and KV heads of each.
    pub shape: (usize, usize),
    /// By position, the share of the heads that hold it, 0 to 1; as long as the sequence.
    pub kept: Vec<f32>,
    /// By position, its share of the attention that was paid to what a head holds, as the mean over the heads; of one that
    /// has it no more 0. Absent when the policy measures none.
    pub scores: Option<(Scored, Vec<f32>)>,
}

impl Picture {
    /// Of a sequence that has seen `seen` tokens.
    pub fn draw<'a>(
        policy: &Policy,
        shape: (usize, usize),
        seen: usize,
        heads: impl Iterator<Item = &'a HeadSlots>,
    ) -> Self {
        let need = policy.need();
        let scored = match (need.sums, need.fast) {
            (true, _) => Some(Scored::AttentionSum),
            (false, Fast::Nothing) => None,
            (false, _) => Some(Scored::RecentAttention),
        };
        let (mut kept, mut scores) = (vec![0.0; seen], vec![0.0; seen]);
        let mut count = 0;
        for head in heads {
            count += 1;
            let found = match scored {
                Some(Scored::AttentionSum) => head.sums(),
                Some(Scored::RecentAttention) => head.fast(),
                None => &[],
            };
            let total: f32 = found.iter().sum();
            let share = if total > 0.0 { 1.0 / total } else { 0.0 };
            for (slot, &position) in head.positions().iter().enumerate() {
                // A row that is under way has been written to some layers and is not counted as seen.
                let Some(kept) = kept.get_mut(position as usize) else {
                    continue;
                };
                *kept += 1.0;
                if let (Some(sum), Some(score)) =
                    (scores.get_mut(position as usize), found.get(slot))
                {
                    *sum += score * share;
                }
            }
        }
        let each = 1.0 / count.max(1) as f32;
        kept.iter_mut()
            .chain(&mut scores)
            .for_each(|value| *value *= each);
        Picture {
            policy: policy.name(),
            budget: policy.budget(),
            shape,
            kept,
            scores: scored.map(|scored| (scored, scores)),
        }
    }

    /// Tokens that the sequence has seen.
    pub fn seen(&self) -> usize {
        self.kept.len()
    }

    /// Positions that a head holds, as the mean over the heads.
    pub fn held(&self) -> f32 {
        self.kept.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Config, KvChoice, KvShape, PolicyKind};

    fn head(positions: &[u32], sums: &[f32], fast: &[f32]) -> HeadSlots {
        let positions = positions.to_vec();
        let rotated = positions.clone();
        HeadSlots::from_parts(positions, rotated, sums.to_vec(), fast.to_vec(), Vec::new()).unwrap()
    }

    fn draw(kind: PolicyKind, seen: usize, heads: &[HeadSlots]) -> Picture {
        let shape = KvShape {
            layers: 1,
            kv_heads: 2,
            head_dim: 8,
            value_bytes: 4,
        };
        let choice = KvChoice {
            policy: Some(kind),
            ..KvChoice::default()
        };
        let policy = choice.resolve(&Config::default(), 1024, shape).unwrap();
        Picture::draw(&policy, (1, 2), seen, heads.iter())
    }

    #[test]
    fn heads_are_averaged() {
        let heads = [
            head(&[3, 0], &[1.0, 3.0], &[0.0, 0.0]),
            head(&[0, 1], &[2.0, 2.0], &[0.0, 0.0]),
        ];
        let picture = draw(PolicyKind::H2o, 4, &heads);
        assert_eq!(picture.policy, "h2o");
        assert_eq!(picture.kept, [1.0, 0.5, 0.0, 0.5]);
        let (scored, scores) = picture.scores.clone().unwrap();
        assert_eq!(scored, Scored::AttentionSum);
        assert_eq!(scores, [0.625, 0.25, 0.0, 0.125]);
        assert_eq!((picture.seen(), picture.held()), (4, 2.0));
        let one = draw(PolicyKind::H2o, 4, &heads[1..]);
        assert_eq!(one.kept, [1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_score_is_what_the_policy_measures() {
        let heads = [head(&[0, 1], &[3.0, 1.0], &[0.0, 5.0])];
        let (scored, scores) = draw(PolicyKind::Tova, 2, &heads).scores.unwrap();
        assert_eq!((scored, scores), (Scored::RecentAttention, vec![0.0, 1.0]));
        let full = draw(PolicyKind::Full, 2, &heads);
        assert_eq!((full.scores, full.budget), (None, None));
    }

    #[test]
    fn what_is_not_seen_yet_and_what_nobody_attended_to_are_passed_over() {
        let heads = [head(&[0, 7], &[0.0, 0.0], &[0.0, 0.0])];
        let picture = draw(PolicyKind::H2o, 1, &heads);
        assert_eq!(picture.kept, [1.0]);
        assert_eq!(picture.scores.unwrap().1, [0.0]);
        assert_eq!(draw(PolicyKind::H2o, 0, &[]).held(), 0.0);
    }

    #[test]
    fn heads_are_chosen_by_layer_and_number() {
        let which = |layer, head| HeadChoice { layer, head };
        assert!(which(None, None).has(3, 1));
        assert!(which(Some(3), None).has(3, 1) && !which(Some(2), None).has(3, 1));
        assert!(which(None, Some(1)).has(3, 1) && !which(Some(3), Some(0)).has(3, 1));
    }
}

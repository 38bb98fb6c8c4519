//! The default: what the end of the prompt looks at, blended with what was looked at on average, and while decoding
//! the sum of attention received, by age; sinks, pins and recent positions protected.
//!
//! Prefill follows [SnapKV](https://arxiv.org/abs/2404.14469), decoding [H2O](https://arxiv.org/abs/2306.14048). The
//! constants come from the harness (`llamahome eval ppl`, docs/attention.md).

use super::{BadPolicy, Fast, HeadView, Need, Policy, Protect, Score, max_pool};
use crate::kv::PolicyKind;
use serde::{Deserialize, Serialize};

/// The constants of the default policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hybrid {
    /// Queries at the end of a prompt that are observed on their own.
    pub window: usize,
    /// Neighbours that share a prompt score, odd.
    pub pool: usize,
    /// The weight of the short-lived score; the rest is the long-lived one's.
    pub blend: f32,
    /// What a step leaves of the short-lived score.
    pub decay: f32,
    /// The long-lived score is the sum over `age` to this power: 0 is H2O's sum, 1 the mean.
    pub age: f32,
    /// Whether scores are multiplied by the length of the value.
    pub value_norm: bool,
    /// The share of the budget for recent positions.
    pub recent: f32,
    /// The first positions, always kept.
    pub sinks: usize,
}

impl Default for Hybrid {
    fn default() -> Self {
        Hybrid {
            window: 32,
            pool: 7,
            blend: 0.5,
            decay: 0.9995,
            age: 1.0,
            value_norm: false,
            recent: 0.25,
            sinks: 4,
        }
    }
}

impl Policy {
    /// `capacity` positions under the given constants. A budget too small for the sinks has fewer.
    pub fn hybrid(capacity: usize, hybrid: Hybrid) -> Result<Self, BadPolicy> {
        let in_range = |what, value: f32, low: f32, high: f32, allowed| {
            (low..=high)
                .contains(&value)
                .then_some(())
                .ok_or_else(|| BadPolicy::OutOfRange {
                    what,
                    value: value.to_string(),
                    allowed,
                })
        };
        in_range(
            "kv.blend",
            hybrid.blend,
            0.0,
            1.0,
            "it lies between 0 and 1",
        )?;
        in_range(
            "kv.decay",
            hybrid.decay,
            0.0,
            0.9999,
            "it lies between 0 and 0.9999",
        )?;
        in_range("kv.age", hybrid.age, 0.0, 1.0, "it lies between 0 and 1")?;
        let sinks = hybrid.sinks.min(capacity / 4);
        let recent = (capacity as f32 * hybrid.recent.clamp(0.0, 1.0)) as usize;
        let recent = recent.clamp(usize::from(capacity > sinks), capacity - sinks);
        Policy::bounded(
            PolicyKind::Hybrid,
            capacity,
            Score::Hybrid(hybrid),
            Protect::ends(sinks, recent),
        )
        .checked()
    }
}

impl Hybrid {
    pub(super) fn need(&self) -> Need {
        Need {
            sums: true,
            fast: Fast::WindowThenDecay {
                window: self.window,
                decay: self.decay,
            },
            norms: self.value_norm,
            keys: false,
            queries: false,
        }
    }

    /// Both scores are brought to attention per query before they are blended.
    pub(super) fn importance(&self, head: &HeadView<'_>) -> Vec<f32> {
        // This runs for every slot of every head at every step: plain loops without a choice inside.
        let aged = head.sums.iter().zip(head.positions);
        let mut importance: Vec<f32> = match self.age {
            0.0 => head.sums.to_vec(),
            1.0 => aged
                .map(|(sum, &position)| sum / head.age(position))
                .collect(),
            power => aged
                .map(|(sum, &position)| sum / head.age(position).powf(power))
                .collect(),
        };
        let steady = 1.0 - self.decay;
        for (long, fast) in importance.iter_mut().zip(head.fast) {
            let short = fast * steady;
            *long = self.blend * short + (1.0 - self.blend) * *long;
        }
        if self.value_norm {
            for (score, norm) in importance.iter_mut().zip(head.norms) {
                *score *= norm;
            }
        }
        importance
    }

    /// The short-lived score when a prompt ends: the window's attention, pooled, as a decayed sum would have it.
    pub fn settle(&self, positions: &[u32], window: &[f32], queries: usize) -> Vec<f32> {
        let scale = 1.0 / ((1.0 - self.decay) * queries.max(1) as f32);
        let mut pooled = max_pool(positions, window, self.pool);
        pooled.iter_mut().for_each(|score| *score *= scale);
        pooled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompts_window_counts_as_a_steady_state() {
        let hybrid = Hybrid {
            pool: 1,
            decay: 0.5,
            ..Hybrid::default()
        };
        // 4 queries paid 0.8 in all: 0.2 a query, and 0.2 * (1 + 0.5 + 0.25 + ...) = 0.4.
        let settled = hybrid.settle(&[0, 1], &[0.8, 0.0], 4);
        assert!((settled[0] - 0.4).abs() < 1e-6 && settled[1] == 0.0);
    }

    #[test]
    fn both_scores_count() {
        let hybrid = Hybrid {
            blend: 0.5,
            decay: 0.5,
            age: 1.0,
            ..Hybrid::default()
        };
        let head = HeadView {
            positions: &[0, 5],
            sums: &[10.0, 1.0],
            fast: &[0.0, 4.0],
            seen: 10,
            ..HeadView::default()
        };
        let importance = hybrid.importance(&head);
        assert!((importance[0] - 0.5).abs() < 1e-6, "{importance:?}");
        assert!((importance[1] - (1.0 + 0.1)).abs() < 1e-6, "{importance:?}");
    }

    #[test]
    fn small_budgets_and_bad_constants() {
        let one = Policy::hybrid(1, Hybrid::default()).unwrap();
        assert_eq!((one.protect.sinks, one.protect.recent), (0, 1));
        assert!(Policy::hybrid(0, Hybrid::default()).is_err());
        let bad = Hybrid {
            decay: 1.0,
            ..Hybrid::default()
        };
        assert!(Policy::hybrid(8, bad).is_err());
    }
}

//! Which positions a KV head keeps. One method a file, all pure: positions, scores and keys in, slots out.
//!
//! Every method is a [`Policy`] of one general shape: what it must be told ([`Need`]), how it ranks a head's slots
//! ([`Policy::importance`]), what it never evicts ([`Protect`]), how the budget is spread over heads ([`Spread`]) and
//! when it acts ([`When`]). Two decisions follow and must agree: [`Policy::keep`] cuts a head down at once, and
//! [`Policy::victim`] names the one slot to recycle when a decode step has made a head one too many.

mod expected;
mod h2o;
mod hybrid;
mod keydiff;
mod need;
mod protect;
mod quest;
mod rank;
mod snapkv;
mod spread;
mod tova;
mod window;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{Hash, Hasher};

pub use hybrid::Hybrid;
pub use need::{Fast, HeadView, Need, QueryStats};
pub use protect::Protect;
pub use quest::Select;
pub use snapkv::max_pool;
pub use spread::{HeadClasses, Spread, adaptive};

use super::{PolicyKind, Reading, Spill};

/// How a head's slots are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Score {
    /// Not at all: positions decide.
    Nothing,
    /// Attention received, summed over all queries ([H2O](https://arxiv.org/abs/2306.14048)).
    Sum,
    /// That sum over the number of queries that could have attended.
    Mean,
    /// The sum with each step's past multiplied by a factor below 1.
    Decay(f32),
    /// The last query's attention, averaged over the heads of the layer ([TOVA](https://arxiv.org/abs/2401.06104)).
    LastRow,
    /// The attention of the last `queries` of the prompt, max-pooled over `pool` neighbours
    /// ([SnapKV](https://arxiv.org/abs/2404.14469)).
    Window {
        /// Queries observed at the end of the prompt.
        queries: usize,
        /// Neighbouring positions pooled together, odd.
        pool: usize,
    },
    /// How little a key resembles the mean key ([KeyDiff](https://arxiv.org/abs/2504.15364)).
    KeyDiff,
    /// The attention expected from queries to come ([Expected Attention](https://arxiv.org/abs/2510.00636)).
    Expected,
    /// See [`Hybrid`].
    Hybrid(Hybrid),
    /// Not at all, but all that any method may want to know is recorded: for an evaluation that reads a text once and
    /// compresses it in many ways. The number is that of queries observed at the end.
    Observe(usize),
}

/// When a policy acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum When {
    /// When the prompt ends, and after every generated token, one slot in place.
    EachStep,
    /// When the prompt ends, and when this many tokens too many have gathered.
    Burst(usize),
    /// When the prompt ends, never again: what is generated is kept.
    PromptEnd,
}

/// How the KV heads of a model bound what they keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    kind: PolicyKind,
    /// Positions kept per KV head on average, or `None` without a bound.
    capacity: Option<usize>,
    /// How slots are ranked.
    pub score: Score,
    /// What is never evicted.
    pub protect: Protect,
    /// How the budget is spread.
    pub spread: Spread,
    /// When slots are given up.
    pub when: When,
    /// Pages to attend to, where nothing is evicted.
    pub select: Option<Select>,
    /// How a prompt is read.
    pub reading: Reading,
    /// Whether the sequence may run past the model's context.
    pub beyond_context: bool,
    /// What becomes of evicted rows.
    pub spill: Spill,
    /// Spilled positions per KV head that a new turn may attend to again.
    pub recall: usize,
    /// Of the capacity, how many places are means of evicted positions; see [`super::Summary`].
    pub summaries: usize,
}

/// Why numbers make no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// Nothing would be left.
    #[error(
        "a kv policy {0} that keeps 0 positions leaves nothing to attend to: give a budget of at least 1"
    )]
    Empty(PolicyKind),
    /// More is protected than fits.
    #[error(
        "a kv policy {policy} of {capacity} positions cannot protect {protected} of them ({sinks} sinks, {recent} \
         recent, {pinned} pinned): raise the budget or protect less"
    )]
    OverProtected {
        /// The policy.
        policy: PolicyKind,
        /// Its budget.
        capacity: usize,
        /// All that is protected.
        protected: usize,
        /// First positions.
        sinks: usize,
        /// Last positions.
        recent: usize,
        /// Positions in pinned spans.
        pinned: usize,
    },
    /// The file of head weights cannot be used.
    #[error("kv.classes: {0}")]
    Classes(String),
    /// A number outside of its range.
    #[error("{what} is {value}: {allowed}")]
    OutOfRange {
        /// The key.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl Policy {
    /// Every position.
    pub fn full() -> Self {
        Policy {
            kind: PolicyKind::Full,
            capacity: None,
            score: Score::Nothing,
            protect: Protect::default(),
            spread: Spread::Uniform,
            when: When::EachStep,
            select: None,
            reading: Reading::Exact,
            beyond_context: false,
            spill: Spill::Off,
            recall: 0,
            summaries: 0,
        }
    }

    /// Every position, with all that other policies may want to know of a prompt, of which the last `queries` are
    /// observed on their own. Forks of it can be cut in any way.
    pub fn observer(queries: usize) -> Self {
        Policy {
            score: Score::Observe(queries),
            ..Policy::full()
        }
    }

    /// A bounded policy that ranks by `score` and acts each step.
    fn bounded(kind: PolicyKind, capacity: usize, score: Score, protect: Protect) -> Self {
        Policy {
            kind,
            capacity: Some(capacity),
            score,
            protect,
            ..Policy::full()
        }
    }

    /// Checks that something can be kept, and that what is protected fits.
    pub fn checked(self) -> Result<Self, BadPolicy> {
        let Some(capacity) = self.capacity else {
            return Ok(self);
        };
        if capacity == 0 {
            return Err(BadPolicy::Empty(self.kind));
        }
        if self.recall > 0 && self.spill == Spill::Off {
            return Err(BadPolicy::OutOfRange {
                what: "kv.recall",
                value: self.recall.to_string(),
                allowed: "only spilled tokens can be recalled: set kv.spill to memory or disk, or kv.recall to 0",
            });
        }
        if self.protect.len() > capacity {
            let Protect { sinks, recent, .. } = self.protect;
            return Err(BadPolicy::OverProtected {
                policy: self.kind,
                capacity,
                protected: self.protect.len(),
                sinks,
                recent,
                pinned: self.protect.len() - sinks - recent,
            });
        }
        Ok(self)
    }

    /// Protects one span more, if it is not empty and the budget has room for it.
    pub fn pin(&mut self, span: std::ops::Range<u32>) {
        let room = self
            .capacity
            .map_or(0, |c| c.saturating_sub(self.protect.len() + 1));
        // Sinks are protected already.
        let beyond = (span.end as usize).saturating_sub(self.protect.sinks);
        if span.is_empty() || beyond > room {
            return;
        }
        let start = span.start.max(self.protect.sinks as u32);
        if start < span.end {
            let pins = self.protect.pins.iter().cloned();
            self.protect.pins = pins.chain(std::iter::once(start..span.end)).collect();
        }
    }

    /// Protects a system prompt of so many tokens, up to a tenth of the budget, where the method does.
    pub fn protect_system(&mut self, tokens: usize) {
        if self.kind == PolicyKind::Hybrid {
            let allowed = self.capacity.unwrap_or(0) / 10;
            self.pin(0..tokens.min(allowed) as u32);
        }
    }

    /// Whether its budget can be spread by weights: slots are ranked, and no spread is part of the method.
    pub fn spreads(&self) -> bool {
        let ranked = !matches!(
            self.score,
            Score::Nothing | Score::LastRow | Score::Observe(_)
        );
        ranked && self.capacity.is_some() && self.spread == Spread::Uniform
    }

    /// Which method.
    pub fn kind(&self) -> PolicyKind {
        self.kind
    }

    /// The name in configuration, answers and logs.
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Positions kept per KV head between steps, on average over heads; `None` without a bound.
    pub fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// The same policy with `count` places of its capacity for means of what is evicted.
    #[must_use]
    pub fn summarised(mut self, count: usize) -> Self {
        if let Some(capacity) = &mut self.capacity {
            let room = capacity.saturating_sub(self.protect.len() + 1);
            self.summaries = count.min(room);
            *capacity -= self.summaries;
        }
        self
    }

    /// The most slots per KV head, on average, that a sequence of `prompt` tokens and `output` more holds at once.
    /// A prompt is read whole before anything is evicted unless it is `streamed` in chunks of so many tokens.
    pub fn slots_at_most(&self, prompt: usize, output: usize, streamed: Option<usize>) -> usize {
        let all = prompt + output;
        let Some(capacity) = self.capacity else {
            return all;
        };
        let reading = match streamed {
            Some(chunk) => prompt.min(capacity + chunk),
            None => prompt,
        };
        let decoding = match self.when {
            // One more than the capacity: the slot of the token that is being added.
            When::EachStep => capacity + 1,
            When::Burst(burst) => capacity + burst.max(1),
            When::PromptEnd => capacity + output,
        };
        reading.max(all.min(decoding))
    }

    /// Places per KV head that were asked for: the capacity, and the means of what is evicted.
    pub fn budget(&self) -> Option<usize> {
        self.capacity.map(|capacity| capacity + self.summaries)
    }

    /// What attention and the cache have to hand over.
    pub fn need(&self) -> Need {
        match self.score {
            Score::Nothing => Need::NOTHING,
            Score::Sum | Score::Mean => Need {
                sums: true,
                ..Need::NOTHING
            },
            Score::Decay(decay) => Need {
                fast: Fast::Decay(decay),
                ..Need::NOTHING
            },
            Score::LastRow => Need {
                fast: Fast::LastRow,
                ..Need::NOTHING
            },
            Score::Window { queries, .. } => Need {
                fast: Fast::Window(queries),
                ..Need::NOTHING
            },
            Score::KeyDiff => Need {
                keys: true,
                ..Need::NOTHING
            },
            Score::Expected => Need {
                norms: true,
                keys: true,
                queries: true,
                ..Need::NOTHING
            },
            Score::Hybrid(hybrid) => hybrid.need(),
            Score::Observe(queries) => Need {
                sums: true,
                fast: Fast::Window(queries),
                norms: true,
                keys: false,
                queries: true,
            },
        }
    }

    /// How important each slot is; empty when positions decide. Higher is kept.
    pub fn importance(&self, head: &HeadView<'_>) -> Vec<f32> {
        match self.score {
            Score::Nothing | Score::Observe(_) => Vec::new(),
            Score::Sum => head.sums.to_vec(),
            Score::Mean => h2o::mean(head),
            Score::Decay(_) | Score::LastRow => head.fast.to_vec(),
            Score::Window { pool, .. } => max_pool(head.positions, head.fast, pool),
            Score::KeyDiff => keydiff::importance(head.keys, head.positions.len()),
            Score::Expected => expected::importance(head),
            Score::Hybrid(hybrid) => hybrid.importance(head),
        }
    }

    /// The slots to keep when `capacity` are allowed, in ascending order of position.
    pub fn keep(&self, head: &HeadView<'_>, capacity: usize) -> Vec<usize> {
        let importance = self.importance(head);
        rank::keep(head.positions, &importance, &self.protect, capacity)
    }

    /// The slot to recycle, once more than `capacity` are in use; `None` while there is room.
    pub fn victim(&self, head: &HeadView<'_>, capacity: usize) -> Option<usize> {
        if head.positions.len() <= capacity {
            return None;
        }
        let borrowed: &[f32] = match self.score {
            Score::Sum => head.sums,
            Score::Decay(_) | Score::LastRow => head.fast,
            Score::Nothing => &[],
            _ => {
                let importance = self.importance(head);
                return rank::victim(head.positions, &importance, &self.protect);
            }
        };
        rank::victim(head.positions, borrowed, &self.protect)
    }

    /// A number that differs between policies that would keep different positions.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(capacity) = self.capacity else {
            return f.write_str(self.name());
        };
        write!(f, "{} ({capacity} positions", self.name())?;
        let Protect { sinks, recent, .. } = self.protect;
        if sinks > 0 {
            write!(f, ", first {sinks}")?;
        }
        if recent > 0 {
            write!(f, ", last {recent}")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policies() -> impl Strategy<Value = Policy> {
        prop_oneof![
            Just(Policy::full()),
            (1usize..9).prop_map(|recent| Policy::window(recent).unwrap()),
            (0usize..5, 1usize..5)
                .prop_map(|(sinks, recent)| Policy::streaming(sinks, recent).unwrap()),
            (0usize..5, 0usize..5)
                .prop_filter("keeps something", |(h, r)| h + r > 0)
                .prop_map(|(heavy, recent)| Policy::h2o(heavy, recent).unwrap()),
            (1usize..9).prop_map(|n| Policy::h2o(n, 0).unwrap().scored(Score::Mean)),
            (1usize..9).prop_map(|n| Policy::tova(n, 0).unwrap()),
            (5usize..9).prop_map(|n| Policy::hybrid(n, Hybrid::default()).unwrap()),
        ]
    }

    /// Distinct positions in any slot order, with scores from a small set so that ties happen.
    fn heads() -> impl Strategy<Value = (Vec<u32>, Vec<f32>, Vec<f32>)> {
        (1usize..16).prop_flat_map(|n| {
            (
                Just((0..n as u32 * 3).step_by(3).collect::<Vec<_>>()).prop_shuffle(),
                prop::collection::vec((0u8..4).prop_map(f32::from), n),
                prop::collection::vec((0u8..4).prop_map(f32::from), n),
            )
        })
    }

    proptest! {
        #[test]
        fn a_cut_keeps_the_capacity_and_time_order(policy in policies(), (positions, sums, fast) in heads()) {
            let norms = vec![1.0; positions.len()];
            let head = HeadView { positions: &positions, sums: &sums, fast: &fast, norms: &norms, seen: 60, ..HeadView::default() };
            let bound = policy.capacity().unwrap_or(usize::MAX);
            let kept = policy.keep(&head, bound);
            prop_assert_eq!(kept.len(), positions.len().min(bound));
            prop_assert!(kept.windows(2).all(|w| positions[w[0]] < positions[w[1]]));
        }

        #[test]
        fn recycling_one_slot_is_the_cut_of_one(policy in policies(), (positions, sums, fast) in heads()) {
            let Some(capacity) = policy.capacity() else { return Ok(()) };
            if positions.len() != capacity + 1 { return Ok(()) }
            let norms = vec![1.0; positions.len()];
            let head = HeadView { positions: &positions, sums: &sums, fast: &fast, norms: &norms, seen: 60, ..HeadView::default() };
            let victim = policy.victim(&head, capacity).unwrap();
            let mut kept = policy.keep(&head, capacity);
            kept.sort_unstable();
            let expected: Vec<usize> = (0..positions.len()).filter(|&slot| slot != victim).collect();
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_policy_that_keeps_nothing_or_protects_too_much_is_refused() {
        assert!(Policy::window(0).is_err());
        assert!(Policy::streaming(0, 0).is_err());
        assert!(Policy::h2o(0, 0).is_err());
        assert!(Policy::h2o(0, 1).is_ok() && Policy::h2o(1, 0).is_ok());
        let mut pinned = Policy::h2o(4, 4).unwrap();
        pinned.protect.pins = std::iter::once(0..5).collect();
        let error = pinned.checked().unwrap_err().to_string();
        assert!(error.contains("cannot protect 9"), "{error}");
    }

    #[test]
    fn reading_and_decoding_bound_the_slots() {
        let h2o = Policy::h2o(8, 8).unwrap();
        assert_eq!(h2o.slots_at_most(4, 5, None), 9);
        assert_eq!(h2o.slots_at_most(4, 500, None), 17);
        assert_eq!(h2o.slots_at_most(100, 500, None), 100);
        assert_eq!(h2o.slots_at_most(100, 500, Some(10)), 26);
        let snap = Policy::snapkv(16, 4, 7).unwrap();
        assert_eq!(snap.slots_at_most(100, 500, Some(10)), 516);
        assert_eq!(Policy::full().slots_at_most(100, 500, None), 600);
    }
}

//! From what a configuration and a request say to one [`Policy`].

use serde::{Deserialize, Serialize};

use super::policy::BadPolicy;
use super::{
    Budget, Config, Hybrid, KvShape, Policy, PolicyKind, Reading, Score, ScoreKind, Spill, Spread,
};

/// What a request says about its KV cache; what it leaves out comes from the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KvChoice {
    /// Which positions are kept.
    pub policy: Option<PolicyKind>,
    /// How many: tokens, a share of the context, or bytes of the whole sequence.
    pub budget: Option<Budget>,
    /// Of those, how many by score (`h2o`) or from the start (`streaming`).
    pub heavy: Option<u32>,
    /// Of those, how many of the newest.
    pub recent: Option<u32>,
    /// Spans of positions, `[start, end)`, that are never evicted.
    pub pins: Vec<(u32, u32)>,
    /// How the prompt is read.
    pub prefill: Option<Reading>,
    /// Whether the sequence may run past the model's context.
    pub beyond_context: Option<bool>,
    /// What becomes of evicted tokens.
    pub spill: Option<Spill>,
    /// How many of them a new turn may recall.
    pub recall: Option<u32>,
}

impl KvChoice {
    /// The policy for a model of this context and shape.
    ///
    /// `heavy` and `recent`, when both are given, are the budget. Otherwise the budget is split: what is given is
    /// taken, and the rest goes to the other; h2o splits it in half, streaming keeps the configured sinks.
    pub fn resolve(
        &self,
        config: &Config,
        context: usize,
        shape: KvShape,
    ) -> Result<Policy, BadPolicy> {
        let kind = self.policy.unwrap_or(config.policy);
        let budget = match self.budget.or(config.budget) {
            None => None,
            Some(Budget::Tokens(tokens)) => Some(tokens as usize),
            Some(Budget::Share(share)) => Some((share as f64 * context as f64) as usize),
            Some(Budget::Bytes(bytes)) => {
                let bytes = usize::try_from(bytes.0).unwrap_or(usize::MAX);
                // One slot beyond the budget is the new token's.
                Some(shape.slots_in(bytes).saturating_sub(1))
            }
        };
        // A request's own numbers replace the configured ones together: half of each would be nobody's wish.
        let own = self.budget.is_some() || self.heavy.is_some() || self.recent.is_some();
        let (heavy, recent) = if own {
            (self.heavy, self.recent)
        } else {
            (config.heavy, config.recent)
        };
        let split = Split {
            budget: budget.unwrap_or(context),
            heavy: heavy.map(|n| n as usize),
            recent: recent.map(|n| n as usize),
        };
        let mut policy = preset(kind, config, split)?;
        if let Some(file) = config.classes.as_ref().filter(|_| policy.spreads()) {
            policy.spread = Spread::Classes(file.classes().map_err(BadPolicy::Classes)?);
        }
        if !self.pins.is_empty() {
            policy.protect.pins = self.pins.iter().map(|&(start, end)| start..end).collect();
        }
        policy.reading = self.prefill.unwrap_or(config.prefill);
        policy.beyond_context = self.beyond_context.unwrap_or(config.beyond_context);
        policy.spill = self.spill.unwrap_or(config.spill);
        policy.recall = self.recall.unwrap_or(config.recall) as usize;
        policy.checked()
    }
}

/// A budget and what is said of its parts.
#[derive(Debug, Clone, Copy)]
struct Split {
    budget: usize,
    heavy: Option<usize>,
    recent: Option<usize>,
}

impl Split {
    /// The whole, where `heavy` and `recent` together replace the budget.
    fn capacity(self) -> usize {
        match (self.heavy, self.recent) {
            (Some(heavy), Some(recent)) => heavy + recent,
            _ => self.budget,
        }
    }
}

fn preset(kind: PolicyKind, config: &Config, split: Split) -> Result<Policy, BadPolicy> {
    let Split {
        budget,
        heavy,
        recent,
    } = split;
    let sinks = (config.sinks as usize).min(budget / 2);
    let capacity = split.capacity();
    // Of a budget that is ranked, the newest eighth waits until later tokens have had a chance to attend to it.
    let newest = recent
        .unwrap_or(capacity / 8)
        .min(capacity.saturating_sub(sinks));
    match kind {
        PolicyKind::Full => Ok(Policy::full()),
        PolicyKind::Window => Policy::window(recent.unwrap_or(budget)),
        PolicyKind::Streaming => {
            let sinks = heavy.unwrap_or(sinks);
            Policy::streaming(sinks, recent.unwrap_or(budget.saturating_sub(sinks)))
        }
        PolicyKind::H2o => {
            let recent = match (heavy, recent) {
                (_, Some(recent)) => recent,
                (Some(heavy), None) => budget.saturating_sub(heavy),
                (None, None) => budget / 2,
            };
            let score = match config.score {
                ScoreKind::Sum => Score::Sum,
                ScoreKind::Mean => Score::Mean,
                ScoreKind::Decay => Score::Decay(config.decay as f32),
            };
            let heavy = heavy.unwrap_or(budget.saturating_sub(recent));
            Ok(Policy::h2o(heavy, recent)?.scored(score))
        }
        PolicyKind::Tova => Policy::tova(capacity, sinks.min(capacity)),
        PolicyKind::Snapkv => Policy::snapkv(capacity, config.window, config.pool),
        PolicyKind::Pyramid => Policy::pyramid(capacity, config.window, config.pool),
        PolicyKind::Adasnap => Policy::adasnap(capacity, config.window, config.pool),
        PolicyKind::Keydiff => Policy::keydiff(capacity, sinks, newest),
        PolicyKind::Expected => Policy::expected(capacity, sinks, newest),
        PolicyKind::Quest => Policy::quest(capacity),
        PolicyKind::Hybrid => {
            let mut hybrid = Hybrid {
                window: config.window,
                pool: config.pool,
                blend: config.blend as f32,
                decay: config.decay as f32,
                age: config.age as f32,
                sinks: config.sinks as usize,
                ..Hybrid::default()
            };
            if let Some(recent) = recent {
                hybrid.recent = recent as f32 / capacity.max(1) as f32;
            }
            let share = config.summaries;
            if !(0.0..=0.5).contains(&share) {
                return Err(BadPolicy::OutOfRange {
                    what: "kv.summaries",
                    value: share.to_string(),
                    allowed: "it lies between 0 and 0.5",
                });
            }
            let means = (capacity as f64 * share) as usize;
            Ok(Policy::hybrid(capacity, hybrid)?.summarised(means))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteSize;

    const SHAPE: KvShape = KvShape {
        layers: 1,
        kv_heads: 1,
        head_dim: 8,
        value_bytes: 4,
    };

    fn choice(
        kind: PolicyKind,
        budget: Option<Budget>,
        heavy: Option<u32>,
        recent: Option<u32>,
    ) -> KvChoice {
        KvChoice {
            policy: Some(kind),
            budget,
            heavy,
            recent,
            ..KvChoice::default()
        }
    }

    #[test]
    fn budgets_are_split_as_documented() {
        use PolicyKind::{Full, H2o, Streaming, Window};
        let config = Config {
            policy: H2o,
            ..Config::default()
        };
        let table = [
            (KvChoice::default(), Policy::h2o(1024, 1024).unwrap()),
            (choice(Full, None, None, None), Policy::full()),
            (
                choice(H2o, Some(Budget::Tokens(101)), None, None),
                Policy::h2o(51, 50).unwrap(),
            ),
            (
                choice(H2o, Some(Budget::Tokens(100)), Some(10), None),
                Policy::h2o(10, 90).unwrap(),
            ),
            (
                choice(H2o, None, Some(256), Some(256)),
                Policy::h2o(256, 256).unwrap(),
            ),
            (
                choice(H2o, None, Some(0), Some(204)),
                Policy::h2o(0, 204).unwrap(),
            ),
            (
                choice(Streaming, None, Some(4), Some(200)),
                Policy::streaming(4, 200).unwrap(),
            ),
            (
                choice(Streaming, Some(Budget::Share(0.25)), None, None),
                Policy::streaming(4, 996).unwrap(),
            ),
            (
                choice(Window, Some(Budget::Bytes(ByteSize(80 * 11))), None, None),
                Policy::window(10).unwrap(),
            ),
        ];
        for (choice, expected) in table {
            assert_eq!(
                choice.resolve(&config, 4000, SHAPE),
                Ok(expected),
                "{choice:?}"
            );
        }
        let nothing = choice(Window, None, None, Some(0));
        assert!(nothing.resolve(&config, 4000, SHAPE).is_err());
    }

    #[test]
    fn a_requests_own_budget_is_not_mixed_with_configured_parts() {
        let config = Config {
            policy: PolicyKind::H2o,
            heavy: Some(7),
            recent: Some(9),
            ..Config::default()
        };
        let plain = KvChoice::default();
        assert_eq!(
            plain.resolve(&config, 4000, SHAPE),
            Ok(Policy::h2o(7, 9).unwrap())
        );
        let own = choice(PolicyKind::H2o, Some(Budget::Tokens(64)), None, None);
        assert_eq!(
            own.resolve(&config, 4000, SHAPE),
            Ok(Policy::h2o(32, 32).unwrap())
        );
    }
}

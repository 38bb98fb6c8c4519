//! From what a configuration and a request say to one [`Policy`].

use serde::{Deserialize, Serialize};

use super::policy::BadPolicy;
use super::{Budget, Config, KvShape, Policy, PolicyKind};

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
        let (heavy, recent) = (heavy.map(|n| n as usize), recent.map(|n| n as usize));
        let budget = budget.unwrap_or(context);
        match kind {
            PolicyKind::Full => Ok(Policy::Full),
            PolicyKind::Window => Policy::window(recent.unwrap_or(budget)),
            PolicyKind::Streaming => {
                let sinks = heavy.unwrap_or((config.sinks as usize).min(budget / 2));
                Policy::streaming(sinks, recent.unwrap_or(budget.saturating_sub(sinks)))
            }
            PolicyKind::H2o => {
                let recent_or = |default| recent.unwrap_or(default);
                let recent = match heavy {
                    Some(heavy) => recent_or(budget.saturating_sub(heavy)),
                    None => recent_or(budget / 2),
                };
                Policy::h2o(heavy.unwrap_or(budget.saturating_sub(recent)), recent)
            }
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
        }
    }

    #[test]
    fn budgets_are_split_as_documented() {
        use PolicyKind::{Full, H2o, Streaming, Window};
        let config = Config::default();
        let table = [
            (
                KvChoice::default(),
                Policy::H2o {
                    heavy: 1024,
                    recent: 1024,
                },
            ),
            (choice(Full, None, None, None), Policy::Full),
            (
                choice(H2o, Some(Budget::Tokens(101)), None, None),
                Policy::H2o {
                    heavy: 51,
                    recent: 50,
                },
            ),
            (
                choice(H2o, Some(Budget::Tokens(100)), Some(10), None),
                Policy::H2o {
                    heavy: 10,
                    recent: 90,
                },
            ),
            (
                choice(H2o, None, Some(256), Some(256)),
                Policy::H2o {
                    heavy: 256,
                    recent: 256,
                },
            ),
            (
                choice(H2o, None, Some(0), Some(204)),
                Policy::H2o {
                    heavy: 0,
                    recent: 204,
                },
            ),
            (
                choice(Streaming, None, Some(4), Some(200)),
                Policy::Streaming {
                    sinks: 4,
                    recent: 200,
                },
            ),
            (
                choice(Streaming, Some(Budget::Share(0.25)), None, None),
                Policy::Streaming {
                    sinks: 4,
                    recent: 996,
                },
            ),
            (
                choice(Window, Some(Budget::Bytes(ByteSize(72 * 11))), None, None),
                Policy::Window { recent: 10 },
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
            heavy: Some(7),
            recent: Some(9),
            ..Config::default()
        };
        let plain = KvChoice::default();
        assert_eq!(
            plain.resolve(&config, 4000, SHAPE),
            Ok(Policy::H2o {
                heavy: 7,
                recent: 9
            })
        );
        let own = choice(PolicyKind::H2o, Some(Budget::Tokens(64)), None, None);
        assert_eq!(
            own.resolve(&config, 4000, SHAPE),
            Ok(Policy::H2o {
                heavy: 32,
                recent: 32
            })
        );
    }
}

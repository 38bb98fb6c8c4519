//! Which positions a KV head keeps. One policy a file, all pure: positions and scores in, slots out.
//!
//! A policy answers two questions that must agree: [`Policy::keep`] cuts a head down at once (after a prompt), and
//! [`Policy::victim`] names the one slot to recycle when a decode step has made a head one too many.

mod h2o;
mod window;

use std::fmt;

/// What a policy must be told about attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: positions decide.
    Nothing,
    /// For each key, the sum of the attention it received, over all queries so far and over the query group.
    ColumnSum,
}

/// How one KV head of one layer bounds what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Keep every position.
    Full,
    /// Keep the last `recent` positions.
    Window {
        /// Positions kept, at least 1.
        recent: usize,
    },
    /// Keep the first `sinks` positions and the last `recent`
    /// ([StreamingLLM](https://arxiv.org/abs/2309.17453), at the keys' original positions).
    Streaming {
        /// Positions kept from the start.
        sinks: usize,
        /// Positions kept at the end.
        recent: usize,
    },
    /// Keep the `heavy` positions that received most attention, and the last `recent`
    /// ([H2O](https://arxiv.org/abs/2306.14048)).
    H2o {
        /// Positions kept by score.
        heavy: usize,
        /// Positions kept at the end.
        recent: usize,
    },
}

/// Why numbers make no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a kv policy {policy} that keeps {kept} positions leaves nothing to attend to: {hint}")]
pub struct BadPolicy {
    policy: &'static str,
    kept: usize,
    hint: &'static str,
}

impl Policy {
    /// The last `recent` positions; at least one.
    pub fn window(recent: usize) -> Result<Self, BadPolicy> {
        Policy::Window { recent }.checked()
    }

    /// The first `sinks` and the last `recent` positions; at least one in all.
    pub fn streaming(sinks: usize, recent: usize) -> Result<Self, BadPolicy> {
        Policy::Streaming { sinks, recent }.checked()
    }

    /// The `heavy` most attended and the last `recent` positions; either may be 0, at least one in all.
    pub fn h2o(heavy: usize, recent: usize) -> Result<Self, BadPolicy> {
        Policy::H2o { heavy, recent }.checked()
    }

    fn checked(self) -> Result<Self, BadPolicy> {
        match self.capacity() {
            Some(0) => Err(BadPolicy {
                policy: self.name(),
                kept: 0,
                hint: "give a budget of at least 1",
            }),
            _ => Ok(self),
        }
    }

    /// The name in configuration, answers and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Policy::Full => "full",
            Policy::Window { .. } => "window",
            Policy::Streaming { .. } => "streaming",
            Policy::H2o { .. } => "h2o",
        }
    }

    /// Positions kept between steps, or `None` without a bound.
    pub fn capacity(&self) -> Option<usize> {
        match *self {
            Policy::Full => None,
            Policy::Window { recent } => Some(recent),
            Policy::Streaming { sinks, recent } => Some(sinks + recent),
            Policy::H2o { heavy, recent } => Some(heavy + recent),
        }
    }

    /// What attention has to hand over.
    pub fn need(&self) -> Need {
        match self {
            Policy::H2o { .. } => Need::ColumnSum,
            _ => Need::Nothing,
        }
    }

    /// The slots to keep, in ascending order of position. `positions` and `scores` are by slot and of one length.
    pub fn keep(&self, positions: &[u32], scores: &[f32]) -> Vec<usize> {
        debug_assert_eq!(positions.len(), scores.len());
        let mut slots: Vec<usize> = (0..positions.len()).collect();
        slots.sort_unstable_by_key(|&slot| positions[slot]);
        match *self {
            Policy::Full => slots,
            Policy::Window { recent } => window::keep(slots, 0, recent),
            Policy::Streaming { sinks, recent } => window::keep(slots, sinks, recent),
            Policy::H2o { heavy, recent } => h2o::keep(slots, scores, heavy, recent),
        }
    }

    /// The slot to recycle, once more than [`Policy::capacity`] are in use; `None` while there is room.
    pub fn victim(&self, positions: &[u32], scores: &[f32]) -> Option<usize> {
        debug_assert_eq!(positions.len(), scores.len());
        if positions.len() <= self.capacity()? {
            return None;
        }
        match *self {
            Policy::Full => None,
            Policy::Window { .. } => window::victim(positions, 0),
            Policy::Streaming { sinks, .. } => window::victim(positions, sinks),
            Policy::H2o { recent, .. } => h2o::victim(positions, scores, recent),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Policy::Full => f.write_str("full"),
            Policy::Window { recent } => write!(f, "window (last {recent})"),
            Policy::Streaming { sinks, recent } => {
                write!(f, "streaming (first {sinks} + last {recent})")
            }
            Policy::H2o { heavy, recent } => write!(f, "h2o ({heavy} heavy + {recent} recent)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policies() -> impl Strategy<Value = Policy> {
        prop_oneof![
            Just(Policy::Full),
            (1usize..9).prop_map(|recent| Policy::Window { recent }),
            (0usize..5, 1usize..5).prop_map(|(sinks, recent)| Policy::Streaming { sinks, recent }),
            (0usize..5, 0usize..5)
                .prop_filter("keeps something", |(h, r)| h + r > 0)
                .prop_map(|(heavy, recent)| Policy::H2o { heavy, recent }),
        ]
    }

    /// Distinct positions in any slot order, with scores from a small set so that ties happen.
    fn heads() -> impl Strategy<Value = (Vec<u32>, Vec<f32>)> {
        (1usize..16).prop_flat_map(|n| {
            (
                Just((0..n as u32 * 3).step_by(3).collect::<Vec<_>>()).prop_shuffle(),
                prop::collection::vec((0u8..4).prop_map(f32::from), n),
            )
        })
    }

    proptest! {
        #[test]
        fn a_cut_keeps_the_capacity_the_newest_and_time_order(policy in policies(), (positions, scores) in heads()) {
            let kept = policy.keep(&positions, &scores);
            let bound = policy.capacity().unwrap_or(usize::MAX);
            prop_assert_eq!(kept.len(), positions.len().min(bound));
            prop_assert!(kept.windows(2).all(|w| positions[w[0]] < positions[w[1]]));
        }

        #[test]
        fn recycling_one_slot_is_the_cut_of_one(policy in policies(), (positions, scores) in heads()) {
            let Some(capacity) = policy.capacity() else { return Ok(()) };
            if positions.len() != capacity + 1 { return Ok(()) }
            let victim = policy.victim(&positions, &scores).unwrap();
            let mut kept = policy.keep(&positions, &scores);
            kept.sort_unstable();
            let expected: Vec<usize> = (0..positions.len()).filter(|&slot| slot != victim).collect();
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_policy_that_keeps_nothing_is_refused() {
        assert!(Policy::window(0).is_err());
        assert!(Policy::streaming(0, 0).is_err());
        assert!(Policy::h2o(0, 0).is_err());
        assert!(Policy::h2o(0, 1).is_ok() && Policy::h2o(1, 0).is_ok());
    }
}

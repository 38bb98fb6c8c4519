//! Classes with ageing: a class is worth so much waiting, so a request of any class comes to run.

use std::time::{Duration, Instant};

use super::{Candidate, Prioritizer, micros_between};

/// By class, of which one is worth `ageing` of waiting.
#[derive(Debug)]
pub(super) struct Classes {
    ageing: i64,
}

impl Classes {
    pub(super) fn new(ageing: Duration) -> Self {
        Classes {
            // None at all would make all classes one.
            ageing: i64::try_from(ageing.as_micros()).unwrap_or(i64::MAX).max(1),
        }
    }
}

impl Prioritizer for Classes {
    fn rank(&self, one: &Candidate, now: Instant) -> i64 {
        // All age alike, so the order of two requests never turns: neither can be paused for the other in turns.
        let class = i64::from(one.standing.priority).saturating_mul(self.ageing);
        class.saturating_add(micros_between(now, one.arrived))
    }
}

//! First come, first served.

use std::time::Instant;

use super::{Candidate, Prioritizer, micros_between};

/// By arrival.
#[derive(Debug)]
pub(super) struct FirstCome;

impl Prioritizer for FirstCome {
    fn rank(&self, one: &Candidate, now: Instant) -> i64 {
        micros_between(now, one.arrived)
    }
}

//! Least remaining slack first: how much of the time to its deadline a request has left once the rest of its prompt is
//! read. It shrinks while a request waits and stands still while it is read, so it is asked for anew each step.

use std::time::Instant;

use super::deadline::due;
use super::{Candidate, Prioritizer, micros_between};

/// By slack, as a share of the whole time to the deadline, so that short deadlines do not win by being short.
#[derive(Debug)]
pub(super) struct LeastSlack;

impl Prioritizer for LeastSlack {
    /// Millionths of the time to the deadline.
    fn rank(&self, one: &Candidate, now: Instant) -> i64 {
        let due = due(one).as_micros().max(1) as f64;
        let until = micros_between(now, one.arrived) as f64 + due;
        let share = one.left as f64 / one.prompt.max(1) as f64;
        let reading = one.prefill.as_micros() as f64 * share;
        ((until - reading) / due * 1e6) as i64
    }
}

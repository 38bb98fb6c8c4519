//! Earliest deadline first: what the request asked for, or a deadline in proportion to its prompt.

use std::time::{Duration, Instant};

use super::{Candidate, Prioritizer, micros_between};

/// A deadline that nobody gave, as a multiple of the predicted reading time of the prompt.
const MULTIPLE: f64 = 1.5;
/// And at least this: short prompts differ by less than a step.
const LEAST: Duration = Duration::from_millis(500);

/// How long after arrival the first token is due.
pub(super) fn due(one: &Candidate) -> Duration {
    let own = one.standing.deadline;
    own.unwrap_or_else(|| one.prefill.mul_f64(MULTIPLE).max(LEAST))
}

/// By deadline.
#[derive(Debug)]
pub(super) struct Deadline;

impl Prioritizer for Deadline {
    fn rank(&self, one: &Candidate, now: Instant) -> i64 {
        let due = i64::try_from(due(one).as_micros()).unwrap_or(i64::MAX);
        micros_between(now, one.arrived).saturating_add(due)
    }
}

//! The step in flight, as it is counted and traced when it comes back.

use std::time::{Duration, Instant};

use crate::sched::{Phase, Plan};
use crate::telemetry::{StepCount, StepEvent, StepRow};

/// What a step took along.
#[derive(Debug)]
pub(super) struct Flight {
    started: Instant,
    rows: Vec<StepRow>,
    ended: usize,
    waiting: usize,
    running: usize,
}

impl Flight {
    pub(super) fn new(plan: &Plan, started: Instant, waiting: usize, running: usize) -> Self {
        let rows = plan.rows.iter().map(|row| StepRow {
            seq: row.seq.0,
            prompt: row.phase != Phase::Decode,
            start: row.start,
            tokens: row.tokens.len(),
        });
        Flight {
            started,
            rows: rows.collect(),
            ended: plan.ended.len(),
            waiting,
            running,
        }
    }

    pub(super) fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    pub(super) fn count(&self) -> StepCount {
        StepCount::of(&self.rows)
    }

    /// The event of a trace.
    pub(super) fn event(
        &self,
        model: &str,
        now: Instant,
        kv_bytes: usize,
        failed: bool,
    ) -> StepEvent {
        StepEvent {
            model: model.to_owned(),
            started: self.started,
            took: self.took(now),
            rows: self.rows.clone(),
            ended: self.ended,
            waiting: self.waiting,
            running: self.running,
            kv_bytes,
            failed,
        }
    }
}

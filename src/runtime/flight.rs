//! The step in flight, as it is counted and traced when it comes back.

use std::time::{Duration, Instant};

use crate::ids::SeqId;
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
    /// Of prompts under way, `reading`, the tokens count in the step that begins them.
    pub(super) fn new(
        plan: &Plan,
        reading: impl Iterator<Item = (SeqId, usize)>,
        started: Instant,
        (waiting, running): (usize, usize),
    ) -> Self {
        let begun = plan.rows.iter().map(|row| StepRow {
            seq: row.seq.0,
            prompt: row.phase != Phase::Decode,
            start: row.start,
            tokens: row.tokens.len(),
        });
        let reading = reading.filter(|(seq, _)| !plan.rows.iter().any(|row| row.seq == *seq));
        let rows = begun.chain(reading.map(|(seq, start)| StepRow {
            seq: seq.0,
            prompt: true,
            start,
            tokens: 0,
        }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::{Row, Want};

    #[test]
    fn a_step_that_goes_on_with_a_prompt_is_not_one_that_only_decodes() {
        let row = |seq, phase| Row {
            seq: SeqId(seq),
            open: None,
            tokens: vec![1, 2],
            start: 7,
            want: Want::Last,
            phase,
        };
        let plan = |rows| Plan {
            rows,
            ..Plan::default()
        };
        let count = |plan: &Plan| {
            let reading = [(SeqId(4), 512)].into_iter();
            let count = Flight::new(plan, reading, Instant::now(), (0, 2)).count();
            (count.prompt_rows, count.prompt_tokens, count.decode_rows)
        };
        let decodes = row(3, Phase::Decode);
        let begins = row(4, Phase::Prompt { left: 0 });
        assert_eq!(count(&plan(vec![decodes.clone(), begins])), (1, 2, 1));
        assert_eq!(count(&plan(vec![decodes])), (1, 0, 1));
    }
}

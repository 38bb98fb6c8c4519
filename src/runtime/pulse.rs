//! The heartbeat of a compute thread: written around everything it does, read by whoever asks whether it lives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ids::ModelId;

/// What a compute thread is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// One step of a model, or an order about its sessions: bounded by `runtime.stall_timeout`.
    Step,
    /// Reading or freeing a model, which takes as long as its files do.
    Load,
}

/// Shared by one compute thread and those who watch it. A thread that is given up keeps its own, so that what it does
/// later is not taken for a sign of life of the one that replaced it.
#[derive(Debug)]
pub(super) struct Pulse {
    epoch: Instant,
    /// Milliseconds since `epoch` at which the step in hand began, plus one; 0 when there is none.
    step: AtomicU64,
    /// Steps that came to an end.
    steps: AtomicU64,
    /// The model of the step in hand.
    model: std::sync::Mutex<Option<ModelId>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            epoch: Instant::now(),
            step: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            model: std::sync::Mutex::new(None),
        }
    }
}

impl Pulse {
    /// Work begins. The beat's end is told when the returned guard is dropped, however it comes to that.
    pub(super) fn begin(&self, work: Work, model: Option<&ModelId>) -> Beat<'_> {
        let now = self.now();
        if work == Work::Step {
            if let Ok(mut at) = self.model.lock() {
                *at = model.cloned();
            }
            self.step.store(now + 1, Ordering::Release);
        }
        Beat { pulse: self, work }
    }

    /// How long the step in hand has taken; `None` when the thread is idle or loads a model.
    pub(super) fn step_age(&self) -> Option<Duration> {
        match self.step.load(Ordering::Acquire) {
            0 => None,
            since => Some(self.since(since - 1)),
        }
    }

    /// The model of the step in hand.
    pub(super) fn model(&self) -> Option<ModelId> {
        self.model.lock().ok()?.clone()
    }

    /// Steps that came to an end.
    pub(super) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    fn since(&self, millis: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(millis))
    }
}

/// Work under way.
#[must_use = "the work counts as ended when this is dropped"]
pub(super) struct Beat<'a> {
    pulse: &'a Pulse,
    work: Work,
}

impl Drop for Beat<'_> {
    fn drop(&mut self) {
        if self.work == Work::Step {
            self.pulse.step.store(0, Ordering::Release);
            self.pulse.steps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_step_is_seen_while_it_lasts_and_a_load_is_none() {
        let pulse = Pulse::default();
        let model: ModelId = "m".parse().unwrap();
        assert_eq!((pulse.step_age(), pulse.steps()), (None, 0));
        let load = pulse.begin(Work::Load, Some(&model));
        assert_eq!(pulse.step_age(), None);
        drop(load);
        let step = pulse.begin(Work::Step, Some(&model));
        assert!(pulse.step_age().is_some());
        assert_eq!(pulse.model(), Some(model));
        drop(step);
        assert_eq!((pulse.step_age(), pulse.steps()), (None, 1));
    }
}

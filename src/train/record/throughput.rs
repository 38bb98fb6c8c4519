//! How fast a run goes, and how long it will take.

use std::collections::VecDeque;
use std::time::Duration;

/// Over how many steps the pace is taken.
const WINDOW: usize = 50;

/// How fast a run goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// Seconds a step.
    pub step_s: f64,
}

/// The last steps' times. Time is an argument: pauses and evaluations are left out by whoever measures.
#[derive(Debug, Clone, Default)]
pub struct Throughput {
    last: VecDeque<(u64, Duration)>,
}

impl Throughput {
    /// Hears of a step of `tokens`.
    pub fn observe(&mut self, tokens: u64, took: Duration) {
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back((tokens, took));
    }

    /// The pace of the last steps; `None` before the first.
    pub fn pace(&self) -> Option<Pace> {
        let seconds: f64 = self.last.iter().map(|(_, took)| took.as_secs_f64()).sum();
        let tokens: u64 = self.last.iter().map(|(tokens, _)| tokens).sum();
        (seconds > 0.0).then(|| Pace {
            tokens_per_s: tokens as f64 / seconds,
            step_s: seconds / self.last.len() as f64,
        })
    }

    /// How long `steps` more steps take at this pace.
    pub fn eta(&self, steps: u64) -> Option<Duration> {
        let seconds = self.pace()?.step_s * steps as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// The share of `operations_per_s` that a model of `flops_per_token` makes of this pace.
    pub fn utilisation(&self, flops_per_token: f64, operations_per_s: f64) -> Option<f64> {
        let pace = self.pace().filter(|_| operations_per_s > 0.0)?;
        Some(pace.tokens_per_s * flops_per_token / operations_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_steps() {
        let mut throughput = Throughput::default();
        assert_eq!((throughput.pace(), throughput.eta(3)), (None, None));
        throughput.observe(100, Duration::from_secs(100));
        for _ in 0..WINDOW {
            throughput.observe(4000, Duration::from_secs(2));
        }
        let pace = throughput.pace().unwrap();
        assert_eq!((pace.tokens_per_s, pace.step_s), (2000.0, 2.0));
        assert_eq!(throughput.eta(30), Some(Duration::from_secs(60)));
        assert_eq!(throughput.utilisation(1e6, 1e10), Some(0.2));
        assert_eq!(throughput.utilisation(1e6, 0.0), None);
    }
}

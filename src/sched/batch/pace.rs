//! How many tokens the engine has computed a second of late.

use std::time::Duration;

/// What is older than this counts for little: e-fold a half minute of work.
const MEMORY: f64 = 30.0;

/// Tokens and the time that they took, both fading.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    tokens: f64,
    seconds: f64,
}

impl Pace {
    /// A step of `tokens` took so long.
    pub fn observe(&mut self, tokens: usize, took: Duration) {
        let seconds = took.as_secs_f64();
        let keep = (-seconds / MEMORY).exp();
        self.tokens = self.tokens * keep + tokens as f64;
        self.seconds = self.seconds * keep + seconds;
    }

    /// How long `tokens` take; `None` before anything was measured.
    pub fn time_for(&self, tokens: usize) -> Option<Duration> {
        if self.tokens <= 0.0 || self.seconds <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(tokens as f64 * self.seconds / self.tokens).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_late() {
        let mut pace = Pace::default();
        assert_eq!(pace.time_for(10), None);
        pace.observe(0, Duration::from_secs(1));
        assert_eq!(pace.time_for(10), None, "nothing was computed yet");
        for _ in 0..100 {
            pace.observe(100, Duration::from_secs(1));
        }
        let seconds = pace.time_for(1_000).unwrap().as_secs_f64();
        assert!((seconds - 10.0).abs() < 0.5, "{seconds}");
        for _ in 0..100 {
            pace.observe(10, Duration::from_secs(1));
        }
        let seconds = pace.time_for(1_000).unwrap().as_secs_f64();
        assert!((70.0..100.0).contains(&seconds), "{seconds}");
    }
}

//! Notices a run that has gone wrong, before it writes over what was good.

use std::collections::VecDeque;

use super::recipe;

/// What has gone wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Alarm {
    /// A value is not a number.
    #[error(
        "the {what} of step {step} is {value}: the run is stopped; go on from the last checkpoint with a lower optim.lr, or with precision = \"fp32\""
    )]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// The step.
        step: u64,
        /// What it is.
        value: f64,
    },
    /// Losses have gone up for good.
    #[error(
        "the loss of step {step} is {loss:.4}, the last of {patience} in a row above {factor} times their median before ({median:.4}): the run is stopped; go on from the last checkpoint with a lower optim.lr or a longer warm-up"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The median of the losses before.
        median: f64,
        /// How many times as high is too high.
        factor: f64,
        /// How many in a row were.
        patience: u32,
    },
}

/// Watches the losses of a run.
#[derive(Debug, Clone)]
pub struct Watchdog {
    settings: recipe::Watchdog,
    last: VecDeque<f64>,
    high: u32,
}

impl Watchdog {
    /// Starts watching.
    pub fn new(settings: recipe::Watchdog) -> Watchdog {
        Watchdog {
            settings,
            last: VecDeque::new(),
            high: 0,
        }
    }

    /// Hears of a step, before its weights are kept anywhere.
    ///
    /// # Errors
    /// The run has gone wrong and must end.
    pub fn observe(&mut self, step: u64, loss: f64, gradient_norm: f64) -> Result<(), Alarm> {
        for (what, value) in [("loss", loss), ("gradient norm", gradient_norm)] {
            if !value.is_finite() {
                return Err(Alarm::NotFinite { what, step, value });
            }
        }
        let factor = self.settings.divergence;
        let full = self.last.len() >= self.settings.window as usize;
        let median = self.median();
        // High losses stay out of the median, or it would follow them.
        if factor > 0.0 && full && loss > factor * median {
            self.high += 1;
            if self.high >= self.settings.patience {
                let patience = self.settings.patience;
                return Err(Alarm::Diverged {
                    step,
                    loss,
                    median,
                    factor,
                    patience,
                });
            }
            return Ok(());
        }
        self.high = 0;
        if full {
            self.last.pop_front();
        }
        self.last.push_back(loss);
        Ok(())
    }

    fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.last.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted
            .get(sorted.len() / 2)
            .copied()
            .unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watchdog() -> Watchdog {
        Watchdog::new(recipe::Watchdog {
            divergence: 3.0,
            patience: 2,
            window: 5,
        })
    }

    #[test]
    fn what_is_not_a_number_stops_at_once() {
        for (loss, norm, what) in [
            (f64::NAN, 1.0, "loss"),
            (1.0, f64::INFINITY, "gradient norm"),
        ] {
            let error = watchdog().observe(7, loss, norm).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("the {what} of step 7 is ")),
                "{error}"
            );
        }
    }

    #[test]
    fn divergence_needs_patience_and_a_full_window() {
        let mut early = watchdog();
        assert!((0..4).all(|step| early.observe(step, 10.0 * step as f64 + 1.0, 1.0).is_ok()));

        let mut watchdog = watchdog();
        assert!((0..5).all(|step| watchdog.observe(step, 1.0, 1.0).is_ok()));
        assert!(watchdog.observe(5, 3.5, 1.0).is_ok());
        assert!(watchdog.observe(6, 1.0, 1.0).is_ok());
        assert!(watchdog.observe(7, 3.5, 1.0).is_ok());
        let alarm = watchdog.observe(8, 4.0, 1.0).unwrap_err();
        assert!(
            matches!(
                alarm,
                Alarm::Diverged {
                    step: 8,
                    median: 1.0,
                    ..
                }
            ),
            "{alarm}"
        );
    }

    #[test]
    fn divergence_can_be_off() {
        let mut watchdog = Watchdog::new(recipe::Watchdog {
            divergence: 0.0,
            patience: 1,
            window: 3,
        });
        assert!((0..30).all(|step| watchdog.observe(step, 10f64.powi(step as i32), 1.0).is_ok()));
    }
}

//! The best evaluation so far, and when it is time to give up on a better one.

use serde::{Deserialize, Serialize};

use super::recipe::EarlyStopping;

/// Which of two values of a measure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The lower one, as of losses.
    Lower,
    /// The higher one, as of rewards.
    Higher,
}

impl Better {
    /// By how much `value` is better than `other`; below 0 if it is worse.
    pub fn gain(self, value: f64, other: f64) -> f64 {
        match self {
            Better::Lower => other - value,
            Better::Higher => value - other,
        }
    }
}

/// The best value so far. It is part of what a run resumes from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    better: Better,
    value: Option<f64>,
}

impl Best {
    /// None yet.
    pub fn new(better: Better) -> Best {
        Best {
            better,
            value: None,
        }
    }

    /// Whether `value` is the best so far, which it then becomes. An absent or infinite one never is.
    pub fn observe(&mut self, value: Option<f64>) -> bool {
        let Some(value) = value.filter(|value| value.is_finite()) else {
            return false;
        };
        let best = self
            .value
            .is_none_or(|best| self.better.gain(value, best) > 0.0);
        if best {
            self.value = Some(value);
        }
        best
    }

    /// The best value.
    pub fn value(&self) -> Option<f64> {
        self.value
    }
}

/// What an evaluation means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Better by the threshold.
    Improved,
    /// Not, so many times in a row.
    Waiting(u32),
    /// Not, too many times in a row.
    Stop,
}

/// Counts evaluations without improvement. It is part of what a run resumes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStop {
    settings: EarlyStopping,
    better: Better,
    mark: Option<f64>,
    waited: u32,
}

impl EarlyStop {
    /// Starts counting.
    pub fn new(settings: EarlyStopping, better: Better) -> EarlyStop {
        EarlyStop {
            settings,
            better,
            mark: None,
            waited: 0,
        }
    }

    /// Judges an evaluation against the best one that improved by the threshold.
    pub fn observe(&mut self, value: f64) -> Verdict {
        let least = self.settings.threshold;
        let improves = |mark: f64| {
            let gain = self.better.gain(value, mark);
            gain > 0.0 && gain >= least
        };
        if value.is_finite() && self.mark.is_none_or(improves) {
            self.mark = Some(value);
            self.waited = 0;
            return Verdict::Improved;
        }
        self.waited = self.waited.saturating_add(1);
        match self.waited >= self.settings.patience {
            true => Verdict::Stop,
            false => Verdict::Waiting(self.waited),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(losses: &[f64], better: Better, patience: u32, threshold: f64) -> Vec<Verdict> {
        let settings = EarlyStopping {
            patience,
            threshold,
        };
        let mut stop = EarlyStop::new(settings, better);
        losses.iter().map(|&loss| stop.observe(loss)).collect()
    }

    #[test]
    fn l2_best_tracking() {
        let mut best = Best::new(Better::Lower);
        let found = [0.5, 0.6, 0.4].map(|loss| best.observe(Some(loss)));
        assert_eq!(found, [true, false, true]);
        assert_eq!(best.value(), Some(0.4));
    }

    #[test]
    fn l3_best_without_the_metric() {
        let mut best = Best::new(Better::Lower);
        assert!(!best.observe(None));
        assert!(!best.observe(Some(f64::NAN)));
        assert_eq!(best.value(), None);
    }

    #[test]
    fn r10_checkpoints_when_the_loss_improves() {
        let mut best = Best::new(Better::Lower);
        let saved: Vec<usize> = [1.0, 1.2, 0.9]
            .iter()
            .enumerate()
            .filter(|(_, loss)| best.observe(Some(**loss)))
            .map(|(epoch, _)| epoch + 1)
            .collect();
        assert_eq!(saved, [1, 3]);
    }

    #[test]
    fn patience_counts_evaluations_without_improvement() {
        use Verdict::{Improved, Stop, Waiting};
        let losses = [1.0, 0.995, 0.98, 0.99, 0.975, 0.985];
        assert_eq!(
            judged(&losses, Better::Lower, 3, 0.01),
            [Improved, Waiting(1), Improved, Waiting(1), Waiting(2), Stop]
        );
        assert_eq!(
            judged(&[0.1, 0.2, 0.2, f64::NAN], Better::Higher, 2, 0.0),
            [Improved, Improved, Waiting(1), Stop]
        );
    }
}

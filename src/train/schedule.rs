//! The learning rate of each step, as a share of its peak.

use super::recipe::ScheduleKind;

/// How the learning rate goes over a run: up a straight line for `warmup` steps, then as its kind says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub kind: ScheduleKind,
    /// Steps of the run.
    pub steps: u64,
    /// Steps over which the rate rises.
    pub warmup: u64,
    /// Steps at the end over which a trapezoid falls.
    pub warmdown: u64,
    /// What is left at the end, of cosine, linear and trapezoid.
    pub final_fraction: f64,
    /// What an epoch leaves, of `step`.
    pub gamma: f64,
    /// Steps of an epoch.
    pub epoch_steps: u64,
}

impl Schedule {
    /// The share of the peak at `step`, which counts from 0. The first step of a warm-up of n has 1/n, not 0.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let falls = |left: f64| self.final_fraction + (1.0 - self.final_fraction) * left;
        let after = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / after).min(1.0);
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => falls(1.0 - done),
            ScheduleKind::Cosine => falls((1.0 + (std::f64::consts::PI * done).cos()) / 2.0),
            ScheduleKind::Trapezoid => {
                let left = self.steps.saturating_sub(step);
                match left < self.warmdown {
                    true => falls(left as f64 / self.warmdown as f64),
                    false => 1.0,
                }
            }
            ScheduleKind::Step => {
                let epochs = step / self.epoch_steps.max(1);
                self.gamma.powf(epochs as f64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule {
            kind,
            steps: 1000,
            warmup: 40,
            warmdown: 650,
            final_fraction: 0.05,
            gamma: 0.85,
            epoch_steps: 100,
        }
    }

    #[test]
    fn n2_learning_rate_multiplier() {
        let schedule = schedule(ScheduleKind::Trapezoid);
        for (step, factor) in [
            (0, 0.025),
            (39, 1.0),
            (350, 1.0),
            (675, 0.525),
            (1000, 0.05),
        ] {
            assert!((schedule.factor(step) - factor).abs() < 1e-12, "{step}");
        }
    }

    #[test]
    fn r12_learning_rate_after_epochs() {
        let schedule = Schedule {
            warmup: 0,
            ..schedule(ScheduleKind::Step)
        };
        for epoch in 0..10 {
            let expected = 0.85f64.powi(epoch);
            for step in [0, 50, 99] {
                let found = schedule.factor(epoch as u64 * 100 + step);
                assert!((found - expected).abs() < 1e-12, "{epoch} {step}");
            }
        }
    }

    #[test]
    fn each_kind_ends_where_it_should() {
        for (kind, middle, end) in [
            (ScheduleKind::Constant, 1.0, 1.0),
            (ScheduleKind::Linear, 0.525, 0.05),
            (ScheduleKind::Cosine, 0.525, 0.05),
        ] {
            let schedule = schedule(kind);
            assert!((schedule.factor(40) - 1.0).abs() < 1e-12, "{kind:?}");
            assert!((schedule.factor(520) - middle).abs() < 1e-12, "{kind:?}");
            assert!((schedule.factor(1000) - end).abs() < 1e-12, "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn a_factor_is_a_share_and_falls_after_the_warm_up(
            steps in 1u64..3000, warmup in 0u64..3000, warmdown in 0u64..3000, end in 0.0..1.0f64, which in 0usize..5,
        ) {
            let kinds = [
                ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Cosine, ScheduleKind::Trapezoid,
                ScheduleKind::Step,
            ];
            let schedule = Schedule {
                kind: kinds[which], steps, warmup: warmup.min(steps), warmdown: warmdown.min(steps),
                final_fraction: end, gamma: 0.85, epoch_steps: 7,
            };
            let factors: Vec<f64> = (0..=steps).map(|step| schedule.factor(step)).collect();
            prop_assert!(factors.iter().all(|factor| (0.0..=1.0).contains(factor)));
            let after = schedule.warmup as usize;
            prop_assert!(factors[after..].windows(2).all(|pair| pair[1] <= pair[0] + 1e-12));
        }
    }
}

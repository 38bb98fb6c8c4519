//! A token bucket that may be overdrawn, which is why it is not `governor`'s: GCRA there has no debt.
//! (<https://en.wikipedia.org/wiki/Token_bucket>)

use std::time::{Duration, Instant};

/// Fills at a rate up to its size. Pure: time is an argument.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// What fits, at least 1.
    size: f64,
    /// What flows in each second.
    rate: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket of `per_minute` a minute that holds what flows in during `burst`, at least 1.
    pub(super) fn new(per_minute: u64, burst: Duration, now: Instant) -> Self {
        let rate = per_minute as f64 / 60.0;
        let size = (rate * burst.as_secs_f64()).max(1.0);
        Bucket {
            size,
            rate,
            level: size,
            at: now,
        }
    }

    /// Takes `amount` if so much is there; otherwise says how long until it is. More than fits is never there.
    pub(super) fn take(&mut self, amount: f64, now: Instant) -> Result<(), Duration> {
        let missing = self.until(amount, now);
        if !missing.is_zero() {
            return Err(missing);
        }
        self.level -= amount;
        Ok(())
    }

    /// Takes `amount`, and more than is there if need be.
    pub(super) fn charge(&mut self, amount: f64, now: Instant) {
        self.fill(now);
        self.level -= amount;
    }

    /// How long until `amount` is there.
    pub(super) fn until(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        let missing = amount - self.level;
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        // A rate of 0 is no bucket, and a very small one is not worth an overflow.
        Duration::try_from_secs_f64(missing / self.rate).unwrap_or(Duration::MAX)
    }

    /// What is there now, in whole numbers; 0 when overdrawn.
    pub(super) fn left(&mut self, now: Instant) -> u64 {
        self.fill(now);
        self.level.max(0.0) as u64
    }

    /// How long until it is full.
    pub(super) fn reset(&mut self, now: Instant) -> Duration {
        self.until(self.size, now)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + passed * self.rate).min(self.size);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_goes_through_and_then_the_rate() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut bucket = Bucket::new(60, Duration::from_secs(3), start);
        for _ in 0..3 {
            assert_eq!(bucket.take(1.0, start), Ok(()));
        }
        assert_eq!(bucket.take(1.0, start), Err(Duration::from_secs(1)));
        assert_eq!(bucket.take(1.0, at(0.5)), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(1.0, at(1.0)), Ok(()));
        assert_eq!((bucket.left(at(3.5)), bucket.left(at(100.0))), (2, 3));
    }

    #[test]
    fn a_debt_is_paid_before_anything_goes_through() {
        let start = Instant::now();
        let mut bucket = Bucket::new(600, Duration::from_secs(6), start);
        bucket.charge(160.0, start);
        assert_eq!(bucket.left(start), 0);
        assert_eq!(bucket.until(1.0, start), Duration::from_millis(10_100));
        assert_eq!(bucket.reset(start), Duration::from_secs(16));
        let later = start + Duration::from_secs(11);
        assert_eq!(bucket.take(1.0, later), Ok(()));
    }

    proptest! {
        #[test]
        fn no_more_goes_through_than_the_burst_and_the_rate(
            per_minute in 1u64..1000, burst in 1u64..120, steps in prop::collection::vec(0u64..5000, 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(per_minute, Duration::from_secs(burst), start);
            let (mut now, mut taken) = (start, 0.0);
            for millis in steps {
                now += Duration::from_millis(millis);
                if bucket.take(1.0, now).is_ok() {
                    taken += 1.0;
                }
            }
            let rate = per_minute as f64 / 60.0;
            let most = (rate * burst as f64).max(1.0) + rate * (now - start).as_secs_f64();
            prop_assert!(taken <= most + 1e-6, "{taken} of {most}");
        }
    }
}

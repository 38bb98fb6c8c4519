//! When sessions arrive in an open loop: whatever the server does, the next one comes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, Gamma};

/// How the gaps between arrivals are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Process {
    /// Exponential gaps: each arrival knows nothing of the others.
    Poisson,
    /// Gamma gaps of this coefficient of variation: above 1 they come in bursts, below 1 more evenly.
    Gamma {
        /// Standard deviation of the gaps over their mean, more than 0.
        cv: f64,
    },
    /// Equal gaps.
    Fixed,
}

/// Why a text names no process or rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadArrivals {
    /// Not the name of a process.
    #[error("{0:?} is no way to arrive: write poisson, fixed, or gamma:CV such as gamma:2.5")]
    Process(String),
    /// Not a rate.
    #[error("{0:?} is not a rate: write a number above 0 and up to 1000000, such as 2.5")]
    Rate(String),
}

impl FromStr for Process {
    type Err = BadArrivals;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || BadArrivals::Process(text.to_owned());
        match text.split_once(':') {
            None if text == "poisson" => Ok(Process::Poisson),
            None if text == "fixed" => Ok(Process::Fixed),
            Some(("gamma", cv)) => {
                let cv: f64 = cv.parse().map_err(|_| wrong())?;
                let sound = (0.01..=100.0).contains(&cv);
                sound.then_some(Process::Gamma { cv }).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Poisson => f.write_str("poisson"),
            Process::Gamma { cv } => write!(f, "gamma:{cv}"),
            Process::Fixed => f.write_str("fixed"),
        }
    }
}

/// A number above 0: sessions a second, or how many times as fast.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// `rate`, if it is above 0 and at most a million.
    pub fn new(rate: f64) -> Option<Rate> {
        (rate > 0.0 && rate <= 1e6).then_some(Rate(rate))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = BadArrivals;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = text.parse().ok().and_then(Rate::new);
        rate.ok_or_else(|| BadArrivals::Rate(text.to_owned()))
    }
}

/// The gaps of a process, as something to draw from.
#[derive(Debug, Clone, Copy)]
enum Gaps {
    Exponential(Exp<f64>),
    Gamma(Gamma<f64>),
    Equal,
}

/// The times of the arrivals, from the start, never falling. Endless.
///
/// Equal gaps begin at 0, drawn ones with a gap.
#[derive(Debug, Clone)]
pub struct Arrivals {
    gaps: Gaps,
    rate: f64,
    rng: ChaCha8Rng,
    count: u64,
    at: f64,
}

impl Arrivals {
    /// Arrivals of `process` at `rate` a second, drawn from `rng`.
    pub fn new(process: Process, rate: Rate, rng: ChaCha8Rng) -> Self {
        let rate = rate.get();
        // Both distributions refuse only parameters that `Rate` and `Process` cannot hold.
        let gaps = match process {
            Process::Poisson => Exp::new(rate).ok().map(Gaps::Exponential),
            Process::Gamma { cv } => Gamma::new(1.0 / (cv * cv), cv * cv / rate)
                .ok()
                .map(Gaps::Gamma),
            Process::Fixed => None,
        };
        Arrivals {
            gaps: gaps.unwrap_or(Gaps::Equal),
            rate,
            rng,
            count: 0,
            at: 0.0,
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.at = match &self.gaps {
            Gaps::Exponential(gaps) => self.at + gaps.sample(&mut self.rng),
            Gaps::Gamma(gaps) => self.at + gaps.sample(&mut self.rng),
            // Not a sum of gaps, whose rounding would grow.
            Gaps::Equal => self.count as f64 / self.rate,
        };
        self.count += 1;
        // A time past all clocks ends the arrivals.
        Duration::try_from_secs_f64(self.at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    fn gaps(process: Process, rate: f64, count: usize) -> Vec<f64> {
        let rng = ChaCha8Rng::seed_from_u64(7);
        let arrivals = Arrivals::new(process, Rate::new(rate).unwrap(), rng);
        let times: Vec<f64> = arrivals.take(count).map(|at| at.as_secs_f64()).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn mean_and_cv(values: &[f64]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn processes_are_read_and_written() {
        for text in ["poisson", "fixed", "gamma:0.5", "gamma:3"] {
            assert_eq!(text.parse::<Process>().unwrap().to_string(), text);
        }
        for bad in ["", "gamma", "gamma:0", "gamma:-1", "gamma:x", "poisson:2"] {
            assert!(bad.parse::<Process>().is_err(), "{bad:?}");
        }
        for bad in ["0", "-1", "nan", "inf", "", "1e9"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?}");
        }
    }

    /// 50,000 gaps: the standard error of their mean is `cv / sqrt(50,000)`, 0.45 % of the mean for cv = 1; the bounds
    /// are more than four of them. That of the cv is wider for bursts, whose fourth moment is large.
    #[test]
    fn gaps_have_the_mean_and_spread_that_were_asked_for() {
        for (process, cv, mean_within, cv_within) in [
            (Process::Poisson, 1.0, 0.02, 0.03),
            (Process::Gamma { cv: 0.5 }, 0.5, 0.01, 0.02),
            (Process::Gamma { cv: 1.0 }, 1.0, 0.02, 0.03),
            (Process::Gamma { cv: 3.0 }, 3.0, 0.06, 0.1),
            (Process::Fixed, 0.0, 1e-6, 1e-6),
        ] {
            for rate in [0.5, 40.0] {
                let (mean, spread) = mean_and_cv(&gaps(process, rate, 50_001));
                let off = (mean * rate - 1.0).abs();
                assert!(off < mean_within, "{process} at {rate}: mean off by {off}");
                let off = (spread - cv).abs() / cv.max(1.0);
                assert!(off < cv_within, "{process} at {rate}: cv {spread}");
            }
        }
    }

    /// Kolmogorov-Smirnov against the exponential law: for 20,000 gaps the 0.1 % critical value is
    /// `1.95 / sqrt(20,000)`.
    #[test]
    fn poisson_gaps_are_exponential() {
        let mut gaps = gaps(Process::Poisson, 2.0, 20_001);
        gaps.sort_by(f64::total_cmp);
        let n = gaps.len() as f64;
        let furthest = gaps.iter().enumerate().map(|(at, gap)| {
            let law = 1.0 - (-2.0 * gap).exp();
            (law - at as f64 / n)
                .abs()
                .max((law - (at + 1) as f64 / n).abs())
        });
        let furthest = furthest.fold(0.0, f64::max);
        assert!(furthest < 1.95 / n.sqrt(), "{furthest}");
    }

    proptest! {
        #[test]
        fn times_never_fall_and_a_seed_gives_them_again(seed: u64, rate in 0.01_f64..1e4, cv in 0.1_f64..5.0) {
            for process in [Process::Poisson, Process::Gamma { cv }, Process::Fixed] {
                let of = |seed| {
                    let rng = ChaCha8Rng::seed_from_u64(seed);
                    Arrivals::new(process, Rate::new(rate).unwrap(), rng).take(50).collect::<Vec<_>>()
                };
                let times = of(seed);
                prop_assert!(times.is_sorted());
                prop_assert_eq!(times, of(seed));
            }
        }
    }
}

//! How many tokens, or turns: one number, or one drawn from a range.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, Zipf};

use crate::units;

/// A number of things of which there is at least one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// Always the same.
    Fixed(u32),
    /// Any of the range, each as likely.
    Uniform {
        /// The least.
        low: u32,
        /// The most.
        high: u32,
    },
    /// Any of the range, the k-th of it in proportion to `k^-exponent`: mostly short, sometimes very long.
    Zipf {
        /// The least, and the most likely.
        low: u32,
        /// The most.
        high: u32,
        /// How fast the long ones grow rare, 0 to 10.
        exponent: f64,
    },
}

/// Why a text is no length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no length: write 128, a range 64-256 (uniform:64-256), or zipf:64-4096:1.2, from 1 to 10000000"
)]
pub struct BadLength(String);

const MOST: u32 = 10_000_000;

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| (1..=MOST).contains(n))
}

fn range(text: &str) -> Option<(u32, u32)> {
    let (low, high) = text.split_once('-')?;
    let (low, high) = (number(low)?, number(high)?);
    (low <= high).then_some((low, high))
}

fn read(text: &str) -> Option<Length> {
    let uniform = |(low, high)| Length::Uniform { low, high };
    match text.split_once(':') {
        Some(("uniform", rest)) => range(rest).map(uniform),
        Some(("zipf", rest)) => {
            let (rest, exponent) = rest.split_once(':')?;
            let (low, high) = range(rest)?;
            let exponent: f64 = exponent.parse().ok()?;
            (0.0..=10.0).contains(&exponent).then_some(Length::Zipf {
                low,
                high,
                exponent,
            })
        }
        Some(_) => None,
        None => number(text)
            .map(Length::Fixed)
            .or_else(|| range(text).map(uniform)),
    }
}

impl FromStr for Length {
    type Err = BadLength;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        read(text).ok_or_else(|| BadLength(text.to_owned()))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Length::Fixed(n) => write!(f, "{n}"),
            Length::Uniform { low, high } => write!(f, "uniform:{low}-{high}"),
            Length::Zipf {
                low,
                high,
                exponent,
            } => write!(f, "zipf:{low}-{high}:{exponent}"),
        }
    }
}

impl Length {
    /// Draws one; always within the range.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> u32 {
        match *self {
            Length::Fixed(n) => n,
            Length::Uniform { low, high } => rng.random_range(low..=high),
            Length::Zipf {
                low,
                high,
                exponent,
            } => {
                let count = f64::from(high - low + 1);
                // Refused only outside of what can be read.
                let rank = Zipf::new(count, exponent).map_or(1.0, |zipf| zipf.sample(rng));
                low.saturating_add(rank as u32 - 1).min(high)
            }
        }
    }
}

/// How long a user thinks before the next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    /// Always so long.
    Fixed(Duration),
    /// Exponentially spread around this mean.
    Exponential(Duration),
}

impl FromStr for Think {
    type Err = units::BadUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("exp:") {
            Some(mean) => Ok(Think::Exponential(mean.parse::<units::Duration>()?.get())),
            None => Ok(Think::Fixed(text.parse::<units::Duration>()?.get())),
        }
    }
}

impl Think {
    /// Draws one.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> Duration {
        match *self {
            Think::Fixed(time) => time,
            Think::Exponential(mean) => {
                let times: f64 = Exp1.sample(rng);
                Duration::try_from_secs_f64(mean.as_secs_f64() * times).unwrap_or(mean)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;

    fn drawn(length: Length, count: usize) -> Vec<u32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..count).map(|_| length.draw(&mut rng)).collect()
    }

    #[test]
    fn lengths_are_read_and_written() {
        for (text, length, shown) in [
            ("128", Length::Fixed(128), "128"),
            (
                "64-256",
                Length::Uniform { low: 64, high: 256 },
                "uniform:64-256",
            ),
            (
                "uniform:1-1",
                Length::Uniform { low: 1, high: 1 },
                "uniform:1-1",
            ),
            (
                "zipf:1-4096:1.2",
                Length::Zipf {
                    low: 1,
                    high: 4096,
                    exponent: 1.2,
                },
                "zipf:1-4096:1.2",
            ),
        ] {
            assert_eq!(text.parse(), Ok(length), "{text}");
            assert_eq!(length.to_string(), shown);
        }
        for bad in [
            "",
            "0",
            "-3",
            "5-2",
            "0-4",
            "zipf:1-9",
            "zipf:1-9:x",
            "zipf:1-9:-1",
            "normal:3-4",
            "99999999999",
        ] {
            assert!(bad.parse::<Length>().is_err(), "{bad:?}");
        }
    }

    /// 40,000 draws: the standard error of a uniform mean over 100..=300 is 0.29, the bound is five of them.
    #[test]
    fn uniform_lengths_are_even() {
        let lengths = drawn(
            Length::Uniform {
                low: 100,
                high: 300,
            },
            40_000,
        );
        let mean = lengths.iter().map(|&n| f64::from(n)).sum::<f64>() / 40_000.0;
        assert!((mean - 200.0).abs() < 1.5, "{mean}");
        assert!(lengths.contains(&100) && lengths.contains(&300));
    }

    /// Of Zipf's law over 1..=1000 with exponent 1, a length k has the share `1 / (k H(1000))`, `H(1000)` = 7.4855. With
    /// 40,000 draws the standard error of the share of 1 (0.1336) is 0.0017; the bounds are four of them.
    #[test]
    fn zipf_lengths_follow_their_law() {
        let zipf = Length::Zipf {
            low: 11,
            high: 1010,
            exponent: 1.0,
        };
        let lengths = drawn(zipf, 40_000);
        for (length, share, within) in [
            (11, 0.1336, 0.007),
            (12, 0.0668, 0.005),
            (20, 0.013_36, 0.0024),
        ] {
            let seen = lengths.iter().filter(|&&n| n == length).count() as f64 / 40_000.0;
            assert!((seen - share).abs() < within, "{length}: {seen}");
        }
    }

    #[test]
    fn thinking_takes_its_mean() {
        let fixed: Think = "1.5s".parse().unwrap();
        let spread: Think = "exp:2s".parse().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(fixed.draw(&mut rng), Duration::from_millis(1500));
        let mean = (0..20_000)
            .map(|_| spread.draw(&mut rng).as_secs_f64())
            .sum::<f64>()
            / 20_000.0;
        // The standard error is 0.014.
        assert!((mean - 2.0).abs() < 0.06, "{mean}");
        assert!("exp:".parse::<Think>().is_err() && "5".parse::<Think>().is_err());
    }

    proptest! {
        #[test]
        fn draws_stay_in_their_range(seed: u64, low in 1_u32..5000, more in 0_u32..100_000, exponent in 0.0_f64..10.0) {
            let high = low + more;
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for length in [Length::Uniform { low, high }, Length::Zipf { low, high, exponent }] {
                for _ in 0..20 {
                    prop_assert!((low..=high).contains(&length.draw(&mut rng)));
                }
                prop_assert_eq!(length.to_string().parse::<Length>().unwrap(), length);
            }
        }
    }
}

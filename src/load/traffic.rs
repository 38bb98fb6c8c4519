//! How sessions come: by the clock, as streams that follow each other, or as they were recorded.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::arrivals::{Arrivals, Process, Rate};
use super::capacity::LoadUnit;
use super::key::{Key, split};
use super::trace::TraceRow;
use super::workload::{Session, Shape};

/// How sessions come.
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// By the clock, whatever the server does.
    Open {
        /// How gaps are spread.
        process: Process,
        /// Sessions a second, of all keys.
        rate: Rate,
    },
    /// So many at a time; the next one of a stream begins when the last has ended.
    Closed {
        /// How many, of all keys.
        streams: usize,
    },
    /// As recorded.
    Replay {
        /// The trace.
        rows: Arc<[TraceRow]>,
        /// How many times as fast.
        speed: Rate,
    },
}

impl Traffic {
    /// How much load it is.
    pub fn load(&self) -> f64 {
        match self {
            Traffic::Open { rate, .. } => rate.get(),
            Traffic::Closed { streams } => *streams as f64,
            Traffic::Replay { speed, .. } => speed.get(),
        }
    }

    /// What its load counts.
    pub fn unit(&self) -> LoadUnit {
        match self {
            Traffic::Open { .. } => LoadUnit::SessionsPerSecond,
            Traffic::Closed { .. } => LoadUnit::Streams,
            Traffic::Replay { .. } => LoadUnit::TraceSpeed,
        }
    }

    /// The same traffic at another load; as it is for a load that no rate can be.
    pub fn at_load(&self, load: f64) -> Traffic {
        let mut other = self.clone();
        match &mut other {
            Traffic::Open { rate, .. } => *rate = Rate::new(load).unwrap_or(*rate),
            Traffic::Closed { streams } => *streams = (load as usize).max(1),
            Traffic::Replay { speed, .. } => *speed = Rate::new(load).unwrap_or(*speed),
        }
        other
    }

    /// In a few words.
    pub fn describe(&self) -> String {
        let (load, unit) = (self.load(), self.unit().name());
        match self {
            Traffic::Open { process, .. } => format!("open loop, {process}, {load} {unit}"),
            Traffic::Closed { .. } => format!("closed loop, {load} {unit}"),
            Traffic::Replay { rows, .. } => {
                format!("trace of {} requests, {load} {unit}", rows.len())
            }
        }
    }
}

/// Sessions by the clock: when each arrives, in order. Keys arrive independently, each at its part of the rate.
pub struct OpenSchedule {
    shape: Shape,
    arrivals: Vec<(Arrivals, Option<Duration>)>,
    number: u64,
}

impl OpenSchedule {
    /// The arrivals of `keys` at `rate` in all.
    pub fn new(process: Process, rate: Rate, keys: &[Key], shape: Shape) -> Self {
        let rates = split(keys, rate.get());
        let arrivals = rates.iter().enumerate().map(|(key, &own)| {
            let mut rng = ChaCha8Rng::seed_from_u64(shape.seed);
            // Sessions count their streams from the other end.
            rng.set_stream(u64::MAX - 1 - key as u64);
            let mut arrivals = Arrivals::new(process, Rate::new(own).unwrap_or(rate), rng);
            let first = arrivals.next();
            (arrivals, first)
        });
        OpenSchedule {
            arrivals: arrivals.collect(),
            shape,
            number: 0,
        }
    }
}

impl Iterator for OpenSchedule {
    type Item = (Duration, Session);

    fn next(&mut self) -> Option<Self::Item> {
        let waiting = self.arrivals.iter_mut().enumerate();
        let waiting = waiting.filter_map(|(key, (arrivals, next))| {
            let at = (*next)?;
            Some((at, key, arrivals, next))
        });
        let (at, key, arrivals, next) = waiting.min_by_key(|(at, ..)| *at)?;
        *next = arrivals.next();
        let session = self.shape.session(self.number, key);
        self.number += 1;
        Some((at, session))
    }
}

/// A trace, `speed` times as fast; each row's key is drawn in proportion to the shares.
pub fn replay(
    rows: Arc<[TraceRow]>,
    speed: Rate,
    keys: &[Key],
    shape: Shape,
) -> impl Iterator<Item = (Duration, Session)> + Send + use<> {
    let mut rng = ChaCha8Rng::seed_from_u64(shape.seed);
    rng.set_stream(u64::MAX - 1);
    let parts = split(keys, 1.0);
    (0..rows.len()).filter_map(move |at| {
        let row = rows.get(at)?;
        let mut place: f64 = rng.random_range(0.0..1.0);
        let key = parts.iter().position(|part| {
            place -= part;
            place < 0.0
        });
        let key = key.unwrap_or(parts.len().saturating_sub(1));
        let session = shape.replayed(at as u64, key, row);
        Some((row.at.div_f64(speed.get()), session))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::length::{Length, Think};

    fn shape() -> Shape {
        Shape {
            prompt: Length::Fixed(8),
            output: Length::Fixed(4),
            turns: Length::Fixed(1),
            think: Think::Fixed(Duration::ZERO),
            abort_rate: 0.0,
            abort_within: Duration::ZERO,
            seed: 5,
        }
    }

    fn keys(texts: &[&str]) -> Vec<Key> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// 11,000 arrivals of which a tenth of ten elevenths is expected of each: a standard error of 0.0027.
    #[test]
    fn each_key_arrives_at_its_own_rate() {
        let rate = Rate::new(22.0).unwrap();
        let schedule = OpenSchedule::new(Process::Poisson, rate, &keys(&["a=1", "b=10"]), shape());
        let all: Vec<(Duration, Session)> = schedule.take(11_000).collect();
        assert!(all.is_sorted_by_key(|(at, _)| *at));
        assert!(
            all.iter()
                .zip(0..)
                .all(|((_, session), number)| session.number == number)
        );
        let of_a = all.iter().filter(|(_, session)| session.key == 0).count() as f64 / 11_000.0;
        assert!((of_a - 1.0 / 11.0).abs() < 0.011, "{of_a}");
        let last = all.last().unwrap().0.as_secs_f64();
        assert!((last - 500.0).abs() < 25.0, "{last}");
    }

    #[test]
    fn equal_gaps_hold_for_each_key() {
        let rate = Rate::new(3.0).unwrap();
        let schedule = OpenSchedule::new(Process::Fixed, rate, &keys(&["a=1", "b=2"]), shape());
        let times = |key: usize| -> Vec<u128> {
            let all = OpenSchedule::new(Process::Fixed, rate, &keys(&["a=1", "b=2"]), shape());
            let own = all.take(9).filter(|(_, session)| session.key == key);
            own.map(|(at, _)| at.as_millis()).collect()
        };
        assert_eq!(schedule.take(9).count(), 9);
        assert_eq!(times(0), [0, 1000, 2000]);
        assert_eq!(times(1), [0, 500, 1000, 1500, 2000, 2500]);
    }

    #[test]
    fn a_trace_is_replayed_faster() {
        let row = |ms: u64, prompt: u32| TraceRow {
            at: Duration::from_millis(ms),
            prompt,
            output: 3,
        };
        let rows: Arc<[TraceRow]> = [row(0, 5), row(1000, 6), row(3000, 7)].into();
        let speed = Rate::new(2.0).unwrap();
        let all: Vec<_> = replay(rows, speed, &keys(&["a=1"]), shape()).collect();
        let seen: Vec<_> = all
            .iter()
            .map(|(at, session)| (at.as_millis(), session.turns[0].prompt))
            .collect();
        assert_eq!(seen, [(0, 5), (500, 6), (1500, 7)]);
    }

    #[test]
    fn loads_are_scaled() {
        let rows: Arc<[TraceRow]> = [].into();
        let one = Rate::new(1.0).unwrap();
        for (traffic, text) in [
            (
                Traffic::Open {
                    process: Process::Poisson,
                    rate: one,
                },
                "open loop, poisson, 6 sessions/s",
            ),
            (Traffic::Closed { streams: 1 }, "closed loop, 6 streams"),
            (
                Traffic::Replay { rows, speed: one },
                "trace of 0 requests, 6 times the trace's speed",
            ),
        ] {
            assert_eq!(traffic.at_load(6.0).describe(), text);
        }
    }
}

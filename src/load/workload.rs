//! What is asked of the server: sessions of turns, each fixed by the seed and its number.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::length::{Length, Think};
use super::trace::TraceRow;

/// How sessions are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Tokens of what the user says in a turn.
    pub prompt: Length,
    /// Tokens of an answer.
    pub output: Length,
    /// Turns of a session.
    pub turns: Length,
    /// Between an answer and the next turn.
    pub think: Think,
    /// The share of the requests that the tester leaves, 0 to 1.
    pub abort_rate: f64,
    /// The longest time before it leaves by the clock.
    pub abort_within: Duration,
    /// What all is drawn from.
    pub seed: u64,
}

/// When the tester leaves a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// So long after it was sent, wherever it is: queued, read or answered.
    After(Duration),
    /// After so many parts of the answer.
    AfterParts(u32),
}

/// One request of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Tokens of what the user says.
    pub prompt: u32,
    /// Tokens asked for.
    pub output: u32,
    /// From the end of the turn before; zero in the first.
    pub think: Duration,
    /// Whether and when the tester leaves.
    pub abort: Option<Abort>,
}

/// Requests that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its number, from 0.
    pub number: u64,
    /// The number of its key.
    pub key: usize,
    /// At least one.
    pub turns: Vec<Turn>,
}

impl Shape {
    /// Session `number`, the same for the same seed whenever it is made.
    pub fn session(&self, number: u64, key: usize) -> Session {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number);
        let count = self.turns.draw(&mut rng);
        let turns = (0..count).map(|at| {
            let (prompt, output) = (self.prompt.draw(&mut rng), self.output.draw(&mut rng));
            let think = match at {
                0 => Duration::ZERO,
                _ => self.think.draw(&mut rng),
            };
            Turn {
                prompt,
                output,
                think,
                abort: self.abort(output, &mut rng),
            }
        });
        Session {
            number,
            key,
            turns: turns.collect(),
        }
    }

    /// The session of one turn that a row of a trace is.
    pub fn replayed(&self, number: u64, key: usize, row: &TraceRow) -> Session {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(number);
        let turn = Turn {
            prompt: row.prompt,
            output: row.output,
            think: Duration::ZERO,
            abort: self.abort(row.output, &mut rng),
        };
        Session {
            number,
            key,
            turns: vec![turn],
        }
    }

    /// Half of the requests that are left are so by the clock, which finds them in the queue or in their prompt; half
    /// after some of their answer.
    fn abort(&self, output: u32, rng: &mut ChaCha8Rng) -> Option<Abort> {
        if self.abort_rate <= 0.0 || !rng.random_bool(self.abort_rate.min(1.0)) {
            return None;
        }
        Some(if rng.random_bool(0.5) {
            Abort::After(self.abort_within.mul_f64(rng.random_range(0.0..1.0)))
        } else {
            Abort::AfterParts(rng.random_range(1..=output.max(1)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn shape() -> Shape {
        Shape {
            prompt: "10-90".parse().unwrap(),
            output: "zipf:1-500:1".parse().unwrap(),
            turns: "1-4".parse().unwrap(),
            think: "exp:2s".parse().unwrap(),
            abort_rate: 0.25,
            abort_within: Duration::from_secs(1),
            seed: 9,
        }
    }

    #[test]
    fn a_session_is_fixed_by_its_number() {
        let shape = shape();
        assert_eq!(shape.session(3, 0), shape.session(3, 0));
        assert_ne!(shape.session(3, 0).turns, shape.session(4, 0).turns);
        let other = Shape {
            seed: 10,
            ..shape.clone()
        };
        assert_ne!(shape.session(3, 0).turns, other.session(3, 0).turns);
        for number in 0..200 {
            let session = shape.session(number, 1);
            assert!((1..=4).contains(&session.turns.len()));
            assert_eq!(session.turns[0].think, Duration::ZERO);
            assert!(
                session.turns[1..]
                    .iter()
                    .all(|turn| turn.think > Duration::ZERO)
            );
        }
    }

    /// Of 8,000 requests a quarter is left: a standard error of 0.005, and 0.011 for the half of them by the clock.
    #[test]
    fn the_asked_share_is_left_at_all_points() {
        let shape = Shape {
            turns: Length::Fixed(2),
            ..shape()
        };
        let turns: Vec<Turn> = (0..4000)
            .flat_map(|number| shape.session(number, 0).turns)
            .collect();
        let left: Vec<Abort> = turns.iter().filter_map(|turn| turn.abort).collect();
        let share = left.len() as f64 / turns.len() as f64;
        assert!((share - 0.25).abs() < 0.02, "{share}");
        let by_clock: Vec<Duration> = left
            .iter()
            .filter_map(|abort| match abort {
                Abort::After(time) => Some(*time),
                Abort::AfterParts(_) => None,
            })
            .collect();
        let half = by_clock.len() as f64 / left.len() as f64;
        assert!((half - 0.5).abs() < 0.05, "{half}");
        assert!(by_clock.iter().all(|time| *time < Duration::from_secs(1)));
        let tenths: HashSet<u128> = by_clock.iter().map(|time| time.as_millis() / 100).collect();
        assert_eq!(tenths.len(), 10);
        let never = Shape {
            abort_rate: 0.0,
            ..shape
        };
        assert!((0..50).all(|number| {
            never
                .session(number, 0)
                .turns
                .iter()
                .all(|turn| turn.abort.is_none())
        }));
    }

    #[test]
    fn a_trace_is_followed() {
        let row = TraceRow {
            at: Duration::ZERO,
            prompt: 77,
            output: 5,
        };
        let session = shape().replayed(4, 1, &row);
        assert_eq!(
            (
                session.turns.len(),
                session.turns[0].prompt,
                session.turns[0].output
            ),
            (1, 77, 5)
        );
    }
}

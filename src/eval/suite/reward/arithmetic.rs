//! Sums with an answer in a required format.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::metric::last_number;
use super::format::{REQUEST, answer_in, reply_of};
use super::problem::{Problem, Reward, RewardTask, Split, place, share};
use crate::text::{Message, Role};

/// Sums of two whole numbers from 0 to `max`: "What is 3 + 4?", answered as `<answer>7</answer>`.
///
/// The splits share no problem: all there are are put in an order by the seed, and every tenth is held out.
#[derive(Debug, Clone, PartialEq)]
pub struct Arithmetic {
    operations: Vec<char>,
    max: u32,
    seed: u64,
    partial: f64,
    count: usize,
}

impl Arithmetic {
    /// `operations` of `+ - *`, at least one; `partial`, 0 to 1, is the reward of the format alone; `count` problems at
    /// most, fewer where there are not so many.
    pub(super) fn new(
        operations: &[char],
        max: u32,
        seed: u64,
        partial: f64,
        count: usize,
    ) -> Self {
        let each = (max as usize + 1).saturating_mul(max as usize + 1);
        Arithmetic {
            operations: operations.to_vec(),
            max,
            seed,
            partial,
            count: count.min(each.saturating_mul(operations.len())),
        }
    }

    /// The two numbers and the operation of problem `at` of all.
    fn terms(&self, at: usize) -> Option<(i64, char, i64)> {
        let side = u64::from(self.max) + 1;
        let total = side * side * self.operations.len() as u64;
        let number = permuted(at as u64, total, self.seed);
        let pair = number % (side * side);
        let operation = usize::try_from(number / (side * side)).ok()?;
        let operation = *self.operations.get(operation)?;
        Some(((pair / side) as i64, operation, (pair % side) as i64))
    }
}

impl RewardTask for Arithmetic {
    fn name(&self) -> &str {
        "arithmetic"
    }

    fn len(&self, split: Split) -> usize {
        share(split, self.count)
    }

    fn problem(&self, split: Split, index: usize) -> Option<Problem> {
        let (a, operation, b) = self.terms(place(split, index, self.count)?)?;
        let value = match operation {
            '+' => a + b,
            '-' => a - b,
            _ => a * b,
        };
        let question = format!("What is {a} {operation} {b}? {REQUEST}");
        Some(Problem {
            messages: vec![Message::new(Role::User, question)],
            answer: value.to_string(),
        })
    }

    fn solution(&self, problem: &Problem) -> String {
        reply_of(&problem.answer)
    }

    fn score(&self, problem: &Problem, reply: &str) -> Reward {
        let answer = answer_in(reply);
        let right = answer.is_some_and(|answer| same_number(answer, &problem.answer));
        Reward::of(answer.is_some(), right, self.partial)
    }
}

/// Whether `answer` is `number` and nothing else.
pub(super) fn same_number(answer: &str, number: &str) -> bool {
    let plain = answer
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '-' | '−' | ',' | '.'));
    plain && last_number(answer).is_some() && last_number(answer) == last_number(number)
}

/// A permutation of `0..total` by `seed`: a Feistel network over the next power of four, walked until it falls within
/// (Black and Rogaway 2002, <https://doi.org/10.1007/3-540-45760-7_9>). No list of all problems is held.
fn permuted(at: u64, total: u64, seed: u64) -> u64 {
    let half = (64 - total.saturating_sub(1).leading_zeros())
        .div_ceil(2)
        .max(1);
    let mask = (1_u64 << half) - 1;
    let mut value = at;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..4 {
            let key = seed ^ (right << 3 | round).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mixed: u64 = ChaCha8Rng::seed_from_u64(key).random();
            (left, right) = (right, left ^ (mixed & mask));
        }
        value = left << half | right;
        if value < total {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::suite::calculate;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn problems_are_right_and_apart() {
        let task = Arithmetic::new(&['+', '-', '*'], 9, 7, 0.2, 10_000);
        let (train, held) = (task.len(Split::Train), task.len(Split::HeldOut));
        assert_eq!((train, held), (270, 30));
        assert!(!task.is_empty(Split::Train));
        let mut seen = BTreeSet::new();
        for (split, count) in [(Split::Train, train), (Split::HeldOut, held)] {
            for index in 0..count {
                let problem = task.problem(split, index).unwrap();
                assert_eq!(Some(&problem), task.problem(split, index).as_ref());
                let text = problem.messages[0].content.clone();
                let sum = text
                    .strip_prefix("What is ")
                    .unwrap()
                    .split('?')
                    .next()
                    .unwrap();
                assert_eq!(calculate(sum).unwrap(), problem.answer);
                assert!(seen.insert(text));
            }
            assert_eq!(task.problem(split, count), None);
        }
        let other = Arithmetic::new(&['+', '-', '*'], 9, 8, 0.2, 10_000);
        let drawn = |task: &Arithmetic| {
            (0..20)
                .map(|at| task.problem(Split::Train, at).unwrap().answer)
                .collect::<Vec<_>>()
        };
        assert_ne!(drawn(&task), drawn(&other));
    }

    #[test]
    fn replies_are_worth_their_parts() {
        let task = Arithmetic::new(&['+'], 9, 7, 0.2, 100);
        let problem = Problem {
            messages: Vec::new(),
            answer: "-12".to_owned(),
        };
        for (reply, value) in [
            ("<answer>-12</answer>", 1.0),
            ("It is <answer> -12 </answer>", 1.0),
            ("<answer>-12.0</answer>", 1.0),
            ("<answer>12</answer>", 0.2),
            ("<answer>it is -12</answer>", 0.2),
            ("<answer>x</answer>", 0.2),
            ("-12", 0.0),
        ] {
            let reward = task.score(&problem, reply);
            assert!((reward.value - value).abs() < 1e-12, "{reply}: {reward:?}");
        }
        assert!(task.calculator().is_none());
    }

    proptest! {
        #[test]
        fn permutations_are(total in 1_u64..300, seed: u64) {
            let seen: BTreeSet<u64> = (0..total).map(|at| permuted(at, total, seed)).collect();
            prop_assert_eq!(seen.len() as u64, total);
            prop_assert!(seen.iter().all(|&value| value < total));
        }
    }
}

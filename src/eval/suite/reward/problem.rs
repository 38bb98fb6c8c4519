//! What every reward task is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::super::calculator::Markers;
use crate::text::{Message, Role};

/// Which problems: those to learn from, or those kept back to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To learn from.
    Train,
    /// Kept back; no problem of it is in the other.
    HeldOut,
}

/// One problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// What the model is asked.
    pub messages: Vec<Message>,
    /// The right answer, as a reply has to give it.
    pub answer: String,
}

impl Problem {
    /// What is asked, behind a system prompt if there is one.
    pub fn asked(&self, system: Option<&str>) -> Vec<Message> {
        let system = system.map(|text| Message::new(Role::System, text));
        system.into_iter().chain(self.messages.clone()).collect()
    }
}

/// What a reply is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reward {
    /// The sum of the parts.
    pub value: f64,
    /// What it is made of, each with a name that is the same for every reply of a task.
    pub parts: Vec<(&'static str, f64)>,
    /// Whether the answer is right, in its format.
    pub right: bool,
}

impl Reward {
    /// `partial` for the format alone, and the rest of 1 for the right answer in it.
    pub(super) fn of(formatted: bool, right: bool, partial: f64) -> Self {
        let right = formatted && right;
        let format = if formatted { partial } else { 0.0 };
        let answer = if right { 1.0 - partial } else { 0.0 };
        Reward {
            value: format + answer,
            parts: vec![("format", format), ("answer", answer)],
            right,
        }
    }
}

/// A source of problems that scores replies to them. Deterministic: the same split and index give the same problem.
pub trait RewardTask: Send + Sync {
    /// Its name in recipes.
    fn name(&self) -> &str;

    /// Problems of a split.
    fn len(&self, split: Split) -> usize;

    /// Whether a split has no problem.
    fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Problem `index` of a split; none past its length.
    fn problem(&self, split: Split, index: usize) -> Option<Problem>;

    /// What `reply` to `problem`, one of this task's, is worth.
    fn score(&self, problem: &Problem, reply: &str) -> Reward;

    /// A reply to `problem`, one of this task's, that is worth 1.
    fn solution(&self, problem: &Problem) -> String;

    /// How the model calls the calculator while it replies, where it may.
    fn calculator(&self) -> Option<Markers> {
        None
    }
}

/// Why a reward task could not be made.
#[derive(Debug, Error)]
pub enum RewardError {
    /// The text is not a reward task.
    #[error("reward {given:?}: {why}")]
    Spec {
        /// What was given.
        given: String,
        /// What is wrong, and what would do.
        why: String,
    },
    /// A data file could not be read.
    #[error("{path}: {source}; check data= of the reward")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of a data file is not a problem.
    #[error("{path}:{line}: {why}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// Where problem `index` of a split stands among all `total`; every tenth is held out.
pub(super) fn place(split: Split, index: usize, total: usize) -> Option<usize> {
    let at = match split {
        Split::Train => index / 9 * 10 + index % 9,
        Split::HeldOut => index * 10 + 9,
    };
    (at < total).then_some(at)
}

/// How many of `total` are in a split.
pub(super) fn share(split: Split, total: usize) -> usize {
    match split {
        Split::Train => total - total / 10,
        Split::HeldOut => total / 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn splits_share_all_problems(total in 0_usize..500) {
            let mut seen = vec![0; total];
            for split in [Split::Train, Split::HeldOut] {
                let count = share(split, total);
                for index in 0..count {
                    let at = place(split, index, total).unwrap();
                    prop_assert_eq!(at % 10 == 9, split == Split::HeldOut);
                    seen[at] += 1;
                }
                prop_assert_eq!(place(split, count, total), None);
            }
            prop_assert!(seen.iter().all(|&count| count == 1));
        }
    }

    #[test]
    fn rewards_add_up() {
        for (formatted, right, value) in [
            (false, false, 0.0),
            (false, true, 0.0),
            (true, false, 0.25),
            (true, true, 1.0),
        ] {
            let reward = Reward::of(formatted, right, 0.25);
            let sum: f64 = reward.parts.iter().map(|(_, part)| part).sum();
            assert_eq!(
                (reward.value, sum, reward.right),
                (value, value, formatted && right)
            );
        }
    }
}

//! Counting letters.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::super::builtin::WORDS;
use super::super::calculator::Markers;
use super::arithmetic::same_number;
use super::format::{REQUEST, answer_in, reply_of};
use super::problem::{Problem, Reward, RewardTask, Split, place, share};
use crate::text::{Message, Role};

/// How often each letter of the alphabet stands in each of a list of words, with the calculator at hand.
#[derive(Debug, Clone, PartialEq)]
pub struct Spelling {
    problems: Vec<(&'static str, char)>,
    partial: f64,
}

impl Spelling {
    /// In an order by `seed`; `partial` is the reward of the format alone. A letter that a word lacks is asked for
    /// one word in eight.
    pub(super) fn new(seed: u64, partial: f64) -> Self {
        let mut problems = Vec::new();
        for (number, word) in WORDS.iter().enumerate() {
            for (place, letter) in ('a'..='z').enumerate() {
                if word.contains(letter) || (number + place) % 8 == 0 {
                    problems.push((*word, letter));
                }
            }
        }
        problems.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        Spelling { problems, partial }
    }
}

impl RewardTask for Spelling {
    fn name(&self) -> &str {
        "spelling"
    }

    fn len(&self, split: Split) -> usize {
        share(split, self.problems.len())
    }

    fn problem(&self, split: Split, index: usize) -> Option<Problem> {
        let at = place(split, index, self.problems.len())?;
        let (word, letter) = self.problems.get(at)?;
        let question =
            format!("How many times does the letter {letter} appear in the word {word}? {REQUEST}");
        Some(Problem {
            messages: vec![Message::new(Role::User, question)],
            answer: word.matches(*letter).count().to_string(),
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

    fn calculator(&self) -> Option<Markers> {
        Some(Markers::gsm8k())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted() {
        let task = Spelling::new(1, 0.1);
        assert_eq!(task, Spelling::new(1, 0.1));
        assert_ne!(task, Spelling::new(2, 0.1));
        assert_eq!(task.calculator(), Some(Markers::gsm8k()));
        let mut none = 0;
        for split in [Split::Train, Split::HeldOut] {
            for index in 0..task.len(split) {
                let problem = task.problem(split, index).unwrap();
                let words: Vec<&str> = problem.messages[0].content.split(' ').collect();
                let count = words[11].trim_end_matches('?').matches(words[6]).count();
                assert_eq!(problem.answer, count.to_string());
                none += usize::from(count == 0);
                let reply = format!("<answer>{count}</answer>");
                assert_eq!(task.score(&problem, &reply).value, 1.0);
            }
        }
        assert!(none > 10 && none < task.problems.len() / 2, "{none}");
    }
}

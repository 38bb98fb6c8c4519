//! How a fact is stated and asked for.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::super::sample::Question;

/// How a question is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wording {
    /// In the words of the needle, as in the published tests: matching words are enough to find it.
    Literal,
    /// In other words, except for the key: the needle must be understood (<https://arxiv.org/abs/2502.05167>).
    Paraphrased,
}

/// A question and how its answer begins; `{key}` stands for the key.
pub struct Asking {
    pub question: &'static str,
    pub prefix: &'static str,
}

/// A fact, with `{key}` and `{value}` to fill in, and the ways to ask for its value.
pub struct Form {
    pub statement: &'static str,
    pub literal: Asking,
    pub paraphrases: &'static [Asking],
}

impl Form {
    /// The fact about one key and value.
    pub fn state(&self, key: &str, value: &str) -> String {
        self.statement
            .replace("{key}", key)
            .replace("{value}", value)
    }

    /// The question for the values of `key`.
    pub fn ask(
        &self,
        wording: Wording,
        key: &str,
        answers: Vec<String>,
        max_new_tokens: usize,
        rng: &mut ChaCha8Rng,
    ) -> Question {
        let asking = match wording {
            Wording::Literal => &self.literal,
            Wording::Paraphrased => self.paraphrases.choose(rng).unwrap_or(&self.literal),
        };
        Question {
            text: asking.question.replace("{key}", key),
            answers,
            answer_prefix: asking.prefix.replace("{key}", key),
            max_new_tokens,
        }
    }

    /// Fails if a paraphrase shares a word with the statement: of four letters or more, compared by its first five.
    #[cfg(test)]
    pub fn check(&self) {
        use std::collections::HashSet;
        let stems = |text: &str| -> HashSet<String> {
            text.replace("{key}", " ")
                .replace("{value}", " ")
                .to_lowercase()
                .split(|c: char| !c.is_alphabetic())
                .filter(|word| word.len() >= 4)
                .map(|word| word.chars().take(5).collect())
                .collect()
        };
        let stated = stems(self.statement);
        let all = |asking: &Asking| stems(&format!("{} {}", asking.question, asking.prefix));
        assert!(self.paraphrases.len() >= 4, "{}", self.statement);
        for asking in self.paraphrases {
            let shared: Vec<_> = all(asking).intersection(&stated).cloned().collect();
            assert!(shared.is_empty(), "{:?} of {:?}", shared, asking.question);
        }
        assert!(!all(&self.literal).is_disjoint(&stated));
        for asking in self.paraphrases.iter().chain([&self.literal]) {
            assert!(asking.prefix.starts_with(' ') && !asking.prefix.ends_with(' '));
            let keyed = self.statement.contains("{key}");
            assert_eq!(
                asking.question.contains("{key}"),
                keyed,
                "{}",
                asking.question
            );
        }
    }
}

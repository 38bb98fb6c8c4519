//! The filler text that facts are hidden in.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )
)]

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::openers::OPENERS;
use super::prose::SENTENCES;

/// The five sentences of landmark attention and RULER's "noise"
/// (<https://github.com/epfml/landmark-attention>, <https://github.com/NVIDIA/RULER>).
pub const NOISE: [&str; 5] = [
    "The grass is green.",
    "The sky is blue.",
    "The sun is yellow.",
    "Here we go.",
    "There and back again.",
];

/// The most words of one sentence of a file: text without full stops, such as a table, is cut there, since a context is
/// sized by whole sentences.
const LONGEST: usize = 60;

/// Sentences to fill a context with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Haystack(Source);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Bundled,
    Text(Vec<String>),
}

/// Why a text cannot be a haystack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HaystackError {
    /// Too little of it.
    #[error(
        "the haystack text has {0} sentences: at least 20 are needed, ended by . ! ? or an empty line; use a longer file"
    )]
    TooFew(usize),
}

impl Haystack {
    /// The bundled sentences: some 6500 different ones, about everyday things.
    pub fn bundled() -> Self {
        Haystack(Source::Bundled)
    }

    /// The sentences of `text`, in their order; a sentence ends at `.`, `!` or `?` before white space, at an empty line
    /// or after 60 words.
    ///
    /// # Errors
    /// Fewer than 20 sentences.
    pub fn from_text(text: &str) -> Result<Self, HaystackError> {
        let sentences = sentences(text);
        if sentences.len() < 20 {
            return Err(HaystackError::TooFew(sentences.len()));
        }
        Ok(Haystack(Source::Text(sentences)))
    }

    /// An endless series of sentences that contain none of `without`, in an order that `rng` chooses: bundled ones are
    /// shuffled, those of a text begin somewhere and keep their order. It repeats itself after the last.
    ///
    /// What a question asks for must not stand in the filler too. If every sentence of a text holds it, all are kept.
    pub fn series(&self, without: &[&str], rng: &mut ChaCha8Rng) -> Series {
        let without: Vec<String> = without.iter().map(|text| text.to_lowercase()).collect();
        let allowed = |sentence: &str| {
            let sentence = sentence.to_lowercase();
            !without.iter().any(|text| sentence.contains(text))
        };
        match &self.0 {
            Source::Bundled => Series::bundled(allowed, rng),
            Source::Text(sentences) => {
                let mut kept: Vec<String> =
                    sentences.iter().filter(|s| allowed(s)).cloned().collect();
                if kept.is_empty() {
                    kept.clone_from(sentences);
                }
                let first = rng.random_range(0..kept.len());
                kept.rotate_left(first);
                Series(kept)
            }
        }
    }
}

/// Sentences in an order; see [`Haystack::series`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series(Vec<String>);

impl Series {
    /// `sentences` over and over.
    pub fn repeat(sentences: Vec<String>) -> Self {
        Series(sentences)
    }

    fn bundled(allowed: impl Fn(&str) -> bool, rng: &mut ChaCha8Rng) -> Self {
        let mut openers: Vec<&str> = OPENERS.into_iter().filter(|o| allowed(o)).collect();
        openers.shuffle(rng);
        let mut plain: Vec<(usize, &str)> = SENTENCES
            .into_iter()
            .filter(|sentence| allowed(sentence))
            .enumerate()
            .collect();
        let mut all = Vec::with_capacity(plain.len() * (openers.len() + 1));
        for pass in 0..=openers.len() {
            plain.shuffle(rng);
            for &(number, sentence) in &plain {
                // Each sentence meets each opening once, and the openings of a pass differ.
                let opener = match pass {
                    0 => None,
                    _ => openers.get((number + pass) % openers.len()),
                };
                all.push(match opener {
                    None => capitalized(sentence),
                    Some(opener) => format!("{opener} {sentence}."),
                });
            }
        }
        Series(all)
    }

    /// The first `count` sentences.
    pub fn take(&self, count: usize) -> Vec<&str> {
        self.0
            .iter()
            .map(String::as_str)
            .cycle()
            .take(count)
            .collect()
    }
}

fn capitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

fn sentences(text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    let mut end = |words: &mut Vec<&str>| {
        if !words.is_empty() {
            sentences.push(words.join(" "));
            words.clear();
        }
    };
    for line in text.lines() {
        if line.trim().is_empty() {
            end(&mut words);
        }
        for word in line.split_whitespace() {
            words.push(word);
            let bare = word.trim_end_matches(['"', '\'', ')', '\u{201d}', '\u{2019}']);
            if bare.ends_with(['.', '!', '?']) || words.len() == LONGEST {
                end(&mut words);
            }
        }
    }
    end(&mut words);
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashSet;

    fn series(haystack: &Haystack, without: &[&str], seed: u64) -> Series {
        haystack.series(without, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn bundled_sentences_are_plain_and_different() {
        let bundled = series(&Haystack::bundled(), &[], 1);
        let all = bundled.take(SENTENCES.len() * (OPENERS.len() + 1));
        assert!(all.len() > 6000);
        let different: HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        for sentence in all {
            assert!(
                sentence.starts_with(|c: char| c.is_ascii_uppercase()),
                "{sentence}"
            );
            assert!(
                sentence.ends_with('.') && !sentence.contains("  "),
                "{sentence}"
            );
            assert!(
                !sentence.contains(|c: char| c.is_ascii_digit()),
                "{sentence}"
            );
        }
        for sentence in SENTENCES {
            assert!(
                sentence.starts_with(|c: char| c.is_ascii_lowercase()),
                "{sentence}"
            );
        }
    }

    #[test]
    fn a_seed_is_an_order() {
        let haystack = Haystack::bundled();
        assert_eq!(series(&haystack, &[], 1), series(&haystack, &[], 1));
        assert_ne!(
            series(&haystack, &[], 1).take(50),
            series(&haystack, &[], 2).take(50)
        );
    }

    #[test]
    fn excluded_words_are_nowhere() {
        let bundled = series(&Haystack::bundled(), &["Boathouse", "diary"], 3);
        let text = bundled.take(7000).join(" ").to_lowercase();
        assert!(!text.contains("boathouse") && !text.contains("diary"));
        assert!(text.contains("lighthouse"));
    }

    #[test]
    fn a_text_is_cut_into_sentences_and_keeps_their_order() {
        assert_eq!(
            sentences("One.  Two is\nhere! \"Three?\" Four\n\nfive 3.5 six (seven.) eight"),
            [
                "One.",
                "Two is here!",
                "\"Three?\"",
                "Four",
                "five 3.5 six (seven.)",
                "eight"
            ]
        );
        assert_eq!(sentences(&"word ".repeat(130)).len(), 3);
        let text: String = (0..30).map(|n| format!("Number {n}. ")).collect();
        let haystack = Haystack::from_text(&text).unwrap();
        let taken = series(&haystack, &["number 7."], 4);
        let taken = taken.take(58);
        assert_eq!(taken[..29], taken[29..]);
        assert!(!taken.contains(&"Number 7."));
        let rises = taken[..29].windows(2).filter(|pair| {
            let at = |s: &str| s[7..s.len() - 1].parse::<u32>().unwrap();
            at(pair[0]) < at(pair[1])
        });
        assert!(rises.count() >= 27);
    }

    #[test]
    fn a_short_text_is_refused() {
        assert_eq!(
            Haystack::from_text("One. Two."),
            Err(HaystackError::TooFew(2))
        );
        assert_eq!(Haystack::from_text(" \n"), Err(HaystackError::TooFew(0)));
    }
}

//! RULER's common words extraction
//! (<https://github.com/NVIDIA/RULER/blob/main/scripts/data/synthetic/common_words_extraction.py>,
//! <https://arxiv.org/abs/2404.06654>).

use rand::seq::{SliceRandom, index};
use rand_chacha::ChaCha8Rng;

use super::super::sample::{Question, Sample};
use super::super::task::Task;
use super::super::words::{adjectives, nouns};
use super::{Spec, TaskError, fit_sample, rng};

const COMMON: usize = 10;
/// Tokens below which a list repeats its words less often.
const SHORT: usize = 4096;

/// How often common and uncommon words stand in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Repeats {
    common: usize,
    uncommon: usize,
}

/// `(example's words, its repeats, the list's repeats)` at a length in tokens.
fn repeats(length: usize) -> (usize, Repeats, Repeats) {
    let of = |common, uncommon| Repeats { common, uncommon };
    if length < SHORT {
        (20, of(3, 1), of(6, 1))
    } else {
        (40, of(10, 3), of(30, 3))
    }
}

/// `count` different words: adjectives and nouns, and once those are used up both with a hyphen between them. RULER too
/// changes to a larger list then; this one has more words than any context.
fn pick(count: usize, rng: &mut ChaCha8Rng) -> Vec<String> {
    let (adjectives, nouns) = (adjectives(), nouns());
    let mut words: Vec<String> = adjectives
        .iter()
        .chain(&nouns)
        .map(|&word| word.to_owned())
        .collect();
    words.shuffle(rng);
    let missing = count.saturating_sub(words.len());
    let pairs = adjectives.len() * nouns.len();
    for pair in index::sample(rng, pairs, missing.min(pairs)) {
        let (adjective, noun) = (pair / nouns.len(), pair % nouns.len());
        words.push(format!("{}-{}", adjectives[adjective], nouns[noun]));
    }
    words.truncate(count);
    words
}

/// The introduction with a numbered list of `count` words in random order, and the common ones of them.
fn list(count: usize, repeats: Repeats, rng: &mut ChaCha8Rng) -> (String, Vec<String>) {
    let words = pick(count, rng);
    let mut all: Vec<&str> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let times = if at < COMMON {
            repeats.common
        } else {
            repeats.uncommon
        };
        all.extend(std::iter::repeat_n(word.as_str(), times));
    }
    all.shuffle(rng);
    let text = format!(
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that \
         appear most often.\n{}",
        numbered(&all)
    );
    (text, words[..COMMON].to_vec())
}

fn numbered(words: &[&str]) -> String {
    let numbered: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(at, word)| format!("{}. {word}", at + 1))
        .collect();
    numbered.join(" ")
}

/// The list, after a solved example of a shorter one.
pub fn make(spec: &Spec) -> Result<Sample, TaskError> {
    let task = Task::CommonWords;
    let mut rng = rng(task, spec);
    let (example_words, example_repeats, repeats) = repeats(spec.length);
    let text = "Question: What are the 10 most common words in the above list?";
    let prefix = " Answer: The top 10 words that appear most often in the list are:";
    let (example, solution) = list(example_words, example_repeats, &mut rng);
    let solution: Vec<&str> = solution.iter().map(String::as_str).collect();
    let example = format!("{example}\n{text}{prefix} {}\n", numbered(&solution));
    fit_sample(spec, task, COMMON, |words| {
        let (list, answers) = list(words, repeats, &mut rng.clone());
        Sample {
            task,
            context: format!("{example}{list}"),
            questions: vec![Question {
                text: text.to_owned(),
                answers,
                answer_prefix: prefix.to_owned(),
                max_new_tokens: 120,
            }],
            depth: None,
            length: spec.length,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;
    use std::collections::HashMap;

    fn counts(list: &str) -> HashMap<&str, usize> {
        let mut counts = HashMap::new();
        for (at, pair) in list
            .split_whitespace()
            .collect::<Vec<_>>()
            .chunks(2)
            .enumerate()
        {
            assert_eq!(pair[0], format!("{}.", at + 1));
            *counts.entry(pair[1]).or_default() += 1;
        }
        counts
    }

    #[test]
    fn ten_common_words_stand_out() {
        for (length, common, uncommon, example) in [
            (1500, 6, 1, (3, 1)),
            (4095, 6, 1, (3, 1)),
            (4096, 30, 3, (10, 3)),
            (12_000, 30, 3, (10, 3)),
        ] {
            let sample = sample(Task::CommonWords, 4, length, None);
            let asked = &sample.questions[0];
            let lists: Vec<&str> = sample.context.split("appear most often.\n").collect();
            let counts = counts(lists[2]);
            assert_eq!(asked.answers.len(), 10);
            for (word, count) in &counts {
                let expected = if asked.answers.iter().any(|a| a == word) {
                    common
                } else {
                    uncommon
                };
                assert_eq!(*count, expected, "{word} at {length}");
            }
            assert!(
                asked
                    .answers
                    .iter()
                    .all(|answer| counts.contains_key(answer.as_str()))
            );
            let (list, answer) = lists[1].split_once("\nQuestion: ").unwrap();
            let shown = super::tests::counts(list);
            let solved = answer.rsplit_once("are:").unwrap().1.replace("Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that ", "");
            let solved = super::tests::counts(&solved);
            assert_eq!(solved.len(), 10);
            for (word, count) in shown {
                let expected = if solved.contains_key(word) {
                    example.0
                } else {
                    example.1
                };
                assert_eq!(count, expected, "{word} of the example");
            }
        }
    }

    #[test]
    fn more_words_than_listed_are_pairs() {
        let mut rng = rand::SeedableRng::seed_from_u64(1);
        let words = pick(2000, &mut rng);
        let different: std::collections::HashSet<_> = words.iter().collect();
        assert_eq!((words.len(), different.len()), (2000, 2000));
        let listed = adjectives().len() + nouns().len();
        assert!(words[..listed].iter().all(|word| !word.contains('-')));
        assert!(words[listed..].iter().all(|word| word.contains('-')));
    }
}

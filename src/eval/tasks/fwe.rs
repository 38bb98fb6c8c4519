//! RULER's frequent words extraction
//! (<https://github.com/NVIDIA/RULER/blob/main/scripts/data/synthetic/freq_words_extraction.py>,
//! <https://arxiv.org/abs/2404.06654>).

use std::f64::consts::PI;

use rand::seq::SliceRandom;

use super::super::sample::{Question, Sample};
use super::super::task::Task;
use super::super::words::{distinct, letters};
use super::{Spec, TaskError, fit_sample, rng};

/// Drawn words at least: with fewer, words of the fourth and the fifth rank could be equally frequent.
const LEAST: usize = 100;
/// What stands in for the most frequent word, to be ignored.
const DOTS: &str = "...";

/// Copies of the word of `rank` (from 1) among `words` that follow a zeta distribution of exponent 2.
fn copies(words: usize, rank: usize) -> usize {
    let zeta = PI * PI / 6.0;
    let rank = rank as f64;
    (words as f64 / (rank * rank) / zeta) as usize
}

/// A text of coded words of six letters. The vocabulary has a word for each 50 tokens, four or more.
pub fn make(spec: &Spec) -> Result<Sample, TaskError> {
    let task = Task::FrequentWords;
    let mut rng = rng(task, spec);
    let mut vocabulary = distinct((spec.length / 50).max(4), || letters(b'a', 6, &mut rng));
    vocabulary[0] = DOTS.to_owned();
    let question = Question {
        text: "Question: Do not provide any explanation. Please ignore the dots '....'. What are the three most \
               frequently appeared words in the above coded text?"
            .to_owned(),
        answers: vocabulary[1..4].to_vec(),
        answer_prefix: " Answer: According to the coded text above, the three most frequently appeared words are:"
            .to_owned(),
        max_new_tokens: 50,
    };
    fit_sample(spec, task, LEAST, |words| {
        let mut all: Vec<&str> = Vec::with_capacity(words);
        for (at, word) in vocabulary.iter().enumerate() {
            all.extend(std::iter::repeat_n(word.as_str(), copies(words, at + 1)));
        }
        all.shuffle(&mut rng.clone());
        Sample {
            task,
            context: format!(
                "Read the following coded text and track the frequency of each coded word. Find the three most \
                 frequently appeared coded words. {}",
                all.join(" ")
            ),
            questions: vec![question.clone()],
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

    #[test]
    fn frequencies_follow_the_zeta_distribution() {
        // 1000 / zeta(2) = 607.9; then a quarter, a ninth, a sixteenth of it.
        let ranks: Vec<usize> = (1..=5).map(|rank| copies(1000, rank)).collect();
        assert_eq!(ranks, [607, 151, 67, 37, 24]);
        for seed in 0..20 {
            for length in [300, 2000, 8000] {
                let sample = sample(Task::FrequentWords, seed, length, None);
                let text = sample.context.rsplit_once("coded words. ").unwrap().1;
                let mut counts: HashMap<&str, usize> = HashMap::new();
                for word in text.split(' ') {
                    *counts.entry(word).or_default() += 1;
                }
                let mut ranked: Vec<(usize, &str)> = counts.iter().map(|(w, c)| (*c, *w)).collect();
                ranked.sort_unstable_by(|a, b| b.cmp(a));
                assert_eq!(ranked[0].1, DOTS);
                let frequent: Vec<&str> = ranked[1..4].iter().map(|(_, word)| *word).collect();
                assert_eq!(frequent, sample.questions[0].answers);
                assert!(ranked[3].0 > ranked.get(4).map_or(0, |(count, _)| *count));
                let second = ranked[0].0 as f64 / ranked[1].0 as f64;
                assert!((3.5..4.5).contains(&second), "{second}");
                assert!(ranked.len() <= (length / 50).max(4));
                assert!(ranked[1..].iter().all(|(_, word)| word.len() == 6));
            }
        }
    }
}

//! What the tests of the tasks share.

use super::*;

/// Counts words between white space.
pub struct Words;

impl Count for Words {
    fn count(&self, text: &str) -> usize {
        text.split_whitespace().count()
    }
}

pub fn spec(haystack: &Haystack, seed: u64, length: usize, depth: Option<f32>) -> Spec<'_> {
    Spec {
        seed,
        length,
        depth,
        wording: Wording::Paraphrased,
        haystack,
        count: &Words,
    }
}

pub fn sample(task: Task, seed: u64, length: usize, depth: Option<f32>) -> Sample {
    make(task, &spec(&Haystack::bundled(), seed, length, depth)).unwrap()
}

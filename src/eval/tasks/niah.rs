//! RULER's needles in a haystack: niah_single_1 to 3, niah_multikey_1 and 2
//! (<https://github.com/NVIDIA/RULER/blob/main/scripts/data/synthetic/niah.py>, <https://arxiv.org/abs/2404.06654>).
//!
//! As published, but: essays are sentences of the haystack rather than Paul Graham's, and noise takes needles at the same
//! 40 percentiles as essays do.

use rand_chacha::ChaCha8Rng;

use super::super::haystack::{NOISE, Series};
use super::super::sample::{Question, Sample};
use super::super::task::Task;
use super::super::words::{Draw, distinct, number, uuid};
use super::plant::{depths, plant};
use super::{Spec, TaskError, fit_sample, rng};

enum Value {
    Number,
    Uuid,
}

impl Value {
    fn plural(&self) -> &'static str {
        match self {
            Value::Number => "numbers",
            Value::Uuid => "uuids",
        }
    }

    fn singular(&self) -> &'static str {
        match self {
            Value::Number => "number",
            Value::Uuid => "uuid",
        }
    }
}

enum Filler {
    Noise,
    Essays,
    Needles,
}

/// Filler, keys and kind of value of a task.
fn kind(task: Task) -> (Filler, usize, Value) {
    match task {
        Task::NiahSingle2 => (Filler::Essays, 1, Value::Number),
        Task::NiahSingle3 => (Filler::Essays, 1, Value::Uuid),
        Task::NiahMultikey1 => (Filler::Essays, 4, Value::Number),
        Task::NiahMultikey2 => (Filler::Needles, 1, Value::Number),
        _ => (Filler::Noise, 1, Value::Number),
    }
}

fn needle(value: &Value, key: &str, of: &str) -> String {
    format!(
        "One of the special magic {} for {key} is: {of}.",
        value.plural()
    )
}

/// The sample of one of the five tasks; of several keys the one at the chosen depth is asked for.
pub fn make(task: Task, spec: &Spec) -> Result<Sample, TaskError> {
    let (filler, keys, value) = kind(task);
    let mut rng = rng(task, spec);
    let draw = Draw::new();
    let keys = distinct(keys, || draw.key(&mut rng));
    let values = distinct(keys.len(), || match value {
        Value::Number => number(7, &mut rng),
        Value::Uuid => uuid(&mut rng),
    });
    let mut needles = Vec::with_capacity(keys.len());
    for (at, depth) in depths(keys.len(), &mut rng).into_iter().enumerate() {
        let chosen = spec.depth.filter(|_| at == 0);
        needles.push((
            chosen.unwrap_or(depth),
            needle(&value, &keys[at], &values[at]),
        ));
    }
    let (one, key) = (value.singular(), &keys[0]);
    let question = Question {
        text: format!("What is the special magic {one} for {key} mentioned in the provided text?"),
        answers: vec![values[0].clone()],
        answer_prefix: format!(
            " The special magic {one} for {key} mentioned in the provided text is"
        ),
        max_new_tokens: 128,
    };
    let (series, separator) = match filler {
        Filler::Noise => (Series::repeat(vec![NOISE.join(" ")]), "\n"),
        Filler::Essays => (spec.haystack.series(&[key], &mut rng), " "),
        Filler::Needles => (others(spec, key, &values[0], &mut rng), "\n"),
    };
    fit_sample(spec, task, 1, |units| Sample {
        task,
        context: format!(
            "A special magic {one} is hidden within the following text. Make sure to memorize it. I will quiz you \
             about the {one} afterwards.\n{}",
            plant(&series.take(units), &needles, separator)
        ),
        questions: vec![question.clone()],
        depth: spec.depth,
        length: spec.length,
    })
}

/// Needles of other keys with other numbers, enough for the length: each has more than ten tokens.
fn others(spec: &Spec, key: &str, answer: &str, rng: &mut ChaCha8Rng) -> Series {
    let draw = Draw::new();
    let mut all = Vec::with_capacity(spec.length / 10 + 16);
    while all.len() < all.capacity() {
        let (other, of) = (draw.key(rng), number(7, rng));
        if other != key && of != answer {
            all.push(needle(&Value::Number, &other, &of));
        }
    }
    Series::repeat(all)
}

#[cfg(test)]
mod tests {
    use super::super::testing::sample;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_prompt() {
        let sample = sample(Task::NiahSingle1, 1, 400, Some(0.0));
        let asked = &sample.questions[0];
        let rest = asked
            .text
            .strip_prefix("What is the special magic number for ")
            .unwrap();
        let key = rest
            .strip_suffix(" mentioned in the provided text?")
            .unwrap();
        let start = format!(
            "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about \
             the number afterwards.\nOne of the special magic numbers for {key} is: {}.\nThe grass is green. The sky is \
             blue. The sun is yellow. Here we go. There and back again.\nThe grass",
            asked.answers[0]
        );
        assert!(sample.context.starts_with(&start), "{}", sample.context);
        assert_eq!(
            asked.answer_prefix,
            format!(" The special magic number for {key} mentioned in the provided text is")
        );
        assert_eq!(asked.max_new_tokens, 128);
    }

    #[test]
    fn kinds_of_needles_and_filler() {
        let needles = |sample: &Sample, plural: &str| {
            sample
                .context
                .matches(&format!("One of the special magic {plural} for "))
                .count()
        };
        for (task, plural, count, noise) in [
            (Task::NiahSingle1, "numbers", 1, true),
            (Task::NiahSingle2, "numbers", 1, false),
            (Task::NiahSingle3, "uuids", 1, false),
            (Task::NiahMultikey1, "numbers", 4, false),
        ] {
            let sample = sample(task, 3, 1000, None);
            assert_eq!(needles(&sample, plural), count, "{task}");
            assert_eq!(
                sample.context.contains("The grass is green."),
                noise,
                "{task}"
            );
        }
        let only = sample(Task::NiahMultikey2, 3, 1000, None);
        let (introduction, body) = only.context.split_once('\n').unwrap();
        assert!(introduction.ends_with("the number afterwards."));
        assert_eq!(needles(&only, "numbers"), body.lines().count());
        assert!(body.lines().count() > 50);
    }

    #[test]
    fn a_seed_stays_what_it_was() {
        // Published results name seeds; a change here makes them other samples.
        let asked = sample(Task::NiahSingle2, 42, 500, None).questions;
        assert_eq!(asked[0].answers, ["3936976"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_needle_stands_once_at_its_depth(
            seed in any::<u64>(),
            length in 400_usize..3000,
            depth in 0.0_f32..=1.0,
        ) {
            for (task, separator, others) in [
                (Task::NiahSingle1, "\n", 0),
                (Task::NiahSingle2, ". ", 0),
                (Task::NiahSingle3, ". ", 0),
                (Task::NiahMultikey1, ". ", 3),
                (Task::NiahMultikey2, "\n", 0),
            ] {
                let sample = sample(task, seed, length, Some(depth));
                let body = sample.context.split_once('\n').unwrap().1;
                let answer = sample.questions[0].answers[0].as_str();
                prop_assert_eq!(body.matches(answer).count(), 1);
                let units: Vec<&str> = body.split(separator).collect();
                let at = units.iter().position(|unit| unit.contains(answer)).unwrap();
                let wanted = f64::from(depth) * (units.len() - 1 - others) as f64;
                prop_assert!(at as f64 + 1.0 >= wanted && at as f64 <= wanted + 1.0 + others as f64);
            }
        }
    }
}

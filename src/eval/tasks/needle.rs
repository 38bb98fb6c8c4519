//! Needle in a haystack with questions that do not repeat the needle's words.
//!
//! The idea of the test is Kamradt's (<https://github.com/gkamradt/LLMTest_NeedleInAHaystack>), the kinds are RULER's,
//! the wordings are this program's.

use super::super::sample::Sample;
use super::super::task::Task;
use super::super::words::{Draw, distinct, number};
use super::form::{Asking, Form};
use super::plant::{depths, plant};
use super::{Spec, TaskError, fit_sample, rng};

const INTRODUCTION: &str =
    "Read the following text with care. Questions about it come afterwards.\n\n";

const SINGLE: Form = Form {
    statement: "The vault named {key} opens with the code {value}.",
    literal: Asking {
        question: "With what code does the vault named {key} open?",
        prefix: " The vault named {key} opens with the code",
    },
    paraphrases: &[
        Asking {
            question: "Which digits must be dialled to get into {key}?",
            prefix: " The digits are",
        },
        Asking {
            question: "What number unlocks the strongroom called {key}?",
            prefix: " The number is",
        },
        Asking {
            question: "A locksmith wants the combination of {key}; what is it?",
            prefix: " The combination is",
        },
        Asking {
            question: "Somebody stands before the steel door of {key}; what should be typed in?",
            prefix: " What should be typed in is",
        },
        Asking {
            question: "What does one enter at {key} to be let inside?",
            prefix: " One enters",
        },
    ],
};

const MULTIKEY: Form = Form {
    statement: "The archive of {key} filed the letter under number {value}.",
    literal: Asking {
        question: "Under what number did the archive of {key} file the letter?",
        prefix: " The archive of {key} filed the letter under number",
    },
    paraphrases: &[
        Asking {
            question: "Which shelf mark leads to the document from {key}?",
            prefix: " The shelf mark is",
        },
        Asking {
            question: "A historian asks for the papers of {key}; what reference should she quote?",
            prefix: " She should quote",
        },
        Asking {
            question: "What code was given to the mail from {key}?",
            prefix: " The code given was",
        },
        Asking {
            question: "How is the correspondence of {key} catalogued?",
            prefix: " It is catalogued as",
        },
    ],
};

const MULTIVALUE: Form = Form {
    statement: "A parcel for {key} carries the label {value}.",
    literal: Asking {
        question: "Which labels do the parcels for {key} carry?",
        prefix: " The parcels for {key} carry the labels",
    },
    paraphrases: &[
        Asking {
            question: "Which tracking numbers were printed on the packages sent to {key}?",
            prefix: " The tracking numbers were",
        },
        Asking {
            question: "List the stickers on every box that {key} will receive.",
            prefix: " The stickers read",
        },
        Asking {
            question: "What numbers identify the deliveries going to {key}?",
            prefix: " The numbers are",
        },
        Asking {
            question: "The post office asks for all shipments to {key}; which ones are there?",
            prefix: " The shipments are",
        },
    ],
};

/// Keys, values of each, and the form of a task.
fn kind(task: Task) -> (usize, usize, &'static Form) {
    match task {
        Task::NeedleMultikey => (4, 1, &MULTIKEY),
        Task::NeedleMultivalue => (1, 4, &MULTIVALUE),
        _ => (1, 1, &SINGLE),
    }
}

/// A context with one needle, with four keys of which one is asked for, or with four values of one key.
///
/// A chosen depth is that of what is asked for: all four values then stand together, so that the depth says where they
/// were; without one each stands on its own.
pub fn make(task: Task, spec: &Spec) -> Result<Sample, TaskError> {
    let (keys, values, form) = kind(task);
    let mut rng = rng(task, spec);
    let draw = Draw::new();
    let keys = distinct(keys, || draw.key(&mut rng));
    let numbers = distinct(keys.len() * values, || number(7, &mut rng));
    let (queried, asked) = (&keys[0], &numbers[..values]);
    let question = form.ask(spec.wording, queried, asked.to_vec(), 16 * values, &mut rng);
    let mut needles = Vec::with_capacity(numbers.len());
    for (at, depth) in depths(numbers.len(), &mut rng).into_iter().enumerate() {
        let chosen = spec.depth.filter(|_| at < values);
        let statement = form.state(&keys[at / values], &numbers[at]);
        needles.push((chosen.unwrap_or(depth), statement));
    }
    let series = spec.haystack.series(&[queried], &mut rng);
    fit_sample(spec, task, 1, |sentences| Sample {
        task,
        context: format!(
            "{INTRODUCTION}{}",
            plant(&series.take(sentences), &needles, " ")
        ),
        questions: vec![question.clone()],
        depth: spec.depth,
        length: spec.length,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{sample, spec};
    use super::super::{Wording, make};
    use super::*;
    use crate::eval::haystack::Haystack;
    use proptest::prelude::*;

    #[test]
    fn paraphrases_share_no_word_with_their_needle() {
        for form in [SINGLE, MULTIKEY, MULTIVALUE] {
            form.check();
        }
    }

    #[test]
    fn seeds_choose_among_all_paraphrases() {
        for task in [
            Task::NeedleSingle,
            Task::NeedleMultikey,
            Task::NeedleMultivalue,
        ] {
            let prefixes: std::collections::HashSet<String> = (0..60)
                .map(|seed| {
                    sample(task, seed, 300, None).questions[0]
                        .answer_prefix
                        .clone()
                })
                .collect();
            assert_eq!(prefixes.len(), kind(task).2.paraphrases.len(), "{task}");
        }
    }

    #[test]
    fn a_literal_question_repeats_the_needle() {
        let haystack = Haystack::bundled();
        let mut spec = spec(&haystack, 3, 500, None);
        let other = make(Task::NeedleSingle, &spec).unwrap();
        spec.wording = Wording::Literal;
        let sample = make(Task::NeedleSingle, &spec).unwrap();
        let asked = &sample.questions[0];
        let needle = format!("{} {}.", asked.answer_prefix.trim(), asked.answers[0]);
        assert_eq!(sample.context.matches(&needle).count(), 1);
        assert_ne!(asked.text, other.questions[0].text);
        assert_eq!(asked.answers, other.questions[0].answers);
    }

    #[test]
    fn several_needles_are_of_one_form() {
        let multikey = sample(Task::NeedleMultikey, 1, 800, Some(0.5));
        assert_eq!(
            multikey
                .context
                .matches("filed the letter under number")
                .count(),
            4
        );
        assert_eq!(multikey.questions[0].answers.len(), 1);
        let multivalue = sample(Task::NeedleMultivalue, 1, 800, None);
        assert_eq!(multivalue.context.matches("carries the label").count(), 4);
        assert_eq!(multivalue.questions[0].answers.len(), 4);
        let together = sample(Task::NeedleMultivalue, 1, 800, Some(0.5)).context;
        let sentences: Vec<&str> = together.split_inclusive(". ").collect();
        let at: Vec<usize> = (0..sentences.len())
            .filter(|&at| sentences[at].contains("carries the label"))
            .collect();
        assert_eq!(at[3] - at[0], 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_needle_stands_once_at_its_depth(
            seed in any::<u64>(),
            length in 200_usize..3000,
            depth in 0.0_f32..=1.0,
        ) {
            for task in [Task::NeedleSingle, Task::NeedleMultikey] {
                let sample = sample(task, seed, length, Some(depth));
                let body = sample.context.strip_prefix(INTRODUCTION).unwrap();
                let answer = &sample.questions[0].answers[0];
                prop_assert_eq!(body.matches(answer.as_str()).count(), 1);
                let sentences: Vec<&str> = body.split_inclusive(". ").collect();
                let at = sentences.iter().position(|s| s.contains(answer.as_str())).unwrap();
                let others = kind(task).0;
                let wanted = f64::from(depth) * (sentences.len() - others) as f64;
                // Distractors before the queried needle move it on.
                let early = at as f64 + 1.0 >= wanted;
                prop_assert!(early && (at as f64) <= wanted + others as f64, "{} of {}", at, wanted);
            }
        }
    }
}

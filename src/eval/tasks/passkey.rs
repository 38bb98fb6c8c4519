//! A pass key in noise, as in landmark attention
//! (<https://github.com/epfml/landmark-attention/blob/main/llama/run_test.py>).

use super::super::haystack::NOISE;
use super::super::sample::Sample;
use super::super::task::Task;
use super::super::words::number;
use super::form::{Asking, Form};
use super::plant::{depths, plant};
use super::{Spec, TaskError, fit_sample, rng};

const INTRODUCTION: &str = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize \
    them. I will quiz you about the important information there.\n";

const FORM: Form = Form {
    statement: "The pass key is {value}. Remember it. {value} is the pass key.",
    literal: Asking {
        question: "What is the pass key?",
        prefix: " The pass key is",
    },
    paraphrases: &[
        Asking {
            question: "Which five digits were you told to keep in mind?",
            prefix: " The five digits are",
        },
        Asking {
            question: "What was the secret number among all the chatter?",
            prefix: " The secret number was",
        },
        Asking {
            question: "Somebody wants to log in; what code did the text give?",
            prefix: " The code in the text was",
        },
        Asking {
            question: "Name the only number that the text mentions.",
            prefix: " The only number is",
        },
        Asking {
            question: "What has to be typed in order to be admitted?",
            prefix: " One has to type",
        },
    ],
};

/// A context of noise with the pass key at the chosen depth. Published keys are 1 to 50000; here they have five digits,
/// since a reply contains a key of one digit by chance.
pub fn make(spec: &Spec) -> Result<Sample, TaskError> {
    let task = Task::Passkey;
    let mut rng = rng(task, spec);
    let value = number(5, &mut rng);
    let question = FORM.ask(spec.wording, "", vec![value.clone()], 16, &mut rng);
    let drawn = depths(1, &mut rng);
    let needles = [(spec.depth.unwrap_or(drawn[0]), FORM.state("", &value))];
    fit_sample(spec, task, 1, |sentences| {
        let noise: Vec<&str> = NOISE.into_iter().cycle().take(sentences).collect();
        Sample {
            task,
            context: format!("{INTRODUCTION}{}", plant(&noise, &needles, " ")),
            questions: vec![question.clone()],
            depth: spec.depth,
            length: spec.length,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{sample, spec};
    use super::super::{Wording, make};
    use super::*;
    use crate::eval::haystack::Haystack;

    #[test]
    fn paraphrases_share_no_word_with_the_needle() {
        FORM.check();
        for asking in FORM.paraphrases {
            assert!(!asking.question.contains("key"));
        }
    }

    #[test]
    fn the_key_stands_once_at_its_depth() {
        for (depth, before) in [(0.0, 0), (0.25, 25), (0.5, 50), (1.0, 100)] {
            let sample = sample(Task::Passkey, 9, 504, Some(depth));
            let value = &sample.questions[0].answers[0];
            let needle = FORM.state("", value);
            let body = sample.context.strip_prefix(INTRODUCTION).unwrap();
            assert_eq!(body.matches(&needle).count(), 1);
            let (front, back) = body.split_once(&needle).unwrap();
            let sentences = |text: &str| text.matches('.').count();
            let all = sentences(front) + sentences(back);
            assert!((100..=115).contains(&all), "{all}");
            assert!(
                sentences(front).abs_diff(before * all / 100) <= 1,
                "{depth}"
            );
        }
    }

    #[test]
    fn the_literal_question_is_the_published_one() {
        let haystack = Haystack::bundled();
        let mut spec = spec(&haystack, 3, 500, None);
        spec.wording = Wording::Literal;
        let sample = make(Task::Passkey, &spec).unwrap();
        assert_eq!(
            sample.questions[0].prompt(),
            "\nWhat is the pass key? The pass key is"
        );
    }
}

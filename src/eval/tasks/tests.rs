//! What holds for every task.

use proptest::prelude::*;

use super::testing::{Words, sample, spec};
use super::*;

fn sampled() -> impl Iterator<Item = Task> {
    Task::ALL.into_iter().filter(|task| {
        !matches!(
            task,
            Task::Perplexity | Task::Divergence | Task::Instruction
        )
    })
}

#[test]
fn seeds_name_samples() {
    for task in sampled() {
        let first = sample(task, 1, 2000, None);
        assert_eq!(first, sample(task, 1, 2000, None), "{task}");
        let second = sample(task, 2, 2000, None);
        assert_ne!(first.context, second.context, "{task}");
        let answers = |s: &Sample| {
            s.questions
                .iter()
                .map(|q| q.answers.clone())
                .collect::<Vec<_>>()
        };
        assert_ne!(answers(&first), answers(&second), "{task}");
        assert_eq!(first.task, task);
    }
}

#[test]
fn questions_are_needed_for_the_answers_and_do_not_hold_them() {
    for task in sampled() {
        for seed in 0..20 {
            let sample = sample(task, seed, 1500, None);
            for asked in &sample.questions {
                let prompt = asked.prompt().to_lowercase();
                assert!(!asked.answers.is_empty() && asked.max_new_tokens > 0);
                for answer in &asked.answers {
                    assert!(!prompt.contains(&answer.to_lowercase()), "{task}: {prompt}");
                    assert!(sample.context.contains(answer), "{task} {seed}: {answer}");
                }
                // cwe shows a solved example with the same question.
                if task != Task::CommonWords {
                    assert!(!sample.context.contains(&asked.text), "{task}");
                }
            }
        }
    }
}

#[test]
fn needles_stay_when_depth_and_length_change() {
    for task in sampled().filter(Task::has_depth) {
        let questions = |length, depth| sample(task, 5, length, depth).questions;
        let here = questions(1000, Some(0.1));
        assert_eq!(here, questions(1000, Some(0.9)), "{task}");
        assert_eq!(here, questions(2500, Some(0.1)), "{task}");
    }
}

#[test]
fn what_cannot_be_made_is_refused() {
    let haystack = Haystack::bundled();
    let made = |task, length, depth| make(task, &spec(&haystack, 1, length, depth));
    for task in sampled() {
        let Err(TaskError::TooShort { least, .. }) = made(task, 20, None) else {
            panic!("{task} fits into 20 tokens");
        };
        // cwe has another, shorter, form below 4096 tokens and fwe a larger vocabulary with length.
        if !matches!(task, Task::FrequentWords) {
            assert!(made(task, least, None).is_ok(), "{task} at {least}");
        }
        match task.has_depth() {
            true => {
                assert_eq!(made(task, 2000, Some(1.1)), Err(TaskError::Depth(1.1)));
                assert!(matches!(
                    made(task, 2000, Some(f32::NAN)),
                    Err(TaskError::Depth(_))
                ));
            }
            false => assert_eq!(made(task, 2000, Some(0.5)), Err(TaskError::NoDepth(task))),
        }
    }
    assert_eq!(
        made(Task::Perplexity, 2000, None),
        Err(TaskError::NoSamples(Task::Perplexity))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn samples_are_as_long_as_asked_for(
        seed in any::<u64>(),
        length in 900_usize..6000,
        depth in 0.0_f32..=1.0,
    ) {
        for task in sampled() {
            let depth = task.has_depth().then_some(depth);
            let sample = sample(task, seed, length, depth);
            let size = sample.size(&Words);
            // The longest unit: a sentence with its opening, three numbered words, or a few coded ones.
            let unit = 30;
            prop_assert!(size <= length, "{} has {} of {}", task, size, length);
            prop_assert!(size + unit > length, "{} has only {} of {}", task, size, length);
            prop_assert_eq!(sample.length, length);
            prop_assert_eq!(sample.depth, depth);
        }
    }
}
